//! What can be said of a component without a target: what it is, what it may use, and which rules it breaks.
//!
//! The rules are those that a cluster has for a probe, its size and its name; all that are broken are told at once, not the
//! first alone. `describe` and `validate` reach nothing, and the check itself is run at a fake that gives no answer, on
//! loopback: whether a probe keeps its deadline shows nowhere better.

use std::collections::BTreeSet;
use std::time::Duration;

use semver::Version;
use serde::Serialize;
use serde_json::Value;
use vouch_probe_host::limits::{DEADLINE_MAX, INTERVAL_MAX, INTERVAL_MIN, TIMEOUT_MIN};
use vouch_probe_host::{Descriptor, RunFault};
use vouch_types::probe::COMPONENT_MAX;
use vouch_types::{Network, ProbeName};

use crate::fakes::FakeTcp;
use crate::ran::FAULT;
use crate::schema::{self, Setting};
use crate::{Aim, Fake, Plan, ProbeFile, Trial, ran};

/// The longest deadline of the run at a target that gives no answer.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A rule that a component breaks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BrokenRule {
    /// What it is about: `describe`, `validate`, or what of its description.
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

/// What came of a run at a target that gives no answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AtSilence {
    /// It ended by itself.
    Ended {
        /// The deadline that it had.
        deadline_ms: u64,
        /// What it found, one word: that of an outcome, or `fault`.
        state: &'static str,
        /// Why, one word.
        reason: String,
    },
    /// It overstayed its deadline and was stopped.
    Stopped {
        /// The deadline that it had.
        deadline_ms: u64,
    },
    /// It was not tried.
    NotTried {
        /// Why: its settings are refused, or it needs what is not lent here.
        why: String,
    },
}

/// What was found out about a component.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CheckReport {
    /// The file.
    pub file: String,
    /// Its size in bytes.
    pub size: usize,
    /// The most bytes that a cluster takes.
    pub size_max: usize,
    /// Its SHA-256.
    pub sha256: String,
    /// The contract that it was written for, as `vouch:probe@1`.
    pub contract: String,
    /// How it describes itself, if it does.
    pub described: Option<Described>,
    /// What it imports, sorted.
    pub imports: Vec<String>,
    /// What it says to the settings `{}`, and to those that were given.
    pub settings: Vec<SettingsAnswer>,
    /// Whether it keeps its deadline at a target that gives no answer, with the settings that were given.
    pub deadline: AtSilence,
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
    /// What an `up` of it proves; from a probe of 0.1, what it checks.
    pub summary: String,
    /// The ports that it connects to when its settings have no `port`.
    pub ports: Vec<u16>,
    /// The networks that it can check over.
    pub networks: Vec<&'static str>,
    /// The interval that it proposes.
    pub interval_ms: Option<u64>,
    /// The timeout that it proposes.
    pub timeout_ms: Option<u64>,
    /// The schema of its settings, as it is.
    pub settings_schema: Option<String>,
    /// The same, read for people.
    pub settings: Vec<Setting>,
    /// Anything else that it tells.
    pub about: Vec<(String, String)>,
}

impl CheckReport {
    /// Returns why the component refuses the settings that were given, if it does.
    pub fn refused(&self) -> Option<&SettingsAnswer> {
        self.settings.iter().skip(1).find(|answer| answer.refused.is_some())
    }
}

