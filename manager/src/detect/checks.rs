//! Forced checks of operators: which asks they led to, and who has answered.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;
use vouch_types::{Moment, Nonce, VmId, WatcherId};

use super::views::look_view;
use crate::api::CheckError;
use crate::api::view::CheckView;
use crate::fleet::looks::Look;

/// How many checks may be under way.
pub(crate) const CHECKS_MAX: usize = 64;

/// One check under way.
pub(super) struct Check {
    pub(super) vm: VmId,
    pub(super) begun: Moment,
    pub(super) deadline: Moment,
    /// Who was asked with which nonce.
    pub(super) asked: BTreeMap<Nonce, WatcherId>,
    pub(super) answered: BTreeSet<Nonce>,
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

    /// Takes the end of an answer.
    pub(super) fn answered(&mut self, watcher: WatcherId, nonce: Nonce) {
        for check in &mut self.0 {
            if check.asked.get(&nonce) == Some(&watcher) {
                check.answered.insert(nonce);
            }
        }
    }

    /// Ends checks that are complete or too old; `looks` returns what came of an ask on a VM.
    pub(super) fn finish(&mut self, now: Moment, mut looks: impl FnMut(VmId, WatcherId, Nonce) -> Vec<Look>) {
        let is_done = |c: &Check| c.answered.len() == c.asked.len() || c.deadline <= now;
        let (done, going): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0).into_iter().partition(is_done);
        self.0 = going;
        for check in done {
            let names = |all: BTreeSet<WatcherId>| all.iter().map(ToString::to_string).collect();
            let answered = check.answered.iter().filter_map(|nonce| check.asked.get(nonce));
            let mut found: Vec<(WatcherId, Look)> = Vec::new();
            for (nonce, watcher) in &check.asked {
                found.extend(looks(check.vm, *watcher, *nonce).into_iter().map(|look| (*watcher, look)));
            }
            found.sort_by(|(a, x), (b, y)| (a, x.seen.network, &x.seen.probe).cmp(&(b, y.seen.network, &y.seen.probe)));
            let view = CheckView {
                vm: check.vm.to_string(),
                asked: names(check.asked.values().copied().collect()),
                answered: names(answered.copied().collect()),
                took_ms: u64::try_from(now.since(check.begun).as_millis()).unwrap_or(u64::MAX),
                looks: found.into_iter().map(|(watcher, look)| look_view(watcher, look)).collect(),
            };
            // The one who asked may have gone.
            let _ = check.reply.send(Ok(view));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vouch_types::{Findings, Phase};

    use super::*;
    use crate::fleet::looks::tests as looks;

    fn vm(number: u128) -> VmId {
        VmId::new(uuid::Uuid::from_u128(number))
    }

    fn look(probe: &str, found: Option<Findings>) -> Look {
        Look { seen: looks::seen(1, probe), found }
    }

    type Reply = oneshot::Receiver<Result<CheckView, CheckError>>;

    /// A check of VM 1 that begins at 0 and asks w2 and w1, which has until 1 s.
    fn checks() -> (Checks, Reply) {
        let (reply, answer) = oneshot::channel();
        let asked = BTreeMap::from([(Nonce::new(1), WatcherId::new(2)), (Nonce::new(2), WatcherId::new(1))]);
        let deadline = Moment::from_micros(1_000_000);
        let mut checks = Checks::default();
        checks.add(Check { vm: vm(1), begun: Moment::ZERO, deadline, asked, answered: BTreeSet::new(), reply });
        (checks, answer)
    }

    #[test]
    fn a_check_ends_when_all_have_answered_with_what_they_found_on_its_vm() {
        let (mut checks, mut answer) = checks();
        let nobody = |_, _, _| Vec::new();
        checks.answered(WatcherId::new(2), Nonce::new(1));
        checks.answered(WatcherId::new(2), Nonce::new(2));
        checks.finish(Moment::from_micros(2_000), nobody);
        assert!(answer.try_recv().is_err(), "w1 has not answered");
        checks.answered(WatcherId::new(1), Nonce::new(2));
        checks.finish(Moment::from_micros(7_000), |of, watcher, nonce| {
            assert_eq!(of, vm(1));
            assert!(watcher.get() + nonce.get() == 3, "each is asked for with its own nonce");
            let phases = vec![Phase { name: "connect".to_owned(), took: Duration::from_millis(2) }];
            let found = (watcher.get() == 1).then(|| Findings { phases, ..Findings::default() });
            vec![look("tcp", found), look("rdp", None)]
        });
        let view = answer.try_recv().unwrap().unwrap();
        assert_eq!((view.asked, view.answered, view.took_ms), (own(&["w1", "w2"]), own(&["w1", "w2"]), 7));
        let told: Vec<_> = view.looks.iter().map(|l| (l.watcher.as_str(), l.probe.as_str(), l.phases.len())).collect();
        assert_eq!(told, [("w1", "rdp", 0), ("w1", "tcp", 1), ("w2", "rdp", 0), ("w2", "tcp", 0)]);
        assert_eq!((view.looks[1].seconds, view.looks[1].phase("connect")), (0.003, Some(0.002)));
    }

    #[test]
    fn a_check_ends_at_its_deadline_with_what_came() {
        let (mut checks, mut answer) = checks();
        checks.answered(WatcherId::new(1), Nonce::new(2));
        checks.finish(Moment::from_micros(1_000_000), |_, watcher, _| {
            if watcher.get() == 1 { vec![look("rdp", None)] } else { Vec::new() }
        });
        let view = answer.try_recv().unwrap().unwrap();
        assert_eq!((view.answered, view.looks.len()), (own(&["w1"]), 1));
        assert!(checks.has_room() && checks.0.is_empty());
    }

    fn own(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }
}
