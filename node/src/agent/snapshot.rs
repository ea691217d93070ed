//! Reads the hypervisor on the reporting beat and on every change, and publishes what it saw with the time at which
//! the oldest read in it began: a report must never look fresher than it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Shared;
use crate::hypervisor::{Hypervisor, ServiceState, View};

/// How long all VMs together may take to be read on the beat; slower ones are told as they were last seen.
pub(crate) const READ_BUDGET: Duration = Duration::from_millis(250);

/// What the hypervisor saw, and when.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) view: View,
    pub(crate) service: ServiceState,
    /// When the oldest read in it began, reads that are overdue left aside: their VMs are told as last seen until
    /// their monitor is given up.
    pub(crate) read_begun: Instant,
}

impl Snapshot {
    pub(crate) fn take(hypervisor: &dyn Hypervisor) -> Self {
        let begun = Instant::now();
        let view = hypervisor.view();
        let reads = view.vms.iter().filter(|vm| !vm.overdue).map(|vm| vm.read_begun);
        let read_begun = reads.fold(begun, Instant::min);
        Self { service: hypervisor.service(), view, read_begun }
    }
}

pub(crate) struct SnapshotTask {
    shared: Arc<Shared>,
}

impl SnapshotTask {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) async fn run(self) {
        let shared = &self.shared;
        let mut changes = shared.hypervisor.changes();
        let mut timing = shared.timing.subscribe();
        let mut beat = interval(timing.borrow_and_update().report_interval);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // The hypervisor outlives the agent; were it gone, the beat would still tell what it last saw.
                Ok(()) = changes.changed() => self.publish(),
                Ok(()) = timing.changed() => {
                    beat = interval(timing.borrow_and_update().report_interval);
                    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                }
                () = shared.read_now.notified() => self.read(&mut changes).await,
                _ = beat.tick() => self.read(&mut changes).await,
            }
        }
    }

    /// Reads anew; a change meanwhile is told at once and not after the slowest monitor.
    async fn read(&self, changes: &mut tokio::sync::watch::Receiver<u64>) {
        let begun = Instant::now();
        let refresh = self.shared.hypervisor.refresh(READ_BUDGET);
        tokio::pin!(refresh);
        loop {
            tokio::select! {
                biased;
                () = &mut refresh => break,
                Ok(()) = changes.changed() => self.publish(),
            }
        }
        self.shared.last_read.send_replace(Some(begun));
        self.publish();
    }

    fn publish(&self) {
        self.shared.snapshots.send_replace(Arc::new(Snapshot::take(&*self.shared.hypervisor)));
    }
}
