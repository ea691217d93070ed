//! The data folder of a manager: readable by its owner alone, and the place where the manager counts its lives.
//!
//! The log, the state and the snapshots hold the CA's key and the grant key in the clear. Whoever may read them may
//! pass for any member, so the folder is closed to everybody else before anything is opened in it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use vouch_types::{Incarnation, WallTime};

use crate::store::folders::sync_folder;

/// Mode of the data folder.
const FOLDER_MODE: u32 = 0o700;
/// Bits of a mode that let others than the owner in.
const OTHERS: u32 = 0o077;
/// Holds the number of the last life, in decimal.
const LIFE: &str = "incarnation";

/// The data folder cannot be used.
#[derive(Debug, Error)]
pub enum DataFolderError {
    /// A step failed.
    #[error("data_dir: {path:?} {step}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The count of lives is not a number.
    #[error("data_dir: {path:?} must hold the number of this manager's last life, and holds {found:?}")]
    Life {
        /// Which file.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
}

pub(crate) fn at(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> DataFolderError {
    let path = path.to_owned();
    move |source| DataFolderError::File { path, step, source }
}

/// Makes the folder if it is missing, and closes it to everybody but its owner.
///
/// # Errors
/// [`DataFolderError`] when it can be neither made nor closed: then nothing may be written into it.
pub fn prepare(folder: &Path) -> Result<(), DataFolderError> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(at(parent, "cannot be made"))?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(at(folder, "cannot be made")(e)),
    }
    let mode = fs::metadata(folder).map_err(at(folder, "cannot be read"))?.permissions().mode();
    if mode & OTHERS != 0 {
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
            .map_err(at(folder, "is open to others than its owner, and cannot be closed to them (chmod 0700)"))?;
        let before = format!("{:04o}", mode & 0o7777);
        tracing::warn!(
            ?folder,
            before,
            now = "0700",
            "data folder was open to others: closed, it holds the cluster's keys"
        );
    }
    Ok(())
}

/// Returns the number of the life that begins now, once it is on disk: higher than every earlier one, wherever the
/// wall clock has gone meanwhile.
///
/// # Errors
/// [`DataFolderError`] when the count cannot be read or kept.
pub fn next_life(folder: &Path, now: WallTime) -> Result<Incarnation, DataFolderError> {
    let path = folder.join(LIFE);
    let last = match fs::read_to_string(&path) {
        Ok(text) => {
            text.trim().parse::<u64>().map_err(|_| DataFolderError::Life { path: path.clone(), found: text })?
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(at(&path, "cannot be read")(e)),
    };
    let life = last.saturating_add(1).max(now.as_unix_millis());
    put(folder, LIFE, &format!("{life}\n"))?;
    Ok(Incarnation::new(life))
}

/// Puts a file of the folder in place of the one of its name, whole and for good.
pub(crate) fn put(folder: &Path, name: &str, text: &str) -> Result<(), DataFolderError> {
    let (path, beside) = (folder.join(name), folder.join(format!("{name}.new")));
    let mut file = File::create(&beside).map_err(at(&beside, "cannot be made"))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&beside, "cannot be written"))?;
    fs::rename(&beside, &path).map_err(at(&path, "cannot be put in place"))?;
    sync_folder(folder).map_err(at(folder, "cannot be flushed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_data_folder_is_its_owners_alone_whether_made_or_found() {
        let home = tempfile::tempdir().unwrap();
        let made = home.path().join("below").join("m1");
        prepare(&made).unwrap();
        assert_eq!(mode(&made), 0o700);
        let found = home.path().join("m2");
        fs::create_dir(&found).unwrap();
        fs::set_permissions(&found, Permissions::from_mode(0o755)).unwrap();
        prepare(&found).unwrap();
        assert_eq!(mode(&found), 0o700);
    }

    #[test]
    fn a_life_is_later_than_the_last_one_even_when_the_clock_was_set_back() {
        let home = tempfile::tempdir().unwrap();
        let at = WallTime::from_unix_millis;
        assert_eq!(next_life(home.path(), at(1_000)).unwrap(), Incarnation::new(1_000));
        assert_eq!(next_life(home.path(), at(400)).unwrap(), Incarnation::new(1_001));
        assert_eq!(next_life(home.path(), at(5_000)).unwrap(), Incarnation::new(5_000));
        fs::write(home.path().join(LIFE), "many").unwrap();
        let refused = next_life(home.path(), at(6_000)).expect_err("refused").to_string();
        assert!(refused.contains("many") && refused.contains(LIFE), "{refused}");
    }
}
