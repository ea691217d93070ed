//! `vouch probe run`: a component at a target or a fake, without a cluster.

use std::time::Duration;

use serde::Serialize;
use vouch_probe_host::RunOutcome;
use vouch_probe_kit::{Aim, OpenError, Plan, ProbeFile, Ran, Trial};
use vouch_types::{Network, Outcome};

use super::{host, runtime, settings_text};
use crate::args::{Global, ProbeAimArgs, ProbeNetwork, ProbeRunArgs};
use crate::exit::{CliError, Exit};
use crate::output::{Output, Paint};

/// One run, as programs read it.
#[derive(Debug, Serialize)]
pub struct RunDocument {
    run: u32,
    state: &'static str,
    reason: String,
    message: String,
    elapsed_us: u64,
    phases: Vec<PhaseDocument>,
    samples: Vec<SampleDocument>,
    facts: Vec<(String, String)>,
    left_out: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trace: Vec<TraceDocument>,
}

#[derive(Debug, Serialize)]
struct PhaseDocument {
    name: String,
    took_us: u64,
}

#[derive(Debug, Serialize)]
struct SampleDocument {
    name: String,
    value: f64,
    unit: String,
}

#[derive(Debug, Serialize)]
struct TraceDocument {
    at_us: u64,
    kind: String,
    text: String,
}

/// Runs a component; returns the worst that was found.
///
/// # Errors
/// A file that is no probe, or a fake that cannot be started.
pub fn run(global: &Global, args: &ProbeRunArgs) -> Result<Exit, CliError> {
    let plan = plan(&args.aim)?;
    let file = open(&args.file)?;
    let out = Output::new(global);
    runtime()?.block_on(async {
        let trial = Trial::start(&file, &plan).await?;
        let mut worst = Exit::Ok;
        for number in 1..=args.count {
            let mut ran = trial.run().await;
            if !args.trace {
                ran.trace.clear();
            }
            if severity(exit(&ran)) > severity(worst) {
                worst = exit(&ran);
            }
            let document = document(number, &ran);
            out.line(&document, |paint| tell(&document, paint).trim_end().to_owned())?;
        }
        Ok(worst)
    })
}

/// Opens a component with a host of its own.
pub(super) fn open(path: &std::path::Path) -> Result<ProbeFile, CliError> {
    let opened = ProbeFile::open(&host()?, path);
    opened.map_err(|error| match error {
        OpenError::Read { .. } => CliError::new(Exit::NotFound, error),
        OpenError::Load { .. } => CliError::new(Exit::Failed, error),
    })
}

/// Returns the plan of the command line.
pub(super) fn plan(args: &ProbeAimArgs) -> Result<Plan, CliError> {
    Ok(Plan {
        aim: args.fake.map_or_else(|| Aim::Addresses(args.target.clone()), Aim::Fake),
        network: match args.network {
            ProbeNetwork::Service => Network::Service,
            ProbeNetwork::Management => Network::Management,
        },
        ports: args.port.iter().copied().collect(),
        settings: settings_text(&args.settings)?,
        timeout: args.timeout,
    })
}

/// Returns the exit code of one run.
pub(super) fn exit(ran: &Ran) -> Exit {
    match &ran.result {
        Ok(RunOutcome { outcome: Outcome::Up, .. }) => Exit::Ok,
        Ok(RunOutcome { outcome: Outcome::Degraded, .. }) => Exit::Degraded,
        Ok(RunOutcome { outcome: Outcome::Unknown, .. }) => Exit::Unknown,
        Ok(RunOutcome { outcome: Outcome::Down, .. }) => Exit::Down,
        Err(_) => Exit::Fault,
    }
}

/// The codes of runs are numbered from the best to the worst.
fn severity(exit: Exit) -> u8 {
    exit.code()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Returns one run for programs.
pub fn document(run: u32, ran: &Ran) -> RunDocument {
    let found = ran.result.as_ref().ok();
    let phases = found.into_iter().flat_map(|found| &found.phases);
    let samples = found.into_iter().flat_map(|found| &found.samples);
    RunDocument {
        run,
        state: ran.state(),
        reason: ran.reason().to_owned(),
        message: ran.message(),
        elapsed_us: micros(ran.took),
        phases: phases.map(|p| PhaseDocument { name: p.name.clone(), took_us: micros(p.took) }).collect(),
        samples: samples
            .map(|s| SampleDocument { name: s.name.clone(), value: s.value, unit: s.unit.clone() })
            .collect(),
        facts: found.map(|found| found.facts.clone()).unwrap_or_default(),
        left_out: found.map_or(0, |found| found.left_out),
        trace: ran
            .trace
            .iter()
            .map(|line| TraceDocument { at_us: micros(line.at), kind: line.kind.clone(), text: line.text.clone() })
            .collect(),
    }
}

fn millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

/// Returns one run for people.
pub fn tell(run: &RunDocument, paint: Paint) -> String {
    let state = paint.state(run.state);
    let mut text = format!("{state}  {}  {}  ({})\n", run.reason, run.message, millis(run.elapsed_us));
    let mut line = |kind: &str, name: &str, value: &str| text += &format!("  {kind:<7} {name}  {value}\n");
    for phase in &run.phases {
        line("phase", &phase.name, &millis(phase.took_us));
    }
    for sample in &run.samples {
        line("sample", &sample.name, &format!("{} {}", sample.value, sample.unit));
    }
    for (name, value) in &run.facts {
        line("fact", name, value);
    }
    if run.left_out > 0 {
        line(
            "left out",
            &run.left_out.to_string(),
            "phases, samples and facts: too many, or without a word for a name",
        );
    }
    for traced in &run.trace {
        line("trace", &format!("{:>9}", millis(traced.at_us)), &format!("{}  {}", traced.kind, traced.text));
    }
    text
}
