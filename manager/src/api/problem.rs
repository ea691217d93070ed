//! Errors of the API as RFC 9457 problem documents.
//!
//! Every refusal names what it is about: the field, its value and the rule that it broke, where there is one. The
//! types are relative references (`/problems/NAME`), listed in `docs/api.md`.

use std::ops::{Deref, DerefMut};

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view::VmLeftView;

/// Media type of a problem document (RFC 9457, section 3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Which problem it is: its name in the type, its status and its title always go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProblemKind {
    /// No bearer token, or a wrong one.
    Unauthorized,
    /// The `Host` header names no address of this manager.
    HostNotAllowed,
    /// The `Origin` header names another site.
    OriginNotAllowed,
    /// A parameter broke a rule.
    BadParameter,
    /// There is no such route.
    RouteNotFound,
    /// The route knows no such method.
    MethodNotAllowed,
    /// There is no such VM.
    VmNotFound,
    /// More than one VM has this name.
    VmNameAmbiguous,
    /// There is no such node.
    NodeNotFound,
    /// There is no such manager in the cluster.
    MemberNotFound,
    /// The managers cannot be changed so now.
    MembersUnchanged,
    /// The rotation of the CA cannot go on so now.
    CaUnchanged,
    /// There is no such incident.
    IncidentNotFound,
    /// This scope has no policy.
    PolicyNotFound,
    /// There is no such maintenance window, or it has ended.
    MaintenanceNotFound,
    /// There is no such join token.
    JoinTokenNotFound,
    /// The node is heard: nothing can prove that it does not run.
    NodeIsHeard,
    /// VMs that may run are recorded on a node that was to be removed.
    NodeHasVms,
    /// A proof speaks of another boot of the node.
    OtherBoot,
    /// No quorum, so nothing can be shown as fresh or changed.
    NoQuorum,
    /// No leader, or it did not answer.
    NoLeader,
    /// The cluster has not been made.
    NotInitialised,
    /// The cluster has been made already.
    AlreadyInitialised,
    /// The cluster cannot be made here.
    CannotInitialise,
    /// No live watcher could be asked.
    NoWatcher,
    /// The file is no component, or imports what it may not.
    ComponentRefused,
    /// An upload does not say what the probe is granted.
    GrantRequired,
    /// A component imports what it is not granted.
    NotGranted,
    /// A signature does not hold, or is of no trusted key.
    SignatureRefused,
    /// An upload has no signature, and the cluster requires one.
    SignatureRequired,
    /// There is no such trusted key.
    ProbeKeyNotFound,
    /// There is no such probe.
    ProbeNotFound,
    /// No other version of the probe is on its way.
    RolloutNotFound,
    /// The probe is not assigned to this scope.
    AssignmentNotFound,
    /// The body is too large.
    TooLarge,
    /// What is to be written is not what `If-Match` says.
    PreconditionFailed,
    /// The `Idempotency-Key` was used for another request.
    KeyReused,
    /// A command was refused by the replicated state.
    Refused,
    /// Events after this position are no longer kept.
    EventsGone,
    /// A reader of a stream took no event for too long.
    TooSlow,
    /// Too many requests or streams at once.
    Busy,
    /// The request took too long.
    Timeout,
    /// The manager could not do what it should.
    Internal,
}

