//! What watchers found because somebody had them look now, until it is taken.

use std::collections::BTreeMap;

use vouch_types::vm::REASON_IDENTITY;
use vouch_types::{Findings, Network, Outcome, Pin, ProbeName, VmId};
use vouch_wire::convert::limits::FINDINGS_PER_ANSWER_MAX;
use vouch_wire::convert::{WatcherAnswer, WireFindings, WireObservation};

/// How many looks are kept of one ask: as many as an answer may tell the findings of.
pub(crate) const LOOKS_PER_ASK_MAX: usize = FINDINGS_PER_ANSWER_MAX;

/// What one run of one probe came to.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Look {
    /// What the watcher saw.
    pub(crate) seen: WireObservation,
    /// What that rests on; none from a watcher that does not tell.
    pub(crate) found: Option<Findings>,
}

impl Look {
    /// Returns it as it counts: what another machine answers on the VM's address is not the VM's.
    pub(crate) fn counted(mut self, pins: &[Pin]) -> Self {
        let WireObservation { network, probe, outcome, identity, .. } = &self.seen;
        if Pin::is_of_another(pins, *network, probe, *outcome, *identity) {
            self.seen.message = format!("another machine answers: {}", self.seen.message);
            (self.seen.outcome, self.seen.reason) = (Outcome::Down, REASON_IDENTITY.to_owned());
        }
        self
    }
}

/// What one watcher's answers tell of one VM.
#[derive(Clone, Debug)]
pub(crate) struct Looks {
    vm: VmId,
    all: BTreeMap<(Network, ProbeName), Look>,
}

impl Looks {
    pub(crate) fn of(vm: VmId) -> Self {
        Self { vm, all: BTreeMap::new() }
    }

    /// Takes what an answer tells of the VM; findings leave the answer.
    pub(crate) fn take(&mut self, answer: &mut WatcherAnswer) {
        let mut findings = std::mem::take(&mut answer.findings);
        for seen in answer.observations.iter().filter(|seen| seen.vm == self.vm) {
            let same = |f: &WireFindings| f.vm == seen.vm && f.network == seen.network && f.probe == seen.probe;
            let found = findings.iter().position(same).map(|at| findings.swap_remove(at).found);
            let key = (seen.network, seen.probe.clone());
            if self.all.len() < LOOKS_PER_ASK_MAX || self.all.contains_key(&key) {
                self.all.insert(key, Look { seen: seen.clone(), found });
            }
        }
    }

    /// Returns all, by network and probe.
    pub(crate) fn into_all(self) -> Vec<Look> {
        self.all.into_values().collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use vouch_types::{AssignmentGeneration, Identity, Nonce, TickSequence};

    use super::*;
    use crate::store::tests::samples::vm_id;

    pub(crate) fn seen(vm: u128, probe: &str) -> WireObservation {
        WireObservation {
            vm: vm_id(vm),
            network: Network::Service,
            probe: ProbeName::new(probe).unwrap(),
            outcome: Outcome::Up,
            reason: "answered".to_owned(),
            message: "text".to_owned(),
            identity: None,
            begun: TickSequence::default(),
            begun_after: Duration::ZERO,
            took: Duration::from_millis(3),
        }
    }

    /// An answer with these observations, and with findings of the first one.
    pub(crate) fn answer(observations: Vec<WireObservation>) -> WatcherAnswer {
        let facts = vec![("protocol".to_owned(), "tls".to_owned())];
        let first = observations.first().map(|seen| WireFindings {
            vm: seen.vm,
            network: seen.network,
            probe: seen.probe.clone(),
            found: Findings { facts, ..Findings::default() },
        });
        WatcherAnswer {
            nonce: Nonce::new(0),
            assignment: AssignmentGeneration::new(5),
            observations,
            relays: Vec::new(),
            statements: Vec::new(),
            complete: true,
            health: None,
            findings: first.into_iter().collect(),
        }
    }

    #[test]
    fn looks_are_of_one_vm_and_of_each_probe_once() {
        let mut looks = Looks::of(vm_id(1));
        looks.take(&mut answer(vec![seen(1, "rdp"), seen(2, "rdp"), seen(1, "tcp")]));
        looks.take(&mut answer(vec![WireObservation { reason: "later".to_owned(), ..seen(1, "tcp") }]));
        let all = looks.into_all();
        let told: Vec<_> = all.iter().map(|look| (look.seen.probe.as_str(), look.seen.reason.as_str())).collect();
        assert_eq!(told, [("rdp", "answered"), ("tcp", "later")]);
        assert!(all.iter().all(|look| look.found.as_ref().is_some_and(|found| found.facts.len() == 1)));
    }

    #[test]
    fn a_watcher_that_tells_more_than_a_vm_can_have_is_not_kept() {
        let mut looks = Looks::of(vm_id(1));
        let many: Vec<_> = (0..=LOOKS_PER_ASK_MAX).map(|n| seen(1, &format!("probe-{n}"))).collect();
        looks.take(&mut answer(many));
        assert_eq!(looks.into_all().len(), LOOKS_PER_ASK_MAX);
    }

    #[test]
    fn what_another_machine_answers_is_not_the_vms() {
        let pin = Pin { probe: ProbeName::new("rdp").unwrap(), network: Network::Service, identity: Identity::new(7) };
        let look = |identity, outcome| {
            let seen = WireObservation { identity: Some(Identity::new(identity)), outcome, ..seen(1, "rdp") };
            Look { seen, found: None }.counted(std::slice::from_ref(&pin)).seen
        };
        assert_eq!(look(7, Outcome::Up).outcome, Outcome::Up);
        let other = look(8, Outcome::Up);
        assert_eq!((other.outcome, other.reason.as_str()), (Outcome::Down, "identity"));
        assert_eq!(other.message, "another machine answers: text");
        assert_eq!(look(8, Outcome::Down).reason, "answered", "there is no sign of life to be anybody's");
    }
}
