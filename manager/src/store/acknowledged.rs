//! What this manager has acknowledged: its vote, and where its log ended once that was durable.
//!
//! The log alone cannot tell that it lost its end: a length that rotted in the last chunk looks like a torn tail, and is
//! cut. So the end that was told to others is written down beside it, and a log that comes back shorter is found out
//! before it votes. It follows the log and never leads it: it is written after each fsync of the log, without one of its
//! own, so that after a power loss it may say less than the log holds, and never more. Before a truncation it is lowered
//! and flushed.
//!
//! ```text
//! two slots of 64 bytes, one per sector, written in turn; all numbers little-endian
//! "VAK1"  sequence u64  parts u8 (1: vote, 2: last, 4: the vote is committed)
//! vote: term u64, manager u64   last: term u64, index u64   CRC-32 of all before it
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_std::CommittedLeaderId;
use thiserror::Error;

use super::folders::sync_folder;
use crate::raft::{LogId, Vote};

/// Name of the file, in the folder of the log.
pub(super) const NAME: &str = "acknowledged";
const MAGIC: &[u8; 4] = b"VAK1";
const SLOT_LEN: usize = 64;
const SLOT_DISTANCE: u64 = 512;
const HAS_VOTE: u8 = 1;
const HAS_LAST: u8 = 2;
const VOTE_COMMITTED: u8 = 4;
/// The file lags behind a busy log by at most this many entries ...
const LAG_ENTRIES: u64 = 64;
/// ... that were acknowledged within this time of each other.
const LAG_TIME: Duration = Duration::from_micros(100);

/// A vote, and the last entry, that were acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Acknowledged {
    /// The vote.
    pub vote: Option<Vote>,
    /// The last entry.
    pub last: Option<LogId>,
}

/// The file cannot be read.
#[derive(Debug, Error)]
pub(super) enum AcknowledgedError {
    #[error("{path} is damaged")]
    Damaged { path: PathBuf },
    #[error("{path} cannot be read or written")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Debug)]
struct Written {
    is: Acknowledged,
    sequence: u64,
    on_file: Option<LogId>,
    at: Instant,
    truncations: u64,
}

/// The file. Shared by the log and the thread that flushes it.
#[derive(Debug)]
pub(super) struct AcknowledgedFile {
    path: PathBuf,
    file: File,
    written: Mutex<Written>,
}

impl AcknowledgedFile {
    /// Opens the file, if there is one.
    pub(super) fn open(folder: &Path) -> Result<Option<Self>, AcknowledgedError> {
        let path = folder.join(NAME);
        let failed = |source| AcknowledgedError::File { path: path.clone(), source };
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut newest = None;
        for number in 0..2 {
            let mut slot = [0; SLOT_LEN];
            match file.read_exact_at(&mut slot, number * SLOT_DISTANCE) {
                Ok(()) => newest = newest.max_by_sequence(parse(&slot)),
                // The second slot is there only after a second write.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let (sequence, is) = newest.ok_or_else(|| AcknowledgedError::Damaged { path: path.clone() })?;
        let written = Written { is, sequence, on_file: is.last, at: Instant::now(), truncations: 0 };
        Ok(Some(Self { path, file, written: Mutex::new(written) }))
    }

    /// Makes the file; it is there for good when this returns.
    pub(super) fn create(folder: &Path, is: Acknowledged) -> Result<Self, AcknowledgedError> {
        let path = folder.join(NAME);
        let failed = |source| AcknowledgedError::File { path: path.clone(), source };
        // Beside, and renamed: an empty one that a power loss left behind would be taken for a damaged one.
        let beside = folder.join("acknowledged.new");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&beside).map_err(failed)?;
        file.write_all_at(&slot(1, &is), SLOT_DISTANCE).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&beside, &path).map_err(failed)?;
        sync_folder(folder).map_err(failed)?;
        let written = Written { is, sequence: 1, on_file: is.last, at: Instant::now(), truncations: 0 };
        Ok(Self { path, file, written: Mutex::new(written) })
    }

    /// Returns what was acknowledged.
    pub(super) fn get(&self) -> Acknowledged {
        self.written().is
    }

    /// Notes a vote that is durable.
    pub(super) fn voted(&self, vote: Vote) -> io::Result<()> {
        let mut written = self.written();
        written.is.vote = Some(vote);
        self.write(&mut written)
    }

    /// Returns how often the log was truncated: what was appended before may not be noted after.
    pub(super) fn truncations(&self) -> u64 {
        self.written().truncations
    }

    /// Notes the last entry that is durable; while many come, only some of them.
    ///
    /// Tells of an append reach this late, from the thread that flushes: one from before a truncation is passed over.
    pub(super) fn appended(&self, last: LogId, truncations: u64) -> io::Result<()> {
        let mut written = self.written();
        if written.is.last >= Some(last) || written.truncations != truncations {
            return Ok(());
        }
        written.is.last = Some(last);
        let behind = last.index.saturating_sub(written.on_file.map_or(0, |id| id.index));
        if behind < LAG_ENTRIES && written.at.elapsed() < LAG_TIME {
            return Ok(());
        }
        self.write(&mut written)
    }

    /// Takes back what a truncation is about to remove; durable when this returns.
    pub(super) fn lower(&self, last: Option<LogId>) -> io::Result<()> {
        let mut written = self.written();
        written.truncations += 1;
        if written.is.last <= last {
            return Ok(());
        }
        written.is.last = last;
        self.write(&mut written)?;
        self.file.sync_data().map_err(|e| self.failed(e))
    }

