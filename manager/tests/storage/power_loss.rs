//! A manager that is killed, or whose power is cut, at a random operation, again and again: what was acknowledged is
//! there at the next start, and no vote is taken back.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::disk::Disk;
use crate::fuse::{Cut, Mounted};
use crate::writer;

/// Rounds that the gate plays.
const GATE_ROUNDS: u64 = 32;
/// The gate begins no further round after this time: a busy machine plays fewer rounds, and says how many.
const GATE_TIME: Duration = Duration::from_secs(20);
/// Rounds on one disk before it begins with an empty one.
const ROUNDS_PER_DISK: u64 = 4;
/// The cut falls within so many operations.
const OPERATIONS_MAX: u64 = 1_200;
/// A writer that says nothing for so long is stuck.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a writer ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Killed after so many operations; what it wrote is in the hands of the system.
    Killed(u64),
    /// The power fails after so many operations.
    PowerLoss(u64),
    /// It stops in good order after so many commands each, and then the power fails.
    Stopped(u64),
}

/// What must be there at the next start.
#[derive(Default)]
struct Promised {
    term: u64,
    done: BTreeMap<String, u64>,
    last: (u64, u64),
}

#[derive(Default, Debug)]
struct Figures {
    rounds: u64,
    killed: u64,
    power_losses: u64,
    stopped: u64,
    acknowledged: u64,
    before_ready: u64,
    operations: u64,
}

fn two(words: &str) -> (u64, u64) {
    let (a, b) = words.split_once(' ').unwrap();
    (a.parse().unwrap(), b.parse().unwrap())
}

/// Plays one life of a writer on a disk, and returns the disk as the next one finds it.
fn round(disk: Disk, log_only: bool, end: End, seed: u64, promised: &mut Promised, figures: &mut Figures) -> Disk {
    let mut rng = StdRng::seed_from_u64(seed);
    let mounted = Mounted::mount(disk).unwrap();
    let before = mounted.disk(|disk| disk.operations);
    let mode = match end {
        _ if log_only => "log".to_owned(),
        End::Killed(_) | End::PowerLoss(_) => "consensus".to_owned(),
        End::Stopped(commands) => commands.to_string(),
    };
    let mut child = writer::start(mounted.path(), &mode, seed);
    let process = rustix::process::Pid::from_child(&child);
    match end {
        End::Killed(after_operations) | End::PowerLoss(after_operations) => {
            mounted.cut(Cut { process, after_operations });
        }
        End::Stopped(_) => {}
    }
    let lines = writer::lines(&mut child);
    let mut kept = BTreeMap::new();
    let mut ready = false;
    loop {
        let line = match lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("seed {seed} {end:?}: the writer is stuck");
            }
        };
        let Some((word, rest)) = line.split_once(' ').or_else(|| (line == "ready").then_some(("ready", ""))) else {
            continue;
        };
        match word {
            "vote" => {
                let term: u64 = rest.parse().unwrap();
                assert!(term >= promised.term, "seed {seed}: vote of term {} became {term}", promised.term);
            }
            "kept" => {
                let (name, count) = rest.split_once(' ').unwrap();
                kept.insert(name.to_owned(), count.parse::<u64>().unwrap());
            }
            "ready" => {
                ready = true;
                if !log_only {
                    for (name, count) in &promised.done {
                        let found = kept.get(name).copied().unwrap_or(0);
                        assert!(found >= *count, "seed {seed}: {count} of {name} was acknowledged, {found} is there");
                    }
                }
            }
            "leads" => promised.term = rest.parse().unwrap(),
            "done" => {
                let (name, count) = rest.split_once(' ').unwrap();
                promised.done.insert(name.to_owned(), count.parse().unwrap());
                figures.acknowledged += 1;
            }
            "cutting" => promised.last = two(rest),
            "last" => {
                let last = two(rest);
                assert!(ready || last >= promised.last, "seed {seed}: {:?} became {last:?}", promised.last);
                promised.last = last;
                figures.acknowledged += u64::from(ready);
            }
            "refused" | "fatal" => {
                let cut = mounted.disk(|disk| disk.operations) - before;
                match end {
                    // What it was doing when it was cut failed with it.
                    End::Killed(after) | End::PowerLoss(after) if cut >= after => {}
                    End::Killed(_) | End::PowerLoss(_) | End::Stopped(_) => panic!("seed {seed} {end:?}: {rest}"),
                }
            }
            _ => {}
        }
    }
    let status = child.wait().unwrap();
    let disk = mounted.unmount();
    figures.rounds += 1;
    figures.operations += disk.operations - before;
    figures.before_ready += u64::from(!ready);
    match end {
        End::Killed(_) => {
            figures.killed += 1;
            disk
        }
        End::PowerLoss(_) => {
            figures.power_losses += 1;
            disk.after_power_loss(&mut rng)
        }
        End::Stopped(_) => {
            assert!(status.success() && ready, "seed {seed}: it did not stop in good order");
            figures.stopped += 1;
            disk.after_power_loss(&mut rng)
        }
    }
}

