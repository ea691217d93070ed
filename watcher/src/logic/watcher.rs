//! [`Logic`]: one watcher's whole behaviour as events in and effects out.
//!
//! Each event changes memory and then takes one *turn*, which does everything that is due at that moment: streams without
//! ticks are dropped, runs begin (asked ones first), answers and reports leave. The driver calls
//! [`handle`](Logic::handle) with [`Event::Woken`] no later than [`next_wake`](Logic::next_wake).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use vouch_types::{Incarnation, Moment, NodeId, Nonce, Outcome, TickSequence, Timing, WatcherId};
use vouch_wire::convert::AskDepth;
use vouch_wire::proto;
use vouch_wire::proto::from_watcher::Message as Say;
use vouch_wire::proto::to_watcher::Message as Hear;

use super::asks::{Answering, AskId, Asked, Serves};
use super::bursts::{Bursts, WANTED_MAX, lightened};
use super::message::{Observed, findings_of, tick};
use super::probes::{Probes, Readiness};
use super::running::{Running, Why};
use super::sessions::{SessionState, one_per_manager, other_stream};
use super::{
    Asks, Assigned, AssignedCheck, Cause, Check, CheckNumber, CheckSpec, CloseReason, Durations, Effect, Ended, Entry,
    Event, HealthState, Ledger, Peers, Places, Planned, Run, RunId, RunLimit, Schedule, SessionId, Ticks,
};

/// The most time that an ask may give.
const ASK_DEADLINE_MAX: Duration = Duration::from_secs(60);
/// The most unchanged observations that a report tells apart because they are older than the rest.
const LAGGARDS_MAX: usize = 256;
/// Reason of an observation whose probe cannot run.
const PROBE_UNAVAILABLE: &str = "probe_unavailable";

/// One watcher's whole behaviour, without any I/O.
#[derive(Debug)]
pub struct Logic {
    incarnation: Incarnation,
    timing: Timing,
    assigned: Assigned,
    /// How often it looks at each network at least.
    looks_every: Duration,
    sessions: BTreeMap<SessionId, SessionState>,
    ticks: Ticks,
    schedule: Schedule,
    ledger: Ledger,
    asks: Asks,
    probes: Probes,
    health: HealthState,
    next_run: u64,
    runs: BTreeMap<RunId, Running>,
    places: Places,
    /// Asked checks that wait for room.
    wanted: VecDeque<(Check, AskId)>,
    bursts: Bursts,
    peers: Peers,
    durations: Durations,
    /// The node that this watcher runs on, as managers say.
    own_node: Option<NodeId>,
    /// Of each check, whether its target is known to be on another node: then the network lies between them.
    is_beyond: Vec<bool>,
    /// Results that are still to be sent as answers.
    results: BTreeMap<RunId, (Arc<AssignedCheck>, Entry)>,
    effects: Vec<Effect>,
}

