//! How current an answer is: `consistency=default|consistent|stale`, and the headers that say so.
//!
//! The answer is always made from the state that this manager has applied. At `default` and `consistent` the leader
//! first says up to which index that must be; without a quorum there is no answer but 503, after the time that an election
//! takes. At `stale` there always is one, with the time since this manager last proved to itself that it was current.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;
use vouch_types::LogIndex;

use super::limits::CONFIRM_TIMEOUT;
use super::params::Params;
use super::problem::{Problem, ProblemKind};
use super::{Api, forward};
use crate::raft::{Consistency, ReadError};

/// How long a read waits while nobody leads, in greatest election timeouts: a leader that hands over, or one election.
const PATIENCE_ELECTIONS: u32 = 4;
/// How often it looks meanwhile.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// Log index up to which the answer is.
pub const INDEX: HeaderName = HeaderName::from_static("x-vouch-index");
/// The leader, as this manager knows it.
pub const LEADER: HeaderName = HeaderName::from_static("x-vouch-leader");
/// Whether a leader is known: `true` or `false`.
pub const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-vouch-known-leader");
/// Milliseconds since this manager last heard from the leader, or as the leader from a quorum, what is current;
/// `unknown` if it never did.
pub const LAST_CONTACT: HeaderName = HeaderName::from_static("x-vouch-last-contact");
/// Milliseconds since the local state was last proved to be current, on `stale` answers; `unknown` if it never was.
pub const AGE: HeaderName = HeaderName::from_static("x-vouch-age-ms");

/// What a reader asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Everything that was published before the request, by the leader's lease.
    Default,
    /// The same, with a quorum asked for this very read.
    Consistent,
    /// Whatever this manager has.
    Stale,
}

impl Wanted {
    /// Takes `consistency`.
    ///
    /// # Errors
    /// A problem when it is none of the three.
    pub fn take(params: &mut Params) -> Result<Self, Problem> {
        Self::take_or(params, Self::Default)
    }

    /// Takes `consistency`, on a route where another one holds when it is absent.
    ///
    /// # Errors
    /// A problem when it is none of the three.
    pub fn take_or(params: &mut Params, absent: Self) -> Result<Self, Problem> {
        match params.take("consistency").as_deref() {
            None => Ok(absent),
            Some("default") => Ok(Self::Default),
            Some("consistent") => Ok(Self::Consistent),
            Some("stale") => Ok(Self::Stale),
            Some(other) => Err(Problem::field(
                ProblemKind::BadParameter,
                "consistency",
                other,
                "must be default, consistent or stale",
            )),
        }
    }

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Consistent => "consistent",
            Self::Stale => "stale",
        }
    }
}

/// Makes the applied state as current as `wanted`, and returns the headers of the answer.
///
/// # Errors
/// A problem when no quorum or no leader says how current that is.
pub async fn make_current(api: &Api, wanted: Wanted) -> Result<HeaderMap, Problem> {
    let prove = async {
        match wanted {
            Wanted::Stale => Ok(()),
            Wanted::Default => prove(api, Consistency::Lease).await,
            Wanted::Consistent => prove(api, Consistency::Linearizable).await,
        }
    };
    prove.await?;
    Ok(headers(api, wanted))
}

/// Proves that the applied state is current, in a round that all who came before it began share.
async fn prove(api: &Api, consistency: Consistency) -> Result<(), Problem> {
    let asking = api.clone();
    let round = move || {
        let api = asking.clone();
        async move {
            match tokio::time::timeout(CONFIRM_TIMEOUT, prove_with_patience(&api, consistency)).await {
                Ok(proved) => proved,
                Err(_) => {
                    let detail = format!("no quorum said within {CONFIRM_TIMEOUT:?} what is current");
                    Err(Problem::new(ProblemKind::NoQuorum, detail))
                }
            }
        }
    };
    let cut_off = || Err(Problem::new(ProblemKind::Internal, "the proof that the state is current was cut off"));
    api.rounds(consistency).join(round).await.unwrap_or_else(cut_off)
}

/// Proves that the applied state is current; while nobody leads, for as long as it takes to elect somebody.
async fn prove_with_patience(api: &Api, consistency: Consistency) -> Result<(), Problem> {
    let until = Instant::now() + api.timing().raft_election_max * PATIENCE_ELECTIONS;
    loop {
        match prove_now(api, consistency).await {
            Err(problem) if problem.status == StatusCode::SERVICE_UNAVAILABLE && Instant::now() < until => {
                tokio::time::sleep(RETRY_EVERY).await;
            }
            proved => return proved,
        }
    }
}

/// Proves that the applied state is current, and remembers when.
async fn prove_now(api: &Api, consistency: Consistency) -> Result<(), Problem> {
    let asked = Instant::now();
    if api.published().status().voters.is_empty() {
        return Err(Problem::new(
            ProblemKind::NotInitialised,
            "there is no cluster yet: initialise it with POST /v1/cluster/init (vouch cluster init)",
        ));
    }
    match api.published().ensure_current(consistency).await {
        Ok(()) => {}
        Err(ReadError::NotLeader { leader: Some(leader) }) if leader != api.manager() => {
            let index = forward::read_index(api, leader, consistency).await?;
            let mut applied = api.published().applied();
            applied
                .wait_for(|at| *at >= index)
                .await
                .map_err(|_| Problem::new(ProblemKind::Internal, "this manager is stopping"))?;
        }
        Err(e) => return Err(refusal(&e)),
    }
    api.proved(asked);
    Ok(())
}

/// Returns the problem that a refused read is.
pub fn refusal(e: &ReadError) -> Problem {
    match e {
        ReadError::NotLeader { .. } => Problem::new(ProblemKind::NoLeader, "no leader is known"),
        ReadError::NoQuorum => Problem::new(ProblemKind::NoQuorum, e.to_string()),
        ReadError::Stopped(_) => Problem::new(ProblemKind::Internal, e.to_string()),
    }
}

/// Proves once in the background, so that `stale` answers know their age.
pub(super) async fn prove_quietly(api: &Api, limit: Duration) {
    // Without a quorum the age just grows.
    let _ = tokio::time::timeout(limit, prove(api, Consistency::Lease)).await;
}

/// Returns the headers of an answer from the state as it is applied now.
pub fn headers(api: &Api, wanted: Wanted) -> HeaderMap {
    let status = api.published().status();
    let applied: LogIndex = *api.published().applied().borrow();
    let mut headers = HeaderMap::new();
    headers.insert(INDEX, HeaderValue::from(applied.get()));
    if let Some(leader) = status.leader
        && let Ok(value) = HeaderValue::from_str(&leader.to_string())
    {
        headers.insert(LEADER, value);
    }
    headers.insert(KNOWN_LEADER, HeaderValue::from_static(if status.leader.is_some() { "true" } else { "false" }));
    let age = api.last_proved().map_or_else(
        || HeaderValue::from_static("unknown"),
        |at| HeaderValue::from(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
    );
    if wanted == Wanted::Stale {
        headers.insert(AGE, age.clone());
    }
    headers.insert(LAST_CONTACT, age);
    headers
}
