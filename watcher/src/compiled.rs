//! The native code of custom probes, as this watcher compiled it: a folder of its own, so that a probe that is needed again,
//! or by the next watcher of the same node, is not compiled again.
//!
//! A file is found by the SHA-256 of the component and by the hash of the engine that compiled it, and begins with the
//! SHA-256 of the rest. What is damaged, or was left by a watcher of another version, is never loaded; of what nobody asked
//! for longest, the folder is kept below its limit. Nothing that came over the wire gets there: a watcher takes components
//! alone, and compiles them itself. Who may write into this folder may write into the memory of a watcher as well, so it is
//! refused unless it belongs to this user alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::geteuid;
use tracing::warn;
use vouch_probe_host::{Manifest, Probe, ProbeHost, digest_of};
use vouch_types::Digest;

/// How a file's name ends.
const ENDING: &str = "cwasm";
/// Length of the SHA-256 that a file begins with.
const HEAD: usize = 32;
/// Rights of others on the folder, none of which they may have.
const OTHERS_WRITE: u32 = 0o022;

/// Native code that this watcher, or one before it, compiled.
#[derive(Debug)]
pub struct Compiled {
    folder: PathBuf,
    /// In what the names of files end that this engine made.
    engine: String,
    /// The most bytes of all files together.
    most: u64,
}

/// A file of the folder.
struct Kept {
    used: SystemTime,
    size: u64,
    path: PathBuf,
}

impl Compiled {
    /// Opens the folder, which is made if it is not there, for code of the engine of this host.
    ///
    /// # Errors
    /// When it cannot be made, is none, belongs to another user, or others may write into it.
    pub fn open(folder: &Path, host: &ProbeHost, most: u64) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
        // Where it leads to another place, that one's owner is who counts.
        let found = fs::symlink_metadata(folder)?;
        let refused = |why: &str| Err(io::Error::new(ErrorKind::PermissionDenied, why.to_owned()));
        if !found.is_dir() {
            return refused("must be a folder, and no link to one");
        }
        if found.uid() != geteuid().as_raw() {
            return refused("belongs to another user");
        }
        if found.mode() & OTHERS_WRITE != 0 {
            return refused("others may write into it (must be mode 0700)");
        }
        Ok(Self { folder: folder.to_owned(), engine: host.engine_hash().to_string(), most })
    }

    fn path(&self, component: &Digest) -> PathBuf {
        self.folder.join(format!("{component}.{}.{ENDING}", self.engine))
    }

    /// Loads the probe that was compiled from this component, if it was.
    pub fn load(&self, host: &ProbeHost, component: &Digest) -> Option<Probe> {
        let path = self.path(component);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), %error, "native code cannot be read");
                return None;
            }
        };
        match load(host, &bytes) {
            Ok(probe) => {
                // What is used is thrown away last; if that cannot be noted, it is thrown away sooner.
                let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(probe)
            }
            Err(why) => {
                warn!(path = %path.display(), reason = why, "native code is thrown away");
                self.remove(component);
                None
            }
        }
    }

    /// Removes what was compiled from this component.
    pub fn remove(&self, component: &Digest) {
        // Another watcher of this node may have been first.
        let _ = fs::remove_file(self.path(component));
    }

    /// Keeps what was compiled from this component, and throws others away where they are too many.
    ///
    /// # Errors
    /// When it cannot be written, or is larger than all may be.
    pub fn keep(&self, component: &Digest, native: &[u8]) -> io::Result<()> {
        let size = (HEAD + native.len()) as u64;
        let left = self.most.checked_sub(size).ok_or_else(|| {
            let text = format!("{size} bytes: all files together may have {}", self.most);
            io::Error::new(ErrorKind::FileTooLarge, text)
        })?;
        self.shrink_to(left)?;
        let path = self.path(component);
        let unfinished = self.folder.join(format!("{component}.{}", std::process::id()));
        let write = || {
            // Left by a watcher that was killed and had this process's number.
            let _ = fs::remove_file(&unfinished);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(digest_of(native).as_bytes())?;
            file.write_all(native)?;
            // Not flushed: what a loss of power leaves of it is not what its head says.
            fs::rename(&unfinished, &path)
        };
        write().inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    /// Throws away what was used longest ago, until all files together have so many bytes at most.
    fn shrink_to(&self, most: u64) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // One that has just been thrown away by another watcher takes nothing.
            let Ok(found) = entry.metadata() else { continue };
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            kept.push(Kept { used, size: found.len(), path: entry.path() });
        }
        kept.sort_by_key(|file| file.used);
        let mut all: u64 = kept.iter().map(|file| file.size).sum();
        for Kept { size, path, .. } in kept {
            if all <= most {
                break;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => all -= size,
            }
        }
        Ok(())
    }
}

