//! The name of a log, beside its chunks: made when the log is made, and gone with it.
//!
//! Who loses the log loses the name, so that a manager which comes back with another one has forgotten its vote and what
//! it acknowledged. It is made before anything else of the log, and never again while that is there.
//!
//! ```text
//! log/name    UUID, a space, the CRC-32 of the UUID's text in 8 hexadecimal digits, a line feed
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use uuid::Builder;
use vouch_types::LogName;
use vouch_wire::files::{self, PutError, Readers};

use crate::seams::Rng;

/// Name of the file, in the folder of the log.
pub(super) const NAME: &str = "name";

/// The file cannot be read or made.
#[derive(Debug, Error)]
pub(super) enum LogNameError {
    #[error("{path} is damaged")]
    Damaged { path: PathBuf },
    #[error("{path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Put(#[from] PutError),
}

/// Returns a new name.
pub(super) fn draw(rng: &dyn Rng) -> LogName {
    let mut bits = [0; 16];
    rng.fill(&mut bits);
    LogName::new(Builder::from_random_bytes(bits).into_uuid())
}

/// Returns the name of the log in this folder, if it has one.
pub(super) fn read(folder: &Path) -> Result<Option<LogName>, LogNameError> {
    let path = folder.join(NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LogNameError::Read { path, source }),
    };
    let name = std::str::from_utf8(&bytes).ok().and_then(|text| text.split_once(' ')?.0.parse::<LogName>().ok());
    // What would be written for it, byte by byte: nothing that rotted passes for another name.
    name.filter(|name| written(*name).as_bytes() == bytes).map(Some).ok_or(LogNameError::Damaged { path })
}

/// Names the log in this folder anew; the name is there for good when this returns.
pub(super) fn make(folder: &Path, rng: &dyn Rng) -> Result<LogName, LogNameError> {
    let name = draw(rng);
    files::put(&folder.join(NAME), ".new", Readers::Owner, written(name).as_bytes())?;
    Ok(name)
}

fn written(name: LogName) -> String {
    let text = name.to_string();
    let checksum = crc32fast::hash(text.as_bytes());
    format!("{text} {checksum:08x}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::SeededRng;

    #[test]
    fn a_name_is_read_back_and_no_two_logs_have_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let rng = SeededRng::new(1);
        assert_eq!(read(folder.path()).unwrap(), None);
        let first = make(folder.path(), &rng).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(first));
        assert_ne!(make(folder.path(), &rng).unwrap(), first);
    }

    #[test]
    fn a_name_with_any_bit_flipped_or_cut_short_is_damage_and_never_another_name() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &SeededRng::new(1)).unwrap();
        let path = folder.path().join(NAME);
        let bytes = fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bent).unwrap();
            assert!(read(folder.path()).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            let refused = read(folder.path()).expect_err("cut short").to_string();
            assert!(refused.ends_with("name is damaged"), "{refused}");
        }
    }
}
