//! The queue of virtual events: by moment, and in the order in which they were put where moments are the same.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use vouch_types::Moment;

#[derive(Debug)]
struct Entry<T> {
    at: Moment,
    number: u64,
    event: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The queue of virtual events.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Entry<T>>,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn put(&mut self, at: Moment, event: T) {
        self.heap.push(Entry { at, number: self.next, event });
        self.next += 1;
    }

    /// Takes the next event that is due before `end`.
    pub(crate) fn take_before(&mut self, end: Moment) -> Option<(Moment, T)> {
        if self.heap.peek().is_none_or(|entry| entry.at >= end) {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_moment_and_then_in_the_order_in_which_they_were_put() {
        let mut queue = Queue::default();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b'), (9, 'z')] {
            queue.put(Moment::from_micros(at), event);
        }
        let end = Moment::from_micros(9);
        let taken: String = std::iter::from_fn(|| queue.take_before(end)).map(|(_, event)| event).collect();
        assert_eq!(taken, "abcd");
    }
}
