//! Every limit of the API, in one place.

use std::time::Duration;

/// The largest body of a request that is no component, in bytes.
pub const BODY_MAX: usize = 64 * 1024;
/// The largest probe component, in bytes.
pub const COMPONENT_MAX: usize = vouch_types::probe::COMPONENT_MAX;
/// The largest description of a probe component, in bytes: its schema, and room for the escapes of JSON.
pub const DESCRIPTION_MAX: usize = 48 * 1024;
/// How long a request may take until its answer begins.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a read waits for the proof that it is current.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a forwarded request may take.
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(8);
/// How many requests are worked on at once.
pub const REQUESTS_MAX: usize = 128;
/// How long a blocking read waits when it does not say.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// The longest that a blocking read waits, beside its jitter; a longer wait is cut to it.
pub const WAIT_MAX: Duration = Duration::from_secs(600);
/// A wait lasts longer by a random part of itself, at most one in so many.
pub const WAIT_JITTER: u32 = 16;
/// How many blocking reads are open at once.
pub const WAITING_MAX: usize = 256;
/// How many backups are made at once: each holds the whole state as bytes.
pub const BACKUPS_MAX: usize = 1;
/// How many event streams are open at once.
pub const STREAMS_MAX: usize = 64;
/// Time between two keep-alives of an event stream.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How many events a stream takes from the state at once.
pub const STREAM_BATCH: usize = 256;
/// How many events wait for a connection that takes them slowly.
pub const STREAM_BUFFER: usize = 1_024;
/// How long a stream may take no event while some wait for it; then it is cut.
pub const STREAM_SLOW: Duration = Duration::from_secs(30);
/// Items on a page when the request does not say.
pub const PAGE_DEFAULT: usize = 100;
/// The most items on a page.
pub const PAGE_MAX: usize = 1_000;
/// How often the listener proves to itself that the local state is current, so that `stale` reads can say how stale.
pub const PROOF_INTERVAL: Duration = Duration::from_millis(500);
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many TLS handshakes may be under way at once.
pub const HANDSHAKES_MAX: usize = 64;
/// The most VMs that an incident names; the others are counted.
pub const INCIDENT_VMS_MAX: usize = 100;
/// The most events of an incident that are shown, the last ones.
pub const INCIDENT_EVENTS_MAX: usize = 200;
