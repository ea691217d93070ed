//! A scripted watcher: enrols, looks at its VMs over the service network and at relays, reports, and answers asks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use vouch_types::{
    AssignmentGeneration, HypervisorState, Incarnation, ManagerId, Network, Nonce, Outcome, RelayOutcome, Sequence,
    TickSequence, WatcherHealth, WatcherId,
};
use vouch_wire::convert::{Assignment, WatcherAnswer, WatcherReport, WireObservation, WireRelayObservation, vm_id};
use vouch_wire::links::Session;
use vouch_wire::pki::CertificateRequest;
use vouch_wire::proto;

use super::network::Part;
use super::node::{REDIAL, SimNode};

struct SimWatcher {
    id: WatcherId,
    home: Arc<SimNode>,
    assignment: Mutex<Option<Assignment>>,
}

/// Enrols and runs a watcher until it is aborted.
pub async fn run(home: Arc<SimNode>, id: WatcherId, secret: [u8; 32]) {
    let request = proto::EnrollRequest {
        watcher: id.get(),
        incarnation: 1,
        secret: secret.to_vec(),
        csr: CertificateRequest::generate().unwrap().der().to_vec(),
    };
    let part = Part::Watcher(id);
    'enrolled: loop {
        for manager in &home.managers {
            if let Ok(served) = home.network.reach(&part, *manager)
                && served.manager.enroll(request.clone()).await.is_ok()
            {
                break 'enrolled;
            }
        }
        tokio::time::sleep(REDIAL).await;
    }
    let watcher = Arc::new(SimWatcher { id, home: Arc::clone(&home), assignment: Mutex::new(None) });
    let mut sessions = tokio::task::JoinSet::new();
    for manager in home.managers.clone() {
        for network in Network::ALL {
            sessions.spawn(Arc::clone(&watcher).talk_to(manager, network));
        }
    }
    sessions.join_all().await;
}

impl SimWatcher {
    fn part(&self) -> Part {
        Part::Watcher(self.id)
    }

    async fn talk_to(self: Arc<Self>, manager: ManagerId, network: Network) {
        loop {
            if let Ok(served) = self.home.network.reach(&self.part(), manager) {
                let (mine, theirs) = self.home.network.stream(&self.part(), &Part::Manager(manager));
                served.manager.watcher_session(self.id, theirs).await;
                self.session(mine, network).await;
            }
            tokio::time::sleep(REDIAL).await;
        }
    }

    fn observations(&self, tick: TickSequence) -> Vec<WireObservation> {
        let assignment = self.assignment.lock().unwrap();
        let nodes = self.home.all.lock().unwrap();
        let mut out = Vec::new();
        for target in assignment.iter().flat_map(|a| &a.targets) {
            let state = nodes[&target.node].state.lock().unwrap();
            let up = state.vms.get(&target.vm).is_some_and(|(_, s)| *s == HypervisorState::Running);
            for probe in &target.probes {
                out.push(WireObservation {
                    identity: None,
                    vm: target.vm,
                    network: probe.network,
                    probe: probe.probe.clone(),
                    outcome: if up { Outcome::Up } else { Outcome::Down },
                    reason: if up { "open" } else { "timeout" }.to_owned(),
                    message: String::new(),
                    begun: tick,
                    begun_after: Duration::ZERO,
                    took: Duration::from_millis(1),
                });
            }
        }
        out
    }

    fn relays(&self, tick: TickSequence) -> Vec<WireRelayObservation> {
        let assignment = self.assignment.lock().unwrap();
        let reached = |node| self.home.network.is_open(&self.part(), &Part::Node(node));
        let relays = assignment.iter().flat_map(|a| &a.relays).map(|relay| WireRelayObservation {
            hears: Vec::new(),
            node: relay.node.clone(),
            outcome: if reached(relay.node.clone()) { RelayOutcome::Reached } else { RelayOutcome::Silent },
            begun: tick,
        });
        relays.collect()
    }

