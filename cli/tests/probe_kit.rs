//! The kit of probe authors as a user sees it: the real `vouch`, shipped probes as files, fakes, and no cluster.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

use std::ffi::OsString;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

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
    command.envs(zig().map(|zig| ("ZIG", zig)));
    command.env("PATH", path_with_node());
    let Output { status, stdout, stderr } = command.current_dir(dir.path()).args(line.split(' ')).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Returns the compiler of C for WASI: that on the PATH, or the one that `cargo xtask test` fetches.
fn zig() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("zig").is_file()) {
        return Some("zig".to_owned());
    }
    let python = tools().join("zig/bin/python");
    python.is_file().then(|| format!("{} -m ziglang", python.display()))
}

/// Returns the folder of the tools that `cargo xtask test` fetches.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_vouch")).ancestors().nth(2).unwrap().join("tools")
}

/// Returns the PATH, and after it the node that `cargo xtask test` fetches where the machine has none.
fn path_with_node() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::env::split_paths(&path).chain([tools().join("node/bin")])).unwrap()
}

/// Returns whether a test has to be left out for want of a tool, which CI does not allow.
#[expect(clippy::print_stdout, reason = "who runs the tests is told what was left out")]
fn left_out(tool: &str, there: bool) -> bool {
    if !there {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true, but there is no {tool}");
        println!("left out: there is no {tool}; `cargo xtask test` fetches it");
    }
    !there
}

