//! Between gRPC statuses and link errors.
//!
//! A status that the other side's service gave has no source; one that tonic made of a broken transport has. Only the
//! first is an answer.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};

use super::io::TlsFault;
use crate::causes::with_causes;
use crate::links::LinkError;

/// Whom a call went to, for the error's text.
#[derive(Debug, Clone)]
pub(super) struct Callee {
    pub(super) to: String,
    pub(super) address: String,
    pub(super) fault: TlsFault,
}

/// Returns whether the other side's service answered with this, instead of the transport failing.
pub(super) fn is_answer(status: &Status) -> bool {
    status.source().is_none()
}

pub(super) fn from_status(status: &Status, callee: &Callee) -> LinkError {
    if !is_answer(status) {
        // In TLS 1.3 a server's refusal of the client's certificate arrives only after the handshake.
        if let Some(fault) = callee.fault.get() {
            return LinkError::Refused(format!("{} at {}: {fault}", callee.to, callee.address));
        }
        return LinkError::Reset(with_causes(status.message(), status));
    }
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::NotFound | Code::AlreadyExists | Code::Unimplemented => {
            LinkError::Refused(status.message().to_owned())
        }
        Code::FailedPrecondition => LinkError::Removed(status.message().to_owned()),
        Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted | Code::DataLoss => {
            LinkError::Malformed(status.message().to_owned())
        }
        Code::DeadlineExceeded => LinkError::Timeout(Duration::ZERO),
        Code::Unavailable => LinkError::Unreachable {
            to: callee.to.clone(),
            address: callee.address.clone(),
            why: status.message().to_owned(),
        },
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Aborted | Code::Internal => {
            LinkError::Reset(status.message().to_owned())
        }
    }
}

pub(super) fn to_status(error: &LinkError) -> Status {
    let text = error.to_string();
    match error {
        LinkError::Refused(why) => Status::permission_denied(why.clone()),
        LinkError::Removed(why) => Status::failed_precondition(why.clone()),
        LinkError::Malformed(why) => Status::invalid_argument(why.clone()),
        LinkError::Unreachable { .. } | LinkError::NotListening { .. } => Status::unavailable(text),
        LinkError::Timeout(_) => Status::deadline_exceeded(text),
        LinkError::Reset(_) => Status::aborted(text),
    }
}
