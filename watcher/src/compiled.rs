//! The native code of custom probes, as this watcher compiled it: a folder of its own, so that a probe that is needed again,
//! or by the next watcher of the same node, is not compiled again.
//!
//! A file is found by the SHA-256 of the component and by the hash of the engine that compiled it, and begins with the
//! SHA-256 of the rest. What is damaged is thrown away and never loaded; what was loaded longest ago goes first where all
//! files together would have more than they may. Nothing that came over the wire gets there: a watcher takes components
//! alone, and compiles them itself. Who may write a file here may write into the memory of a watcher as well, so folder and
//! files must belong to this user, and nobody else may write to them. Other files in the folder are left alone.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;
use rustix::process::geteuid;
use thiserror::Error;
use tracing::warn;
use vouch_probe_host::{LoadError, Manifest, Probe, ProbeHost, digest_of};
use vouch_types::Digest;

/// How the name of a finished file ends.
const FINISHED: &str = ".cwasm";
/// How the name of a file ends that is being written.
const UNFINISHED: &str = ".unfinished";
/// Length of the SHA-256 that a file begins with.
const HEAD: usize = 32;
/// Rights to write that others must not have.
const OTHERS_WRITE: u32 = 0o022;

/// Where what is compiled is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompiledFolder<'a> {
    /// The folder, for this alone; made if it is not there.
    pub path: &'a Path,
    /// The most bytes of all files together.
    pub most_bytes: u64,
}

/// Why what is compiled is not kept.
#[derive(Debug, Error)]
pub enum CompiledError {
    /// The folder cannot be made or looked at, or a file in it cannot be written.
    #[error("compiled probes in {path}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could put native code there.
    #[error("compiled probes in {path}: {found}: must be a folder of this user into which nobody else may write")]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// It is larger than all files together may be.
    #[error("native code of {bytes} bytes: all files together may have {most_bytes}")]
    TooLarge {
        /// Its size, with its head.
        bytes: u64,
        /// The limit.
        most_bytes: u64,
    },
}

/// Native code that this watcher, or one before it, compiled.
#[derive(Debug)]
pub struct Compiled {
    folder: PathBuf,
    /// The hash of the engine.
    engine: Digest,
    most_bytes: u64,
}

/// A file of the folder.
struct Kept {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

/// Why a file is not loaded.
enum NotLoaded {
    /// It is not there, or was not looked at; the next look may find it.
    Absent,
    /// It is not what was kept.
    Bad(String),
}

impl Compiled {
    /// Opens the folder, for code of the engine of this host.
    ///
    /// # Errors
    /// [`CompiledError`] when it cannot be made, is none, belongs to another user, or others may write into it.
    pub fn open(folder: CompiledFolder<'_>, host: &ProbeHost) -> Result<Self, CompiledError> {
        let CompiledFolder { path, most_bytes } = folder;
        let failed = |source| CompiledError::Io { path: path.to_owned(), source };
        DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(failed)?;
        // Not followed: where a link leads may change.
        let found = fs::symlink_metadata(path).map_err(failed)?;
        let is = if found.is_dir() { not_ours(&found) } else { Some("a link or a file".to_owned()) };
        match is {
            Some(found) => Err(CompiledError::NotOurs { path: path.to_owned(), found }),
            None => Ok(Self { folder: path.to_owned(), engine: host.engine_hash(), most_bytes }),
        }
    }

    fn path(&self, component: &Digest) -> PathBuf {
        self.folder.join(format!("{component}.{}{FINISHED}", self.engine))
    }

