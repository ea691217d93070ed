//! What probes say together, case by case.

use super::*;

fn node(watcher: u64) -> &'static NodeId {
    static NODES: std::sync::OnceLock<Vec<NodeId>> = std::sync::OnceLock::new();
    let nodes = NODES.get_or_init(|| (1..=3).map(|n| NodeId::new(&format!("n{n}")).expect("a name")).collect());
    &nodes[usize::try_from(watcher).expect("a small number") - 1]
}

fn probe(name: &str) -> ProbeName {
    ProbeName::new(name).expect("a valid name")
}

/// The VM is on `n1`, so that watcher 1 is the one on its node.
fn check<'a>(watcher: u64, probe: &'a ProbeName, outcome: Outcome, reason: &'a str, failures: u32) -> Check<'a> {
    Check {
        watcher: WatcherId::new(watcher),
        from: node(watcher),
        local: watcher == 1,
        network: Network::Service,
        probe,
        outcome,
        reason,
        failures,
        needed: 8,
        silent_for: Duration::from_secs(u64::from(failures)),
        proven: true,
        healthy: true,
    }
}

fn inputs<'a>(checks: &'a [Check<'a>]) -> GuestInputs<'a> {
    GuestInputs {
        checks,
        service_link_down: false,
        progress: Progress::Unknown,
        monitor_silent: false,
        boot_overdue: false,
        required: None,
        may_judge_silence: true,
        told: &[],
    }
}

fn judge(checks: &[Check<'_>]) -> GuestJudgement {
    judge_guest(&inputs(checks))
}

fn told(j: &GuestJudgement) -> Vec<String> {
    j.faults.iter().map(ToString::to_string).collect()
}

fn silent<'a>(probe: &'a ProbeName) -> [Check<'a>; 2] {
    [check(1, probe, Outcome::Down, "timeout", 8), check(2, probe, Outcome::Down, "timeout", 8)]
}

#[test]
fn a_service_that_both_observers_find_closed_is_named() {
    let rdp = probe("rdp");
    let checks = [check(1, &rdp, Outcome::Down, "closed", 1), check(2, &rdp, Outcome::Down, "closed", 1)];
    assert_eq!(told(&judge(&checks)), ["service(rdp) closed"]);
}

#[test]
fn a_service_that_no_policy_requires_is_a_note() {
    let (rdp, web) = (probe("rdp"), [probe("web")]);
    let checks = [check(1, &rdp, Outcome::Down, "closed", 1), check(2, &rdp, Outcome::Down, "closed", 1)];
    let j = judge_guest(&GuestInputs { required: Some(&web), ..inputs(&checks) });
    assert_eq!((j.state, j.faults.len(), j.notes.len()), (GuestState::Well, 0, 1));
}

#[test]
fn a_service_that_one_observer_sees_is_up() {
    let rdp = probe("rdp");
    let checks = [check(1, &rdp, Outcome::Up, "", 0), check(2, &rdp, Outcome::Down, "timeout", 99)];
    assert_eq!(judge(&checks), GuestJudgement::default());
}

#[test]
fn a_service_that_fails_otherwise_for_each_observer_is_as_it_was_told_until_one_sees_it_work() {
    let (rdp, ping) = (probe("rdp"), probe("ping"));
    let told = [Fault::sure(Cause::Service("rdp".to_owned())).with_detail("wedged")];
    let pinged = check(1, &ping, Outcome::Up, "", 0);
    // It is being started again: one connected before its end, the other after it.
    for (first, second) in [("wedged", "broken"), ("closed", "wedged"), ("broken", "closed"), ("closed", "timeout")] {
        let checks =
            [check(1, &rdp, Outcome::Down, first, 4), check(2, &rdp, Outcome::Down, second, 1), pinged.clone()];
        let still = judge_guest(&GuestInputs { told: &told, ..inputs(&checks) });
        assert_eq!((still.state, &still.faults[..]), (GuestState::Degraded, &told[..]), "{first} and {second}");
        assert!(still.suspicious);
        let begun = judge(&checks);
        assert!(begun.faults.is_empty() && begun.suspicious, "nothing is told of it before both agree: {begun:?}");
        let checks = [check(1, &rdp, Outcome::Up, "", 0), check(2, &rdp, Outcome::Down, second, 1), pinged.clone()];
        assert_eq!(judge_guest(&GuestInputs { told: &told, ..inputs(&checks) }), GuestJudgement::default());
    }
    let agreed = [check(1, &rdp, Outcome::Down, "closed", 1), check(2, &rdp, Outcome::Down, "closed", 1)];
    let j = judge_guest(&GuestInputs { told: &told, ..inputs(&agreed) });
    assert_eq!(j.faults[0].to_string(), "service(rdp) closed", "what both see now is told");
    let other = [Fault::sure(Cause::Service("http".to_owned())).with_detail("closed")];
    let mixed = [check(1, &rdp, Outcome::Down, "closed", 1), check(2, &rdp, Outcome::Down, "wedged", 1)];
    assert!(judge_guest(&GuestInputs { told: &other, ..inputs(&mixed) }).faults.is_empty(), "another service");
}

#[test]
fn one_observer_alone_is_not_believed_about_silence() {
    let rdp = probe("rdp");
    let checks = [check(2, &rdp, Outcome::Down, "timeout", 99)];
    let j = judge(&checks);
    assert!(j.faults.is_empty() && j.suspicious, "{j:?}");
}

#[test]
fn two_observers_on_one_node_are_one_path() {
    let rdp = probe("rdp");
    let checks = [1, 3].map(|w| Check { from: node(1), ..check(w, &rdp, Outcome::Down, "wedged", 99) });
    let j = judge(&checks);
    assert!(j.faults.is_empty() && j.suspicious, "{j:?}");
}

#[test]
fn silence_takes_as_many_failures_as_the_loss_of_each_path_asks_for() {
    let rdp = probe("rdp");
    let [local, remote] = silent(&rdp);
    let lossy = Check { needed: 42, ..remote };
    let j = judge(&[local.clone(), lossy.clone()]);
    assert!(j.faults.is_empty() && j.suspicious, "{j:?}");
    assert_eq!(judge(&[local, Check { failures: 42, ..lossy }]).state, GuestState::Degraded);
}

#[test]
fn a_probe_that_never_worked_does_not_count() {
    let rdp = probe("rdp");
    let checks = [1, 2].map(|w| Check { proven: false, ..check(w, &rdp, Outcome::Down, "closed", 99) });
    assert_eq!(judge(&checks), GuestJudgement::default());
}

#[test]
fn a_wedged_service_needs_both_observers() {
    let rdp = probe("rdp");
    let one = [check(1, &rdp, Outcome::Down, "wedged", 9)];
    assert!(judge(&one).faults.is_empty());
    let both = [check(1, &rdp, Outcome::Down, "wedged", 1), check(2, &rdp, Outcome::Down, "wedged", 1)];
    assert_eq!(told(&judge(&both)), ["service(rdp) wedged"]);
}

#[test]
fn another_machine_behind_the_address_is_a_fault_of_the_service() {
    let rdp = probe("rdp");
    let both = [check(1, &rdp, Outcome::Down, "identity", 1), check(2, &rdp, Outcome::Down, "identity", 1)];
    assert_eq!(told(&judge(&both)), ["service(rdp) identity"]);
}

#[test]
fn silence_of_ping_alone_is_a_note() {
    let (rdp, ping) = (probe("rdp"), probe("ping"));
    let [one, two] = silent(&ping);
    let j = judge_guest(&GuestInputs { progress: Progress::Still, ..inputs(&[one.clone(), two.clone()]) });
    assert!(j.faults.is_empty(), "a firewall and an idle guest look like this: {j:?}");
    assert_eq!(j.notes.len(), 1);
    let with_rdp = [one, two, check(1, &rdp, Outcome::Up, "", 0)];
    assert_eq!(judge(&with_rdp), GuestJudgement::default());
}

#[test]
fn silence_of_the_agent_alone_is_a_note() {
    let (rdp, agent) = (probe("rdp"), probe("guest-agent"));
    let checks = [check(1, &rdp, Outcome::Up, "", 0), check(1, &agent, Outcome::Down, "timeout", 3)];
    let j = judge_guest(&GuestInputs { progress: Progress::Still, ..inputs(&checks) });
    assert!(j.faults.is_empty());
    assert_eq!(j.notes[0].to_string(), "guest_agent silent");
}

#[test]
fn a_guest_silent_on_all_its_service_network_has_both_causes() {
    let (rdp, ping) = (probe("rdp"), probe("ping"));
    let checks: Vec<_> = silent(&ping).into_iter().chain(silent(&rdp)).collect();
    let j = judge(&checks);
    let causes: Vec<_> = j.faults[0].causes.iter().map(|c| c.cause.to_string()).collect();
    assert_eq!((j.state, causes), (GuestState::Degraded, vec!["guest_os".to_owned(), "vm_nic".to_owned()]));
    let early = judge_guest(&GuestInputs { may_judge_silence: false, ..inputs(&checks) });
    assert!(early.faults.is_empty(), "not before this manager has listened itself");
}

#[test]
fn a_silent_guest_that_gets_on_has_a_broken_card_and_one_that_does_not_hangs() {
    let (rdp, agent) = (probe("rdp"), probe("guest-agent"));
    let [one, two] = silent(&rdp);
    let with = |progress, agents: &[Check<'_>]| {
        let checks: Vec<_> = [one.clone(), two.clone()].into_iter().chain(agents.iter().cloned()).collect();
        let j = judge_guest(&GuestInputs { progress, ..inputs(&checks) });
        (j.state, j.faults[0].top().to_string())
    };
    assert_eq!(with(Progress::Working, &[]), (GuestState::Degraded, "vm_nic".to_owned()));
    for stuck in [Progress::Still, Progress::Spinning] {
        assert_eq!(with(stuck, &[]), (GuestState::Hung, "guest_os".to_owned()));
        let dead = [check(1, &agent, Outcome::Down, "timeout", 3)];
        assert_eq!(with(stuck, &dead), (GuestState::Hung, "guest_os".to_owned()));
        let alive = [check(1, &agent, Outcome::Up, "", 0)];
        assert_eq!(with(stuck, &alive), (GuestState::Degraded, "vm_nic".to_owned()), "its agent answers");
    }
}

#[test]
fn a_guest_is_not_called_hung_without_the_watcher_on_its_node() {
    let rdp = probe("rdp");
    let checks = [2, 3].map(|w| check(w, &rdp, Outcome::Down, "timeout", 9));
    let j = judge_guest(&GuestInputs { progress: Progress::Still, ..inputs(&checks) });
    assert_eq!(j.state, GuestState::Degraded);
}

#[test]
fn the_counters_get_time_before_a_silent_guest_is_called_degraded() {
    let rdp = probe("rdp");
    let checks = silent(&rdp).map(|c| Check { silent_for: Duration::from_secs(3), ..c });
    let j = judge_guest(&GuestInputs { progress: Progress::Working, ..inputs(&checks) });
    assert!(j.faults.is_empty() && j.suspicious, "{j:?}");
}

#[test]
fn a_silent_monitor_of_a_silent_guest_is_its_process() {
    let rdp = probe("rdp");
    let checks = silent(&rdp);
    let j = judge_guest(&GuestInputs { monitor_silent: true, ..inputs(&checks) });
    assert_eq!((j.state, j.faults[0].top()), (GuestState::Hung, &Cause::VmProcess));
}

#[test]
fn a_boot_that_is_overdue_hangs_whatever_its_counters_say() {
    let rdp = probe("rdp");
    let checks = silent(&rdp);
    let late = GuestInputs { boot_overdue: true, progress: Progress::Working, ..inputs(&checks) };
    assert_eq!(judge_guest(&late).state, GuestState::Hung);
}

#[test]
fn a_port_without_link_is_the_network_card() {
    let rdp = probe("rdp");
    let checks = [1, 2].map(|w| check(w, &rdp, Outcome::Down, "timeout", 99));
    let j = judge_guest(&GuestInputs { service_link_down: true, progress: Progress::Still, ..inputs(&checks) });
    assert_eq!(told(&j), ["vm_nic no link"]);
}
