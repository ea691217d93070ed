//! One VM, state by state and base by base.

use super::*;
use vouch_types::{BootId, LogIndex, WallTime};

fn recorded(state: VmState) -> Verdict {
    Verdict { state, ..Verdict::unjudged(WallTime::default()) }
}

fn inputs(recorded: &Verdict, base: Base) -> VmInputs<'_> {
    VmInputs {
        recorded,
        generation: Generation::new(1),
        base,
        checks: Vec::new(),
        service_link_down: false,
        may_judge_silence: true,
        is_young: false,
        progress: Progress::Unknown,
        operation: None,
        booting: Booting::No,
        settling: false,
        maintenance: "",
        required: None,
        hypervisor_silent: false,
        service_cut: None,
        silent_with: None,
        storage: Storage::Own,
        datastore: Some("ssd"),
        fence: None,
        rival: None,
        executes_elsewhere: false,
        hung_for: None,
        hung_confirmed_after: Duration::from_secs(3),
    }
}

fn judge(state: VmState, base: Base) -> VmJudgement {
    judge_vm(&inputs(&recorded(state), base))
}

const ALL_STATES: [VmState; 10] = [
    VmState::Up,
    VmState::Degraded,
    VmState::Paused,
    VmState::Hung,
    VmState::Rebooting,
    VmState::Stopped,
    VmState::Down,
    VmState::Lost,
    VmState::Conflict,
    VmState::Unknown,
];

const RUNNING: Base = Base::Direct(HypervisorState::Running);

#[test]
fn silence_never_makes_a_vm_down() {
    for state in ALL_STATES.into_iter().filter(|s| *s != VmState::Down) {
        for life in
            [Life::Seen(WatcherId::new(1)), Life::NodeLives(WatcherId::new(1)), Life::Silent, Life::SilentForLong]
        {
            assert_ne!(judge(state, Base::None(life)).state, VmState::Down, "{state} {life:?}");
        }
    }
}

#[test]
fn only_up_degraded_and_hung_are_ever_lost() {
    for state in ALL_STATES {
        let lost = judge(state, Base::None(Life::SilentForLong)).state == VmState::Lost;
        let may = matches!(state, VmState::Up | VmState::Degraded | VmState::Hung | VmState::Lost);
        assert_eq!(lost, may, "{state}");
    }
}

#[test]
fn a_statement_that_the_process_died_is_proof() {
    let j = judge(VmState::Up, Base::Stated(HypervisorState::Gone(ExitReason::Process), WatcherId::new(1)));
    assert_eq!(j.state, VmState::Down);
    assert_eq!(j.faults[0].top(), &Cause::VmProcess);
    assert_eq!(j.advice, Advice::Restart { generation: Generation::new(1) });
    assert_eq!(j.reason, "its node states through w1 that its process died");
}

#[test]
fn a_monitor_that_does_not_answer_keeps_the_state() {
    let j = judge(VmState::Up, Base::Direct(HypervisorState::Unknown));
    assert_eq!(j.state, VmState::Up);
    assert_eq!(j.faults[0].top(), &Cause::NodeVmPath);
    let up = recorded(VmState::Up);
    let service = VmInputs { hypervisor_silent: true, ..inputs(&up, Base::Direct(HypervisorState::Unknown)) };
    assert_eq!(judge_vm(&service).faults, [], "the service's silence is its node's fault");
}

#[test]
fn a_lost_vm_that_is_seen_is_up_again() {
    assert_eq!(judge(VmState::Lost, Base::None(Life::Seen(WatcherId::new(2)))).state, VmState::Up);
    assert_eq!(judge(VmState::Lost, Base::None(Life::Silent)).state, VmState::Lost);
}

