//! What the detector knows of one VM: its node's word, statements that watchers carried, what probes saw, and which
//! other nodes claim it.
//!
//! ```text
//!              new start id              every proven probe answered since, or the budget is over
//!   Settled ---------------> Starting{since, spent} ---------------------------------> Settled
//!      |         reset                                                                    ^
//!      \--------------------> Rebooting{since, spent} -----------------------------------/
//! ```
//!
//! A boot that began before this detector did is taken from the records (`boots.rs`).

use std::time::Duration;

use vouch_types::vm::CLAIMS_MAX;
use vouch_types::{
    HypervisorState, Moment, Network, NodeId, Observation, Operation, Outcome, PauseReason, Pin, ProbeName, ProbeTimes,
    StartId, Statement, WatcherId,
};

use crate::check::CheckTrack;
use crate::{VmEntry, VmWord};

/// The most observers of one VM; more are refused and counted.
pub const OBSERVERS_MAX: usize = 4;
/// The most probes of one VM that evidence is kept of, per observer.
pub const PROBES_MAX: usize = 8;

/// How far the guest is with starting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Boot {
    /// It has started, as far as is known.
    Settled,
    /// Its process is new.
    Starting {
        /// Since when, as far as it was followed here.
        since: Moment,
        /// How much of its budget was used up before that.
        spent: Duration,
    },
    /// It restarts from inside.
    Rebooting {
        /// Since when, as far as it was followed here.
        since: Moment,
        /// How much of its budget was used up before that.
        spent: Duration,
    },
}

/// The suspicion that a VM fails, and how often watchers were asked about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Suspicion {
    /// Rounds of asks so far.
    pub rounds: u32,
    /// When the last round was.
    pub asked: Option<Moment>,
}

/// A node that does not own the VM says that it has it.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Which node.
    pub node: NodeId,
    /// Its word.
    pub word: VmWord,
    /// When it first said so.
    pub since: Moment,
    /// When its hypervisor was last read.
    pub begun: Moment,
}

/// One VM as evidence shows it.
#[derive(Clone, Debug)]
pub(crate) struct VmTrack {
    /// As recorded.
    pub entry: VmEntry,
    /// The last word of its node, heard by a manager.
    pub word: Option<(VmWord, Moment)>,
    /// Its owner's last full report did not name it: it has moved, or is no more.
    pub unnamed: bool,
    /// The last statement that a watcher carried, when its check began, and who carried it.
    pub statement: Option<Box<(Statement, Moment, WatcherId)>>,
    /// Which start was last spoken of, by word or statement, and whether its guest then owed no answer.
    pub(crate) last_said: Option<(StartId, bool)>,
    /// What probes saw; at most [`OBSERVERS_MAX`] times [`PROBES_MAX`].
    pub checks: Vec<CheckTrack>,
    /// The watchers that are to watch it, as recorded, sorted.
    pub observers: Vec<WatcherId>,
    /// Nodes that claim it; at most [`CLAIMS_MAX`].
    pub claims: Vec<Claim>,
    /// How far its guest is with starting.
    pub boot: Boot,
    /// Since when an operation that excused it has been over.
    pub operation_over: Option<Moment>,
    /// Since when it has been judged to hang.
    pub hung_since: Option<Moment>,
    /// Whether its service is being looked into.
    pub suspicion: Suspicion,
    /// It is to be judged.
    pub is_dirty: bool,
    /// Time alone can change what is judged of it.
    pub is_restless: bool,
    /// Words beyond the limits.
    pub refused: u32,
}

/// What one word says of operations and pauses: while it holds, the guest owes no answer.
fn excuses(state: HypervisorState, operation: Option<Operation>) -> bool {
    let paused = match state {
        HypervisorState::Paused(_) | HypervisorState::Stopped | HypervisorState::Gone(_) => true,
        HypervisorState::Running
        | HypervisorState::Rebooting
        | HypervisorState::Panicked
        | HypervisorState::Unknown => false,
    };
    paused || operation.is_some()
}

impl VmTrack {
    pub fn new(entry: VmEntry) -> Self {
        Self {
            entry,
            word: None,
            unnamed: false,
            statement: None,
            last_said: None,
            checks: Vec::new(),
            observers: Vec::new(),
            claims: Vec::new(),
            boot: Boot::Settled,
            operation_over: None,
            hung_since: None,
            suspicion: Suspicion::default(),
            is_dirty: false,
            is_restless: false,
            refused: 0,
        }
    }

    /// Takes its owner's word.
    pub fn hear(&mut self, word: VmWord, begun: Moment, now: Moment) {
        self.follow(word.start, word.state, word.operation, now);
        self.word = Some((word, begun));
        self.unnamed = false;
    }

