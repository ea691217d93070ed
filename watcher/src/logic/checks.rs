//! All that a watcher is to look at, numbered: whatever is kept of each check is kept by its number, because finding it by
//! its name would cost more than the rest of what a run takes here.
//!
//! Numbers are positions in the order of the checks, and hold for one assignment. When the next one comes, everything
//! that is kept by number moves with [`Checks::number`] of the new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Check, CheckSpec};

/// The position of a check among all of one assignment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CheckNumber(pub u32);

impl CheckNumber {
    /// Returns the number of this position.
    pub fn at(position: usize) -> Self {
        Self(u32::try_from(position).expect("an assignment has far fewer checks than 2^32"))
    }

    /// Returns the position.
    pub fn get(self) -> usize {
        usize::try_from(self.0).expect("it was made of a position")
    }
}

/// One thing to look at, and how.
#[derive(Clone, PartialEq, Debug)]
pub struct AssignedCheck {
    /// What.
    pub check: Check,
    /// How.
    pub spec: CheckSpec,
}

/// All that is to be looked at, in order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Checks(Vec<Arc<AssignedCheck>>);

impl Checks {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the check of this number.
    pub fn get(&self, number: CheckNumber) -> Option<&Arc<AssignedCheck>> {
        self.0.get(number.get())
    }

    /// Returns the number of a check, if it is one of these.
    pub fn number(&self, check: &Check) -> Option<CheckNumber> {
        self.0.binary_search_by(|known| known.check.cmp(check)).ok().map(CheckNumber::at)
    }

    /// Returns all, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &AssignedCheck> {
        self.0.iter().map(|check| &**check)
    }
}

impl From<BTreeMap<Check, CheckSpec>> for Checks {
    fn from(checks: BTreeMap<Check, CheckSpec>) -> Self {
        Self(checks.into_iter().map(|(check, spec)| Arc::new(AssignedCheck { check, spec })).collect())
    }
}
