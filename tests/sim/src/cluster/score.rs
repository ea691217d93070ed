//! Sums the trials of a row up, and writes the table.

use std::fmt::Write as _;
use std::time::Duration;

use super::row::{Row, When};
use super::trial::{Mark, Score};

/// What all trials of a row came to.
#[derive(Clone, Debug)]
pub struct RowScore {
    /// Which.
    pub row: Row,
    /// Its trials, in the order of their seeds.
    pub trials: Vec<Score>,
    /// Seeds of trials that could not be played to their end.
    pub broken: Vec<u64>,
}

fn percent(part: usize, whole: usize) -> String {
    match whole {
        0 => "-".to_owned(),
        _ if part == whole => "100".to_owned(),
        _ => format!("{:.1}", part as f64 * 100.0 / whole as f64),
    }
}

/// Returns the time that this share of all stay below, in per mille.
pub fn quantile(sorted: &[Duration], per_mille: usize) -> Option<Duration> {
    let rank = (sorted.len() * per_mille).div_ceil(1000).max(1);
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

fn millis(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| time.as_millis().to_string())
}

impl RowScore {
    /// Returns the times of trials that came to be right, sorted.
    pub fn times(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.trials.iter().filter_map(|t| t.time).collect();
        times.sort();
        times
    }

    /// Returns the times from the heal until the node's word ruled again, sorted.
    pub fn hand_backs(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.trials.iter().filter_map(|t| t.hand_back).collect();
        times.sort();
        times
    }

    /// Returns how many trials have this mark right.
    pub fn right(&self, mark: impl Fn(&Score) -> Mark) -> usize {
        self.trials.iter().filter(|t| mark(t) == Mark::Right).count()
    }

    /// Returns the trial that was worst: wrong, never right, or latest.
    pub fn worst(&self) -> Option<&Score> {
        let badness = |t: &&Score| {
            let wrong = [t.state, t.top1, t.top3, t.advice].iter().filter(|m| **m == Mark::Wrong).count();
            let never = self.row.spec().when != When::NoAlarm && t.time.is_none();
            (t.false_down + t.false_lost, wrong, never, t.time, t.seed)
        };
        self.trials.iter().max_by_key(badness)
    }

    /// Returns the row's line of the table.
    pub fn line(&self) -> String {
        let (spec, all, times) = (self.row.spec(), self.trials.len(), self.times());
        let limit = match spec.when {
            When::Within(ms) | When::AfterProof(ms) | When::LeaderWithin(ms) | When::AfterHeal(ms) => ms.to_string(),
            When::NoAlarm => "0 alarms".to_owned(),
        };
        let told: Vec<usize> = self.trials.iter().filter_map(|t| t.recoveries).collect();
        let recoveries = match (told.iter().min(), told.iter().max()) {
            (Some(least), Some(most)) if least == most => least.to_string(),
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "-".to_owned(),
        };
        let share = |mark: &dyn Fn(&Score) -> Mark| percent(self.right(mark), all);
        let mut line = format!("| {} | {} | {limit} ", spec.name, spec.title);
        let cells = [
            share(&|t| t.state),
            share(&|t| t.top1),
            share(&|t| t.top3),
            share(&|t| t.advice),
            millis(quantile(&times, 500)),
            millis(quantile(&times, 990)),
            if matches!(spec.when, When::NoAlarm) {
                "-".to_owned()
            } else if times.len() < all {
                format!("never x{}", all - times.len())
            } else {
                millis(times.last().copied())
            },
            self.trials.iter().map(|t| t.false_down).sum::<usize>().to_string(),
            self.trials.iter().map(|t| t.false_lost).sum::<usize>().to_string(),
            recoveries,
            self.worst().map_or("-".to_owned(), |t| t.seed.to_string()),
        ];
        for cell in cells {
            // Writing to a string cannot fail.
            let _ = write!(line, "| {cell} ");
        }
        line + "|"
    }
}

/// Head of the table.
pub const HEAD: &str = "\
| row | fault | limit ms | state % | top-1 % | top-3 % | advice % | p50 ms | p99 ms | worst ms | false down | false lost | recoveries | worst seed |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_time_that_was_measured() {
        let times: Vec<Duration> = (1..=300).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 500), Some(Duration::from_millis(150)));
        assert_eq!(quantile(&times, 990), Some(Duration::from_millis(297)));
        assert_eq!(quantile(&times, 1000), Some(Duration::from_millis(300)));
        assert_eq!(quantile(&[], 500), None);
    }
}
