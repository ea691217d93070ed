//! I8: the same events in the same order give the same verdicts: two runs of one seed publish the same log.

use super::super::play::Run;
use super::{Invariant, Violation};

/// Compares two runs of one seed and schedule.
pub fn check(one: &Run, other: &Run) -> Vec<Violation> {
    let pairs = one.record.events.iter().zip(&other.record.events);
    let differing = pairs.into_iter().find(|(a, b)| a.event != b.event || a.at != b.at);
    let told = match differing {
        Some((a, b)) => Some((a.at, format!("one run tells {a:?}, the other {b:?}"))),
        None if one.record.events.len() != other.record.events.len() => {
            let (a, b) = (one.record.events.len(), other.record.events.len());
            Some((one.lasted, format!("one run tells {a} events, the other {b}")))
        }
        None => None,
    };
    told.map(|(at, what)| Violation { invariant: Invariant::I8, at, what }).into_iter().collect()
}
