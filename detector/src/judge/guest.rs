//! Judges what probes say of a guest that executes: guest evidence only ever lowers `up`.
//!
//! Two disjoint paths before a bad word: the watcher on the VM's node looks over the local bridge, the other one over
//! the network. A refusal or a wedged service is positive evidence (the guest answered, wrongly); silence is not, and
//! has to last.

use std::collections::BTreeMap;

use vouch_types::{Cause, Fault, Network, NodeId, Outcome, ProbeName, RankedCause, WatcherId};

/// Failures in a row before silence is believed, at a loss of at most 1 % each way: ceil(ln 1e-12 / ln p) is 8 at
/// p = 0.02, and 6 is the floor where reference paths lose nothing.
pub(crate) const SILENCE_FAILURES: u32 = 8;
/// Refusals in a row that a single observer is believed about, where there is no second one: a refusal is an answer of
/// the guest itself, whatever path it came by.
const LONE_REFUSALS: u32 = 3;
/// Failures of the guest agent in a row before it is noted.
const AGENT_FAILURES: u32 = 3;

/// One observer's standing word with one probe, fresh enough to count.
#[derive(Clone, Debug)]
pub(crate) struct Check<'a> {
    pub watcher: WatcherId,
    /// The node that the observer runs on: two on one node share their path.
    pub from: &'a NodeId,
    pub network: Network,
    pub probe: &'a ProbeName,
    pub outcome: Outcome,
    pub reason: &'a str,
    /// Failures in a row.
    pub failures: u32,
    /// The probe has succeeded for this VM before.
    pub proven: bool,
    /// The observer is healthy on that network.
    pub healthy: bool,
}

/// What the probes say together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct GuestJudgement {
    /// What lowers the state.
    pub faults: Vec<Fault>,
    /// What does not.
    pub notes: Vec<Fault>,
    /// Why, for people.
    pub reason: String,
    /// A failure is under way that is not confirmed yet: look again soon.
    pub suspicious: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Ping,
    Agent,
    Service,
}

fn class(probe: &ProbeName) -> Class {
    match probe.as_str() {
        "ping" => Class::Ping,
        "guest-agent" => Class::Agent,
        _ => Class::Service,
    }
}

/// What the observers of one probe say together.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Standing {
    /// At least one of them sees it work.
    Alive,
    /// It answers, and says itself that it is not well.
    Unwell(String),
    /// All see it fail, not yet often enough.
    Failing,
    /// It refuses, or accepts and is silent, as all see.
    Broken(String),
    /// It has been silent for all, for long enough.
    Silent,
}