    /// Follows the VM from what was last said of it, by word or statement, to what is said now.
    fn follow(&mut self, start: StartId, state: HypervisorState, operation: Option<Operation>, now: Moment) {
        let excused = excuses(state, operation);
        if let Some((known, was_excused)) = self.last_said.replace((start, excused)) {
            if start > known {
                self.boot = Boot::Starting { since: now, spent: Duration::ZERO };
                self.excuse(now);
            }
            if was_excused && !excused {
                self.operation_over = Some(now);
                self.excuse(now);
            }
        }
        if state == HypervisorState::Rebooting && !matches!(self.boot, Boot::Rebooting { .. }) {
            self.boot = Boot::Rebooting { since: now, spent: Duration::ZERO };
            self.excuse(now);
        }
    }

    fn excuse(&mut self, now: Moment) {
        self.checks.iter_mut().for_each(|check| check.excuse(now));
        self.suspicion = Suspicion::default();
    }

    /// Returns the operation that its owner says is under way.
    pub fn operation(&self) -> Option<Operation> {
        let (word, _) = self.word.as_ref()?;
        match word.state {
            HypervisorState::Paused(PauseReason::Migration) => Some(Operation::Migration),
            HypervisorState::Running
            | HypervisorState::Paused(_)
            | HypervisorState::Rebooting
            | HypervisorState::Stopped
            | HypervisorState::Panicked
            | HypervisorState::Gone(_)
            | HypervisorState::Unknown => word.operation,
        }
    }

    /// Takes an observation. Returns at which place of its checks it is, and whether anything changed that is judged by;
    /// `None` for one beyond the limits, which is refused and counted.
    pub fn see(&mut self, seen: Observation, slack: Duration) -> Option<(usize, bool)> {
        let is_its = |c: &CheckTrack| c.is_of(seen.watcher, seen.network, &seen.probe);
        if let Some(at) = self.checks.iter().position(is_its) {
            return Some((at, self.checks[at].see(seen, slack)));
        }
        let own = self.checks.iter().filter(|c| c.watcher == seen.watcher).count();
        let room = own < PROBES_MAX && (own > 0 || self.observers_seen() < OBSERVERS_MAX);
        if room {
            self.checks.push(CheckTrack::new(seen));
        } else {
            self.refused = self.refused.saturating_add(1);
        }
        room.then(|| (self.checks.len() - 1, true))
    }

    fn observers_seen(&self) -> usize {
        let first = |(i, check): &(usize, &CheckTrack)| self.checks[..*i].iter().all(|c| c.watcher != check.watcher);
        self.checks.iter().enumerate().filter(first).count()
    }

    /// Takes a statement; one of an earlier life or position counts for nothing. Returns whether it was taken.
    pub fn state(&mut self, statement: Statement, begun: Moment, carrier: WatcherId) -> bool {
        let owned = statement.node == self.entry.node && statement.generation == self.entry.generation;
        let later = self.statement.as_deref().is_none_or(|(known, ..)| {
            (statement.incarnation, statement.sequence) >= (known.incarnation, known.sequence)
        });
        if owned && later {
            self.follow(statement.start, statement.state, None, begun);
            self.statement = Some(Box::new((statement, begun, carrier)));
        }
        owned && later
    }

