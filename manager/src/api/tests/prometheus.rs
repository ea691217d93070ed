//! What Prometheus asks: checks in the form of `blackbox_exporter`, and their targets.

use axum::http::StatusCode;
use serde_json::json;
use vouch_types::{Command, Incarnation, Network, ProbeAssignment, ProbeName, SortedMap, VmSpec, WatcherId};

use super::double::{SimManager, body, get, node_id, request, send, three, vm_id};
use super::farm;

/// Has node `n1` report desk-7, which is watched with ping, rdp and tcp.
fn watched(manager: &SimManager) {
    let assigned = |name: &str| ProbeAssignment {
        probe: ProbeName::new(name).unwrap(),
        network: Network::Service,
        settings: "{}".to_owned(),
    };
    let spec = VmSpec {
        id: vm_id(7),
        name: "desk-7".to_owned(),
        addresses: SortedMap::from([(Network::Service, vec!["127.0.11.7".parse().unwrap()])]),
        probes: ["ping", "rdp", "tcp"].map(assigned).to_vec(),
        labels: SortedMap::from([("cost-centre".to_owned(), "42".to_owned())]),
        datastore: None,
    };
    manager.published.apply(Command::RecordVms { node: node_id("n1"), vms: vec![spec], at: super::double::at(3) });
}

async fn text(manager: &SimManager, path: &str) -> (StatusCode, String, String) {
    let response = send(manager, request("GET", path).body(axum::body::Body::empty()).unwrap()).await;
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let (status, document) = body(response).await;
    (status, kind, document.as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_check_is_told_in_the_names_of_blackbox_exporter() {
    let manager = farm();
    watched(&manager);
    let (status, kind, up) = text(&manager, "/probe?module=ping&target=desk-7").await;
    assert_eq!(status, StatusCode::OK, "{up}");
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    for line in [
        "probe_success 1",
        "probe_duration_seconds 0.003",
        "probe_ip_protocol 4.0",
        "probe_icmp_duration_seconds{phase=\"rtt\"} 0.002",
        "vouch_check_duration_seconds 0.007",
        "vouch_probe_look_seconds{watcher_id=\"w1\",network=\"service\"} 0.003",
    ] {
        assert!(up.lines().any(|l| l == line), "{line} in {up}");
    }
    let fact = "vouch_probe_fact{fact=\"name\",value=\"desk-7\"} 1.0";
    assert!(!up.contains("vouch_probe_fact{"), "a fact is a label for who asks for it: {up}");
    let (_, _, with_facts) = text(&manager, "/probe?module=ping&target=desk-7&facts=true").await;
    assert!(with_facts.lines().any(|l| l == fact), "{with_facts}");
    let (_, _, closed) = text(&manager, &format!("/probe?module=rdp&target={}", vm_id(7))).await;
    assert!(closed.lines().any(|l| l == "probe_success 0"), "{closed}");
    let told = "vouch_probe_outcome{watcher_id=\"w1\",network=\"service\",outcome=\"down\",reason=\"closed\"} 1";
    assert!(closed.contains(told), "{closed}");
    let (_, kind, debug) = text(&manager, "/probe?module=rdp&target=desk-7&debug=true").await;
    assert!(kind.starts_with("text/plain"), "{kind}");
    for part in [
        "Logs for the probe:",
        "w1 (on another node) found rdp",
        "Metrics that would have been returned:",
        "probe: rdp",
    ] {
        assert!(debug.contains(part), "{part} in {debug}");
    }
}

#[tokio::test]
async fn one_watcher_may_be_asked_for_alone() {
    let manager = farm();
    watched(&manager);
    let at = super::double::at(4);
    for (number, vms) in [(1, vec![vm_id(7)]), (2, vec![vm_id(7)]), (3, Vec::new())] {
        let (watcher, secret_hash) = (WatcherId::new(number), vec![u8::try_from(number).unwrap(); 32]);
        manager.published.apply(Command::PlaceWatcher { node: node_id("n1"), secret_hash: secret_hash.clone(), at });
        let incarnation = Incarnation::new(1);
        manager.published.apply(Command::RedeemSecret { watcher, secret_hash, incarnation, at });
        manager.published.apply(Command::AssignWatchers { assignments: vec![(watcher, vms)] });
    }
    let (_, _, debug) = text(&manager, "/probe?module=ping&target=desk-7&debug=true").await;
    for part in ["w1 (on its node) found ping over service up: replied", "sample round_trip_mean: 0.002 seconds"] {
        assert!(debug.contains(part), "{part} in {debug}");
    }
    let (status, _, own) = text(&manager, "/probe?module=ping&target=desk-7&watcher=w1").await;
    assert!(status == StatusCode::OK && own.lines().any(|l| l == "probe_success 1"), "{own}");
    let (status, problem) = get(&manager, "/probe?module=ping&target=desk-7&watcher=w2").await;
    let said = "of w1 none could say";
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/problems/no-watcher")));
    assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
    for other in ["w3", "w4", "seven"] {
        let (status, problem) = get(&manager, &format!("/probe?module=ping&target=desk-7&watcher={other}")).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("watcher")), "{other}: {problem}");
    }
    let (_, problem) = get(&manager, "/probe?module=ping&target=desk-7&watcher=w3").await;
    assert!(problem["rule"].as_str().unwrap().ends_with(": w1, w2"), "{problem}");
}

