//! What an answer means. Pure: the time comes in as an argument.

use std::time::Duration;

use probe_kit::{Budget, Fault, Outcome, State};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::exchange::{Answer, BodyEnd, Finding, holds};
use crate::head::{FIELDS_MAX, HEAD_MAX, NotHttp};
use crate::settings::{HttpSettings, Scheme};

const DAY: f64 = 24.0 * 60.0 * 60.0;

/// What the handshake showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Version of TLS, as `TLS 1.3`.
    pub version: String,
    /// Whether the service proved that it has the key of its certificate.
    pub key_proved: bool,
    /// The certificate, or why it cannot be read.
    pub certificate: Result<Certificate, String>,
}

/// What a certificate says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// Name of its owner.
    pub subject: String,
    /// Name of who signed it.
    pub issuer: String,
    /// Names that it holds for.
    pub names: Vec<String>,
    /// Until when it holds, in seconds since 1970 in UTC.
    pub not_after: i64,
}

/// Says what an exchange found, at this time in seconds since 1970 in UTC. `shown` is what the handshake showed.
///
/// # Errors
/// [`Fault`], when it says nothing of the service.
pub fn judge(
    finding: &Finding,
    shown: Option<&Shown>,
    settings: &HttpSettings,
    now: u64,
    budget: &Budget,
) -> Result<Outcome, Fault> {
    let port = settings.port;
    let outcome = match finding {
        Finding::Interrupted(interruption, waited) => interruption.clone().judge(port, *waited, budget)?,
        Finding::NotHttp(NotHttp::Malformed(why)) => {
            Outcome::new(State::Degraded, "not_http", format!("port {port} answers, but not with HTTP: {why}"))
        }
        Finding::NotHttp(NotHttp::TooLong) => Outcome::new(
            State::Degraded,
            "too_long",
            format!("port {port} answers with a head of more than {HEAD_MAX} bytes or {FIELDS_MAX} fields"),
        ),
        Finding::Answered(answer) => {
            let (state, reason, message) = judge_answer(answer, settings)
                .or_else(|| shown.and_then(|shown| judge_certificate(shown, settings, now)))
                .unwrap_or_else(|| (State::Up, "answered", format!("port {port} answers {}", answer.head.status)));
            tell_answer(Outcome::new(state, reason, message), answer)
        }
    };
    Ok(match shown {
        Some(shown) => tell_shown(outcome, shown, now),
        None => outcome,
    })
}

/// Returns what is wrong with an answer, if anything is.
fn judge_answer(answer: &Answer, settings: &HttpSettings) -> Option<(State, &'static str, String)> {
    let (port, status, read) = (settings.port, answer.head.status, answer.body.len());
    let degraded = |reason, message| Some((State::Degraded, reason, message));
    if !settings.expects(status) {
        let to = answer.head.location.as_deref().map(|to| format!(" and leads to {to}")).unwrap_or_default();
        return degraded("status", format!("port {port} answers {status}{to}"));
    }
    match &answer.end {
        BodyEnd::Truncated => {
            return degraded("truncated", format!("port {port} hung up after {read} bytes of the body"));
        }
        BodyEnd::Malformed(why) => {
            return degraded("not_http", format!("port {port} answers with a body in which {why}"));
        }
        BodyEnd::Unread | BodyEnd::Whole | BodyEnd::Enough | BodyEnd::Stalled => {}
    }
    match &settings.contains {
        Some(text) if holds(&answer.body, text) => None,
        _ if answer.end == BodyEnd::Stalled => {
            degraded("stalled", format!("port {port} sent {read} bytes of the body, and no more in time"))
        }
        Some(text) => degraded("body", format!("{text:?} is not in the {read} bytes that were read of the body")),
        None => None,
    }
}

/// Returns what is wrong with the certificate, if the settings ask and anything is.
fn judge_certificate(shown: &Shown, settings: &HttpSettings, now: u64) -> Option<(State, &'static str, String)> {
    let Scheme::Https(Some(within)) = settings.scheme else { return None };
    let degraded = |reason, message| Some((State::Degraded, reason, message));
    match &shown.certificate {
        Err(why) => degraded("certificate_unreadable", format!("the certificate cannot be read: {why}")),
        Ok(certificate) => {
            let left = seconds_left(certificate, now);
            let days = (left / DAY).abs().floor();
            if left < 0.0 {
                return degraded("certificate_expired", format!("the certificate ended {days} days ago"));
            }
            let is_near = left < within.as_secs_f64();
            is_near.then(|| (State::Degraded, "certificate_expiring", format!("the certificate ends in {days} days")))
        }
    }
}

