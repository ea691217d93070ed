//! Which probes can run now, by the digest of their component.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::{Digest, Moment, ProbeName};

/// How long after a failure a probe is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Whether a probe can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It is being fetched, checked or compiled.
    Preparing,
    /// It can run.
    Ready,
    /// It cannot, and why; it is tried again then.
    Unavailable { why: String, retry: Moment },
}

/// Which probes can run now.
#[derive(Debug, Default)]
pub(super) struct Probes {
    known: BTreeMap<Digest, (ProbeName, Readiness)>,
}

impl Probes {
    /// Sets which probes are needed; others are forgotten. Returns those that are to be made ready.
    pub(super) fn need(&mut self, needed: BTreeMap<Digest, ProbeName>) -> Vec<(ProbeName, Digest)> {
        self.known.retain(|digest, _| needed.contains_key(digest));
        let mut prepare = Vec::new();
        for (digest, name) in needed {
            self.known.entry(digest).or_insert_with(|| {
                prepare.push((name.clone(), digest));
                (name, Readiness::Preparing)
            });
        }
        prepare
    }

    /// Sets that a probe can run.
    pub(super) fn ready(&mut self, digest: Digest) {
        if let Some((_, readiness)) = self.known.get_mut(&digest) {
            *readiness = Readiness::Ready;
        }
    }

    /// Sets that a probe cannot run.
    pub(super) fn unavailable(&mut self, now: Moment, digest: Digest, why: String) {
        if let Some((_, readiness)) = self.known.get_mut(&digest) {
            *readiness = Readiness::Unavailable { why, retry: now + RETRY };
        }
    }

    /// Takes the probes that are to be tried again now.
    pub(super) fn take_retries(&mut self, now: Moment) -> Vec<(ProbeName, Digest)> {
        let mut retries = Vec::new();
        for (digest, (name, readiness)) in &mut self.known {
            if matches!(readiness, Readiness::Unavailable { retry, .. } if *retry <= now) {
                *readiness = Readiness::Preparing;
                retries.push((name.clone(), *digest));
            }
        }
        retries
    }

    /// Returns whether a probe can run.
    pub(super) fn get(&self, digest: &Digest) -> Option<&Readiness> {
        self.known.get(digest).map(|(_, readiness)| readiness)
    }

    /// Returns when the next probe is to be tried again.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.known
            .values()
            .filter_map(|(_, readiness)| match readiness {
                Readiness::Unavailable { retry, .. } => Some(*retry),
                Readiness::Preparing | Readiness::Ready => None,
            })
            .min()
    }
}
