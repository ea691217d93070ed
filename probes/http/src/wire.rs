//! The way through the host's `tls` import, in plain text or inside TLS, and the check as a whole.
//!
//! One way for both keeps sockets out of the component: it imports what the host narrows and measures, and nothing else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use probe_glue::vouch::probe::tls::{self, Connection, ReplyEnd};
use probe_kit::{Address, Budget, ConnectError, Fault, Interruption, Outcome, State, not_connected};

use crate::body::Want;
use crate::exchange::{Finding, Wire, fetch};
use crate::judge::{Certificate, Shown, judge};
use crate::request::request;
use crate::settings::{HttpSettings, Scheme};

impl Wire for Connection {
    fn exchange(&mut self, send: &[u8], want: Want, budget: &Budget) -> Result<Vec<u8>, Interruption> {
        let end = match want {
            Want::Some => ReplyEnd::Any,
            Want::Exactly(count) => ReplyEnd::Bytes(u32::try_from(count).unwrap_or(u32::MAX)),
        };
        let within = left_ms(budget).ok_or(Interruption::Silent)?;
        Connection::exchange(self, send, &end, within).map_err(interruption)
    }

    fn kept(&mut self) -> Vec<u8> {
        // What the host has is given at once; there is nothing to wait for.
        Connection::exchange(self, &[], &ReplyEnd::Any, 1).unwrap_or_default()
    }
}

/// Checks the service once.
///
/// # Errors
/// [`Fault`], when the check says nothing of it.
pub(crate) fn run(address: &Address, settings: &HttpSettings, budget: &Budget) -> Result<Outcome, Fault> {
    let port = settings.port;
    let (mut connection, connected) = match connect(&address.text, port, budget) {
        Ok(connected) => connected,
        Err(error) => return not_connected(address.ip, port, error),
    };
    let mut phases = vec![("connect", connected)];
    let shown = match settings.scheme {
        Scheme::Http => None,
        Scheme::Https(_) => match handshake(&connection, settings, budget) {
            Ok((shown, took)) => {
                phases.push(("handshake", took));
                Some(shown)
            }
            Err((error, waited)) => return no_handshake(error, waited, port, budget),
        },
    };
    let finding = fetch(&mut connection, &request(address.ip, settings), settings, budget);
    let mut outcome = judge(&finding, shown.as_ref(), settings, now(), budget)?;
    if matches!(finding, Finding::Answered(_)) {
        outcome.phases.splice(0..0, phases);
    }
    Ok(outcome)
}

fn connect(address: &str, port: u16, budget: &Budget) -> Result<(Connection, Duration), ConnectError> {
    let within = left_ms(budget).ok_or(ConnectError::Timeout)?;
    let begun = Instant::now();
    let connected = Connection::connect(address, port, within);
    let took = begun.elapsed();
    connected.map(|connection| (connection, took)).map_err(|error| match error {
        tls::Error::NotGranted => ConnectError::NotGranted,
        tls::Error::NoRoute(_) => ConnectError::NoRoute,
        tls::Error::Unreachable(_) => ConnectError::Unreachable,
        tls::Error::Refused | tls::Error::Closed => ConnectError::Closed,
        tls::Error::Timeout => ConnectError::Timeout,
        tls::Error::Handshake(why) | tls::Error::OutOfBounds(why) | tls::Error::Other(why) => ConnectError::Other(why),
    })
}

fn handshake(
    connection: &Connection,
    settings: &HttpSettings,
    budget: &Budget,
) -> Result<(Shown, Duration), (tls::Error, Duration)> {
    let within = left_ms(budget).ok_or((tls::Error::Timeout, Duration::ZERO))?;
    let begun = Instant::now();
    let name = settings.server_name();
    let done = connection.handshake(name.as_deref(), &["http/1.1".to_owned()], within);
    let took = begun.elapsed();
    let session = done.map_err(|error| (error, took))?;
    let certificate = connection.certificate().map_err(|error| format!("{error:?}"));
    let certificate = certificate.map(|shown| Certificate {
        sha256: shown.sha256,
        subject: shown.subject,
        issuer: shown.issuer,
        names: shown.names,
        not_after: shown.not_after,
    });
    Ok((Shown { version: session.version, key_proved: session.key_proved, certificate }, took))
}

/// Says what a handshake that failed means: nothing of the service has answered before.
fn no_handshake(error: tls::Error, waited: Duration, port: u16, budget: &Budget) -> Result<Outcome, Fault> {
    match error {
        tls::Error::Handshake(why) => {
            let message = format!("port {port} answers, and there is no TLS with it: {why}");
            Ok(Outcome::new(State::Degraded, "tls_failed", message))
        }
        other => interruption(other).judge(port, waited, budget),
    }
}

fn interruption(error: tls::Error) -> Interruption {
    match error {
        tls::Error::Timeout => Interruption::Silent,
        tls::Error::Closed | tls::Error::Refused => Interruption::Closed,
        // None of these speaks of the service.
        tls::Error::NotGranted => Interruption::Failed("the target is not granted".to_owned()),
        tls::Error::NoRoute(why)
        | tls::Error::Unreachable(why)
        | tls::Error::Handshake(why)
        | tls::Error::OutOfBounds(why)
        | tls::Error::Other(why) => Interruption::Failed(why),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn left_ms(budget: &Budget) -> Option<u32> {
    budget.left().map(|left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX)).filter(|left| *left > 0)
}
