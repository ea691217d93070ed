//! Licences and sources of all crates, from `cargo metadata`.
//!
//! `cargo deny` does this better, and `deny.toml` is its configuration; this check stands in where cargo-deny isn't
//! installed, because building it takes longer than the gate may. The two lists of licences are kept the same by a test.

use anyhow::{Result, bail};

use crate::metadata::{Metadata, Package};

/// Licences that a crate may have; the same as `licenses.allow` of deny.toml.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks every crate's licence, and that all come from one registry and none from a git repository.
pub(crate) fn check() -> Result<()> {
    let metadata = Metadata::read()?;
    let mut violations = Vec::new();
    let mut registry: Option<&str> = None;
    for package in &metadata.packages {
        let Some(source) = package.source.as_deref() else { continue };
        if !source.starts_with("registry+") || *registry.get_or_insert(source) != source {
            violations.push(format!("{} {} comes from {source}", package.name, package.version));
        }
        violations.extend(violation(package));
    }
    if violations.is_empty() {
        println!("licences: {} crates are in order", metadata.packages.len());
        return Ok(());
    }
    bail!("{}", violations.join("; "))
}

fn violation(package: &Package) -> Option<String> {
    let Package { name, version, license, .. } = package;
    match license {
        None => Some(format!("{name} {version} names no licence")),
        Some(license) if is_allowed(license) => None,
        Some(license) => Some(format!("{name} {version} has the licence {license}, which is not allowed")),
    }
}

/// Returns true if an SPDX expression can be satisfied with allowed licences alone.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let allowed = any(&words, &mut at);
    allowed && at == words.len()
}

fn any(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = all(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        allowed |= all(words, at);
    }
    allowed
}

fn all(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        allowed &= one(words, at);
    }
    allowed
}

fn one(words: &[&str], at: &mut usize) -> bool {
    // A missing word leaves the position behind the end, so that the whole expression isn't taken for understood.
    *at += 1;
    let Some(&word) = words.get(*at - 1) else { return false };
    if word == "(" {
        let allowed = any(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return allowed && closed;
    }
    let mut name = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{word} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
    }
    ALLOWED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_licence_of_several_is_enough() {
        assert!(is_allowed("GPL-3.0-only OR MIT"));
        assert!(is_allowed("MIT/Apache-2.0"));
        assert!(is_allowed("(MIT OR GPL-2.0-only) AND Unicode-3.0"));
        assert!(is_allowed("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT"));
    }

    #[test]
    fn all_of_several_joined_by_and_must_be_allowed() {
        assert!(!is_allowed("MIT AND GPL-3.0-only"));
        assert!(!is_allowed("GPL-3.0-only"));
        assert!(!is_allowed(""));
        assert!(!is_allowed("MIT OR"), "half an expression is not understood, so it is not allowed");
    }

    #[test]
    fn the_list_is_that_of_deny_toml() {
        let text = include_str!("../../deny.toml");
        let list = text.split_once("\nallow = [").and_then(|it| it.1.split_once(']')).expect("a list of licences").0;
        let listed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(listed, ALLOWED);
    }
}
