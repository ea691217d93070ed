//! The contract never breaks: every component that was written for a published version fits today's.
//!
//! The judge is the library behind `wasm-tools component semver-check`. What was published is kept as it was, and its
//! digest stands here: a copy that is changed together with the contract would prove nothing.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wit_bindgen_core::wit_parser::{PackageId, Resolve, SourceMap, WorldId};

/// Published versions of `vouch:probe@1`, with the SHA-256 over their files, each as its name and its text.
const PUBLISHED: [(&str, &str); 2] = [
    ("1.0.0", "996574de9ecea345c726b26a289d5c35deddc95c68f13bcf62b461a920c32e63"),
    ("1.1.0", "806a4bebf987f7418589219fd67a3da6b5e75cedf6e67ee36d1540f80c8c58c0"),
];
/// The same of the first contract, which is not developed any more.
const FIRST: &str = "17af51e4b0b1e368763796413f72d5d22ce400e035ae9efe208c71a3b8316b32";

/// The files of one version, by name.
type Sources = BTreeMap<String, String>;

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")
}

fn sources(folder: &Path) -> Sources {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (name_of(&path), fs::read_to_string(&path).unwrap())).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn digest(sources: &Sources) -> String {
    let mut hash = Sha256::new();
    for (name, text) in sources {
        hash.update(format!("{name}\n{text}"));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn current() -> Sources {
    sources(&wit().join("vouch-probe-1"))
}

fn published(version: &str) -> Sources {
    sources(&wit().join("published").join(format!("vouch-probe-{version}")))
}

/// Returns the version in the first line of every file; all have the same.
fn version(sources: &Sources) -> semver::Version {
    let of = |text: &String| {
        let line = text.lines().next().unwrap();
        line.strip_prefix("package vouch:probe@").unwrap().trim_end_matches(';').parse().unwrap()
    };
    let versions: Vec<semver::Version> = sources.values().map(of).collect();
    assert!(versions.windows(2).all(|two| two[0] == two[1]), "{versions:?}");
    versions[0].clone()
}

fn push(resolve: &mut Resolve, sources: &Sources, as_version: &str) -> WorldId {
    let mut map = SourceMap::default();
    for (name, text) in sources {
        // Two packages of one name and version don't go into one graph; the check itself passes over versions.
        let (_, rest) = text.split_once('\n').unwrap();
        map.push_str(name.as_str(), format!("package vouch:probe@{as_version};\n{rest}"));
    }
    let group = map.parse().map_err(|(_, error)| error).unwrap();
    let package: PackageId = resolve.push_group(group).unwrap();
    resolve.select_world(&[package], Some("probe")).unwrap()
}

/// Returns whether a component that was written for `old` fits `new`.
fn fits(old: &Sources, new: &Sources) -> Result<(), String> {
    let mut resolve = Resolve::default();
    let (old, new) = (push(&mut resolve, old, "1.0.0-old"), push(&mut resolve, new, "1.0.0-new"));
    wit_component::semver_check(resolve, old, new).map_err(|error| format!("{error:#}"))
}

/// Returns the contract with a change in one file.
fn changed(file: &str, from: &str, to: &str) -> Sources {
    let mut sources = current();
    let text = sources.get_mut(file).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    *text = text.replace(from, to);
    sources
}

#[test]
fn what_was_published_is_as_it_was() {
    assert_eq!(digest(&sources(&wit().join("vouch-probe-0.1.0"))), FIRST);
    for (version, published_digest) in PUBLISHED {
        assert_eq!(digest(&published(version)), published_digest, "{version}");
    }
}

#[test]
fn components_of_every_published_version_fit_the_contract() {
    let (now, last) = (version(&current()), PUBLISHED.last().unwrap().0);
    assert!(now.major == 1 && now >= last.parse().unwrap(), "{now} after {last}");
    if now == last.parse().unwrap() {
        assert_eq!(current(), published(last), "a version that is published is not written on under the same number");
    }
    for (version, _) in PUBLISHED {
        fits(&published(version), &current()).unwrap_or_else(|why| panic!("{version}: {why}"));
    }
}

#[test]
fn what_breaks_components_in_the_field_is_found() {
    for (what, file, from, to) in [
        ("a field more", "types.wit", "        micros: u64,\n", "        micros: u64,\n        at: u64,\n"),
        ("a case more", "types.wit", "        internal(string),\n", "        internal(string),\n        gone,\n"),
        ("a state more", "types.wit", "        down,\n", "        down,\n        dying,\n"),
        ("another type", "check.wit", "deadline-ms: u32", "deadline-ms: u64"),
        ("a function more to export", "check.wit", "    describe:", "    version: func() -> string;\n    describe:"),
        ("an import less", "probe.wit", "    import tls;\n", ""),
        ("a function less to import", "icmp.wit", "    echo: func(", "    echoes: func("),
        ("a case more of an import's error", "tls.wit", "        refused,\n", "        refused,\n        filtered,\n"),
    ] {
        assert!(fits(&current(), &changed(file, from, to)).is_err(), "{what} fits");
    }
}

#[test]
fn what_breaks_nobody_is_let_through() {
    for (what, file, from, to) in [
        (
            "a function more to import",
            "icmp.wit",
            "    /// Returns the replies",
            "    hops: func() -> u32;\n    /// Returns the replies",
        ),
        (
            "a method more",
            "tls.wit",
            "        /// Returns what the target's own",
            "        peer: func() -> string;\n        /// Returns what the target's own",
        ),
        (
            "an interface more",
            "probe.wit",
            "world probe {\n",
            "interface wake {\n    wake: func();\n}\n\nworld probe {\n    import wake;\n",
        ),
        ("other words", "types.wit", "/// Result of one check.", "/// What came of it."),
    ] {
        fits(&current(), &changed(file, from, to)).unwrap_or_else(|why| panic!("{what}: {why}"));
    }
}
