//! The last snapshot as a file with a checksum.
//!
//! ```text
//! "VOUCHSN1"  length of meta (u32 LE)  meta  length of image (u64 LE)  image  SHA-256 of all before it
//! ```
//!
//! Written beside, flushed, renamed, and the folder flushed: there is always one whole snapshot, the old or the new.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::codec::{decode, encode};
use super::folders::{make_folder, sync_folder};
use super::snapshot_store::{SnapshotError, SnapshotSource, SnapshotStore, StoredSnapshot};
use crate::raft::SnapshotMeta;

const MAGIC: &[u8; 8] = b"VOUCHSN1";
/// Mode of the file: it holds the keys of the cluster.
const FILE_MODE: u32 = 0o600;
const CHECKSUM_LEN: usize = 32;
const NAME: &str = "snapshot";
const NAME_BESIDE: &str = "snapshot.new";

/// The last snapshot as a file.
#[derive(Debug)]
pub struct FileSnapshotStore {
    folder: PathBuf,
}

impl FileSnapshotStore {
    /// Opens the store in this folder, which is made if it is missing. What was left half written is removed: on a full
    /// disk it may be what fills it.
    ///
    /// # Errors
    /// [`SnapshotError::File`] when it cannot be made, or the half-written one not be removed.
    pub fn open(folder: &Path) -> Result<Self, SnapshotError> {
        make_folder(folder).map_err(at(folder, "cannot be made"))?;
        let beside = folder.join(NAME_BESIDE);
        match fs::remove_file(&beside) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(at(&beside, "cannot be removed")(e)),
        }
        Ok(Self { folder: folder.to_owned() })
    }
}

#[async_trait]
impl SnapshotStore for FileSnapshotStore {
    async fn save(&self, meta: SnapshotMeta, source: SnapshotSource) -> Result<StoredSnapshot, SnapshotError> {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || {
            let snapshot = StoredSnapshot { meta, image: source.into_image()? };
            write(&folder, &snapshot)?;
            Ok(snapshot)
        })
        .await
        .unwrap_or(Err(SnapshotError::CutOff))
    }

    async fn covers(&self) -> Result<Option<SnapshotMeta>, SnapshotError> {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || read_meta(&folder)).await.unwrap_or(Err(SnapshotError::CutOff))
    }

    async fn load(&self) -> Result<Option<StoredSnapshot>, SnapshotError> {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || read(&folder)).await.unwrap_or(Err(SnapshotError::CutOff))
    }
}

fn write(folder: &Path, snapshot: &StoredSnapshot) -> Result<(), SnapshotError> {
    let meta = encode("snapshot meta", &snapshot.meta)?;
    let meta_len = u32::try_from(meta.len()).expect("a membership is far smaller than 4 GiB");
    let beside = folder.join(NAME_BESIDE);
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(&beside).map_err(at(&beside, "cannot be made"))?;
    // One that was left half written keeps the mode that it was made with.
    file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(at(&beside, "cannot be closed to others"))?;
    let mut checksum = Sha256::new();
    let parts: [&[u8]; 5] =
        [MAGIC, &meta_len.to_le_bytes(), &meta, &(snapshot.image.len() as u64).to_le_bytes(), &snapshot.image];
    for part in parts {
        checksum.update(part);
        file.write_all(part).map_err(at(&beside, "cannot be written"))?;
    }
    file.write_all(&checksum.finalize()).map_err(at(&beside, "cannot be written"))?;
    // An fsync that fails is never tried again: the caller ends the manager.
    file.sync_all().map_err(at(&beside, "cannot be flushed"))?;
    drop(file);
    let path = folder.join(NAME);
    fs::rename(&beside, &path).map_err(at(&path, "cannot be put in place"))?;
    sync_folder(folder).map_err(at(folder, "cannot be flushed"))
}

fn read(folder: &Path) -> Result<Option<StoredSnapshot>, SnapshotError> {
    let path = folder.join(NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(&path, "cannot be read")(e)),
    };
    parse(&bytes).map(Some).map_err(|what| SnapshotError::Damaged { path, what })
}

/// Reads no further than what the snapshot covers: the checksum is left to who reads the whole.
fn read_meta(folder: &Path) -> Result<Option<SnapshotMeta>, SnapshotError> {
    let path = folder.join(NAME);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(&path, "cannot be read")(e)),
    };
    let damaged = |what| SnapshotError::Damaged { path: path.clone(), what };
    let mut head = [0; MAGIC.len() + 4];
    file.read_exact(&mut head).map_err(|_| damaged("too short"))?;
    let len = head.strip_prefix(MAGIC).and_then(|len| len.first_chunk::<4>());
    let len = u32::from_le_bytes(*len.ok_or_else(|| damaged("not a snapshot of this version"))?);
    let mut meta = Vec::new();
    file.take(u64::from(len)).read_to_end(&mut meta).map_err(at(&path, "cannot be read"))?;
    decode("snapshot meta", &meta).map(Some).map_err(|_| damaged("its head cannot be read"))
}

fn parse(bytes: &Bytes) -> Result<StoredSnapshot, &'static str> {
    let body_len = bytes.len().checked_sub(CHECKSUM_LEN).ok_or("too short")?;
    let body = bytes.slice(..body_len);
    if Sha256::digest(&body)[..] != bytes[body_len..] {
        return Err("its checksum does not match");
    }
    let rest = body.strip_prefix(MAGIC).ok_or("not a snapshot of this version")?;
    let (meta_len, rest) = rest.split_first_chunk::<4>().ok_or("too short")?;
    let (meta, rest) = rest.split_at_checked(u32::from_le_bytes(*meta_len) as usize).ok_or("too short")?;
    let (image_len, image) = rest.split_first_chunk::<8>().ok_or("too short")?;
    if image.len() as u64 != u64::from_le_bytes(*image_len) {
        return Err("its length does not match");
    }
    let meta: SnapshotMeta = decode("snapshot meta", meta).map_err(|_| "its head cannot be read")?;
    Ok(StoredSnapshot { meta, image: body.slice_ref(image) })
}

fn at(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::File { path, step, source }
}
