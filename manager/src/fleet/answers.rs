//! Answers of watchers to asks: dated by the ask, their statements checked with the key of the node that signed.

use vouch_detector::Event;
use vouch_types::{ManagerId, Moment, Network, NodeId, Nonce, RelayOutcome, WatcherHealth, WatcherId};
use vouch_wire::convert::WatcherAnswer;
use vouch_wire::{proto, sign};

use super::asks::Asker;
use super::book::{Book, Refusal, Taken};
use super::sessions::SessionId;
use super::watcher_words::{Dated, dated_all};
use crate::counters::Count;

/// What an answer is dated and judged by.
pub(crate) struct AnswerContext<'a> {
    /// The watcher that answers.
    pub(crate) watcher: WatcherId,
    /// Which manager heard it first hand.
    pub(crate) heard_by: ManagerId,
    /// Returns the recorded statement key of a node.
    pub(crate) statement_key: &'a dyn Fn(&NodeId) -> Option<Vec<u8>>,
}

impl Book {
    /// Takes an answer over a watcher's own stream. One to another manager's ask waits for the next frame to that one.
    pub(crate) fn watcher_answer(
        &mut self,
        context: &AnswerContext<'_>,
        id: SessionId,
        network: Network,
        message: &proto::Answer,
        answer: WatcherAnswer,
        now: Moment,
    ) -> Taken {
        let watcher = context.watcher;
        let entry = self.watchers.get_mut(&watcher).ok_or(Refusal::Replaced)?;
        let session = entry.sessions.session_mut(id, network).ok_or(Refusal::Replaced)?;
        session.arrived = now;
        let incarnation = session.incarnation;
        let begun_of = |tick| self.ticks.sent(tick);
        let (observations, _) = dated_all(answer.observations.clone(), |o| begun_of(o.begun));
        let (relays, _) = dated_all(answer.relays.clone(), |r| begun_of(r.begun));
        match self.asks.asker(watcher, answer.nonce) {
            Asker::Own { nonce, asked } => {
                // Its checks began after the ask, whatever tick the watcher had.
                let observations = answer.observations.into_iter().map(|seen| {
                    let begun = begun_of(seen.begun).unwrap_or(asked).max(asked);
                    Dated { seen, begun }
                });
                let observations: Vec<_> = observations.collect();
                let relays = answer.relays.into_iter().map(|seen| {
                    let begun = begun_of(seen.begun).unwrap_or(asked).max(asked);
                    Dated { seen, begun }
                });
                let relays: Vec<_> = relays.collect();
                entry.words.see(&observations, &relays);
                entry.words.revision += 1;
                let mut events = Vec::new();
                if let Some(health) = answer.health {
                    events.push(heard(context, network, incarnation, asked, health));
                }
                events.extend(self.statements(context, &answer.statements, answer.nonce, nonce, asked, &relays));
                events.extend(answer_events(watcher, nonce, observations, relays));
                if answer.complete {
                    events.push(Event::AskAnswered { watcher, nonce });
                }
                Ok(events)
            }
            Asker::Other(manager) => {
                entry.words.see(&observations, &relays);
                entry.words.revision += 1;
                if let Some(peer) = self.peers.get_mut(&manager) {
                    let begun =
                        answer.observations.iter().map(|o| o.begun).chain(answer.relays.iter().map(|r| r.begun));
                    let ages = begun.map(|tick| begun_of(tick).map_or(u64::MAX, |begun| peer.age(begun)));
                    let ages_micros = ages.collect();
                    let from = proto::from_watcher::Message::Answer(message.clone());
                    peer.queue_answer(proto::RelayedWatcherMessage {
                        watcher: watcher.get(),
                        incarnation: incarnation.get(),
                        message: Some(proto::FromWatcher { message: Some(from) }),
                        ages_micros,
                    });
                }
                let nobody = None;
                let observed = observations.into_iter().map(|o| Event::Observed(o.seen.at(watcher, o.begun, nobody)));
                let relayed = relays.into_iter().map(|r| Event::RelayObserved(r.seen.at(watcher, r.begun, nobody)));
                Ok(observed.chain(relayed).collect())
            }
            Asker::Nobody => {
                self.counters.add(Count::StaleDropped, "answer", 1);
                Ok(Vec::new())
            }
        }
    }

    /// Takes an answer that another manager handed on, with the age of each check.
    pub(crate) fn relayed_answer(
        &mut self,
        context: &AnswerContext<'_>,
        answer: WatcherAnswer,
        begun: &[Option<Moment>],
    ) -> Vec<Event> {
        let watcher = context.watcher;
        let Asker::Own { nonce, asked } = self.asks.asker(watcher, answer.nonce) else {
            self.counters.add(Count::StaleDropped, "answer", 1);
            return Vec::new();
        };
        let mut begun = begun.iter().map(|b| b.unwrap_or(asked).max(asked)).chain(std::iter::repeat(asked));
        let mut date = || begun.next().unwrap_or(asked);
        let observations: Vec<_> = answer.observations.into_iter().map(|seen| Dated { seen, begun: date() }).collect();
        let relays: Vec<_> = answer.relays.into_iter().map(|seen| Dated { seen, begun: date() }).collect();
        let mut events = self.statements(context, &answer.statements, answer.nonce, nonce, asked, &relays);
        events.extend(answer_events(watcher, nonce, observations, relays));
        if answer.complete {
            events.push(Event::AskAnswered { watcher, nonce });
        }
        events
    }

    /// Checks signed statements; those that hold become events.
    fn statements(
        &self,
        context: &AnswerContext<'_>,
        statements: &[proto::Signed],
        travelling: Nonce,
        nonce: Nonce,
        asked: Moment,
        relays: &[Dated<vouch_wire::convert::WireRelayObservation>],
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for signed in statements {
            let checked = sign::peek_statement(signed).ok().and_then(|peeked| {
                let key = (context.statement_key)(&peeked.node)?;
                sign::verify_statement(signed, &key).ok()
            });
            // A statement for another ask may be an old one: it proves nothing about now.
            let Some(mut statement) = checked.filter(|s| s.nonce == travelling) else {
                self.counters.add(Count::StatementsRefused, "watcher", 1);
                tracing::warn!(watcher_id = %context.watcher, "statement does not hold");
                continue;
            };
            statement.nonce = nonce;
            let reached =
                relays.iter().find(|r| r.seen.node == statement.node && r.seen.outcome == RelayOutcome::Reached);
            let begun = reached.map_or(asked, |r| r.begun.max(asked));
            events.push(Event::StatementReceived { watcher: context.watcher, statement, begun });
        }
        events
    }
}

fn heard(
    context: &AnswerContext<'_>,
    network: Network,
    incarnation: vouch_types::Incarnation,
    begun: Moment,
    health: WatcherHealth,
) -> Event {
    let (manager, watcher) = (context.heard_by, context.watcher);
    Event::WatcherHeard { manager, watcher, network, incarnation, begun, health: Some(health) }
}

fn answer_events(
    watcher: WatcherId,
    nonce: Nonce,
    observations: Vec<Dated<vouch_wire::convert::WireObservation>>,
    relays: Vec<Dated<vouch_wire::convert::WireRelayObservation>>,
) -> Vec<Event> {
    let asked = Some(nonce);
    let relayed = relays.into_iter().map(|r| Event::RelayObserved(r.seen.at(watcher, r.begun, asked)));
    let observed = observations.into_iter().map(|o| Event::Observed(o.seen.at(watcher, o.begun, asked)));
    relayed.chain(observed).collect()
}
