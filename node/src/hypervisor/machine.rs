//! One task per machine: watches its process, talks to its monitor, and publishes what the machine does.
//!
//! ```text
//! Connecting --> Ready --> Waiting --> Connecting ...        (the monitor's socket)
//! ```
//!
//! The end of the process is seen by pidfd and decides at once, whatever the monitor does. A monitor that does not
//! answer within [`MONITOR_TIMEOUT`] makes this machine's state unknown and nobody else's. The task must never kill,
//! stop or resume a machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};
use vouch_types::{ExitReason, HypervisorState};

use super::MONITOR_TIMEOUT;
use super::qmp::{QmpConnection, QmpError, QmpEvent, QmpIdentity, QmpMessage, run_state};
use super::run_dir::MachineId;
use crate::process::ProcessIdentity;

/// How long a guest that resets itself is said to be rebooting.
pub(crate) const REBOOT_SHOWN: Duration = Duration::from_secs(15);
/// How long the last words of a monitor are waited for when its process has ended.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long to wait between two attempts to reach a monitor.
pub(crate) const RECONNECT_AFTER: Duration = Duration::from_millis(100);
/// How often a process is looked at where pidfds do not work.
const EXIT_POLL: Duration = Duration::from_millis(100);

/// What a machine does, as its task last saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachineStatus {
    pub(crate) state: HypervisorState,
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
    pub(crate) vcpu: Option<Duration>,
    pub(crate) steal_per_mille: Option<u32>,
}

impl MachineStatus {
    pub(crate) fn unread() -> Self {
        Self {
            state: HypervisorState::Unknown,
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
    /// By its process alone; a file tells why it ended, if it ended on purpose.
    Process { exit_file: PathBuf },
}

/// What the monitor's events mean for the end of a machine. Pure.
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
            // Also after a panic: the guest starts again.
            QmpEvent::Reset { .. } => (Self::Unannounced, EventEffect::Reboot),
            QmpEvent::Stop | QmpEvent::Resume | QmpEvent::BlockIoError => (self, EventEffect::Read),
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

type Opening = BoxFuture<'static, Result<(QmpConnection, QmpIdentity, Vec<QmpEvent>), QmpError>>;

enum Link {
    Connecting(Opening),
    Ready(Box<QmpConnection>),
    Waiting(Instant),
}

struct Pending {
    status: u64,
    blocks: u64,
    begun: Instant,
}

enum Woken {
    Exit,
    Opened(Result<(QmpConnection, QmpIdentity, Vec<QmpEvent>), QmpError>),
    Message(Result<QmpMessage, QmpError>),
    Reconnect,
    Refresh,
    Overdue,
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
            Monitor::Process { exit_file } => self.run_process(&exit_file).await,
            Monitor::Qmp { socket, uuid } => QmpWatch::new(&self, socket, uuid).run().await,
        };
        self.publish(|s| *s = MachineStatus { ended: true, known: true, state: end, waiting_since: None, ..s.clone() });
        end
    }

    async fn run_process(&self, exit_file: &std::path::Path) -> HypervisorState {
        let exit = exit_of(self.process);
        tokio::pin!(exit);
        loop {
            self.publish(|s| {
                s.known = true;
                s.state = HypervisorState::Running;
                s.read_begun = Instant::now();
            });
            tokio::select! {
                biased;
                () = &mut exit => return end_by_file(exit_file, ExitReason::Process),
                () = self.refresh.notified() => {}
            }
        }
    }

    fn publish(&self, change: impl FnOnce(&mut MachineStatus)) {
        let (mut from, mut to) = (HypervisorState::Unknown, HypervisorState::Unknown);
        let mut was_known = false;
        self.status.send_modify(|status| {
            (from, was_known) = (status.state, status.known);
            change(status);
            to = status.state;
        });
        let known = self.status.borrow().known;
        if known && (from != to || !was_known) {
            info!(machine = %self.id, ?from, ?to, "machine state changed");
            self.changes.send_modify(|c| *c += 1);
        }
    }
}

