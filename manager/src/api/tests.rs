//! The API as its clients see it: whole requests through the whole router, against a state in memory.

mod assignments;
mod blocking;
mod cluster;
mod double;
mod events;
mod operating;
mod probes;
mod prometheus;
mod reads;
mod removal;
mod rollouts;
mod signatures;
mod writes;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures::StreamExt;
use serde_json::{Value, json};
use vouch_types::VmState;

use self::double::{SimManager, Standing, TOKEN, body, cut, get, judge, lone, populate, request, send, three, vm_id};
use super::limits::STREAMS_MAX;

fn farm() -> SimManager {
    let manager = lone();
    populate(&manager.published, "n1", &[(1, "desk-1"), (2, "desk-2"), (3, "twin")]);
    populate(&manager.published, "n2", &[(4, "desk-4"), (5, "twin")]);
    manager
}

#[tokio::test]
async fn every_route_but_the_health_ones_asks_for_the_token() {
    let manager = farm();
    let document = super::openapi::openapi();
    for path in document.paths.paths.keys() {
        let path = path.replace("{id}", "desk-1").replace("{scope}", "cluster").replace("{name}", "my-tcp");
        for token in [None, Some("wrong")] {
            let mut request = Request::builder().uri(&path).header("host", "localhost");
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = send(&manager, request.body(Body::empty()).unwrap()).await;
            if ["/livez", "/readyz"].contains(&path.as_str()) {
                assert_ne!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
            } else {
                assert_eq!(response.headers()["content-type"], "application/problem+json");
                let (status, problem) = body(response).await;
                assert_eq!(
                    (status, &problem["type"]),
                    (StatusCode::UNAUTHORIZED, &json!("/problems/unauthorized")),
                    "{path}"
                );
            }
        }
    }
}

