//! The patent's case on three simulated managers: what operators are told when paths, managers and watchers fail, and
//! that a seed replays exactly.

#![expect(
    clippy::print_stdout,
    reason = "the seed and the times of a simulation are for the person who reads its failure"
)]

use std::time::Duration;

use vouch_manager::api::CheckError;
use vouch_manager::counters::Count;
use vouch_manager::store::State;
use vouch_sim::cluster::guest::Run;
use vouch_sim::cluster::host::{Host, NodeNo, VmNo, m, n, vm};
use vouch_sim::cluster::sim::{Sim, on_paused_clock};
use vouch_sim::cluster::world::Size;
use vouch_types::{
    Cause, Command, EventKind, EventRecord, ExitReason, PolicyScope, Source, VmState, WallTime, WatcherLife,
};

fn source_is(state: &State, node: NodeNo, source: Source) -> bool {
    state.nodes()[&node.id()].path.source == source
}

fn has_cause(state: &State, node: NodeNo, cause: &Cause) -> bool {
    state.nodes()[&node.id()].path.faults.iter().any(|f| f.top() == cause)
}

fn is_cut(state: &State) -> bool {
    source_is(state, n(1), Source::Watcher) && has_cause(state, n(1), &Cause::ManagerNodePath)
}

fn is_healed(state: &State) -> bool {
    let path = &state.nodes()[&n(1).id()].path;
    path.source == Source::Direct && path.faults.is_empty()
}

const SMALL: Size = Size { managers: 3, nodes: 2, racks: 1, vms_per_node: 2 };

/// Runs a script against a cluster of two nodes and four VMs that is up; a seed that fails is told.
fn simulate<T>(seed: u64, script: impl AsyncFnOnce(&mut Sim) -> T) -> T {
    println!("seed {seed}");
    on_paused_clock(seed, async {
        let mut sim = Sim::start(seed, SMALL).await;
        script(&mut sim).await
    })
}

/// What was said of VMs from this position on.
fn states_told(events: &[EventRecord]) -> Vec<VmState> {
    let told = events.iter().filter_map(|e| match &e.kind {
        EventKind::VmStateChanged { to, .. } => Some(*to),
        _ => None,
    });
    told.collect()
}

async fn cut_and_heal(sim: &mut Sim) -> (Vec<EventRecord>, Duration, Duration) {
    let before = sim.events().len();
    sim.cut_node(n(1), (1..=3).map(m));
    let told = sim.until("n1's path is known to be cut", is_cut).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(sim.read(is_cut), "it stays so while the cut lasts");
    for number in 1..=4 {
        assert_eq!(sim.read(|s| s.vms()[&vm(number)].verdict.state), VmState::Up, "vm {number}");
    }
    sim.heal();
    let healed = sim.until("n1's own word rules again", is_healed).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let events = sim.events();
    let after = &events[before..];
    assert_eq!(states_told(after), [], "no vm changes its state");
    let recoveries = after.iter().filter(|e| matches!(e.kind, EventKind::PathRecovered { .. })).count();
    assert_eq!(recoveries, 1, "one heal is one recovery: {after:#?}");
    (events, told, healed)
}

#[test]
fn a_cut_path_leaves_the_vm_up_by_watcher_and_one_heal_is_one_recovery() {
    let (_, told, healed) = simulate(1, cut_and_heal);
    println!("told after {told:?}, healed after {healed:?}");
    assert!(told <= Duration::from_secs(2), "N1: {told:?}");
    assert!(healed <= Duration::from_secs(1), "N7: {healed:?}");
}

