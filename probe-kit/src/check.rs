//! What can be said of a component without a target: what it is, what it may use, and which rules it breaks.
//!
//! The rules are those that a cluster has for a probe and its name; all that are broken are told at once, not the first
//! alone. It never runs the check itself: `describe` and `validate` reach nothing.

use std::collections::BTreeSet;

use semver::Version;
use serde::Serialize;
use vouch_probe_host::limits::COMPONENT_MAX;
use vouch_probe_host::{Descriptor, RunFault};
use vouch_types::ProbeName;

use crate::ProbeFile;

/// A rule that a component breaks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BrokenRule {
    /// What it is about: `name`, `version`, `summary`, `ports`, `describe`, `validate`.
    pub about: String,
    /// What is there, and what must be.
    pub text: String,
}

/// What a component says to settings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SettingsAnswer {
    /// The settings.
    pub settings: String,
    /// Why it refuses them, unless it takes them.
    pub refused: Option<String>,
}

/// What was found out about a component.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CheckReport {
    /// The file.
    pub file: String,
    /// Its size in bytes.
    pub size: usize,
    /// The most bytes that a probe host takes.
    pub size_max: usize,
    /// Its SHA-256.
    pub sha256: String,
    /// How it describes itself, if it does.
    pub described: Option<Described>,
    /// What it imports, sorted.
    pub imports: Vec<String>,
    /// What it says to the settings `{}`, and to those that were given.
    pub settings: Vec<SettingsAnswer>,
    /// Rules that it breaks.
    pub broken: Vec<BrokenRule>,
}

/// How a component describes itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it checks.
    pub summary: String,
    /// The ports that it connects to when its settings have no `port`.
    pub ports: Vec<u16>,
}

impl CheckReport {
    /// Returns why the component refuses the settings that were given, if it does.
    pub fn refused(&self) -> Option<&SettingsAnswer> {
        self.settings.iter().skip(1).find(|answer| answer.refused.is_some())
    }
}

/// Asks a component what it is, and what it says to `{}` and to these settings.
pub async fn check(file: &ProbeFile, settings: Option<&str>) -> CheckReport {
    let mut broken = Vec::new();
    let described = match file.probe.describe().await {
        Ok(descriptor) => {
            let described = described(descriptor);
            broken.extend(broken_by(&described));
            Some(described)
        }
        Err(fault) => {
            broken.push(BrokenRule { about: "describe".to_owned(), text: fault.to_string() });
            None
        }
    };
    let mut answers = Vec::new();
    for settings in std::iter::once("{}").chain(settings) {
        let refused = match file.probe.validate(settings).await {
            Ok(()) => None,
            Err(RunFault::BadSettings(why)) => Some(why),
            Err(fault) => {
                broken.push(BrokenRule { about: "validate".to_owned(), text: format!("settings {settings}: {fault}") });
                continue;
            }
        };
        answers.push(SettingsAnswer { settings: settings.to_owned(), refused });
    }
    CheckReport {
        file: file.path.display().to_string(),
        size: file.size,
        size_max: COMPONENT_MAX,
        sha256: file.digest.to_string(),
        described,
        imports: file.probe.imports().interfaces.clone(),
        settings: answers,
        broken,
    }
}

fn described(descriptor: &Descriptor) -> Described {
    Described {
        name: descriptor.name.clone(),
        version: descriptor.version.clone(),
        summary: descriptor.summary.clone(),
        ports: descriptor.ports.clone(),
    }
}

/// Returns the rules that a description breaks.
fn broken_by(said: &Described) -> Vec<BrokenRule> {
    let rule = |about: &str, text: String| BrokenRule { about: about.to_owned(), text };
    let mut broken = Vec::new();
    if let Err(error) = ProbeName::new(&said.name) {
        broken.push(rule("name", error.to_string()));
    }
    if let Err(error) = Version::parse(&said.version) {
        let text = format!("version {:?}: must be a semantic version, as 1.2.3 ({error})", said.version);
        broken.push(rule("version", text));
    }
    if said.summary.trim().is_empty() {
        broken.push(rule("summary", "summary \"\": must say in one sentence what the probe checks".to_owned()));
    }
    if said.ports.contains(&0) || said.ports.iter().collect::<BTreeSet<_>>().len() != said.ports.len() {
        broken.push(rule("ports", format!("ports {:?}: must be from 1 to 65535, each once", said.ports)));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_a_description_breaks_is_told_with_its_value() {
        let said = Described {
            name: "My_Probe".to_owned(),
            version: "one".to_owned(),
            summary: " ".to_owned(),
            ports: vec![22, 22],
        };
        let broken = broken_by(&said);
        let about: Vec<&str> = broken.iter().map(|rule| rule.about.as_str()).collect();
        assert_eq!(about, ["name", "version", "summary", "ports"]);
        assert!(broken[0].text.contains("\"My_Probe\"") && broken[0].text.contains("must be"), "{}", broken[0].text);
        assert!(broken[1].text.contains("\"one\": must be a semantic version"), "{}", broken[1].text);
        assert!(broken[3].text.contains("[22, 22]: must be from 1 to 65535"), "{}", broken[3].text);
    }

    #[test]
    fn a_good_description_breaks_none() {
        let said = Described {
            name: "ssh".to_owned(),
            version: "0.1.0".to_owned(),
            summary: "Reads the banner of SSH.".to_owned(),
            ports: vec![22],
        };
        assert_eq!(broken_by(&said), []);
    }
}
