//! Keeps recorded which log each manager has, and brings one back that has lost its log.
//!
//! ```text
//! (nothing) --another log than the recorded one--> begin --> remove --> add --> record its log --> promote --> end
//! ```
//!
//! An emptied manager takes no part ([`LogGuard`](crate::raft)), and counts as a member that is silent. It is removed,
//! where the others keep their quorum without it, which forgets the lost log; added without a vote, where it was reached
//! before; and given back its vote, if it had one, once it has caught up. What it had stands in the replicated state from
//! before the removal on, so that the next leader goes on wherever this one was cut off. One step at a time, each by what
//! is there now.
//!
//! A change of the members that a leader left halfway is finished first, whoever began it.
//!
//! Nothing is recorded until every member has told its log once: a version that tells none does not know the commands.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use vouch_types::{
    Command, LogName, ManagerId, ManagerNode, ManagerRecord, ManagerReturn, Moment, ReturnEnd, Suffrage, Term,
};

use super::{COMMAND_ELECTIONS, Desk, Reconciler, ReconcilerReport, RoundError};
use crate::raft::{ConsensusStatus, Held, MembershipError};

/// The pause after a step that failed; doubled up to the greatest.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The greatest pause.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// One manager as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Now {
    /// What it is, and where it is reached; `None` for no member.
    member: Option<(Suffrage, ManagerNode)>,
    /// What is remembered of it.
    record: Option<ManagerRecord>,
    /// The log that it says it has.
    told: Option<LogName>,
}

/// What is to be done about a manager.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Nothing,
    /// It has to say something first.
    Wait,
    Record(LogName),
    Begin(ManagerReturn),
    Remove,
    Add(ManagerNode),
    Promote,
    End,
}

/// Whether every member has told its log at least once, to this leader or one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AllTell {
    Yes,
    NotYet,
}

impl Now {
    fn step(&self, all_tell: AllTell) -> Step {
        let recorded = self.record.as_ref().and_then(|record| record.log).map(|log| log.name);
        let returning = self.record.as_ref().and_then(|record| record.returning.as_ref());
        match (returning, &self.member, recorded, self.told) {
            (Some(returning), None, _, _) => Step::Add(returning.node.clone()),
            (None, None, _, _) => Step::Nothing,
            (_, Some(_), None, Some(told)) => match all_tell {
                AllTell::Yes => Step::Record(told),
                AllTell::NotYet => Step::Wait,
            },
            (Some(_), Some(_), Some(recorded), Some(told)) if recorded != told => Step::Remove,
            (None, Some((suffrage, node)), Some(recorded), Some(told)) if recorded != told => {
                Step::Begin(ManagerReturn { node: node.clone(), suffrage: *suffrage })
            }
            (Some(returning), Some((suffrage, _)), Some(_), Some(_)) => match (returning.suffrage, suffrage) {
                (Suffrage::Voter, Suffrage::Learner) => Step::Promote,
                (Suffrage::Voter, Suffrage::Voter) | (Suffrage::Learner, _) => Step::End,
            },
            (_, Some(_), _, None) => Step::Wait,
            (None, Some(_), Some(_), Some(_)) => Step::Nothing,
        }
    }
}

/// When a step that failed is tried again.
#[derive(Clone, Copy)]
struct Retry {
    at: Moment,
    pause: Duration,
}

/// Why a step was not done.
enum StepError {
    /// It has to catch up first.
    NotYet(MembershipError),
    Members(MembershipError),
    Slow(Duration),
    Command(RoundError),
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotYet(error) | Self::Members(error) => error.fmt(f),
            Self::Slow(within) => write!(f, "the members were not changed within {within:?}"),
            Self::Command(error) => error.fmt(f),
        }
    }
}

/// The reconciler; see the module's head.
#[derive(Default)]
pub(super) struct MemberLogsReconciler {
    retries: BTreeMap<ManagerId, Retry>,
}

fn managers_now(desk: &Desk, status: &ConsensusStatus) -> BTreeMap<ManagerId, Now> {
    let records: Vec<ManagerRecord> = desk.consensus.read_state(|state| state.manager_records().to_vec());
    let told = desk.fleet.told_logs();
    let with = |suffrage| move |(id, node): (&ManagerId, &ManagerNode)| (*id, Some((suffrage, node.clone())));
    let voters = status.voters.iter().map(with(Suffrage::Voter));
    let members = voters.chain(status.learners.iter().map(with(Suffrage::Learner)));
    let returning = records.iter().map(|record| (record.id, None));
    // The members last: they have the last word.
    let all: BTreeMap<_, _> = returning.chain(members).collect();
    all.into_iter()
        .map(|(id, member)| {
            let record = records.iter().find(|record| record.id == id).cloned();
            (id, Now { member, record, told: told.get(&id).copied() })
        })
        .collect()
}

