//! What operators ask and set: incidents, why, the story, policies, maintenance, proofs, pins.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use vouch_types::{
    Cause, Command, EventKind, Fault, Identity, IncidentScope, Network, Pin, ProbeName, Verdict, VmState,
};

use super::double::{
    SimManager, Standing, at, body, cut, get, incident, judge, node_id, populate, request, send, three, vm_id,
};
use super::farm;
use crate::api::limits::{BODY_MAX, INCIDENT_EVENTS_MAX, INCIDENT_VMS_MAX};

/// Sends a document.
async fn tell(manager: &SimManager, method: &str, path: &str, document: &Value) -> (StatusCode, Value) {
    let request = request(method, path).body(Body::from(document.to_string())).unwrap();
    body(send(manager, request).await).await
}

async fn delete(manager: &SimManager, path: &str) -> (StatusCode, Value) {
    body(send(manager, request("DELETE", path).body(Body::empty()).unwrap()).await).await
}

fn node(name: &str) -> IncidentScope {
    IncidentScope::Node(node_id(name))
}

fn texts(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_incident_tells_what_is_broken_and_names_the_vms_that_it_touches_now() {
    let manager = farm();
    incident(&manager.published, &node("n1"), Some(&["n1"]), 5);
    incident(&manager.published, &IncidentScope::Rack("r9".to_owned()), Some(&["n2"]), 6);
    incident(&manager.published, &IncidentScope::Rack("r9".to_owned()), None, 9);
    let (status, open) = get(&manager, "/v1/incidents").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(open["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        open["items"][0]["fault"]["causes"],
        json!([
            {"cause": "node", "score": 60}, {"cause": "node_isolated", "score": 40}
        ])
    );
    let (_, closed) = get(&manager, "/v1/incidents?state=closed").await;
    assert_eq!((&closed["items"][0]["id"], &closed["items"][0]["state"]), (&json!("i2"), &json!("closed")));
    let (_, first) = get(&manager, "/v1/incidents?state=all&limit=1").await;
    assert_eq!((&first["items"][0]["id"], &first["next"]), (&json!("i2"), &json!("i2")), "the last one first");
    let (_, second) = get(&manager, "/v1/incidents?state=all&limit=1&after=i2").await;
    assert_eq!((&second["items"][0]["id"], second.get("next")), (&json!("i1"), None));

    let (_, detail) = get(&manager, "/v1/incidents/i1").await;
    let names: Vec<&Value> = detail["vms"].as_array().unwrap().iter().map(|vm| &vm["name"]).collect();
    assert_eq!(names, [&json!("desk-1"), &json!("desk-2"), &json!("twin")]);
    assert_eq!(detail["events"][0]["notify"], json!(true));
    insta::assert_json_snapshot!("incident", detail);
    let (_, vm) = get(&manager, "/v1/vms/desk-1").await;
    assert_eq!(vm["incidents"], json!(["i1"]));
    let (_, vm) = get(&manager, "/v1/vms/desk-4").await;
    assert_eq!(vm["incidents"], json!([]), "a closed incident touches nobody");
    let (_, detail) = get(&manager, "/v1/incidents/i2").await;
    assert_eq!((&detail["vms"], detail["events"].as_array().unwrap().len()), (&json!([]), 2));
}

#[tokio::test]
async fn an_incident_names_so_many_vms_and_shows_so_many_events_and_no_more() {
    let manager = super::double::lone();
    let names: Vec<String> = (0..=INCIDENT_VMS_MAX).map(|n| format!("desk-{n}")).collect();
    let vms: Vec<(u128, &str)> = (1..).zip(names.iter().map(String::as_str)).collect();
    populate(&manager.published, "n1", &vms);
    for ms in 0..=INCIDENT_EVENTS_MAX as u64 {
        let nodes: &[&str] = if ms % 2 == 0 { &["n1"] } else { &["n1", "n2"] };
        incident(&manager.published, &node("n1"), Some(nodes), ms);
    }
    let (_, detail) = get(&manager, "/v1/incidents/i1").await;
    assert_eq!(detail["vms"].as_array().unwrap().len(), INCIDENT_VMS_MAX);
    assert_eq!(detail["vms_omitted"], 1);
    let events = detail["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["kind"]), (INCIDENT_EVENTS_MAX, &json!("incident_changed")), "the last ones");
}

#[tokio::test]
async fn an_incident_of_a_network_a_store_or_a_manager_touches_what_shares_it() {
    let manager = farm();
    let touched = async |id: &str| {
        let (_, detail) = get(&manager, &format!("/v1/incidents/{id}")).await;
        detail["vms"].as_array().unwrap().len()
    };
    incident(&manager.published, &IncidentScope::Network(Network::Service), Some(&["n2"]), 1);
    assert_eq!(touched("i1").await, 2, "the nodes that it names");
    incident(&manager.published, &IncidentScope::Datastore("ssd".to_owned()), Some(&["n1"]), 2);
    assert_eq!(touched("i2").await, 0, "no vm has its disks there");
    incident(&manager.published, &IncidentScope::Manager(vouch_types::ManagerId::new(2)), Some(&["n1"]), 3);
    assert_eq!(touched("i3").await, 0, "others hear the node");
    incident(&manager.published, &IncidentScope::Flapping(node_id("n1")), Some(&["n1"]), 4);
    assert_eq!(touched("i4").await, 3);
}

#[tokio::test]
async fn why_a_verdict_is_what_it_is_comes_from_the_leader_and_stale_says_how_old_the_record_is() {
    let [leader, follower, _] = three();
    for manager in [&leader, &follower] {
        populate(&manager.published, "n1", &[(1, "desk-1")]);
        incident(&manager.published, &node("n1"), Some(&["n1"]), 5);
    }
    let (status, why) = get(&follower, "/v1/vms/desk-1/explain").await;
    assert_eq!((status.as_u16(), &why["manager"], &why["live"]), (200, &json!("m1"), &json!(true)));
    assert_eq!(why["incidents"][0]["id"], "i1");
    let mut alone = why.clone();
    assert_eq!(alone["vm"].take()["name"], "desk-1");
    insta::assert_json_snapshot!("explain", alone);

    let (_, stale) = get(&follower, "/v1/vms/desk-1/explain?consistency=stale").await;
    assert_eq!((&stale["manager"], &stale["live"], &stale["used"]), (&json!("m2"), &json!(false), &json!([])));
    assert!(stale["recorded_age_ms"].as_u64().is_some(), "it was proved current by the read before: {stale}");
    assert_eq!(stale["digest"].as_str().unwrap().len(), 64);
    leader.published.stand(Standing::LeadsAlone);
    let (status, problem) = get(&leader, "/v1/vms/desk-1/explain").await;
    assert_eq!((status.as_u16(), &problem["type"]), (503, &json!("/problems/no-quorum")));
}

#[tokio::test]
async fn the_story_of_a_vm_holds_what_concerns_it_in_order_and_nothing_else() {
    let manager = farm();
    let published = &manager.published;
    judge(published, vm_id(1), VmState::Up, "its node says that it runs", 5_000);
    judge(published, vm_id(4), VmState::Down, "another vm", 5_000);
    cut(published, "n1", 60_000);
    incident(published, &node("n1"), Some(&["n1"]), 61_000);
    incident(published, &node("n2"), Some(&["n2"]), 61_000);
    let policy = json!({"boot_budget_ms": 60_000});
    assert_eq!(tell(&manager, "PUT", "/v1/policies/node:n1", &policy).await.0, StatusCode::OK);
    assert_eq!(tell(&manager, "PUT", "/v1/policies/node:n2", &policy).await.0, StatusCode::OK);
    let window = json!({"scope": "cluster", "lasts_ms": 60_000, "reason": "new switch"});
    assert_eq!(tell(&manager, "POST", "/v1/maintenances", &window).await.0, StatusCode::CREATED);
    assert_eq!(delete(&manager, "/v1/maintenances/x1").await.0, StatusCode::OK);
    let proof = json!({"kind": "power_off"});
    assert_eq!(tell(&manager, "POST", "/v1/nodes/n1/fence-proof", &proof).await.0, StatusCode::OK);
    incident(published, &node("n1"), None, 90_000);
    incident(published, &node("n2"), None, 90_000);

    let (status, story) = get(&manager, "/v1/vms/desk-1/trace").await;
    assert_eq!(status, StatusCode::OK);
    insta::assert_json_snapshot!("trace", texts(&story));
    let ids: Vec<&str> = story["items"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap()).collect();

    // The clock of these tests stands at 0 ms: what is later is of the future, and "ago" is before.
    let (_, all) = get(&manager, "/v1/vms/desk-1/trace?since=10m").await;
    assert_eq!(all["items"].as_array().unwrap().len(), ids.len());
    let (_, early) = get(&manager, "/v1/vms/desk-1/trace?until=2026-11-22T21:36:52.042Z").await;
    let told = |page: &Value, what: &str| texts(page).iter().any(|text| text.contains(what));
    assert!(told(&early, "unknown -> up") && !told(&early, "direct -> watcher"), "{early}");
    let (_, late) = get(&manager, "/v1/vms/desk-1/trace?since=2026-11-22T22:37:47.042%2B01:00").await;
    assert!(texts(&late)[0].starts_with("node n1: source direct -> watcher"), "{late}");
    let (_, rest) = get(&manager, &format!("/v1/vms/desk-1/trace?since={}&limit=2", ids[2])).await;
    let page: Vec<&Value> = rest["items"].as_array().unwrap().iter().map(|e| &e["id"]).collect();
    assert_eq!((page, &rest["next"]), (vec![&json!(ids[2]), &json!(ids[3])], &json!(ids[3])));
}

#[tokio::test]
async fn a_policy_is_set_shown_resolved_and_removed() {
    let manager = farm();
    let cluster = json!({"silence_failures": 9, "boot_budget_ms": 90_000});
    let (status, set) = tell(&manager, "PUT", "/v1/policies/cluster", &cluster).await;
    assert_eq!((status.as_u16(), &set["scope"], &set["settings"]), (200, &json!("cluster"), &cluster));
    let vm = format!("/v1/policies/vm:{}", vm_id(1));
    let own = json!({"boot_budget_ms": 300_000, "required_probes": ["rdp"]});
    assert_eq!(tell(&manager, "PUT", &vm, &own).await.0, StatusCode::OK);
    let tag = json!({"probe_interval_ms": 5000});
    assert_eq!(tell(&manager, "PUT", "/v1/policies/tag:pool=gold%2Fa", &tag).await.1["scope"], "tag:pool=gold/a");

    let (_, all) = get(&manager, "/v1/policies").await;
    let scopes: Vec<&Value> = all["items"].as_array().unwrap().iter().map(|p| &p["scope"]).collect();
    assert_eq!(scopes, [&json!("cluster"), &json!("tag:pool=gold/a"), &json!(format!("vm:{}", vm_id(1)))]);
    let (_, resolved) = get(&manager, "/v1/vms/desk-1/policy").await;
    insta::assert_json_snapshot!("vm_policy", resolved);

    let (status, was) = delete(&manager, &vm).await;
    assert_eq!((status.as_u16(), &was["settings"]), (200, &own));
    let (status, problem) = delete(&manager, &vm).await;
    assert_eq!((status.as_u16(), &problem["type"]), (404, &json!("/problems/policy-not-found")));
    let (_, resolved) = get(&manager, "/v1/vms/desk-1/policy").await;
    let budget = resolved["settings"].as_array().unwrap().iter().find(|s| s["name"] == "boot_budget_ms").unwrap();
    assert_eq!((&budget["value"], &budget["from"]), (&json!(90_000), &json!("cluster")));
}

#[tokio::test]
async fn what_cannot_be_set_is_refused_with_field_value_and_rule_and_nothing_changes() {
    let manager = farm();
    let before = manager.published_state();
    for (method, path, document, status, name, field, value) in [
        ("PUT", "/v1/policies/cluster", json!({"silence_failures": 5}), 400, "bad-parameter", "silence_failures", "5"),
        ("PUT", "/v1/policies/cluster", json!({"lost_after_ms": 3499}), 400, "bad-parameter", "lost_after_ms", "3499"),
        (
            "PUT",
            "/v1/policies/cluster",
            json!({"required_probes": ["R D P"]}),
            400,
            "bad-parameter",
            "required_probes",
            "R D P",
        ),
        ("PUT", "/v1/policies/cluster", json!({}), 400, "bad-parameter", "body", "{}"),
        ("PUT", "/v1/policies/cluster", json!({"colour": 1}), 400, "bad-parameter", "body", "{\"colour\":1}"),
        ("PUT", "/v1/policies/all", json!({"silence_failures": 9}), 400, "bad-parameter", "scope", "all"),
        ("PUT", "/v1/policies/node:n9", json!({"silence_failures": 9}), 404, "node-not-found", "node", "n9"),
        (
            "POST",
            "/v1/maintenances",
            json!({"scope": "all", "lasts_ms": 60_000, "reason": "x"}),
            400,
            "bad-parameter",
            "scope",
            "all",
        ),
        (
            "POST",
            "/v1/maintenances",
            json!({"scope": "cluster", "lasts_ms": 999, "reason": "x"}),
            400,
            "bad-parameter",
            "maintenance.lasts",
            "999ms",
        ),
        (
            "POST",
            "/v1/maintenances",
            json!({"scope": "cluster", "lasts_ms": 60_000, "reason": " "}),
            400,
            "bad-parameter",
            "maintenance.reason",
            "1 bytes",
        ),
        ("POST", "/v1/nodes/n1/fence-proof", json!({"kind": "unplugged"}), 400, "bad-parameter", "kind", "unplugged"),
        ("POST", "/v1/nodes/n1/fence-proof", json!({"kind": "fenced", "boot": "7"}), 400, "bad-parameter", "boot", "7"),
        ("POST", "/v1/nodes/n1/fence-proof", json!({"kind": "fenced"}), 409, "node-is-heard", "node", "n1"),
        ("POST", "/v1/nodes/n9/fence-proof", json!({"kind": "fenced"}), 404, "node-not-found", "id", "n9"),
    ] {
        let (have, problem) = tell(&manager, method, path, &document).await;
        assert_eq!(have.as_u16(), status, "{path} {document}: {problem}");
        assert_eq!(problem["type"], format!("/problems/{name}"), "{path} {document}");
        assert_eq!((&problem["field"], &problem["value"]), (&json!(field), &json!(value)), "{path} {document}");
        assert!(problem["rule"].as_str().is_some_and(|rule| rule.starts_with("must")), "{problem}");
    }
    for (method, path) in
        [("PUT", "/v1/policies/cluster"), ("POST", "/v1/maintenances"), ("POST", "/v1/nodes/n1/fence-proof")]
    {
        let long = request(method, path).body(Body::from(vec![b' '; BODY_MAX + 1])).unwrap();
        let (status, problem) = body(send(&manager, long).await).await;
        assert_eq!((status.as_u16(), &problem["type"]), (413, &json!("/problems/too-large")), "{path}");
    }
    assert!(before == manager.published_state(), "the state is as it was");
}

#[tokio::test]
async fn a_maintenance_window_is_begun_through_a_follower_shown_and_ended_once() {
    let [leader, follower, _] = three();
    for manager in [&leader, &follower] {
        populate(&manager.published, "n1", &[(1, "desk-1")]);
    }
    let window = json!({"scope": "node:n1", "lasts_ms": 7_200_000, "reason": "new firmware"});
    let (status, begun) = tell(&follower, "POST", "/v1/maintenances", &window).await;
    assert_eq!((status.as_u16(), &begun["id"], &begun["vms"]), (201, &json!("x1"), &json!(1)), "{begun}");
    let (_, list) = get(&leader, "/v1/maintenances").await;
    assert_eq!(list["items"], json!([begun]));
    assert_eq!(get(&leader, "/v1/maintenances/x1").await.1, begun);
    assert_eq!(delete(&follower, "/v1/maintenances/x1").await, (StatusCode::OK, begun));
    let (status, problem) = delete(&follower, "/v1/maintenances/x1").await;
    assert_eq!((status.as_u16(), &problem["type"]), (404, &json!("/problems/maintenance-not-found")));
}

#[tokio::test]
async fn a_proof_is_taken_of_the_boot_that_was_last_heard_and_withdrawn() {
    let manager = farm();
    cut(&manager.published, "n1", 9);
    let other = json!({"kind": "fenced", "boot": "00000000-0000-4000-8000-000000000001"});
    let (status, problem) = tell(&manager, "POST", "/v1/nodes/n1/fence-proof", &other).await;
    assert_eq!((status.as_u16(), &problem["type"]), (409, &json!("/problems/other-boot")));
    assert_eq!((&problem["field"], &problem["value"]), (&json!("boot"), &other["boot"]));
    let proof = json!({"kind": "power_off", "note": "ipmi says off"});
    let (status, node) = tell(&manager, "POST", "/v1/nodes/n1/fence-proof", &proof).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&node["fence"]["kind"], &node["fence"]["boot"]), (&json!("power_off"), &node["boot"]));
    assert_eq!(get(&manager, "/v1/nodes/n1").await.1["fence"]["note"], "ipmi says off");
    let (status, node) = delete(&manager, "/v1/nodes/n1/fence-proof").await;
    assert_eq!((status.as_u16(), node.get("fence")), (200, None));
    let last = manager.published_state().events().next_back().unwrap().kind.clone();
    assert!(matches!(last, EventKind::FenceProofWithdrawn { .. }), "{last:?}");
}

#[tokio::test]
async fn pins_are_shown_and_forgotten() {
    let manager = farm();
    let probe = vouch_types::ProbeAssignment {
        probe: ProbeName::new("rdp").unwrap(),
        network: Network::Service,
        settings: "{}".to_owned(),
    };
    let mut spec = manager.published_state().vms()[&vm_id(1)].spec.clone();
    spec.probes = vec![probe.clone()];
    manager.published.apply(Command::RecordVms { node: node_id("n1"), vms: vec![spec], at: at(3) });
    let pin = Pin { probe: probe.probe.clone(), network: probe.network, identity: Identity::new(0xc0ffee) };
    manager.published.apply(Command::RecordProven { proven: vec![(vm_id(1), probe)], pins: vec![(vm_id(1), pin)] });
    let (_, vm) = get(&manager, "/v1/vms/desk-1").await;
    assert_eq!(vm["pins"], json!([{"probe": "rdp", "network": "service", "identity": "0000000000c0ffee"}]));
    let (status, vm) = delete(&manager, "/v1/vms/desk-1/pins").await;
    assert_eq!((status.as_u16(), &vm["pins"]), (200, &json!([])));
    assert_eq!(delete(&manager, "/v1/vms/desk-9/pins").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_vm_that_its_node_cannot_see_is_known_from_watchers() {
    let manager = farm();
    for (number, cause, source) in
        [(1, Cause::NodeVmPath, "watcher"), (2, Cause::Hypervisor, "watcher"), (4, Cause::GuestOs, "direct")]
    {
        let (generation, replaces) = {
            let state = manager.published_state();
            let record = &state.vms()[&vm_id(number)];
            (record.generation, record.verdict.version)
        };
        let verdict = Verdict { state: VmState::Up, faults: vec![Fault::sure(cause)], ..Verdict::unjudged(at(5)) };
        let change = vouch_types::VerdictChange { shared: None, vm: vm_id(number), generation, replaces, verdict };
        manager.published.apply(Command::RecordVerdicts {
            boots: Vec::new(),
            claims: Vec::new(),
            incidents: Vec::new(),
            placements: Vec::new(),
            verdicts: vec![change],
            paths: Vec::new(),
            manager_notes: None,
            at: at(5),
        });
        let (_, vm) = get(&manager, &format!("/v1/vms/{}", vm_id(number))).await;
        assert_eq!(vm["source"], source, "{vm}");
    }
    let (_, text) = get(&manager, "/metrics").await;
    assert!(text.as_str().unwrap().contains("vouch_vm_state{state=\"up\",source=\"watcher\"} 2\n"), "{text}");
}

#[tokio::test]
async fn metrics_count_incidents_policies_and_windows() {
    let manager = farm();
    incident(&manager.published, &node("n1"), Some(&["n1"]), 5);
    incident(&manager.published, &node("n2"), Some(&["n2"]), 5);
    tell(&manager, "PUT", "/v1/policies/cluster", &json!({"silence_failures": 9})).await;
    tell(&manager, "POST", "/v1/maintenances", &json!({"scope": "cluster", "lasts_ms": 1000, "reason": "x"})).await;
    let (_, text) = get(&manager, "/metrics").await;
    for line in [
        "vouch_incidents_open{scope=\"node\"} 2\n",
        "vouch_incidents_open{scope=\"rack\"} 0\n",
        "vouch_policies{} 1\n",
        "vouch_maintenance_windows{} 1\n",
    ] {
        assert!(text.as_str().unwrap().contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn without_a_quorum_nothing_is_set_and_it_may_be_sent_again() {
    let manager = farm();
    manager.published.stand(Standing::LeadsAlone);
    let before = manager.published_state();
    for (method, path, document) in [
        ("PUT", "/v1/policies/cluster", json!({"silence_failures": 9})),
        ("DELETE", "/v1/policies/cluster", Value::Null),
        ("POST", "/v1/maintenances", json!({"scope": "cluster", "lasts_ms": 1000, "reason": "x"})),
        ("DELETE", "/v1/maintenances/x1", Value::Null),
        ("POST", "/v1/nodes/n1/fence-proof", json!({"kind": "fenced"})),
        ("DELETE", "/v1/nodes/n1/fence-proof", Value::Null),
        ("DELETE", "/v1/vms/desk-1/pins", Value::Null),
    ] {
        let (status, problem) = tell(&manager, method, path, &document).await;
        assert_eq!((status.as_u16(), &problem["type"]), (503, &json!("/problems/no-quorum")), "{method} {path}");
    }
    assert!(before == manager.published_state());
}

#[tokio::test]
async fn an_event_of_a_node_or_a_vm_is_found_by_it() {
    let manager = farm();
    incident(&manager.published, &node("n1"), Some(&["n1"]), 5);
    incident(&manager.published, &IncidentScope::Rack("r1".to_owned()), Some(&["n1"]), 5);
    let policy = json!({"boot_budget_ms": 60_000});
    tell(&manager, "PUT", &format!("/v1/policies/vm:{}", vm_id(1)), &policy).await;
    tell(&manager, "POST", "/v1/maintenances", &json!({"scope": "node:n1", "lasts_ms": 1000, "reason": "x"})).await;
    let kinds = async |filter: String| {
        let (_, page) = get(&manager, &format!("/v1/events?format=json&{filter}")).await;
        let kinds = page["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned());
        kinds.filter(|kind| !kind.starts_with("vm_") && !kind.starts_with("node_")).collect::<Vec<_>>()
    };
    assert_eq!(kinds("node=n1".to_owned()).await, ["incident_opened", "maintenance_begun"]);
    assert_eq!(kinds(format!("vm={}", vm_id(1))).await, ["policy_changed"]);
}

#[tokio::test]
async fn members_are_changed_by_the_leader_and_a_refusal_says_why() {
    let manager = farm();
    let add = |id: &str, management: &str| json!({"id": id, "management": management});
    for (method, path, body, status, problem, word) in [
        ("POST", "/v1/cluster/members", add("m4", "10.1.0.4:7001"), 409, "members-unchanged", "m4"),
        ("POST", "/v1/cluster/members", add("four", "10.1.0.4:7001"), 400, "bad-parameter", "four"),
        ("POST", "/v1/cluster/members", add("m4", "10.1.0.4"), 400, "bad-parameter", "10.1.0.4"),
        ("POST", "/v1/cluster/members/m4/promote", json!({}), 409, "members-unchanged", "5000 entries behind"),
        ("DELETE", "/v1/cluster/members/m9", json!({}), 404, "member-not-found", "m9"),
        ("DELETE", "/v1/cluster/members/9", json!({}), 400, "bad-parameter", "9"),
        ("POST", "/v1/cluster/transfer", json!({"to": "9"}), 400, "bad-parameter", "9"),
    ] {
        let (code, answer) = tell(&manager, method, path, &body).await;
        assert_eq!(code.as_u16(), status, "{method} {path}: {answer}");
        assert_eq!(answer["type"], format!("/problems/{problem}"), "{method} {path}");
        assert!(answer.to_string().contains(word), "{method} {path}: {answer}");
    }
    let (code, cluster) = tell(&manager, "DELETE", "/v1/cluster/members/m3", &json!({})).await;
    assert_eq!((code.as_u16(), cluster["manager"].as_str()), (200, Some("m1")), "{cluster}");
    let (code, _) = tell(&manager, "POST", "/v1/cluster/transfer", &json!({})).await;
    assert_eq!(code.as_u16(), 200);
}

#[tokio::test]
async fn the_ca_is_rotated_by_the_leader_and_a_refusal_names_who_would_be_locked_out() {
    let manager = farm();
    let (code, ca) = get(&manager, "/v1/cluster/ca").await;
    assert_eq!((code.as_u16(), &ca["stage"]), (200, &json!("steady")));
    let (code, ca) = tell(&manager, "POST", "/v1/cluster/ca/rotate", &json!({})).await;
    assert_eq!((code.as_u16(), &ca["behind"]), (200, &json!([])));
    for (step, without, status, problem, word) in [
        ("switch", json!([]), 409, "ca-unchanged", "no rotation of the CA is under way"),
        ("switch", json!(["n3"]), 400, "bad-parameter", "ID.node.vouch"),
        ("finish", json!([]), 409, "ca-unchanged", "n1.node.vouch, n2.node.vouch"),
        ("finish", json!(["n1.node.vouch"]), 409, "ca-unchanged", "new CA: n2.node.vouch"),
    ] {
        let path = format!("/v1/cluster/ca/{step}");
        let (code, answer) = tell(&manager, "POST", &path, &json!({"without": without})).await;
        assert_eq!(code.as_u16(), status, "{path}: {answer}");
        assert_eq!(answer["type"], format!("/problems/{problem}"), "{path}");
        assert!(answer.to_string().contains(word), "{path}: {answer}");
    }
    let [leader, follower, _] = three();
    for manager in [&leader, &follower] {
        populate(&manager.published, "n1", &[]);
    }
    let (code, ca) = get(&follower, "/v1/cluster/ca").await;
    assert_eq!((code.as_u16(), &ca["stage"]), (200, &json!("steady")), "a follower asks the leader");
}

#[tokio::test]
async fn a_join_token_is_made_through_a_follower_shown_without_its_secret_and_revoked() {
    let [leader, follower, _] = three();
    for manager in [&leader, &follower] {
        populate(&manager.published, "n1", &[(1, "desk-1")]);
    }
    let wanted = json!({"role": "node", "name": "n3", "uses": 2, "ttl_ms": 3_600_000});
    let (status, made) = tell(&follower, "POST", "/v1/join-tokens", &wanted).await;
    assert_eq!((status.as_u16(), &made["record"]["id"]), (201, &json!("t1")), "{made}");
    let token: vouch_wire::pki::JoinToken = made["token"].as_str().unwrap().parse().unwrap();
    let (_, list) = get(&leader, "/v1/join-tokens").await;
    assert_eq!(list["items"], json!([made["record"]]));
    assert_eq!((&list["items"][0]["state"], &list["items"][0]["name"]), (&json!("open"), &json!("n3")));
    let state = format!("{:?} {list}", leader.published_state());
    assert!(!state.contains(&hex::encode(token.secret)), "the secret is kept nowhere");
    let (status, revoked) = delete(&follower, "/v1/join-tokens/t1").await;
    assert_eq!((status.as_u16(), &revoked["state"]), (200, &json!("revoked")));
    for id in ["t9", "n3"] {
        let (status, problem) = delete(&leader, &format!("/v1/join-tokens/{id}")).await;
        assert_eq!((status.as_u16(), &problem["type"]), (404, &json!("/problems/join-token-not-found")));
    }
}

#[tokio::test]
async fn a_join_token_that_breaks_a_rule_is_refused_with_field_value_and_rule() {
    let manager = farm();
    for (document, field, value) in [
        (json!({"role": "root", "ttl_ms": 60_000}), "role", "root"),
        (json!({"role": "manager", "name": "n1", "ttl_ms": 60_000}), "name", "n1"),
        (json!({"role": "node", "uses": 0, "ttl_ms": 60_000}), "uses", "0"),
        (json!({"role": "node", "ttl_ms": 999}), "ttl", "999ms"),
    ] {
        let (status, problem) = tell(&manager, "POST", "/v1/join-tokens", &document).await;
        assert_eq!((status.as_u16(), &problem["type"]), (400, &json!("/problems/bad-parameter")), "{problem}");
        assert_eq!((&problem["field"], &problem["value"]), (&json!(field), &json!(value)), "{problem}");
    }
    let document = json!({"role": "node", "ttl_ms": 60_000}).to_string();
    let once = request("POST", "/v1/join-tokens").header("Idempotency-Key", "k").body(Body::from(document)).unwrap();
    let (status, problem) = body(send(&manager, once).await).await;
    assert_eq!((status.as_u16(), &problem["field"]), (400, &json!("Idempotency-Key")));
}
