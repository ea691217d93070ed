//! The form of a backup. Pure: bytes in, bytes out.
//!
//! ```text
//! "VOUCHBK" format (1 byte)  length of head (u32 LE)  head (JSON)
//! length of image (u64 LE)  image (as in a snapshot)
//! per blob of the head: length (u64 LE)  bytes
//! SHA-256 of all before it
//! ```
//!
//! The checksum comes last in every format, so that damage is told from a format that is not known yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use vouch_types::{ClusterId, Digest, LogIndex, Term, WallTime};

use crate::seams::digest_of;
use crate::store::codec::{CodecError, decode, encode};
use crate::store::{Image, State};

/// The format that this version writes; it reads no later one.
pub const FORMAT: u8 = 1;
const MAGIC: &[u8; 7] = b"VOUCHBK";
const CHECKSUM_LEN: usize = 32;

/// Why these bytes are no backup that can be used.
#[derive(Debug, Error)]
pub enum BackupError {
    /// They are not what was written.
    #[error("is damaged or cut off ({0}): use another backup")]
    Damaged(&'static str),
    /// A later version of vouch wrote them.
    #[error(
        "has format {found}, and this version of vouch reads up to {FORMAT}: use the version that made it, or a later one"
    )]
    Newer {
        /// Its format.
        found: u8,
    },
    /// They are whole, and something else.
    #[error("is no backup of a vouch cluster")]
    Foreign,
    /// The state has no form as bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// There is no cluster to back up.
    #[error("the cluster is not initialised")]
    NoCluster,
}

/// What a backup is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackupHead {
    /// The cluster.
    pub cluster: ClusterId,
    /// The log index up to which it holds everything.
    pub index: LogIndex,
    /// The term in which it was made.
    pub term: Term,
    /// When, for people.
    pub at: WallTime,
    /// The version of vouch that made it.
    pub version: String,
    /// Digests of the components that it holds, in their order.
    pub blobs: Vec<Digest>,
}

/// A backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backup {
    /// What it is of.
    pub head: BackupHead,
    /// The bytes of an [`Image`].
    pub image: Bytes,
    /// Components that operators uploaded.
    pub blobs: BTreeMap<Digest, Bytes>,
}

impl Backup {
    /// Returns the backup of a state that holds everything up to this index.
    ///
    /// # Errors
    /// [`BackupError`] when there is no cluster, or the state has no form as bytes.
    pub fn new(
        state: &State,
        index: LogIndex,
        term: Term,
        at: WallTime,
        blobs: BTreeMap<Digest, Bytes>,
    ) -> Result<Self, BackupError> {
        let cluster = state.cluster().ok_or(BackupError::NoCluster)?.id;
        let head = BackupHead {
            cluster,
            index: index.max(state.marks().latest),
            term: term.max(state.leader().map_or(term, |leader| leader.term)),
            at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            blobs: blobs.keys().copied().collect(),
        };
        Ok(Self { head, image: encode("backup", &Image::from(state))?.into(), blobs })
    }

    /// Returns the state that it holds.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] when there is none in it.
    pub fn state(&self) -> Result<State, BackupError> {
        let image: Image =
            decode("backup", &self.image).map_err(|_| BackupError::Damaged("its state cannot be read"))?;
        Ok(image.into())
    }

    /// Returns it as the bytes of a file.
    ///
    /// # Errors
    /// [`BackupError::Codec`] when its head has no form as bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BackupError> {
        let head = encode("head of a backup", &self.head)?;
        let head_len = u32::try_from(head.len()).expect("a head is far smaller than 4 GiB");
        let mut bytes = Vec::with_capacity(self.image.len() + head.len() + 128);
        bytes.extend_from_slice(MAGIC);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&head_len.to_le_bytes());
        bytes.extend_from_slice(&head);
        for part in std::iter::once(&self.image).chain(self.blobs.values()) {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        Ok(bytes)
    }

    /// Returns the backup that these bytes are.
    ///
    /// # Errors
    /// [`BackupError`] says why they are none that can be used.
    pub fn parse(bytes: &Bytes) -> Result<Self, BackupError> {
        let damaged = BackupError::Damaged;
        let body_len = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(damaged("it is too short"))?;
        let body = bytes.slice(..body_len);
        if Sha256::digest(&body)[..] != bytes[body_len..] {
            return Err(damaged("its checksum does not match"));
        }
        let (format, rest) = body.strip_prefix(MAGIC).and_then(<[u8]>::split_first).ok_or(BackupError::Foreign)?;
        if *format > FORMAT {
            return Err(BackupError::Newer { found: *format });
        }
        let (head_len, rest) = rest.split_first_chunk::<4>().ok_or(damaged("it has no head"))?;
        let (head, mut rest) =
            rest.split_at_checked(u32::from_le_bytes(*head_len) as usize).ok_or(damaged("its head is cut off"))?;
        let head: BackupHead = decode("head", head).map_err(|_| damaged("its head cannot be read"))?;
        let mut part = || {
            let (len, after) = rest.split_first_chunk::<8>()?;
            let (part, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
            rest = after;
            Some(body.slice_ref(part))
        };
        let image = part().ok_or(damaged("its state is cut off"))?;
        let mut blobs = BTreeMap::new();
        for digest in &head.blobs {
            let blob = part().ok_or(damaged("a component is cut off"))?;
            if digest_of(&blob) != *digest {
                return Err(damaged("a component is not the one that it names"));
            }
            blobs.insert(*digest, blob);
        }
        if !rest.is_empty() {
            return Err(damaged("it is longer than it says"));
        }
        Ok(Self { head, image, blobs })
    }
}
