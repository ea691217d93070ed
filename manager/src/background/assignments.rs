//! Tells watchers what they watch: targets, relays with their grants, the digests of the probes, and one another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use vouch_types::{
    AssignmentGeneration, ClusterId, Grant, Moment, NodeId, ProbeName, Term, VmId, WatcherId, WatcherLegs, WatcherLife,
};
use vouch_wire::convert::{AssignedProbe, Assignment, Peer, RelayTarget, Target, TimedProbe};
use vouch_wire::proto;
use vouch_wire::sign::GrantSigner;

use super::peer_plan::{self, Candidate};
use super::{Desk, Reconciler, ReconcilerReport, RoundError};
use crate::fleet::Route;
use crate::store::State;

/// How long a watcher may take to say that it works by an assignment before it is sent again.
pub const ASSIGNMENT_RESEND: Duration = Duration::from_secs(2);

/// All that an assignment is made of, before anything is signed.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Inputs {
    pub(super) generation: AssignmentGeneration,
    pub(super) targets: Vec<Target>,
    relays: BTreeMap<NodeId, (SocketAddr, Vec<VmId>)>,
    pub(super) probes: BTreeMap<ProbeName, AssignedProbe>,
    peers: Vec<Peer>,
}

struct Told {
    route: Route,
    inputs: Inputs,
    at: Moment,
}

/// The reconciler; see the module's head.
#[derive(Default)]
pub(super) struct AssignmentsReconciler {
    told: BTreeMap<WatcherId, Told>,
    /// Where watchers are reached, as the node of each says: one whose agent has just been started says so a moment later
    /// than before.
    legs: BTreeMap<(NodeId, WatcherId), WatcherLegs>,
}

/// Returns the peers of every watcher that lives. One that is silent is no reference for anybody.
fn peers_of(state: &State, legs: &BTreeMap<(NodeId, WatcherId), WatcherLegs>) -> BTreeMap<WatcherId, Vec<Peer>> {
    let live = state.watchers().values().filter(|w| w.life == WatcherLife::Live);
    let candidates: Vec<Candidate<'_>> = live
        .filter_map(|w| {
            let rack = state.nodes().get(&w.node).and_then(|node| node.rack.as_deref());
            Some(Candidate { watcher: w.id, node: &w.node, rack, legs: legs.get(&(w.node.clone(), w.id))? })
        })
        .collect();
    peer_plan::peers(&candidates)
}

/// Returns what a watcher is to be told; `None` when it is not recorded.
pub(super) fn inputs_of(state: &State, watcher: WatcherId, peers: Vec<Peer>) -> Option<Inputs> {
    let record = state.watchers().get(&watcher)?;
    let vms: Vec<_> = record.vms.iter().filter_map(|vm| state.vms().get(vm)).collect();
    let targets = vms.iter().map(|vm| {
        let (policy, probes) = (state.policy_of(vm), state.probes_of(vm));
        Target {
            vm: vm.spec.id,
            node: vm.node.clone(),
            addresses: vm.spec.addresses.clone(),
            probes: probes
                .iter()
                .map(|probe| {
                    let times = state.times_of(&policy, probe);
                    let (interval, timeout) = times.map_or((None, None), |times| (times.interval, times.timeout));
                    TimedProbe { assignment: probe.assignment.clone(), interval, timeout }
                })
                .collect(),
            labels: vm.spec.labels.clone(),
            probe_interval: policy.probe_interval_ms.map(Duration::from_millis),
            probe_timeout: policy.probe_timeout_ms.map(Duration::from_millis),
        }
    });
    let mut relays: BTreeMap<NodeId, (SocketAddr, Vec<VmId>)> = BTreeMap::new();
    let own = std::iter::once((&record.node, None));
    for (node, vm) in own.chain(vms.iter().map(|vm| (&vm.node, Some(vm.spec.id)))) {
        if let Some(node) = state.nodes().get(node) {
            relays.entry(node.id.clone()).or_insert_with(|| (node.relay, Vec::new())).1.extend(vm);
        }
    }
    let used: BTreeSet<&ProbeName> =
        vms.iter().flat_map(|vm| state.probes_of(vm)).map(|probe| &probe.assignment.probe).collect();
    let probes = used.into_iter().filter_map(|name| {
        let probe = state.probes().get(name)?;
        // The canary runs the version that is on its way, with the grant that it will have.
        let rollout = probe.rollout.as_deref();
        let next =
            rollout.filter(|r| r.canary.as_ref().is_some_and(|canary| canary.watcher == watcher)).map(|r| &r.next);
        let digest = next.map_or(probe.digest, |next| next.digest);
        let grant = next.and_then(|next| next.grant.as_ref()).or(probe.grant.as_ref()).cloned();
        Some((name.clone(), AssignedProbe { digest, grant }))
    });
    let (generation, targets, probes) = (record.assignment, targets.collect(), probes.collect());
    Some(Inputs { generation, targets, relays, probes, peers })
}

