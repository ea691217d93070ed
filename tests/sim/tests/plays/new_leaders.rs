//! What a new leader knows of the past: a path that flaps (row 37) and a boot that overruns its budget (row 11), while the
//! leader dies and while all managers start again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vouch_manager::store::{MemoryLogStore, Stores};
use vouch_sim::cluster::guest::Run;
use vouch_sim::cluster::host::{VmNo, n, vm};
use vouch_sim::cluster::sim::{Sim, on_paused_clock};
use vouch_sim::cluster::world::Size;
use vouch_types::{BootKind, Command, EventKind, ManagerId, Policy, PolicyScope, Source, VmState, WallTime};

const SMALL: Size = Size { managers: 3, nodes: 2, racks: 1, vms_per_node: 2 };
const SECOND: Duration = Duration::from_secs(1);

type Kept = BTreeMap<ManagerId, Stores<MemoryLogStore>>;

/// Runs a script against a cluster, and what its managers keep.
fn simulate(seed: u64, script: impl AsyncFnOnce(&mut Sim, &Kept)) {
    on_paused_clock(seed, async {
        let kept: Kept = SMALL.managers().map(|manager| (manager, Stores::memory())).collect();
        let mut sim = Sim::start_on(seed, SMALL, &|manager| kept[&manager].clone()).await;
        script(&mut sim, &kept).await;
        sim.stop().await;
    });
}

/// Kills the leader; it starts again ten seconds later.
async fn change_leader(sim: &mut Sim, kept: &Kept, life: u64) {
    let leader = sim.leader().await;
    sim.kill(leader).await;
    sleep(SECOND * 10).await;
    sim.start_again(leader, life, kept[&leader].clone()).await;
}

/// Kills all managers at once; they start again two seconds later.
async fn restart_all(sim: &mut Sim, kept: &Kept, life: u64) {
    let all: Vec<ManagerId> = sim.managers.keys().copied().collect();
    for manager in &all {
        sim.kill(*manager).await;
    }
    sleep(SECOND * 2).await;
    for manager in all {
        sim.start_again(manager, life, kept[&manager].clone()).await;
    }
}

/// Cuts a node from all managers for five seconds and heals it for five, as often as this.
async fn flap(sim: &mut Sim, times: u32) {
    for _ in 0..times {
        sim.cut_node(n(1), SMALL.managers());
        sleep(SECOND * 5).await;
        sim.heal();
        sleep(SECOND * 5).await;
    }
}

fn notices(sim: &Sim, since: usize) -> Vec<EventKind> {
    let events = sim.events();
    events[since..].iter().map(|event| event.kind.clone()).filter(EventKind::is_notification).collect()
}

#[test]
fn row_37_while_the_leader_dies_and_while_all_managers_start_again_is_two_notices() {
    simulate(41, async |sim: &mut Sim, kept: &Kept| {
        let before = sim.events().len();
        flap(sim, 4).await;
        // In the middle of a cut, so that its end is the new leader's to tell.
        sim.cut_node(n(1), SMALL.managers());
        sleep(SECOND * 3).await;
        change_leader(sim, kept, 2).await;
        sim.heal();
        sleep(SECOND * 5).await;
        flap(sim, 3).await;
        sim.cut_node(n(1), SMALL.managers());
        sleep(SECOND * 3).await;
        restart_all(sim, kept, 3).await;
        sleep(SECOND * 5).await;
        sim.heal();
        sleep(SECOND * 5).await;
        flap(sim, 3).await;
        let told = notices(sim, before);
        assert!(matches!(told.as_slice(), [EventKind::IncidentOpened { .. }]), "{told:#?}");
        let clear = sim.until("the path is clear", |state| state.open_incidents().next().is_none()).await;
        assert!(clear > SECOND * 40, "it was stable for a minute first: {clear:?}");
        let told = notices(sim, before);
        assert!(matches!(told.as_slice(), [_, EventKind::IncidentClosed { .. }]), "{told:#?}");
        let recovered = |kind: &EventKind| matches!(kind, EventKind::PathRecovered { .. });
        let recoveries = sim.events()[before..].iter().filter(|event| recovered(&event.kind)).count();
        assert_eq!(recoveries, 3, "two before it was flapping, and the one that ends it");
        assert!(sim.read(|state| state.nodes()[&n(1).id()].path.source == Source::Direct));
    });
}

fn state_of(sim: &Sim, no: u32) -> VmState {
    sim.read(|state| state.vms()[&vm(no)].verdict.state)
}

#[test]
fn row_11_a_boot_that_overruns_its_budget_is_hung_in_time_whoever_leads_and_not_a_budget_later() {
    const BUDGET: Duration = Duration::from_secs(48);
    simulate(42, async |sim: &mut Sim, kept: &Kept| {
        let leader = sim.leader().await;
        let policy = Policy { boot_budget_ms: Some(48_000), ..Policy::default() };
        let set = Command::SetPolicy { scope: PolicyScope::Cluster, policy, at: WallTime::from_unix_millis(1) };
        sim.managers[&leader].submit(set).await.expect("applied");
        let before = sim.events().len();
        let began = Instant::now();
        // Nobody ends this boot: its guest answers nothing from now on.
        sim.node(n(1)).change(|node| {
            let guest = node.vms.get_mut(&VmNo(1)).expect("it is there");
            guest.run = Run::Booting { since: began };
        });
        sim.world.touch();
        sim.until("it reboots", |state| state.vms()[&vm(1)].verdict.state == VmState::Rebooting).await;
        let boot = |sim: &Sim| sim.read(|state| state.vms()[&vm(1)].boot);
        assert_eq!(boot(sim).map(|boot| boot.kind), Some(BootKind::Reboot));
        sleep(SECOND * 4).await;
        change_leader(sim, kept, 2).await;
        assert_eq!(state_of(sim, 1), VmState::Rebooting);
        restart_all(sim, kept, 3).await;
        sleep(SECOND * 10).await;
        assert_eq!(state_of(sim, 1), VmState::Rebooting, "neither up nor hung because nobody remembered");
        sim.until("it is hung", |state| state.vms()[&vm(1)].verdict.state == VmState::Hung).await;
        // A quarter of the budget was not recorded yet, for two seconds nobody counted, and a hang takes row 8's time.
        let took = began.elapsed();
        assert!(took >= BUDGET && took <= BUDGET + BUDGET / 4 + SECOND * 10, "{took:?}");
        assert_eq!(boot(sim).map(|boot| boot.left), Some(Duration::ZERO));
        restart_all(sim, kept, 4).await;
        sleep(SECOND * 20).await;
        let states: Vec<(VmState, VmState)> = sim.events()[before..]
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::VmStateChanged { from, to, .. } => Some((from, to)),
                _ => None,
            })
            .collect();
        let (up, rebooting, hung) = (VmState::Up, VmState::Rebooting, VmState::Hung);
        assert_eq!(states, [(up, rebooting), (rebooting, hung)], "and stays so when all start again");
    });
}
