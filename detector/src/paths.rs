//! Moves the phases of nodes' direct paths, and asks watchers about those that are missed (rule 2).

use std::collections::BTreeSet;
use std::time::Duration;

use vouch_types::{Moment, Network, NodeId, Nonce, VmId, WatcherId, WatcherLife};

use crate::asks::OpenAsk;
use crate::judge::path::PathWitness;
use crate::node_track::{NodeTrack, Phase};
use crate::{Ask, Detector, Effect};

/// The most VMs that one ask names.
pub const ASK_VMS_MAX: usize = 64;
/// The most watchers on other nodes that are asked about one node.
const REMOTE_WITNESSES_MAX: usize = 3;

impl Detector {
    pub(crate) fn advance_all(&mut self, now: Moment) {
        let nodes: Vec<_> = self.nodes.keys().cloned().collect();
        for node in &nodes {
            self.advance_node(now, node);
        }
        self.asks.forget_before(now - self.timing.window * 4);
        self.mark_suspicious();
    }

    /// Moves the phase of one node's path as far as it goes now.
    pub(crate) fn advance_node(&mut self, now: Moment, node: &NodeId) {
        let (leads, may_judge) = (self.leads.is_some(), self.listening.covers(now, self.timing.window));
        let suspect_after = self.timing.suspect_after();
        let early = suspect_after * 2 / 3;
        let Some(track) = self.nodes.get_mut(node) else { return };
        self.touched.insert(node.clone());
        let age = now.since(track.silent_since().max(self.listening.since()));
        let lost = track.streams_lost();
        match &track.phase {
            Phase::Direct => {
                if lost || age >= early {
                    track.phase = Phase::Suspect { since: now, open: BTreeSet::new(), deadline: None };
                    self.dirty_node(node);
                }
            }
            Phase::Suspect { since, open, deadline } => {
                let word_since = track.last_direct().is_some_and(|at| at >= *since);
                let answered = match deadline {
                    Some(deadline) => open.is_empty() || now >= *deadline,
                    None => !leads,
                };
                let silent_for = if lost { suspect_after / 2 } else { suspect_after };
                let since = *since;
                if word_since || (age < early && !lost) {
                    track.phase = Phase::Direct;
                    self.dirty_node(node);
                } else if deadline.is_none() && leads {
                    self.ask_about_node(now, node);
                } else if answered && may_judge && age >= silent_for {
                    track.phase = Phase::Cut { floor: since, next_ask: now };
                    self.dirty_node(node);
                }
            }
            Phase::Cut { floor, next_ask } => {
                let (floor, next_ask) = (*floor, *next_ask);
                if track.report.is_some_and(|(_, begun)| begun > floor)
                    && track.last_direct().is_some_and(|at| at > floor && now.since(at) < early)
                {
                    track.phase = Phase::Direct;
                    track.candidate = None;
                    track.note_recovery(now);
                    self.dirty_node(node);
                } else {
                    if leads && now >= next_ask {
                        track.phase = Phase::Cut { floor, next_ask: now + self.timing.report_interval };
                        self.ask_watchers(now, node);
                    }
                    self.dirty_node(node);
                }
            }
        }
    }

    fn dirty_node(&mut self, node: &NodeId) {
        if let Some(track) = self.nodes.get(node) {
            self.dirty.extend(track.vms.iter().copied());
        }
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
        let mut plan: Vec<(WatcherId, Vec<VmId>)> = Vec::new();
        let mut remote = 0;
        for (id, watcher) in &self.watchers {
            if watcher.entry.life != WatcherLife::Live {
                continue;
            }
            let vms: Vec<_> =
                watcher.entry.vms.iter().copied().filter(|vm| track.vms.contains(vm)).take(ASK_VMS_MAX).collect();
            let local = watcher.entry.node == *node;
            if local || (!vms.is_empty() && remote < REMOTE_WITNESSES_MAX) {
                remote += usize::from(!local);
                plan.push((*id, vms));
            }
        }
        plan.into_iter().map(|(watcher, vms)| self.ask(now, watcher, vec![node.clone()], vms)).collect()
    }

    /// Asks every watcher of a VM about it and about its node's relay.
    pub(crate) fn ask_about_vm(&mut self, now: Moment, vm: VmId) {
        let Some(track) = self.vms.get(&vm) else { return };
        let node = track.entry.node.clone();
        for watcher in self.watchers_of(vm) {
            self.ask(now, watcher, vec![node.clone()], vec![vm]);
        }
    }

    /// Returns the live watchers of a VM, in order.
    pub(crate) fn watchers_of(&self, vm: VmId) -> Vec<WatcherId> {
        let live = self.watchers.iter().filter(|(_, w)| w.entry.life == WatcherLife::Live);
        live.filter(|(_, w)| w.entry.vms.contains(&vm)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn ask(&mut self, now: Moment, watcher: WatcherId, nodes: Vec<NodeId>, vms: Vec<VmId>) -> Nonce {
        let nonce = self.asks.open(OpenAsk { watcher, node: nodes.first().cloned(), at: now });
        let deadline = self.timing.ask_deadline;
        self.effects.push(Effect::Ask(Ask { watcher, nonce, deadline, nodes, vms }));
        nonce
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
        for (id, watcher) in &self.watchers {
            let local = watcher.entry.node == node.entry.node;
            let concerned = local || watcher.entry.vms.iter().any(|vm| node.vms.contains(vm));
            if watcher.entry.life != WatcherLife::Live || !concerned {
                continue;
            }
            let relay = node.relay.get(id).and_then(|r| {
                let reached = r.reached.is_some_and(|at| at >= since);
                if reached { Some(vouch_types::RelayOutcome::Reached) } else { (r.begun >= since).then_some(r.outcome) }
            });
            let saw_vm = node.vms.iter().filter_map(|vm| self.vms.get(vm)).any(|vm| {
                vm.checks.iter().any(|(key, check)| {
                    key.0 == *id && key.1 == Network::Service && self.alive_at(check).is_some_and(|at| at >= since)
                })
            });
            out.push(PathWitness {
                watcher: *id,
                local,
                heard: watcher.last_heard().is_some_and(|at| at >= heard_since),
                heard_over_management: watcher.last_heard_over(Network::Management).is_some_and(|at| at >= heard_since),
                healthy: watcher.is_healthy_on(Network::Management),
                relay,
                saw_vm,
            });
        }
        out
    }

    /// How long a manager must not hear a node that others hear before it is noted.
    pub(crate) fn deaf_after(&self) -> Duration {
        self.timing.suspect_after() * 2
    }
}
