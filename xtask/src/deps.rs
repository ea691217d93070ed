//! The import rules: who may depend on whom (DESIGN, "Layout and who may import whom").
//!
//! The rules are a table, so that a new crate has to be entered here before it builds green: nothing comes into the
//! detector, or below the manager, by accident. Dependencies that only tests need are not looked at.

use anyhow::{Result, bail};

use crate::metadata::{Graph, Metadata};

/// What one crate of the workspace may name among the others.
const MEMBERS: &[(&str, &[&str])] = &[
    ("vouch-types", &[]),
    ("vouch-detector", &["vouch-types"]),
    ("vouch-wire", &["vouch-types"]),
    ("vouch-probe-host", &["vouch-types"]),
    ("vouch-probe-kit", &["vouch-types", "vouch-probe-host"]),
    ("vouch-probe-bundle", &["vouch-types"]),
    ("probe-kit", &[]),
    ("probe-glue", &["probe-kit"]),
    ("probe-hostile", &["probe-kit"]),
    ("probe-v0-1", &[]),
    ("probe-ping", &["probe-kit"]),
    ("probe-rdp", &["probe-kit"]),
    ("probe-guest-agent", &["probe-kit"]),
    ("probe-tcp", &["probe-kit", "probe-glue"]),
    ("probe-sockets", &["probe-kit", "probe-glue"]),
    ("probe-dns", &["probe-kit", "probe-glue"]),
    ("probe-http", &["probe-kit", "probe-glue"]),
    ("probe-spice", &["probe-kit", "probe-glue"]),
    ("probe-ssh", &["probe-kit", "probe-glue"]),
    ("probe-vnc", &["probe-kit", "probe-glue"]),
    ("vouch-manager", &["vouch-types", "vouch-detector", "vouch-wire", "vouch-probe-bundle"]),
    ("vouch-node", &["vouch-types", "vouch-wire"]),
    ("vouch-watcher", &["vouch-types", "vouch-wire", "vouch-probe-host", "vouch-probe-bundle"]),
    (
        "vouch",
        &[
            "vouch-types",
            "vouch-wire",
            "vouch-manager",
            "vouch-node",
            "vouch-watcher",
            "vouch-probe-host",
            "vouch-probe-kit",
            "vouch-probe-bundle",
        ],
    ),
    (
        "vouch-tests",
        &[
            "vouch-types",
            "vouch-detector",
            "vouch-wire",
            "vouch-manager",
            "vouch-node",
            "vouch-watcher",
            "vouch-probe-host",
        ],
    ),
    ("vouch-sim", &["vouch-types", "vouch-detector", "vouch-wire", "vouch-manager", "vouch-watcher"]),
    ("vouch-bench", &["vouch-types", "vouch-detector", "vouch-wire", "vouch-manager", "vouch-watcher", "vouch-sim"]),
    (
        "vouch-bench-probes",
        &[
            "vouch-types",
            "vouch-wire",
            "vouch-watcher",
            "vouch-probe-host",
            "vouch-probe-kit",
            "vouch-probe-bundle",
            "probe-kit",
            "probe-ping",
            "probe-tcp",
        ],
    ),
    ("xtask", &[]),
];

/// All that one crate may name at all.
const ONLY: &[(&str, &[&str])] = &[("vouch-types", &["serde", "uuid", "thiserror"])];

/// Crates that only some of the workspace may name.
const OWNED: &[(&str, &[&str])] = &[
    ("openraft", &["vouch-manager"]),
    ("openraft-rt", &["vouch-manager"]),
    ("openraft-rt-tokio", &["vouch-manager"]),
    ("openraft-macros", &["vouch-manager"]),
    ("raft-log", &["vouch-manager"]),
    ("sled", &["vouch-manager"]),
    ("virt", &["vouch-node"]),
    ("wasmtime", &["vouch-probe-host"]),
    ("wasmtime-wasi", &["vouch-probe-host"]),
    ("wit-bindgen-c", &["vouch-probe-kit"]),
    (
        "wit-bindgen",
        &[
            "probe-kit",
            "probe-glue",
            "probe-hostile",
            "probe-v0-1",
            "probe-ping",
            "probe-rdp",
            "probe-guest-agent",
            "probe-tcp",
        ],
    ),
];

