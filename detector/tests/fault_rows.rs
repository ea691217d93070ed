//! The rows of the fault table that one detector can show, each by its number, against a world with a truth.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use vouch_detector::ServiceWord;
use vouch_types::{FenceKind, FenceProof, HypervisorState, LogIndex, Progress, Source, VmState, WallTime};
use world::told::{recoveries, settled, states};
use world::{NodeTruth, Told, node, watcher};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn row_1_a_cut_path_between_agent_and_managers() {
    let mut w = settled();
    w.truth[0].paths = [false; 2];
    w.run(SECOND * 2);
    assert_eq!(w.path(0).source, Source::Watcher);
    assert_eq!(w.top_causes(0), ["manager_node_path"]);
    w.run(SECOND * 30);
    w.truth[0].paths = [true; 2];
    w.run(SECOND);
    assert_eq!(w.path(0).source, Source::Direct);
    w.run(SECOND * 10);
    assert_eq!(states(&w), [], "the state never changed");
    assert_eq!(recoveries(&w), 1);
    assert_eq!(w.told.len(), 2, "one event for the cut, one for the heal: {:?}", w.told);
}

#[test]
fn row_2_one_manager_that_cannot_hear_the_node() {
    let mut w = settled();
    w.truth[0].paths = [false, true];
    w.run(SECOND * 8);
    assert_eq!(w.path(0).source, Source::Direct);
    assert_eq!(w.notes(), ["m1 n1"]);
    assert_eq!(w.told, []);
    w.truth[0].paths = [true; 2];
    w.run(SECOND * 2);
    assert_eq!(w.notes(), [""; 0]);
}

#[test]
fn a_manager_that_died_is_not_called_deaf() {
    let mut w = settled();
    w.other_manager = false;
    for _ in 0..200 {
        w.run(Duration::from_millis(50));
        assert_eq!(w.notes(), [""; 0]);
    }
}

#[test]
fn row_3_a_killed_node_agent() {
    let mut w = settled();
    w.truth[0].agent = false;
    w.run(SECOND * 2);
    assert_eq!((w.state(0), w.path(0).source), (VmState::Up, Source::Watcher));
    assert_eq!(w.top_causes(0), ["node_agent"]);
    w.run(SECOND * 30);
    assert_eq!(states(&w), []);
}

#[test]
fn row_18_a_node_that_loses_power() {
    let mut w = settled();
    w.truth[0].power = false;
    w.run(SECOND * 5);
    assert_eq!(w.state(0), VmState::Lost);
    assert_eq!(w.top_causes(0), ["node"]);
    assert_eq!(w.state(1), VmState::Up);
    w.run(SECOND * 30);
    assert_eq!(states(&w), [VmState::Lost]);
}

#[test]
fn row_25_a_watcher_that_dies() {
    let mut w = settled();
    w.truth[1].watcher = false;
    w.run(SECOND * 3);
    assert!(matches!(w.told[..], [Told::WatcherLost { watcher: lost, .. }] if lost == watcher(1)), "{:?}", w.told);
}

#[test]
fn a_statement_from_before_the_last_report_proves_nothing() {
    let mut w = settled();
    w.truth[0].vm = false;
    w.run(SECOND * 2);
    assert_eq!(w.state(0), VmState::Down);
    w.truth[0].vm = true;
    w.run(SECOND * 2);
    assert_eq!(w.state(0), VmState::Up);
    w.truth[0].paths = [false; 2];
    w.replay_statements = true;
    w.run(SECOND * 10);
    assert_eq!(w.state(0), VmState::Up, "{:?}", w.told);
}

#[test]
fn a_watcher_that_runs_and_is_silent_is_given_time() {
    let mut w = settled();
    w.truth[1].watcher_heard = false;
    w.run(SECOND * 10);
    assert_eq!(w.told, [], "a slow watcher is not replaced: that would be more load on a host that has too much");
    w.run(SECOND * 8);
    assert!(matches!(w.told[..], [Told::WatcherLost { watcher: lost, .. }] if lost == watcher(1)), "{:?}", w.told);
}

