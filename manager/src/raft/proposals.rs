//! Proposals in groups: while some are under way, what is proposed waits, and goes together with all else that waits.
//!
//! A group costs about as much as a command alone: one write and one flush of each log, one message to each follower and
//! one answer, one batch to each projection. A command that finds nothing under way goes at once, and nothing waits for a
//! time to pass: the next group goes when one before it is applied, or as many wait as are under way. So with one client
//! nothing changes, and with many the groups are as large as they are many.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use openraft::AsyncRuntime;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use tokio::sync::oneshot;
use vouch_types::Applied;

use super::consensus::{ProposeError, Raft, leader_of};
use super::runtime::SeededRuntime;
use super::types::Types;
use crate::store::Logged;

/// How many groups may be under way: while the answers of one are given, the logs are flushed for the other.
const GROUPS_MAX: usize = 2;
/// How many commands go together at most.
pub const GROUP_MAX: usize = 512;

type Outcome = Result<Applied, ProposeError>;
type Waiting = (Logged, oneshot::Sender<Outcome>);

#[derive(Default)]
struct Queue {
    /// How many groups are under way, and how many commands in them.
    groups: usize,
    under_way: usize,
    waiting: Vec<Waiting>,
}

struct Inner {
    raft: Raft,
    queue: Mutex<Queue>,
}

/// Gathers proposals. Cheap to clone.
#[derive(Clone)]
pub(super) struct Proposals(Arc<Inner>);

/// A group under way. Once it is dropped, those that wait may go.
struct Turn {
    proposals: Proposals,
    commands: usize,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.proposals.queue();
        queue.end(self.commands);
        let group = queue.next_group();
        drop(queue);
        self.proposals.send(group);
    }
}

/// What becomes of a command that is proposed.
enum Entered {
    /// It goes at once, alone.
    Alone(Logged),
    /// It waits for its outcome; the group, if there is one, goes now.
    Waits(oneshot::Receiver<Outcome>, Vec<Waiting>),
}

impl Queue {
    fn enter(&mut self, command: Logged) -> Entered {
        if self.groups == 0 && self.waiting.is_empty() {
            self.begin(1);
            return Entered::Alone(command);
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.push((command, answer));
        Entered::Waits(answered, self.next_group())
    }

    fn begin(&mut self, commands: usize) {
        self.groups += 1;
        self.under_way += commands;
    }

    fn end(&mut self, commands: usize) {
        self.groups -= 1;
        self.under_way -= commands;
    }

    /// Returns the size of one of equal groups of all that wait or are under way.
    fn share(&self) -> usize {
        (self.waiting.len() + self.under_way).div_ceil(GROUPS_MAX)
    }

    /// Returns those that go now, as begun: their share of all that wait or are under way, once as many wait. So groups of
    /// one size take turns.
    fn next_group(&mut self) -> Vec<Waiting> {
        if self.groups >= GROUPS_MAX {
            // Where no quorum answers, a group is under way for long: those who gave up leave no trace.
            if self.waiting.len() >= GROUP_MAX {
                self.waiting.retain(|(_, answer)| !answer.is_closed());
            }
            return Vec::new();
        }
        if self.waiting.len() < self.share() {
            return Vec::new();
        }
        self.waiting.retain(|(_, answer)| !answer.is_closed());
        if self.waiting.len() < self.share() {
            return Vec::new();
        }
        let count = self.share().min(GROUP_MAX);
        if count > 0 {
            self.begin(count);
        }
        self.waiting.drain(..count).collect()
    }
}

impl Turn {
    /// Has a group applied, and ends once the last of it is.
    async fn carry(self, group: Vec<Waiting>) {
        let (commands, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let mut written = match self.proposals.0.raft.client_write_many(commands).await {
            Ok(written) => written,
            Err(fatal) => return tell_all(answers, &fatal),
        };
        let mut answers = answers.into_iter();
        while let Some(result) = written.next().await {
            let Some(answer) = answers.next() else { return };
            match result {
                // Who no longer waits has no use for it.
                Ok(result) => drop(answer.send(result.map(|written| written.response).map_err(refused))),
                Err(fatal) => return tell_all(std::iter::once(answer).chain(answers), &fatal),
            }
        }
    }
}

fn tell_all(answers: impl IntoIterator<Item = oneshot::Sender<Outcome>>, fatal: &Fatal<Types>) {
    for answer in answers {
        drop(answer.send(Err(stopped(fatal))));
    }
}

fn stopped(fatal: &Fatal<Types>) -> ProposeError {
    ProposeError::Stopped(fatal.to_string())
}

fn refused(error: ClientWriteError<Types>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => ProposeError::NotLeader { leader: leader_of(&forward) },
        ClientWriteError::LogEntryDiscarded(forward) => ProposeError::Unknown { leader: leader_of(&forward) },
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => {
            ProposeError::Unknown { leader: None }
        }
    }
}

impl Proposals {
    pub(super) fn new(raft: Raft) -> Self {
        Self(Arc::new(Inner { raft, queue: Mutex::default() }))
    }

