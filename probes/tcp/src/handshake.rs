//! One handshake with the target: in a guest by the host, in one call; natively by the sockets of the system.

use std::time::Duration;

use probe_kit::{Address, Budget, ConnectError};

/// Connects and hangs up; returns how long it took until the connection stood.
///
/// # Errors
/// [`ConnectError`], by what the failure says of the target.
#[cfg(target_family = "wasm")]
pub(crate) fn handshake(address: &Address, port: u16, budget: &Budget) -> Result<Duration, ConnectError> {
    use probe_glue::vouch::probe::tcp::{self, Error};

    let left = budget.left().ok_or(ConnectError::Timeout)?;
    let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    tcp::handshake(&address.text, port, timeout_ms).map(Duration::from_micros).map_err(|error| match error {
        Error::NotGranted => ConnectError::NotGranted,
        Error::NoRoute(_) => ConnectError::NoRoute,
        Error::Unreachable(_) => ConnectError::Unreachable,
        Error::Refused => ConnectError::Closed,
        Error::Timeout => ConnectError::Timeout,
        Error::OutOfBounds(why) | Error::Other(why) => ConnectError::Other(why),
    })
}

/// See above.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn handshake(address: &Address, port: u16, budget: &Budget) -> Result<Duration, ConnectError> {
    probe_kit::connect(address.ip, port, budget).map(|(_, took)| took)
}
