//! One direction of a stream, as TCP carries it: in order, nothing lost, late when a segment had to be sent again.
//!
//! What follows a lost segment waits for it (head-of-line blocking). A segment is sent again after 200 ms and then after
//! twice the time before, so that a stream over a path that heals can still be stalled for a while. One that is not
//! acknowledged for [`UNANSWERED_MAX`] ends the stream at both ends, as the keep-alives of the product do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use vouch_types::Network;
use vouch_wire::links::LinkError;

use super::super::host::Host;
use super::{Lane, RTO_FIRST, RTO_MAX, SimNetwork};

/// Messages that may be under way before the sender is held up.
const WINDOW: usize = 256;
/// How long a segment may go unacknowledged (`wire`: HTTP2_PING_INTERVAL and HTTP2_PING_TIMEOUT).
pub(super) const UNANSWERED_MAX: Duration = Duration::from_millis(2_500);

/// One direction of a stream.
pub(super) struct Way {
    pub network: Arc<SimNetwork>,
    pub over: Network,
    pub key: (Host, Host, u64),
    pub from: Host,
    pub to: Host,
    /// Life of the receiving process for which the stream was opened.
    pub receiver_life: u64,
    /// The sender's end is over: its process died, or its machine gave the stream up.
    pub sender_gone: CancellationToken,
    pub receiver_gone: CancellationToken,
    /// One side closed the stream in good order, and the other has been told.
    pub closed: CancellationToken,
    pub on_end: OnEnd,
}

/// What the end of one direction means for the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnEnd {
    /// The whole stream is over, as when a session is dropped.
    Both,
    /// The other direction goes on, as answers do after the last request.
    OneDirection,
}

enum Segment<T> {
    Message(T),
    Fin,
}

#[derive(Clone, Copy)]
enum Fate {
    Arrives,
    SentAgain { rto: Duration, first_sent: Instant },
}

struct Sent<T> {
    segment: Segment<T>,
    fate: Fate,
    at: Instant,
}

impl Way {
    /// Returns what becomes of a segment that is sent now.
    fn send(&self, last: Option<Instant>) -> (Fate, Instant) {
        let now = Instant::now();
        match self.network.packet(self.from, self.to, self.over, Lane::Stream(self.key.2)) {
            Some(takes) => (Fate::Arrives, (now + takes).max(last.unwrap_or(now))),
            None => (Fate::SentAgain { rto: RTO_FIRST, first_sent: now }, now + RTO_FIRST),
        }
    }

    /// Sends a lost segment again, unless the stream is to be given up.
    fn send_again(&self, rto: Duration, first_sent: Instant) -> Option<(Fate, Instant)> {
        let now = Instant::now();
        if let Some(takes) = self.network.packet(self.from, self.to, self.over, Lane::Stream(self.key.2)) {
            return Some((Fate::Arrives, now + takes));
        }
        let rto = (rto * 2).min(RTO_MAX);
        (now.duration_since(first_sent) < UNANSWERED_MAX).then_some((Fate::SentAgain { rto, first_sent }, now + rto))
    }

    /// Returns whether the process that the stream was opened to still runs.
    fn receiver_lives(&self) -> bool {
        self.network.life(self.to) == self.receiver_life
    }

    fn reset_both(&self) {
        self.sender_gone.cancel();
        self.receiver_gone.cancel();
    }
}

/// Carries messages until the stream is over.
pub(super) async fn carry<T: Send>(way: Way, mut source: mpsc::Receiver<T>, sink: mpsc::Sender<Result<T, LinkError>>) {
    let mut queue: VecDeque<Sent<T>> = VecDeque::new();
    let mut finished = false;
    loop {
        let due = queue.front().map(|sent| sent.at);
        let taken = tokio::select! {
            biased;
            () = way.receiver_gone.cancelled() => break,
            () = way.sender_gone.cancelled() => break,
            () = way.closed.cancelled() => break,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
            message = source.recv(), if !finished && queue.len() < WINDOW => Some(message),
        };
        if let Some(message) = taken {
            let (fate, at) = way.send(queue.back().map(|last| last.at));
            finished = message.is_none();
            queue.push_back(Sent { segment: message.map_or(Segment::Fin, Segment::Message), fate, at });
            continue;
        }
        let Some(front) = queue.front_mut() else { continue };
        match front.fate {
            Fate::SentAgain { rto, first_sent } => match way.send_again(rto, first_sent) {
                Some((fate, at)) => (front.fate, front.at) = (fate, at),
                None => way.reset_both(),
            },
            Fate::Arrives => {
                let Some(sent) = queue.pop_front() else { continue };
                if !way.receiver_lives() {
                    // A machine without that process refuses what comes for it.
                    way.reset_both();
                    continue;
                }
                match sent.segment {
                    Segment::Fin if way.on_end == OnEnd::OneDirection => return,
                    Segment::Fin => way.closed.cancel(),
                    Segment::Message(message) => tokio::select! {
                        biased;
                        () = way.receiver_gone.cancelled() => {}
                        // A receiver that closed its end takes no more; it says so by its own direction.
                        _ = sink.send(Ok(message)) => {}
                    },
                }
            }
        }
    }
    if way.receiver_gone.is_cancelled() {
        // One that is dead or full does not hear it.
        let _ = sink.try_send(Err(LinkError::Reset("the connection is gone".to_owned())));
    }
    if !way.sender_gone.is_cancelled() && !way.closed.is_cancelled() {
        // The sender does not know yet: its messages go nowhere until it closes or is reset.
        loop {
            tokio::select! {
                biased;
                () = way.sender_gone.cancelled() => break,
                message = source.recv() => if message.is_none() { break },
            }
        }
    }
    way.network.forget_stream(way.key);
}