#[tokio::test]
async fn how_long_checks_took_is_a_histogram_per_probe_network_and_node() {
    let (_, _, metrics) = text(&farm(), "/metrics").await;
    let labels = "probe=\"rdp\",network=\"service\",node_id=\"n9\"";
    for line in [
        "# TYPE vouch_probe_duration_seconds histogram".to_owned(),
        format!("vouch_probe_duration_seconds_bucket{{le=\"0.0005\",{labels}}} 1"),
        format!("vouch_probe_duration_seconds_bucket{{le=\"0.001\",{labels}}} 3"),
        format!("vouch_probe_duration_seconds_bucket{{le=\"5.0\",{labels}}} 3"),
        format!("vouch_probe_duration_seconds_bucket{{le=\"+Inf\",{labels}}} 4"),
        format!("vouch_probe_duration_seconds_count{{{labels}}} 4"),
        format!("vouch_probe_duration_seconds_sum{{{labels}}} 9.0018"),
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn what_says_nothing_of_the_vm_is_an_error_of_the_scrape_and_no_failed_probe() {
    let manager = farm();
    watched(&manager);
    let (status, problem) = get(&manager, "/probe?module=tcp&target=desk-7").await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::CONFLICT, &json!("/problems/no-watcher")),
        "it came to nothing"
    );
    for (path, field, value) in [
        ("/probe?target=desk-7", "module", ""),
        ("/probe?module=ping", "target", ""),
        ("/probe?module=A%20B&target=desk-7", "module", "A B"),
        ("/probe?module=ssh&target=desk-7", "module", "ssh"),
        ("/probe?module=ping&target=desk-9", "target", "desk-9"),
        ("/probe?module=ping&target=desk-7&debug=yes", "debug", "yes"),
        ("/probe?module=ping&target=desk-7&facts=yes", "facts", "yes"),
        ("/probe?module=ping&target=desk-7&colour=red", "colour", "red"),
    ] {
        let (status, problem) = get(&manager, path).await;
        assert!(status.is_client_error(), "{path}: {status}");
        assert_eq!((&problem["field"], &problem["value"]), (&json!(field), &json!(value)), "{path}");
    }
    let (_, problem) = get(&manager, "/probe?module=ssh&target=desk-7").await;
    assert!(problem["rule"].as_str().unwrap().ends_with(": ping, rdp, tcp"), "{problem}");
}

#[tokio::test]
async fn a_manager_that_follows_has_the_leader_ask() {
    let managers = three();
    managers.iter().for_each(|manager| {
        super::populate(&manager.published, "n1", &[(1, "desk-1")]);
        watched(manager);
    });
    let (status, kind, up) = text(&managers[1], "/probe?module=ping&target=desk-7").await;
    assert_eq!(status, StatusCode::OK, "{up}");
    assert!(kind.starts_with("application/openmetrics-text") && up.contains("probe_success 1"), "{kind}: {up}");
}

#[tokio::test]
async fn every_vm_is_a_target_with_what_is_known_of_it() {
    let manager = farm();
    watched(&manager);
    let (status, all) = get(&manager, "/v1/discovery/prometheus").await;
    assert_eq!(status, StatusCode::OK);
    let groups = all.as_array().unwrap();
    let group = groups.iter().find(|group| group["targets"] == json!([vm_id(7).to_string()])).unwrap();
    assert_eq!(
        group["labels"],
        json!({
            "__meta_vouch_name": "desk-7",
            "__meta_vouch_node": "n1",
            "__meta_vouch_state": "unknown",
            "__meta_vouch_source": "direct",
            "__meta_vouch_probes": ",ping,rdp,tcp,",
            "__meta_vouch_label_cost_centre": "42",
        })
    );
    let (_, of_n2) = get(&manager, "/v1/discovery/prometheus?node=n2").await;
    assert_eq!(of_n2.as_array().unwrap().len(), 2);
}