#[test]
fn the_same_seed_twice_gives_an_identical_event_log() {
    for seed in [7, 8, 9] {
        let (first, ..) = simulate(seed, cut_and_heal);
        let (second, ..) = simulate(seed, cut_and_heal);
        assert!(first.len() > 10);
        for (a, b) in first.iter().zip(&second) {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

#[test]
fn another_manager_says_the_same_when_the_leader_is_killed() {
    simulate(2, async |sim: &mut Sim| {
        sim.cut_node(n(1), (1..=3).map(m));
        sim.until("n1's path is known to be cut", is_cut).await;
        let before = sim.events();
        let old = sim.leader().await;
        sim.kill(old).await;
        let new = sim.leader().await;
        assert_ne!(new, old);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(sim.read(is_cut), "the answer is the same");
        let after = sim.events();
        assert_eq!(after[..before.len()], before[..], "nothing that was told is lost or told again");
        assert_eq!(states_told(&after[before.len()..]), [], "no vm changes its state");
        assert_eq!(sim.read(|s| s.vms()[&vm(1)].verdict.state), VmState::Up);
        // The new leader hears the node's death of a vm through the relay alone.
        sim.world.change_vm(VmNo(1), |vm| vm.run = Run::Dead(ExitReason::Process));
        sim.until("the signed statement proves the vm down", |s| {
            let verdict = &s.vms()[&vm(1)].verdict;
            verdict.state == VmState::Down && verdict.faults.iter().any(|f| *f.top() == Cause::VmProcess)
        })
        .await;
        assert!(sim.read(is_cut));
        assert_eq!(sim.read(|s| s.vms()[&vm(2)].verdict.state), VmState::Up);
    });
}

#[test]
fn a_manager_deaf_to_a_node_is_noted_and_the_source_stays_direct() {
    simulate(3, async |sim: &mut Sim| {
        let before = sim.events().len();
        let leader = sim.leader().await;
        sim.cut_node(n(1), [leader]);
        let noted = |s: &State| s.manager_notes().iter().any(|note| note.manager == leader && note.node == n(1).id());
        let told = sim.until("the deaf leader is noted", noted).await;
        assert!(told <= Duration::from_secs(3), "{told:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(sim.read(|s| source_is(s, n(1), Source::Direct)));
        assert_eq!(states_told(&sim.events()[before..]), []);
        // What others hear is handed on whole: the deaf leader still learns that a vm has died.
        sim.world.change_vm(VmNo(2), |vm| vm.run = Run::Dead(ExitReason::Process));
        sim.until("the death is heard through another manager", |s| s.vms()[&vm(2)].verdict.state == VmState::Down)
            .await;
        sim.heal();
        sim.until("the note is withdrawn", |s| s.manager_notes().is_empty()).await;
    });
}

#[test]
fn a_killed_watcher_is_replaced_and_no_vm_changes_its_state() {
    simulate(4, async |sim: &mut Sim| {
        let before = sim.events().len();
        let killed = sim.node(n(1)).running_watchers()[0];
        sim.node(n(1)).kill_watcher(killed);
        sim.until("the watcher is lost", |s| {
            s.watchers().get(&killed).is_none_or(|w| !matches!(w.life, WatcherLife::Live))
        })
        .await;
        let replaced = sim
            .until("another one is live on n1 and the old one forgotten", |s| {
                let live = s.watchers().values().any(|w| w.node == n(1).id() && w.life == WatcherLife::Live);
                live && !s.watchers().contains_key(&killed)
            })
            .await;
        assert!(replaced <= Duration::from_secs(30), "{replaced:?}");
        sim.until("every vm is watched from both nodes again", |s| {
            s.vms().keys().all(|vm| s.watchers().values().filter(|w| w.vms.contains(vm)).count() == 2)
        })
        .await;
        assert_eq!(states_told(&sim.events()[before..]), []);
    });
}

#[test]
fn a_forced_check_is_answered_through_another_manager_when_the_leader_hears_no_watcher() {
    simulate(5, async |sim: &mut Sim| {
        let leader = sim.leader().await;
        let live = sim.managers[&leader].live_view();
        let check = live.check(vm(1)).await.unwrap();
        assert!(!check.asked.is_empty() && check.answered == check.asked, "over its own streams: {check:?}");
        let evidence = live.evidence(vm(1)).await.unwrap();
        assert!(evidence.leads && evidence.observations.iter().any(|o| o.fresh && o.outcome == "up"), "{evidence:?}");

        let watchers: Vec<_> = sim.read(|s| s.watchers().keys().copied().collect());
        for watcher in watchers {
            sim.cut(Host::Watcher(watcher), Host::Manager(leader));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(sim.leader().await, leader);
        let check = live.check(vm(1)).await.unwrap();
        assert!(!check.asked.is_empty() && check.answered == check.asked, "through the others: {check:?}");
        assert!(sim.managers[&leader].counters().total(Count::Forwarded) > 0);
        let evidence = live.evidence(vm(1)).await.unwrap();
        assert!(evidence.observations.iter().any(|o| o.fresh), "what others hear is handed on: {evidence:?}");
        assert!(sim.read(|s| s.watchers().values().all(|w| w.life == WatcherLife::Live)), "nobody is lost");

        let follower = sim.managers.keys().copied().find(|id| *id != leader).unwrap();
        let refused = sim.managers[&follower].live_view().check(vm(1)).await;
        assert_eq!(refused, Err(CheckError::NotLeader));
        let unknown = live.check(vm(99)).await;
        assert_eq!(unknown, Err(CheckError::UnknownVm(vm(99))));
    });
}

#[test]
fn a_wrong_secret_enrols_nobody_and_costs_no_log_entry() {
    simulate(6, async |sim: &mut Sim| {
        let watcher = sim.node(n(1)).running_watchers()[0];
        let leader = sim.leader().await;
        let request = |incarnation| vouch_wire::proto::EnrollRequest {
            watcher: watcher.get(),
            incarnation,
            secret: vec![7; 32],
            csr: vouch_wire::pki::CertificateRequest::generate().unwrap().der().to_vec(),
        };
        let before = sim.managers[&leader].consensus().status().applied;
        for incarnation in [1, 2] {
            for manager in sim.managers.values() {
                let refused = manager.service().enroll(request(incarnation)).await.expect_err("refused");
                assert!(matches!(refused, vouch_wire::links::LinkError::Refused(_)), "{refused:?}");
            }
        }
        assert_eq!(sim.managers[&leader].consensus().status().applied, before);
        assert_eq!(sim.read(|s| s.watchers()[&watcher].life), WatcherLife::Live);
    });
}

#[test]
fn a_node_joins_at_any_manager_as_often_as_its_token_says_and_never_under_the_name_of_one_that_is_heard() {
    simulate(8, async |sim: &mut Sim| {
        let leader = sim.leader().await;
        let secret = [9; 32];
        let create = Command::CreateJoinToken {
            allows: vouch_types::JoinFor::Any(vouch_types::JoinRole::Node),
            secret_hash: vouch_types::Digest::new(
                ring::digest::digest(&ring::digest::SHA256, &secret).as_ref().try_into().unwrap(),
            ),
            uses: 1,
            ttl: Duration::from_secs(3600),
            at: sim.managers[&leader].wall_clock().now(),
        };
        let csr = vouch_wire::pki::CertificateRequest::generate().unwrap();
        let request = |secret: &[u8], name: &str| vouch_wire::proto::JoinRequest {
            secret: secret.to_vec(),
            role: "node".to_owned(),
            name: name.to_owned(),
            csr: csr.der().to_vec(),
            incarnation: 0,
        };
        let refused = async |sim: &Sim, request: vouch_wire::proto::JoinRequest| {
            let mut last = String::new();
            for manager in sim.managers.values() {
                last = manager.service().join(request.clone(), None).await.expect_err("refused").to_string();
            }
            last
        };
        let before = sim.managers[&leader].consensus().status().applied;
        assert!(refused(sim, request(&secret, "n9")).await.contains("unknown"));
        assert_eq!(sim.managers[&leader].consensus().status().applied, before, "an unknown secret costs no log entry");
        assert_eq!(sim.managers[&leader].counters().total(Count::JoinsRefused), 3);
        sim.managers[&leader].consensus().propose(create).await.unwrap();
        assert!(refused(sim, request(&secret, "n1")).await.contains("is heard now"));
        let garbage = vouch_wire::proto::JoinRequest { csr: vec![1, 2, 3], ..request(&secret, "n9") };
        assert!(refused(sim, garbage).await.contains("PKCS #10"));
        for manager in sim.managers.values() {
            let joined = manager.service().join(request(&secret, "n9"), None).await.unwrap();
            assert!(joined.certificate.contains("BEGIN CERTIFICATE"), "the same request is the same use");
        }
        assert_eq!(sim.read(|s| s.join_tokens()[0].uses), 1);
        let other = vouch_wire::pki::CertificateRequest::generate().unwrap();
        let other = vouch_wire::proto::JoinRequest { csr: other.der().to_vec(), ..request(&secret, "n9") };
        assert!(refused(sim, other).await.contains("used up"));
    });
}

#[test]
fn a_maintenance_window_goes_on_under_a_new_leader_and_ends_by_itself() {
    simulate(7, async |sim: &mut Sim| {
        let leader = sim.leader().await;
        let begin = Command::BeginMaintenance {
            scope: PolicyScope::Cluster,
            reason: "new switch".to_owned(),
            lasts: Duration::from_secs(45),
            at: WallTime::from_unix_millis(0),
        };
        sim.managers[&leader].consensus().propose(begin).await.unwrap();
        let left = |s: &State| s.maintenances().first().map(|window| window.remaining);
        sim.until("what is left is recorded", |s| left(s).is_some_and(|left| left < Duration::from_secs(40))).await;
        let recorded = sim.read(left).unwrap();
        sim.kill(leader).await;
        sim.until("another one counts on", |s| left(s).is_some_and(|left| left < recorded)).await;
        let ended = sim.until("the window is over", |s| s.maintenances().is_empty()).await;
        assert!(ended < recorded, "it is not begun again: {ended:?}");
        let told = sim.events().iter().filter(|e| matches!(e.kind, EventKind::MaintenanceEnded { .. })).count();
        assert_eq!(told, 1);
    });
}

#[test]
fn a_source_whose_joins_were_refused_ten_times_is_turned_away_for_a_minute() {
    simulate(9, async |sim: &mut Sim| {
        let leader = sim.leader().await;
        let request = || vouch_wire::proto::JoinRequest {
            secret: vec![7; 32],
            role: "node".to_owned(),
            name: "n9".to_owned(),
            ..vouch_wire::proto::JoinRequest::default()
        };
        let from = |text: &str| Some(text.parse().unwrap());
        let follower = sim.managers.keys().copied().find(|id| *id != leader).unwrap();
        let why = async |sim: &Sim, from| {
            sim.managers[&follower].service().join(request(), from).await.expect_err("refused").to_string()
        };
        for port in 1..=10 {
            assert!(why(sim, from(&format!("192.0.2.7:{port}"))).await.contains("unknown"));
        }
        let counted = sim.managers[&leader].counters().total(Count::JoinsRefused);
        let refused = why(sim, from("192.0.2.7:99")).await;
        assert!(refused.contains("10 joins from this address") && refused.contains("try again in"), "{refused}");
        assert_eq!(sim.managers[&leader].counters().total(Count::JoinsRefused), counted, "the leader is left alone");
        assert_eq!(sim.managers[&follower].counters().total(Count::JoinsRefused), 1);
        assert!(why(sim, from("192.0.2.8:1")).await.contains("unknown"), "another source is heard");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(why(sim, from("192.0.2.7:99")).await.contains("unknown"), "and this one again after a minute");
    });
}

#[test]
fn any_manager_has_the_leader_renew_a_certificate_for_who_shows_it_and_for_nobody_that_is_gone() {
    use vouch_wire::pki::{CertificateAuthority, CertificateRequest, PeerIdentity, ShownCertificate, VALIDITY_MIN};
    use vouch_wire::proto::CertificateCheck;

    simulate(10, async |sim: &mut Sim| {
        let leader = sim.leader().await;
        let secrets = sim.read(|s| s.cluster().unwrap().secrets.clone());
        let ca = CertificateAuthority::from_pem(&secrets.ca_certificate, &secrets.ca_key).unwrap();
        let other = CertificateAuthority::generate("another", WallTime::from_unix_millis(1_795_383_407_042)).unwrap();
        let now = sim.managers[&leader].wall_clock().now();
        let node = PeerIdentity::Node(n(1).id());
        let own = |ca: &CertificateAuthority, owner: &PeerIdentity| {
            ca.issue(owner, now, VALIDITY_MIN).unwrap().identity().unwrap()
        };
        let ask = async |sim: &Sim, manager, shown: ShownCertificate, csr: &[u8]| {
            let check = CertificateCheck { csr: csr.to_vec(), trusts: Vec::new() };
            sim.managers[&manager].service().check_certificate(shown, check).await
        };
        let identity = own(&ca, &node);
        let csr = CertificateRequest::renewal_of(&identity).unwrap();
        for manager in sim.managers.keys().copied() {
            let answer = ask(sim, manager, identity.shown(), csr.der()).await.unwrap();
            assert_eq!(answer.ca_certificates, secrets.ca_certificate);
            let renewed = identity.renewed(Some(&answer.certificate), &answer.ca_certificates).unwrap();
            assert_eq!(*renewed.owner(), node);
            assert!(renewed.validity().unwrap().until > identity.validity().unwrap().until);
            let told = ask(sim, manager, identity.shown(), b"").await.unwrap();
            assert!(told.certificate.is_empty() && told.next_check_secs > 0, "nothing was asked for");
        }
        let follower = sim.managers.keys().copied().find(|id| *id != leader).unwrap();
        let crowd = futures::future::join_all((0..70).map(|_| ask(sim, follower, identity.shown(), b""))).await;
        let too_many = |error: &vouch_wire::links::LinkError| error.to_string().contains("too many ask at once");
        assert_eq!(crowd.iter().filter(|answer| answer.as_ref().is_err_and(too_many)).count(), 6);
        assert_eq!(crowd.iter().filter(|answer| answer.is_ok()).count(), 64);
        let refused =
            async |sim: &Sim, shown, csr: &[u8]| ask(sim, leader, shown, csr).await.expect_err("refused").to_string();
        assert!(refused(sim, own(&other, &node).shown(), csr.der()).await.contains("join again"));
        assert!(refused(sim, identity.shown(), b"garbage").await.contains("PKCS #10"));
        let gone = PeerIdentity::Watcher(vouch_types::WatcherId::new(99));
        assert!(refused(sim, own(&ca, &gone).shown(), csr.der()).await.contains("w99 is no watcher"));
        // One that was removed keeps its certificate until that ends, and gets no new one.
        let shown = own(&ca, &PeerIdentity::Manager(follower)).shown();
        ask(sim, leader, shown.clone(), csr.der()).await.unwrap();
        sim.managers[&leader].consensus().remove_member(follower).await.unwrap();
        assert!(refused(sim, shown, csr.der()).await.contains("was removed"));
    });
}

#[test]
fn another_ca_takes_the_place_of_the_first_and_nobody_is_locked_out_unless_by_name() {
    use vouch_manager::api::live::{CaError, CaStep};
    use vouch_wire::pki::{CaDigest, CertificateAuthority, CertificateRequest, Identity, PeerIdentity, VALIDITY_MIN};
    use vouch_wire::proto::CertificateCheck;

    simulate(11, async |sim: &mut Sim| {
        let leader = sim.leader().await;
        let live = sim.managers[&leader].live_view();
        let secrets = sim.read(|s| s.cluster().unwrap().secrets.clone());
        let old = CertificateAuthority::from_pem(&secrets.ca_certificate, &secrets.ca_key).unwrap();
        let now = sim.managers[&leader].wall_clock().now();
        let watchers = sim.read(|s| s.watchers().keys().copied().collect::<Vec<_>>());
        let managers = sim.managers.keys().copied().map(PeerIdentity::Manager);
        let nodes = [1, 2].map(|number| PeerIdentity::Node(n(number).id()));
        let all: Vec<_> = managers.chain(nodes).chain(watchers.into_iter().map(PeerIdentity::Watcher)).collect();
        let mut own: Vec<Identity> =
            all.iter().map(|owner| old.issue(owner, now, VALIDITY_MIN).unwrap().identity().unwrap()).collect();
        // As everybody's task does, at whichever manager.
        let follower = sim.managers.keys().copied().find(|id| *id != leader).unwrap();
        let check = async |sim: &Sim, identity: &Identity, renew: bool| -> (Identity, bool) {
            let csr = if renew { CertificateRequest::renewal_of(identity).unwrap().der().to_vec() } else { Vec::new() };
            let trusts = identity.roots().iter().map(|root| CaDigest::of(root).to_string()).collect();
            let check = CertificateCheck { csr, trusts };
            let answer = sim.managers[&follower].service().check_certificate(identity.shown(), check).await.unwrap();
            let certificate = (!answer.certificate.is_empty()).then_some(answer.certificate.as_str());
            (identity.renewed(certificate, &answer.ca_certificates).unwrap(), answer.renew_now)
        };
        let nobody = || std::collections::BTreeSet::new();
        let gone = PeerIdentity::Node(n(2).id());
        let gone_at = all.iter().position(|owner| *owner == gone).unwrap();

        let view = live.rotate_ca(CaStep::Begin).await.unwrap();
        assert_eq!((view.stage.as_str(), view.cas.len(), view.behind.len()), ("spreading", 2, all.len()));
        let begun_again = live.rotate_ca(CaStep::Begin).await.expect_err("one at a time").to_string();
        assert!(begun_again.contains("under way"), "{begun_again}");
        for (index, identity) in own.iter_mut().enumerate().filter(|(index, _)| *index != gone_at) {
            let (learned, renew_now) = check(sim, identity, false).await;
            assert!(
                !renew_now && learned.roots().len() == 2,
                "{index}: it learns the new one, which signs nothing yet"
            );
            *identity = learned;
        }
        let early = live.rotate_ca(CaStep::Switch { without: nobody() }).await;
        assert!(matches!(early, Err(CaError::Behind { ref behind, .. }) if behind.len() == all.len()), "{early:?}");
        for (index, identity) in own.iter().enumerate().filter(|(index, _)| *index != gone_at) {
            assert_eq!(check(sim, identity, false).await.0.roots().len(), 2, "{index}: it says that it trusts both");
        }
        let refused = live.rotate_ca(CaStep::Switch { without: nobody() }).await.expect_err("n2").to_string();
        assert!(refused.ends_with("to trust the new CA: n2.node.vouch"), "{refused}");
        let view = live.rotate_ca(CaStep::Switch { without: [gone.clone()].into() }).await.unwrap();
        assert_eq!(view.stage, "renewing");
        for (index, identity) in own.iter_mut().enumerate().filter(|(index, _)| *index != gone_at) {
            assert!(check(sim, identity, false).await.1, "{index}: it is told to renew");
            *identity = check(sim, identity, true).await.0;
        }
        let refused = live.rotate_ca(CaStep::Finish { without: nobody() }).await.expect_err("not seen").to_string();
        assert!(refused.contains("m1.manager.vouch") && refused.contains("w1.watcher.vouch"), "{refused}");
        for identity in own.iter().enumerate().filter(|(index, _)| *index != gone_at).map(|(_, identity)| identity) {
            assert!(!check(sim, identity, false).await.1);
        }
        assert_eq!(live.ca().await.unwrap().behind, ["n2.node.vouch"]);
        let view = live.rotate_ca(CaStep::Finish { without: [gone].into() }).await.unwrap();
        assert_eq!((view.stage.as_str(), view.cas.len()), ("steady", 1));
        let after = sim.read(|s| s.cluster().unwrap().secrets.clone());
        assert_ne!(after.ca_certificate, secrets.ca_certificate);
        assert!(CertificateAuthority::from_pem(&after.ca_certificate, &after.ca_key).is_ok());
        let shown = own[gone_at].shown();
        let locked_out = sim.managers[&leader].service().check_certificate(shown, CertificateCheck::default()).await;
        assert!(locked_out.expect_err("locked out").to_string().contains("join again"));
    });
}
