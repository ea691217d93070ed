//! What an operator sees of a configuration that is right, and of one that is not.

use super::*;

const GOOD: &str = r#"
id = "m1"
data_dir = "/var/lib/vouch/m1"
[listen]
management = "10.1.0.1:7001"
service = "10.2.0.1:7001"
[api]
listen = "127.0.0.1:7080"
[tls]
ca_certificate = "ca.pem"
certificate = "m1.pem"
key = "m1.key"
ca_key = "ca.key"
[[manager]]
id = "m1"
management = "10.1.0.1:7001"
service = "10.2.0.1:7001"
api = "http://127.0.0.1:7080"
[[manager]]
id = "m2"
management = "10.1.0.2:7001"
service = "10.2.0.2:7001"
[dial.m2]
management = "127.0.0.1:21002"
[timing]
profile = "slow"
window_ms = 5000
"#;

fn load(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m1.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(&file, |_| None)
}

fn refusal(text: &str) -> String {
    load(text).expect_err("must be refused").to_string()
}

#[test]
fn a_good_configuration_is_read_with_profile_and_overrides() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.timing.window, std::time::Duration::from_secs(5));
    assert_eq!(config.timing.tick_interval, Timing::slow().tick_interval);
    assert_eq!(config.token_file(), Path::new("/var/lib/vouch/m1/api.token"));
    assert_eq!(
        config.dial_addresses()[&ManagerId::new(2)],
        [
            (Network::Management, "127.0.0.1:21002".parse().unwrap()),
            (Network::Service, "10.2.0.2:7001".parse().unwrap())
        ]
    );
    assert_eq!(config.members().len(), 2);
    assert_eq!(config.storage.free_min_mib, FREE_MIN_MIB);
    assert_eq!(config.certificates.check_secs, CHECK_DEFAULT.as_secs());
}

#[test]
fn certificates_are_looked_after_at_least_once_a_day_and_at_most_every_second() {
    for (secs, good) in [(0, false), (1, true), (86_400, true), (86_401, false)] {
        let text = format!("{GOOD}[certificates]\ncheck_secs = {secs}\n");
        assert_eq!(load(&text).is_ok(), good, "{secs}");
    }
    let why = refusal(&format!("{GOOD}[certificates]\ncheck_secs = 0\n"));
    assert!(why.contains("certificates.check_secs: 0 must be 1 to 86400"), "{why}");
}

#[test]
fn heartbeats_are_on_unless_turned_off() {
    assert!(load(GOOD).unwrap().heartbeats);
    assert!(!load(&format!("heartbeats = false\n{GOOD}")).unwrap().heartbeats);
    let e = refusal(&format!("heartbeats = \"no\"\n{GOOD}"));
    assert!(e.contains("heartbeats"), "{e}");
}

#[test]
fn an_unknown_key_is_refused_with_its_name_and_line() {
    let e = refusal(&GOOD.replace("[api]", "[api]\ncolour = \"red\""));
    assert!(e.contains("colour") && e.contains("line"), "{e}");
    let e = refusal(&GOOD.replace("window_ms", "windw_ms"));
    assert!(e.contains("windw_ms"), "{e}");
}

#[test]
fn values_that_break_a_rule_are_refused_with_value_and_rule() {
    for (from, to, words) in [
        ("id = \"m1\"\ndata", "id = \"m7\"\ndata", &["m7", "m1, m2"][..]),
        ("id = \"m2\"", "id = \"m1\"", &["manager.id", "m1", "twice"]),
        ("10.1.0.2:7001", "10.1.0.1:7001", &["10.1.0.1:7001", "twice"]),
        ("service = \"10.2.0.1:7001\"\n[api]", "[api]", &["listen.service", "none", "10.2.0.1:7001"]),
        ("[dial.m2]", "[dial.m9]", &["dial.m9", "another member"]),
        ("127.0.0.1:7080\"\n[tls]", "10.2.0.1:7080\"\n[tls]", &["api.listen", "10.2.0.1:7080", "service network"]),
        ("127.0.0.1:7080\"\n[tls]", "0.0.0.0:7080\"\n[tls]", &["api.listen", "0.0.0.0:7080", "service network"]),
        ("127.0.0.1:7080\"\n[tls]", "[::]:7080\"\n[tls]", &["api.listen", "[::]:7080", "service network"]),
        ("window_ms = 5000", "lost_after_ms = 1000", &["lost_after_ms", "1s", "4s"]),
        ("window_ms = 5000", "heartbeat_interval_ms = 0", &["heartbeat_interval_ms", "0ns", "more than"]),
        ("window_ms = 5000", "heartbeat_interval_ms = 3000", &["heartbeat_interval_ms", "3s", "4s", "at least twice"]),
        ("[timing]", "[storage]\nfree_min_mib = 127\n[timing]", &["storage.free_min_mib", "127", "128"]),
        ("[timing]", "[storage]\nfree_min_mib = 1048577\n[timing]", &["free_min_mib", "1048577", "1048576"]),
        ("profile = \"slow\"", "profile = \"fast\"", &["profile", "fast", "slow"]),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let e = refusal(&GOOD.replacen(from, to, 1));
        for word in words {
            assert!(e.contains(word), "{word:?} is not in {e:?}");
        }
    }
}

#[test]
fn the_environment_overrides_the_data_folder_and_is_checked() {
    let mut config = load(GOOD).unwrap();
    config.override_from(|name| (name == ENV_DATA_DIR).then(|| "/tmp/x".to_owned())).unwrap();
    assert_eq!(config.data_dir, Path::new("/tmp/x"));
    let e = config.override_from(|name| (name == ENV_API_LISTEN).then(|| "here".to_owned())).expect_err("refused");
    assert!(e.to_string().contains("here") && e.to_string().contains(ENV_API_LISTEN), "{e}");
}
