//! How much is lost on the way to targets that live, per network: so that silence under loss is not taken for death.
//!
//! A dead target must not look like loss. So a run that nobody answered counts as lost only once the same check is
//! answered again, and a long silence does not count at all: that was an outage. One target that restarts is one voice
//! among many: the network's loss is the median over targets, weighted by their runs.
//!
//! What is counted are round trips: a request and its answer. Only runs whose outcome tells whether one came about are:
//! an answer or a refusal is an arrival, a timeout is none, everything else says nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vouch_types::{Moment, Network, NodeId, Outcome, RelayOutcome, VmId};

use super::{Check, CheckNumber, Ended};

/// How many of a target's last runs count.
pub const RUNS_COUNTED: usize = 64;
/// How long a run counts: short, so that a loss that has just begun is told soon; longer than runs that nobody has
/// answered yet, which are not counted, would weigh.
pub const COUNTED_FOR: Duration = Duration::from_secs(15);
/// How many runs in a row may be unanswered to count as loss; more are an outage. At a loss of 51 % of all round trips
/// that many in a row come once in 50,000.
pub const SILENT_MAX: usize = 16;
/// The loss is told once this many targets have been counted ...
pub const TARGETS_MIN: usize = 2;
/// ... or this many runs.
pub const RUNS_MIN: usize = 20;

/// Who answers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Target {
    Vm(VmId),
    Node(NodeId),
}

/// The round trips of one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Trips {
    tried: u8,
    lost: u8,
}

/// What a run says of its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Something came back.
    Answered(Trips),
    /// Nothing came back: lost, or the target is dead.
    Silent(Trips),
    /// Neither can be told.
    Untold,
}

/// A ping's run is two round trips by default, and its word says how many came back; any other is one.
fn way(check: &Check, ended: &Ended) -> Way {
    let one = |lost| Trips { tried: 1, lost };
    match (check, ended) {
        (Check::Probe { probe, .. }, Ended::Probe { outcome, reason, .. }) => {
            match (probe.as_str(), outcome, reason.as_str()) {
                // Its questions travel through the relay.
                ("guest-agent", ..) => Way::Untold,
                // It sends its question again by itself, and its word does not say how often.
                ("dns", ..) => Way::Untold,
                ("ping", Outcome::Up | Outcome::Degraded, "lossy") => Way::Answered(Trips { tried: 2, lost: 1 }),
                ("ping", Outcome::Up | Outcome::Degraded, _) => Way::Answered(Trips { tried: 2, lost: 0 }),
                ("ping", Outcome::Down, "timeout") => Way::Silent(Trips { tried: 2, lost: 2 }),
                (_, Outcome::Up | Outcome::Degraded, _) | (_, Outcome::Down, "closed" | "refused") => {
                    Way::Answered(one(0))
                }
                (_, Outcome::Down, "timeout") => Way::Silent(one(1)),
                (_, Outcome::Down | Outcome::Unknown, _) => Way::Untold,
            }
        }
        (_, Ended::Relay { outcome, .. }) => match outcome {
            RelayOutcome::Reached | RelayOutcome::Refused | RelayOutcome::Denied => Way::Answered(one(0)),
            RelayOutcome::Silent => Way::Silent(one(1)),
            // Some of its packets came through and some did not.
            RelayOutcome::Stalled => Way::Untold,
        },
        (Check::Relay { .. }, Ended::Probe { .. }) => Way::Untold,
    }
}

fn target(check: &Check) -> (Network, Target) {
    match check {
        Check::Probe { vm, network, .. } => (*network, Target::Vm(*vm)),
        Check::Relay { node } => (Network::Management, Target::Node(node.clone())),
    }
}

/// The last runs of one target.
#[derive(Debug, Default)]
struct Window {
    runs: VecDeque<(Moment, Trips)>,
    tried: u32,
    lost: u32,
}

impl Window {
    fn push(&mut self, at: Moment, trips: Trips) {
        if self.runs.len() == RUNS_COUNTED {
            self.pop();
        }
        self.runs.push_back((at, trips));
        self.tried += u32::from(trips.tried);
        self.lost += u32::from(trips.lost);
    }

    fn pop(&mut self) {
        if let Some((_, trips)) = self.runs.pop_front() {
            self.tried -= u32::from(trips.tried);
            self.lost -= u32::from(trips.lost);
        }
    }

    fn forget_before(&mut self, floor: Moment) {
        while self.runs.front().is_some_and(|(at, _)| *at < floor) {
            self.pop();
        }
    }

    fn per_mille(&self) -> u16 {
        // At most 64 runs of few trips.
        u16::try_from(self.lost * 1000 / self.tried.max(1)).unwrap_or(1000)
    }
}

