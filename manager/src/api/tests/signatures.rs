//! Signatures under uploads: trusted keys, the rule, and what becomes of an upload that is refused.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use vouch_types::probe_key::PROBE_VERSION_MAX;
use vouch_types::{Digest, ProbeName};
use vouch_wire::probe_signature::{ProbeSigningKey, SignedProbe, public_pem};

use super::double::{SimManager, body, get, populate, request, send, three};
use crate::api::probe_orders::RECORD_WITHIN;
use crate::api::refusals::REFUSALS_AT_ONCE;

const GRANT: &str = "&interfaces=sockets&networks=service&ports=settings";

fn cluster() -> [SimManager; 3] {
    let managers = three();
    for manager in &managers {
        populate(&manager.published, "n1", &[]);
    }
    managers
}

fn tcp() -> &'static vouch_probe_bundle::BundledProbe {
    vouch_probe_bundle::by_name("tcp").unwrap()
}

async fn ask(manager: &SimManager, method: &str, path: &str, content: impl Into<Body>) -> (StatusCode, Value) {
    body(send(manager, request(method, path).body(content.into()).unwrap()).await).await
}

async fn upload(manager: &SimManager, query: &str) -> (StatusCode, Value) {
    ask(manager, "POST", &format!("/v1/probes?{query}{GRANT}"), tcp().bytes.to_vec()).await
}

async fn trust(manager: &SimManager, name: &str, key: &ProbeSigningKey) {
    let request = json!({ "name": name, "public_key": public_pem(&key.public_key()) });
    let (status, key) = ask(manager, "POST", "/v1/probe-keys", request.to_string()).await;
    assert_eq!((status.as_u16(), &key["name"]), (201, &json!(name)), "{key}");
}

async fn require(manager: &SimManager, rule: &str) -> (StatusCode, Value) {
    ask(manager, "PUT", "/v1/probe-trust", json!({ "signatures": rule }).to_string()).await
}

/// Returns the signature of a key under a component, name and version.
fn signature(key: &ProbeSigningKey, digest: Digest, name: &str, version: &str) -> String {
    key.sign(&SignedProbe { digest, name: &ProbeName::new(name).unwrap(), version }).signature
}

async fn refusals(manager: &SimManager) -> Vec<Value> {
    let (_, page) = get(manager, "/v1/events?format=json&limit=1000").await;
    let items = page["items"].as_array().unwrap().iter();
    items.filter(|event| event["kind"] == "probe_refused").cloned().collect()
}

#[tokio::test]
async fn a_signature_of_a_trusted_key_is_recorded_with_the_name_of_the_key() {
    let [leader, _, _] = cluster();
    let key = ProbeSigningKey::generate().unwrap();
    trust(&leader, "release", &key).await;
    let signature = signature(&key, tcp().digest(), "mine", "1.0.0");
    let (status, probe) = upload(&leader, &format!("name=mine&version=1.0.0&signature={signature}")).await;
    assert_eq!(status.as_u16(), 201, "{probe}");
    assert_eq!(probe["signer"], json!({ "key": "release", "public_key": key.public_key().to_string() }));
    let (_, keys) = get(&leader, "/v1/probe-keys").await;
    assert_eq!(keys["items"][0]["signed"], json!(["mine"]));
    let (status, removed) = ask(&leader, "DELETE", "/v1/probe-keys/release", Body::empty()).await;
    assert_eq!((status.as_u16(), &removed["signed"]), (200, &json!(["mine"])), "{removed}");
    let (_, probes) = get(&leader, "/v1/probes").await;
    assert_eq!(probes["items"][0]["signer"]["key"], "release", "the probe stays");
    assert_eq!(get(&leader, "/v1/probe-keys").await.1["items"], json!([]));
    let (status, problem) = ask(&leader, "DELETE", "/v1/probe-keys/release", Body::empty()).await;
    assert_eq!((status.as_u16(), &problem["type"]), (404, &json!("/problems/probe-key-not-found")));
}

