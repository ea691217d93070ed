//! What watchers find when they look because somebody asks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What came of a forced check.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// The VM.
    pub vm: String,
    /// The watchers that were asked.
    pub asked: Vec<String>,
    /// Those that answered in time.
    pub answered: Vec<String>,
    /// How long it took.
    pub took_ms: u64,
    /// What they found with each probe, by watcher, network and probe.
    #[serde(default)]
    pub looks: Vec<LookView>,
}

/// What one run of one probe found, with what that rests on.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct LookView {
    /// Who looked.
    pub watcher: String,
    /// Over which network.
    pub network: String,
    /// With which probe.
    pub probe: String,
    /// `up`, `degraded`, `down` or `unknown`.
    pub outcome: String,
    /// Why, in one word.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// How long the run took, in seconds.
    pub seconds: f64,
    /// The steps in the order in which they were taken.
    pub phases: Vec<PhaseView>,
    /// What was measured.
    pub samples: Vec<SampleView>,
    /// What was learnt about the VM.
    pub facts: Vec<FactView>,
}

impl LookView {
    /// Returns whether it tells what it rests on. A watcher of an earlier version does not.
    pub fn is_told(&self) -> bool {
        !(self.phases.is_empty() && self.samples.is_empty() && self.facts.is_empty())
    }

    /// Returns how long the step of this name took, in seconds, if it was taken.
    pub fn phase(&self, name: &str) -> Option<f64> {
        self.phases.iter().find(|phase| phase.name == name).map(|phase| phase.seconds)
    }

    /// Returns the number of this name, if it was measured.
    pub fn sample(&self, name: &str) -> Option<f64> {
        self.samples.iter().find(|sample| sample.name == name).map(|sample| sample.value)
    }

    /// Returns the fact of this name, if it was learnt.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str())
    }
}

/// One step of a look.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PhaseView {
    /// Its name.
    #[schema(example = "connect")]
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// One number that a look measured.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SampleView {
    /// What was measured.
    #[schema(example = "loss")]
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    #[schema(example = "ratio")]
    pub unit: String,
}

/// One thing that a look learnt about the VM.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct FactView {
    /// Its name.
    #[schema(example = "certificate_expires")]
    pub name: String,
    /// Its value.
    pub value: String,
}