fn assignment(
    inputs: &Inputs,
    watcher: WatcherId,
    cluster: ClusterId,
    signer: &GrantSigner,
    fence: vouch_wire::convert::Fence,
) -> Assignment {
    let relay = |(node, (address, vms)): (&NodeId, &(SocketAddr, Vec<VmId>))| RelayTarget {
        node: node.clone(),
        address: *address,
        grant: signer.sign(&Grant {
            cluster,
            watcher,
            node: node.clone(),
            vms: vms.clone(),
            generation: inputs.generation,
        }),
    };
    Assignment {
        fence,
        generation: inputs.generation,
        targets: inputs.targets.clone(),
        relays: inputs.relays.iter().map(relay).collect(),
        probes: inputs.probes.clone(),
        peers: inputs.peers.clone(),
    }
}

#[async_trait]
impl Reconciler for AssignmentsReconciler {
    fn name(&self) -> &'static str {
        "assignments"
    }

    fn reset(&mut self) {
        self.told.clear();
        self.legs.clear();
    }

    async fn round(&mut self, desk: &Desk, term: Term) -> Result<ReconcilerReport, RoundError> {
        let now = desk.clock.now();
        let Some((cluster, key)) =
            desk.consensus.read_state(|state| state.cluster().map(|c| (c.id, c.secrets.grant_key.clone())))
        else {
            return Ok(ReconcilerReport::default());
        };
        let signer = GrantSigner::from_pkcs8(&key)?;
        // Before the records are read: the book is never taken while they are.
        self.legs.extend(desk.fleet.watcher_legs());
        let known = &mut self.legs;
        let wanted: Vec<(WatcherId, Inputs)> = desk.consensus.read_state(|state| {
            known.retain(|(_, watcher), _| state.watchers().contains_key(watcher));
            let mut peers = peers_of(state, known);
            let living = state.watchers().values().filter(|w| match w.life {
                WatcherLife::Placed | WatcherLife::Live | WatcherLife::Lost => true,
                WatcherLife::Retired => false,
            });
            let mut peers_of = |watcher| peers.remove(&watcher).unwrap_or_default();
            living.filter_map(|w| Some((w.id, inputs_of(state, w.id, peers_of(w.id))?))).collect()
        });
        self.told.retain(|watcher, _| wanted.iter().any(|(w, _)| w == watcher));
        let mut pending = 0;
        for (watcher, inputs) in wanted {
            let Some(route) = desk.fleet.watcher_route(watcher) else {
                self.told.remove(&watcher);
                continue;
            };
            let behind = desk.fleet.working_assignment(watcher) < inputs.generation;
            pending += u64::from(behind);
            let told = self.told.get(&watcher).is_some_and(|told| {
                let waiting = !behind || now.since(told.at) < ASSIGNMENT_RESEND;
                told.route == route && told.inputs == inputs && waiting
            });
            if told {
                continue;
            }
            let message = assignment(&inputs, watcher, cluster, &signer, desk.fence(term));
            let message = proto::to_watcher::Message::Assignment((&message).into());
            if desk.fleet.send_to_watcher(watcher, message) {
                tracing::info!(watcher_id = %watcher, generation = %inputs.generation, vms = inputs.targets.len(), "assignment sent");
                self.told.insert(watcher, Told { route, inputs, at: now });
            }
        }
        Ok(ReconcilerReport { pending, problem: None })
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::{Command, LogIndex, Policy, PolicyScope};

    use super::*;
    use crate::store::tests::samples;

    /// A cluster of one node with two VMs and a watcher that looks at both.
    fn watched_by_w1() -> State {
        let mut state = State::default();
        let vms = vec![samples::vm_id(1), samples::vm_id(2)];
        for (index, command) in (1..).zip([
            samples::init(),
            samples::record_node("n1"),
            samples::record_vms("n1", &[1, 2]),
            samples::place("n1", 1),
            Command::AssignWatchers { assignments: vec![(WatcherId::new(1), vms)] },
        ]) {
            state.apply(LogIndex::new(index), command);
        }
        state
    }

    #[test]
    fn a_watcher_is_told_the_intervals_that_the_policies_of_its_vms_say() {
        let policy = Policy { probe_interval_ms: Some(5_000), probe_timeout_ms: Some(900), ..Policy::default() };
        let scope = PolicyScope::Vm(samples::vm_id(2));
        let mut state = watched_by_w1();
        state.apply(LogIndex::new(9), Command::SetPolicy { scope, policy, at: samples::at(9) });
        let inputs = inputs_of(&state, WatcherId::new(1), Vec::new()).unwrap();
        let told: Vec<_> = inputs.targets.iter().map(|t| (t.probe_interval, t.probe_timeout)).collect();
        assert_eq!(told, [(None, None), (Some(Duration::from_secs(5)), Some(Duration::from_millis(900)))]);
    }

    #[test]
    fn a_watcher_is_told_the_probes_of_the_scopes_of_its_vms_with_their_times() {
        let mut state = watched_by_w1();
        let record = Command::RecordProbe { probe: samples::described(), by: String::new(), at: samples::at(9) };
        state.apply(LogIndex::new(9), record);
        let before = inputs_of(&state, WatcherId::new(1), Vec::new()).unwrap();
        assert!(before.probes.is_empty(), "no VM has it");
        state.apply(LogIndex::new(20), samples::assign(PolicyScope::Vm(samples::vm_id(2)), "{}"));
        let after = inputs_of(&state, WatcherId::new(1), Vec::new()).unwrap();
        let name = samples::described().name;
        assert_eq!(after.probes[&name].digest, samples::described().digest, "it has to be fetched");
        let of = |vm: usize| after.targets[vm].probes.iter().find(|p| p.assignment.probe == name);
        assert_eq!(of(0), None);
        let times = of(1).map(|p| (p.interval, p.timeout));
        assert_eq!(times, Some((Some(Duration::from_millis(500)), Some(Duration::from_millis(400)))));
        assert_eq!(after.targets[1].probes[0], samples::ping().into(), "that of its file runs as before");
    }

    #[test]
    fn watchers_that_live_and_whose_nodes_say_where_they_are_are_told_of_one_another() {
        let mut state = State::default();
        let commands = [samples::init(), samples::record_node("n1"), samples::record_node("n2")];
        let placed = ["n1", "n2", "n2"].into_iter().zip(1..).map(|(node, secret)| samples::place(node, secret));
        let live = (1..=2).map(|number| samples::redeem(u64::from(number), number));
        for (index, command) in (1..).zip(commands.into_iter().chain(placed).chain(live)) {
            state.apply(LogIndex::new(index), command);
        }
        let (one, two, three) = (WatcherId::new(1), WatcherId::new(2), WatcherId::new(3));
        let at = |low: u8| WatcherLegs::from([(vouch_types::Network::Service, [10, 2, 0, low].into())]);
        let on = |node: &str, watcher: WatcherId| (NodeId::new(node).unwrap(), watcher);
        let mut legs = BTreeMap::from([(on("n1", one), at(1)), (on("n2", two), at(2)), (on("n2", three), at(3))]);
        // What another node says of it counts for nothing.
        legs.extend([(on("n2", one), at(9)), (on("n1", two), at(9))]);
        let peers = peers_of(&state, &legs);
        assert_eq!(peers[&one], [Peer { watcher: two, legs: at(2) }], "the third one was never heard");
        assert_eq!(peers[&two], [Peer { watcher: one, legs: at(1) }]);
        legs.remove(&on("n2", two));
        assert!(peers_of(&state, &legs)[&one].is_empty(), "nobody knows where it is");
        let lost = Command::LoseWatcher { watcher: two, reason: "silent".to_owned(), at: samples::at(50) };
        state.apply(LogIndex::new(20), lost);
        let legs = BTreeMap::from([(on("n1", one), at(1)), (on("n2", two), at(2))]);
        assert!(peers_of(&state, &legs)[&one].is_empty());
    }

    #[test]
    fn the_grant_of_a_probe_goes_with_its_digest_and_a_change_of_it_is_another_assignment() {
        let mut state = State::default();
        let (watcher, name) = (WatcherId::new(1), samples::ping().probe);
        let uploaded = vouch_types::ProbeRecord { shipped: false, grant: None, ..samples::probe() };
        for (index, command) in (1..).zip([
            samples::init(),
            samples::record_node("n1"),
            samples::record_vms("n1", &[1]),
            samples::place("n1", 1),
            Command::AssignWatchers { assignments: vec![(watcher, vec![samples::vm_id(1)])] },
            Command::RecordProbe { probe: uploaded, by: String::new(), at: samples::at(9) },
        ]) {
            state.apply(LogIndex::new(index), command);
        }
        let before = inputs_of(&state, watcher, Vec::new()).unwrap();
        assert_eq!(before.probes[&name].grant, None, "recorded before there were grants");
        let grant = vouch_types::ProbeGrant::parse(&["icmp"], &["service"], &[]).unwrap();
        let change =
            Command::GrantProbe { probe: name.clone(), grant: grant.clone(), by: String::new(), at: samples::at(10) };
        state.apply(LogIndex::new(9), change);
        let after = inputs_of(&state, watcher, Vec::new()).unwrap();
        assert_eq!(after.probes[&name].grant, Some(grant));
        assert_ne!(after, before, "watchers are told");
    }
}