/// Returns how a machine ended, by the file that it leaves when it ends on purpose.
pub(crate) fn end_by_file(exit_file: &std::path::Path, otherwise: ExitReason) -> HypervisorState {
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

/// The conversation with one QMP monitor.
struct QmpWatch<'a> {
    task: &'a MachineTask,
    socket: PathBuf,
    uuid: Option<String>,
    link: Link,
    pending: Option<Pending>,
    blocks: Option<u64>,
    read_again: bool,
    ending: Ending,
    rebooting_until: Option<Instant>,
    threads: Vec<i32>,
    last_times: Option<(Instant, u64)>,
}

impl<'a> QmpWatch<'a> {
    fn new(task: &'a MachineTask, socket: PathBuf, uuid: Option<String>) -> Self {
        Self {
            task,
            link: Link::Connecting(open(socket.clone())),
            socket,
            uuid,
            pending: None,
            blocks: None,
            read_again: true,
            ending: Ending::default(),
            rebooting_until: None,
            threads: Vec::new(),
            last_times: None,
        }
    }

    async fn run(mut self) -> HypervisorState {
        let exit = exit_of(self.task.process);
        tokio::pin!(exit);
        self.task.publish(|s| s.waiting_since = Some(Instant::now()));
        loop {
            let overdue = self.overdue_at();
            let woken = tokio::select! {
                biased;
                () = &mut exit => Woken::Exit,
                woken = wait_for_link(&mut self.link) => woken,
                () = sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => Woken::Overdue,
                () = self.task.refresh.notified() => Woken::Refresh,
            };
            match woken {
                Woken::Exit => return self.end().await,
                Woken::Opened(Ok((connection, identity, events))) => {
                    if self.uuid.as_ref().is_some_and(|u| !u.eq_ignore_ascii_case(&identity.uuid)) {
                        warn!(machine = %self.task.id, uuid = identity.uuid, "the monitor belongs to another machine");
                        return HypervisorState::Gone(ExitReason::Unknown);
                    }
                    self.threads = identity.vcpu_threads;
                    self.link = Link::Ready(Box::new(connection));
                    events.iter().for_each(|e| self.hear(e));
                    self.read_again = true;
                }
                Woken::Opened(Err(e)) | Woken::Message(Err(e)) => self.disconnect(&e),
                Woken::Message(Ok(message)) => self.take(message),
                Woken::Reconnect => self.link = Link::Connecting(open(self.socket.clone())),
                Woken::Refresh => self.read_again = true,
                Woken::Overdue => self.task.publish(|s| {
                    s.state = HypervisorState::Unknown;
                    s.known = true;
                }),
            }
            if self.read_again && self.pending.is_none() {
                self.read().await;
            }
        }
    }

    fn overdue_at(&self) -> Option<Instant> {
        let status = self.task.status.borrow();
        let told = status.known && status.state == HypervisorState::Unknown;
        status.waiting_since.filter(|_| !told).map(|since| since + MONITOR_TIMEOUT)
    }

    async fn read(&mut self) {
        let Link::Ready(connection) = &mut self.link else { return };
        self.read_again = false;
        let begun = Instant::now();
        let sent = async { Ok((connection.send("query-status").await?, connection.send("query-blockstats").await?)) };
        match timeout(MONITOR_TIMEOUT, sent).await {
            Ok(Ok((status, blocks))) => {
                self.pending = Some(Pending { status, blocks, begun });
                self.blocks = Some(blocks);
                self.task.publish(|s| s.waiting_since = Some(begun));
            }
            Ok(Err(e)) => self.disconnect(&e),
            Err(_) => self.disconnect(&QmpError::Closed),
        }
    }

    fn disconnect(&mut self, error: &QmpError) {
        let now = Instant::now();
        if matches!(self.link, Link::Ready(_)) {
            warn!(machine = %self.task.id, %error, "monitor lost");
        }
        self.pending = None;
        self.read_again = true;
        self.link = Link::Waiting(now + RECONNECT_AFTER);
        self.task.publish(|s| s.waiting_since = s.waiting_since.or(Some(now)));
    }

    fn hear(&mut self, event: &QmpEvent) {
        let (ending, effect) = self.ending.after(event);
        self.ending = ending;
        match effect {
            EventEffect::None => {}
            EventEffect::Read => self.read_again = true,
            EventEffect::Reboot => {
                self.rebooting_until = Some(Instant::now() + REBOOT_SHOWN);
                self.task.publish(|s| s.state = HypervisorState::Rebooting);
            }
        }
        if !matches!(event, QmpEvent::Other(_)) {
            info!(machine = %self.task.id, ?event, "monitor event");
        }
    }

