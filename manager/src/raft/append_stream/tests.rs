//! The adapter alone: what openraft would send goes in, and what a follower would answer.

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
