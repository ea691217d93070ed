//! The shipped probes against real servers on loopback.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{DEADLINE, LOCALHOST, confirm, port, probe, refusing_port, server, silent_port, target, target_at};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use vouch_probe_host::limits::SETTINGS_MAX;
use vouch_probe_host::{
    AgentQuery, Capabilities, ContractVersion, EchoReply, EchoRequest, GuestAgent, GuestAgentError, Icmp, IcmpError,
    IcmpSockets, PortGrant, RunFault, RunOutcome,
};
use vouch_types::{Network, Outcome, VmId};

async fn run(name: &'static str, settings: &str) -> RunOutcome {
    probe(name).run(&target(), settings, DEADLINE, &Capabilities::default()).await.unwrap()
}

fn said(outcome: &RunOutcome) -> (Outcome, &str) {
    (outcome.outcome, &outcome.reason)
}

#[tokio::test]
async fn every_probe_describes_itself_by_the_name_and_version_of_the_bundle() {
    for bundled in vouch_probe_bundle::all() {
        let probe = probe(bundled.name);
        let described = probe.describe().await.unwrap();
        assert_eq!((described.name.as_str(), described.version.as_str()), (bundled.name, bundled.version));
        assert!(!described.summary.is_empty());
        assert_eq!(described.contract, ContractVersion::V1);
        assert_eq!(described.networks, [Network::Management, Network::Service], "{}", bundled.name);
        assert!(described.interval.is_some() && described.timeout.is_some(), "{}", bundled.name);
        let own = probe.imports().interfaces.iter().filter(|name| name.starts_with("vouch:"));
        assert!(own.count() >= 1, "{:?}", probe.imports());
    }
}

