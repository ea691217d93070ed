//! What a monitor's events mean for the state of its machine while it lives and once its process has ended. Pure.
//!
//! ```text
//! Unannounced --SHUTDOWN--> ShutDown         (the process ends next, or the VM file keeps it)
//!      |  ^                    |
//!      |  +------RESET---------+
//!      |  +------RESET---------+
//!      v  |                    |
//!      GUEST_PANICKED --> Panicked
//! ```
//!
//! A reset begins a reboot, after a panic as well. It is shown for [`REBOOT_SHOWN`] at most, under the same start id:
//! whether the guest came up is for its probes to say, and the managers' boot budget runs on.

use std::time::Duration;

use tokio::time::Instant;
use vouch_types::{ExitReason, HypervisorState};

use super::super::qmp::QmpEvent;

/// How long a guest that was reset is said to be rebooting.
pub(crate) const REBOOT_SHOWN: Duration = Duration::from_secs(15);

/// What the monitor's events mean for the end of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ending {
    /// Nothing was said: if the process ends now, it died.
    #[default]
    Unannounced,
    /// It was shut down, by the guest or an operator.
    ShutDown,
    /// The guest's kernel panicked.
    Panicked,
}

impl Ending {
    /// Returns what an event changes, the start of a reboot included.
    pub(crate) fn after(self, event: &QmpEvent) -> (Self, EventEffect) {
        match event {
            QmpEvent::Shutdown { reason, .. } => (self.after_shutdown(reason), EventEffect::Read),
            QmpEvent::GuestPanicked { .. } => (Self::Panicked, EventEffect::Read),
            // The machine is made what it was when the snapshot was taken; its guest does not boot.
            QmpEvent::Reset { reason, .. } if reason == "snapshot-load" => (Self::Unannounced, EventEffect::Read),
            // Also after a panic: the guest starts again.
            QmpEvent::Reset { .. } => (Self::Unannounced, EventEffect::Reboot),
            QmpEvent::Stop | QmpEvent::Resume | QmpEvent::BlockIoError | QmpEvent::Migration | QmpEvent::JobStatus => {
                (self, EventEffect::Read)
            }
            QmpEvent::Other(_) => (self, EventEffect::None),
        }
    }

    /// Returns what a SHUTDOWN event changes, by its reason (QEMU reference: `ShutdownCause`).
    fn after_shutdown(self, reason: &str) -> Self {
        match (reason, self) {
            ("guest-panic", _) | (_, Self::Panicked) => Self::Panicked,
            // The guest, or whoever speaks to QEMU as its operator. A reset ends the process where the VM file says so.
            (
                "guest-shutdown"
                | "guest-reset"
                | "host-qmp-quit"
                | "host-qmp-system-reset"
                | "host-ui"
                | "subsystem-reset",
                _,
            ) => Self::ShutDown,
            // A signal from outside (`host-signal`) and QEMU giving up (`host-error`) are what nobody asked the VM for,
            // and no reason that is not known proves a stop on purpose. What was announced before holds.
            _ => self,
        }
    }

    /// Returns the state of the machine when its process has ended.
    pub(crate) fn state(self) -> HypervisorState {
        match self {
            Self::Unannounced => HypervisorState::Gone(ExitReason::Process),
            Self::ShutDown => HypervisorState::Stopped,
            Self::Panicked => HypervisorState::Gone(ExitReason::Panic),
        }
    }
}

/// What an event asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventEffect {
    None,
    /// Read the state at once.
    Read,
    /// The guest restarts.
    Reboot,
}

/// What was heard of a guest since its monitor was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GuestLife {
    ending: Ending,
    rebooting_until: Option<Instant>,
}

impl GuestLife {
    /// Takes an event into account, and returns what it asks for.
    pub(crate) fn hear(&mut self, event: &QmpEvent, now: Instant) -> EventEffect {
        let (ending, effect) = self.ending.after(event);
        self.ending = ending;
        if effect == EventEffect::Reboot {
            self.rebooting_until = Some(now + REBOOT_SHOWN);
        }
        effect
    }

    /// Returns the state to show for one that was read.
    pub(crate) fn shown(&self, read: HypervisorState, now: Instant) -> HypervisorState {
        match (read, self.ending) {
            // Where the VM file lets a panicked guest go on (`on_panic = "continue"`), QEMU says that it runs.
            (HypervisorState::Running, Ending::Panicked) => HypervisorState::Panicked,
            (HypervisorState::Running, Ending::Unannounced | Ending::ShutDown)
                if self.rebooting_until.is_some_and(|until| now < until) =>
            {
                HypervisorState::Rebooting
            }
            (read, _) => read,
        }
    }

