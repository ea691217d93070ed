//! [`Schedule`]: which faults begin and end when; as text, so that a person can replay it, and drawn from a seed.
//!
//! ```text
//! schedule = fault *( "," fault )      fault = row [ ":" subject ] "@" start-ms "+" lasts-ms
//! 1:n1@500+8000,28@3000+4000
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::fault::{Fault, Subject};
use super::host::{NodeNo, RackNo, VmNo};
use super::network::Draw;
use super::row::{Row, Strikes};
use super::world::Size;

/// How long a run goes on after its last fault has ended.
pub const AFTER: Duration = Duration::from_secs(20);

/// One fault of a schedule, its times since the schedule's begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What.
    pub fault: Fault,
    /// When it begins.
    pub start: Duration,
    /// How long it lasts.
    pub lasts: Duration,
}

impl Entry {
    /// Returns when it ends.
    pub fn end(&self) -> Duration {
        self.start + self.lasts
    }
}

/// Faults and their times.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule(pub Vec<Entry>);

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}+{}", self.fault, self.start.as_millis(), self.lasts.as_millis())
    }
}

impl FromStr for Entry {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("{text:?}: must be ROW[:SUBJECT]@START+LASTS, in milliseconds");
        let (fault, times) = text.split_once('@').ok_or_else(shape)?;
        let (start, lasts) = times.split_once('+').ok_or_else(shape)?;
        let millis = |text: &str| text.parse().map(Duration::from_millis).map_err(|_| shape());
        Ok(Self { fault: fault.parse()?, start: millis(start)?, lasts: millis(lasts)? })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<String> = self.0.iter().map(Entry::to_string).collect();
        f.write_str(&entries.join(","))
    }
}

impl FromStr for Schedule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').filter(|entry| !entry.is_empty()).map(Entry::from_str).collect::<Result<_, _>>().map(Self)
    }
}

/// Draws a subject for a row.
fn subject(row: Row, size: Size, draw: &mut Draw) -> Subject {
    let below = |draw: &mut Draw, limit: u64| u32::try_from(draw.below(limit)).unwrap_or(0) + 1;
    let small = |number: u32| u16::try_from(number).unwrap_or(1);
    match row.spec().strikes {
        Strikes::Node => Subject::Node(NodeNo(small(below(draw, u64::from(size.nodes))))),
        Strikes::Vm => Subject::Vm(VmNo(below(draw, u64::from(size.vms())))),
        Strikes::Rack => Subject::Rack(RackNo(small(below(draw, u64::from(size.racks))))),
        Strikes::Cluster => Subject::Cluster,
    }
}

/// Rows that strike managers: one of them at a time, or no quorum is left.
fn strikes_managers(row: Row) -> bool {
    matches!(row, Row::LeaderDeaf | Row::LeaderKilled | Row::LeaderCut | Row::MinorityCut | Row::ClockJump)
}

impl Schedule {
    /// Returns the schedule of one trial of a row: the fault begins at a random phase of everything that is periodic.
    pub fn of_row(row: Row, seed: u64, size: Size) -> Self {
        let mut draw = Draw::of([seed, 0x5c4e]);
        let fault = Fault { row, subject: subject(row, size, &mut draw) };
        let start = Duration::from_millis(draw.below(2_000));
        let lasts = match row {
            Row::Flap => Duration::from_secs(42),
            _ => row.watched_for(),
        };
        Self(vec![Entry { fault, start, lasts }])
    }

    /// Draws one to three faults that overlap, with leader kills, flaps, losses and jitter among them.
    pub fn drawn(seed: u64, size: Size) -> Self {
        let mut draw = Draw::of([seed, 0xe7b1]);
        let count = 1 + draw.below(3);
        let mut entries: Vec<Entry> = Vec::new();
        let mut at = draw.below(2_000);
        while (entries.len() as u64) < count {
            let Some(row) = draw.pick(Row::ALL).copied() else { break };
            let fault = Fault { row, subject: subject(row, size, &mut draw) };
            let managers = strikes_managers(row) && entries.iter().any(|e| strikes_managers(e.fault.row));
            let twice = entries.iter().any(|e| e.fault.subject == fault.subject && fault.subject != Subject::Cluster);
            if managers || twice {
                continue;
            }
            let lasts = Duration::from_millis(2_000 + draw.below(14_000));
            entries.push(Entry { fault, start: Duration::from_millis(at), lasts });
            at += draw.below(8_000);
        }
        Self(entries)
    }

    /// Returns when its last fault ends.
    pub fn end(&self) -> Duration {
        self.0.iter().map(Entry::end).max().unwrap_or_default()
    }

    /// Returns schedules that are a little smaller: a fault less, a shorter fault, or a smaller gap.
    pub fn smaller(&self) -> Vec<Self> {
        let mut out = Vec::new();
        if self.0.len() > 1 {
            out.extend((0..self.0.len()).map(|skip| {
                let kept = self.0.iter().enumerate().filter(|(i, _)| *i != skip);
                Self(kept.map(|(_, entry)| *entry).collect())
            }));
        }
        for i in 0..self.0.len() {
            let entry = self.0[i];
            let less = |entry: Entry| {
                let mut smaller = self.clone();
                smaller.0[i] = entry;
                smaller
            };
            if entry.lasts >= Duration::from_secs(2) {
                out.push(less(Entry { lasts: entry.lasts / 2, ..entry }));
            }
            if entry.start >= Duration::from_secs(1) {
                out.push(less(Entry { start: entry.start / 2, ..entry }));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_comes_back_from_its_text() {
        for seed in 0..200 {
            let schedule = Schedule::drawn(seed, Size::default());
            assert_eq!(schedule.to_string().parse(), Ok(schedule));
        }
        assert!("1:n1@500".parse::<Schedule>().unwrap_err().contains("must be ROW"));
        assert!("28:n1@5+5".parse::<Schedule>().unwrap_err().contains("strikes everything"));
        assert!("99@5+5".parse::<Schedule>().unwrap_err().contains("row \"99\""));
    }

    #[test]
    fn smaller_schedules_come_to_an_end() {
        let mut schedule = Schedule::drawn(3, Size::default());
        let mut steps = 0;
        while let Some(smaller) = schedule.smaller().pop() {
            schedule = smaller;
            steps += 1;
        }
        assert!(steps < 200, "{schedule}");
    }
}
