//! What goes out comes back the same; what breaks a rule is refused with its field; each limit is hit.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;
use vouch_types::{
    AgentQuery, AgentQuestion, AssignmentGeneration, BootId, ExitReason, Generation, HypervisorState, Incarnation,
    LogIndex, ManagerId, Moment, Network, NodeId, Nonce, Outcome, PauseReason, PeerReach, ProbeAssignment, ProbeGrant,
    ProbeInterface, ProbeName, RelayOutcome, Sequence, SortedMap, StartId, Term, TickSequence, VmId, VmSpec,
    WatcherHealth, WatcherId, WatcherLegs,
};

use super::*;
use crate::links::ManagerEndpoint;
use crate::proto;

fn vm() -> VmId {
    VmId::new(Uuid::from_u128(7))
}

fn probe() -> ProbeAssignment {
    ProbeAssignment {
        probe: ProbeName::new("rdp").unwrap(),
        network: Network::Service,
        settings: "{\"port\":3389}".to_owned(),
    }
}

fn timed(assignment: ProbeAssignment) -> TimedProbe {
    TimedProbe { interval: Some(Duration::from_millis(250)), ..assignment.into() }
}

fn spec() -> VmSpec {
    VmSpec {
        id: vm(),
        name: "desk-1".to_owned(),
        addresses: SortedMap::from([
            (Network::Management, vec!["10.1.0.5".parse().unwrap()]),
            (Network::Service, vec!["10.2.0.5".parse().unwrap(), "fd00::5".parse().unwrap()]),
        ]),
        probes: vec![probe()],
        labels: SortedMap::from([("team".to_owned(), "blue".to_owned())]),
        datastore: Some("nfs-1".to_owned()),
    }
}

fn vm_report() -> VmReport {
    VmReport {
        operation: None,
        progress: vouch_types::Progress::Unknown,
        vm: vm(),
        generation: Generation::new(2),
        start: StartId::new(3),
        state: HypervisorState::Paused(PauseReason::IoError),
        spec: Some(spec()),
        counters: Some(proto::VmCounters { vcpu_micros: Some(5), ..proto::VmCounters::default() }),
        links: BTreeMap::from([(Network::Management, true), (Network::Service, false)]),
    }
}

