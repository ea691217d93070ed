//! How votes, positions and entries are written into the write-ahead log.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_std::CommittedLeaderId;
use raft_log::codeq::{Decode, Encode};

use super::acknowledged::AcknowledgedFile;
use super::codec::{CodecError, decode, encode};
use crate::raft::{LogId, Payload, Types, Vote};

/// The largest record that is believed on reading: a length beyond it is damage.
const RECORD_MAX: u32 = 256 * 1024 * 1024;

fn write_bytes<W: Write>(mut w: W, bytes: &[u8]) -> io::Result<usize> {
    let len = u32::try_from(bytes.len()).ok().filter(|len| *len <= RECORD_MAX);
    let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a log record is larger than 256 MiB"))?;
    let written = len.encode(&mut w)?;
    w.write_all(bytes)?;
    Ok(written + bytes.len())
}

fn read_bytes<R: Read>(mut r: R) -> io::Result<Vec<u8>> {
    let len = u32::decode(&mut r)?;
    if len > RECORD_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the length of a log record is damaged"));
    }
    let mut bytes = vec![0; len as usize];
    r.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Position of an entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct WalLogId(pub(super) LogId);

impl Encode for WalLogId {
    fn encode<W: Write>(&self, mut w: W) -> Result<usize, io::Error> {
        Ok((**self.0.committed_leader_id()).encode(&mut w)? + self.0.index.encode(&mut w)?)
    }
}

impl Decode for WalLogId {
    fn decode<R: Read>(mut r: R) -> Result<Self, io::Error> {
        let (term, index) = (u64::decode(&mut r)?, u64::decode(&mut r)?);
        Ok(Self(LogId::new(CommittedLeaderId::new(term), index)))
    }
}

/// A vote.
#[derive(Clone, PartialEq, Eq, PartialOrd, Debug)]
pub(super) struct WalVote(pub(super) Vote);

impl Encode for WalVote {
    fn encode<W: Write>(&self, mut w: W) -> Result<usize, io::Error> {
        let Vote { leader_id, committed } = &self.0;
        Ok(leader_id.term.encode(&mut w)?
            + leader_id.voted_for.encode(&mut w)?
            + u8::from(*committed).encode(&mut w)?)
    }
}

impl Decode for WalVote {
    fn decode<R: Read>(mut r: R) -> Result<Self, io::Error> {
        let (term, manager) = (u64::decode(&mut r)?, u64::decode(&mut r)?);
        let leader_id = RaftLeaderId::new(term, manager);
        Ok(Self(Vote { leader_id, committed: u8::decode(&mut r)? != 0 }))
    }
}

/// What an entry carries, both as a value, which readers get, and as bytes, which the disk gets.
#[derive(Clone, Debug)]
pub(super) struct WalPayload {
    pub(super) payload: Arc<Payload>,
    bytes: Arc<[u8]>,
}

impl WalPayload {
    pub(super) fn new(payload: Payload) -> Result<Self, CodecError> {
        let bytes = encode("log entry", &payload)?.into();
        Ok(Self { payload: Arc::new(payload), bytes })
    }
}

impl Encode for WalPayload {
    fn encode<W: Write>(&self, w: W) -> Result<usize, io::Error> {
        write_bytes(w, &self.bytes)
    }
}

impl Decode for WalPayload {
    fn decode<R: Read>(r: R) -> Result<Self, io::Error> {
        let bytes = read_bytes(r)?;
        Ok(Self { payload: Arc::new(decode("log entry", &bytes)?), bytes: bytes.into() })
    }
}

/// What to note beside the log once an append is durable.
pub(super) struct Note {
    pub(super) last: LogId,
    pub(super) truncations: u64,
    pub(super) file: Arc<AcknowledgedFile>,
}

/// Says which log failed: openraft hands on no more than the text.
pub(super) fn failed(folder: &Path, step: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |e| io::Error::new(e.kind(), format!("log {} {step}: {e}", folder.display()))
}

/// Who is told when a write is durable. Told in any case: one that is dropped untold says that the flusher has stopped,
/// or a manager would wait for a write for ever, and go on as if it could.
pub(super) struct WalCallback {
    told: Option<Told>,
    folder: Arc<Path>,
}

enum Told {
    /// openraft, of appended entries.
    Appended(IOFlushed<Types>, Option<Note>),
    /// Somebody who waits.
    Waiting(tokio::sync::oneshot::Sender<io::Result<()>>),
}

impl WalCallback {
    pub(super) fn appended(folder: &Arc<Path>, flushed: IOFlushed<Types>, note: Option<Note>) -> Self {
        Self { told: Some(Told::Appended(flushed, note)), folder: Arc::clone(folder) }
    }

    pub(super) fn waiting(folder: &Arc<Path>, waiting: tokio::sync::oneshot::Sender<io::Result<()>>) -> Self {
        Self { told: Some(Told::Waiting(waiting)), folder: Arc::clone(folder) }
    }

    fn tell(&mut self, result: io::Result<()>) {
        let result = result.map_err(failed(&self.folder, "could not be written and flushed"));
        match self.told.take() {
            Some(Told::Appended(flushed, note)) => {
                // Noted first: what is acknowledged stands in both.
                let noted = result.and_then(|()| note.map_or(Ok(()), |n| n.file.appended(n.last, n.truncations)));
                flushed.io_completed(noted);
            }
            // Who no longer waits has stopped, and learns of it there.
            Some(Told::Waiting(waiting)) => drop(waiting.send(result)),
            None => {}
        }
    }
}

impl raft_log::Callback for WalCallback {
    fn send(mut self, result: Result<(), io::Error>) {
        self.tell(result);
    }
}

impl Drop for WalCallback {
    fn drop(&mut self) {
        self.tell(Err(io::Error::other("a write, a flush or the removal of a chunk before it failed")));
    }
}

/// The types that the write-ahead log is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct WalTypes;

impl raft_log::Types for WalTypes {
    type LogId = WalLogId;
    type LogPayload = WalPayload;
    type Vote = WalVote;
    type Callback = WalCallback;
    type UserData = String;

    fn log_index(log_id: &WalLogId) -> u64 {
        log_id.0.index
    }

    fn payload_size(payload: &WalPayload) -> u64 {
        // The value is about as large as its bytes, and has the text of its command with it.
        3 * payload.bytes.len() as u64
    }
}
