//! A file that is replaced whole or not at all: written beside its place, flushed, renamed, and the folder flushed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Mode of a file that only its owner may read.
const PRIVATE: u32 = 0o600;

/// Who may read a file once it is in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readers {
    /// Its owner alone (0600).
    Owner,
    /// Those of the file that it replaces; of one that was not there before, its owner alone.
    AsBefore,
}

/// A file could not be put in place.
#[derive(Debug, Error)]
#[error("{}: cannot be {step}", path.display())]
pub struct PutError {
    path: PathBuf,
    step: &'static str,
    #[source]
    source: io::Error,
}

/// Puts a file in place. Until then it stands beside its place, under its own name with `beside` at the end: two who
/// put the same file at once must not share that.
///
/// # Errors
/// [`PutError`] names file and step; what was there is there still, but where the folder alone could not be flushed.
pub fn put(path: &Path, beside: &str, readers: Readers, bytes: &[u8]) -> Result<(), PutError> {
    let at = |path: &Path, step| {
        let path = path.to_owned();
        move |source| PutError { path, step, source }
    };
    let mut name = path.as_os_str().to_owned();
    name.push(beside);
    let beside = PathBuf::from(name);
    let mode = match readers {
        Readers::Owner => PRIVATE,
        Readers::AsBefore => fs::metadata(path).map_or(PRIVATE, |metadata| metadata.permissions().mode() & 0o777),
    };
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(PRIVATE);
    let mut file = options.open(&beside).map_err(at(&beside, "made"))?;
    // One that was left half written has the mode that it was made with: nobody else reads what comes now.
    file.set_permissions(Permissions::from_mode(PRIVATE))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .map_err(at(&beside, "written"))?;
    fs::rename(&beside, path).map_err(at(path, "put in place"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder, "flushed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_also_over_one_that_was_left_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for readers in [Readers::Owner, Readers::AsBefore] {
            for old in [&path, &folder.path().join("secret.new")] {
                fs::write(old, b"old and longer").unwrap();
                fs::set_permissions(old, Permissions::from_mode(0o644)).unwrap();
            }
            put(&path, ".new", readers, b"new").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(mode(&path), if readers == Readers::Owner { PRIVATE } else { 0o644 });
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        }
        put(&folder.path().join("first"), ".new", Readers::AsBefore, b"new").unwrap();
        assert_eq!(mode(&folder.path().join("first")), PRIVATE);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let error = put(&folder.path().join("none").join("x"), ".new", Readers::Owner, b"").unwrap_err().to_string();
        assert!(error.ends_with("none/x.new: cannot be made"), "{error}");
        let path = folder.path().join("x");
        fs::write(&path, b"old").unwrap();
        fs::create_dir(folder.path().join("x.new")).unwrap();
        put(&path, ".new", Readers::Owner, b"new").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
