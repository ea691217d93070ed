//! What a component may import, by name. Managers refuse everything else when a component is uploaded, and the probe host
//! once more before it runs one.

/// What a probe may import: full names, or with `.` at the end the beginning of one, for every patch of WASI 0.2 and every
/// 1.x of the contract.
const ALLOWED_IMPORTS: &[&str] = &[
    "vouch:probe/types@1.",
    "vouch:probe/icmp@1.",
    "vouch:probe/tcp@1.",
    "vouch:probe/guest-agent@1.",
    "vouch:probe/tls@1.",
    "vouch:probe/log@1.",
    "vouch:probe/types@0.1.0",
    "vouch:probe/icmp@0.1.0",
    "vouch:probe/guest-agent@0.1.0",
    "vouch:probe/log@0.1.0",
    "wasi:sockets/instance-network@0.2.",
    "wasi:sockets/network@0.2.",
    "wasi:sockets/tcp@0.2.",
    "wasi:sockets/tcp-create-socket@0.2.",
    "wasi:sockets/udp@0.2.",
    "wasi:sockets/udp-create-socket@0.2.",
    // Named by the standard library of guests that use sockets; the host answers every lookup with "denied".
    "wasi:sockets/ip-name-lookup@0.2.",
    "wasi:clocks/monotonic-clock@0.2.",
    "wasi:clocks/wall-clock@0.2.",
    "wasi:random/random@0.2.",
    "wasi:random/insecure@0.2.",
    "wasi:random/insecure-seed@0.2.",
    "wasi:io/error@0.2.",
    "wasi:io/poll@0.2.",
    "wasi:io/streams@0.2.",
    // Every guest of a language with a standard library names these. They are empty: no folder is open, no variable is
    // set, standard input is closed.
    "wasi:filesystem/preopens@0.2.",
    "wasi:filesystem/types@0.2.",
    "wasi:cli/environment@0.2.",
    "wasi:cli/exit@0.2.",
    "wasi:cli/stdin@0.2.",
    "wasi:cli/stdout@0.2.",
    "wasi:cli/stderr@0.2.",
    "wasi:cli/terminal-input@0.2.",
    "wasi:cli/terminal-output@0.2.",
    "wasi:cli/terminal-stdin@0.2.",
    "wasi:cli/terminal-stdout@0.2.",
    "wasi:cli/terminal-stderr@0.2.",
];

/// Returns whether a probe may import this interface. One that is newer than the host links as long as the component uses
/// nothing of it that is new.
pub fn may_import(interface: &str) -> bool {
    ALLOWED_IMPORTS
        .iter()
        .any(|allowed| if allowed.ends_with('.') { interface.starts_with(allowed) } else { interface == *allowed })
}

/// Returns what a probe may import, for people.
pub fn allowed() -> impl Iterator<Item = &'static str> {
    ALLOWED_IMPORTS.iter().map(|name| name.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_names_and_versions() {
        assert!(allowed().all(|name| name.contains('@') && name.ends_with(|c: char| c.is_ascii_digit())));
    }

    #[test]
    fn what_is_not_on_the_list_is_refused() {
        assert!(may_import("wasi:sockets/tcp@0.2.6") && may_import("wasi:clocks/wall-clock@0.2.3"));
        assert!(may_import("vouch:probe/icmp@0.1.0"));
        assert!(may_import("vouch:probe/tls@1.0.0") && may_import("vouch:probe/icmp@1.2.0"));
        for other in [
            "wasi:http/outgoing-handler@0.2.6",
            "wasi:http/types@0.2.0",
            "wasi:sockets/tcp@0.3.0",
            "wasi:sockets/tcp",
            "vouch:probe/icmp@0.2.0",
            "vouch:probe/tls@0.1.0",
            "vouch:probe/icmp@2.0.0",
            "vouch:probe/check@1.0.0",
            "vouch:other/x",
            "env",
        ] {
            assert!(!may_import(other), "{other}");
        }
    }
}
