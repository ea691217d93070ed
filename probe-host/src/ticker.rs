//! The thread that interrupts running guests.
//!
//! A guest that computes never gives its thread back by itself; at every tick it is stopped for a look at its deadline.
//! A thread and not a task: while guests occupy every worker of the runtime, no timer of the runtime fires. It sleeps
//! while nothing runs, so that an idle watcher costs nothing.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use wasmtime::Engine;

use crate::limits::EPOCH_TICK;

#[derive(Debug, Default)]
struct Running {
    guests: usize,
    /// Whether the thread waits for a guest: only then does it have to be woken.
    asleep: bool,
    stopped: bool,
}

impl Running {
    /// Returns whether there is nothing to tick for.
    fn is_idle(&self) -> bool {
        self.guests == 0 && !self.stopped
    }
}

#[derive(Debug, Default)]
struct Shared {
    running: Mutex<Running>,
    changed: Condvar,
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut Running)) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        let wakes = running.asleep && !running.is_idle();
        drop(running);
        if wakes {
            self.changed.notify_one();
        }
    }
}

/// Ticks the epoch of one engine while guests run in it; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (engine, seen) = (engine.weak(), Arc::clone(&shared));
        thread::Builder::new().name("probe-epoch".to_owned()).spawn(move || {
            loop {
                let mut running = seen.running.lock().unwrap_or_else(PoisonError::into_inner);
                running.asleep = true;
                let idle = |r: &mut Running| r.is_idle();
                let mut running = seen.changed.wait_while(running, idle).unwrap_or_else(PoisonError::into_inner);
                running.asleep = false;
                let stopped = running.stopped;
                drop(running);
                let Some(engine) = engine.upgrade().filter(|_| !stopped) else { return };
                engine.increment_epoch();
                drop(engine);
                thread::sleep(EPOCH_TICK);
            }
        })?;
        Ok(Self { shared })
    }

    /// Ticks until the guard is dropped.
    pub(crate) fn tick_while(&self) -> TickGuard {
        self.shared.update(|r| r.guests += 1);
        TickGuard { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.update(|r| r.stopped = true);
    }
}

/// One guest that runs.
pub(crate) struct TickGuard {
    shared: Arc<Shared>,
}

impl Drop for TickGuard {
    fn drop(&mut self) {
        self.shared.update(|r| r.guests -= 1);
    }
}
