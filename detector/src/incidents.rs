//! Incidents: which shared elements are broken now, against those that are recorded as open.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::incident::INCIDENT_NODES_MAX;
use vouch_types::{Cause, Fault, IncidentChange, IncidentScope, IncidentWord, Moment, Network, NodeId, VmId, VmState};

use crate::Detector;
use crate::judge::path::{NodeLife, SITE_SILENT, site_silent};
use crate::node_track::{NodeTrack, Phase};
use crate::path_changes::loss_detail;

/// An incident that would be said otherwise than it is recorded, and has not lasted yet: since when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PendingIncident {
    /// It would be said, or said otherwise.
    Said(Moment),
    /// It would be over.
    Over(Moment),
}

impl Detector {
    /// Returns the incidents that are to be opened, changed or closed now.
    pub(crate) fn incident_changes(&mut self, now: Moment) -> Vec<IncidentChange> {
        // One that was found by somebody who had listened for longer is not told to be over by who has just begun.
        let young = self.is_young(now);
        let mut wanted = self.incidents_now(now);
        let scopes: BTreeSet<IncidentScope> = wanted.keys().chain(self.recorded_incidents.keys()).cloned().collect();
        self.pending_incidents.retain(|scope, _| scopes.contains(scope));
        let mut changes = Vec::new();
        for scope in scopes {
            let word = wanted.remove(&scope);
            let recorded = self.recorded_incidents.get(&scope);
            if word.as_ref() == recorded {
                self.pending_incidents.remove(&scope);
                continue;
            }
            // It opens soon and closes late: each opening and closing is a notification.
            let wait = match (&word, recorded) {
                (Some(_), None) => self.settle_time(),
                (Some(_) | None, _) => self.timing.window,
            };
            let (since, pending) = match (&word, self.pending_incidents.get(&scope)) {
                (Some(_), Some(PendingIncident::Said(at))) => (*at, PendingIncident::Said(*at)),
                (None, Some(PendingIncident::Over(at))) => (*at, PendingIncident::Over(*at)),
                (Some(_), _) => (now, PendingIncident::Said(now)),
                (None, _) => (now, PendingIncident::Over(now)),
            };
            self.pending_incidents.insert(scope.clone(), pending);
            // Followers keep count as well: what has lasted when one of them leads is told at once.
            let may_tell = word.is_some() || !young;
            if now.since(since) >= wait && may_tell && self.leads.is_some() {
                self.pending_incidents.remove(&scope);
                changes.push(IncidentChange { scope, word });
            }
        }
        changes
    }

    /// Returns what is shared and broken, by the evidence of now.
    fn incidents_now(&self, now: Moment) -> BTreeMap<IncidentScope, IncidentWord> {
        let mut out = BTreeMap::new();
        let mut add = |scope: IncidentScope, fault: Fault, nodes: BTreeSet<NodeId>, vms: u64, reason: String| {
            let word = IncidentWord {
                fault,
                vms_touched: vms,
                nodes_touched: nodes.len() as u64,
                nodes: nodes.into_iter().take(INCIDENT_NODES_MAX).collect(),
                reason,
            };
            out.insert(scope, word);
        };
        let vms_of = |nodes: &BTreeSet<NodeId>| {
            nodes.iter().filter_map(|n| self.nodes.get(n)).map(|n| n.vms.len() as u64).sum::<u64>()
        };
        let all: BTreeSet<NodeId> = self.nodes.keys().cloned().collect();
        for network in &self.groups.networks_down {
            let fault = Fault::sure(Cause::Network(*network));
            let reason = match network {
                Network::Management => "no node is heard over the management network, and watchers are over the other",
                Network::Service => "nothing is reached over the service network from one node to another",
            };
            add(IncidentScope::Network(*network), fault, all.clone(), vms_of(&all), reason.to_owned());
        }
        for network in self.groups.networks_lossy.difference(&self.groups.networks_down) {
            let told = self.recorded_incidents.get(&IncidentScope::Network(*network)).map(|w| w.fault.detail.as_str());
            let detail = loss_detail(*network, self.mean_loss(now, *network), told);
            let fault = Fault::sure(Cause::LossyPath).with_detail(&detail);
            let reason = format!("most paths over the {network} network lose packets: {detail}");
            add(IncidentScope::Network(*network), fault, all.clone(), vms_of(&all), reason);
        }
        if self.groups.site_silent {
            let missed = |n: &&NodeTrack| matches!(n.phase, Phase::Cut { .. });
            let nodes: BTreeSet<NodeId> = self.nodes.values().filter(missed).map(|n| n.entry.node.clone()).collect();
            let vms = vms_of(&nodes);
            add(IncidentScope::Site, site_silent(), nodes, vms, SITE_SILENT.to_owned());
        }
        for rack in &self.groups.racks_silent {
            let nodes: BTreeSet<NodeId> = self
                .nodes
                .values()
                .filter(|n| n.entry.rack.as_ref() == Some(rack))
                .map(|n| n.entry.node.clone())
                .collect();
            let fault = Fault::weighed(&[(Cause::Rack, 70), (Cause::Node, 15), (Cause::NodeIsolated, 15)])
                .with_detail("silent");
            let reason = format!("every node of rack {rack} is silent, and nodes of other racks are heard");
            let vms = vms_of(&nodes);
            add(IncidentScope::Rack(rack.clone()), fault, nodes, vms, reason);
        }
        for (id, node) in &self.nodes {
            let own = BTreeSet::from([id.clone()]);
            let vms = node.vms.len() as u64;
            if node.is_flapping(now) {
                let fault = Fault::sure(Cause::ManagerNodePath).with_detail("flapping");
                let reason = "the path to the node comes and goes".to_owned();
                add(IncidentScope::Flapping(id.clone()), fault, own.clone(), vms, reason);
            }
            if let Some((fault, reason)) = self.node_incident(now, node) {
                add(IncidentScope::Node(id.clone()), fault, own, vms, reason);
            }
        }
        for (store, (nodes, paused)) in self.missed_stores() {
            let reason = format!("{paused} VMs on {} nodes are paused by errors of store {store}", nodes.len());
            let fault = Fault::sure(Cause::Storage).with_detail("i/o error");
            add(IncidentScope::Datastore(store), fault, nodes, paused, reason);
        }
        for manager in &self.full_disks {
            let fault = Fault::sure(Cause::Manager).with_detail("disk full");
            let reason = format!("the disk of {manager} is below its watermark: it takes no entries and does not lead");
            add(IncidentScope::Manager(*manager), fault, BTreeSet::new(), 0, reason);
        }
        // One that is deaf as well is told as that: it touches nodes.
        for (manager, nodes) in self.deaf_managers() {
            let fault = Fault::sure(Cause::Manager).with_detail("deaf");
            let reason = format!("{manager} does not hear {} nodes that others hear", nodes.len());
            let vms = vms_of(&nodes);
            add(IncidentScope::Manager(manager), fault, nodes, vms, reason);
        }
        out
    }

