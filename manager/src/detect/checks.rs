//! Forced checks of operators: which asks they led to, and who has answered.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;
use vouch_types::{Moment, Nonce, VmId, WatcherId};

use crate::api::CheckError;
use crate::api::view::CheckView;

/// How many checks may be under way.
pub(crate) const CHECKS_MAX: usize = 64;

/// One check under way.
pub(super) struct Check {
    pub(super) vm: VmId,
    pub(super) begun: Moment,
    pub(super) deadline: Moment,
    pub(super) open: BTreeMap<Nonce, WatcherId>,
    pub(super) asked: BTreeSet<WatcherId>,
    pub(super) answered: BTreeSet<WatcherId>,
    pub(super) reply: oneshot::Sender<Result<CheckView, CheckError>>,
}

/// The checks under way.
#[derive(Default)]
pub(super) struct Checks(Vec<Check>);

impl Checks {
    /// Returns whether another one may begin.
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < CHECKS_MAX
    }

    pub(super) fn add(&mut self, check: Check) {
        self.0.push(check);
    }

    /// Takes the end of an answer; checks that have all of theirs are done.
    pub(super) fn answered(&mut self, now: Moment, watcher: WatcherId, nonce: Nonce) {
        for check in &mut self.0 {
            if check.open.get(&nonce) == Some(&watcher) {
                check.open.remove(&nonce);
                check.answered.insert(watcher);
            }
        }
        self.finish(now);
    }

    /// Ends checks that are complete or too old.
    pub(super) fn finish(&mut self, now: Moment) {
        let (done, going): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|c| c.open.is_empty() || c.deadline <= now);
        self.0 = going;
        for check in done {
            let names = |set: &BTreeSet<WatcherId>| set.iter().map(ToString::to_string).collect();
            let view = CheckView {
                vm: check.vm.to_string(),
                asked: names(&check.asked),
                answered: names(&check.answered),
                took_ms: u64::try_from(now.since(check.begun).as_millis()).unwrap_or(u64::MAX),
            };
            // The one who asked may have gone.
            let _ = check.reply.send(Ok(view));
        }
    }
}
