//! A disk in memory that knows what was flushed: files and names as a process sees them, and as they are once the power
//! has failed. Pure: the file system in `fuse.rs` drives it.
//!
//! What a power loss may do: of each file, the flushed bytes stay, and of the writes since then a prefix, of which the
//! last may be torn: an append at any byte, an overwrite between two sectors, or the length may have come without the
//! bytes. Of each folder, the flushed names stay, and of the changes since then a prefix. Nothing ties one file or
//! folder to another: what the code needs it has to flush.

use std::collections::BTreeMap;

use rand::Rng;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
pub const ROOT: u64 = 1;

/// What is done to a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Write,
    SetLen,
    Fsync,
    Create,
    Rename,
    Remove,
    FsyncFolder,
}

/// Something that goes wrong when it is done to a path.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub operation: Operation,
    /// Part of the path.
    pub path: &'static str,
    pub errno: i32,
    /// How often it went wrong.
    pub times: u32,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn make(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                file.resize(file.len().max(at + bytes.len()), 0);
                file[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::SetLen(len) => file.resize(*len, 0),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Folder {
    pub names: BTreeMap<String, u64>,
    flushed: BTreeMap<String, u64>,
    /// Each is one step: names and what they stand for after it.
    pending: Vec<Vec<(String, Option<u64>)>>,
}

#[derive(Clone, Debug, Default)]
pub struct File {
    pub bytes: Vec<u8>,
    flushed: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Folder(Folder),
    File(File),
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub path: String,
}

/// The disk.
#[derive(Clone, Debug)]
pub struct Disk {
    pub nodes: BTreeMap<u64, Node>,
    next: u64,
    /// How many operations there were that a power loss can fall between.
    pub operations: u64,
    pub troubles: Vec<Trouble>,
    /// How many bytes it holds at most.
    pub room: usize,
    flushes: Flushes,
}

/// Whether a flush does what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flushes {
    Honest,
    Lying,
}

impl Default for Disk {
    fn default() -> Self {
        let root = Node { kind: Kind::Folder(Folder::default()), mode: 0o700, path: String::new() };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            operations: 0,
            troubles: Vec::new(),
            room: usize::MAX,
            flushes: Flushes::Honest,
        }
    }
}

pub type Outcome<T> = Result<T, i32>;

impl Disk {
    /// Returns an empty disk that only says that it flushes.
    pub fn lying() -> Self {
        Self { flushes: Flushes::Lying, ..Self::default() }
    }