    fn generation(&self) -> AssignmentGeneration {
        self.assignment.lock().unwrap().as_ref().map(|a| a.generation).unwrap_or_default()
    }

    fn health() -> WatcherHealth {
        WatcherHealth {
            management_loss_per_mille: 0,
            service_loss_per_mille: 0,
            loop_lag: Duration::ZERO,
            steal_percent: 0,
            management_reached: true,
            service_reached: true,
        }
    }

    fn answer(&self, ask: &proto::Ask, tick: TickSequence) -> proto::FromWatcher {
        let vms: Vec<_> = ask.vms.iter().map(|vm| vm_id("ask.vms", vm).unwrap()).collect();
        let relays: Vec<_> =
            self.relays(tick).into_iter().filter(|r| ask.nodes.iter().any(|n| n == r.node.as_str())).collect();
        let reached = relays.iter().filter(|r| r.outcome == RelayOutcome::Reached);
        let nodes = self.home.all.lock().unwrap().clone();
        let assignment = self.assignment.lock().unwrap().clone();
        let granted = |node: &vouch_types::NodeId| {
            assignment.iter().flat_map(|a| &a.targets).filter(|t| t.node == *node).map(|t| t.vm).collect::<Vec<_>>()
        };
        let statements =
            reached.flat_map(|r| nodes[&r.node].statements(&granted(&r.node), Nonce::new(ask.nonce))).collect();
        let answer = WatcherAnswer {
            nonce: Nonce::new(ask.nonce),
            assignment: self.generation(),
            observations: self.observations(tick).into_iter().filter(|o| vms.contains(&o.vm)).collect(),
            relays,
            statements,
            complete: true,
            health: Some(Self::health()),
        };
        proto::FromWatcher { message: Some(proto::from_watcher::Message::Answer(answer.into())) }
    }

    fn report(&self, sequence: u64, tick: TickSequence) -> proto::FromWatcher {
        let report = WatcherReport {
            sequence: Sequence::new(sequence),
            assignment: self.generation(),
            full: true,
            observations: self.observations(tick),
            relays: self.relays(tick),
            others_age: Some(Duration::ZERO),
            health: Some(Self::health()),
            tick,
        };
        proto::FromWatcher { message: Some(proto::from_watcher::Message::Report((&report).into())) }
    }

    async fn session(&self, session: Session<proto::ToWatcher, proto::FromWatcher>, network: Network) {
        use proto::to_watcher::Message;
        let Session { outbound, mut inbound } = session;
        let hello = proto::WatcherHello {
            incarnation: Incarnation::new(1).get(),
            network: proto::Network::from(network).into(),
        };
        let hello = proto::FromWatcher { message: Some(proto::from_watcher::Message::Hello(hello)) };
        if outbound.send(hello).await.is_err() {
            return;
        }
        let mut tick = TickSequence::default();
        let mut sequence = 0;
        let mut interval = tokio::time::interval(self.home.timing.watcher_report_interval);
        loop {
            let message = tokio::select! {
                biased;
                message = inbound.recv() => match message.and_then(Result::ok) {
                    None => return,
                    Some(message) => message.message,
                },
                _ = interval.tick() => None,
            };
            let reply = match message {
                Some(Message::Tick(t)) => {
                    tick = TickSequence::new(t.sequence);
                    continue;
                }
                Some(Message::Assignment(assignment)) => {
                    let assignment = Assignment::try_from(assignment).unwrap();
                    let mut current = self.assignment.lock().unwrap();
                    if current.as_ref().is_none_or(|c| assignment.fence >= c.fence) {
                        *current = Some(assignment);
                    }
                    continue;
                }
                Some(Message::Ask(ask)) => self.answer(&ask, tick),
                Some(Message::Welcome(_) | Message::Resync(_)) => continue,
                None => {
                    if tick == TickSequence::default() {
                        continue;
                    }
                    sequence += 1;
                    self.report(sequence, tick)
                }
            };
            if outbound.send(reply).await.is_err() {
                return;
            }
        }
    }
}
