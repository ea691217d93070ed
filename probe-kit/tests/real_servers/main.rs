//! The shipped probes against real servers, which each test starts on a free port of 127.0.0.1 and ends again.
//!
//! A machine without the servers can do without these tests, which say so; in CI nothing is left out. `xtask` has the list of
//! their Debian packages.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]
#![expect(clippy::print_stderr, reason = "a test that is left out says so where the tests' output goes")]

#[path = "../common/mod.rs"]
mod common;
mod dns;
mod http;
mod server;
mod spice;
mod ssh;
mod vnc;

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use vouch_probe_kit::{Aim, Plan, Ran, Trial};

/// Time for a real server on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time for a probe to find out that a server is silent.
const SHORT: Duration = Duration::from_millis(600);

async fn ran(probe: &'static str, port: u16, mut settings: Value, timeout: Duration) -> Ran {
    settings["port"] = port.into();
    let aim = Aim::Addresses(vec![Ipv4Addr::LOCALHOST.into()]);
    let plan = Plan { timeout, settings: settings.to_string(), ..Plan::new(aim) };
    Trial::start(&common::shipped(probe), &plan).await.unwrap().run().await
}

/// Runs a shipped probe at this port of 127.0.0.1, with these settings as well, for a short time.
async fn soon(probe: &'static str, port: u16, settings: Value) -> Ran {
    ran(probe, port, settings, SHORT).await
}

/// Runs a shipped probe likewise, with much time; asserts what is found, and returns it.
async fn finds(probe: &'static str, port: u16, settings: Value, state: &str, reason: &str) -> Ran {
    let told = settings.to_string();
    let ran = ran(probe, port, settings, PATIENCE).await;
    assert_eq!((ran.state(), ran.reason()), (state, reason), "{probe} {told}: {}", ran.message());
    ran
}

/// Returns a fact that was learnt.
fn fact<'a>(ran: &'a Ran, name: &str) -> &'a str {
    let facts = &ran.result.as_ref().unwrap().facts;
    let found = facts.iter().find(|(told, _)| told == name);
    found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no fact {name}: {facts:?}"))
}
