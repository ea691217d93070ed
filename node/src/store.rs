//! What a node must not forget over a restart of its agent: counters, what managers told it last, its signing key.
//!
//! One small JSON file, replaced as a whole (temp file, fsync, rename, fsync of the folder) before an order is acted
//! upon. It must never hold a VM's state: that is read from the hypervisor.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vouch_types::{AssignmentGeneration, ClusterId, Generation, Incarnation, LogIndex, StartId, Term, VmId, WatcherId};

/// How many watchers' fences and grants are remembered; of more, the oldest numbers are forgotten.
pub const WATCHERS_REMEMBERED: usize = 1_000;

/// Why the store could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{}: damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it shows.
        why: String,
    },
}

/// Position of an order in the cluster's log: lower ones are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct OrderFence {
    /// Term of the leader that gave it.
    pub term: Term,
    /// Log index that it rests on.
    pub log_index: LogIndex,
}

/// What an order is about; fences are kept per subject, because orders on two watchers may overtake one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderSubject {
    /// The VMs that this node owns.
    Ownership,
    /// One watcher.
    Watcher(WatcherId),
}

/// Why an order is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the order ({}, {}) is older than ({}, {}), which was obeyed before", given.term, given.log_index, highest.term, highest.log_index)]
pub struct StaleOrder {
    /// Fence of the order.
    pub given: OrderFence,
    /// The highest one so far.
    pub highest: OrderFence,
}

/// The cluster that this node belongs to, kept so that grants can be verified offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownCluster {
    /// Its id.
    pub id: ClusterId,
    /// Ed25519 public key of its grants.
    pub grant_public_key: Vec<u8>,
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeMemory {
    /// This life of the agent.
    pub incarnation: Incarnation,
    /// The last start id that was given to a VM.
    pub last_start: StartId,
    /// Cluster and grant key.
    pub cluster: Option<KnownCluster>,
    /// VMs that this node owns, with their generations.
    pub owned: BTreeMap<VmId, Generation>,
    /// The highest term of any order.
    pub term: Term,
    /// The highest fence of an `Ownership`.
    pub ownership: OrderFence,
    /// The highest fence per watcher.
    pub watchers: BTreeMap<u64, OrderFence>,
    /// The highest generation of a grant per watcher.
    pub grants: BTreeMap<u64, AssignmentGeneration>,
}

impl NodeMemory {
    /// Notes an order's fence if it is no lower than the highest so far; the same one again is no error.
    ///
    /// # Errors
    /// [`StaleOrder`] when it is lower, or comes from a leader of an earlier term.
    pub fn admit(&mut self, subject: OrderSubject, given: OrderFence) -> Result<(), StaleOrder> {
        let highest = match subject {
            OrderSubject::Ownership => self.ownership,
            OrderSubject::Watcher(w) => self.watchers.get(&w.get()).copied().unwrap_or_default(),
        };
        if given < highest || given.term < self.term {
            let by_term = OrderFence { term: self.term, log_index: LogIndex::default() };
            return Err(StaleOrder { given, highest: highest.max(by_term) });
        }
        self.term = given.term;
        match subject {
            OrderSubject::Ownership => self.ownership = given,
            OrderSubject::Watcher(w) => {
                self.watchers.insert(w.get(), given);
                while self.watchers.len() > WATCHERS_REMEMBERED {
                    self.watchers.pop_first();
                }
            }
        }
        Ok(())
    }