#[tokio::test]
async fn a_signature_of_another_key_name_version_or_component_is_refused_and_taken_down() {
    let [leader, _, _] = cluster();
    let (key, stranger) = (ProbeSigningKey::generate().unwrap(), ProbeSigningKey::generate().unwrap());
    trust(&leader, "release", &key).await;
    let digest = tcp().digest();
    for signature in [
        signature(&stranger, digest, "mine", "1.0.0"),
        signature(&key, digest, "other", "1.0.0"),
        signature(&key, digest, "mine", "1.0.1"),
        signature(&key, Digest::new([1; 32]), "mine", "1.0.0"),
    ] {
        let (status, problem) = upload(&leader, &format!("name=mine&version=1.0.0&signature={signature}")).await;
        assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/signature-refused")), "{problem}");
    }
    let told = refusals(&leader).await;
    assert_eq!(told.len(), 4);
    let refusal = &told[0]["detail"]["refusal"];
    assert_eq!((&refusal["probe"], &refusal["digest"]), (&json!("mine"), &json!(digest.to_string())));
    assert_eq!(refusal["by"], "admin token of m1");
    assert!(refusal["reason"].as_str().unwrap().contains("must be of a trusted key"), "{refusal}");
    assert_eq!(get(&leader, "/v1/probes").await.1["items"], json!([]));
    let (status, problem) = upload(&leader, "name=mine&signature=abc").await;
    assert_eq!((status.as_u16(), &problem["field"]), (400, &json!("signature")), "{problem}");
}

#[tokio::test]
async fn where_a_signature_is_required_an_upload_without_is_refused_also_by_a_manager_that_follows() {
    let [alone, ..] = cluster();
    let (status, problem) = require(&alone, "required").await;
    assert_eq!(status.as_u16(), 400, "no key is trusted: {problem}");
    let [leader, follower, _] = cluster();
    let key = ProbeSigningKey::generate().unwrap();
    for manager in [&leader, &follower] {
        trust_in(manager, &key);
    }
    // What the follower takes, it hands to the leader: who was asked is told.
    let stranger = ProbeSigningKey::generate().unwrap();
    let wrong = signature(&stranger, tcp().digest(), "mine", "1.0.0");
    let (status, _) = upload(&follower, &format!("name=mine&version=1.0.0&signature={wrong}")).await;
    assert_eq!(status.as_u16(), 422);
    assert_eq!(refusals(&leader).await[0]["detail"]["refusal"]["by"], "admin token of m2");
    let (status, trust) = require(&leader, "required").await;
    assert_eq!((status.as_u16(), &trust), (200, &json!({ "signatures": "required", "keys": ["release"] })), "{trust}");
    let (status, problem) = upload(&leader, "name=mine&version=1.0.0").await;
    assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/signature-required")), "{problem}");
    assert_eq!(refusals(&leader).await.len(), 2);
    let right = signature(&key, tcp().digest(), "mine", "1.0.0");
    let (status, probe) = upload(&leader, &format!("name=mine&version=1.0.0&signature={right}")).await;
    assert_eq!((status.as_u16(), &probe["signer"]["key"]), (201, &json!("release")), "{probe}");
    let (status, problem) = require(&leader, "maybe").await;
    assert_eq!((status.as_u16(), &problem["field"], &problem["value"]), (400, &json!("signatures"), &json!("maybe")));
}

/// Trusts a key in the state of a manager: the doubles do not replicate.
fn trust_in(manager: &SimManager, key: &ProbeSigningKey) {
    let name = vouch_types::ProbeKeyName::new("release").unwrap();
    let (by, at) = ("admin token of m1".to_owned(), vouch_types::WallTime::default());
    manager.published.apply(vouch_types::Command::AddProbeKey { name, public_key: key.public_key(), by, at });
}

