//! `vouch:probe@1`: its words in ours, and its imports but `tcp` and `tls`, which have modules of their own.

use std::time::Duration;

use vouch_types::id::NAME_MAX;
use vouch_types::observation::MESSAGE_MAX;
use vouch_types::{Network, Outcome};

use crate::bindings::v1::vouch::probe::{guest_agent, icmp, log, types};
use crate::limits::{
    ABOUT_MAX, DESCRIBED_NETWORKS_MAX, DESCRIBED_PORTS_MAX, FACTS_MAX, OUTCOME_TEXT_MAX, PHASES_MAX, SAMPLES_MAX,
    SCHEMA_MAX, VERSION_MAX,
};
use crate::outcome::{Found, Names, Room, cut, is_word};
use crate::run_state::{AgentRefusal, EchoRefusal, Level, RunState};
use crate::{Beyond, ContractVersion, Descriptor, GuestAgentError, Phase, RunFault, Sample, Target};

/// What an outcome may hold.
const ROOM: Room = Room { phases: PHASES_MAX, samples: SAMPLES_MAX, facts: FACTS_MAX, names: Names::Words };

/// Returns how a probe describes itself, cut to its limits.
pub(super) fn described(said: types::Descriptor) -> Descriptor {
    let beyond = [
        Beyond::check("name", said.name.len(), NAME_MAX, "bytes"),
        Beyond::check("version", said.version.len(), VERSION_MAX, "bytes"),
        Beyond::check("proves", said.proves.len(), MESSAGE_MAX, "bytes"),
        Beyond::check("settings-schema", said.settings_schema.len(), SCHEMA_MAX, "bytes"),
        Beyond::check("networks", said.networks.len(), DESCRIBED_NETWORKS_MAX, "items"),
        Beyond::check("ports", said.ports.len(), DESCRIBED_PORTS_MAX, "items"),
        Beyond::check("about", said.about.len(), ABOUT_MAX, "items"),
    ];
    let about = said.about.into_iter().filter(|fact| is_word(&fact.name)).take(ABOUT_MAX);
    Descriptor {
        contract: ContractVersion::V1,
        name: cut(said.name, NAME_MAX),
        version: cut(said.version, VERSION_MAX),
        summary: cut(said.proves, MESSAGE_MAX),
        // A schema is not for a terminal: it is kept as it is, or not at all, since a part of one is none.
        settings_schema: Some(said.settings_schema).filter(|schema| schema.len() <= SCHEMA_MAX),
        networks: said.networks.into_iter().take(DESCRIBED_NETWORKS_MAX).map(network).collect(),
        ports: said.ports.into_iter().take(DESCRIBED_PORTS_MAX).collect(),
        interval: Some(Duration::from_millis(said.interval_ms.into())),
        timeout: Some(Duration::from_millis(said.timeout_ms.into())),
        about: about.map(|fact| (fact.name, cut(fact.value, OUTCOME_TEXT_MAX))).collect(),
        beyond: beyond.into_iter().flatten().collect(),
    }
}

fn network(network: types::Network) -> Network {
    match network {
        types::Network::Management => Network::Management,
        types::Network::Service => Network::Service,
    }
}

/// Returns a target in the words of the guest.
pub(super) fn target(target: &Target) -> types::Target {
    let label = |(name, value): &(String, String)| types::Label { name: name.clone(), value: value.clone() };
    types::Target {
        vm_id: target.vm.to_string(),
        addresses: target.addresses.iter().map(|address| address.to_canonical().to_string()).collect(),
        network: match target.network {
            Network::Management => types::Network::Management,
            Network::Service => types::Network::Service,
        },
        labels: target.labels.iter().map(label).collect(),
    }
}

/// Returns a guest's answer in our words.
pub(super) fn answered(answer: Result<types::Outcome, types::Fault>) -> Result<Found, RunFault> {
    answer.map(found).map_err(|fault| match fault {
        types::Fault::BadSettings(text) => RunFault::BadSettings(cut(text, MESSAGE_MAX)),
        types::Fault::NotApplicable(text) => RunFault::NotApplicable(cut(text, MESSAGE_MAX)),
        types::Fault::Internal(text) => RunFault::Probe(cut(text, MESSAGE_MAX)),
    })
}

fn found(said: types::Outcome) -> Found {
    let phase = |p: types::Phase| Phase { name: p.name, took: Duration::from_micros(p.micros) };
    let sample = |s: types::Sample| Sample { name: s.name, value: s.value, unit: s.unit };
    Found {
        outcome: match said.state {
            types::State::Up => Outcome::Up,
            types::State::Degraded => Outcome::Degraded,
            types::State::Down => Outcome::Down,
            types::State::Unknown => Outcome::Unknown,
        },
        reason: said.reason,
        message: said.message,
        phases: said.phases.into_iter().map(phase).collect(),
        samples: said.samples.into_iter().map(sample).collect(),
        facts: said.facts.into_iter().map(|fact| (fact.name, fact.value)).collect(),
        room: ROOM,
    }
}

impl types::Host for RunState {}

impl icmp::Host for RunState {
    async fn echo(&mut self, request: icmp::EchoRequest) -> Result<Vec<icmp::EchoReply>, icmp::Error> {
        let asked = self.send_echoes(&request.address, request.count, request.interval_ms, request.timeout_ms);
        let replies = asked.await.map_err(|refusal| match refusal {
            EchoRefusal::NotGranted => icmp::Error::NotGranted,
            EchoRefusal::NotTheTarget => icmp::Error::NotTheTarget,
            EchoRefusal::NoRoute(text) => icmp::Error::NoRoute(text),
            EchoRefusal::OutOfBounds(text) => icmp::Error::OutOfBounds(text),
            EchoRefusal::Other(text) => icmp::Error::Other(text),
        })?;
        let reply = |r: crate::EchoReply| icmp::EchoReply {
            sequence: r.sequence,
            micros: crate::outcome::micros(r.round_trip),
        };
        Ok(replies.into_iter().map(reply).collect())
    }
}

impl guest_agent::Host for RunState {
    async fn ping(&mut self, timeout_ms: u32) -> Result<u64, guest_agent::Error> {
        self.ping_agent(timeout_ms).await.map(crate::outcome::micros).map_err(Into::into)
    }

    async fn query(&mut self, command: String, timeout_ms: u32) -> Result<String, guest_agent::Error> {
        self.ask_agent(&command, timeout_ms).await.map_err(Into::into)
    }
}

impl From<AgentRefusal> for guest_agent::Error {
    fn from(refusal: AgentRefusal) -> Self {
        match refusal {
            AgentRefusal::OutOfBounds(text) => Self::OutOfBounds(text),
            AgentRefusal::NotCarried(text) => Self::NotCarried(text),
            AgentRefusal::Agent(GuestAgentError::NotGranted) => Self::NotGranted,
            AgentRefusal::Agent(GuestAgentError::NoChannel) => Self::NoChannel,
            AgentRefusal::Agent(GuestAgentError::Silent) => Self::Silent,
            AgentRefusal::Agent(GuestAgentError::Unreachable(text)) => Self::Unreachable(text),
            AgentRefusal::Agent(error @ GuestAgentError::TooLong) => Self::OutOfBounds(error.to_string()),
            AgentRefusal::Agent(GuestAgentError::Other(text)) => Self::Other(text),
        }
    }
}

impl log::Host for RunState {
    fn write(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
        };
        self.write_line(level, message);
    }
}
