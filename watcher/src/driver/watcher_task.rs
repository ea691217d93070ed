//! The task that owns the logic: feeds it events, one at a time, and executes its effects.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;
use vouch_probe_host::Icmp;
use vouch_types::{Digest, Incarnation, Moment, Outcome, RelayOutcome, Timing, WatcherId};
use vouch_wire::links::{ManagerEndpoint, RelayLink, WatcherLink};
use vouch_wire::proto;

use super::{ProbeRunner, dial, echo, health, relay};
use crate::logic::{
    Came, CheckSpec, CloseReason, Conduct, Effect, Ended, Event, Logic, Origin, RoundId, Run, RunId, RunLimit,
    SessionId,
};

/// Inputs that may wait for the task; senders wait beyond that.
const INPUTS_MAX: usize = 1024;
/// How long after its timeout a run is given up, should its own limits fail.
const RUN_GRACE: Duration = Duration::from_secs(1);
/// How long the task sleeps at most.
const IDLE: Duration = Duration::from_secs(1);

/// Who a watcher is, and whom it reports to.
#[derive(Debug, Clone)]
pub struct WatcherConfig {
    /// Its number.
    pub watcher: WatcherId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// Every manager over every network that this watcher has a leg on.
    pub managers: Vec<ManagerEndpoint>,
    /// The timing to begin with; managers tell theirs in their welcome.
    pub timing: Timing,
    /// How many runs its memory holds.
    pub runs: RunLimit,
}

/// What a watcher works with.
#[derive(Clone)]
pub struct WatcherParts {
    /// Its way to the managers.
    pub link: Arc<dyn WatcherLink>,
    /// Its way to the nodes' relays.
    pub relays: Arc<dyn RelayLink>,
    /// What runs its probes.
    pub probes: Arc<dyn ProbeRunner>,
    /// Its way to its peers.
    pub icmp: Arc<dyn Icmp>,
}

/// What other tasks tell this one.
#[derive(Debug)]
pub(super) enum Input {
    Opened {
        session: SessionId,
        endpoint: ManagerEndpoint,
        outbound: mpsc::Sender<proto::FromWatcher>,
        close: oneshot::Sender<String>,
    },
    Closed {
        session: SessionId,
    },
    Heard {
        session: SessionId,
        message: proto::ToWatcher,
    },
    Health {
        loop_lag: Duration,
        steal_percent: u8,
    },
}

struct Stream {
    outbound: mpsc::Sender<proto::FromWatcher>,
    close: oneshot::Sender<String>,
}

type Prepared = (Digest, Result<Origin, String>);

struct WatcherTask {
    logic: Logic,
    parts: WatcherParts,
    origin: Instant,
    streams: BTreeMap<SessionId, Stream>,
    runs: JoinSet<Ended>,
    /// Which run a task is, to end a run whose task has panicked.
    run_ids: HashMap<Id, (RunId, CheckSpec)>,
    prepares: JoinSet<Prepared>,
    rounds: JoinSet<(RoundId, Vec<Came>)>,
}

/// Watches until it is dropped, which ends all its tasks.
pub async fn run(config: WatcherConfig, parts: WatcherParts) -> Infallible {
    let (sender, mut inputs) = mpsc::channel(INPUTS_MAX);
    let mut helpers = JoinSet::new();
    let numbers = Arc::new(AtomicU64::new(1));
    for endpoint in config.managers {
        let link = Arc::clone(&parts.link);
        helpers.spawn(dial::keep_dialled(endpoint, link, Arc::clone(&numbers), sender.clone()));
    }
    helpers.spawn(health::measure(sender.clone()));
    let mut task = WatcherTask {
        logic: Logic::new(config.watcher, config.incarnation, config.timing, config.runs),
        parts,
        origin: Instant::now(),
        streams: BTreeMap::new(),
        runs: JoinSet::new(),
        run_ids: HashMap::new(),
        prepares: JoinSet::new(),
        rounds: JoinSet::new(),
    };
    loop {
        let event = task.next_event(&mut inputs).await;
        let now = Moment::from_micros(micros(task.origin.elapsed()));
        for effect in task.logic.handle(now, event) {
            task.execute(effect);
        }
    }
}

