//! Enumerations. `UNSPECIFIED` and numbers that this version does not know are refused.

use vouch_types::{
    AgentQuery, AgentQuestion, ExitReason, HypervisorState, Network, Operation, Outcome, PauseReason, Progress,
    RelayOutcome,
};

use super::ConvertError;
use crate::proto;

fn unknown(field: &'static str, value: i32, what: &str) -> ConvertError {
    ConvertError::new(field, value, format!("must be a known {what}, and not unspecified"))
}

impl From<Network> for proto::Network {
    fn from(n: Network) -> Self {
        match n {
            Network::Management => Self::Management,
            Network::Service => Self::Service,
        }
    }
}

/// Returns the network of this number.
///
/// # Errors
/// [`ConvertError`] when it is unspecified or unknown.
pub fn network(field: &'static str, value: i32) -> Result<Network, ConvertError> {
    match proto::Network::try_from(value) {
        Ok(proto::Network::Management) => Ok(Network::Management),
        Ok(proto::Network::Service) => Ok(Network::Service),
        Ok(proto::Network::Unspecified) | Err(_) => Err(unknown(field, value, "network")),
    }
}

impl From<Outcome> for proto::Outcome {
    fn from(o: Outcome) -> Self {
        match o {
            Outcome::Up => Self::Up,
            Outcome::Degraded => Self::Degraded,
            Outcome::Down => Self::Down,
            Outcome::Unknown => Self::Unknown,
        }
    }
}

/// Returns the outcome of this number.
///
/// # Errors
/// [`ConvertError`] when it is unspecified or unknown.
pub fn outcome(field: &'static str, value: i32) -> Result<Outcome, ConvertError> {
    match proto::Outcome::try_from(value) {
        Ok(proto::Outcome::Up) => Ok(Outcome::Up),
        Ok(proto::Outcome::Degraded) => Ok(Outcome::Degraded),
        Ok(proto::Outcome::Down) => Ok(Outcome::Down),
        Ok(proto::Outcome::Unknown) => Ok(Outcome::Unknown),
        Ok(proto::Outcome::Unspecified) | Err(_) => Err(unknown(field, value, "outcome")),
    }
}

impl From<AgentQuestion> for proto::GuestAgentQuery {
    fn from(question: AgentQuestion) -> Self {
        match question {
            AgentQuestion::Ping => Self::Ping,
            AgentQuestion::Query(AgentQuery::Info) => Self::Info,
            AgentQuestion::Query(AgentQuery::OsInfo) => Self::OsInfo,
            AgentQuestion::Query(AgentQuery::HostName) => Self::HostName,
            AgentQuestion::Query(AgentQuery::Time) => Self::Time,
            AgentQuestion::Query(AgentQuery::TimeZone) => Self::TimeZone,
            AgentQuestion::Query(AgentQuery::Users) => Self::Users,
            AgentQuestion::Query(AgentQuery::NetworkInterfaces) => Self::NetworkInterfaces,
            AgentQuestion::Query(AgentQuery::FsFreezeStatus) => Self::FsFreezeStatus,
        }
    }
}

/// Returns the question of this number.
///
/// # Errors
/// [`ConvertError`] when it is unspecified or unknown.
pub fn agent_question(field: &'static str, value: i32) -> Result<AgentQuestion, ConvertError> {
    Ok(AgentQuestion::Query(match proto::GuestAgentQuery::try_from(value) {
        Ok(proto::GuestAgentQuery::Ping) => return Ok(AgentQuestion::Ping),
        Ok(proto::GuestAgentQuery::Info) => AgentQuery::Info,
        Ok(proto::GuestAgentQuery::OsInfo) => AgentQuery::OsInfo,
        Ok(proto::GuestAgentQuery::HostName) => AgentQuery::HostName,
        Ok(proto::GuestAgentQuery::Time) => AgentQuery::Time,
        Ok(proto::GuestAgentQuery::TimeZone) => AgentQuery::TimeZone,
        Ok(proto::GuestAgentQuery::Users) => AgentQuery::Users,
        Ok(proto::GuestAgentQuery::NetworkInterfaces) => AgentQuery::NetworkInterfaces,
        Ok(proto::GuestAgentQuery::FsFreezeStatus) => AgentQuery::FsFreezeStatus,
        Ok(proto::GuestAgentQuery::Unspecified) | Err(_) => return Err(unknown(field, value, "question to an agent")),
    }))
}

impl From<HypervisorState> for proto::HypervisorState {
    fn from(s: HypervisorState) -> Self {
        match s {
            HypervisorState::Running => Self::Running,
            HypervisorState::Paused(PauseReason::Operator) => Self::PausedOperator,
            HypervisorState::Paused(PauseReason::IoError) => Self::PausedIoError,
            HypervisorState::Paused(PauseReason::Migration) => Self::PausedMigration,
            HypervisorState::Paused(PauseReason::Other) => Self::PausedOther,
            HypervisorState::Rebooting => Self::Rebooting,
            HypervisorState::Stopped => Self::Stopped,
            HypervisorState::Panicked => Self::Panicked,
            HypervisorState::Gone(ExitReason::Process) => Self::GoneProcess,
            HypervisorState::Gone(ExitReason::Panic) => Self::GonePanic,
            HypervisorState::Gone(ExitReason::Unknown) => Self::GoneUnknown,
            HypervisorState::Unknown => Self::Unknown,
        }
    }
}

