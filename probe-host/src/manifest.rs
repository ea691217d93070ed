//! The list of native code that may be loaded.
//!
//! Native code runs with the rights of the process, so it is taken only if its SHA-256 stands in a list that came with
//! the image, or that the watcher wrote itself when it compiled.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use vouch_types::Digest;

/// SHA-256 of every piece of native code that may be loaded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    digests: BTreeSet<Digest>,
}

impl Manifest {
    /// Adds one piece of native code.
    pub fn insert(&mut self, digest: Digest) {
        self.digests.insert(digest);
    }

    /// Returns whether this native code may be loaded.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }
}

impl FromIterator<Digest> for Manifest {
    fn from_iter<I: IntoIterator<Item = Digest>>(digests: I) -> Self {
        Self { digests: digests.into_iter().collect() }
    }
}

/// Returns the SHA-256 of these bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}
