//! What watchers see in this world, and what they say of it.

use super::*;

impl SimWorld {
    pub(super) fn watcher_speaks(&self, i: usize) -> bool {
        self.truth[i].watcher && self.truth[i].watcher_heard && self.truth[i].power
    }

    pub(super) fn networks_of_watcher(&self, i: usize) -> Vec<Network> {
        let management = self.truth[i].uplink.then_some(Network::Management);
        let service = self.truth[i].service_uplink.then_some(Network::Service);
        management.into_iter().chain(service).collect()
    }

    pub(super) fn relay(&self, from: usize, to: usize) -> RelayOutcome {
        let t = &self.truth[to];
        let route = t.power && (from == to || (t.uplink && self.truth[from].uplink));
        match (route, t.agent) {
            (false, _) => RelayOutcome::Silent,
            (true, false) => RelayOutcome::Refused,
            (true, true) => RelayOutcome::Reached,
        }
    }

    pub(super) fn rdp(&self, from: usize, to: usize) -> (Outcome, &'static str) {
        let t = &self.truth[to];
        if t.overstays {
            return (Outcome::Unknown, "overstayed");
        }
        let route = from == to || (t.service_uplink && self.truth[from].service_uplink);
        match (route && t.power && t.vm && t.cable && t.guest, t.rdp, t.wedged) {
            (false, ..) => (Outcome::Down, "timeout"),
            (true, _, true) => (Outcome::Down, "wedged"),
            (true, false, false) => (Outcome::Down, "closed"),
            (true, true, false) => (Outcome::Up, ""),
        }
    }

    pub(super) fn guest_agent(&self, from: usize, to: usize) -> (Outcome, &'static str) {
        let t = &self.truth[to];
        match (self.relay(from, to), t.vm && t.guest && t.guest_agent) {
            (RelayOutcome::Reached, true) => (Outcome::Up, ""),
            (RelayOutcome::Reached, false) => (Outcome::Down, "timeout"),
            // It could not be asked.
            (_, _) => (Outcome::Unknown, "relay"),
        }
    }

    pub(super) fn observations(&self, from: usize, to: usize, asked: Option<vouch_types::Nonce>) -> Vec<Observation> {
        let who = self.truth[to].who.map(Identity::new);
        let of = |probe: &ProbeAssignment, (outcome, reason): (Outcome, &str), identity| Observation {
            watcher: watcher(from),
            vm: vm(to),
            network: probe.network,
            probe: probe.probe.clone(),
            outcome,
            reason: reason.into(),
            message: String::new(),
            identity,
            begun: self.now,
            asked,
        };
        let (answer, agent) = (self.rdp(from, to), self.guest_agent(from, to));
        let identity = who.filter(|_| answer.0 == Outcome::Up);
        vec![of(&rdp(), answer, identity), of(&agent_probe(), agent, None)]
    }

    pub(super) fn watcher_step(&mut self, i: usize) {
        if !self.watcher_speaks(i) {
            return;
        }
        if self.step.is_multiple_of(10) {
            for network in self.networks_of_watcher(i) {
                let health = WatcherHealth { management_reached: self.truth[i].uplink, ..WatcherHealth::well() };
                self.feed(Event::WatcherHeard {
                    manager: manager(0),
                    watcher: watcher(i),
                    network,
                    incarnation: Incarnation::new(1),
                    begun: self.now,
                    health: Some(health),
                });
            }
        }
        if self.step.is_multiple_of(20) {
            for to in 0..NODES {
                for seen in self.observations(i, to, None) {
                    self.feed(Event::Observed(seen));
                }
                self.feed(Event::RelayObserved(RelayObservation {
                    hears: Vec::new(),
                    watcher: watcher(i),
                    node: node(to),
                    outcome: self.relay(i, to),
                    begun: self.now,
                    asked: None,
                }));
            }
        }
    }

    pub(super) fn answer(&mut self, ask: &Ask) {
        let i = usize::try_from(ask.watcher.get()).unwrap() - 1;
        if !self.watcher_speaks(i) {
            return;
        }
        let soon = self.now + STEP;
        for to in 0..NODES {
            if ask.nodes.contains(&node(to)) {
                let outcome = self.relay(i, to);
                let seen = RelayObservation {
                    hears: Vec::new(),
                    watcher: ask.watcher,
                    node: node(to),
                    outcome,
                    begun: self.now,
                    asked: Some(ask.nonce),
                };
                // Silence is known only when the time is up.
                let at = if outcome == RelayOutcome::Silent { self.now + ask.deadline } else { soon };
                self.pending.push((at, Event::RelayObserved(seen)));
                if outcome == RelayOutcome::Reached {
                    self.sequence += 1;
                    let statement = Statement {
                        progress: self.truth[to].progress,
                        node: node(to),
                        boot: BootId::new(Uuid::from_u128(9)),
                        incarnation: Incarnation::new(1),
                        vm: vm(to),
                        generation: Generation::new(1),
                        start: StartId::new(1),
                        sequence: Sequence::new(if self.replay_statements { 1 } else { self.sequence }),
                        nonce: ask.nonce,
                        state: if self.replay_statements {
                            HypervisorState::Gone(ExitReason::Process)
                        } else {
                            self.hypervisor(to)
                        },
                    };
                    self.pending
                        .push((soon, Event::StatementReceived { watcher: ask.watcher, statement, begun: self.now }));
                }
            }
            if ask.vms.contains(&vm(to)) {
                for seen in self.observations(i, to, Some(ask.nonce)) {
                    self.pending.push((soon, Event::Observed(seen)));
                }
            }
        }
        let networks = self.networks_of_watcher(i);
        self.pending.push((
            soon,
            Event::WatcherHeard {
                manager: manager(0),
                watcher: ask.watcher,
                network: networks[0],
                incarnation: Incarnation::new(1),
                begun: self.now,
                health: None,
            },
        ));
        self.pending.push((self.now + ask.deadline, Event::AskAnswered { watcher: ask.watcher, nonce: ask.nonce }));
    }
}
