//! Remembers from which inputs an image was made, so that unchanged inputs cost no work.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// A file with the digest of the inputs from which the files beside it were made.
#[derive(Debug)]
pub(crate) struct Stamp {
    file: PathBuf,
    digest: String,
}

impl Stamp {
    /// Returns the stamp of these inputs; each is hashed with its length, so that moving bytes between two shows.
    pub(crate) fn of<'a>(file: PathBuf, inputs: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for input in inputs {
            hash.update((input.len() as u64).to_le_bytes());
            hash.update(input);
        }
        Self { file, digest: hex::encode(hash.finalize()) }
    }

    /// Returns true if the same inputs were used last time and the work was finished.
    pub(crate) fn is_fresh(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|found| found == self.digest)
    }

    /// Notes that the work is finished.
    pub(crate) fn write(&self) -> Result<()> {
        fs::write(&self.file, &self.digest).with_context(|| format!("can't write {}", self.file.display()))
    }
}

/// Returns the SHA-256 of some bytes in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_move_from_one_input_to_the_next_change_the_stamp() {
        let one = Stamp::of(PathBuf::new(), [b"ab".as_slice(), b"c"]);
        let two = Stamp::of(PathBuf::new(), [b"a".as_slice(), b"bc"]);
        assert_ne!(one.digest, two.digest);
    }
}