    fn take(&mut self, message: QmpMessage) {
        match message {
            QmpMessage::Event(event) => self.hear(&event),
            QmpMessage::Return { id, value } => {
                if id.is_some() && id == self.pending.as_ref().map(|p| p.status) {
                    self.status_read(value.get("status").and_then(Value::as_str).unwrap_or_default());
                } else if id.is_some() && id == self.blocks {
                    self.task.publish(|s| s.block_operations = Some(block_operations(&value)));
                }
            }
            QmpMessage::Error { id, description } => {
                if id.is_some() && id == self.pending.as_ref().map(|p| p.status) {
                    warn!(machine = %self.task.id, description, "monitor refuses query-status");
                    self.pending = None;
                }
            }
            QmpMessage::Greeting => {}
        }
    }

    fn status_read(&mut self, status: &str) {
        let Some(pending) = self.pending.take() else { return };
        self.blocks = Some(pending.blocks);
        let now = Instant::now();
        let state = match run_state(status) {
            HypervisorState::Running if self.rebooting_until.is_some_and(|until| now < until) => {
                HypervisorState::Rebooting
            }
            other => other,
        };
        let (vcpu, steal_per_mille) = self.vcpu_times(now);
        self.task.publish(|s| {
            s.known = true;
            s.state = state;
            s.read_begun = pending.begun;
            s.waiting_since = None;
            s.monitor = Some(now - pending.begun);
            s.vcpu = vcpu;
            s.steal_per_mille = steal_per_mille.or(s.steal_per_mille);
        });
    }

    fn vcpu_times(&mut self, now: Instant) -> (Option<Duration>, Option<u32>) {
        let times: Option<Vec<(u64, u64)>> = self.threads.iter().map(|t| self.task.process.thread_times(*t)).collect();
        let Some(times) = times.filter(|t| !t.is_empty()) else { return (None, None) };
        let run: u64 = times.iter().map(|t| t.0).sum();
        let wait: u64 = times.iter().map(|t| t.1).sum();
        let steal = self.last_times.and_then(|(at, before)| {
            let passed = (now - at).as_nanos() * times.len() as u128;
            let per_mille = u128::from(wait.saturating_sub(before)) * 1000;
            u32::try_from(per_mille.checked_div(passed)?.min(1000)).ok()
        });
        self.last_times = Some((now, wait));
        (Some(Duration::from_nanos(run)), steal)
    }

    async fn end(mut self) -> HypervisorState {
        // What QEMU said last is still in the socket, and tells a shutdown from a death. A process that went before
        // the connection stood may have said something as well, but nobody will ever hear it.
        if let Link::Ready(connection) = &mut self.link {
            let deadline = Instant::now() + LAST_WORDS;
            let mut ending = self.ending;
            while let Ok(Ok(message)) = tokio::time::timeout_at(deadline, connection.next()).await {
                if let QmpMessage::Event(event) = message {
                    info!(machine = %self.task.id, ?event, "monitor event");
                    ending = ending.after(&event).0;
                }
            }
            self.ending = ending;
        }
        self.ending.state()
    }
}

async fn wait_for_link(link: &mut Link) -> Woken {
    match link {
        Link::Connecting(opening) => Woken::Opened(opening.await),
        Link::Ready(connection) => Woken::Message(connection.next().await),
        Link::Waiting(until) => {
            sleep_until(*until).await;
            Woken::Reconnect
        }
    }
}

fn open(socket: PathBuf) -> Opening {
    // No timeout: a stopped QEMU answers when it goes on, and a second connection would only queue behind the first.
    Box::pin(async move { QmpConnection::open(&socket).await })
}

fn block_operations(stats: &Value) -> u64 {
    let count = |device: &Value, key: &str| device.get("stats").and_then(|s| s.get(key)).and_then(Value::as_u64);
    let devices = stats.as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |d: &Value| count(d, "rd_operations").unwrap_or(0) + count(d, "wr_operations").unwrap_or(0);
    devices.iter().map(of).sum()
}

#[cfg(test)]
mod tests;