    /// Notes a grant's generation if it is no lower than the watcher's highest so far.
    ///
    /// # Errors
    /// The highest generation, when the grant's is lower.
    pub fn admit_grant(&mut self, watcher: WatcherId, given: AssignmentGeneration) -> Result<(), AssignmentGeneration> {
        let highest = self.grants.get(&watcher.get()).copied().unwrap_or_default();
        if given < highest {
            return Err(highest);
        }
        self.grants.insert(watcher.get(), given);
        while self.grants.len() > WATCHERS_REMEMBERED {
            self.grants.pop_first();
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Inner {
    path: Option<PathBuf>,
    /// Held for an instant only, because the runtime's threads take it.
    memory: Mutex<NodeMemory>,
    /// Held while a change is written: one at a time.
    writer: Mutex<()>,
}

/// The node's memory: a cheap clone of one store.
#[derive(Debug, Clone)]
pub struct NodeStore {
    inner: Arc<Inner>,
}

impl NodeStore {
    /// Opens `DATA_DIR/node.json` (made when absent) and begins a new incarnation.
    ///
    /// # Errors
    /// [`StoreError`] names the file.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        make_private_dir(data_dir).map_err(|source| StoreError::Io { path: data_dir.to_path_buf(), source })?;
        let path = data_dir.join("node.json");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let memory = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| StoreError::Damaged { path: path.clone(), why: e.to_string() })?,
            // The folder may have been lost: later starts still have greater ids than those that managers know.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                NodeMemory { last_start: StartId::new(now), ..NodeMemory::default() }
            }
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        let store =
            Self { inner: Arc::new(Inner { path: Some(path), memory: Mutex::new(memory), writer: Mutex::new(()) }) };
        store.update(|m| m.incarnation = next_incarnation(m.incarnation, now))?;
        Ok(store)
    }

    /// Returns a store that forgets everything when it is dropped; for simulations.
    pub fn in_memory() -> Self {
        let memory = NodeMemory { incarnation: Incarnation::new(1), ..NodeMemory::default() };
        Self { inner: Arc::new(Inner { path: None, memory: Mutex::new(memory), writer: Mutex::new(()) }) }
    }