/// What is known of the way of one check.
#[derive(Debug)]
struct WayKnown {
    /// Runs that nobody has answered, until it is answered again.
    silent: Vec<(Moment, Trips)>,
    /// Where its target's window is.
    window: usize,
}

/// How much is lost on the way to living targets.
#[derive(Debug, Default)]
pub struct LossMeter {
    /// By the number of the check.
    ways: Vec<Option<WayKnown>>,
    windows: Vec<((Network, Target), Window)>,
}

impl LossMeter {
    /// A run that began at this moment has ended.
    pub fn ended(&mut self, begun: Moment, (number, check): (CheckNumber, &Check), ended: &Ended) {
        let way = way(check, ended);
        if way == Way::Untold {
            return;
        }
        let at = number.get();
        if self.ways.len() <= at {
            self.ways.resize_with(at + 1, || None);
        }
        let windows = &mut self.windows;
        let known = self.ways[at].get_or_insert_with(|| {
            let target = target(check);
            let window = windows.iter().position(|(known, _)| *known == target).unwrap_or_else(|| {
                windows.push((target, Window::default()));
                windows.len() - 1
            });
            WayKnown { silent: Vec::new(), window }
        });
        match way {
            Way::Untold => {}
            Way::Silent(trips) => {
                // One too many stays as the mark of an outage.
                if known.silent.len() <= SILENT_MAX {
                    known.silent.push((begun, trips));
                }
            }
            Way::Answered(trips) => {
                let window = &mut self.windows[known.window].1;
                if known.silent.len() <= SILENT_MAX {
                    known.silent.iter().for_each(|(at, trips)| window.push(*at, *trips));
                }
                known.silent.clear();
                window.push(begun, trips);
            }
        }
    }

