//! The links over tonic and mutual TLS: one implementation of the seams in [`crate::links`].
//!
//! A dialled session has a TCP connection of its own. Dropping the session closes that connection at once, so that who
//! hears only silence can dial anew without waiting for TCP to give up; a dead peer shows as a reset at once. The id
//! and role of the caller come from its certificate on every call, never from a message.

mod certificate;
mod dial;
mod forward_stream;
mod io;
mod join;
mod log_names;
mod manager;
mod node;
mod peer;
mod peers;
mod relay;
mod serve;
mod session;
mod status;
mod watcher;

pub use certificate::GrpcCertificateLink;
pub use dial::{DialOptions, Dialler};
pub use join::join;
pub use manager::serve_manager;
pub use node::GrpcNodeLink;
pub use peers::GrpcPeerLinks;
pub use relay::{GrpcRelayLink, serve_relay};
pub use serve::{PeerInfo, ServeError};
pub use watcher::{GrpcWatcherLink, enroll};

use std::time::Duration;

/// The longest message between managers.
pub const PEER_MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// The longest message between all others.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// The longest snapshot of the Raft state.
pub const SNAPSHOT_MAX: usize = 512 * 1024 * 1024;
/// One piece of a snapshot.
pub const SNAPSHOT_CHUNK: usize = 1024 * 1024;
/// The longest probe component.
pub const PROBE_MAX: usize = 16 * 1024 * 1024;
/// One piece of a probe component.
pub const PROBE_CHUNK: usize = 256 * 1024;
/// Streams that one connection may have open.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// TLS handshakes that one server does at a time.
pub const HANDSHAKES_MAX: usize = 256;
/// How long a server waits for a client's handshake.
pub const SERVER_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long TCP may leave data unacknowledged (`TCP_USER_TIMEOUT`).
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle time and interval of TCP keepalive.
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(1);
/// How long a connection may be silent before HTTP/2 asks whether it lives.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_millis(500);
/// How long that may stay unanswered before the connection is closed.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Flow-control window of one stream: how much may be under way unread.
pub const STREAM_WINDOW: u32 = 1024 * 1024;
/// Flow-control window of one connection.
pub const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
