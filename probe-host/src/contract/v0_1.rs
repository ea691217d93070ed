//! `vouch:probe@0.1.0`, for the components that were written for it: its words in ours, and its imports.
//!
//! What it can say is less than today's contract, so everything finds its place. It must not change: a component of 0.1
//! finds the host that it was built for.

use std::time::Duration;

use vouch_types::id::NAME_MAX;
use vouch_types::observation::MESSAGE_MAX;
use vouch_types::{Network, Outcome};

use crate::bindings::v0_1::vouch::probe::{guest_agent, icmp, log, types};
use crate::limits::{DESCRIBED_PORTS_MAX, OUTCOME_ITEMS_MAX};
use crate::outcome::{Found, Names, Room, cut};
use crate::run_state::{AgentRefusal, EchoRefusal, Level, RunState};
use crate::{ContractVersion, Descriptor, GuestAgentError, Phase, RunFault, Sample, Target};

/// What an outcome of 0.1 may hold.
const ROOM: Room =
    Room { phases: OUTCOME_ITEMS_MAX, samples: OUTCOME_ITEMS_MAX, facts: OUTCOME_ITEMS_MAX, names: Names::AnyText };

/// Returns how a probe describes itself. It knows no schema, no networks and no times.
pub(super) fn described(said: types::Descriptor) -> Descriptor {
    Descriptor {
        contract: ContractVersion::V0_1,
        name: cut(said.name, NAME_MAX),
        version: cut(said.version, NAME_MAX),
        summary: cut(said.summary, MESSAGE_MAX),
        settings_schema: None,
        networks: vec![Network::Management, Network::Service],
        ports: said.ports.into_iter().take(DESCRIBED_PORTS_MAX).collect(),
        interval: None,
        timeout: None,
        about: Vec::new(),
        beyond: Vec::new(),
    }
}

/// Returns a target in the words of the guest.
pub(super) fn target(target: &Target) -> types::Target {
    types::Target {
        vm_id: target.vm.to_string(),
        addresses: target.addresses.iter().map(|address| address.to_canonical().to_string()).collect(),
        network: match target.network {
            Network::Management => types::Network::Management,
            Network::Service => types::Network::Service,
        },
        labels: target.labels.clone(),
    }
}

/// Returns a guest's answer in our words.
pub(super) fn answered(answer: Result<types::Outcome, types::Fault>) -> Result<Found, RunFault> {
    answer.map(found).map_err(|fault| match fault {
        types::Fault::BadSettings(text) => RunFault::BadSettings(cut(text, MESSAGE_MAX)),
        types::Fault::NotApplicable(text) => RunFault::NotApplicable(cut(text, MESSAGE_MAX)),
        types::Fault::Other(text) => RunFault::Probe(cut(text, MESSAGE_MAX)),
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
        facts: said.facts,
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
            EchoRefusal::NoRoute(text) => icmp::Error::Unreachable(text),
            EchoRefusal::OutOfBounds(text) | EchoRefusal::Other(text) => icmp::Error::Other(text),
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
        let pinged = self.ping_agent(timeout_ms).await.map_err(|refusal| match refusal {
            AgentRefusal::OutOfBounds(text) | AgentRefusal::NotCarried(text) => guest_agent::Error::Other(text),
            AgentRefusal::Agent(GuestAgentError::NotGranted) => guest_agent::Error::NotGranted,
            AgentRefusal::Agent(GuestAgentError::NoChannel) => guest_agent::Error::NoChannel,
            AgentRefusal::Agent(GuestAgentError::Silent) => guest_agent::Error::Silent,
            AgentRefusal::Agent(GuestAgentError::Unreachable(text)) => guest_agent::Error::Unreachable(text),
            AgentRefusal::Agent(error @ GuestAgentError::TooLong) => guest_agent::Error::Other(error.to_string()),
            AgentRefusal::Agent(GuestAgentError::Other(text)) => guest_agent::Error::Other(text),
        })?;
        Ok(crate::outcome::micros(pinged))
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