fn standing(checks: &[&Check<'_>]) -> Standing {
    if checks.iter().any(|c| c.outcome == Outcome::Up) {
        return Standing::Alive;
    }
    let two = checks.iter().any(|c| c.from != checks[0].from);
    if let Some(c) = checks.iter().find(|c| c.outcome == Outcome::Degraded) {
        return if two { Standing::Unwell(c.reason.to_owned()) } else { Standing::Failing };
    }
    let all = |reason: &str| checks.iter().all(|c| c.reason == reason);
    if all("closed") && (two || checks[0].failures >= LONE_REFUSALS) {
        return Standing::Broken("closed".to_owned());
    }
    if two && (all("wedged") || all("broken")) {
        return Standing::Broken(checks[0].reason.to_owned());
    }
    if two && checks.iter().all(|c| c.failures >= SILENCE_FAILURES) {
        return Standing::Silent;
    }
    Standing::Failing
}

/// Returns what the checks say of a guest that executes. `may_judge_silence` is false while this manager has not
/// listened for long enough itself.
pub(crate) fn judge_guest(checks: &[Check<'_>], service_link_down: bool, may_judge_silence: bool) -> GuestJudgement {
    let mut groups: BTreeMap<(Network, &ProbeName), Vec<&Check<'_>>> = BTreeMap::new();
    for check in checks {
        // Only what has worked before counts against the VM; only healthy observers are believed about failures.
        if check.proven && check.outcome != Outcome::Unknown && (check.healthy || check.outcome == Outcome::Up) {
            groups.entry((check.network, check.probe)).or_default().push(check);
        }
    }
    let mut out = GuestJudgement::default();
    if service_link_down {
        out.faults.push(Fault::sure(Cause::VmNic).with_detail("no link"));
        out.reason = "its port on the service network has no link".to_owned();
    }
    let mut alive_on_service = false;
    let mut silent = Vec::new();
    let mut broken = Vec::new();
    for ((network, probe), group) in &groups {
        let class = class(probe);
        match standing(group) {
            Standing::Alive => alive_on_service |= class != Class::Agent && *network == Network::Service,
            Standing::Unwell(reason) if class == Class::Service => {
                alive_on_service |= *network == Network::Service;
                broken.push((*probe, reason));
            }
            Standing::Unwell(_) => {}
            Standing::Failing => {
                let enough = group.iter().all(|c| c.failures >= AGENT_FAILURES);
                if class == Class::Agent && enough {
                    out.notes.push(Fault::sure(Cause::GuestAgent).with_detail("silent"));
                }
                out.suspicious |= class == Class::Service;
            }
            Standing::Broken(reason) => match class {
                Class::Service => {
                    alive_on_service |= *network == Network::Service;
                    broken.push((*probe, reason));
                }
                Class::Agent => out.notes.push(Fault::sure(Cause::GuestAgent).with_detail(&reason)),
                Class::Ping => {}
            },
            Standing::Silent if !may_judge_silence => out.suspicious = true,
            Standing::Silent => match class {
                Class::Agent => out.notes.push(Fault::sure(Cause::GuestAgent).with_detail("silent")),
                Class::Ping | Class::Service => silent.push((*network, *probe, class)),
            },
        }
    }
    let nic_or_guest = |detail| {
        let causes = [Cause::VmNic, Cause::GuestOs].into_iter().map(|cause| RankedCause { cause, score: 50 });
        Fault::ranked(causes.collect()).with_detail(detail)
    };
    let services: Vec<_> = silent.iter().filter(|(_, _, class)| *class == Class::Service).collect();
    if !service_link_down {
        if alive_on_service {
            for (_, probe, _) in &services {
                out.faults.push(Fault::sure(Cause::Service(probe.to_string())).with_detail("silent"));
            }
        } else if !services.is_empty() {
            out.faults.push(nic_or_guest("silent"));
            out.reason = "it executes, and nothing of it answers on the service network, from its node or from \
                          another"
                .to_owned();
        } else if silent.iter().any(|(_, _, class)| *class == Class::Ping) && broken.is_empty() {
            out.notes.push(nic_or_guest("ping silent"));
        }
    }
    for (probe, reason) in broken {
        if out.reason.is_empty() {
            out.reason = format!("its {probe} service is {reason}");
        }
        out.faults.push(Fault::sure(Cause::Service(probe.to_string())).with_detail(&reason));
    }
    if out.reason.is_empty()
        && let Some(fault) = out.faults.first()
    {
        out.reason = format!("{fault}, while other probes see it");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(watcher: u64) -> &'static NodeId {
        static NODES: std::sync::OnceLock<Vec<NodeId>> = std::sync::OnceLock::new();
        let nodes = NODES.get_or_init(|| (1..=3).map(|n| NodeId::new(&format!("n{n}")).expect("a name")).collect());
        &nodes[usize::try_from(watcher).expect("a small number") - 1]
    }

    fn probe(name: &str) -> ProbeName {
        ProbeName::new(name).expect("a valid name")
    }

    fn check<'a>(watcher: u64, probe: &'a ProbeName, outcome: Outcome, reason: &'a str, failures: u32) -> Check<'a> {
        Check {
            watcher: WatcherId::new(watcher),
            from: node(watcher),
            network: Network::Service,
            probe,
            outcome,
            reason,
            failures,
            proven: true,
            healthy: true,
        }
    }

    fn told(j: &GuestJudgement) -> Vec<String> {
        j.faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_that_both_observers_find_closed_is_named() {
        let rdp = probe("rdp");
        let checks = [check(1, &rdp, Outcome::Down, "closed", 1), check(2, &rdp, Outcome::Down, "closed", 1)];
        assert_eq!(told(&judge_guest(&checks, false, true)), ["service(rdp) closed"]);
    }

    #[test]
    fn a_service_that_one_observer_sees_is_up() {
        let rdp = probe("rdp");
        let checks = [check(1, &rdp, Outcome::Up, "", 0), check(2, &rdp, Outcome::Down, "timeout", 99)];
        assert_eq!(judge_guest(&checks, false, true), GuestJudgement::default());
    }

    #[test]
    fn one_observer_alone_is_not_believed_about_silence() {
        let rdp = probe("rdp");
        let checks = [check(2, &rdp, Outcome::Down, "timeout", 99)];
        let j = judge_guest(&checks, false, true);
        assert!(j.faults.is_empty() && j.suspicious, "{j:?}");
    }

    #[test]
    fn two_observers_on_one_node_are_one_path() {
        let rdp = probe("rdp");
        let checks = [1, 3].map(|w| Check { from: node(1), ..check(w, &rdp, Outcome::Down, "wedged", 99) });
        let j = judge_guest(&checks, false, true);
        assert!(j.faults.is_empty() && j.suspicious, "{j:?}");
    }

    #[test]
    fn a_probe_that_never_worked_does_not_count() {
        let rdp = probe("rdp");
        let checks = [1, 2].map(|w| Check { proven: false, ..check(w, &rdp, Outcome::Down, "closed", 99) });
        assert_eq!(judge_guest(&checks, false, true), GuestJudgement::default());
    }

    #[test]
    fn a_wedged_service_needs_both_observers() {
        let rdp = probe("rdp");
        let one = [check(1, &rdp, Outcome::Down, "wedged", 9)];
        assert!(judge_guest(&one, false, true).faults.is_empty());
        let both = [check(1, &rdp, Outcome::Down, "wedged", 1), check(2, &rdp, Outcome::Down, "wedged", 1)];
        assert_eq!(told(&judge_guest(&both, false, true)), ["service(rdp) wedged"]);
    }

    #[test]
    fn silence_of_ping_alone_is_a_note() {
        let (rdp, ping) = (probe("rdp"), probe("ping"));
        let checks = [check(1, &ping, Outcome::Down, "timeout", 99), check(2, &ping, Outcome::Down, "timeout", 99)];
        let j = judge_guest(&checks, false, true);
        assert!(j.faults.is_empty());
        assert_eq!(j.notes.len(), 1);
        let with_rdp = [checks[0].clone(), checks[1].clone(), check(1, &rdp, Outcome::Up, "", 0)];
        assert_eq!(judge_guest(&with_rdp, false, true), GuestJudgement::default());
    }

    #[test]
    fn silence_of_the_agent_alone_is_a_note() {
        let (rdp, agent) = (probe("rdp"), probe("guest-agent"));
        let checks = [check(1, &rdp, Outcome::Up, "", 0), check(1, &agent, Outcome::Down, "timeout", 3)];
        let j = judge_guest(&checks, false, true);
        assert!(j.faults.is_empty());
        assert_eq!(j.notes[0].to_string(), "guest_agent silent");
    }

    #[test]
    fn a_guest_silent_on_all_its_service_network_has_both_causes() {
        let (rdp, ping) = (probe("rdp"), probe("ping"));
        let checks = [
            check(1, &ping, Outcome::Down, "timeout", 99),
            check(2, &ping, Outcome::Down, "timeout", 99),
            check(1, &rdp, Outcome::Down, "timeout", SILENCE_FAILURES),
            check(2, &rdp, Outcome::Down, "unreachable", SILENCE_FAILURES),
        ];
        let j = judge_guest(&checks, false, true);
        let causes: Vec<_> = j.faults[0].causes.iter().map(|c| c.cause.to_string()).collect();
        assert_eq!(causes, ["guest_os", "vm_nic"]);
        assert!(judge_guest(&checks, false, false).faults.is_empty(), "not before this manager has listened itself");
    }

    #[test]
    fn a_port_without_link_is_the_network_card() {
        let rdp = probe("rdp");
        let checks = [1, 2].map(|w| check(w, &rdp, Outcome::Down, "timeout", 99));
        assert_eq!(told(&judge_guest(&checks, true, true)), ["vm_nic no link"]);
    }
}
