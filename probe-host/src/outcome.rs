//! What comes of one run, within its limits.

use std::time::Duration;

use vouch_types::observation::{MESSAGE_MAX, REASON_MAX};
use vouch_types::{Outcome, Phase, Sample};

use crate::limits::OUTCOME_TEXT_MAX;

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
    /// How many phases, samples and facts were left out: beyond the limits, no number, or no name.
    pub left_out: usize,
    /// How long the whole run took.
    pub elapsed: Duration,
    /// How much of that the guest and the host's calls for it computed; the rest they waited.
    pub computed: Duration,
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
    /// All runs of the probe together wanted more memory than those of one probe may have.
    #[error("stopped: the runs of this probe together wanted more than {limit} bytes of memory")]
    MemoryOfProbe {
        /// How much they may have, beyond what every run has.
        limit: usize,
    },
    /// The runs of all probes together wanted more memory than this host lends.
    #[error("stopped: no memory was left of the {limit} bytes that the runs of all probes may have")]
    MemoryOfHost {
        /// How much they may have, beyond what every run has.
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
            Self::Memory { .. } | Self::MemoryOfProbe { .. } => "memory",
            Self::MemoryOfHost { .. } => "no_memory_left",
            Self::Crashed(_) => "crashed",
            Self::BadAnswer(_) => "bad_answer",
            Self::Busy { .. } => "busy",
        }
    }
}

/// What names phases, samples, facts and units have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Names {
    /// Any text, cut to its limit.
    AnyText,
    /// A word, as reasons are.
    Words,
}

impl Names {
    fn named(self, name: String) -> Option<String> {
        match self {
            Self::AnyText => Some(cut(name, OUTCOME_TEXT_MAX)),
            Self::Words => Some(name).filter(|name| is_word(name)),
        }
    }
}

/// How much of an outcome is kept, by the version of the contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    pub(crate) phases: usize,
    pub(crate) samples: usize,
    pub(crate) facts: usize,
    pub(crate) names: Names,
}

/// What a guest says that it found, not looked at yet.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Found {
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) phases: Vec<Phase>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) facts: Vec<(String, String)>,
    pub(crate) room: Room,
}

impl Found {
    /// Returns the outcome, cut to its limits.
    ///
    /// # Errors
    /// [`RunFault::BadAnswer`] when the reason is no word: nothing could be told by it.
    pub(crate) fn bounded(self, elapsed: Duration, computed: Duration) -> Result<RunOutcome, RunFault> {
        if !is_word(&self.reason) {
            let shown = cut(self.reason, REASON_MAX);
            return Err(RunFault::BadAnswer(format!(
                "reason {shown:?} must be one word of 1 to {REASON_MAX} of a-z, 0-9, `_`, `-`"
            )));
        }
        let (room, names) = (self.room, self.room.names);
        let said = self.phases.len() + self.samples.len() + self.facts.len();
        let phase = |p: Phase| Some(Phase { name: names.named(p.name)?, took: p.took });
        let sample = |s: Sample| {
            let unit = names.named(s.unit)?;
            Some(Sample { name: names.named(s.name)?, value: s.value, unit }).filter(|s| s.value.is_finite())
        };
        let fact = |(name, value)| Some((names.named(name)?, cut(value, OUTCOME_TEXT_MAX)));
        let phases: Vec<Phase> = self.phases.into_iter().filter_map(phase).take(room.phases).collect();
        let samples: Vec<Sample> = self.samples.into_iter().filter_map(sample).take(room.samples).collect();
        let facts: Vec<(String, String)> = self.facts.into_iter().filter_map(fact).take(room.facts).collect();
        let left_out = said - phases.len() - samples.len() - facts.len();
        let (outcome, reason, message) = (self.outcome, self.reason, cut(self.message, MESSAGE_MAX));
        Ok(RunOutcome { outcome, reason, message, phases, samples, facts, left_out, elapsed, computed })
    }
}

/// Returns whether this is a word of the contract.
pub(crate) fn is_word(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
    (1..=REASON_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// Returns a duration in the microseconds of the contract.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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

    const WORDS: Room = Room { phases: 2, samples: 3, facts: 4, names: Names::Words };

    fn found(room: Room, reason: &str, message: &str) -> Found {
        let sample = |name: &str, value| Sample { name: name.to_owned(), value, unit: "ratio".to_owned() };
        Found {
            outcome: Outcome::Down,
            reason: reason.to_owned(),
            message: message.to_owned(),
            phases: vec![Phase { name: "connect".to_owned(), took: Duration::ZERO }; 9],
            samples: vec![sample("loss", f64::NAN), sample("loss", f64::INFINITY), sample("loss", 0.5)],
            facts: vec![("name".to_owned(), "v".repeat(9_999)); 99],
            room,
        }
    }

    #[test]
    fn an_outcome_is_cut_to_its_limits_and_says_how_much_was_left_out() {
        let outcome =
            found(WORDS, "closed", &"é\u{1b}[2J".repeat(1000)).bounded(Duration::ZERO, Duration::ZERO).unwrap();
        assert!(outcome.message.len() <= MESSAGE_MAX && !outcome.message.contains('\u{1b}'));
        assert_eq!((outcome.phases.len(), outcome.samples.len(), outcome.facts.len()), (2, 1, 4));
        assert_eq!(outcome.facts[0].1.len(), OUTCOME_TEXT_MAX);
        assert_eq!(outcome.left_out, 7 + 2 + 95, "numbers that are none are among them");
    }

    #[test]
    fn what_has_no_word_for_a_name_is_left_out_and_in_the_first_contract_cut() {
        let named = |names, name: &str| {
            let mut found = found(Room { names, ..WORDS }, "closed", "");
            found.phases = vec![Phase { name: name.to_owned(), took: Duration::ZERO }];
            found.bounded(Duration::ZERO, Duration::ZERO).unwrap().phases
        };
        for name in ["", "two words", "Closed", &"x".repeat(REASON_MAX + 1)] {
            assert_eq!(named(Names::Words, name), [], "{name:?}");
            assert_eq!(named(Names::AnyText, name)[0].name, name, "as it was taken before");
        }
        assert_eq!(named(Names::AnyText, &"x".repeat(9_999))[0].name.len(), OUTCOME_TEXT_MAX);
    }

    #[test]
    fn a_reason_that_is_not_one_word_is_a_fault() {
        for reason in ["", "two words", "Closed", &"x".repeat(REASON_MAX + 1)] {
            let refused = found(WORDS, reason, "").bounded(Duration::ZERO, Duration::ZERO).unwrap_err();
            assert!(matches!(refused, RunFault::BadAnswer(_)), "{reason:?}");
        }
    }
}
