//! How the watcher itself is, so that its word can be discounted while it is sick.

use std::time::Duration;

use vouch_types::{Moment, Network, WatcherHealth};

/// What is known of the watcher's own health.
#[derive(Debug, Default)]
pub struct HealthState {
    loop_lag: Duration,
    steal_percent: u8,
    management: Option<Moment>,
    service: Option<Moment>,
}

impl HealthState {
    /// Records how well this machine keeps time.
    pub fn measured(&mut self, loop_lag: Duration, steal_percent: u8) {
        self.loop_lag = loop_lag;
        self.steal_percent = steal_percent.min(100);
    }

    /// Records that somebody answered over a network.
    pub fn reached(&mut self, now: Moment, network: Network) {
        match network {
            Network::Management => self.management = Some(now),
            Network::Service => self.service = Some(now),
        }
    }

    /// Returns the health as it is told; "reached" means within `lately`.
    pub fn told(&self, now: Moment, lately: Duration) -> WatcherHealth {
        let reached = |at: Option<Moment>| at.is_some_and(|at| now.since(at) <= lately);
        WatcherHealth {
            loop_lag: self.loop_lag,
            steal_percent: self.steal_percent,
            management_reached: reached(self.management),
            service_reached: reached(self.service),
            management_loss_per_mille: 0,
            service_loss_per_mille: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_on_which_nobody_answers_any_more_is_not_reached() {
        let (mut health, lately) = (HealthState::default(), Duration::from_secs(1));
        health.reached(Moment::from_micros(5), Network::Service);
        assert!(health.told(Moment::from_micros(1_000_005), lately).service_reached);
        assert!(!health.told(Moment::from_micros(1_000_006), lately).service_reached);
        assert!(!health.told(Moment::from_micros(5), lately).management_reached);
    }
}
