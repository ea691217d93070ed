//! What `check` says of shipped probes, and of files that are none.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use common::{host, shipped};
use vouch_probe_host::limits::COMPONENT_MAX;
use vouch_probe_host::{LoadError, ProbeHost};
use vouch_probe_kit::{OpenError, ProbeFile, check};

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
