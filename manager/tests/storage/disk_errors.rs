//! A disk that is full, or refuses: the manager ends with one line that says what failed, tries nothing again, and starts
//! again with all that it acknowledged once the disk is put right.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc;

use rand::SeedableRng;
use rand::rngs::StdRng;

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
fn life(mounted: &Mounted, mode: &str, fail: impl FnOnce(&mut Disk)) -> Life {
    let mut child = writer::start(mounted.path(), mode, 1);
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
                        mounted.disk(fail);
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
    let first = life(&mounted, "consensus", |disk| disk.troubles.push(Trouble { operation, path, errno, times: 0 }));
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
    let second = life(&mounted, "5", |_| {});
    assert_eq!((second.fatal, second.refused), (None, None), "{operation:?} of {path}");
    for (name, count) in &first.done {
        let kept = second.kept.get(name).copied().unwrap_or(0);
        assert!(kept >= *count, "{operation:?} of {path}: {count} of {name} was acknowledged, {kept} is there");
    }
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