fn tell_answer(outcome: Outcome, answer: &Answer) -> Outcome {
    let Answer { head, body, end, answered, read } = answer;
    let mut outcome = outcome
        .with_phase("answer", *answered)
        .with_fact("protocol", head.protocol)
        .with_fact("status", head.status.to_string());
    outcome.facts.extend(head.location.iter().map(|to| ("location", to.clone())));
    outcome.facts.extend(head.server.iter().map(|name| ("server", name.clone())));
    if let Some(length) = head.announced {
        outcome = outcome.with_sample("content_length", length as f64, "bytes");
    }
    match end {
        BodyEnd::Unread => outcome,
        BodyEnd::Whole | BodyEnd::Enough | BodyEnd::Truncated | BodyEnd::Stalled | BodyEnd::Malformed(_) => {
            outcome.with_phase("body", *read).with_sample("body", body.len() as f64, "bytes")
        }
    }
}

fn tell_shown(outcome: Outcome, shown: &Shown, now: u64) -> Outcome {
    let proved = if shown.key_proved { "yes" } else { "no" };
    let outcome = outcome.with_fact("tls_version", &shown.version).with_fact("certificate_key_proved", proved);
    let certificate = match &shown.certificate {
        Ok(certificate) => certificate,
        Err(why) => return outcome.with_fact("certificate_unreadable", why),
    };
    let outcome = outcome.with_fact("certificate_sha256", &certificate.sha256);
    let ends = OffsetDateTime::from_unix_timestamp(certificate.not_after).ok().and_then(|at| at.format(&Rfc3339).ok());
    let outcome = match ends {
        Some(ends) => outcome.with_fact("certificate_expires", ends),
        None => outcome,
    };
    outcome
        .with_fact("certificate_names", certificate.names.join(", "))
        .with_fact("certificate_subject", &certificate.subject)
        .with_fact("certificate_issuer", &certificate.issuer)
        .with_sample("certificate_left", seconds_left(certificate, now), "seconds")
}

