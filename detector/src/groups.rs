//! What VMs and nodes share, as the evidence of now shows it: views for the grouping judge, and what follows from its
//! word for one VM.

use std::collections::BTreeSet;

use vouch_types::{
    Cause, Fault, HypervisorState, IncidentScope, Moment, Network, NodeId, PauseReason, VmId, WatcherId,
};

use crate::judge::group::{Groups, Heard, NodeView, ServiceReach, group, is_site_silent};
use crate::judge::guest::{Class, class};
use crate::judge::path::{NodeLife, PathWitness, node_life};
use crate::judge::vm::Storage;
use crate::link_track::{LOSSY_FROM_PER_MILLE, LOSSY_UNTIL_PER_MILLE};
use crate::loss::failures_needed;
use crate::node_track::{NodeTrack, PathLoss, Phase};
use crate::vm_track::VmTrack;
use crate::{Detector, Weight};

/// The fewest failures, over all VMs of a node together, after which its silence towards others is believed. A loss that
/// has only just begun is not measured yet: 24 failures in a row come about once in 10 million even at 30 % each way.
const POOLED_FAILURES_MIN: u32 = 24;
/// How many VMs of one node are looked into for what they share.
const SAMPLE_VMS: usize = 3;
/// How many VMs of one node are looked at for what it can be reached by.
const REACH_VMS_MAX: usize = 64;
/// How many nodes are looked into at a time.
const SAMPLE_NODES_MAX: usize = 16;

/// What the checks of a node's VMs over the service network come to, by where they were made.
#[derive(Clone, Debug, Default)]
struct Reach {
    remote_alive: bool,
    /// Of all its VMs together.
    remote_failures: u32,
    /// Of the VM that has the most.
    longest_row: u32,
    /// Somebody elsewhere looks at all, whatever it comes to.
    remote_looks: bool,
    local_alive: bool,
    worst_loss: u16,
    /// VMs that fail from elsewhere, with who looks there.
    failing: Vec<(VmId, WatcherId)>,
}

/// Returns what one way loses, where round trips lose so much, both in per mille.
fn one_way_loss(round_trip_per_mille: u16) -> u16 {
    let kept = (1.0 - f64::from(round_trip_per_mille.min(1000)) / 1000.0).sqrt();
    // Between 0 and 1000 by its making.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
    let lost = ((1.0 - kept) * 1000.0).round() as u16;
    lost
}

impl Detector {
    /// Returns the witnesses of a node that is missed, and since when they are asked.
    pub(crate) fn witnesses_of(&self, now: Moment, node: &NodeTrack) -> Vec<PathWitness> {
        match &node.phase {
            Phase::Direct => Vec::new(),
            Phase::Suspect { since, .. } => self.witnesses(now, node, *since),
            Phase::Cut { floor, .. } => self.witnesses(now, node, *floor),
        }
    }

    /// Finds out anew what nodes share that is broken, and looks into nodes whose users may be cut off.
    pub(crate) fn regroup(&mut self, now: Moment) {
        let may_judge = self.listening.covers(now, self.timing.window);
        let mut cut: Vec<(NodeId, bool)> = Vec::new();
        let (mut doubtful, mut untold): (BTreeSet<NodeId>, BTreeSet<NodeId>) = Default::default();
        let mut look: Vec<(NodeId, Vec<(VmId, WatcherId)>)> = Vec::new();
        for (id, node) in &self.nodes {
            let reach = self.reach(now, node);
            if !reach.remote_looks {
                untold.insert(id.clone());
            }
            let needed = failures_needed(reach.worst_loss).max(POOLED_FAILURES_MIN);
            let silent = !reach.remote_alive && reach.remote_failures > 0;
            // What was found cut stays so until something of it is reached, or its own watcher reaches beyond it: a check
            // that overstays, here or elsewhere, is no sign that users are back.
            let stays = node.service_cut.is_some()
                && reach.remote_looks
                && !reach.remote_alive
                && node.local_watchers.iter().any(|w| self.is_heard_lately(now, *w));
            // While its heartbeats come over it, its uplink carries something: failures of several VMs at the same time
            // may then all be of one burst of loss, which no meter has measured yet, and count once.
            let still_beats = node.still_beats(now, Network::Service, self.timing.heartbeat_interval);
            let failures = if still_beats { reach.longest_row } else { reach.remote_failures };
            let shows = silent && failures >= needed && reach.local_alive;
            // Last, because it looks at every VM of the watcher: most nodes are reached, and it is not asked.
            let alone = (silent || stays)
                && !node.local_watchers.is_empty()
                && !node.local_watchers.iter().any(|w| self.reaches_beyond(now, *w));
            let is_cut = may_judge && alone && (shows || stays);
            if alone && !is_cut {
                doubtful.insert(id.clone());
            }
            if silent && !is_cut && look.len() < SAMPLE_NODES_MAX {
                look.push((id.clone(), reach.failing));
            }
            cut.push((id.clone(), is_cut));
        }
        let mut changed = Vec::new();
        for (id, is_cut) in cut {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let before = node.service_cut;
            node.service_cut = is_cut.then(|| before.unwrap_or(now));
            if before.is_some() != is_cut {
                changed.extend(node.vms.iter().copied());
            }
        }
        changed.into_iter().for_each(|vm| self.mark(vm));
        for (id, failing) in look {
            self.sample(now, &id, failing);
        }
        let views: Vec<NodeView<'_>> =
            self.nodes.values().map(|node| self.view(now, node, &doubtful, &untold)).collect();
        let told = self.recorded_incidents.contains_key(&IncidentScope::Site);
        let site_silent = may_judge && is_site_silent(&views, told);
        let mut groups = group(&views);
        if site_silent {
            // A rack that is not back yet is a part of what is told.
            groups.racks_silent.clear();
        }
        self.groups = Groups { site_silent, ..groups };
    }

