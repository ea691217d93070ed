//! One stream of server-sent events: what is applied, in the order of the log, each event once.
//!
//! A task takes events from the state and puts them into a bounded buffer, which the connection empties. A reader that
//! takes nothing for too long is cut: its room goes to others at once, and its last event says why and where it was, so
//! that it can come back and miss nothing.
//!
//! ```text
//!  state --> task (one batch at a time) --> buffer of STREAM_BUFFER --> connection
//!                                           + room for one last word
//! ```

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use vouch_types::{EventRecord, LogIndex, NodeId, VmId};

use super::limits::{KEEP_ALIVE, STREAM_BATCH, STREAM_BUFFER, STREAM_SLOW};
use super::problem::{Problem, ProblemKind};
use super::view::EventView;
use super::{Api, published, story};
use crate::store::State;
use crate::store::changes::EventPosition;

/// Which events a reader wants.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of this VM.
    pub vm: Option<VmId>,
    /// Only those of this node.
    pub node: Option<NodeId>,
}

impl Filter {
    /// Returns whether the reader wants this event.
    pub fn wants(&self, event: &EventRecord) -> bool {
        let about = story::subject(&event.kind);
        self.vm.is_none_or(|vm| about.vm == Some(vm)) && self.node.as_ref().is_none_or(|node| about.node == Some(node))
    }
}

/// Refuses a position whose successors are no longer kept.
///
/// # Errors
/// A problem that names the oldest event that is.
pub fn check_kept(state: &State, after: EventPosition) -> Result<(), Problem> {
    if state.trimmed().is_none_or(|trimmed| after >= trimmed) {
        return Ok(());
    }
    let oldest = state.events().next().map(|oldest| story::position_text((oldest.index, oldest.ordinal)));
    let oldest = oldest.unwrap_or_else(|| "none".to_owned());
    let after = story::position_text(after);
    let detail = format!("events after {after} are no longer all kept; the oldest one is {oldest}");
    let mut problem = Problem::new(ProblemKind::EventsGone, detail);
    problem.oldest = Some(oldest);
    Err(problem)
}

/// The room of one stream among those of this manager. It is given back when the connection ends or the stream is cut,
/// whichever comes first.
#[derive(Clone)]
struct Room(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Answers with the events after a position, and with those that come; without a position, with those that come.
///
/// # Errors
/// A problem when these events are no longer kept, or too many streams are open.
pub fn stream(api: &Api, after: Option<EventPosition>, filter: Filter) -> Result<Response, Problem> {
    let permit = Arc::clone(api.streams())
        .try_acquire_owned()
        .map_err(|_| Problem::new(ProblemKind::Busy, "too many event streams are open on this manager"))?;
    let room = Room(Arc::new(Mutex::new(Some(permit))));
    // Subscribed before the state is read: what is applied in between wakes the stream.
    let applied = api.published().applied();
    let after = published::read(api.published(), |state| match after {
        Some(after) => check_kept(state, after).map(|()| after),
        None => Ok(state.events().next_back().map_or((LogIndex::new(0), 0), |last| (last.index, last.ordinal))),
    })?;
    let (sender, receiver) = mpsc::channel(STREAM_BUFFER + 1);
    let last_word = sender.clone().try_reserve_owned().expect("a new buffer has room");
    let tail = Tail { api: api.clone(), applied, after, filter, ready: VecDeque::new() };
    let (held, task_room) = (room.clone(), room);
    let _task = tokio::spawn(async move {
        let _room = task_room;
        if let Some(problem) = tail.run(&sender).await {
            let data = serde_json::to_string(&problem).unwrap_or_default();
            last_word.send(Event::default().event("problem").data(data));
        }
    });
    let events = stream::unfold((receiver, held), |(mut receiver, held)| async move {
        let event = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), (receiver, held)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// Where one stream is.
struct Tail {
    api: Api,
    applied: watch::Receiver<LogIndex>,
    after: EventPosition,
    filter: Filter,
    ready: VecDeque<EventView>,
}

impl Tail {
    /// Hands over events until the reader goes away (`None`), or cannot be served any more.
    async fn run(mut self, sender: &mpsc::Sender<Event>) -> Option<Problem> {
        let mut handed_over = story::position_text(self.after);
        loop {
            while let Some(view) = self.ready.pop_front() {
                let data = serde_json::to_string(&view).unwrap_or_default();
                let event = Event::default().id(&view.id).event(view.kind).data(data);
                match tokio::time::timeout(STREAM_SLOW, sender.send(event)).await {
                    Ok(Ok(())) => handed_over = view.id,
                    Ok(Err(_)) => return None,
                    Err(_) => {
                        let detail = format!(
                            "no event was taken for {STREAM_SLOW:?}: come back with Last-Event-ID {handed_over} \
                             for the rest"
                        );
                        return Some(Problem::new(ProblemKind::TooSlow, detail));
                    }
                }
            }
            self.applied.mark_unchanged();
            match self.take_batch() {
                Ok(true) => {}
                Ok(false) => tokio::select! {
                    changed = self.applied.changed() => {
                        if changed.is_err() {
                            return None;
                        }
                    }
                    () = sender.closed() => return None,
                },
                Err(gone) => return Some(gone),
            }
        }
    }

    /// Takes the next events from the state; `false` when there are none yet.
    fn take_batch(&mut self) -> Result<bool, Problem> {
        let Self { api, after, filter, ready, .. } = self;
        published::read(api.published(), |state| {
            check_kept(state, *after)?;
            let mut any = false;
            for event in state.events_after(*after).take(STREAM_BATCH) {
                any = true;
                *after = (event.index, event.ordinal);
                if filter.wants(event) {
                    ready.push_back(story::event_view(state, event));
                }
            }
            Ok(any)
        })
    }
}
