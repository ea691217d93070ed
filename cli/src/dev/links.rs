//! The links of the loopback cluster: their names, and which of them a pattern means.
//!
//! ```text
//!  n1-m1        agent of node n1 -> manager m1, management network
//!  m1-m2        manager m1 -> manager m2, management network     m1-m2.svc  service network
//!  w@n1-m1      watchers on n1 -> manager m1, management         w@n1-m1.svc
//!  w@n1-n2      watchers on n1 -> relay of node n2 (w@n1-n1: the local bridge)
//!  w-vm:desk-1  watchers -> the VM's service address
//! ```
//!
//! Pure.

use serde::{Deserialize, Serialize};

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// It carries.
    Open,
    /// What is sent is lost, and nobody is told: as if packets were dropped.
    Cut,
    /// Connections are reset and refused: as if the cable were out.
    NoCarrier,
}

impl LinkState {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cut => "cut",
            Self::NoCarrier => "no carrier",
        }
    }
}

/// Returns whether a pattern, in which `*` stands for any text, means this name.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            match rest.find(middle) {
                Some(at) => rest = &rest[at + middle.len()..],
                None => return false,
            }
        }
    }
    match last {
        None => rest.is_empty(),
        Some(end) => rest.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_the_story_needs() {
        for (pattern, name) in [
            ("n1-m1", "n1-m1"),
            ("n1-m*", "n1-m3"),
            ("*", "w@n1-n2"),
            ("*n1*", "w@n1-n2"),
            ("w@*-m1.svc", "w@n2-m1.svc"),
            ("w-vm:*", "w-vm:desk-1"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("n1-m1", "n1-m1.svc"),
            ("n1-m1", "w@n1-m1"),
            ("n1-m*", "w@n1-m1"),
            ("n1-m*", "n2-m1"),
            ("", "n1-m1"),
            ("n1*n1", "n1"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
