//! The way through the host's TLS: the negotiation in plain text, then the handshake, and what the certificate says.
//!
//! A certificate that the service signed itself is normal for RDP, and one that has ended keeps nobody out: both are told as
//! facts and change nothing. A service that negotiates and does not complete the handshake, or not in time, is degraded: it
//! answered a moment ago, so it is not down. Where the settings ask for it, the challenge of `nla` comes next.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use probe_kit::{Budget, ConnectError, Interruption, is_wedged};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::glue::exports::vouch::probe::check::Outcome;
use crate::glue::vouch::probe::tls::{Certificate, Connection, Error, ReplyEnd};
use crate::glue::vouch::probe::types::Sample;
use crate::glue::{IDENTITY, degrade, fact, phase};
use crate::{Depth, IdentityFrom, Line, Protocol, RdpSettings, nla};

/// Connects by the host's TLS, in plain text at first.
pub(crate) fn connect(address: &str, port: u16, budget: &Budget) -> Result<(Connection, Duration), ConnectError> {
    let within = left_ms(budget).ok_or(ConnectError::Timeout)?;
    let begun = Instant::now();
    let connected = Connection::connect(address, port, within);
    let took = begun.elapsed();
    // The host tells a missing route from a neighbour's word itself: how long it took says nothing more here.
    connected.map(|line| (line, took)).map_err(|error| match error {
        Error::NotGranted => ConnectError::NotGranted,
        Error::NoRoute(_) => ConnectError::NoRoute,
        Error::Unreachable(_) => ConnectError::Unreachable,
        Error::Refused | Error::Closed => ConnectError::Closed,
        Error::Timeout => ConnectError::Timeout,
        Error::Handshake(why) | Error::OutOfBounds(why) | Error::Other(why) => ConnectError::Other(why),
    })
}

impl Line for Connection {
    fn ask(&mut self, send: &[u8], count: usize, budget: &Budget) -> Result<Vec<u8>, Interruption> {
        let end = match u32::try_from(count) {
            Ok(0) => ReplyEnd::None,
            Ok(count) => ReplyEnd::Bytes(count),
            Err(_) => return Err(Interruption::Failed(format!("a reply of {count} bytes cannot be asked for"))),
        };
        let within = left_ms(budget).ok_or(Interruption::Silent)?;
        self.exchange(send, &end, within).map_err(|error| match error {
            Error::Timeout => Interruption::Silent,
            Error::Closed | Error::Refused => Interruption::Closed,
            // None of these speaks of the service.
            Error::NotGranted => Interruption::Failed("the target is not granted".to_owned()),
            Error::NoRoute(why)
            | Error::Unreachable(why)
            | Error::Handshake(why)
            | Error::OutOfBounds(why)
            | Error::Other(why) => Interruption::Failed(why),
        })
    }

    fn close(self) {
        drop(self);
    }
}

/// Does the handshake and adds to the outcome of the negotiation what came of it.
pub(crate) fn complete(
    line: Connection,
    mut outcome: Outcome,
    protocol: Protocol,
    settings: &RdpSettings,
    budget: &Budget,
) -> Outcome {
    let Some(within) = left_ms(budget) else { return outcome };
    let port = settings.port;
    let begun = Instant::now();
    // The name of a desktop is not known here, and none asks for one.
    let done = line.handshake(None, &[], within);
    let took = begun.elapsed();
    match done {
        Ok(session) => {
            outcome.phases.push(phase("handshake", took));
            outcome.facts.push(fact("tls_version", &session.version));
            outcome.facts.push(fact("certificate_key_proved", if session.key_proved { "yes" } else { "no" }));
            match line.certificate() {
                Ok(certificate) => {
                    tell(&mut outcome, &certificate);
                    // Anybody can show a certificate; only who has its key is who it names.
                    if settings.identity == IdentityFrom::Certificate && session.key_proved {
                        outcome.facts.push(fact(IDENTITY, &certificate.sha256));
                    }
                }
                Err(error) => outcome.facts.push(fact("certificate_unreadable", &format!("{error:?}"))),
            }
            if settings.depth >= Depth::Challenge {
                nla::complete(line, &mut outcome, protocol, settings, budget);
            }
        }
        Err(Error::Timeout) if is_wedged(took, budget) => {
            let waited = took.as_millis();
            let message = format!("port {port} negotiates, and its handshake was not done after {waited} ms");
            degrade(&mut outcome, "tls_timeout", message);
        }
        // Too little time was left to tell a slow service from a wedged one; it has negotiated.
        Err(Error::Timeout) => {}
        Err(Error::Handshake(why)) => {
            degrade(&mut outcome, "tls_failed", format!("port {port} negotiates, and there is no TLS with it: {why}"));
        }
        Err(Error::Closed) => {
            degrade(&mut outcome, "tls_broken", format!("port {port} negotiates and hangs up in the handshake"));
        }
        Err(other) => outcome.facts.push(fact("tls_unknown", &format!("{other:?}"))),
    }
    outcome
}

fn tell(outcome: &mut Outcome, certificate: &Certificate) {
    outcome.facts.push(fact("certificate_sha256", &certificate.sha256));
    let expires =
        OffsetDateTime::from_unix_timestamp(certificate.not_after).ok().and_then(|at| at.format(&Rfc3339).ok());
    outcome.facts.extend(expires.map(|at| fact("certificate_expires", &at)));
    outcome.facts.push(fact("certificate_names", &certificate.names.join(", ")));
    outcome.facts.push(fact("certificate_subject", &certificate.subject));
    outcome.facts.push(fact("certificate_issuer", &certificate.issuer));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = certificate.not_after as f64 - now as f64;
    outcome.samples.push(Sample { name: "certificate_left".to_owned(), value: left, unit: "seconds".to_owned() });
}

fn left_ms(budget: &Budget) -> Option<u32> {
    budget.left().map(|left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX)).filter(|left| *left > 0)
}