impl WatcherTask {
    async fn next_event(&mut self, inputs: &mut mpsc::Receiver<Input>) -> Event {
        let idle = Instant::now() + IDLE;
        let wake = self.logic.next_wake().map(|at| self.origin + Duration::from_micros(at.as_micros()));
        tokio::select! {
            biased;
            Some(input) = inputs.recv() => self.input(input),
            Some(ended) = self.runs.join_next_with_id() => self.run_ended(ended),
            Some(ended) = self.rounds.join_next() => match ended {
                Ok((round, came)) => Event::EchoesEnded { round, came },
                Err(error) => {
                    warn!(%error, "a round of echoes failed");
                    Event::Woken
                }
            },
            Some(prepared) = self.prepares.join_next() => match prepared {
                Ok((digest, Ok(origin))) => Event::ProbeReady { digest, origin },
                Ok((digest, Err(why))) => {
                    warn!(digest = %digest.short(), reason = why, "probe unavailable");
                    Event::ProbeUnavailable { digest, why }
                }
                Err(error) => {
                    warn!(%error, "preparing a probe failed");
                    Event::Woken
                }
            },
            () = sleep_until(wake.map_or(idle, |wake| wake.min(idle))) => Event::Woken,
        }
    }

    fn input(&mut self, input: Input) -> Event {
        match input {
            Input::Opened { session, endpoint, outbound, close } => {
                self.streams.insert(session, Stream { outbound, close });
                Event::SessionOpened { session, endpoint }
            }
            Input::Closed { session } => {
                self.streams.remove(&session);
                Event::SessionClosed { session }
            }
            Input::Heard { session, message } => Event::Heard { session, message },
            Input::Health { loop_lag, steal_percent } => Event::HealthMeasured { loop_lag, steal_percent },
        }
    }

    fn run_ended(&mut self, ended: Result<(Id, Ended), JoinError>) -> Event {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Ok(ended)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some((run, spec)) = self.run_ids.remove(&id) else { return Event::Woken };
        let ended = ended.unwrap_or_else(|error| {
            warn!(%error, "a run failed");
            given_up(&spec, "failed", "the run failed inside the watcher")
        });
        Event::RunEnded { run, ended }
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Send { session, message } => {
                let full = self.streams.get(&session).is_some_and(|s| s.outbound.try_send(message).is_err());
                if full {
                    self.drop_stream(session, "its queue is full or closed");
                }
            }
            Effect::Close { session, why } => self.drop_stream(
                session,
                match why {
                    CloseReason::NoTick => "no tick came",
                    CloseReason::Malformed => "malformed message",
                },
            ),
            Effect::Begin(run) => self.begin(run),
            Effect::Echo(round) => {
                let icmp = Arc::clone(&self.parts.icmp);
                self.rounds.spawn(async move { (round.id, echo::round(icmp, &round).await) });
            }
            Effect::Prepare { probe, digest } => {
                let probes = Arc::clone(&self.parts.probes);
                self.prepares.spawn(async move { (digest, probes.prepare(&probe, &digest).await) });
            }
            Effect::Forget { digest } => self.parts.probes.forget(&digest),
        }
    }

    /// Drops a stream; its dial task answers with `Closed`, and dials anew.
    fn drop_stream(&mut self, session: SessionId, why: &str) {
        if let Some(stream) = self.streams.remove(&session) {
            // The dial task may have left by itself.
            let _ = stream.close.send(why.to_owned());
        }
    }

    fn begin(&mut self, run: Run) {
        let Run { id, spec, nonce, timeout: limit } = run;
        let parts = self.parts.clone();
        let begun = spec.clone();
        let task = self.runs.spawn(async move {
            match &spec {
                CheckSpec::Probe(probe) => match timeout(limit + RUN_GRACE, parts.probes.run(probe, limit)).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        given_up(&spec, "overstayed", "the run overstayed its deadline").conducted(Conduct::Badly)
                    }
                },
                CheckSpec::Relay(target) => relay::ask(parts.relays.as_ref(), target, nonce).await,
            }
        });
        self.run_ids.insert(task.id(), (id, begun));
    }
}

/// Returns the end of a run that told nothing.
fn given_up(spec: &CheckSpec, reason: &str, message: &str) -> Ended {
    match spec {
        CheckSpec::Probe(_) => Ended::probe(Outcome::Unknown, reason, message),
        CheckSpec::Relay(_) => {
            Ended::Relay { outcome: RelayOutcome::Silent, hears: Vec::new(), statements: Vec::new() }
        }
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
