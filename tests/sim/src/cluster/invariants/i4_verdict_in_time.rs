//! I4: a verdict within the row's time, plus 2 s per overlapping fault, plus 5 s under loss.
//!
//! Only faults whose VMs no other fault of the schedule strikes are timed: of two faults at one place the truth is
//! neither row of the table.

use std::time::Duration;

use super::super::play::Run;
use super::super::row::{Row, When};
use super::super::trial::Judge;
use super::{Invariant, Violation};

/// What an overlapping fault adds.
const PER_OVERLAP: Duration = Duration::from_secs(2);
/// What loss adds.
const UNDER_LOSS: Duration = Duration::from_secs(5);

pub(super) fn check(run: &Run) -> Vec<Violation> {
    let mut out = Vec::new();
    for (index, entry) in run.schedule.0.iter().enumerate() {
        let row = entry.fault.row;
        let When::Within(limit) = row.spec().when else { continue };
        let others = || run.schedule.0.iter().enumerate().filter(|(i, _)| *i != index);
        let struck = &run.struck[index];
        let shared = others().any(|(i, _)| struck.iter().any(|vm| run.struck[i].contains(vm)));
        let overlapping = others().filter(|(_, o)| o.start <= entry.end() && entry.start <= o.end()).count();
        let lossy = others().any(|(_, o)| matches!(o.fault.row, Row::LossManagement | Row::LossService | Row::Bursts));
        let overlapping = u32::try_from(overlapping).unwrap_or(u32::MAX);
        let within =
            Duration::from_millis(limit) + PER_OVERLAP * overlapping + if lossy { UNDER_LOSS } else { Duration::ZERO };
        if shared || entry.lasts < within {
            continue;
        }
        let judge = Judge { row, run, struck };
        let right = judge.first(entry.start, entry.start + within, |said| judge.struck_are_right(said));
        if right.is_none() {
            let what = format!("{} is not told as row {row} within {within:?}", entry.fault);
            out.push(Violation { invariant: Invariant::I4, at: entry.start + within, what });
        }
    }
    out
}
