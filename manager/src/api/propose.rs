//! Proposing what an operator wants, and telling a refusal in the words of the API.

use vouch_types::probe_grant::words;
use vouch_types::{Applied, Command, DenyReason};

use super::problem::{Problem, ProblemKind};
use super::{Api, etag, policies};
use crate::raft::ProposeError;

/// Has a command applied by this manager, which leads.
///
/// # Errors
/// A problem when it was refused, or when nobody can say that it was applied.
pub async fn propose(api: &Api, command: Command) -> Result<Applied, Problem> {
    match api.published().propose(command).await {
        Ok(Applied::Denied(reason)) => Err(refusal(&reason)),
        Ok(applied) => Ok(applied),
        Err(e) => {
            let kind = match e {
                ProposeError::NotLeader { .. } | ProposeError::NoRoom => ProblemKind::NoLeader,
                ProposeError::Stopped(_) => ProblemKind::Internal,
                // It may still be committed later: not a 503, which says that it may be sent again.
                ProposeError::Unknown { .. } => ProblemKind::Timeout,
            };
            Err(Problem::new(kind, e.to_string()))
        }
    }
}

/// Returns the problem that a refused command is.
fn refusal(reason: &DenyReason) -> Problem {
    let field = |kind, field: &str, value: &dyn std::fmt::Display, rule: &str| {
        Problem::field(kind, field, &value.to_string(), rule)
    };
    match reason {
        DenyReason::AlreadyInitialised(_) => Problem::new(ProblemKind::AlreadyInitialised, reason.to_string()),
        DenyReason::NotInitialised => Problem::new(ProblemKind::NotInitialised, reason.to_string()),
        DenyReason::UnknownNode(node) => {
            field(ProblemKind::NodeNotFound, "node", node, "must be the name of a node that a manager has heard")
        }
        DenyReason::UnknownVm(vm) => {
            field(ProblemKind::VmNotFound, "vm", vm, "must be the UUID of a VM that a node has reported")
        }
        DenyReason::UnknownMaintenance(id) => {
            field(ProblemKind::MaintenanceNotFound, "id", id, "must be a maintenance window that holds")
        }
        DenyReason::UnknownJoinToken(id) => {
            field(ProblemKind::JoinTokenNotFound, "id", id, "must be the id of a join token, as t1")
        }
        DenyReason::BadPolicy(e) => policies::refusal(e),
        DenyReason::BadValue { field: name, value, rule } => {
            field(ProblemKind::BadParameter, name, value, &format!("must be {rule}"))
        }
        DenyReason::TooMany { what, count, limit } => {
            field(ProblemKind::Refused, what, count, &format!("must be at most {limit}"))
        }
        DenyReason::NodeIsHeard(node) => field(
            ProblemKind::NodeIsHeard,
            "node",
            node,
            "must not be heard by any manager: what is heard cannot be proved not to run",
        ),
        DenyReason::NodeLives { .. } => {
            let mut problem = Problem::new(ProblemKind::NodeIsHeard, reason.to_string());
            problem.field = Some("id".to_owned());
            problem.rule = Some("must not be heard, itself or through a watcher on it".to_owned());
            problem
        }
        DenyReason::NodeHasVms { count, vms, .. } => {
            let rule = "must be stopped or down, or be forgotten with vms=forget: that proves nothing of them, and \
                        whoever starts one elsewhere answers for it";
            let mut problem = Problem::new(ProblemKind::NodeHasVms, format!("{reason}: they {rule}"));
            (problem.field, problem.rule) = (Some("vms".to_owned()), Some(rule.to_owned()));
            (problem.vms, problem.vms_count) = (Some(vms.iter().map(Into::into).collect()), Some(*count));
            problem
        }
        DenyReason::OtherBoot { node, recorded, told } => {
            let rule = format!("must be the boot in which node {node} was last heard, {recorded}");
            field(ProblemKind::OtherBoot, "boot", told, &rule)
        }
        DenyReason::VersionMoved { current } => {
            let current = current.map_or_else(|| "none".to_owned(), etag::text);
            let rule = format!("must be the ETag of what is there now, {current}");
            let mut problem = Problem::new(ProblemKind::PreconditionFailed, format!("If-Match: {rule}"));
            (problem.field, problem.rule) = (Some("If-Match".to_owned()), Some(rule));
            problem.current = Some(current);
            problem
        }
        DenyReason::KeyReused(key) => {
            field(ProblemKind::KeyReused, "Idempotency-Key", key, "must be a new one for another request")
        }
        DenyReason::UnknownProbe(probe) => {
            field(ProblemKind::ProbeNotFound, "name", probe, "must be the name of a recorded probe")
        }
        DenyReason::NoRollout { probe, .. } => {
            field(ProblemKind::RolloutNotFound, "name", probe, "must be a probe of which this version is on its way")
        }
        DenyReason::UnknownScopedProbe(key) => {
            let rule =
                format!("must be a scope that probe {} is assigned to over the {} network", key.probe, key.network);
            field(ProblemKind::AssignmentNotFound, "scope", &key.scope, &rule)
        }
        DenyReason::UnknownProbeKey(key) => {
            field(ProblemKind::ProbeKeyNotFound, "name", key, "must be the name of a trusted key")
        }
        DenyReason::SignerNotTrusted(key) => {
            let rule = "must be of a trusted key; GET /v1/probe-keys lists the keys";
            field(ProblemKind::SignatureRefused, "signature", &format!("of key {key}"), rule)
        }
        DenyReason::SignatureRequired(_) => Problem::new(ProblemKind::SignatureRequired, reason.to_string()),
        DenyReason::NotGranted { imports, granted } => {
            let mut problem = Problem::new(ProblemKind::NotGranted, reason.to_string());
            problem.granted = Some(words(granted));
            problem.missing = Some(words(&imports.difference(granted).copied().collect()));
            problem
        }
        DenyReason::UnknownWatcher(_)
        | DenyReason::BadSecret(_)
        | DenyReason::CaStage(_)
        | DenyReason::NotMember(_)
        | DenyReason::NodeRemoved(_)
        | DenyReason::OtherLog { .. }
        | DenyReason::NotOwner { .. }
        | DenyReason::JoinRefused(_) => Problem::new(ProblemKind::Refused, reason.to_string()),
    }
}
