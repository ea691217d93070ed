//! A wall clock of its own for one process, which a test can set: libfaketime, where it is installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the library lies, on Debian.
const LIBRARIES: &str = "/usr/lib";

/// The wall clock of one process. Monotonic time goes on as it does.
#[derive(Debug, Clone)]
pub struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    /// Returns the clock that follows `file`, which is made if need be; `None` where the library is not installed.
    ///
    /// # Errors
    /// Fails if the file can't be written.
    pub fn following(file: &Path) -> Result<Option<Self>> {
        let Some(library) = library() else { return Ok(None) };
        let clock = Self { library, file: file.to_owned() };
        if !file.exists() {
            clock.set(0)?;
        }
        Ok(Some(clock))
    }

    /// Sets it by so many seconds from the machine's.
    ///
    /// # Errors
    /// Fails if its file can't be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // A process may read it at any time.
        let new = self.file.with_extension("new");
        let written = fs::write(&new, format!("{seconds:+}\n")).and_then(|()| fs::rename(&new, &self.file));
        written.with_context(|| format!("can't write {}", self.file.display()))
    }

    /// Returns what has to be in the environment of the process.
    pub fn environment(&self) -> [(&'static str, &Path); 4] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_CACHE_DURATION", Path::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        ]
    }
}

fn library() -> Option<PathBuf> {
    let triples = fs::read_dir(LIBRARIES).ok()?;
    let mut files = triples.filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    files.find(|file| file.is_file())
}
