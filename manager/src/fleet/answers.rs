//! Answers of watchers to asks: dated by the ask, their statements checked with the key of the node that signed.

use vouch_detector::Event;
use vouch_types::{Incarnation, ManagerId, Moment, Network, NodeId, Nonce, RelayOutcome, WatcherHealth, WatcherId};
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
        mut answer: WatcherAnswer,
        now: Moment,
    ) -> Taken {
        let watcher = context.watcher;
        let entry = self.watchers.get_mut(&watcher).ok_or(Refusal::Replaced)?;
        let session = entry.sessions.session_mut(id, network).ok_or(Refusal::Replaced)?;
        session.arrived = now;
        let incarnation = session.incarnation;
        if incarnation < entry.words.incarnation {
            self.counters.add(Count::StaleDropped, "watcher", 1);
            return Err(Refusal::StaleLife);
        }
        if answer.assignment < entry.words.assignment {
            self.counters.add(Count::StaleDropped, "answer", 1);
            return Ok(Vec::new());
        }
        let begun_of = |tick| self.ticks.sent(tick);
        let (observations, _) = dated_all(answer.observations.clone(), |o| begun_of(o.begun));
        let (relays, _) = dated_all(answer.relays.clone(), |r| begun_of(r.begun));
        match self.asks.asker(watcher, answer.nonce) {
            Asker::Own { nonce, asked } => {
                self.asks.note_looks(watcher, nonce, &mut answer);
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

    /// Takes an answer that another manager handed on, with the life that gave it and the age of each check.
    pub(crate) fn relayed_answer(
        &mut self,
        context: &AnswerContext<'_>,
        incarnation: Incarnation,
        mut answer: WatcherAnswer,
        begun: &[Option<Moment>],
    ) -> Vec<Event> {
        let watcher = context.watcher;
        let words = &mut self.watchers.entry(watcher).or_default().words;
        if words.is_stale_life(incarnation) || answer.assignment < words.assignment {
            self.counters.add(Count::StaleDropped, "answer", 1);
            return Vec::new();
        }
        let Asker::Own { nonce, asked } = self.asks.asker(watcher, answer.nonce) else {
            self.counters.add(Count::StaleDropped, "answer", 1);
            return Vec::new();
        };
        self.asks.note_looks(watcher, nonce, &mut answer);
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
    incarnation: Incarnation,
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

#[cfg(test)]
mod tests {
    use super::super::looks::tests as looks;
    use super::*;
    use crate::counters::Counters;
    use crate::fleet::watcher_words::DatedReport;
    use crate::seams::SeededRng;
    use crate::store::tests::samples::vm_id;
    use tokio::sync::mpsc;
    use vouch_types::{AssignmentGeneration, Timing};

    const NOW: Moment = Moment::from_micros(9_000_000);

    struct Desk {
        book: Book,
        watcher: WatcherId,
        counters: Counters,
        travelling: Nonce,
    }

    /// A book with an open ask of a watcher whose third life works by the fifth assignment.
    fn desk() -> Desk {
        let counters = Counters::default();
        let own = ManagerId::new(1);
        let mut book = Book::new(own, Incarnation::new(1), Timing::default(), counters.clone());
        let watcher = WatcherId::new(1);
        let words = &mut book.watchers.entry(watcher).or_default().words;
        assert!(!words.is_stale_life(Incarnation::new(3)));
        let report = DatedReport { assignment: AssignmentGeneration::new(5), full: true, ..DatedReport::default() };
        assert!(words.take(&report));
        let travelling = book.asks.note(&SeededRng::new(1), (watcher, Nonce::new(4)), NOW, Some(vm_id(1)));
        Desk { book, watcher, counters, travelling }
    }

    impl Desk {
        fn answer(&self, generation: u64) -> WatcherAnswer {
            WatcherAnswer {
                nonce: self.travelling,
                assignment: AssignmentGeneration::new(generation),
                ..looks::answer(vec![looks::seen(1, "rdp")])
            }
        }

        fn relayed(&mut self, incarnation: u64, generation: u64) -> Vec<Event> {
            let statement_key = |_: &NodeId| None;
            let context =
                AnswerContext { watcher: self.watcher, heard_by: ManagerId::new(2), statement_key: &statement_key };
            let answer = self.answer(generation);
            self.book.relayed_answer(&context, Incarnation::new(incarnation), answer, &[])
        }

        fn first_hand(&mut self, generation: u64) -> Taken {
            let statement_key = |_: &NodeId| None;
            let context =
                AnswerContext { watcher: self.watcher, heard_by: ManagerId::new(1), statement_key: &statement_key };
            let (outbound, _inbound) = mpsc::channel(8);
            let network = Network::Management;
            let life = Incarnation::new(3);
            let opened = self.book.open_watcher(self.watcher, (life, network), NOW, outbound, None);
            let (id, ..) = opened.expect("opened");
            let answer = self.answer(generation);
            self.book.watcher_answer(&context, id, network, &proto::Answer::default(), answer, NOW)
        }

        fn dropped(&self) -> u64 {
            self.counters.total(Count::StaleDropped)
        }
    }

    fn is_answered(events: &[Event]) -> bool {
        events.iter().any(|e| matches!(e, Event::AskAnswered { nonce, .. } if *nonce == Nonce::new(4)))
    }

    #[test]
    fn an_answer_by_an_earlier_assignment_is_dropped_and_counted() {
        let mut desk = desk();
        assert_eq!(desk.first_hand(4), Ok(Vec::new()));
        assert_eq!(desk.relayed(3, 4), []);
        assert_eq!(desk.dropped(), 2);
        assert!(is_answered(&desk.first_hand(5).expect("taken")));
        assert!(is_answered(&desk.relayed(3, 6)));
        assert_eq!(desk.dropped(), 2);
    }

    #[test]
    fn an_answer_of_an_earlier_life_is_dropped_and_counted() {
        let mut desk = desk();
        assert_eq!(desk.relayed(2, 5), []);
        assert_eq!(desk.dropped(), 1);
        assert!(is_answered(&desk.relayed(3, 5)));
        assert!(is_answered(&desk.relayed(4, 1)), "a later life begins its words anew");
    }

    #[test]
    fn what_a_look_found_is_kept_whether_the_watcher_or_another_manager_brings_it() {
        for bring in [|desk: &mut Desk| drop(desk.first_hand(5)), |desk: &mut Desk| drop(desk.relayed(3, 5))] {
            let mut desk = desk();
            bring(&mut desk);
            let looks = desk.book.asks.take_looks(desk.watcher, Nonce::new(4));
            assert_eq!(looks.len(), 1);
            assert!(looks[0].found.is_some());
        }
    }
}
