//! The projection in sled: one tree, written by one thread.
//!
//! sled's flush is not a full durability barrier, so what it holds counts only after a close in good order, which
//! leaves the file `closed` beside it. A start takes that file away first: after a crash it is missing, and the
//! projection is wiped and made again from snapshot and log. It is never the truth.
//!
//! So nothing is gained by writing early, and writing each apply by itself costs more than all else that a command
//! does: what is kept gathers in memory, where a record that changes again takes the place of its older self, and is
//! written behind. It is written record by record: only a close in good order makes it count, so half of it does no
//! harm. sled frees what a write replaces as later operations come by, a little at each; a batch is one operation that
//! replaces more than its followers ever free, and memory grew by gigabytes.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::folders::{make_folder, sync_folder};
use super::projection::{self, Projection};
use super::sled_pending::{PENDING_MAX, Pending};
use super::state_store::{Batch, StateStore, StateStoreError};

/// Memory that sled may use to cache pages.
const CACHE_BYTES: u64 = 24 * 1024 * 1024;
/// How many orders may wait for the writer.
const ORDERS_MAX: usize = 16;
/// How long what is kept gathers before it is written.
const WRITTEN_BEHIND: Duration = Duration::from_millis(250);
/// Says that the projection was closed in good order.
const CLOSED: &str = "closed";
/// Where sled keeps its files.
const TREE: &str = "sled";
/// The one of them that it locks.
const LOCKED: &str = "db";
/// How often, and after what pause, a close looks whether that lock is gone.
const RELEASE_LOOKS: u32 = 1_000;
const RELEASE_LOOK: Duration = Duration::from_millis(2);

enum Order {
    /// Something has begun to gather.
    Gathering,
    /// As much has gathered as may: write it; answered as soon as it is taken up.
    Take(Sender<Result<(), StateStoreError>>),
    Wipe(Sender<Result<(), StateStoreError>>),
    Close(Sender<Result<(), StateStoreError>>),
}

#[derive(Debug)]
struct Writer {
    orders: SyncSender<Order>,
    thread: JoinHandle<Result<(), StateStoreError>>,
}

/// The projection in sled.
#[derive(Debug)]
pub struct SledStateStore {
    folder: PathBuf,
    loaded: Mutex<Option<Projection>>,
    pending: Arc<Mutex<Pending>>,
    writer: Mutex<Option<Writer>>,
}

impl SledStateStore {
    /// Opens the projection in this folder, or begins an empty one where it is missing or in doubt.
    ///
    /// # Errors
    /// [`StateStoreError`] when the folder cannot be written, or sled cannot begin an empty tree in it.
    pub fn open(folder: &Path) -> Result<Self, StateStoreError> {
        make_folder(folder).map_err(at(folder, "cannot be made"))?;
        let closed = folder.join(CLOSED);
        let kept = match fs::remove_file(&closed) {
            Ok(()) => {
                flush_names(folder)?;
                open_kept(folder)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => begin(folder).map(|db| (Projection::default(), db)),
            Err(e) => return Err(at(&closed, "cannot be removed")(e)),
        };
        let (projection, db) = match kept {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "state store in doubt: made again");
                (Projection::default(), begin(folder)?)
            }
        };
        let loaded = projection.position.applied.is_some().then_some(projection);

        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let pending = Arc::new(Mutex::new(Pending::default()));
        let (home, gathered) = (folder.to_owned(), Arc::clone(&pending));
        let thread = thread::Builder::new()
            .name("state-store".to_owned())
            .spawn(move || write(&db, &home, &gathered, &inbox))
            .map_err(at(folder, "writer thread cannot be started"))?;
        Ok(Self {
            folder: folder.to_owned(),
            loaded: Mutex::new(loaded),
            pending,
            writer: Mutex::new(Some(Writer { orders, thread })),
        })
    }

    /// Gives an order, or says why the writer takes no more.
    fn order(&self, order: Order) -> Result<(), StateStoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = || StateStoreError::Stopped { path: self.folder.clone() };
        let orders = &writer.as_ref().ok_or_else(stopped)?.orders;
        if orders.send(order).is_ok() {
            return Ok(());
        }
        // It stopped by itself, which it does only after an error: tell that one.
        match writer.take().map(|writer| writer.thread.join()) {
            Some(Ok(Err(error))) => Err(error),
            Some(Ok(Ok(())) | Err(_)) | None => Err(stopped()),
        }
    }

    fn ask(&self, order: impl FnOnce(Sender<Result<(), StateStoreError>>) -> Order) -> Result<(), StateStoreError> {
        let (answer, answered) = channel();
        self.order(order(answer))?;
        answered.recv().unwrap_or_else(|_| Err(StateStoreError::Stopped { path: self.folder.clone() }))
    }
}

