//! What the tests of the kit share: one host per process, and the shipped probes as files.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use vouch_probe_host::{HostLimits, ProbeHost};
use vouch_probe_kit::ProbeFile;

static HOST: LazyLock<ProbeHost> = LazyLock::new(|| ProbeHost::new(HostLimits::default()).expect("an engine"));
static FILES: LazyLock<Mutex<HashMap<&'static str, ProbeFile>>> = LazyLock::new(Mutex::default);

pub fn host() -> &'static ProbeHost {
    &HOST
}

/// Returns a shipped probe, or `hostile`, as if its author had built it; each is compiled once.
pub fn shipped(name: &'static str) -> ProbeFile {
    let mut files = FILES.lock().unwrap();
    let open = || {
        let bytes = match name {
            "hostile" => vouch_probe_bundle::hostile().bytes,
            name => vouch_probe_bundle::by_name(name).unwrap().bytes,
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        ProbeFile::open(host(), file.path()).unwrap()
    };
    files.entry(name).or_insert_with(open).clone()
}