fn observation() -> WireObservation {
    WireObservation {
        identity: None,
        vm: vm(),
        network: Network::Service,
        probe: ProbeName::new("ping").unwrap(),
        outcome: Outcome::Down,
        reason: "timeout".to_owned(),
        message: "no echo".to_owned(),
        begun: TickSequence::new(9),
        begun_after: Duration::from_millis(3),
        took: Duration::from_millis(800),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ConvertError>, field: &str) {
    let e = result.expect_err("must be refused");
    assert_eq!(e.field, field, "{e}");
    assert!(!e.rule.is_empty() && e.to_string().contains(field), "{e}");
}

#[test]
fn every_state_survives_the_wire_and_unspecified_or_unknown_ones_are_refused() {
    let states = [
        HypervisorState::Running,
        HypervisorState::Paused(PauseReason::Operator),
        HypervisorState::Paused(PauseReason::IoError),
        HypervisorState::Paused(PauseReason::Other),
        HypervisorState::Rebooting,
        HypervisorState::Stopped,
        HypervisorState::Panicked,
        HypervisorState::Gone(ExitReason::Process),
        HypervisorState::Gone(ExitReason::Panic),
        HypervisorState::Gone(ExitReason::Unknown),
        HypervisorState::Unknown,
    ];
    for state in states {
        assert_eq!(hypervisor_state("state", proto::HypervisorState::from(state).into()), Ok(state));
    }
    for o in [Outcome::Up, Outcome::Degraded, Outcome::Down, Outcome::Unknown] {
        assert_eq!(outcome("outcome", proto::Outcome::from(o).into()), Ok(o));
    }
    for n in Network::ALL {
        assert_eq!(network("network", proto::Network::from(n).into()), Ok(n));
    }
    let queries = AgentQuery::ALL.map(AgentQuestion::Query);
    for question in queries.into_iter().chain([AgentQuestion::Ping]) {
        assert_eq!(agent_question("query", proto::GuestAgentQuery::from(question).into()), Ok(question));
    }
    refused(agent_question("query", 0), "query");
    refused(agent_question("query", 99), "query");
    for o in [
        RelayOutcome::Reached,
        RelayOutcome::Refused,
        RelayOutcome::Stalled,
        RelayOutcome::Silent,
        RelayOutcome::Denied,
    ] {
        assert_eq!(relay_outcome("relay", proto::RelayOutcome::from(o).into()), Ok(o));
    }
    for bad in [0, 99, -1] {
        refused(hypervisor_state("state", bad), "state");
        refused(outcome("outcome", bad), "outcome");
        refused(network("network", bad), "network");
        refused(relay_outcome("relay", bad), "relay");
    }
}

#[test]
fn ids_of_the_wrong_length_or_zero_are_refused() {
    refused(vm_id("vm", &[1; 15]), "vm");
    refused(boot_id("boot", &[]), "boot");
    refused(cluster_id("cluster", &[1; 17]), "cluster");
    refused(digest("digest", &[1; 31]), "digest");
    refused(node_id("node", "Not A Label"), "node");
    refused(probe_name("probe", ""), "probe");
    refused(manager_id("manager", 0), "manager");
    refused(watcher_id("watcher", 0), "watcher");
    refused(socket_address("address", "10.0.0.1"), "address");
    assert_eq!(vm_id("vm", &vm_bytes(vm())), Ok(vm()));
}

fn legs() -> WatcherLegs {
    WatcherLegs::from([
        (Network::Management, "10.1.0.200".parse().unwrap()),
        (Network::Service, "fd00::2".parse().unwrap()),
    ])
}

#[test]
fn a_nodes_words_survive_the_wire() {
    let hello = NodeHello {
        boot: BootId::new(Uuid::from_u128(1)),
        incarnation: Incarnation::new(2),
        statement_key: [3; 32],
        relay: "10.1.0.11:7002".parse().unwrap(),
        rack: None,
        driver: "qemu".to_owned(),
        hosts_watchers: true,
        network: Network::Management,
    };
    assert_eq!(NodeHello::try_from(proto::NodeHello::from(&hello)), Ok(hello.clone()));
    let report = NodeReport {
        hypervisor_silent: false,
        sequence: Sequence::new(4),
        tick: TickSequence::new(5),
        age: Duration::from_millis(6),
        full: true,
        vms: vec![vm_report()],
        watchers: vec![(WatcherId::new(1), HypervisorState::Running), (WatcherId::new(2), HypervisorState::Running)],
        legs: BTreeMap::from([(WatcherId::new(1), legs())]),
    };
    assert_eq!(NodeReport::try_from(proto::NodeReport::from(&report)), Ok(report));
    let wrong = proto::NodeHello { driver: "vmware".to_owned(), ..(&hello).into() };
    refused(NodeHello::try_from(wrong), "hello.driver");
    let wrong = proto::NodeHello { statement_key: vec![1; 31], ..(&hello).into() };
    refused(NodeHello::try_from(wrong), "hello.statement_key");
}

#[test]
fn a_report_over_a_limit_is_refused_whole() {
    let id = |n: usize| vm_bytes(VmId::new(Uuid::from_u128(n as u128 + 1)));
    let one = proto::VmReport::from(&VmReport { spec: None, ..vm_report() });
    let report = |count| node_report((0..count).map(|n| proto::VmReport { vm: id(n), ..one.clone() }).collect());
    assert!(NodeReport::try_from(report(limits::VMS_PER_REPORT_MAX)).is_ok());
    refused(NodeReport::try_from(report(limits::VMS_PER_REPORT_MAX + 1)), "report.vms");
    let watcher = proto::WatcherVmReport { watcher: 1, state: 1, legs: Vec::new() };
    let watchers = vec![watcher; limits::WATCHERS_PER_REPORT_MAX + 1];
    refused(NodeReport::try_from(proto::NodeReport { watchers, ..proto::NodeReport::default() }), "report.watchers");

    let one = proto::Observation::from(&observation());
    let observations = |count| (0..count).map(|n| proto::Observation { vm: id(n), ..one.clone() }).collect();
    let report = |count| proto::WatcherReport { observations: observations(count), ..Default::default() };
    assert!(WatcherReport::try_from(report(limits::OBSERVATIONS_PER_REPORT_MAX)).is_ok());
    refused(WatcherReport::try_from(report(limits::OBSERVATIONS_PER_REPORT_MAX + 1)), "observations");
    let relay = proto::RelayObservation { hears: Vec::new(), node: "n1".to_owned(), outcome: 1, begun: None };
    let relays = vec![relay; limits::RELAYS_PER_REPORT_MAX + 1];
    refused(WatcherReport::try_from(proto::WatcherReport { relays, ..Default::default() }), "relays");
    let statements = vec![proto::Signed::default(); limits::STATEMENTS_PER_ANSWER_MAX + 1];
    refused(WatcherAnswer::try_from(proto::Answer { statements, ..Default::default() }), "answer.statements");
}

#[test]
fn a_description_over_a_limit_is_refused_with_the_field() {
    let with = |change: &dyn Fn(&mut proto::VmDescription)| {
        let mut description = vm_description(&spec());
        change(&mut description);
        vm_spec(vm(), description)
    };
    assert_eq!(with(&|_| ()), Ok(spec()));
    let probe = proto::ProbeAssignment::from(&probe());
    assert!(with(&|d| d.probes = vec![probe.clone(); limits::PROBES_PER_VM_MAX]).is_ok());
    refused(with(&|d| d.probes = vec![probe.clone(); limits::PROBES_PER_VM_MAX + 1]), "probes");
    let address = proto::Address { network: 1, address: "10.0.0.1".to_owned() };
    refused(with(&|d| d.addresses = vec![address.clone(); limits::ADDRESSES_MAX + 1]), "addresses");
    refused(with(&|d| d.addresses[0].address = "host.example".to_owned()), "address.address");
    refused(with(&|d| d.labels = vec![proto::Label::default(); limits::LABELS_MAX + 1]), "labels");
    refused(with(&|d| d.labels[0].key = "k".repeat(limits::LABEL_TEXT_MAX + 1)), "label.key");
    refused(with(&|d| d.name = "n".repeat(limits::NAME_TEXT_MAX + 1)), "description.name");
    refused(with(&|d| d.probes[0].settings = "[]".to_owned()), "probe.settings");
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(limits::SETTINGS_MAX));
    refused(with(&|d| d.probes[0].settings = long.clone()), "probe.settings");
}

