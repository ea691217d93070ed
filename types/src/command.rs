//! Commands: replicated intents, in the imperative. What came of each is [`Applied`](crate::Applied).

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::ca::ClusterSecrets;
use crate::event::ManagerNote;
use crate::{
    BootId, BootRecord, CaSecrets, ClusterId, Digest, Fault, FenceKind, Generation, Guard, HandBack, Incarnation,
    IncidentChange, IncidentScope, JoinFor, JoinTokenId, Joiner, LogName, MaintenanceId, ManagerId, ManagerReturn,
    NodeId, NodeRecord, Pin, Policy, PolicyScope, ProbeAssignment, ProbeGrant, ProbeKeyName, ProbeName, ProbePublicKey,
    ProbeRecord, ProbeRefusal, ReturnEnd, RolloutPlan, RolloutStep, ScopedProbe, ScopedProbeKey, SignatureRule, Source,
    Verdict, VerdictVersion, VmId, VmSpec, VmsLeft, WallTime, WatcherId,
};

/// The most changes that one `RecordVerdicts` may carry.
pub const CHANGES_MAX: usize = 10_000;

/// One verdict that replaces another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerdictChange {
    /// The VM.
    pub vm: VmId,
    /// The placement generation that was judged.
    pub generation: Generation,
    /// The version that is replaced; apply refuses a change whose version is not the recorded one.
    pub replaces: VerdictVersion,
    /// The new verdict; apply sets its version, and its `since` where the state is unchanged.
    pub verdict: Verdict,
    /// The shared element whose incident tells it already: then it is an event and no notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<IncidentScope>,
}

/// A VM that executes on another node than the recorded one, outside of any conflict: it has migrated.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlacementChange {
    /// The VM.
    pub vm: VmId,
    /// The generation that is replaced; apply refuses a change whose generation is not the recorded one.
    pub replaces: Generation,
    /// Its new owner.
    pub to: NodeId,
}

/// One state of a node's paths that replaces another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PathChange {
    /// The node.
    pub node: NodeId,
    /// The version that is replaced.
    pub replaces: VerdictVersion,
    /// The new source.
    pub source: Source,
    /// The new faults.
    pub faults: Vec<Fault>,
    /// Why, for people; at most 256 bytes.
    pub reason: String,
    /// Hand-backs that count towards flapping, this one among them if it is one; at most
    /// [`HAND_BACKS_MAX`](crate::path::HAND_BACKS_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hand_backs: Vec<HandBack>,
}

/// What a new leader is to know of other nodes that say that they execute a VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClaimChange {
    /// The VM.
    pub vm: VmId,
    /// The placement generation that they are beside; apply refuses another one than the recorded.
    pub generation: Generation,
    /// All such nodes as they are now; at most [`CLAIMS_MAX`](crate::vm::CLAIMS_MAX).
    pub claimed_by: Vec<NodeId>,
}

/// What a new leader is to know of the boot of a VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BootChange {
    /// The VM.
    pub vm: VmId,
    /// The placement generation that it is of; apply refuses another one than the recorded.
    pub generation: Generation,
    /// The boot that is under way; `None` once there is none any more.
    pub boot: Option<BootRecord>,
}

