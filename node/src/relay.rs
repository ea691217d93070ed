//! The relay: through it a watcher with a grant brings the managers this node's signed word while they cannot hear the
//! node itself.
//!
//! A grant is checked offline, with the cluster's key as the managers last told it: signature, cluster, watcher (as
//! its certificate says), node, and a generation no lower than the highest seen. The relay answers about the VMs of
//! the grant that this node owns. A nonce is answered from a read that began after the request came, and without one from
//! a read no older than [`READ_AGE_MAX`]; a VM that could not be read in time gets no statement, which says nothing. It
//! must never say anything of a VM that the node does not own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use vouch_types::{AssignmentGeneration, BootId, Grant, ManagerId, NodeId, Nonce, Statement, VmId, WatcherId};
use vouch_wire::convert;
use vouch_wire::links::{LinkError, RelayService};
use vouch_wire::proto;
use vouch_wire::sign::{SignError, StatementSigner, verify_grant};

use crate::agent::SequenceCounter;
use crate::hearing::Hearing;
use crate::hypervisor::{AgentReply, Hypervisor};
use crate::store::{NodeMemory, NodeStore};

/// How old a read may be that a statement rests on which nobody asked for by a nonce.
pub const READ_AGE_MAX: Duration = Duration::from_millis(200);
/// How long a VM may take to be read for a statement: less than a manager's ask takes by default.
pub const READ_TIME_MAX: Duration = Duration::from_millis(300);
/// How many guest-agent questions of all watchers may be in flight, those included that wait for another one to the same
/// VM. Each watcher of a silent agent holds one all the time: two watchers of 192 VMs.
pub const AGENT_QUERIES_MAX: usize = 384;
/// How many requests for statements may be in flight.
pub const STATE_REQUESTS_MAX: usize = 32;
/// How long a guest-agent question may take at most.
pub const AGENT_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Why a watcher is turned away.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrantError {
    /// The request has none.
    #[error("the request carries no grant")]
    Missing,
    /// No manager has told this node its cluster yet.
    #[error("this node knows no cluster yet")]
    NoCluster,
    /// The signature does not hold, or what was signed is malformed.
    #[error("grant: {0}")]
    Signed(#[from] SignError),
    /// It is another cluster's.
    #[error("the grant is of another cluster")]
    OtherCluster,
    /// It is another watcher's.
    #[error("the grant is for {granted}, and the certificate says {caller}")]
    OtherWatcher {
        /// Whom it is for.
        granted: WatcherId,
        /// Who showed it.
        caller: WatcherId,
    },
    /// It is for another node.
    #[error("the grant is for node {0}")]
    OtherNode(NodeId),
    /// A later assignment has replaced it.
    #[error("the grant's generation {given} is lower than {highest}, which was shown before")]
    Stale {
        /// Its generation.
        given: AssignmentGeneration,
        /// The highest one seen.
        highest: AssignmentGeneration,
    },
    /// It does not name the VM.
    #[error("the grant does not name vm {0}")]
    OtherVm(VmId),
}

/// Checks a grant but for its VMs. Pure: the highest generation is noted by the caller.
///
/// # Errors
/// [`GrantError`] names the rule that it breaks.
pub fn check_grant(
    signed: Option<&proto::Signed>,
    caller: WatcherId,
    node: &NodeId,
    memory: &NodeMemory,
) -> Result<Grant, GrantError> {
    let signed = signed.ok_or(GrantError::Missing)?;
    let cluster = memory.cluster.as_ref().ok_or(GrantError::NoCluster)?;
    let grant = verify_grant(signed, &cluster.grant_public_key)?;
    if grant.cluster != cluster.id {
        return Err(GrantError::OtherCluster);
    }
    if grant.watcher != caller {
        return Err(GrantError::OtherWatcher { granted: grant.watcher, caller });
    }
    if grant.node != *node {
        return Err(GrantError::OtherNode(grant.node));
    }
    let highest = memory.grants.get(&caller.get()).copied().unwrap_or_default();
    if grant.generation < highest {
        return Err(GrantError::Stale { given: grant.generation, highest });
    }
    Ok(grant)
}

/// The relay of one node.
pub struct Relay {
    node: NodeId,
    boot: BootId,
    store: NodeStore,
    hypervisor: Arc<dyn Hypervisor>,
    signer: StatementSigner,
    sequence: SequenceCounter,
    hearing: Hearing,
    queries: Semaphore,
    states: Semaphore,
}

impl Relay {
    /// Returns the relay of `node`.
    pub fn new(
        node: NodeId,
        boot: BootId,
        store: NodeStore,
        hypervisor: Arc<dyn Hypervisor>,
        signer: StatementSigner,
        sequence: SequenceCounter,
    ) -> Self {
        let (queries, states) = (Semaphore::new(AGENT_QUERIES_MAX), Semaphore::new(STATE_REQUESTS_MAX));
        let hearing = Hearing::default();
        Self { node, boot, store, hypervisor, signer, sequence, hearing, queries, states }
    }

    /// Tells watchers which managers the node's agent hears.
    #[must_use]
    pub fn with_hearing(mut self, hearing: Hearing) -> Self {
        self.hearing = hearing;
        self
    }

    async fn granted(&self, signed: Option<&proto::Signed>, caller: WatcherId) -> Result<Grant, LinkError> {
        let checked = self.store.with(|m| {
            let grant = check_grant(signed, caller, &self.node, m)?;
            Ok((m.grants.get(&caller.get()) != Some(&grant.generation), grant))
        });
        let refused = |e: GrantError| {
            warn!(watcher_id = %caller, reason = %e, "relay request refused");
            LinkError::Refused(e.to_string())
        };
        let (is_new, grant) = checked.map_err(refused)?;
        if is_new {
            let generation = grant.generation;
            let noted = crate::agent::update(&self.store, move |m| m.admit_grant(caller, generation)).await;
            match noted {
                Ok(Ok(())) => {}
                Ok(Err(highest)) => return Err(refused(GrantError::Stale { given: generation, highest })),
                Err(error) => warn!(%error, "grant not remembered"),
            }
        }
        Ok(grant)
    }

    async fn statement(&self, vm: VmId, nonce: Nonce) -> Option<proto::Signed> {
        let generation = self.store.with(|m| m.owned.get(&vm).copied())?;
        // Whoever gives a nonce takes the answer for what was seen after the question.
        let max_age = if nonce == Nonce::default() { READ_AGE_MAX } else { Duration::ZERO };
        let view = self.hypervisor.read_vm(vm, max_age, READ_TIME_MAX).await?;
        Some(self.signer.sign(&Statement {
            node: self.node.clone(),
            boot: self.boot,
            incarnation: self.store.incarnation(),
            vm,
            generation,
            start: view.start,
            sequence: self.sequence.next(),
            nonce,
            state: view.state,
            progress: view.progress,
        }))
    }
}

#[async_trait]
impl RelayService for Relay {
    async fn state(&self, watcher: WatcherId, request: proto::StateRequest) -> Result<proto::StateResponse, LinkError> {
        let grant = self.granted(request.grant.as_ref(), watcher).await?;
        let Ok(_permit) = self.states.try_acquire() else {
            return Err(LinkError::Refused(format!("{STATE_REQUESTS_MAX} requests are in flight")));
        };
        let nonce = Nonce::new(request.nonce);
        let statements = join_all(grant.vms.iter().map(|vm| self.statement(*vm, nonce))).await;
        let hears = self.hearing.managers(Instant::now()).into_iter().map(ManagerId::get).collect();
        Ok(proto::StateResponse { statements: statements.into_iter().flatten().collect(), hears })
    }

    async fn guest_agent(
        &self,
        watcher: WatcherId,
        request: proto::GuestAgentRequest,
    ) -> Result<proto::GuestAgentResponse, LinkError> {
        use proto::guest_agent_response::Result as Answer;
        let grant = self.granted(request.grant.as_ref(), watcher).await?;
        let vm = convert::vm_id("guest_agent.vm", &request.vm)?;
        if !grant.vms.contains(&vm) {
            return Err(LinkError::Refused(GrantError::OtherVm(vm).to_string()));
        }
        let question = convert::agent_question("guest_agent.query", request.query)?;
        let answer = |result| Ok(proto::GuestAgentResponse { result: Some(result) });
        if self.store.with(|m| !m.owned.contains_key(&vm)) {
            return answer(Answer::NotPut("this node does not own the VM".to_owned()));
        }
        let (begun, limit) = (Instant::now(), Duration::from_micros(request.timeout_micros).min(AGENT_TIMEOUT_MAX));
        let deadline = begun + limit;
        // Not to the end: an agent that has no time left to answer would be told as silent.
        let Ok(Ok(_permit)) = timeout_at(begun + limit / 2, self.queries.acquire()).await else {
            return answer(Answer::NotPut(format!("{AGENT_QUERIES_MAX} questions are in flight")));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        answer(match self.hypervisor.guest_agent(vm, question, left).await {
            AgentReply::Reply(reply) => Answer::Reply(reply),
            AgentReply::TooLong => Answer::TooLong(true),
            AgentReply::Silent => Answer::Silent(true),
            AgentReply::Unavailable(why) => Answer::Unavailable(why),
            AgentReply::NotPut(why) => Answer::NotPut(why),
        })
    }
}

#[cfg(test)]
mod tests;
