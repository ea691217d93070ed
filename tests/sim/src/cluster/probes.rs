//! What a run of a check comes to: made of the truth of the VM and of the network, in the words of the shipped probes.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use vouch_manager::ShippedProbe;
use vouch_types::{
    Digest, ManagerId, Network, Nonce, Outcome, ProbeImports, ProbeName, ProbeRecord, RelayOutcome, WatcherId,
};
use vouch_watcher::logic::{CheckSpec, Ended, Origin, ProbeSpec, RelaySpec, Run};
use vouch_wire::convert::vm_bytes;
use vouch_wire::links::LinkError;
use vouch_wire::proto;

use super::agent;
use super::guest::{ServiceState, SimVm};
use super::host::{Host, NodeNo, VmNo};
use super::network::Lane;
use super::world::World;

/// What a guest-agent question leaves for its way back.
const DEADLINE_SLACK: Duration = Duration::from_millis(100);

/// Returns the probes that come with the simulated vouch: their bytes are never run.
pub fn shipped() -> Vec<ShippedProbe> {
    let probes = ["guest-agent", "ping", "rdp"].map(|name| {
        let bytes = name.as_bytes();
        let record = ProbeRecord {
            name: ProbeName::new(name).expect("a shipped probe's name is a label"),
            version: "0.1.0".to_owned(),
            digest: Digest::new(Sha256::digest(bytes).into()),
            size: bytes.len() as u64,
            imports: ProbeImports::default(),
            shipped: true,
            grant: None,
            signer: None,
            descriptor: None,
            rollout: None,
        };
        ShippedProbe { record, bytes: bytes.into() }
    });
    probes.into()
}

/// Returns where a watcher has this probe from. One of them is played as compiled by the watcher, so that what holds for
/// custom probes, whose runs are held to a window, holds in every simulated cluster.
pub fn origin(probe: &ProbeName) -> Origin {
    match probe.as_str() {
        "rdp" => Origin::Compiled { runs: usize::MAX },
        _ => Origin::Shipped,
    }
}

/// Runs a check to its end.
pub async fn run(world: Arc<World>, watcher: WatcherId, run: Run) -> Ended {
    match &run.spec {
        CheckSpec::Relay(relay) => ask_relay(&world, watcher, relay, run.nonce).await,
        CheckSpec::Probe(probe) => {
            let target = Target { world: &world, watcher, vm: VmNo::of(probe.vm), until: Instant::now() + run.timeout };
            match probe.probe.as_str() {
                "ping" => target.ping(probe.network).await,
                "rdp" => target.rdp(probe.network).await,
                "guest-agent" => target.guest_agent(probe).await,
                other => Ended::probe(Outcome::Unknown, "probe_unavailable", other),
            }
        }
    }
}

async fn ask_relay(world: &Arc<World>, watcher: WatcherId, relay: &RelaySpec, nonce: Nonce) -> Ended {
    let silent = |outcome| Ended::Relay { outcome, hears: Vec::new(), statements: Vec::new() };
    let Some(node) = NodeNo::of(&relay.node).and_then(|no| world.nodes.get(&no)) else {
        return silent(RelayOutcome::Silent);
    };
    let request = proto::StateRequest { grant: Some(relay.grant.clone()), nonce: nonce.get() };
    match agent::relay_state(node, watcher, request).await {
        Ok(response) => Ended::Relay {
            outcome: RelayOutcome::Reached,
            hears: response.hears.into_iter().map(ManagerId::new).collect(),
            statements: response.statements,
        },
        Err(LinkError::Unreachable { .. }) => silent(RelayOutcome::Silent),
        Err(LinkError::NotListening { .. }) => silent(RelayOutcome::Refused),
        Err(LinkError::Timeout(_) | LinkError::Reset(_)) => silent(RelayOutcome::Stalled),
        Err(LinkError::Refused(_) | LinkError::Removed(_) | LinkError::Malformed(_)) => silent(RelayOutcome::Denied),
    }
}

/// One VM as one run of a probe sees it.
struct Target<'a> {
    world: &'a Arc<World>,
    watcher: WatcherId,
    vm: VmNo,
    until: Instant,
}

