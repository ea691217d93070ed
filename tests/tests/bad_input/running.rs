//! Bad input to a cluster that runs: each is refused with what is wrong, and nothing changes.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use vouch_tests::api::Client;
use vouch_tests::paths;
use vouch_tests::story::{Cursor, Events, LocalStage, Profile, Stage, VM_ONE};

use super::{finish, one_message};

const CALL: Duration = Duration::from_secs(10);

/// An answer with what a problem document is told by.
struct Answer {
    status: u16,
    media: String,
    body: Value,
}

/// Calls the API with any method, headers and bytes.
fn call(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(CALL)).proxy(None);
    let agent = config.allow_non_standard_methods(true).build().new_agent();
    let mut answer = match method {
        "GET" => headers.iter().fold(agent.get(url), |request, (name, value)| request.header(*name, *value)).call(),
        "DELETE" => {
            headers.iter().fold(agent.delete(url), |request, (name, value)| request.header(*name, *value)).call()
        }
        _ => headers.iter().fold(agent.post(url), |request, (name, value)| request.header(*name, *value)).send(body),
    }
    .unwrap_or_else(|e| panic!("no answer to {method} {url}: {e}"));
    let media = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let text = answer.body_mut().read_to_string().expect("a body");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status: answer.status().as_u16(), media, body }
}

impl Answer {
    /// Asserts that it is this problem, and that its detail has all of these words.
    #[track_caller]
    fn is(&self, status: u16, name: &str, words: &[&str]) {
        let text = |key: &str| self.body.get(key).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.media, "application/problem+json", "{}", self.body);
        assert_eq!(text("type"), format!("/problems/{name}"), "{}", self.body);
        assert_eq!(self.body.get("status").and_then(Value::as_u64), Some(status.into()), "{}", self.body);
        assert!(!text("title").is_empty(), "{}", self.body);
        for word in words {
            assert!(text("detail").contains(word), "{word:?} is not in the detail of {}", self.body);
        }
    }

    /// Asserts that it names this field with this value, and a rule.
    #[track_caller]
    fn names(&self, field: &str, value: &str) {
        assert_eq!(self.body.get("field").and_then(Value::as_str), Some(field), "{}", self.body);
        assert_eq!(self.body.get("value").and_then(Value::as_str), Some(value), "{}", self.body);
        let rule = self.body.get("rule").and_then(Value::as_str).unwrap_or_default();
        assert!(!rule.is_empty() && self.body.to_string().matches(rule).count() == 2, "{}", self.body);
    }

    #[track_caller]
    fn list(&self, key: &str) -> Vec<&str> {
        let list = self.body.get(key).and_then(Value::as_array).unwrap_or_else(|| panic!("no {key}: {}", self.body));
        list.iter().filter_map(Value::as_str).collect()
    }
}

/// A component that imports one empty instance of this name and does nothing else (Component Model, Binary.md).
fn component_that_imports(name: &str) -> Vec<u8> {
    let section = |id: u8, content: &[u8]| [&[id, short(content.len())], content].concat();
    let header = b"\0asm\x0d\0\x01\0";
    // One type: an instance type (0x42) without declarations.
    let types = section(7, &[1, 0x42, 0]);
    // One import: a plain name (0x00), an instance (0x05) of type 0.
    let import = [&[1, 0, short(name.len())], name.as_bytes(), &[5, 0]].concat();
    [&header[..], &types, &section(10, &import)].concat()
}

/// Returns a length that LEB128 writes as one byte.
fn short(length: usize) -> u8 {
    u8::try_from(length).ok().filter(|byte| *byte < 0x80).expect("a short name")
}

const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
const FORBIDDEN: &str = "wasi:http/outgoing-handler@0.2.0";

fn items(stage: &LocalStage, path: &str) -> Value {
    stage.read(path).expect("an answer").get("items").cloned().expect("items")
}

