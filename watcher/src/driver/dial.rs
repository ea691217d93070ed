//! Keeps one stream to one manager over one network: dials, listens, dials again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};
use vouch_wire::links::{ManagerEndpoint, Session, WatcherLink};
use vouch_wire::proto;

use super::watcher_task::Input;
use crate::logic::SessionId;

/// How long after a failed attempt the next one begins. A stream that stood this long is dialled anew at once.
const REDIAL: Duration = Duration::from_millis(300);
/// The most time that one attempt may take, whatever the link's own limits are.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps a stream to `endpoint` for as long as somebody takes `inputs`.
pub(super) async fn keep_dialled(
    endpoint: ManagerEndpoint,
    link: Arc<dyn WatcherLink>,
    numbers: Arc<AtomicU64>,
    inputs: mpsc::Sender<Input>,
) {
    while !inputs.is_closed() {
        match timeout(OPEN_TIMEOUT, link.open(&endpoint)).await {
            Ok(Ok(stream)) => {
                let (opened, session) = (Instant::now(), SessionId(numbers.fetch_add(1, Ordering::Relaxed)));
                info!(manager_id = %endpoint.manager, network = %endpoint.network, "stream opened");
                let why = listen(session, &endpoint, stream, &inputs).await;
                info!(manager_id = %endpoint.manager, network = %endpoint.network, reason = why, "stream closed");
                // A manager that turns the stream away at once must not be dialled in a busy loop.
                sleep_until(opened + REDIAL).await;
            }
            Ok(Err(error)) => {
                debug!(manager_id = %endpoint.manager, network = %endpoint.network, %error, "dial failed");
                sleep(REDIAL).await;
            }
            Err(_) => debug!(manager_id = %endpoint.manager, network = %endpoint.network, "dial took too long"),
        }
    }
}

async fn listen(
    session: SessionId,
    endpoint: &ManagerEndpoint,
    stream: Session<proto::ToWatcher, proto::FromWatcher>,
    inputs: &mpsc::Sender<Input>,
) -> String {
    let Session { outbound, mut inbound } = stream;
    let (close, mut closed) = oneshot::channel();
    if inputs.send(Input::Opened { session, endpoint: endpoint.clone(), outbound, close }).await.is_err() {
        return "the watcher stops".to_owned();
    }
    let why = loop {
        tokio::select! {
            biased;
            why = &mut closed => break why.unwrap_or_else(|_| "dropped by the watcher".to_owned()),
            message = inbound.recv() => match message {
                Some(Ok(message)) => {
                    if inputs.send(Input::Heard { session, message }).await.is_err() {
                        break "the watcher stops".to_owned();
                    }
                }
                Some(Err(error)) => break error.to_string(),
                None => break "ended by the manager".to_owned(),
            },
        }
    };
    // Nobody is there to be told when the watcher stops.
    let _ = inputs.send(Input::Closed { session }).await;
    why
}
