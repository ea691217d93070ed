//! The state as keys and values: one flat, ordered space, with a letter in front of each kind.
//!
//! ```text
//! a                   position: last applied entry, membership, and the digest of all the others
//! h                   head: cluster, leader, manager notes, watcher counter
//! m                   marks: where each kind last changed
//! n NAME  r NAME  v UUID  w NUMBER  p NAME  i NUMBER  e INDEX ORDINAL  o INDEX
//! ```
//!
//! Numbers are big-endian, so that the order of keys is the order of numbers.

use std::iter;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vouch_types::{IncidentId, LogIndex, NodeId, ProbeName, VmId, WatcherId};

use super::changes::EventPosition;
use super::codec::{CodecError, decode, encode};
use super::state_hash::{StateDigest, StateHash};
use super::{Changes, State};
use crate::raft::{LogId, StoredMembership};

/// How far the state has come, and who the managers were then.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// The last applied entry.
    pub applied: Option<LogId>,
    /// The last applied membership.
    pub membership: StoredMembership,
}

/// The state with its position, as a store gives it back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Projection {
    /// The state.
    pub state: State,
    /// How far it has come.
    pub position: Position,
    /// Its hash.
    pub hash: StateHash,
    /// The digest that was written down with it; none in a store of before there were any.
    pub digest: Option<StateDigest>,
}

/// What is kept under the key of the position.
#[derive(Serialize)]
struct PositionWritten<'a> {
    applied: &'a Option<LogId>,
    membership: &'a StoredMembership,
    digest: &'a StateDigest,
}

#[derive(Deserialize)]
struct PositionRead {
    #[serde(default)]
    digest: Option<StateDigest>,
}

/// A key and its new value, or `None` to remove it.
pub(super) type Write = (Vec<u8>, Option<Vec<u8>>);

/// How many records of one kind a piece of the state has at most.
const PIECE: usize = 1_024;

const POSITION: u8 = b'a';
const HEAD: u8 = b'h';
const MARKS: u8 = b'm';
const NODE: u8 = b'n';
const REMOVED: u8 = b'r';
const VM: u8 = b'v';
const WATCHER: u8 = b'w';
const PROBE: u8 = b'p';
const INCIDENT: u8 = b'i';
const EVENT: u8 = b'e';
const ONCE: u8 = b'o';

fn key(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

fn node_key(id: &NodeId) -> Vec<u8> {
    key(NODE, id.as_str().as_bytes())
}

fn removed_key(id: &NodeId) -> Vec<u8> {
    key(REMOVED, id.as_str().as_bytes())
}

fn vm_key(id: VmId) -> Vec<u8> {
    key(VM, id.get().as_bytes())
}

fn watcher_key(id: WatcherId) -> Vec<u8> {
    key(WATCHER, &id.get().to_be_bytes())
}

fn probe_key(name: &ProbeName) -> Vec<u8> {
    key(PROBE, name.as_str().as_bytes())
}

fn incident_key(id: IncidentId) -> Vec<u8> {
    key(INCIDENT, &id.get().to_be_bytes())
}

fn once_key(index: LogIndex) -> Vec<u8> {
    key(ONCE, &index.get().to_be_bytes())
}

fn event_key((index, ordinal): EventPosition) -> Vec<u8> {
    let mut rest = [0; 12];
    rest[..8].copy_from_slice(&index.get().to_be_bytes());
    rest[8..].copy_from_slice(&ordinal.to_be_bytes());
    key(EVENT, &rest)
}

fn put<T: Serialize>(key: Vec<u8>, what: &'static str, value: Option<&Arc<T>>) -> Result<Write, CodecError> {
    Ok((key, value.map(|value| encode(what, value.as_ref())).transpose()?))
}

/// Returns whether this is the key of the position, which is no part of the state.
pub(super) fn is_position(key: &[u8]) -> bool {
    key.first() == Some(&POSITION)
}

/// Returns the write that says how far a store has come, and with what state.
pub(super) fn position_write(position: &Position, digest: &StateDigest) -> Result<Write, CodecError> {
    let written = PositionWritten { applied: &position.applied, membership: &position.membership, digest };
    Ok((vec![POSITION], Some(encode("position", &written)?)))
}

fn head_write(state: &State) -> Result<Write, CodecError> {
    Ok((vec![HEAD], Some(encode("head", &state.head)?)))
}

/// Returns the writes that bring a store up to `state`, after `changes`, but for the position.
pub(super) fn changed(state: &State, changes: &Changes) -> Result<Vec<Write>, CodecError> {
    let mut writes = Vec::new();
    if changes.head {
        writes.push(head_write(state)?);
    }
    if !changes.is_empty() {
        writes.push((vec![MARKS], Some(encode("marks", &state.marks)?)));
    }
    for id in &changes.nodes {
        writes.push(put(node_key(id), "node", state.nodes.get(id))?);
    }
    for id in &changes.removed {
        writes.push(put(removed_key(id), "removed node", state.removed.get(id))?);
    }
    for id in changes.vms.union(&changes.unshown) {
        writes.push(put(vm_key(*id), "vm", state.vms.get(id))?);
    }
    for id in &changes.watchers {
        writes.push(put(watcher_key(*id), "watcher", state.watchers.get(id))?);
    }
    for name in &changes.probes {
        writes.push(put(probe_key(name), "probe", state.probes.get(name))?);
    }
    for id in &changes.incidents {
        writes.push(put(incident_key(*id), "incident", state.incidents.get(id))?);
    }
    for index in &changes.once {
        let record = state.once.iter().find(|record| record.index == *index);
        writes.push(put(once_key(*index), "once", record)?);
    }
    for event in &changes.events {
        writes.push(put(event_key((event.index, event.ordinal)), "event", Some(event))?);
    }
    // After the events, because one batch may bring in and let go of the same one.
    writes.extend(changes.evicted.iter().map(|position| (event_key(*position), None)));
    Ok(writes)
}

/// Returns the changes that make `state` of nothing, in pieces: written out all at once it would be in memory twice.
fn pieces(state: &State) -> impl Iterator<Item = Changes> {
    let small = Changes {
        head: true,
        nodes: state.nodes.keys().cloned().collect(),
        removed: state.removed.keys().cloned().collect(),
        watchers: state.watchers.keys().copied().collect(),
        probes: state.probes.keys().cloned().collect(),
        incidents: state.incidents.keys().copied().collect(),
        once: state.once.iter().map(|record| record.index).collect(),
        ..Changes::default()
    };
    let vms = in_pieces(state.vms().keys().copied()).map(|vms| Changes { vms, ..Changes::default() });
    let events = in_pieces(state.events.iter().cloned()).map(|events| Changes { events, ..Changes::default() });
    iter::once(small).chain(vms).chain(events)
}

/// Returns all records of a state, but for the position, encoded piece by piece.
pub(super) fn records(state: &State) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), CodecError>> {
    let piece = |changes| match changed(state, &changes) {
        Ok(writes) => writes.into_iter().filter_map(|(key, value)| Some(Ok((key, value?)))).collect(),
        Err(error) => vec![Err(error)],
    };
    pieces(state).flat_map(piece)
}

