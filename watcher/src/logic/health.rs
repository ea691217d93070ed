//! How the watcher itself is, so that its word can be discounted while it is sick.

use std::time::Duration;

use vouch_types::{Moment, Network, WatcherHealth};

use super::{AssignedCheck, CheckNumber, Ended, LossMeter, Peers};

/// How long a measured loss is told before it is measured again.
const LOSS_TOLD_FOR: Duration = Duration::from_millis(250);

/// What is known of the watcher's own health.
#[derive(Debug, Default)]
pub struct HealthState {
    loop_lag: Duration,
    steal_percent: u8,
    management: Option<Moment>,
    service: Option<Moment>,
    loss: LossMeter,
    told_loss: Option<ToldLoss>,
}

#[derive(Debug, Clone, Copy)]
struct ToldLoss {
    at: Moment,
    management_per_mille: u16,
    service_per_mille: u16,
}

impl HealthState {
    /// Records how well this machine keeps time.
    pub fn measured(&mut self, loop_lag: Duration, steal_percent: u8) {
        self.loop_lag = loop_lag;
        self.steal_percent = steal_percent.min(100);
    }

    /// Records that somebody answered over a network.
    pub fn reached(&mut self, now: Moment, network: Network) {
        let last = match network {
            Network::Management => &mut self.management,
            Network::Service => &mut self.service,
        };
        *last = (*last).max(Some(now));
    }

    /// A run to a target beyond the watcher's own node has ended: what is lost on the way there is lost by the network.
    pub fn run_ended(&mut self, begun: Moment, (number, check): (CheckNumber, &AssignedCheck), ended: &Ended) {
        self.loss.ended(begun, (number, &check.check), ended);
    }

    /// Gives every check its new number, and forgets the loss on the way to those that get none.
    pub fn renumber(&mut self, number: impl Fn(CheckNumber) -> Option<CheckNumber>) {
        self.loss.renumber(number);
    }

    /// Peers tell what a network loses; probes of VMs and questions to relays do where there are none.
    fn loss(&mut self, now: Moment, peers: &mut Peers) -> ToldLoss {
        if let Some(told) = self.told_loss.filter(|told| now.since(told.at) < LOSS_TOLD_FOR) {
            return told;
        }
        let mut per_mille = |network| peers.loss(now, network).unwrap_or_else(|| self.loss.per_mille(now, network));
        let (management_per_mille, service_per_mille) = (per_mille(Network::Management), per_mille(Network::Service));
        let told = ToldLoss { at: now, management_per_mille, service_per_mille };
        self.told_loss = Some(told);
        told
    }

    /// Returns the health as it is told; "reached" means within `lately`.
    pub fn told(&mut self, now: Moment, lately: Duration, peers: &mut Peers) -> WatcherHealth {
        let loss = self.loss(now, peers);
        let reached = |at: Option<Moment>| at.is_some_and(|at| now.since(at) <= lately);
        WatcherHealth {
            loop_lag: self.loop_lag,
            steal_percent: self.steal_percent,
            management_reached: reached(self.management),
            service_reached: reached(self.service),
            management_loss_per_mille: loss.management_per_mille,
            service_loss_per_mille: loss.service_per_mille,
            peers: peers.reached(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::WatcherId;

    use super::*;

    #[test]
    fn a_network_on_which_nobody_answers_any_more_is_not_reached() {
        let (mut health, mut peers) = (HealthState::default(), Peers::new(WatcherId::new(1)));
        let mut told = |health: &mut HealthState, micros| {
            health.told(Moment::from_micros(micros), Duration::from_secs(1), &mut peers)
        };
        health.reached(Moment::from_micros(5), Network::Service);
        health.reached(Moment::from_micros(3), Network::Service);
        assert!(told(&mut health, 1_000_005).service_reached);
        assert!(!told(&mut health, 1_000_006).service_reached);
        assert!(!told(&mut health, 5).management_reached);
    }
}
