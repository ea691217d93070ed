//! What is kept and not yet written: the newest value of each record, in the order of keys.
//!
//! Pure; who writes it, and when, is the store's matter ([`SledStateStore`](super::SledStateStore)).

use std::collections::BTreeMap;

use super::State;
use super::projection::Write;
use super::state_store::Batch;

/// How many bytes of keys and values may gather; then they are written at once.
pub(super) const PENDING_MAX: usize = 8 * 1024 * 1024;

/// What is kept and not yet written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    whole: Option<Box<State>>,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

fn size(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    key.len() + value.map_or(0, Vec::len)
}

impl Pending {
    /// Adds a batch to those before it.
    pub(super) fn add(&mut self, batch: Batch) {
        if batch.whole.is_some() {
            *self = Self { whole: batch.whole, ..Self::default() };
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
        self.writes.is_empty() && self.whole.is_none()
    }

    /// Returns how many bytes of keys and values there are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the state by which all that was written before is replaced, if it is, and what to write after that, in the order
    /// of keys.
    pub(super) fn into_parts(self) -> (Option<Box<State>>, impl Iterator<Item = Write>) {
        (self.whole, self.writes.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(writes: &[(&str, Option<&str>)]) -> Batch {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Batch { whole: None, writes: writes.iter().map(|(key, value)| (bytes(key), value.map(bytes))).collect() }
    }

    #[test]
    fn the_newest_value_of_a_record_stands_and_its_older_selves_take_no_room() {
        let mut pending = Pending::default();
        pending.add(batch(&[("b", Some("one")), ("a", Some("x"))]));
        pending.add(batch(&[("b", Some("three")), ("c", Some("y"))]));
        pending.add(batch(&[("a", None)]));
        assert_eq!(pending.bytes(), 1 + 6 + 2);
        let (whole, writes) = pending.into_parts();
        assert_eq!(whole, None);
        let wanted = batch(&[("a", None), ("b", Some("three")), ("c", Some("y"))]);
        assert_eq!(writes.collect::<Vec<Write>>(), wanted.writes);
    }

    #[test]
    fn a_whole_state_drops_what_gathered_before_it_and_comes_before_what_gathers_after_it() {
        let mut pending = Pending::default();
        pending.add(batch(&[("old", Some("x"))]));
        pending.add(Batch { whole: Some(Box::default()), writes: Vec::new() });
        assert!(!pending.is_empty(), "an empty state has to be written too");
        pending.add(batch(&[("new", Some("y"))]));
        assert_eq!(pending.bytes(), 4);
        let (whole, writes) = pending.into_parts();
        assert_eq!((whole, writes.count()), (Some(Box::default()), 1));
    }
}
