//! Guarded writes: done only to what their sender has seen, and once however often they are sent.
//!
//! Judged here, in the order of the log, so that nothing comes between the check and the write. What a write was refused
//! for is not remembered: it changed nothing, and may be sent again.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vouch_types::guard::ONCE_KEY_MAX;
use vouch_types::{Applied, Command, DenyReason, Digest, Expected, Guard, LogIndex, Once, WallTime};

use super::State;
use super::apply::{Outcome, Step};

/// How many writes are remembered by their keys; the oldest leave as new ones come.
pub const ONCE_MAX: usize = 1_000;
/// How long a write is remembered by its key, by the times that the log carries.
pub const ONCE_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A write that is remembered by its key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OnceRecord {
    /// The index of its command.
    pub index: LogIndex,
    /// What its sender called it.
    pub key: String,
    /// SHA-256 of what was asked for.
    pub request: Digest,
    /// When it was done.
    pub at: WallTime,
    /// What came of it.
    pub applied: Applied,
}

impl OnceRecord {
    fn is_over(&self, now: WallTime) -> bool {
        let kept = u64::try_from(ONCE_KEPT.as_millis()).unwrap_or(u64::MAX);
        self.at.as_unix_millis().saturating_add(kept) <= now.as_unix_millis()
    }
}

impl State {
    pub(super) fn apply_guarded(&mut self, step: &mut Step, command: Command, guard: &Guard) -> Outcome {
        if matches!(command, Command::Guarded { .. }) {
            return Err(bad("guard", "two", "one at most"));
        }
        if let Some(once) = &guard.once {
            if once.key.is_empty() || once.key.len() > ONCE_KEY_MAX {
                let rule = format!("1 to {ONCE_KEY_MAX} bytes");
                return Err(bad("Idempotency-Key", &format!("{} bytes", once.key.len()), &rule));
            }
            if let Some(first) = self.once.iter().rev().find(|first| first.key == once.key && !first.is_over(guard.at))
            {
                return if first.request == once.request {
                    Ok(Applied::Repeated { at: first.at, first: Box::new(first.applied.clone()) })
                } else {
                    Err(DenyReason::KeyReused(once.key.clone()))
                };
            }
        }
        let version = self.version_of(&command);
        let met = match guard.expects {
            None => true,
            Some(Expected::Existing) => version.is_some(),
            Some(Expected::At(index)) => version == Some(index),
        };
        if !met {
            return Err(DenyReason::VersionMoved { current: version });
        }
        let applied = self.dispatch(step, command)?;
        if let Some(once) = &guard.once {
            self.remember(step, once, guard.at, applied.clone());
        }
        Ok(applied)
    }

    fn remember(&mut self, step: &mut Step, once: &Once, at: WallTime, applied: Applied) {
        let record = OnceRecord { index: step.index, key: once.key.clone(), request: once.request, at, applied };
        self.once.push_back(Arc::new(record));
        step.changes.once.insert(step.index);
        while let Some(oldest) = self.once.front().filter(|first| self.once.len() > ONCE_MAX || first.is_over(at)) {
            step.changes.once.insert(oldest.index);
            self.once.pop_front();
        }
    }
}

fn bad(field: &str, value: &str, rule: &str) -> DenyReason {
    DenyReason::BadValue { field: field.to_owned(), value: value.to_owned(), rule: rule.to_owned() }
}
