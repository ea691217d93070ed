//! The removal of a node as a client sees it: what stands in the way, what comes of it, and who is told to have asked.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use vouch_types::VmState;

use super::double::{SimManager, Standing, body, cut, get, judge, lone, populate, request, send, three, vm_id};
use super::farm;

async fn remove(manager: &SimManager, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut request = request("DELETE", path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    body(send(manager, request.body(Body::empty()).unwrap()).await).await
}

#[tokio::test]
async fn a_node_that_is_heard_or_has_vms_that_may_run_is_refused_with_their_names() {
    let manager = farm();
    let (status, problem) = remove(&manager, "/v1/nodes/n1?vms=forget", &[]).await;
    assert_eq!((status.as_u16(), &problem["type"]), (409, &json!("/problems/node-is-heard")));
    cut(&manager.published, "n1", 9);
    judge(&manager.published, vm_id(1), VmState::Lost, "silent", 10);
    judge(&manager.published, vm_id(2), VmState::Stopped, "shut down", 10);
    let (status, problem) = remove(&manager, "/v1/nodes/n1", &[]).await;
    assert_eq!((status.as_u16(), &problem["type"]), (409, &json!("/problems/node-has-vms")));
    insta::assert_json_snapshot!("node_has_vms", problem);
    for (path, status, name, field, value) in [
        ("/v1/nodes/n9", 404, "node-not-found", "id", "n9"),
        ("/v1/nodes/N%209", 404, "node-not-found", "id", "N 9"),
        ("/v1/nodes/n1?vms=kill", 400, "bad-parameter", "vms", "kill"),
        ("/v1/nodes/n1?force=true", 400, "bad-parameter", "force", "true"),
    ] {
        let (have, problem) = remove(&manager, path, &[]).await;
        assert_eq!((have.as_u16(), &problem["type"]), (status, &json!(format!("/problems/{name}"))), "{path}");
        assert_eq!((&problem["field"], &problem["value"]), (&json!(field), &json!(value)), "{path}");
        assert!(problem["rule"].as_str().is_some_and(|rule| !rule.is_empty()), "{path}");
    }
}

#[tokio::test]
async fn a_node_that_a_manager_hears_now_is_refused_with_its_name_whatever_is_recorded() {
    let manager = farm();
    cut(&manager.published, "n1", 9);
    manager.hear("n1", Some(10));
    let (status, problem) = remove(&manager, "/v1/nodes/n1?vms=forget", &[]).await;
    assert_eq!((status.as_u16(), &problem["type"]), (409, &json!("/problems/node-is-heard")));
    assert!(problem["detail"].as_str().unwrap().contains("heard by m1"), "{problem}");
    manager.hear("n1", Some(60_000));
    let (status, removed) = remove(&manager, "/v1/nodes/n1?vms=forget", &[]).await;
    assert_eq!(status, StatusCode::OK, "its stream stands and brings nothing: {removed}");
}

#[tokio::test]
async fn what_was_removed_is_answered_and_told_and_nobody_finds_it_any_more() {
    let manager = farm();
    cut(&manager.published, "n1", 9);
    let path = "/v1/nodes/n1?vms=forget";
    let (status, problem) = remove(&manager, path, &[("if-match", "\"1\"")]).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{problem}");
    let current = problem["current"].as_str().unwrap().to_owned();
    let (status, removed) = remove(&manager, path, &[("if-match", &current)]).await;
    assert_eq!(status, StatusCode::OK);
    insta::assert_json_snapshot!("node_removed", removed);
    let (status, problem) = get(&manager, "/v1/nodes/n1").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(problem["detail"].as_str().unwrap().contains("removed at"), "{problem}");
    let (_, nodes) = get(&manager, "/v1/nodes").await;
    assert_eq!(nodes["items"].as_array().unwrap().len(), 1);
    let (status, _) = get(&manager, "/v1/vms/desk-1").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let metrics = request("GET", "/metrics").body(Body::empty()).unwrap();
    let metrics = axum::body::to_bytes(send(&manager, metrics).await.into_body(), usize::MAX).await.unwrap();
    assert!(!String::from_utf8_lossy(&metrics).contains("\"n1\""), "nor is it counted");
    let (_, events) = get(&manager, "/v1/events?format=json&node=n1").await;
    let told: Vec<&Value> = events["items"].as_array().unwrap().iter().map(|event| &event["text"]).collect();
    let expected =
        "node n1 was removed with 3 vms and 0 watchers, by the admin token of m1; nothing proved that it did not run";
    assert!(told.contains(&&json!(expected)), "{told:?}");
}

#[tokio::test]
async fn a_follower_hands_it_to_the_leader_and_the_event_names_who_was_asked() {
    let [leader, follower, _] = three();
    for manager in [&leader, &follower] {
        populate(&manager.published, "n1", &[(1, "desk-1")]);
        cut(&manager.published, "n1", 9);
    }
    let (status, problem) = remove(&follower, "/v1/nodes/n1", &[("if-match", "\"1\"")]).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED, "what must hold goes with it: {problem}");
    let (status, removed) = remove(&follower, "/v1/nodes/n1?vms=forget", &[]).await;
    assert_eq!((status, &removed["forgotten"]), (StatusCode::OK, &json!(1)), "{removed}");
    let (_, events) = get(&leader, "/v1/events?format=json&node=n1").await;
    let told = events["items"].to_string();
    assert!(told.contains("by the admin token of m2"), "{told}");
    follower.published.stand(Standing::LeadsAlone);
    let (status, _) = remove(&follower, "/v1/nodes/n1", &[]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn before_there_is_anything_of_it_nothing_is_removed() {
    let manager = lone();
    let (status, problem) = remove(&manager, "/v1/nodes/n1", &[]).await;
    assert_eq!((status.as_u16(), &problem["type"]), (404, &json!("/problems/node-not-found")));
}
