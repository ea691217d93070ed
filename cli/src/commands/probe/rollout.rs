//! `vouch probe rollout`: how far a new version of a probe is, and its end before its time.

use std::time::Duration;

use vouch_manager::api::view::{Page, ProbeRolloutView, ProbeView, TallyView};
use vouch_types::ProbeName;

use crate::args::{Global, ProbeRolloutEnd};
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output::Output;

/// Tells of a rollout, or ends it.
///
/// # Errors
/// What the managers said, or that there is no probe of this name.
pub fn run(global: &Global, name: &ProbeName, end: &ProbeRolloutEnd) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let action = match (end.promote, end.abort) {
        (true, _) => Some("promote"),
        (false, true) => Some("abort"),
        (false, false) => None,
    };
    let probe: ProbeView = match action {
        Some(action) => client.post(&format!("/v1/probes/{name}/rollout/{action}"), Vec::new())?,
        None => {
            let mut probes = client.get::<Page<ProbeView>>("/v1/probes")?.items.into_iter();
            let missing = || {
                let text = format!("probe {name}: is not recorded; \"vouch probe ls\" lists those that are");
                CliError::text(Exit::NotFound, text)
            };
            probes.find(|probe| probe.name == name.as_str()).ok_or_else(missing)?
        }
    };
    Output::new(global).show(&probe, |_| tell(&probe))
}

/// Returns how far a rollout is, for people.
pub fn tell(probe: &ProbeView) -> String {
    let Some(rollout) = &probe.rollout else {
        let sha256: String = probe.digest.chars().take(12).collect();
        return format!("probe {} {}, sha256 {sha256}, is run by all watchers\n", probe.name, probe.version);
    };
    let ProbeRolloutView {
        version,
        digest,
        canary,
        new,
        before,
        others,
        spent_ms,
        runs_wanted,
        lasts_ms,
        tried,
        by,
        ..
    } = rollout;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("{name:<10}{value}\n");
    line("rollout", &format!("{} {} -> {version}, sha256 {digest}", probe.name, probe.version));
    line("begun", &format!("{} by the {by}", rollout.begun.rfc3339));
    let Some(canary) = canary else {
        line("canary", "none yet: a live watcher that has a vm with the probe");
        return text;
    };
    let before_it: Vec<&str> = tried.iter().map(String::as_str).filter(|watcher| watcher != canary).collect();
    let tried = if before_it.is_empty() { String::new() } else { format!(", after {}", before_it.join(", ")) };
    line("canary", &format!("{canary}{tried}"));
    let seconds = |millis: u64| format!("{:?}", Duration::from_millis(millis));
    let of = |tally: &TallyView| format!("{} faults in {} runs", tally.faults, tally.runs);
    line("new", &format!("{}, for {}", of(new), seconds(*spent_ms)));
    line("before", &format!("{} on {canary}, {} on others meanwhile", of(before), of(others)));
    line(
        "to all",
        &format!("after {runs_wanted} runs and {}, if it faults no more than the version before", seconds(*lasts_ms)),
    );
    text
}