impl StateStore for SledStateStore {
    fn load(&self) -> Result<Option<Projection>, StateStoreError> {
        Ok(self.loaded.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    fn commit(&self, batch: Batch) -> Result<(), StateStoreError> {
        let (was_empty, bytes) = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let was_empty = pending.is_empty();
            pending.add(batch);
            (was_empty, pending.bytes())
        };
        if bytes >= PENDING_MAX {
            // Apply waits while the writer is still at what gathered before.
            return self.ask(Order::Take);
        }
        if was_empty { self.order(Order::Gathering) } else { Ok(()) }
    }

    fn wipe(&self) -> Result<(), StateStoreError> {
        self.ask(Order::Wipe)
    }

    fn close(&self) -> Result<(), StateStoreError> {
        self.ask(Order::Close)?;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match writer.map(|writer| writer.thread.join()) {
            Some(Ok(result)) => result?,
            Some(Err(_)) | None => return Err(StateStoreError::Stopped { path: self.folder.clone() }),
        }
        released(&self.folder)
    }
}

/// Runs the orders one after the other until it is closed, dropped, or fails.
fn write(
    db: &sled::Db,
    folder: &Path,
    pending: &Mutex<Pending>,
    orders: &Receiver<Order>,
) -> Result<(), StateStoreError> {
    let take = || std::mem::take(&mut *pending.lock().unwrap_or_else(PoisonError::into_inner));
    let mut gathering = false;
    loop {
        let order = if gathering {
            orders.recv_timeout(WRITTEN_BEHIND)
        } else {
            orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        // Each order but the first ends the gathering.
        gathering = false;
        match order {
            Ok(Order::Gathering) => gathering = true,
            Err(RecvTimeoutError::Timeout) => put(db, folder, take())?,
            Ok(Order::Take(answer)) => {
                let taken = take();
                let _ = answer.send(Ok(()));
                put(db, folder, taken)?;
            }
            Ok(Order::Wipe(answer)) => {
                drop(take());
                let wiped = db.clear().map_err(sled_at(folder, "clear"));
                let _ = answer.send(wiped);
            }
            Ok(Order::Close(answer)) => {
                let _ = answer.send(put(db, folder, take()).and_then(|()| close(db, folder)));
                return Ok(());
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Writes what has gathered.
fn put(db: &sled::Db, folder: &Path, pending: Pending) -> Result<(), StateStoreError> {
    if pending.is_empty() {
        return Ok(());
    }
    let (whole, writes) = pending.into_parts();
    if let Some(whole) = whole {
        db.clear().map_err(sled_at(folder, "clear"))?;
        for record in projection::records(&whole) {
            let (key, value) = record?;
            db.insert(key, value).map_err(sled_at(folder, "write a record"))?;
        }
    }
    for (key, value) in writes {
        match value {
            Some(value) => db.insert(key, value).map(drop),
            None => db.remove(key).map(drop),
        }
        .map_err(sled_at(folder, "write a record"))?;
    }
    Ok(())
}

fn close(db: &sled::Db, folder: &Path) -> Result<(), StateStoreError> {
    db.flush().map_err(sled_at(folder, "flush"))?;
    // sled's flush leaves names and lengths to the system: nothing may say that it was closed before it is all there.
    flush_all(&folder.join(TREE))?;
    let closed = folder.join(CLOSED);
    let file = File::create(&closed).map_err(at(&closed, "cannot be made"))?;
    file.sync_all().map_err(at(&closed, "cannot be flushed"))?;
    flush_names(folder)
}

/// Waits until sled's own threads, which are a moment behind, have let go of its files: who opens them again while they
/// are locked would take them for damaged.
fn released(folder: &Path) -> Result<(), StateStoreError> {
    let locked = folder.join(TREE).join(LOCKED);
    let file = File::open(&locked).map_err(at(&locked, "cannot be opened"))?;
    for _ in 0..RELEASE_LOOKS {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(RELEASE_LOOK),
            Err(TryLockError::Error(e)) => return Err(at(&locked, "cannot be locked")(e)),
        }
    }
    tracing::warn!(?locked, "state store was closed, and sled still holds its files");
    Ok(())
}

/// Opens what was closed in good order. sled panics on some damage: that is damage, and no more.
fn open_kept(folder: &Path) -> Result<(Projection, sled::Db), StateStoreError> {
    let opened = std::panic::catch_unwind(|| open_tree(folder).and_then(|db| Ok((read(&db, folder)?, db))));
    opened.unwrap_or_else(|_| Err(StateStoreError::Damaged { path: folder.to_owned() }))
}

fn open_tree(folder: &Path) -> Result<sled::Db, StateStoreError> {
    // Flushed when it is closed and never before: that is all that counts, and the log needs the disk.
    let config = sled::Config::default().path(folder.join(TREE)).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    config.open().map_err(sled_at(folder, "open"))
}

fn begin(folder: &Path) -> Result<sled::Db, StateStoreError> {
    let tree = folder.join(TREE);
    match fs::remove_dir_all(&tree) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(at(&tree, "cannot be removed")(e)),
    }
    open_tree(folder)
}

fn read(db: &sled::Db, folder: &Path) -> Result<Projection, StateStoreError> {
    let mut projection = Projection::default();
    for pair in db.iter() {
        let (key, value) = pair.map_err(sled_at(folder, "read"))?;
        projection.take_in(&key, &value)?;
    }
    projection.checked()?.ok_or_else(|| StateStoreError::Damaged { path: folder.to_owned() })
}

fn flush_names(folder: &Path) -> Result<(), StateStoreError> {
    sync_folder(folder).map_err(at(folder, "cannot be flushed"))
}

/// Flushes every file below a folder, and the folders.
fn flush_all(folder: &Path) -> Result<(), StateStoreError> {
    for entry in fs::read_dir(folder).map_err(at(folder, "cannot be read"))? {
        let path = entry.map_err(at(folder, "cannot be read"))?.path();
        if path.is_dir() {
            flush_all(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(at(&path, "cannot be flushed"))?;
        }
    }
    flush_names(folder)
}

fn at(path: &Path, step: &'static str) -> impl FnOnce(std::io::Error) -> StateStoreError {
    let path = path.to_owned();
    move |source| StateStoreError::Folder { path, step, source }
}

fn sled_at(path: &Path, step: &'static str) -> impl FnOnce(sled::Error) -> StateStoreError {
    let path = path.to_owned();
    move |source| StateStoreError::Sled { path, step, source }
}
