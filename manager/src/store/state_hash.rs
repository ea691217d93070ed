//! A hash of the whole applied state that costs as much as what changes.
//!
//! Every record stands for a number: the first 128 bits of SHA-256 over its key and its bytes in the projection. The hash
//! is their sum, modulo 2^128, so that a changed record is one subtraction and one addition, in any order. Two managers
//! that applied the same log have the same sum; a projection that lost or bent a record has another one than it wrote
//! down. It is no proof against somebody who forges records on purpose: whoever can do that holds the cluster's keys.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::State;
use super::codec::CodecError;
use super::projection::{self, Write};

/// Sums are compared only between equal versions: another one may write the same record in other bytes.
const ENCODING: &str = env!("CARGO_PKG_VERSION");

/// The hash of a state, as it is told and written down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StateDigest {
    encoding: String,
    sum: String,
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sum)
    }
}

impl StateDigest {
    /// Returns the digest that another manager told, in its own encoding.
    pub fn told(encoding: String, sum: String) -> Self {
        Self { encoding, sum }
    }

    /// Returns how the records were written that it was made of.
    pub fn encoding(&self) -> &str {
        &self.encoding
    }

    /// Returns whether both tell the same state, or `None` where they cannot be compared.
    pub fn agrees(&self, other: &Self) -> Option<bool> {
        (self.encoding == other.encoding).then(|| self.sum == other.sum)
    }
}

/// The hash with what it takes to go on from it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StateHash {
    sum: u128,
    parts: BTreeMap<u128, u128>,
}

fn first_128_bits(hash: Sha256) -> u128 {
    let bytes: [u8; 32] = hash.finalize().into();
    u128::from_be_bytes(*bytes.first_chunk().expect("16 of 32 bytes"))
}

impl StateHash {
    /// Returns the hash of a state.
    ///
    /// # Errors
    /// [`CodecError`] when a record cannot be written.
    pub fn of(state: &State) -> Result<Self, CodecError> {
        let mut hash = Self::default();
        for record in projection::records(state) {
            let (key, value) = record?;
            hash.put(&key, Some(&value));
        }
        Ok(hash)
    }

    /// Takes in what becomes of one record.
    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        if projection::is_position(key) {
            return;
        }
        let name = first_128_bits(Sha256::new_with_prefix(key));
        let after = value.map(|value| {
            let key_len = key.len() as u64;
            first_128_bits(Sha256::new_with_prefix(key_len.to_le_bytes()).chain_update(key).chain_update(value))
        });
        let before = match after {
            Some(part) => self.parts.insert(name, part),
            None => self.parts.remove(&name),
        };
        self.sum = self.sum.wrapping_sub(before.unwrap_or(0)).wrapping_add(after.unwrap_or(0));
    }

    pub(super) fn put_all(&mut self, writes: &[Write]) {
        for (key, value) in writes {
            self.put(key, value.as_deref());
        }
    }

    /// Returns the hash as it is told and written down.
    pub fn digest(&self) -> StateDigest {
        StateDigest { encoding: ENCODING.to_owned(), sum: format!("{:032x}", self.sum) }
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::LogIndex;

    use super::*;
    use crate::store::tests::samples;
    use crate::store::{Batch, Position};

    #[test]
    fn following_the_changes_comes_to_the_same_as_hashing_the_whole() {
        let mut state = State::default();
        let mut hash = StateHash::default();
        let mut digests = Vec::new();
        for (index, command) in (1..).zip(samples::every_command()) {
            let (_, changes) = state.apply(LogIndex::new(index), command);
            Batch::of_changes(&state, &changes, &Position::default(), &mut hash).unwrap();
            assert_eq!(hash, StateHash::of(&state).unwrap(), "after command {index}");
            digests.push(hash.digest());
        }
        assert!(digests.windows(2).all(|pair| pair[0] != pair[1] || pair[0].agrees(&pair[1]) == Some(true)));
        assert_ne!(digests.first(), digests.last());
    }

    #[test]
    fn only_digests_of_one_encoding_are_compared() {
        let ours = StateHash::default().digest();
        let theirs = |encoding: &str, sum: &str| StateDigest::told(encoding.to_owned(), sum.to_owned());
        assert_eq!(ours.agrees(&ours.clone()), Some(true));
        assert_eq!(ours.agrees(&theirs(ours.encoding(), "1")), Some(false));
        assert_eq!(ours.agrees(&theirs("another", "1")), None);
    }
}