/// What the cluster is told to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Make the cluster: refused when there is one.
    InitCluster {
        /// Its id.
        cluster: ClusterId,
        /// Its keys.
        secrets: ClusterSecrets,
        /// When.
        at: WallTime,
    },
    /// Record a node, or what has changed of it. Its path state is kept.
    RecordNode {
        /// The node; `path` counts only for a new one.
        node: NodeRecord,
        /// When.
        at: WallTime,
    },
    /// Remove a node, with all that is recorded of it; refused while it lives.
    RemoveNode {
        /// The node.
        node: NodeId,
        /// What becomes of its VMs that may run.
        vms: VmsLeft,
        /// Who removes it, as far as is known.
        by: String,
        /// When.
        at: WallTime,
    },
    /// Record the VMs of a node: all of them. VMs that it no longer names are removed if it owns them.
    RecordVms {
        /// The node.
        node: NodeId,
        /// Its VMs.
        vms: Vec<VmSpec>,
        /// When.
        at: WallTime,
    },
    /// Record probes that succeeded for a VM for the first time.
    RecordProven {
        /// Per VM, the probes.
        proven: Vec<(VmId, ProbeAssignment)>,
        /// Whom they found, where they can tell; a pin that there is stays.
        #[serde(default)]
        pins: Vec<(VmId, Pin)>,
    },
    /// Record changes of verdicts and of paths, all or those that are not stale.
    RecordVerdicts {
        /// Changed verdicts.
        verdicts: Vec<VerdictChange>,
        /// Changed paths.
        paths: Vec<PathChange>,
        /// Managers that cannot hear what others hear: all notes as they are now, when they changed.
        manager_notes: Option<Vec<ManagerNote>>,
        /// Incidents that open, say something else, or close.
        #[serde(default)]
        incidents: Vec<IncidentChange>,
        /// VMs that have migrated.
        #[serde(default)]
        placements: Vec<PlacementChange>,
        /// Boots that begin, have used up more of their budget, or are over.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        boots: Vec<BootChange>,
        /// Other nodes that say that they execute a VM, or say so no more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        claims: Vec<ClaimChange>,
        /// When, on the proposing leader's wall clock.
        at: WallTime,
    },
    /// Create a watcher on a node; the cluster numbers it.
    PlaceWatcher {
        /// Where.
        node: NodeId,
        /// SHA-256 of its one-time secret.
        secret_hash: Vec<u8>,
        /// When.
        at: WallTime,
    },
    /// A watcher redeems its one-time secret.
    RedeemSecret {
        /// The watcher.
        watcher: WatcherId,
        /// SHA-256 of what it showed.
        secret_hash: Vec<u8>,
        /// Its incarnation.
        incarnation: Incarnation,
        /// When.
        at: WallTime,
    },
    /// Set what watchers watch.
    AssignWatchers {
        /// Per watcher, the whole list.
        assignments: Vec<(WatcherId, Vec<VmId>)>,
    },
    /// A watcher is lost: silent or gone.
    LoseWatcher {
        /// The watcher.
        watcher: WatcherId,
        /// Why, for people.
        reason: String,
        /// When.
        at: WallTime,
    },
    /// Have a watcher destroyed by its node.
    RetireWatcher {
        /// The watcher.
        watcher: WatcherId,
        /// When.
        at: WallTime,
    },
    /// A node has destroyed a watcher: forget it.
    ForgetWatcher {
        /// The watcher.
        watcher: WatcherId,
    },
    /// Record a probe component, whose bytes every manager holds or fetches by digest.
    RecordProbe {
        /// The probe.
        probe: ProbeRecord,
        /// Who uploaded it, as far as is known; empty for one that comes with vouch.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
        /// When.
        at: WallTime,
    },
    /// Grant an uploaded probe something else than it was granted.
    GrantProbe {
        /// The probe.
        probe: ProbeName,
        /// What.
        grant: ProbeGrant,
        /// Who grants it, as far as is known.
        by: String,
        /// When.
        at: WallTime,
    },
    /// Bring another version of a probe to all watchers, first to one.
    BeginRollout {
        /// The version.
        probe: Box<ProbeRecord>,
        /// What it has to show.
        plan: RolloutPlan,
        /// Who orders it, as far as is known.
        by: String,
        /// When.
        at: WallTime,
    },
    /// Go on with a rollout.
    StepRollout {
        /// Of which probe.
        probe: ProbeName,
        /// SHA-256 of the component that is on its way; refused when that is another one, or none.
        digest: Digest,
        /// How.
        step: RolloutStep,
        /// Who orders it, as far as is known; empty for the leader itself.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
        /// When.
        at: WallTime,
    },
    /// Assign a probe to the VMs of a scope, or change how.
    AssignProbe {
        /// What, and to which VMs; its version is set when it is applied.
        assigned: ScopedProbe,
        /// When.
        at: WallTime,
    },
    /// Assign a probe to the VMs of a scope no more.
    UnassignProbe {
        /// Which.
        key: ScopedProbeKey,
        /// Who orders it, as far as is known.
        by: String,
        /// When.
        at: WallTime,
    },
    /// Trust a key for signatures under probes.
    AddProbeKey {
        /// What it is called.
        name: ProbeKeyName,
        /// The key.
        public_key: ProbePublicKey,
        /// Who adds it, as far as is known.
        by: String,
        /// When.
        at: WallTime,
    },
    /// Trust a key no more. Probes that it signed stay.
    RemoveProbeKey {
        /// Which.
        name: ProbeKeyName,
        /// Who removes it, as far as is known.
        by: String,
        /// When.
        at: WallTime,
    },
    /// Set whether a probe is taken without a signature.
    SetSignatureRule {
        /// Whether.
        signatures: SignatureRule,
        /// Who sets it, as far as is known.
        by: String,
        /// When.
        at: WallTime,
    },
    /// Take down that an upload was refused.
    RefuseProbe {
        /// What, and why.
        refusal: ProbeRefusal,
        /// When.
        at: WallTime,
    },
    /// Set the policy of a scope; an empty one removes it.
    SetPolicy {
        /// For whom.
        scope: PolicyScope,
        /// What; validated before it is proposed, and again when it is applied.
        policy: Policy,
        /// When.
        at: WallTime,
    },
    /// Begin a maintenance window.
    BeginMaintenance {
        /// For whom.
        scope: PolicyScope,
        /// Why.
        reason: String,
        /// How long.
        #[serde(with = "crate::duration", rename = "lasts_ms")]
        lasts: Duration,
        /// When.
        at: WallTime,
    },
    /// Record how long maintenance windows still last, so that another leader goes on from there.
    RecordMaintenance {
        /// Per window, what is left.
        remaining: Vec<(MaintenanceId, u64)>,
    },
    /// End a maintenance window.
    EndMaintenance {
        /// Which.
        maintenance: MaintenanceId,
        /// When.
        at: WallTime,
    },
    /// Record the proof that a node does not run.
    RecordFenceProof {
        /// The node.
        node: NodeId,
        /// The boot that the proof speaks of; refused when another one is recorded.
        boot: BootId,
        /// How it is known.
        kind: FenceKind,
        /// What its bringer adds.
        note: String,
        /// When.
        at: WallTime,
    },
    /// Withdraw the proof: somebody heard the node.
    WithdrawFenceProof {
        /// The node.
        node: NodeId,
        /// Why, for people.
        reason: String,
        /// When.
        at: WallTime,
    },
    /// Forget whom a VM's probes found behind its addresses: it was installed anew.
    ForgetPins {
        /// The VM.
        vm: VmId,
        /// When.
        at: WallTime,
    },
    /// Make a join token.
    CreateJoinToken {
        /// Whom it lets in.
        allows: JoinFor,
        /// SHA-256 of its secret.
        secret_hash: Digest,
        /// How often it may be used.
        uses: u32,
        /// How long it holds from `at` on.
        #[serde(with = "crate::duration", rename = "ttl_ms")]
        ttl: Duration,
        /// When.
        at: WallTime,
    },
    /// Take a join token back.
    RevokeJoinToken {
        /// Which.
        token: JoinTokenId,
        /// When.
        at: WallTime,
    },
    /// Use a join token once.
    RedeemJoinToken {
        /// SHA-256 of the secret that was shown.
        secret_hash: Digest,
        /// Who joins.
        joiner: Joiner,
        /// SHA-256 of the signing request: the same request is the same use.
        request: Digest,
        /// SHA-256 of the public key that was signed: a node that was removed is let in with this one alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Digest>,
        /// The life of the joiner, where it counts.
        incarnation: Incarnation,
        /// When, on the leader's clock: what the token's end is judged by.
        at: WallTime,
    },
    /// Have a second CA trusted. It signs nothing yet.
    AddCa {
        /// The new CA.
        ca: CaSecrets,
        /// When.
        at: WallTime,
    },
    /// Have the second CA sign from now on.
    SwitchCa {
        /// When.
        at: WallTime,
    },
    /// Trust the first CA no more: the second takes its place.
    RetireCa {
        /// When.
        at: WallTime,
    },
    /// Record which log a manager has; refused where another one is recorded.
    RecordManagerLog {
        /// The manager.
        manager: ManagerId,
        /// Its log.
        log: LogName,
    },
    /// Have a manager that lost its log removed, added again, and given back what it had.
    BeginManagerReturn {
        /// The manager.
        manager: ManagerId,
        /// How it is to come back.
        returning: ManagerReturn,
        /// When.
        at: WallTime,
    },
    /// Remember no longer that a manager is to come back.
    EndManagerReturn {
        /// The manager.
        manager: ManagerId,
        /// Why not.
        end: ReturnEnd,
        /// When.
        at: WallTime,
    },
    /// Do what an operator asked for, if what it says of its guard holds.
    Guarded {
        /// What; never guarded itself.
        command: Box<Command>,
        /// What must hold.
        guard: Guard,
    },
    /// Record who leads, once per term.
    RecordLeader {
        /// The leader.
        manager: ManagerId,
        /// Its term.
        term: crate::Term,
        /// When.
        at: WallTime,
    },
}

