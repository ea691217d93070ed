//! Timing of a cluster as one profile: the defaults are for real clusters, `slow` for tests on a busy machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Two times that do not fit together.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("timing.{key}: {value:?} must be {rule} {other_key} = {other:?}")]
pub struct TimingError {
    key: &'static str,
    value: Duration,
    rule: &'static str,
    other_key: &'static str,
    other: Duration,
}

/// Rule 7 as it is by default: two hand-backs a minute are told, more are flapping.
const FLAP_WINDOW: Duration = Duration::from_secs(60);

fn is_default_flap_window(window: &Duration) -> bool {
    *window == FLAP_WINDOW
}

/// All times that decide something, in milliseconds where written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// How often a manager sends a tick on each stream.
    #[serde(with = "crate::duration", rename = "tick_interval_ms")]
    pub tick_interval: Duration,
    /// How often a node reports when nothing changes.
    #[serde(with = "crate::duration", rename = "report_interval_ms")]
    pub report_interval: Duration,
    /// How many reports may be missing before the direct path is suspect.
    pub suspect_missed: u32,
    /// How often a watcher runs each probe.
    #[serde(with = "crate::duration", rename = "probe_interval_ms")]
    pub probe_interval: Duration,
    /// How long one run of a probe may take.
    #[serde(with = "crate::duration", rename = "probe_timeout_ms")]
    pub probe_timeout: Duration,
    /// How often a watcher says "all others seen no longer ago than X" when nothing changes.
    #[serde(with = "crate::duration", rename = "watcher_report_interval_ms")]
    pub watcher_report_interval: Duration,
    /// How long a watcher has to answer an ask.
    #[serde(with = "crate::duration", rename = "ask_deadline_ms")]
    pub ask_deadline: Duration,
    /// How far apart the asks of a burst are, while something is suspected.
    #[serde(with = "crate::duration", rename = "burst_interval_ms")]
    pub burst_interval: Duration,
    /// How often managers and nodes send each other a heartbeat datagram.
    #[serde(with = "crate::duration", rename = "heartbeat_interval_ms")]
    pub heartbeat_interval: Duration,
    /// How long a guest may take from a start or reset to its first answer, before its silence counts.
    #[serde(with = "crate::duration", rename = "boot_budget_ms")]
    pub boot_budget: Duration,
    /// One window: how long a new leader waits before it says anything that rests on silence, and how fresh a
    /// healthy observer's word must be.
    #[serde(with = "crate::duration", rename = "window_ms")]
    pub window: Duration,
    /// How long a VM may be silent on every path before it is `lost`.
    #[serde(with = "crate::duration", rename = "lost_after_ms")]
    pub lost_after: Duration,
    /// How long a watcher may be silent before it is lost.
    #[serde(with = "crate::duration", rename = "watcher_lost_after_ms")]
    pub watcher_lost_after: Duration,
    /// How long a watcher may take from its placement to its first word.
    #[serde(with = "crate::duration", rename = "watcher_boot_budget_ms")]
    pub watcher_boot_budget: Duration,
    /// How long a hand-back counts towards flapping, and how long a flapping path must be stable to be clear again.
    ///
    /// The default is not written: nodes that do not know this key take no other.
    #[serde(with = "crate::duration", rename = "flap_window_ms", skip_serializing_if = "is_default_flap_window")]
    pub flap_window: Duration,
    /// Raft heartbeat.
    #[serde(with = "crate::duration", rename = "raft_heartbeat_ms")]
    pub raft_heartbeat: Duration,
    /// Least random part of an election timeout.
    #[serde(with = "crate::duration", rename = "raft_election_min_ms")]
    pub raft_election_min: Duration,
    /// Greatest random part of an election timeout, and the leader's lease.
    #[serde(with = "crate::duration", rename = "raft_election_max_ms")]
    pub raft_election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            tick_interval: Duration::from_millis(100),
            report_interval: Duration::from_millis(500),
            suspect_missed: 3,
            probe_interval: Duration::from_millis(1000),
            probe_timeout: Duration::from_millis(800),
            watcher_report_interval: Duration::from_millis(500),
            ask_deadline: Duration::from_millis(400),
            burst_interval: Duration::from_millis(100),
            heartbeat_interval: Duration::from_millis(200),
            boot_budget: Duration::from_secs(120),
            window: Duration::from_millis(2000),
            lost_after: Duration::from_millis(3500),
            watcher_lost_after: Duration::from_millis(1500),
            watcher_boot_budget: Duration::from_secs(30),
            flap_window: FLAP_WINDOW,
            raft_heartbeat: Duration::from_millis(50),
            raft_election_min: Duration::from_millis(150),
            raft_election_max: Duration::from_millis(300),
        }
    }
}

