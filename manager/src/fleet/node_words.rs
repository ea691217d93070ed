//! What one node last said, whoever brought it: the newest report with all that earlier ones said and it did not change.

use std::collections::BTreeMap;

use vouch_detector::VmWord;
use vouch_types::{
    HypervisorState, Incarnation, ManagerId, Moment, Network, NodeId, Sequence, VmId, VmSpec, WatcherId, WatcherLegs,
};
use vouch_wire::convert::{NodeHello, NodeReport, VmReport};

/// Whether a report was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Freshness {
    /// It is newer than all before.
    New,
    /// It is the newest one once more, over another stream or through another manager.
    Again,
    /// Something newer was heard before.
    Stale,
}

/// What one node last said.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeWords {
    /// How it introduced itself last.
    pub(crate) hello: Option<NodeHello>,
    /// Position of its newest report.
    pub(crate) sequence: Sequence,
    /// When its newest word began.
    pub(crate) begun: Option<Moment>,
    /// When its newest report came here.
    pub(crate) arrived: Option<Moment>,
    /// Its VMs, as a full report of this life and all later changes say; `None` before a full one.
    pub(crate) vms: Option<BTreeMap<VmId, VmReport>>,
    /// Whether its hypervisor service does not answer it.
    pub(crate) hypervisor_silent: bool,
    /// The watcher VMs on it.
    pub(crate) watchers: BTreeMap<WatcherId, HypervisorState>,
    /// Where those are reached that have legs of their own.
    pub(crate) legs: BTreeMap<WatcherId, WatcherLegs>,
}

impl NodeWords {
    /// Returns the life of the agent that spoke last.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.hello.as_ref().map(|h| h.incarnation).unwrap_or_default()
    }

    /// Takes an introduction; returns whether it is of a life that is over.
    pub(crate) fn greet(&mut self, hello: NodeHello) -> Freshness {
        match &self.hello {
            Some(known) if hello.incarnation < known.incarnation => Freshness::Stale,
            Some(known) if hello.incarnation == known.incarnation => Freshness::Again,
            Some(_) | None => {
                *self = Self { hello: Some(hello), ..Self::default() };
                Freshness::New
            }
        }
    }

    /// Takes a report of the present life. A report without a moment counts for the inventory alone.
    pub(crate) fn take(&mut self, report: &NodeReport, begun: Option<Moment>, now: Moment) -> Freshness {
        if report.sequence < self.sequence {
            return Freshness::Stale;
        }
        self.begun = self.begun.max(begun);
        if report.sequence == self.sequence && self.vms.is_some() {
            return Freshness::Again;
        }
        self.sequence = report.sequence;
        self.arrived = Some(now);
        self.hypervisor_silent = report.hypervisor_silent;
        self.watchers = report.watchers.iter().copied().collect();
        self.legs.clone_from(&report.legs);
        if report.full {
            self.vms = Some(report.vms.iter().map(|vm| (vm.vm, vm.clone())).collect());
        } else if let Some(known) = &mut self.vms {
            for vm in &report.vms {
                let spec = vm.spec.clone().or_else(|| known.get(&vm.vm).and_then(|k| k.spec.clone()));
                known.insert(vm.vm, VmReport { spec, ..vm.clone() });
            }
        }
        Freshness::New
    }

    /// Returns whether everything that it has to say in this life was said once.
    pub(crate) fn is_complete(&self) -> bool {
        self.vms.is_some()
    }

    /// Returns the descriptions of all its VMs; `None` until it has given them.
    pub(crate) fn specs(&self) -> Option<Vec<VmSpec>> {
        self.vms.as_ref()?.values().map(|vm| vm.spec.clone()).collect()
    }

    /// Returns all that it said as one full report, to be handed on to another manager.
    pub(crate) fn merged(&self) -> Option<NodeReport> {
        Some(NodeReport {
            sequence: self.sequence,
            tick: vouch_types::TickSequence::default(),
            age: std::time::Duration::ZERO,
            hypervisor_silent: self.hypervisor_silent,
            full: true,
            vms: self.vms.as_ref()?.values().cloned().collect(),
            watchers: self.watchers.iter().map(|(w, s)| (*w, *s)).collect(),
            legs: self.legs.clone(),
        })
    }
}

