//! What the parts of vouch say to each other: gRPC contracts, their conversions, and the seams between parts.
//!
//! The links are traits at message level ([`links`]), so that a simulator can carry the same messages under virtual
//! time; tonic over mutual TLS is one implementation of them. Nothing here decides anything.

#[expect(
    clippy::all,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    missing_docs,
    reason = "generated from proto/ by tonic-prost-build"
)]
pub mod proto {
    //! Generated messages and services of package `vouch.v1`.
    tonic::include_proto!("vouch.v1");
}

pub mod causes;
pub mod convert;
pub mod files;
pub mod grpc;
pub mod heartbeat;
pub mod links;
pub mod pki;
pub mod probe_signature;
pub mod renewal;
pub mod sign;
pub mod udp;
