//! A manager whose data folder was emptied: it neither votes nor counts, and comes back by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use vouch_manager::store::{MemoryLogStore, State, Stores};
use vouch_sim::cluster::host::{Host, m};
use vouch_sim::cluster::sim::{PATIENCE, Sim, codes, on_paused_clock};
use vouch_sim::cluster::world::Size;
use vouch_types::{Command, EventKind, LogName, ManagerId, Policy, PolicyScope, ReturnEnd, Suffrage, WallTime};

const SMALL: Size = Size { managers: 3, nodes: 2, racks: 1, vms_per_node: 2 };
const FIVE: Size = Size { managers: 5, ..SMALL };
/// How often a script looks.
const LOOK: Duration = Duration::from_millis(1);

type Kept = BTreeMap<ManagerId, Stores<MemoryLogStore>>;

/// Runs a script against a cluster whose logs are recorded, and what its managers keep.
fn simulate(seed: u64, size: Size, script: impl AsyncFnOnce(&mut Sim, &Kept)) {
    on_paused_clock(seed, async {
        let kept: Kept = size.managers().map(|manager| (manager, Stores::memory())).collect();
        let mut sim = Sim::start_on(seed, size, &|manager| kept[&manager].clone()).await;
        let managers = size.managers().count();
        sim.until("every log is recorded", |state| logs(state).len() == managers).await;
        script(&mut sim, &kept).await;
        sim.stop().await;
    });
}

fn logs(state: &State) -> BTreeMap<ManagerId, LogName> {
    state.manager_records().iter().filter_map(|record| Some((record.id, record.log?.name))).collect()
}

fn log_of(sim: &Sim, manager: ManagerId) -> LogName {
    sim.managers[&manager].consensus().log_name()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

fn budget(millis: u64) -> Command {
    let policy = Policy { boot_budget_ms: Some(millis), ..Policy::default() };
    Command::SetPolicy { scope: PolicyScope::Cluster, policy, at: WallTime::from_unix_millis(millis) }
}

async fn write(sim: &Sim, millis: u64) {
    let leader = sim.leader().await;
    sim.managers[&leader].submit(budget(millis)).await.expect("acknowledged");
}

fn written(state: &State) -> Option<u64> {
    state.policies().iter().find(|(scope, _)| **scope == PolicyScope::Cluster)?.1.boot_budget_ms
}

fn has_vote(sim: &Sim, manager: ManagerId) -> bool {
    sim.leads_now().is_some_and(|leader| sim.managers[&leader].consensus().status().voters.contains_key(&manager))
}

fn returning(state: &State, manager: ManagerId) -> Option<Suffrage> {
    Some(state.manager_record(manager)?.returning.as_ref()?.suffrage)
}

/// Whether a manager has its vote back, on a log that is recorded, and has applied all that the leader has.
fn is_back(sim: &Sim, manager: ManagerId) -> bool {
    let applied = |manager: ManagerId| sim.managers[&manager].consensus().status().applied;
    let recorded = sim.read(|state| logs(state).get(&manager).copied());
    has_vote(sim, manager)
        && recorded == Some(log_of(sim, manager))
        && sim.read(|state| returning(state, manager).is_none())
        && sim.leads_now().is_some_and(|leader| applied(leader) == applied(manager))
}

#[test]
fn an_emptied_member_votes_for_nobody_and_nothing_that_was_acknowledged_is_lost() {
    simulate(61, SMALL, async |sim: &mut Sim, kept: &Kept| {
        let a = sim.leader().await;
        let mut others = sim.managers.keys().copied().filter(|id| *id != a);
        let (b, c) = (others.next().unwrap(), others.next().unwrap());
        for other in [a, b] {
            sim.cut(Host::Manager(c), Host::Manager(other));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        write(sim, 77_000).await;
        let behind = sim.managers[&c].consensus().status().last_log;
        assert!(behind < sim.managers[&b].consensus().status().last_log, "c lacks what a and b acknowledged");
        sim.kill(a).await;
        sim.kill(b).await;
        sim.heal();
        sim.start_again(b, 2, Stores::memory()).await;
        // With b's vote c would lead, and what was acknowledged would be gone.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            let leads = |id: &ManagerId| sim.managers[id].consensus().status().leads();
            assert!(![b, c].iter().any(leads), "somebody leads who lacks what was acknowledged");
            tokio::time::sleep(LOOK * 10).await;
        }
        assert_eq!(sim.managers[&b].consensus().status().last_log.get(), 0, "it took no entry");
        let readiness = sim.managers[&b].live_view().readiness().await;
        let (reasons, _) = codes(&readiness);
        assert!(reasons.contains(&"log_lost") && !reasons.contains(&"not_initialised"), "{readiness:?}");
        let told = readiness.reasons.iter().find(|reason| reason.code == "log_lost").unwrap();
        assert!(told.message.contains(&log_of(sim, b).to_string()), "{told:?}");
        assert_eq!(sim.gauge(b, "log_lost").await, 1);
        let refused = sim.managers[&b].init_cluster().await.expect_err("it has a cluster").to_string();
        assert!(refused.contains("already"), "{refused}");

        sim.start_again(a, 2, kept[&a].clone()).await;
        until("b to be back", || is_back(sim, b)).await;
        assert_eq!(sim.read(written), Some(77_000));
        assert_eq!(sim.managers[&b].consensus().read_state(written), Some(77_000));
        assert_eq!(sim.gauge(b, "log_lost").await, 0);
    });
}

#[test]
fn an_emptied_member_gets_no_entries_from_any_leader_until_it_was_removed_and_added() {
    simulate(62, SMALL, async |sim: &mut Sim, kept: &Kept| {
        let a = sim.leader().await;
        let mut others = sim.managers.keys().copied().filter(|id| *id != a);
        let (b, c) = (others.next().unwrap(), others.next().unwrap());
        // With c away, b cannot be removed: a alone would be left of two.
        sim.kill(c).await;
        sim.kill(b).await;
        let before = log_of(sim, a);
        sim.start_again(b, 2, Stores::memory()).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(sim.leads_now().is_none(), "an emptied one is no part of a quorum");
        assert_eq!(sim.managers[&b].consensus().status().last_log.get(), 0);
        assert!(has_vote_as_known(sim, a, b), "it is still a member");
        let readiness = sim.managers[&a].live_view().readiness().await;
        assert!(codes(&readiness).1.contains(&"log_lost"), "the others tell it as well: {readiness:?}");
        assert_eq!(sim.gauge(a, "managers_log_lost").await, 1);
        assert_eq!(before, log_of(sim, a));

        sim.start_again(c, 2, kept[&c].clone()).await;
        until("b to be back", || is_back(sim, b)).await;
        write(sim, 78_000).await;
        until("everything is well", || {
            sim.managers.values().all(|manager| manager.consensus().read_state(written) == Some(78_000))
        })
        .await;
        assert_eq!(sim.gauge(a, "managers_log_lost").await, 0);
        let events = sim.events();
        let count = |kind: &EventKind| events.iter().filter(|event| event.kind == *kind).count();
        assert_eq!(count(&EventKind::ManagerLogLost { manager: b }), 1);
        assert_eq!(count(&EventKind::ManagerReturnEnded { manager: b, end: ReturnEnd::Returned }), 1);
    });
}

fn has_vote_as_known(sim: &Sim, by: ManagerId, manager: ManagerId) -> bool {
    sim.managers[&by].consensus().status().voters.contains_key(&manager)
}

/// How far the return of a manager has come when the leader is killed.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Begun,
    Removed,
    Added,
    Recorded,
    Promoted,
}

