//! The import `tcp`: handshakes with ports of the target, made and timed by the host.
//!
//! It reaches what sockets reach, by the same filter.

use std::time::Instant;

use crate::bindings::v1::vouch::probe::tcp;
use crate::connect::{NotConnected, connect};
use crate::limits::TCP_HANDSHAKES_MAX;
use crate::outcome::micros;
use crate::run_state::RunState;

impl tcp::Host for RunState {
    async fn handshake(&mut self, address: String, port: u16, timeout_ms: u32) -> Result<u64, tcp::Error> {
        let address = self.reachable(&address, port).ok_or(tcp::Error::NotGranted)?;
        let Some(left) = self.handshakes_left.checked_sub(1) else {
            return Err(tcp::Error::OutOfBounds(format!("more than {TCP_HANDSHAKES_MAX} handshakes in one run")));
        };
        self.handshakes_left = left;
        let begun = Instant::now();
        let connected = connect(address, self.within_run(timeout_ms)).await;
        let took = begun.elapsed();
        self.note_call("tcp", begun, || match &connected {
            Ok(_) => format!("handshake with {address}: connected"),
            Err(error) => format!("handshake with {address}: {error:?}"),
        });
        connected.map(|_hung_up| micros(took)).map_err(Into::into)
    }
}

impl From<NotConnected> for tcp::Error {
    fn from(error: NotConnected) -> Self {
        match error {
            NotConnected::NoRoute(why) => Self::NoRoute(why),
            NotConnected::Unreachable(why) => Self::Unreachable(why),
            NotConnected::Refused => Self::Refused,
            NotConnected::Timeout => Self::Timeout,
            NotConnected::Other(why) => Self::Other(why),
        }
    }
}