    fn turn(&self, commands: usize) -> Turn {
        Turn { proposals: self.clone(), commands }
    }

    /// Sends a group on its way, which has begun.
    fn send(&self, group: Vec<Waiting>) {
        if !group.is_empty() {
            drop(SeededRuntime::spawn(self.turn(group.len()).carry(group)));
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a command applied without waiting for others: where this manager does not lead, that tells at once who does.
    pub(super) async fn propose_alone(&self, command: Logged) -> Outcome {
        match self.0.raft.client_write(command).await {
            Ok(written) => Ok(written.data),
            Err(RaftError::APIError(error)) => Err(refused(error)),
            Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal)),
        }
    }

    /// Has a command applied, with those that are proposed at the same time.
    pub(super) async fn propose(&self, command: Logged) -> Outcome {
        let entered = self.queue().enter(command);
        match entered {
            Entered::Alone(command) => {
                // Ends also when the caller gives up: what it proposed is no reason to wait then.
                let _turn = self.turn(1);
                self.propose_alone(command).await
            }
            Entered::Waits(answered, group) => {
                self.send(group);
                // A group that was dropped untold is of a runtime that ends.
                answered.await.unwrap_or(Err(ProposeError::Unknown { leader: None }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::{Command, ManagerId, Term, WallTime};

    use super::*;

    fn command(number: usize) -> Logged {
        let manager = ManagerId::new(number as u64);
        Command::RecordLeader { manager, term: Term::new(1), at: WallTime::default() }.into()
    }

    /// A queue with those that wait in it, and those that were told to go.
    #[derive(Default)]
    struct Played {
        queue: Queue,
        receivers: Vec<oneshot::Receiver<Outcome>>,
        groups: Vec<Vec<Logged>>,
    }

    impl Played {
        fn enter(&mut self, numbers: std::ops::Range<usize>) {
            for number in numbers {
                match self.queue.enter(command(number)) {
                    Entered::Alone(command) => self.groups.push(vec![command]),
                    Entered::Waits(receiver, group) => {
                        self.receivers.push(receiver);
                        self.went(group);
                    }
                }
            }
        }

        fn end(&mut self, commands: usize) {
            self.queue.end(commands);
            let group = self.queue.next_group();
            self.went(group);
        }

        fn went(&mut self, group: Vec<Waiting>) {
            if !group.is_empty() {
                self.groups.push(group.into_iter().map(|(command, _)| command).collect());
            }
        }

        fn sizes(&self) -> Vec<usize> {
            self.groups.iter().map(Vec::len).collect()
        }
    }

    #[test]
    fn one_at_a_time_each_goes_at_once() {
        let mut played = Played::default();
        for number in 0..3 {
            played.enter(number..number + 1);
            played.end(1);
        }
        assert_eq!(played.groups, [[command(0)], [command(1)], [command(2)]]);
    }

    #[test]
    fn what_comes_meanwhile_goes_together_in_its_order_and_nothing_is_left() {
        let mut played = Played::default();
        played.enter(0..64);
        assert_eq!(played.sizes(), [1, 1], "two may be under way");
        played.end(1);
        assert_eq!(played.sizes(), [1, 1, 32], "half of 63");
        played.end(1);
        assert_eq!(played.sizes(), [1, 1, 32], "30 wait, which is less than half of 62");
        played.enter(64..66);
        assert_eq!(played.sizes(), [1, 1, 32, 32]);
        played.end(32);
        played.enter(66..70);
        assert_eq!(played.sizes(), [1, 1, 32, 32], "too few for a group while one is under way");
        played.end(32);
        assert_eq!(played.sizes(), [1, 1, 32, 32, 2], "nothing was under way: half of 4, and then the rest");
        played.end(2);
        assert_eq!(played.sizes(), [1, 1, 32, 32, 2, 1]);
        played.end(1);
        let went: Vec<Logged> = played.groups.concat();
        assert_eq!(went, (0..70).map(command).collect::<Vec<_>>());
    }

    #[test]
    fn a_group_has_its_most_and_the_rest_goes_after_it() {
        let mut played = Played::default();
        played.enter(0..3 * GROUP_MAX);
        played.end(1);
        assert_eq!(played.sizes(), [1, 1, GROUP_MAX]);
        assert_eq!(played.queue.waiting.len(), 2 * GROUP_MAX - 2);
    }

    #[test]
    fn those_who_gave_up_are_not_proposed_and_leave_no_trace() {
        let mut played = Played::default();
        played.enter(0..2);
        for number in 2..10 * GROUP_MAX {
            played.enter(number..number + 1);
            played.receivers.pop();
        }
        assert!(played.queue.waiting.len() <= GROUP_MAX, "{}", played.queue.waiting.len());
        played.enter(7..8);
        played.end(1);
        assert_eq!(played.groups.last(), Some(&vec![command(7)]));
    }
}
