//! A stream of appends to another manager: what of it is sent, and which answers openraft is handed.
//!
//! # The lease
//!
//! A leader's lease never begins later than the last append that was answered.
//!
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

#[cfg(test)]
mod tests;

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

/// Returns where it ends: at its last entry, or where it has none at the one before.
pub(super) fn end_of(request: &AppendEntriesRequest<Types>) -> Option<LogId> {
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
