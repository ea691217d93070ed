//! The oracle: plays, compares what was published with what was true, and brings a breach down to its least schedule.

use super::invariants::{self, Invariant, Violation, i8_deterministic};
use super::play::{self, Run};
use super::schedule::Schedule;

/// The most runs that shrinking one breach may take.
pub const SHRINK_RUNS_MAX: usize = 60;

/// What plays a schedule: the real thing, or a lying one in the oracle's own test.
pub type Player<'a> = &'a (dyn Fn(u64, &Schedule) -> Run + Sync);

/// A breach, its schedule as small as it came to be.
#[derive(Clone, Debug)]
pub struct Breach {
    /// The seed.
    pub seed: u64,
    /// The schedule that was drawn.
    pub drawn: Schedule,
    /// The least schedule found that breaks the same invariant.
    pub least: Schedule,
    /// What breaks, with the least schedule.
    pub violation: Violation,
}

impl Breach {
    /// Returns the command that plays it again.
    pub fn command(&self) -> String {
        format!("cargo xtask sim run --seed {} --schedule {}", self.seed, self.least)
    }
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        writeln!(f, "  drawn:  {}", self.drawn)?;
        writeln!(f, "  least:  {}", self.least)?;
        write!(f, "  replay: {}", self.command())
    }
}

/// Whether a seed is played twice, for I8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replay {
    /// Once.
    Once,
    /// Twice, and compared.
    Twice,
}

fn breaks(player: Player<'_>, seed: u64, schedule: &Schedule, invariant: Invariant) -> Option<Violation> {
    let run = player(seed, schedule);
    if invariant == Invariant::I8 {
        return i8_deterministic::check(&run, &player(seed, schedule)).into_iter().next();
    }
    invariants::check(&run).into_iter().find(|v| v.invariant == invariant)
}

fn shrink(player: Player<'_>, seed: u64, drawn: &Schedule, first: Violation) -> Breach {
    let (mut least, mut violation, mut runs) = (drawn.clone(), first, 0);
    'smaller: loop {
        for smaller in least.smaller() {
            runs += 1;
            if runs > SHRINK_RUNS_MAX {
                break 'smaller;
            }
            if let Some(found) = breaks(player, seed, &smaller, violation.invariant) {
                (least, violation) = (smaller, found);
                continue 'smaller;
            }
        }
        break;
    }
    Breach { seed, drawn: drawn.clone(), least, violation }
}

/// Plays a schedule and returns every invariant that it breaks, each once, with its least schedule.
pub fn examine(player: Player<'_>, seed: u64, schedule: &Schedule, replay: Replay) -> Vec<Breach> {
    let run = player(seed, schedule);
    let mut violations = invariants::check(&run);
    if replay == Replay::Twice {
        violations.extend(i8_deterministic::check(&run, &player(seed, schedule)));
    }
    violations.sort_by_key(|v| v.invariant);
    violations.dedup_by_key(|v| v.invariant);
    violations.into_iter().map(|violation| shrink(player, seed, schedule, violation)).collect()
}

/// Plays the real cluster.
pub fn real(seed: u64, schedule: &Schedule) -> Run {
    play::play_whole(seed, schedule)
}