/// Returns the hypervisor state of this number.
///
/// # Errors
/// [`ConvertError`] when it is unspecified or unknown.
pub fn hypervisor_state(field: &'static str, value: i32) -> Result<HypervisorState, ConvertError> {
    use proto::HypervisorState as P;
    match P::try_from(value) {
        Ok(P::Running) => Ok(HypervisorState::Running),
        Ok(P::PausedOperator) => Ok(HypervisorState::Paused(PauseReason::Operator)),
        Ok(P::PausedIoError) => Ok(HypervisorState::Paused(PauseReason::IoError)),
        Ok(P::PausedMigration) => Ok(HypervisorState::Paused(PauseReason::Migration)),
        Ok(P::PausedOther) => Ok(HypervisorState::Paused(PauseReason::Other)),
        Ok(P::Rebooting) => Ok(HypervisorState::Rebooting),
        Ok(P::Stopped) => Ok(HypervisorState::Stopped),
        Ok(P::Panicked) => Ok(HypervisorState::Panicked),
        Ok(P::GoneProcess) => Ok(HypervisorState::Gone(ExitReason::Process)),
        Ok(P::GonePanic) => Ok(HypervisorState::Gone(ExitReason::Panic)),
        Ok(P::GoneUnknown) => Ok(HypervisorState::Gone(ExitReason::Unknown)),
        Ok(P::Unknown) => Ok(HypervisorState::Unknown),
        Ok(P::Unspecified) | Err(_) => Err(unknown(field, value, "hypervisor state")),
    }
}

impl From<Progress> for proto::Progress {
    fn from(p: Progress) -> Self {
        match p {
            Progress::Working => Self::Working,
            Progress::Still => Self::Still,
            Progress::Spinning => Self::Spinning,
            Progress::Unknown => Self::Unspecified,
        }
    }
}

/// Returns the progress of this number; unspecified is not known.
///
/// # Errors
/// [`ConvertError`] when the number is unknown.
pub fn progress(field: &'static str, value: i32) -> Result<Progress, ConvertError> {
    match proto::Progress::try_from(value) {
        Ok(proto::Progress::Working) => Ok(Progress::Working),
        Ok(proto::Progress::Still) => Ok(Progress::Still),
        Ok(proto::Progress::Spinning) => Ok(Progress::Spinning),
        Ok(proto::Progress::Unspecified) => Ok(Progress::Unknown),
        Err(_) => Err(ConvertError::new(field, value, "must be a known progress")),
    }
}

impl From<Option<Operation>> for proto::Operation {
    fn from(o: Option<Operation>) -> Self {
        match o {
            Some(Operation::Migration) => Self::Migration,
            Some(Operation::Snapshot) => Self::Snapshot,
            Some(Operation::FsFreeze) => Self::FsFreeze,
            None => Self::Unspecified,
        }
    }
}

/// Returns the operation of this number; unspecified is none.
///
/// # Errors
/// [`ConvertError`] when the number is unknown.
pub fn operation(field: &'static str, value: i32) -> Result<Option<Operation>, ConvertError> {
    match proto::Operation::try_from(value) {
        Ok(proto::Operation::Migration) => Ok(Some(Operation::Migration)),
        Ok(proto::Operation::Snapshot) => Ok(Some(Operation::Snapshot)),
        Ok(proto::Operation::FsFreeze) => Ok(Some(Operation::FsFreeze)),
        Ok(proto::Operation::Unspecified) => Ok(None),
        Err(_) => Err(ConvertError::new(field, value, "must be a known operation")),
    }
}

impl From<RelayOutcome> for proto::RelayOutcome {
    fn from(o: RelayOutcome) -> Self {
        match o {
            RelayOutcome::Reached => Self::Reached,
            RelayOutcome::Refused => Self::Refused,
            RelayOutcome::Stalled => Self::Stalled,
            RelayOutcome::Silent => Self::Silent,
            RelayOutcome::Denied => Self::Denied,
        }
    }
}

/// Returns the relay outcome of this number.
///
/// # Errors
/// [`ConvertError`] when it is unspecified or unknown.
pub fn relay_outcome(field: &'static str, value: i32) -> Result<RelayOutcome, ConvertError> {
    match proto::RelayOutcome::try_from(value) {
        Ok(proto::RelayOutcome::Reached) => Ok(RelayOutcome::Reached),
        Ok(proto::RelayOutcome::Refused) => Ok(RelayOutcome::Refused),
        Ok(proto::RelayOutcome::Stalled) => Ok(RelayOutcome::Stalled),
        Ok(proto::RelayOutcome::Silent) => Ok(RelayOutcome::Silent),
        Ok(proto::RelayOutcome::Denied) => Ok(RelayOutcome::Denied),
        Ok(proto::RelayOutcome::Unspecified) | Err(_) => Err(unknown(field, value, "relay outcome")),
    }
}
