//! Components that were built for another version of the contract's first number, on today's host.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use common::{DEADLINE, granted, host, server, target};
use vouch_probe_host::{ContractVersion, Probe};

/// The version in the names of what the guests export and import.
const TODAY: &[u8] = b"@1.1.0";

/// Returns a guest as its tools would have made it for another version. Between two of one first number the types of what it
/// uses are the same, for which `probe-kit/tests/contract.rs` stands; what differs are names, of one length.
fn built_for(version: &[u8; 6]) -> Probe {
    let mut component = vouch_probe_bundle::hostile().bytes.to_vec();
    let at: Vec<usize> = (0..component.len()).filter(|at| component[*at..].starts_with(TODAY)).collect();
    assert!(at.len() >= 6, "an export and five imports at the least: {}", at.len());
    for at in at {
        component[at..at + version.len()].copy_from_slice(version);
    }
    host().compile(&component).unwrap()
}

#[tokio::test]
async fn a_probe_of_an_older_or_a_newer_version_runs_as_it_did() {
    let open = server(async |stream| drop(stream)).await;
    for version in [b"@1.0.0", b"@1.9.7"] {
        let probe = built_for(version);
        assert_eq!(probe.contract(), ContractVersion::V1);
        let own = probe.imports().interfaces.iter().filter(|name| name.starts_with("vouch:probe/"));
        let version = std::str::from_utf8(version).unwrap();
        assert!(own.clone().count() >= 5 && own.clone().all(|name| name.ends_with(version)), "{:?}", probe.imports());
        assert_eq!(probe.describe().await.unwrap().name, "hostile");
        for word in ["tls-connect", "handshake"] {
            let order = format!("\"{word} 127.0.0.1:{open}\"");
            let found = probe.run(&target(), &order, DEADLINE, &granted(open)).await.unwrap();
            assert_eq!(found.reason, "connected", "{word} of {version}");
        }
    }
}
