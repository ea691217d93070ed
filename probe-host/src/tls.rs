//! The import `tls`: connections to the target on which the host does TLS.
//!
//! It reaches what sockets reach, by the same filter. No certificate is refused (`witness`): the probe judges, the host
//! measures. It never trusts a name or a length of the guest: each is held against its limit first.

mod certificate;
mod connection;
mod reply_end;
mod witness;

use std::time::Instant;

use wasmtime::component::Resource;

pub use connection::Connection;

use crate::bindings::v1::vouch::probe::tls;
use crate::limits::{
    TLS_CONNECTIONS_MAX, TLS_EXCHANGES_MAX, TLS_PROTOCOL_NAME_MAX, TLS_PROTOCOLS_MAX, TLS_REPLY_MAX, TLS_SEND_MAX,
    TLS_SERVER_NAME_MAX,
};
use crate::run_state::RunState;
use reply_end::ReplyEnd;

type Answer<T> = wasmtime::Result<Result<T, tls::Error>>;

impl tls::Host for RunState {}

impl tls::HostConnection for RunState {
    async fn connect(&mut self, address: String, port: u16, timeout_ms: u32) -> Answer<Resource<Connection>> {
        let Some(address) = self.reachable(&address, port) else { return Ok(Err(tls::Error::NotGranted)) };
        let Some(left) = self.tls_left.connections.checked_sub(1) else {
            let text = format!("more than {TLS_CONNECTIONS_MAX} connections in one run");
            return Ok(Err(tls::Error::OutOfBounds(text)));
        };
        self.tls_left.connections = left;
        if !self.open_sockets.open() {
            return Ok(Err(tls::Error::OutOfBounds("no socket is left for one more connection".to_owned())));
        }
        let begun = Instant::now();
        let opened = Connection::open(address, self.within_run(timeout_ms)).await;
        self.note_call("tls", begun, || format!("connect {address}: {}", came_to(&opened, |_| "connected".to_owned())));
        match opened {
            Ok(connection) => Ok(Ok(self.table.push(connection)?)),
            Err(error) => {
                self.open_sockets.close();
                Ok(Err(error))
            }
        }
    }

    async fn exchange(
        &mut self,
        connection: Resource<Connection>,
        send: Vec<u8>,
        reply: tls::ReplyEnd,
        timeout_ms: u32,
    ) -> Answer<Vec<u8>> {
        let end = match reply {
            tls::ReplyEnd::None => ReplyEnd::None,
            tls::ReplyEnd::Any => ReplyEnd::Any,
            tls::ReplyEnd::Bytes(bytes) => ReplyEnd::Bytes(usize::try_from(bytes).unwrap_or(usize::MAX)),
            tls::ReplyEnd::Terminator(bytes) => ReplyEnd::Terminator(bytes),
            tls::ReplyEnd::End => ReplyEnd::End,
        };
        let too_long = || format!("{} bytes to send: at most {TLS_SEND_MAX} are taken", send.len());
        if let Some(rule) = end.broken_rule().or_else(|| (send.len() > TLS_SEND_MAX).then(too_long)) {
            return Ok(Err(tls::Error::OutOfBounds(rule)));
        }
        let Some(left) = self.tls_left.exchanges.checked_sub(1) else {
            let text = format!("more than {TLS_EXCHANGES_MAX} exchanges in one run");
            return Ok(Err(tls::Error::OutOfBounds(text)));
        };
        self.tls_left.exchanges = left;
        let (within, begun) = (self.within_run(timeout_ms), Instant::now());
        if let Some(trace) = self.trace.as_ref().filter(|_| !send.is_empty()) {
            trace.transfer("tls", format!("to send: {} bytes", send.len()), &send);
        }
        let exchanged = self.table.get_mut(&connection)?.exchange(&send, &end, within).await;
        self.note_call("tls", begun, || {
            let heard = came_to(&exchanged, |reply| format!("{} bytes came", reply.len()));
            format!("exchange of {} bytes: {heard}", send.len())
        });
        if let (Some(trace), Ok(reply)) = (&self.trace, &exchanged)
            && !reply.is_empty()
        {
            trace.transfer("tls", format!("received {} bytes", reply.len()), reply);
        }
        Ok(exchanged)
    }

    async fn handshake(
        &mut self,
        connection: Resource<Connection>,
        server_name: Option<String>,
        alpn: Vec<String>,
        timeout_ms: u32,
    ) -> Answer<tls::Session> {
        if alpn.len() > TLS_PROTOCOLS_MAX {
            let text = format!("alpn has {} protocols: at most {TLS_PROTOCOLS_MAX} are offered", alpn.len());
            return Ok(Err(tls::Error::OutOfBounds(text)));
        }
        if alpn.iter().any(|name| !(1..=TLS_PROTOCOL_NAME_MAX).contains(&name.len())) {
            let text = format!("alpn: a protocol's name must have 1 to {TLS_PROTOCOL_NAME_MAX} bytes");
            return Ok(Err(tls::Error::OutOfBounds(text)));
        }
        if let Some(length) = server_name.as_ref().map(String::len).filter(|length| *length > TLS_SERVER_NAME_MAX) {
            let text = format!("server-name has {length} bytes: at most {TLS_SERVER_NAME_MAX} are told");
            return Ok(Err(tls::Error::OutOfBounds(text)));
        }
        let (within, begun) = (self.within_run(timeout_ms), Instant::now());
        let alpn = alpn.into_iter().map(String::into_bytes).collect();
        let done = self.table.get_mut(&connection)?.handshake(server_name, alpn, within).await;
        self.note_call("tls", begun, || {
            let session = came_to(&done, |session| format!("{}, {}", session.version, session.cipher));
            format!("handshake: {session}")
        });
        Ok(done)
    }

    fn certificate(&mut self, connection: Resource<Connection>) -> Answer<tls::Certificate> {
        Ok(match self.table.get(&connection)?.certificates().next() {
            Some(der) => certificate::read(der).map_err(tls::Error::Other),
            None => Err(tls::Error::Other("there was no handshake".to_owned())),
        })
    }

    fn certificate_der(&mut self, connection: Resource<Connection>, index: u32) -> Answer<Vec<u8>> {
        let shown = usize::try_from(index).unwrap_or(usize::MAX);
        Ok(match self.table.get(&connection)?.certificates().nth(shown) {
            Some(der) if der.len() > TLS_REPLY_MAX => {
                let text = format!("certificate {index} has {} bytes: at most {TLS_REPLY_MAX} are given", der.len());
                Err(tls::Error::OutOfBounds(text))
            }
            Some(der) => Ok(der.to_vec()),
            None => Err(tls::Error::OutOfBounds(format!("certificate {index}: the target did not show it"))),
        })
    }

    fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?.close();
        self.open_sockets.close();
        Ok(())
    }
}

/// Returns what a call came to, for the trace of a run.
fn came_to<T>(result: &Result<T, tls::Error>, done: impl FnOnce(&T) -> String) -> String {
    result.as_ref().map_or_else(|error| format!("{error:?}"), done)
}
