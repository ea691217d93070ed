//! `vouch probe check`: a component without a target and without a cluster.

use serde::Serialize;
use vouch_probe_kit::{AtSilence, CheckReport, Described, Setting, SettingsAnswer, check};
use vouch_types::ProbeName;
use vouch_wire::probe_signature::SignedProbe;

use super::run::open;
use super::sign::{self, SignatureReport};
use super::{runtime, settings_text};
use crate::args::{Global, ProbeCheckArgs};
use crate::exit::{CliError, Exit};
use crate::output::{Output, Paint};

/// Looks at a component.
///
/// # Errors
/// A file that is no probe or breaks a rule; settings that it refuses, as a wrong configuration.
pub fn run(global: &Global, args: &ProbeCheckArgs) -> Result<(), CliError> {
    let settings = args.settings.as_deref().map(settings_text).transpose()?;
    let file = open(&args.file)?;
    let report = runtime()?.block_on(check(&file, settings.as_deref()));
    let signature =
        match report.described.as_ref().and_then(|said| Some((ProbeName::new(&said.name).ok()?, &said.version))) {
            None => None,
            Some((name, version)) => {
                let probe = SignedProbe { digest: file.digest, name: &name, version };
                sign::compare(&args.file, args.signature.as_deref(), &probe)?.map(|(report, _)| report)
            }
        };
    let checked = Checked { report: &report, signature: signature.as_ref() };
    Output::new(global).show(&checked, |paint| tell(&report, signature.as_ref(), paint))?;
    if let Some(SignatureReport { file, misfit: Some(why), .. }) = &signature
        && report.broken.is_empty()
    {
        return Err(CliError::text(Exit::Failed, format!("signature {file}: does not fit the component: {why}")));
    }
    match (report.broken.len(), report.refused()) {
        (0, None) => Ok(()),
        (0, Some(SettingsAnswer { refused, .. })) => {
            let why = refused.as_deref().unwrap_or_default();
            Err(CliError::text(Exit::Config, format!("--settings: the probe refuses them: {why}")))
        }
        (broken, _) => {
            let file = args.file.display();
            Err(CliError::text(Exit::Failed, format!("component {file}: breaks {broken} of the rules, told above")))
        }
    }
}

/// What is told of a component and of the signature beside it.
#[derive(Serialize)]
struct Checked<'a> {
    #[serde(flatten)]
    report: &'a CheckReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a SignatureReport>,
}

/// Returns a report for people.
pub fn tell(report: &CheckReport, signature: Option<&SignatureReport>, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("{name:<10}{value}\n");
    if let Some(described) = &report.described {
        line("probe", &paint.bold(&format!("{} {}", described.name, described.version)));
        tell_described(described, &mut line);
    }
    line("contract", &report.contract);
    line("file", &report.file);
    line("size", &format!("{} of at most {} bytes", report.size, report.size_max));
    line("sha256", &report.sha256);
    if let Some(SignatureReport { file, public_key, misfit }) = signature {
        let said = match (misfit, public_key) {
            (Some(why), _) => paint.broken(&format!("does not fit: {why}")),
            (None, key) => format!("fits, by the key {}", key.as_deref().unwrap_or_default()),
        };
        line("signature", &format!("{file}  {said}"));
    }
    for answer in &report.settings {
        let said = match &answer.refused {
            None => "taken".to_owned(),
            Some(why) => format!("refused: {why}"),
        };
        line("settings", &format!("{}  {said}", answer.settings.trim()));
    }
    line("deadline", &tell_deadline(&report.deadline));
    for (i, import) in report.imports.iter().enumerate() {
        line(if i == 0 { "imports" } else { "" }, import);
    }
    for rule in &report.broken {
        line("broken", &paint.broken(&format!("{}: {}", rule.about, rule.text)));
    }
    text
}

/// Returns what came of the run at a target that gives no answer.
fn tell_deadline(deadline: &AtSilence) -> String {
    match deadline {
        AtSilence::Ended { deadline_ms, state, reason } => {
            format!("{state} {reason} within {deadline_ms} ms at a target that gives no answer")
        }
        AtSilence::Stopped { deadline_ms } => {
            format!("no answer within {deadline_ms} ms at a target that gives none: it was stopped")
        }
        AtSilence::NotTried { why } => format!("not tried: {why}"),
    }
}

/// Tells what a component says of itself besides its name, a line for each thing.
pub(super) fn tell_described(described: &Described, line: &mut impl FnMut(&str, &str)) {
    line("proves", &described.summary);
    line("networks", &described.networks.join(", "));
    let ports: Vec<String> = described.ports.iter().map(ToString::to_string).collect();
    line("ports", &if ports.is_empty() { "those of its settings".to_owned() } else { ports.join(", ") });
    if let (Some(interval), Some(timeout)) = (described.interval_ms, described.timeout_ms) {
        line("proposes", &format!("a run every {interval} ms, of at most {timeout} ms"));
    }
    for setting in &described.settings {
        line("setting", &tell_setting(setting));
    }
    for (name, value) in &described.about {
        line("about", &format!("{name}  {value}"));
    }
}

fn tell_setting(setting: &Setting) -> String {
    let absent = match (&setting.default, setting.required) {
        (Some(default), _) => format!(", {default} when absent"),
        (None, true) => ", needed".to_owned(),
        (None, false) => String::new(),
    };
    format!("{}  {}{absent}  {}", setting.name, setting.rule, setting.description).trim_end().to_owned()
}