    /// Returns the state of the machine when its process has ended.
    pub(crate) fn end(&self) -> HypervisorState {
        self.ending.state()
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::PauseReason;

    use super::*;
    use crate::hypervisor::qmp::Initiator;

    fn shutdown(reason: &str) -> QmpEvent {
        QmpEvent::Shutdown { by: Initiator::Guest, reason: reason.into() }
    }

    fn reset(reason: &str) -> QmpEvent {
        QmpEvent::Reset { by: Initiator::Guest, reason: reason.into() }
    }

    fn panicked() -> QmpEvent {
        QmpEvent::GuestPanicked { action: "pause".into() }
    }

    #[test]
    fn the_last_words_of_a_monitor_tell_a_shutdown_from_a_death() {
        for (events, expected) in [
            (vec![], HypervisorState::Gone(ExitReason::Process)),
            (vec![shutdown("guest-shutdown")], HypervisorState::Stopped),
            (vec![shutdown("host-qmp-quit")], HypervisorState::Stopped),
            (vec![shutdown("host-ui")], HypervisorState::Stopped),
            (vec![shutdown("guest-reset")], HypervisorState::Stopped),
            (vec![shutdown("host-signal")], HypervisorState::Gone(ExitReason::Process)),
            (vec![shutdown("a-reason-of-a-later-qemu")], HypervisorState::Gone(ExitReason::Process)),
            (vec![shutdown("guest-shutdown"), shutdown("host-signal")], HypervisorState::Stopped),
            (vec![shutdown("host-error")], HypervisorState::Gone(ExitReason::Process)),
            (vec![panicked(), shutdown("guest-panic")], HypervisorState::Gone(ExitReason::Panic)),
            (vec![panicked(), shutdown("guest-shutdown")], HypervisorState::Gone(ExitReason::Panic)),
            (vec![panicked(), reset("guest-reset")], HypervisorState::Gone(ExitReason::Process)),
        ] {
            let mut life = GuestLife::default();
            for event in &events {
                life.hear(event, Instant::now());
            }
            assert_eq!(life.end(), expected, "{events:?}");
        }
    }

    #[test]
    fn a_reset_is_shown_as_a_reboot_for_a_bounded_time_and_only_while_the_machine_executes() {
        let begun = Instant::now();
        let running = HypervisorState::Running;
        let mut life = GuestLife::default();
        assert_eq!(life.hear(&reset("guest-reset"), begun), EventEffect::Reboot);
        let shown = |after| life.shown(running, begun + after);
        assert_eq!(shown(Duration::ZERO), HypervisorState::Rebooting);
        assert_eq!(shown(REBOOT_SHOWN - Duration::from_millis(1)), HypervisorState::Rebooting);
        assert_eq!(shown(REBOOT_SHOWN), running);
        let paused = HypervisorState::Paused(PauseReason::IoError);
        assert_eq!(life.shown(paused, begun), paused, "a disk that fails in the reboot is not hidden by it");
        let mut loaded = GuestLife::default();
        assert_eq!(loaded.hear(&reset("snapshot-load"), begun), EventEffect::Read);
        assert_eq!(loaded.shown(running, begun), running, "nothing boots when a snapshot is loaded");
    }

    #[test]
    fn a_panicked_guest_that_goes_on_is_panicked_until_it_resets_itself() {
        let now = Instant::now();
        let mut life = GuestLife::default();
        assert_eq!(life.hear(&panicked(), now), EventEffect::Read);
        assert_eq!(life.shown(HypervisorState::Running, now), HypervisorState::Panicked);
        life.hear(&reset("guest-reset"), now);
        assert_eq!(life.shown(HypervisorState::Running, now), HypervisorState::Rebooting);
    }

    #[test]
    fn every_event_that_can_change_a_state_has_it_read_at_once() {
        for event in [
            panicked(),
            shutdown("guest-shutdown"),
            QmpEvent::Stop,
            QmpEvent::Resume,
            QmpEvent::BlockIoError,
            QmpEvent::Migration,
            QmpEvent::JobStatus,
        ] {
            assert_eq!(GuestLife::default().hear(&event, Instant::now()), EventEffect::Read, "{event:?}");
        }
    }
}
