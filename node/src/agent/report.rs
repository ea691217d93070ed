//! Makes reports for one session: the first is full, later ones hold what has changed. Pure.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;
use vouch_types::{Generation, HypervisorState, Network, Operation, Progress, StartId, TickSequence, VmId, VmSpec};
use vouch_wire::convert::VmReport;
use vouch_wire::proto;

use super::snapshot::Snapshot;
use crate::hypervisor::{Counters, LinkState, VmView};

/// How many ticks of a session are remembered: more than come between two reads.
pub(crate) const TICKS_REMEMBERED: usize = 64;

/// The ticks of one manager on one session, with the time at which each came.
#[derive(Debug, Default)]
pub(crate) struct TickHistory {
    ticks: VecDeque<(TickSequence, Instant)>,
}

impl TickHistory {
    pub(crate) fn note(&mut self, tick: TickSequence, now: Instant) {
        if self.ticks.back().is_none_or(|(last, _)| tick > *last) {
            self.ticks.push_back((tick, now));
            if self.ticks.len() > TICKS_REMEMBERED {
                self.ticks.pop_front();
            }
        }
    }

    /// Returns the last tick that had come at `moment`; the one before the first when there was none.
    pub(crate) fn at(&self, moment: Instant) -> TickSequence {
        self.ticks.iter().rev().find(|(_, came)| *came <= moment).map(|(tick, _)| *tick).unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    spec: VmSpec,
    generation: Generation,
    start: StartId,
    state: HypervisorState,
    progress: Progress,
    operation: Option<Operation>,
    links: BTreeMap<Network, bool>,
}

/// What one session's manager has been told.
#[derive(Debug, Default)]
pub(crate) struct ReportBuilder {
    told: BTreeMap<VmId, Told>,
    owe_full: bool,
}

/// What a report says of VMs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReportedVms {
    pub(crate) full: bool,
    pub(crate) vms: Vec<VmReport>,
}

impl ReportBuilder {
    pub(crate) fn new() -> Self {
        Self { told: BTreeMap::new(), owe_full: true }
    }

    /// Makes the next report a full one.
    pub(crate) fn owe_full(&mut self) {
        self.owe_full = true;
    }

    /// Returns what to tell now, and remembers it as told.
    pub(crate) fn next(&mut self, snapshot: &Snapshot, generation: impl Fn(VmId) -> Generation) -> ReportedVms {
        let now: BTreeMap<VmId, (Told, &VmView)> = snapshot
            .view
            .vms
            .iter()
            .map(|vm| {
                let told = Told {
                    spec: vm.spec.clone(),
                    generation: generation(vm.spec.id),
                    start: vm.start,
                    state: vm.state,
                    progress: vm.progress,
                    operation: vm.operation,
                    links: vm.links.iter().map(|(n, l)| (*n, *l == LinkState::Up)).collect(),
                };
                (vm.spec.id, (told, vm))
            })
            .collect();
        // A report of changes can neither describe a VM nor take one away.
        let same_vms = self.told.len() == now.len()
            && now.iter().all(|(id, (told, _))| self.told.get(id).is_some_and(|before| before.spec == told.spec));
        let full = std::mem::take(&mut self.owe_full) || !same_vms;
        let vms = now
            .iter()
            .filter(|(id, (told, _))| full || self.told.get(id) != Some(told))
            .map(|(id, (told, view))| VmReport {
                vm: *id,
                generation: told.generation,
                start: told.start,
                state: told.state,
                spec: full.then(|| told.spec.clone()),
                counters: Some(counters(&view.counters)),
                links: told.links.clone(),
                progress: told.progress,
                operation: told.operation,
            })
            .collect();
        self.told = now.into_iter().map(|(id, (told, _))| (id, told)).collect();
        ReportedVms { full, vms }
    }
}

fn counters(c: &Counters) -> proto::VmCounters {
    let micros = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    proto::VmCounters {
        vcpu_micros: c.vcpu.map(micros),
        // QEMU no longer tells it (query-cpus-fast).
        halted_vcpus: None,
        block_operations: c.block_operations,
        net_rx_packets: c.net_rx_packets,
        net_tx_packets: c.net_tx_packets,
        steal_per_mille: c.steal_per_mille,
        monitor_micros: c.monitor.map(micros),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vouch_types::SortedMap;

    use super::*;
    use crate::hypervisor::{ServiceState, View};

    fn snapshot(states: &[(u128, HypervisorState)]) -> Snapshot {
        let now = Instant::now();
        let vms = states
            .iter()
            .map(|(n, state)| VmView {
                spec: VmSpec {
                    id: VmId::new(uuid::Uuid::from_u128(*n)),
                    name: format!("vm-{n}"),
                    addresses: SortedMap::new(),
                    probes: Vec::new(),
                    labels: SortedMap::new(),
                    datastore: None,
                },
                start: StartId::new(1),
                state: *state,
                progress: Progress::Working,
                operation: None,
                read_begun: now,
                overdue: false,
                counters: Counters::default(),
                links: vec![(Network::Service, LinkState::Up)],
            })
            .collect();
        Snapshot { view: View { vms, watchers: Vec::new() }, service: ServiceState::Answering, read_begun: now }
    }

    #[tokio::test]
    async fn the_first_report_is_full_and_the_next_holds_only_changes() {
        use HypervisorState::{Running, Stopped};
        let mut builder = ReportBuilder::new();
        let first = builder.next(&snapshot(&[(1, Running), (2, Running)]), |_| Generation::new(1));
        assert!(first.full && first.vms.len() == 2 && first.vms[0].spec.is_some());
        let same = builder.next(&snapshot(&[(1, Running), (2, Running)]), |_| Generation::new(1));
        assert!(!same.full && same.vms.is_empty());
        let changed = builder.next(&snapshot(&[(1, Running), (2, Stopped)]), |_| Generation::new(1));
        assert_eq!((changed.full, changed.vms.len(), changed.vms[0].state), (false, 1, Stopped));
        let mut working = snapshot(&[(1, Running), (2, Stopped)]);
        working.view.vms[0].counters.vcpu = Some(Duration::from_secs(9));
        assert!(builder.next(&working, |_| Generation::new(1)).vms.is_empty(), "counters alone are no change");
        working.view.vms[0].progress = Progress::Still;
        working.view.vms[1].operation = Some(Operation::Snapshot);
        let stuck = builder.next(&working, |_| Generation::new(1)).vms;
        assert_eq!((stuck[0].progress, stuck[1].operation), (Progress::Still, Some(Operation::Snapshot)));
        let moved = builder.next(&snapshot(&[(1, Running), (2, Stopped)]), |_| Generation::new(2));
        assert_eq!(moved.vms.len(), 2, "a new generation is a change");
        let removed = builder.next(&snapshot(&[(1, Running)]), |_| Generation::new(2));
        assert!(removed.full, "a VM can only be taken away by a full report");
        builder.owe_full();
        assert!(builder.next(&snapshot(&[(1, Running)]), |_| Generation::new(2)).full);
    }

    #[tokio::test(start_paused = true)]
    async fn the_echoed_tick_is_never_newer_than_the_read() {
        let mut history = TickHistory::default();
        let start = Instant::now();
        for n in 1..=200 {
            history.note(TickSequence::new(n), start + Duration::from_millis(100 * n));
        }
        assert_eq!(history.at(start + Duration::from_millis(19_950)), TickSequence::new(199));
        assert_eq!(history.at(start + Duration::from_millis(20_000)), TickSequence::new(200));
        assert_eq!(history.at(start), TickSequence::new(0), "no tick had come");
    }
}
