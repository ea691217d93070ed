//! A stream of appends to another manager: what of it is sent, and which answers openraft is handed.
//!
//! # The lease
//!
//! A leader's lease never begins later than the last append that was answered.
//! openraft takes the answer to an append for the answer to all that it has sent by then and that end at the same entry
//! (`InflightAppendQueue::drain_acked` of 0.10). An append without entries, which only tells how far the log is committed,
//! ends where the one before it does: sent while that one's answer is under way, and lost, it would count as answered, and
//! the lease as begun when it was sent. Followers wait from what arrived, and could elect another leader while the lease
//! still lasts. So an answer is kept back while a later append that it would count for has none: that one's answer says
//! as much, and is true of both. What was kept back before it and ends earlier is handed on in its place: it counts for
//! nothing that was sent after the append that is answered.
//!
//! # Appends that can wait
//!
//! An append without entries is worth a message only where none with entries follows soon: that tells the same. Where all
//! that was sent is committed, and commands wait for their turn, it is held for [`HELD`] at most, and left out once another
//! follows.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, Timeout, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::time::{Instant, Sleep};
use vouch_types::ManagerId;
use vouch_wire::links::LinkError;

use super::matched::Matched;
use super::proposals::Backlog;
use super::types::{LogId, Types, Vote};
use crate::store::codec::decode;

/// How long an append without entries is held at most, for one with entries to take its place.
const HELD: Duration = Duration::from_millis(2);

/// An append that openraft counts as sent.
struct Noted {
    /// Where it ends.
    end: Option<LogId>,
    /// Whether it was sent. The answer to a later one answers for one that was not.
    sent: bool,
}

#[derive(Default)]
struct State {
    /// The appends that have no answer yet, in their order.
    noted: VecDeque<Noted>,
    /// The last answer that was kept back.
    kept_back: Option<Option<LogId>>,
    /// Since when an answer has been due: the first of them was sent then, or the answer before its came.
    due_since: Option<Instant>,
    /// Whether openraft was handed an answer that it may not have counted yet: nothing is taken from it meanwhile.
    counting: bool,
    /// Who wants to take something meanwhile.
    paused: Option<Waker>,
}

fn end_of(request: &AppendEntriesRequest<Types>) -> Option<LogId> {
    request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id)
}

/// Returns whether it tells only that all is committed: nobody waits for an answer to what it ends at.
fn can_wait(request: &AppendEntriesRequest<Types>) -> bool {
    request.entries.is_empty() && request.leader_commit >= end_of(request)
}

impl State {
    fn note(&mut self, request: &AppendEntriesRequest<Types>) {
        self.noted.push_back(Noted { end: end_of(request), sent: false });
    }

    fn take(&mut self, requests: &mut Input, cx: &mut Context<'_>) -> Poll<Option<AppendEntriesRequest<Types>>> {
        if self.counting {
            self.paused = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let next = ready!(requests.poll_next_unpin(cx));
        if let Some(request) = &next {
            self.note(request);
        }
        Poll::Ready(next)
    }

    /// Notes that the last of them is sent.
    fn sends(&mut self) {
        if let Some(last) = self.noted.back_mut() {
            last.sent = true;
            self.due_since.get_or_insert_with(Instant::now);
        }
    }

    /// Takes the answer that a log agrees up to an entry, and returns the one that openraft may be handed by now.
    fn answered(&mut self, agreed: Option<LogId>) -> Option<Option<LogId>> {
        while self.noted.pop_front().is_some_and(|noted| !noted.sent) {}
        self.due_since = self.noted.iter().any(|noted| noted.sent).then(Instant::now);
        let handed = if self.noted.front().is_none_or(|noted| noted.end > agreed) {
            self.kept_back = None;
            Some(agreed)
        } else {
            self.kept_back.replace(agreed).filter(|before| *before < agreed)
        };
        self.counting = handed.is_some();
        handed
    }
}

/// The appends of a stream that have no answer yet. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<Mutex<State>>);

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns for how long an answer has been due.
    fn due_for(&self) -> Duration {
        self.lock().due_since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Notes that openraft has counted what it was handed.
    fn counted(&self) {
        let paused = {
            let mut state = self.lock();
            state.counting = false;
            state.paused.take()
        };
        if let Some(paused) = paused {
            paused.wake();
        }
    }
}

type Input = stream::Fuse<BoxStream<'static, AppendEntriesRequest<Types>>>;

/// What is sent of the appends that openraft wants to send.
pub(super) struct Requests {
    first: Option<AppendEntriesRequest<Types>>,
    rest: Input,
    in_flight: InFlight,
    backlog: Backlog,
    held: Option<AppendEntriesRequest<Types>>,
    held_until: Pin<Box<Sleep>>,
}

impl Requests {
    /// Returns the requests of a stream that openraft has begun.
    pub(super) fn new(
        first: AppendEntriesRequest<Types>,
        rest: impl Stream<Item = AppendEntriesRequest<Types>> + Send + 'static,
        in_flight: InFlight,
        backlog: Backlog,
    ) -> Self {
        in_flight.lock().note(&first);
        let held_until = Box::pin(tokio::time::sleep(HELD));
        Self { first: Some(first), rest: rest.boxed().fuse(), in_flight, backlog, held: None, held_until }
    }

