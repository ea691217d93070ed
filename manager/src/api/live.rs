//! What the API asks the running manager for: live evidence, a forced check, who is heard, readiness and counters.
//!
//! None of it is replicated. The fleet part implements it; tests bring their own. It must never be used to decide
//! anything: it shows what one manager has in memory now.

use std::collections::BTreeSet;

use async_trait::async_trait;
use thiserror::Error;
use vouch_types::{CaStage, ClusterId, DenyReason, ManagerId, ManagerNode, VmId};
use vouch_wire::convert::{DurationHistogram, DurationKey};
use vouch_wire::pki::{PeerIdentity, ROOTS_MAX};

use crate::raft::MembershipError;

use super::ca_view::CaView;
use super::view::{CheckView, EvidenceView, HearingView, ReasonView, StateHashView};

/// The running manager as the API sees it.
#[async_trait]
pub trait LiveView: Send + Sync + 'static {
    /// Returns what this manager's detector holds on a VM now; `None` when it knows no such VM.
    async fn evidence(&self, vm: VmId) -> Option<EvidenceView>;

    /// Has the watchers of a VM look at it now, and returns once they have answered or their time is over.
    ///
    /// # Errors
    /// [`CheckError`] when nobody was asked.
    async fn check(&self, vm: VmId) -> Result<CheckView, CheckError>;

    /// Returns which nodes and watchers each manager hears, as far as this manager knows: its own streams, and what
    /// the evidence of the others says.
    async fn hearing(&self) -> HearingView;

    /// Returns whether this manager may be sent requests, and why not.
    async fn readiness(&self) -> Readiness;

    /// Returns counters and gauges of this process for `/metrics`, beside those that the API makes from the state.
    async fn metrics(&self) -> Vec<Metric>;

    /// Returns how long checks took that were answered, since this process began.
    fn durations(&self) -> Vec<(DurationKey, DurationHistogram)>;

    /// Returns the hash of this manager's applied state, and how it compares with the others'.
    fn state_hashes(&self) -> StateHashView;

    /// Makes the cluster out of the configured managers, and its keys out of this manager's CA key. Returns once the
    /// cluster's id is committed; one that exists already is an error.
    ///
    /// # Errors
    /// [`InitError`] when there is a cluster, when this manager has no CA key, or when no quorum answers in time.
    async fn init_cluster(&self) -> Result<ClusterId, InitError>;

    /// Returns which CAs are trusted, and who is not ready for the next step of their rotation. Only the leader knows.
    ///
    /// # Errors
    /// [`CaError`].
    async fn ca(&self) -> Result<CaView, CaError>;

    /// Takes a step of the rotation of the CA. Only the leader can.
    ///
    /// # Errors
    /// [`CaError`]; nothing is changed but after [`CaError::Unknown`].
    async fn rotate_ca(&self, step: CaStep) -> Result<CaView, CaError>;

    /// Changes who the managers are, or who leads. Only the leader can.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing is changed but after [`MembershipError::Unknown`].
    async fn change_members(&self, change: MemberChange) -> Result<(), MembershipError>;
}

/// A change of the managers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberChange {
    /// Add one without a vote.
    Add(ManagerId, ManagerNode),
    /// Give one a vote.
    Promote(ManagerId),
    /// Remove one.
    Remove(ManagerId),
    /// Hand the leadership over: to this one, or to the one that is best prepared.
    Transfer(Option<ManagerId>),
}

/// A step of the rotation of the CA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaStep {
    /// Make a new CA, and have it trusted beside the old one.
    Begin,
    /// Have the new one sign.
    Switch {
        /// Who is not waited for.
        without: BTreeSet<PeerIdentity>,
    },
    /// Trust the old one no more.
    Finish {
        /// Who is not waited for.
        without: BTreeSet<PeerIdentity>,
    },
}

/// Why a step of the rotation of the CA was not taken.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CaError {
    /// Another manager leads.
    #[error("this manager does not lead")]
    NotLeader,
    /// The rotation stands elsewhere, or there is no cluster.
    #[error(transparent)]
    Refused(DenyReason),
    /// Some would be locked out.
    #[error("not seen yet {}: {}", match .stage {
        CaStage::Steady | CaStage::Spreading => "to trust the new CA",
        CaStage::Renewing => "with a certificate of the new CA",
    }, .behind.join(", "))]
    Behind {
        /// Where the rotation stands.
        stage: CaStage,
        /// Who is not ready.
        behind: Vec<String>,
    },
    /// There would be more CAs than may be trusted.
    #[error("{trusted} CAs are trusted: with a new one there must be at most {ROOTS_MAX}")]
    NoRoom {
        /// How many are trusted.
        trusted: usize,
    },
    /// It may be done or not.
    #[error("{0}")]
    Unknown(String),
    /// Keys or certificates cannot be used.
    #[error("the CA: {0}")]
    Internal(String),
}

/// Why a cluster was not made.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InitError {
    /// There is one.
    #[error("the cluster is initialised already")]
    AlreadyInitialised,
    /// Only a manager with the key of the CA can make one.
    #[error("tls.ca_key: must name the key of the CA on the manager that initialises the cluster")]
    NoCaKey,
    /// The other managers did not agree in time.
    #[error("no quorum of managers agreed: {0}")]
    NoQuorum(String),
    /// The keys could not be read or made.
    #[error("the cluster's keys: {0}")]
    Keys(String),
}

/// Why a check did not happen.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CheckError {
    /// The detector knows no such VM.
    #[error("vm {0} is not known")]
    UnknownVm(VmId),
    /// Only the leader's asks are carried out, and this manager does not lead.
    #[error("this manager does not lead")]
    NotLeader,
    /// No live watcher is assigned to the VM.
    #[error("vm {0} has no live watcher to ask")]
    NoWatcher(VmId),
    /// As many checks are under way as there may be.
    #[error("{0} checks are under way already: ask again")]
    TooMany(usize),
}

/// Whether a manager may be sent requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Readiness {
    /// Why it is not ready; ready when empty.
    pub reasons: Vec<ReasonView>,
    /// Things worth knowing that do not make it unready, such as a cluster with one network.
    pub notes: Vec<ReasonView>,
}

/// One number of this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Its name without prefix and unit suffix, as `messages_dropped`; the API puts `vouch_` before it.
    pub name: &'static str,
    /// One sentence on it.
    pub help: &'static str,
    /// Whether it only rises.
    pub kind: MetricKind,
    /// Labels with their values.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: u64,
}

/// Whether a number only rises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// It only rises while the process lives; exposed with the suffix `_total`.
    Counter,
    /// It rises and falls.
    Gauge,
}
