//! The questions of managers that are open: which checks each still waits for, and until when.
//!
//! Each ask has runs of its own: what is asked several times is seen several times, and not told twice. They begin after
//! the ask came; runs are numbered as they begin, so "after" is a comparison of numbers. Answers leave as results come;
//! the last one says that nothing more follows.

use std::collections::BTreeSet;
use std::time::Duration;

use vouch_types::{Moment, Nonce};
use vouch_wire::convert::AskDepth;

use super::{Check, RunId, SessionId};

/// The most questions that are open at a time; one more ends the oldest.
pub const ASKS_MAX: usize = 64;
/// How long results are gathered into one answer.
const GATHER: Duration = Duration::from_millis(5);

/// One open question, numbered by this watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(u64);

/// Which question a run may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// The one that it was begun for.
    Only(AskId),
    /// None: it was begun for its own sake.
    None,
}

/// A question as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Where it came from.
    pub session: SessionId,
    /// What the answer has to repeat.
    pub nonce: Nonce,
    /// How much it wants to know.
    pub depth: AskDepth,
}

#[derive(Debug)]
struct Ask {
    id: AskId,
    asked: Asked,
    deadline: Moment,
    /// Runs from this number on began after the ask.
    first: RunId,
    waiting: BTreeSet<Check>,
    ready: Vec<RunId>,
    flush_at: Option<Moment>,
}

/// One answer that is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Answering {
    /// The ask, and the stream that the answer leaves by.
    pub asked: Asked,
    /// The runs whose results it carries.
    pub runs: Vec<RunId>,
    /// Nothing more follows.
    pub complete: bool,
}

/// All open questions, in the order in which they came.
#[derive(Debug, Default)]
pub struct Asks {
    open: Vec<Ask>,
    /// Ended to make room.
    pushed_out: Vec<Answering>,
    next: u64,
}

impl Asks {
    /// Opens a question and returns its number; `None` for one that is open already on the same stream.
    ///
    /// `next_run` is the number of the run that begins next.
    pub fn open(
        &mut self,
        now: Moment,
        asked: Asked,
        deadline: Duration,
        checks: BTreeSet<Check>,
        next_run: RunId,
    ) -> Option<AskId> {
        if self.open.iter().any(|ask| ask.asked.nonce == asked.nonce && ask.asked.session == asked.session) {
            return None;
        }
        if self.open.len() >= ASKS_MAX {
            self.pushed_out.push(end(self.open.remove(0)));
        }
        let id = AskId(self.next);
        self.next += 1;
        self.open.push(Ask {
            id,
            asked,
            deadline: now + deadline,
            first: next_run,
            waiting: checks,
            ready: Vec::new(),
            flush_at: None,
        });
        Some(id)
    }

    /// A run has ended. Returns whether any question wants its result, which the caller then keeps until it was sent.
    pub fn run_ended(&mut self, now: Moment, run: RunId, check: &Check, serves: Serves) -> bool {
        let mut wanted = false;
        for ask in &mut self.open {
            let may = match serves {
                Serves::Only(id) => id == ask.id,
                Serves::None => false,
            };
            if may && run >= ask.first && ask.waiting.remove(check) {
                ask.ready.push(run);
                ask.flush_at.get_or_insert(now + GATHER);
                wanted = true;
            }
        }
        wanted
    }

    /// Returns the nonce of an open question.
    pub fn nonce(&self, id: AskId) -> Option<Nonce> {
        self.open.iter().find(|ask| ask.id == id).map(|ask| ask.asked.nonce)
    }

    /// Takes the answers that are to be sent now.
    pub fn take_answers(&mut self, now: Moment) -> Vec<Answering> {
        if self.open.is_empty() && self.pushed_out.is_empty() {
            return Vec::new();
        }
        let mut answers = std::mem::take(&mut self.pushed_out);
        let (over, mut open): (Vec<_>, Vec<_>) =
            self.open.drain(..).partition(|ask| ask.waiting.is_empty() || ask.deadline <= now);
        answers.extend(over.into_iter().map(end));
        for ask in &mut open {
            if ask.flush_at.is_some_and(|at| at <= now) {
                ask.flush_at = None;
                let runs = std::mem::take(&mut ask.ready);
                answers.push(Answering { asked: ask.asked, runs, complete: false });
            }
        }
        self.open = open;
        answers
    }

    /// Moves the questions of a stream that is gone to another stream to the same manager, or drops them.
    pub fn session_closed(&mut self, session: SessionId, other: Option<SessionId>) {
        match other {
            Some(other) => {
                self.open
                    .iter_mut()
                    .filter(|ask| ask.asked.session == session)
                    .for_each(|ask| ask.asked.session = other);
            }
            None => self.open.retain(|ask| ask.asked.session != session),
        }
    }

    /// Returns the runs whose results are still to be sent.
    pub fn held(&self) -> BTreeSet<RunId> {
        self.open.iter().flat_map(|ask| &ask.ready).copied().collect()
    }

    /// Returns when the next answer is due.
    pub fn next_due(&self) -> Option<Moment> {
        self.open.iter().map(|ask| ask.flush_at.map_or(ask.deadline, |at| at.min(ask.deadline))).min()
    }
}