fn all_tell(now: &BTreeMap<ManagerId, Now>) -> AllTell {
    let recorded = now.values().any(|now| now.record.as_ref().is_some_and(|record| record.log.is_some()));
    let all = now.values().filter(|now| now.member.is_some()).all(|now| now.told.is_some());
    if recorded || all { AllTell::Yes } else { AllTell::NotYet }
}

impl MemberLogsReconciler {
    fn may_try(&self, manager: ManagerId, now: Moment) -> bool {
        self.retries.get(&manager).is_none_or(|retry| retry.at <= now)
    }

    fn failed(&mut self, manager: ManagerId, now: Moment) {
        let pause = self.retries.get(&manager).map_or(RETRY_FIRST, |retry| (retry.pause * 2).min(RETRY_MAX));
        self.retries.insert(manager, Retry { at: now + pause, pause });
    }
}

async fn take(desk: &Desk, held: &Held<'_>, manager: ManagerId, step: Step) -> Result<(), StepError> {
    let at = desk.wall_clock.now();
    let command = match step {
        Step::Nothing | Step::Wait => return Ok(()),
        Step::Record(log) => Command::RecordManagerLog { manager, log },
        Step::Begin(returning) => Command::BeginManagerReturn { manager, returning, at },
        Step::End => Command::EndManagerReturn { manager, end: ReturnEnd::Returned, at },
        Step::Remove => return change(desk, desk.consensus.remove_member_held(held, manager)).await,
        Step::Add(node) => return change(desk, desk.consensus.add_member_held(held, manager, node)).await,
        Step::Promote => return change(desk, desk.consensus.promote_member_held(held, manager)).await,
    };
    desk.propose(command).await.map(drop).map_err(StepError::Command)
}

async fn change(desk: &Desk, change: impl Future<Output = Result<(), MembershipError>>) -> Result<(), StepError> {
    let within = desk.timing.raft_election_max * COMMAND_ELECTIONS;
    match tokio::time::timeout(within, change).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error @ (MembershipError::Behind { .. } | MembershipError::Silent(_)))) => Err(StepError::NotYet(error)),
        Ok(Err(error)) => Err(StepError::Members(error)),
        Err(_) => Err(StepError::Slow(within)),
    }
}

async fn finish_change(desk: &Desk) -> Result<(), StepError> {
    if desk.consensus.change_is_halfway() {
        change(desk, desk.consensus.finish_change()).await?;
        tracing::info!("a change of the members that was left halfway is finished");
    }
    Ok(())
}

const fn word(step: &Step) -> &'static str {
    match step {
        Step::Nothing => "nothing",
        Step::Wait => "wait",
        Step::Record(_) => "record its log",
        Step::Begin(_) => "begin its return",
        Step::Remove => "remove",
        Step::Add(_) => "add without a vote",
        Step::Promote => "give back its vote",
        Step::End => "end its return",
    }
}

