//! Looks at the room on this manager's disk, and keeps it from leading, and from being written to, while there is too
//! little.
//!
//! ```text
//! enough --free < least--> low --free >= least + a quarter--> enough
//! ```
//!
//! While it is low, this manager proposes nothing and takes no entries; it hands its leadership to one that has room, if
//! any has, and serves reads. An error inside a write would end the process instead. Runs on every manager.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use vouch_types::ManagerId;

use crate::fleet::Fleet;
use crate::raft::{Consensus, Room};
use crate::seams::FreeSpace;

/// How often the disk is looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// It has to have this part of the watermark more before it counts as enough again.
const SPARE_PART: u64 = 4;

/// The disk of a manager, and how much of it has to be free.
#[derive(Clone)]
pub struct Disk {
    /// Says how much room there is.
    pub space: Arc<dyn FreeSpace>,
    /// The watermark, in bytes.
    pub least_free: u64,
}

/// What the last look found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskReport {
    /// Whether there is room.
    pub room: Room,
    /// Bytes that are free, where the system tells.
    pub free: Option<u64>,
    /// The watermark, in bytes.
    pub least_free: u64,
}

impl DiskReport {
    pub(crate) fn first(disk: &Disk) -> Self {
        Self { room: Room::Enough, free: None, least_free: disk.least_free }
    }

    /// Returns what is found after a look. Where nothing is known, what was known stays.
    fn after(self, free: Option<u64>) -> Self {
        let room = match (free, self.room) {
            (None, room) => room,
            (Some(free), Room::Enough) if free < self.least_free => Room::Low,
            (Some(_), Room::Enough) => Room::Enough,
            (Some(free), Room::Low) if free >= self.least_free + self.least_free / SPARE_PART => Room::Enough,
            (Some(_), Room::Low) => Room::Low,
        };
        Self { room, free, ..self }
    }
}

/// The task; see the module's head.
pub(crate) struct DiskTask {
    pub(crate) own: ManagerId,
    pub(crate) disk: Disk,
    pub(crate) consensus: Consensus,
    pub(crate) fleet: Fleet,
    pub(crate) report: watch::Sender<DiskReport>,
}

impl DiskTask {
    pub(crate) async fn run(self) {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let free = self.disk.space.free().inspect_err(|error| {
                tracing::warn!(manager_id = %self.own, %error, "free space cannot be told");
            });
            let before = *self.report.borrow();
            let now = before.after(free.ok());
            if before.room != now.room {
                self.tell(before.room, now);
                self.consensus.set_room(now.room);
            }
            self.report.send_replace(now);
            if now.room == Room::Low && self.consensus.status().leads() {
                self.hand_over().await;
            }
        }
    }

    fn tell(&self, before: Room, now: DiskReport) {
        let word = |room| if room == Room::Low { "low" } else { "enough" };
        tracing::warn!(
            manager_id = %self.own,
            from = word(before),
            to = word(now.room),
            reason = "free space against storage.free_min_mib",
            free_bytes = now.free,
            least_free_bytes = now.least_free,
            "disk space"
        );
    }

    /// Hands leadership to the manager that has room and is furthest. Where none has, nobody would do better.
    async fn hand_over(&self) {
        let roomy = self.fleet.managers_with_room();
        let Some(to) = self.consensus.heir(|id| roomy.contains(&id)) else { return };
        tracing::warn!(manager_id = %self.own, to = %to, "leadership is handed over: disk space is low");
        if let Err(error) = self.consensus.transfer_leader(to).await {
            tracing::warn!(manager_id = %self.own, %error, "leadership was not handed over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_below_the_watermark_and_enough_only_well_above_it() {
        let mut report = DiskReport { room: Room::Enough, free: None, least_free: 100 };
        for (free, room) in [
            (Some(100), Room::Enough),
            (Some(99), Room::Low),
            (Some(124), Room::Low),
            (None, Room::Low),
            (Some(125), Room::Enough),
            (None, Room::Enough),
            (Some(100), Room::Enough),
        ] {
            report = report.after(free);
            assert_eq!(report.room, room, "{free:?}");
        }
    }
}