    pub fn folder(&self, id: u64) -> Outcome<&Folder> {
        match self.nodes.get(&id).map(|node| &node.kind) {
            Some(Kind::Folder(folder)) => Ok(folder),
            Some(Kind::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    pub fn file(&self, id: u64) -> Outcome<&File> {
        match self.nodes.get(&id).map(|node| &node.kind) {
            Some(Kind::File(file)) => Ok(file),
            Some(Kind::Folder(_)) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn folder_mut(&mut self, id: u64) -> Outcome<&mut Folder> {
        self.folder(id)?;
        match self.nodes.get_mut(&id).map(|node| &mut node.kind) {
            Some(Kind::Folder(folder)) => Ok(folder),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn file_mut(&mut self, id: u64) -> Outcome<&mut File> {
        self.file(id)?;
        match self.nodes.get_mut(&id).map(|node| &mut node.kind) {
            Some(Kind::File(file)) => Ok(file),
            _ => Err(libc::EISDIR),
        }
    }

    pub fn lookup(&self, parent: u64, name: &str) -> Outcome<u64> {
        self.folder(parent)?.names.get(name).copied().ok_or(libc::ENOENT)
    }

    pub fn used(&self) -> usize {
        let files = self.nodes.values().filter_map(|node| match &node.kind {
            Kind::File(file) => Some(file.bytes.len()),
            Kind::Folder(_) => None,
        });
        files.sum()
    }

    fn step(&mut self, operation: Operation, path: &str) -> Outcome<()> {
        self.operations += 1;
        match self.troubles.iter_mut().find(|trouble| trouble.operation == operation && path.contains(trouble.path)) {
            Some(trouble) => {
                trouble.times += 1;
                Err(trouble.errno)
            }
            None => Ok(()),
        }
    }

    fn path(&self, id: u64) -> String {
        self.nodes.get(&id).map(|node| node.path.clone()).unwrap_or_default()
    }

    pub fn create(&mut self, parent: u64, name: &str, kind: Kind, mode: u32) -> Outcome<u64> {
        let path = format!("{}/{name}", self.path(parent));
        self.step(Operation::Create, &path)?;
        if self.folder(parent)?.names.contains_key(name) {
            return Err(libc::EEXIST);
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node { kind, mode, path });
        let folder = self.folder_mut(parent)?;
        folder.names.insert(name.to_owned(), id);
        folder.pending.push(vec![(name.to_owned(), Some(id))]);
        Ok(id)
    }

    pub fn remove(&mut self, parent: u64, name: &str) -> Outcome<()> {
        let path = format!("{}/{name}", self.path(parent));
        self.step(Operation::Remove, &path)?;
        let folder = self.folder_mut(parent)?;
        folder.names.remove(name).ok_or(libc::ENOENT)?;
        folder.pending.push(vec![(name.to_owned(), None)]);
        Ok(())
    }

    /// Renames within one folder: nothing here does it across two.
    pub fn rename(&mut self, parent: u64, name: &str, to: &str) -> Outcome<()> {
        let path = format!("{}/{to}", self.path(parent));
        self.step(Operation::Rename, &path)?;
        let folder = self.folder_mut(parent)?;
        let id = folder.names.remove(name).ok_or(libc::ENOENT)?;
        folder.names.insert(to.to_owned(), id);
        folder.pending.push(vec![(name.to_owned(), None), (to.to_owned(), Some(id))]);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.path = path;
        }
        Ok(())
    }

    pub fn write(&mut self, id: u64, at: usize, bytes: &[u8]) -> Outcome<()> {
        let path = self.path(id);
        self.step(Operation::Write, &path)?;
        let more = (at + bytes.len()).saturating_sub(self.file(id)?.bytes.len());
        if more > self.room.saturating_sub(self.used()) {
            return Err(libc::ENOSPC);
        }
        self.change(id, Change::Write { at, bytes: bytes.to_vec() })
    }

    pub fn set_len(&mut self, id: u64, len: usize) -> Outcome<()> {
        let path = self.path(id);
        self.step(Operation::SetLen, &path)?;
        self.change(id, Change::SetLen(len))
    }

    fn change(&mut self, id: u64, change: Change) -> Outcome<()> {
        let file = self.file_mut(id)?;
        change.make(&mut file.bytes);
        file.pending.push(change);
        Ok(())
    }

    /// Flushes a file. One that fails has lost what was to be flushed, and the next one does not know: as Linux does.
    pub fn fsync(&mut self, id: u64) -> Outcome<()> {
        let path = self.path(id);
        let outcome = self.step(Operation::Fsync, &path);
        if self.flushes == Flushes::Lying {
            return outcome;
        }
        let file = self.file_mut(id)?;
        let pending = std::mem::take(&mut file.pending);
        outcome?;
        for change in &pending {
            change.make(&mut file.flushed);
        }
        Ok(())
    }

    pub fn fsync_folder(&mut self, id: u64) -> Outcome<()> {
        let path = self.path(id);
        self.step(Operation::FsyncFolder, &path)?;
        let folder = self.folder_mut(id)?;
        folder.pending.clear();
        folder.flushed = folder.names.clone();
        Ok(())
    }

    /// Returns what is left after a power loss.
    pub fn after_power_loss(&self, rng: &mut impl Rng) -> Self {
        let mut left = self.clone();
        left.operations = 0;
        for node in left.nodes.values_mut() {
            match &mut node.kind {
                Kind::Folder(folder) => {
                    let kept = prefix(rng, folder.pending.len());
                    folder.names = folder.flushed.clone();
                    for (name, id) in folder.pending.drain(..).take(kept).flatten() {
                        match id {
                            Some(id) => drop(folder.names.insert(name, id)),
                            None => drop(folder.names.remove(&name)),
                        }
                    }
                    folder.flushed = folder.names.clone();
                }
                Kind::File(file) => {
                    let kept = prefix(rng, file.pending.len());
                    let mut pending = file.pending.drain(..);
                    file.bytes = file.flushed.clone();
                    for change in pending.by_ref().take(kept) {
                        change.make(&mut file.bytes);
                    }
                    if let Some(change) = pending.next() {
                        tear(rng, &change, &mut file.bytes);
                    }
                    drop(pending);
                    file.flushed = file.bytes.clone();
                }
            }
        }
        left.forget_the_nameless();
        left
    }

    fn forget_the_nameless(&mut self) {
        let mut named = vec![ROOT];
        let mut seen = 0;
        while let Some(id) = named.get(seen).copied() {
            seen += 1;
            if let Ok(folder) = self.folder(id) {
                named.extend(folder.names.values().copied());
            }
        }
        self.nodes.retain(|id, _| named.contains(id));
    }
}

/// How many of so many steps are kept: none and all are as likely as anything between.
fn prefix(rng: &mut impl Rng, len: usize) -> usize {
    match rng.random_range(0..3) {
        0 => 0,
        1 => len,
        _ => rng.random_range(0..=len),
    }
}

fn tear(rng: &mut impl Rng, change: &Change, file: &mut Vec<u8>) {
    let Change::Write { at, bytes } = change else { return };
    if *at == file.len() && rng.random_range(0..4) == 0 {
        // The new length came, and none of the bytes.
        file.resize(at + bytes.len(), 0);
        return;
    }
    let mut len = rng.random_range(0..=bytes.len());
    if *at < file.len() {
        len = len.min(((at + len) / SECTOR * SECTOR).saturating_sub(*at));
    }
    if len > 0 && *at <= file.len() {
        Change::Write { at: *at, bytes: bytes[..len].to_vec() }.make(file);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn what_was_flushed_stays_and_the_rest_may_go() {
        let mut disk = Disk::default();
        let id = disk.create(ROOT, "a", Kind::File(File::default()), 0o600).unwrap();
        disk.write(id, 0, b"flushed").unwrap();
        disk.fsync(id).unwrap();
        disk.write(id, 7, b" and not").unwrap();
        let mut lengths = std::collections::BTreeSet::new();
        let mut nameless = 0;
        for seed in 0..200 {
            let left = disk.after_power_loss(&mut StdRng::seed_from_u64(seed));
            match left.lookup(ROOT, "a") {
                Err(_) => nameless += 1,
                Ok(id) => {
                    let bytes = &left.file(id).unwrap().bytes;
                    assert!(bytes.starts_with(b"flushed"));
                    lengths.insert(bytes.len());
                }
            }
        }
        assert!(nameless > 20 && lengths.len() > 5, "{nameless} {lengths:?}");
        disk.fsync_folder(ROOT).unwrap();
        assert!((0..50).all(|s| disk.after_power_loss(&mut StdRng::seed_from_u64(s)).lookup(ROOT, "a").is_ok()));
    }

    #[test]
    fn a_flush_that_failed_is_not_made_good_by_the_next_one() {
        let mut disk = Disk::default();
        let id = disk.create(ROOT, "a", Kind::File(File::default()), 0o600).unwrap();
        disk.fsync_folder(ROOT).unwrap();
        disk.write(id, 0, b"lost").unwrap();
        disk.troubles.push(Trouble { operation: Operation::Fsync, path: "/a", errno: libc::EIO, times: 0 });
        assert_eq!(disk.fsync(id), Err(libc::EIO));
        disk.troubles.clear();
        disk.fsync(id).unwrap();
        assert_eq!(disk.file(id).unwrap().bytes, b"lost", "as the process sees it");
        let left = disk.after_power_loss(&mut StdRng::seed_from_u64(1));
        assert_eq!(left.file(id).unwrap().bytes, b"", "as it is");
    }
}
