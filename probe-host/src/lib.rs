//! Runs probes: WASM components that check one target once.
//!
//! ```text
//! component --compile / precompile + load_native--> Probe --validate, run--> RunOutcome or RunFault
//! ```
//!
//! Every run has an instance of its own, with limits on its time, memory, tables, handles and output, and reaches
//! nothing but the addresses of its target on the granted ports, and what the caller lends it ([`Capabilities`]).
//! A run that could not be made is a [`RunFault`], never a `down`.
//!
//! Components of every version of the contract run beside each other (`contract`).
//!
//! This crate decides nothing about a VM, keeps no schedule, and never takes native code that is not in a [`Manifest`].

mod bindings;
mod capabilities;
mod connect;
mod contract;
mod descriptor;
mod engine;
mod granted;
mod guest_agent;
mod host;
mod icmp;
mod icmp_packet;
mod icmp_sockets;
pub mod limits;
mod manifest;
mod memory;
mod outcome;
mod pool;
mod probe;
mod run_state;
mod run_trace;
mod socket_filter;
mod socket_trace;
mod sockets;
mod tcp;
mod ticker;
mod tls;

pub use capabilities::{Capabilities, PortGrant};
pub use contract::ContractVersion;
pub use descriptor::{Beyond, Descriptor};
pub use engine::{EngineError, compilations, engine_config};
pub use granted::{NotGranted, granted_ports};
pub use guest_agent::{GuestAgent, GuestAgentError};
pub use host::{LoadError, ProbeHost};
pub use icmp::{EchoReply, EchoRequest, Icmp, IcmpError};
pub use icmp_sockets::{IcmpSocketKind, IcmpSockets};
pub use limits::HostLimits;
pub use manifest::{Manifest, digest_of};
pub use outcome::{RunFault, RunOutcome};
pub use probe::{Probe, Target};
pub use vouch_types::{AgentQuery, Phase, Sample};
