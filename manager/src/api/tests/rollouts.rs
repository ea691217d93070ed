//! Another version of a probe on its way: begun by an upload, shown, and ended by operators.

use axum::body::Body;
use serde_json::{Value, json};
use vouch_types::{Command, Digest, ProbeName, RolloutStep};

use super::double::{SimManager, at, body, get, populate, request, send, three};

const GRANT: &str = "interfaces=sockets,icmp&networks=service&ports=settings";

fn cluster() -> [SimManager; 3] {
    let managers = three();
    for manager in &managers {
        populate(&manager.published, "n1", &[]);
    }
    managers
}

async fn post(manager: &SimManager, path: &str, component: &[u8]) -> (u16, Value) {
    let request = request("POST", path).body(Body::from(component.to_vec())).unwrap();
    let (status, document) = body(send(manager, request).await).await;
    (status.as_u16(), document)
}

async fn push(manager: &SimManager, query: &str, bundled: &str) -> (u16, Value) {
    let bytes = vouch_probe_bundle::by_name(bundled).unwrap().bytes;
    post(manager, &format!("/v1/probes?name=mine&{query}"), bytes).await
}

fn digest(bundled: &str) -> Digest {
    vouch_probe_bundle::by_name(bundled).unwrap().digest()
}

async fn texts(manager: &SimManager) -> Vec<String> {
    let (_, events) = get(manager, "/v1/events?format=json&limit=1000").await;
    events["items"].as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn another_version_is_shown_on_its_way_and_the_recorded_one_stays() {
    let [leader, ..] = cluster();
    push(&leader, &format!("version=1.0.0&{GRANT}"), "tcp").await;
    let (status, probe) = push(&leader, "version=2.0.0&rollout=true&runs=100&lasts_ms=20000", "ping").await;
    assert_eq!(
        (status, &probe["version"], &probe["digest"]),
        (202, &json!("1.0.0"), &json!(digest("tcp").to_string())),
        "{probe}"
    );
    let rollout = &probe["rollout"];
    assert_eq!((&rollout["version"], &rollout["digest"]), (&json!("2.0.0"), &json!(digest("ping").to_string())));
    assert_eq!((&rollout["runs_wanted"], &rollout["lasts_ms"]), (&json!(100), &json!(20_000)));
    assert_eq!((&rollout["by"], &rollout["canary"]), (&json!("admin token of m1"), &Value::Null));
    assert_eq!(get(&leader, "/v1/probes").await.1["items"][0]["rollout"], *rollout);
    let told = texts(&leader).await.pop().unwrap();
    assert!(told.starts_with("probe mine 2.0.0, sha256 ") && told.ends_with("by the admin token of m1"), "{told}");
    let (status, problem) = push(&leader, "version=3.0.0&rollout=true", "guest-agent").await;
    assert_eq!(status, 422, "its grant does not fit: {problem}");
    let (status, problem) = push(&leader, "version=2.0.1&rollout=true", "ping").await;
    assert_eq!((status, &problem["field"]), (400, &json!("name")), "one at a time: {problem}");
}

#[tokio::test]
async fn an_operator_promotes_it_or_takes_it_back_and_neither_twice() {
    let [leader, ..] = cluster();
    push(&leader, &format!("version=1.0.0&{GRANT}"), "tcp").await;
    push(&leader, "version=2.0.0&rollout=true", "ping").await;
    let (status, probe) = post(&leader, "/v1/probes/mine/rollout/abort", b"").await;
    assert_eq!((status, &probe["version"], &probe["rollout"]), (200, &json!("1.0.0"), &Value::Null), "{probe}");
    let told = texts(&leader).await.pop().unwrap();
    assert!(told.ends_with("was taken back, by the admin token of m1: ordered before its time"), "{told}");
    push(&leader, "version=2.0.0&rollout=true", "ping").await;
    let (status, probe) = post(&leader, "/v1/probes/mine/rollout/promote", b"").await;
    assert_eq!((status, &probe["version"], &probe["rollout"]), (200, &json!("2.0.0"), &Value::Null), "{probe}");
    assert_eq!(probe["grant"]["interfaces"], json!(["sockets", "icmp"]), "with the grant of its name");
    for path in ["mine/rollout/promote", "mine/rollout/abort", "yours/rollout/abort"] {
        let (status, problem) = post(&leader, &format!("/v1/probes/{path}"), b"").await;
        assert_eq!((status, &problem["type"]), (404, &json!("/problems/rollout-not-found")), "{problem}");
    }
}

#[tokio::test]
async fn what_the_leader_decided_is_told_with_its_reason() {
    let [leader, ..] = cluster();
    push(&leader, &format!("version=1.0.0&{GRANT}"), "tcp").await;
    push(&leader, "version=2.0.0&rollout=true", "ping").await;
    let step = RolloutStep::TakeBack { reason: "on w3 it faulted in 3 of 3 runs".to_owned() };
    let (probe, digest) = (ProbeName::new("mine").unwrap(), digest("ping"));
    leader.published.apply(Command::StepRollout { probe, digest, step, by: String::new(), at: at(9) });
    let told = texts(&leader).await.pop().unwrap();
    assert_eq!(told, format!("probe mine, sha256 {}, was taken back: on w3 it faulted in 3 of 3 runs", digest.short()));
}

#[tokio::test]
async fn what_is_asked_of_a_rollout_is_refused_with_field_value_and_rule() {
    let [leader, ..] = cluster();
    let (status, problem) = push(&leader, &format!("rollout=true&{GRANT}"), "tcp").await;
    assert_eq!(
        (status, &problem["type"]),
        (404, &json!("/problems/probe-not-found")),
        "nothing to compare with: {problem}"
    );
    push(&leader, &format!("version=1.0.0&{GRANT}"), "tcp").await;
    for (query, field) in [
        ("rollout=yes", "rollout"),
        ("runs=30", "runs"),
        ("lasts_ms=20000", "lasts_ms"),
        ("rollout=true&runs=many", "runs"),
        ("rollout=true&runs=4", "runs"),
        ("rollout=true&lasts_ms=9999", "lasts"),
    ] {
        let (status, problem) = push(&leader, &format!("version=2.0.0&{query}"), "ping").await;
        assert_eq!((status, problem["field"].as_str()), (400, Some(field)), "{query}: {problem}");
        assert!(problem["rule"].as_str().unwrap().starts_with("must "), "{problem}");
    }
    let (status, problem) = push(&leader, "version=1.0.1&rollout=true", "tcp").await;
    assert_eq!((status, &problem["field"]), (400, &json!("body")), "the same component: {problem}");
}