impl Command {
    /// Returns its name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InitCluster { .. } => "init_cluster",
            Self::RecordNode { .. } => "record_node",
            Self::RemoveNode { .. } => "remove_node",
            Self::RecordVms { .. } => "record_vms",
            Self::RecordProven { .. } => "record_proven",
            Self::RecordVerdicts { .. } => "record_verdicts",
            Self::PlaceWatcher { .. } => "place_watcher",
            Self::RedeemSecret { .. } => "redeem_secret",
            Self::AssignWatchers { .. } => "assign_watchers",
            Self::LoseWatcher { .. } => "lose_watcher",
            Self::RetireWatcher { .. } => "retire_watcher",
            Self::ForgetWatcher { .. } => "forget_watcher",
            Self::RecordProbe { .. } => "record_probe",
            Self::GrantProbe { .. } => "grant_probe",
            Self::BeginRollout { .. } => "begin_rollout",
            Self::StepRollout { .. } => "step_rollout",
            Self::AssignProbe { .. } => "assign_probe",
            Self::UnassignProbe { .. } => "unassign_probe",
            Self::AddProbeKey { .. } => "add_probe_key",
            Self::RemoveProbeKey { .. } => "remove_probe_key",
            Self::SetSignatureRule { .. } => "set_signature_rule",
            Self::RefuseProbe { .. } => "refuse_probe",
            Self::SetPolicy { .. } => "set_policy",
            Self::BeginMaintenance { .. } => "begin_maintenance",
            Self::RecordMaintenance { .. } => "record_maintenance",
            Self::EndMaintenance { .. } => "end_maintenance",
            Self::RecordFenceProof { .. } => "record_fence_proof",
            Self::WithdrawFenceProof { .. } => "withdraw_fence_proof",
            Self::ForgetPins { .. } => "forget_pins",
            Self::CreateJoinToken { .. } => "create_join_token",
            Self::RevokeJoinToken { .. } => "revoke_join_token",
            Self::RedeemJoinToken { .. } => "redeem_join_token",
            Self::AddCa { .. } => "add_ca",
            Self::SwitchCa { .. } => "switch_ca",
            Self::RetireCa { .. } => "retire_ca",
            Self::RecordManagerLog { .. } => "record_manager_log",
            Self::BeginManagerReturn { .. } => "begin_manager_return",
            Self::EndManagerReturn { .. } => "end_manager_return",
            // What is done counts, not how it is guarded.
            Self::Guarded { command, .. } => command.name(),
            Self::RecordLeader { .. } => "record_leader",
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
