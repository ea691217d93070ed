//! The `rdp` probe: does the target's remote desktop really negotiate?
//!
//! It speaks the first exchange of RDP (X.224 connection request and confirm, MS-RDPBCGR 2.2.1.1 and 2.2.1.2), which
//! needs the service itself and not just the kernel's listening socket: a service that accepts and then stays silent is
//! `wedged`. It never starts a login.

#![cfg_attr(target_family = "wasm", expect(unsafe_code, reason = "the glue of the component model is generated"))]

mod exchange;
#[cfg(target_family = "wasm")]
mod glue;
mod settings;
mod x224;

pub use exchange::{Finding, Negotiated, is_healthy_refusal, negotiate, selected};
pub use settings::RdpSettings;
pub use x224::{Confirm, FailureCode, ParseError, Protocol, REQUEST_LEN, parse_confirm, request, tpkt_length};
