//! The assertions of authors' tests: they hold when they should, and fail with what the probe said.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use vouch_probe_kit::testing::Component;

fn tcp() -> Component {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vouch_probe_bundle::by_name("tcp").unwrap().bytes).unwrap();
    Component::load(file.path())
}

fn words_of(failing: impl FnOnce()) -> String {
    let said = catch_unwind(AssertUnwindSafe(failing)).expect_err("must fail");
    said.downcast_ref::<String>().cloned().or_else(|| said.downcast_ref::<&str>().map(ToString::to_string)).unwrap()
}

#[test]
fn what_holds_passes() {
    let probe = tcp();
    probe.fake("tcp:accept").run().assert_up().assert_reason("connected").assert_message("accepts connections");
    probe.fake("tcp:refuse").run().assert_down().assert_reason("closed");
    probe.fake("tcp:hang").timeout(Duration::from_millis(300)).run().assert_down().assert_reason("timeout");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    probe.target(listener.local_addr().unwrap()).run().assert_up();
    probe.settings(r#"{"port": 1}"#).assert_taken();
    probe.settings("{}").assert_refused("port");
}

#[test]
fn what_does_not_hold_fails_with_what_the_probe_said() {
    let probe = tcp();
    let words = words_of(|| {
        probe.fake("tcp:refuse").run().assert_up();
    });
    assert!(words.starts_with("state must be up: the probe found down (closed): port "), "{words}");
    let words = words_of(|| {
        probe.fake("tcp:accept").run().assert_fact("banner", "x");
    });
    assert!(words.starts_with("fact banner must be \"x\": the probe found up (connected): "), "{words}");
    let words = words_of(|| probe.settings(r#"{"port": 1}"#).assert_refused("port"));
    assert!(words.ends_with("must be refused with \"port\", and are taken"), "{words}");
    let words = words_of(|| drop(probe.fake("tcp:maybe")));
    assert!(words.contains("must be one of tcp:accept"), "{words}");
    let words = words_of(|| drop(Component::load("no/such.wasm")));
    assert!(words.starts_with("component no/such.wasm: cannot be read: No such file"), "{words}");
}