impl ProblemKind {
    /// Returns the name in the type, the status and the title.
    pub const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "A valid bearer token is required"),
            Self::HostNotAllowed => ("host-not-allowed", StatusCode::FORBIDDEN, "The Host header is not allowed"),
            Self::OriginNotAllowed => ("origin-not-allowed", StatusCode::FORBIDDEN, "The Origin is not allowed"),
            Self::BadParameter => ("bad-parameter", StatusCode::BAD_REQUEST, "A parameter is wrong"),
            Self::RouteNotFound => ("route-not-found", StatusCode::NOT_FOUND, "There is no such route"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The route knows no such method")
            }
            Self::VmNotFound => ("vm-not-found", StatusCode::NOT_FOUND, "There is no such VM"),
            Self::VmNameAmbiguous => ("vm-name-ambiguous", StatusCode::CONFLICT, "More than one VM has this name"),
            Self::NodeNotFound => ("node-not-found", StatusCode::NOT_FOUND, "There is no such node"),
            Self::MemberNotFound => ("member-not-found", StatusCode::NOT_FOUND, "There is no such manager"),
            Self::MembersUnchanged => ("members-unchanged", StatusCode::CONFLICT, "The managers are not changed"),
            Self::CaUnchanged => ("ca-unchanged", StatusCode::CONFLICT, "The CA is not changed"),
            Self::IncidentNotFound => ("incident-not-found", StatusCode::NOT_FOUND, "There is no such incident"),
            Self::PolicyNotFound => ("policy-not-found", StatusCode::NOT_FOUND, "This scope has no policy"),
            Self::MaintenanceNotFound => {
                ("maintenance-not-found", StatusCode::NOT_FOUND, "There is no such maintenance window")
            }
            Self::JoinTokenNotFound => ("join-token-not-found", StatusCode::NOT_FOUND, "There is no such join token"),
            Self::NodeIsHeard => ("node-is-heard", StatusCode::CONFLICT, "The node is heard by a manager"),
            Self::NodeHasVms => ("node-has-vms", StatusCode::CONFLICT, "VMs that may run are recorded on the node"),
            Self::OtherBoot => ("other-boot", StatusCode::CONFLICT, "The proof speaks of another boot of the node"),
            Self::NoQuorum => ("no-quorum", StatusCode::SERVICE_UNAVAILABLE, "No quorum of managers answers"),
            Self::NoLeader => ("no-leader", StatusCode::SERVICE_UNAVAILABLE, "No leader answers"),
            Self::NotInitialised => ("not-initialised", StatusCode::CONFLICT, "The cluster is not initialised"),
            Self::AlreadyInitialised => ("already-initialised", StatusCode::CONFLICT, "The cluster is initialised"),
            Self::CannotInitialise => {
                ("cannot-initialise", StatusCode::CONFLICT, "The cluster cannot be initialised here")
            }
            Self::NoWatcher => ("no-watcher", StatusCode::CONFLICT, "No live watcher can be asked"),
            Self::ComponentRefused => {
                ("component-refused", StatusCode::UNPROCESSABLE_ENTITY, "The file is not a probe that may be run")
            }
            Self::GrantRequired => {
                ("grant-required", StatusCode::UNPROCESSABLE_ENTITY, "What the probe is granted must be named")
            }
            Self::NotGranted => {
                ("not-granted", StatusCode::UNPROCESSABLE_ENTITY, "The component imports what it is not granted")
            }
            Self::SignatureRefused => {
                ("signature-refused", StatusCode::UNPROCESSABLE_ENTITY, "The signature is of no trusted key")
            }
            Self::SignatureRequired => {
                ("signature-required", StatusCode::UNPROCESSABLE_ENTITY, "A probe needs a signature of a trusted key")
            }
            Self::ProbeKeyNotFound => ("probe-key-not-found", StatusCode::NOT_FOUND, "There is no such trusted key"),
            Self::ProbeNotFound => ("probe-not-found", StatusCode::NOT_FOUND, "There is no such probe"),
            Self::RolloutNotFound => {
                ("rollout-not-found", StatusCode::NOT_FOUND, "No other version of the probe is on its way")
            }
            Self::AssignmentNotFound => {
                ("assignment-not-found", StatusCode::NOT_FOUND, "The probe is not assigned to this scope")
            }
            Self::TooLarge => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::PreconditionFailed => {
                ("precondition-failed", StatusCode::PRECONDITION_FAILED, "It is not what If-Match says")
            }
            Self::KeyReused => (
                "idempotency-key-reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The Idempotency-Key was used for another request",
            ),
            Self::Refused => ("refused", StatusCode::CONFLICT, "The cluster refused the command"),
            Self::EventsGone => ("events-gone", StatusCode::GONE, "These events are no longer kept"),
            Self::TooSlow => ("too-slow", StatusCode::REQUEST_TIMEOUT, "The reader takes events too slowly"),
            Self::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE, "Too many requests at once"),
            Self::Timeout => ("timeout", StatusCode::GATEWAY_TIMEOUT, "The request took too long"),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "The manager failed"),
        }
    }
}

/// A problem: the error of every route. It is boxed, so that results that carry it stay small.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Problem(Box<ProblemDocument>);

impl Deref for Problem {
    type Target = ProblemDocument;
    fn deref(&self) -> &ProblemDocument {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut ProblemDocument {
        &mut self.0
    }
}

/// A problem document (RFC 9457).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProblemDocument {
    /// Relative reference that names the problem.
    #[serde(rename = "type")]
    #[schema(example = "/problems/vm-not-found")]
    pub problem_type: String,
    /// The same for people, always the same for one type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The parameter, header or field that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The rule that it broke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The ETag of what is there now (`precondition-failed`); `none` when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The position of the oldest event that is kept (`events-gone`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// What a component imports (`component-refused`, `grant-required`, `not-granted`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imports: Option<Vec<String>>,
    /// Those of them that a probe may not import (`component-refused`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_imports: Option<Vec<String>>,
    /// What a probe may import (`component-refused`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_imports: Option<Vec<String>>,
    /// Interfaces that a component is granted (`not-granted`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Vec<String>>,
    /// Interfaces that it imports and is not granted (`grant-required`, `not-granted`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
    /// VMs that stand in the way, the first 20 (`node-has-vms`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<Vec<VmLeftView>>,
    /// How many there are (`node-has-vms`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms_count: Option<u64>,
}

/// The longest value that is quoted back, in characters.
const VALUE_MAX: usize = 80;

impl Problem {
    /// Returns the problem of this kind.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let (name, status, title) = kind.parts();
        Self(Box::new(ProblemDocument {
            problem_type: format!("/problems/{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            value: None,
            rule: None,
            current: None,
            oldest: None,
            imports: None,
            refused_imports: None,
            allowed_imports: None,
            granted: None,
            missing: None,
            vms: None,
            vms_count: None,
        }))
    }

    /// Returns whether it is of this kind.
    pub fn is(&self, kind: ProblemKind) -> bool {
        self.problem_type.strip_prefix("/problems/") == Some(kind.parts().0)
    }

    /// Returns a problem with one field: its value, and the rule that it broke.
    pub fn field(kind: ProblemKind, field: &str, value: &str, rule: &str) -> Self {
        let value: String = value.chars().take(VALUE_MAX).collect();
        let mut problem = Self::new(kind, format!("{field} {value:?}: {rule}"));
        problem.field = Some(field.to_owned());
        problem.value = Some(value);
        problem.rule = Some(rule.to_owned());
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750, section 3.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"vouch\""));
        }
        response
    }
}
