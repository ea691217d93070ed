//! What a check came to, in the words of the contract and without its generated types.
//!
//! A probe's judgement is plain Rust that the host's tests can call; `probe-glue` says it in the types of the contract.

use std::time::Duration;

/// What one check of a target came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It answered as it should.
    Up,
    /// It answered, but not as it should.
    Degraded,
    /// It did not answer, or refused.
    Down,
    /// The check says nothing about it.
    Unknown,
}

/// One number that was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// What was measured: a word.
    pub name: &'static str,
    /// The number.
    pub value: f64,
    /// Its unit: a word in the plural.
    pub unit: &'static str,
}

/// Result of one check.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// What it came to.
    pub state: State,
    /// Why, as a word.
    pub reason: &'static str,
    /// The same for people.
    pub message: String,
    /// The steps in the order in which they were taken, and how long each took.
    pub phases: Vec<(&'static str, Duration)>,
    /// What was measured.
    pub samples: Vec<Sample>,
    /// What was learnt, by names that are words.
    pub facts: Vec<(&'static str, String)>,
}

impl Outcome {
    /// Returns an outcome without steps, numbers and facts.
    pub fn new(state: State, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { state, reason, message, phases: Vec::new(), samples: Vec::new(), facts: Vec::new() }
    }

    /// Adds a step and how long it took.
    #[must_use]
    pub fn with_phase(mut self, name: &'static str, took: Duration) -> Self {
        self.phases.push((name, took));
        self
    }

    /// Adds something that was learnt.
    #[must_use]
    pub fn with_fact(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    /// Adds a number that was measured.
    #[must_use]
    pub fn with_sample(mut self, name: &'static str, value: f64, unit: &'static str) -> Self {
        self.samples.push(Sample { name, value, unit });
        self
    }

    /// Returns the value of a fact.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(told, _)| *told == name).map(|(_, value)| value.as_str())
    }
}

/// Why a check could not be made: says nothing about the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// There is nothing to check on this target.
    NotApplicable(String),
    /// Something is wrong with the probe, its grant or its host.
    Internal(String),
}
