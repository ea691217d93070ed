//! A disk that is full, or refuses: the manager ends with one line that says what failed, tries nothing again, and starts
//! again with all that it acknowledged once the disk is put right.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::mount::{MountFlags, UnmountFlags};
use vouch_manager::seams::{FolderSpace, FreeSpace};

use crate::disk::{Disk, Operation, Trouble};
use crate::fuse::Mounted;
use crate::power_loss::{PATIENCE, can_mount};
use crate::writer;

/// How many commands are acknowledged before the disk fails.
const BEFORE: u64 = 60;
/// Each of them asks for no more than once: a failed flush has lost what it was to flush.
const ONCE: u32 = 1;

struct Life {
    done: BTreeMap<String, u64>,
    kept: BTreeMap<String, u64>,
    fatal: Option<String>,
    refused: Option<String>,
}

/// Plays one life of a writer; `fail` is done once it has acknowledged some commands.
fn life(folder: &Path, mode: &str, fail: impl FnOnce()) -> Life {
    let mut child = writer::start(folder, mode, 1);
    let lines = writer::lines(&mut child);
    let mut life = Life { done: BTreeMap::new(), kept: BTreeMap::new(), fatal: None, refused: None };
    let mut fail = Some(fail);
    let mut acknowledged = 0;
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => match line.split_once(' ') {
                Some(("done" | "kept", rest)) => {
                    let (name, count) = rest.split_once(' ').unwrap();
                    let of = if line.starts_with("done") { &mut life.done } else { &mut life.kept };
                    of.insert(name.to_owned(), count.parse().unwrap());
                    acknowledged += u64::from(line.starts_with("done"));
                    if acknowledged == BEFORE
                        && let Some(fail) = fail.take()
                    {
                        fail();
                    }
                }
                Some(("fatal", why)) => life.fatal = Some(why.to_owned()),
                Some(("refused", why)) => life.refused = Some(why.to_owned()),
                Some(_) | None => {}
            },
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("it neither goes on nor ends");
            }
        }
    }
    child.wait().unwrap();
    life
}

fn fails_once_and_starts_again(operation: Operation, path: &'static str, errno: i32, named: &str) {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::mount(Disk::default()).unwrap();
    let trouble = Trouble { operation, path, errno, times: 0 };
    let first = life(mounted.path(), "consensus", || mounted.disk(|disk| disk.troubles.push(trouble)));
    let why = first.fatal.unwrap_or_else(|| panic!("{operation:?} of {path}: it did not end: {:?}", first.refused));
    let _ = writeln!(std::io::stderr(), "{operation:?} of {path}, error {errno}: {why}");
    assert!(why.contains(named), "{operation:?} of {path}: {why}");
    let times = mounted.disk(|disk| disk.troubles.remove(0).times);
    assert!(times >= ONCE, "it failed at all");
    if matches!(operation, Operation::Fsync | Operation::FsyncFolder) {
        assert_eq!(times, ONCE, "{path}: a flush that failed is never tried again");
    }

    // Put right, after the machine was started again.
    let mut rng = StdRng::seed_from_u64(3);
    let mounted = Mounted::mount(mounted.unmount().after_power_loss(&mut rng)).unwrap();
    goes_on(mounted.path(), &first.done, &format!("{operation:?} of {path}"));
}

/// Starts a writer again, which must find all that was acknowledged.
fn goes_on(folder: &Path, done: &BTreeMap<String, u64>, after: &str) {
    let second = life(folder, "5", || {});
    assert_eq!((second.fatal, second.refused), (None, None), "{after}");
    for (name, count) in done {
        let kept = second.kept.get(name).copied().unwrap_or(0);
        assert!(kept >= *count, "{after}: {count} of {name} was acknowledged, {kept} is there");
    }
}

/// A small file system of the kernel's own.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    const SMALL: &CStr = c"size=2m";
    const LARGE: &CStr = c"size=64m";

    fn mount() -> Result<Self, String> {
        let home = tempfile::tempdir().unwrap();
        rustix::mount::mount("vouch-test", home.path(), "tmpfs", MountFlags::empty(), Self::SMALL)
            .map_err(|e| format!("no tmpfs can be mounted here ({e}): it takes root"))?;
        Ok(Self(home))
    }

    fn enlarge(&self) {
        rustix::mount::mount_remount(self.0.path(), MountFlags::empty(), Self::LARGE).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_real_file_system_that_runs_full_ends_the_manager_which_goes_on_once_there_is_room() {
    let tmpfs = match Tmpfs::mount() {
        Ok(tmpfs) => tmpfs,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
            return;
        }
    };
    let folder = tmpfs.0.path();
    let first = life(folder, "consensus", || {});
    let why = first.fatal.unwrap_or_else(|| panic!("it did not end: {:?}", first.refused));
    let _ = writeln!(std::io::stderr(), "full: {why}");
    assert!(why.contains(folder.to_str().unwrap()), "{why}");
    assert!(FolderSpace(folder.to_owned()).free().unwrap() < 1024 * 1024, "the watermark would have seen it");
    tmpfs.enlarge();
    goes_on(folder, &first.done, "a full tmpfs");
}

#[test]
fn a_log_that_cannot_be_flushed_ends_the_manager_at_once() {
    fails_once_and_starts_again(Operation::Fsync, "/log/r-", libc::EIO, "/log");
}

#[test]
fn a_log_that_cannot_be_written_for_lack_of_room_ends_the_manager() {
    fails_once_and_starts_again(Operation::Write, "/log/r-", libc::ENOSPC, "/log");
}

#[test]
fn a_chunk_that_cannot_be_begun_ends_the_manager() {
    fails_once_and_starts_again(Operation::Create, "/log/r-", libc::ENOSPC, "/log");
}

#[test]
fn what_was_acknowledged_and_cannot_be_noted_ends_the_manager() {
    fails_once_and_starts_again(Operation::Write, "/log/acknowledged", libc::EIO, "/log");
}

#[test]
fn a_snapshot_that_cannot_be_written_flushed_or_put_in_place_ends_the_manager() {
    fails_once_and_starts_again(Operation::Write, "/snapshot/snapshot.new", libc::ENOSPC, "/snapshot/snapshot.new");
    fails_once_and_starts_again(Operation::Fsync, "/snapshot/snapshot.new", libc::EIO, "/snapshot/snapshot.new");
    fails_once_and_starts_again(Operation::Rename, "/snapshot/snapshot", libc::EIO, "/snapshot/snapshot");
    fails_once_and_starts_again(Operation::FsyncFolder, "/snapshot", libc::EIO, "/snapshot");
}

#[test]
fn a_projection_that_cannot_be_written_ends_the_manager_or_is_made_again() {
    fails_once_and_starts_again(Operation::Write, "/state/sled", libc::ENOSPC, "/state");
}
