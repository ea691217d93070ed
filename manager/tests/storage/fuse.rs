//! The disk of `disk.rs` as a file system that is mounted: whoever writes into it can be killed, or have the power cut,
//! at the nth operation.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use tempfile::TempDir;

use crate::disk::{Disk, File, Folder, Kind, Node, Outcome};

/// Nothing is cached outside the disk.
const UNCACHED: Duration = Duration::ZERO;
const BLOCK: u32 = 4096;

/// When to end whom.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub process: rustix::process::Pid,
    pub after_operations: u64,
}

#[derive(Debug)]
struct Shared {
    disk: Disk,
    cut: Option<Cut>,
    off: bool,
}

/// A mounted disk. It is unmounted when this is dropped.
pub struct Mounted {
    shared: Arc<Mutex<Shared>>,
    session: Option<BackgroundSession>,
    home: TempDir,
}

impl Mounted {
    /// Mounts a disk, or says why that cannot be done here.
    pub fn mount(disk: Disk) -> Result<Self, String> {
        let home = tempfile::tempdir().map_err(|e| e.to_string())?;
        let shared = Arc::new(Mutex::new(Shared { disk, cut: None, off: false }));
        let mut config = fuser::Config::default();
        config.mount_options = vec![fuser::MountOption::FSName("vouch-test".to_owned())];
        let session = fuser::spawn_mount(Fs(Arc::clone(&shared)), home.path(), &config)
            .map_err(|e| format!("no FUSE file system can be mounted here ({e}): it takes root and /dev/fuse"))?;
        Ok(Self { shared, session: Some(session), home })
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a process killed at so many operations from now.
    pub fn cut(&self, cut: Cut) {
        let mut shared = self.shared();
        let after_operations = shared.disk.operations + cut.after_operations;
        shared.cut = Some(Cut { after_operations, ..cut });
    }

    /// Changes the disk under the file system.
    pub fn disk<T>(&self, change: impl FnOnce(&mut Disk) -> T) -> T {
        change(&mut self.shared().disk)
    }

    /// Unmounts, and returns the disk as the last process saw it.
    ///
    /// The thread that serves it is not waited for: where another process has copied the mounts meanwhile, as one in a
    /// network namespace does, it serves until that one ends.
    pub fn unmount(mut self) -> Disk {
        self.shared().off = true;
        drop(self.session.take());
        self.shared().disk.clone()
    }
}

struct Fs(Arc<Mutex<Shared>>);

fn name(name: &OsStr) -> Result<&str, i32> {
    name.to_str().ok_or(libc::EINVAL)
}

fn attributes(id: u64, node: &Node) -> FileAttr {
    let (kind, size) = match &node.kind {
        Kind::Folder(_) => (FileType::Directory, 0),
        Kind::File(file) => (FileType::RegularFile, file.bytes.len() as u64),
    };
    FileAttr {
        ino: INodeNo(id),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: u16::try_from(node.mode & 0o7777).unwrap_or(0o600),
        nlink: 1,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

impl Fs {
    fn look<T>(&self, look: impl FnOnce(&Disk) -> Outcome<T>) -> Result<T, Errno> {
        let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.off {
            return Err(Errno::EIO);
        }
        look(&shared.disk).map_err(Errno::from_i32)
    }

    /// Changes the disk, unless the end comes before it.
    fn change<T>(&self, change: impl FnOnce(&mut Disk) -> Outcome<T>) -> Result<T, Errno> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cut) = shared.cut
            && shared.disk.operations >= cut.after_operations
        {
            shared.cut = None;
            shared.off = true;
            // Whoever was ended already needs no more.
            let _ = rustix::process::kill_process(cut.process, rustix::process::Signal::KILL);
        }
        if shared.off {
            return Err(Errno::EIO);
        }
        change(&mut shared.disk).map_err(Errno::from_i32)
    }

    fn entry(&self, id: Result<u64, Errno>) -> Result<FileAttr, Errno> {
        let id = id?;
        self.look(|disk| disk.nodes.get(&id).map(|node| attributes(id, node)).ok_or(libc::ENOENT))
    }

    fn created(&self, parent: INodeNo, file: &OsStr, kind: Kind, mode: u32) -> Result<FileAttr, Errno> {
        self.entry(self.change(|disk| disk.create(parent.0, name(file)?, kind, mode)))
    }
}

fn done(reply: ReplyEmpty, outcome: Result<(), Errno>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

impl Filesystem for Fs {
    fn lookup(&self, _: &Request, parent: INodeNo, file: &OsStr, reply: ReplyEntry) {
        match self.entry(self.look(|disk| disk.lookup(parent.0, name(file)?))) {
            Ok(attr) => reply.entry(&UNCACHED, &attr, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn getattr(&self, _: &Request, id: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.entry(Ok(id.0)) {
            Ok(attr) => reply.attr(&UNCACHED, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        id: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut outcome = Ok(());
        if let Some(size) = size {
            outcome = self.change(|disk| disk.set_len(id.0, usize::try_from(size).map_err(|_| libc::EFBIG)?));
        }
        if let Some(mode) = mode {
            outcome = outcome.and_then(|()| {
                self.change(|disk| disk.nodes.get_mut(&id.0).map(|node| node.mode = mode).ok_or(libc::ENOENT))
            });
        }
        match self.entry(outcome.map(|()| id.0)) {
            Ok(attr) => reply.attr(&UNCACHED, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, file: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        match self.created(parent, file, Kind::Folder(Folder::default()), mode) {
            Ok(attr) => reply.entry(&UNCACHED, &attr, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, file: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.created(parent, file, Kind::File(File::default()), mode) {
            Ok(attr) => {
                reply.created(&UNCACHED, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(e) => reply.error(e),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, file: &OsStr, reply: ReplyEmpty) {
        done(reply, self.change(|disk| disk.remove(parent.0, name(file)?)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, file: &OsStr, reply: ReplyEmpty) {
        done(reply, self.change(|disk| disk.remove(parent.0, name(file)?)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        from: &OsStr,
        new_parent: INodeNo,
        to: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if parent != new_parent {
            return reply.error(Errno::from_i32(libc::EXDEV));
        }
        done(reply, self.change(|disk| disk.rename(parent.0, name(from)?, name(to)?)));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        id: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.look(|disk| {
            let bytes = &disk.file(id.0)?.bytes;
            let from = bytes.len().min(usize::try_from(offset).map_err(|_| libc::EINVAL)?);
            let to = bytes.len().min(from + size as usize);
            Ok(bytes[from..to].to_vec())
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(e),
        }
    }

    fn write(
        &self,
        _: &Request,
        id: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let at = usize::try_from(offset).map_err(|_| Errno::from_i32(libc::EFBIG));
        match at.and_then(|at| self.change(|disk| disk.write(id.0, at, bytes))) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            Err(e) => reply.error(e),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, id: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.change(|disk| disk.fsync(id.0)));
    }

    fn fsyncdir(&self, _: &Request, id: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.change(|disk| disk.fsync_folder(id.0)));
    }

    fn readdir(&self, _: &Request, id: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names = self.look(|disk| {
            let folder = disk.folder(id.0)?;
            Ok(folder.names.iter().map(|(name, id)| (name.clone(), *id)).collect::<Vec<_>>())
        });
        match names {
            Err(e) => reply.error(e),
            Ok(names) => {
                let skip = usize::try_from(offset).unwrap_or(usize::MAX);
                for (number, (name, id)) in (1..).zip(names).skip(skip) {
                    let kind = match self.entry(Ok(id)) {
                        Ok(attr) => attr.kind,
                        Err(_) => FileType::RegularFile,
                    };
                    if reply.add(INodeNo(id), number, kind, &name) {
                        break;
                    }
                }
                reply.ok();
            }
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.look(|disk| Ok(disk.room.saturating_sub(disk.used()) as u64)) {
            Ok(free) => {
                let blocks = free / u64::from(BLOCK);
                reply.statfs(blocks, blocks, blocks, 1 << 20, 1 << 20, BLOCK, 255, BLOCK);
            }
            Err(e) => reply.error(e),
        }
    }
}
