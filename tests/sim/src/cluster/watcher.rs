//! A watcher VM: the real logic of a watcher, its effects carried out against the models.
//!
//! What `vouch-watcher`'s driver does with sockets and WASM is done here with [`SimNetwork`](super::network::SimNetwork)
//! and [`probes`]. It must never decide anything itself.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use vouch_types::{Incarnation, ManagerId, Moment, Network, WatcherId};
use vouch_watcher::logic::{Came, Effect, Ended, Event, Logic, RoundId, RunId, RunLimit, SessionId};
use vouch_wire::links::{Caller, ManagerEndpoint, Session};
use vouch_wire::pki::CertificateRequest;
use vouch_wire::proto;

use super::echoes;
use super::host::Host;
use super::probes;
use super::world::World;

/// How long after a failed attempt the next one begins (`watcher`, REDIAL).
const REDIAL: Duration = Duration::from_millis(300);
/// Inputs that may wait.
const INPUTS_MAX: usize = 1024;
/// How long the task sleeps at most.
const IDLE: Duration = Duration::from_secs(1);
/// How often it says how well it keeps time.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// How long a watcher VM takes to boot.
const BOOT: Duration = Duration::from_millis(1_200);

enum Input {
    Opened {
        endpoint: ManagerEndpoint,
        outbound: mpsc::Sender<proto::FromWatcher>,
        close: oneshot::Sender<()>,
        number: oneshot::Sender<SessionId>,
    },
    Closed(SessionId),
    Heard(SessionId, proto::ToWatcher),
}

struct Stream {
    outbound: mpsc::Sender<proto::FromWatcher>,
    close: oneshot::Sender<()>,
}

/// Returns a certificate request. Making keys is slow, and which key it is decides nothing.
fn request() -> Vec<u8> {
    static REQUEST: OnceLock<Vec<u8>> = OnceLock::new();
    let made = || CertificateRequest::generate().expect("the operating system has random numbers").der().to_vec();
    REQUEST.get_or_init(made).clone()
}

/// Boots, enrols and watches until it is aborted.
pub async fn run(world: Arc<World>, id: WatcherId, secret: [u8; 32]) {
    sleep(BOOT).await;
    enrol(&world, id, secret).await;
    let (sender, mut inputs) = mpsc::channel(INPUTS_MAX);
    let mut dials = JoinSet::new();
    for manager in world.size.managers() {
        for network in Network::ALL {
            dials.spawn(keep_dialled(Arc::clone(&world), id, manager, network, sender.clone()));
        }
    }
    let mut watcher = SimWatcher {
        logic: Logic::new(id, Incarnation::new(1), world.timing.clone(), RunLimit::LEAST),
        id,
        world,
        streams: BTreeMap::new(),
        runs: JoinSet::new(),
        rounds: JoinSet::new(),
        ready: Vec::new(),
        next_session: 1,
        begun: Instant::now(),
        health_at: Instant::now(),
    };
    loop {
        let event = watcher.next_event(&mut inputs).await;
        let now = watcher.moment(Instant::now());
        for effect in watcher.logic.handle(now, event) {
            watcher.execute(effect);
        }
    }
}

async fn enrol(world: &Arc<World>, id: WatcherId, secret: [u8; 32]) {
    let request = proto::EnrollRequest { watcher: id.get(), incarnation: 1, secret: secret.to_vec(), csr: request() };
    loop {
        for manager in world.size.managers() {
            for network in Network::ALL {
                if let Ok(served) = world.network.dial(Host::Watcher(id), manager, network).await
                    && served.manager.enroll(request.clone()).await.is_ok()
                {
                    return;
                }
            }
        }
        sleep(REDIAL).await;
    }
}

async fn keep_dialled(
    world: Arc<World>,
    id: WatcherId,
    manager: ManagerId,
    network: Network,
    inputs: mpsc::Sender<Input>,
) {
    let number = u8::try_from(manager.get()).unwrap_or(u8::MAX);
    let endpoint = ManagerEndpoint { manager, network, address: ([10, 1, 0, number], 7001).into() };
    loop {
        if let Ok(served) = world.network.dial(Host::Watcher(id), manager, network).await {
            let opened = Instant::now();
            let (mine, theirs) = world.network.stream(Host::Watcher(id), Host::Manager(manager), network);
            served.manager.watcher_session(Caller::without_tls(id), theirs).await;
            listen(&endpoint, mine, &inputs).await;
            sleep_until(opened + REDIAL).await;
        } else {
            sleep(REDIAL).await;
        }
    }
}

