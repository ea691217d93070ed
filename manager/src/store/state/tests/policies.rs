//! Policies and maintenance windows: set, resolved, counted, and bounded.

use std::time::Duration;

use vouch_types::policy::{MAINTENANCE_LONGEST, MAINTENANCE_REASON_MAX, MAINTENANCES_MAX, POLICIES_MAX};
use vouch_types::{MaintenanceId, Policy, PolicyScope};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn budget(millis: u64) -> Policy {
    Policy { boot_budget_ms: Some(millis), ..Policy::default() }
}

fn set(scope: &PolicyScope, policy: Policy) -> Command {
    Command::SetPolicy { scope: scope.clone(), policy, at: at(40) }
}

fn tag(value: &str) -> PolicyScope {
    PolicyScope::Tag { key: "team".to_owned(), value: value.to_owned() }
}

fn begin(scope: PolicyScope, lasts: Duration, reason: &str) -> Command {
    Command::BeginMaintenance { scope, reason: reason.to_owned(), lasts, at: at(40) }
}

fn id(number: u64) -> MaintenanceId {
    MaintenanceId::new(number)
}

fn field(reason: DenyReason) -> (String, String, String) {
    match reason {
        DenyReason::BadValue { field, value, rule } => (field, value, rule),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_policy_is_set_replaced_and_removed_with_one_event_each() {
    let mut story = Story::begun();
    let changed = |policy| EventKind::PolicyChanged { scope: PolicyScope::Cluster, policy };
    assert_eq!(story.tell(set(&PolicyScope::Cluster, budget(2_000))), [changed(budget(2_000))]);
    story.in_vain(set(&PolicyScope::Cluster, budget(2_000)));
    let other = Policy { silence_failures: Some(9), ..Policy::default() };
    assert_eq!(story.tell(set(&PolicyScope::Cluster, other.clone())), [changed(other.clone())]);
    assert_eq!(story.state.policies()[&PolicyScope::Cluster], other, "the one before is replaced as a whole");
    survives(&story.state);
    assert_eq!(story.tell(set(&PolicyScope::Cluster, Policy::default())), [changed(Policy::default())]);
    story.in_vain(set(&PolicyScope::Cluster, Policy::default()));
    assert!(story.state.policies().is_empty());
}

#[test]
fn the_closest_policy_rules_in_whatever_order_they_were_set() {
    let mut story = Story::begun();
    let of = |story: &Story, vm| story.state.policy_of(&story.state.vms()[&vm_id(vm)]).boot_budget_ms;
    assert_eq!(of(&story, 1), None);
    story.tell(set(&PolicyScope::Vm(vm_id(1)), budget(5_000)));
    story.tell(set(&tag("blue"), budget(4_000)));
    story.tell(set(&tag("red"), budget(4_500)));
    story.tell(set(&PolicyScope::Node(node_id("n1")), budget(3_000)));
    story.tell(set(&PolicyScope::Cluster, budget(2_000)));
    assert_eq!([of(&story, 1), of(&story, 2), of(&story, 3)], [5_000, 4_000, 4_000].map(Some));
    story.tell(set(&tag("blue"), Policy::default()));
    assert_eq!([of(&story, 1), of(&story, 2), of(&story, 3)], [5_000, 3_000, 2_000].map(Some));
}

#[test]
fn a_policy_that_breaks_a_rule_or_is_of_nothing_is_refused() {
    let mut story = Story::begun();
    match story.refused(set(&PolicyScope::Cluster, budget(999))) {
        DenyReason::BadPolicy(e) => assert_eq!((e.field.as_str(), e.value.as_str()), ("boot_budget_ms", "999")),
        other => panic!("{other:?}"),
    }
    let unknown = DenyReason::UnknownNode(node_id("n9"));
    assert_eq!(story.refused(set(&PolicyScope::Node(node_id("n9")), budget(2_000))), unknown);
    let unknown = DenyReason::UnknownVm(vm_id(9));
    assert_eq!(story.refused(set(&PolicyScope::Vm(vm_id(9)), budget(2_000))), unknown);
}

#[test]
fn there_are_so_many_policies_and_no_more() {
    let mut story = Story::begun();
    for number in 0..POLICIES_MAX {
        story.tell(set(&tag(&number.to_string()), budget(2_000)));
    }
    let refused = story.refused(set(&tag("more"), budget(2_000)));
    let limit = POLICIES_MAX as u64;
    assert_eq!(refused, DenyReason::TooMany { what: "policies".to_owned(), count: limit + 1, limit });
    story.tell(set(&tag("0"), budget(3_000)));
    story.tell(set(&tag("0"), Policy::default()));
    story.tell(set(&tag("more"), budget(2_000)));
    survives(&story.state);
}

#[test]
fn a_window_covers_its_vms_until_it_is_ended() {
    let mut story = Story::begun();
    let why = |story: &Story, vm| story.state.maintenance_of(&story.state.vms()[&vm_id(vm)]);
    let node = PolicyScope::Node(node_id("n1"));
    let (applied, changes) = story.apply(begin(node.clone(), 60 * SECOND, "new firmware"));
    assert!(matches!(applied, Applied::MaintenanceBegun { maintenance, .. } if maintenance == id(1)), "{applied:?}");
    assert!(matches!(changes.events[0].kind, EventKind::MaintenanceBegun { .. }));
    story.tell(begin(PolicyScope::Cluster, 60 * SECOND, "new switch"));
    assert_eq!(why(&story, 1), "maintenance x1: new firmware", "the oldest that covers it");
    assert_eq!(why(&story, 3), "maintenance x2: new switch");
    survives(&story.state);
    let end = |number| Command::EndMaintenance { maintenance: id(number), at: at(50) };
    assert_eq!(story.tell(end(1)), [EventKind::MaintenanceEnded { maintenance: id(1), scope: node }]);
    assert_eq!(story.refused(end(1)), DenyReason::UnknownMaintenance(id(1)));
    assert_eq!(why(&story, 1), "maintenance x2: new switch");
    story.tell(end(2));
    assert_eq!(why(&story, 1), "");
    story.tell(begin(PolicyScope::Cluster, SECOND, "again"));
    assert_eq!(story.state.maintenances()[0].id, id(3), "numbers are never used again");
}

#[test]
fn what_is_left_of_a_window_only_ever_gets_less() {
    let mut story = Story::begun();
    story.tell(begin(PolicyScope::Cluster, 60 * SECOND, "new switch"));
    let record = |millis| Command::RecordMaintenance { remaining: vec![(id(1), millis), (id(9), 5)] };
    assert_eq!(story.tell(record(50_000)), []);
    assert_eq!(story.state.maintenances()[0].remaining, 50 * SECOND);
    story.tell(record(55_000));
    assert_eq!(story.state.maintenances()[0].remaining, 50 * SECOND, "a leader that is behind takes nothing back");
    survives(&story.state);
    let many = Command::RecordMaintenance { remaining: vec![(id(1), 1); MAINTENANCES_MAX + 1] };
    assert!(matches!(story.refused(many), DenyReason::TooMany { .. }));
}

#[test]
fn a_window_has_a_reason_and_a_length_within_bounds_and_a_scope_that_is_known() {
    let mut story = Story::begun();
    for reason in ["", "  ", &"x".repeat(MAINTENANCE_REASON_MAX + 1)] {
        let (field, value, rule) = field(story.refused(begin(PolicyScope::Cluster, SECOND, reason)));
        assert_eq!((field.as_str(), value), ("maintenance.reason", format!("{} bytes", reason.len())));
        assert_eq!(rule, "1 to 256 bytes");
    }
    for lasts in [SECOND - Duration::from_millis(1), MAINTENANCE_LONGEST + Duration::from_millis(1)] {
        let (field, value, _) = field(story.refused(begin(PolicyScope::Cluster, lasts, "x")));
        assert_eq!((field.as_str(), value), ("maintenance.lasts", format!("{lasts:?}")));
    }
    let unknown = DenyReason::UnknownNode(node_id("n9"));
    assert_eq!(story.refused(begin(PolicyScope::Node(node_id("n9")), SECOND, "x")), unknown);
    story.tell(begin(PolicyScope::Cluster, MAINTENANCE_LONGEST, &"x".repeat(MAINTENANCE_REASON_MAX)));
    story.tell(begin(PolicyScope::Cluster, SECOND, "x"));
}

#[test]
fn there_are_so_many_windows_and_no_more() {
    let mut story = Story::begun();
    for _ in 0..MAINTENANCES_MAX {
        story.tell(begin(PolicyScope::Cluster, SECOND, "x"));
    }
    let refused = story.refused(begin(PolicyScope::Cluster, SECOND, "x"));
    assert!(matches!(refused, DenyReason::TooMany { limit, .. } if limit == MAINTENANCES_MAX as u64), "{refused:?}");
    story.tell(Command::EndMaintenance { maintenance: id(1), at: at(50) });
    story.tell(begin(PolicyScope::Cluster, SECOND, "x"));
}
