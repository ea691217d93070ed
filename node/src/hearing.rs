//! Which managers this node hears now: what its relay tells watchers, so that a path that fails one way is told from one
//! that fails both ways.
//!
//! Every heartbeat and every tick of a manager counts for a few of its intervals. Ticks alone carry it where heartbeats
//! are off or do not get through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use vouch_types::ManagerId;

/// How many intervals a heartbeat or tick counts for.
pub const INTERVALS_HEARD: u32 = 3;

/// Which managers are heard. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hearing(Arc<Mutex<BTreeMap<ManagerId, Instant>>>);

impl Hearing {
    /// Notes a word of a manager, which counts until then.
    pub fn heard(&self, manager: ManagerId, until: Instant) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = heard.entry(manager).or_insert(until);
        *known = until.max(*known);
    }

    /// Returns the managers that are heard now, in order.
    pub fn managers(&self, now: Instant) -> Vec<ManagerId> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|(_, until)| **until >= now).map(|(manager, _)| *manager).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_manager_is_heard_for_as_long_as_its_latest_word_counts() {
        let (hearing, now) = (Hearing::default(), Instant::now());
        let (m1, m2) = (ManagerId::new(1), ManagerId::new(2));
        hearing.heard(m2, now + Duration::from_millis(600));
        hearing.heard(m1, now + Duration::from_millis(600));
        hearing.heard(m1, now + Duration::from_millis(300));
        assert_eq!(hearing.managers(now + Duration::from_millis(600)), [m1, m2]);
        assert_eq!(hearing.managers(now + Duration::from_millis(601)), []);
    }
}