    fn sends(&mut self, request: AppendEntriesRequest<Types>) -> Poll<Option<AppendEntriesRequest<Types>>> {
        self.in_flight.lock().sends();
        self.held = None;
        Poll::Ready(Some(request))
    }
}

impl Stream for Requests {
    type Item = AppendEntriesRequest<Types>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return this.sends(first);
        }
        loop {
            // openraft notes the time of a request while it is taken: under the lock, so that it is noted here too or not
            // at all.
            let next = this.in_flight.lock().take(&mut this.rest, cx);
            match next {
                Poll::Ready(Some(request)) if can_wait(&request) && this.backlog.exists() => {
                    if this.held.replace(request).is_none() {
                        this.held_until.as_mut().reset(Instant::now() + HELD);
                    }
                }
                Poll::Ready(Some(request)) => return this.sends(request),
                Poll::Ready(None) | Poll::Pending => {
                    if next.is_pending() && this.held.is_some() {
                        ready!(this.held_until.as_mut().poll(cx));
                    }
                    return match this.held.take() {
                        Some(held) => this.sends(held),
                        None => next,
                    };
                }
            }
        }
    }
}

/// The answers of an open stream of appends.
pub(super) struct Answers {
    pub(super) answers: BoxStream<'static, Result<Vec<u8>, LinkError>>,
    pub(super) in_flight: InFlight,
    pub(super) matched: Matched,
    pub(super) from: ManagerId,
    /// One stream carries the requests of one leader, of one term.
    pub(super) vote: Vote,
    /// What an answer that is overdue is told as.
    pub(super) stalled: Timeout<Types>,
}

type Answer = Result<StreamAppendResult<Types>, RPCError<Types>>;

