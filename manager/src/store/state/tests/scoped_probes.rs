//! Probes that operators assign by scope: to whom, how often, how many, and what becomes of what was found with them.

use std::time::Duration;

use vouch_types::scoped_probe::{ProbeTimes, SCOPED_PROBES_MAX};
use vouch_types::vm::{PROBES_PER_VM_MAX, SETTINGS_MAX};
use vouch_types::{
    Expected, Guard, Identity, LogIndex, Network, Pin, Policy, PolicyScope, ProbeAssignment, ProbeName, ProbeRecord,
    ScopedProbe, SortedMap, VmSpec,
};

use super::*;

fn tag() -> PolicyScope {
    PolicyScope::Tag { key: "team".to_owned(), value: "blue".to_owned() }
}

fn named(name: &str) -> ProbeRecord {
    ProbeRecord { name: ProbeName::new(name).unwrap(), ..described() }
}

fn record(probe: ProbeRecord) -> Command {
    Command::RecordProbe { probe, by: "admin token of m1".to_owned(), at: at(50) }
}

/// The cluster of [`Story::begun`] with the probe that is assigned.
fn begun() -> Story {
    let mut story = Story::begun();
    story.tell(record(described()));
    story
}

impl Story {
    /// Returns what is run against a VM: probe, settings and interval.
    fn run(&self, vm: u128) -> Vec<(String, String, Option<Duration>)> {
        let record = &self.state.vms()[&vm_id(vm)];
        let policy = self.state.policy_of(record);
        let times = |probe: &vouch_types::VmProbe<'_>| self.state.times_of(&policy, probe).and_then(|t| t.interval);
        let run = self.state.probes_of(record).into_iter();
        run.map(|p| (p.assignment.probe.to_string(), p.assignment.settings.clone(), times(&p))).collect()
    }
}

fn told(settings: &str, interval: u64) -> (String, String, Option<Duration>) {
    ("told-ping".to_owned(), settings.to_owned(), Some(Duration::from_millis(interval)))
}

