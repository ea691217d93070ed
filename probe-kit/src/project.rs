//! A new project of a probe's author, out of templates.
//!
//! The project builds with the ordinary tools of its language and knows nothing of this repository: the contract is
//! copied into it, and the crate of the tests is named by a path or a version. Nothing that exists is ever replaced.

mod language;
mod template;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use vouch_types::ProbeName;

pub use language::Language;

/// Where the project finds the crate for its tests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KitSource {
    /// The release of this version.
    Release,
    /// A folder: that of this crate in a copy of vouch's sources.
    Path(PathBuf),
}

/// Why there is no new project.
#[derive(thiserror::Error, Debug)]
pub enum NewError {
    /// The folder is there.
    #[error("project {folder}: must not exist yet")]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder of the test crate is none.
    #[error("--kit {path}: must be the folder of vouch-probe-kit, and has no Cargo.toml")]
    NoKit {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder cannot be made.
    #[error("project {path}: cannot be made")]
    Make {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes a project of this name in a folder of the same name in `parent`; returns its folder and files.
///
/// # Errors
/// [`NewError`] when the folder exists, the test crate is not where it should be, or a file cannot be written.
pub fn create(
    parent: &Path,
    name: &ProbeName,
    language: Language,
    kit: &KitSource,
) -> Result<(PathBuf, Vec<PathBuf>), NewError> {
    let kit = match kit {
        KitSource::Release => KitSource::Release,
        KitSource::Path(path) => {
            let absolute = path.canonicalize().ok().filter(|path| path.join("Cargo.toml").is_file());
            KitSource::Path(absolute.ok_or_else(|| NewError::NoKit { path: path.clone() })?)
        }
    };
    let folder = parent.join(name.as_str());
    let make = |path: &Path, source| NewError::Make { path: path.to_owned(), source };
    match fs::create_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(NewError::Exists { folder }),
        Err(e) => return Err(make(&folder, e)),
        Ok(()) => {}
    }
    let mut files = Vec::new();
    for (file, bytes) in template::files(name, language, &kit) {
        let path = folder.join(file);
        write_new(&path, &bytes).map_err(|e| make(&path, e))?;
        files.push(path);
    }
    Ok((folder, files))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create_new(path)?.write_all(bytes)
}
