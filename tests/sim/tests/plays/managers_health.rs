//! Managers that are not well: a disk that runs full (row 35), and a state that is not what the log makes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vouch_manager::raft::{CHECKPOINT_EVERY, Consistency, ProposeError};
use vouch_manager::store::{MemoryLogStore, MemoryStateStore, Position, State, Stores, replace_all};
use vouch_sim::cluster::host::m;
use vouch_sim::cluster::sim::{LEAST_FREE, Sim, codes, on_paused_clock};
use vouch_sim::cluster::world::Size;
use vouch_types::{Command, EventKind, IncidentScope, LogIndex, Policy, PolicyScope, Term, WallTime};

const SMALL: Size = Size { managers: 3, nodes: 2, racks: 1, vms_per_node: 2 };
/// Row 35: within this time the manager has handed over.
const ROW_35: Duration = Duration::from_secs(2);

fn command(number: u64) -> Command {
    let policy = Policy { boot_budget_ms: Some(60_000 + number), ..Policy::default() };
    Command::SetPolicy { scope: PolicyScope::Cluster, policy, at: WallTime::from_unix_millis(number) }
}

async fn write(sim: &Sim, commands: u64) {
    for number in 0..commands {
        let leader = sim.leader().await;
        sim.managers[&leader].submit(command(number)).await.expect("applied");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[test]
fn a_leader_whose_disk_runs_full_hands_over_in_time_serves_reads_and_comes_back_by_itself() {
    on_paused_clock(35, async {
        let sim = Sim::start(35, SMALL).await;
        let full = sim.leader().await;
        let began = Instant::now();
        sim.disks[&full].set(LEAST_FREE - 1);
        let next = loop {
            if let Some(leader) = sim.leads_now().filter(|leader| *leader != full) {
                break leader;
            }
            assert!(began.elapsed() < ROW_35, "it still leads");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let full_disk = IncidentScope::Manager(full);
        let word = |state: &State| state.open_incident(&full_disk).map(|incident| incident.word.fault.detail.clone());
        let told = sim.until("who leads now records it", |state| word(state).is_some()).await;
        assert!(began.elapsed() < ROW_35 + Duration::from_secs(1), "{told:?}");
        assert_eq!(sim.read(word).as_deref(), Some("disk full"));
        write(&sim, 5).await;
        assert_eq!(sim.leader().await, next, "it stays so");
        let applied = |manager| sim.managers[&manager].consensus().status().applied;
        assert!(applied(full) < applied(next), "no entries are taken");
        assert!(sim.managers[&full].consensus().read_state(|state| state.vms().len()) == 4, "reads go on");
        let there = sim.managers[&full].live_view().readiness().await;
        assert!(codes(&there).1.contains(&"disk_low") && codes(&there).0.is_empty(), "{there:?}");
        let elsewhere = sim.managers[&next].live_view().readiness().await;
        assert!(codes(&elsewhere).1.contains(&"disk_low"), "the others tell it as well: {elsewhere:?}");
        assert_eq!((sim.gauge(full, "disk_low").await, sim.gauge(next, "disk_low").await), (1, 0));

        sim.disks[&full].set(LEAST_FREE * 2);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(applied(full), applied(next), "it has caught up");
        let there = sim.managers[&full].live_view().readiness().await;
        assert!(!codes(&there).1.contains(&"disk_low"), "{there:?}");
        assert!(sim.read(|state| state.open_incidents().next().is_none()), "and that it has room again");
        let events = sim.managers[&full].consensus().read_state(|state| {
            let of_it = |kind: &EventKind| match kind {
                EventKind::IncidentOpened { scope, .. } | EventKind::IncidentClosed { scope, .. } => {
                    *scope == full_disk
                }
                _ => false,
            };
            state.events().filter(|event| of_it(&event.kind)).count()
        });
        assert_eq!(events, 2, "told once when it began and once when it ended, on every manager");
        sim.stop().await;
    });
}

#[test]
fn where_no_disk_has_room_the_leader_stays_refuses_writes_and_serves_reads() {
    on_paused_clock(36, async {
        let sim = Sim::start(36, SMALL).await;
        let leader = sim.leader().await;
        // The others first, so that there is nobody to hand over to.
        for manager in sim.managers.keys().filter(|manager| **manager != leader) {
            sim.disks[manager].set(0);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        sim.disks[&leader].set(0);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(sim.leads_now(), Some(leader));
        let consensus = sim.managers[&leader].consensus();
        assert_eq!(consensus.propose(command(1)).await, Err(ProposeError::NoRoom));
        consensus.ensure_current(Consistency::Lease).await.expect("reads go on");
        for disk in sim.disks.values() {
            disk.set(u64::MAX);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        write(&sim, 1).await;
        sim.stop().await;
    });
}

#[test]
fn managers_that_applied_the_same_compare_and_find_nothing() {
    on_paused_clock(37, async {
        let sim = Sim::start(37, SMALL).await;
        write(&sim, 3 * CHECKPOINT_EVERY).await;
        for manager in sim.managers.keys() {
            assert!(sim.gauge(*manager, "state_checkpoints_compared").await > 0, "{manager} compares");
            assert_eq!(sim.gauge(*manager, "state_divergences").await, 0, "{manager}");
            let hashes = sim.managers[manager].live_view().state_hashes();
            assert!(hashes.hash.is_some() && hashes.log_index >= Some(CHECKPOINT_EVERY), "{manager}: {hashes:?}");
            assert!(hashes.compared.len() == 2 && hashes.compared.values().all(|c| c.same), "{manager}: {hashes:?}");
        }
        sim.stop().await;
    });
}

/// Stores whose projection holds something that no log ever said.
fn bent() -> Stores<MemoryLogStore> {
    let mut state = State::default();
    let at = WallTime::from_unix_millis(1);
    state.apply(LogIndex::new(0), Command::RecordLeader { manager: m(3), term: Term::new(0), at });
    let projection = MemoryStateStore::default();
    replace_all(&projection, &state, &Position::default()).expect("memory keeps it");
    Stores { state: Arc::new(projection), ..Stores::memory() }
}

#[test]
fn a_manager_whose_state_was_changed_behind_its_back_is_found_out_and_told_by_all() {
    on_paused_clock(38, async {
        let bent_one = m(3);
        let stores = |manager| if manager == bent_one { bent() } else { Stores::memory() };
        let sim = Sim::start_on(38, SMALL, &stores).await;
        write(&sim, 2 * CHECKPOINT_EVERY).await;
        for manager in sim.managers.keys().copied() {
            let readiness = sim.managers[&manager].live_view().readiness().await;
            let (reasons, notes) = codes(&readiness);
            if manager == bent_one {
                assert!(reasons.contains(&"state_diverged"), "it is not to be asked: {readiness:?}");
                assert_eq!(sim.gauge(manager, "state_divergences").await, 2);
                let hashes = sim.managers[&manager].live_view().state_hashes();
                assert!(hashes.compared.values().all(|compared| !compared.same), "{hashes:?}");
            } else {
                assert!(notes.contains(&"state_diverged") && reasons.is_empty(), "{manager}: {readiness:?}");
                assert_eq!(sim.gauge(manager, "state_divergences").await, 1);
            }
        }
        sim.stop().await;
    });
}
