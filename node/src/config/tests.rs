//! What a configuration file may say, and that a refusal names key, value and rule.

use super::*;

const GOOD: &str = r#"
id = "n1"
rack = "r1"
data_dir = "/var/lib/vouch/n1"
relay = "10.1.0.11:7002"
[tls]
ca_certificate = "ca.pem"
certificate = "n1.pem"
key = "n1.key"
[[manager]]
id = "m1"
management = "10.1.0.1:7001"
service = "10.2.0.1:7001"
[[manager]]
id = "m2"
service = "10.2.0.2:7001"
[hypervisor]
driver = "qemu"
vm_dir = "/etc/vouch/vms"
[hypervisor.qemu]
nice = 5
[watchers]
enabled = true
image_dir = "target/images/watcher"
memory_mib = 160
[watchers.management]
bridge = "brmgmt"
addresses = ["10.1.0.200", "10.1.0.201"]
prefix_len = 24
[watchers.service]
bridge = "brsvc"
addresses = ["10.2.0.200", "10.2.0.201"]
prefix_len = 24
[watchers.dial.m1]
management = "127.0.0.1:21001"
"#;

fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the example holds {from}");
    Config::parse(&GOOD.replace(from, to)).expect_err("must be refused").to_string()
}

#[test]
fn the_documented_form_is_accepted() {
    let config = Config::parse(GOOD).unwrap();
    assert_eq!(config.managers[1].on(Network::Management), None);
    assert_eq!(config.run_dir(), Path::new("/var/lib/vouch/n1/run"));
    assert_eq!(config.watchers.dial[&ManagerId::new(1)].on(Network::Management).unwrap().port(), 21001);
}

#[test]
fn heartbeats_are_on_unless_turned_off() {
    assert!(Config::parse(GOOD).unwrap().heartbeats);
    let off = GOOD.replace("rack = \"r1\"", "heartbeats = false");
    assert!(!Config::parse(&off).unwrap().heartbeats);
    assert!(refused("rack = \"r1\"", "heartbeats = 200").contains("heartbeats = 200"));
}

#[test]
fn an_unknown_key_is_named() {
    assert!(refused("rack =", "rak =").contains("rak"));
    assert!(refused("nice = 5", "nise = 5").contains("nise"));
}

#[test]
fn a_value_that_breaks_a_rule_is_named_with_its_rule() {
    for (from, to, words) in [
        ("nice = 5", "nice = 20", ["nice", "20", "0 to 19"]),
        ("id = \"m2\"", "id = \"m1\"", ["manager.id", "m1", "twice"]),
        ("service = \"10.2.0.2:7001\"", "", ["manager", "m2", "address"]),
        ("memory_mib = 160", "memory_mib = 8", ["memory_mib", "8", "at least 128"]),
        ("10.1.0.201", "10.1.0.200", ["watchers.management.addresses", "10.1.0.200", "twice"]),
        ("[watchers.dial.m1]", "[watchers.dial.m7]", ["watchers.dial", "m7", "none of the managers"]),
        ("image_dir = \"target/images/watcher\"", "", ["watchers.image_dir", "unset", "must be set"]),
        (
            "/var/lib/vouch/n1",
            "/a-path-that-is-far-too-long-for-a-socket/of/a/guest-agent/in-it",
            ["run_dir", "68", "60"],
        ),
        ("rack = \"r1\"", "rack = \"\"", ["rack", "\"\"", "1 to 256 bytes"]),
        ("relay = \"10.1.0.11:7002\"", "relay = \"10.1.0.11:0\"", ["relay", "10.1.0.11:0", "not 0"]),
    ] {
        let message = refused(from, to);
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    }
}

#[test]
fn a_rack_whose_name_no_manager_takes_is_refused_here() {
    let name = |length: usize| format!("rack = \"{}\"", "r".repeat(length));
    assert!(Config::parse(&GOOD.replace("rack = \"r1\"", &name(256))).is_ok());
    assert!(refused("rack = \"r1\"", &name(257)).contains("1 to 256 bytes"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let e = Config::load(Path::new("/nonexistent/n1.toml")).expect_err("must be refused");
    assert!(e.to_string().contains("/nonexistent/n1.toml"));
}
