//! What came of one run, with what was traced of it.

use std::time::Duration;

use vouch_probe_host::{RunFault, RunOutcome};
use vouch_types::Outcome;

/// The word for a run that says nothing of its target.
pub(crate) const FAULT: &str = "fault";

/// One line of the trace of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceLine {
    /// When, from the begin of the run.
    pub at: Duration,
    /// What: `debug`, `info`, `warn` for a line that the probe logged, the interface for a call to the host.
    pub kind: String,
    /// The line that was logged, or the call with its answer and its time.
    pub text: String,
}

/// One run.
#[derive(Clone, PartialEq, Debug)]
pub struct Ran {
    /// What it found, or why it says nothing.
    pub result: Result<RunOutcome, RunFault>,
    /// How long it took, its instance included.
    pub took: Duration,
    /// What the probe logged and asked of the host, in its order.
    pub trace: Vec<TraceLine>,
}

impl Ran {
    /// Returns one word for what came of it: `up`, `degraded`, `down`, `unknown`, or `fault`.
    pub fn state(&self) -> &'static str {
        state(&self.result)
    }

    /// Returns the reason, one word: that of the probe, or that of the fault.
    pub fn reason(&self) -> &str {
        match &self.result {
            Ok(found) => &found.reason,
            Err(fault) => fault.as_str(),
        }
    }

    /// Returns the message for people.
    pub fn message(&self) -> String {
        match &self.result {
            Ok(found) => found.message.clone(),
            Err(fault) => fault.to_string(),
        }
    }
}

/// Returns state and reason of a run.
pub(crate) fn said(result: &Result<RunOutcome, RunFault>) -> (&'static str, String) {
    let reason = match result {
        Ok(found) => found.reason.clone(),
        Err(fault) => fault.as_str().to_owned(),
    };
    (state(result), reason)
}

fn state(result: &Result<RunOutcome, RunFault>) -> &'static str {
    match result {
        Ok(found) => match found.outcome {
            Outcome::Up => "up",
            Outcome::Degraded => "degraded",
            Outcome::Down => "down",
            Outcome::Unknown => "unknown",
        },
        Err(_) => FAULT,
    }
}