#[test]
fn a_watchers_words_survive_the_wire_and_get_their_moment_from_the_manager() {
    let report = WatcherReport {
        sequence: Sequence::new(1),
        assignment: AssignmentGeneration::new(2),
        full: false,
        observations: vec![observation()],
        relays: vec![WireRelayObservation {
            hears: Vec::new(),
            node: NodeId::new("n1").unwrap(),
            outcome: RelayOutcome::Silent,
            begun: TickSequence::new(3),
        }],
        others_age: Some(Duration::from_millis(400)),
        health: Some(WatcherHealth {
            management_loss_per_mille: 0,
            service_loss_per_mille: 0,
            loop_lag: Duration::from_millis(1),
            steal_percent: 100,
            management_reached: true,
            service_reached: false,
            peers: vec![PeerReach { peer: WatcherId::new(2), network: Network::Service, reached: true }],
        }),
        tick: TickSequence::new(4),
    };
    assert_eq!(WatcherReport::try_from(proto::WatcherReport::from(&report)), Ok(report));
    let held = observation().at(WatcherId::new(1), Moment::from_micros(77), Some(Nonce::new(5)));
    assert_eq!((held.begun, held.outcome, held.asked), (Moment::from_micros(77), Outcome::Down, Some(Nonce::new(5))));
}