fn seconds_left(certificate: &Certificate, now: u64) -> f64 {
    certificate.not_after as f64 - Duration::from_secs(now).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use probe_kit::Interruption;

    use super::*;
    use crate::body::Framing;
    use crate::head::Head;

    const NOW: u64 = 1_800_000_000;

    fn answer(status: u16, body: &str, end: BodyEnd) -> Finding {
        let head = Head {
            protocol: "HTTP/1.1",
            status,
            location: (status == 302).then(|| "https://desk/".to_owned()),
            server: Some("nginx".to_owned()),
            framing: Framing::UntilClosed,
            announced: None,
        };
        let (answered, read) = (Duration::from_millis(3), Duration::from_millis(1));
        Finding::Answered(Answer { head, body: body.as_bytes().to_vec(), end, answered, read })
    }

    fn found(finding: &Finding, settings: &str, shown: Option<&Shown>) -> Outcome {
        let settings = HttpSettings::parse(settings).unwrap();
        judge(finding, shown, &settings, NOW, &Budget::starting_now(2000)).unwrap()
    }

    fn reason(finding: &Finding, settings: &str) -> (State, &'static str) {
        let found = found(finding, settings, None);
        (found.state, found.reason)
    }

    fn shown(days: i64) -> Shown {
        let certificate = Certificate {
            sha256: "ab".repeat(32),
            subject: "CN=desk".to_owned(),
            issuer: "CN=farm".to_owned(),
            names: vec!["desk".to_owned(), "desk.example".to_owned()],
            not_after: NOW as i64 + days * 24 * 60 * 60,
        };
        Shown { version: "TLS 1.3".to_owned(), key_proved: true, certificate: Ok(certificate) }
    }

    #[test]
    fn an_expected_status_is_up_and_any_other_is_degraded() {
        let whole = |status| answer(status, "hello", BodyEnd::Whole);
        assert_eq!(reason(&whole(200), "{}"), (State::Up, "answered"));
        assert_eq!(reason(&whole(503), "{}"), (State::Degraded, "status"));
        assert_eq!(reason(&whole(503), r#"{"statuses": [503]}"#), (State::Up, "answered"));
        let redirect = found(&whole(302), "{}", None);
        assert_eq!((redirect.state, redirect.fact("location")), (State::Up, Some("https://desk/")));
        let unwanted = found(&whole(302), r#"{"statuses": [200]}"#, None);
        assert_eq!(
            (unwanted.reason, unwanted.message.as_str()),
            ("status", "port 80 answers 302 and leads to https://desk/")
        );
        assert_eq!((unwanted.fact("status"), unwanted.fact("protocol")), (Some("302"), Some("HTTP/1.1")));
        let Finding::Answered(mut announced) = whole(200) else { unreachable!("it is an answer") };
        announced.head.announced = Some(9);
        let announced = found(&Finding::Answered(announced), "{}", None);
        let samples: Vec<_> = announced.samples.iter().map(|sample| (sample.name, sample.value)).collect();
        assert_eq!(samples, [("content_length", 9.0), ("body", 5.0)]);
    }

    #[test]
    fn a_body_has_to_come_and_to_hold_what_is_asked_for() {
        let contains = r#"{"contains": "ell"}"#;
        for (end, plain, with) in [
            (BodyEnd::Whole, "answered", "answered"),
            (BodyEnd::Enough, "answered", "answered"),
            (BodyEnd::Truncated, "truncated", "truncated"),
            (BodyEnd::Malformed("x".to_owned()), "not_http", "not_http"),
            (BodyEnd::Stalled, "stalled", "answered"),
        ] {
            let found = answer(200, "hello", end.clone());
            assert_eq!((reason(&found, "{}").1, reason(&found, contains).1), (plain, with), "{end:?}");
        }
        assert_eq!(reason(&answer(200, "other", BodyEnd::Whole), contains), (State::Degraded, "body"));
        assert_eq!(reason(&answer(200, "other", BodyEnd::Stalled), contains), (State::Degraded, "stalled"));
        assert_eq!(reason(&answer(204, "", BodyEnd::Unread), contains), (State::Degraded, "body"));
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        let interrupted = |why, waited| Finding::Interrupted(why, Duration::from_millis(waited));
        assert_eq!(reason(&interrupted(Interruption::Closed, 1), "{}"), (State::Down, "broken"));
        assert_eq!(reason(&interrupted(Interruption::Silent, 1500), "{}"), (State::Down, "wedged"));
        assert_eq!(reason(&interrupted(Interruption::Silent, 10), "{}"), (State::Down, "timeout"));
        assert_eq!(reason(&Finding::NotHttp(NotHttp::TooLong), "{}"), (State::Degraded, "too_long"));
        let other = Finding::NotHttp(NotHttp::Malformed("invalid".to_owned()));
        assert_eq!(reason(&other, "{}"), (State::Degraded, "not_http"));
    }

    #[test]
    fn a_certificate_is_told_and_judged_only_where_it_is_asked_for() {
        let whole = answer(200, "hello", BodyEnd::Whole);
        let of = |days, settings| found(&whole, settings, Some(&shown(days)));
        let asked = r#"{"tls": true, "expires_within_days": 14}"#;
        assert_eq!(
            (of(13, asked).reason, of(15, asked).reason, of(-1, asked).reason),
            ("certificate_expiring", "answered", "certificate_expired")
        );
        let only_ended = r#"{"tls": true, "expires_within_days": 0}"#;
        assert_eq!((of(1, only_ended).reason, of(-1, only_ended).reason), ("answered", "certificate_expired"));
        let plain = of(-1, r#"{"tls": true}"#);
        assert_eq!((plain.state, plain.fact("certificate_expires")), (State::Up, Some("2027-01-14T08:00:00Z")));
        assert_eq!(plain.fact("certificate_names"), Some("desk, desk.example"));
        assert_eq!(plain.fact("certificate_issuer"), Some("CN=farm"));
        assert_eq!(plain.samples.last().unwrap().value, -24.0 * 60.0 * 60.0);
        let unreadable = Shown { certificate: Err("no DER".to_owned()), ..shown(1) };
        assert_eq!(found(&whole, asked, Some(&unreadable)).reason, "certificate_unreadable");
        assert_eq!(
            found(&answer(500, "", BodyEnd::Unread), asked, Some(&shown(1))).reason,
            "status",
            "the worse first"
        );
    }
}
