//! Sessions on gRPC streams: bounded queues on both sides, a reset told once, nothing left behind.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use super::dial::Connection;
use super::status::{Callee, from_status};
use crate::links::{LinkError, SESSION_QUEUE, Session};

/// A stream of messages to send, as a type of its own: the compiler cannot follow a bare boxed one through tonic.
pub(super) struct Outgoing<T>(pub(super) BoxStream<'static, T>);

impl<T> Stream for Outgoing<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_next_unpin(cx)
    }
}

/// Yields what is sent until the sender is gone; after `ended` it yields what waits already, and takes nothing new.
fn outgoing<T: Send + 'static>(queue: mpsc::Receiver<T>, ended: CancellationToken) -> BoxStream<'static, T> {
    futures::stream::unfold((queue, ended, false), |(mut queue, ended, mut draining)| async move {
        loop {
            if draining {
                return queue.recv().await.map(|m| (m, (queue, ended, true)));
            }
            tokio::select! {
                biased;
                message = queue.recv() => return message.map(|m| (m, (queue, ended, false))),
                () = ended.cancelled() => {
                    queue.close();
                    draining = true;
                }
            }
        }
    })
    .boxed()
}

/// Moves messages from a stream into a queue until either is gone; a reset is told once.
async fn pump<T>(mut from: Streaming<T>, into: mpsc::Sender<Result<T, LinkError>>, callee: Callee) {
    loop {
        let next = tokio::select! {
            biased;
            () = into.closed() => return,
            next = from.message() => next,
        };
        let last = match next {
            Ok(Some(message)) => {
                if into.send(Ok(message)).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => None,
            Err(status) => Some(from_status(&status, &callee)),
        };
        if let Some(error) = last {
            // The receiver may be gone by now; then nobody wants to know.
            let _nobody_listens = into.send(Err(error)).await;
        }
        return;
    }
}

/// Opens a stream on a connection that is its own: the connection is cut when the session is dropped.
pub(super) async fn dialled<In, Out, Call>(
    connection: Connection,
    limit: std::time::Duration,
    call: Call,
) -> Result<Session<In, Out>, LinkError>
where
    In: Send + 'static,
    Out: Send + 'static,
    Call:
        FnOnce(tonic::transport::Channel, Outgoing<Out>) -> BoxFuture<'static, Result<Response<Streaming<In>>, Status>>,
{
    let Connection { channel, cut, callee, .. } = connection;
    let guard = cut.clone().drop_guard();
    let (outbound, queue) = mpsc::channel(SESSION_QUEUE);
    let (sink, inbound) = mpsc::channel(SESSION_QUEUE);
    let stream = timeout(limit, call(channel, Outgoing(outgoing(queue, cut))))
        .await
        .map_err(|_| LinkError::Timeout(limit))?
        .map_err(|status| from_status(&status, &callee))?
        .into_inner();
    tokio::spawn(async move {
        let _cut_at_the_end = guard;
        pump(stream, sink, callee).await;
    });
    Ok(Session { outbound, inbound })
}

/// Makes a session of a stream that was accepted, and the stream of answers to give to tonic.
pub(super) fn accepted<In, Out>(
    from: Streaming<In>,
    callee: Callee,
) -> (Session<In, Out>, BoxStream<'static, Result<Out, Status>>)
where
    In: Send + 'static,
    Out: Send + 'static,
{
    let (outbound, queue) = mpsc::channel(SESSION_QUEUE);
    let (sink, inbound) = mpsc::channel(SESSION_QUEUE);
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    tokio::spawn(async move {
        let _ended_at_the_end = guard;
        pump(from, sink, callee).await;
    });
    (Session { outbound, inbound }, outgoing(queue, ended).map(Ok).boxed())
}
