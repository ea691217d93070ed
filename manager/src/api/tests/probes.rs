//! Uploads of probes and what they are granted.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use vouch_types::Command;

use super::double::{SimManager, at, body, get, lone, populate, request, send, three};
use super::farm;
use crate::api::refusals::REFUSALS_AT_ONCE;
use crate::seams::{BlobStore, digest_of};
use crate::store::tests::samples;

/// The grant that the probe tcp needs.
const TCP: &str = "&interfaces=sockets&networks=service&ports=settings";

fn tcp() -> &'static vouch_probe_bundle::BundledProbe {
    vouch_probe_bundle::by_name("tcp").unwrap()
}

async fn push(manager: &SimManager, query: &str, component: &[u8]) -> (StatusCode, Value) {
    let request = request("POST", &format!("/v1/probes{query}")).body(Body::from(component.to_vec())).unwrap();
    body(send(manager, request).await).await
}

/// Returns a component with one import of this name, an empty instance (Component Model, Binary.md), and no export.
fn component_that_imports(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.extend([7, 3, 1, 0x42, 0]);
    component.extend([10, length + 5, 1, 0, length]);
    component.extend(name.bytes());
    component.extend([5, 0]);
    component
}

/// Returns what was taken down of each refused upload.
async fn refusals(manager: &SimManager) -> Vec<Value> {
    let (_, page) = get(manager, "/v1/events?format=json&limit=1000").await;
    let items = page["items"].as_array().unwrap().iter();
    items.filter(|event| event["kind"] == "probe_refused").map(|event| event["detail"]["refusal"].clone()).collect()
}

#[tokio::test]
async fn a_component_is_kept_by_every_manager_before_it_is_recorded() {
    let [leader, follower, third] = three();
    for manager in [&leader, &follower, &third] {
        populate(&manager.published, "n1", &[]);
    }
    let tcp = vouch_probe_bundle::all().iter().find(|probe| probe.name == "tcp").unwrap();
    let (status, probe) =
        push(&follower, "?name=my-tcp&version=1.2.3&interfaces=sockets&networks=service&ports=22", tcp.bytes).await;
    assert_eq!((status.as_u16(), &probe["name"], &probe["shipped"]), (201, &json!("my-tcp"), &json!(false)), "{probe}");
    assert!(probe["imports"].as_array().unwrap().iter().any(|i| i.as_str().unwrap().starts_with("vouch:probe/tcp@")));
    for manager in [&leader, &follower, &third] {
        assert_eq!(manager.blobs.get(tcp.digest()).unwrap().as_deref(), Some(tcp.bytes));
    }
    let (_, list) = get(&leader, "/v1/probes").await;
    assert_eq!(list["items"][0]["digest"], tcp.digest().to_string());
}

#[tokio::test]
async fn a_component_that_most_managers_do_not_keep_is_not_recorded() {
    let manager = lone();
    populate(&manager.published, "n1", &[]);
    let tcp = vouch_probe_bundle::all().iter().find(|probe| probe.name == "tcp").unwrap();
    let (status, problem) =
        push(&manager, "?name=my-tcp&interfaces=sockets&networks=service&ports=settings", tcp.bytes).await;
    assert_eq!((status.as_u16(), &problem["type"]), (503, &json!("/problems/no-quorum")));
    assert_eq!(get(&manager, "/v1/probes").await.1["items"], json!([]));
}

#[tokio::test]
async fn what_is_no_probe_is_refused_with_both_lists_and_nothing_is_recorded() {
    let manager = farm();
    let before = manager.published_state();
    let (status, problem) = push(&manager, "?name=text", b"#!/bin/sh\n").await;
    assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/component-refused")));
    assert!(problem["allowed_imports"].as_array().unwrap().contains(&json!("vouch:probe/icmp@0.1.0")));
    let component = component_that_imports("wasi:http/types@0.2.0");
    let (status, problem) = push(&manager, "?name=web", &component).await;
    assert_eq!(status.as_u16(), 422, "{problem}");
    assert_eq!(problem["imports"], json!(["wasi:http/types@0.2.0"]), "{problem}");
    assert_eq!(problem["refused_imports"], json!(["wasi:http/types@0.2.0"]));
    let (status, problem) = push(&manager, "?name=Web!", &component).await;
    assert_eq!((status.as_u16(), &problem["field"], &problem["value"]), (400, &json!("name"), &json!("Web!")));
    let (status, problem) = push(&manager, "?name=big", &vec![0; super::super::limits::COMPONENT_MAX + 1]).await;
    assert_eq!((status.as_u16(), &problem["type"]), (413, &json!("/problems/too-large")));
    assert_eq!(before.probes(), manager.published_state().probes(), "the probes are as they were");
    let told: Vec<Value> = refusals(&manager).await.into_iter().map(|refusal| refusal["probe"].clone()).collect();
    assert_eq!(told, [json!("web")], "of the others there is no component, no name, or no digest");
}