#[test]
fn an_observation_with_too_much_text_or_impossible_health_is_refused() {
    let m = proto::Observation::from(&observation());
    let long = proto::Observation { reason: "r".repeat(limits::REASON_MAX + 1), ..m.clone() };
    refused(WireObservation::try_from(long), "observation.reason");
    let (reason, message) = ("a\nb".to_owned(), "a\u{1b}[2Jb\nc".to_owned());
    let coloured = WireObservation::try_from(proto::Observation { reason, message, ..m.clone() }).unwrap();
    assert_eq!((coloured.reason.as_str(), coloured.message.as_str()), ("a b", "a [2Jb c"));
    assert_eq!(AskDepth::of(true, true), AskDepth::Light);
    let long = proto::Observation { message: "m".repeat(limits::MESSAGE_MAX + 1), ..m };
    refused(WireObservation::try_from(long), "observation.message");
    refused(
        WatcherHealth::try_from(proto::WatcherHealth { steal_percent: 101, ..Default::default() }),
        "health.steal_percent",
    );
    let reach = |n: usize| proto::PeerReach { watcher: n as u64 + 1, network: 1, reached: true };
    let health = |peers| WatcherHealth::try_from(proto::WatcherHealth { peers, ..Default::default() });
    assert!(health((0..limits::PEER_REACHES_MAX).map(reach).collect()).is_ok());
    refused(health((0..=limits::PEER_REACHES_MAX).map(reach).collect()), "health.peers");
    refused(health(vec![reach(1), reach(1)]), "health.peers");
}

fn node_report(vms: Vec<proto::VmReport>) -> proto::NodeReport {
    proto::NodeReport { sequence: 1, full: true, vms, ..Default::default() }
}

#[test]
fn a_vm_or_watcher_that_is_twice_in_one_report_is_refused() {
    let word = proto::VmReport::from(&vm_report());
    let stopped = proto::VmReport { state: proto::HypervisorState::Stopped.into(), ..word.clone() };
    refused(NodeReport::try_from(node_report(vec![word.clone(), stopped])), "report.vms");
    let link = proto::LinkReport { network: proto::Network::Service.into(), up: true };
    let twice = proto::VmReport { links: vec![link, proto::LinkReport { up: false, ..link }], ..word };
    refused(NodeReport::try_from(node_report(vec![twice])), "vm_report.links");
    let state = proto::HypervisorState::Running.into();
    let watcher = proto::WatcherVmReport { watcher: 3, state, legs: Vec::new() };
    let report = proto::NodeReport { watchers: vec![watcher.clone(), watcher], ..node_report(Vec::new()) };
    refused(NodeReport::try_from(report), "report.watchers");
}

#[test]
fn a_check_that_is_twice_in_one_report_or_answer_is_refused() {
    let seen = proto::Observation::from(&observation());
    let other = proto::Observation { outcome: proto::Outcome::Up.into(), ..seen.clone() };
    let over_management = proto::Observation { network: proto::Network::Management.into(), ..seen.clone() };
    let report = |observations| proto::WatcherReport { sequence: 1, observations, ..Default::default() };
    assert!(WatcherReport::try_from(report(vec![seen.clone(), over_management])).is_ok());
    refused(WatcherReport::try_from(report(vec![seen.clone(), other.clone()])), "observations");
    let answer = proto::Answer { nonce: 1, observations: vec![seen, other], ..Default::default() };
    refused(WatcherAnswer::try_from(answer), "observations");
    let asked = proto::RelayObservation {
        node: "n1".to_owned(),
        outcome: proto::RelayOutcome::Reached.into(),
        ..Default::default()
    };
    let report = proto::WatcherReport { relays: vec![asked.clone(), asked], ..report(Vec::new()) };
    refused(WatcherReport::try_from(report), "relays");
}

#[test]
fn ages_and_times_that_nothing_can_have_are_refused() {
    let most = u64::try_from(limits::AGE_MAX.as_micros()).unwrap();
    let aged = |age_micros| proto::NodeReport { age_micros, ..node_report(Vec::new()) };
    assert_eq!(NodeReport::try_from(aged(most)).map(|r| r.age), Ok(limits::AGE_MAX));
    refused(NodeReport::try_from(aged(most + 1)), "report.age_micros");
    let others = |micros| proto::WatcherReport { others_age_micros: Some(micros), ..Default::default() };
    assert!(WatcherReport::try_from(others(most)).is_ok());
    refused(WatcherReport::try_from(others(u64::MAX)), "report.others_age_micros");
    let seen = proto::Observation::from(&observation());
    let begun = proto::Observation { begun_after_micros: u64::MAX, ..seen.clone() };
    refused(WireObservation::try_from(begun), "observation.begun_after_micros");
    refused(WireObservation::try_from(proto::Observation { took_micros: u64::MAX, ..seen }), "observation.took_micros");
    let lag = proto::WatcherHealth { loop_lag_micros: u64::MAX, ..Default::default() };
    refused(WatcherHealth::try_from(lag), "health.loop_lag_micros");
}

