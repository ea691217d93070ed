//! How much of its boot budget a guest has left: as it is followed here, and as it is recorded for leaders to come.
//!
//! It is recorded when a boot begins, when it has used up another [`STEPS`]th of its budget, and when it is over. Most
//! guests answer before the first of these steps. A manager that starts in the middle of a boot goes on from what was
//! recorded last: that grants the guest a step more at the most, and never a whole new budget.

use std::time::Duration;

use vouch_types::{BootChange, BootKind, BootRecord, Moment};

use crate::vm_track::{Boot, VmTrack};

/// In how many steps what is left of a budget is recorded.
const STEPS: u32 = 4;
/// The smallest of them, as records are in milliseconds.
const STEP_MIN: Duration = Duration::from_millis(1);

impl VmTrack {
    /// Returns what is left of its boot budget, zero once that is over; `None` while it does not boot.
    pub fn boot_left(&self, now: Moment, budget: Duration) -> Option<Duration> {
        match self.boot {
            Boot::Settled => None,
            Boot::Starting { since, spent } | Boot::Rebooting { since, spent } => {
                Some(budget.saturating_sub(spent.saturating_add(now.since(since))))
            }
        }
    }

    /// Takes the boot that is recorded, unless this detector knows of that start itself, or of a later one.
    pub fn remember_boot(&mut self, now: Moment, budget: Duration) {
        let Some(recorded) = self.entry.boot else { return };
        let knows = self.last_said.is_some_and(|(start, _)| start >= recorded.start);
        if self.boot != Boot::Settled || knows {
            return;
        }
        self.last_said = Some((recorded.start, false));
        let (since, spent) = (now, budget.saturating_sub(recorded.left));
        self.boot = match recorded.kind {
            BootKind::Start => Boot::Starting { since, spent },
            BootKind::Reboot => Boot::Rebooting { since, spent },
        };
    }

    /// Returns what is to be recorded of its boot now, if anything is.
    pub fn boot_change(&self, now: Moment, budget: Duration) -> Option<BootChange> {
        let kind = match self.boot {
            Boot::Settled => None,
            Boot::Starting { .. } => Some(BootKind::Start),
            Boot::Rebooting { .. } => Some(BootKind::Reboot),
        };
        let left = self.boot_left(now, budget);
        let start = self.last_said.map(|(start, _)| start);
        let boot =
            kind.zip(left).zip(start).map(|((kind, left), start)| BootRecord { kind, start, left: whole_millis(left) });
        let is_news = match (&self.entry.boot, &boot) {
            (None, None) => false,
            (Some(known), Some(now)) if known.kind == now.kind && known.start == now.start => {
                let is_over = now.left.is_zero() && !known.left.is_zero();
                is_over || known.left.abs_diff(now.left) >= (budget / STEPS).max(STEP_MIN)
            }
            (Some(_), Some(_)) | (None, Some(_)) | (Some(_), None) => true,
        };
        is_news.then_some(BootChange { vm: self.entry.vm, generation: self.entry.generation, boot })
    }
}

/// What is recorded is in milliseconds: less than one is over.
fn whole_millis(left: Duration) -> Duration {
    Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use vouch_types::{HypervisorState, StartId};

    use super::*;
    use crate::vm_track::tests::{track, word};

    const BUDGET: Duration = Duration::from_secs(120);

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    /// A VM of which everything is recorded as it is proposed.
    fn recorded(vm: &mut VmTrack, now: Moment) -> Option<u64> {
        let change = vm.boot_change(now, BUDGET)?;
        vm.entry.boot = change.boot;
        Some(change.boot.map_or(0, |boot| boot.left.as_secs()))
    }

    fn rebooting() -> VmTrack {
        let mut vm = track();
        vm.hear(word(1, HypervisorState::Running), at(99), at(99));
        vm.hear(word(1, HypervisorState::Rebooting), at(100), at(100));
        vm
    }

    #[test]
    fn what_is_left_is_recorded_at_the_begin_in_four_steps_and_at_the_end() {
        let mut vm = rebooting();
        let changes: Vec<_> = (100..300).filter_map(|second| Some((second, recorded(&mut vm, at(second))?))).collect();
        assert_eq!(changes, [(100, 120), (130, 90), (160, 60), (190, 30), (220, 0)]);
        vm.boot = Boot::Settled;
        assert_eq!(recorded(&mut vm, at(300)), Some(0));
        assert_eq!((vm.entry.boot, recorded(&mut vm, at(301))), (None, None));
    }

    #[test]
    fn a_manager_that_starts_in_the_middle_of_a_boot_goes_on_from_what_is_left() {
        let mut vm = rebooting();
        let steps = (100..=170).filter_map(|second| recorded(&mut vm, at(second))).count();
        assert_eq!(steps, 3);
        // Another process, whose clock has just begun.
        let mut other = VmTrack::new(vm.entry.clone());
        other.remember_boot(at(3), BUDGET);
        assert_eq!(other.boot_left(at(3), BUDGET), Some(Duration::from_secs(60)), "50 s were left in truth");
        assert_eq!(recorded(&mut other, at(3)), None, "that is no news");
        other.hear(word(1, HypervisorState::Rebooting), at(4), at(4));
        assert_eq!(other.boot_left(at(4), BUDGET), Some(Duration::from_secs(59)), "the same boot goes on");
        other.hear(word(2, HypervisorState::Running), at(5), at(5));
        assert_eq!(other.boot, Boot::Starting { since: at(5), spent: Duration::ZERO }, "a new process is a new boot");
    }

    #[test]
    fn a_follower_that_follows_the_vm_itself_keeps_what_it_knows() {
        let mut vm = rebooting();
        let (kind, start) = (BootKind::Start, StartId::new(1));
        vm.entry.boot = Some(BootRecord { kind, start, left: BUDGET / 2 });
        vm.remember_boot(at(110), BUDGET);
        assert_eq!(vm.boot, Boot::Rebooting { since: at(100), spent: Duration::ZERO });
        vm.boot = Boot::Settled;
        vm.remember_boot(at(110), BUDGET);
        assert_eq!(vm.boot, Boot::Settled, "it saw that start answer");
        vm.entry.boot = Some(BootRecord { kind, start: StartId::new(2), left: BUDGET / 2 });
        vm.remember_boot(at(110), BUDGET);
        assert_eq!(vm.boot, Boot::Starting { since: at(110), spent: BUDGET / 2 }, "it has not heard of that start");
    }
}