    /// Takes the word of a node that does not own it; a claim beyond the limit is refused and counted.
    pub fn claim(&mut self, node: &NodeId, word: VmWord, begun: Moment, now: Moment) {
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.node == *node) {
            if claim.word.state != word.state {
                claim.since = now;
            }
            claim.word = word;
            claim.begun = claim.begun.max(begun);
        } else if self.claims.len() < CLAIMS_MAX {
            self.claims.push(Claim { node: node.clone(), word, since: now, begun });
        } else {
            self.refused = self.refused.saturating_add(1);
        }
    }

    /// Returns whether this probe has ever succeeded for the VM.
    pub fn is_proven(&self, network: Network, probe: &ProbeName) -> bool {
        self.entry.proven.iter().any(|p| p.network == network && p.probe == *probe)
    }

    /// Returns at what times a check runs, where the policy of the VM does not say it.
    pub fn times_of(&self, check: &CheckTrack) -> Option<&ProbeTimes> {
        let its = |times: &&ProbeTimes| times.network == check.network && times.probe == check.probe;
        self.entry.probe_times.iter().find(its)
    }

    /// Returns what a check counts as: another machine's answer on the VM's address is not its own.
    pub fn counted(&self, check: &CheckTrack) -> (Outcome, bool) {
        let CheckTrack { network, probe, outcome, identity, .. } = check;
        let is_of_another = Pin::is_of_another(&self.entry.pins, *network, probe, *outcome, *identity);
        (if is_of_another { Outcome::Down } else { *outcome }, is_of_another)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use vouch_types::{Generation, Progress, StartId, VmId};

    /// Returns what a watcher saw of its service.
    pub(crate) fn seen(begun: u64, outcome: Outcome) -> Observation {
        Observation {
            watcher: WatcherId::new(1),
            vm: VmId::new(uuid::Uuid::from_u128(1)),
            network: Network::Service,
            probe: ProbeName::new("rdp").expect("a valid name"),
            outcome,
            reason: String::new(),
            message: String::new(),
            identity: None,
            begun: Moment::from_micros(begun),
            asked: None,
        }
    }

    /// Returns a word on it.
    pub(crate) fn word(start: u64, state: HypervisorState) -> VmWord {
        VmWord {
            vm: VmId::new(uuid::Uuid::from_u128(1)),
            generation: Generation::new(1),
            start: StartId::new(start),
            state,
            progress: Progress::Working,
            operation: None,
            links_down: Vec::new(),
        }
    }

    /// Returns a VM of which nothing has been heard.
    pub(crate) fn track() -> VmTrack {
        VmTrack::new(VmEntry {
            vm: VmId::new(uuid::Uuid::from_u128(1)),
            node: NodeId::new("n1").expect("a valid name"),
            generation: Generation::new(1),
            addresses: Vec::new(),
            datastore: None,
            maintenance: String::new(),
            policy: vouch_types::Policy::default(),
            probes: Vec::new(),
            probe_times: Vec::new(),
            pins: Vec::new(),
            boot: None,
            claimed_by: Vec::new(),
            proven: Vec::new(),
            verdict: vouch_types::Verdict::unjudged(vouch_types::WallTime::default()),
        })
    }

    const SLACK: Duration = Duration::from_micros(100);

    #[test]
    fn observers_probes_and_claims_beyond_the_limits_are_refused_and_counted() {
        let mut vm = track();
        for watcher in 1..=OBSERVERS_MAX as u64 + 1 {
            vm.see(Observation { watcher: WatcherId::new(watcher), ..seen(1, Outcome::Up) }, SLACK);
        }
        assert_eq!((vm.checks.len(), vm.refused), (OBSERVERS_MAX, 1));
        for probe in 1..=PROBES_MAX {
            let probe = ProbeName::new(&format!("p{probe}")).expect("a valid name");
            vm.see(Observation { probe, ..seen(1, Outcome::Up) }, SLACK);
        }
        assert_eq!((vm.checks.len(), vm.refused), (OBSERVERS_MAX + PROBES_MAX - 1, 2));
        for node in 2..=CLAIMS_MAX + 2 {
            let node = NodeId::new(&format!("n{node}")).expect("a valid name");
            vm.claim(&node, word(1, HypervisorState::Running), Moment::ZERO, Moment::ZERO);
        }
        assert_eq!((vm.claims.len(), vm.refused), (CLAIMS_MAX, 3));
    }

    #[test]
    fn a_reset_is_a_reboot_and_a_new_process_is_a_start() {
        let at = Moment::from_micros;
        let mut vm = track();
        vm.hear(word(1, HypervisorState::Running), at(1), at(1));
        vm.hear(word(1, HypervisorState::Rebooting), at(10), at(10));
        vm.hear(word(1, HypervisorState::Running), at(20), at(20));
        assert_eq!(vm.boot, Boot::Rebooting { since: at(10), spent: Duration::ZERO });
        vm.hear(word(2, HypervisorState::Running), at(40), at(40));
        assert_eq!(vm.boot, Boot::Starting { since: at(40), spent: Duration::ZERO });
    }

    #[test]
    fn what_failed_while_it_was_paused_does_not_count_after_it_goes_on() {
        let at = Moment::from_micros;
        let mut vm = track();
        vm.hear(word(1, HypervisorState::Running), at(1), at(1));
        vm.hear(word(1, HypervisorState::Paused(PauseReason::Operator)), at(10), at(10));
        vm.see(seen(20, Outcome::Down), SLACK);
        vm.hear(word(1, HypervisorState::Running), at(100), at(100));
        assert_eq!(vm.checks[0].failures(at(100), Duration::from_micros(10)), 0);
    }

    #[test]
    fn another_machine_behind_the_address_is_no_sign_of_its_life() {
        let mut vm = track();
        let pin = |n| vouch_types::Identity::new(n);
        vm.entry.pins = vec![Pin {
            probe: ProbeName::new("rdp").expect("a valid name"),
            network: Network::Service,
            identity: pin(7),
        }];
        vm.see(Observation { identity: Some(pin(7)), ..seen(1, Outcome::Up) }, SLACK);
        assert_eq!(vm.counted(&vm.checks[0]), (Outcome::Up, false));
        vm.see(Observation { identity: Some(pin(8)), ..seen(2, Outcome::Up) }, SLACK);
        assert_eq!(vm.counted(&vm.checks[0]), (Outcome::Down, true));
    }
}