impl Logic {
    /// Returns a watcher that has been told nothing yet.
    pub fn new(watcher: WatcherId, incarnation: Incarnation, timing: Timing, runs: RunLimit) -> Self {
        Self {
            incarnation,
            schedule: Schedule::new(watcher, timing.probe_interval),
            looks_every: timing.probe_interval,
            timing,
            assigned: Assigned::nothing(),
            sessions: BTreeMap::new(),
            ticks: Ticks::default(),
            ledger: Ledger::default(),
            asks: Asks::default(),
            probes: Probes::default(),
            health: HealthState::default(),
            next_run: 0,
            runs: BTreeMap::new(),
            places: Places::new(runs),
            wanted: VecDeque::new(),
            bursts: Bursts::new(runs),
            peers: Peers::new(watcher),
            durations: Durations::default(),
            own_node: None,
            is_beyond: Vec::new(),
            results: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// Takes one event and returns what is to be done, in order.
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        match event {
            Event::SessionOpened { session, endpoint } => self.session_opened(now, session, endpoint),
            Event::SessionClosed { session } => self.session_closed(session),
            Event::Heard { session, message } => self.heard(now, session, message),
            Event::ProbeReady { digest, origin } if self.probes.ready(digest) => self.places.ready(digest, origin),
            // It was forgotten while it was made ready.
            Event::ProbeReady { digest, .. } => self.effects.push(Effect::Forget { digest }),
            Event::ProbeUnavailable { digest, why } => self.probes.unavailable(now, digest, why),
            Event::RunEnded { run, ended } => self.run_ended(now, run, ended),
            Event::EchoesEnded { round, came } => {
                if let Some((network, at)) = self.peers.ended(round, &came) {
                    self.health.reached(at, network);
                }
            }
            Event::HealthMeasured { loop_lag, steal_percent } => self.health.measured(loop_lag, steal_percent),
            Event::Woken => {}
        }
        self.turn(now);
        std::mem::take(&mut self.effects)
    }

    /// Returns when [`Event::Woken`] is due, if ever.
    pub fn next_wake(&self) -> Option<Moment> {
        let version = self.ledger.version();
        let streams = self
            .sessions
            .values()
            .flat_map(|s| s.report_at(version, &self.timing).into_iter().chain([s.silent_at(&self.timing)]));
        let due = self.schedule.next_due(|lane| self.places.has_room(lane, Cause::Due));
        let others = [self.asks.next_due(), self.probes.next_due(), self.peers.next_due()];
        streams.chain(due).chain(others.into_iter().flatten()).min()
    }

    fn session_opened(&mut self, now: Moment, session: SessionId, endpoint: vouch_wire::links::ManagerEndpoint) {
        let network = proto::Network::from(endpoint.network).into();
        self.sessions.insert(session, SessionState::new(now, endpoint));
        self.say(session, Say::Hello(proto::WatcherHello { incarnation: self.incarnation.get(), network }));
    }

    fn session_closed(&mut self, session: SessionId) {
        self.ticks.forget(session);
        if let Some(gone) = self.sessions.remove(&session) {
            self.asks.session_closed(session, other_stream(&self.sessions, &gone.endpoint));
        }
    }

    fn close(&mut self, session: SessionId, why: CloseReason) {
        self.session_closed(session);
        self.effects.push(Effect::Close { session, why });
    }

    fn heard(&mut self, now: Moment, session: SessionId, message: proto::ToWatcher) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        match message.message {
            Some(Hear::Welcome(welcome)) => {
                state.welcomed();
                if let Ok(node) = NodeId::new(&welcome.node) {
                    self.own_node = Some(node);
                    self.look_beyond();
                }
                self.set_timing(now, &welcome.timing);
            }
            Some(Hear::Tick(tick)) => {
                state.ticked(now);
                self.health.reached(now, state.endpoint.network);
                self.ticks.record(now, session, TickSequence::new(tick.sequence));
            }
            Some(Hear::Assignment(assignment)) => self.assign(now, assignment),
            Some(Hear::Ask(ask)) => self.ask(now, session, &ask),
            Some(Hear::Resync(_)) => state.resync(),
            None => self.close(session, CloseReason::Malformed),
        }
    }

    fn set_timing(&mut self, now: Moment, json: &str) {
        let timing = serde_json::from_str::<Timing>(json).map_err(|e| e.to_string());
        match timing.and_then(|t| t.validate().map(|()| t).map_err(|e| e.to_string())) {
            Ok(timing) => {
                self.schedule.set_interval(now, timing.probe_interval);
                self.looks_every = self.assigned.looks_every(timing.probe_interval);
                self.timing = timing;
            }
            Err(error) => warn!(error, "timing of a manager refused"),
        }
    }

