//! What comes of one run, within its limits.

use std::time::Duration;

use vouch_types::Outcome;
use vouch_types::observation::{MESSAGE_MAX, REASON_MAX};

use crate::bindings::vouch::probe::types;
use crate::limits::{OUTCOME_ITEMS_MAX, OUTCOME_TEXT_MAX};

/// One step of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub took: Duration,
}

/// One number that was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// What was measured.
    pub name: String,
    /// The number; never NaN or infinite.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

/// What one run found.
#[derive(Clone, PartialEq, Debug)]
pub struct RunOutcome {
    /// What it came to.
    pub outcome: Outcome,
    /// Why, as one word; at most [`REASON_MAX`] bytes.
    pub reason: String,
    /// The same for people; at most [`MESSAGE_MAX`] bytes.
    pub message: String,
    /// The steps that were taken.
    pub phases: Vec<Phase>,
    /// What was measured.
    pub samples: Vec<Sample>,
    /// What was learnt about the target.
    pub facts: Vec<(String, String)>,
    /// How long the whole run took.
    pub elapsed: Duration,
}

/// Why a run says nothing about its target.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub enum RunFault {
    /// The probe refuses its settings.
    #[error("settings refused: {0}")]
    BadSettings(String),
    /// The probe has nothing to check on this target.
    #[error("not applicable: {0}")]
    NotApplicable(String),
    /// The probe says that it could not check.
    #[error("the probe could not check: {0}")]
    Probe(String),
    /// The run overstayed its deadline and was stopped.
    #[error("stopped after {after:?}: the probe overstayed its deadline")]
    Deadline {
        /// After how long.
        after: Duration,
    },
    /// The run wanted more memory than it may have.
    #[error("stopped: the probe wanted more than {limit} bytes of memory")]
    Memory {
        /// How much it may have.
        limit: usize,
    },
    /// The probe crashed, or broke another limit.
    #[error("the probe crashed: {0}")]
    Crashed(String),
    /// The answer of the probe breaks the contract.
    #[error("the probe's answer breaks the contract: {0}")]
    BadAnswer(String),
    /// All slots stayed busy until the deadline.
    #[error("no slot became free within the deadline of {deadline:?}")]
    Busy {
        /// How long it waited.
        deadline: Duration,
    },
}

impl RunFault {
    /// Returns one word for it, fit for the reason of an observation whose outcome is `unknown`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::BadSettings(_) => "bad_settings",
            Self::NotApplicable(_) => "not_applicable",
            Self::Probe(_) => "probe_error",
            Self::Deadline { .. } => "overstayed",
            Self::Memory { .. } => "memory",
            Self::Crashed(_) => "crashed",
            Self::BadAnswer(_) => "bad_answer",
            Self::Busy { .. } => "busy",
        }
    }
}

/// Returns a guest's fault in our words.
pub(crate) fn fault_from(fault: types::Fault) -> RunFault {
    match fault {
        types::Fault::BadSettings(text) => RunFault::BadSettings(cut(text, MESSAGE_MAX)),
        types::Fault::NotApplicable(text) => RunFault::NotApplicable(cut(text, MESSAGE_MAX)),
        types::Fault::Other(text) => RunFault::Probe(cut(text, MESSAGE_MAX)),
    }
}

/// Returns a guest's outcome in our words, cut to its limits.
pub(crate) fn outcome_from(found: types::Outcome, elapsed: Duration) -> Result<RunOutcome, RunFault> {
    if !is_word(&found.reason) {
        let shown = cut(found.reason, REASON_MAX);
        return Err(RunFault::BadAnswer(format!(
            "reason {shown:?} must be one word of 1 to {REASON_MAX} of a-z, 0-9, `_`, `-`"
        )));
    }
    Ok(RunOutcome {
        outcome: match found.state {
            types::State::Up => Outcome::Up,
            types::State::Degraded => Outcome::Degraded,
            types::State::Down => Outcome::Down,
            types::State::Unknown => Outcome::Unknown,
        },
        reason: found.reason,
        message: cut(found.message, MESSAGE_MAX),
        phases: found.phases.into_iter().take(OUTCOME_ITEMS_MAX).map(phase_from).collect(),
        samples: found
            .samples
            .into_iter()
            .filter(|s| s.value.is_finite())
            .take(OUTCOME_ITEMS_MAX)
            .map(sample_from)
            .collect(),
        facts: found
            .facts
            .into_iter()
            .take(OUTCOME_ITEMS_MAX)
            .map(|(name, value)| (short(name), short(value)))
            .collect(),
        elapsed,
    })
}

fn phase_from(phase: types::Phase) -> Phase {
    Phase { name: short(phase.name), took: Duration::from_micros(phase.micros) }
}

fn sample_from(sample: types::Sample) -> Sample {
    Sample { name: short(sample.name), value: sample.value, unit: short(sample.unit) }
}

fn is_word(reason: &str) -> bool {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
    (1..=REASON_MAX).contains(&reason.len()) && reason.bytes().all(fits)
}

fn short(text: String) -> String {
    cut(text, OUTCOME_TEXT_MAX)
}

/// Cuts text to at most `max` bytes, at a character, and takes out what would disturb a terminal or a log.
pub(crate) fn cut(text: String, max: usize) -> String {
    let mut cut: String = text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = cut.len().min(max);
    while !cut.is_char_boundary(end) {
        end -= 1;
    }
    cut.truncate(end);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(reason: &str, message: &str) -> types::Outcome {
        types::Outcome {
            state: types::State::Down,
            reason: reason.to_owned(),
            message: message.to_owned(),
            phases: Vec::new(),
            samples: vec![types::Sample { name: "loss".to_owned(), value: f64::NAN, unit: "ratio".to_owned() }],
            facts: vec![("name".to_owned(), "v".repeat(9_999)); 99],
        }
    }

    #[test]
    fn an_outcome_is_cut_to_its_limits() {
        let outcome = outcome_from(found("closed", &"é\u{1b}[2J".repeat(1000)), Duration::ZERO).unwrap();
        assert!(outcome.message.len() <= MESSAGE_MAX && !outcome.message.contains('\u{1b}'));
        assert_eq!((outcome.facts.len(), outcome.facts[0].1.len()), (OUTCOME_ITEMS_MAX, OUTCOME_TEXT_MAX));
        assert!(outcome.samples.is_empty(), "a number that is none says nothing");
    }

    #[test]
    fn a_reason_that_is_not_one_word_is_a_fault() {
        for reason in ["", "two words", "Closed", &"x".repeat(REASON_MAX + 1)] {
            let refused = outcome_from(found(reason, ""), Duration::ZERO).unwrap_err();
            assert!(matches!(refused, RunFault::BadAnswer(_)), "{reason:?}");
        }
    }
}