#[async_trait]
impl Reconciler for MemberLogsReconciler {
    fn name(&self) -> &'static str {
        "member_logs"
    }

    fn reset(&mut self) {
        self.retries.clear();
    }

    async fn round(&mut self, desk: &Desk, _term: Term) -> Result<ReconcilerReport, RoundError> {
        if desk.consensus.read_state(|state| state.cluster().is_none()) {
            return Ok(ReconcilerReport::default());
        }
        let mut report = ReconcilerReport::default();
        let mut problem = |manager: ManagerId, step: &str, error: &dyn std::fmt::Display| {
            report.problem = Some(format!("{manager}: {step}: {error}"));
        };
        let mut pending = 0;
        if let Err(error) = finish_change(desk).await {
            return Ok(ReconcilerReport { pending: 1, problem: Some(format!("finish a change: {error}")) });
        }
        let others = managers_now(desk, &desk.consensus.status()).into_keys();
        for manager in others {
            // An operator's change goes first, and each step goes by what it left.
            let held = desk.consensus.changing_members().await;
            let all = managers_now(desk, &desk.consensus.status());
            let Some(now) = all.get(&manager) else { continue };
            let step = now.step(all_tell(&all));
            if step == Step::Nothing {
                self.retries.remove(&manager);
                continue;
            }
            pending += 1;
            if step == Step::Wait || !self.may_try(manager, desk.clock.now()) {
                continue;
            }
            let taken = word(&step);
            match take(desk, &held, manager, step).await {
                Ok(()) => {
                    self.retries.remove(&manager);
                    tracing::info!(manager_id = %manager, step = taken, "member's log");
                }
                Err(error @ StepError::NotYet(_)) => problem(manager, taken, &error),
                Err(error) => {
                    self.failed(manager, desk.clock.now());
                    tracing::warn!(manager_id = %manager, step = taken, %error, "member's log: step failed");
                    problem(manager, taken, &error);
                }
            }
        }
        report.pending = pending;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::{LogIndex, RecordedLog};

    use super::*;

    fn log(number: u128) -> LogName {
        LogName::new(uuid::Uuid::from_u128(number))
    }

    fn node() -> ManagerNode {
        ManagerNode { addresses: Vec::new(), api: "http://m2".to_owned() }
    }

    /// A manager that is so much of a member, with a log that is recorded and one that it tells.
    fn now(member: Option<Suffrage>, recorded: Option<u128>, told: Option<u128>, had: Option<Suffrage>) -> Now {
        let name = |number| RecordedLog { name: log(number), index: LogIndex::new(1) };
        let returning = had.map(|suffrage| ManagerReturn { node: node(), suffrage });
        let record = ManagerRecord { id: ManagerId::new(2), log: recorded.map(name), returning };
        Now { member: member.map(|suffrage| (suffrage, node())), record: Some(record), told: told.map(log) }
    }

    const VOTER: Option<Suffrage> = Some(Suffrage::Voter);
    const LEARNER: Option<Suffrage> = Some(Suffrage::Learner);

    #[test]
    fn a_manager_that_lost_its_log_goes_one_step_after_the_other_until_it_is_what_it_was() {
        let step = |now: Now| now.step(AllTell::Yes);
        let had = |suffrage| Step::Begin(ManagerReturn { node: node(), suffrage });
        assert_eq!(step(now(VOTER, None, Some(7), None)), Step::Record(log(7)));
        assert_eq!(step(now(VOTER, Some(7), Some(7), None)), Step::Nothing);
        assert_eq!(step(now(VOTER, Some(7), Some(8), None)), had(Suffrage::Voter));
        assert_eq!(step(now(LEARNER, Some(7), Some(8), None)), had(Suffrage::Learner));
        assert_eq!(step(now(VOTER, Some(7), Some(8), VOTER)), Step::Remove);
        assert_eq!(step(now(None, None, Some(8), VOTER)), Step::Add(node()));
        assert_eq!(step(now(None, None, None, VOTER)), Step::Add(node()), "it is not heard while it is no member");
        assert_eq!(step(now(LEARNER, None, Some(8), VOTER)), Step::Record(log(8)));
        assert_eq!(step(now(LEARNER, Some(8), Some(8), VOTER)), Step::Promote);
        assert_eq!(step(now(VOTER, Some(8), Some(8), VOTER)), Step::End);
        assert_eq!(step(now(LEARNER, Some(8), Some(8), LEARNER)), Step::End, "it had no vote");
    }

    #[test]
    fn one_that_loses_its_log_again_on_its_way_is_removed_again_and_keeps_what_it_had() {
        let emptied_again = now(LEARNER, Some(8), Some(9), VOTER);
        assert_eq!(emptied_again.step(AllTell::Yes), Step::Remove);
        let found_again = now(VOTER, Some(7), Some(7), VOTER);
        assert_eq!(found_again.step(AllTell::Yes), Step::End, "its old log was put back before it was removed");
    }

    #[test]
    fn nothing_is_done_about_one_that_tells_nothing_or_is_no_member() {
        for had in [None, VOTER] {
            assert_eq!(now(VOTER, Some(7), None, had).step(AllTell::Yes), Step::Wait);
            assert_eq!(now(VOTER, None, None, had).step(AllTell::Yes), Step::Wait);
        }
        assert_eq!(now(None, None, Some(7), None).step(AllTell::Yes), Step::Nothing);
    }

    #[test]
    fn nothing_is_recorded_before_every_member_has_told_its_log() {
        let m = ManagerId::new;
        let teller = || now(VOTER, None, Some(7), None);
        let older = || now(VOTER, None, None, None);
        assert_eq!(teller().step(AllTell::NotYet), Step::Wait);
        assert_eq!(all_tell(&[(m(1), teller()), (m(2), older())].into()), AllTell::NotYet);
        assert_eq!(all_tell(&[(m(1), teller()), (m(2), teller())].into()), AllTell::Yes);
        let recorded = now(VOTER, Some(7), Some(7), None);
        assert_eq!(all_tell(&[(m(1), recorded), (m(2), older())].into()), AllTell::Yes, "it was so once");
    }

    #[test]
    fn a_step_that_fails_is_tried_again_after_pauses_that_grow_to_thirty_seconds() {
        let (mut reconciler, m2) = (MemberLogsReconciler::default(), ManagerId::new(2));
        let mut at = Moment::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(reconciler.may_try(m2, at));
            reconciler.failed(m2, at);
            let pause = reconciler.retries[&m2].pause;
            assert!(!reconciler.may_try(m2, at + pause / 2));
            pauses.push(pause.as_secs());
            at = at + pause;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        reconciler.reset();
        assert!(reconciler.may_try(m2, Moment::ZERO), "another leader begins anew");
    }
}