#[test]
fn the_vms_of_a_scope_have_what_is_assigned_to_it_beside_what_their_files_name() {
    let mut story = begun();
    let mut events = story.tell(assign(tag(), "{}"));
    let Some(EventKind::ProbeAssigned { assigned }) = events.pop() else { panic!("it is told") };
    assert_eq!(assigned, ScopedProbe { modified: LogIndex::new(story.next - 1), ..scoped(tag(), "{}") });
    story.in_vain(assign(tag(), "{}"));
    story.tell(assign(PolicyScope::Vm(vm_id(2)), r#"{"port":22}"#));
    let ping = ("ping".to_owned(), r#"{"count":3}"#.to_owned(), None);
    assert_eq!(story.run(1), [ping.clone(), told("{}", 500)]);
    assert_eq!(story.run(2), [ping.clone(), told(r#"{"port":22}"#, 500)], "the closest rules");
    survives(&story.state);
    let by = "admin token of m2".to_owned();
    let gone = EventKind::ProbeUnassigned { key: scoped(tag(), "{}").key(), by };
    assert_eq!(story.tell(unassign(tag())), [gone]);
    assert_eq!(story.run(1), [ping]);
    assert_eq!(story.run(2).len(), 2, "that of the VM stays");
    let key = scoped(tag(), "{}").key();
    assert_eq!(story.refused(unassign(tag())), DenyReason::UnknownScopedProbe(key));
}

#[test]
fn what_a_probe_proposes_holds_where_neither_policy_nor_assignment_says_otherwise() {
    let mut story = begun();
    let plain = ScopedProbe { interval_ms: None, timeout_ms: None, ..scoped(PolicyScope::Cluster, "{}") };
    story.tell(Command::AssignProbe { assigned: plain.clone(), at: at(60) });
    assert_eq!(story.run(1)[1], told("{}", 4_000), "as it proposes");
    assert_eq!(story.run(1)[0].2, None, "a shipped probe runs as the cluster says");
    let policy = Policy { probe_interval_ms: Some(9_000), ..Policy::default() };
    story.tell(Command::SetPolicy { scope: tag(), policy, at: at(61) });
    assert_eq!(story.run(1)[1].2, None, "a policy says so, and nothing deviates from it");
    let vm = &story.state.vms()[&vm_id(1)];
    let probe = story.state.probes_of(vm)[1];
    let timeout = story.state.times_of(&story.state.policy_of(vm), &probe);
    let (interval, two) = (None, Some(Duration::from_secs(2)));
    let only_timeout = ProbeTimes { probe: described().name, network: Network::Service, interval, timeout: two };
    assert_eq!(timeout, Some(only_timeout), "the policy names no timeout");
    story.tell(Command::AssignProbe { assigned: ScopedProbe { interval_ms: Some(700), ..plain }, at: at(62) });
    assert_eq!(story.run(1)[1], told("{}", 700), "the assignment is closer than any policy");
}

#[test]
fn what_is_wrong_with_an_assignment_is_told_and_nothing_is_recorded() {
    let mut story = begun();
    let assigned = |change: &dyn Fn(&mut ScopedProbe)| {
        let mut assigned = scoped(PolicyScope::Cluster, "{}");
        change(&mut assigned);
        Command::AssignProbe { assigned, at: at(60) }
    };
    let unknown = ProbeName::new("no-such").unwrap();
    assert_eq!(
        story.refused(assigned(&|a| a.assignment.probe = unknown.clone())),
        DenyReason::UnknownProbe(unknown.clone())
    );
    let (node, vm) = (node_id("n9"), vm_id(99));
    assert_eq!(
        story.refused(assigned(&|a| a.scope = PolicyScope::Node(node.clone()))),
        DenyReason::UnknownNode(node.clone())
    );
    assert_eq!(story.refused(assigned(&|a| a.scope = PolicyScope::Vm(vm))), DenyReason::UnknownVm(vm));
    for (change, said) in [
        (
            &(|a: &mut ScopedProbe| a.assignment.settings = "[]".to_owned()) as &dyn Fn(&mut ScopedProbe),
            "settings: [] must be a JSON object",
        ),
        (
            &|a| a.assignment.settings = format!("{{\"x\":\"{}\"}}", "y".repeat(SETTINGS_MAX)),
            "settings: 4104 bytes must be at most 4096",
        ),
        (&|a| a.interval_ms = Some(99), "interval_ms: 99 must be from 100 to 3600000"),
        (&|a| a.interval_ms = Some(3_600_001), "interval_ms: 3600001"),
        (&|a| a.timeout_ms = Some(49), "timeout_ms: 49 must be from 50 to 60000"),
        (&|a| a.timeout_ms = Some(60_001), "timeout_ms: 60001"),
    ] {
        let why = story.refused(assigned(change)).to_string();
        assert!(why.starts_with(said), "{why} is not {said}");
    }
}

#[test]
fn a_vm_gets_so_many_probes_and_no_more_and_what_comes_later_leaves_the_widest_out() {
    let mut story = begun();
    // Each VM has ping of its own.
    for number in 1..PROBES_PER_VM_MAX {
        let name = format!("p{number}");
        story.tell(record(named(&name)));
        story.tell(assign_as(&name, PolicyScope::Cluster));
    }
    let why = story.refused(assign(PolicyScope::Vm(vm_id(3)), "{}"));
    let DenyReason::TooMany { what, count: 9, limit: 8 } = &why else { panic!("{why}") };
    assert_eq!(*what, format!("probes of vm {}", vm_id(3)));
    // A file is not refused for what operators assign: it is closer.
    let more = ProbeAssignment { probe: ProbeName::new("rdp").unwrap(), ..ping() };
    let spec = |number| VmSpec { probes: vec![ping(), more.clone()], ..vm_spec(number) };
    story.tell(Command::RecordVms { node: node_id("n2"), vms: vec![spec(3)], at: at(70) });
    let run = story.run(3);
    assert_eq!((run.len(), run[1].0.as_str()), (PROBES_PER_VM_MAX, "rdp"));
    let vm = &story.state.vms()[&vm_id(3)];
    assert_eq!(story.state.probes_left_out(vm).len(), 1);
    // It can be changed still, since that adds none.
    let mut changed = scoped(PolicyScope::Cluster, r#"{"port":1}"#);
    changed.assignment.probe = ProbeName::new("p1").unwrap();
    story.tell(Command::AssignProbe { assigned: changed, at: at(71) });
}

fn assign_as(name: &str, scope: PolicyScope) -> Command {
    let mut assigned = scoped(scope, "{}");
    assigned.assignment.probe = ProbeName::new(name).unwrap();
    Command::AssignProbe { assigned, at: at(60) }
}

#[test]
fn a_cluster_has_so_many_assignments_and_no_more() {
    let mut story = begun();
    let scope = |number: usize| PolicyScope::Tag { key: "seat".to_owned(), value: number.to_string() };
    for number in 0..SCOPED_PROBES_MAX {
        story.tell(assign(scope(number), "{}"));
    }
    let why = story.refused(assign(scope(SCOPED_PROBES_MAX), "{}"));
    assert!(matches!(why, DenyReason::TooMany { count: 257, limit: 256, .. }), "{why}");
    story.tell(assign(scope(7), r#"{"port":22}"#));
}

#[test]
fn what_was_found_with_an_assignment_is_forgotten_with_it_and_with_its_settings() {
    let mut story = begun();
    story.tell(assign(tag(), "{}"));
    let assignment = scoped(tag(), "{}").assignment;
    let pin = Pin { probe: assignment.probe.clone(), network: assignment.network, identity: Identity::new(7) };
    let found = |vm: u128, pin: &Pin| Command::RecordProven {
        proven: vec![(vm_id(vm), assignment.clone()), (vm_id(vm), ping())],
        pins: vec![(vm_id(vm), pin.clone())],
    };
    let kept = |story: &Story, vm: u128| {
        let record = &story.state.vms()[&vm_id(vm)];
        (record.proven.len(), record.pins.len())
    };
    for vm in [1, 2, 3] {
        story.tell(found(vm, &pin));
        assert_eq!(kept(&story, vm), (2, 1), "proven like one of its file");
    }
    // One VM gets other settings, the others keep what they had.
    story.tell(assign(PolicyScope::Vm(vm_id(1)), r#"{"port":22}"#));
    assert_eq!([1, 2, 3].map(|vm| kept(&story, vm)), [(1, 0), (2, 1), (2, 1)]);
    // A label that goes takes the probe with it.
    let bare = VmSpec { labels: SortedMap::new(), ..vm_spec(3) };
    story.tell(Command::RecordVms { node: node_id("n2"), vms: vec![bare], at: at(70) });
    assert_eq!(kept(&story, 3), (1, 0));
    story.tell(unassign(tag()));
    assert_eq!(kept(&story, 2), (1, 0));
    story.in_vain(Command::RecordProven {
        proven: vec![(vm_id(2), assignment.clone())],
        pins: vec![(vm_id(2), pin.clone())],
    });
}

#[test]
fn a_vm_that_moves_leaves_what_was_assigned_to_its_node() {
    let mut story = begun();
    story.tell(assign(PolicyScope::Node(node_id("n1")), "{}"));
    let assignment = scoped(PolicyScope::Cluster, "{}").assignment;
    story.tell(Command::RecordProven { proven: vec![(vm_id(1), assignment)], pins: Vec::new() });
    assert_eq!((story.run(1).len(), story.run(3).len()), (2, 1));
    let vm = &story.state.vms()[&vm_id(1)];
    let placement = vouch_types::PlacementChange { vm: vm_id(1), replaces: vm.generation, to: node_id("n2") };
    story.tell(Command::RecordVerdicts {
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: None,
        incidents: Vec::new(),
        placements: vec![placement],
        boots: Vec::new(),
        claims: Vec::new(),
        at: at(80),
    });
    assert_eq!((story.run(1).len(), story.state.vms()[&vm_id(1)].proven.len()), (1, 0));
}

#[test]
fn a_write_that_was_promised_another_version_changes_nothing() {
    let mut story = begun();
    story.tell(assign(tag(), "{}"));
    let seen = story.state.scoped_probe_version(&scoped(tag(), "{}").key());
    story.tell(assign(tag(), r#"{"port":22}"#));
    let guarded = |command: Command, index| Command::Guarded {
        command: Box::new(command),
        guard: Guard { expects: Some(Expected::At(index)), once: None, at: at(90) },
    };
    let now = story.state.scoped_probe_version(&scoped(tag(), "{}").key());
    let stale = guarded(assign(tag(), "{}"), seen.unwrap());
    assert_eq!(story.refused(stale), DenyReason::VersionMoved { current: now });
    assert_eq!(story.refused(guarded(unassign(tag()), seen.unwrap())), DenyReason::VersionMoved { current: now });
    story.tell(guarded(unassign(tag()), now.unwrap()));
    let expects = Some(Expected::Existing);
    let gone =
        Command::Guarded { command: Box::new(assign(tag(), "{}")), guard: Guard { expects, once: None, at: at(91) } };
    assert_eq!(story.refused(gone), DenyReason::VersionMoved { current: None });
}

#[test]
fn a_head_of_before_there_were_assignments_is_read_and_written_as_it_was() {
    let story = Story::begun();
    let text = serde_json::to_string(&story.state.head).unwrap();
    assert!(!text.contains("scoped_probes"), "{text}");
    assert_eq!(serde_json::from_str::<super::super::Head>(&text).unwrap(), story.state.head);
    let marks = serde_json::to_string(story.state.marks()).unwrap();
    assert!(!marks.contains("scoped_probes"), "{marks}");
}
