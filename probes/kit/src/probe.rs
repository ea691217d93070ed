//! What a probe is, without the generated types of the contract.

use std::net::IpAddr;
use std::time::Duration;

use crate::{Budget, Fault, Outcome};

/// How a probe describes itself. Its version is that of vouch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Description {
    /// Its name.
    pub name: &'static str,
    /// What an `up` of it proves, in one sentence.
    pub proves: &'static str,
    /// JSON Schema of its settings.
    pub schema: &'static str,
    /// The ports that it uses when its settings have no `port`.
    pub ports: &'static [u16],
    /// How often it is worth running.
    pub interval: Duration,
    /// How long one run may take.
    pub timeout: Duration,
}

/// An address of the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// As the host wrote it: its own imports take it in this form.
    pub text: String,
    /// The same as an address.
    pub ip: IpAddr,
}

/// A probe that checks a target over either network.
pub trait Probe {
    /// What it is.
    const DESCRIPTION: Description;
    /// What its settings say.
    type Settings;

    /// Reads settings from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    fn settings(text: &str) -> Result<Self::Settings, String>;

    /// Checks the target once, within the budget.
    ///
    /// # Errors
    /// [`Fault`], when the check says nothing about the target.
    fn run(address: &Address, settings: &Self::Settings, budget: &Budget) -> Result<Outcome, Fault>;
}
