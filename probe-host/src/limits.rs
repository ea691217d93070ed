//! Every limit of a run, by name.

use std::time::Duration;

pub use vouch_types::findings::{FACTS_MAX, FINDING_TEXT_MAX, PHASES_MAX, SAMPLES_MAX};

/// How long after its deadline a run is stopped: a probe answers before the deadline, and its answer needs a moment.
pub const DEADLINE_GRACE: Duration = Duration::from_millis(250);
/// The longest deadline that a run may have.
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);
/// Time for `describe` and `validate`, which wait for nothing.
pub const QUESTION_DEADLINE: Duration = Duration::from_secs(2);
/// How often a running guest is interrupted, to look at its deadline and to let other tasks run.
pub const EPOCH_TICK: Duration = Duration::from_millis(10);
/// How many ticks a run computes before its first interruption: a probe that behaves is never interrupted.
pub const UNDISTURBED_TICKS: u64 = 2;
/// How long an interrupted guest pauses. Not just a yield: a runtime whose tasks are always ready looks at its sockets and
/// timers only now and then, and other runs would wait for theirs.
pub const EPOCH_PAUSE: Duration = Duration::from_millis(1);
/// The most bytes that a guest hands to the host in one call.
pub const HOSTCALL_FUEL: usize = 256 * 1024;
/// The most handles (sockets, streams, pollables) that one run has at a time.
pub const RESOURCES_MAX: usize = 64;
/// The most elements of one table of a guest.
pub const TABLE_ELEMENTS_MAX: usize = 20_000;
/// The most core instances inside one component.
pub const CORE_INSTANCES_MAX: u32 = 10;
/// The most memories inside one component, which share the limit of one: what makes a component of an interpreter may leave
/// an empty one in it.
pub const MEMORIES_MAX: u32 = 2;
/// The most tables inside one component.
pub const TABLES_MAX: u32 = 4;
/// Stack of a guest.
pub const STACK_MAX: usize = 512 * 1024;
/// The most bytes that a run writes to its standard error, kept for the message of a crash.
pub const STDERR_MAX: usize = 2 * 1024;
/// The most log lines of one run.
pub const LOG_LINES_MAX: u32 = 32;
/// The longest log line, in bytes.
pub const LOG_LINE_MAX: usize = 512;
/// The most calls to the host that are told of one run that is traced.
pub const TRACED_CALLS_MAX: u32 = 256;
/// The most transfers over sockets and TLS that are told of it.
pub const TRACED_TRANSFERS_MAX: u32 = 256;
/// The most bytes of a transfer that are shown there.
pub const TRACED_BYTES_MAX: usize = 48;
/// The most echo requests of one run.
pub const ECHOES_MAX: u32 = 32;
/// The shortest pause between two echo requests of a series.
pub const ECHO_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The most questions to the guest agent of one run.
pub const AGENT_QUESTIONS_MAX: u32 = 8;
/// The most bytes of an agent's answer.
pub const AGENT_REPLY_MAX: usize = 64 * 1024;
/// The most phases, samples and facts, each, of one outcome of the first contract.
pub const OUTCOME_ITEMS_MAX: usize = 16;
/// The longest value of a fact, in bytes; in the first contract, of a name or unit too.
pub const OUTCOME_TEXT_MAX: usize = FINDING_TEXT_MAX;
/// The most ports that a probe describes.
pub const DESCRIBED_PORTS_MAX: usize = 16;
/// The most networks that a probe describes: each once.
pub const DESCRIBED_NETWORKS_MAX: usize = 2;
/// The most that a probe tells about itself beyond the rest.
pub const ABOUT_MAX: usize = 16;
/// The longest version of a probe, in bytes.
pub const VERSION_MAX: usize = 32;
/// The shortest and the longest interval that a probe may propose.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// See [`INTERVAL_MIN`].
pub const INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// The shortest timeout that a probe may propose; the longest is [`DEADLINE_MAX`].
pub const TIMEOUT_MIN: Duration = Duration::from_millis(50);
/// The longest schema of settings, in bytes.
pub const SCHEMA_MAX: usize = 16 * 1024;
/// The most handshakes over TCP of one run.
pub const TCP_HANDSHAKES_MAX: u32 = 32;
/// The most TLS connections of one run.
pub const TLS_CONNECTIONS_MAX: u32 = 4;
/// The most exchanges on all TLS connections of one run.
pub const TLS_EXCHANGES_MAX: u32 = 64;
/// The most bytes that one exchange sends.
pub const TLS_SEND_MAX: usize = 16 * 1024;
/// The longest reply of one exchange, and the longest certificate, in bytes.
pub const TLS_REPLY_MAX: usize = 64 * 1024;
/// The longest terminator of a reply, in bytes.
pub const TLS_TERMINATOR_MAX: usize = 16;
/// The most protocols that a handshake offers (ALPN).
pub const TLS_PROTOCOLS_MAX: usize = 8;
/// The longest name of such a protocol, in bytes (RFC 7301).
pub const TLS_PROTOCOL_NAME_MAX: usize = 255;
/// The longest name that a target is told in a handshake (SNI), in bytes: that of a DNS name (RFC 1035).
pub const TLS_SERVER_NAME_MAX: usize = 253;
/// The most names of a certificate.
pub const CERTIFICATE_NAMES_MAX: usize = 32;
/// The longest settings, in bytes.
pub const SETTINGS_MAX: usize = 16 * 1024;
/// The largest component that is compiled, in bytes.
pub const COMPONENT_MAX: usize = 16 * 1024 * 1024;

/// Limits that depend on the machine that runs the probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostLimits {
    /// The most runs at a time; more wait for their turn within their own deadline.
    pub concurrency: u32,
    /// The most memory of one run, in bytes (a multiple of 64 KiB).
    pub memory: usize,
    /// The most memory of all runs together, in bytes, beyond 64 KiB that each has. The runs of one probe have half of it
    /// at most.
    pub memory_of_all: usize,
    /// The most sockets of all runs together, beyond one that each has. The runs of one probe have half of them at most. A
    /// file belongs to each, and one more to each run that has the host connect.
    pub sockets_of_all: usize,
}

impl HostLimits {
    /// Returns how many files all runs together may have open.
    pub const fn files(&self) -> u64 {
        2 * self.concurrency as u64 + self.sockets_of_all as u64
    }
}

impl Default for HostLimits {
    fn default() -> Self {
        Self { concurrency: 512, memory: 16 * 1024 * 1024, memory_of_all: 256 * 1024 * 1024, sockets_of_all: 256 }
    }
}
