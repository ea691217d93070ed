//! The conversation with one QMP monitor.
//!
//! ```text
//! Connecting --> Ready --> Waiting --> Connecting ...        (the monitor's socket)
//! ```
//!
//! One read is a handful of questions that are sent together; it is complete when the last one is answered, in order
//! (QEMU answers so). An old QEMU that does not know one of them answers with an error, and the rest still counts.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};
use vouch_types::{ExitReason, HypervisorState};

use super::super::MONITOR_TIMEOUT;
use super::super::qmp::{QmpConnection, QmpError, QmpEvent, QmpIdentity, QmpMessage};
use super::super::run_state::{operation, run_state};
use super::guest_life::{EventEffect, GuestLife};
use super::{MachineTask, exit_of};
use crate::progress::VcpuTimes;

/// How long the last words of a monitor are waited for when its process has ended.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long to wait between two attempts to reach a monitor.
pub(crate) const RECONNECT_AFTER: Duration = Duration::from_millis(100);
/// What one read asks, in order.
const QUESTIONS: [&str; 4] = ["query-blockstats", "query-migrate", "query-jobs", "query-status"];

type Opened = Result<(QmpConnection, QmpIdentity, Vec<QmpEvent>), QmpError>;

enum Link {
    Connecting(BoxFuture<'static, Opened>),
    Ready(Box<QmpConnection>),
    Waiting(Instant),
}

/// A read that is under way: the ids of its questions, and the answers so far.
struct Pending {
    begun: Instant,
    ids: [u64; QUESTIONS.len()],
    answers: [Value; QUESTIONS.len()],
}

enum Woken {
    Exit,
    Opened(Opened),
    Message(Result<QmpMessage, QmpError>),
    Reconnect,
    Refresh,
    Overdue,
}

pub(super) struct QmpWatch<'a> {
    task: &'a MachineTask,
    socket: PathBuf,
    uuid: Option<String>,
    link: Link,
    pending: Option<Pending>,
    read_again: bool,
    life: GuestLife,
    threads: Vec<i32>,
    last_times: Option<(Instant, VcpuTimes)>,
}

impl<'a> QmpWatch<'a> {
    pub(super) fn new(task: &'a MachineTask, socket: PathBuf, uuid: Option<String>) -> Self {
        Self {
            task,
            link: Link::Connecting(open(socket.clone())),
            socket,
            uuid,
            pending: None,
            read_again: true,
            life: GuestLife::default(),
            threads: Vec::new(),
            last_times: None,
        }
    }

    pub(super) async fn run(mut self) -> HypervisorState {
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
                    s.operation = None;
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
        let sent = async {
            let mut ids = [0; QUESTIONS.len()];
            for (id, question) in ids.iter_mut().zip(QUESTIONS) {
                *id = connection.send(question).await?;
            }
            Ok(ids)
        };
        match timeout(MONITOR_TIMEOUT, sent).await {
            Ok(Ok(ids)) => {
                self.pending = Some(Pending { begun, ids, answers: Default::default() });
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
        match self.life.hear(event, Instant::now()) {
            EventEffect::None => {}
            EventEffect::Read => self.read_again = true,
            EventEffect::Reboot => {
                // What is being read may be from before the reset.
                self.read_again = true;
                self.task.publish(|s| s.state = HypervisorState::Rebooting);
            }
        }
        if !matches!(event, QmpEvent::Other(_)) {
            info!(machine = %self.task.id, ?event, "monitor event");
        }
    }

    fn take(&mut self, message: QmpMessage) {
        let (id, answer) = match message {
            QmpMessage::Event(event) => return self.hear(&event),
            QmpMessage::Return { id, value } => (id, value),
            QmpMessage::Error { id, description } => {
                tracing::debug!(machine = %self.task.id, description, "monitor refuses a question");
                (id, Value::Null)
            }
            QmpMessage::Greeting => return,
        };
        let Some(pending) = &mut self.pending else { return };
        let Some(question) = pending.ids.iter().position(|asked| Some(*asked) == id) else { return };
        pending.answers[question] = answer;
        if question + 1 == QUESTIONS.len()
            && let Some(pending) = self.pending.take()
        {
            self.complete(&pending);
        }
    }

    fn complete(&mut self, read: &Pending) {
        let [blocks, migration, jobs, status] = &read.answers;
        let Some(status) = status.get("status").and_then(Value::as_str) else {
            warn!(machine = %self.task.id, "monitor refuses query-status");
            return;
        };
        let now = Instant::now();
        let vcpu = self.vcpu_times();
        let steal_per_mille = self.steal(now, vcpu);
        self.task.publish(|s| {
            s.known = true;
            s.state = self.life.shown(run_state(status), now);
            s.operation = operation(status, migration, jobs);
            s.read_begun = read.begun;
            s.waiting_since = None;
            s.monitor = Some(now - read.begun);
            s.block_operations = block_operations(blocks).or(s.block_operations);
            s.vcpu = vcpu;
            s.steal_per_mille = steal_per_mille.or(s.steal_per_mille);
        });
    }

    fn vcpu_times(&self) -> Option<VcpuTimes> {
        let mut all = VcpuTimes::default();
        for thread in &self.threads {
            let (ran, waited) = self.task.process.thread_times(*thread)?;
            all.ran += Duration::from_nanos(ran);
            all.waited += Duration::from_nanos(waited);
            all.threads += 1;
        }
        (all.threads > 0).then_some(all)
    }

    /// Returns for how much of the time since the last read the vCPUs waited for a CPU.
    fn steal(&mut self, now: Instant, times: Option<VcpuTimes>) -> Option<u32> {
        let times = times?;
        let (at, before) = self.last_times.replace((now, times))?;
        let passed = ((now - at) * times.threads).as_nanos();
        let per_mille = times.waited.saturating_sub(before.waited).as_nanos() * 1000;
        u32::try_from(per_mille.checked_div(passed)?.min(1000)).ok()
    }

    async fn end(mut self) -> HypervisorState {
        // What QEMU said last is still in the socket, and tells a shutdown from a death. A process that went before
        // the connection stood may have said something as well, but nobody will ever hear it.
        if let Link::Ready(connection) = &mut self.link {
            let deadline = Instant::now() + LAST_WORDS;
            while let Ok(Ok(message)) = tokio::time::timeout_at(deadline, connection.next()).await {
                if let QmpMessage::Event(event) = message {
                    info!(machine = %self.task.id, ?event, "monitor event");
                    self.life.hear(&event, Instant::now());
                }
            }
        }
        self.life.end()
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

fn open(socket: PathBuf) -> BoxFuture<'static, Opened> {
    // No timeout: a stopped QEMU answers when it goes on, and a second connection would only queue behind the first.
    Box::pin(async move { QmpConnection::open(&socket).await })
}

/// Returns the operations of all devices together; `None` when the answer is no list.
fn block_operations(stats: &Value) -> Option<u64> {
    let count = |device: &Value, key: &str| device.get("stats").and_then(|s| s.get(key)).and_then(Value::as_u64);
    let of = |d: &Value| count(d, "rd_operations").unwrap_or(0) + count(d, "wr_operations").unwrap_or(0);
    Some(stats.as_array()?.iter().map(of).sum())
}