fn load(host: &ProbeHost, bytes: &[u8]) -> Result<Probe, String> {
    let (head, native) = bytes.split_at_checked(HEAD).ok_or("it is shorter than its head")?;
    let said = Digest::new(head.try_into().map_err(|_| "its head is none")?);
    // The manifest holds what this user's watchers wrote; that the bytes are those is checked against it.
    host.load_native(native, &Manifest::from_iter([said])).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    use vouch_probe_host::HostLimits;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn host() -> ProbeHost {
        ProbeHost::new(HostLimits { concurrency: 4, ..HostLimits::default() }).unwrap()
    }

    fn opened(folder: &Path, most: u64) -> (ProbeHost, Compiled) {
        let host = host();
        let compiled = Compiled::open(folder, &host, most).unwrap();
        (host, compiled)
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    const ONE: Digest = Digest::new([1; 32]);
    const TWO: Digest = Digest::new([2; 32]);
    const THREE: Digest = Digest::new([3; 32]);

    #[tokio::test]
    async fn what_was_compiled_is_loaded_by_another_host_and_only_for_its_own_component() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/compiled");
        let (first, compiled) = opened(&folder, MIB);
        let (_, native) = first.compile_to_keep(vouch_probe_bundle::by_name("tcp").unwrap().bytes).unwrap();
        compiled.keep(&ONE, &native).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(compiled.path(&ONE)).unwrap().permissions().mode() & 0o777, 0o600);

        let (second, compiled) = opened(&folder, MIB);
        assert_eq!(compiled.load(&second, &ONE).unwrap().describe().await.unwrap().name, "tcp");
        assert!(compiled.load(&second, &TWO).is_none());
    }

    #[test]
    fn what_is_damaged_cut_short_or_of_another_engine_is_thrown_away_and_never_run() {
        let dir = tempfile::tempdir().unwrap();
        let (host, compiled) = opened(dir.path(), MIB);
        let (_, native) = host.compile_to_keep(vouch_probe_bundle::by_name("tcp").unwrap().bytes).unwrap();
        compiled.keep(&ONE, &native).unwrap();
        let path = compiled.path(&ONE);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        // Its head is right, and yet the engine did not make it.
        let foreign = [digest_of(b"\x7fELF").as_bytes().as_slice(), b"\x7fELF"].concat();
        for bad in [flipped, whole[..whole.len() - 1].to_vec(), whole[..HEAD - 1].to_vec(), Vec::new(), foreign] {
            fs::write(&path, &bad).unwrap();
            assert!(compiled.load(&host, &ONE).is_none());
            assert!(!path.exists());
        }
        let other = Compiled { engine: "0".repeat(64), ..opened(dir.path(), MIB).1 };
        other.keep(&ONE, &native).unwrap();
        assert!(compiled.load(&host, &ONE).is_none(), "of another engine");
        assert_eq!(files(dir.path()), [other.path(&ONE)], "which may still run beside this one");
    }

    #[test]
    fn the_folder_stays_below_its_limit_and_what_was_used_last_stays_longest() {
        let dir = tempfile::tempdir().unwrap();
        let (host, compiled) = opened(dir.path(), MIB);
        let (_, native) = host.compile_to_keep(vouch_probe_bundle::by_name("tcp").unwrap().bytes).unwrap();
        let compiled = Compiled { most: 2 * (HEAD + native.len()) as u64, ..compiled };
        for (component, age) in [(ONE, 60), (TWO, 30)] {
            compiled.keep(&component, &native).unwrap();
            let file = File::options().append(true).open(compiled.path(&component)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        assert!(compiled.load(&host, &ONE).is_some(), "used now");
        compiled.keep(&THREE, &native).unwrap();
        assert_eq!(files(dir.path()), [compiled.path(&ONE), compiled.path(&THREE)]);
        let too_large = compiled.keep(&TWO, &vec![0; 2 * native.len() + 64]).unwrap_err();
        assert!(too_large.to_string().ends_with(&format!("all files together may have {}", compiled.most)));
        assert_eq!(files(dir.path()).len(), 2, "nothing is thrown away for what does not fit");
    }

    #[test]
    fn a_folder_that_others_may_write_into_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (open, file, link) = (dir.path().join("open"), dir.path().join("file"), dir.path().join("link"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o770)).unwrap();
        fs::write(&file, "").unwrap();
        symlink(dir.path(), &link).unwrap();
        let refused = |folder: &Path| Compiled::open(folder, &host(), MIB).unwrap_err().to_string();
        assert_eq!(refused(&open), "others may write into it (must be mode 0700)");
        assert_eq!(refused(&link), "must be a folder, and no link to one");
        assert!(!refused(&file).is_empty());
    }
}