#[test]
fn what_a_watcher_saw_before_it_was_lost_still_counts() {
    let mut w = settled();
    w.truth[1].agent = false;
    w.run(Duration::from_millis(50));
    w.truth[1].watcher = false;
    w.run(Duration::from_millis(2_500));
    w.truth[0].watcher = false;
    w.run(Duration::from_millis(1_950));
    assert!(!states(&w).contains(&VmState::Lost), "seen less than a window ago: {:?}", w.told);
}

#[test]
fn row_28_a_new_leader_during_a_cut_says_the_same() {
    let mut w = settled();
    w.truth[0].paths = [false; 2];
    w.run(SECOND * 4);
    let before = w.told.clone();
    w.change_leader();
    w.run(SECOND * 5);
    assert_eq!(w.told, before);
    w.truth[0].vm = false;
    w.run(SECOND * 2);
    assert_eq!(w.state(0), VmState::Down);
}

#[test]
fn a_new_leader_keeps_a_verdict_that_rests_on_a_statement() {
    let mut w = settled();
    w.truth[0].paths = [false; 2];
    w.run(SECOND * 4);
    w.truth[0].vm = false;
    w.run(SECOND * 2);
    let before = w.told.clone();
    w.change_leader();
    w.run(SECOND * 10);
    assert_eq!(w.told, before, "the word from before the cut must not make it up again");
}

#[test]
fn row_39_and_37_hand_back_follows_at_once_and_flapping_is_told_once() {
    let mut w = settled();
    for _ in 0..10 {
        w.truth[0].paths = [false; 2];
        w.run(SECOND * 4);
        w.truth[0].paths = [true; 2];
        w.run(SECOND);
        assert_eq!(w.path(0).source, Source::Direct, "within a second of the heal");
        w.run(SECOND * 2);
    }
    assert_eq!(recoveries(&w), 2, "{:?}", w.told);
    w.run(SECOND * 70);
    assert_eq!(recoveries(&w), 3, "one clear when it has been stable for a minute");
    assert_eq!(w.path(0).faults, []);
    assert_eq!(states(&w), []);
}

#[test]
fn row_41_a_dead_management_uplink() {
    let mut w = settled();
    w.truth[0].uplink = false;
    w.run(SECOND * 2 + Duration::from_millis(100));
    assert_eq!((w.state(0), w.path(0).source), (VmState::Up, Source::Watcher));
    assert_eq!(w.top_causes(0), ["node_uplink(management)"]);
    w.run(SECOND * 30);
    w.truth[0].uplink = true;
    w.run(SECOND * 5);
    assert_eq!(states(&w), []);
    assert_eq!(recoveries(&w), 1);
}

#[test]
fn a_world_that_is_well_says_nothing() {
    let mut w = settled();
    w.run(SECOND * 120);
    assert_eq!(w.told, []);
    assert_eq!(w.truth, [NodeTruth::WELL; 2]);
}

#[test]
fn row_5_a_hypervisor_service_that_hangs() {
    let mut w = settled();
    w.truth[0].hypervisor = ServiceWord::Silent;
    w.truth[0].word = Some(HypervisorState::Unknown);
    w.run(SECOND * 5);
    assert_eq!((w.state(0), w.path(0).source), (VmState::Up, Source::Direct));
    assert_eq!(w.top_causes(0), ["hypervisor"]);
    assert_eq!(states(&w), []);
}

#[test]
fn row_18_a_power_proof_makes_it_down_and_safe_until_it_is_heard() {
    let mut w = settled();
    w.truth[0].power = false;
    w.run(SECOND * 5);
    assert_eq!((w.state(0), w.verdict(0).advice.as_str()), (VmState::Lost, "fence_first"));
    assert_eq!(w.incidents(), ["node n1: node silent"]);
    let proof = FenceProof {
        kind: FenceKind::PowerOff,
        boot: w.records().nodes[0].boot,
        note: String::new(),
        index: LogIndex::new(9),
        at: WallTime::default(),
    };
    w.change_records(|records| records.nodes[0].fence = Some(proof));
    w.run(SECOND * 2);
    assert_eq!((w.state(0), w.verdict(0).advice.as_str()), (VmState::Down, "safe_to_restart"));
    w.truth[0] = NodeTruth::WELL;
    w.run(SECOND * 4);
    assert_eq!((w.state(0), w.verdict(0).advice.as_str()), (VmState::Up, "none"));
    assert_eq!(w.records().nodes[0].fence, None, "the node's own word withdraws it");
    assert_eq!(w.incidents(), [""; 0]);
}

