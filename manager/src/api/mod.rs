//! The admin API: HTTP on every manager, for people, their tools and the `vouch` command.
//!
//! It shows the replicated state ([`published`]) and what this manager has in memory ([`live`]), and hands what only
//! the leader can do to the leader ([`forward`]). It decides nothing, and serves nothing as fresh that it cannot prove
//! to be ([`freshness`]).
//!
//! ```text
//!  client --> guard (Host, Origin, token, limits) --> routes --> compose / story --> view
//!  manager -- Forward (mutually authenticated) ----/
//! ```

mod blackbox;
pub mod blocking;
pub mod ca_view;
pub mod component;
pub mod compose;
pub mod etag;
pub mod forward;
pub mod freshness;
pub mod guard;
pub mod incidents;
pub mod limits;
pub mod listen;
pub mod live;
pub mod node_removal;
pub mod openapi;
pub mod params;
pub mod passed;
pub mod policies;
pub mod probe_orders;
pub mod problem;
pub mod propose;
pub mod published;
pub mod refusals;
pub mod rounds;
pub mod routes;
pub mod settings;
pub mod story;
pub mod tail;
pub mod token;
pub mod trace;
pub mod uploaded;
pub mod view;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use vouch_types::{ManagerId, Timing};
use vouch_wire::links::PeerLink;

pub use forward::MembersApi;
pub use guard::OwnHosts;
pub use listen::{ListenError, Listener};
pub use live::{CheckError, InitError, LiveView, Metric, MetricKind, Readiness};
pub use problem::{Problem, ProblemKind};
pub use published::Published;
pub use token::{ApiToken, TokenError};

use refusals::RefusalRoom;
use rounds::Rounds;

use crate::raft::Consistency;
use crate::seams::{BlobStore, Rng, WallClock};

/// What the API is made of.
pub struct ApiParts {
    /// This manager.
    pub manager: ManagerId,
    /// Consensus.
    pub published: Arc<dyn Published>,
    /// The running manager.
    pub live: Arc<dyn LiveView>,
    /// The way to the other managers.
    pub peers: Arc<dyn PeerLink>,
    /// Probe components.
    pub blobs: Arc<dyn BlobStore>,
    /// The time of day.
    pub wall: Arc<dyn WallClock>,
    /// Random numbers.
    pub rng: Arc<dyn Rng>,
    /// The timing of the cluster, for what is checked against it.
    pub timing: Timing,
    /// The bearer token.
    pub token: ApiToken,
    /// Names and addresses that this manager answers to, beside loopback.
    pub hosts: OwnHosts,
}

struct Inner {
    parts: ApiParts,
    requests: Semaphore,
    waiting: Semaphore,
    streams: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    proved: Mutex<Option<Instant>>,
    refusals: Mutex<RefusalRoom>,
    by_lease: Rounds<Result<(), Problem>>,
    by_quorum: Rounds<Result<(), Problem>>,
}

/// The admin API of one manager. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Api").field(&self.0.parts.manager).finish()
    }
}

impl Api {
    /// Returns the API of these parts.
    pub fn new(parts: ApiParts) -> Self {
        Self(Arc::new(Inner {
            parts,
            requests: Semaphore::new(limits::REQUESTS_MAX),
            waiting: Semaphore::new(limits::WAITING_MAX),
            streams: Arc::new(Semaphore::new(limits::STREAMS_MAX)),
            backups: Arc::new(Semaphore::new(limits::BACKUPS_MAX)),
            proved: Mutex::new(None),
            refusals: Mutex::new(RefusalRoom::new(Instant::now())),
            by_lease: Rounds::default(),
            by_quorum: Rounds::default(),
        }))
    }

    /// Returns what clients are served: every public route behind the guard.
    pub fn router(&self) -> Router {
        Self::with_fallbacks(routes::public_routes().into())
            .layer(axum::middleware::from_fn_with_state(self.clone(), guard::guard))
            .with_state(self.clone())
    }

    /// Returns what other managers are served: every route, without the guard. Making it takes milliseconds.
    fn internal_router(&self) -> Router {
        let public: Router<Self> = routes::public_routes().into();
        Self::with_fallbacks(public.merge(forward::internal_routes())).with_state(self.clone())
    }

    fn with_fallbacks(router: Router<Self>) -> Router<Self> {
        router
            .fallback(|uri: Uri| async move {
                Problem::field(ProblemKind::RouteNotFound, "path", uri.path(), "must be a route of /openapi.json")
            })
            .method_not_allowed_fallback(|method: Method| async move {
                let rule = "must be a method that /openapi.json lists for this route";
                Problem::field(ProblemKind::MethodNotAllowed, "method", method.as_str(), rule)
            })
            .layer(DefaultBodyLimit::max(limits::BODY_MAX))
    }

    fn manager(&self) -> ManagerId {
        self.0.parts.manager
    }

    fn published(&self) -> &dyn Published {
        self.0.parts.published.as_ref()
    }

    fn live(&self) -> &dyn LiveView {
        self.0.parts.live.as_ref()
    }

    fn peers(&self) -> &dyn PeerLink {
        self.0.parts.peers.as_ref()
    }

    fn blobs(&self) -> Arc<dyn BlobStore> {
        Arc::clone(&self.0.parts.blobs)
    }

    fn wall(&self) -> &dyn WallClock {
        self.0.parts.wall.as_ref()
    }

    fn rng(&self) -> &dyn Rng {
        self.0.parts.rng.as_ref()
    }

    fn timing(&self) -> &Timing {
        &self.0.parts.timing
    }

    fn token(&self) -> &ApiToken {
        &self.0.parts.token
    }

    fn hosts(&self) -> &OwnHosts {
        &self.0.parts.hosts
    }

    fn refusals(&self) -> std::sync::MutexGuard<'_, RefusalRoom> {
        self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> &Semaphore {
        &self.0.requests
    }

    fn waiting(&self) -> &Semaphore {
        &self.0.waiting
    }

    fn backups(&self) -> &Arc<Semaphore> {
        &self.0.backups
    }

    fn streams(&self) -> &Arc<Semaphore> {
        &self.0.streams
    }

    /// Returns the rounds that reads of this consistency share.
    fn rounds(&self, consistency: Consistency) -> &Rounds<Result<(), Problem>> {
        match consistency {
            Consistency::Lease => &self.0.by_lease,
            Consistency::Linearizable => &self.0.by_quorum,
        }
    }

    /// Remembers that the applied state was current at a moment.
    fn proved(&self, at: Instant) {
        let mut proved = self.0.proved.lock().unwrap_or_else(PoisonError::into_inner);
        *proved = (*proved).max(Some(at));
    }

    fn last_proved(&self) -> Option<Instant> {
        *self.0.proved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
