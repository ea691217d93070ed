//! Proposals in groups: while one is under way, what is proposed waits, and then goes together with all else that waits.
//!
//! A group costs about as much as a command alone: one write and one flush of each log, one message to each follower and
//! one answer, one batch to each projection. A command that finds nothing under way goes at once, and nothing waits for a
//! time to pass: the next group goes when the one before it is applied. So with one client nothing changes, and with many
//! the groups are as large as they are many.

use std::sync::atomic::{AtomicBool, Ordering};
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

/// How many commands go together at most.
pub const GROUP_MAX: usize = 512;

type Outcome = Result<Applied, ProposeError>;
type Waiting = (Logged, oneshot::Sender<Outcome>);

/// Whether commands wait for the group under way to end: entries follow it soon. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub(super) struct Backlog(Arc<AtomicBool>);

impl Backlog {
    pub(super) fn exists(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, exists: bool) {
        self.0.store(exists, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Queue {
    /// Whether a group is under way.
    under_way: bool,
    waiting: Vec<Waiting>,
    backlog: Backlog,
}

struct Inner {
    raft: Raft,
    queue: Mutex<Queue>,
}

/// Gathers proposals. Cheap to clone.
#[derive(Clone)]
pub(super) struct Proposals(Arc<Inner>);

/// The group under way. Once it is dropped, those that wait go.
struct Turn(Proposals);

impl Drop for Turn {
    fn drop(&mut self) {
        let group = self.0.queue().next_group();
        // A caller may be dropped after its runtime: those who waited are of that one too.
        if !group.is_empty() && tokio::runtime::Handle::try_current().is_ok() {
            drop(SeededRuntime::spawn(Self(self.0.clone()).carry(group)));
        }
    }
}

impl Queue {
    /// Returns leave to go at once, or what to wait for.
    fn enter(&mut self, command: Logged) -> Result<Logged, oneshot::Receiver<Outcome>> {
        if !self.under_way {
            self.under_way = true;
            return Ok(command);
        }
        if self.waiting.len() >= GROUP_MAX {
            // Where no quorum answers, a group is under way for long: those who gave up leave no trace.
            self.waiting.retain(|(_, answer)| !answer.is_closed());
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.push((command, answer));
        self.backlog.set(true);
        Err(answered)
    }

    /// Returns those that go after the group that has ended, but for those who gave up; none where nobody waits.
    fn next_group(&mut self) -> Vec<Waiting> {
        self.waiting.retain(|(_, answer)| !answer.is_closed());
        let count = self.waiting.len().min(GROUP_MAX);
        self.under_way = count > 0;
        let group = self.waiting.drain(..count).collect();
        self.backlog.set(!self.waiting.is_empty());
        group
    }
}

impl Turn {
    /// Has a group applied, and ends once the last of it is.
    async fn carry(self, group: Vec<Waiting>) {
        let (commands, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let mut written = match self.0.0.raft.client_write_many(commands).await {
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
    /// Returns a queue that says there whether commands wait.
    pub(super) fn new(raft: Raft, backlog: Backlog) -> Self {
        Self(Arc::new(Inner { raft, queue: Mutex::new(Queue { backlog, ..Queue::default() }) }))
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
            Ok(command) => {
                // Ends also when the caller gives up: what it proposed is no reason to wait then.
                let _turn = Turn(self.clone());
                self.propose_alone(command).await
            }
            // A group that was dropped untold is of a runtime that ends.
            Err(answered) => answered.await.unwrap_or(Err(ProposeError::Unknown { leader: None })),
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

    fn commands(group: Vec<Waiting>) -> Vec<Logged> {
        group.into_iter().map(|(command, _)| command).collect()
    }

    #[test]
    fn one_at_a_time_each_goes_at_once() {
        let mut queue = Queue::default();
        for number in 0..3 {
            assert_eq!(queue.enter(command(number)).ok(), Some(command(number)));
            assert!(queue.next_group().is_empty());
        }
    }

    #[test]
    fn what_comes_while_a_group_is_under_way_goes_together_in_its_order() {
        let mut queue = Queue::default();
        assert!(queue.enter(command(0)).is_ok());
        let mut waiting: Vec<_> = (1..4).map(|number| queue.enter(command(number)).expect_err("it waits")).collect();
        assert!(queue.backlog.exists());
        assert_eq!(commands(queue.next_group()), [command(1), command(2), command(3)]);
        assert!(!queue.backlog.exists());
        waiting.push(queue.enter(command(4)).expect_err("the group is under way"));
        assert_eq!(commands(queue.next_group()), [command(4)]);
        assert!(queue.next_group().is_empty());
        assert!(queue.enter(command(5)).is_ok(), "nothing is under way");
    }

    #[test]
    fn a_group_has_its_most_and_the_rest_goes_after_it() {
        let mut queue = Queue::default();
        let waiting: Vec<_> = (0..GROUP_MAX + 4).map(|number| queue.enter(command(number))).collect();
        assert_eq!(queue.next_group().len(), GROUP_MAX);
        assert!(queue.backlog.exists(), "the rest");
        assert_eq!(commands(queue.next_group()), (GROUP_MAX + 1..GROUP_MAX + 4).map(command).collect::<Vec<_>>());
        drop(waiting);
    }

    #[test]
    fn those_who_gave_up_are_not_proposed_and_leave_no_trace() {
        let mut queue = Queue::default();
        assert!(queue.enter(command(0)).is_ok());
        for number in 1..10 * GROUP_MAX {
            drop(queue.enter(command(number)));
        }
        assert!(queue.waiting.len() <= GROUP_MAX, "{}", queue.waiting.len());
        let waits = queue.enter(command(7)).expect_err("it waits");
        assert_eq!(commands(queue.next_group()), [command(7)]);
        drop(waits);
    }
}