/// Returns a report in the detector's words.
pub(crate) fn detector_report(
    manager: ManagerId,
    node: &NodeId,
    hello: &NodeHello,
    report: &NodeReport,
    begun: Moment,
) -> vouch_detector::NodeReport {
    let word = |vm: &VmReport| VmWord {
        vm: vm.vm,
        generation: vm.generation,
        start: vm.start,
        state: vm.state,
        progress: vm.progress,
        operation: vm.operation,
        links_down: vm.links.iter().filter(|(_, up)| !**up).map(|(network, _)| *network).collect::<Vec<Network>>(),
    };
    vouch_detector::NodeReport {
        manager,
        node: node.clone(),
        boot: hello.boot,
        incarnation: hello.incarnation,
        sequence: report.sequence,
        begun,
        hypervisor: if report.hypervisor_silent {
            vouch_detector::ServiceWord::Silent
        } else {
            vouch_detector::ServiceWord::Answering
        },
        full: report.full,
        vms: report.vms.iter().map(word).collect(),
        watchers: report.watchers.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vouch_types::{BootId, Generation, StartId, TickSequence};

    fn hello(incarnation: u64) -> NodeHello {
        NodeHello {
            boot: BootId::new(uuid::Uuid::nil()),
            incarnation: Incarnation::new(incarnation),
            statement_key: [0; 32],
            relay: "127.0.0.1:1".parse().unwrap(),
            rack: None,
            driver: "local".to_owned(),
            hosts_watchers: true,
            network: Network::Management,
        }
    }

    fn report(sequence: u64, full: bool, vms: &[(u128, HypervisorState)]) -> NodeReport {
        let vm = |(id, state): &(u128, HypervisorState)| VmReport {
            operation: None,
            progress: vouch_types::Progress::Unknown,
            vm: VmId::new(uuid::Uuid::from_u128(*id)),
            generation: Generation::new(1),
            start: StartId::new(1),
            state: *state,
            spec: None,
            counters: None,
            links: BTreeMap::new(),
        };
        NodeReport {
            hypervisor_silent: false,
            sequence: Sequence::new(sequence),
            tick: TickSequence::new(1),
            age: std::time::Duration::ZERO,
            full,
            vms: vms.iter().map(vm).collect(),
            watchers: Vec::new(),
            legs: BTreeMap::new(),
        }
    }

    #[test]
    fn changes_are_laid_over_the_last_full_report_and_lower_sequences_are_stale() {
        let (running, stopped) = (HypervisorState::Running, HypervisorState::Stopped);
        let mut words = NodeWords::default();
        let at = Moment::from_micros(5);
        assert_eq!(words.greet(hello(2)), Freshness::New);
        assert_eq!(words.greet(hello(1)), Freshness::Stale);
        assert_eq!(words.take(&report(4, true, &[(1, running), (2, running)]), Some(at), at), Freshness::New);
        assert_eq!(words.take(&report(6, false, &[(2, stopped)]), Some(at), at), Freshness::New);
        assert_eq!(words.take(&report(5, true, &[]), Some(at), at), Freshness::Stale);
        assert_eq!(words.take(&report(6, false, &[]), Some(at), at), Freshness::Again);
        let legs: BTreeMap<_, _> = [(WatcherId::new(1), WatcherLegs::new())].into();
        let told = NodeReport { legs: legs.clone(), ..report(7, false, &[]) };
        assert_eq!(words.take(&told, Some(at), at), Freshness::New);
        assert_eq!(words.merged().unwrap().legs, legs, "handed on with the rest");
        let states: Vec<_> = words.merged().unwrap().vms.iter().map(|vm| vm.state).collect();
        assert_eq!(states, [running, stopped]);
        assert_eq!(words.greet(hello(3)), Freshness::New);
        assert!(!words.is_complete(), "a new life has said nothing yet");
    }
}
