//! Probes: recorded as they are, granted no less than they import, and changed by their operator alone.

use vouch_types::{ProbeGrant, ProbeImports, ProbeInterface, ProbeRecord};

use super::*;

fn record(probe: ProbeRecord) -> Command {
    Command::RecordProbe { probe, by: "admin token of m1".to_owned(), at: at(50) }
}

fn grant(interfaces: &[&str], ports: &[&str]) -> ProbeGrant {
    ProbeGrant::parse(interfaces, &["service"], ports).unwrap()
}

fn change(grant: ProbeGrant) -> Command {
    Command::GrantProbe { probe: uploaded().name, grant, by: "admin token of m2".to_owned(), at: at(51) }
}

#[test]
fn a_probe_is_recorded_when_it_is_new_or_different() {
    let mut story = Story::begun();
    assert_eq!(story.tell(record(probe())).len(), 1);
    story.in_vain(record(probe()));
    let newer = ProbeRecord { version: "0.2.0".to_owned(), ..probe() };
    assert_eq!(story.tell(record(newer)).len(), 1);
    assert_eq!(story.state.probes().len(), 1);
}

#[test]
fn a_change_of_the_grant_is_told_once_with_who_made_it_and_the_component_stays() {
    let mut story = Story::begun();
    let told = story.tell(record(uploaded()));
    let (name, digest, by) = (uploaded().name, Some(uploaded().digest), "admin token of m1".to_owned());
    assert_eq!(told, [EventKind::ProbeRecorded { probe: name.clone(), digest, by, signer: None }]);
    let narrow = grant(&["icmp"], &[]);
    let by = "admin token of m2".to_owned();
    let told = EventKind::ProbeGranted { probe: name.clone(), grant: narrow.clone(), by };
    assert_eq!(story.tell(change(narrow.clone())), [told]);
    story.in_vain(change(narrow.clone()));
    let now = &story.state.probes()[&name];
    assert_eq!(**now, ProbeRecord { grant: Some(narrow), ..uploaded() });
    survives(&story.state);
}

#[test]
fn nothing_is_granted_less_than_it_imports_nor_by_a_grant_that_breaks_a_rule() {
    let mut story = Story::begun();
    let sockets = ProbeImports { interfaces: vec!["wasi:sockets/tcp@0.2.6".to_owned()] };
    let lacking =
        DenyReason::NotGranted { imports: [ProbeInterface::Sockets].into(), granted: [ProbeInterface::Icmp].into() };
    assert_eq!(story.refused(record(ProbeRecord { imports: sockets.clone(), ..uploaded() })), lacking);
    let connects = ProbeRecord { imports: sockets, grant: Some(grant(&["sockets"], &["22"])), ..uploaded() };
    story.tell(record(connects));
    assert_eq!(story.refused(change(grant(&["icmp"], &[]))), lacking);
    let nowhere = ProbeGrant { networks: Default::default(), ..grant(&["sockets"], &["22"]) };
    let why = story.refused(change(nowhere)).to_string();
    assert!(why.starts_with("networks: ") && why.contains("at least one of management and service"), "{why}");
}

#[test]
fn only_what_was_uploaded_is_granted_something_else() {
    let mut story = Story::begun();
    assert_eq!(story.refused(change(grant(&["icmp"], &[]))), DenyReason::UnknownProbe(uploaded().name));
    story.tell(record(probe()));
    let own = Command::GrantProbe { probe: probe().name, grant: grant(&["icmp"], &[]), by: String::new(), at: at(51) };
    let why = story.refused(own).to_string();
    assert!(why.contains("ping") && why.contains("those that come with vouch"), "{why}");
}

#[test]
fn a_record_that_names_no_grant_keeps_the_one_that_its_name_has_by_now() {
    let mut story = Story::begun();
    story.tell(record(uploaded()));
    let wide = grant(&["icmp", "sockets"], &["settings"]);
    let narrow = grant(&["icmp"], &[]);
    story.tell(change(wide));
    story.tell(change(narrow.clone()));
    let newer = ProbeRecord { version: "0.2.0".to_owned(), grant: None, ..uploaded() };
    story.tell(record(newer.clone()));
    assert_eq!(*story.state.probes()[&newer.name], ProbeRecord { grant: Some(narrow), ..newer });
}

#[test]
fn what_a_probe_says_of_itself_is_recorded_and_stays_with_its_component_alone() {
    let mut story = Story::begun();
    story.tell(record(described()));
    survives(&story.state);
    let said = |story: &Story| story.state.probes()[&described().name].descriptor.clone();
    // The same component again, by somebody who says nothing of it.
    let silent = ProbeRecord { descriptor: None, ..described() };
    story.in_vain(record(silent.clone()));
    assert_eq!(said(&story), described().descriptor);
    story.tell(record(ProbeRecord { digest: vouch_types::Digest::new([8; 32]), ..silent }));
    assert_eq!(said(&story), None, "another component may say something else");
    let many = vouch_types::ProbeDescriptor { interval_ms: Some(1), ..described().descriptor.unwrap() };
    let why = story.refused(record(ProbeRecord { descriptor: Some(many), ..described() })).to_string();
    assert_eq!(why, "description.interval_ms: 1 must be from 100 to 86400000");
}