#[test]
fn orders_survive_the_wire_and_none_is_taken_without_its_fence() {
    let fence = Fence { term: Term::new(3), log_index: LogIndex::new(40) };
    let endpoint = |number, network, address: &str| ManagerEndpoint {
        manager: ManagerId::new(number),
        network,
        address: address.parse().unwrap(),
    };
    let create = CreateWatcher {
        fence,
        watcher: WatcherId::new(5),
        placed: LogIndex::new(39),
        secret: [9; 32],
        ca_certificate: "pem".to_owned(),
        managers: vec![
            endpoint(1, Network::Management, "10.1.0.1:7001"),
            endpoint(1, Network::Service, "10.2.0.1:7001"),
            endpoint(2, Network::Management, "10.1.0.2:7001"),
        ],
    };
    let m = proto::CreateWatcher::from(&create);
    assert_eq!(CreateWatcher::try_from(m.clone()), Ok(create.clone()));
    assert!(!format!("{create:?}").contains("secret"), "a secret never reaches a log");
    refused(CreateWatcher::try_from(proto::CreateWatcher { fence: None, ..m.clone() }), "create_watcher.fence");
    refused(
        CreateWatcher::try_from(proto::CreateWatcher { secret: vec![9; 31], ..m.clone() }),
        "create_watcher.secret",
    );
    let many = vec![proto::ManagerAddresses { manager: 1, endpoints: Vec::new() }; limits::MANAGERS_MAX + 1];
    refused(manager_endpoints(many), "managers");
    let long = "c".repeat(limits::CERTIFICATE_MAX + 1);
    refused(
        CreateWatcher::try_from(proto::CreateWatcher { ca_certificate: long, ..m }),
        "create_watcher.ca_certificate",
    );

    let assignment = Assignment {
        fence,
        generation: AssignmentGeneration::new(6),
        targets: vec![Target {
            vm: vm(),
            node: NodeId::new("n1").unwrap(),
            addresses: spec().addresses,
            probes: spec().probes.into_iter().map(timed).collect(),
            labels: spec().labels,
            probe_interval: Some(Duration::from_secs(5)),
            probe_timeout: None,
        }],
        relays: vec![RelayTarget {
            node: NodeId::new("n1").unwrap(),
            address: "10.1.0.11:7002".parse().unwrap(),
            grant: proto::Signed { payload: vec![1], signature: vec![2] },
        }],
        probes: BTreeMap::from([
            (ProbeName::new("rdp").unwrap(), AssignedProbe { digest: vouch_types::Digest::new([4; 32]), grant: None }),
            (
                ProbeName::new("ssh").unwrap(),
                AssignedProbe {
                    digest: vouch_types::Digest::new([5; 32]),
                    grant: Some(ProbeGrant::parse(&["sockets", "tls"], &["service"], &["22", "8443"]).unwrap()),
                },
            ),
        ]),
        peers: vec![Peer { watcher: WatcherId::new(2), legs: legs() }],
    };
    let m = proto::Assignment::from(&assignment);
    assert_eq!(Assignment::try_from(m.clone()), Ok(assignment));
    refused(Assignment::try_from(proto::Assignment { fence: None, ..m.clone() }), "assignment.fence");
    let over = vec![m.targets[0].clone(); limits::TARGETS_PER_ASSIGNMENT_MAX + 1];
    refused(Assignment::try_from(proto::Assignment { targets: over, ..m.clone() }), "assignment.targets");
    let over = vec![m.relays[0].clone(); limits::RELAYS_PER_ASSIGNMENT_MAX + 1];
    refused(Assignment::try_from(proto::Assignment { relays: over, ..m.clone() }), "assignment.relays");
    let over = vec![m.probes[0].clone(); limits::PROBES_PER_ASSIGNMENT_MAX + 1];
    refused(Assignment::try_from(proto::Assignment { probes: over, ..m.clone() }), "assignment.probes");
    let peer = |n: usize| proto::Peer { watcher: n as u64 + 1, legs: Vec::new() };
    let peers = |count| proto::Assignment { peers: (0..count).map(peer).collect(), ..m.clone() };
    assert!(Assignment::try_from(peers(limits::PEERS_PER_ASSIGNMENT_MAX)).is_ok());
    refused(Assignment::try_from(peers(limits::PEERS_PER_ASSIGNMENT_MAX + 1)), "assignment.peers");
    let twice = vec![peer(1), peer(1)];
    refused(Assignment::try_from(proto::Assignment { peers: twice, ..m.clone() }), "assignment.peers");
    let leg = m.peers[0].legs[0].clone();
    let with = |legs: Vec<proto::Address>| {
        let peers = vec![proto::Peer { watcher: 2, legs }];
        Assignment::try_from(proto::Assignment { peers, ..m.clone() })
    };
    refused(with(vec![leg.clone(); 3]), "legs");
    refused(with(vec![leg.clone(); 2]), "legs");
    refused(with(vec![proto::Address { address: "host".to_owned(), ..leg }]), "legs.address");

    let owned = proto::OwnedVm { vm: vm_bytes(vm()), generation: 2 };
    let told = proto::Ownership { fence: Some(fence.into()), vms: vec![owned.clone()] };
    assert_eq!(ownership(told), Ok((fence, BTreeMap::from([(vm(), Generation::new(2))]))));
    refused(ownership(proto::Ownership { fence: None, vms: Vec::new() }), "ownership.fence");
    let over = vec![owned; limits::VMS_PER_REPORT_MAX + 1];
    refused(ownership(proto::Ownership { fence: Some(fence.into()), vms: over }), "ownership.vms");
}