    fn view<'a>(
        &'a self,
        now: Moment,
        node: &'a NodeTrack,
        doubtful: &BTreeSet<NodeId>,
        untold: &BTreeSet<NodeId>,
    ) -> NodeView<'a> {
        let witnesses = self.witnesses_of(now, node);
        let missed = !matches!(node.phase, Phase::Direct);
        let reached = |w: &PathWitness| {
            w.heard_over_management && w.local
                || (!w.local && w.relay.is_some_and(|r| r != vouch_types::RelayOutcome::Silent))
        };
        // What came before the node fell silent, or at about that time, says nothing of after.
        let pause = self.timing.report_interval.max(self.timing.watcher_report_interval);
        let since = (now - self.timing.window).max(node.last_direct().map_or(Moment::ZERO, |at| at + pause));
        let over_service = |id: &WatcherId| {
            let watcher = self.watchers.get(id);
            watcher.and_then(|w| w.last_heard_over(Network::Service)).is_some_and(|at| at >= since)
        };
        NodeView {
            rack: node.entry.rack.as_deref(),
            heard: if missed { Heard::No } else { Heard::Yes },
            life: if missed { node_life(&witnesses) } else { NodeLife::Lives },
            over_management: !missed || witnesses.iter().any(reached),
            over_service: node.local_watchers.iter().any(over_service),
            service: match node.service_cut {
                Some(_) => ServiceReach::CutOff,
                None if doubtful.contains(&node.entry.node) => ServiceReach::Doubtful,
                None if untold.contains(&node.entry.node)
                    && !node.local_watchers.iter().any(|w| self.reaches_beyond(now, *w)) =>
                {
                    ServiceReach::Untold
                }
                None => ServiceReach::Fine,
            },
            lossy: Network::ALL.into_iter().filter(|network| self.is_lossy(now, node, *network)).collect(),
        }
    }

    /// Returns whether the paths to a node over `network` lose much, and none of them little: one manager's own bad link is
    /// not the node's. One that was lossy is so until it is well again.
    ///
    /// The mean is taken over all managers and both ways, so it moves long before the worst of them is sure.
    pub(crate) fn is_lossy(&self, now: Moment, node: &NodeTrack, network: Network) -> bool {
        let told = self.recorded_incidents.contains_key(&IncidentScope::Network(network))
            || node.entry.path.faults.iter().any(|fault| *fault.top() == Cause::LossyPath);
        let from = if told { LOSSY_UNTIL_PER_MILLE } else { LOSSY_FROM_PER_MILLE };
        self.loss_of(now, node, network).is_some_and(|loss| loss.mean >= from && loss.least >= from / 2)
    }

    /// Returns what the paths to a node lose over `network`, as heartbeats say; where none come over it, as its own
    /// watchers say of their round trips beyond it: those that peers answer, if any does.
    pub(crate) fn loss_of(&self, now: Moment, node: &NodeTrack, network: Network) -> Option<PathLoss> {
        node.loss_on(network, now).or_else(|| {
            let own = node.local_watchers.iter().filter_map(|id| self.watchers.get(id)?.health.as_ref());
            let best = own.map(|health| (!health.reaches_a_peer_on(network), health.loss_on(network))).min();
            best.map(|(_, trips)| one_way_loss(trips)).map(|loss| PathLoss { least: loss, mean: loss })
        })
    }

    fn is_heard_lately(&self, now: Moment, watcher: WatcherId) -> bool {
        let heard = self.watchers.get(&watcher).and_then(|track| track.last_heard());
        heard.is_some_and(|at| at >= now - self.timing.window)
    }

    fn reach(&self, now: Moment, node: &NodeTrack) -> Reach {
        let mut reach = Reach::default();
        for vm in node.vms.iter().take(REACH_VMS_MAX).filter_map(|id| self.vms.get(id)) {
            for check in vm.checks.iter().filter(|c| c.network == Network::Service && class(&c.probe) != Class::Agent) {
                let observer = self.watchers.get(&check.watcher);
                let Some(observer) = observer.filter(|_| vm.is_proven(check.network, &check.probe)) else { continue };
                let oldest = now - (self.probe_interval(vm, check) * 2 + self.probe_timeout(vm, check));
                let alive = vm.counted(check).0.is_sign_of_life() && self.begun_now(check) >= oldest;
                let local = observer.entry.node == node.entry.node;
                reach.remote_looks |= !local;
                if local {
                    reach.local_alive |= alive;
                } else if alive {
                    // One that reaches it is enough, and ends the look.
                    reach.remote_alive = true;
                    return reach;
                } else if check.is_failing() {
                    let begun = self.begun_now(check);
                    let failures = check.failures(begun, self.probe_interval(vm, check));
                    reach.remote_failures += failures;
                    reach.longest_row = reach.longest_row.max(failures);
                    let loss = observer.health.as_ref().map_or(0, |h| h.loss_on(Network::Service));
                    reach.worst_loss = reach.worst_loss.max(loss);
                    if reach.failing.len() < SAMPLE_VMS && !reach.failing.iter().any(|(id, _)| *id == vm.entry.vm) {
                        reach.failing.push((vm.entry.vm, check.watcher));
                    }
                }
            }
        }
        reach
    }

    fn sample(&mut self, now: Moment, node: &NodeId, failing: Vec<(VmId, WatcherId)>) {
        let round = self.timing.burst_interval;
        let Some(track) = self.nodes.get_mut(node) else { return };
        if self.leads.is_none() || track.sampled.is_some_and(|at| now.since(at) < round) {
            return;
        }
        track.sampled = Some(now);
        for (vm, watcher) in failing {
            self.ask(now, watcher, Weight::Light, Vec::new(), vec![vm]);
        }
    }

    /// Returns the shared fault that cuts a VM's users off, and whose incident tells it.
    pub(crate) fn service_cut_of(&self, now: Moment, vm: &VmTrack, node: &NodeTrack) -> Option<(IncidentScope, Fault)> {
        // The other nodes are looked at for a moment longer, so that what they share is not told as one node's.
        let lasted = node.service_cut.is_some_and(|since| now.since(since) >= self.group_wait());
        let uses = vm.entry.proven.iter().any(|p| p.network == Network::Service && class(&p.probe) != Class::Agent);
        if !lasted || !uses {
            return None;
        }
        let network = Network::Service;
        Some(if self.groups.networks_down.contains(&network) {
            (IncidentScope::Network(network), Fault::sure(Cause::Network(network)))
        } else {
            (IncidentScope::Node(node.entry.node.clone()), Fault::sure(Cause::NodeUplink(network)))
        })
    }

    /// Returns the shared element whose incident tells of the silence of a node.
    pub(crate) fn scope_of_silence(&self, node: &NodeTrack) -> Option<IncidentScope> {
        if !matches!(node.phase, Phase::Cut { .. }) {
            return None;
        }
        if self.groups.site_silent {
            return Some(IncidentScope::Site);
        }
        Some(match &node.entry.rack {
            Some(rack) if self.groups.racks_silent.contains(rack) => IncidentScope::Rack(rack.clone()),
            Some(_) | None => IncidentScope::Node(node.entry.node.clone()),
        })
    }

    /// Returns the shared element whose incident told of a VM's bad state, for its return from it.
    pub(crate) fn shared_before(&self, vm: &VmTrack, node: &NodeTrack) -> Option<IncidentScope> {
        let rack = node.entry.rack.clone().map(IncidentScope::Rack);
        let store = vm.entry.datastore.clone().map(IncidentScope::Datastore);
        let scopes = [
            Some(IncidentScope::Node(node.entry.node.clone())),
            rack,
            store,
            Some(IncidentScope::Network(Network::Management)),
            Some(IncidentScope::Network(Network::Service)),
            Some(IncidentScope::Site),
        ];
        scopes.into_iter().flatten().find(|scope| self.recorded_incidents.contains_key(scope))
    }

    /// Returns the VMs of a node on this store, and how many of them are paused by an I/O error.
    fn on_store(&self, node: &NodeTrack, store: &str) -> (usize, usize) {
        let on =
            node.vms.iter().filter_map(|id| self.vms.get(id)).filter(|vm| vm.entry.datastore.as_deref() == Some(store));
        let (mut all, mut paused) = (0, 0);
        for vm in on {
            all += 1;
            let word = vm.word.as_ref().map(|(word, _)| word.state);
            paused += usize::from(word == Some(HypervisorState::Paused(PauseReason::IoError)));
        }
        (all, paused)
    }

    /// Returns whether the VMs of a node miss a store together.
    pub(crate) fn misses_store(&self, node: &NodeTrack, store: &str) -> bool {
        let (all, paused) = self.on_store(node, store);
        paused >= 2 && paused * 2 > all
    }

    pub(crate) fn storage_of(&self, vm: &VmTrack, node: &NodeTrack) -> Storage {
        match &vm.entry.datastore {
            Some(store) if self.io_paused.contains(&vm.entry.vm) && self.misses_store(node, store) => Storage::Shared,
            Some(_) | None => Storage::Own,
        }
    }

    /// Returns the stores that nodes miss, with those nodes and how many of their VMs are paused.
    pub(crate) fn missed_stores(&self) -> std::collections::BTreeMap<String, (BTreeSet<NodeId>, u64)> {
        let mut missed = std::collections::BTreeMap::<String, (BTreeSet<NodeId>, u64)>::new();
        for vm in self.io_paused.iter().filter_map(|id| self.vms.get(id)) {
            let Some(node) = self.nodes.get(&vm.entry.node) else { continue };
            let Some(store) = vm.entry.datastore.as_ref().filter(|store| self.misses_store(node, store)) else {
                continue;
            };
            let entry = missed.entry(store.clone()).or_default();
            entry.0.insert(node.entry.node.clone());
            entry.1 += 1;
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vouch_types::{
        AssignmentGeneration, BootId, Incarnation, ManagerId, NodePath, Observation, Outcome, PeerReach,
        ProbeAssignment, ProbeName, Timing, WallTime, WatcherHealth, WatcherLife,
    };

    use super::*;
    use crate::watcher_track::WatcherTrack;
    use crate::{LinkMeasure, NodeEntry, WatcherEntry};

    #[test]
    fn round_trips_that_lose_half_lose_three_tenths_each_way() {
        assert_eq!(one_way_loss(510), 300);
        assert_eq!((one_way_loss(0), one_way_loss(1000), one_way_loss(u16::MAX)), (0, 1000, 1000));
    }

    /// Two watchers that look at 20 VMs of node `n1`: from the node itself each is seen, from elsewhere none is, after
    /// so many runs in a row that failed.
    fn unreached(rows: impl Fn(u32) -> u32, now: Moment) -> Detector {
        let mut detector = Detector::new(ManagerId::new(1), Timing::default());
        for ago in [2_400, 1_600, 800, 0] {
            detector.listening.note(now - Duration::from_millis(ago), Duration::from_secs(1));
        }
        let ids: Vec<VmId> = (1..=20).map(|n| VmId::new(uuid::Uuid::from_u128(n))).collect();
        let probe = ProbeName::new("rdp").expect("a valid name");
        for (number, node) in (1..).zip(["n1", "n2"]) {
            let (watcher, node) = (WatcherId::new(number), NodeId::new(node).expect("a valid name"));
            let entry = NodeEntry {
                node: node.clone(),
                boot: BootId::new(uuid::Uuid::from_u128(1)),
                rack: None,
                fence: None,
                path: NodePath::direct(WallTime::default()),
            };
            let mut track = NodeTrack::new(entry, Moment::ZERO);
            track.local_watchers.insert(watcher);
            if number == 1 {
                track.vms.extend(&ids);
            }
            detector.nodes.insert(node.clone(), track);
            let (life, assignment) = (WatcherLife::Live, AssignmentGeneration::default());
            let entry = WatcherEntry { watcher, node, life, incarnation: None, vms: ids.clone(), assignment };
            detector.watchers.insert(watcher, WatcherTrack::new(entry, Moment::ZERO));
        }
        for (number, id) in (1..).zip(&ids) {
            let mut vm = crate::vm_track::tests::track();
            vm.entry.vm = *id;
            let (network, settings) = (Network::Service, String::new());
            vm.entry.proven = vec![ProbeAssignment { probe: probe.clone(), network, settings }];
            let mut saw = |watcher, outcome, begun| {
                let (watcher, probe, reason) = (WatcherId::new(watcher), probe.clone(), String::new());
                let (message, identity, asked) = (String::new(), None, None);
                let seen =
                    Observation { watcher, vm: *id, network, probe, outcome, reason, message, identity, begun, asked };
                vm.see(seen, Duration::ZERO);
            };
            saw(1, Outcome::Up, now);
            (0..rows(number)).for_each(|n| saw(2, Outcome::Down, now - Duration::from_millis(50) * (rows(number) - n)));
            detector.vms.put(vm);
        }
        detector
    }

    fn is_cut(mut detector: Detector, beat: Option<Moment>, now: Moment) -> bool {
        let node = NodeId::new("n1").expect("a valid name");
        let (manager, network) = (ManagerId::new(1), Network::Service);
        let (heard, read_age, echoed) = (beat, None, beat);
        let (loss_in_per_mille, loss_out_per_mille) = (300, 300);
        let track = detector.nodes.get_mut(&node).expect("it is known");
        track.measure(&LinkMeasure {
            manager,
            node: node.clone(),
            network,
            heard,
            read_age,
            echoed,
            loss_in_per_mille,
            loss_out_per_mille,
        });
        detector.regroup(now);
        detector.nodes[&node].service_cut.is_some()
    }

    #[test]
    fn a_burst_in_which_every_vm_fails_a_few_times_is_no_dead_uplink_while_heartbeats_come_over_it() {
        let now = Moment::ZERO + Duration::from_secs(60);
        let ago = |ms| Some(now - Duration::from_millis(ms));
        let burst = || unreached(|_| 3, now);
        assert!(is_cut(burst(), None, now), "no heartbeat ever came over it: 60 failures together show it");
        assert!(!is_cut(burst(), ago(600), now));
        assert!(!is_cut(burst(), ago(4_500), now), "22 in a row are lost now and then where 30 % are");
        assert!(is_cut(burst(), ago(4_600), now), "23 are not");
        let one_long = || unreached(|vm| if vm == 1 { POOLED_FAILURES_MIN } else { 1 }, now);
        assert!(is_cut(one_long(), ago(600), now), "what the uplink carries does not reach any VM");
    }

    /// Lets a watcher say at `now` what it loses over the service network, and whether a peer answers it there.
    fn say(detector: &mut Detector, watcher: u64, now: Moment, service_loss_per_mille: u16, reached: bool) {
        let (peer, network) = (WatcherId::new(9), Network::Service);
        let peers = vec![PeerReach { peer, network, reached }];
        let health = WatcherHealth { service_loss_per_mille, peers, ..WatcherHealth::well() };
        let track = detector.watchers.get_mut(&WatcherId::new(watcher)).expect("it is known");
        track.hear(ManagerId::new(1), Network::Management, Incarnation::new(1), now, Some(health));
    }

    #[test]
    fn a_node_whose_watcher_a_peer_answers_over_the_network_is_not_cut_off_from_it() {
        let now = Moment::ZERO + Duration::from_secs(60);
        for (reached, heard, cut) in
            [(false, now, true), (true, now, false), (true, now - Duration::from_secs(3), true)]
        {
            let mut detector = unreached(|_| POOLED_FAILURES_MIN, now);
            say(&mut detector, 1, heard, 0, reached);
            assert_eq!(is_cut(detector, None, now), cut, "reached: {reached}, heard at {heard:?}");
        }
    }

    #[test]
    fn what_peers_answer_tells_the_loss_and_what_probes_come_to_only_where_none_does() {
        let now = Moment::ZERO + Duration::from_secs(60);
        let mut detector = unreached(|_| 0, now);
        let node = NodeId::new("n1").expect("a valid name");
        let track = detector.nodes.get_mut(&node).expect("it is known");
        track.local_watchers.insert(WatcherId::new(2));
        let told = |detector: &Detector| detector.loss_of(now, &detector.nodes[&node], Network::Service);
        say(&mut detector, 1, now, 510, true);
        say(&mut detector, 2, now, 100, false);
        assert_eq!(told(&detector).map(|loss| loss.mean), Some(300));
        say(&mut detector, 1, now, 510, false);
        assert_eq!(told(&detector).map(|loss| loss.mean), Some(51), "then the one that loses least");
    }
}
