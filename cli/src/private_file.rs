//! Files that hold secrets or may lead to some: readable by their owner alone, and whole or not there at all.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Mode of such a file.
const FILE_MODE: u32 = 0o600;

/// Puts a file in place: written beside it, flushed, renamed. One that is there is replaced.
///
/// # Errors
/// Which step failed, on which file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(&beside).with_context(|| format!("{}: cannot be made", beside.display()))?;
    // One that was left half written keeps the mode that it was made with.
    file.set_permissions(Permissions::from_mode(FILE_MODE))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{}: cannot be written", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("{}: cannot be put in place", path.display()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("{}: cannot be flushed", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_alone_also_over_one_that_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for old in [&path, &folder.path().join("secret.new")] {
            fs::write(old, b"old and longer").unwrap();
            fs::set_permissions(old, Permissions::from_mode(0o644)).unwrap();
        }
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let error = write(&folder.path().join("none").join("x"), b"").unwrap_err().to_string();
        assert!(error.contains("none/x.new"), "{error}");
    }
}
