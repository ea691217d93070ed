//! The `rdp` probe: does the target's remote desktop really negotiate?
//!
//! It speaks the first exchange of RDP (X.224 connection request and confirm, MS-RDPBCGR 2.2.1.1 and 2.2.1.2), which
//! needs the service itself and not just the kernel's listening socket: a service that accepts and then stays silent is
//! `wedged`. Where its settings ask for it, the host goes on to the TLS handshake, and the certificate is told; and from
//! there to the challenge of network level authentication (MS-CSSP 2.2.1, MS-NLMP 2.2.1), whose names are told:
//!
//! ```text
//! connect --> negotiate --certificate--> handshake --nla--> challenge
//! ```
//!
//! It never answers the challenge: no login is tried, and none fails.

#![cfg_attr(target_family = "wasm", expect(unsafe_code, reason = "the glue of the component model is generated"))]

mod ber;
mod challenge;
mod credssp;
mod exchange;
#[cfg(target_family = "wasm")]
mod glue;
#[cfg(target_family = "wasm")]
mod handshake;
#[cfg(target_family = "wasm")]
mod nla;
mod ntlm;
mod settings;
mod x224;

pub use ber::BerError;
pub use challenge::{Asked, challenge};
pub use credssp::{ANSWER_MAX, Answer, CredSspError, RefusalCode, answer_length, parse_answer};
pub use exchange::{Finding, Line, Negotiated, is_healthy_refusal, negotiate, plainly, selected};
pub use ntlm::{Challenge, NtlmError, OsVersion, parse_challenge};
pub use settings::{Depth, IdentityFrom, RdpSettings, SCHEMA};
pub use x224::{Confirm, FailureCode, ParseError, Protocol, REQUEST_LEN, parse_confirm, request, tpkt_length};
