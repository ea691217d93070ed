//! The generated code, and the way from plain types to its own.

use std::marker::PhantomData;
use std::time::Duration;

use probe_kit::{Address, Budget, Probe};

wit_bindgen::generate!({
    world: "probe",
    path: "../../wit/vouch-probe-1",
    pub_export_macro: true,
    export_macro_name: "export_probe",
    generate_all,
});

use exports::vouch::probe::check::{Descriptor, Fault, Guest, Outcome, Target};
use vouch::probe::types::{Fact, Network, Phase, Sample, State};

/// The exports of a probe.
pub struct Component<P>(PhantomData<P>);

impl<P: Probe + 'static> Guest for Component<P> {
    fn describe() -> Descriptor {
        let about = P::DESCRIPTION;
        Descriptor {
            name: about.name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            proves: about.proves.to_owned(),
            settings_schema: about.schema.to_owned(),
            networks: vec![Network::Management, Network::Service],
            ports: about.ports.to_vec(),
            interval_ms: millis(about.interval),
            timeout_ms: millis(about.timeout),
            about: vec![Fact { name: "author".to_owned(), value: "vouch".to_owned() }],
        }
    }

    fn validate(settings: String) -> Result<(), String> {
        P::settings(&settings).map(|_| ())
    }

    fn run(target: Target, settings: String, deadline_ms: u32) -> Result<Outcome, Fault> {
        let budget = Budget::starting_now(deadline_ms);
        let settings = P::settings(&settings).map_err(Fault::BadSettings)?;
        let first = target.addresses.into_iter().next();
        let text = first.ok_or(Fault::NotApplicable("the target has no address".to_owned()))?;
        let Ok(ip) = text.parse() else {
            return Err(Fault::Internal(format!("address {text} is not an IP address")));
        };
        match P::run(&Address { text, ip }, &settings, &budget) {
            Ok(found) => Ok(found.into()),
            Err(probe_kit::Fault::NotApplicable(why)) => Err(Fault::NotApplicable(why)),
            Err(probe_kit::Fault::Internal(why)) => Err(Fault::Internal(why)),
        }
    }
}

impl From<probe_kit::Outcome> for Outcome {
    fn from(found: probe_kit::Outcome) -> Self {
        let phase = |(name, took): (&str, Duration)| Phase { name: name.to_owned(), micros: took.as_micros() as u64 };
        let sample = |sample: probe_kit::Sample| Sample {
            name: sample.name.to_owned(),
            value: sample.value,
            unit: sample.unit.to_owned(),
        };
        Self {
            state: match found.state {
                probe_kit::State::Up => State::Up,
                probe_kit::State::Degraded => State::Degraded,
                probe_kit::State::Down => State::Down,
                probe_kit::State::Unknown => State::Unknown,
            },
            reason: found.reason.to_owned(),
            message: found.message,
            phases: found.phases.into_iter().map(phase).collect(),
            samples: found.samples.into_iter().map(sample).collect(),
            facts: found.facts.into_iter().map(|(name, value)| Fact { name: name.to_owned(), value }).collect(),
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
