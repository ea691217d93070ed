//! What an operator orders of probes, handed to the leader with the name of who ordered it.
//!
//! A component is read and kept by the manager that was asked, so its record is made there; only the leader can have it
//! applied. The order says itself who gave it: the leader is asked by another manager, not by a client.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use vouch_types::probe_key::REFUSAL_REASON_MAX;
use vouch_types::{
    Command, Digest, ProbeGrant, ProbeKeyName, ProbeName, ProbePublicKey, ProbeRecord, ProbeRefusal, RolloutPlan,
    RolloutStep, ScopedProbe, ScopedProbeKey, SignatureRule, WallTime,
};

use super::Api;
use super::etag::Conditions;
use super::forward::{self, Hop};
use super::problem::{Problem, ProblemKind};
use super::propose::propose;

/// Where the leader takes orders from other managers.
pub(super) const PATH: &str = "/internal/probe-orders";

/// How long an uploader waits at most until it is taken down that the upload was refused.
pub(super) const RECORD_WITHIN: Duration = Duration::from_secs(2);

/// What is ordered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOrder {
    /// Record a component that most managers keep.
    Record(Box<ProbeRecord>),
    /// Grant a probe something else.
    Grant(ProbeName, ProbeGrant),
    /// Bring another version of a probe to all watchers, first to one.
    Rollout(Box<ProbeRecord>, RolloutPlan),
    /// End a rollout before it ends itself.
    StepRollout(ProbeName, Digest, RolloutStep),
    /// Assign a probe to the VMs of a scope.
    Assign(ScopedProbe),
    /// Assign it to them no more.
    Unassign(ScopedProbeKey),
    /// Trust a key.
    AddKey(ProbeKeyName, ProbePublicKey),
    /// Trust a key no more.
    RemoveKey(ProbeKeyName),
    /// Set whether a signature is wanted.
    SetSignatureRule(SignatureRule),
    /// Take down a refused upload.
    Refuse(ProbeRefusal),
}

impl ProbeOrder {
    fn command(self, by: String, at: WallTime) -> Command {
        match self {
            Self::Record(probe) => Command::RecordProbe { probe: *probe, by, at },
            Self::Grant(probe, grant) => Command::GrantProbe { probe, grant, by, at },
            Self::Rollout(probe, plan) => Command::BeginRollout { probe, plan, by, at },
            Self::StepRollout(probe, digest, step) => Command::StepRollout { probe, digest, step, by, at },
            Self::Assign(assigned) => Command::AssignProbe { assigned: ScopedProbe { by, ..assigned }, at },
            Self::Unassign(key) => Command::UnassignProbe { key, by, at },
            Self::AddKey(name, public_key) => Command::AddProbeKey { name, public_key, by, at },
            Self::RemoveKey(name) => Command::RemoveProbeKey { name, by, at },
            Self::SetSignatureRule(signatures) => Command::SetSignatureRule { signatures, by, at },
            Self::Refuse(refusal) => Command::RefuseProbe { refusal: ProbeRefusal { by, ..refusal }, at },
        }
    }
}

/// An order and who gave it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GivenOrder {
    order: ProbeOrder,
    by: String,
}

/// That it was done, to a manager that asked.
#[derive(Serialize, Deserialize)]
pub(super) struct Done {
    done: bool,
}

/// Returns who asks this manager: everybody who does has its one token, which may do everything.
pub(super) fn who(api: &Api) -> String {
    format!("admin token of {}", api.manager())
}

/// Has an order of a client applied, by the leader if that is another manager.
///
/// # Errors
/// A problem when it was not.
pub async fn order(api: &Api, hop: &Hop, order: ProbeOrder) -> Result<(), Problem> {
    let given = GivenOrder { order, by: who(api) };
    if forward::give_leader::<Done>(api, hop, PATH, &given).await?.is_some() {
        return Ok(());
    }
    apply(api, given, hop.conditions()?).await
}

/// What an upload may be refused for that is taken down: what it imports or exports, that its name is that of a shipped
/// probe, its signature, or its grant, also that it has none.
const RECORDED: [ProblemKind; 6] = [
    ProblemKind::ComponentRefused,
    ProblemKind::Refused,
    ProblemKind::SignatureRefused,
    ProblemKind::SignatureRequired,
    ProblemKind::GrantRequired,
    ProblemKind::NotGranted,
];

/// Has it taken down that an upload was refused, unless there were too many. The upload stays refused, whatever comes of
/// it.
pub async fn record_refusal(api: &Api, hop: &Hop, probe: &ProbeName, digest: Digest, problem: &Problem) {
    if !RECORDED.into_iter().any(|kind| problem.is(kind)) {
        return;
    }
    let Some(unrecorded) = api.refusals().take(tokio::time::Instant::now()) else { return };
    let detail = &problem.detail;
    let reason = detail[..detail.floor_char_boundary(REFUSAL_REASON_MAX)].to_owned();
    let refusal = ProbeRefusal { probe: probe.clone(), digest, reason, by: String::new(), unrecorded };
    let hop = hop.without_headers();
    match tokio::time::timeout(RECORD_WITHIN, order(api, &hop, ProbeOrder::Refuse(refusal))).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => tracing::warn!(%probe, detail = problem.detail, "refused upload was not recorded"),
        Err(_) => tracing::warn!(%probe, detail = "no answer in time", "refused upload was not recorded"),
    }
}

/// Takes an order from another manager.
pub(super) async fn take(
    State(api): State<Api>,
    conditions: Conditions,
    body: axum::body::Bytes,
) -> Result<Json<Done>, Problem> {
    let given = serde_json::from_slice(&body).map_err(|e| Problem::new(ProblemKind::BadParameter, e.to_string()))?;
    apply(&api, given, conditions).await?;
    Ok(Json(Done { done: true }))
}

async fn apply(api: &Api, GivenOrder { order, by }: GivenOrder, conditions: Conditions) -> Result<(), Problem> {
    // An `Idempotency-Key` stands for the order, whichever manager it is given to.
    let body = serde_json::to_vec(&order).map_err(|e| Problem::new(ProblemKind::Internal, e.to_string()))?;
    let at = api.wall().now();
    propose(api, conditions.guard(order.command(by, at), ("POST", PATH, &body), at)).await.map(drop)
}
