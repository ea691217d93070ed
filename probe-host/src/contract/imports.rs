//! What a component may import, by name.
//!
//! The standard library of a guest names the files, the environment and the standard streams of WASI, whether its author
//! uses them or not, and the lookup of names as soon as an address is given as text. These are provided and empty: no
//! folder is open, no variable is set, standard input is closed, no name is looked up. Anything that is not on this list is
//! refused before a component ever runs.

/// Our own interfaces of the first contract.
const FIRST: [&str; 4] =
    ["vouch:probe/types@0.1.0", "vouch:probe/icmp@0.1.0", "vouch:probe/guest-agent@0.1.0", "vouch:probe/log@0.1.0"];

/// Our own interfaces, in any version 1.x. One that is newer than this host links as long as the component uses nothing of
/// it that is new.
const OWN: [&str; 6] = [
    "vouch:probe/types",
    "vouch:probe/icmp",
    "vouch:probe/tcp",
    "vouch:probe/guest-agent",
    "vouch:probe/tls",
    "vouch:probe/log",
];

/// Interfaces of WASI 0.2, in any of its versions.
const WASI: [&str; 27] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Returns whether a component may import this.
pub(crate) fn may_import(name: &str) -> bool {
    let is_of = |known: &&str, version: &str| name.strip_prefix(*known).is_some_and(|rest| rest.starts_with(version));
    FIRST.contains(&name) || OWN.iter().any(|own| is_of(own, "@1.")) || WASI.iter().any(|wasi| is_of(wasi, "@0.2."))
}

/// Returns what a component may import, as a list for people.
pub(crate) fn allowed() -> String {
    let own = OWN.iter().map(|name| format!("{name}@1"));
    own.chain(WASI.iter().map(|name| format!("{name}@0.2"))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_on_the_list_is_refused() {
        assert!(may_import("wasi:sockets/tcp@0.2.6"));
        assert!(may_import("vouch:probe/icmp@0.1.0"));
        assert!(may_import("vouch:probe/tls@1.0.0") && may_import("vouch:probe/icmp@1.2.0"));
        for other in [
            "wasi:http/outgoing-handler@0.2.6",
            "wasi:sockets/tcp@0.3.0",
            "wasi:sockets/tcp",
            "vouch:probe/icmp@0.2.0",
            "vouch:probe/tls@0.1.0",
            "vouch:probe/icmp@2.0.0",
            "vouch:probe/check@1.0.0",
            "env",
        ] {
            assert!(!may_import(other), "{other}");
        }
    }
}
