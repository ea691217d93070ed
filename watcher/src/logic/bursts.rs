//! Asked runs in flight, and which more may begin: asks may follow each other faster than their runs end, and each has
//! runs of its own.
//!
//! Asked runs never take the room that scheduled ones need: a burst on some VMs must not delay the look at others.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::{Network, VmId};

use super::{Check, RunLimit};

/// The most asked runs of one probe on one VM at a time.
pub const BURST_IN_FLIGHT_MAX: usize = 10;
/// The most VMs that have several asked runs of one probe in flight.
pub const BURST_VMS_MAX: usize = 64;
/// The most asked checks that wait for room; more are left to the end of their ask.
pub const WANTED_MAX: usize = 4_096;

/// Probes that cost next to nothing: one request and its answer.
const LIGHT: [&str; 2] = ["ping", "tcp"];
/// What stands in for them where a VM has neither: a connect and one small exchange, and a question and its answer. Not
/// `ssh` and `vnc`, whose servers turn away who connects often without a login, and not `http`, whose pages may be dear.
const STAND_INS: [&str; 2] = ["rdp", "dns"];

/// Asked runs in flight.
#[derive(Debug)]
pub struct Bursts {
    in_flight: BTreeMap<Check, usize>,
    /// How many of a VM's checks have several in flight.
    bursting: BTreeMap<VmId, usize>,
    all: usize,
    most: usize,
}

impl Bursts {
    /// Returns that none is in flight, of as many as may be.
    pub fn new(runs: RunLimit) -> Self {
        Self { in_flight: BTreeMap::new(), bursting: BTreeMap::new(), all: 0, most: runs.asked() }
    }

    /// Returns whether no asked run may begin, whatever it checks.
    pub fn is_full(&self) -> bool {
        self.all >= self.most
    }

    /// Returns whether an asked run of this check may begin now.
    pub fn may_begin(&self, check: &Check) -> bool {
        if self.is_full() {
            return false;
        }
        match (check, self.in_flight.get(check).copied().unwrap_or(0)) {
            // Each carries the nonce of its ask: no other run can stand in for it.
            (Check::Relay { .. }, _) | (Check::Probe { .. }, 0) => true,
            (Check::Probe { vm, .. }, count) => {
                count < BURST_IN_FLIGHT_MAX && (self.bursting.contains_key(vm) || self.bursting.len() < BURST_VMS_MAX)
            }
        }
    }

    /// An asked run has begun.
    pub fn begun(&mut self, check: &Check) {
        self.all += 1;
        let count = self.in_flight.entry(check.clone()).or_default();
        *count += 1;
        if let (2, Check::Probe { vm, .. }) = (*count, check) {
            *self.bursting.entry(*vm).or_default() += 1;
        }
    }

    /// An asked run has ended.
    pub fn ended(&mut self, check: &Check) {
        let Some(count) = self.in_flight.get_mut(check) else { return };
        self.all -= 1;
        *count -= 1;
        let left = *count;
        if left == 0 {
            self.in_flight.remove(check);
        }
        if let (1, Check::Probe { vm, .. }) = (left, check)
            && let Some(checks) = self.bursting.get_mut(vm)
        {
            *checks -= 1;
            if *checks == 0 {
                self.bursting.remove(vm);
            }
        }
    }
}

/// Leaves the checks of a light ask: ping, connect and relay.
pub fn lightened(mut checks: BTreeSet<Check>) -> BTreeSet<Check> {
    let is_light = |check: &Check| matches!(check, Check::Probe { probe, .. } if LIGHT.contains(&probe.as_str()));
    let place = |check: &Check| match check {
        Check::Probe { vm, network, .. } => Some((*vm, *network)),
        Check::Relay { .. } => None,
    };
    let lighter: BTreeSet<(VmId, Network)> = checks.iter().filter(|c| is_light(c)).filter_map(place).collect();
    checks.retain(|check| match check {
        Check::Relay { .. } => true,
        Check::Probe { vm, network, probe } => {
            is_light(check) || STAND_INS.contains(&probe.as_str()) && !lighter.contains(&(*vm, *network))
        }
    });
    checks
}

#[cfg(test)]
mod tests {
    use vouch_types::{NodeId, ProbeName};

    use super::*;

    fn probe(number: u128, name: &str) -> Check {
        let (vm, probe) = (VmId::new(uuid::Uuid::from_u128(number)), ProbeName::new(name).unwrap());
        Check::Probe { vm, network: Network::Service, probe }
    }

    #[test]
    fn a_check_has_no_more_asked_runs_in_flight_than_the_limit() {
        let mut bursts = Bursts::new(RunLimit::LEAST);
        let check = probe(1, "ping");
        for _ in 0..BURST_IN_FLIGHT_MAX {
            assert!(bursts.may_begin(&check));
            bursts.begun(&check);
        }
        assert!(!bursts.may_begin(&check));
        bursts.ended(&check);
        assert!(bursts.may_begin(&check));
    }

    #[test]
    fn no_more_vms_are_in_a_burst_than_the_limit_and_every_other_has_one_run() {
        let mut bursts = Bursts::new(RunLimit::LEAST);
        let last = BURST_VMS_MAX as u128;
        for vm in 1..=last - 1 {
            let check = probe(vm, "ping");
            bursts.begun(&check);
            // Ended in between, so that the limit of all runs is not met.
            bursts.begun(&check);
            bursts.in_flight.insert(check, 2);
            bursts.all = 2;
        }
        let (one, other) = (probe(last, "ping"), probe(last + 1, "ping"));
        for check in [&one, &other] {
            assert!(bursts.may_begin(check));
            bursts.begun(check);
        }
        assert!(bursts.may_begin(&one) && bursts.may_begin(&other));
        bursts.begun(&one);
        assert!(bursts.may_begin(&one) && !bursts.may_begin(&other), "the budget is spent");
        bursts.ended(&one);
        assert!(bursts.may_begin(&other));
    }

    #[test]
    fn asked_runs_leave_room_for_scheduled_ones() {
        let mut bursts = Bursts::new(RunLimit::LEAST);
        (0..RunLimit::LEAST.asked() as u128).for_each(|vm| bursts.begun(&probe(vm, "tcp")));
        let relay = Check::Relay { node: NodeId::new("n1").unwrap() };
        assert!(bursts.is_full() && !bursts.may_begin(&probe(9_999, "tcp")) && !bursts.may_begin(&relay));
        bursts.ended(&probe(0, "tcp"));
        assert!(bursts.may_begin(&relay));
    }

    #[test]
    fn a_light_ask_leaves_ping_connect_and_relay_and_rdp_or_dns_where_there_is_nothing_lighter() {
        let relay = Check::Relay { node: NodeId::new("n1").unwrap() };
        let all = [probe(1, "ping"), probe(1, "rdp"), probe(1, "http"), probe(2, "rdp"), probe(2, "guest-agent")];
        let more = [probe(3, "dns"), probe(3, "ssh"), probe(4, "vnc"), probe(1, "dns")];
        let left = lightened(all.into_iter().chain(more).chain([relay.clone()]).collect());
        assert_eq!(left, BTreeSet::from([probe(1, "ping"), probe(2, "rdp"), probe(3, "dns"), relay]));
    }
}