impl Target<'_> {
    fn read<T>(&self, read: impl FnOnce(&SimVm) -> T) -> Option<T> {
        self.world.vm(self.vm, read)
    }

    /// Sends a packet and waits for its answer: `false` at the deadline when none came.
    async fn answered(&self, network: Network) -> bool {
        let (own, vm) = (Host::Watcher(self.watcher), Host::Vm(self.vm));
        let takes = self.world.network.round_trip(own, vm, network, Lane::Probe);
        match takes.filter(|takes| Instant::now() + *takes < self.until) {
            Some(takes) if self.read(SimVm::is_on_network) == Some(true) => {
                sleep(takes).await;
                true
            }
            Some(_) | None => {
                sleep_until(self.until).await;
                false
            }
        }
    }

    async fn ping(&self, network: Network) -> Ended {
        let dropped = self.read(|vm| vm.broken.ping) == Some(true);
        if !dropped && self.answered(network).await {
            return Ended::probe(Outcome::Up, "replied", "");
        }
        sleep_until(self.until).await;
        Ended::probe(Outcome::Down, "timeout", "no reply")
    }

    async fn rdp(&self, network: Network) -> Ended {
        if !self.answered(network).await {
            return Ended::probe(Outcome::Down, "timeout", "the port stays silent");
        }
        match self.read(|vm| vm.rdp).unwrap_or_default() {
            ServiceState::Stopped => Ended::probe(Outcome::Down, "closed", "the port refuses connections"),
            ServiceState::Wedged => {
                sleep_until(self.until).await;
                Ended::probe(Outcome::Down, "wedged", "the port accepts connections and stays silent")
            }
            ServiceState::Serving => {
                let (own, vm, net) = (Host::Watcher(self.watcher), Host::Vm(self.vm), &self.world.network);
                let negotiated = async {
                    net.travel(own, vm, network, Lane::Probe).await;
                    net.travel(vm, own, network, Lane::Probe).await;
                };
                let in_time = timeout_at(self.until, negotiated).await.is_ok();
                if in_time && self.read(SimVm::is_on_network) == Some(true) {
                    Ended::probe(Outcome::Up, "negotiated", "")
                } else {
                    sleep_until(self.until).await;
                    Ended::probe(Outcome::Down, "wedged", "the port accepts connections and stays silent")
                }
            }
        }
    }

    async fn guest_agent(&self, spec: &ProbeSpec) -> Ended {
        use proto::guest_agent_response::Result as Answered;
        let relay = spec.relay.as_ref();
        let node = relay.and_then(|relay| NodeNo::of(&relay.node)).and_then(|no| self.world.nodes.get(&no));
        let (Some(relay), Some(node)) = (relay, node) else {
            return Ended::probe(Outcome::Unknown, "not_granted", "the assignment names no relay");
        };
        let left = self.until.duration_since(Instant::now()).saturating_sub(DEADLINE_SLACK);
        let request = proto::GuestAgentRequest {
            grant: Some(relay.grant.clone()),
            vm: vm_bytes(spec.vm),
            query: proto::GuestAgentQuery::Ping.into(),
            timeout_micros: u64::try_from(left.as_micros()).unwrap_or(0),
        };
        match agent::relay_guest_agent(node, self.watcher, request, spec.vm).await.map(|answer| answer.result) {
            Ok(Some(Answered::Reply(_))) => Ended::probe(Outcome::Up, "answered", ""),
            Ok(Some(Answered::Silent(_))) => Ended::probe(Outcome::Down, "silent", "the guest agent stays silent"),
            Ok(Some(Answered::Unavailable(why))) => Ended::probe(Outcome::Unknown, "not_applicable", &why),
            Ok(Some(Answered::NotPut(why))) => Ended::probe(Outcome::Unknown, "unreachable", &why),
            Ok(Some(Answered::TooLong(_))) => Ended::probe(Outcome::Unknown, "other", "the answer is too long"),
            Ok(None) => Ended::probe(Outcome::Unknown, "other", "the relay's answer is empty"),
            Err(LinkError::Refused(_)) => Ended::probe(Outcome::Unknown, "not_granted", ""),
            Err(error) => Ended::probe(Outcome::Unknown, "unreachable", &error.to_string()),
        }
    }
}
