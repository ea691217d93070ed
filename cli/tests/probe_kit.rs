//! The kit of probe authors as a user sees it: the real `vouch`, shipped probes as files, fakes, and no cluster.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with the shipped probes as if their author had built them.
fn probes() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for probe in vouch_probe_bundle::all() {
        std::fs::write(dir.path().join(format!("{}.wasm", probe.name)), probe.bytes).unwrap();
    }
    dir
}

fn vouch(dir: &TempDir, line: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouch"));
    let Output { status, stdout, stderr } = command.current_dir(dir.path()).args(line.split(' ')).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn check_tells_what_a_component_is_and_names_what_is_wrong() {
    let dir = probes();
    let (code, told, _) = vouch(&dir, r#"probe check tcp.wasm --settings {"port":22}"#);
    assert_eq!(code, 0, "{told}");
    for words in
        ["probe     tcp 0.", "checks    Connects to one TCP port", "wasi:sockets/tcp@0.2", r#"{"port":22}  taken"#]
    {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
    let (code, _, wrong) = vouch(&dir, r#"probe check tcp.wasm --settings {"port":0}"#);
    assert_eq!(code, 78);
    assert!(wrong.starts_with("vouch: --settings: the probe refuses them: field `port` is 0: must be"), "{wrong}");
    std::fs::write(dir.path().join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let (code, _, wrong) = vouch(&dir, "probe check core.wasm");
    assert_eq!(code, 1);
    assert!(wrong.contains("because: a core WASM module, not a component: build it for wasm32-wasip2"), "{wrong}");
    let (code, _, wrong) = vouch(&dir, "probe check no.wasm");
    assert_eq!((code, wrong.lines().next()), (3, Some("vouch: component no.wasm: cannot be read")));
}

#[test]
fn check_prints_one_document_for_programs_and_reads_settings_from_a_file() {
    let dir = probes();
    std::fs::write(dir.path().join("s.json"), r#"{"port": 3390}"#).unwrap();
    let (code, told, _) = vouch(&dir, "probe check rdp.wasm --settings @s.json -o json");
    let document: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &document["described"]["name"]), (0, &"rdp".into()));
    assert_eq!(document["settings"][1]["settings"], r#"{"port": 3390}"#);
    assert_eq!(document["settings"][1]["refused"], Value::Null);
    let (code, _, wrong) = vouch(&dir, "probe check rdp.wasm --settings @no.json");
    assert_eq!((code, wrong.lines().next()), (2, Some("vouch: --settings @no.json: cannot be read")));
}

#[test]
fn what_a_run_finds_is_its_exit_code() {
    let dir = probes();
    for (line, code, words) in [
        ("tcp.wasm --fake tcp:accept", 0, "up  connected  port "),
        ("rdp.wasm --fake rdp:refuse", 10, "degraded  refused  port "),
        ("tcp.wasm --fake tcp:refuse", 12, "down  closed  port "),
        ("tcp.wasm --target 127.0.0.1", 13, "fault  bad_settings  settings refused: "),
        ("guest-agent.wasm --target 127.0.0.1", 13, "fault  probe_error  "),
    ] {
        let (found, told, wrong) = vouch(&dir, &format!("probe run {line}"));
        assert_eq!((found, told.starts_with(words)), (code, true), "{line}:\n{told}{wrong}");
        assert_eq!(wrong, "", "what is found is no error");
    }
}

#[test]
fn several_runs_are_one_document_each_with_their_trace() {
    let dir = probes();
    let (code, told, _) = vouch(&dir, "probe run guest-agent.wasm --fake qga:ok --count 3 --trace -o json");
    assert_eq!(code, 0);
    let documents: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let runs: Vec<_> = documents.iter().map(|d| (d["run"].clone(), d["state"].clone())).collect();
    assert_eq!(runs, [1, 2, 3].map(|n| (Value::from(n), Value::from("up"))));
    assert_eq!(documents[0]["trace"][0]["kind"], "guest-agent");
    assert_eq!(documents[0]["samples"][0]["name"], "round_trip");
}

#[test]
fn a_deadline_out_of_bounds_is_refused_before_anything_runs() {
    let dir = probes();
    let (code, told, wrong) = vouch(&dir, "probe run tcp.wasm --fake tcp:accept --timeout 2h");
    assert_eq!((code, told.as_str()), (1, ""));
    assert!(wrong.contains("must be more than 0 and at most 60s"), "{wrong}");
}
