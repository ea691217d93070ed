//! What is kept and not yet written: the newest value of each record, in the order of keys.
//!
//! Pure; who writes it, and when, is the store's matter ([`SledStateStore`](super::SledStateStore)).

use std::collections::BTreeMap;

use super::projection::Write;
use super::state_store::{Batch, Fresh};

/// How many bytes of keys and values may gather; then they are written at once.
pub(super) const PENDING_MAX: usize = 8 * 1024 * 1024;

/// What is kept and not yet written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    starts_over: bool,
    bytes: usize,
}

fn size(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    key.len() + value.map_or(0, Vec::len)
}

impl Pending {
    /// Adds a batch to those before it.
    pub(super) fn add(&mut self, batch: Batch) {
        if batch.fresh == Fresh::StartOver {
            *self = Self { starts_over: true, ..Self::default() };
        }
        for (key, value) in batch.writes {
            self.bytes += size(&key, value.as_ref());
            let key_len = key.len();
            if let Some(older) = self.writes.insert(key, value) {
                self.bytes -= key_len + older.map_or(0, |older| older.len());
            }
        }
    }

    /// Returns whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && !self.starts_over
    }

    /// Returns whether all that was written before has to go first.
    pub(super) fn starts_over(&self) -> bool {
        self.starts_over
    }

    /// Returns how many bytes of keys and values there are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns what to write, in the order of keys.
    pub(super) fn into_writes(self) -> impl Iterator<Item = Write> {
        self.writes.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(fresh: Fresh, writes: &[(&str, Option<&str>)]) -> Batch {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Batch { writes: writes.iter().map(|(key, value)| (bytes(key), value.map(bytes))).collect(), fresh }
    }

    #[test]
    fn the_newest_value_of_a_record_stands_and_its_older_selves_take_no_room() {
        let mut pending = Pending::default();
        pending.add(batch(Fresh::Add, &[("b", Some("one")), ("a", Some("x"))]));
        pending.add(batch(Fresh::Add, &[("b", Some("three")), ("c", Some("y"))]));
        pending.add(batch(Fresh::Add, &[("a", None)]));
        assert_eq!(pending.bytes(), 1 + 6 + 2);
        assert!(!pending.starts_over());
        let writes: Vec<Write> = pending.into_writes().collect();
        let wanted = batch(Fresh::Add, &[("a", None), ("b", Some("three")), ("c", Some("y"))]);
        assert_eq!(writes, wanted.writes);
    }

    #[test]
    fn a_fresh_start_drops_what_gathered_before_it_and_is_remembered_after_it() {
        let mut pending = Pending::default();
        pending.add(batch(Fresh::Add, &[("old", Some("x"))]));
        pending.add(batch(Fresh::StartOver, &[]));
        assert!(!pending.is_empty(), "an empty state has to be written too");
        pending.add(batch(Fresh::Add, &[("new", Some("y"))]));
        assert!(pending.starts_over());
        assert_eq!(pending.bytes(), 4);
    }
}