#[tokio::test]
async fn settings_as_deep_and_as_long_as_can_be_are_refused_with_words_and_do_not_crash_a_small_stack() {
    let deep = |open: &str, close: &str, depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    for bundled in vouch_probe_bundle::all() {
        for depth in [127, 128, 2_000] {
            for settings in [deep("[", "]", depth), deep(r#"{"a":"#, "}", depth)] {
                let refused = probe(bundled.name).validate(&settings).await.unwrap_err();
                assert!(matches!(refused, RunFault::BadSettings(_)), "{} at depth {depth}: {refused}", bundled.name);
            }
        }
        let long = format!(r#"{{"a": "{}"}}"#, "\\n".repeat(SETTINGS_MAX / 2 - 8));
        let refused = probe(bundled.name).validate(&long).await.unwrap_err();
        assert!(matches!(refused, RunFault::BadSettings(_)), "{}: {refused}", bundled.name);
    }
}

#[tokio::test]
async fn what_a_schema_says_of_settings_is_what_the_probe_takes() {
    for bundled in vouch_probe_bundle::all() {
        let probe = probe(bundled.name);
        let schema = probe.describe().await.unwrap().settings_schema.clone().unwrap();
        let schema: Value = serde_json::from_str(&schema).unwrap();
        assert_eq!((&schema["type"], &schema["additionalProperties"]), (&"object".into(), &false.into()));
        let properties = schema["properties"].as_object().unwrap();
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        // With what the field cannot be without: required ones by their example, and switches that it depends on.
        let with = |field: &str, value: &Value| {
            let mut settings = json!({ field: value });
            for other in required.iter().filter_map(Value::as_str).filter(|other| *other != field) {
                settings[other].clone_from(schema["properties"][other].pointer("/examples/0").unwrap_or(&Value::Null));
            }
            for other in
                schema.pointer(&format!("/dependentRequired/{field}")).and_then(Value::as_array).into_iter().flatten()
            {
                settings[other.as_str().unwrap()] = true.into();
            }
            settings.to_string()
        };
        for (field, rule) in properties {
            let example = rule.pointer("/examples/0");
            for bound in ["minimum", "maximum", "default"].iter().filter_map(|bound| rule.get(bound)).chain(example) {
                assert_eq!(probe.validate(&with(field, bound)).await, Ok(()), "{} {field}", bundled.name);
            }
            let beyond = match (rule["maximum"].as_u64(), rule["type"].as_str()) {
                (Some(most), _) => (most + 1).into(),
                (None, Some("string")) => 1.into(),
                (None, _) => Value::from("no switch"),
            };
            assert!(probe.validate(&with(field, &beyond)).await.is_err(), "{} {field}", bundled.name);
        }
        assert_eq!(probe.validate("{}").await.is_err(), !required.is_empty(), "{}", bundled.name);
        assert!(probe.validate(r#"{"no_such_setting": 1}"#).await.is_err());
    }
}

#[tokio::test]
async fn only_probes_that_use_the_network_import_sockets() {
    let sockets = |name| probe(name).imports().interfaces.iter().any(|i| i.starts_with("wasi:sockets/"));
    for name in ["rdp", "ssh", "vnc", "spice", "dns"] {
        assert!(sockets(name), "{name}");
    }
    // What `tcp` and `http` need of the network the host does for them.
    for name in ["guest-agent", "ping", "tcp", "http"] {
        assert!(!sockets(name), "{name}");
    }
}

#[tokio::test]
async fn settings_are_refused_with_the_field_its_value_and_the_rule() {
    for (name, good, bad, words) in [
        ("tcp", r#"{"port": 22}"#, r#"{"port": 99999}"#, "`port` is 99999: must be a whole number from 1 to 65535"),
        ("rdp", "{}", r#"{"prot": 1}"#, "`prot` is 1: not a setting of this probe"),
        ("ping", r#"{"count": 3}"#, r#"{"count": 99}"#, "`count` is 99: must be a whole number from 1 to 16"),
        ("guest-agent", "{}", "[]", "must be a JSON object"),
        ("ssh", r#"{"expect": "OpenSSH_"}"#, r#"{"expect": "a b"}"#, r#"`expect` is "a b": must be 1 to 64 printable"#),
        ("vnc", r#"{"port": 5901}"#, r#"{"port": 0}"#, "`port` is 0: must be a whole number from 1 to 65535"),
        ("spice", "{}", r#"{"tls": true}"#, "`tls` is true: not a setting of this probe (they are: port)"),
        ("http", r#"{"path": "/a"}"#, r#"{"path": "a"}"#, r#"`path` is "a": must be 1 to 1024 printable"#),
        ("dns", r#"{"name": "a"}"#, r#"{"name": "a..b"}"#, r#"`name` is "a..b": must be a name of labels"#),
    ] {
        let probe = probe(name);
        assert_eq!(probe.validate(good).await, Ok(()), "{name}");
        let Err(RunFault::BadSettings(said)) = probe.validate(bad).await else { panic!("{name} takes {bad}") };
        assert!(said.contains(words), "{said}");
        let ran = probe.run(&target(), bad, DEADLINE, &Capabilities::default()).await;
        assert!(matches!(ran, Err(RunFault::BadSettings(_))), "{name}: {ran:?}");
    }
}

#[tokio::test]
async fn an_open_port_is_up_and_a_refusing_one_is_closed() {
    let open = server(async |stream| drop(stream)).await;
    assert_eq!(said(&run("tcp", &port(open)).await), (Outcome::Up, "connected"));
    let (_held, refusing) = refusing_port();
    assert_eq!(said(&run("tcp", &port(refusing)).await), (Outcome::Down, "closed"));
    assert_eq!(said(&run("rdp", &port(refusing)).await), (Outcome::Down, "closed"));
}

#[tokio::test]
async fn a_desktop_that_negotiates_is_up_and_names_its_protocol() {
    let windows = server(|stream| confirm(stream, [2, 0x1f, 8, 0, 2, 0, 0, 0])).await;
    let found = run("rdp", &port(windows)).await;
    assert_eq!(said(&found), (Outcome::Up, "negotiated"));
    assert_eq!(found.facts, [("protocol".to_owned(), "credssp".to_owned())]);
    let phases: Vec<&str> = found.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(phases, ["connect", "negotiate"]);
}

#[tokio::test]
async fn a_desktop_without_a_certificate_is_degraded() {
    let broken = server(|stream| confirm(stream, [3, 0, 8, 0, 3, 0, 0, 0])).await;
    let found = run("rdp", &port(broken)).await;
    assert_eq!(said(&found), (Outcome::Degraded, "refused"));
    assert_eq!(found.facts, [("refusal".to_owned(), "no_certificate".to_owned())]);
}

#[tokio::test]
async fn a_desktop_that_accepts_and_stays_silent_is_wedged_within_the_deadline() {
    let silent = server(async |stream| {
        stream.readable().await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let begun = Instant::now();
    let deadline = Duration::from_millis(600);
    let found = probe("rdp").run(&target(), &port(silent), deadline, &Capabilities::default()).await.unwrap();
    assert_eq!(said(&found), (Outcome::Down, "wedged"));
    assert!(begun.elapsed() >= Duration::from_millis(500), "it waits before it says so");
    assert_eq!(said(&run("tcp", &port(silent)).await), (Outcome::Up, "connected"), "a connect alone can't tell");
}

#[tokio::test]
async fn a_desktop_that_hangs_up_is_broken_and_another_service_is_not_rdp() {
    let closing = server(async |stream| drop(stream)).await;
    assert_eq!(said(&run("rdp", &port(closing)).await), (Outcome::Down, "broken"));
    let ssh = server(async |mut stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await.unwrap();
        stream.readable().await.unwrap();
    })
    .await;
    assert_eq!(said(&run("rdp", &port(ssh)).await), (Outcome::Degraded, "not_rdp"));
}

#[tokio::test]
async fn an_address_that_swallows_everything_is_a_timeout() {
    let (silent, deadline) = (silent_port(), Duration::from_millis(500));
    for name in ["tcp", "rdp"] {
        let found = probe(name).run(&target(), &port(silent.port), deadline, &Capabilities::default()).await;
        assert_eq!(said(&found.unwrap()), (Outcome::Down, "timeout"), "{name}");
    }
}

#[tokio::test]
async fn a_port_that_was_not_granted_is_a_fault_and_not_a_down() {
    let open = server(async |stream| drop(stream)).await;
    let narrow = Capabilities { ports: PortGrant::Only(BTreeSet::from([1])), ..Capabilities::default() };
    let refused = probe("tcp").run(&target(), &port(open), DEADLINE, &narrow).await;
    let Err(RunFault::Probe(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("not granted"), "{why}");
}

#[tokio::test]
async fn a_target_without_an_address_is_not_applicable() {
    let mut nowhere = target();
    nowhere.addresses.clear();
    let ran = probe("rdp").run(&nowhere, "{}", DEADLINE, &Capabilities::default()).await;
    assert!(matches!(ran, Err(RunFault::NotApplicable(_))), "{ran:?}");
}

struct ScriptedIcmp(Result<Vec<EchoReply>, IcmpError>);

#[async_trait::async_trait]
impl Icmp for ScriptedIcmp {
    async fn echo(&self, request: EchoRequest) -> Result<Vec<EchoReply>, IcmpError> {
        assert_eq!(request.address, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        self.0.clone()
    }
}

/// Has the probe send four requests, of which these are answered after so many microseconds.
async fn ping(script: Result<&[(u32, u64)], IcmpError>) -> Result<RunOutcome, RunFault> {
    let reply = |&(sequence, micros): &(u32, u64)| EchoReply { sequence, round_trip: Duration::from_micros(micros) };
    let script = script.map(|answered| answered.iter().map(reply).collect());
    let lent = Capabilities { icmp: Some(Arc::new(ScriptedIcmp(script))), ..Capabilities::default() };
    probe("ping").run(&target_at("::ffff:192.0.2.7".parse().unwrap()), r#"{"count": 4}"#, DEADLINE, &lent).await
}

fn samples(found: &RunOutcome) -> Vec<(&str, f64, &str)> {
    found.samples.iter().map(|sample| (sample.name.as_str(), sample.value, sample.unit.as_str())).collect()
}

#[tokio::test]
async fn ping_tells_replies_loss_and_silence_apart() {
    let all = ping(Ok(&[(0, 250), (1, 250), (2, 250), (3, 250)])).await.unwrap();
    assert_eq!(said(&all), (Outcome::Up, "replied"));
    assert!(samples(&all).contains(&("loss", 0.0, "ratio")), "{:?}", all.samples);
    assert_eq!(said(&ping(Ok(&[(1, 250)])).await.unwrap()), (Outcome::Up, "lossy"));
    let silent = ping(Ok(&[])).await.unwrap();
    assert_eq!(said(&silent), (Outcome::Down, "timeout"));
    let nothing = [("sent", 4.0, "requests"), ("answered", 0.0, "requests"), ("loss", 1.0, "ratio")];
    assert_eq!(samples(&silent), nothing);
    let no_route = ping(Err(IcmpError::NoRoute("network is unreachable".to_owned()))).await.unwrap();
    assert_eq!(said(&no_route), (Outcome::Unknown, "no_route"));
}

#[tokio::test]
async fn ping_measures_round_trips_that_differ_and_the_share_that_is_lost() {
    let found = ping(Ok(&[(0, 250), (1, 1000), (3, 400)])).await.unwrap();
    assert_eq!(said(&found), (Outcome::Up, "lossy"));
    assert_eq!(
        samples(&found),
        [
            ("sent", 4.0, "requests"),
            ("answered", 3.0, "requests"),
            ("loss", 0.25, "ratio"),
            ("round_trip_min", 0.000_25, "seconds"),
            ("round_trip_mean", 0.000_55, "seconds"),
            ("round_trip_max", 0.001, "seconds"),
            ("jitter", 0.000_675, "seconds"),
        ]
    );
}

#[tokio::test]
async fn a_ping_without_a_socket_or_a_grant_is_a_fault() {
    let no_socket = ping(Err(IcmpError::NoSocket("not permitted".to_owned()))).await;
    assert!(matches!(&no_socket, Err(RunFault::Probe(why)) if why.contains("not permitted")), "{no_socket:?}");
    let not_granted = probe("ping").run(&target(), "{}", DEADLINE, &Capabilities::default()).await;
    assert!(matches!(&not_granted, Err(RunFault::Probe(why)) if why.contains("not granted")), "{not_granted:?}");
}

#[tokio::test]
async fn ping_over_the_sockets_of_the_kernel_reaches_loopback() {
    let sockets = Arc::new(IcmpSockets::open());
    let can_send = sockets.kind_of(LOCALHOST).is_ok();
    let lent = Capabilities { icmp: Some(sockets), ..Capabilities::default() };
    let ran = probe("ping").run(&target(), r#"{"count": 3, "interval_ms": 10}"#, DEADLINE, &lent).await;
    if can_send {
        assert_eq!(said(&ran.unwrap()), (Outcome::Up, "replied"));
    } else {
        assert!(matches!(&ran, Err(RunFault::Probe(why)) if why.contains("no ICMP socket")), "{ran:?}");
    }
}

struct ScriptedAgent(Result<Duration, GuestAgentError>);

#[async_trait::async_trait]
impl GuestAgent for ScriptedAgent {
    async fn ping(&self, vm: &VmId, timeout: Duration) -> Result<Duration, GuestAgentError> {
        assert_eq!(vm.to_string(), common::VM);
        assert!(timeout <= DEADLINE);
        self.0.clone()
    }

    async fn query(&self, _vm: &VmId, query: AgentQuery, _timeout: Duration) -> Result<String, GuestAgentError> {
        Ok(format!(r#"{{"return":{:?}}}"#, query.as_str()))
    }
}

async fn agent(script: Result<Duration, GuestAgentError>) -> Result<RunOutcome, RunFault> {
    let lent = Capabilities { guest_agent: Some(Arc::new(ScriptedAgent(script))), ..Capabilities::default() };
    probe("guest-agent").run(&target(), "{}", DEADLINE, &lent).await
}

#[tokio::test]
async fn only_the_silence_of_the_agent_itself_counts_against_it() {
    assert_eq!(said(&agent(Ok(Duration::from_millis(2))).await.unwrap()), (Outcome::Up, "answered"));
    assert_eq!(said(&agent(Err(GuestAgentError::Silent)).await.unwrap()), (Outcome::Down, "silent"));
    let cut = agent(Err(GuestAgentError::Unreachable("relay is silent".to_owned()))).await.unwrap();
    assert_eq!(said(&cut), (Outcome::Unknown, "unreachable"));
    assert!(matches!(agent(Err(GuestAgentError::NoChannel)).await, Err(RunFault::NotApplicable(_))));
    assert!(matches!(agent(Err(GuestAgentError::NotGranted)).await, Err(RunFault::Probe(_))));
}