#[tokio::test]
async fn imports_beyond_the_grant_are_taken_down_and_a_flood_of_refusals_is_not() {
    let [leader, _, _] = cluster();
    let flood = REFUSALS_AT_ONCE + 7;
    for _ in 0..flood {
        let path = "/v1/probes?name=mine&interfaces=icmp&networks=service";
        let (status, problem) = ask(&leader, "POST", path, tcp().bytes.to_vec()).await;
        assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/not-granted")), "{problem}");
    }
    let told = refusals(&leader).await;
    assert_eq!(told.len(), usize::try_from(REFUSALS_AT_ONCE).unwrap());
    let text = told[0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("probe mine, sha256 ") && text.contains("was refused to the admin token of m1: "),
        "{text}"
    );
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_with_its_field() {
    let [leader, _, _] = cluster();
    let pem = public_pem(&ProbeSigningKey::generate().unwrap().public_key());
    let private = ProbeSigningKey::generate().unwrap().to_pem();
    for (name, public_key, field) in [("Release!", &pem, "name"), ("release", &private, "public_key")] {
        let request = json!({ "name": name, "public_key": public_key });
        let (status, problem) = ask(&leader, "POST", "/v1/probe-keys", request.to_string()).await;
        assert_eq!((status.as_u16(), &problem["field"]), (400, &json!(field)), "{problem}");
        assert!(!problem.to_string().contains(private.lines().nth(1).unwrap()), "no key is told back: {problem}");
    }
}

#[tokio::test]
async fn an_upload_that_loses_the_race_with_the_removal_of_its_key_is_refused_and_taken_down_as_any_other() {
    let [leader, follower, _] = cluster();
    let key = ProbeSigningKey::generate().unwrap();
    // The follower has not applied yet that the key is trusted no more.
    trust_in(&follower, &key);
    let signature = signature(&key, tcp().digest(), "mine", "1.0.0");
    let (status, problem) = upload(&follower, &format!("name=mine&version=1.0.0&signature={signature}")).await;
    let refused = json!("/problems/signature-refused");
    assert_eq!(
        (status.as_u16(), &problem["type"], &problem["field"]),
        (422, &refused, &json!("signature")),
        "{problem}"
    );
    assert_eq!(refusals(&leader).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_refused_in_time_also_where_that_cannot_be_taken_down() {
    let [leader, _, _] = cluster();
    leader.published.slow_writes(RECORD_WITHIN * 1_000);
    let begun = tokio::time::Instant::now();
    let stranger = ProbeSigningKey::generate().unwrap();
    let signature = signature(&stranger, tcp().digest(), "mine", "1.0.0");
    let (status, problem) = upload(&leader, &format!("name=mine&version=1.0.0&signature={signature}")).await;
    assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/signature-refused")), "{problem}");
    let waited = begun.elapsed();
    assert!(waited >= RECORD_WITHIN && waited < RECORD_WITHIN * 2, "{waited:?}");
    assert!(refusals(&leader).await.is_empty(), "it was not taken down");
}

#[tokio::test]
async fn the_version_of_an_upload_has_so_many_printable_characters_and_no_more() {
    let [leader, _, _] = cluster();
    let longest = "v".repeat(PROBE_VERSION_MAX);
    let (status, probe) = upload(&leader, &format!("name=mine&version={longest}")).await;
    assert_eq!((status.as_u16(), &probe["version"]), (201, &json!(longest)), "{probe}");
    for bad in ["", &format!("{longest}v"), "1.0%200", "1.0%C3%A9"] {
        let (status, problem) = upload(&leader, &format!("name=mine&version={bad}")).await;
        assert_eq!((status.as_u16(), &problem["field"]), (400, &json!("version")), "{bad}: {problem}");
        assert!(problem["rule"].as_str().unwrap().contains(&PROBE_VERSION_MAX.to_string()), "{problem}");
    }
}