fn has_come_to(stage: Stage, sim: &Sim, leader: ManagerId, manager: ManagerId) -> bool {
    let consensus = sim.managers[&leader].consensus();
    let status = consensus.status();
    let (voter, learner) = (status.voters.contains_key(&manager), status.learners.contains_key(&manager));
    let (returns, recorded) =
        consensus.read_state(|state| (returning(state, manager).is_some(), logs(state).get(&manager).copied()));
    let own = Some(log_of(sim, manager));
    match stage {
        Stage::Begun => returns,
        Stage::Removed => returns && !voter && !learner,
        Stage::Added => learner,
        Stage::Recorded => learner && recorded == own,
        Stage::Promoted => voter && recorded == own,
    }
}

#[test]
fn an_emptied_member_comes_back_with_its_vote_wherever_the_leader_is_killed_meanwhile() {
    for (seed, stage) in (63..).zip([Stage::Begun, Stage::Removed, Stage::Added, Stage::Recorded, Stage::Promoted]) {
        simulate(seed, FIVE, async |sim: &mut Sim, kept: &Kept| {
            let leader = sim.leader().await;
            let emptied = sim.managers.keys().copied().find(|id| *id != leader).unwrap();
            sim.kill(emptied).await;
            sim.start_again(emptied, 2, Stores::memory()).await;
            until("the return to have come so far", || has_come_to(stage, sim, leader, emptied)).await;
            sim.kill(leader).await;
            until("it to be back under another leader", || is_back(sim, emptied)).await;
            write(sim, 79_000).await;
            sim.start_again(leader, 2, kept[&leader].clone()).await;
            until("all to hold the same", || {
                sim.managers.values().all(|manager| manager.consensus().read_state(written) == Some(79_000))
            })
            .await;
            let voters = sim.managers[&leader].consensus().status().voters;
            assert_eq!(voters.len(), 5, "{stage:?}: {voters:?}");
            let lost = EventKind::ManagerLogLost { manager: emptied };
            assert_eq!(sim.events().iter().filter(|event| event.kind == lost).count(), 1, "{stage:?}");
        });
    }
}

