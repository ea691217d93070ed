//! Writes that say what they must find, and writes that happen once.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use vouch_types::VmState;

use super::double::{SimManager, body, get, judge, request, send, vm_id};
use super::farm;

async fn tell(
    manager: &SimManager,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    document: &Value,
) -> Response<Body> {
    let mut request = request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let document = if document.is_null() { Body::empty() } else { Body::from(document.to_string()) };
    send(manager, request.body(document).unwrap()).await
}

fn etag(response: &Response<Body>) -> String {
    response.headers()["etag"].to_str().unwrap().to_owned()
}

async fn tag_of(manager: &SimManager, path: &str) -> String {
    etag(&tell(manager, "GET", path, &[], &Value::Null).await)
}

#[tokio::test]
async fn a_policy_is_replaced_only_by_one_who_has_seen_it() {
    let manager = farm();
    let path = "/v1/policies/cluster";
    let set = async |interval: u64, headers: &[(&str, &str)]| {
        tell(&manager, "PUT", path, headers, &json!({"probe_interval_ms": interval})).await
    };
    let none = set(5_000, &[("if-match", "*")]).await;
    assert_eq!(none.status(), StatusCode::PRECONDITION_FAILED, "there is none yet");
    let first = etag(&set(5_000, &[]).await);
    assert_eq!(tag_of(&manager, path).await, first);
    let second = etag(&set(6_000, &[("if-match", &first)]).await);
    let (status, problem) = body(set(7_000, &[("if-match", &first)]).await).await;
    assert_eq!((status.as_u16(), &problem["type"]), (412, &json!("/problems/precondition-failed")));
    assert_eq!((&problem["current"], &problem["field"]), (&json!(second), &json!("If-Match")));
    let (_, policy) = get(&manager, path).await;
    assert_eq!(policy["settings"]["probe_interval_ms"], 6_000);
    for (tag, status) in [(&first, 412), (&second, 200)] {
        let gone = tell(&manager, "DELETE", path, &[("if-match", tag)], &Value::Null).await;
        assert_eq!(gone.status().as_u16(), status);
    }
    let (status, problem) = body(set(7_000, &[("if-match", "7")]).await).await;
    assert_eq!((status.as_u16(), &problem["field"]), (400, &json!("If-Match")));
}

#[tokio::test]
async fn windows_pins_and_proofs_are_written_only_to_what_was_seen() {
    let manager = farm();
    let window = json!({"scope": "node:n1", "lasts_ms": 60_000, "reason": "new firmware"});
    let begun = tell(&manager, "POST", "/v1/maintenances", &[], &window).await;
    let tag = etag(&begun);
    assert_eq!(tag_of(&manager, "/v1/maintenances/x1").await, tag);
    let vm = tag_of(&manager, "/v1/vms/desk-1").await;
    judge(&manager.published, vm_id(1), VmState::Up, "it runs", 5);
    let node = tag_of(&manager, "/v1/nodes/n1").await;
    for (path, seen, now) in [
        ("/v1/maintenances/x1", "\"1\"", tag),
        ("/v1/vms/desk-1/pins", vm.as_str(), tag_of(&manager, "/v1/vms/desk-1").await),
        ("/v1/nodes/n1/fence-proof", "\"1\"", node),
    ] {
        let (status, problem) = body(tell(&manager, "DELETE", path, &[("if-match", seen)], &Value::Null).await).await;
        assert_eq!((status.as_u16(), &problem["current"]), (412, &json!(now)), "{path}");
        let done = tell(&manager, "DELETE", path, &[("if-match", &now)], &Value::Null).await;
        assert_eq!(done.status().as_u16(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_write_with_a_key_happens_once_with_the_same_answer_and_its_key_is_of_no_other_use() {
    let manager = farm();
    let window = json!({"scope": "node:n1", "lasts_ms": 60_000, "reason": "new firmware"});
    let key = [("idempotency-key", "3f1a")];
    let first = tell(&manager, "POST", "/v1/maintenances", &key, &window).await;
    let tag = etag(&first);
    let first = body(first).await;
    let delete = tell(&manager, "DELETE", "/v1/maintenances/x1", &[], &Value::Null).await;
    assert_eq!(delete.status().as_u16(), 200);
    let again = tell(&manager, "POST", "/v1/maintenances", &key, &window).await;
    assert_eq!(etag(&again), tag);
    assert_eq!(body(again).await, first, "also after it has ended");
    let (_, windows) = get(&manager, "/v1/maintenances").await;
    assert_eq!(windows["items"], json!([]), "and none was begun again");
    let other = json!({"scope": "node:n2", "lasts_ms": 60_000, "reason": "new firmware"});
    for (method, path, document) in
        [("POST", "/v1/maintenances", &other), ("PUT", "/v1/policies/cluster", &json!({"probe_interval_ms": 5_000}))]
    {
        let (status, problem) = body(tell(&manager, method, path, &key, document).await).await;
        assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/idempotency-key-reused")), "{path}");
    }
    let (status, _) = body(tell(&manager, "POST", "/v1/maintenances", &[("idempotency-key", "")], &window).await).await;
    assert_eq!(status.as_u16(), 400);
}

#[tokio::test]
async fn a_repeated_policy_names_no_version_when_another_one_has_replaced_it() {
    let manager = farm();
    let key = [("idempotency-key", "k")];
    let path = "/v1/policies/cluster";
    let mine = json!({"probe_interval_ms": 5_000});
    let first = tell(&manager, "PUT", path, &key, &mine).await;
    assert!(first.headers().contains_key("etag"));
    let first = body(first).await;
    tell(&manager, "PUT", path, &[], &json!({"probe_interval_ms": 6_000})).await;
    let again = tell(&manager, "PUT", path, &key, &mine).await;
    assert!(!again.headers().contains_key("etag"), "its sender would overwrite what it has not seen");
    assert_eq!(body(again).await, first);
    let (_, now) = get(&manager, path).await;
    assert_eq!(now["settings"]["probe_interval_ms"], 6_000);
}
