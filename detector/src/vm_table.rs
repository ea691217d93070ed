//! All VMs by id: found by hash, walked in the order in which they came.
//!
//! The hash only finds; nothing is decided by its order. It is not keyed: ids come from the replicated inventory, which
//! operators fill, and a slow look-up is the worst that a bad choice of ids could do.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use vouch_types::VmId;

use crate::vm_track::VmTrack;

/// Mixes the 16 bytes of a UUID, most of which are random already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UuidHasher(u64);

impl Hasher for UuidHasher {
    fn finish(&self) -> u64 {
        // Fibonacci hashing: the top bits, which the table uses, depend on all of them.
        let mixed = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(23) ^ u64::from_le_bytes(word);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// All VMs.
#[derive(Debug, Default)]
pub(crate) struct VmTable {
    slots: Vec<VmTrack>,
    at: HashMap<VmId, usize, BuildHasherDefault<UuidHasher>>,
}

impl VmTable {
    /// Returns the VM of this id.
    pub fn get(&self, id: &VmId) -> Option<&VmTrack> {
        self.at.get(id).map(|at| &self.slots[*at])
    }

    /// Returns the VM of this id, to be changed.
    pub fn get_mut(&mut self, id: &VmId) -> Option<&mut VmTrack> {
        self.at.get(id).map(|at| &mut self.slots[*at])
    }

    /// Puts a VM in the place of the one of its id, or at the end.
    pub fn put(&mut self, vm: VmTrack) {
        match self.at.get(&vm.entry.vm) {
            Some(at) => self.slots[*at] = vm,
            None => {
                self.at.insert(vm.entry.vm, self.slots.len());
                self.slots.push(vm);
            }
        }
    }

    /// Takes a VM out; the last one takes its place.
    pub fn remove(&mut self, id: &VmId) -> Option<VmTrack> {
        let at = self.at.remove(id)?;
        let gone = self.slots.swap_remove(at);
        if let Some(moved) = self.slots.get(at) {
            self.at.insert(moved.entry.vm, at);
        }
        Some(gone)
    }

    /// Returns all, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &VmTrack> {
        self.slots.iter()
    }

    /// Returns all, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut VmTrack> {
        self.slots.iter_mut()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }
}
