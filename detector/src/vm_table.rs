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
        // Folded multiplication: every bit of the product depends on what stands below it, and the upper half comes down,
        // so that ids which differ in a few bits alone, wherever those are, spread over the whole table.
        let product = u128::from(self.0) * 0x9E37_79B9_7F4A_7C15_u128;
        #[expect(clippy::cast_possible_truncation, reason = "the halves are folded")]
        let folded = product as u64 ^ (product >> 64) as u64;
        folded
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(23) ^ u64::from_be_bytes(word);
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

    /// Makes room for this many VMs in all, and no more: a table that doubles as it grows may stand half empty.
    pub fn make_room(&mut self, count: usize) {
        let more = count.saturating_sub(self.slots.len());
        self.slots.reserve_exact(more);
        self.at.reserve(more);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::Hash;

    use super::*;

    fn hash(id: u128) -> u64 {
        let mut hasher = UuidHasher::default();
        VmId::new(uuid::Uuid::from_u128(id)).hash(&mut hasher);
        hasher.finish()
    }

    /// How many of the buckets that hashbrown would put them in are taken: it goes by the lowest bits, and then by the
    /// highest.
    fn taken(ids: impl Iterator<Item = u128>) -> usize {
        ids.map(|id| hash(id) & 0xffff).collect::<BTreeSet<u64>>().len()
    }

    #[test]
    fn ids_that_differ_in_a_few_bits_alone_are_spread_like_random_ones() {
        const IDS: u128 = 1 << 15;
        // Random ones would take 1 - e^-0.5 of 65,536 buckets, which is 25,800.
        for shift in [0, 8, 24, 40, 64, 80, 96, 112] {
            let spread = taken((0..IDS).map(|n| n << shift));
            assert!(spread > 20_000, "shift {shift}: {spread}");
        }
        let named = taken((0..IDS).map(|n| 0x6f1c_2a9e_0000_4000_8000_0000_0000_0000 | n));
        assert!(named > 20_000, "{named}");
    }
}
