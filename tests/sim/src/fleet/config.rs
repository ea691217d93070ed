//! How large a fleet is, and how bad its networks are.

use std::time::Duration;

use vouch_types::Timing;

/// The most VMs per node: a watcher takes on two nodes' worth of them, with up to three probes each.
pub const VMS_PER_NODE_MAX: usize = 500;
/// The most probes per VM.
pub const PROBES_MAX: usize = 3;

/// How large a fleet is, and how bad its networks are.
#[derive(Clone, PartialEq, Debug)]
pub struct FleetConfig {
    /// VMs in all.
    pub vms: usize,
    /// Nodes; each has one watcher, for its own VMs and for those of the next node.
    pub nodes: usize,
    /// Probes per VM: `rdp`, then `ping`, then `guest-agent`.
    pub probes: usize,
    /// Share of packets that the management network loses, each way.
    pub loss_management: f32,
    /// Share of packets that the service network loses, each way.
    pub loss_service: f32,
    /// Mean time between two flaps of one uplink.
    pub flap_every: Duration,
    /// Mean time between two bursts of loss on one uplink.
    pub burst_every: Duration,
    /// From which everything is drawn.
    pub seed: u64,
    /// The cluster's times.
    pub timing: Timing,
}

impl FleetConfig {
    /// Returns a fleet of this size with the networks of N2: 1 % loss on management, 30 % on service, each way.
    pub fn n2(vms: usize, nodes: usize, seed: u64) -> Self {
        Self {
            vms,
            nodes,
            probes: 1,
            loss_management: 0.01,
            loss_service: 0.30,
            flap_every: Duration::from_secs(600),
            burst_every: Duration::from_secs(60),
            seed,
            timing: Timing::default(),
        }
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Names the number and the rule that it breaks.
    pub fn validate(&self) -> Result<(), String> {
        if self.nodes < 2 {
            return Err(format!("nodes: {} must be at least 2", self.nodes));
        }
        let most = self.nodes * VMS_PER_NODE_MAX;
        if self.vms < self.nodes || self.vms > most {
            return Err(format!("vms: {} must be {} to {most} for {} nodes", self.vms, self.nodes, self.nodes));
        }
        if !(1..=PROBES_MAX).contains(&self.probes) {
            return Err(format!("probes: {} must be 1 to {PROBES_MAX}", self.probes));
        }
        for (name, loss) in [("loss_management", self.loss_management), ("loss_service", self.loss_service)] {
            if !(0.0..=0.9).contains(&loss) {
                return Err(format!("{name}: {loss} must be 0 to 0.9"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_a_watcher_could_not_take_on_are_refused_with_the_rule() {
        let too_many = FleetConfig::n2(2 * VMS_PER_NODE_MAX + 1, 2, 1).validate().expect_err("must be refused");
        assert!(too_many.contains("1001") && too_many.contains("2 to 1000"), "{too_many}");
        assert!(FleetConfig { probes: PROBES_MAX + 1, ..FleetConfig::n2(4, 2, 1) }.validate().is_err());
        assert!(FleetConfig { loss_service: 0.95, ..FleetConfig::n2(4, 2, 1) }.validate().is_err());
        assert_eq!(FleetConfig::n2(4, 2, 1).validate(), Ok(()));
    }
}