    /// Returns what `read` makes of the memory.
    pub fn with<T>(&self, read: impl FnOnce(&NodeMemory) -> T) -> T {
        read(&self.inner.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the memory and writes it, if it changed. Takes the time of an fsync; who reads meanwhile is not held up
    /// and sees the memory as it was.
    ///
    /// # Errors
    /// [`StoreError`] when it could not be written; the memory is then as it was.
    pub fn update<T>(&self, change: impl FnOnce(&mut NodeMemory) -> T) -> Result<T, StoreError> {
        let _writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.with(NodeMemory::clone);
        let mut next = before.clone();
        let result = change(&mut next);
        if next != before {
            if let Some(path) = &self.inner.path {
                let bytes = serde_json::to_vec_pretty(&next)
                    .map_err(|e| StoreError::Damaged { path: path.clone(), why: e.to_string() })?;
                write_private(path, &bytes).map_err(|source| StoreError::Io { path: path.clone(), source })?;
            }
            *self.inner.memory.lock().unwrap_or_else(PoisonError::into_inner) = next;
        }
        Ok(result)
    }

    /// Returns this life of the agent.
    pub fn incarnation(&self) -> Incarnation {
        self.with(|m| m.incarnation)
    }

    /// Returns the generation of a VM as last told; 0 when never told.
    pub fn generation(&self, vm: VmId) -> Generation {
        self.with(|m| m.owned.get(&vm).copied().unwrap_or_default())
    }
}

/// Returns the incarnation that follows `stored`: no lower than the time, so that a node which has lost its data folder
/// is still the later one to its managers. It only orders the lives of one agent: it is never compared with another
/// machine's clock, and a clock that was set back costs nothing as long as the folder is there. Pure.
fn next_incarnation(stored: Incarnation, unix_millis: u64) -> Incarnation {
    stored.next().max(Incarnation::new(unix_millis))
}

/// Makes a folder (0700) with its parents.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file (0600) as a whole: after a crash it is the old one or the new one.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads the node's statement key from `DATA_DIR/statement.key` (PKCS #8, 0600), made at the first start.
///
/// # Errors
/// [`StoreError`] names the file.
pub fn statement_key(data_dir: &Path) -> Result<Vec<u8>, StoreError> {
    let path = data_dir.join("statement.key");
    let damaged = |why: &str| StoreError::Damaged { path: path.clone(), why: why.to_owned() };
    match std::fs::read(&path) {
        Ok(bytes) => match Ed25519KeyPair::from_pkcs8(&bytes) {
            Ok(_) => Ok(bytes),
            Err(e) => Err(damaged(&format!("no Ed25519 key: {e}"))),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map_err(|_| damaged("the system has no random numbers"))?;
            write_private(&path, key.as_ref()).map_err(|source| StoreError::Io { path, source })?;
            Ok(key.as_ref().to_vec())
        }
        Err(source) => Err(StoreError::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fence(term: u64, index: u64) -> OrderFence {
        OrderFence { term: Term::new(term), log_index: LogIndex::new(index) }
    }

    #[test]
    fn a_lower_order_is_refused_even_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let subject = OrderSubject::Watcher(WatcherId::new(3));
        let first = NodeStore::open(dir.path()).unwrap();
        first.update(|m| m.admit(subject, fence(2, 10))).unwrap().unwrap();
        let again = NodeStore::open(dir.path()).unwrap();
        assert!(again.incarnation() > first.incarnation());
        again.update(|m| m.admit(subject, fence(2, 10))).unwrap().expect("the same order again is no error");
        assert!(again.update(|m| m.admit(subject, fence(2, 9))).unwrap().is_err());
        let stale = again.update(|m| m.admit(OrderSubject::Ownership, fence(1, 99))).unwrap().unwrap_err();
        assert!(stale.to_string().contains("(1, 99)"), "an earlier leader's order is refused on any subject: {stale}");
    }

    #[test]
    fn a_node_that_lost_its_folder_comes_back_as_a_later_life() {
        let lost = next_incarnation(Incarnation::default(), 1_700_000_000_000);
        assert!(lost > next_incarnation(Incarnation::new(41), 1_600_000_000_000));
        let set_back = next_incarnation(lost, 5);
        assert!(set_back > lost, "a clock that was set back does not take the node back");

        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let empty = tempfile::tempdir().unwrap();
        let store = NodeStore::open(empty.path()).unwrap();
        assert!(u128::from(store.incarnation().get()) >= before);
        assert!(store.with(|m| u128::from(m.last_start.get())) >= before, "and what it starts is a later start");
    }

    #[test]
    fn a_read_is_not_held_up_by_a_change_and_two_changes_lose_nothing() {
        let store = NodeStore::in_memory();
        let (in_change, entered) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        let changing = store.clone();
        let first = std::thread::spawn(move || {
            changing.update(|m| {
                in_change.send(()).unwrap();
                may_go_on.recv().unwrap();
                m.last_start = m.last_start.next();
            })
        });
        entered.recv().unwrap();
        assert_eq!(store.with(|m| m.last_start), StartId::default(), "told while the change is under way");
        let changing = store.clone();
        let second = std::thread::spawn(move || changing.update(|m| m.last_start = m.last_start.next()));
        go_on.send(()).unwrap();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
        assert_eq!(store.with(|m| m.last_start), StartId::new(2));
    }

    #[test]
    fn orders_on_two_watchers_may_overtake_one_another() {
        let store = NodeStore::in_memory();
        let (a, b) = (OrderSubject::Watcher(WatcherId::new(1)), OrderSubject::Watcher(WatcherId::new(2)));
        store.update(|m| m.admit(b, fence(1, 12))).unwrap().unwrap();
        store.update(|m| m.admit(a, fence(1, 10))).unwrap().expect("an order on another watcher");
    }

    #[test]
    fn a_grant_of_an_older_assignment_is_refused() {
        let store = NodeStore::in_memory();
        let watcher = WatcherId::new(1);
        store.update(|m| m.admit_grant(watcher, AssignmentGeneration::new(5))).unwrap().unwrap();
        let highest = store.update(|m| m.admit_grant(watcher, AssignmentGeneration::new(4))).unwrap();
        assert_eq!(highest, Err(AssignmentGeneration::new(5)));
    }

    #[test]
    fn the_signing_key_is_private_and_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let key = statement_key(dir.path()).unwrap();
        assert_eq!(statement_key(dir.path()).unwrap(), key);
        let mode = std::fs::metadata(dir.path().join("statement.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_store_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("node.json"), b"{").unwrap();
        let message = NodeStore::open(dir.path()).expect_err("must be refused").to_string();
        assert!(message.contains("node.json") && message.contains("damaged"), "{message}");
    }
}
