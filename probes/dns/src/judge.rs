//! What came of a question, in words. Pure.

use std::net::IpAddr;
use std::time::Duration;

use probe_kit::{Budget, ConnectError, Fault, Interruption, Outcome, State, is_wedged, not_connected};

use crate::exchange::{Asked, NoTcp, Transport};
use crate::message::{Rcode, Reply};
use crate::settings::DnsSettings;

/// Says what came of a question to this server.
///
/// # Errors
/// [`Fault`], when it says nothing of the server.
pub fn judge(address: IpAddr, settings: &DnsSettings, asked: Asked, budget: &Budget) -> Result<Outcome, Fault> {
    let port = settings.port;
    Ok(match asked {
        Asked::Answered(reply, took, transport, sent) => answered(settings, &reply, took, transport, sent),
        Asked::OnlyCut(reply, no_tcp) => {
            let why = why_not(port, no_tcp, budget)?;
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

/// Says why a server that cuts its answer over UDP gives none over TCP.
///
/// # Errors
/// [`Fault::Internal`], when that says nothing of the server: too little time was left to ask it again, for one.
fn why_not(port: u16, no_tcp: NoTcp, budget: &Budget) -> Result<String, Fault> {
    let late = || Fault::Internal(format!("port {port} cuts its answer, and too little time is left to ask over TCP"));
    Ok(match no_tcp {
        NoTcp::NotConnected(ConnectError::Closed, _) => "it refuses connections".to_owned(),
        NoTcp::NotConnected(ConnectError::Unreachable, _) => "it is not reachable".to_owned(),
        NoTcp::NotConnected(ConnectError::Timeout, waited) | NoTcp::Interrupted(Interruption::Silent, waited) => {
            if !is_wedged(waited, budget) {
                return Err(late());
            }
            "it stays silent".to_owned()
        }
        NoTcp::NotConnected(error @ (ConnectError::NoRoute | ConnectError::NotGranted | ConnectError::Other(_)), _) => {
            return Err(Fault::Internal(format!("connect to port {port}: {error:?}")));
        }
        NoTcp::Interrupted(Interruption::Closed, _) => "it hangs up".to_owned(),
        NoTcp::Interrupted(Interruption::Failed(why), _) => {
            return Err(Fault::Internal(format!("exchange with port {port}: {why}")));
        }
        NoTcp::NotDns(error) => error.describe().to_owned(),
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
        .with_sample("records", f64::from(reply.records), "records")
        .with_sample("authorities", f64::from(reply.authorities), "records")
        .with_sample("additionals", f64::from(reply.additionals), "records")
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
        let reply = Reply {
            rcode,
            truncated: false,
            authoritative: true,
            recursive: false,
            answers,
            records: 3,
            authorities: 1,
            additionals: 2,
            addresses,
        };
        outcome(settings, Asked::Answered(reply, Duration::from_millis(2), Transport::Udp, 1))
    }

    fn outcome(settings: &str, asked: Asked) -> Outcome {
        judged(settings, asked).unwrap()
    }

    fn judged(settings: &str, asked: Asked) -> Result<Outcome, Fault> {
        let settings = DnsSettings::parse(settings).unwrap();
        judge("192.0.2.53".parse().unwrap(), &settings, asked, &Budget::starting_now(1000))
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
        let samples: Vec<_> = up.samples.iter().map(|sample| (sample.name, sample.value)).collect();
        assert_eq!(
            samples,
            [("answers", 2.0), ("records", 3.0), ("authorities", 1.0), ("additionals", 2.0), ("sent", 1.0)]
        );
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
        assert!(matches!(judged(PLAIN, denied), Err(Fault::Internal(_))));
    }

    #[test]
    fn a_cut_answer_is_held_against_a_server_only_if_it_had_its_time_to_give_the_whole() {
        let cut = |no_tcp| {
            let (rcode, addresses) = (Rcode::NOERROR, Vec::new());
            let reply = Reply {
                rcode,
                truncated: true,
                authoritative: true,
                recursive: false,
                answers: 0,
                records: 0,
                authorities: 0,
                additionals: 0,
                addresses,
            };
            judged(PLAIN, Asked::OnlyCut(reply, no_tcp))
        };
        let (long, short) = (Duration::from_millis(600), Duration::from_millis(20));
        for no_tcp in [
            NoTcp::NotConnected(ConnectError::Closed, short),
            NoTcp::NotConnected(ConnectError::Timeout, long),
            NoTcp::Interrupted(Interruption::Silent, long),
            NoTcp::Interrupted(Interruption::Closed, short),
            NoTcp::NotDns(NotAnswer::OtherQuestion),
        ] {
            assert_eq!(said(&cut(no_tcp).unwrap()), (State::Degraded, "truncated"));
        }
        for no_tcp in [
            NoTcp::NotConnected(ConnectError::Timeout, short),
            NoTcp::Interrupted(Interruption::Silent, short),
            NoTcp::NotConnected(ConnectError::NotGranted, short),
            NoTcp::NotConnected(ConnectError::NoRoute, short),
            NoTcp::Interrupted(Interruption::Failed("no memory".to_owned()), short),
        ] {
            assert!(matches!(cut(no_tcp.clone()), Err(Fault::Internal(_))), "{no_tcp:?}");
        }
    }
}
