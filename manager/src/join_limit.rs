//! How many refused joins one source may have: who guesses secrets, or asks wrongly in a loop, is turned away unread.
//!
//! A secret has 256 random bits and cannot be guessed; this keeps the log and the leader free of one who tries. Only
//! refusals count. A pure record: the caller brings the time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use vouch_types::Moment;

/// How many joins of one source may be refused within [`REFUSALS_WITHIN`].
pub(crate) const REFUSALS_MAX: u32 = 10;
/// Over how long they are counted, from the first one on; then a source begins anew.
pub(crate) const REFUSALS_WITHIN: Duration = Duration::from_secs(60);
/// How many sources are remembered; beyond that the one that was refused longest ago is forgotten.
pub(crate) const SOURCES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Refused {
    since: Moment,
    count: u32,
}

/// The sources whose joins were refused lately.
#[derive(Debug, Default)]
pub(crate) struct RefusedSources(BTreeMap<IpAddr, Refused>);

/// Returns what counts as one source: an IPv4 address, or the first 64 bits of an IPv6 address, which one machine has
/// all of.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl RefusedSources {
    /// Returns how long this source has to wait; none when it may ask.
    pub(crate) fn wait_of(&self, address: IpAddr, now: Moment) -> Option<Duration> {
        let refused = self.0.get(&source(address))?;
        let passed = now.since(refused.since);
        (refused.count >= REFUSALS_MAX && passed < REFUSALS_WITHIN).then(|| REFUSALS_WITHIN - passed)
    }

    /// Counts a refusal.
    pub(crate) fn refused(&mut self, address: IpAddr, now: Moment) {
        let source = source(address);
        if self.0.len() >= SOURCES_MAX && !self.0.contains_key(&source) {
            let oldest = self.0.iter().min_by_key(|(_, refused)| refused.since).map(|(address, _)| *address);
            oldest.map(|address| self.0.remove(&address));
        }
        let refused = self.0.entry(source).or_insert(Refused { since: now, count: 0 });
        if now.since(refused.since) >= REFUSALS_WITHIN {
            *refused = Refused { since: now, count: 0 };
        }
        refused.count = refused.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_is_turned_away_after_ten_refusals_until_a_minute_has_passed_and_others_are_not() {
        let (mut sources, start, one) = (RefusedSources::default(), Moment::ZERO, address("192.0.2.1"));
        for _ in 0..REFUSALS_MAX {
            assert_eq!(sources.wait_of(one, start), None);
            sources.refused(one, start);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(sources.wait_of(one, later), Some(Duration::from_secs(40)));
        assert_eq!(sources.wait_of(address("::ffff:192.0.2.1"), later), Some(Duration::from_secs(40)));
        assert_eq!(sources.wait_of(address("192.0.2.2"), later), None);
        let anew = start + REFUSALS_WITHIN;
        assert_eq!(sources.wait_of(one, anew), None);
        sources.refused(one, anew);
        assert_eq!(sources.wait_of(one, anew), None, "the count begins anew");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let (mut sources, start) = (RefusedSources::default(), Moment::ZERO);
        for last in 0..REFUSALS_MAX {
            sources.refused(address(&format!("2001:db8::{last:x}")), start);
        }
        assert!(sources.wait_of(address("2001:db8::ffff"), start).is_some());
        assert_eq!(sources.wait_of(address("2001:db8:0:1::1"), start), None);
    }

    #[test]
    fn the_source_that_was_refused_longest_ago_is_forgotten_when_there_are_too_many() {
        let mut sources = RefusedSources::default();
        let one = address("192.0.2.1");
        for _ in 0..REFUSALS_MAX {
            sources.refused(one, Moment::ZERO);
        }
        let later = Moment::ZERO + Duration::from_secs(1);
        for number in 1..SOURCES_MAX {
            sources.refused(address(&format!("10.0.{}.{}", number / 256, number % 256)), later);
        }
        assert!(sources.wait_of(one, later).is_some(), "{SOURCES_MAX} are remembered");
        sources.refused(address("10.1.0.0"), later);
        assert_eq!(sources.wait_of(one, later), None);
        assert_eq!(sources.0.len(), SOURCES_MAX);
    }
}
