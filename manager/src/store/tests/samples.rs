//! Records and commands to test with.

mod probes;

pub(crate) use probes::*;
use uuid::Uuid;
use vouch_types::command::{ClusterSecrets, PathChange};
use vouch_types::event::ManagerNote;
use vouch_types::{
    Advice, BootChange, BootId, BootKind, BootRecord, CaSecrets, Cause, ClusterId, Command, Digest, Fault, FenceKind,
    Generation, Guard, HandBack, Identity, Incarnation, IncidentChange, IncidentScope, IncidentWord, JoinFor, JoinRole,
    JoinTokenId, Joiner, LogIndex, LogName, MaintenanceId, ManagerId, ManagerNode, ManagerReturn, Network, NextCa,
    NodeId, NodePath, NodeRecord, Once, Pin, PlacementChange, Policy, PolicyScope, ProbeAssignment, ProbeGrant,
    ProbeImports, ProbeKeyName, ProbeName, ProbePublicKey, ProbeRecord, ProbeRefusal, ProbeSigner, RankedCause,
    ReturnEnd, RolloutStep, SignatureRule, SortedMap, Source, StartId, Suffrage, Tally, Term, Verdict, VerdictChange,
    VerdictVersion, VmId, VmSpec, VmState, VmsLeft, WallTime, WatcherId,
};

pub(crate) fn at(millis: u64) -> WallTime {
    WallTime::from_unix_millis(millis)
}

pub(crate) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn vm_id(number: u128) -> VmId {
    VmId::new(Uuid::from_u128(number))
}

pub(crate) fn cluster_id() -> ClusterId {
    ClusterId::new(Uuid::from_u128(0xc1))
}

pub(crate) fn init() -> Command {
    let secrets = ClusterSecrets {
        ca_certificate: "certificate".to_owned(),
        ca_key: "key".to_owned(),
        grant_key: vec![1, 2, 255],
        grant_public_key: vec![7; 32],
        next_ca: NextCa::None,
    };
    Command::InitCluster { cluster: cluster_id(), secrets, at: at(1) }
}

pub(crate) fn node(name: &str) -> NodeRecord {
    NodeRecord {
        fence: None,
        modified: LogIndex::default(),
        id: node_id(name),
        rack: Some("r1".to_owned()),
        relay: "10.0.0.1:7443".parse().unwrap(),
        statement_key: vec![9; 32],
        boot: BootId::new(Uuid::from_u128(0xb0)),
        incarnation: Incarnation::new(1),
        driver: "local".to_owned(),
        hosts_watchers: true,
        path: NodePath::direct(at(10)),
    }
}

pub(crate) fn record_node(name: &str) -> Command {
    Command::RecordNode { node: node(name), at: at(10) }
}

pub(crate) fn ping() -> ProbeAssignment {
    ProbeAssignment {
        probe: ProbeName::new("ping").unwrap(),
        network: Network::Service,
        settings: r#"{"count":3}"#.to_owned(),
    }
}

pub(crate) fn vm_spec(number: u128) -> VmSpec {
    VmSpec {
        id: vm_id(number),
        name: format!("desktop-{number}"),
        addresses: SortedMap::from([(Network::Service, vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()])]),
        probes: vec![ping()],
        labels: SortedMap::from([("team".to_owned(), "blue".to_owned())]),
        datastore: None,
    }
}

pub(crate) fn record_vms(name: &str, numbers: &[u128]) -> Command {
    Command::RecordVms { node: node_id(name), vms: numbers.iter().map(|n| vm_spec(*n)).collect(), at: at(20) }
}

pub(crate) fn verdict(state: VmState) -> Verdict {
    Verdict { state, reason: "because".to_owned(), ..Verdict::unjudged(at(0)) }
}

pub(crate) fn change(number: u128, replaces: u64, verdict: Verdict) -> VerdictChange {
    VerdictChange {
        shared: None,
        vm: vm_id(number),
        // The stories register their VMs in the order of their numbers.
        generation: Generation::new(u64::try_from(number).unwrap_or_default()),
        replaces: VerdictVersion::new(replaces),
        verdict,
    }
}

