//! Blocking reads: `?index=N&wait=30s` answers once what is read has changed after N, or when the wait ends.
//!
//! N is the `X-Vouch-Index` of the answer before. What waits is only told that there is something new to read: the
//! answer is made, and proved to be current, as for any other read. An N that the log has not reached (the reader came
//! from a cluster that was restored since, say) is answered at once.

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;
use vouch_types::LogIndex;
use vouch_types::duration::{self, DURATION_RULE};

use super::freshness::{Wanted, make_current};
use super::limits::{WAIT_DEFAULT, WAIT_JITTER, WAIT_MAX};
use super::params::Params;
use super::problem::{Problem, ProblemKind};
use super::{Api, published};
use crate::store::State;
use crate::store::state::Subject;

/// The parameter that makes a read wait.
pub const INDEX: &str = "index";

/// How current a read is to be, and what it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    wanted: Wanted,
    after: Option<LogIndex>,
    wait: Duration,
}

impl Reading {
    /// Takes `consistency`, `index` and `wait`.
    ///
    /// # Errors
    /// A problem with the rule when one of them breaks it.
    pub fn take(params: &mut Params) -> Result<Self, Problem> {
        let wanted = Wanted::take(params)?;
        let after = params.parse(INDEX, "must be the X-Vouch-Index of an answer, a number")?;
        let wait = match params.take("wait") {
            None => WAIT_DEFAULT,
            Some(text) => duration::parse(&text).ok_or_else(|| {
                Problem::field(ProblemKind::BadParameter, "wait", &text, &format!("must be {DURATION_RULE}"))
            })?,
        };
        // 0 comes before everything, as in Consul.
        let after = after.filter(|index| *index > 0).map(LogIndex::new);
        Ok(Self { wanted, after, wait: wait.min(WAIT_MAX) })
    }

    /// Makes the applied state as current as is wanted, waits for a change if that is asked for, and returns the headers
    /// of the answer. `subject` names what is read; where it names nothing, nothing is waited for.
    ///
    /// # Errors
    /// A problem when no quorum or no leader says how current the state is.
    pub async fn make_current(
        self,
        api: &Api,
        subject: impl FnOnce(&State) -> Option<Subject>,
    ) -> Result<HeaderMap, Problem> {
        let headers = make_current(api, self.wanted).await?;
        let Some(after) = self.after else { return Ok(headers) };
        let Some(subject) = published::read(api.published(), subject) else { return Ok(headers) };
        if !wait(api, &subject, after, self.wait + jitter(api, self.wait)).await {
            return Ok(headers);
        }
        // Time has passed: it may be another leader, or none.
        make_current(api, self.wanted).await
    }
}

/// Waits until the subject has changed after this index or the time is over; returns whether it waited at all.
async fn wait(api: &Api, subject: &Subject, after: LogIndex, limit: Duration) -> bool {
    let mut applied = api.published().applied();
    let deadline = Instant::now() + limit;
    let mut waited = false;
    loop {
        let reached = *applied.borrow_and_update();
        let changed = published::read(api.published(), |state| state.changed_at(subject));
        if changed > after || reached < after {
            return waited;
        }
        waited = true;
        match tokio::time::timeout_at(deadline, applied.changed()).await {
            Ok(Ok(())) => {}
            // The time is over, or the manager stops.
            Err(_) | Ok(Err(_)) => return waited,
        }
    }
}

/// Returns a random part of the wait, so that those who began together do not end together.
fn jitter(api: &Api, wait: Duration) -> Duration {
    let mut random = [0; 4];
    api.rng().fill(&mut random);
    (wait / WAIT_JITTER).mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}

/// Returns whether this query makes a read wait.
pub fn waits(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some(INDEX)))
}
