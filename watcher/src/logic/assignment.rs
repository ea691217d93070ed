//! What a watcher is told to watch: one assignment, checked as a whole before anything of it counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use vouch_types::{AssignmentGeneration, Digest, LogIndex, Network, Term};
use vouch_wire::convert::{Assignment, ConvertError, Peer, Target, TimedProbe};
use vouch_wire::proto;

use super::{Check, CheckSpec, Checks, ProbeSpec, RelaySpec};

/// The most checks that one watcher takes on.
pub const CHECKS_MAX: usize = 4_000;

/// Why an assignment is not taken.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AssignmentError {
    /// It comes from a manager that has been overtaken.
    #[error("order of term {} index {} is older than term {} index {}", .got.0, .got.1, .kept.0, .kept.1)]
    OldFence {
        /// Fence of the order.
        got: (Term, LogIndex),
        /// Highest fence so far.
        kept: (Term, LogIndex),
    },
    /// A later one is in force.
    #[error("generation {got} is older than {kept}")]
    OldGeneration {
        /// Generation of the order.
        got: AssignmentGeneration,
        /// Generation in force.
        kept: AssignmentGeneration,
    },
    /// A field breaks the contract.
    #[error("malformed: {0}")]
    Malformed(#[from] ConvertError),
    /// More than a watcher takes on.
    #[error("{count} checks are more than {CHECKS_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// One assignment, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Assigned {
    /// Who ordered it, and when.
    pub fence: (Term, LogIndex),
    /// Its generation.
    pub generation: AssignmentGeneration,
    /// Everything to look at.
    pub checks: Checks,
    /// Its reference targets.
    pub peers: Vec<Peer>,
}

impl Assigned {
    /// Returns the assignment of a watcher that has been told nothing.
    pub fn nothing() -> Self {
        Self {
            fence: (Term::default(), LogIndex::default()),
            generation: AssignmentGeneration::default(),
            checks: Checks::default(),
            peers: Vec::new(),
        }
    }

    /// Returns the assignment that replaces this one.
    ///
    /// # Errors
    /// [`AssignmentError`] when it is older than this one or malformed; this one stays in force then.
    pub fn replaced_by(&self, message: proto::Assignment) -> Result<Self, AssignmentError> {
        let new = Self::of(Assignment::try_from(message)?);
        if new.checks.len() > CHECKS_MAX {
            return Err(AssignmentError::TooMany { count: new.checks.len() });
        }
        if new.fence < self.fence {
            return Err(AssignmentError::OldFence { got: new.fence, kept: self.fence });
        }
        if new.generation < self.generation {
            return Err(AssignmentError::OldGeneration { got: new.generation, kept: self.generation });
        }
        Ok(new)
    }

    /// Returns how long the quicker checks of each network leave between two looks at it, on the network where that is
    /// longest: what has not been reached for so long is not reached.
    pub fn looks_every(&self, default: Duration) -> Duration {
        let mut quickest: BTreeMap<Network, Duration> = BTreeMap::new();
        for assigned in self.checks.iter() {
            let network = match &assigned.check {
                Check::Probe { network, .. } => *network,
                Check::Relay { .. } => Network::Management,
            };
            let interval = assigned.spec.interval().unwrap_or(default);
            quickest.entry(network).and_modify(|known| *known = interval.min(*known)).or_insert(interval);
        }
        quickest.into_values().max().unwrap_or(default)
    }

    fn of(assignment: Assignment) -> Self {
        let Assignment { fence, generation, targets, relays, probes, peers } = assignment;
        let relays: Vec<_> = relays
            .into_iter()
            .map(|relay| Arc::new(RelaySpec { node: relay.node, address: relay.address, grant: relay.grant }))
            .collect();
        let probes: BTreeMap<_, _> =
            probes.into_iter().map(|(name, probe)| (name, (probe.digest, probe.grant.map(Arc::new)))).collect();
        let mut checks = BTreeMap::new();
        for target in targets {
            let relay = relays.iter().find(|relay| relay.node == target.node);
            let Target { vm, node, addresses, probes: wanted, labels, probe_interval, probe_timeout } = target;
            for TimedProbe { assignment: wanted, interval, timeout } in wanted {
                let (network, probe) = (wanted.network, wanted.probe);
                let component = probes.get(&probe);
                let spec = ProbeSpec {
                    vm,
                    node: node.clone(),
                    network,
                    probe: probe.clone(),
                    digest: component.map(|(digest, _)| *digest),
                    grant: component.and_then(|(_, grant)| grant.clone()),
                    addresses: addresses.get(&network).cloned().unwrap_or_default(),
                    labels: labels.clone().into_iter().collect(),
                    settings: wanted.settings,
                    relay: relay.cloned(),
                    interval: interval.or(probe_interval),
                    timeout: timeout.or(probe_timeout),
                };
                checks.insert(Check::Probe { vm, network, probe }, CheckSpec::Probe(Arc::new(spec)));
            }
        }
        for relay in relays {
            checks.insert(Check::Relay { node: relay.node.clone() }, CheckSpec::Relay(relay));
        }
        Self { fence: (fence.term, fence.log_index), generation, checks: checks.into(), peers }
    }
}

