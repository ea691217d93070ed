//! How long checks took that were answered: histograms per probe, network and node of the VM, since the start.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::Moment;
use vouch_wire::convert::limits::DURATION_HISTOGRAMS_MAX;
use vouch_wire::convert::{DurationHistogram, DurationKey, WatcherDurations};

use super::{CheckNumber, CheckSpec, Checks};

/// How often managers are told.
pub(super) const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What was counted. Series of which nothing is assigned any more are forgotten with the next assignment.
#[derive(Debug, Default)]
pub(super) struct Durations {
    series: Vec<(DurationKey, DurationHistogram)>,
    /// Of each check, which series it counts in; none where there are too many.
    of_check: Vec<Option<usize>>,
    told: Option<Moment>,
    counted: bool,
}

impl Durations {
    /// Takes another assignment.
    pub(super) fn set_checks(&mut self, checks: &Checks) {
        let mut known: BTreeMap<DurationKey, DurationHistogram> =
            std::mem::take(&mut self.series).into_iter().collect();
        let key = |spec: &CheckSpec| match spec {
            CheckSpec::Probe(spec) => {
                Some(DurationKey { probe: spec.probe.clone(), network: spec.network, node: spec.node.clone() })
            }
            CheckSpec::Relay(_) => None,
        };
        let mut numbers: BTreeMap<DurationKey, usize> = BTreeMap::new();
        let mut of_check = Vec::with_capacity(checks.len());
        for assigned in checks.iter() {
            let Some(key) = key(&assigned.spec) else {
                of_check.push(None);
                continue;
            };
            if let Some(number) = numbers.get(&key) {
                of_check.push(Some(*number));
            } else if self.series.len() < DURATION_HISTOGRAMS_MAX {
                let number = self.series.len();
                self.series.push((key.clone(), known.remove(&key).unwrap_or_default()));
                numbers.insert(key, number);
                of_check.push(Some(number));
            } else {
                of_check.push(None);
            }
        }
        self.of_check = of_check;
    }

    /// Counts a check that was answered.
    pub(super) fn count(&mut self, check: CheckNumber, took: Duration) {
        let Some(Some(number)) = self.of_check.get(check.get()) else { return };
        self.series[*number].1.count(took);
        self.counted = true;
    }

    /// Returns everything that was counted, when managers are to be told it now.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<WatcherDurations> {
        let waits = self.told.is_some_and(|at| now.since(at) < TOLD_EVERY);
        if waits || !self.counted {
            return None;
        }
        self.told = Some(now);
        self.counted = false;
        let told = self.series.iter().filter(|(_, histogram)| histogram.total() > 0);
        Some(WatcherDurations(told.cloned().collect()))
    }
}