fn a_wrong_token_opens_nothing(client: &Client) {
    let wrong = client.clone().with_token("0".repeat(64)).authorization();
    let vms = client.url("/v1/vms");
    call("GET", &vms, &[("authorization", &wrong)], b"").is(401, "unauthorized", &["bearer token is wrong"]);
    call("GET", &vms, &[], b"").is(401, "unauthorized", &["Authorization header is missing"]);
    let basic = [("authorization", "Basic dm91Y2g6dm91Y2g=")];
    call("GET", &vms, &basic, b"").is(401, "unauthorized", &["bearer token"]);
    let upload = client.url("/v1/probes?name=bad-probe");
    call("POST", &upload, &[("authorization", &wrong)], CORE_MODULE).is(401, "unauthorized", &["token"]);
    let token = client.authorization();
    let foreign = [("authorization", token.as_str()), ("origin", "https://evil.example")];
    let answer = call("GET", &vms, &foreign, b"");
    answer.is(403, "origin-not-allowed", &["Origin", "https://evil.example"]);
    answer.names("Origin", "https://evil.example");
}

fn what_is_not_there_is_named(client: &Client) {
    let token = client.authorization();
    let at = |method: &str, path: &str| call(method, &client.url(path), &[("authorization", &token)], b"");
    let nobody = "6f1c2a9e-0000-4000-8000-0000000000ff";
    for id in ["desk-99", nobody] {
        for (method, part) in [("GET", ""), ("GET", "/evidence"), ("GET", "/history"), ("POST", "/check")] {
            let answer = at(method, &format!("/v1/vms/{id}{part}"));
            answer.is(404, "vm-not-found", &[id]);
            answer.names("id", id);
        }
    }
    at("GET", "/v1/nodes/n99").is(404, "node-not-found", &["n99"]);
    at("GET", "/v1/vmz").is(404, "route-not-found", &["/v1/vmz"]);
    at("DELETE", "/v1/vms").is(405, "method-not-allowed", &["DELETE"]);
}

fn a_wrong_parameter_is_named_with_its_rule(client: &Client) {
    let token = client.authorization();
    for (path, field, value, rule) in [
        ("/v1/vms?limit=0", "limit", "0", "1 to 1000"),
        ("/v1/vms?limit=1001", "limit", "1001", "1 to 1000"),
        ("/v1/vms?limit=ten", "limit", "ten", "1 to 1000"),
        ("/v1/vms?limit=-1", "limit", "-1", "1 to 1000"),
        ("/v1/vms?after=desk", "after", "desk", "UUID"),
        ("/v1/vms?state=fine", "state", "fine", "must be"),
        ("/v1/vms?colour=red", "colour", "red", "not a parameter"),
        ("/v1/nodes?after=A%20B", "after", "A B", "must be"),
        ("/v1/events?format=json&after=yesterday", "after", "yesterday", "must be"),
        ("/v1/events?format=xml", "format", "xml", "must be"),
        ("/v1/vms?consistency=maybe", "consistency", "maybe", "must be"),
    ] {
        let answer = call("GET", &client.url(path), &[("authorization", &token)], b"");
        answer.is(400, "bad-parameter", &[field, value, rule]);
        answer.names(field, value);
    }
}

fn a_file_that_is_no_probe_is_refused(client: &Client) {
    let token = client.authorization();
    let push = |query: &str, file: &[u8]| {
        let headers = [("authorization", token.as_str()), ("content-type", "application/wasm")];
        call("POST", &client.url(&format!("/v1/probes{query}")), &headers, file)
    };
    let name = "?name=bad-probe";
    for garbage in [&b"hello"[..], b"", b"\0asm", b"\0asm\x0d\0\x01\0\x07\xff"] {
        push(name, garbage).is(422, "component-refused", &["no WebAssembly component"]);
    }
    push(name, CORE_MODULE).is(422, "component-refused", &["no WebAssembly component", "core module"]);
    let answer = push(name, &component_that_imports(FORBIDDEN));
    answer.is(422, "component-refused", &["imports what a probe may not", FORBIDDEN]);
    assert_eq!(answer.list("refused_imports"), [FORBIDDEN]);
    assert_eq!(answer.list("imports"), [FORBIDDEN]);
    let allowed = answer.list("allowed_imports");
    assert!(allowed.iter().any(|a| a.starts_with("wasi:sockets/tcp@")), "{allowed:?}");
    let allowed = component_that_imports("wasi:clocks/monotonic-clock@0.2.0");
    push(name, &allowed).is(
        422,
        "component-refused",
        &["exports nothing", "vouch:probe/check@1.0.0", "describe, validate, run"],
    );
    push("", &allowed).is(400, "bad-parameter", &["name", "must be given"]);
    let answer = push("?name=Bad%20Probe", &allowed);
    answer.is(400, "bad-parameter", &["name", "Bad Probe", "must be 1 to 63"]);
    answer.names("name", "Bad Probe");
    push("?name=bad-probe&version=", &allowed).is(400, "bad-parameter", &["version", "1 to 32"]);
    push(name, &vec![0; 3 * 1024 * 1024 + 1]).is(413, "too-large", &["3145728"]);
}

