//! What the detector orders: only the leader's orders are carried out.

use std::time::Duration;

use vouch_types::command::PathChange;
use vouch_types::event::ManagerNote;
use vouch_types::{
    BootChange, ClaimChange, IncidentChange, Moment, NodeId, Nonce, Pin, PlacementChange, ProbeAssignment,
    VerdictChange, VmId, WatcherId,
};

/// An order of the detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Ask a watcher to look now.
    Ask(Ask),
    /// Propose these changes as one command; the driver answers with `ProposalSettled`.
    ///
    /// At most one proposal is under way at a time.
    Propose(Proposal),
    /// Call `handle(now, Event::Ticked)` at this moment at the latest; it replaces any earlier order of this kind.
    Schedule(Moment),
}

/// What an ask may cost: bursts are light.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// Ping, connect and relay only, where a VM has any of those.
    Light,
    /// Every probe of the VM.
    Full,
}

/// A request to a watcher (M3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Which watcher.
    pub watcher: WatcherId,
    /// Ties the answer to it; unique within this manager's process, and rising.
    pub nonce: Nonce,
    /// What the watcher may spend on it.
    pub weight: Weight,
    /// How long the watcher has.
    pub deadline: Duration,
    /// Nodes whose relay is to be asked.
    pub nodes: Vec<NodeId>,
    /// VMs whose probes are to be run.
    pub vms: Vec<VmId>,
}

/// Changes that belong together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Proposal {
    /// Verdicts.
    pub verdicts: Vec<VerdictChange>,
    /// Paths.
    pub paths: Vec<PathChange>,
    /// All manager notes as they are now, when they changed.
    pub manager_notes: Option<Vec<ManagerNote>>,
    /// Probes that have succeeded for the first time.
    pub proven: Vec<(VmId, ProbeAssignment)>,
    /// Whom probes found for the first time.
    pub pins: Vec<(VmId, Pin)>,
    /// Incidents that open, say something else, or close.
    pub incidents: Vec<IncidentChange>,
    /// VMs that have migrated.
    pub placements: Vec<PlacementChange>,
    /// Boots that begin, have used up more of their budget, or are over.
    pub boots: Vec<BootChange>,
    /// Other nodes that say that they execute a VM, or say so no more.
    pub claims: Vec<ClaimChange>,
    /// Nodes whose proof does not hold any more, and why.
    pub withdrawn: Vec<(NodeId, String)>,
    /// Watchers that are lost, and why.
    pub lost_watchers: Vec<(WatcherId, String)>,
}

impl Proposal {
    /// Returns whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.verdicts.is_empty()
            && self.paths.is_empty()
            && self.manager_notes.is_none()
            && self.proven.is_empty()
            && self.pins.is_empty()
            && self.incidents.is_empty()
            && self.placements.is_empty()
            && self.boots.is_empty()
            && self.claims.is_empty()
            && self.withdrawn.is_empty()
            && self.lost_watchers.is_empty()
    }
}