/// Crates that must not be anywhere below one of the workspace.
const BANNED: &[(&str, &[&str])] = &[
    ("vouch-types", &["tokio", "rand", "mio", "socket2"]),
    ("vouch-detector", &["tokio", "mio", "socket2", "rand", "futures-executor", "async-trait", "tracing-subscriber"]),
    ("vouch-manager", &["wasmtime"]),
    ("vouch-node", &["wasmtime", "openraft", "sled", "raft-log"]),
    ("vouch-watcher", &["openraft", "sled", "raft-log"]),
    // The tests of a probe's author are built with it: it stays as small as the host.
    ("vouch-probe-kit", &["openraft", "sled", "raft-log", "tonic", "axum", "clap"]),
    ("xtask", &["wasmtime", "tokio"]),
];

/// Crates that must be nowhere: one crypto provider everywhere, and it is ring.
const NOWHERE: &[&str] = &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];

/// Checks the rules; prints every violation.
pub(crate) fn check() -> Result<()> {
    let graph = Metadata::read()?.graph();
    let violations = violations(&graph);
    if violations.is_empty() {
        println!("deps: {} crates keep the import rules", graph.members.len());
        return Ok(());
    }
    for violation in &violations {
        println!("deps: {violation}");
    }
    bail!("{} violations of the import rules (listed above)", violations.len())
}

fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for member in &graph.members {
        let Some((_, allowed)) = MEMBERS.iter().find(|(name, _)| name == member) else {
            found.push(format!("{member} is not in the table of xtask/src/deps.rs"));
            continue;
        };
        for dependency in graph.direct(member) {
            if graph.members.contains(dependency) && !allowed.contains(&dependency) {
                found.push(format!("{member} must not depend on {dependency}"));
            }
            let owners = OWNED.iter().find(|(name, _)| *name == dependency).map(|(_, owners)| *owners);
            if owners.is_some_and(|owners| !owners.contains(&member.as_str())) {
                found.push(format!(
                    "{member} must not name {dependency}, which belongs to {}",
                    owners.unwrap_or(&[]).join(", ")
                ));
            }
            let only = ONLY.iter().find(|(name, _)| name == member).map(|(_, only)| *only);
            if only.is_some_and(|only| !only.contains(&dependency)) {
                found.push(format!("{member} may name only {}, not {dependency}", only.unwrap_or(&[]).join(", ")));
            }
        }
        let banned = BANNED.iter().filter(|(name, _)| name == member).flat_map(|(_, banned)| banned.iter());
        for crate_name in banned.chain(NOWHERE) {
            if let Some(way) = graph.way(member, crate_name) {
                found.push(format!("{member} must not have {crate_name} below it: {}", way.join(" -> ")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokio_anywhere_below_the_detector_is_told_with_the_way_to_it() {
        let graph = Graph::of(&["vouch-detector"], &[("vouch-detector", "innocent"), ("innocent", "tokio")]);
        assert_eq!(
            violations(&graph),
            ["vouch-detector must not have tokio below it: vouch-detector -> innocent -> tokio"]
        );
    }

    #[test]
    fn a_fourth_dependency_of_types_is_a_violation() {
        let graph = Graph::of(&["vouch-types"], &[("vouch-types", "serde"), ("vouch-types", "regex")]);
        assert_eq!(violations(&graph), ["vouch-types may name only serde, uuid, thiserror, not regex"]);
    }

    #[test]
    fn the_manager_may_name_openraft_and_the_node_may_not() {
        let graph =
            Graph::of(&["vouch-manager", "vouch-node"], &[("vouch-manager", "openraft"), ("vouch-node", "openraft")]);
        let found = violations(&graph);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|violation| violation.starts_with("vouch-node")), "{found:?}");
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_a_violation() {
        let graph = Graph::of(&["vouch-new"], &[]);
        assert_eq!(violations(&graph), ["vouch-new is not in the table of xtask/src/deps.rs"]);
    }

    #[test]
    fn node_and_manager_must_not_know_each_other() {
        let graph = Graph::of(&["vouch-manager", "vouch-node"], &[("vouch-node", "vouch-manager")]);
        assert_eq!(violations(&graph), ["vouch-node must not depend on vouch-manager"]);
    }
}