async fn listen(
    endpoint: &ManagerEndpoint,
    stream: Session<proto::ToWatcher, proto::FromWatcher>,
    inputs: &mpsc::Sender<Input>,
) {
    let Session { outbound, mut inbound } = stream;
    let (close, mut closed) = oneshot::channel();
    let (number, numbered) = oneshot::channel();
    let opened = Input::Opened { endpoint: endpoint.clone(), outbound, close, number };
    if inputs.send(opened).await.is_err() {
        return;
    }
    let Ok(session) = numbered.await else { return };
    loop {
        tokio::select! {
            biased;
            _ = &mut closed => break,
            message = inbound.recv() => match message {
                Some(Ok(message)) => if inputs.send(Input::Heard(session, message)).await.is_err() {
                    return;
                },
                Some(Err(_)) | None => break,
            },
        }
    }
    // Nobody is there to be told when the watcher stops.
    let _ = inputs.send(Input::Closed(session)).await;
}

struct SimWatcher {
    id: WatcherId,
    logic: Logic,
    world: Arc<World>,
    streams: BTreeMap<SessionId, Stream>,
    runs: JoinSet<(RunId, Ended)>,
    rounds: JoinSet<(RoundId, Vec<Came>)>,
    /// Probes that were made ready, to be told.
    ready: Vec<Event>,
    next_session: u64,
    begun: Instant,
    health_at: Instant,
}

impl SimWatcher {
    fn moment(&self, at: Instant) -> Moment {
        Moment::ZERO + at.duration_since(self.begun)
    }

    async fn next_event(&mut self, inputs: &mut mpsc::Receiver<Input>) -> Event {
        if let Some(ready) = self.ready.pop() {
            return ready;
        }
        let idle = Instant::now() + IDLE;
        let begun = self.begun;
        let wake = self.logic.next_wake().map_or(idle, |at| (begun + at.since(Moment::ZERO)).min(idle));
        tokio::select! {
            biased;
            Some(input) = inputs.recv() => self.input(input),
            Some(ended) = self.runs.join_next() => match ended {
                Ok((run, ended)) => Event::RunEnded { run, ended },
                Err(_) => Event::Woken,
            },
            Some(ended) = self.rounds.join_next() => match ended {
                Ok((round, came)) => Event::EchoesEnded { round, came },
                Err(_) => Event::Woken,
            },
            () = sleep_until(self.health_at) => {
                self.health_at += HEALTH_EVERY;
                Event::HealthMeasured { loop_lag: Duration::ZERO, steal_percent: 0 }
            }
            () = sleep_until(wake) => Event::Woken,
        }
    }

    fn input(&mut self, input: Input) -> Event {
        match input {
            Input::Opened { endpoint, outbound, close, number } => {
                let session = SessionId(self.next_session);
                self.next_session += 1;
                self.streams.insert(session, Stream { outbound, close });
                // A dial task that is gone closes the stream itself.
                let _ = number.send(session);
                Event::SessionOpened { session, endpoint }
            }
            Input::Closed(session) => {
                self.streams.remove(&session);
                Event::SessionClosed { session }
            }
            Input::Heard(session, message) => Event::Heard { session, message },
        }
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Send { session, message } => {
                if self.streams.get(&session).is_some_and(|s| s.outbound.try_send(message).is_err()) {
                    self.drop_stream(session);
                }
            }
            Effect::Close { session, .. } => self.drop_stream(session),
            Effect::Begin(run) => {
                let (world, id, number) = (Arc::clone(&self.world), self.id, run.id);
                self.runs.spawn(async move { (number, probes::run(world, id, run).await) });
            }
            Effect::Echo(round) => {
                let (world, id, number) = (Arc::clone(&self.world), self.id, round.id);
                self.rounds.spawn(async move { (number, echoes::round(world, id, round).await) });
            }
            Effect::Forget { .. } => {}
            Effect::Prepare { probe, digest } => {
                self.ready.push(Event::ProbeReady { digest, origin: probes::origin(&probe) });
            }
        }
    }

    fn drop_stream(&mut self, session: SessionId) {
        if let Some(stream) = self.streams.remove(&session) {
            // The dial task may have left by itself.
            let _ = stream.close.send(());
        }
    }
}
