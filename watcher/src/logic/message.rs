//! Messages to managers, made of what the ledger and the runs hold.

use std::time::Duration;

use vouch_types::TickSequence;
use vouch_wire::convert::limits::{FINDINGS_BYTES_MAX, FINDINGS_PER_ANSWER_MAX};
use vouch_wire::convert::{WireFindings, WireObservation, WireRelayObservation};
use vouch_wire::proto;

use super::{Check, Ended, Entry, SessionId};

/// The two kinds of observation as a message carries them.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) observations: Vec<proto::Observation>,
    pub(super) relays: Vec<proto::RelayObservation>,
    pub(super) statements: Vec<proto::Signed>,
}

impl Observed {
    /// Returns these observations, dated with the ticks of one stream.
    pub(super) fn of<'a>(entries: impl IntoIterator<Item = (&'a Check, &'a Entry)>, session: SessionId) -> Self {
        let mut observed = Self::default();
        for (check, entry) in entries {
            observed.add(check, entry, session);
        }
        observed
    }

    /// Returns whether the manager can date every check: each began after the first tick of its stream.
    pub(super) fn is_dated(&self) -> bool {
        let ticks = self.observations.iter().map(|o| &o.begun).chain(self.relays.iter().map(|r| &r.begun));
        ticks.flatten().all(|tick| tick.sequence > 0)
    }

    fn add(&mut self, check: &Check, entry: &Entry, session: SessionId) {
        let (begun, begun_after) = entry.ticks.on(session, entry.begun);
        match (check, &entry.ended) {
            (
                Check::Probe { vm, network, probe },
                Ended::Probe { outcome, reason, message, identity, findings: _, conduct: _ },
            ) => {
                let observation = WireObservation {
                    vm: *vm,
                    network: *network,
                    probe: probe.clone(),
                    outcome: *outcome,
                    reason: reason.clone(),
                    message: message.clone(),
                    begun,
                    begun_after,
                    took: entry.took,
                    identity: *identity,
                };
                self.observations.push(observation.into());
            }
            (Check::Relay { node }, Ended::Relay { outcome, hears, statements }) => {
                let observation =
                    WireRelayObservation { node: node.clone(), outcome: *outcome, hears: hears.clone(), begun };
                self.relays.push((&observation).into());
                self.statements.extend(statements.iter().cloned());
            }
            // A run answers in the kind of its check: the driver makes both of one spec.
            (Check::Probe { .. }, Ended::Relay { .. }) | (Check::Relay { .. }, Ended::Probe { .. }) => {}
        }
    }
}

/// Returns what these observations rest on, as much of it as an answer may hold.
pub(super) fn findings_of<'a>(entries: impl Iterator<Item = (&'a Check, &'a Entry)>) -> Vec<proto::Findings> {
    let mut room = FINDINGS_BYTES_MAX;
    let found = entries.filter_map(|(check, entry)| {
        let (Check::Probe { vm, network, probe }, Ended::Probe { findings, .. }) = (check, &entry.ended) else {
            return None;
        };
        let found = findings.as_deref()?;
        room = room.checked_sub(found.bytes())?;
        let (probe, found) = (probe.clone(), found.clone());
        Some(WireFindings { vm: *vm, network: *network, probe, found }.into())
    });
    found.take(FINDINGS_PER_ANSWER_MAX).collect()
}

pub(super) fn tick(sequence: TickSequence) -> proto::Tick {
    proto::Tick { sequence: sequence.get() }
}

pub(super) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