fn play(rounds: u64, first_seed: u64, within: Duration) -> Figures {
    let mut figures = Figures::default();
    let began = Instant::now();
    for disk_number in 0..rounds.div_ceil(ROUNDS_PER_DISK) {
        if began.elapsed() > within {
            break;
        }
        let log_only = disk_number % 3 == 1;
        let mut promised = Promised::default();
        let mut disk = Disk::default();
        for number in 0..ROUNDS_PER_DISK {
            if began.elapsed() > within {
                break;
            }
            let seed = first_seed + disk_number * ROUNDS_PER_DISK + number;
            let mut rng = StdRng::seed_from_u64(seed ^ 0xd15c);
            // Early ones fall into the start, where the stores are opened and put right.
            let within = if rng.random_range(0..4) == 0 { 80 } else { OPERATIONS_MAX };
            let operations = rng.random_range(1..within);
            let end = match rng.random_range(0..10) {
                0 if !log_only => End::Stopped(rng.random_range(1..60)),
                1..=3 => End::Killed(operations),
                _ => End::PowerLoss(operations),
            };
            disk = round(disk, log_only, end, seed, &mut promised, &mut figures);
        }
        // A last start, in good order: all that was promised is there.
        if !log_only {
            let mut unused = Figures::default();
            round(disk, false, End::Stopped(1), first_seed, &mut promised, &mut unused);
        }
    }
    figures
}

fn tell(figures: &Figures, took: Duration) {
    let _ = writeln!(std::io::stderr(), "{figures:?} in {:.1} s, 0 lost", took.as_secs_f64());
}

/// Returns whether a file system can be mounted; says why not.
pub fn can_mount() -> bool {
    match Mounted::mount(Disk::default()) {
        Ok(_) => true,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
            false
        }
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_a_manager_is_killed_or_the_power_fails() {
    if can_mount() {
        let began = Instant::now();
        tell(&play(GATE_ROUNDS, 1, GATE_TIME), began.elapsed());
    }
}

#[test]
fn a_disk_that_only_says_that_it_flushed_is_found_out() {
    if !can_mount() {
        return;
    }
    let lost = (1..=10).any(|first_seed| {
        let play = || {
            let mut promised = Promised::default();
            let (end, mut figures) = (End::PowerLoss(OPERATIONS_MAX / 2), Figures::default());
            let disk = round(Disk::lying(), false, end, first_seed, &mut promised, &mut figures);
            round(disk, false, End::Stopped(1), first_seed, &mut promised, &mut figures);
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)).is_err()
    });
    assert!(lost, "the rounds above prove nothing");
}

#[test]
#[ignore = "minutes: `cargo xtask powerloss --rounds N --seed N`"]
fn many_rounds() {
    let number = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    if can_mount() {
        let began = Instant::now();
        let (rounds, seed) = (number("VOUCH_POWERLOSS_ROUNDS", 500), number("VOUCH_POWERLOSS_SEED", 1));
        tell(&play(rounds, seed, Duration::MAX), began.elapsed());
    }
}