    fn assign(&mut self, now: Moment, message: proto::Assignment) {
        let generation = message.generation;
        let new = match self.assigned.replaced_by(message) {
            Ok(new) => new,
            Err(error) => {
                warn!(%error, generation, "assignment refused");
                return;
            }
        };
        let old = std::mem::replace(&mut self.assigned, new);
        if old.peers != self.assigned.peers {
            let peers: Vec<_> = self.assigned.peers.iter().map(|peer| peer.watcher).collect();
            info!(generation, ?peers, "peers changed");
            self.peers.set(now, &self.assigned.peers);
        }
        if old.generation == self.assigned.generation && old.checks == self.assigned.checks {
            return;
        }
        info!(from = %old.generation, to = %self.assigned.generation, checks = self.assigned.checks.len(), "assignment changed");
        self.looks_every = self.assigned.looks_every(self.timing.probe_interval);
        self.look_beyond();
        self.durations.set_checks(&self.assigned.checks);
        let checks = &self.assigned.checks;
        let renumbered: Vec<_> = old.checks.iter().map(|old| checks.number(&old.check)).collect();
        let renumber = |number: CheckNumber| renumbered.get(number.get()).copied().flatten();
        self.health.renumber(renumber);
        let planned = |new: &AssignedCheck| Planned {
            check: new.check.clone(),
            component: new.spec.component(),
            interval: new.spec.interval(),
        };
        self.schedule.set_checks(now, checks.iter().map(planned));
        self.ledger.renumber(|number| {
            let (old, to) = (old.checks.get(number)?, renumber(number)?);
            old.spec.same_target(&checks.get(to)?.spec).then_some(to)
        });
        self.runs.values_mut().for_each(|run| run.check = run.check.and_then(renumber));
        let needed = checks.iter().filter_map(|new| match &new.spec {
            CheckSpec::Probe(spec) => spec.digest.map(|digest| (digest, spec.probe.clone())),
            CheckSpec::Relay(_) => None,
        });
        let needed: BTreeMap<_, _> = needed.collect();
        self.places.set_components(&needed.keys().copied().collect());
        let changed = self.probes.need(needed);
        self.effects.extend(changed.forget.into_iter().map(|digest| Effect::Forget { digest }));
        self.effects.extend(changed.prepare.into_iter().map(|(probe, digest)| Effect::Prepare { probe, digest }));
        self.sessions.values_mut().for_each(SessionState::resync);
    }

    fn ask(&mut self, now: Moment, session: SessionId, ask: &proto::Ask) {
        let vms: BTreeSet<&[u8]> = ask.vms.iter().map(Vec::as_slice).collect();
        let is_asked = |check: &&Check| match check {
            Check::Probe { vm, .. } => vms.contains(vm.get().as_bytes().as_slice()),
            Check::Relay { node } => ask.nodes.iter().any(|asked| asked == node.as_str()),
        };
        let checks: BTreeSet<_> =
            self.assigned.checks.iter().map(|assigned| &assigned.check).filter(is_asked).cloned().collect();
        let depth = AskDepth::of(ask.light, ask.findings);
        let checks = match depth {
            AskDepth::Full | AskDepth::Findings => checks,
            AskDepth::Light => lightened(checks),
        };
        let deadline = Duration::from_micros(ask.deadline_micros).min(ASK_DEADLINE_MAX);
        let asked = Asked { session, nonce: Nonce::new(ask.nonce), depth };
        let Some(id) = self.asks.open(now, asked, deadline, checks.clone(), RunId(self.next_run)) else { return };
        // Relays first: one answer of a node speaks for all its VMs.
        let (relays, vms): (Vec<_>, Vec<_>) = checks.into_iter().partition(|c| matches!(c, Check::Relay { .. }));
        let room = WANTED_MAX.saturating_sub(self.wanted.len());
        self.wanted.extend(relays.into_iter().chain(vms).take(room).map(|check| (check, id)));
    }

    fn run_ended(&mut self, now: Moment, id: RunId, ended: Ended) {
        let Some(run) = self.runs.remove(&id) else { return };
        let AssignedCheck { check, spec } = &*run.target;
        let serves = match (check, run.why) {
            // A poll of a relay carries no nonce: it answers nothing.
            (_, Why::Scheduled(None)) | (Check::Relay { .. }, Why::Scheduled(_)) => Serves::None,
            (Check::Probe { .. }, Why::Scheduled(Some(ask))) | (_, Why::Asked(ask)) => Serves::Only(ask),
        };
        let took = now.since(run.begun);
        let same_component = |number: &CheckNumber| self.schedule.lane(*number).component == run.place.lane().component;
        let pace = run.check.filter(same_component).and_then(|_| run.pace(took, ended.conduct(), &self.timing));
        match (run.why, run.check) {
            (Why::Scheduled(_), Some(number)) => self.schedule.ended(number, pace),
            (Why::Scheduled(_), None) => {}
            (Why::Asked(_), _) => self.bursts.ended(check),
        }
        self.places.end(now, run.place, ended.conduct());
        if let Some(number) = run.check.filter(|number| self.is_beyond.get(number.get()) == Some(&true)) {
            self.health.run_ended(run.begun, (number, &run.target), &ended);
        }
        if let Some(network) = check.reached(&ended) {
            self.health.reached(now, network);
        }
        if let (Some(number), Ended::Probe { outcome, .. }) = (run.check, &ended)
            && outcome.is_sign_of_life()
        {
            self.durations.count(number, took);
        }
        if self.asks.run_ended(now, id, check, serves) {
            let entry = Entry::new(run.begun, run.ticks.clone(), took, ended.clone());
            self.results.insert(id, (Arc::clone(&run.target), entry));
        }
        let same_target = |number: &CheckNumber| {
            let assigned = self.assigned.checks.get(*number);
            assigned.is_some_and(|assigned| assigned.spec.same_target(spec))
        };
        if let Some(number) = run.check.filter(same_target) {
            self.ledger.record(number, run.begun, run.ticks, took, ended.for_reports());
        }
    }

