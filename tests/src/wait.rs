//! Waiting for conditions, so that no test sleeps for a fixed time and hopes.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

/// How long to pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A condition that did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("after {waited:?} still not: {what}{}", last.as_deref().map(|it| format!("; last seen: {it}")).unwrap_or_default())]
pub struct TimedOut {
    what: String,
    waited: Duration,
    last: Option<String>,
}

/// Looks again and again until `look` gives a value, and returns it with the time it took.
///
/// # Errors
/// Fails when `limit` is over; the message names `what` was waited for.
pub fn until<T>(
    what: impl fmt::Display,
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<(T, Duration), TimedOut> {
    until_ok(what, limit, || look().ok_or(Unseen)).map_err(|error| TimedOut { last: None, ..error })
}

/// As [`until`], for a look that says why it isn't content yet; the last reason is part of the error.
///
/// # Errors
/// Fails when `limit` is over.
pub fn until_ok<T, E: fmt::Display>(
    what: impl fmt::Display,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<(T, Duration), TimedOut> {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok((value, begun.elapsed())),
            Err(why) if begun.elapsed() >= limit => {
                return Err(TimedOut {
                    what: what.to_string(),
                    waited: begun.elapsed(),
                    last: Some(format!("{why:#}")),
                });
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Fails as soon as `look` says that something which has to hold the whole time doesn't.
///
/// # Errors
/// Fails with the reason that `look` gave.
pub fn while_for<E>(time: Duration, mut look: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        look()?;
        thread::sleep(PAUSE);
    }
    look()
}

struct Unseen;

impl fmt::Display for Unseen {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_is_told_with_what_was_seen_last() {
        let mut looks = 0;
        let error = until_ok::<(), _>("three", Duration::from_millis(50), || {
            looks += 1;
            Err("two")
        })
        .expect_err("it never holds")
        .to_string();
        assert!(looks > 1);
        assert!(error.contains("still not: three; last seen: two"), "{error}");
    }
}