impl Timing {
    /// Returns the slower profile that whole-system tests use on a small, busy machine.
    pub fn slow() -> Self {
        Self {
            tick_interval: Duration::from_millis(250),
            report_interval: Duration::from_millis(1000),
            suspect_missed: 4,
            probe_interval: Duration::from_millis(2000),
            probe_timeout: Duration::from_millis(5000),
            watcher_report_interval: Duration::from_millis(1000),
            ask_deadline: Duration::from_millis(2500),
            burst_interval: Duration::from_millis(250),
            heartbeat_interval: Duration::from_millis(500),
            boot_budget: Duration::from_secs(120),
            window: Duration::from_millis(6000),
            lost_after: Duration::from_secs(15),
            watcher_lost_after: Duration::from_secs(6),
            watcher_boot_budget: Duration::from_secs(90),
            flap_window: Duration::from_secs(30),
            raft_heartbeat: Duration::from_millis(250),
            raft_election_min: Duration::from_millis(1000),
            raft_election_max: Duration::from_millis(2000),
        }
    }

    /// Returns how old a node's last word may be before its direct path is suspect.
    pub fn suspect_after(&self) -> Duration {
        self.report_interval * self.suspect_missed
    }

    /// Checks that the times fit together.
    ///
    /// # Errors
    /// [`TimingError`] names the key, the value and the rule that is broken.
    pub fn validate(&self) -> Result<(), TimingError> {
        let at_least_twice = |key, value: Duration, other_key, other: Duration| {
            if value >= other * 2 {
                Ok(())
            } else {
                Err(TimingError { key, value, rule: "at least twice", other_key, other })
            }
        };
        let above = |key, value: Duration, other_key, other: Duration| {
            if value > other { Ok(()) } else { Err(TimingError { key, value, rule: "more than", other_key, other }) }
        };
        above("tick_interval_ms", self.tick_interval, "zero", Duration::ZERO)?;
        above("report_interval_ms", self.report_interval, "zero", Duration::ZERO)?;
        above("probe_interval_ms", self.probe_interval, "zero", Duration::ZERO)?;
        above("probe_timeout_ms", self.probe_timeout, "zero", Duration::ZERO)?;
        above("burst_interval_ms", self.burst_interval, "zero", Duration::ZERO)?;
        above("heartbeat_interval_ms", self.heartbeat_interval, "zero", Duration::ZERO)?;
        above("boot_budget_ms", self.boot_budget, "zero", Duration::ZERO)?;
        at_least_twice(
            "suspect_missed x report_interval",
            self.suspect_after(),
            "tick_interval_ms",
            self.tick_interval,
        )?;
        at_least_twice(
            "suspect_missed x report_interval",
            self.suspect_after(),
            "heartbeat_interval_ms",
            self.heartbeat_interval,
        )?;
        above("lost_after_ms", self.lost_after, "suspect_missed x report_interval", self.suspect_after())?;
        at_least_twice(
            "watcher_lost_after_ms",
            self.watcher_lost_after,
            "watcher_report_interval_ms",
            self.watcher_report_interval,
        )?;
        at_least_twice("flap_window_ms", self.flap_window, "window_ms", self.window)?;
        at_least_twice("raft_election_min_ms", self.raft_election_min, "raft_heartbeat_ms", self.raft_heartbeat)?;
        above("raft_election_max_ms", self.raft_election_max, "raft_election_min_ms", self.raft_election_min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_are_valid() {
        assert_eq!(Timing::default().validate(), Ok(()));
        assert_eq!(Timing::slow().validate(), Ok(()));
    }

    #[test]
    fn a_flap_window_as_by_default_is_not_written_and_one_that_differs_is() {
        let written =
            |timing: &Timing| serde_json::to_value(timing).expect("it is JSON").get("flap_window_ms").cloned();
        assert_eq!(written(&Timing::default()), None);
        assert_eq!(written(&Timing::slow()), Some(30_000.into()));
        let read: Timing = serde_json::from_str("{}").expect("all keys may be left out");
        assert_eq!(read.flap_window, FLAP_WINDOW);
        let e = Timing { flap_window: read.window, ..read }.validate().expect_err("must be refused").to_string();
        assert!(e.contains("flap_window_ms") && e.contains("window_ms"), "{e}");
    }

    #[test]
    fn times_that_do_not_fit_are_refused_with_both_numbers() {
        let t = Timing { lost_after: Duration::from_millis(1000), ..Timing::default() };
        let e = t.validate().expect_err("must be refused").to_string();
        assert!(e.contains("lost_after_ms") && e.contains("1s") && e.contains("1.5s"), "{e}");
    }
}