fn in_pieces<T, C: FromIterator<T>>(mut items: impl Iterator<Item = T>) -> impl Iterator<Item = C> {
    iter::from_fn(move || {
        let first = items.next()?;
        Some(iter::once(first).chain(items.by_ref().take(PIECE - 1)).collect())
    })
}

impl Projection {
    /// Returns it if it is what was written: a record that rotted or is missing shows in the hash. One that another
    /// version wrote cannot be compared, and its hash is made anew in the words of this one.
    ///
    /// # Errors
    /// [`CodecError`] when a record cannot be written.
    pub(super) fn checked(mut self) -> Result<Option<Self>, CodecError> {
        let found = self.hash.digest();
        match self.digest.as_ref().and_then(|written| written.agrees(&found)) {
            Some(true) => Ok(Some(self)),
            Some(false) => Ok(None),
            None => {
                self.hash = StateHash::of(&self.state)?;
                Ok(Some(self))
            }
        }
    }

    /// Takes in one pair as the store hands it back, in the order of keys.
    pub(super) fn take_in(&mut self, key: &[u8], value: &[u8]) -> Result<(), CodecError> {
        fn record<T: DeserializeOwned>(what: &'static str, value: &[u8]) -> Result<Arc<T>, CodecError> {
            decode(what, value).map(Arc::new)
        }
        self.hash.put(key, Some(value));
        let state = &mut self.state;
        match key.first().copied() {
            Some(POSITION) => {
                self.position = decode("position", value)?;
                self.digest = decode::<PositionRead>("position", value)?.digest;
            }
            Some(HEAD) => state.head = decode("head", value)?,
            Some(NODE) => {
                let node: Arc<vouch_types::NodeRecord> = record("node", value)?;
                state.nodes.insert(node.id.clone(), node);
            }
            Some(REMOVED) => {
                let removed: Arc<vouch_types::RemovedNode> = record("removed node", value)?;
                state.removed.insert(removed.id.clone(), removed);
            }
            Some(VM) => {
                state.vms.insert(record("vm", value)?);
            }
            Some(WATCHER) => {
                let watcher: Arc<vouch_types::WatcherRecord> = record("watcher", value)?;
                state.watchers.insert(watcher.id, watcher);
            }
            Some(PROBE) => {
                let probe: Arc<vouch_types::ProbeRecord> = record("probe", value)?;
                state.probes.insert(probe.name.clone(), probe);
            }
            Some(INCIDENT) => {
                let incident: Arc<vouch_types::IncidentRecord> = record("incident", value)?;
                state.incidents.insert(incident.id, incident);
            }
            Some(EVENT) => state.events.push_back(record("event", value)?),
            Some(ONCE) => state.once.push_back(record("once", value)?),
            Some(MARKS) => state.marks = decode("marks", value)?,
            // Written by a later version, and of no meaning to this one.
            Some(_) | None => {}
        }
        Ok(())
    }
}