#[test]
fn check_tells_what_a_component_is_and_names_what_is_wrong() {
    let dir = probes();
    let (code, told, _) = vouch(&dir, r#"probe check tcp.wasm --settings {"port":22}"#);
    assert_eq!(code, 0, "{told}");
    for words in [
        "probe     tcp 0.",
        "proves    One TCP port of the target accepts",
        "networks  management, service\n",
        "proposes  a run every 1000 ms, of at most 1000 ms\n",
        "setting   port  integer from 1 to 65535, needed  The port to connect to.\n",
        "contract  vouch:probe@1\n",
        "vouch:probe/tcp@1.1.0",
        " of at most 3145728 bytes\n",
        r#"{"port":22}  taken"#,
        "deadline  down timeout within 1000 ms at a target that gives no answer\n",
    ] {
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
    assert_eq!(document["size_max"], 3 * 1024 * 1024);
    assert_eq!(document["deadline"]["ended"]["state"], "down", "{told}");
    let (code, _, wrong) = vouch(&dir, "probe check rdp.wasm --settings @no.json");
    assert_eq!((code, wrong.lines().next()), (2, Some("vouch: --settings @no.json: cannot be read")));
}

#[test]
fn a_probe_of_the_first_contract_is_looked_at_and_run_as_before() {
    let dir = probes();
    std::fs::write(dir.path().join("old.wasm"), vouch_probe_bundle::of_the_first_contract().bytes).unwrap();
    let (code, told, _) = vouch(&dir, "probe check old.wasm");
    assert_eq!(
        (code, told.contains("contract  vouch:probe@0.1.0\n"), told.contains("proposes")),
        (0, true, false),
        "{told}"
    );
    let (code, told, _) = vouch(&dir, "probe run old.wasm --fake tcp:accept");
    assert_eq!((code, told.starts_with("up  connected  ")), (0, true), "{told}");
}

#[test]
fn what_is_pushed_says_its_own_name_and_flags_must_say_the_same() {
    let dir = probes();
    let (code, _, wrong) = vouch(&dir, "probe push tcp.wasm --name udp");
    assert_eq!((code, wrong.as_str()), (2, "vouch: --name udp: the component says that it is tcp\n"));
    let (code, _, wrong) = vouch(&dir, "probe push tcp.wasm --probe-version 9.9.9");
    assert_eq!(code, 2);
    assert!(wrong.starts_with("vouch: --probe-version 9.9.9: the component says that it is 0."), "{wrong}");
    std::fs::write(dir.path().join("hostile.wasm"), vouch_probe_bundle::hostile().bytes).unwrap();
    let (code, _, wrong) = vouch(&dir, "probe push hostile.wasm");
    assert_eq!(code, 1);
    for rule in
        ["breaks rules of the contract: ", "networks [\"service\", \"service\"]: must be", "validate: settings {}: "]
    {
        assert!(wrong.contains(rule), "{rule}: {wrong}");
    }
}

#[test]
fn a_grant_that_leaves_out_what_a_component_wants_is_refused_with_both_lists_and_the_line_that_grants_it() {
    let dir = probes();
    let (code, _, wrong) = vouch(&dir, "probe push rdp.wasm --grant icmp --network service --port 3390");
    assert_eq!(code, 1, "{wrong}");
    for words in [
        "vouch: component rdp.wasm: wants what it is not granted\n",
        "it imports: sockets, tls; granted: icmp; not granted: sockets, tls\n",
        "networks that it describes: management, service; granted: service; not granted: management\n",
        "ports that it describes: 3389; granted: 3390; not granted: 3389\n",
        "vouch probe push rdp.wasm --grant sockets,tls --network management,service --port settings\n",
    ] {
        assert!(wrong.contains(words), "{words} is not in\n{wrong}");
    }
    assert!(!wrong.contains("--narrow"), "what is imported must be granted: {wrong}");
    let narrow = "probe push rdp.wasm --grant sockets,tls --network service --port settings";
    let (code, _, wrong) = vouch(&dir, narrow);
    assert_eq!((code, wrong.contains("add --narrow")), (1, true), "{wrong}");
    // With it, it gets as far as the cluster, of which there is none.
    let (code, _, wrong) = vouch(&dir, &format!("{narrow} --narrow"));
    assert_eq!((code, wrong.contains("no token")), (5, true), "{wrong}");
    let (code, _, wrong) = vouch(&dir, "probe push rdp.wasm --grant sockets,tls --network lan --port settings");
    assert_eq!((code, wrong.as_str()), (2, "vouch: --network lan: must be management or service\n"));
}

#[test]
fn a_component_is_signed_and_check_tells_whether_the_signature_fits() {
    use std::os::unix::fs::PermissionsExt;
    let dir = probes();
    let (code, told, _) = vouch(&dir, "probe keygen release.pem");
    assert_eq!((code, told.contains("release.pem.pub")), (0, true), "{told}");
    let mode = std::fs::metadata(dir.path().join("release.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, _, wrong) = vouch(&dir, "probe keygen release.pem");
    assert_eq!((code, wrong.contains("release.pem: is there already")), (2, true), "{wrong}");
    let (code, told, wrong) = vouch(&dir, "probe sign tcp.wasm --key release.pem");
    assert_eq!((code, told.contains("probe tcp 0.") && told.contains("tcp.wasm.sig")), (0, true), "{told}{wrong}");
    let (code, told, _) = vouch(&dir, "probe check tcp.wasm");
    assert_eq!((code, told.contains("signature tcp.wasm.sig  fits, by the key ")), (0, true), "{told}");
    let (code, told, wrong) = vouch(&dir, "probe check ping.wasm --signature tcp.wasm.sig");
    assert_eq!(
        (code, told.contains("does not fit: the signature is for name tcp, and this is ping")),
        (1, true),
        "{told}"
    );
    assert!(wrong.starts_with("vouch: signature tcp.wasm.sig: does not fit the component"), "{wrong}");
    // A signature that does not fit is not sent.
    std::fs::rename(dir.path().join("tcp.wasm.sig"), dir.path().join("ping.wasm.sig")).unwrap();
    let (code, _, wrong) = vouch(&dir, "probe push ping.wasm --grant icmp --network management,service");
    assert_eq!((code, wrong.contains("signature ping.wasm.sig: does not fit")), (1, true), "{wrong}");
    let (code, _, wrong) = vouch(&dir, "probe sign tcp.wasm --key release.pem.pub");
    assert_eq!((code, wrong.contains("not a private Ed25519 key")), (2, true), "{wrong}");
    std::fs::write(dir.path().join("large.sig"), vec![b' '; 5000]).unwrap();
    let (code, _, wrong) = vouch(&dir, "probe check tcp.wasm --signature large.sig");
    assert_eq!((code, wrong.contains("more than 4096 bytes")), (3, true), "{wrong}");
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

#[test]
fn a_new_project_builds_with_cargo_and_its_probe_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (code, told, wrong) = vouch(&dir, "probe new ssh-banner");
    assert_eq!(code, 0, "{wrong}");
    assert!(told.starts_with("made the project ssh-banner:\n  ssh-banner/Cargo.toml\n"), "{told}");
    let (code, told, wrong) = vouch(&dir, "probe new ssh-banner");
    assert_eq!((code, told.as_str()), (1, ""));
    assert_eq!(wrong, "vouch: project ssh-banner: must not exist yet\n");

    let project = dir.path().join("ssh-banner");
    // The crate of the tests is not released: only a build of the component goes without it.
    let manifest = std::fs::read_to_string(project.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("\nvouch-probe-kit = \""), "{manifest}");
    let kept: Vec<&str> = manifest.lines().filter(|line| !line.starts_with("vouch-probe-kit")).collect();
    std::fs::write(project.join("Cargo.toml"), kept.join("\n")).unwrap();
    // The versions of this repository, which its builds have fetched already.
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let (code, component, wrong) = vouch(&dir, "probe build ssh-banner");
    assert_eq!(code, 0, "{wrong}");
    let component = component.trim();
    assert!(component.ends_with("wasm32-wasip2/release/ssh_banner.wasm"), "{component}");
    let (code, told, wrong) = vouch(&dir, &format!("probe check {component}"));
    assert_eq!(code, 0, "{told}{wrong}");
    let (code, told, wrong) = vouch(&dir, &format!("probe run {component} --fake tcp:refuse"));
    assert_eq!((code, told.starts_with("down  closed  port ")), (12, true), "{told}{wrong}");
    let traced = vouch(&dir, &format!("probe run {component} --fake tcp:accept --timeout 500ms --trace"));
    assert_eq!((traced.0, traced.1.contains("debug  connecting to 127.0.0.1 port ")), (12, true), "{traced:?}");
    let socket = traced.1.lines().find(|line| line.contains("sockets  tcp connect to 127.0.0.1:"));
    assert!(socket.is_some_and(|line| line.ends_with(": permitted")), "{traced:?}");
    let (code, told, wrong) = vouch(&dir, &format!("probe run {component} --fake ssh:ok --trace"));
    assert_eq!((code, told.contains("sockets  tcp connected to 127.0.0.1:")), (0, true), "{told}{wrong}");
    let greeting = told.lines().find(|line| line.contains("sockets  received "));
    assert!(greeting.is_some_and(|line| line.contains(": \"SSH-2.0-")), "{told}{wrong}");
    let (code, _, wrong) = vouch(&dir, "probe build .");
    assert_eq!(code, 1);
    assert!(
        wrong.contains(
            "project .: has no Cargo.toml, no Makefile and no package.json: make one with \"vouch probe new\""
        ),
        "{wrong}"
    );
}

#[test]
fn a_bench_tells_rate_times_and_cost_of_what_was_found() {
    let dir = probes();
    let (code, told, wrong) =
        vouch(&dir, "probe bench guest-agent.wasm --fake qga:ok --for 200ms --concurrency 2 -o json");
    assert_eq!(code, 0, "{wrong}");
    let document: Value = serde_json::from_str(&told).unwrap();
    let runs = document["runs"].as_u64().unwrap();
    assert!(runs > 0 && document["runs_per_second"].as_f64().unwrap() > 0.0, "{told}");
    assert!(document["p50_us"].as_u64().unwrap() <= document["p99_us"].as_u64().unwrap(), "{told}");
    assert!(document["cpu_per_run_us"].as_u64().unwrap() > 0 && document["memory_peak_bytes"].is_u64(), "{told}");
    let found = &document["found"][0];
    assert_eq!((&found["state"], &found["reason"], &found["runs"]), (&"up".into(), &"answered".into(), &runs.into()));
    let (code, told, _) = vouch(&dir, "probe bench tcp.wasm --fake tcp:refuse --for 200ms");
    assert_eq!(code, 0);
    assert!(told.contains("\nfound    down closed x"), "{told}");
}

#[test]
fn a_new_project_in_c_builds_with_make_and_its_probe_runs() {
    if left_out("zig", zig().is_some()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (code, told, wrong) = vouch(&dir, "probe new c-banner --lang c");
    assert_eq!((code, told.contains("\n  c-banner/bindings/probe.h\n")), (0, true), "{told}{wrong}");
    probe_of_a_new_project_runs(&dir, "c-banner");
}

#[test]
fn a_new_project_in_javascript_builds_with_npm_and_its_probe_runs() {
    let modules = tools().join("js/node_modules");
    if left_out("componentize-qjs", modules.is_dir()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (code, told, wrong) = vouch(&dir, "probe new js-banner --lang js");
    assert_eq!((code, told.contains("\n  js-banner/wit/deps/vouch-probe/check.wit\n")), (0, true), "{told}{wrong}");
    let (code, _, wrong) = vouch(&dir, "probe build js-banner");
    assert_eq!((code, wrong.contains("run \"npm install\" there")), (1, true), "{wrong}");
    // As `npm install` would have left it.
    symlink(modules, dir.path().join("js-banner/node_modules")).unwrap();
    probe_of_a_new_project_runs(&dir, "js-banner");
    let mut npm = Command::new("npm");
    npm.env("PATH", path_with_node()).current_dir(dir.path().join("js-banner"));
    let tested = npm.args(["run", "--silent", "test"]).output().unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));
}

/// Builds the project of this name, whose component comes to lie in `build/`, and runs it at fakes and at a service.
fn probe_of_a_new_project_runs(dir: &TempDir, name: &str) {
    let (code, component, wrong) = vouch(dir, &format!("probe build {name}"));
    assert_eq!((code, component.trim()), (0, format!("{name}/build/{name}.wasm").as_str()), "{wrong}");
    let component = component.trim();
    let (code, told, wrong) = vouch(dir, &format!("probe check {component} --settings {{\"port\":2222}}"));
    assert_eq!((code, told.starts_with(&format!("probe     {name} 0.1.0\n"))), (0, true), "{told}{wrong}");
    assert!(told.contains("setting   port  integer from 1 to 65535, 22 when absent  "), "{told}");
    for (settings, why) in [("{\"port\":0}", "field `port` is 0: must be"), ("[]", "settings are []: must be")] {
        let (code, _, wrong) = vouch(dir, &format!("probe check {component} --settings {settings}"));
        assert_eq!((code, wrong.contains(why)), (78, true), "{settings}: {wrong}");
    }
    for (fake, words) in [("refuse", "down  closed  "), ("hang", "down  timeout  "), ("accept", "down  wedged  ")] {
        let (code, told, wrong) =
            vouch(dir, &format!("probe run {component} --fake tcp:{fake} --timeout 500ms --trace"));
        assert_eq!((code, told.starts_with(words)), (12, true), "{fake}: {told}{wrong}");
        assert!(told.contains("debug  connecting to 127.0.0.1 port "), "{told}");
    }
    for address in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let greeter = thread::spawn(move || greet(&mut listener.accept().unwrap().0));
        let settings = format!("{{\"port\":{port}}}");
        let (code, told, wrong) =
            vouch(dir, &format!("probe run {component} --target {address} --settings {settings} --trace"));
        greeter.join().unwrap();
        assert!(told.contains("sockets  tcp connected to ") && told.contains("sockets  received "), "{told}{wrong}");
        assert_eq!((code, told.starts_with("up  greeted  port ")), (0, true), "{told}{wrong}");
        assert!(
            told.contains("fact    banner  SSH-2.0-Example of a greeting that comes byte by byte, more often"),
            "{told}"
        );
    }
}

/// Greets in more pieces than a run may hold handles.
fn greet(stream: &mut TcpStream) {
    let greeting = b"SSH-2.0-Example of a greeting that comes byte by byte, more often than a run may hold handles\r\n";
    for byte in greeting {
        stream.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_schemas_that_come_with_shipped_probes_are_what_their_components_say() {
    let dir = probes();
    for bundled in vouch_probe_bundle::all() {
        let name = format!("{}.wasm", bundled.name);
        std::fs::write(dir.path().join(&name), bundled.bytes).unwrap();
        let (code, told, wrong) = vouch(&dir, &format!("probe check {name} -o json"));
        assert_eq!(code, 0, "{told}{wrong}");
        let report: Value = serde_json::from_str(&told).unwrap();
        let said: Value = serde_json::from_str(report["described"]["settings_schema"].as_str().unwrap()).unwrap();
        let beside: Value = serde_json::from_str(bundled.settings_schema).unwrap();
        assert_eq!(said, beside, "{}", bundled.name);
    }
}