#[tokio::test]
async fn another_host_or_origin_is_refused_even_with_the_token() {
    let manager = farm();
    let with = |host: &str, origin: Option<&str>| {
        let mut request = Request::builder().uri("/v1/vms").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.header("authorization", format!("Bearer {TOKEN}")).body(Body::empty()).unwrap()
    };
    let (status, problem) = body(send(&manager, with("evil.example", None)).await).await;
    assert_eq!((status, &problem["type"]), (StatusCode::FORBIDDEN, &json!("/problems/host-not-allowed")));
    assert_eq!((&problem["field"], &problem["value"]), (&json!("Host"), &json!("evil.example")));
    for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example"] {
        let response = send(&manager, with("localhost:7080", Some(origin))).await;
        assert!(response.headers().get("access-control-allow-origin").is_none());
        let (status, problem) = body(response).await;
        assert_eq!((status, &problem["field"]), (StatusCode::FORBIDDEN, &json!("Origin")), "{origin}");
    }
    let own = with("m1.manager.vouch:7080", Some("https://m1.manager.vouch:7080"));
    assert_eq!(send(&manager, own).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn pages_hold_each_vm_once_and_filters_hold() {
    let manager = farm();
    judge(&manager.published, vm_id(2), VmState::Up, "its node says that it runs", 5);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&manager, &format!("/v1/vms?limit=2{after}")).await;
        assert_eq!(status, StatusCode::OK);
        seen.extend(page["items"].as_array().unwrap().iter().map(|vm| vm["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let all: Vec<String> = (1..=5).map(|n| vm_id(n).to_string()).collect();
    assert_eq!(seen, all);
    let (_, up) = get(&manager, "/v1/vms?state=up").await;
    assert_eq!(up["items"].as_array().unwrap().len(), 1);
    assert_eq!(up["items"][0]["name"], "desk-2");
    let (_, of_n2) = get(&manager, "/v1/vms?node=n2").await;
    assert_eq!(of_n2["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_wrong_request_is_refused_with_field_value_and_rule() {
    let manager = farm();
    for (path, status, name, field, value) in [
        ("/v1/vms/desk-9", 404, "vm-not-found", "id", "desk-9"),
        ("/v1/vms/twin", 409, "vm-name-ambiguous", "id", "twin"),
        ("/v1/vms/desk-9/history", 404, "vm-not-found", "id", "desk-9"),
        ("/v1/nodes/n9", 404, "node-not-found", "id", "n9"),
        ("/v1/nodes/N%209", 404, "node-not-found", "id", "N 9"),
        ("/v1/vms?limit=0", 400, "bad-parameter", "limit", "0"),
        ("/v1/vms?limit=1001", 400, "bad-parameter", "limit", "1001"),
        ("/v1/vms?state=fine", 400, "bad-parameter", "state", "fine"),
        ("/v1/vms?colour=red", 400, "bad-parameter", "colour", "red"),
        ("/v1/vms?consistency=maybe", 400, "bad-parameter", "consistency", "maybe"),
        ("/v1/vms?after=42", 400, "bad-parameter", "after", "42"),
        ("/v1/events?after=42", 400, "bad-parameter", "after", "42"),
        ("/v1/events?format=xml", 400, "bad-parameter", "format", "xml"),
        ("/v1/incidents/i9", 404, "incident-not-found", "id", "i9"),
        ("/v1/incidents/x", 404, "incident-not-found", "id", "x"),
        ("/v1/incidents?state=shut", 400, "bad-parameter", "state", "shut"),
        ("/v1/incidents?after=3", 400, "bad-parameter", "after", "3"),
        ("/v1/policies/node:n9", 404, "policy-not-found", "scope", "node:n9"),
        ("/v1/policies/gold", 400, "bad-parameter", "scope", "gold"),
        ("/v1/maintenances/x9", 404, "maintenance-not-found", "id", "x9"),
        ("/v1/vms/desk-9/explain", 404, "vm-not-found", "id", "desk-9"),
        ("/v1/vms/desk-9/trace", 404, "vm-not-found", "id", "desk-9"),
        ("/v1/vms/twin/trace", 409, "vm-name-ambiguous", "id", "twin"),
        ("/v1/vms/desk-1/trace?since=yesterday", 400, "bad-parameter", "since", "yesterday"),
        ("/v1/vms/desk-1/trace?until=10", 400, "bad-parameter", "until", "10"),
        ("/v1/vms/desk-9/policy", 404, "vm-not-found", "id", "desk-9"),
        ("/v2/vms", 404, "route-not-found", "path", "/v2/vms"),
        ("/internal/probes", 404, "route-not-found", "path", "/internal/probes"),
    ] {
        let response = send(&manager, request("GET", path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let (have, problem) = body(response).await;
        assert_eq!((have.as_u16(), problem["status"].as_u64()), (status, Some(u64::from(status))), "{path}");
        assert_eq!(problem["type"], format!("/problems/{name}"), "{path}");
        assert_eq!((&problem["field"], &problem["value"]), (&json!(field), &json!(value)), "{path}");
        assert!(problem["rule"].as_str().is_some_and(|rule| !rule.is_empty()), "{path}");
    }
    let (status, problem) = body(send(&manager, request("DELETE", "/v1/vms").body(Body::empty()).unwrap()).await).await;
    assert_eq!((status.as_u16(), &problem["value"]), (405, &json!("DELETE")));
}

#[tokio::test]
async fn a_vm_shows_what_is_cut_on_its_node_beside_its_own_verdict() {
    let manager = farm();
    judge(&manager.published, vm_id(1), VmState::Up, "its node says that it runs", 5);
    cut(&manager.published, "n1", 9);
    let (status, vm) = get(&manager, "/v1/vms/desk-1").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&vm["state"], &vm["source"]), (&json!("up"), &json!("watcher")));
    assert_eq!(vm["faults"][0]["cause"], "manager_node_path");
    assert_eq!(vm["shared_faults"], 1);
    assert_eq!(vm["source_since"]["unix_ms"], 1_795_383_407_051_u64);
    let warnings: Vec<&str> = vm["coverage"].as_array().unwrap().iter().map(|w| w["code"].as_str().unwrap()).collect();
    assert_eq!(warnings, ["no_watcher_on_node", "no_watcher_elsewhere"]);
    insta::assert_json_snapshot!("vm", vm);
    let (_, node) = get(&manager, "/v1/nodes/n1").await;
    insta::assert_json_snapshot!("node", node);
    let (_, history) = get(&manager, "/v1/vms/desk-1/history").await;
    let texts: Vec<&Value> = history["items"].as_array().unwrap().iter().map(|event| &event["text"]).collect();
    insta::assert_json_snapshot!("history", texts);
}

#[tokio::test]
async fn without_a_quorum_nothing_is_shown_as_fresh_and_stale_says_so() {
    let manager = farm();
    manager.published.stand(Standing::LeadsAlone);
    for path in ["/v1/vms", "/v1/vms/desk-1", "/v1/nodes", "/v1/vms?consistency=consistent", "/v1/events?format=json"] {
        let (status, problem) = get(&manager, path).await;
        assert_eq!((status.as_u16(), &problem["type"]), (503, &json!("/problems/no-quorum")), "{path}");
    }
    let stale = request("GET", "/v1/vms?consistency=stale").body(Body::empty()).unwrap();
    let response = send(&manager, stale).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-vouch-age-ms"], "unknown");
    assert_eq!(response.headers()["x-vouch-index"], "5");
    let (status, evidence) = get(&manager, "/v1/vms/desk-1/evidence?consistency=stale").await;
    assert_eq!((status.as_u16(), &evidence["live"]), (200, &json!(false)));
}

#[tokio::test]
async fn a_follower_answers_once_it_has_applied_what_the_leader_has() {
    let [leader, follower, _] = three();
    populate(&leader.published, "n1", &[(1, "desk-1")]);
    let lagging = tokio::spawn({
        let api = follower.api.router();
        let request = request("GET", "/v1/vms/desk-1").body(Body::empty()).unwrap();
        async move { tower::ServiceExt::oneshot(api, request).await.unwrap() }
    });
    tokio::task::yield_now().await;
    assert!(!lagging.is_finished(), "it must not answer from a state that is behind");
    populate(&follower.published, "n1", &[(1, "desk-1")]);
    let response = lagging.await.unwrap();
    assert_eq!(response.headers()["x-vouch-leader"], "m1");
    assert_eq!(response.headers()["x-vouch-index"], "3");
    let (status, evidence) = get(&follower, "/v1/vms/desk-1/evidence").await;
    assert_eq!((status.as_u16(), &evidence["manager"]), (200, &json!("m1")), "evidence is the leader's");
    let check = request("POST", "/v1/vms/desk-1/check").body(Body::empty()).unwrap();
    let (status, checked) = body(send(&follower, check).await).await;
    assert_eq!((status.as_u16(), &checked["check"]["answered"]), (200, &json!(["w1"])));
}

#[tokio::test]
async fn two_managers_that_take_each_other_for_the_leader_do_not_play_ball() {
    let [first, second, _] = three();
    for manager in [&first, &second] {
        populate(&manager.published, "n1", &[(1, "desk-1")]);
    }
    first.published.stand(Standing::Follows);
    let check = request("POST", "/v1/vms/desk-1/check").body(Body::empty()).unwrap();
    let (status, problem) = body(send(&second, check).await).await;
    assert_eq!((status.as_u16(), &problem["type"]), (503, &json!("/problems/no-leader")));
}

async fn next_event(stream: &mut axum::body::BodyDataStream, rest: &mut String) -> (String, Value) {
    let wait = async {
        loop {
            if let Some(end) = rest.find("\n\n") {
                let event: String = rest.drain(..end + 2).collect();
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
                if event.contains("data: ") {
                    return (field("id: "), serde_json::from_str(&field("data: ")).unwrap());
                }
                continue;
            }
            let chunk = stream.next().await.expect("the stream goes on").unwrap();
            rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("an event comes")
}

async fn open_stream(manager: &SimManager, query: &str) -> Response<Body> {
    send(manager, request("GET", &format!("/v1/events{query}")).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_stream_that_is_resumed_on_another_manager_misses_and_repeats_nothing() {
    let [first, second, _] = three();
    for manager in [&first, &second] {
        populate(&manager.published, "n1", &[(1, "desk-1"), (2, "desk-2")]);
    }
    let response = open_stream(&first, "?after=0.0").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut stream, mut rest, mut ids) = (response.into_body().into_data_stream(), String::new(), Vec::new());
    for _ in 0..3 {
        ids.push(next_event(&mut stream, &mut rest).await.0);
    }
    drop(stream);
    for manager in [&first, &second] {
        judge(&manager.published, vm_id(1), VmState::Up, "it runs", 5);
    }
    let resumed = open_stream(&second, &format!("?after={}", ids[2])).await;
    let (mut stream, mut rest) = (resumed.into_body().into_data_stream(), String::new());
    for _ in 0..2 {
        ids.push(next_event(&mut stream, &mut rest).await.0);
    }
    // One that comes while the stream waits.
    judge(&second.published, vm_id(2), VmState::Down, "its process is gone", 6);
    let (id, event) = next_event(&mut stream, &mut rest).await;
    ids.push(id);
    assert_eq!(
        (&event["kind"], &event["text"]),
        (&json!("vm_state_changed"), &json!("vm desk-2: unknown -> down (its process is gone)"))
    );
    let (_, page) = get(&second, "/v1/events?format=json").await;
    let all: Vec<&str> = page["items"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids, all);
}

#[tokio::test]
async fn a_stream_shows_only_what_its_filter_wants() {
    let manager = farm();
    let path = format!("?after=0.0&vm={}", vm_id(4));
    let (mut stream, mut rest) = (open_stream(&manager, &path).await.into_body().into_data_stream(), String::new());
    assert_eq!(next_event(&mut stream, &mut rest).await.1["kind"], "vm_registered");
    judge(&manager.published, vm_id(1), VmState::Up, "it runs", 5);
    judge(&manager.published, vm_id(4), VmState::Up, "it runs", 5);
    assert_eq!(next_event(&mut stream, &mut rest).await.1["vm"], vm_id(4).to_string());
}

#[tokio::test]
async fn one_stream_too_many_is_refused_and_a_closed_one_makes_room() {
    let manager = farm();
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        open.push(open_stream(&manager, "").await);
    }
    let (status, problem) = body(open_stream(&manager, "").await).await;
    assert_eq!((status.as_u16(), &problem["type"]), (503, &json!("/problems/busy")));
    open.pop();
    assert_eq!(open_stream(&manager, "").await.status(), StatusCode::OK);
}

impl SimManager {
    pub(super) fn published_state(&self) -> crate::store::State {
        super::published::read(self.published.as_ref(), Clone::clone)
    }
}

#[tokio::test]
async fn readiness_says_why_not_and_that_one_network_is_missing() {
    let manager = farm();
    let request = Request::builder().uri("/readyz").header("host", "localhost").body(Body::empty()).unwrap();
    let (status, ready) = body(send(&manager, request).await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (&ready["reasons"][0]["code"], &ready["notes"][0]["code"]),
        (&json!("no_quorum"), &json!("one_network"))
    );
}

#[tokio::test]
async fn metrics_count_vms_by_state_and_source() {
    let manager = farm();
    judge(&manager.published, vm_id(1), VmState::Up, "it runs", 5);
    cut(&manager.published, "n1", 9);
    let (status, text) = get(&manager, "/metrics").await;
    let text = text.as_str().unwrap();
    assert_eq!(status, StatusCode::OK);
    for line in [
        "vouch_vm_state{state=\"up\",source=\"watcher\"} 1\n",
        "vouch_vm_state{state=\"unknown\",source=\"watcher\"} 2\n",
        "vouch_vm_state{state=\"unknown\",source=\"direct\"} 2\n",
        "vouch_nodes{source=\"watcher\"} 1\n",
        "vouch_raft_leader{manager_id=\"m1\"} 1\n",
        "vouch_messages_stale_dropped_total{of=\"node\"} 5\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_second_initialisation_is_refused() {
    let manager = farm();
    let init = request("POST", "/v1/cluster/init").body(Body::empty()).unwrap();
    let (status, problem) = body(send(&manager, init).await).await;
    assert_eq!((status.as_u16(), &problem["type"]), (409, &json!("/problems/already-initialised")));
    let (status, cluster) = get(&manager, "/v1/cluster").await;
    assert_eq!((status.as_u16(), &cluster["role"], &cluster["leader"]), (200, &json!("leader"), &json!("m1")));
    let compared = json!({ "m2": { "log_index": 64, "hash": "0c", "same": false } });
    assert_eq!(cluster["state"], json!({ "log_index": 128, "hash": "0b", "compared": compared }));
}

#[tokio::test]
async fn the_description_is_complete_and_as_it_was() {
    let (status, document) = get(&farm(), "/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    let routes: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        routes,
        [
            "/livez",
            "/metrics",
            "/openapi.json",
            "/probe",
            "/readyz",
            "/v1/cluster",
            "/v1/cluster/backup",
            "/v1/cluster/ca",
            "/v1/cluster/ca/finish",
            "/v1/cluster/ca/rotate",
            "/v1/cluster/ca/switch",
            "/v1/cluster/init",
            "/v1/cluster/members",
            "/v1/cluster/members/{id}",
            "/v1/cluster/members/{id}/promote",
            "/v1/cluster/transfer",
            "/v1/discovery/prometheus",
            "/v1/events",
            "/v1/incidents",
            "/v1/incidents/{id}",
            "/v1/join-tokens",
            "/v1/join-tokens/{id}",
            "/v1/maintenances",
            "/v1/maintenances/{id}",
            "/v1/nodes",
            "/v1/nodes/{id}",
            "/v1/nodes/{id}/fence-proof",
            "/v1/policies",
            "/v1/policies/{scope}",
            "/v1/probe-keys",
            "/v1/probe-keys/{name}",
            "/v1/probe-trust",
            "/v1/probes",
            "/v1/probes/{name}/assignments",
            "/v1/probes/{name}/assignments/{network}/{scope}",
            "/v1/probes/{name}/grant",
            "/v1/probes/{name}/rollout/abort",
            "/v1/probes/{name}/rollout/promote",
            "/v1/vms",
            "/v1/vms/{id}",
            "/v1/vms/{id}/check",
            "/v1/vms/{id}/evidence",
            "/v1/vms/{id}/explain",
            "/v1/vms/{id}/history",
            "/v1/vms/{id}/pins",
            "/v1/vms/{id}/policy",
            "/v1/vms/{id}/trace",
            "/v1/watchers",
        ]
    );
    insta::assert_json_snapshot!("openapi", document);
}

#[test]
fn every_problem_type_is_documented() {
    let documentation = include_str!("../../../docs/api.md");
    let source = include_str!("problem.rs");
    let names: Vec<&str> =
        source.split("(\"").skip(1).filter_map(|s| s.split_once("\", StatusCode").map(|(n, _)| n)).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(documentation.contains(&format!("`/problems/{name}`")), "{name} is not in docs/api.md");
    }
}
