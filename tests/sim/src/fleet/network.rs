//! The two networks: how likely a packet is lost now, and how long it takes.
//!
//! Every machine has an uplink per network. An uplink *flaps* (nothing passes for up to two seconds, which is less than
//! `lost` takes, so that a `lost` is never a fair answer) and has *bursts* in which half of the packets are lost. A
//! packet between two machines is lost by the network itself, by either uplink's burst, or by either uplink's flap.
//! Within one node nothing is lost.

use std::fmt;
use std::time::Duration;

use vouch_types::{Moment, Network};

use super::draw::Draw;

/// The longest flap.
pub(crate) const FLAP_LONGEST: Duration = Duration::from_millis(2_000);
/// The mean flap.
const FLAP_MEAN: Duration = Duration::from_millis(500);
/// The longest burst, and the mean one.
const BURST_LONGEST: Duration = Duration::from_millis(3_000);
const BURST_MEAN: Duration = Duration::from_millis(500);
/// Loss that a burst adds.
const BURST_LOSS: f32 = 0.5;
/// The least latency one way.
const LATENCY_LEAST: Duration = Duration::from_micros(150);
/// Mean of the jitter that adds to it.
const JITTER_MEAN: Duration = Duration::from_micros(1_500);
/// How often a packet waits in a full queue, and for how long at the most.
const QUEUED: f32 = 0.002;
const QUEUED_LONGEST: Duration = Duration::from_millis(250);

/// A time in which an uplink is not well.
#[derive(Clone, Copy, Debug)]
struct Episode {
    from: Moment,
    to: Moment,
}

/// One kind of episode of one uplink: the present one and the next.
#[derive(Debug)]
struct Episodes {
    every: Duration,
    mean: Duration,
    longest: Duration,
    /// The one before the present one.
    last: Episode,
    two: [Episode; 2],
}

impl Episodes {
    fn new(every: Duration, mean: Duration, longest: Duration, draw: &mut Draw) -> Self {
        let nothing = Episode { from: Moment::ZERO, to: Moment::ZERO };
        let mut episodes = Self { every, mean, longest, last: nothing, two: [nothing; 2] };
        episodes.next(draw);
        episodes.next(draw);
        episodes
    }

    fn next(&mut self, draw: &mut Draw) {
        let from = self.two[1].to + draw.exponential(self.every);
        let to = from + draw.exponential(self.mean).min(self.longest);
        self.last = self.two[0];
        self.two = [self.two[1], Episode { from, to }];
    }

    /// Returns the longest part of one between two moments that are not long ago.
    fn longest_between(&self, since: Moment, until: Moment) -> Duration {
        let within = |e: &Episode| e.to.min(until).since(e.from.max(since));
        [self.last, self.two[0], self.two[1]].iter().map(within).max().unwrap_or_default()
    }

    fn covers(&self, at: Moment) -> bool {
        self.two.iter().any(|e| e.from <= at && at < e.to)
    }
}

/// One machine's link to one network.
#[derive(Debug)]
struct Uplink {
    draw: Draw,
    flaps: Episodes,
    bursts: Episodes,
}

impl Uplink {
    /// Returns the loss that it adds at a moment that is not long after now.
    fn loss(&mut self, now: Moment, at: Moment) -> f32 {
        while self.flaps.two[0].to < now {
            self.flaps.next(&mut self.draw);
        }
        while self.bursts.two[0].to < now {
            self.bursts.next(&mut self.draw);
        }
        if self.flaps.covers(at) {
            1.0
        } else if self.bursts.covers(at) {
            BURST_LOSS
        } else {
            0.0
        }
    }
}

/// One machine of the model: the manager, or a node with all that runs on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Machine {
    /// The managers' machine.
    Manager,
    /// A node.
    Node(usize),
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager => f.write_str("managers"),
            Self::Node(node) => write!(f, "n{node}"),
        }
    }
}

/// The two networks with every machine's uplinks.
#[derive(Debug)]
pub(crate) struct SimNetworks {
    loss: [f32; 2],
    uplinks: Vec<[Uplink; 2]>,
    draw: Draw,
}

impl SimNetworks {
    pub(crate) fn new(nodes: usize, config: &super::FleetConfig) -> Self {
        let uplink = |part: u64| {
            let mut draw = Draw::new(config.seed, part + 1_000);
            let flaps = Episodes::new(config.flap_every, FLAP_MEAN, FLAP_LONGEST, &mut draw);
            let bursts = Episodes::new(config.burst_every, BURST_MEAN, BURST_LONGEST, &mut draw);
            Uplink { draw, flaps, bursts }
        };
        let machines = 0..=u64::try_from(nodes).unwrap_or(u64::MAX - 1);
        Self {
            loss: [config.loss_management, config.loss_service],
            uplinks: machines.map(|i| [uplink(2 * i), uplink(2 * i + 1)]).collect(),
            draw: Draw::new(config.seed, 1),
        }
    }