pub(crate) fn record_verdict(number: u128, replaces: u64, verdict: Verdict, millis: u64) -> Command {
    Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: Vec::new(),
        placements: Vec::new(),
        verdicts: vec![change(number, replaces, verdict)],
        paths: Vec::new(),
        manager_notes: None,
        at: at(millis),
    }
}

pub(crate) fn record_path(name: &str, replaces: u64, source: Source, faults: Vec<Fault>, millis: u64) -> Command {
    let reason = "a link was cut".to_owned();
    let change = PathChange {
        node: node_id(name),
        replaces: VerdictVersion::new(replaces),
        source,
        faults,
        reason,
        hand_backs: vec![HandBack { left: std::time::Duration::from_secs(60) }],
    };
    Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: Vec::new(),
        placements: Vec::new(),
        verdicts: Vec::new(),
        paths: vec![change],
        manager_notes: None,
        at: at(millis),
    }
}

/// A boot of a VM that has so many seconds left.
pub(crate) fn boot(number: u128, generation: u64, left: u64) -> BootChange {
    let left = std::time::Duration::from_secs(left);
    let boot = BootRecord { kind: BootKind::Reboot, start: StartId::new(7), left };
    BootChange { vm: vm_id(number), generation: Generation::new(generation), boot: Some(boot) }
}

pub(crate) fn record_boots(boots: Vec<BootChange>) -> Command {
    Command::RecordVerdicts {
        incidents: Vec::new(),
        placements: Vec::new(),
        boots,
        claims: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: None,
        at: at(50),
    }
}

pub(crate) fn remove_node(name: &str, vms: VmsLeft) -> Command {
    Command::RemoveNode { node: node_id(name), vms, by: "admin token of m1".to_owned(), at: at(70) }
}

pub(crate) fn cut() -> Fault {
    Fault::sure(Cause::ManagerNodePath)
}

pub(crate) fn place(name: &str, secret_byte: u8) -> Command {
    Command::PlaceWatcher { node: node_id(name), secret_hash: vec![secret_byte; 32], at: at(30) }
}

pub(crate) fn redeem(watcher: u64, secret_byte: u8) -> Command {
    Command::RedeemSecret {
        watcher: WatcherId::new(watcher),
        secret_hash: vec![secret_byte; 32],
        incarnation: Incarnation::new(5),
        at: at(31),
    }
}

pub(crate) fn probe() -> ProbeRecord {
    ProbeRecord {
        name: ProbeName::new("ping").unwrap(),
        version: "0.1.0".to_owned(),
        digest: Digest::new([3; 32]),
        size: 118_000,
        imports: ProbeImports { interfaces: vec!["vouch:probe/icmp@0.1.0".to_owned()] },
        shipped: true,
        grant: Some(ProbeGrant::parse(&["icmp"], &["management", "service"], &["settings"]).unwrap()),
        signer: None,
        descriptor: None,
        rollout: None,
    }
}

/// An uploaded probe, with the grant of both networks.
pub(crate) fn uploaded() -> ProbeRecord {
    ProbeRecord { name: ProbeName::new("my-ping").unwrap(), shipped: false, ..probe() }
}

/// Narrows the grant of [`uploaded`] to one network and one port.
pub(crate) fn grant_service() -> Command {
    let grant = ProbeGrant::parse(&["icmp"], &["service"], &["7"]).unwrap();
    Command::GrantProbe { probe: uploaded().name, grant, by: "admin token of m1".to_owned(), at: at(53) }
}

pub(crate) fn key_name(name: &str) -> ProbeKeyName {
    ProbeKeyName::new(name).unwrap()
}

pub(crate) fn public_key(byte: u8) -> ProbePublicKey {
    ProbePublicKey::new([byte; 32])
}

pub(crate) fn add_probe_key(name: &str, byte: u8) -> Command {
    let by = "admin token of m1".to_owned();
    Command::AddProbeKey { name: key_name(name), public_key: public_key(byte), by, at: at(53) }
}

