//! What can be broken in a lab's networks.

use std::net::Ipv4Addr;

/// Whether a port has carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// The cable is in.
    Up,
    /// The cable is out, and the machine notices.
    Down,
}

/// What becomes of everything that a switch would carry from one machine to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// It arrives.
    Whole,
    /// Of a hundred packets so many are dropped, at random, each way.
    Lossy {
        /// How many, up to 99.
        percent: u8,
    },
    /// Nothing arrives, and carrier stays.
    Nothing,
}

impl Carriage {
    /// Returns the rule of nft for it, if it takes one.
    pub(super) fn rule(self) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Lossy { percent } => Some(format!("numgen random mod 100 < {percent} drop")),
            Self::Nothing => Some("drop".to_owned()),
        }
    }
}

/// How fast a switch hands out what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    AtOnce,
    /// Nearly not at all: packets wait in the switch until the pace is another one, and none is lost. What waits is
    /// late by as long as this lasts, which makes a burst of latency without a kernel that can delay packets.
    Held,
}

impl Pace {
    /// Returns the settings of a token bucket for it: a full-sized packet must fit into a burst, or it is dropped.
    pub(super) const fn bucket(self) -> &'static str {
        match self {
            Self::AtOnce => "rate 1gbit burst 1mb limit 64mb",
            Self::Held => "rate 2kbit burst 1600 limit 64mb",
        }
    }
}

/// Packets that the switches drop without anybody noticing: carrier stays, and so does everything else on the port.
///
/// By IP address, so that a cut between a node's own agent and the managers leaves alone the VMs on the node's bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    pub(super) pairs: Vec<(Ipv4Addr, Ipv4Addr)>,
}

impl Cut {
    /// Returns a cut of everything between two groups of addresses, in both directions.
    pub fn between(ones: &[Ipv4Addr], others: &[Ipv4Addr]) -> Self {
        let mut cut = Self::one_way(ones, others);
        cut.pairs.extend(Self::one_way(others, ones).pairs);
        cut
    }

    /// Returns a cut of what goes from one group of addresses to another; answers still get through.
    pub fn one_way(from: &[Ipv4Addr], to: &[Ipv4Addr]) -> Self {
        let pairs = from.iter().flat_map(|&from| to.iter().map(move |&to| (from, to)));
        Self { pairs: pairs.filter(|(from, to)| from != to).collect() }
    }

    /// Returns both cuts as one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.pairs.extend(other.pairs);
        self
    }

    /// Returns the cut as nft names the elements of its set.
    pub(super) fn elements(&self) -> String {
        let mut pairs = self.pairs.clone();
        pairs.sort_unstable();
        pairs.dedup();
        let pairs: Vec<String> = pairs.iter().map(|(from, to)| format!("{from} . {to}")).collect();
        pairs.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_carries_everything_takes_no_rule() {
        assert_eq!(Carriage::Whole.rule(), None);
        assert_eq!(Carriage::Nothing.rule().as_deref(), Some("drop"));
        let lossy = Carriage::Lossy { percent: 30 }.rule();
        assert_eq!(lossy.as_deref(), Some("numgen random mod 100 < 30 drop"));
    }

    #[test]
    fn a_cut_between_two_groups_names_each_pair_both_ways() {
        let [a, b, c] = [1, 2, 3].map(|number| Ipv4Addr::new(10, 1, 0, number));
        assert_eq!(
            Cut::between(&[a], &[b, c]).elements(),
            "10.1.0.1 . 10.1.0.2, 10.1.0.1 . 10.1.0.3, 10.1.0.2 . 10.1.0.1, 10.1.0.3 . 10.1.0.1"
        );
        assert_eq!(Cut::one_way(&[a], &[b]).elements(), "10.1.0.1 . 10.1.0.2");
    }
}
