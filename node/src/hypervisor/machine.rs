//! One task per machine: watches its process, talks to its monitor, and publishes what the machine does.
//!
//! The end of the process is seen by pidfd and decides at once, whatever the monitor does. A monitor that does not
//! answer within [`super::MONITOR_TIMEOUT`] makes this machine's state unknown and nobody else's. The task must never kill,
//! stop or resume a machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use vouch_types::{ExitReason, HypervisorState, Operation, Progress};

use super::run_dir::MachineId;
use crate::local_word::LocalWord;
use crate::process::ProcessIdentity;
use crate::progress::VcpuTimes;

mod guest_life;
mod qmp_watch;

use qmp_watch::QmpWatch;

/// How often a process is looked at where pidfds do not work.
const EXIT_POLL: Duration = Duration::from_millis(100);

/// What a machine does, as its task last saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachineStatus {
    pub(crate) state: HypervisorState,
    /// An operation on it that is under way.
    pub(crate) operation: Option<Operation>,
    /// Its own word on its progress, where no counters are read.
    pub(crate) progress: Option<Progress>,
    /// Whether anything was read yet; before that the state says nothing.
    pub(crate) known: bool,
    /// Whether the machine's life is over.
    pub(crate) ended: bool,
    /// When the last complete read began.
    pub(crate) read_begun: Instant,
    /// Since when the monitor owes an answer.
    pub(crate) waiting_since: Option<Instant>,
    pub(crate) monitor: Option<Duration>,
    pub(crate) block_operations: Option<u64>,
    pub(crate) vcpu: Option<VcpuTimes>,
    pub(crate) steal_per_mille: Option<u32>,
}

impl MachineStatus {
    pub(crate) fn unread() -> Self {
        Self {
            state: HypervisorState::Unknown,
            operation: None,
            progress: None,
            known: false,
            ended: false,
            read_begun: Instant::now(),
            waiting_since: None,
            monitor: None,
            block_operations: None,
            vcpu: None,
            steal_per_mille: None,
        }
    }

    pub(crate) fn ended(state: HypervisorState) -> Self {
        Self { state, known: true, ended: true, ..Self::unread() }
    }
}

/// How the state of a machine is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// By QMP; the machine's UUID must be this one, if one is given.
    Qmp { socket: PathBuf, uuid: Option<String> },
    /// By its process; one file tells what it does, and one why it ended, if it ended on purpose.
    Process { word_file: PathBuf, exit_file: PathBuf },
}

/// The task of one machine.
pub(crate) struct MachineTask {
    pub(crate) id: MachineId,
    pub(crate) process: ProcessIdentity,
    pub(crate) monitor: Monitor,
    pub(crate) status: watch::Sender<MachineStatus>,
    pub(crate) refresh: Arc<Notify>,
    pub(crate) changes: Arc<watch::Sender<u64>>,
}

impl MachineTask {
    /// Runs until the process has ended, and returns the state that it ended in.
    pub(crate) async fn run(self) -> HypervisorState {
        let end = match self.monitor.clone() {
            Monitor::Process { word_file, exit_file } => self.run_process(&word_file, &exit_file).await,
            Monitor::Qmp { socket, uuid } => QmpWatch::new(&self, socket, uuid).run().await,
        };
        self.publish(|s| {
            *s = MachineStatus {
                ended: true,
                known: true,
                state: end,
                operation: None,
                progress: None,
                waiting_since: None,
                ..s.clone()
            };
        });
        end
    }

    async fn run_process(&self, word_file: &Path, exit_file: &Path) -> HypervisorState {
        let exit = exit_of(self.process);
        tokio::pin!(exit);
        loop {
            let read_begun = Instant::now();
            let word = LocalWord::read(word_file);
            self.publish(|s| {
                s.known = true;
                s.state = word.state;
                s.operation = word.operation;
                s.progress = Some(word.progress);
                s.read_begun = read_begun;
            });
            tokio::select! {
                biased;
                () = &mut exit => return end_by_file(exit_file, ExitReason::Process),
                () = self.refresh.notified() => {}
            }
        }
    }

    fn publish(&self, change: impl FnOnce(&mut MachineStatus)) {
        let mut before = None;
        self.status.send_modify(|status| {
            before = status.known.then_some((status.state, status.operation));
            change(status);
        });
        let (known, state, operation) = {
            let status = self.status.borrow();
            (status.known, status.state, status.operation)
        };
        if known && before != Some((state, operation)) {
            let from = before.map_or(HypervisorState::Unknown, |(state, _)| state);
            info!(machine = %self.id, ?from, to = ?state, ?operation, "machine state changed");
            self.changes.send_modify(|c| *c += 1);
        }
    }
}

/// Returns how a machine ended, by the file that it leaves when it ends on purpose.
pub(crate) fn end_by_file(exit_file: &Path, otherwise: ExitReason) -> HypervisorState {
    match std::fs::read_to_string(exit_file).as_deref().map(str::trim) {
        Ok("stopped") => HypervisorState::Stopped,
        Ok("panicked") => HypervisorState::Gone(ExitReason::Panic),
        Ok(_) | Err(_) => HypervisorState::Gone(otherwise),
    }
}

async fn exit_of(process: ProcessIdentity) {
    if let Err(e) = process.exited().await {
        warn!(pid = process.pid, error = %e, "no pidfd for a process, polling it");
        while process.is_alive() {
            sleep(EXIT_POLL).await;
        }
    }
}

#[cfg(test)]
mod tests;
