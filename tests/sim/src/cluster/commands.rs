//! The commands of `vouch-sim` about clusters: `run`, `explore`, `row` and `score`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};

use super::baselines::{self, Which};
use super::invariants;
use super::oracle::{self, Replay};
use super::play::{self, Run};
use super::pool;
use super::published::Said;
use super::row::Row;
use super::schedule::Schedule;
use super::score::{self, HEAD, RowScore};
use super::trial::{self, AFTER_HEAL, Score};
use super::world::Size;

/// The commands.
#[derive(Subcommand, Debug)]
pub enum ClusterCommand {
    /// Plays one seed, with a schedule drawn from it or given, and tells what was published
    Run(RunArgs),
    /// Plays drawn schedules of many seeds and checks the invariants; exit code 1 on a violation
    Explore(ExploreArgs),
    /// Plays one trial of a row of the fault table
    Row(RowArgs),
    /// Plays many trials of every row and writes the table of scores
    Score(ScoreArgs),
}

/// Of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The seed
    #[arg(long)]
    seed: u64,
    /// The schedule, as ROW[:SUBJECT]@START+LASTS in milliseconds, separated by commas
    #[arg(long)]
    schedule: Option<Schedule>,
}

/// Of `explore`.
#[derive(Args, Debug)]
pub struct ExploreArgs {
    /// The seeds, as A..B; B is not played
    #[arg(long, value_parser = seed_range)]
    seeds: std::ops::Range<u64>,
}

/// Of `row`.
#[derive(Args, Debug)]
pub struct RowArgs {
    /// The row, as 1 or 7a
    row: String,
    /// The seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Of `score`.
#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// Trials per row; their seeds are 1 to this
    #[arg(long, default_value_t = 300)]
    trials: u64,
    /// Rows, separated by commas; all when left out
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Where to write the table
    #[arg(long)]
    out: Option<PathBuf>,
}

fn seed_range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let rule = || format!("{text:?}: must be A..B with A below B");
    let (from, to) = text.split_once("..").ok_or_else(rule)?;
    let (from, to) = (from.parse().map_err(|_| rule())?, to.parse().map_err(|_| rule())?);
    if from < to { Ok(from..to) } else { Err(rule()) }
}