    /// Loads the probe that was compiled from this component, if it was.
    pub fn load(&self, host: &ProbeHost, component: &Digest) -> Option<Probe> {
        let path = self.path(component);
        match load(host, &path) {
            Ok(probe) => Some(probe),
            Err(NotLoaded::Absent) => None,
            Err(NotLoaded::Bad(reason)) => {
                warn!(path = %path.display(), reason, "native code is thrown away");
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
    /// [`CompiledError`] when it cannot be written, or is larger than all may be.
    pub fn keep(&self, component: &Digest, native: &[u8]) -> Result<(), CompiledError> {
        let (bytes, most_bytes) = ((HEAD + native.len()) as u64, self.most_bytes);
        let left = most_bytes.checked_sub(bytes).ok_or(CompiledError::TooLarge { bytes, most_bytes })?;
        let kept = self.shrink_to(left).and_then(|()| self.write(component, native));
        kept.map_err(|source| CompiledError::Io { path: self.folder.clone(), source })
    }

    fn write(&self, component: &Digest, native: &[u8]) -> io::Result<()> {
        let path = self.folder.join(format!("{component}.{}{UNFINISHED}", std::process::id()));
        let write = || {
            // Left by a watcher that was killed and had this process's number.
            let _ = fs::remove_file(&path);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(digest_of(native).as_bytes())?;
            file.write_all(native)?;
            // Not flushed: what a loss of power leaves of it is not what its head says.
            fs::rename(&path, self.path(component))
        };
        write().inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// Throws away what was loaded longest ago, until all files together have so many bytes at most.
    fn shrink_to(&self, most_bytes: u64) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            // One that has just been thrown away by another watcher takes nothing.
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if found.is_file() && is_kept(&path) {
                let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                kept.push(Kept { used, bytes: found.len(), path });
            }
        }
        kept.sort_by_key(|file| file.used);
        let mut all: u64 = kept.iter().map(|file| file.bytes).sum();
        for Kept { bytes, path, .. } in kept {
            if all <= most_bytes {
                break;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => all -= bytes,
            }
        }
        Ok(())
    }
}

/// Returns what is wrong with the owner or the rights, if something is.
fn not_ours(found: &Metadata) -> Option<String> {
    if found.uid() != geteuid().as_raw() {
        return Some(format!("it belongs to user {}", found.uid()));
    }
    (found.mode() & OTHERS_WRITE != 0).then(|| format!("its mode is {:04o}", found.mode() & 0o7777))
}

/// Returns whether a file of this name is one that a watcher wrote.
fn is_kept(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_digest = |text: &str| text.parse::<Digest>().is_ok();
    let of = |ending| name.strip_suffix(ending).and_then(|name: &str| name.split_once('.'));
    of(FINISHED).is_some_and(|(component, engine)| is_digest(component) && is_digest(engine))
        || of(UNFINISHED).is_some_and(|(component, process)| is_digest(component) && process.parse::<u32>().is_ok())
}

fn load(host: &ProbeHost, path: &Path) -> Result<Probe, NotLoaded> {
    let unread = |error: io::Error| {
        if error.kind() != ErrorKind::NotFound {
            warn!(path = %path.display(), %error, "native code cannot be read");
        }
        NotLoaded::Absent
    };
    // Not a link, and not waited for should somebody have put a pipe there.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unread)?;
    let found = file.metadata().map_err(unread)?;
    let is = if found.is_file() { not_ours(&found) } else { Some("it is no file".to_owned()) };
    if let Some(is) = is {
        return Err(NotLoaded::Bad(is));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unread)?;
    let (head, native) = bytes.split_at_checked(HEAD).ok_or_else(|| NotLoaded::Bad("it is cut short".to_owned()))?;
    let said = Digest::new(head.try_into().map_err(|_| NotLoaded::Absent)?);
    // Owner and rights show that a watcher of this user wrote it; its head shows that all of it is there, as it was.
    match host.load_native(native, &Manifest::from_iter([said])) {
        Ok(probe) => {
            note_use(path);
            Ok(probe)
        }
        Err(error @ (LoadError::NotInManifest { .. } | LoadError::Incompatible { .. })) => {
            Err(NotLoaded::Bad(error.to_string()))
        }
        Err(error) => {
            warn!(path = %path.display(), %error, "native code is not loaded");
            Err(NotLoaded::Absent)
        }
    }
}

/// What is used goes last; if that cannot be noted, it goes sooner.
fn note_use(path: &Path) {
    let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
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
        let compiled = Compiled::open(CompiledFolder { path: folder, most_bytes: most }, &host).unwrap();
        (host, compiled)
    }

    fn native(host: &ProbeHost) -> Vec<u8> {
        host.compile_to_keep(vouch_probe_bundle::by_name("tcp").unwrap().bytes).unwrap().1.unwrap()
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
        let native = native(&first);
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
        let native = native(&host);
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
        let other = Compiled { engine: THREE, ..opened(dir.path(), MIB).1 };
        other.keep(&ONE, &native).unwrap();
        assert!(compiled.load(&host, &ONE).is_none(), "of another engine");
        assert_eq!(files(dir.path()), [other.path(&ONE)], "which may still run beside this one");
    }

    #[test]
    fn the_folder_stays_below_its_limit_and_what_was_used_last_stays_longest() {
        let dir = tempfile::tempdir().unwrap();
        let (host, compiled) = opened(dir.path(), MIB);
        let native = native(&host);
        let compiled = Compiled { most_bytes: 2 * (HEAD + native.len()) as u64, ..compiled };
        // What is not a watcher's is neither counted nor thrown away.
        let others = ["node.json", "a.cwasm", "notes.1.unfinished"].map(|name| dir.path().join(name));
        others.iter().for_each(|path| fs::write(path, vec![0; native.len()]).unwrap());
        fs::create_dir(dir.path().join("folder")).unwrap();
        let unfinished = dir.path().join(format!("{ONE}.4711{UNFINISHED}"));
        fs::write(&unfinished, vec![0; native.len()]).unwrap();
        File::options().append(true).open(&unfinished).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        for (component, age) in [(ONE, 60), (TWO, 30)] {
            compiled.keep(&component, &native).unwrap();
            let file = File::options().append(true).open(compiled.path(&component)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        assert!(compiled.load(&host, &ONE).is_some(), "used now");
        compiled.keep(&THREE, &native).unwrap();
        let cwasm = || files(dir.path()).into_iter().filter(|path| is_kept(path)).collect::<Vec<_>>();
        assert_eq!(cwasm(), [compiled.path(&ONE), compiled.path(&THREE)]);
        assert!(others.iter().all(|path| path.exists()));
        let too_large = compiled.keep(&TWO, &vec![0; 2 * native.len() + 64]).unwrap_err();
        assert!(too_large.to_string().ends_with(&format!("all files together may have {}", compiled.most_bytes)));
        assert_eq!(cwasm().len(), 2, "nothing is thrown away for what does not fit");
    }

    #[test]
    fn what_others_may_write_to_is_refused_be_it_the_folder_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("open")).unwrap();
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o770)).unwrap();
        symlink(dir.path(), path("link")).unwrap();
        let refused = |path: &Path| {
            let folder = CompiledFolder { path, most_bytes: MIB };
            Compiled::open(folder, &host()).unwrap_err().to_string()
        };
        assert!(refused(&path("open")).contains("its mode is 0770"), "{}", refused(&path("open")));
        assert!(refused(&path("link")).contains("a link or a file"));

        let (host, compiled) = opened(&path("ours"), MIB);
        let kept = compiled.path(&ONE);
        // Put there while others could: what it says of itself is right.
        compiled.keep(&ONE, &native(&host)).unwrap();
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o660)).unwrap();
        assert!(compiled.load(&host, &ONE).is_none() && !kept.exists());
        symlink(path("elsewhere"), &kept).unwrap();
        assert!(compiled.load(&host, &ONE).is_none());
    }
}