#[tokio::test]
async fn an_upload_that_no_probe_may_be_is_taken_down_with_its_digest_and_who_sent_it() {
    let [leader, follower, _] = cluster();
    for manager in [&leader, &follower] {
        manager.published.apply(Command::RecordProbe { probe: samples::probe(), by: String::new(), at: at(3) });
    }
    let web = component_that_imports("wasi:http/types@0.2.0");
    let idle = component_that_imports("wasi:clocks/monotonic-clock@0.2.0");
    // The follower learns nothing of what the leader applies, so the one that asks it for what is recorded comes first.
    let uploads = [
        ("ping", tcp().bytes, 409, "refused", "name \"ping\": is the name of one of vouch's own probes"),
        ("web", &web[..], 422, "component-refused", "the component imports what a probe may not: wasi:http/types@"),
        ("idle", &idle[..], 422, "component-refused", "the component exports nothing: a probe exports vouch:probe/"),
    ];
    for (name, component, status, kind, _) in uploads {
        let (told, problem) = push(&follower, &format!("?name={name}{TCP}"), component).await;
        assert_eq!((told.as_u16(), &problem["type"]), (status, &json!(format!("/problems/{kind}"))), "{problem}");
    }
    let told = refusals(&leader).await;
    assert_eq!(told.len(), uploads.len(), "{told:?}");
    for (refusal, (name, component, _, _, reason)) in told.iter().zip(uploads) {
        assert_eq!((&refusal["probe"], &refusal["by"]), (&json!(name), &json!("admin token of m2")));
        assert_eq!(refusal["digest"], json!(digest_of(component).to_string()));
        assert!(refusal["reason"].as_str().unwrap().starts_with(reason), "{refusal}");
    }
}

#[tokio::test]
async fn a_flood_of_components_that_no_probe_may_be_is_not_taken_down() {
    let manager = farm();
    let component = component_that_imports("wasi:http/types@0.2.0");
    for _ in 0..REFUSALS_AT_ONCE + 3 {
        assert_eq!(push(&manager, "?name=web", &component).await.0.as_u16(), 422);
    }
    assert_eq!(refusals(&manager).await.len(), usize::try_from(REFUSALS_AT_ONCE).unwrap());
}

async fn regrant(manager: &SimManager, name: &str, grant: &Value) -> (StatusCode, Value) {
    let request = request("PUT", &format!("/v1/probes/{name}/grant")).body(Body::from(grant.to_string())).unwrap();
    body(send(manager, request).await).await
}

/// Three managers that know of each other, of which the second is asked.
fn cluster() -> [SimManager; 3] {
    let managers = three();
    for manager in &managers {
        populate(&manager.published, "n1", &[]);
    }
    managers
}

#[tokio::test]
async fn an_upload_that_says_nothing_of_a_grant_is_refused_with_what_it_imports() {
    let manager = farm();
    let before = manager.published_state();
    let (status, problem) = push(&manager, "?name=my-tcp", tcp().bytes).await;
    assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/grant-required")), "{problem}");
    assert_eq!(problem["missing"], json!(["sockets"]));
    assert!(problem["imports"].as_array().unwrap().iter().any(|i| i.as_str().unwrap().starts_with("vouch:probe/tcp@")));
    assert_eq!(before.probes(), manager.published_state().probes(), "the probes are as they were");
    assert_eq!(manager.blobs.get(tcp().digest()).unwrap(), None, "nor are its bytes kept");
}

#[tokio::test]
async fn what_is_imported_and_not_granted_is_refused_with_both_lists_before_anything_is_kept() {
    let manager = farm();
    let before = manager.published_state();
    let (status, problem) =
        push(&manager, "?name=my-tcp&interfaces=icmp,tls&networks=service&ports=22", tcp().bytes).await;
    assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/not-granted")), "{problem}");
    assert_eq!((&problem["granted"], &problem["missing"]), (&json!(["icmp", "tls"]), &json!(["sockets"])));
    assert!(problem["imports"].as_array().unwrap().iter().any(|i| i.as_str().unwrap().starts_with("vouch:probe/tcp@")));
    assert_eq!(before.probes(), manager.published_state().probes(), "the probes are as they were");
    assert_eq!(manager.blobs.get(tcp().digest()).unwrap(), None, "nor are its bytes kept");
}

