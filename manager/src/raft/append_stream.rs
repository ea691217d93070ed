//! Which answers to a stream of appends openraft is handed, so that a leader's lease never begins later than the last
//! append that was answered.
//!
//! openraft takes the answer to an append for the answer to all that it has sent by then and that end at the same entry
//! (`InflightAppendQueue::drain_acked` of 0.10). An append without entries, which only tells how far the log is committed,
//! ends where the one before it does: sent while that one's answer is under way, and lost, it would count as answered, and
//! the lease as begun when it was sent. Followers wait from what arrived, and could elect another leader while the lease
//! still lasts. So an answer is kept back while a later append that it would count for has none: that one's answer says
//! as much, and is true of both.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, Timeout, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::time::Instant;
use vouch_types::ManagerId;
use vouch_wire::links::LinkError;

use super::matched::Matched;
use super::types::{LogId, Types, Vote};
use crate::store::codec::decode;

#[derive(Default)]
struct State {
    /// Where each append ends that has no answer yet, in the order of sending.
    ends: VecDeque<Option<LogId>>,
    /// Since when an answer has been due: the first of them was sent then, or the answer before its came.
    due_since: Option<Instant>,
    /// Whether openraft was handed an answer that it may not have counted yet: nothing is sent meanwhile.
    counting: bool,
    /// Who wants to send meanwhile.
    paused: Option<Waker>,
}

/// The appends of a stream that have no answer yet. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<Mutex<State>>);

impl State {
    fn send(
        &mut self,
        requests: &mut (impl Stream<Item = AppendEntriesRequest<Types>> + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Option<AppendEntriesRequest<Types>>> {
        if self.counting {
            self.paused = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let next = ready!(requests.poll_next_unpin(cx));
        if let Some(request) = &next {
            self.ends.push_back(end_of(request));
            self.due_since.get_or_insert_with(Instant::now);
        }
        Poll::Ready(next)
    }

    /// Takes the answer that a log agrees up to an entry, and returns whether openraft may be handed it.
    fn answered(&mut self, agreed: &Option<LogId>) -> bool {
        self.ends.pop_front();
        self.due_since = (!self.ends.is_empty()).then(Instant::now);
        self.counting = self.ends.front().is_none_or(|end| end > agreed);
        self.counting
    }
}

fn end_of(request: &AppendEntriesRequest<Types>) -> Option<LogId> {
    request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id)
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the requests, each of which has no answer from the moment that it is taken.
    pub(super) fn sending<S>(&self, mut requests: S) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send + use<S>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin,
    {
        let in_flight = self.clone();
        // openraft notes the time of a request while it is taken: under the lock, so that it is noted here too or not at all.
        stream::poll_fn(move |cx| in_flight.lock().send(&mut requests, cx))
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
                    if !self.in_flight.lock().answered(agreed) {
                        continue;
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
        sent: BoxStream<'static, AppendEntriesRequest<Types>>,
        answers: mpsc::UnboundedSender<Result<Vec<u8>, LinkError>>,
        handed_on: BoxStream<'static, Answer>,
    }

    fn at(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1), index)
    }

    impl Open {
        fn new() -> Self {
            let in_flight = InFlight::default();
            let (requests, waiting) = mpsc::unbounded();
            let sent = in_flight.sending(waiting).boxed();
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
            Self { requests, sent, answers, handed_on: handed_on.handed_on() }
        }

        /// Sends an append of the entry of this index, or one without entries that ends there.
        fn wants_to_send(&self, index: u64, entry: bool) {
            let (before, entries) = match entry {
                true => (index - 1, vec![Entry { log_id: at(index), payload: Payload::Blank }]),
                false => (index, Vec::new()),
            };
            let request = AppendEntriesRequest {
                vote: Vote::new(1, 1),
                prev_log_id: Some(at(before)),
                entries,
                leader_commit: None,
            };
            self.requests.unbounded_send(request).unwrap();
        }

        fn send(&mut self, index: u64, entry: bool) {
            self.wants_to_send(index, entry);
            assert!(self.is_sent(), "nothing holds it up");
        }

        fn is_sent(&mut self) -> bool {
            self.sent.next().now_or_never().is_some()
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
}