/// Asks a component what it is, and what it says to `{}` and to these settings, and runs it at a target that gives no
/// answer; must be called inside a tokio runtime with its timers and sockets.
pub async fn check(file: &ProbeFile, settings: Option<&str>) -> CheckReport {
    let mut broken: Vec<BrokenRule> = broken_by_size(file.bytes.len()).into_iter().collect();
    let said = match file.probe.describe().await {
        Ok(said) => {
            broken.extend(broken_by(said));
            Some(said)
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
    let given = answers.iter().find(|answer| settings == Some(answer.settings.as_str()));
    let deadline = match (said, given.and_then(|answer| answer.refused.as_deref())) {
        (None, _) => AtSilence::NotTried { why: "it does not describe itself".to_owned() },
        (Some(_), Some(why)) => AtSilence::NotTried { why: format!("settings refused: {why}") },
        (Some(said), None) => at_silence(file, said, settings.unwrap_or("{}")).await,
    };
    broken.extend(broken_by_run(&deadline));
    CheckReport {
        file: file.path.display().to_string(),
        size: file.bytes.len(),
        size_max: COMPONENT_MAX,
        sha256: file.digest.to_string(),
        contract: file.probe.contract().as_str().to_owned(),
        described: said.map(Described::of),
        imports: file.probe.imports().interfaces.clone(),
        settings: answers,
        deadline,
        broken,
    }
}

/// Runs a component at a port that gives no answer.
async fn at_silence(file: &ProbeFile, said: &Descriptor, settings: &str) -> AtSilence {
    let timeout = said.timeout.unwrap_or(SILENCE_MAX).clamp(TIMEOUT_MIN, SILENCE_MAX);
    let plan = Plan {
        network: said.networks.first().copied().unwrap_or(Network::Service),
        settings: without_port(settings),
        // None but that of the fake, which is added: services of this machine are nobody's to look at.
        ports: BTreeSet::from([0]),
        timeout,
        ..Plan::new(Aim::Fake(Fake::Tcp(FakeTcp::Hang)))
    };
    let trial = match Trial::start(file, &plan).await {
        Ok(trial) => trial,
        Err(error) => return AtSilence::NotTried { why: error.to_string() },
    };
    let mut ended = trial.run_bare().await;
    if matches!(ended, Err(RunFault::Deadline { .. })) {
        // A machine that is busy may have kept it from answering; one that never answers does not the second time either.
        ended = trial.run_bare().await;
    }
    let deadline_ms = millis(timeout);
    match ended {
        Err(RunFault::Deadline { .. }) => AtSilence::Stopped { deadline_ms },
        Err(
            fault
            @ (RunFault::BadSettings(_) | RunFault::NotApplicable(_) | RunFault::Probe(_) | RunFault::Busy { .. }),
        ) => AtSilence::NotTried { why: fault.to_string() },
        ended => {
            let (state, reason) = ran::said(&ended);
            AtSilence::Ended { deadline_ms, state, reason }
        }
    }
}

/// Returns settings without their `port`, for which that of the fake comes in.
fn without_port(settings: &str) -> String {
    match serde_json::from_str::<Value>(settings) {
        Ok(Value::Object(mut fields)) => {
            fields.remove("port");
            Value::Object(fields).to_string()
        }
        Ok(_) | Err(_) => settings.to_owned(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Described {
    /// Returns what a component says of itself, for people and programs.
    pub fn of(said: &Descriptor) -> Self {
        let settings = said.settings_schema.as_deref().and_then(|schema| schema::settings(schema).ok());
        Self {
            name: said.name.clone(),
            version: said.version.clone(),
            summary: said.summary.clone(),
            ports: said.ports.clone(),
            networks: said.networks.iter().map(|network| network.as_str()).collect(),
            interval_ms: said.interval.map(millis),
            timeout_ms: said.timeout.map(millis),
            settings_schema: said.settings_schema.clone(),
            settings: settings.unwrap_or_default(),
            about: said.about.clone(),
        }
    }
}

/// Returns the rule that a component of so many bytes breaks, if it is too large for a cluster.
fn broken_by_size(size: usize) -> Option<BrokenRule> {
    let text = format!("size {size}: a cluster takes at most {COMPONENT_MAX} bytes of one component");
    (size > COMPONENT_MAX).then(|| BrokenRule { about: "size".to_owned(), text })
}

/// Returns the rule that a run at a target that gives no answer breaks, if it had to be stopped or said nothing of it.
fn broken_by_run(deadline: &AtSilence) -> Option<BrokenRule> {
    match deadline {
        AtSilence::Stopped { deadline_ms } => {
            let by = Duration::from_millis(*deadline_ms);
            let text =
                format!("did not answer by its deadline of {by:?} at a target that gives no answer: it was stopped");
            Some(BrokenRule { about: "deadline".to_owned(), text })
        }
        AtSilence::Ended { state, reason, .. } if *state == FAULT => {
            let text = format!("ended with the fault {reason} at a target that gives no answer");
            Some(BrokenRule { about: "run".to_owned(), text })
        }
        AtSilence::Ended { .. } | AtSilence::NotTried { .. } => None,
    }
}

/// Returns the rules that a description breaks.
fn broken_by(said: &Descriptor) -> Vec<BrokenRule> {
    let rule = |about: &str, text: String| BrokenRule { about: about.to_owned(), text };
    let mut broken: Vec<_> = said.beyond.iter().map(|beyond| rule(beyond.part, beyond.text.clone())).collect();
    if let Err(error) = ProbeName::new(&said.name) {
        broken.push(rule("name", error.to_string()));
    }
    if let Err(error) = Version::parse(&said.version) {
        let text = format!("version {:?}: must be a semantic version, as 1.2.3 ({error})", said.version);
        broken.push(rule("version", text));
    }
    if said.summary.trim().is_empty() {
        broken.push(rule("summary", "summary \"\": must say in one sentence what an `up` proves".to_owned()));
    }
    if said.ports.contains(&0) || said.ports.iter().collect::<BTreeSet<_>>().len() != said.ports.len() {
        broken.push(rule("ports", format!("ports {:?}: must be from 1 to 65535, each once", said.ports)));
    }
    let networks: Vec<&str> = said.networks.iter().copied().map(Network::as_str).collect();
    if networks.is_empty() || networks.iter().collect::<BTreeSet<_>>().len() != networks.len() {
        broken.push(rule("networks", format!("networks {networks:?}: must be at least one, each once")));
    }
    for (about, value, least, most) in
        [("interval", said.interval, INTERVAL_MIN, INTERVAL_MAX), ("timeout", said.timeout, TIMEOUT_MIN, DEADLINE_MAX)]
    {
        if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
            broken.push(rule(about, format!("{about} {value:?}: must be from {least:?} to {most:?}")));
        }
    }
    if let Some(Err(why)) = said.settings_schema.as_deref().map(schema::settings) {
        broken.push(rule("settings-schema", format!("settings-schema: {why}")));
    }
    broken
}

#[cfg(test)]
mod tests {
    use vouch_probe_host::{Beyond, ContractVersion};

    use super::*;

    fn good() -> Descriptor {
        Descriptor {
            contract: ContractVersion::V1,
            name: "ssh".to_owned(),
            version: "0.1.0".to_owned(),
            summary: "An SSH server greets.".to_owned(),
            settings_schema: Some(r#"{"type": "object"}"#.to_owned()),
            networks: vec![Network::Service],
            ports: vec![22],
            interval: Some(Duration::from_secs(1)),
            timeout: Some(Duration::from_secs(1)),
            about: Vec::new(),
            beyond: Vec::new(),
        }
    }

    #[test]
    fn every_rule_that_a_description_breaks_is_told_with_its_value() {
        let said = Descriptor {
            contract: ContractVersion::V1,
            name: "My_Probe".to_owned(),
            version: "one".to_owned(),
            summary: " ".to_owned(),
            settings_schema: Some("[]".to_owned()),
            networks: Vec::new(),
            ports: vec![22, 22],
            interval: Some(Duration::ZERO),
            timeout: Some(Duration::from_secs(61)),
            about: Vec::new(),
            beyond: Vec::new(),
        };
        let broken = broken_by(&said);
        let about: Vec<&str> = broken.iter().map(|rule| rule.about.as_str()).collect();
        assert_eq!(
            about,
            ["name", "version", "summary", "ports", "networks", "interval", "timeout", "settings-schema"]
        );
        assert!(broken[0].text.contains("\"My_Probe\"") && broken[0].text.contains("must be"), "{}", broken[0].text);
        assert!(broken[1].text.contains("\"one\": must be a semantic version"), "{}", broken[1].text);
        assert!(broken[3].text.contains("[22, 22]: must be from 1 to 65535"), "{}", broken[3].text);
        assert!(broken[5].text.contains("interval 0ns: must be from 100ms to 86400s"), "{}", broken[5].text);
        assert!(broken[6].text.contains("timeout 61s: must be from 50ms to 60s"), "{}", broken[6].text);
    }

    #[test]
    fn a_component_may_be_as_large_as_a_cluster_takes_and_no_larger() {
        assert_eq!(broken_by_size(COMPONENT_MAX), None);
        let broken = broken_by_size(COMPONENT_MAX + 1).unwrap();
        assert_eq!(broken.about, "size");
        assert_eq!(broken.text, "size 3145729: a cluster takes at most 3145728 bytes of one component");
    }

    #[test]
    fn the_port_of_settings_gives_way_to_that_of_the_fake_and_the_rest_stays() {
        assert_eq!(without_port(r#"{"port": 22, "expect": "OpenSSH_9"}"#), r#"{"expect":"OpenSSH_9"}"#);
        assert_eq!(without_port("\"sleep\""), "\"sleep\"");
        assert_eq!(without_port("{"), "{");
    }

    #[test]
    fn a_good_description_breaks_none_and_one_of_0_1_owes_no_more_than_it_can_say() {
        assert_eq!(broken_by(&good()), []);
        let none = (None, None, None);
        let (settings_schema, interval, timeout) = none;
        let first = Descriptor { contract: ContractVersion::V0_1, settings_schema, interval, timeout, ..good() };
        assert_eq!(broken_by(&first), []);
        let text = "ports has 17 items: must have at most 16".to_owned();
        let more = Descriptor { beyond: vec![Beyond { part: "ports", text: text.clone() }], ..good() };
        assert_eq!(broken_by(&more), [BrokenRule { about: "ports".to_owned(), text }]);
    }
}
