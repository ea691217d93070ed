//! The links over real sockets on loopback, with real certificates.

mod fixture;
mod forwards;
mod join;
mod peers;
mod relay;
mod renewal;
mod sessions;
mod trust;
