//! Which events wake somebody.

use super::*;

fn changed(from: VmState, to: VmState, faults: Vec<Fault>, cleared: Vec<Fault>) -> EventKind {
    let vm = VmId::new(uuid::Uuid::from_u128(1));
    EventKind::VmStateChanged {
        vm,
        from,
        to,
        faults,
        cleared,
        advice: Advice::None,
        reason: String::new(),
        shared: None,
    }
}

fn notifies(from: VmState, to: VmState) -> bool {
    changed(from, to, Vec::new(), Vec::new()).is_notification()
}

#[test]
fn a_bad_state_and_the_return_from_it_are_notifications() {
    for bad in [VmState::Down, VmState::Lost, VmState::Hung, VmState::Conflict, VmState::Degraded] {
        assert!(notifies(VmState::Up, bad), "{bad}");
        assert!(notifies(bad, VmState::Up), "{bad}");
        assert!(!notifies(bad, VmState::Stopped), "{bad}: somebody stopped it");
    }
}

#[test]
fn what_somebody_did_on_purpose_is_no_notification() {
    for quiet in [VmState::Paused, VmState::Rebooting, VmState::Stopped, VmState::Unknown] {
        assert!(!notifies(VmState::Up, quiet), "{quiet}");
        assert!(!notifies(quiet, VmState::Up), "{quiet}");
    }
}

#[test]
fn only_a_pause_on_an_io_error_is_a_notification() {
    let storage = vec![Fault::sure(Cause::Storage)];
    assert!(changed(VmState::Up, VmState::Paused, storage.clone(), Vec::new()).is_notification());
    assert!(changed(VmState::Paused, VmState::Up, Vec::new(), storage).is_notification());
    let other = vec![Fault::sure(Cause::GuestAgent)];
    assert!(!changed(VmState::Up, VmState::Paused, other.clone(), Vec::new()).is_notification());
    assert!(!changed(VmState::Paused, VmState::Up, Vec::new(), other).is_notification());
}

#[test]
fn what_an_incident_tells_is_not_told_again_per_vm() {
    let node = NodeId::new("n1").expect("a name");
    for (from, to) in [(VmState::Up, VmState::Lost), (VmState::Lost, VmState::Up)] {
        let mut change = changed(from, to, Vec::new(), Vec::new());
        if let EventKind::VmStateChanged { shared, .. } = &mut change {
            *shared = Some(IncidentScope::Node(node.clone()));
        }
        assert!(!change.is_notification());
    }
    let (incident, scope) = (IncidentId::new(1), IncidentScope::Node(node.clone()));
    let fault = Fault::sure(Cause::Node);
    let word = IncidentWord { fault, vms_touched: 2, nodes_touched: 1, nodes: vec![node], reason: String::new() };
    let opened = EventKind::IncidentOpened { incident, scope: scope.clone(), word: word.clone() };
    assert!(opened.is_notification());
    assert!(!EventKind::IncidentChanged { incident, scope: scope.clone(), word }.is_notification());
    assert!(EventKind::IncidentClosed { incident, scope }.is_notification());
}

#[test]
fn a_path_alone_never_is_a_notification() {
    let node = NodeId::new("n1").expect("a name");
    let cut = EventKind::PathChanged {
        node: node.clone(),
        from: Source::Direct,
        to: Source::Watcher,
        faults: vec![Fault::sure(Cause::ManagerNodePath)],
        reason: String::new(),
    };
    assert!(!cut.is_notification());
    assert!(!EventKind::PathRecovered { node, reason: String::new() }.is_notification());
}