#[test]
fn one_that_is_emptied_again_on_its_way_and_one_without_a_vote_come_back_as_what_they_were() {
    simulate(70, FIVE, async |sim: &mut Sim, _: &Kept| {
        let leader = sim.leader().await;
        let mut others = sim.managers.keys().copied().filter(|id| *id != leader);
        let (twice, learner) = (others.next().unwrap(), others.next().unwrap());
        sim.kill(twice).await;
        sim.start_again(twice, 2, Stores::memory()).await;
        until("it to be on its way", || has_come_to(Stage::Added, sim, leader, twice)).await;
        sim.kill(twice).await;
        sim.start_again(twice, 3, Stores::memory()).await;
        until("it to be back", || is_back(sim, twice)).await;

        let consensus = sim.managers[&leader].consensus().clone();
        let node = consensus.status().voters[&learner].clone();
        consensus.give_up_member(learner, WallTime::from_unix_millis(1)).await.unwrap();
        consensus.add_member(learner, node).await.unwrap();
        sim.until("its log is recorded", |state| logs(state).contains_key(&learner)).await;
        sim.kill(learner).await;
        sim.start_again(learner, 2, Stores::memory()).await;
        let own = log_of(sim, learner);
        sim.until("its new log is recorded", |state| logs(state).get(&learner) == Some(&own)).await;
        sim.until("its return is over", |state| returning(state, learner).is_none()).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let status = consensus.status();
        assert!(status.learners.contains_key(&learner) && !status.voters.contains_key(&learner), "{status:?}");
    });
}

#[test]
fn an_operator_who_removes_a_manager_on_its_way_back_has_the_last_word() {
    simulate(71, FIVE, async |sim: &mut Sim, _: &Kept| {
        let leader = sim.leader().await;
        let emptied = sim.managers.keys().copied().find(|id| *id != leader).unwrap();
        sim.kill(emptied).await;
        sim.start_again(emptied, 2, Stores::memory()).await;
        until("it to be on its way", || has_come_to(Stage::Begun, sim, leader, emptied)).await;
        let consensus = sim.managers[&leader].consensus().clone();
        consensus.give_up_member(emptied, WallTime::from_unix_millis(1)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!consensus.status().members().contains_key(&emptied), "it stays away");
        assert!(sim.read(|state| state.manager_record(emptied).is_none()));
    });
}

#[test]
fn one_that_rejoined_is_followed_by_one_that_knew_it_by_its_lost_log() {
    simulate(72, FIVE, async |sim: &mut Sim, _: &Kept| {
        let leader = sim.leader().await;
        let mut others = sim.managers.keys().copied().filter(|id| *id != leader);
        let (emptied, away) = (others.next().unwrap(), others.next().unwrap());
        let rest: Vec<ManagerId> = sim.managers.keys().copied().filter(|id| *id != away).collect();
        for other in &rest {
            sim.cut(Host::Manager(away), Host::Manager(*other));
        }
        sim.kill(emptied).await;
        sim.start_again(emptied, 2, Stores::memory()).await;
        until("it to be back", || is_back(sim, emptied)).await;
        let known = sim.managers[&away].consensus().read_state(|state| logs(state)[&emptied]);
        assert_ne!(known, log_of(sim, emptied), "who was away knows nothing of it");
        sim.managers[&leader].consensus().transfer_leader(emptied).await.unwrap();
        until("it to lead", || sim.leads_now() == Some(emptied)).await;
        sim.heal();
        write(sim, 80_000).await;
        until("who was away to follow", || sim.managers[&away].consensus().read_state(written) == Some(80_000)).await;
        assert_eq!(sim.leader().await, emptied, "nobody is disturbed");
    });
}

#[test]
fn managers_of_an_older_version_that_tell_no_logs_are_part_of_the_cluster_until_they_are_upgraded() {
    on_paused_clock(73, async {
        let kept: Kept = SMALL.managers().map(|manager| (manager, Stores::memory())).collect();
        let older = m(3);
        let stores = |manager| kept[&manager].clone();
        let mut sim = Sim::start_older(73, SMALL, &stores, [older]).await;
        write(&sim, 81_000).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(sim.read(|state| logs(state).is_empty()), "an older manager could not read the command");
        let leader = sim.leader().await;
        sim.kill(leader).await;
        write(&sim, 82_000).await;
        sim.start_again(leader, 2, kept[&leader].clone()).await;
        sim.kill(older).await;
        sim.network().set_older([]);
        sim.start_again(older, 2, kept[&older].clone()).await;
        sim.until("every log is recorded after the upgrade", |state| logs(state).len() == 3).await;
        until("all to hold the same", || {
            sim.managers.values().all(|manager| manager.consensus().read_state(written) == Some(82_000))
        })
        .await;
        sim.stop().await;
    });
}
