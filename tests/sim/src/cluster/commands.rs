//! The commands of `vouch-sim` about clusters: `run`, `explore`, `row` and `score`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};

use super::invariants;
use super::oracle::{self, Replay};
use super::play::{self, Run};
use super::pool;
use super::published::Said;
use super::row::Row;
use super::schedule::Schedule;
use super::score::{HEAD, RowScore};
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

#[expect(clippy::print_stdout, reason = "a command line tool talks to its terminal")]
fn score(args: &ScoreArgs) -> Result<ExitCode> {
    let rows = rows_of(&args.rows)?;
    let jobs: Vec<(Row, u64)> = rows.iter().flat_map(|row| (1..=args.trials).map(|seed| (*row, seed))).collect();
    let begun = Instant::now();
    let done: Vec<Option<Score>> = pool::each(&jobs, |(row, seed)| trial::score(&trial_run(*row, *seed)));
    let mut scores: Vec<RowScore> = Vec::new();
    for ((row, seed), score) in jobs.iter().zip(done) {
        if scores.last().is_none_or(|s| s.row != *row) {
            scores.push(RowScore { row: *row, trials: Vec::new(), broken: Vec::new() });
        }
        let last = scores.last_mut().ok_or_else(|| anyhow!("a score was pushed above"))?;
        match score {
            Some(score) => last.trials.push(score),
            None => last.broken.push(*seed),
        }
    }
    let lines: Vec<String> = scores.iter().map(RowScore::line).collect();
    let table = format!("{HEAD}\n{}\n", lines.join("\n"));
    println!("{table}\n{} trials in {:?}", jobs.len(), begun.elapsed());
    for score in &scores {
        if let Some(worst) = score.worst() {
            println!("{} seed {}: {}", score.row, worst.seed, worst.said);
        }
        if !score.broken.is_empty() {
            println!("{}: trials that broke off: {:?}", score.row, score.broken);
        }
    }
    if let Some(path) = &args.out {
        std::fs::write(path, &table).with_context(|| format!("{}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
