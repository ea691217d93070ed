//! The bytes of the shipped probes, and the only source of them.
//!
//! Managers hand them out, the image compiles them ahead of time, watchers check their digests: all take them from here.
//! The guests are built by `build.rs`; this crate runs nothing.

use sha2::{Digest as _, Sha256};
use vouch_types::Digest;

/// One shipped probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BundledProbe {
    /// Its name, as it describes itself.
    pub name: &'static str,
    /// Its version, as it describes itself.
    pub version: &'static str,
    /// The component.
    pub bytes: &'static [u8],
    /// The JSON Schema of its settings, as it describes them.
    pub settings_schema: &'static str,
}

impl BundledProbe {
    /// Returns the SHA-256 of the component.
    pub fn digest(&self) -> Digest {
        Digest::new(Sha256::digest(self.bytes).into())
    }
}

macro_rules! bundled {
    ($name:literal) => {
        bundled!($name, include_str!(concat!("../../", $name, "/src/settings.schema.json")))
    };
    ($name:literal, $schema:expr) => {
        BundledProbe {
            name: $name,
            version: env!("CARGO_PKG_VERSION"),
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")),
            settings_schema: $schema,
        }
    };
}

static ALL: [BundledProbe; 9] = [
    bundled!("dns"),
    bundled!("guest-agent"),
    bundled!("http"),
    bundled!("ping"),
    bundled!("rdp"),
    bundled!("spice"),
    bundled!("ssh"),
    bundled!("tcp"),
    bundled!("vnc"),
];

/// Returns the shipped probes, sorted by name.
pub fn all() -> &'static [BundledProbe] {
    &ALL
}

/// Returns the shipped probe of this name.
pub fn by_name(name: &str) -> Option<&'static BundledProbe> {
    ALL.iter().find(|probe| probe.name == name)
}

/// Returns the guest that breaks the rules, for the tests of the probe host. It is not one of [`all`].
#[doc(hidden)]
pub fn hostile() -> BundledProbe {
    bundled!("hostile", "{}")
}

/// Returns a probe that was written for `vouch:probe@0.1.0`, for the tests of the probe host. It is not one of [`all`].
#[doc(hidden)]
pub fn of_the_first_contract() -> BundledProbe {
    bundled!("v0-1", "{}")
}

/// Returns a probe that connects by the sockets of the standard library, for the benchmark. It is not one of [`all`].
#[doc(hidden)]
pub fn with_sockets() -> BundledProbe {
    bundled!("sockets", "{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_probe_is_a_component_with_a_digest_of_its_own() {
        let digests: std::collections::BTreeSet<_> = all().iter().map(BundledProbe::digest).collect();
        assert_eq!(digests.len(), all().len());
        assert!(all().iter().all(|probe| probe.bytes.starts_with(b"\0asm\x0d\0\x01\0")));
        assert!(all().is_sorted_by_key(|probe| probe.name));
    }

    #[test]
    fn no_path_of_the_build_machine_is_in_a_component() {
        let home = std::env::var("HOME").unwrap_or_default();
        for path in [env!("CARGO_MANIFEST_DIR"), &home].into_iter().filter(|path| path.len() > 1) {
            for probe in all() {
                let found = probe.bytes.windows(path.len()).any(|window| window == path.as_bytes());
                assert!(!found, "{} holds {path}", probe.name);
            }
        }
    }
}
