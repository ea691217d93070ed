//! What a run of a check comes to, and when: every target lives, so only the networks decide.
//!
//! A TCP connect whose first segment or its answer is lost is tried again after a second, which is more than a probe
//! has; data is sent again after 200 ms, then 400 ms and so on. A ping is three echoes.

use std::time::Duration;

use vouch_types::{HypervisorState, Moment, Network, NodeId, Outcome, RelayOutcome, Statement, VmId};
use vouch_watcher::logic::{CheckSpec, Ended, Run};
use vouch_wire::proto;

use super::network::{Machine, Path, SimNetworks};
use super::stream::retransmissions;

/// When a connection's first segment is sent, as far as a probe waits.
const CONNECT: [Duration; 1] = [Duration::ZERO];
/// When the echoes of a ping are sent.
const ECHOES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(400)];
/// How long a guest or a relay takes to answer.
const ANSWER_LONGEST: Duration = Duration::from_millis(4);

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Came {
    /// A VM answered.
    Up,
    /// A VM did not answer in time.
    Timeout,
    /// A relay answered.
    Reached {
        /// Which node's.
        node: usize,
        /// The nonce that it was shown; 0 for none.
        nonce: u64,
    },
    /// A relay's connection stood, and nothing came back.
    Stalled,
    /// A relay could not be connected to.
    Silent,
}

/// Returns the node of a VM: VMs are dealt to the nodes in turn.
pub(crate) fn node_of(vm: VmId, nodes: usize) -> usize {
    let number = usize::try_from(vm.get().as_u128() - 1).unwrap_or_default();
    number % nodes
}

/// Returns the name of a node.
pub(crate) fn node_name(node: usize) -> NodeId {
    NodeId::new(&format!("n{node}")).expect("a letter and digits are a name")
}

/// Returns the node of this name.
pub(crate) fn node_number(name: &NodeId) -> usize {
    name.as_str()[1..].parse().unwrap_or_default()
}

/// Returns what a run that begins now comes to, and when.
pub(crate) fn run(networks: &mut SimNetworks, nodes: usize, now: Moment, from: usize, run: &Run) -> (Moment, Came) {
    let limit = now + run.timeout;
    let from = Machine::Node(from);
    let path = |to: usize, network| Path { from, to: Machine::Node(to), network };
    match &run.spec {
        CheckSpec::Probe(spec) => {
            let to = node_of(spec.vm, nodes);
            let done = match (spec.probe.as_str(), spec.network) {
                ("ping", network) => networks.round_trip(now, now, path(to, network), ECHOES.into_iter(), limit),
                ("guest-agent", _) => exchange(networks, now, path(to, Network::Management), limit).ok(),
                (_, network) => exchange(networks, now, path(to, network), limit).ok(),
            };
            done.map_or((limit, Came::Timeout), |at| (at, Came::Up))
        }
        CheckSpec::Relay(spec) => {
            let to = node_number(&spec.node);
            match exchange(networks, now, path(to, Network::Management), limit) {
                Ok(at) => (at, Came::Reached { node: to, nonce: run.nonce.get() }),
                Err(came) => (limit, came),
            }
        }
    }
}

/// A connection, and two exchanges over it.
fn exchange(networks: &mut SimNetworks, now: Moment, path: Path, limit: Moment) -> Result<Moment, Came> {
    let stands = networks.round_trip(now, now, path, CONNECT.into_iter(), limit).ok_or(Came::Silent)?;
    let first = networks.round_trip(now, stands, path, retransmissions(), limit).ok_or(Came::Stalled)?;
    let at = networks.round_trip(now, first, path, retransmissions(), limit).ok_or(Came::Stalled)? + ANSWER_LONGEST / 2;
    if at < limit { Ok(at) } else { Err(Came::Stalled) }
}

/// Returns the end of a probe's run.
pub(crate) fn probe_ended(came: Came) -> Ended {
    match came {
        Came::Up => Ended::probe(Outcome::Up, "", ""),
        Came::Timeout | Came::Reached { .. } | Came::Stalled | Came::Silent => {
            Ended::probe(Outcome::Down, "timeout", "")
        }
    }
}

/// Returns the end of a question to a relay, with these statements.
pub(crate) fn relay_ended(outcome: RelayOutcome, statements: Vec<proto::Signed>) -> Ended {
    Ended::Relay { outcome, hears: Vec::new(), statements }
}

/// Returns a statement as it travels. Its signature is empty: signing and checking it would only cost time.
pub(crate) fn carried(statement: &Statement) -> proto::Signed {
    let payload = prost::Message::encode_to_vec(&proto::Statement::from(statement));
    proto::Signed { payload, signature: Vec::new() }
}

/// The hypervisor's word on every VM and every watcher.
pub(crate) const RUNNING: HypervisorState = HypervisorState::Running;
