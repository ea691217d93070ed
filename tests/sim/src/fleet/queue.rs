//! The queue of virtual events: by moment, and in the order in which they were put where moments are the same.
//!
//! Most events are due within a second or two, and there are tens of thousands of them: one heap of all would miss the
//! caches with every step. So they wait in a wheel of short spans, and only those of the span that it is now are in a
//! heap. What is due later than the wheel reaches waits apart, by span.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use vouch_types::Moment;

/// The length of a span: two to this power, in microseconds.
const SPAN_BITS: u32 = 8;
/// How many spans the wheel has: two seconds' worth.
const SPANS: u64 = 1 << 13;

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
    /// The span that it is now.
    span: u64,
    /// Events of this span, and of those before it.
    present: BinaryHeap<Entry<T>>,
    /// Events of the [`SPANS`] spans after this one, each at its number modulo their count.
    wheel: Vec<Vec<Entry<T>>>,
    /// How many events are in the wheel.
    in_wheel: usize,
    /// Events of later spans.
    later: BTreeMap<u64, Vec<Entry<T>>>,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let wheel = (0..SPANS).map(|_| Vec::new()).collect();
        Self { span: 0, present: BinaryHeap::new(), wheel, in_wheel: 0, later: BTreeMap::new(), next: 0 }
    }
}

fn place(span: u64) -> usize {
    usize::try_from(span % SPANS).expect("the wheel fits into memory")
}

impl<T> Queue<T> {
    pub(crate) fn put(&mut self, at: Moment, event: T) {
        let entry = Entry { at, number: self.next, event };
        self.next += 1;
        let span = at.as_micros() >> SPAN_BITS;
        if span <= self.span {
            self.present.push(entry);
        } else if span - self.span <= SPANS {
            self.wheel[place(span)].push(entry);
            self.in_wheel += 1;
        } else {
            self.later.entry(span).or_default().push(entry);
        }
    }

    /// Takes the next event that is due before `end`.
    pub(crate) fn take_before(&mut self, end: Moment) -> Option<(Moment, T)> {
        while self.present.is_empty() {
            self.go_on()?;
        }
        if self.present.peek().is_none_or(|entry| entry.at >= end) {
            return None;
        }
        self.present.pop().map(|entry| (entry.at, entry.event))
    }

    /// Goes on to the next span; `None` when no event is left.
    fn go_on(&mut self) -> Option<()> {
        let first_later = self.later.first_key_value().map(|(span, _)| *span);
        self.span = if self.in_wheel > 0 { self.span + 1 } else { first_later? };
        let due = &mut self.wheel[place(self.span)];
        self.in_wheel -= due.len();
        self.present.extend(due.drain(..));
        if first_later == Some(self.span) {
            self.present.extend(self.later.pop_first().into_iter().flat_map(|(_, entries)| entries));
        }
        Some(())
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

    #[test]
    fn the_order_is_the_same_wherever_events_wait_and_whenever_they_are_put() {
        let mut queue = Queue::default();
        let mut draw = super::super::draw::Draw::new(3, 0);
        let (mut put, mut taken) = (Vec::new(), Vec::new());
        let mut now = Moment::ZERO;
        for round in 0..2_000_u64 {
            // Most are due soon, some where the wheel ends, some long after; several at the very same moment.
            for reach in [0, 40, 300, 5_000, 2_097_000, 2_097_500, 60_000_000] {
                let within = draw.between(std::time::Duration::ZERO, std::time::Duration::from_micros(reach));
                let at = now + within;
                put.push((at, put.len()));
                queue.put(at, put.len() - 1);
            }
            let end = now + std::time::Duration::from_micros(if round % 50 == 0 { 400_000 } else { 30 });
            taken.extend(std::iter::from_fn(|| queue.take_before(end)));
            now = end;
        }
        taken.extend(std::iter::from_fn(|| queue.take_before(Moment::from_micros(u64::MAX))));
        put.sort_unstable();
        assert_eq!(taken, put);
    }
}
