//! Commands to the leader over one stream: what comes together travels together, in one message of each direction.
//!
//! As a call of its own a command costs both sides more for the frames of HTTP/2 than for itself. A stream keeps no order:
//! requests are served at the same time, and each is answered when it is done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::{Status, Streaming};
use vouch_types::ManagerId;

use super::peers::FORWARD_TIMEOUT;
use super::session::Outgoing;
use crate::links::{LinkError, ManagerService};
use crate::proto;

/// How many requests may wait to be sent.
const WAITING_MAX: usize = 1_024;
/// How many requests go in one message.
const TOGETHER_MAX: usize = 128;
/// How long a request may be to go over a stream: a longer one would hold up those behind it.
pub(super) const REQUEST_MAX: usize = 64 * 1024;
/// How many requests of one stream are served at a time; then no more are read.
pub(super) const SERVED_MAX: usize = 1_024;
/// How long a request is served. Who asked has given up by then, and others may wait for its place.
const SERVED_WITHIN: Duration = FORWARD_TIMEOUT;

type Answer = oneshot::Sender<proto::ForwardResponse>;
type Request = (proto::ForwardRequest, Answer);

/// What is under way on a stream.
#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    answers: HashMap<u64, Answer>,
    ended: bool,
}

/// The caller's side of a stream. A cheap clone; the stream ends when the last one is dropped.
#[derive(Debug, Clone)]
pub(super) struct ForwardStream(mpsc::Sender<Request>);

/// The stream of a connection.
#[derive(Debug, Clone, Default)]
pub(super) enum Forwards {
    /// Nobody has needed one yet, or the last one has ended.
    #[default]
    Unopened,
    /// It is open, or was a moment ago.
    Open(ForwardStream),
    /// The other side is of an earlier version.
    Unknown,
}

fn lock(under_way: &Mutex<UnderWay>) -> MutexGuard<'_, UnderWay> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended() -> LinkError {
    LinkError::Reset("the stream of commands ended before it was answered".to_owned())
}

impl ForwardStream {
    /// Opens a stream: `call` is handed what to send, and returns the answers.
    pub(super) async fn open<Call>(call: Call) -> Result<Self, Status>
    where
        Call: AsyncFnOnce(Outgoing<proto::ForwardRequests>) -> Result<Streaming<proto::ForwardResponses>, Status>,
    {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let under_way = Arc::new(Mutex::new(UnderWay::default()));
        let answers = call(Outgoing(requests(waiting, Arc::clone(&under_way)))).await?;
        tokio::spawn(take_answers(answers, under_way));
        Ok(Self(queue))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Has a request done.
    ///
    /// # Errors
    /// [`LinkError::Reset`] when the stream ends first: it may have been done.
    pub(super) async fn forward(&self, request: proto::ForwardRequest) -> Result<proto::ForwardResponse, LinkError> {
        let (answer, answered) = oneshot::channel();
        self.0.send((request, answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())
    }
}

/// Yields what waits, all at once, and notes who waits for its answer; ends with the answers.
fn requests(
    waiting: mpsc::Receiver<Request>,
    under_way: Arc<Mutex<UnderWay>>,
) -> BoxStream<'static, proto::ForwardRequests> {
    let open = (waiting, under_way, Vec::with_capacity(TOGETHER_MAX));
    futures::stream::unfold(open, |(mut waiting, under_way, mut together)| async move {
        if waiting.recv_many(&mut together, TOGETHER_MAX).await == 0 {
            return None;
        }
        let message = lock(&under_way).number(&mut together)?;
        Some((message, (waiting, under_way, together)))
    })
    .boxed()
}

impl UnderWay {
    /// Numbers requests for their message; `None` once the answers have ended, and who waits learns it.
    fn number(&mut self, requests: &mut Vec<Request>) -> Option<proto::ForwardRequests> {
        if self.ended {
            return None;
        }
        let numbered = requests.drain(..).map(|(request, answer)| {
            let number = self.next;
            self.next += 1;
            self.answers.insert(number, answer);
            proto::NumberedRequest { number, request: Some(request) }
        });
        Some(proto::ForwardRequests { requests: numbered.collect() })
    }
}

/// Hands answers to those who wait for them, until the stream ends: then it tells the others by dropping them.
async fn take_answers(mut from: Streaming<proto::ForwardResponses>, under_way: Arc<Mutex<UnderWay>>) {
    // An error is an end: what was not answered may have been done or not.
    while let Ok(Some(message)) = from.message().await {
        let mut under_way = lock(&under_way);
        for proto::NumberedResponse { number, response } in message.responses {
            if let (Some(answer), Some(response)) = (under_way.answers.remove(&number), response) {
                // Who waits no longer has no use for it.
                let _nobody_waits = answer.send(response);
            }
        }
    }
    let mut under_way = lock(&under_way);
    under_way.ended = true;
    under_way.answers.clear();
}

type Served = BoxFuture<'static, proto::NumberedResponse>;

/// What one stream is served with.
struct Serving {
    requests: Streaming<proto::ForwardRequests>,
    served: FuturesUnordered<Served>,
    ended: bool,
}

/// Serves a stream of requests of `from`, at most [`SERVED_MAX`] at a time, each for at most [`SERVED_WITHIN`].
pub(super) fn serve(
    service: Arc<dyn ManagerService>,
    from: ManagerId,
    requests: Streaming<proto::ForwardRequests>,
) -> BoxStream<'static, Result<proto::ForwardResponses, Status>> {
    let begin = move |numbered: proto::NumberedRequest| -> Served {
        let service = Arc::clone(&service);
        Box::pin(async move {
            let served = service.forward(from, numbered.request.unwrap_or_default());
            let response = timeout(SERVED_WITHIN, served).await.unwrap_or_else(|_| proto::ForwardResponse {
                response: Some(proto::forward_response::Response::Failed(format!("not done within {SERVED_WITHIN:?}"))),
            });
            proto::NumberedResponse { number: numbered.number, response: Some(response) }
        })
    };
    let mut serving = Serving { requests, served: FuturesUnordered::new(), ended: false };
    futures::stream::poll_fn(move |cx| {
        // First all that has come is begun, so that it is proposed together; then all that is done is answered together.
        while !serving.ended && serving.served.len() < SERVED_MAX {
            match serving.requests.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => serving.served.extend(message.requests.into_iter().map(&begin)),
                // Ended, or cut off: what was begun is still answered, if anybody is there.
                Poll::Ready(Some(Err(_)) | None) => serving.ended = true,
                Poll::Pending => break,
            }
        }
        let mut responses = Vec::new();
        while let Poll::Ready(Some(response)) = serving.served.poll_next_unpin(cx) {
            responses.push(response);
        }
        if !responses.is_empty() {
            Poll::Ready(Some(Ok(proto::ForwardResponses { responses })))
        } else if serving.ended && serving.served.is_empty() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    })
    .boxed()
}
