//! What `check` says of shipped probes, and of files that are none.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use common::{host, shipped};
use vouch_probe_host::limits::COMPONENT_MAX;
use vouch_probe_host::{LoadError, ProbeHost};
use vouch_probe_kit::{AtSilence, OpenError, ProbeFile, check};
use vouch_types::probe::COMPONENT_MAX as UPLOAD_MAX;

#[tokio::test]
async fn a_shipped_probe_breaks_no_rule_and_says_what_it_takes() {
    let tcp = shipped("tcp");
    let report = check(&tcp, Some(r#"{"port": 22}"#)).await;
    assert_eq!(report.broken, []);
    assert_eq!(report.described.as_ref().unwrap().name, "tcp");
    assert!(report.imports.iter().any(|name| name.starts_with("vouch:probe/tcp@")));
    assert!(report.settings[0].refused.is_some(), "it needs a port");
    assert_eq!((report.settings[1].refused.as_ref(), report.refused()), (None, None));
    assert!(report.size < report.size_max);
    assert_eq!(report.size_max, UPLOAD_MAX);
}

#[tokio::test]
async fn a_shipped_probe_answers_by_its_deadline_where_nobody_else_does() {
    // Its port gives way to that of the fake.
    for settings in [None, Some(r#"{"port": 22}"#)] {
        let report = check(&shipped("tcp"), settings).await;
        assert_eq!(report.broken, [], "{settings:?}");
        let timeout = AtSilence::Ended { deadline_ms: 1000, state: "down", reason: "timeout".to_owned() };
        assert_eq!(report.deadline, timeout, "{settings:?}");
    }
}

#[tokio::test]
async fn a_probe_that_overstays_its_deadline_breaks_a_rule() {
    let report = check(&shipped("hostile"), Some("\"sleep\"")).await;
    let broken = report.broken.iter().find(|rule| rule.about == "deadline").expect("it sleeps");
    let text = "did not answer by its deadline of 1s at a target that gives no answer: it was stopped";
    assert_eq!(broken.text, text);
    assert_eq!(report.deadline, AtSilence::Stopped { deadline_ms: 1000 });
}

#[tokio::test]
async fn a_probe_that_crashes_where_nobody_answers_breaks_a_rule() {
    let report = check(&shipped("hostile"), Some("\"panic\"")).await;
    let broken = report.broken.iter().find(|rule| rule.about == "run").expect("it panics");
    assert_eq!(broken.text, "ended with the fault crashed at a target that gives no answer");
}

#[tokio::test]
async fn what_cannot_be_tried_at_a_port_is_told_and_breaks_no_rule() {
    for (probe, settings, said) in [
        ("ping", None, "fake tcp:hang listens on port "),
        ("guest-agent", None, "fake tcp:hang listens on port "),
        ("tcp", Some(r#"{"port": 70000}"#), "settings refused: field `port` is 70000"),
    ] {
        let report = check(&shipped(probe), settings).await;
        assert_eq!(report.broken, [], "{probe}");
        let AtSilence::NotTried { why } = &report.deadline else { panic!("{probe}: {:?}", report.deadline) };
        assert!(why.starts_with(said), "{probe}: {why}");
    }
}

/// Returns a component with a custom section of this name behind it, which says nothing (Core Specification, 5.5.3).
fn with_custom_section(component: &[u8], name: &str, size: usize) -> Vec<u8> {
    let mut content = vec![u8::try_from(name.len()).unwrap()];
    content.extend(name.bytes());
    content.resize(size, 0);
    let mut bytes = component.to_vec();
    bytes.push(0);
    let mut left = content.len();
    while left >= 0x80 {
        bytes.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes.extend(content);
    bytes
}

#[tokio::test]
async fn a_component_that_is_too_large_for_a_cluster_breaks_a_rule_with_its_size_and_the_limit() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), with_custom_section(&shipped("tcp").bytes, "ballast", UPLOAD_MAX)).unwrap();
    let large = ProbeFile::open(host(), file.path()).unwrap();
    let report = check(&large, Some(r#"{"port": 22}"#)).await;
    let broken: Vec<&str> = report.broken.iter().map(|rule| rule.about.as_str()).collect();
    assert_eq!(broken, ["size"], "{:?}", report.broken);
    let text = format!("size {}: a cluster takes at most {UPLOAD_MAX} bytes of one component", large.bytes.len());
    assert_eq!(report.broken[0].text, text);
    assert_eq!((report.size, report.size_max), (large.bytes.len(), UPLOAD_MAX));
}

#[tokio::test]
async fn refused_settings_are_told_with_the_words_of_the_probe() {
    let report = check(&shipped("tcp"), Some(r#"{"port": 70000}"#)).await;
    let refused = report.refused().unwrap();
    assert!(refused.refused.as_ref().unwrap().contains("`port` is 70000"), "{refused:?}");
    assert_eq!(report.broken, [], "settings are no rule of the component");
}

#[tokio::test]
async fn a_probe_that_does_not_answer_is_told_and_not_waited_for() {
    let report = check(&shipped("hostile"), None).await;
    assert!(report.broken.iter().any(|rule| rule.about == "validate"), "{:?}", report.broken);
}

fn refused(host: &ProbeHost, bytes: &[u8]) -> LoadError {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    match ProbeFile::open(host, file.path()) {
        Err(OpenError::Load { source, path }) => {
            assert_eq!(path, file.path());
            source
        }
        Err(OpenError::Read { source, .. }) => panic!("{source}"),
        Ok(_) => panic!("taken"),
    }
}

#[test]
fn what_is_not_a_probe_is_refused_with_its_rule() {
    assert!(matches!(refused(host(), b"#!/bin/sh"), LoadError::NotWasm));
    assert!(matches!(refused(host(), b"\0asm\x01\0\0\0"), LoadError::CoreModule));
    assert!(matches!(refused(host(), &vec![0; COMPONENT_MAX + 9]), LoadError::TooLarge { .. }));
    let missing = ProbeFile::open(host(), "no/such/file.wasm".as_ref()).err().unwrap();
    assert_eq!(missing.to_string(), "component no/such/file.wasm: cannot be read");
}
