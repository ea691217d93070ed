//! What a run of a probe found beyond its outcome: for people and dashboards, never for a verdict.

use std::time::Duration;

/// The most phases of one run.
pub const PHASES_MAX: usize = 16;
/// The most samples of one run.
pub const SAMPLES_MAX: usize = 32;
/// The most facts of one run.
pub const FACTS_MAX: usize = 32;
/// The longest name, unit or value of these, in bytes.
pub const FINDING_TEXT_MAX: usize = 256;

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

/// What one run found beyond its outcome.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Findings {
    /// The steps in the order in which they were taken, at most [`PHASES_MAX`].
    pub phases: Vec<Phase>,
    /// What was measured, at most [`SAMPLES_MAX`].
    pub samples: Vec<Sample>,
    /// What was learnt about the target, by name, at most [`FACTS_MAX`].
    pub facts: Vec<(String, String)>,
}

impl Findings {
    /// Returns how many bytes its texts have, with 16 for the numbers of each of its items.
    pub fn bytes(&self) -> usize {
        let phases = self.phases.iter().map(|phase| phase.name.len());
        let samples = self.samples.iter().map(|sample| sample.name.len() + sample.unit.len());
        let facts = self.facts.iter().map(|(name, value)| name.len() + value.len());
        phases.chain(samples).chain(facts).map(|texts| texts + 16).sum()
    }

    /// Returns whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.phases.is_empty() && self.samples.is_empty() && self.facts.is_empty()
    }
}