/// Runs a command.
///
/// # Errors
/// When an argument names nothing, or a file cannot be written.
#[expect(clippy::print_stdout, reason = "a command line tool talks to its terminal")]
pub fn run(command: &ClusterCommand) -> Result<ExitCode> {
    match command {
        ClusterCommand::Run(args) => {
            let schedule = args.schedule.clone().unwrap_or_else(|| Schedule::drawn(args.seed, Size::default()));
            let run = play::play_whole(args.seed, &schedule);
            println!("{}", told(&run));
            let violations = invariants::check(&run);
            violations.iter().for_each(|violation| println!("{violation}"));
            Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ClusterCommand::Explore(args) => {
            let seeds: Vec<u64> = args.seeds.clone().collect();
            let found = explore(&seeds);
            found.iter().for_each(|told| println!("{told}"));
            println!("{} seeds, {} breaches", seeds.len(), found.len());
            Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ClusterCommand::Row(args) => {
            for row in rows_of(std::slice::from_ref(&args.row))? {
                let run = trial_run(row, args.seed);
                println!("{}\n{:#?}", told(&run), trial::score(&run));
            }
            Ok(ExitCode::SUCCESS)
        }
        ClusterCommand::Score(args) => score(args),
    }
}

/// Every seventh seed is played twice and compared.
const TWICE_EVERY: u64 = 7;

/// Plays the schedules that are drawn from these seeds; returns every breach as text.
pub fn explore(seeds: &[u64]) -> Vec<String> {
    let examined = pool::each(seeds, |seed| {
        let replay = if seed % TWICE_EVERY == 0 { Replay::Twice } else { Replay::Once };
        oracle::examine(&oracle::real, *seed, &Schedule::drawn(*seed, Size::default()), replay)
    });
    let told = seeds.iter().zip(examined).flat_map(|(seed, breaches)| match breaches {
        Some(breaches) => breaches.iter().map(ToString::to_string).collect(),
        None => vec![format!("seed {seed}: the run broke off; replay: cargo xtask sim run --seed {seed}")],
    });
    told.collect()
}

fn rows_of(names: &[String]) -> Result<Vec<Row>> {
    if names.is_empty() {
        return Ok(Row::ALL.to_vec());
    }
    let mut rows = Vec::new();
    for name in names {
        let named = Row::named(name);
        if named.is_empty() {
            bail!("row {name:?}: not a row of the fault table that is simulated");
        }
        rows.extend(named);
    }
    Ok(rows)
}

fn trial_run(row: Row, seed: u64) -> Run {
    let schedule = Schedule::of_row(row, seed, Size::default());
    play::play(seed, &schedule, Size::default(), AFTER_HEAL)
}

/// Tells a run: its schedule and events, and what is said at its end.
fn told(run: &Run) -> String {
    let events = run.record.events.iter().map(|told| format!("{:>8} ms  {:?}", told.at.as_millis(), told.event.kind));
    let last = run.record.published.last().map_or_else(Said::default, |p| (*p.said).clone());
    let vms: Vec<_> = last.vms.keys().copied().collect();
    let events = events.collect::<Vec<_>>().join("\n");
    format!("seed {} schedule {}\n{events}\nat the end: {}", run.seed, run.schedule, trial::summary(&last, &vms))
}

/// One simulation of the table.
#[derive(Clone, Copy)]
struct Job {
    row: Row,
    seed: u64,
    baseline: Option<Which>,
}

impl Job {
    fn play(&self) -> Score {
        let schedule = Schedule::of_row(self.row, self.seed, Size::default());
        trial::score(&match self.baseline {
            None => play::play(self.seed, &schedule, Size::default(), AFTER_HEAL),
            Some(which) => baselines::play(which, self.seed, &schedule, AFTER_HEAL),
        })
    }
}

/// Plays all trials of these rows for one system.
fn scores(rows: &[Row], trials: u64, baseline: Option<Which>) -> Vec<RowScore> {
    let jobs: Vec<Job> =
        rows.iter().flat_map(|row| (1..=trials).map(move |seed| Job { row: *row, seed, baseline })).collect();
    let mut done = jobs.iter().zip(pool::each(&jobs, Job::play)).collect::<Vec<_>>().into_iter().peekable();
    let mut scores = Vec::new();
    while let Some((first, _)) = done.peek() {
        let mut score = RowScore { row: first.row, trials: Vec::new(), broken: Vec::new() };
        while let Some((job, came)) = done.next_if(|(job, _)| job.row == score.row) {
            match came {
                Some(came) => score.trials.push(came),
                None => score.broken.push(job.seed),
            }
        }
        scores.push(score);
    }
    scores
}

/// A large cluster for N10: a rack of 1,000 VMs, and another one that lives.
const LARGE: Size = Size { managers: 3, nodes: 40, racks: 2, vms_per_node: 50 };

/// Silences a rack of 1,000 VMs at once, and returns what came of it in one line.
fn silenced_at_once() -> Result<String> {
    let schedule: Schedule = "24:r2@1000+15000".parse().map_err(|e: String| anyhow!(e))?;
    let run = play::play(1, &schedule, LARGE, Duration::from_secs(1));
    let score = trial::score(&run);
    let evacuations = |said: &Said| {
        let living = said.vms.iter().filter(|(vm, _)| !run.struck[0].contains(vm));
        living.filter(|(_, vm)| !matches!(vm.advice.as_str(), "none")).count()
    };
    let worst = run.record.published.iter().map(|p| evacuations(&p.said)).max().unwrap_or(0);
    let time = score.time.map_or("never".to_owned(), |time| format!("{} ms", time.as_millis()));
    Ok(format!(
        "N10 ({} VMs silenced at once: one incident in 10 s, 2 notifications, no advice for others): told {time}; {} \
         incidents, {} notifications, {worst} VMs that live with advice",
        run.struck[0].len(),
        score.incidents,
        score.notices
    ))
}

#[expect(clippy::print_stdout, reason = "a command line tool talks to its terminal")]
fn score(args: &ScoreArgs) -> Result<ExitCode> {
    let (rows, begun) = (rows_of(&args.rows)?, Instant::now());
    let vouch = scores(&rows, args.trials, None);
    let usual: Vec<(Which, Vec<RowScore>)> =
        Which::ALL.iter().map(|which| (*which, scores(&rows, args.trials, Some(*which)))).collect();
    let mut lines = Vec::new();
    for (index, score) in vouch.iter().enumerate() {
        lines.push(score.line("vouch"));
        lines.extend(usual.iter().filter_map(|(which, scores)| Some(scores.get(index)?.line(which.name()))));
    }
    let mut numbers = score::numbers(&vouch);
    if args.rows.is_empty() {
        numbers.push(silenced_at_once()?);
    }
    let selected = if args.rows.is_empty() { String::new() } else { format!(" --rows {}", args.rows.join(",")) };
    let command = format!("cargo xtask sim score --trials {}{selected}", args.trials);
    let numbers: Vec<String> = numbers.iter().map(|line| format!("- {line}")).collect();
    let text = format!(
        "# Scores\n\n{INTRODUCTION}\nMade by `{command}`: seeds 1 to {} of every row.\n\n{HEAD}\n{}\n\n## Numbers\n\n{}\n",
        args.trials,
        lines.join("\n"),
        numbers.join("\n")
    );
    println!("{text}\n{:?}", begun.elapsed());
    for score in &vouch {
        if let Some(worst) = score.worst() {
            println!("{} seed {}: {}", score.row, worst.seed, worst.said);
        }
        if !score.broken.is_empty() {
            println!("{}: trials that broke off: {:?}", score.row, score.broken);
        }
    }
    if let Some(path) = &args.out {
        std::fs::write(path, &text).with_context(|| format!("{}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What stands above the table.
const INTRODUCTION: &str = "\
Every row of the fault table that can be simulated, played against whole clusters: three managers with Raft, four nodes
in two racks, three VMs a node, real watcher logic, virtual time. A fault begins at a random phase. State, cause and
advice are judged when the fault ends (rows without alarm: at all times); times run from the fault until state and
likeliest cause of every struck VM were right. `recoveries` counts the recovery events of a heal.

The other systems are models of their rules, fed by the truth of the same schedules, the fault lengthened to 90 s so that
their timeouts can run out: the node's word alone with Nova's `service_down_time`, a matrix of host checks over both
networks in the manner of Masakari's Consul driver, and SWIM with memberlist's default times. They give no advice.
";
