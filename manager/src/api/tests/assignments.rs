//! What a probe says of itself, and to which VMs operators assign it.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::double::{SimManager, body, get, populate, request, send, three, vm_id};
use crate::api::limits::DESCRIPTION_MAX;

const GRANT: &str = "interfaces=sockets&networks=service&ports=settings";
const DESK_1: u128 = 1;

/// Three managers that know of each other, and a node with two VMs.
fn cluster() -> [SimManager; 3] {
    let managers = three();
    for manager in &managers {
        populate(&manager.published, "n1", &[(DESK_1, "desk-1"), (2, "desk-2")]);
    }
    managers
}

fn description() -> Value {
    let schema = json!({
        "type": "object",
        "required": ["port"],
        "properties": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}},
        "additionalProperties": false,
    });
    json!({"summary": "It listens.", "settings_schema": schema, "networks": ["service"], "interval_ms": 4_000, "timeout_ms": 2_000})
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, content) in parts {
        form.extend(format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").bytes());
        form.extend_from_slice(content);
        form.extend(b"\r\n");
    }
    form.extend(b"--xyz--\r\n");
    form
}

async fn push(manager: &SimManager, query: &str, parts: &[(&str, &[u8])]) -> (StatusCode, Value) {
    let request = request("POST", &format!("/v1/probes?{query}"))
        .header("content-type", "multipart/form-data; boundary=xyz")
        .body(Body::from(form(parts)));
    body(send(manager, request.unwrap()).await).await
}

fn tcp() -> &'static [u8] {
    vouch_probe_bundle::by_name("tcp").unwrap().bytes
}

/// Uploads a probe that says what it is.
async fn described(manager: &SimManager) -> Value {
    let said = description().to_string();
    let parts = [("description", said.as_bytes()), ("component", tcp())];
    let (status, probe) = push(manager, &format!("name=mine&{GRANT}"), &parts).await;
    assert_eq!(status.as_u16(), 201, "{probe}");
    probe
}

