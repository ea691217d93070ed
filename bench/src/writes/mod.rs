//! Durable replicated writes, side by side with etcd: three processes of each on loopback, data folders on the same file
//! system, fsync on in both, one client harness for both, runs in turns.
//!
//! A write of vouch is the command `RecordNode`, handed to the leader as another manager hands one over: gRPC over mutual
//! TLS, Raft, fsync on a quorum, apply, answer. A write of etcd is a put of as many bytes: gRPC over mutual TLS too, and
//! mutual TLS between its members. Both have as many connections, each without Nagle's delay.

pub mod cluster;
pub mod etcd;
mod etcd_tls;
pub mod load;
pub mod vouch;
