//! Clients: each asks one thing at a time of one manager or another, and everybody's questions and answers go into one
//! history per key, in the order in which they happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::history::{Call, History, Op, Return};
use super::nemesis::Dice;
use crate::api::Client;

/// The least value that is written: 0 stands for none, and a boot budget must be this long.
const VALUE_FIRST: u64 = 60_000;
/// Between two questions of one client, at most.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How many clients there are.
pub(super) const CLIENTS: u64 = 4;

/// What happened to one key.
#[derive(Debug, Default)]
struct Key {
    history: History,
    acknowledged: Vec<u64>,
    attempted: Vec<u64>,
}

/// What is asked of which key now, and all that was.
#[derive(Debug, Default)]
pub(super) struct Workload {
    keys: Mutex<Vec<Key>>,
    values: AtomicU64,
    clients: AtomicU64,
    failed_reads: AtomicU64,
}

/// What a key's clients saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) key: usize,
    pub(super) history: History,
    pub(super) acknowledged: Vec<u64>,
    pub(super) attempted: Vec<u64>,
}

/// Returns the path of a key's policy.
fn path(key: usize) -> String {
    format!("/v1/policies/tag:chaos=k{key}")
}

impl Workload {
    pub(super) fn new() -> Self {
        let workload = Self::default();
        workload.values.store(VALUE_FIRST, Ordering::Relaxed);
        workload.next_key();
        workload
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Vec<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on to the next key: short histories can be checked to the end.
    pub(super) fn next_key(&self) {
        self.keys().push(Key::default());
    }

    pub(super) fn failed_reads(&self) -> u64 {
        self.failed_reads.load(Ordering::Relaxed)
    }

    pub(super) fn seen(self) -> Vec<Seen> {
        let keys = self.keys.into_inner().unwrap_or_else(PoisonError::into_inner);
        let seen = |(key, Key { history, acknowledged, attempted })| Seen { key, history, acknowledged, attempted };
        keys.into_iter().enumerate().map(seen).collect()
    }

    /// One client, until it is told to stop. After a write that was not answered it waits for the next key: one open call
    /// of each client is enough to try.
    pub(super) fn client(&self, managers: &[Client], mut dice: Dice, stop: &AtomicBool) {
        let mut waits_on = None;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(dice.between(Duration::ZERO, PAUSE_MAX));
            let key = self.keys().len() - 1;
            if waits_on == Some(key) {
                continue;
            }
            let place = usize::try_from(dice.below(managers.len() as u64)).unwrap_or_default();
            let manager = &managers[place];
            let answered = match dice.below(3) {
                0 => self.write(manager, key),
                1 => self.read(manager, key, "default"),
                _ => self.read(manager, key, "consistent"),
            };
            waits_on = (!answered).then_some(key);
        }
    }

    fn asked(&self, key: usize, op: Op) -> u64 {
        // A new number for each call: one that is never answered keeps its own for ever.
        let client = self.clients.fetch_add(1, Ordering::Relaxed);
        let mut keys = self.keys();
        keys[key].history.push(Call::Asked(client, op));
        if let Op::Write(value) = op {
            keys[key].attempted.push(value);
        }
        client
    }

    /// Returns whether it was answered.
    fn write(&self, manager: &Client, key: usize) -> bool {
        let value = self.values.fetch_add(1, Ordering::Relaxed);
        let client = self.asked(key, Op::Write(value));
        let reply = manager.put(&path(key), &json!({"boot_budget_ms": value}));
        let done = reply.is_ok_and(|reply| reply.status == 200);
        if done {
            let mut keys = self.keys();
            keys[key].history.push(Call::Told(client, Return::Written));
            keys[key].acknowledged.push(value);
        }
        done
    }

    /// Returns true: a read that was not answered leaves nothing open.
    fn read(&self, manager: &Client, key: usize, consistency: &str) -> bool {
        let client = self.asked(key, Op::Read);
        let reply = manager.get(&format!("{}?consistency={consistency}", path(key)));
        let value = reply.ok().and_then(|reply| match reply.status {
            200 => reply.body.pointer("/settings/boot_budget_ms").and_then(Value::as_u64),
            404 => Some(0),
            _ => None,
        });
        let mut keys = self.keys();
        match value {
            Some(value) => keys[key].history.push(Call::Told(client, Return::Value(value))),
            None => {
                keys[key].history.forget_read(client);
                self.failed_reads.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }
}
