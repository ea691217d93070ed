//! Plans over small clusters, built by applying commands as the log would.

use std::net::SocketAddr;

use uuid::Uuid;
use vouch_types::command::ClusterSecrets;
use vouch_types::{
    BootId, ClusterId, Command, Incarnation, LogIndex, NextCa, NodePath, NodeRecord, SortedMap, VmSpec, WallTime,
};

use super::*;

const AT: WallTime = WallTime::from_unix_millis(1);

struct World {
    state: State,
    index: u64,
}

impl World {
    /// Nodes by name and rack, each with VMs.
    fn new(nodes: &[(&str, Option<&str>, u128)]) -> Self {
        let mut world = Self { state: State::default(), index: 0 };
        let secrets = ClusterSecrets {
            ca_certificate: String::new(),
            ca_key: String::new(),
            grant_key: Vec::new(),
            grant_public_key: Vec::new(),
            next_ca: NextCa::None,
        };
        world.apply(Command::InitCluster { cluster: ClusterId::new(Uuid::nil()), secrets, at: AT });
        for (number, (name, rack, vms)) in nodes.iter().enumerate() {
            let node = NodeRecord {
                fence: None,
                modified: LogIndex::default(),
                id: id(name),
                rack: rack.map(str::to_owned),
                relay: SocketAddr::from(([127, 0, 0, 1], 1)),
                statement_key: Vec::new(),
                boot: BootId::new(Uuid::nil()),
                incarnation: Incarnation::new(1),
                driver: "local".to_owned(),
                hosts_watchers: true,
                path: NodePath::direct(AT),
            };
            world.apply(Command::RecordNode { node, at: AT });
            let vms = (0..*vms).map(|i| spec((number as u128) << 64 | i)).collect();
            world.apply(Command::RecordVms { node: id(name), vms, at: AT });
        }
        world
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        self.state.apply(LogIndex::new(self.index), command);
    }

    /// Carries plans out until there is nothing left to do.
    fn settle(&mut self) {
        for _ in 0..100 {
            let plan = plan(&self.state, |_| true);
            for node in &plan.place {
                self.apply(Command::PlaceWatcher { node: node.clone(), secret_hash: vec![1; 32], at: AT });
            }
            for watcher in &plan.retire {
                self.apply(Command::RetireWatcher { watcher: *watcher, at: AT });
                self.apply(Command::ForgetWatcher { watcher: *watcher });
            }
            if plan.place.is_empty() && plan.retire.is_empty() && plan.assign.is_empty() {
                return;
            }
            self.apply(Command::AssignWatchers { assignments: plan.assign });
        }
        panic!("the plan never settles");
    }

    fn watching(&self, vm: &VmId) -> Vec<NodeId> {
        let watchers = self.state.watchers().values().filter(|w| w.vms.contains(vm));
        watchers.map(|w| w.node.clone()).collect()
    }
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn spec(number: u128) -> VmSpec {
    VmSpec {
        id: VmId::new(Uuid::from_u128(number)),
        name: format!("vm-{number}"),
        addresses: SortedMap::new(),
        probes: Vec::new(),
        labels: SortedMap::new(),
        datastore: None,
    }
}

#[test]
fn every_vm_is_watched_from_its_own_node_and_from_another_one() {
    let mut world = World::new(&[("n1", None, 40), ("n2", None, 40), ("n3", None, 40)]);
    world.settle();
    assert_eq!(world.state.watchers().len(), 3);
    for (vm, record) in world.state.vms() {
        let watching = world.watching(vm);
        assert!(watching.contains(&record.node), "{vm} lacks a watcher on its own node");
        assert_eq!(watching.len(), 2, "{vm}");
    }
    for watcher in world.state.watchers().values() {
        assert!((60..=100).contains(&watcher.vms.len()), "unbalanced: {} watches {}", watcher.id, watcher.vms.len());
    }
}

#[test]
fn the_other_watcher_is_in_another_rack_if_there_is_one() {
    let mut world = World::new(&[("n1", Some("r1"), 20), ("n2", Some("r1"), 0), ("n3", Some("r2"), 0)]);
    world.settle();
    for vm in world.state.vms().keys() {
        assert_eq!(world.watching(vm), [id("n1"), id("n3")], "{vm}");
    }
}

#[test]
fn a_lost_watcher_is_replaced_and_its_vms_are_watched_meanwhile() {
    let mut world = World::new(&[("n1", None, 5), ("n2", None, 0), ("n3", None, 0)]);
    world.settle();
    let lost = world.state.watchers().values().find(|w| w.node == id("n2")).unwrap().id;
    world.apply(Command::LoseWatcher { watcher: lost, reason: String::new(), at: AT });
    let first = plan(&world.state, |_| true);
    assert_eq!((first.place, first.retire), (vec![id("n2")], vec![lost]));
    let far: usize = first.assign.iter().map(|(_, vms)| vms.len()).max().unwrap_or_default();
    let n3 = world.state.watchers().values().find(|w| w.node == id("n3")).unwrap();
    assert!(n3.vms.len() == 5 || far == 5, "the watcher on n3 takes all over");
    world.settle();
    assert_eq!(world.state.watchers().len(), 3);
    assert!(!world.state.watchers().contains_key(&lost));
}

#[test]
fn a_watcher_takes_no_more_than_its_share_and_then_another_one_comes() {
    let mut world = World::new(&[("n1", None, WATCHER_VMS_MAX as u128 + 1)]);
    world.settle();
    let sizes: Vec<usize> = world.state.watchers().values().map(|w| w.vms.len()).collect();
    assert_eq!(sizes, [WATCHER_VMS_MAX, 1]);
}

#[test]
fn a_node_that_cannot_be_reached_gets_no_watcher() {
    let world = World::new(&[("n1", None, 1)]);
    let plan = plan(&world.state, |_| false);
    assert_eq!(plan.place, []);
    assert_eq!(plan.thin, 1);
}