fn the_command_line_tells_the_same(stage: &LocalStage) {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, said) = finish(stage.cli().args(["vm", "show", "desk-99"]));
    assert_eq!(code, Some(3), "{said}");
    one_message(&said, &["desk-99", "must be"]);
    let token = folder.path().join("wrong.token");
    fs::write(&token, "0".repeat(64)).expect("a file");
    let apis: Vec<_> = stage.clients().iter().map(|(_, client)| client.url("")).collect();
    let mut command = Command::new(paths::vouch().expect("it is built"));
    command.args(["--api", &apis.join(","), "--token-file"]).arg(&token).args(["vm", "ls"]);
    let (code, said) = finish(&mut command);
    assert_eq!(code, Some(5), "{said}");
    one_message(&said, &["the bearer token is wrong"]);
    let file = folder.path().join("bad-probe.wasm");
    let push = |bytes: &[u8]| {
        fs::write(&file, bytes).expect("a file");
        finish(stage.cli().args(["probe", "push"]).arg(&file))
    };
    let (code, said) = push(CORE_MODULE);
    assert_eq!(code, Some(1), "{said}");
    one_message(&said, &["a core WASM module, not a component", "wasm32-wasip2"]);
    let (code, said) = push(&component_that_imports(FORBIDDEN));
    assert_eq!(code, Some(1), "{said}");
    one_message(&said, &[FORBIDDEN, "a probe may import", "wasi:sockets/tcp@0.2"]);
    let (code, said) = finish(stage.cli().args(["vm", "check", "desk-99"]));
    assert_eq!(code, Some(3), "{said}");
    one_message(&said, &["desk-99"]);
}

#[test]
fn a_running_cluster_refuses_bad_input_and_stays_as_it_was() {
    let (stage, _) = LocalStage::start("bad-input", Profile::Slow, |_| {}).unwrap_or_else(|e| panic!("{e:#}"));
    let probes = items(&stage, "/v1/probes");
    let place = Cursor::now(&stage).expect("events");
    for (id, client) in stage.clients() {
        a_wrong_token_opens_nothing(&client);
        what_is_not_there_is_named(&client);
        a_wrong_parameter_is_named_with_its_rule(&client);
        a_file_that_is_no_probe_is_refused(&client);
        let token = client.authorization();
        let again = call("POST", &client.url("/v1/cluster/init"), &[("authorization", &token)], b"");
        // Only a manager with the CA's key could make a cluster at all; the others say that first.
        let name = if again.body.get("type").and_then(Value::as_str) == Some("/problems/already-initialised") {
            "already-initialised"
        } else {
            assert_ne!(id, "m1", "m1 has the CA's key: {}", again.body);
            "cannot-initialise"
        };
        again.is(409, name, &[]);
    }
    the_command_line_tells_the_same(&stage);
    assert_eq!(items(&stage, "/v1/probes"), probes, "the probes are as they were");
    let events = Events::after(&stage, &place).expect("events");
    // The cluster lives on meanwhile: what bad input could have caused is what must not be there.
    let told = events.lines();
    let clients = stage.clients();
    for (id, _) in &clients {
        for refused in ["imports what a probe may not: wasi:http/", "exports nothing: a probe exports vouch:probe/"] {
            let text = format!(" was refused to the admin token of {id}: the component {refused}");
            let is_told = |line: &&str| line.contains(" probe bad-probe, sha256 ") && line.contains(&text);
            assert_eq!(told.lines().filter(is_told).count(), 1, "{text}:\n{told}");
        }
    }
    // What is no component, or has no name that a probe may have, is no event.
    assert_eq!(told.lines().filter(|line| line.contains("probe")).count(), 2 * clients.len(), "{told}");
    assert!(!told.contains("desk-99"), "{told}");
    assert_eq!(events.of_kind("cluster_initialised"), 0, "{told}");
    assert!(events.changed_vms().is_empty(), "{told}");
    let vm = stage.read(&format!("/v1/vms/{VM_ONE}")).expect("the vm");
    assert!(vm.to_string().contains("\"up\""), "{vm}");
}
