//! The `guest-agent` probe as a component.

use probe_kit::Budget;

use crate::{COMMANDS, GuestAgentSettings, SCHEMA, facts_of};

wit_bindgen::generate!({ world: "probe", path: "../../wit/vouch-probe-1" });

use exports::vouch::probe::check::{Descriptor, Fault, Guest, Outcome, Target};
use vouch::probe::guest_agent::{self, Error};
use vouch::probe::types::{Fact, Network, Sample, State};

struct GuestAgent;

export!(GuestAgent);

impl Guest for GuestAgent {
    fn describe() -> Descriptor {
        Descriptor {
            name: "guest-agent".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            proves: "The guest agent of the target answers.".to_owned(),
            settings_schema: SCHEMA.to_owned(),
            networks: vec![Network::Management, Network::Service],
            ports: Vec::new(),
            interval_ms: 1000,
            timeout_ms: 1000,
            about: vec![Fact { name: "author".to_owned(), value: "vouch".to_owned() }],
        }
    }

    fn validate(settings: String) -> Result<(), String> {
        GuestAgentSettings::parse(&settings).map(|_| ())
    }

    fn run(_target: Target, settings: String, deadline_ms: u32) -> Result<Outcome, Fault> {
        let whole = Budget::starting_now(deadline_ms);
        let budget = whole.whole().as_millis() as u32;
        let settings = GuestAgentSettings::parse(&settings).map_err(Fault::BadSettings)?;
        match guest_agent::ping(settings.timeout_ms.unwrap_or(budget).min(budget)) {
            Ok(micros) => {
                let seconds = micros as f64 / 1e6;
                let sample = Sample { name: "round_trip".to_owned(), value: seconds, unit: "seconds".to_owned() };
                let facts = if settings.facts { asked_facts(&whole) } else { Vec::new() };
                let up = outcome(State::Up, "answered", "the guest agent answered".to_owned(), vec![sample]);
                Ok(Outcome { facts, ..up })
            }
            Err(Error::Silent) => {
                Ok(outcome(State::Down, "silent", "the guest agent was asked and stays silent".to_owned(), Vec::new()))
            }
            Err(Error::Unreachable(why)) => {
                let message = format!("the question could not be carried to the agent: {why}");
                Ok(outcome(State::Unknown, "unreachable", message, Vec::new()))
            }
            Err(Error::NoChannel) => Err(Fault::NotApplicable("the target has no channel for an agent".to_owned())),
            Err(Error::NotGranted) => {
                Err(Fault::Internal("questions to the agent are not granted to this run".to_owned()))
            }
            Err(Error::NotCarried(why) | Error::OutOfBounds(why) | Error::Other(why)) => Err(Fault::Internal(why)),
        }
    }
}

/// Asks what the agent and its machine are, while there is time. What is not answered, or not as expected, is left out:
/// that the agent lives is known by now.
fn asked_facts(budget: &Budget) -> Vec<Fact> {
    let mut facts = Vec::new();
    for command in COMMANDS {
        let Some(left) = budget.left() else { break };
        let Ok(reply) = guest_agent::query(command, left.as_millis() as u32) else { continue };
        facts.extend(facts_of(&reply).into_iter().map(|(name, value)| Fact { name: name.to_owned(), value }));
    }
    facts
}

fn outcome(state: State, reason: &str, message: String, samples: Vec<Sample>) -> Outcome {
    Outcome { state, reason: reason.to_owned(), message, phases: Vec::new(), samples, facts: Vec::new() }
}