impl CheckSpec {
    /// Returns how often it runs, where that is not as the timing of the cluster says.
    pub fn interval(&self) -> Option<Duration> {
        match self {
            Self::Probe(spec) => spec.interval,
            Self::Relay(_) => None,
        }
    }

    /// Returns the SHA-256 of the component that runs, if one does.
    pub fn component(&self) -> Option<Digest> {
        match self {
            Self::Probe(spec) => spec.digest,
            Self::Relay(_) => None,
        }
    }

    /// Returns whether a result for one is a result for the other: a new grant, say, changes nothing.
    pub fn same_target(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Probe(a), Self::Probe(b)) => {
                Arc::ptr_eq(a, b) || (a.digest == b.digest && a.addresses == b.addresses && a.settings == b.settings)
            }
            (Self::Relay(a), Self::Relay(b)) => a.node == b.node && a.address == b.address,
            (Self::Probe(_), Self::Relay(_)) | (Self::Relay(_), Self::Probe(_)) => false,
        }
    }

    /// Returns how long one run may take, where that is not as the timing of the cluster says.
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Probe(spec) => spec.timeout,
            Self::Relay(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn target(vm: u8, interval: Duration) -> proto::Target {
        let probe = proto::ProbeAssignment {
            probe: "tcp".to_owned(),
            network: proto::Network::Service.into(),
            settings: "{}".to_owned(),
            ..Default::default()
        };
        proto::Target {
            vm: vec![vm; 16],
            node: "n1".to_owned(),
            probes: vec![probe],
            probe_interval_micros: u64::try_from(interval.as_micros()).expect("short"),
            ..Default::default()
        }
    }

    #[test]
    fn a_network_is_looked_at_as_often_as_its_quickest_check() {
        let looks = |targets: Vec<proto::Target>| {
            let order = proto::Assignment { targets, ..order(1, 1, 1) };
            Assigned::nothing().replaced_by(order).expect("well formed").looks_every(SECOND)
        };
        assert_eq!(looks(Vec::new()), SECOND);
        assert_eq!(looks(vec![target(1, Duration::ZERO)]), SECOND, "0 is the cluster's");
        assert_eq!(looks(vec![target(1, 9 * SECOND), target(2, 5 * SECOND)]), 5 * SECOND);
        assert_eq!(looks(vec![target(1, 9 * SECOND), target(2, Duration::ZERO)]), SECOND);
    }

    fn order(term: u64, log_index: u64, generation: u64) -> proto::Assignment {
        proto::Assignment { fence: Some(proto::Fence { term, log_index }), generation, ..Default::default() }
    }

    #[test]
    fn an_overtaken_manager_is_refused_and_the_same_order_again_is_not() {
        let kept = Assigned::nothing().replaced_by(order(3, 40, 7)).expect("the first is taken");
        assert!(kept.replaced_by(order(3, 40, 7)).is_ok());
        assert!(kept.replaced_by(order(4, 41, 8)).is_ok());
        assert!(matches!(kept.replaced_by(order(2, 99, 9)), Err(AssignmentError::OldFence { .. })));
        assert!(matches!(kept.replaced_by(order(3, 39, 7)), Err(AssignmentError::OldFence { .. })));
        assert!(matches!(kept.replaced_by(order(4, 41, 6)), Err(AssignmentError::OldGeneration { .. })));
    }

    #[test]
    fn a_malformed_field_is_named_and_nothing_of_the_order_counts() {
        let mut bad = order(1, 1, 1);
        bad.targets.push(proto::Target { vm: vec![1, 2, 3], ..Default::default() });
        let e = Assigned::nothing().replaced_by(bad).expect_err("must be refused");
        assert!(e.to_string().contains("target.vm"), "{e}");
        let e = Assigned::nothing().replaced_by(proto::Assignment::default()).expect_err("must be refused");
        assert!(e.to_string().contains("fence"), "{e}");
    }
}
