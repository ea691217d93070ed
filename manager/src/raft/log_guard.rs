//! Between which logs a Raft call is: a manager that lost its log neither votes nor takes entries, under any leader.
//!
//! An emptied data folder has forgotten the vote and all that was acknowledged, and its manager counts as a member as
//! before. The replicated state knows which log each manager has. A call says whose log it comes from, and which log it is
//! meant for; it is refused where that is not so. Nothing known is nothing refused: older managers say nothing, and in a
//! new cluster nothing is recorded yet.
//!
//! What is recorded may be out of date on whoever lags behind, and one that has rejoined must not be shut out by it: so a
//! record says where in the log it was made. Who has applied a later record of its own log rejoined after the other one.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;
use vouch_types::{LogName, ManagerId, RecordedLog};
use vouch_wire::links::{LinkError, LogNames, RaftCallKind};

use super::applied::AppliedState;
use super::consensus::Consensus;

/// Why a call is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
enum Refusal {
    #[error("{manager} has lost its log: {sender} knows it by log {recorded}, and it has {own}")]
    OwnLost { manager: ManagerId, sender: ManagerId, recorded: LogName, own: LogName },
    #[error("{sender} has lost its log: it is known here by log {recorded}, and has {told}")]
    SenderLost { sender: ManagerId, recorded: LogName, told: LogName },
}

/// This manager's log is not the one that the cluster knows it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostLog {
    /// The log that it is known by.
    pub recorded: LogName,
    /// The manager that knows it by that.
    pub by: ManagerId,
}

/// Checks calls, and says what they need to be checked elsewhere. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LogGuard {
    this: ManagerId,
    own: LogName,
    applied: Arc<AppliedState>,
    lost: Arc<watch::Sender<Option<LostLog>>>,
}

/// What the receiver of a call knows by itself.
struct Known {
    own: LogName,
    own_recorded: Option<RecordedLog>,
    sender_recorded: Option<RecordedLog>,
}

impl Known {
    /// The rule of the module's head.
    fn check(&self, this: ManagerId, sender: ManagerId, told: &LogNames) -> Result<(), Refusal> {
        let rejoined =
            |after: RecordedLog| self.own_recorded.is_some_and(|own| own.name == self.own && own.index > after.index);
        if let Some(recorded) = told.receiver.filter(|log| log.name != self.own && !rejoined(*log)) {
            let (recorded, own) = (recorded.name, self.own);
            return Err(Refusal::OwnLost { manager: this, sender, recorded, own });
        }
        let (Some(name), Some(recorded)) = (told.sender, self.sender_recorded) else { return Ok(()) };
        if name == recorded.name || told.sender_recorded.is_some_and(|index| index > recorded.index) {
            return Ok(());
        }
        Err(Refusal::SenderLost { sender, recorded: recorded.name, told: name })
    }
}

impl LogGuard {
    pub(super) fn new(this: ManagerId, own: LogName, applied: Arc<AppliedState>) -> Self {
        Self { this, own, applied, lost: Arc::new(watch::Sender::new(None)) }
    }

    /// Returns between which logs a call to another manager is.
    pub(super) fn names(&self, to: ManagerId) -> LogNames {
        let (own, receiver) = self.applied.read(|state| (state.recorded_log(self.this), state.recorded_log(to)));
        let sender_recorded = own.filter(|own| own.name == self.own).map(|own| own.index);
        LogNames { sender: Some(self.own), sender_recorded, receiver }
    }

    /// Refuses a call that is meant for another log than this manager's, or comes from one that lost its own.
    pub(super) fn check(&self, from: ManagerId, call: RaftCallKind, told: &LogNames) -> Result<(), LinkError> {
        let known = self.applied.read(|state| Known {
            own: self.own,
            own_recorded: state.recorded_log(self.this),
            sender_recorded: state.recorded_log(from),
        });
        let checked = known.check(self.this, from, told);
        self.note(from, call, checked);
        checked.map_err(|refusal| LinkError::Refused(refusal.to_string()))
    }