fn end(ask: Ask) -> Answering {
    Answering { asked: ask.asked, runs: ask.ready, complete: true }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vouch_types::NodeId;

    use super::*;

    fn check(n: u64) -> Check {
        Check::Relay { node: NodeId::new(&format!("n{n}")).unwrap() }
    }

    const ASKED: Asked = Asked { session: SessionId(1), nonce: Nonce::new(9), depth: AskDepth::Full };

    #[test]
    fn a_run_that_began_before_the_ask_does_not_answer_it() {
        let mut asks = Asks::default();
        let id = asks.open(Moment::ZERO, ASKED, Duration::from_secs(1), BTreeSet::from([check(1)]), RunId(5));
        let serves = Serves::Only(id.expect("it is open"));
        assert!(!asks.run_ended(Moment::ZERO, RunId(4), &check(1), serves));
        assert!(asks.take_answers(Moment::ZERO).is_empty());
        assert!(asks.run_ended(Moment::ZERO, RunId(5), &check(1), serves));
        let answers = asks.take_answers(Moment::ZERO);
        assert_eq!(answers, [Answering { asked: ASKED, runs: vec![RunId(5)], complete: true }]);
    }

    #[test]
    fn an_ask_ends_at_its_deadline_with_what_came() {
        let mut asks = Asks::default();
        let deadline = Duration::from_millis(400);
        let id = asks.open(Moment::ZERO, ASKED, deadline, BTreeSet::from([check(1), check(2)]), RunId(0));
        asks.run_ended(Moment::ZERO, RunId(0), &check(2), Serves::Only(id.expect("it is open")));
        let partial = asks.take_answers(Moment::ZERO + GATHER);
        assert_eq!((partial[0].runs.as_slice(), partial[0].complete), ([RunId(0)].as_slice(), false));
        assert_eq!(asks.next_due(), Some(Moment::ZERO + deadline));
        let last = asks.take_answers(Moment::ZERO + deadline);
        assert_eq!((last[0].runs.as_slice(), last[0].complete), ([].as_slice(), true));
        assert_eq!(asks.next_due(), None);
    }

    #[test]
    fn a_poll_without_the_nonce_of_the_ask_does_not_answer_it() {
        let mut asks = Asks::default();
        let id = asks.open(Moment::ZERO, ASKED, Duration::from_secs(1), BTreeSet::from([check(1)]), RunId(0));
        assert!(!asks.run_ended(Moment::ZERO, RunId(1), &check(1), Serves::None));
        assert!(asks.run_ended(Moment::ZERO, RunId(2), &check(1), Serves::Only(id.expect("it is open"))));
    }

    #[test]
    fn an_answer_leaves_by_another_stream_to_the_same_manager_when_its_own_is_gone() {
        let mut asks = Asks::default();
        asks.open(Moment::ZERO, ASKED, Duration::from_secs(1), BTreeSet::new(), RunId(0));
        asks.session_closed(ASKED.session, Some(SessionId(2)));
        assert_eq!(asks.take_answers(Moment::ZERO)[0].asked.session, SessionId(2));
    }

    #[test]
    fn one_question_too_many_ends_the_oldest() {
        let mut asks = Asks::default();
        for n in 0..=u64::try_from(ASKS_MAX).unwrap() {
            let asked = Asked { nonce: Nonce::new(n), ..ASKED };
            asks.open(Moment::ZERO, asked, Duration::from_secs(1), BTreeSet::from([check(1)]), RunId(0));
        }
        let ended = asks.take_answers(Moment::ZERO);
        assert_eq!(ended.iter().map(|a| (a.asked.nonce.get(), a.complete)).collect::<Vec<_>>(), [(0, true)]);
    }

    proptest! {
        /// Whatever the order of runs: each ask gets each check once, from a run after it, and one end.
        #[test]
        fn every_ask_ends_once_and_holds_only_runs_begun_after_it(
            steps in prop::collection::vec((0u8..3, 1u64..5), 1..120),
        ) {
            let mut asks = Asks::default();
            let (mut next_run, mut next_nonce) = (0, 0);
            let mut running: Vec<(RunId, Check)> = Vec::new();
            let mut first = std::collections::BTreeMap::new();
            let mut ends = std::collections::BTreeMap::new();
            let (mut answers, mut ids) = (Vec::new(), Vec::new());
            let mut now = Moment::ZERO;
            for (what, n) in steps {
                now = now + Duration::from_millis(3);
                match what {
                    0 => {
                        running.push((RunId(next_run), check(n)));
                        next_run += 1;
                    }
                    1 if !running.is_empty() => {
                        let (run, check) = running.remove(usize::try_from(n).unwrap() % running.len());
                        let of: Option<&AskId> = ids.get(usize::try_from(run.0).unwrap() % ids.len().max(1));
                        asks.run_ended(now, run, &check, of.map_or(Serves::None, |id| Serves::Only(*id)));
                    }
                    _ => {
                        let checks = (1..=n).map(check).collect();
                        first.insert(next_nonce, next_run);
                        let asked = Asked { nonce: Nonce::new(next_nonce), ..ASKED };
                        ids.extend(asks.open(now, asked, Duration::from_millis(30), checks, RunId(next_run)));
                        next_nonce += 1;
                    }
                }
                answers.extend(asks.take_answers(now));
            }
            answers.extend(asks.take_answers(now + Duration::from_secs(1)));
            for answer in answers {
                let nonce = answer.asked.nonce.get();
                prop_assert!(!ends.contains_key(&nonce), "an answer after the end");
                prop_assert!(answer.runs.iter().all(|run| run.0 >= first[&nonce]));
                if answer.complete {
                    ends.insert(nonce, ());
                }
            }
            prop_assert_eq!(ends.len() as u64, next_nonce);
        }
    }
}