impl Answers {
    /// Returns what openraft is handed, until an answer is overdue: a link that swallows messages never ends by itself.
    pub(super) fn handed_on(self) -> BoxStream<'static, Answer> {
        stream::unfold(Some(self), |open| async move {
            let mut open = open?;
            match open.next().await? {
                Ok(answer) => Some((Ok(answer), Some(open))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Answer> {
        self.in_flight.counted();
        loop {
            let left = self.stalled.timeout.saturating_sub(self.in_flight.due_for());
            let answer = match tokio::time::timeout(left, self.answers.next()).await {
                Ok(Some(Ok(answer))) => answer,
                Ok(Some(Err(e))) => return Some(Err(Unreachable::new(&e).into())),
                Ok(None) => return None,
                Err(_) if self.in_flight.due_for() >= self.stalled.timeout => {
                    return Some(Err(self.stalled.clone().into()));
                }
                // Nothing was asked meanwhile, or not long ago.
                Err(_) => continue,
            };
            let answer: StreamAppendResult<Types> = match decode("append answer", &answer) {
                Ok(answer) => answer,
                Err(e) => return Some(Err(NetworkError::new(&e).into())),
            };
            match &answer {
                Ok(agreed) => {
                    self.matched.accepted(self.from, &self.vote, agreed.as_ref());
                    match self.in_flight.lock().answered(*agreed) {
                        Some(handed) => return Some(Ok(Ok(handed))),
                        None => continue,
                    }
                }
                Err(StreamAppendError::Conflict(entry)) => {
                    if let Err(lost) = self.matched.lacks(self.from, &self.vote, entry) {
                        return Some(Err(Unreachable::new(&lost).into()));
                    }
                }
                Err(StreamAppendError::HigherVote(_)) => {}
            }
            return Some(Ok(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::channel::mpsc;
    use openraft::network::RPCTypes;
    use openraft::vote::leader_id_std::CommittedLeaderId;

    use super::*;
    use crate::raft::types::{Entry, Payload};
    use crate::store::codec::encode;

    const STALLED: Duration = Duration::from_secs(5);

    /// An open stream: what openraft would send, what goes out, what comes back, and what openraft is handed.
    struct Open {
        requests: mpsc::UnboundedSender<AppendEntriesRequest<Types>>,
        sent: Requests,
        backlog: Backlog,
        answers: mpsc::UnboundedSender<Result<Vec<u8>, LinkError>>,
        handed_on: BoxStream<'static, Answer>,
    }

    fn at(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1), index)
    }

    /// Returns an append of the entry of this index, or one without entries that ends there.
    fn append(index: u64, entry: bool) -> AppendEntriesRequest<Types> {
        let (before, entries) = match entry {
            true => (index - 1, vec![Entry { log_id: at(index), payload: Payload::Blank }]),
            false => (index, Vec::new()),
        };
        AppendEntriesRequest {
            vote: Vote::new(1, 1),
            prev_log_id: Some(at(before)),
            entries,
            leader_commit: Some(at(before)),
        }
    }

    impl Open {
        /// One that has begun with the entry of index 2, which is answered.
        fn new() -> Self {
            let (in_flight, backlog) = (InFlight::default(), Backlog::default());
            let (requests, waiting) = mpsc::unbounded();
            let sent = Requests::new(append(2, true), waiting, in_flight.clone(), backlog.clone());
            let (answers, coming) = mpsc::unbounded();
            let stalled = Timeout { action: RPCTypes::AppendEntries, id: 1, target: 2, timeout: STALLED };
            let handed_on = Answers {
                answers: coming.boxed(),
                in_flight,
                matched: Matched::default(),
                from: ManagerId::new(2),
                vote: Vote::new(1, 1),
                stalled,
            };
            let mut open = Self { requests, sent, backlog, answers, handed_on: handed_on.handed_on() };
            assert!(open.is_sent());
            open.answer(2);
            assert_eq!((open.handed(), open.handed()), (Some(2), None));
            open
        }

        fn wants_to_send(&self, index: u64, entry: bool) {
            self.requests.unbounded_send(append(index, entry)).unwrap();
        }

        fn send(&mut self, index: u64, entry: bool) {
            self.wants_to_send(index, entry);
            assert!(self.is_sent(), "nothing holds it up");
        }

        fn is_sent(&mut self) -> bool {
            self.sent.next().now_or_never().is_some()
        }

        /// Returns where the next append ends that is sent, and whether it has entries; `None` where there is none.
        async fn next_sent(&mut self) -> Option<(u64, bool)> {
            let request = self.sent.next().await?;
            Some((end_of(&request)?.index, !request.entries.is_empty()))
        }

        fn answer(&self, index: u64) {
            let answer: StreamAppendResult<Types> = Ok(Some(at(index)));
            self.answers.unbounded_send(Ok(encode("append answer", &answer).unwrap())).unwrap();
        }

        /// Returns what openraft is handed by now: how far the log agrees.
        fn handed(&mut self) -> Option<u64> {
            let answer = self.handed_on.next().now_or_never()?.expect("the stream is open");
            Some(answer.unwrap().unwrap().unwrap().index)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_back_while_a_later_append_that_ends_there_has_none() {
        let mut open = Open::new();
        open.send(3, true);
        open.send(3, false);
        open.answer(3);
        assert_eq!(open.handed(), None, "it would count for the second too");
        open.answer(3);
        assert_eq!(open.handed(), Some(3));
        assert_eq!(open.handed(), None, "one answer for both");

        open.send(4, true);
        open.send(5, true);
        open.answer(4);
        assert_eq!(open.handed(), Some(4), "the second ends later");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_until_openraft_has_counted_the_answer_that_it_was_handed() {
        let mut open = Open::new();
        open.send(3, true);
        open.answer(3);
        assert_eq!(open.handed(), Some(3));
        open.wants_to_send(3, false);
        assert!(!open.is_sent(), "it could be counted with the answer");
        assert_eq!(open.handed(), None, "openraft asks for the next answer");
        assert!(open.is_sent());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_overdue_so_long_after_its_append_and_not_after_the_answer_before() {
        let mut open = Open::new();
        let mut sent_at = Instant::now();
        for index in 3..6 {
            tokio::time::advance(STALLED - Duration::from_millis(1)).await;
            assert_eq!(open.handed(), None);
            open.send(index, true);
            sent_at = Instant::now();
            tokio::time::advance(Duration::from_millis(2)).await;
            assert_eq!(open.handed(), None, "nothing was asked until now");
            if index < 5 {
                open.answer(index);
                assert_eq!(open.handed(), Some(index));
            }
        }
        let overdue = open.handed_on.next().await.expect("an end that is told of");
        assert!(matches!(overdue, Err(RPCError::Timeout(_))), "{overdue:?}");
        assert_eq!(sent_at.elapsed(), STALLED);
        assert!(open.handed_on.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_append_without_entries_is_left_out_where_another_follows_and_its_answer_counts_for_both() {
        let mut open = Open::new();
        open.send(3, true);
        open.backlog.set(true);
        open.wants_to_send(3, false);
        open.wants_to_send(3, false);
        assert!(!open.is_sent(), "entries follow soon");
        open.answer(3);
        assert_eq!(open.handed(), None, "it would count for those that are held");
        open.backlog.set(false);
        open.wants_to_send(4, true);
        assert_eq!(open.next_sent().await, Some((4, true)), "and nothing before it");
        assert!(!open.is_sent());
        assert_eq!(open.handed(), None);
        open.answer(4);
        assert_eq!((open.handed(), open.handed()), (Some(4), None));
        open.send(5, true);
        open.answer(5);
        assert_eq!(open.handed(), Some(5), "nothing is left of those that were never sent");
    }

    #[tokio::test(start_paused = true)]
    async fn an_append_without_entries_is_held_for_a_moment_and_no_longer() {
        let mut open = Open::new();
        open.backlog.set(true);
        open.wants_to_send(2, false);
        assert!(!open.is_sent());
        let held_at = Instant::now();
        assert_eq!(open.next_sent().await, Some((2, false)));
        assert!(held_at.elapsed() <= HELD + Duration::from_millis(1), "{:?}", held_at.elapsed());
        open.answer(2);
        assert_eq!(open.handed(), Some(2));

        assert_eq!(open.handed(), None);
        open.wants_to_send(2, false);
        assert!(!open.is_sent());
        open.requests.close_channel();
        assert_eq!(open.next_sent().await, Some((2, false)), "nothing follows");
        assert_eq!(open.next_sent().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn while_each_answer_comes_after_the_next_append_the_one_before_it_is_handed_on() {
        let mut open = Open::new();
        open.backlog.set(true);
        open.send(3, true);
        for index in 3..20 {
            open.wants_to_send(index, false);
            open.wants_to_send(index + 1, true);
            assert_eq!(open.next_sent().await, Some((index + 1, true)));
            open.answer(index);
            assert_eq!(open.handed(), (index > 3).then(|| index - 1), "append {index}");
            // openraft asks for the next one.
            assert!(index == 3 || open.handed().is_none());
        }
        open.answer(20);
        assert_eq!(open.handed(), Some(20), "and the last, once nothing follows");
    }

    #[tokio::test(start_paused = true)]
    async fn an_append_without_entries_does_not_wait_where_what_it_ends_at_is_not_committed() {
        let mut open = Open::new();
        open.backlog.set(true);
        open.send(3, true);
        let told = AppendEntriesRequest { leader_commit: Some(at(2)), ..append(3, false) };
        open.requests.unbounded_send(told).unwrap();
        assert_eq!(open.sent.next().now_or_never().flatten().and_then(|sent| end_of(&sent)), Some(at(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_to_send_is_woken_once_openraft_has_counted() {
        let mut open = Open::new();
        open.send(3, true);
        open.answer(3);
        assert_eq!(open.handed(), Some(3));
        open.wants_to_send(3, false);
        let Open { mut sent, mut handed_on, .. } = open;
        let sending = tokio::spawn(async move { sent.next().await.is_some() });
        tokio::task::yield_now().await;
        assert!(!sending.is_finished());
        assert!(handed_on.next().now_or_never().is_none());
        assert!(sending.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_handed_on_whatever_is_kept_back() {
        let mut open = Open::new();
        open.send(3, true);
        open.send(3, false);
        open.answer(3);
        assert_eq!(open.handed(), None);
        let conflict: StreamAppendResult<Types> = Err(StreamAppendError::Conflict(at(9)));
        open.answers.unbounded_send(Ok(encode("append answer", &conflict).unwrap())).unwrap();
        let handed = open.handed_on.next().await.unwrap().unwrap();
        assert!(matches!(handed, Err(StreamAppendError::Conflict(entry)) if entry == at(9)), "{handed:?}");
    }
}