    fn turn(&mut self, now: Moment) {
        let silent = |s: &SessionState| s.silent_at(&self.timing) <= now;
        let silent: Vec<_> = self.sessions.iter().filter(|(_, s)| silent(s)).map(|(id, _)| *id).collect();
        for session in silent {
            self.close(session, CloseReason::NoTick);
        }
        for (probe, digest) in self.probes.take_retries(now) {
            self.effects.push(Effect::Prepare { probe, digest });
        }
        self.effects.extend(self.peers.take_due(now).into_iter().map(Effect::Echo));
        self.begin_asked(now);
        while let Some(number) = self.schedule.take_due(now, |lane| self.places.has_room(lane, Cause::Due)) {
            let instead = self.take_waiting(number);
            self.begin(now, number, Why::Scheduled(instead));
        }
        self.answer(now);
        self.report(now);
        self.tell_durations(now);
    }

    fn begin_asked(&mut self, now: Moment) {
        let mut waiting = VecDeque::new();
        while !self.places.is_full() && !self.bursts.is_full() {
            let Some((check, ask)) = self.wanted.pop_front() else { break };
            if self.asks.nonce(ask).is_none() {
                continue;
            }
            // What is assigned no more is asked about no more; the ask waits for it until its deadline.
            let Some(number) = self.assigned.checks.number(&check) else { continue };
            if self.bursts.may_begin(&check) && self.places.has_room(self.schedule.lane(number), Cause::Asked) {
                self.begin(now, number, Why::Asked(ask));
            } else {
                waiting.push_back((check, ask));
            }
        }
        // Those that wait came first.
        waiting.append(&mut self.wanted);
        self.wanted = waiting;
    }

    /// Takes the ask that has waited longest for a run of this probe: the scheduled one answers it as well.
    fn take_waiting(&mut self, number: CheckNumber) -> Option<AskId> {
        if self.wanted.is_empty() {
            return None;
        }
        let check = &self.assigned.checks.get(number)?.check;
        if let Check::Relay { .. } = check {
            return None;
        }
        let at = self.wanted.iter().position(|(waiting, _)| waiting == check)?;
        self.wanted.remove(at).map(|(_, ask)| ask)
    }

    fn begin(&mut self, now: Moment, number: CheckNumber, why: Why) {
        let Some(target) = self.assigned.checks.get(number).cloned() else { return };
        let spec = target.spec.clone();
        let id = RunId(self.next_run);
        self.next_run += 1;
        let nonce = match (&target.check, why) {
            (Check::Relay { .. }, Why::Asked(ask)) => self.asks.nonce(ask).unwrap_or_default(),
            (Check::Relay { .. }, Why::Scheduled(_)) | (Check::Probe { .. }, _) => Nonce::default(),
        };
        if let Why::Asked(_) = why {
            self.bursts.begun(&target.check);
        }
        let unavailable = self.unavailable(&spec);
        let timeout = spec.timeout().unwrap_or(self.timing.probe_timeout);
        let place = self.places.begin(now, self.schedule.lane(number), why.cause());
        let run = Running { target, check: Some(number), begun: now, ticks: self.ticks.stamp(), why, place, timeout };
        self.runs.insert(id, run);
        match unavailable {
            None => {
                self.effects.push(Effect::Begin(Run { id, spec, nonce, timeout }));
            }
            Some(message) => {
                let ended = Ended::probe(Outcome::Unknown, PROBE_UNAVAILABLE, &message);
                self.run_ended(now, id, ended);
            }
        }
    }

