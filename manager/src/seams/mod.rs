//! The seams that a simulator replaces: wall clock, random numbers, blobs; and the monotonic clock, which follows
//! tokio's and so is virtual wherever that is paused.

mod blobs;
mod clock;
mod followed;
mod free_space;
mod rng;
mod wall_clock;

pub(crate) use blobs::digest_of;
pub use blobs::{BlobError, BlobStore, FileBlobs, MemoryBlobs};
pub use clock::Clock;
pub use followed::{Followed, Follower};
pub use free_space::{FolderSpace, FreeSpace, SimSpace};
pub use rng::{Rng, SeededRng, SystemRng};
pub use wall_clock::{SimWallClock, SystemWallClock, WallClock};