    fn uplink(&mut self, machine: Machine, network: Network) -> &mut Uplink {
        let index = match machine {
            Machine::Manager => 0,
            Machine::Node(node) => node + 1,
        };
        &mut self.uplinks[index][slot(network)]
    }

    /// Returns how many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.uplinks.len() - 1
    }

    /// Returns for how long a machine's link to a network carried nothing, and for how long it had a burst of loss,
    /// between two moments that are not long ago, at one go each.
    pub(crate) fn outage(
        &mut self,
        machine: Machine,
        network: Network,
        since: Moment,
        until: Moment,
    ) -> (Duration, Duration) {
        let uplink = self.uplink(machine, network);
        (uplink.flaps.longest_between(since, until), uplink.bursts.longest_between(since, until))
    }

    /// Returns whether a packet that is sent at `at`, now or soon, is lost.
    pub(crate) fn loses(&mut self, now: Moment, at: Moment, path: Path) -> bool {
        let Path { from, to, network } = path;
        if from == to {
            return false;
        }
        let own = self.loss[slot(network)];
        let first = self.uplink(from, network).loss(now, at);
        let second = self.uplink(to, network).loss(now, at);
        let through = (1.0 - own) * (1.0 - first) * (1.0 - second);
        !self.draw.chance(through)
    }

    /// Returns how long a packet takes one way.
    pub(crate) fn latency(&mut self) -> Duration {
        let queued =
            if self.draw.chance(QUEUED) { self.draw.between(Duration::ZERO, QUEUED_LONGEST) } else { Duration::ZERO };
        LATENCY_LEAST + self.draw.between(Duration::ZERO, JITTER_MEAN * 2) + queued
    }

    /// Returns when a round trip that is tried at these offsets is first completed, if it is before `limit`.
    ///
    /// A try fails when the packet or its answer is lost: with 1 - (1 - l)^2.
    pub(crate) fn round_trip(
        &mut self,
        now: Moment,
        begin: Moment,
        path: Path,
        tries: impl Iterator<Item = Duration>,
        limit: Moment,
    ) -> Option<Moment> {
        for offset in tries {
            let at = begin + offset;
            if at >= limit {
                return None;
            }
            if !self.loses(now, at, path) && !self.loses(now, at, path) {
                let done = at + self.latency() + self.latency();
                return (done < limit).then_some(done);
            }
        }
        None
    }
}

/// A way from one machine to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    pub(crate) from: Machine,
    pub(crate) to: Machine,
    pub(crate) network: Network,
}

/// Returns the place of a network in pairs.
pub(crate) fn slot(network: Network) -> usize {
    match network {
        Network::Management => 0,
        Network::Service => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::FleetConfig;
    use super::*;

    #[test]
    fn a_round_trip_over_a_network_that_loses_a_third_fails_with_its_square() {
        let never = Duration::from_secs(1 << 30);
        let config = FleetConfig { flap_every: never, burst_every: never, ..FleetConfig::n2(4, 2, 7) };
        let mut networks = SimNetworks::new(2, &config);
        let path = Path { from: Machine::Node(0), to: Machine::Node(1), network: Network::Service };
        let limit = Moment::ZERO + Duration::from_secs(9);
        let tried = 100_000;
        let once = || std::iter::once(Duration::ZERO);
        let failed = (0..tried)
            .filter(|_| networks.round_trip(Moment::ZERO, Moment::ZERO, path, once(), limit).is_none())
            .count();
        let share = failed as f64 / f64::from(tried);
        assert!((0.50..0.52).contains(&share), "{share} is not 1 - 0.7^2 = 0.51");
    }

    #[test]
    fn nothing_passes_while_an_uplink_flaps_and_nothing_is_lost_within_a_node() {
        let config =
            FleetConfig { loss_service: 0.0, burst_every: Duration::from_secs(1 << 30), ..FleetConfig::n2(4, 2, 7) };
        let mut networks = SimNetworks::new(2, &config);
        let flap = networks.uplinks[1][1].flaps.two[0];
        let between = Path { from: Machine::Node(0), to: Machine::Node(1), network: Network::Service };
        let within = Path { to: Machine::Node(0), ..between };
        for _ in 0..1_000 {
            assert!(networks.loses(flap.from, flap.from, between));
            assert!(!networks.loses(flap.from, flap.from, within));
        }
        assert!(flap.to.since(flap.from) <= FLAP_LONGEST);
    }
}
