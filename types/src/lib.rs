//! The words of vouch as types: ids, states, observations, statements, verdicts, commands and events.
//!
//! Every other crate speaks in these. This crate does no I/O, reads no clock and draws no random number; it depends on
//! serde, uuid and thiserror alone, so that a simulator, a fuzzer or a client can use the words without the system.

pub mod advice;
pub mod agent_query;
pub mod allowed_imports;
pub mod applied;
pub mod ca;
pub mod command;
pub mod deny_reason;
pub mod duration;
pub mod event;
pub mod fault;
pub mod findings;
pub mod grant;
pub mod guard;
pub mod id;
pub mod incident;
pub mod join;
pub mod manager;
pub mod node;
pub mod observation;
pub mod outcome;
pub mod path;
pub mod policy;
pub mod probe;
pub mod probe_descriptor;
pub mod probe_grant;
pub mod probe_key;
pub mod probe_rollout;
pub mod progress;
pub mod proof;
pub mod removed_node;
pub mod scoped_probe;
pub mod sorted_map;
pub mod state;
pub mod statement;
pub mod time;
pub mod timing;
pub mod verdict;
pub mod vm;
pub mod wall_clock_watch;
pub mod watcher;

pub use advice::{Advice, Proof};
pub use agent_query::{AgentQuery, AgentQuestion};
pub use applied::Applied;
pub use ca::{CaSecrets, CaStage, NextCa};
pub use command::{BootChange, ClaimChange, Command, PlacementChange, VerdictChange};
pub use deny_reason::DenyReason;
pub use event::{EventKind, EventRecord};
pub use fault::{Cause, Fault, RankedCause};
pub use findings::{Findings, Phase, Sample};
pub use grant::Grant;
pub use guard::{Expected, Guard, Once};
pub use id::{
    AssignmentGeneration, BootId, ClusterId, Digest, Generation, IdError, Incarnation, IncidentId, JoinTokenId,
    LogIndex, LogName, MaintenanceId, ManagerId, NodeId, Nonce, ProbeKeyName, ProbeName, Sequence, StartId, Term,
    TickSequence, VerdictVersion, VmId, WatcherId,
};
pub use incident::{IncidentChange, IncidentRecord, IncidentScope, IncidentWord};
pub use join::{JoinFor, JoinRefusal, JoinRole, JoinStanding, JoinTokenRecord, JoinUse, Joiner};
pub use manager::{ManagerNode, ManagerRecord, ManagerReturn, RecordedLog, ReturnEnd, Suffrage};
pub use node::NodeRecord;
pub use observation::{Observation, PeerReach, RelayObservation, RelayOutcome, WatcherHealth};
pub use outcome::Outcome;
pub use path::{HandBack, Network, NodePath, Source};
pub use policy::{MaintenanceRecord, Policy, PolicyError, PolicyScope};
pub use probe::{ProbeImports, ProbeRecord};
pub use probe_descriptor::{DescriptorError, ProbeDescriptor};
pub use probe_grant::{GrantError, ProbeGrant, ProbeInterface, ProbePorts};
pub use probe_key::{
    ProbeKeyRecord, ProbePublicKey, ProbeRefusal, ProbeSigner, ProbeTrust, PublicKeyError, SignatureRule,
};
pub use probe_rollout::{Canary, ProbeRollout, RolloutPlan, RolloutStep, Tally};
pub use progress::{Operation, Progress};
pub use proof::{FenceKind, FenceProof};
pub use removed_node::{RemovedNode, SignedBy, VmInTheWay, VmsLeft};
pub use scoped_probe::{ProbeTimes, ScopedProbe, ScopedProbeKey, VmProbe};
pub use sorted_map::SortedMap;
pub use state::{ExitReason, HypervisorState, PauseReason, VmState};
pub use statement::Statement;
pub use time::{Moment, WallTime};
pub use timing::Timing;
pub use verdict::Verdict;
pub use vm::{BootKind, BootRecord, Identity, Pin, ProbeAssignment, VmRecord, VmSpec};
pub use watcher::{WatcherBoot, WatcherLeg, WatcherLegs, WatcherLife, WatcherRecord};