    /// Finds out anew which targets are known to be on another node than this watcher.
    fn look_beyond(&mut self) {
        let own = self.own_node.as_ref();
        let is_beyond = |spec: &CheckSpec| {
            let node = match spec {
                CheckSpec::Probe(spec) => &spec.node,
                CheckSpec::Relay(spec) => &spec.node,
            };
            own.is_some_and(|own| own != node)
        };
        self.is_beyond = self.assigned.checks.iter().map(|assigned| is_beyond(&assigned.spec)).collect();
    }

    /// Returns why a probe cannot run now.
    fn unavailable(&self, spec: &CheckSpec) -> Option<String> {
        let CheckSpec::Probe(spec) = spec else { return None };
        match spec.digest.as_ref().and_then(|digest| self.probes.get(digest)) {
            Some(Readiness::Ready) => None,
            Some(Readiness::Preparing) => Some("the probe is being made ready".to_owned()),
            Some(Readiness::Unavailable { why, .. }) => Some(why.clone()),
            None => Some("the assignment names no component of this probe".to_owned()),
        }
    }

    fn answer(&mut self, now: Moment) {
        for Answering { asked: Asked { session, nonce, depth }, runs, complete } in self.asks.take_answers(now) {
            let results =
                runs.iter().filter_map(|run| self.results.get(run)).map(|(target, entry)| (&target.check, entry));
            let findings = if depth.wants_findings() { findings_of(results.clone()) } else { Vec::new() };
            let observed = Observed::of(results, session);
            let answer = proto::Answer {
                nonce: nonce.get(),
                observations: observed.observations,
                relays: observed.relays,
                statements: observed.statements,
                complete,
                health: Some(self.told_health(now)),
                assignment: self.assigned.generation.get(),
                findings,
            };
            self.say(session, Say::Answer(answer));
        }
        let held = self.asks.held();
        self.results.retain(|run, _| held.contains(run));
    }

    fn report(&mut self, now: Moment) {
        let version = self.ledger.version();
        let due = |s: &SessionState| s.report_at(version, &self.timing).is_some_and(|at| at <= now);
        let due: Vec<_> = self.sessions.iter().filter(|(_, s)| due(s)).map(|(id, _)| *id).collect();
        for session in due {
            let Some(state) = self.sessions.get_mut(&session) else { continue };
            let (sequence, told) = state.report(now, version);
            let laggards_max = if state.tells_laggards(now, &self.timing) { LAGGARDS_MAX } else { 0 };
            let (entries, others_age) = match told {
                None => (self.ledger.all(), None),
                Some(told) => {
                    let fresh = self.timing.probe_interval * 3 / 2;
                    let (entries, oldest) = self.ledger.since(told, now, fresh, laggards_max);
                    (entries, Some(oldest))
                }
            };
            let checks = &self.assigned.checks;
            let entry = |number: CheckNumber| Some((&checks.get(number)?.check, self.ledger.get(number)?));
            let observed = Observed::of(entries.into_iter().filter_map(entry), session);
            // The manager drops what it cannot date: until all of it can be dated it has not been told, and nothing may
            // make what it holds of these checks look fresh.
            if !observed.is_dated() {
                state.undated();
            }
            let others_age = others_age.filter(|_| observed.is_dated());
            let report = proto::WatcherReport {
                sequence,
                assignment: self.assigned.generation.get(),
                full: told.is_none(),
                observations: observed.observations,
                relays: observed.relays,
                others_age_micros: others_age.map(super::message::micros),
                health: Some(self.told_health(now)),
                tick: Some(tick(self.ticks.stamp().on(session, now).0)),
            };
            self.say(session, Say::Report(report));
        }
    }

    /// Tells each manager once, over whichever of its streams is open.
    fn tell_durations(&mut self, now: Moment) {
        let Some(durations) = self.durations.take_due(now) else { return };
        for session in one_per_manager(&self.sessions) {
            self.say(session, Say::Durations((&durations).into()));
        }
    }

    fn told_health(&mut self, now: Moment) -> proto::WatcherHealth {
        let lately = (self.looks_every * 3 / 2).max(Duration::from_secs(1));
        (&self.health.told(now, lately, &mut self.peers)).into()
    }

    fn say(&mut self, session: SessionId, message: Say) {
        self.effects.push(Effect::Send { session, message: proto::FromWatcher { message: Some(message) } });
    }
}
