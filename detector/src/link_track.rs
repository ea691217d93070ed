//! What heartbeats say of the path between one manager and one node, per network: who hears whom, and what is lost.

use std::time::Duration;

use vouch_types::{Moment, Network};

use crate::LinkMeasure;

/// How long one direction has to be silent, while the other is heard, before it is told as one-way.
pub(crate) const ONE_WAY_AFTER: Duration = Duration::from_millis(1_500);
/// The loss from which on a path is lossy, in per mille: well above what a good network loses for a moment.
pub(crate) const LOSSY_FROM_PER_MILLE: u16 = 100;
/// The loss below which a lossy path is well again.
pub(crate) const LOSSY_UNTIL_PER_MILLE: u16 = 50;

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

    /// Returns the share that is lost in the worse direction.
    pub fn loss(&self) -> u16 {
        self.loss_in.max(self.loss_out)
    }
}
