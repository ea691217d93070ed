//! What a component may import, by name.
//!
//! The standard library of a guest names the files, the environment and the standard streams of WASI, whether its author
//! uses them or not, and the lookup of names as soon as an address is given as text. These are provided and empty: no
//! folder is open, no variable is set, standard input is closed, no name is looked up. Anything that is not on this list is refused before a component ever runs.

/// Our own interfaces.
const OWN: [&str; 4] =
    ["vouch:probe/types@0.1.0", "vouch:probe/icmp@0.1.0", "vouch:probe/guest-agent@0.1.0", "vouch:probe/log@0.1.0"];

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
    let is_wasi = |known: &str| name.strip_prefix(known).is_some_and(|rest| rest.starts_with("@0.2."));
    OWN.contains(&name) || WASI.iter().any(|known| is_wasi(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_on_the_list_is_refused() {
        assert!(may_import("wasi:sockets/tcp@0.2.6"));
        assert!(may_import("vouch:probe/icmp@0.1.0"));
        for other in [
            "wasi:http/outgoing-handler@0.2.6",
            "wasi:sockets/tcp@0.3.0",
            "wasi:sockets/tcp",
            "vouch:probe/icmp@0.2.0",
            "env",
        ] {
            assert!(!may_import(other), "{other}");
        }
    }
}