#[test]
fn what_a_probe_is_granted_survives_the_way_and_what_a_watcher_does_not_know_grants_nothing() {
    let grant = |ports: &[&str]| ProbeGrant::parse(&["icmp", "sockets"], &["management", "service"], ports).unwrap();
    for grant in [grant(&["settings"]), grant(&["1", "65535"])] {
        assert_eq!(ProbeGrant::try_from(proto::ProbeGrant::from(&grant)), Ok(grant));
    }
    let m = proto::ProbeGrant::from(&grant(&["22"]));
    let later = proto::ProbeGrant { interfaces: vec!["icmp".to_owned(), "telepathy".to_owned()], ..m.clone() };
    assert_eq!(ProbeGrant::try_from(later).unwrap().interfaces, [ProbeInterface::Icmp].into());
    let over = vec!["icmp".to_owned(); limits::GRANT_INTERFACES_MAX + 1];
    refused(ProbeGrant::try_from(proto::ProbeGrant { interfaces: over, ..m.clone() }), "probe_grant.interfaces");
    refused(ProbeGrant::try_from(proto::ProbeGrant { networks: vec![1; 3], ..m.clone() }), "probe_grant.networks");
    refused(ProbeGrant::try_from(proto::ProbeGrant { networks: vec![0], ..m.clone() }), "probe_grant.networks");
    refused(ProbeGrant::try_from(proto::ProbeGrant { ports: vec![65_536], ..m.clone() }), "probe_grant.ports");
    let over = vec![1; limits::GRANT_PORTS_MAX + 1];
    refused(ProbeGrant::try_from(proto::ProbeGrant { ports: over, ..m }), "probe_grant.ports");
}

#[test]
fn a_grant_over_its_limit_is_refused() {
    let grant = |count| proto::Grant {
        cluster: vec![1; 16],
        watcher: 1,
        node: "n1".to_owned(),
        vms: vec![vec![2; 16]; count],
        generation: 1,
    };
    assert!(vouch_types::Grant::try_from(grant(limits::GRANT_VMS_MAX)).is_ok());
    refused(vouch_types::Grant::try_from(grant(limits::GRANT_VMS_MAX + 1)), "grant.vms");
}

#[test]
fn an_error_shows_field_rule_and_only_the_beginning_of_a_long_value() {
    let e = text("field", "x".repeat(1000), 10).expect_err("must be refused");
    assert!(e.value.len() <= 80 && e.to_string().contains("at most 10 bytes, is 1000"), "{e}");
    assert!(matches!(LinkError::from(e), LinkError::Malformed(_)));
}
