//! Which probes can run now, by the digest of their component.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vouch_types::{Digest, Moment, ProbeName};

/// How long after a failure a probe is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How many probes stay ready that are not needed: the last version, say, while the next one is tried.
const SPARE_MAX: usize = 2;

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
    /// Those that are not needed any more, the last one at the end.
    spare: VecDeque<Digest>,
}

/// What follows from which probes are needed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Those that are to be made ready.
    pub(super) prepare: Vec<(ProbeName, Digest)>,
    /// Those that are to be forgotten.
    pub(super) forget: Vec<Digest>,
}

impl Probes {
    /// Sets which probes are needed.
    pub(super) fn need(&mut self, needed: BTreeMap<Digest, ProbeName>) -> Changed {
        let gone: Vec<Digest> = self.known.keys().filter(|digest| !needed.contains_key(*digest)).copied().collect();
        self.known.retain(|digest, _| needed.contains_key(digest));
        self.spare.retain(|digest| !needed.contains_key(digest));
        self.spare.extend(gone);
        let mut changed = Changed::default();
        changed.forget.extend(self.spare.drain(..self.spare.len().saturating_sub(SPARE_MAX)));
        for (digest, name) in needed {
            self.known.entry(digest).or_insert_with(|| {
                changed.prepare.push((name.clone(), digest));
                (name, Readiness::Preparing)
            });
        }
        changed
    }

    /// Sets that a probe can run; returns whether it is needed, or spare.
    pub(super) fn ready(&mut self, digest: Digest) -> bool {
        match self.known.get_mut(&digest) {
            Some((_, readiness)) => {
                *readiness = Readiness::Ready;
                true
            }
            None => self.spare.contains(&digest),
        }
    }

    /// Sets that a probe cannot run, unless another attempt to make it ready came first.
    pub(super) fn unavailable(&mut self, now: Moment, digest: Digest, why: String) {
        if let Some((_, readiness)) = self.known.get_mut(&digest)
            && *readiness == Readiness::Preparing
        {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_stays_for_a_while_and_is_then_forgotten() {
        let digest = |n: u8| Digest::new([n; 32]);
        let name = ProbeName::new("own").unwrap();
        let mut probes = Probes::default();
        let mut forgotten = Vec::new();
        for version in 1..=5 {
            let changed = probes.need(BTreeMap::from([(digest(version), name.clone())]));
            assert_eq!(changed.prepare, [(name.clone(), digest(version))]);
            forgotten.extend(changed.forget);
        }
        assert_eq!(forgotten, [digest(1), digest(2)]);
        // Back at once: it is made ready anew, which costs nothing while it is spare.
        let back = probes.need(BTreeMap::from([(digest(4), name.clone())]));
        assert_eq!(back, Changed { prepare: vec![(name, digest(4))], forget: Vec::new() });
        assert_eq!(probes.need(BTreeMap::new()).forget, [digest(3)]);
        assert!(probes.ready(digest(4)) && !probes.ready(digest(3)), "a late one is forgotten again");
        probes.need(BTreeMap::from([(digest(6), ProbeName::new("own").unwrap())]));
        assert!(probes.ready(digest(6)));
        probes.unavailable(Moment::ZERO, digest(6), "a second attempt failed".to_owned());
        assert_eq!(probes.get(&digest(6)), Some(&Readiness::Ready));
    }
}
