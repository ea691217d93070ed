//! Counters of one manager process, for `/metrics` and for tests that a limit was hit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::{Metric, MetricKind};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Count {
    /// Messages taken from a stream.
    MessagesReceived,
    /// Messages that were dropped because something newer was known, or nothing says how fresh they are.
    StaleDropped,
    /// Messages that broke a rule of the contract.
    Malformed,
    /// Streams that were closed because their queue was full.
    QueuesOverflowed,
    /// Streams that were closed because nothing came.
    SilentStreams,
    /// Signed statements that did not hold.
    StatementsRefused,
    /// Orders and asks that could be handed to nobody.
    Undelivered,
    /// Orders and asks that went through another manager.
    Forwarded,
    /// Asks handed to a watcher.
    Asks,
    /// Proposals of the detector that were committed.
    ProposalsCommitted,
    /// Proposals of the detector that were not.
    ProposalsFailed,
    /// Effects that were dropped because this manager does not lead.
    EffectsDropped,
    /// Rounds of a reconciler that failed.
    ReconcilerFailures,
    /// Joins by token that were refused, by the reason.
    JoinsRefused,
    /// Heartbeats sent.
    HeartbeatsSent,
    /// Heartbeats that came and hold.
    HeartbeatsReceived,
    /// Heartbeats that were dropped, by the reason.
    HeartbeatsDropped,
}

impl Count {
    const fn name(self) -> &'static str {
        match self {
            Self::MessagesReceived => "messages_received",
            Self::StaleDropped => "messages_stale_dropped",
            Self::Malformed => "messages_malformed",
            Self::QueuesOverflowed => "queues_overflowed",
            Self::SilentStreams => "streams_silent_closed",
            Self::StatementsRefused => "statements_refused",
            Self::Undelivered => "orders_undelivered",
            Self::Forwarded => "orders_forwarded",
            Self::Asks => "asks",
            Self::ProposalsCommitted => "proposals_committed",
            Self::ProposalsFailed => "proposals_failed",
            Self::EffectsDropped => "effects_dropped",
            Self::ReconcilerFailures => "reconciler_failures",
            Self::JoinsRefused => "joins_refused",
            Self::HeartbeatsSent => "heartbeats_sent",
            Self::HeartbeatsReceived => "heartbeats_received",
            Self::HeartbeatsDropped => "heartbeats_dropped",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::MessagesReceived => "Messages taken from a stream.",
            Self::StaleDropped => {
                "Messages dropped because something newer was known or no tick says how fresh they are."
            }
            Self::Malformed => "Messages that broke a rule of the contract.",
            Self::QueuesOverflowed => "Streams closed because their queue was full.",
            Self::SilentStreams => "Streams closed because nothing came over them.",
            Self::StatementsRefused => "Signed statements that did not hold.",
            Self::Undelivered => "Orders and asks that could be handed to nobody.",
            Self::Forwarded => "Orders and asks that went through another manager.",
            Self::Asks => "Asks handed to a watcher.",
            Self::ProposalsCommitted => "Proposals of the detector that were committed.",
            Self::ProposalsFailed => "Proposals of the detector that were refused or lost.",
            Self::EffectsDropped => "Effects of the detector dropped because this manager does not lead.",
            Self::ReconcilerFailures => "Rounds of a reconciler that failed.",
            Self::JoinsRefused => "Joins by token that were refused, by the reason.",
            Self::HeartbeatsSent => "Heartbeats sent.",
            Self::HeartbeatsReceived => "Heartbeats that came and hold.",
            Self::HeartbeatsDropped => "Heartbeats dropped, by the reason.",
        }
    }
}

/// The counters of one manager process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<(Count, &'static str), u64>>>);

impl Counters {
    /// Adds to a counter; `of` says what kind of thing it was, such as `node` or `watcher`, or why.
    pub fn add(&self, what: Count, of: &'static str, count: u64) {
        if count > 0 {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((what, of)).or_default() += count;
        }
    }

    /// Returns a counter, over all kinds of things.
    pub fn total(&self, what: Count) -> u64 {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().filter(|((c, _), _)| *c == what).map(|(_, n)| *n).sum()
    }

    /// Returns all counters that ever counted.
    pub fn metrics(&self) -> Vec<Metric> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters
            .iter()
            .map(|((count, of), value)| Metric {
                name: count.name(),
                help: count.help(),
                kind: MetricKind::Counter,
                labels: vec![("of", (*of).to_owned())],
                value: *value,
            })
            .collect()
    }
}