#[test]
fn row_22_a_dead_management_network_is_one_incident() {
    let mut w = settled();
    w.truth[0].uplink = false;
    w.truth[1].uplink = false;
    w.other_manager = false;
    w.run(SECOND * 5);
    assert_eq!([w.state(0), w.state(1)], [VmState::Up; 2]);
    assert_eq!([w.top_causes(0), w.top_causes(1)], [["network(management)"]; 2]);
    assert_eq!(w.incidents(), ["network management: network(management)"]);
    assert_eq!(states(&w), []);
}

#[test]
fn row_23_a_dead_service_network_cuts_the_users_off() {
    let mut w = settled();
    w.truth[0].service_uplink = false;
    w.truth[1].service_uplink = false;
    w.run(SECOND * 5);
    assert_eq!([w.state(0), w.state(1)], [VmState::Degraded; 2], "{:?}", w.told);
    assert_eq!([w.top_causes(0), w.top_causes(1)], [["network(service)"]; 2]);
    assert_eq!(w.incidents(), ["network service: network(service)"]);
    w.truth = [NodeTruth::WELL; 2];
    w.run(SECOND * 5);
    assert_eq!([w.state(0), w.state(1)], [VmState::Up; 2]);
    assert_eq!(w.incidents(), [""; 0]);
}

#[test]
fn users_that_are_cut_off_are_not_back_because_probes_overstay() {
    let mut w = settled();
    w.truth[0].service_uplink = false;
    w.truth[1].service_uplink = false;
    w.run(SECOND * 5);
    w.told.clear();
    w.truth[0].overstays = true;
    w.run(SECOND * 10);
    assert!(w.told.is_empty(), "{:?}", w.told);
    w.truth[0].overstays = false;
    w.run(SECOND * 5);
    assert_eq!([w.state(0), w.state(1)], [VmState::Degraded; 2]);
    assert!(w.told.is_empty(), "{:?}", w.told);
    w.truth = [NodeTruth::WELL; 2];
    w.run(SECOND * 5);
    assert_eq!([w.state(0), w.state(1)], [VmState::Up; 2]);
}

#[test]
fn one_dead_service_uplink_is_its_nodes_and_not_the_networks() {
    let mut w = settled();
    w.truth[0].service_uplink = false;
    w.run(SECOND * 6);
    assert_eq!([w.state(0), w.state(1)], [VmState::Degraded, VmState::Up], "{:?}", w.told);
    assert_eq!(w.top_causes(0), ["node_uplink(service)"]);
}

#[test]
fn a_proposal_that_is_refused_at_once_is_not_made_again_before_the_next_tick() {
    use vouch_detector::{Detector, Effect, Event, Settlement};
    let timing = vouch_types::Timing::default();
    let mut w = settled();
    w.truth[0].rdp = false;
    let mut detector = Detector::new(vouch_types::ManagerId::new(1), timing.clone());
    let mut now = vouch_types::Moment::from_micros(1_000_000);
    let proposes = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Propose(_)));
    detector.handle(now, Event::InventoryChanged(w.records().clone()));
    detector.handle(now, Event::LeadershipChanged { leads: Some(vouch_types::Term::new(1)) });
    let word = |state| vouch_detector::NodeReport {
        manager: vouch_types::ManagerId::new(1),
        node: node(0),
        boot: w.records().nodes[0].boot,
        incarnation: vouch_types::Incarnation::new(1),
        sequence: vouch_types::Sequence::new(1),
        begun: now,
        hypervisor: ServiceWord::Answering,
        full: true,
        vms: vec![vouch_detector::VmWord {
            vm: world::vm(0),
            generation: vouch_types::Generation::new(1),
            start: vouch_types::StartId::new(1),
            state,
            progress: Progress::Working,
            operation: None,
            links_down: vec![],
        }],
        watchers: vec![],
    };
    assert!(proposes(&detector.handle(now, Event::NodeReported(word(HypervisorState::Panicked)))));
    for _ in 0..100 {
        assert!(!proposes(&detector.handle(now, Event::ProposalSettled(Settlement::Failed))));
    }
    now = now + timing.tick_interval;
    assert!(proposes(&detector.handle(now, Event::Ticked)), "and then it is");
}
