//! Whether there is room on the disk for more of the log. Below the watermark entries are refused before the storage is
//! called: what the storage itself refuses is fatal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether there is room for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// There is.
    Enough,
    /// The disk is below the watermark.
    Low,
}

/// The last word on it, shared by the one that looks and those that refuse.
#[derive(Clone, Debug, Default)]
pub(super) struct RoomNow(Arc<AtomicBool>);

impl RoomNow {
    pub(super) fn set(&self, room: Room) {
        self.0.store(room == Room::Low, Ordering::Release);
    }

    pub(super) fn get(&self) -> Room {
        if self.0.load(Ordering::Acquire) { Room::Low } else { Room::Enough }
    }
}