    /// Gives every check its new number, and forgets those that get none.
    pub fn renumber(&mut self, number: impl Fn(CheckNumber) -> Option<CheckNumber>) {
        let mut windows: Vec<_> = std::mem::take(&mut self.windows).into_iter().map(Some).collect();
        let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, way) in std::mem::take(&mut self.ways).into_iter().enumerate() {
            let (Some(to), Some(mut way)) = (number(CheckNumber::at(at)).map(CheckNumber::get), way) else { continue };
            if let Some(window) = windows[way.window].take() {
                moved.insert(way.window, self.windows.len());
                self.windows.push(window);
            }
            way.window = moved[&way.window];
            if self.ways.len() <= to {
                self.ways.resize_with(to + 1, || None);
            }
            self.ways[to] = Some(way);
        }
    }

    /// Returns the share of round trips over a network that were lost lately, in per mille; 0 while too little is known.
    pub fn per_mille(&mut self, now: Moment, network: Network) -> u16 {
        let floor = now - COUNTED_FOR;
        let mut counted: Vec<(u16, usize)> = Vec::new();
        for (_, window) in self.windows.iter_mut().filter(|((on, _), _)| *on == network) {
            window.forget_before(floor);
            if !window.runs.is_empty() {
                counted.push((window.per_mille(), window.runs.len()));
            }
        }
        let runs: usize = counted.iter().map(|(_, runs)| runs).sum();
        if counted.len() < TARGETS_MIN && runs < RUNS_MIN {
            return 0;
        }
        counted.sort_unstable();
        // The lower median: of two targets that disagree, the one that loses less.
        let mut below = 0;
        let median = counted.iter().find(|(_, runs_of)| {
            below += runs_of;
            below * 2 >= runs
        });
        median.map_or(0, |(per_mille, _)| *per_mille)
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::ProbeName;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn check(number: u128, probe: &str) -> Check {
        let (vm, probe) = (VmId::new(uuid::Uuid::from_u128(number)), ProbeName::new(probe).unwrap());
        Check::Probe { vm, network: Network::Service, probe }
    }

    /// A meter that numbers its checks as they come.
    #[derive(Default)]
    struct Bench {
        meter: LossMeter,
        checks: Vec<Check>,
    }

    impl Bench {
        fn ended(&mut self, begun: Moment, check: &Check, ended: &Ended) {
            let at = self.checks.iter().position(|known| known == check).unwrap_or_else(|| {
                self.checks.push(check.clone());
                self.checks.len() - 1
            });
            self.meter.ended(begun, (CheckNumber::at(at), check), ended);
        }

        fn per_mille(&mut self, now: Moment, network: Network) -> u16 {
            self.meter.per_mille(now, network)
        }
    }

    fn up() -> Ended {
        Ended::probe(Outcome::Up, "replied", "")
    }

    fn silent() -> Ended {
        Ended::probe(Outcome::Down, "timeout", "")
    }

    /// Numbers from 0 to 999 that look random and are the same each time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % 1000
        }

        fn round_trip(&mut self, each_way_per_mille: u64) -> bool {
            let (there, back) = (self.roll(), self.roll());
            there >= each_way_per_mille && back >= each_way_per_mille
        }
    }

    #[test]
    fn thirty_per_cent_each_way_is_half_of_all_round_trips() {
        for probe in ["tcp", "ping"] {
            let (mut meter, mut dice, mut now) = (Bench::default(), Dice(5), Moment::ZERO + SECOND);
            for _ in 0..60 {
                now = now + SECOND;
                for vm in 1..=40 {
                    let answered = usize::from(dice.round_trip(300)) + usize::from(dice.round_trip(300));
                    let ended = match (probe, answered) {
                        ("ping", 0) => silent(),
                        ("ping", 1) => Ended::probe(Outcome::Up, "lossy", ""),
                        ("ping", _) => up(),
                        _ if dice.round_trip(300) => up(),
                        _ => silent(),
                    };
                    meter.ended(now, &check(vm, probe), &ended);
                }
            }
            let loss = meter.per_mille(now, Network::Service);
            assert!((460..=560).contains(&loss), "{probe}: {loss}");
            assert_eq!(meter.per_mille(now, Network::Management), 0);
        }
    }

    #[test]
    fn a_probe_that_sends_again_by_itself_tells_nothing_of_the_way() {
        for ended in [up(), silent()] {
            assert_eq!(way(&check(1, "dns"), &ended), Way::Untold);
        }
        assert_eq!(way(&check(1, "ssh"), &silent()), Way::Silent(Trips { tried: 1, lost: 1 }));
    }

    #[test]
    fn a_dead_target_and_one_whose_port_drops_everything_are_no_loss() {
        let (mut meter, mut now) = (Bench::default(), Moment::ZERO);
        for _ in 0..100 {
            now = now + SECOND;
            meter.ended(now, &check(1, "tcp"), &silent());
            meter.ended(now, &check(2, "ping"), &up());
            meter.ended(now, &check(2, "tcp"), &silent());
        }
        assert_eq!(meter.per_mille(now, Network::Service), 0);
        assert_eq!(
            meter.meter.ways[0].as_ref().unwrap().silent.len(),
            SILENT_MAX + 1,
            "no more is kept of a dead target"
        );
    }

    #[test]
    fn one_target_that_restarts_among_many_is_no_loss() {
        let (mut meter, mut now) = (Bench::default(), Moment::ZERO);
        for second in 0..40 {
            now = now + SECOND;
            for vm in 1..=10 {
                let ended = if vm == 1 && (20..30).contains(&second) { silent() } else { up() };
                meter.ended(now, &check(vm, "tcp"), &ended);
            }
        }
        assert_eq!(meter.per_mille(now, Network::Service), 0);
    }

    #[test]
    fn an_outage_of_all_targets_is_no_loss_once_they_answer_again() {
        let (mut meter, mut now) = (Bench::default(), Moment::ZERO);
        for second in 0..30 {
            now = now + SECOND;
            for vm in 1..=10 {
                let ended = if (5..25).contains(&second) { silent() } else { up() };
                meter.ended(now, &check(vm, "tcp"), &ended);
            }
        }
        assert_eq!(meter.per_mille(now, Network::Service), 0);
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let (mut meter, now) = (Bench::default(), Moment::ZERO + SECOND);
        for vm in 1..=2 {
            meter.ended(now, &check(vm, "tcp"), &silent());
            meter.ended(now, &check(vm, "tcp"), &Ended::probe(Outcome::Down, "closed", ""));
        }
        assert_eq!(meter.per_mille(now, Network::Service), 500);
    }

    #[test]
    fn too_few_runs_of_one_target_and_old_ones_say_nothing() {
        let (mut meter, mut now) = (Bench::default(), Moment::ZERO);
        let lossy = |meter: &mut Bench, now| {
            meter.ended(now, &check(1, "tcp"), &silent());
            meter.ended(now, &check(1, "tcp"), &up());
        };
        for _ in 0..RUNS_MIN / 2 - 1 {
            lossy(&mut meter, now);
        }
        assert_eq!(meter.per_mille(now, Network::Service), 0);
        lossy(&mut meter, now);
        assert_eq!(meter.per_mille(now, Network::Service), 500);
        now = now + COUNTED_FOR + Duration::from_micros(1);
        assert_eq!(meter.per_mille(now, Network::Service), 0);
        (0..RUNS_COUNTED).for_each(|_| lossy(&mut meter, now));
        assert_eq!(meter.meter.windows.iter().map(|(_, w)| w.runs.len()).sum::<usize>(), RUNS_COUNTED);
        meter.meter.renumber(|_| None);
        assert!(meter.meter.windows.is_empty() && meter.meter.ways.is_empty());
    }
}
