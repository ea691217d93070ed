//! What came of a question, in words. Pure.

use std::net::IpAddr;
use std::time::Duration;

use probe_kit::{ConnectError, Fault, Outcome, State, not_connected};

use crate::exchange::{Asked, Transport};
use crate::message::{Rcode, Reply};
use crate::settings::DnsSettings;

/// Says what came of a question to this server.
///
/// # Errors
/// [`Fault`], when it says nothing of the server.
pub fn judge(address: IpAddr, settings: &DnsSettings, asked: Asked) -> Result<Outcome, Fault> {
    let port = settings.port;
    Ok(match asked {
        Asked::Answered(reply, took, transport, sent) => answered(settings, &reply, took, transport, sent),
        Asked::OnlyCut(reply, why) => {
            let message = format!("port {port} cuts its answer over UDP, and gives none over TCP: {why}");
            with_facts(Outcome::new(State::Degraded, "truncated", message), &reply, Transport::Udp)
        }
        Asked::NotDns(error) => {
            let why = error.describe();
            Outcome::new(State::Degraded, "not_dns", format!("port {port} answers, but not the question: {why}"))
        }
        Asked::NoAnswer(ConnectError::Closed) => {
            Outcome::new(State::Down, "closed", format!("port {port} is closed: no server has it"))
        }
        Asked::NoAnswer(error) => return not_connected(address, port, error),
    })
}

fn answered(settings: &DnsSettings, reply: &Reply, took: Duration, transport: Transport, sent: u32) -> Outcome {
    let (port, answers, least) = (settings.port, reply.answers, settings.answers_min);
    let (state, reason, message) = if !settings.rcodes.contains(&reply.rcode) {
        (State::Degraded, word(reply.rcode), format!("port {port} answers {}", named(reply.rcode)))
    } else if reply.rcode == Rcode::NOERROR && answers < least {
        (State::Degraded, "answers", format!("port {port} answers with {answers} records, and {least} are expected"))
    } else {
        (State::Up, "answered", format!("port {port} answers {} with {answers} records", named(reply.rcode)))
    };
    with_facts(Outcome::new(state, reason, message), reply, transport)
        .with_phase("answer", took)
        .with_sample("answers", f64::from(answers), "records")
        .with_sample("sent", f64::from(sent), "questions")
}

fn with_facts(outcome: Outcome, reply: &Reply, transport: Transport) -> Outcome {
    let yes_or_no = |is: bool| if is { "yes" } else { "no" };
    let protocol = match transport {
        Transport::Udp => "DNS over UDP",
        Transport::Tcp => "DNS over TCP",
    };
    let outcome = outcome
        .with_fact("protocol", protocol)
        .with_fact("rcode", named(reply.rcode))
        .with_fact("authoritative", yes_or_no(reply.authoritative))
        .with_fact("recursion", yes_or_no(reply.recursive));
    if reply.addresses.is_empty() {
        return outcome;
    }
    let addresses: Vec<String> = reply.addresses.iter().map(IpAddr::to_string).collect();
    outcome.with_fact("addresses", addresses.join(", "))
}

fn named(rcode: Rcode) -> String {
    if Rcode::KNOWN.contains(&rcode) { rcode.as_str().to_owned() } else { format!("code {}", rcode.0) }
}

/// Returns the reason for a response code that was not expected.
fn word(rcode: Rcode) -> &'static str {
    match rcode {
        Rcode::NOERROR => "noerror",
        Rcode::FORMERR => "formerr",
        Rcode::SERVFAIL => "servfail",
        Rcode::NXDOMAIN => "nxdomain",
        Rcode::NOTIMP => "notimp",
        Rcode::REFUSED => "refused",
        Rcode(_) => "rcode",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::NotAnswer;

    fn found(settings: &str, rcode: Rcode, answers: u32) -> Outcome {
        let addresses = vec!["192.0.2.1".parse().unwrap(); answers as usize];
        let reply = Reply { rcode, truncated: false, authoritative: true, recursive: false, answers, addresses };
        outcome(settings, Asked::Answered(reply, Duration::from_millis(2), Transport::Udp, 1))
    }

    fn outcome(settings: &str, asked: Asked) -> Outcome {
        judge("192.0.2.53".parse().unwrap(), &DnsSettings::parse(settings).unwrap(), asked).unwrap()
    }

    fn said(found: &Outcome) -> (State, &str) {
        (found.state, found.reason)
    }

    const PLAIN: &str = r#"{"name": "desk.example"}"#;

    #[test]
    fn an_answer_is_up_if_its_code_and_its_records_are_as_expected() {
        let up = found(PLAIN, Rcode::NOERROR, 2);
        assert_eq!(said(&up), (State::Up, "answered"));
        let facts = ["protocol", "rcode", "authoritative", "recursion", "addresses"].map(|name| up.fact(name).unwrap());
        assert_eq!(facts, ["DNS over UDP", "NOERROR", "yes", "no", "192.0.2.1, 192.0.2.1"]);
        assert_eq!(said(&found(PLAIN, Rcode::NOERROR, 0)), (State::Degraded, "answers"));
        assert_eq!(said(&found(r#"{"name": "a", "answers_min": 0}"#, Rcode::NOERROR, 0)), (State::Up, "answered"));
        let other = r#"{"name": "a", "rcodes": ["NXDOMAIN"]}"#;
        assert_eq!(said(&found(other, Rcode::NXDOMAIN, 0)), (State::Up, "answered"));
        assert_eq!(said(&found(other, Rcode::NOERROR, 1)), (State::Degraded, "noerror"));
    }

    #[test]
    fn a_server_that_answers_with_an_error_is_degraded_and_not_down() {
        for (rcode, reason) in [
            (Rcode::FORMERR, "formerr"),
            (Rcode::SERVFAIL, "servfail"),
            (Rcode::NXDOMAIN, "nxdomain"),
            (Rcode::NOTIMP, "notimp"),
            (Rcode::REFUSED, "refused"),
            (Rcode(9), "rcode"),
        ] {
            assert_eq!(said(&found(PLAIN, rcode, 0)), (State::Degraded, reason));
        }
        assert_eq!(found(PLAIN, Rcode(9), 0).fact("rcode"), Some("code 9"));
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        let not = |error| outcome(PLAIN, Asked::NoAnswer(error));
        assert_eq!(said(&not(ConnectError::Timeout)), (State::Down, "timeout"));
        assert_eq!(said(&not(ConnectError::Closed)), (State::Down, "closed"));
        assert_eq!(said(&not(ConnectError::NoRoute)), (State::Unknown, "no_route"));
        assert_eq!(said(&outcome(PLAIN, Asked::NotDns(NotAnswer::OtherQuestion))), (State::Degraded, "not_dns"));
        let denied = Asked::NoAnswer(ConnectError::NotGranted);
        let settings = DnsSettings::parse(PLAIN).unwrap();
        assert!(matches!(judge("::1".parse().unwrap(), &settings, denied), Err(Fault::Internal(_))));
    }
}