#[test]
fn a_fence_proof_makes_it_down_and_safe_and_an_answer_takes_the_safety_away() {
    let proof = FenceProof {
        kind: FenceKind::PowerOff,
        boot: BootId::new(uuid::Uuid::nil()),
        note: String::new(),
        index: LogIndex::new(7),
        at: WallTime::default(),
    };
    let lost = recorded(VmState::Lost);
    let with = |life| judge_vm(&VmInputs { fence: Some(&proof), ..inputs(&lost, Base::None(life)) });
    let silent = with(Life::SilentForLong);
    assert_eq!(silent.state, VmState::Down);
    assert!(matches!(silent.advice, Advice::SafeToRestart { index, .. } if index == LogIndex::new(7)));
    let seen = with(Life::Seen(WatcherId::new(1)));
    assert_eq!((seen.state, seen.advice), (VmState::Down, Advice::Blocked));
    let silent_here = inputs(&lost, Base::None(Life::SilentForLong));
    let elsewhere = judge_vm(&VmInputs { fence: Some(&proof), executes_elsewhere: true, ..silent_here });
    assert_eq!(elsewhere.advice, Advice::Blocked, "nothing is safe while another node may execute it");
    let stopped = recorded(VmState::Stopped);
    let kept = judge_vm(&VmInputs { fence: Some(&proof), ..inputs(&stopped, Base::None(Life::SilentForLong)) });
    assert_eq!(kept.state, VmState::Stopped, "what was stopped on purpose is not to be started");
}

#[test]
fn a_vm_that_executes_on_two_nodes_is_a_conflict_and_nothing_may_be_done() {
    let (up, rival) = (recorded(VmState::Up), NodeId::new("n2").expect("a name"));
    let j = judge_vm(&VmInputs { rival: Some(&rival), ..inputs(&up, RUNNING) });
    assert_eq!((j.state, j.advice), (VmState::Conflict, Advice::Blocked));
}

#[test]
fn operations_and_maintenance_suppress_and_say_why() {
    let up = recorded(VmState::Up);
    let moving = judge_vm(&VmInputs { operation: Some(Operation::Migration), ..inputs(&up, RUNNING) });
    assert_eq!((moving.state, moving.suppressed.as_str()), (VmState::Up, "migration"));
    let gone = Base::Direct(HypervisorState::Gone(ExitReason::Process));
    let work = judge_vm(&VmInputs { maintenance: "maintenance x1: new disks", ..inputs(&up, gone) });
    assert_eq!((work.state, work.advice, work.faults.len()), (VmState::Down, Advice::None, 0));
    assert_eq!(work.suppressed, "maintenance x1: new disks");
    assert_eq!(work.notes.len(), 1, "what is known is still shown");
    let blocked = judge_vm(&VmInputs { operation: Some(Operation::Snapshot), ..inputs(&up, gone) });
    assert_eq!(blocked.advice, Advice::Blocked);
}

#[test]
fn an_end_right_after_a_migration_waits_for_the_new_owner() {
    let up = recorded(VmState::Up);
    let gone = Base::Direct(HypervisorState::Gone(ExitReason::Process));
    let j = judge_vm(&VmInputs { settling: true, ..inputs(&up, gone) });
    assert!(j.state == VmState::Up && j.suspicious, "{j:?}");
}

#[test]
fn a_guest_that_reboots_is_not_judged_before_its_budget_is_over() {
    let up = recorded(VmState::Up);
    let with = |booting| judge_vm(&VmInputs { booting, ..inputs(&up, RUNNING) }).state;
    assert_eq!(with(Booting::Rebooting), VmState::Rebooting);
    assert_eq!(with(Booting::Starting), VmState::Up);
    assert_eq!(with(Booting::Overdue), VmState::Up, "nothing was ever proven of it");
}

#[test]
fn a_store_that_others_miss_as_well_asks_for_fencing_and_one_vm_alone_does_not() {
    let up = recorded(VmState::Up);
    let paused = Base::Direct(HypervisorState::Paused(PauseReason::IoError));
    assert_eq!(judge_vm(&inputs(&up, paused)).advice, Advice::None);
    let shared = judge_vm(&VmInputs { storage: Storage::Shared, ..inputs(&up, paused) });
    assert_eq!(shared.advice, Advice::FenceFirst { generation: Generation::new(1) });
    assert_eq!(shared.shared, Some(IncidentScope::Datastore("ssd".to_owned())));
}

#[test]
fn users_that_are_cut_off_degrade_a_vm_that_its_node_sees_well() {
    let up = recorded(VmState::Up);
    let network = vouch_types::Network::Service;
    let cut = (IncidentScope::Network(network), Fault::sure(Cause::Network(network)));
    let j = judge_vm(&VmInputs { service_cut: Some(cut.clone()), ..inputs(&up, RUNNING) });
    assert_eq!((j.state, j.shared, j.faults), (VmState::Degraded, Some(cut.0), vec![cut.1]));
}
