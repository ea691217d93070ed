//! Moves the phases of nodes' direct paths, and asks watchers about those that are missed (rule 2).

use std::collections::BTreeSet;
use std::time::Duration;

use vouch_types::{Moment, Network, NodeId, Nonce, RelayOutcome, VmId, WatcherId, WatcherLife};

use crate::asks::OpenAsk;
use crate::judge::guest::{Class, class};
use crate::judge::path::PathWitness;
use crate::node_track::{NodeTrack, Phase};
use crate::watcher_track::WatcherTrack;
use crate::{Ask, Detector, Effect, Weight};

/// The most VMs that one ask names.
pub const ASK_VMS_MAX: usize = 64;
/// The most watchers on other nodes that are asked about one node.
const REMOTE_WITNESSES_MAX: usize = 3;
/// How long an ask waits for a slow probe at the most: who wants a fresh look by HTTP is answered before that gives up.
const RUN_AWAITED_LONGEST: Duration = Duration::from_secs(6);

impl Detector {
    pub(crate) fn advance_all(&mut self, now: Moment) {
        let nodes: Vec<_> = self.nodes.keys().cloned().collect();
        for node in &nodes {
            self.advance_node(now, node);
        }
        self.asks.forget_before(now - self.timing.window * 4);
        for id in self.restless.clone() {
            self.mark(id);
        }
        // What a silent watcher saw grows old, and hides nothing any more.
        let silent_since = now - self.timing.window;
        let silent =
            |w: &&WatcherTrack| w.entry.life == WatcherLife::Live && w.last_heard().is_none_or(|at| at < silent_since);
        let hidden: Vec<VmId> = self.watchers.values().filter(silent).flat_map(|w| w.entry.vms.clone()).collect();
        for id in hidden {
            self.mark(id);
        }
    }

    /// Moves the phase of one node's path as far as it goes now.
    pub(crate) fn advance_node(&mut self, now: Moment, node: &NodeId) {
        let (leads, may_judge) = (self.leads.is_some(), self.listening.covers(now, self.timing.window));
        let suspect_after = self.timing.suspect_after();
        let early = suspect_after * 2 / 3;
        let word_late = self.timing.lost_after;
        let Some(track) = self.nodes.get_mut(node) else { return };
        self.touched.insert(node.clone());
        // Heartbeats show a living agent; what it says of its VMs comes by stream, and a stream may stall for a while.
        let word_age = now.since(track.last_word().max(self.listening.since()));
        let stalled = track.report.is_some() && word_age >= word_late;
        let silence = now.since(track.silent_since().max(self.listening.since()));
        let age = if stalled { silence.max(word_age) } else { silence };
        let lost = track.streams_lost(now, &self.timing);
        match &track.phase {
            Phase::Direct => {
                if lost || age >= early {
                    track.phase = Phase::Suspect { since: now, open: BTreeSet::new(), deadline: None };
                    self.dirty_node(node);
                }
            }
            Phase::Suspect { since, open, deadline } => {
                let word_since = !stalled && track.last_direct().is_some_and(|at| at >= *since);
                let answered = match deadline {
                    Some(deadline) => open.is_empty() || now >= *deadline,
                    None => !leads,
                };
                let patience = track.patience(now, &self.timing);
                let silent_for = if lost { suspect_after / 2 } else { suspect_after + patience };
                let since = *since;
                if word_since || (age < early && !lost) {
                    track.phase = Phase::Direct;
                    self.dirty_node(node);
                } else if deadline.is_none() && leads {
                    self.ask_about_node(now, node);
                } else if answered && may_judge && age >= silent_for {
                    track.phase = Phase::Cut { floor: since, since: now, next_ask: now };
                    self.dirty_node(node);
                }
            }
            Phase::Cut { floor, since, next_ask } => {
                let (floor, cut, next_ask) = (*floor, *since, *next_ask);
                if track.report.is_some_and(|(_, begun)| begun > floor)
                    && track.last_direct().is_some_and(|at| at > floor && now.since(at) < early)
                {
                    track.phase = Phase::Direct;
                    track.candidate = None;
                    track.note_recovery(now, cut, &self.timing);
                    self.dirty_node(node);
                } else {
                    if leads && now >= next_ask {
                        track.phase = Phase::Cut { floor, since: cut, next_ask: now + self.timing.report_interval };
                        self.ask_watchers(now, node);
                    }
                    self.dirty_node(node);
                }
            }
        }
    }

    pub(crate) fn dirty_node(&mut self, node: &NodeId) {
        let vms: Vec<_> = self.nodes.get(node).map(|track| track.vms.iter().copied().collect()).unwrap_or_default();
        vms.into_iter().for_each(|vm| self.mark(vm));
    }

    fn ask_about_node(&mut self, now: Moment, node: &NodeId) {
        let asked = self.ask_watchers(now, node);
        let deadline = now + self.timing.ask_deadline;
        let Some(track) = self.nodes.get_mut(node) else { return };
        if let Phase::Suspect { open, deadline: until, .. } = &mut track.phase {
            *open = asked;
            *until = Some(deadline);
            self.effects.push(Effect::Schedule(deadline));
        }
    }

