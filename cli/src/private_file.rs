//! Files that hold secrets or may lead to some: readable by their owner alone, and whole or not there at all.

use std::path::Path;

use anyhow::Result;
use vouch_wire::files::{Readers, put};

/// Puts a file in place. One that is there is replaced.
///
/// # Errors
/// Which step failed, on which file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(put(path, ".new", Readers::Owner, bytes)?)
}
