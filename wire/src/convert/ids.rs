//! Ids: bytes and numbers of a message to typed ids. Zero is never the number of a manager or watcher.

use std::net::SocketAddr;

use uuid::Uuid;
use vouch_types::{BootId, ClusterId, Digest, LogName, ManagerId, NodeId, ProbeName, VmId, WatcherId};

use super::ConvertError;

fn uuid(field: &'static str, bytes: &[u8]) -> Result<Uuid, ConvertError> {
    Uuid::from_slice(bytes).map_err(|_| ConvertError::new(field, hex::encode(bytes), "must be the 16 bytes of a UUID"))
}

/// Returns the VM of these 16 bytes.
///
/// # Errors
/// [`ConvertError`] when there are not 16.
pub fn vm_id(field: &'static str, bytes: &[u8]) -> Result<VmId, ConvertError> {
    uuid(field, bytes).map(VmId::new)
}

/// Returns the boot of these 16 bytes.
///
/// # Errors
/// [`ConvertError`] when there are not 16.
pub fn boot_id(field: &'static str, bytes: &[u8]) -> Result<BootId, ConvertError> {
    uuid(field, bytes).map(BootId::new)
}

/// Returns the cluster of these 16 bytes.
///
/// # Errors
/// [`ConvertError`] when there are not 16.
pub fn cluster_id(field: &'static str, bytes: &[u8]) -> Result<ClusterId, ConvertError> {
    uuid(field, bytes).map(ClusterId::new)
}

/// Returns the log of these 16 bytes.
///
/// # Errors
/// [`ConvertError`] when there are not 16.
pub fn log_name(field: &'static str, bytes: &[u8]) -> Result<LogName, ConvertError> {
    uuid(field, bytes).map(LogName::new)
}

/// Returns the digest of these 32 bytes.
///
/// # Errors
/// [`ConvertError`] when there are not 32.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, ConvertError> {
    <[u8; 32]>::try_from(bytes)
        .map(Digest::new)
        .map_err(|_| ConvertError::new(field, hex::encode(bytes), "must be the 32 bytes of a SHA-256"))
}

/// Returns the node of this name.
///
/// # Errors
/// [`ConvertError`] when it is not one DNS label.
pub fn node_id(field: &'static str, name: &str) -> Result<NodeId, ConvertError> {
    NodeId::new(name).map_err(|e| ConvertError::new(field, name, e))
}

/// Returns the probe of this name.
///
/// # Errors
/// [`ConvertError`] when it is not one DNS label.
pub fn probe_name(field: &'static str, name: &str) -> Result<ProbeName, ConvertError> {
    ProbeName::new(name).map_err(|e| ConvertError::new(field, name, e))
}

/// Returns the manager of this number.
///
/// # Errors
/// [`ConvertError`] when it is 0.
pub fn manager_id(field: &'static str, number: u64) -> Result<ManagerId, ConvertError> {
    if number == 0 { Err(ConvertError::new(field, number, "must be from 1")) } else { Ok(ManagerId::new(number)) }
}

/// Returns the watcher of this number.
///
/// # Errors
/// [`ConvertError`] when it is 0.
pub fn watcher_id(field: &'static str, number: u64) -> Result<WatcherId, ConvertError> {
    if number == 0 { Err(ConvertError::new(field, number, "must be from 1")) } else { Ok(WatcherId::new(number)) }
}

/// Returns the address and port of this text.
///
/// # Errors
/// [`ConvertError`] when it is not `ip:port`.
pub fn socket_address(field: &'static str, value: &str) -> Result<SocketAddr, ConvertError> {
    value.parse().map_err(|_| ConvertError::new(field, value, "must be ip:port"))
}

/// Returns the VM's 16 bytes.
pub fn vm_bytes(vm: VmId) -> Vec<u8> {
    vm.get().as_bytes().to_vec()
}

/// Returns the boot's 16 bytes.
pub fn boot_bytes(boot: BootId) -> Vec<u8> {
    boot.get().as_bytes().to_vec()
}

/// Returns the log's 16 bytes.
pub fn log_bytes(log: LogName) -> Vec<u8> {
    log.get().as_bytes().to_vec()
}

/// Returns the cluster's 16 bytes.
pub fn cluster_bytes(cluster: ClusterId) -> Vec<u8> {
    cluster.get().as_bytes().to_vec()
}