    /// Asks the watchers on the node and some elsewhere; returns the nonces.
    fn ask_watchers(&mut self, now: Moment, node: &NodeId) -> BTreeSet<Nonce> {
        let Some(track) = self.nodes.get(node) else { return BTreeSet::new() };
        let live = |id: &&WatcherId| self.watchers.get(id).is_some_and(|w| w.entry.life == WatcherLife::Live);
        let local = track.local_watchers.iter().filter(live);
        let remote = track.remote_watchers.iter().filter(live).take(REMOTE_WITNESSES_MAX);
        let mut plan: Vec<(WatcherId, Vec<VmId>)> = Vec::new();
        for id in local.chain(remote) {
            let watched = |vm: &VmId| self.vms.get(vm).is_some_and(|vm| vm.observers.contains(id));
            plan.push((*id, track.vms.iter().copied().filter(watched).take(ASK_VMS_MAX).collect()));
        }
        plan.into_iter().map(|(watcher, vms)| self.ask(now, watcher, Weight::Light, vec![node.clone()], vms)).collect()
    }

    /// Asks every watcher of a VM about it and about its node's relay.
    pub(crate) fn ask_about_vm(&mut self, now: Moment, vm: VmId) {
        let Some(track) = self.vms.get(&vm) else { return };
        let node = track.entry.node.clone();
        for watcher in self.watchers_of(track) {
            self.ask(now, watcher, Weight::Full, vec![node.clone()], vec![vm]);
        }
    }

    pub(crate) fn ask(
        &mut self,
        now: Moment,
        watcher: WatcherId,
        weight: Weight,
        nodes: Vec<NodeId>,
        vms: Vec<VmId>,
    ) -> Nonce {
        let nonce = self.asks.open(OpenAsk { watcher, node: nodes.first().cloned(), at: now });
        // A node's paths are asked about for a quick answer; a VM's silence is known only when its probes give up.
        let deadline = match (weight, nodes.is_empty()) {
            (Weight::Light, false) => self.timing.ask_deadline,
            (Weight::Light, true) | (Weight::Full, _) => self.longest_run(&vms) + self.timing.tick_interval * 2,
        };
        self.effects.push(Effect::Ask(Ask { watcher, nonce, weight, deadline, nodes, vms }));
        nonce
    }

    /// Returns how long the slowest check of these VMs may take, as far as an ask waits for it.
    fn longest_run(&self, vms: &[VmId]) -> Duration {
        let tracks = vms.iter().filter_map(|id| self.vms.get(id));
        let runs = tracks.flat_map(|vm| vm.checks.iter().map(|check| self.probe_timeout(vm, check)));
        runs.max().unwrap_or(self.timing.probe_timeout).min(RUN_AWAITED_LONGEST).max(self.timing.ask_deadline)
    }

    pub(crate) fn close_ask(&mut self, now: Moment, watcher: WatcherId, nonce: Nonce) {
        let Some(node) = self.asks.get(nonce, watcher).and_then(|ask| ask.node.clone()) else { return };
        if let Some(track) = self.nodes.get_mut(&node)
            && let Phase::Suspect { open, .. } = &mut track.phase
            && open.remove(&nonce)
        {
            self.advance_node(now, &node);
        }
    }

    /// Returns what each watcher's evidence since `floor` says of a node's paths.
    pub(crate) fn witnesses(&self, now: Moment, node: &NodeTrack, floor: Moment) -> Vec<PathWitness> {
        // Two ticks of slack: a word is as old as the tick that it echoes.
        let since = floor.max(now - self.timing.window);
        let heard_since = since - self.timing.tick_interval * 2;
        let mut out = Vec::new();
        for id in node.local_watchers.union(&node.remote_watchers) {
            let Some(watcher) = self.watchers.get(id).filter(|w| w.entry.life == WatcherLife::Live) else { continue };
            let asked = node.relay.get(id);
            let relay = asked.and_then(|r| {
                let reached = r.reached.is_some_and(|at| at >= since);
                if reached { Some(RelayOutcome::Reached) } else { (r.begun >= since).then_some(r.outcome) }
            });
            let hears = asked.filter(|_| relay == Some(RelayOutcome::Reached)).map(|r| r.hears.clone());
            let saw = |vm: &VmId| {
                self.vms.get(vm).is_some_and(|vm| {
                    let own = vm.checks.iter().filter(|c| c.watcher == *id && c.network == Network::Service);
                    let probes = own.filter(|c| class(&c.probe) != Class::Agent);
                    probes.into_iter().any(|c| self.alive_at(vm, c).is_some_and(|at| at >= since))
                })
            };
            out.push(PathWitness {
                watcher: *id,
                local: watcher.entry.node == node.entry.node,
                heard: watcher.last_heard().is_some_and(|at| at >= heard_since),
                heard_over_management: watcher.last_heard_over(Network::Management).is_some_and(|at| at >= heard_since),
                healthy: watcher.is_healthy_on(Network::Management),
                relay,
                hears: hears.unwrap_or_default(),
                saw_vm: node.vms.iter().any(saw),
            });
        }
        out
    }

    /// How long a manager must not hear a node that others hear before it is noted.
    pub(crate) fn deaf_after(&self) -> Duration {
        self.timing.suspect_after() + self.timing.tick_interval
    }
}