    /// Returns what is broken of one node alone, where that touches its VMs.
    fn node_incident(&self, now: Moment, node: &NodeTrack) -> Option<(Fault, String)> {
        let in_silent_rack = node.entry.rack.as_ref().is_some_and(|rack| self.groups.racks_silent.contains(rack));
        if let Phase::Cut { .. } = node.phase
            && !in_silent_rack
            && !self.groups.site_silent
        {
            let (_, judged) = self.path_judgement(now, node)?;
            let fault = judged.faults.into_iter().next()?;
            let told = match judged.life {
                NodeLife::Silent => true,
                NodeLife::Unknown => self.is_missed_alone(node),
                NodeLife::Lives => false,
            };
            return told.then_some((fault, judged.reason));
        }
        let cut = node.service_cut.is_some_and(|since| now.since(since) >= self.group_wait());
        let shared = self.groups.networks_down.contains(&Network::Service);
        (cut && !shared).then(|| {
            let reason = "nothing of the node is reached over the service network from elsewhere".to_owned();
            (Fault::sure(Cause::NodeUplink(Network::Service)), reason)
        })
    }

    /// Returns whether a node that nobody can tell of is to be told of by itself: its lost VMs wake nobody, as what is
    /// shared, and of a node without VMs nothing else tells. Where no other node is heard either, something else is broken.
    fn is_missed_alone(&self, node: &NodeTrack) -> bool {
        let is_lost = |id: &VmId| self.vms.get(id).is_some_and(|vm| vm.entry.verdict.state == VmState::Lost);
        let another_is_heard =
            || self.nodes.len() == 1 || self.nodes.values().any(|other| other.phase == Phase::Direct);
        (node.vms.is_empty() || node.vms.iter().any(is_lost))
            && self.groups.cause_of(node.entry.rack.as_deref()).is_none()
            && another_is_heard()
    }

    fn mean_loss(&self, now: Moment, network: Network) -> u16 {
        let losses: Vec<u32> = self
            .nodes
            .values()
            .filter_map(|n| self.loss_of(now, n, network))
            .map(|loss| u32::from(loss.mean))
            .collect();
        let count = u32::try_from(losses.len()).unwrap_or(u32::MAX).max(1);
        u16::try_from(losses.iter().sum::<u32>() / count).unwrap_or(u16::MAX)
    }

    /// Returns managers that do not hear most of the nodes, as it is recorded, with those nodes.
    fn deaf_managers(&self) -> BTreeMap<vouch_types::ManagerId, BTreeSet<NodeId>> {
        let mut deaf = BTreeMap::<_, BTreeSet<NodeId>>::new();
        for note in &self.recorded_notes {
            deaf.entry(note.manager).or_default().insert(note.node.clone());
        }
        deaf.retain(|_, nodes| nodes.len() >= 2 && nodes.len() * 2 > self.nodes.len());
        deaf
    }
}
