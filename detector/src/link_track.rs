//! What heartbeats say of the path between one manager and one node, per network: who hears whom, and what is lost.

use std::time::Duration;

use vouch_types::{Moment, Network};

use crate::LinkMeasure;
use crate::loss::{LOSS_ASSUMED_PER_MILLE, failures_needed};

/// How long one direction has to be silent, while the other is heard, before it is told as one-way.
pub(crate) const ONE_WAY_AFTER: Duration = Duration::from_millis(1_500);
/// The loss from which on a path is lossy, in per mille: well above what a good network loses for a moment.
pub(crate) const LOSSY_FROM_PER_MILLE: u16 = 100;
/// The loss below which a lossy path is well again.
pub(crate) const LOSSY_UNTIL_PER_MILLE: u16 = 50;

/// However much a path loses: when no heartbeat has come over it for this long, it carries nothing.
const BEATS_MISSED_LONGEST: Duration = Duration::from_secs(5);

/// One network's heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkTrack {
    /// When the newest heartbeat of the node came.
    pub heard: Option<Moment>,
    /// When the node's hypervisor was last read, as it says, at the earliest.
    pub read: Option<Moment>,
    /// When the newest heartbeat of the manager was sent that the node has.
    pub echoed: Option<Moment>,
    /// Per mille of the node's heartbeats that are lost.
    pub loss_in: u16,
    /// Per mille of the manager's heartbeats that are lost.
    pub loss_out: u16,
}

/// Heartbeats over both networks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkTracks([LinkTrack; 2]);

const fn slot(network: Network) -> usize {
    match network {
        Network::Management => 0,
        Network::Service => 1,
    }
}

impl LinkTracks {
    /// Takes a measure.
    pub fn take(&mut self, measure: &LinkMeasure) {
        let track = &mut self.0[slot(measure.network)];
        track.heard = track.heard.max(measure.heard);
        let read = measure.heard.zip(measure.read_age).map(|(heard, age)| heard - age);
        track.read = track.read.max(read);
        track.echoed = track.echoed.max(measure.echoed);
        track.loss_in = measure.loss_in_per_mille;
        track.loss_out = measure.loss_out_per_mille;
    }

    /// Returns what is known of one network.
    pub fn on(&self, network: Network) -> &LinkTrack {
        &self.0[slot(network)]
    }

    /// Returns when the node's hypervisor was last read, as any heartbeat says.
    pub fn read(&self) -> Option<Moment> {
        self.0.iter().filter_map(|track| track.read).max()
    }
}

impl LinkTrack {
    /// Returns whether the node is heard and hears nothing any more.
    pub fn is_deaf(&self, now: Moment) -> bool {
        let heard = self.heard.is_some_and(|at| now.since(at) < ONE_WAY_AFTER / 2);
        // One that never heard this manager may not have been told its key yet.
        heard && self.echoed.is_some_and(|at| now.since(at) >= ONE_WAY_AFTER)
    }

    /// Returns whether heartbeats come over it at all.
    pub fn is_heard(&self, now: Moment) -> bool {
        self.heard.is_some_and(|at| now.since(at) < ONE_WAY_AFTER)
    }

    /// Returns whether so few heartbeats are missing that loss alone may have taken them all.
    pub fn still_beats(&self, now: Moment, interval: Duration) -> bool {
        let needed = failures_needed(self.loss_in.max(LOSS_ASSUMED_PER_MILLE));
        let silent = (interval * needed).min(BEATS_MISSED_LONGEST);
        self.heard.is_some_and(|at| now.since(at) < silent)
    }

    /// Returns the share that is lost in the worse direction.
    pub fn loss(&self) -> u16 {
        self.loss_in.max(self.loss_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_a_path_loses_the_more_heartbeats_must_be_missing_before_it_carries_nothing() {
        let interval = Duration::from_millis(200);
        let heard = Moment::ZERO + Duration::from_secs(9);
        let last_at = |loss_in| {
            let track = LinkTrack { heard: Some(heard), loss_in, ..LinkTrack::default() };
            let beats = |ms: &u64| track.still_beats(heard + Duration::from_millis(*ms), interval);
            (0..20_000).step_by(100).take_while(beats).last()
        };
        assert_eq!(last_at(0), Some(1_500), "8 are missed of a good path");
        assert_eq!(last_at(300), Some(4_500), "23 of one that loses 30 %");
        assert_eq!(last_at(900), Some(4_900), "and no more than 5 seconds' worth of any");
        assert!(!LinkTrack::default().still_beats(Moment::ZERO, interval), "it was never heard");
    }
}