    /// Writes down what is not yet.
    pub(super) fn catch_up(&self) -> io::Result<()> {
        let mut written = self.written();
        if written.on_file == written.is.last { Ok(()) } else { self.write(&mut written) }
    }

    fn failed(&self, e: io::Error) -> io::Error {
        io::Error::new(e.kind(), format!("{} could not be written: {e}", self.path.display()))
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, written: &mut Written) -> io::Result<()> {
        written.sequence += 1;
        let offset = (written.sequence % 2) * SLOT_DISTANCE;
        self.file.write_all_at(&slot(written.sequence, &written.is), offset).map_err(|e| self.failed(e))?;
        written.on_file = written.is.last;
        written.at = Instant::now();
        Ok(())
    }
}

/// Of two slots, the one that was written later.
trait Newest {
    fn max_by_sequence(self, other: Self) -> Self;
}

impl Newest for Option<(u64, Acknowledged)> {
    fn max_by_sequence(self, other: Self) -> Self {
        let sequence = |slot: &Self| slot.as_ref().map(|(sequence, _)| *sequence);
        if sequence(&other) > sequence(&self) { other } else { self }
    }
}

fn slot(sequence: u64, is: &Acknowledged) -> [u8; SLOT_LEN] {
    let mut parts = 0;
    let (mut vote, mut last) = ((0, 0), (0, 0));
    if let Some(v) = &is.vote {
        parts |= HAS_VOTE | if v.committed { VOTE_COMMITTED } else { 0 };
        vote = (v.leader_id.term, v.leader_id.voted_for);
    }
    if let Some(id) = &is.last {
        parts |= HAS_LAST;
        last = (**id.committed_leader_id(), id.index);
    }
    let mut bytes = Vec::with_capacity(SLOT_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.push(parts);
    for number in [vote.0, vote.1, last.0, last.1] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let mut slot = [0; SLOT_LEN];
    slot[..bytes.len()].copy_from_slice(&bytes);
    slot
}

fn parse(slot: &[u8; SLOT_LEN]) -> Option<(u64, Acknowledged)> {
    let rest = slot.strip_prefix(MAGIC)?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (parts, mut rest) = rest.split_first()?;
    let mut numbers = [0; 4];
    for number in &mut numbers {
        let (bytes, after) = rest.split_first_chunk::<8>()?;
        *number = u64::from_le_bytes(*bytes);
        rest = after;
    }
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let body = &slot[..SLOT_LEN - rest.len() - checksum.len()];
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let [term, manager, last_term, index] = numbers;
    let vote = (parts & HAS_VOTE != 0)
        .then(|| Vote { leader_id: RaftLeaderId::new(term, manager), committed: parts & VOTE_COMMITTED != 0 });
    let last = (parts & HAS_LAST != 0).then(|| LogId::new(CommittedLeaderId::new(last_term), index));
    Some((u64::from_le_bytes(*sequence), Acknowledged { vote, last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term), index)
    }

    fn reread(folder: &Path) -> Acknowledged {
        AcknowledgedFile::open(folder).unwrap().expect("it is there").get()
    }

    #[test]
    fn what_was_acknowledged_is_read_back_with_one_slot_or_two() {
        let folder = tempfile::tempdir().unwrap();
        assert!(AcknowledgedFile::open(folder.path()).unwrap().is_none());
        let file = AcknowledgedFile::create(folder.path(), Acknowledged::default()).unwrap();
        assert_eq!(reread(folder.path()), Acknowledged::default());
        file.voted(Vote::new(3, 2)).unwrap();
        file.appended(id(3, 100), 0).unwrap();
        assert_eq!(reread(folder.path()), Acknowledged { vote: Some(Vote::new(3, 2)), last: Some(id(3, 100)) });
        file.voted(Vote::new_committed(4, 1)).unwrap();
        file.lower(Some(id(3, 50))).unwrap();
        file.appended(id(3, 100), 0).unwrap();
        assert_eq!(
            reread(folder.path()),
            Acknowledged { vote: Some(Vote::new_committed(4, 1)), last: Some(id(3, 50)) }
        );
    }

    #[test]
    fn a_busy_log_is_followed_within_64_entries_and_caught_up_with_at_a_flush() {
        let folder = tempfile::tempdir().unwrap();
        let file = AcknowledgedFile::create(folder.path(), Acknowledged::default()).unwrap();
        for index in 1..=1_000 {
            file.appended(id(1, index), 0).unwrap();
            let noted = reread(folder.path()).last.map_or(0, |id| id.index);
            assert!(noted <= index && index - noted < LAG_ENTRIES, "{noted} of {index}");
        }
        file.catch_up().unwrap();
        assert_eq!(reread(folder.path()).last, Some(id(1, 1_000)));
    }

    #[test]
    fn one_slot_that_rotted_leaves_the_other_and_two_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let file = AcknowledgedFile::create(folder.path(), Acknowledged::default()).unwrap();
        file.voted(Vote::new(1, 1)).unwrap();
        file.voted(Vote::new(2, 1)).unwrap();
        let path = folder.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[512 + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(reread(folder.path()).vote, Some(Vote::new(1, 1)));
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let refused = AcknowledgedFile::open(folder.path()).expect_err("refused").to_string();
        assert!(refused.contains(path.to_str().unwrap()) && refused.contains("damaged"), "{refused}");
    }
}
