//! Writes down what a run logs and asks of the host, with the time of each.
//!
//! Lines of the probe come as events of the host's own log, caught by a subscriber that holds for the one run alone, and
//! so do the handshakes and the TLS that it has the host do, and what travels over its sockets. Questions to the network and
//! the agent are taken down by doubles that pass them on.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use vouch_probe_host::{AgentQuery, EchoReply, EchoRequest, GuestAgent, GuestAgentError, Icmp, IcmpError};
use vouch_types::VmId;

use crate::TraceLine;

/// Where the host logs what probes say.
const HOST_TARGET: &str = "vouch_probe_host";
/// Fields of such an event that say who speaks, and not what is said.
const WHO: [&str; 2] = ["probe", "vm_id"];
/// The field that names the interface of a call.
const INTERFACE: &str = "interface";
/// The constant messages of such events.
const SAYS: [&str; 3] = ["probe says", "probe calls", "probe transfers"];

/// What is taken down of one run; cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    begun: Instant,
    lines: Arc<Mutex<Vec<TraceLine>>>,
}

impl Recorder {
    /// Returns a recorder of a run that begins now.
    pub(crate) fn starting_now() -> Self {
        Self { begun: Instant::now(), lines: Arc::default() }
    }

    /// Returns how long the run is going on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Takes down one line. The host limits how many there are: of a run's log, its echoes and its questions.
    fn note(&self, at: Duration, kind: &str, text: String) {
        let line = TraceLine { at, kind: kind.to_owned(), text };
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Returns what was taken down, by its time.
    pub(crate) fn lines(&self) -> Vec<TraceLine> {
        let mut lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        lines.sort_by_key(|line| line.at);
        lines
    }

    /// Returns a subscriber that takes down what the probe logs.
    pub(crate) fn subscriber(&self) -> tracing::Dispatch {
        tracing::Dispatch::new(tracing_subscriber::registry().with(LogLines(self.clone())))
    }
}

struct LogLines(Recorder);

impl<S: Subscriber> Layer<S> for LogLines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if !event.metadata().target().starts_with(HOST_TARGET) {
            return;
        }
        let kind = match *event.metadata().level() {
            Level::TRACE | Level::DEBUG => "debug",
            Level::INFO => "info",
            Level::WARN | Level::ERROR => "warn",
        };
        let mut said = Said::default();
        event.record(&mut said);
        self.0.note(self.0.elapsed(), said.interface.as_deref().unwrap_or(kind), said.words.join(" "));
    }
}

/// The words of an event that are the probe's own, and the interface that it called.
#[derive(Default)]
struct Said {
    words: Vec<String>,
    interface: Option<String>,
}

impl Said {
    fn add(&mut self, field: &Field, value: String) {
        if field.name() == INTERFACE {
            self.interface = Some(value);
        } else if !WHO.contains(&field.name()) && !SAYS.contains(&value.as_str()) {
            self.words.push(value);
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// Passes echo requests on and takes them down.
pub(crate) struct RecordedIcmp {
    pub(crate) inner: Arc<dyn Icmp>,
    pub(crate) recorder: Recorder,
}

#[async_trait::async_trait]
impl Icmp for RecordedIcmp {
    async fn echo(&self, request: EchoRequest) -> Result<Vec<EchoReply>, IcmpError> {
        let (at, asked) = (self.recorder.elapsed(), format!("echo {} x{}", request.address, request.count));
        let answer = self.inner.echo(request).await;
        let said = match &answer {
            Ok(replies) => format!("{} replies", replies.len()),
            Err(error) => error.to_string(),
        };
        let took = self.recorder.elapsed().saturating_sub(at);
        self.recorder.note(at, "icmp", format!("{asked}: {said}, after {took:.1?}"));
        answer
    }
}

/// Passes questions to the guest agent on and takes them down.
pub(crate) struct RecordedAgent {
    pub(crate) inner: Arc<dyn GuestAgent>,
    pub(crate) recorder: Recorder,
}

#[async_trait::async_trait]
impl GuestAgent for RecordedAgent {
    async fn ping(&self, vm: &VmId, timeout: Duration) -> Result<Duration, GuestAgentError> {
        let at = self.recorder.elapsed();
        let answer = self.inner.ping(vm, timeout).await;
        self.note(at, "ping", answer.as_ref().err());
        answer
    }

    async fn query(&self, vm: &VmId, query: AgentQuery, timeout: Duration) -> Result<String, GuestAgentError> {
        let at = self.recorder.elapsed();
        let answer = self.inner.query(vm, query, timeout).await;
        self.note(at, query.as_str(), answer.as_ref().err());
        answer
    }
}

impl RecordedAgent {
    fn note(&self, at: Duration, asked: &str, refused: Option<&GuestAgentError>) {
        let said = refused.map_or_else(|| "answered".to_owned(), ToString::to_string);
        let took = self.recorder.elapsed().saturating_sub(at);
        self.recorder.note(at, "guest-agent", format!("{asked}: {said}, after {took:.1?}"));
    }
}
