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

    /// Returns the row's line of the table for this system.
    pub fn line(&self, system: &str) -> String {
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
        let mut line = format!("| {} | {} | {limit} | {system} ", spec.name, spec.title);
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
| row | fault | limit ms | system | state % | top-1 % | top-3 % | advice % | p50 ms | p99 ms | worst ms | false down | false lost | recoveries | worst seed |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Returns one line on each of DESIGN's numbers that these scores say something of.
pub fn numbers(scores: &[RowScore]) -> Vec<String> {
    let of = |names: &[&str]| scores.iter().filter(|s| names.contains(&s.row.spec().name)).collect::<Vec<_>>();
    let p99 = |rows: &[&RowScore]| {
        let mut times: Vec<Duration> = rows.iter().flat_map(|s| s.times()).collect();
        times.sort();
        let all: usize = rows.iter().map(|s| s.trials.len()).sum();
        let never = all - times.len();
        let told = millis(quantile(&times, 990));
        if never == 0 { format!("p99 {told} ms") } else { format!("p99 {told} ms, never in {never} of {all}") }
    };
    let sum = |rows: &[&RowScore], count: &dyn Fn(&Score) -> usize| -> usize {
        rows.iter().flat_map(|s| &s.trials).map(count).sum()
    };
    let wrong = |rows: &[&RowScore]| sum(rows, &|t| usize::from(t.state == Mark::Wrong));
    let all: Vec<&RowScore> = scores.iter().collect();
    let trials = sum(&all, &|_| 1);
    let right = |mark: &dyn Fn(&Score) -> Mark| sum(&all, &|t| usize::from(mark(t) == Mark::Right));
    let incidents = |rows: &[&RowScore]| rows.iter().flat_map(|s| &s.trials).map(|t| t.incidents).max().unwrap_or(0);
    // Where one path heals and nothing has to start first: an agent, a node or a network takes its own time.
    let paths = of(&["1", "31a", "31b", "39", "41"]);
    let mut backs: Vec<Duration> = paths.iter().flat_map(|s| s.hand_backs()).collect();
    backs.sort();
    let once = sum(&paths, &|t| usize::from(t.recoveries == Some(1)));
    let healed = sum(&paths, &|t| usize::from(t.recoveries.is_some()));
    let (one, off, proved, guests) = (of(&["1"]), of(&["18a"]), of(&["18b"]), of(&["7a", "7b", "8a", "8b"]));
    let (quiet, services, killed) = (of(&["10a", "10b", "10c", "11"]), of(&["14", "15"]), of(&["28"]));
    vec![
        format!(
            "N1 (path cut, 2 s, never down or lost): {}; {} down, {} lost",
            p99(&one),
            sum(&one, &|t| t.false_down),
            sum(&one, &|t| t.false_lost)
        ),
        format!(
            "N3 (power-off: one incident, lost 5 s; down 2 s after proof): lost {}; down {}; at most {} incidents",
            p99(&off),
            p99(&proved),
            incidents(&off)
        ),
        format!(
            "N4 (hang or panic 8 s, recall 99 %, no false one): {}; wrong state in {} of {}; false in {} of {} operations",
            p99(&guests),
            wrong(&guests),
            sum(&guests, &|_| 1),
            wrong(&quiet),
            sum(&quiet, &|_| 1)
        ),
        format!("N5 (RDP dead or wedged 5 s): {}", p99(&services)),
        format!(
            "N6 (cause top-1 95 %, top-3 99 %): {} %, {} %",
            percent(right(&|t| t.top1), trials),
            percent(right(&|t| t.top3), trials)
        ),
        format!(
            "N7 (one path heals: hand-back 1 s, one recovery): p99 {} ms, worst {} ms; exactly one in {once} of {healed}",
            millis(quantile(&backs, 990)),
            millis(backs.last().copied())
        ),
        format!(
            "N8 (leader killed, 1 s, no event lost or doubled): {}; log broken in {}",
            p99(&killed),
            sum(&killed, &|t| t.log_broken)
        ),
    ]
}

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