    fn note(&self, from: ManagerId, call: RaftCallKind, checked: Result<(), Refusal>) {
        match checked {
            Err(Refusal::OwnLost { recorded, sender: by, own, manager: _ }) => {
                let before = self.lost.send_replace(Some(LostLog { recorded, by }));
                if before.is_none() {
                    tracing::error!(
                        manager_id = %self.this,
                        %by,
                        %recorded,
                        %own,
                        "this manager has lost its log: it neither votes nor takes entries until the leader has \
                         removed and added it, which happens by itself"
                    );
                }
            }
            Err(refusal @ Refusal::SenderLost { .. }) => {
                tracing::warn!(manager_id = %from, ?call, %refusal, "raft call refused: the sender has lost its log");
            }
            Ok(()) => match call {
                RaftCallKind::Append | RaftCallKind::Snapshot => {
                    if self.lost.send_replace(None).is_some() {
                        tracing::info!(manager_id = %self.this, %from, "this manager is given the log again");
                    }
                }
                // Somebody who knows nothing of this manager's log asks: that proves nothing.
                RaftCallKind::Vote | RaftCallKind::PreVote | RaftCallKind::TransferLeader => {}
            },
        }
    }
}

impl Consensus {
    /// Returns the name of this manager's log.
    pub fn log_name(&self) -> LogName {
        self.guard().own
    }

    /// Returns what this manager was told of having lost its log, until it is given entries again.
    pub fn lost_log(&self) -> Option<LostLog> {
        *self.guard().lost.borrow()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use vouch_types::LogIndex;

    use super::*;

    const OLD: u128 = 7;
    const NEW: u128 = 8;

    fn m(number: u64) -> ManagerId {
        ManagerId::new(number)
    }

    fn log(number: u128) -> LogName {
        LogName::new(Uuid::from_u128(number))
    }

    fn recorded(name: u128, index: u64) -> Option<RecordedLog> {
        Some(RecordedLog { name: log(name), index: LogIndex::new(index) })
    }

    /// m1 calls m2.
    fn check(known: &Known, told: &LogNames) -> Result<(), Refusal> {
        known.check(m(2), m(1), told)
    }

    fn receiver(own: u128, own_recorded: Option<RecordedLog>) -> Known {
        Known { own: log(own), own_recorded, sender_recorded: None }
    }

    #[test]
    fn nothing_known_is_nothing_refused() {
        let nothing = LogNames::default();
        assert_eq!(check(&receiver(NEW, None), &nothing), Ok(()));
        let knows = Known { sender_recorded: recorded(OLD, 5), ..receiver(NEW, recorded(NEW, 6)) };
        assert_eq!(check(&knows, &nothing), Ok(()), "an older manager");
        let first = LogNames { sender: Some(log(1)), ..nothing };
        assert_eq!(check(&receiver(NEW, None), &first), Ok(()), "a new cluster");
    }

    #[test]
    fn one_that_lost_its_log_refuses_all_who_know_it_by_the_lost_one() {
        let told = LogNames { sender: Some(log(1)), receiver: recorded(OLD, 5), ..LogNames::default() };
        assert_eq!(check(&receiver(OLD, None), &told), Ok(()));
        let refused = check(&receiver(NEW, None), &told).expect_err("it is emptied");
        let text = refused.to_string();
        assert!(text.contains("m2 has lost its log") && text.contains(&log(OLD).to_string()), "{text}");
        assert!(check(&receiver(NEW, recorded(OLD, 5)), &told).is_err(), "a state that was left behind");
    }

    #[test]
    fn one_that_has_rejoined_is_not_shut_out_by_those_who_lag_behind() {
        let told = LogNames { sender: Some(log(1)), receiver: recorded(OLD, 5), ..LogNames::default() };
        assert_eq!(check(&receiver(NEW, recorded(NEW, 9)), &told), Ok(()), "its own record is the later one");
        assert!(check(&receiver(NEW, recorded(NEW, 4)), &told).is_err());
        let lags = Known { sender_recorded: recorded(OLD, 5), ..receiver(NEW, None) };
        let call = |sender_recorded| LogNames { sender: Some(log(NEW)), sender_recorded, receiver: None };
        assert_eq!(check(&lags, &call(Some(LogIndex::new(9)))), Ok(()));
        assert!(check(&lags, &call(Some(LogIndex::new(4)))).is_err());
    }

    #[test]
    fn what_comes_from_one_that_lost_its_log_is_refused_by_name() {
        let knows = Known { sender_recorded: recorded(OLD, 5), ..receiver(NEW, None) };
        let call = |name| LogNames { sender: Some(log(name)), ..LogNames::default() };
        assert_eq!(check(&knows, &call(OLD)), Ok(()));
        let refused = check(&knows, &call(NEW)).expect_err("emptied").to_string();
        assert!(refused.contains("m1 has lost its log"), "{refused}");
    }
}
