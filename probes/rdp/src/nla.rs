//! The way through network level authentication up to the challenge, and what is told of it.
//!
//! A challenge makes nothing better than the negotiation did; that none comes makes a service degraded, which negotiated a
//! moment ago and lets nobody in. A service that does not choose CredSSP has none to give, and one that refuses because
//! NTLM is not allowed on it works: both are told as facts and change nothing.

use probe_kit::Budget;

use crate::credssp::RefusalCode;
use crate::glue::exports::vouch::probe::check::Outcome;
use crate::glue::vouch::probe::tls::Connection;
use crate::glue::{IDENTITY, degrade, fact, phase};
use crate::ntlm::Challenge;
use crate::settings::{IdentityFrom, RdpSettings};
use crate::{Asked, Protocol, challenge};

/// Name of the fact that says how far network level authentication went.
const NLA: &str = "nla";

/// Adds to the outcome of the handshake what asking for a challenge comes to.
pub(crate) fn complete(
    mut line: Connection,
    outcome: &mut Outcome,
    protocol: Protocol,
    settings: &RdpSettings,
    budget: &Budget,
) {
    if !matches!(protocol, Protocol::CredSsp | Protocol::CredSspEarly) {
        return not_chosen(outcome);
    }
    let port = settings.port;
    let (asked, took) = challenge(&mut line, budget);
    match asked {
        Asked::Challenged(told) => {
            outcome.phases.push(phase("challenge", took));
            outcome.facts.push(fact(NLA, "challenged"));
            tell(outcome, &told, settings.identity);
        }
        Asked::Refused(code) => {
            let RefusalCode(number) = code;
            outcome.facts.extend([fact(NLA, "refused"), fact("nla_refusal", &format!("{number:#010x}"))]);
            if !code.is_healthy() {
                degrade(outcome, "nla_refused", format!("port {port} negotiates, and refuses NLA: {number:#010x}"));
            }
        }
        Asked::Broken => {
            degrade(outcome, "nla_broken", format!("port {port} negotiates NLA and hangs up when a login begins"));
        }
        Asked::Wedged(waited) => {
            let waited = waited.as_millis();
            degrade(
                outcome,
                "wedged",
                format!("port {port} negotiates NLA and stayed silent for {waited} ms after TLS"),
            );
        }
        Asked::TooLate => outcome.facts.push(fact(NLA, "too_late")),
        Asked::NotCredSsp(error) => {
            degrade(outcome, "nla_failed", format!("port {port} negotiates NLA, and does not speak it: {error}"));
        }
        Asked::Failed(why) => outcome.facts.extend([fact(NLA, "unknown"), fact("nla_unknown", &why)]),
    }
}

/// Says that the service has no challenge to give: users log in behind the handshake, or without one.
pub(crate) fn not_chosen(outcome: &mut Outcome) {
    outcome.facts.push(fact(NLA, "not_chosen"));
}

fn tell(outcome: &mut Outcome, told: &Challenge, identity: IdentityFrom) {
    for (name, value) in [
        ("computer_name", &told.netbios_computer),
        ("domain", &told.netbios_domain),
        ("dns_computer_name", &told.dns_computer),
    ] {
        outcome.facts.extend(value.as_ref().map(|value| fact(name, value)));
    }
    outcome.facts.extend(told.os_version.map(|version| fact("os_version", &version.to_string())));
    if identity == IdentityFrom::Name {
        outcome.facts.extend(told.identity().map(|who| fact(IDENTITY, &who)));
    }
}
