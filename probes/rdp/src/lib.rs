//! The `rdp` probe: does the target's remote desktop really negotiate?
//!
//! It speaks the first exchange of RDP (X.224 connection request and confirm, MS-RDPBCGR 2.2.1.1 and 2.2.1.2), which
//! needs the service itself and not just the kernel's listening socket: a service that accepts and then stays silent is
//! `wedged`. Where its settings ask for it, the host goes on to the TLS handshake, and the certificate is told. It never starts
//! a login.

#![cfg_attr(target_family = "wasm", expect(unsafe_code, reason = "the glue of the component model is generated"))]

mod exchange;
#[cfg(target_family = "wasm")]
mod glue;
#[cfg(target_family = "wasm")]
mod handshake;
mod settings;
mod x224;

pub use exchange::{Finding, Line, LineError, Negotiated, is_healthy_refusal, is_wedged, negotiate, plainly, selected};
pub use settings::{Depth, RdpSettings, SCHEMA};
pub use x224::{Confirm, FailureCode, ParseError, Protocol, REQUEST_LEN, parse_confirm, request, tpkt_length};
