//! What a VM of the driver `local` says of itself, in a file of its run folder: there is no hypervisor under it that
//! could be asked.
//!
//! The VM writes, the node's agent reads. A file that is not there or not readable is a VM that runs and of whose
//! progress nothing is known.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vouch_types::{HypervisorState, Operation, Progress};

/// The name of the file.
pub(crate) const FILE: &str = "word.json";

/// The word of a local VM on itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalWord {
    pub(crate) state: HypervisorState,
    pub(crate) progress: Progress,
    pub(crate) operation: Option<Operation>,
}

impl LocalWord {
    /// What is said of a VM that has said nothing.
    pub(crate) const NOTHING: Self =
        Self { state: HypervisorState::Running, progress: Progress::Unknown, operation: None };

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, run_dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        let new = run_dir.join("word.new");
        std::fs::write(&new, bytes)?;
        std::fs::rename(new, run_dir.join(FILE))
    }

    /// Returns what the file says.
    pub(crate) fn read(file: &Path) -> Self {
        let bytes = std::fs::read(file).ok();
        bytes.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or(Self::NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::PauseReason;

    use super::*;

    #[test]
    fn a_word_is_read_as_it_was_written_and_a_damaged_one_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        assert_eq!(LocalWord::read(&file), LocalWord::NOTHING);
        let word = LocalWord {
            state: HypervisorState::Paused(PauseReason::IoError),
            progress: Progress::Still,
            operation: Some(Operation::Migration),
        };
        word.write(dir.path()).unwrap();
        assert_eq!(LocalWord::read(&file), word);
        std::fs::write(&file, "{\"state\":").unwrap();
        assert_eq!(LocalWord::read(&file), LocalWord::NOTHING);
    }
}
