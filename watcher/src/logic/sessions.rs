//! The open streams to managers: what each has been told, and when it is next told something.
//!
//! A stream on which no tick comes is dead, whatever TCP says of it, and is dropped so that the driver dials anew.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::{Moment, Timing};
use vouch_wire::links::ManagerEndpoint;

use super::SessionId;

/// Changes within this time leave in one report.
pub(super) const COALESCE: Duration = Duration::from_millis(20);
/// A stream without a tick is kept at least this long.
const SILENT_MIN: Duration = Duration::from_secs(1);
/// A stream without this many ticks is dropped.
const SILENT_TICKS: u32 = 4;

/// One open stream.
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) endpoint: ManagerEndpoint,
    /// When the last tick came, or the stream was opened.
    last_tick: Moment,
    /// The manager has said welcome: reports may flow.
    welcomed: bool,
    /// Number of the last report.
    sequence: u64,
    /// Version of the ledger that it was told last; `None` when it needs everything.
    told: Option<u64>,
    /// Version at which it was told things that its manager cannot date yet: they are told again with the next report.
    undated: Option<u64>,
    last_report: Option<Moment>,
    /// When it was last told the age of everything that has not changed, one by one where that is old.
    last_digest: Option<Moment>,
}

impl SessionState {
    pub(super) fn new(now: Moment, endpoint: ManagerEndpoint) -> Self {
        Self {
            endpoint,
            last_tick: now,
            welcomed: false,
            sequence: 0,
            told: None,
            undated: None,
            last_report: None,
            last_digest: None,
        }
    }

    pub(super) fn ticked(&mut self, now: Moment) {
        self.last_tick = now;
    }

    pub(super) fn welcomed(&mut self) {
        self.welcomed = true;
    }

    /// Everything is to be told again.
    pub(super) fn resync(&mut self) {
        self.told = None;
        self.undated = None;
    }

    /// What it was just told cannot all be dated by its manager: everything is to be told again, in its time.
    pub(super) fn undated(&mut self) {
        self.undated = self.told.take();
    }

    /// Returns when the stream is dropped if no tick comes.
    pub(super) fn silent_at(&self, timing: &Timing) -> Moment {
        self.last_tick + SILENT_MIN.max(timing.tick_interval * SILENT_TICKS)
    }

    /// Returns when the next report is due.
    pub(super) fn report_at(&self, version: u64, timing: &Timing) -> Option<Moment> {
        if !self.welcomed {
            return None;
        }
        Some(match self.last_report {
            None => Moment::ZERO,
            Some(last) if self.told.or(self.undated) != Some(version) => last + COALESCE,
            Some(last) => last + timing.watcher_report_interval,
        })
    }

    /// Returns whether the report that is made now is to tell old observations apart, and notes it. Between two of
    /// these only changes are worth their bytes: a target that is slow once would be told with every change of another.
    pub(super) fn tells_laggards(&mut self, now: Moment, timing: &Timing) -> bool {
        let due = self.last_digest.is_none_or(|at| now.since(at) >= timing.watcher_report_interval);
        if due {
            self.last_digest = Some(now);
        }
        due
    }

    /// A report is made. Returns its number, and the version that was told before, `None` when it has to be full.
    pub(super) fn report(&mut self, now: Moment, version: u64) -> (u64, Option<u64>) {
        self.sequence += 1;
        self.undated = None;
        self.last_report = Some(now);
        (self.sequence, self.told.replace(version))
    }
}

/// Returns another stream to the same manager, if there is one.
pub(super) fn other_stream(sessions: &BTreeMap<SessionId, SessionState>, gone: &ManagerEndpoint) -> Option<SessionId> {
    sessions.iter().find(|(_, s)| s.welcomed && s.endpoint.manager == gone.manager).map(|(id, _)| *id)
}

/// Returns one stream to each manager.
pub(super) fn one_per_manager(sessions: &BTreeMap<SessionId, SessionState>) -> Vec<SessionId> {
    let open = sessions.iter().filter(|(_, s)| s.welcomed);
    let by_manager: BTreeMap<_, _> = open.map(|(id, s)| (s.endpoint.manager, *id)).collect();
    by_manager.into_values().collect()
}
