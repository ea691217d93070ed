//! A value that several tasks follow, woken in the order in which they began to wait.
//!
//! `tokio::sync::watch` spreads its waiters over shards by a random number, so a seed would not replay: with more than
//! one follower use this instead.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

#[derive(Debug)]
struct Shared<T> {
    value: Mutex<(T, u64)>,
    changed: Notify,
}

impl<T: Clone> Shared<T> {
    fn read(&self) -> (T, u64) {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sets a value that others follow.
#[derive(Debug)]
pub struct Followed<T>(Arc<Shared<T>>);

impl<T: Clone> Followed<T> {
    /// Returns a value that nobody follows yet.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared { value: Mutex::new((value, 0)), changed: Notify::new() }))
    }

    /// Changes the value, and wakes all followers if `change` says that it did.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) {
        let modified = {
            let mut value = self.0.value.lock().unwrap_or_else(PoisonError::into_inner);
            let modified = change(&mut value.0);
            value.1 += u64::from(modified);
            modified
        };
        if modified {
            self.0.changed.notify_waiters();
        }
    }

    /// Returns a follower that has seen the value as it is now.
    pub fn follow(&self) -> Follower<T> {
        Follower { seen: self.0.read().1, shared: Arc::clone(&self.0) }
    }
}

/// Follows a value.
#[derive(Clone, Debug)]
pub struct Follower<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T: Clone> Follower<T> {
    /// Returns the value, without marking it as seen.
    pub fn get(&self) -> T {
        self.shared.read().0
    }

    /// Returns the value and marks it as seen.
    pub fn see(&mut self) -> T {
        let (value, version) = self.shared.read();
        self.seen = version;
        value
    }

    /// Waits until the value is not the one that was seen last. Cancel safe.
    pub async fn changed(&mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let notified = shared.changed.notified();
            tokio::pin!(notified);
            // First the waiting, then the look: a change in between is not missed.
            notified.as_mut().enable();
            let version = shared.read().1;
            if version != self.seen {
                self.seen = version;
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn followers_are_woken_in_the_order_in_which_they_wait() {
        let followed = Followed::new(0);
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        for i in 0..32 {
            let (mut follower, told) = (followed.follow(), told.clone());
            tokio::spawn(async move {
                follower.changed().await;
                told.send((i, follower.get())).unwrap();
            });
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        followed.send_if_modified(|v| {
            *v = 7;
            true
        });
        for i in 0..32 {
            assert_eq!(order.recv().await, Some((i, 7)));
        }
    }
}