/// A probe with a signature of the key `release`.
pub(crate) fn signed() -> ProbeRecord {
    let signer = ProbeSigner { key: key_name("release"), public_key: public_key(7) };
    ProbeRecord { name: ProbeName::new("signed-ping").unwrap(), signer: Some(signer), ..uploaded() }
}

pub(crate) fn refusal() -> ProbeRefusal {
    ProbeRefusal {
        probe: uploaded().name,
        digest: Digest::new([9; 32]),
        reason: "the signature is of no trusted key".to_owned(),
        by: "admin token of m2".to_owned(),
        unrecorded: 3,
    }
}

/// Every command, with every kind of cause and advice somewhere inside.
pub(crate) fn every_command() -> Vec<Command> {
    let causes = [
        Cause::ManagerNodePath,
        Cause::NodeUplink(Network::Management),
        Cause::NodeVmPath,
        Cause::NodeAgent,
        Cause::Hypervisor,
        Cause::Node,
        Cause::NodeIsolated,
        Cause::Rack,
        Cause::VmProcess,
        Cause::GuestOs,
        Cause::GuestAgent,
        Cause::VmNic,
        Cause::Service("rdp".to_owned()),
        Cause::Storage,
        Cause::Network(Network::Service),
        Cause::OneWay { from: "n1".to_owned(), to: "m1".to_owned() },
        Cause::LossyPath,
        Cause::Watcher,
        Cause::Manager,
    ];
    let ranked = causes.into_iter().map(|cause| RankedCause { cause, score: 50 }).collect();
    let faults = vec![Fault::ranked(ranked).with_detail("silent"), cut()];
    let generation = Generation::new(1);
    let advices = [
        Advice::None,
        Advice::Restart { generation },
        Advice::SafeToRestart {
            index: LogIndex::new(9),
            valid_for: std::time::Duration::from_secs(10),
            generation,
            proof: vouch_types::Proof::PowerOff,
        },
        Advice::FenceFirst { generation },
        Advice::Blocked,
    ];
    let verdicts = advices
        .into_iter()
        .zip(1..)
        .map(|(advice, n)| {
            let verdict = Verdict { faults: faults.clone(), notes: vec![cut()], advice, ..verdict(VmState::Down) };
            change(n, 0, verdict)
        })
        .collect();
    let notes = vec![ManagerNote { manager: ManagerId::new(2), node: node_id("n1") }];
    let Command::RecordVerdicts { paths, .. } = record_path("n1", 0, Source::Watcher, faults, 40) else {
        panic!("record_path makes a RecordVerdicts");
    };
    let watcher = WatcherId::new(1);
    vec![
        init(),
        Command::RecordLeader { manager: ManagerId::new(1), term: Term::new(1), at: at(2) },
        record_node("n1"),
        record_vms("n1", &[1, 2, 3, 4, 5]),
        Command::RecordProven { pins: vec![(vm_id(1), pin()), (vm_id(2), pin())], proven: vec![(vm_id(1), ping())] },
        Command::RecordVerdicts {
            boots: vec![boot(1, 1, 30), boot(2, 2, 0)],
            claims: Vec::new(),
            incidents: every_scope()
                .into_iter()
                .map(|scope| IncidentChange { scope, word: Some(incident()) })
                .collect(),
            placements: Vec::new(),
            verdicts,
            paths,
            manager_notes: Some(notes),
            at: at(40),
        },
        place("n1", 1),
        redeem(1, 1),
        Command::AssignWatchers { assignments: vec![(watcher, vec![vm_id(1), vm_id(2)])] },
        Command::RecordProbe { probe: rolling(1), by: String::new(), at: at(49) },
        begin_rollout(rolling(2)),
        step_rollout(2, RolloutStep::Try { watcher, before: Tally { runs: 4, faults: 1 } }),
        step_rollout(2, tally(watcher)),
        step_rollout(2, RolloutStep::TakeBack { reason: "it faults".to_owned() }),
        begin_rollout(rolling(3)),
        step_rollout(3, RolloutStep::Promote { reason: "it does not".to_owned() }),
        begin_rollout(rolling(4)),
        step_rollout(4, RolloutStep::Try { watcher, before: Tally::default() }),
        Command::LoseWatcher { watcher, reason: "silent for 1.5 s".to_owned(), at: at(50) },
        Command::RetireWatcher { watcher, at: at(51) },
        Command::ForgetWatcher { watcher },
        Command::RecordProbe { probe: probe(), by: String::new(), at: at(52) },
        Command::RecordProbe { probe: uploaded(), by: "admin token of m1".to_owned(), at: at(52) },
        grant_service(),
        Command::RecordProbe { probe: described(), by: "admin token of m1".to_owned(), at: at(53) },
        assign(PolicyScope::Cluster, "{}"),
        assign(PolicyScope::Vm(vm_id(1)), r#"{"port":22}"#),
        unassign(PolicyScope::Cluster),
        add_probe_key("release", 7),
        add_probe_key("spare", 8),
        Command::SetSignatureRule {
            signatures: SignatureRule::Required,
            by: "admin token of m1".to_owned(),
            at: at(54),
        },
        Command::RecordProbe { probe: signed(), by: "admin token of m1".to_owned(), at: at(54) },
        Command::RefuseProbe { refusal: refusal(), at: at(54) },
        Command::RemoveProbeKey { name: key_name("spare"), by: "admin token of m1".to_owned(), at: at(54) },
        place("n1", 2),
    ]
    .into_iter()
    .chain(what_operators_set())
    .collect()
}

fn pin() -> Pin {
    Pin { probe: ping().probe, network: Network::Service, identity: Identity::new(u64::MAX) }
}

/// A token that is made, used and taken back, and one that stays.
fn joining() -> Vec<Command> {
    let hour = std::time::Duration::from_secs(3600);
    let create =
        |allows| Command::CreateJoinToken { allows, secret_hash: Digest::new([6; 32]), uses: 2, ttl: hour, at: at(60) };
    let joiner = Joiner::Node(node_id("n1"));
    let (secret_hash, request, key) = (Digest::new([6; 32]), Digest::new([7; 32]), None);
    vec![
        create(JoinFor::One(joiner.clone())),
        Command::RedeemJoinToken { secret_hash, joiner, request, key, incarnation: Incarnation::default(), at: at(61) },
        Command::RevokeJoinToken { token: JoinTokenId::new(1), at: at(62) },
        add_ca("second"),
        Command::SwitchCa { at: at(63) },
        Command::RetireCa { at: at(64) },
        add_ca("third"),
        Command::RecordManagerLog { manager: ManagerId::new(1), log: log_name(1) },
        Command::RecordManagerLog { manager: ManagerId::new(2), log: log_name(2) },
        begin_return(2),
        Command::EndManagerReturn { manager: ManagerId::new(2), end: ReturnEnd::Returned, at: at(66) },
        begin_return(2),
        create(JoinFor::Any(JoinRole::Manager)),
    ]
}

pub(crate) fn log_name(number: u128) -> LogName {
    LogName::new(Uuid::from_u128(number))
}

fn begin_return(manager: u64) -> Command {
    let node = ManagerNode {
        addresses: vec![(Network::Management, "10.1.0.2:7001".parse().unwrap())],
        ..ManagerNode::default()
    };
    let returning = ManagerReturn { node, suffrage: Suffrage::Voter };
    Command::BeginManagerReturn { manager: ManagerId::new(manager), returning, at: at(65) }
}

pub(crate) fn add_ca(name: &str) -> Command {
    let ca = CaSecrets { certificate: format!("certificate of the {name}"), key: format!("key of the {name}") };
    Command::AddCa { ca, at: at(62) }
}

fn every_scope() -> Vec<IncidentScope> {
    vec![
        IncidentScope::Network(Network::Service),
        IncidentScope::Rack("r1".to_owned()),
        IncidentScope::Node(node_id("n1")),
        IncidentScope::Flapping(node_id("n1")),
        IncidentScope::Datastore("ssd".to_owned()),
        IncidentScope::Manager(ManagerId::new(2)),
        IncidentScope::Site,
    ]
}

fn incident() -> IncidentWord {
    IncidentWord {
        fault: Fault::sure(Cause::Node),
        vms_touched: 5,
        nodes_touched: 1,
        nodes: vec![node_id("n1")],
        reason: "silent on every path".to_owned(),
    }
}

/// A window that is begun once, whatever version is there.
fn guarded() -> Command {
    let scope = PolicyScope::Vm(vm_id(2));
    let lasts = std::time::Duration::from_secs(60);
    let command = Command::BeginMaintenance { scope, reason: "new disk".to_owned(), lasts, at: at(67) };
    let once = Once { key: "a key".to_owned(), request: Digest::new([5; 32]) };
    Command::Guarded { command: Box::new(command), guard: Guard { expects: None, once: Some(once), at: at(67) } }
}

/// Policies, windows, proofs and the like; of each kind something stays.
fn what_operators_set() -> Vec<Command> {
    let policy = Policy {
        probe_interval_ms: Some(5_000),
        probe_timeout_ms: Some(900),
        lost_after_ms: Some(10_000),
        boot_budget_ms: Some(60_000),
        silence_failures: Some(9),
        required_probes: Some(vec![ping().probe]),
    };
    let scopes = [
        PolicyScope::Cluster,
        PolicyScope::Node(node_id("n1")),
        PolicyScope::Tag { key: "team".to_owned(), value: "blue".to_owned() },
        PolicyScope::Vm(vm_id(1)),
    ];
    let boot = node("n1").boot;
    let begin = |scope: PolicyScope| Command::BeginMaintenance {
        scope,
        reason: "new firmware".to_owned(),
        lasts: std::time::Duration::from_secs(60),
        at: at(62),
    };
    let mut commands: Vec<Command> = scopes
        .iter()
        .map(|scope| Command::SetPolicy { scope: scope.clone(), policy: policy.clone(), at: at(60) })
        .collect();
    commands.extend(joining());
    commands.push(Command::SetPolicy { scope: PolicyScope::Cluster, policy: Policy::default(), at: at(61) });
    commands.extend(scopes.into_iter().map(begin));
    commands.extend([
        Command::RecordMaintenance { remaining: vec![(MaintenanceId::new(1), 50_000)] },
        Command::EndMaintenance { maintenance: MaintenanceId::new(2), at: at(63) },
        Command::RecordFenceProof {
            node: node_id("n1"),
            boot,
            kind: FenceKind::PowerOff,
            note: "first".to_owned(),
            at: at(64),
        },
        Command::WithdrawFenceProof { node: node_id("n1"), reason: "it is heard".to_owned(), at: at(65) },
        Command::RecordFenceProof {
            node: node_id("n1"),
            boot,
            kind: FenceKind::Fenced,
            note: "second".to_owned(),
            at: at(66),
        },
        Command::ForgetPins { vm: vm_id(2), at: at(67) },
        guarded(),
        record_node("n2"),
        Command::RecordVerdicts {
            boots: Vec::new(),
            claims: Vec::new(),
            verdicts: Vec::new(),
            paths: Vec::new(),
            manager_notes: None,
            incidents: vec![
                IncidentChange {
                    scope: IncidentScope::Rack("r1".to_owned()),
                    word: Some(IncidentWord { vms_touched: 4, ..incident() }),
                },
                IncidentChange { scope: IncidentScope::Node(node_id("n1")), word: None },
            ],
            placements: vec![PlacementChange { vm: vm_id(3), replaces: Generation::new(3), to: node_id("n2") }],
            at: at(68),
        },
        record_node("n3"),
        record_path("n3", 0, Source::Watcher, vec![cut()], 69),
        remove_node("n3", VmsLeft::Refuse),
    ]);
    commands
}
