//! The `ping` probe as a component.

use std::time::Duration;

use probe_kit::Budget;

use crate::{PingSettings, SCHEMA, SeriesState, judge, samples};

wit_bindgen::generate!({ world: "probe", path: "../../wit/vouch-probe-1" });

use exports::vouch::probe::check::{Descriptor, Fault, Guest, Outcome, Target};
use vouch::probe::icmp::{self, EchoReply, EchoRequest};
use vouch::probe::types::{Fact, Network, Sample, State};

struct Ping;

export!(Ping);

impl Guest for Ping {
    fn describe() -> Descriptor {
        Descriptor {
            name: "ping".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            proves: "The target answers echo requests (ping).".to_owned(),
            settings_schema: SCHEMA.to_owned(),
            networks: vec![Network::Management, Network::Service],
            ports: Vec::new(),
            interval_ms: 1000,
            timeout_ms: 1000,
            about: vec![Fact { name: "author".to_owned(), value: "vouch".to_owned() }],
        }
    }

    fn validate(settings: String) -> Result<(), String> {
        PingSettings::parse(&settings).map(|_| ())
    }

    fn run(target: Target, settings: String, deadline_ms: u32) -> Result<Outcome, Fault> {
        let budget = Budget::starting_now(deadline_ms).whole().as_millis() as u32;
        let settings = PingSettings::parse(&settings).map_err(Fault::BadSettings)?;
        let address = target.addresses.first().ok_or(Fault::NotApplicable("the target has no address".to_owned()))?;
        let Some(timeout_ms) = budget.checked_sub(settings.sending_ms()).filter(|left| *left > 0) else {
            return Err(Fault::BadSettings(format!(
                "fields `count` and `interval_ms` are {} and {}: sending takes {} ms and must leave time of the deadline \
                 of {deadline_ms} ms for replies",
                settings.count,
                settings.interval_ms,
                settings.sending_ms()
            )));
        };
        let request = EchoRequest {
            address: address.clone(),
            count: settings.count,
            interval_ms: settings.interval_ms,
            timeout_ms,
        };
        match icmp::echo(&request) {
            Ok(replies) => Ok(outcome(address, settings.count, &replies)),
            Err(icmp::Error::NoRoute(why)) => Ok(Outcome {
                state: State::Unknown,
                reason: "no_route".to_owned(),
                message: format!("no route to {address} from here: {why}"),
                phases: Vec::new(),
                samples: Vec::new(),
                facts: Vec::new(),
            }),
            Err(icmp::Error::NotGranted) => {
                Err(Fault::Internal("echo requests are not granted to this run".to_owned()))
            }
            Err(icmp::Error::NotTheTarget) => Err(Fault::Internal(format!("{address} is not the target's"))),
            Err(icmp::Error::OutOfBounds(why) | icmp::Error::Other(why)) => Err(Fault::Internal(why)),
        }
    }
}

fn outcome(address: &str, sent: u32, replies: &[EchoReply]) -> Outcome {
    let judged = judge(sent, replies.len() as u32);
    let took: Vec<Duration> = replies.iter().map(|reply| Duration::from_micros(reply.micros)).collect();
    let sample = |measured: probe_kit::Sample| Sample {
        name: measured.name.to_owned(),
        value: measured.value,
        unit: measured.unit.to_owned(),
    };
    Outcome {
        state: match judged {
            SeriesState::Replied | SeriesState::Lossy => State::Up,
            SeriesState::Silent => State::Down,
        },
        reason: judged.as_str().to_owned(),
        message: format!("{address} answered {} of {sent} echo requests", replies.len()),
        phases: Vec::new(),
        samples: samples(sent, &took).into_iter().map(sample).collect(),
        facts: Vec::new(),
    }
}
