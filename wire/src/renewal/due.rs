//! When a certificate is to be renewed.

use std::time::Duration;

use vouch_types::WallTime;

use crate::pki::{PeerIdentity, Validity};

/// How far after half of the life the last of a fleet renews, in percent of the life.
pub const RENEW_SPREAD_PERCENT: u64 = 10;

/// Parts that a share is counted in.
const SHARES: u64 = 1 << 32;

/// Returns when a certificate is to be renewed: when half of its life is over, and up to a tenth of it later, by its
/// owner's share, so that a fleet whose certificates were made at once does not renew them at once.
pub fn renew_at(validity: Validity, owner: &PeerIdentity) -> WallTime {
    let (from, until) = (validity.from.as_unix_millis(), validity.until.as_unix_millis());
    let life = until.saturating_sub(from);
    let spread = share_of(owner, Duration::from_millis(life / 100 * RENEW_SPREAD_PERCENT));
    let spread = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
    WallTime::from_unix_millis(from.saturating_add(life / 2).saturating_add(spread))
}

/// Returns an owner's share of a time, from none of it to just below the whole: always the same one, and as good as
/// evenly spread over many owners.
pub fn share_of(owner: &PeerIdentity, whole: Duration) -> Duration {
    let hash = ring::digest::digest(&ring::digest::SHA256, owner.server_name().as_bytes());
    let share = hash.as_ref().iter().take(4).fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    let nanos = whole.as_nanos() * u128::from(share) / u128::from(SHARES);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vouch_types::{NodeId, WatcherId};

    use super::*;

    fn watcher(number: u64) -> PeerIdentity {
        PeerIdentity::Watcher(WatcherId::new(number))
    }

    #[test]
    fn a_fleet_of_one_day_renews_after_half_of_the_life_and_spread_over_a_tenth_of_it() {
        let at = |millis| WallTime::from_unix_millis(millis);
        let (from, life) = (1_795_383_407_000, 7 * 24 * 3600 * 1000);
        let validity = Validity { from: at(from), until: at(from + life) };
        let (first, last) = (from + life / 2, from + life / 2 + life / 10);
        let mut tenths = [0; 10];
        for number in 1..=1000 {
            let due = renew_at(validity, &watcher(number)).as_unix_millis();
            assert!((first..last).contains(&due), "{due}");
            tenths[usize::try_from((due - first) * 10 / (last - first)).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (50..200).contains(count)), "{tenths:?}");
    }

    #[test]
    fn an_owner_has_the_same_share_at_every_start() {
        let owner = PeerIdentity::Node(NodeId::new("n1").unwrap());
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(share_of(&owner, day), share_of(&owner, day));
        assert_ne!(share_of(&owner, day), share_of(&watcher(1), day));
    }

    proptest! {
        #[test]
        fn a_renewal_is_never_before_half_of_the_life_nor_after_its_end(from: u64, life: u64, number in 1u64..) {
            let until = from.saturating_add(life);
            let validity = Validity { from: WallTime::from_unix_millis(from), until: WallTime::from_unix_millis(until) };
            let due = renew_at(validity, &watcher(number)).as_unix_millis();
            prop_assert!(due >= from + (until - from) / 2);
            prop_assert!(due <= until);
        }
    }
}