async fn ask(
    manager: &SimManager,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    content: &str,
) -> (u16, HeaderMap, Value) {
    let mut builder = request(method, path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let response = send(manager, builder.body(Body::from(content.to_owned())).unwrap()).await;
    let headers = response.headers().clone();
    let (status, document) = body(response).await;
    (status.as_u16(), headers, document)
}

async fn assign(manager: &SimManager, scope: &str, assigned: &Value) -> (u16, HeaderMap, Value) {
    ask(manager, "PUT", &format!("/v1/probes/mine/assignments/service/{scope}"), &[], &assigned.to_string()).await
}

#[tokio::test]
async fn what_an_uploaded_probe_says_of_itself_is_recorded_and_shown() {
    let [leader, follower, _] = cluster();
    let probe = described(&follower).await;
    let said = json!({
        "summary": "It listens.", "settings_schema": description()["settings_schema"], "networks": ["service"],
        "ports": [], "interval_ms": 4_000, "timeout_ms": 2_000,
    });
    assert_eq!(probe["description"], said);
    assert_eq!(get(&leader, "/v1/probes").await.1["items"][0]["description"], said);
    // One that is uploaded alone says nothing of itself, and is taken as before.
    let alone = request("POST", &format!("/v1/probes?name=silent&{GRANT}")).body(Body::from(tcp().to_vec())).unwrap();
    let (status, probe) = body(send(&leader, alone).await).await;
    assert_eq!((status.as_u16(), &probe["description"]), (201, &Value::Null), "{probe}");
}

#[tokio::test]
async fn a_form_that_breaks_a_rule_is_refused_with_the_part_its_value_and_the_rule() {
    let [leader, _, _] = cluster();
    let before = leader.published_state();
    let with = |field: &str, value: Value| {
        let mut said = description();
        said[field] = value;
        said.to_string().into_bytes()
    };
    let (whole, component) = (description().to_string().into_bytes(), ("component", tcp()));
    let outside = json!({"type": "object", "properties": {"x": {"$ref": "https://example.org/x.json"}}});
    let long = with("summary", json!("x".repeat(DESCRIPTION_MAX)));
    for (parts, status, field) in [
        (vec![("description", &with("interval_ms", json!(99))[..]), component], 400, "description.interval_ms"),
        (vec![("description", &with("networks", json!(["lan"]))[..]), component], 400, "description.networks"),
        (vec![("description", &with("settings_schema", json!([]))[..]), component], 400, "description.settings_schema"),
        (vec![("description", &with("settings_schema", outside)[..]), component], 400, "description.settings_schema"),
        (vec![("description", &with("author", json!("me"))[..]), component], 400, "description"),
        (vec![("description", b"{"), component], 400, "description"),
        (vec![("description", &whole[..]), ("description", &whole[..]), component], 400, "description"),
        (vec![("description", &whole[..])], 400, "component"),
        (vec![("readme", b"x"), component], 400, "body"),
        (vec![("description", &long[..]), component], 413, ""),
        (vec![("component", &vec![0; crate::api::limits::COMPONENT_MAX + 1][..])], 413, ""),
    ] {
        let (told, problem) = push(&leader, &format!("name=mine&{GRANT}"), &parts).await;
        assert_eq!((told.as_u16(), problem["field"].as_str().unwrap_or_default()), (status, field), "{problem}");
    }
    assert!(before == leader.published_state(), "the state is as it was");
}

#[tokio::test]
async fn a_probe_is_assigned_to_a_scope_and_shown_with_it_and_taken_from_it_again() {
    let [leader, ..] = cluster();
    described(&leader).await;
    let (status, headers, now) =
        assign(&leader, "node:n1", &json!({"settings": {"port": 22}, "interval_ms": 500})).await;
    assert_eq!(status, 200, "{now}");
    assert_eq!(headers["x-vouch-settings-judged-by"], "schema");
    let etag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", now["version"]));
    let expected = json!({
        "scope": "node:n1", "probe": "mine", "network": "service", "settings": {"port": 22}, "interval_ms": 500,
        "by": "admin token of m1", "version": now["version"], "vms": 2, "vms_running": 2,
    });
    assert_eq!(now, expected);
    assert_eq!(get(&leader, "/v1/probes/mine/assignments").await.1["items"], json!([expected]));
    let own = format!("vm:{}", vm_id(DESK_1));
    assign(&leader, &own, &json!({"settings": {"port": 2222}})).await;
    let (_, list) = get(&leader, "/v1/probes/mine/assignments").await;
    assert_eq!(
        (&list["items"][0]["vms_running"], &list["items"][1]["vms_running"]),
        (&json!(1), &json!(1)),
        "the closest rules"
    );
    let (_, vm) = get(&leader, "/v1/vms/desk-1").await;
    let run = json!([{
        "probe": "mine", "network": "service", "settings": r#"{"port":2222}"#, "proven": false, "scope": own,
        "interval_ms": 4_000, "timeout_ms": 2_000,
    }]);
    assert_eq!(vm["probes"], run, "at the times that it proposes");
    let (_, events) = get(&leader, "/v1/events?format=json").await;
    let texts: Vec<_> = events["items"].as_array().unwrap().iter().map(|e| e["text"].as_str().unwrap()).collect();
    let text =
        "probe mine is assigned to node:n1 over the service network, settings {\"port\":22}, by the admin token of m1";
    assert!(texts.contains(&text), "{texts:?}");
    let (status, _, was) = ask(&leader, "DELETE", "/v1/probes/mine/assignments/service/node:n1", &[], "").await;
    assert_eq!((status, &was["scope"]), (200, &json!("node:n1")), "{was}");
    let (status, _, problem) = ask(&leader, "DELETE", "/v1/probes/mine/assignments/service/node:n1", &[], "").await;
    assert_eq!((status, &problem["type"]), (404, &json!("/problems/assignment-not-found")), "{problem}");
    assert_eq!(get(&leader, "/v1/vms/desk-2").await.1["probes"], json!([]));
}

#[tokio::test]
async fn an_assignment_that_another_operator_has_changed_is_not_overwritten() {
    let [leader, ..] = cluster();
    described(&leader).await;
    let path = "/v1/probes/mine/assignments/service/cluster";
    let (_, headers, _) = assign(&leader, "cluster", &json!({"settings": {"port": 1}})).await;
    let seen = headers["etag"].to_str().unwrap().to_owned();
    assign(&leader, "cluster", &json!({"settings": {"port": 2}})).await;
    let mine = json!({"settings": {"port": 3}}).to_string();
    for method in ["PUT", "DELETE"] {
        let (status, _, problem) = ask(&leader, method, path, &[("if-match", &seen)], &mine).await;
        assert_eq!((status, &problem["type"]), (412, &json!("/problems/precondition-failed")), "{problem}");
    }
    let (_, headers, now) = ask(&leader, "GET", path, &[], "").await;
    assert_eq!(now["settings"], json!({"port": 2}));
    let current = headers["etag"].to_str().unwrap().to_owned();
    let (status, _, now) = ask(&leader, "PUT", path, &[("if-match", &current)], &mine).await;
    assert_eq!((status, &now["settings"]), (200, &json!({"port": 3})), "{now}");
    // The same request again, as after a lost answer, is done once.
    let again = [("idempotency-key", "k1")];
    let other = json!({"settings": {"port": 4}}).to_string();
    let (_, first, _) = ask(&leader, "PUT", path, &again, &other).await;
    let (_, second, _) = ask(&leader, "PUT", path, &again, &other).await;
    assert_eq!(first["etag"], second["etag"]);
}

#[tokio::test]
async fn what_is_wrong_with_an_assignment_is_told_with_field_value_and_rule() {
    let [leader, ..] = cluster();
    described(&leader).await;
    let before = leader.published_state();
    let good = json!({"settings": {"port": 22}});
    for (path, assigned, status, field, value) in [
        ("mine/assignments/service/cluster", json!({"settings": {"port": 0}}), 400, "settings.port", "0"),
        ("mine/assignments/service/cluster", json!({}), 400, "settings", "{}"),
        ("mine/assignments/service/cluster", json!({"settings": [22]}), 400, "settings", "[22]"),
        (
            "mine/assignments/service/cluster",
            json!({"settings": {"port": 22}, "interval_ms": 9}),
            400,
            "interval_ms",
            "9",
        ),
        ("mine/assignments/management/cluster", good.clone(), 400, "network", "management"),
        ("mine/assignments/lan/cluster", good.clone(), 400, "network", "lan"),
        ("mine/assignments/service/rack:r1", good.clone(), 400, "scope", "rack:r1"),
        ("mine/assignments/service/node:n9", good.clone(), 404, "scope", "node:n9"),
        (
            "mine/assignments/service/vm:00000000-0000-4000-8000-000000000009",
            good.clone(),
            404,
            "scope",
            "vm:00000000-0000-4000-8000-000000000009",
        ),
        ("yours/assignments/service/cluster", good.clone(), 404, "name", "yours"),
    ] {
        let (told, _, problem) = ask(&leader, "PUT", &format!("/v1/probes/{path}"), &[], &assigned.to_string()).await;
        assert_eq!(
            (told, problem["field"].as_str(), problem["value"].as_str()),
            (status, Some(field), Some(value)),
            "{problem}"
        );
        assert!(
            problem["rule"].as_str().unwrap().starts_with("must be ") || field.starts_with("settings"),
            "{problem}"
        );
    }
    let (status, _, problem) = assign(&leader, "cluster", &json!({"settings": {"port": 22}, "retries": 3})).await;
    assert_eq!((status, &problem["field"]), (400, &json!("body")), "{problem}");
    assert!(before == leader.published_state(), "the state is as it was");
}

#[tokio::test]
async fn an_upload_to_which_nothing_is_granted_is_refused_and_taken_down() {
    let [leader, follower, _] = cluster();
    let (status, problem) = push(&follower, "name=mine", &[("component", tcp())]).await;
    assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/grant-required")), "{problem}");
    let (_, events) = get(&leader, "/v1/events?format=json").await;
    let told = events["items"].as_array().unwrap().last().unwrap();
    assert_eq!(told["kind"], "probe_refused");
    let text = told["text"].as_str().unwrap();
    assert!(
        text.starts_with("probe mine, sha256 ") && text.contains("refused to the admin token of m2: networks"),
        "{text}"
    );
}
