//! Many reads, few questions: reads that wait for the same proof share one round of asking.
//!
//! A round proves what was committed before it began. So it serves those who came before it began, and nobody who came
//! later: they share the next one. However many come at once, two rounds are the most that any of them waits for.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Rounds of one kind of question. Clones share them.
#[derive(Clone)]
pub struct Rounds<T>(Arc<Mutex<Waiting<T>>>);

struct Waiting<T> {
    readers: Vec<oneshot::Sender<T>>,
    asking: bool,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Waiting { readers: Vec::new(), asking: false })))
    }
}

/// Ends the asking also where a round panics or is cut off, so that the next reader begins anew.
struct Asking<T> {
    rounds: Rounds<T>,
    armed: bool,
}

impl<T> Drop for Asking<T> {
    fn drop(&mut self) {
        if self.armed {
            let mut waiting = self.rounds.lock();
            waiting.asking = false;
            waiting.readers.clear();
        }
    }
}

impl<T> Rounds<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Send + 'static> Rounds<T> {
    /// Returns what a round came to that began after this call. `ask` is used if no round is under way, and from then on
    /// until nobody waits any more. `None` when it was cut off: the process ends, or a round panicked.
    pub async fn join<F>(&self, ask: impl Fn() -> F + Send + 'static) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let begin = {
            let mut waiting = self.lock();
            waiting.readers.push(sender);
            !std::mem::replace(&mut waiting.asking, true)
        };
        if begin {
            let asking = Asking { rounds: self.clone(), armed: true };
            // A task of its own: the first reader may go away, and the others still wait.
            let _asking = tokio::spawn(async move { asking.run(ask).await });
        }
        answer.await.ok()
    }
}

impl<T: Clone> Asking<T> {
    async fn run<F: Future<Output = T>>(mut self, ask: impl Fn() -> F) {
        loop {
            let readers = {
                let mut waiting = self.rounds.lock();
                if waiting.readers.is_empty() {
                    // Under the lock: who comes after this begins anew.
                    waiting.asking = false;
                    self.armed = false;
                    return;
                }
                std::mem::take(&mut waiting.readers)
            };
            let answer = ask().await;
            for reader in readers {
                // One that has gone meanwhile needs no answer.
                let _ = reader.send(answer.clone());
            }
        }
    }
}