#[tokio::test]
async fn a_grant_that_is_wider_than_the_imports_is_taken_as_it_is() {
    let [leader, follower, _] = cluster();
    let query = "?name=my-tcp&interfaces=sockets,icmp&networks=management,service&ports=443,22";
    let (status, probe) = push(&follower, query, tcp().bytes).await;
    assert_eq!(status.as_u16(), 201, "{probe}");
    let granted =
        json!({"interfaces": ["sockets", "icmp"], "networks": ["management", "service"], "ports": ["22", "443"]});
    assert_eq!(probe["grant"], granted);
    let (_, list) = get(&leader, "/v1/probes").await;
    assert_eq!(list["items"][0]["grant"], granted);
    let (_, events) = get(&leader, "/v1/events?format=json").await;
    let told = events["items"].as_array().unwrap().last().unwrap();
    assert_eq!(told["kind"], "probe_recorded");
    let text = told["text"].as_str().unwrap();
    assert!(text.contains(&tcp().digest().short()) && text.ends_with("by the admin token of m2"), "{text}");
}

#[tokio::test]
async fn a_name_that_has_a_grant_keeps_it_until_another_one_is_named() {
    let [leader, _, _] = cluster();
    push(&leader, "?name=mine&interfaces=sockets&networks=service&ports=22", tcp().bytes).await;
    let (status, probe) = push(&leader, "?name=mine&version=0.2.0", tcp().bytes).await;
    assert_eq!((status.as_u16(), &probe["grant"]["ports"]), (201, &json!(["22"])), "{probe}");
    // Another component under the name is judged by the grant that the name has.
    let ping = vouch_probe_bundle::by_name("ping").unwrap();
    let (status, problem) = push(&leader, "?name=mine&version=0.3.0", ping.bytes).await;
    assert_eq!((status.as_u16(), &problem["missing"]), (422, &json!(["icmp"])), "{problem}");
    let (_, probe) = push(&leader, &format!("?name=mine&version=0.2.0{TCP}"), tcp().bytes).await;
    assert_eq!(probe["grant"]["ports"], json!(["settings"]));
}

#[tokio::test]
async fn a_wrong_word_of_a_grant_is_named_with_its_rule() {
    let manager = farm();
    for (query, field, value) in [
        ("interfaces=sockets&networks=lan&ports=22", "networks", "lan"),
        ("interfaces=http&networks=service", "interfaces", "http"),
        ("interfaces=sockets&ports=22", "networks", ""),
        ("interfaces=sockets&networks=service&ports=0", "ports", "0"),
        ("interfaces=sockets&networks=service", "ports", ""),
    ] {
        let (status, problem) = push(&manager, &format!("?name=my-tcp&{query}"), tcp().bytes).await;
        assert_eq!(
            (status.as_u16(), &problem["field"], &problem["value"]),
            (400, &json!(field), &json!(value)),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_grant_is_changed_without_the_component_and_only_as_far_as_that_allows() {
    let [leader, follower, _] = cluster();
    push(&leader, &format!("?name=mine{TCP}"), tcp().bytes).await;
    let narrow = json!({"interfaces": ["sockets"], "networks": ["service"], "ports": ["8443"]});
    let (status, probe) = regrant(&leader, "mine", &narrow).await;
    assert_eq!((status.as_u16(), &probe["grant"]), (200, &narrow), "{probe}");
    let text =
        get(&leader, "/v1/events?format=json").await.1["items"].as_array().unwrap().last().unwrap()["text"].clone();
    assert_eq!(text, "probe mine is granted sockets; networks service; ports 8443, by the admin token of m1");
    let lacking = json!({"interfaces": ["icmp"], "networks": ["service"]});
    let (status, problem) = regrant(&leader, "mine", &lacking).await;
    assert_eq!((status.as_u16(), &problem["missing"]), (422, &json!(["sockets"])), "{problem}");
    let (status, problem) = regrant(&leader, "other", &narrow).await;
    assert_eq!((status.as_u16(), &problem["type"]), (404, &json!("/problems/probe-not-found")), "{problem}");
    let unknown = json!({"interfaces": [], "networks": ["service"], "files": []});
    let (status, problem) = regrant(&leader, "mine", &unknown).await;
    assert_eq!((status.as_u16(), &problem["field"]), (400, &json!("body")), "{problem}");
    drop(follower);
}
