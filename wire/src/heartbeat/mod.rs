//! Heartbeats: small authenticated datagrams by which a manager and a node tell each other that they live, and what
//! they heard of each other. Pure: bytes and moments in, bytes and measures out.
//!
//! TCP hides loss: a stream stalls, and silence of a stream is not silence of its peer. So liveness travels beside the
//! streams, in datagrams that are lost one by one. Their key is agreed over the mutually authenticated stream and is of
//! one stream alone; sequences rise over all streams of a sender's life, so that loss is measured across a stream that
//! breaks.
//!
//! ```text
//!  byte  0       1 version, 1
//!  byte  1       1 role of the sender: 1 manager, 2 node
//!  byte  2       1 flags: bit 0 says that the read age is present; all others are 0
//!  byte  3       1 how many of the other side's newest heartbeats arrived ...
//!  byte  4       1 ... of how many that were expected, at most 64; 0 before the first
//!  byte  5       3 zero
//!  byte  8       8 session: names the agreed key, and with it manager, node and network
//!  byte 16       8 incarnation of the sender
//!  byte 24       8 sequence, from 1, rising within the incarnation
//!  byte 32       8 highest sequence heard from the other side, 0 for none
//!  byte 40       4 age of the node's last read of its hypervisor, in milliseconds; 0 when it is not present
//!  byte 44       4 zero
//!  byte 48      32 HMAC-SHA256 (RFC 2104, FIPS 180-4) of bytes 0 to 47 under the key of the session
//! ```
//!
//! All numbers are big endian. A heartbeat proves that its sender lived when it was sent, and no more: one that was held
//! back on its way still arrives. What bounds its age is the echo: who says that it heard sequence N spoke after N was
//! sent.

mod arrivals;
mod datagram;
mod exchange;

pub use arrivals::{Arrival, Arrivals, LOSS_EXPECTED_MIN, LossCount, OUTAGE_GAP, WINDOW};
pub use datagram::{
    Agreement, HEARTBEAT_LEN, Heartbeat, HeartbeatError, HeartbeatKey, HeartbeatSession, KEY_LEN, Role, session_of,
};
pub use exchange::{Exchange, Measure, SENT_KEPT};
