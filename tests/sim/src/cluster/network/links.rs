//! One manager's way to the others: Raft, evidence, forwarding, each over the network that answered last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use vouch_types::{ManagerId, Network};
use vouch_wire::links::{Caller, LinkError, LogNames, PeerLink, RaftCall, RaftLink, SESSION_QUEUE, Session};
use vouch_wire::proto;

use super::super::host::Host;
use super::{Lane, Served, SimNetwork, lock, pipe};

/// How long calls may go unanswered before the connection is dialled anew (`wire`, UNANSWERED_MAX).
const UNANSWERED_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Route {
    network: Network,
    waiting_since: Option<Instant>,
}

/// One manager's way to the others.
pub struct SimLinks {
    own: ManagerId,
    network: Arc<SimNetwork>,
    routes: Mutex<BTreeMap<ManagerId, Route>>,
}

impl SimLinks {
    pub(super) fn new(own: ManagerId, network: Arc<SimNetwork>) -> Self {
        Self { own, network, routes: Mutex::default() }
    }

    fn host(&self) -> Host {
        Host::Manager(self.own)
    }

    /// Returns the network for the next call; the other one once calls have gone unanswered for too long and it
    /// answers.
    fn route(&self, to: ManagerId) -> Network {
        let mut routes = lock(&self.routes);
        let route = routes.entry(to).or_insert(Route { network: Network::Management, waiting_since: None });
        if route.waiting_since.is_some_and(|since| since.elapsed() >= UNANSWERED_MAX) {
            let connects = |network| self.network.connects(self.host(), Host::Manager(to), network);
            let other = match route.network {
                Network::Management => Network::Service,
                Network::Service => Network::Management,
            };
            if !connects(route.network) && connects(other) {
                route.network = other;
            }
            route.waiting_since = None;
        }
        route.waiting_since.get_or_insert_with(Instant::now);
        route.network
    }

    fn answered(&self, to: ManagerId) {
        if let Some(route) = lock(&self.routes).get_mut(&to) {
            route.waiting_since = None;
        }
    }

    /// Returns what a call says of its logs: nothing where one side is of an older version.
    fn names_for(&self, to: ManagerId, names: LogNames) -> LogNames {
        let older = self.network.is_older(self.own) || self.network.is_older(to);
        if older { LogNames::default() } else { names }
    }

    fn served(&self, to: ManagerId) -> Result<Served, LinkError> {
        self.network
            .served_by(to)
            .ok_or_else(|| LinkError::NotListening { to: to.to_string(), address: "manager".to_owned() })
    }

    async fn there(&self, to: ManagerId, network: Network, lane: Lane) {
        self.network.travel(self.host(), Host::Manager(to), network, lane).await;
    }

    async fn back(&self, to: ManagerId, network: Network, lane: Lane) {
        self.network.travel(Host::Manager(to), self.host(), network, lane).await;
        self.answered(to);
    }
}

#[async_trait]
impl RaftLink for SimLinks {
    async fn call(&self, to: ManagerId, mut request: RaftCall) -> Result<Vec<u8>, LinkError> {
        request.names = self.names_for(to, request.names);
        let network = self.route(to);
        self.there(to, network, Lane::Call).await;
        let answer = match self.served(to) {
            Ok(served) => served.raft.call(self.own, request).await,
            Err(error) => Err(error),
        };
        self.back(to, network, Lane::Call).await;
        answer
    }

    async fn append_stream(
        &self,
        to: ManagerId,
        names: LogNames,
        mut requests: BoxStream<'static, Vec<u8>>,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, LinkError>>, LinkError> {
        let network = self.route(to);
        self.there(to, network, Lane::Call).await;
        let served = self.served(to);
        self.back(to, network, Lane::Call).await;
        let served = served?;
        let [there, back] = self.network.ways(self.host(), Host::Manager(to), network, pipe::OnEnd::OneDirection);
        let dropped = there.sender_gone.clone();
        let (sender, source) = mpsc::channel(SESSION_QUEUE);
        let (sink, received) = mpsc::channel(SESSION_QUEUE);
        let gone = dropped.clone();
        let forward = async move {
            while let Some(request) = requests.next().await {
                if sender.send(Some(request)).await.is_err() {
                    return;
                }
            }
            // The other end may be gone meanwhile.
            let _ = sender.send(IN_ORDER).await;
        };
        tokio::spawn(async move { gone.run_until_cancelled_owned(forward).await });
        tokio::spawn(pipe::carry(there, source, sink));
        let arrived = Box::pin(messages(received));
        let mut answers = served.raft.append_stream(self.own, self.names_for(to, names), arrived).await;
        let (sender, source) = mpsc::channel(SESSION_QUEUE);
        let (sink, received) = mpsc::channel::<Result<Result<Vec<u8>, LinkError>, LinkError>>(SESSION_QUEUE);
        tokio::spawn(async move {
            while let Some(answer) = answers.next().await {
                if sender.send(answer).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(pipe::carry(back, source, sink));
        // One who drops the answers has given the stream up.
        let open = (received, dropped.drop_guard());
        Ok(Box::pin(futures::stream::unfold(open, |(mut received, guard)| async move {
            received.recv().await.map(|answer| (answer.and_then(|a| a), (received, guard)))
        })))
    }
}

type EvidenceSession = Session<proto::EvidenceFrame, proto::EvidenceFrame>;

/// Returns the session of a manager of a version that did not know of its log's name.
fn without_names(session: EvidenceSession) -> EvidenceSession {
    let (outbound, mut source) = mpsc::channel::<proto::EvidenceFrame>(SESSION_QUEUE);
    let Session { outbound: sink, inbound } = session;
    tokio::spawn(async move {
        while let Some(mut frame) = source.recv().await {
            if let Some(health) = &mut frame.health {
                health.log.clear();
            }
            if sink.send(frame).await.is_err() {
                return;
            }
        }
    });
    Session { outbound, inbound }
}

/// What follows the last request of a stream that its sender ends.
const IN_ORDER: Option<Vec<u8>> = None;

fn messages(
    received: mpsc::Receiver<Result<Option<Vec<u8>>, LinkError>>,
) -> impl futures::Stream<Item = Result<Vec<u8>, LinkError>> + Send {
    futures::stream::unfold(Some(received), |received| async move {
        let mut received = received?;
        match received.recv().await {
            Some(Ok(request)) => request.map(|request| (Ok(request), Some(received))),
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(LinkError::Reset("it ended before its sender ended it".to_owned())), None)),
        }
    })
}

#[async_trait]
impl PeerLink for SimLinks {
    async fn evidence(&self, to: ManagerId) -> Result<Session<proto::EvidenceFrame, proto::EvidenceFrame>, LinkError> {
        let network = self.route(to);
        let served = self.network.dial(self.host(), to, network).await?;
        self.answered(to);
        let (mut mine, mut theirs) = self.network.stream(self.host(), Host::Manager(to), network);
        if self.network.is_older(self.own) {
            mine = without_names(mine);
        }
        if self.network.is_older(to) {
            theirs = without_names(theirs);
        }
        served.manager.evidence_session(Caller::without_tls(self.own), theirs).await;
        Ok(mine)
    }

    async fn forward(
        &self,
        to: ManagerId,
        request: proto::ForwardRequest,
    ) -> Result<proto::ForwardResponse, LinkError> {
        let network = self.route(to);
        self.there(to, network, Lane::Forward).await;
        let response = match self.served(to) {
            Ok(served) => Ok(served.manager.forward(self.own, request).await),
            Err(error) => Err(error),
        };
        self.back(to, network, Lane::Forward).await;
        response
    }
}
