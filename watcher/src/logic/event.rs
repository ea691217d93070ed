//! What the core is told, and what it orders.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use vouch_types::observation::{MESSAGE_MAX, REASON_MAX};
use vouch_types::{
    Digest, Findings, Identity, ManagerId, Network, NodeId, Nonce, Outcome, ProbeGrant, ProbeName, RelayOutcome, VmId,
};
use vouch_wire::links::ManagerEndpoint;
use vouch_wire::proto;

use super::{Came, EchoRound, Origin, RoundId};

/// One stream to one manager, numbered by the driver and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// One run of one check, numbered in the order in which runs begin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId(pub u64);

/// One thing that a watcher looks at again and again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Check {
    /// A VM, over a network, with a probe.
    Probe {
        /// The VM.
        vm: VmId,
        /// Over which network.
        network: Network,
        /// With which probe.
        probe: ProbeName,
    },
    /// The relay of a node.
    Relay {
        /// The node.
        node: NodeId,
    },
}

impl Check {
    /// Returns the network over which somebody answered, if a run shows that.
    pub(super) fn reached(&self, ended: &Ended) -> Option<Network> {
        match (self, ended) {
            // Questions to a guest agent travel through the relay, whatever network the probe is assigned to.
            (Self::Probe { probe, .. }, Ended::Probe { outcome, .. }) if probe.as_str() == "guest-agent" => {
                outcome.is_sign_of_life().then_some(Network::Management)
            }
            (Self::Probe { network, .. }, Ended::Probe { outcome, .. }) => {
                outcome.is_sign_of_life().then_some(*network)
            }
            (_, Ended::Relay { outcome, .. }) => match outcome {
                RelayOutcome::Reached | RelayOutcome::Refused | RelayOutcome::Stalled | RelayOutcome::Denied => {
                    Some(Network::Management)
                }
                RelayOutcome::Silent => None,
            },
            (Self::Relay { .. }, Ended::Probe { .. }) => None,
        }
    }
}

/// All that a run of a check needs to know.
#[derive(Clone, PartialEq, Debug)]
pub enum CheckSpec {
    /// Of a VM.
    Probe(Arc<ProbeSpec>),
    /// Of a node's relay.
    Relay(Arc<RelaySpec>),
}

/// A VM as a probe is to see it.
#[derive(Clone, PartialEq, Debug)]
pub struct ProbeSpec {
    /// The VM.
    pub vm: VmId,
    /// The node that the VM is on.
    pub node: NodeId,
    /// Over which network.
    pub network: Network,
    /// With which probe.
    pub probe: ProbeName,
    /// SHA-256 of the probe's component; absent when the assignment names none.
    pub digest: Option<Digest>,
    /// What the operator grants the probe; absent for one that was recorded before there were grants.
    pub grant: Option<Arc<ProbeGrant>>,
    /// Addresses of the VM on that network, the one to use first.
    pub addresses: Vec<IpAddr>,
    /// Labels of the VM.
    pub labels: Vec<(String, String)>,
    /// Settings of the probe, a JSON object.
    pub settings: String,
    /// The relay of the VM's node, for questions to its guest agent.
    pub relay: Option<Arc<RelaySpec>>,
    /// How often it runs; `None` is as the timing of the cluster says.
    pub interval: Option<Duration>,
    /// How long one run may take; `None` is as the timing of the cluster says.
    pub timeout: Option<Duration>,
}

/// A node's relay, and the right to use it.
#[derive(Clone, PartialEq, Debug)]
pub struct RelaySpec {
    /// The node.
    pub node: NodeId,
    /// Where its relay listens.
    pub address: SocketAddr,
    /// The signed grant.
    pub grant: proto::Signed,
}

/// One run that is to begin now.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// What to check.
    pub spec: CheckSpec,
    /// For a relay: the nonce of the ask that it answers, 0 for none.
    pub nonce: Nonce,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a run treated the machine that it ran on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduct {
    /// It came to an outcome by itself.
    Well {
        /// For how long it computed.
        computed: Duration,
    },
    /// It never began, or ended without an outcome: says nothing.
    Untold,
    /// It had to be stopped, or crashed.
    Badly,
}

/// What came of a run.
#[derive(Clone, PartialEq, Debug)]
pub enum Ended {
    /// Of a probe.
    Probe {
        /// What it came to.
        outcome: Outcome,
        /// Why, as one word.
        reason: String,
        /// The same for people.
        message: String,
        /// Who answered, where the probe can tell.
        identity: Option<Identity>,
        /// What it found beyond that; kept for asks that want to know, and told to nobody else.
        findings: Option<Arc<Findings>>,
        /// How it treated the machine that it ran on.
        conduct: Conduct,
    },
    /// Of a question to a relay.
    Relay {
        /// What it came to.
        outcome: RelayOutcome,
        /// Managers that the node's agent hears, as it said.
        hears: Vec<ManagerId>,
        /// Signed statements that it gave.
        statements: Vec<proto::Signed>,
    },
}

impl Ended {
    /// Returns the end of a probe's run, its texts cut to what a message may hold.
    pub fn probe(outcome: Outcome, reason: &str, message: &str) -> Self {
        let cut = |text: &str, max| text[..text.floor_char_boundary(max)].to_owned();
        let (reason, message) = (cut(reason, REASON_MAX), cut(message, MESSAGE_MAX));
        let conduct = match outcome {
            Outcome::Unknown => Conduct::Untold,
            Outcome::Up | Outcome::Degraded | Outcome::Down => Conduct::Well { computed: Duration::ZERO },
        };
        Self::Probe { outcome, reason, message, identity: None, findings: None, conduct }
    }

    /// Returns it as one of a run that treated its machine so; a relay's end is as it was.
    #[must_use]
    pub fn conducted(mut self, as_it_was: Conduct) -> Self {
        if let Self::Probe { conduct, .. } = &mut self {
            *conduct = as_it_was;
        }
        self
    }

    /// Returns how it treated its machine.
    pub const fn conduct(&self) -> Conduct {
        match self {
            Self::Probe { conduct, .. } => *conduct,
            Self::Relay { .. } => Conduct::Well { computed: Duration::ZERO },
        }
    }

    /// Returns it with who answered; a relay's end is as it was.
    #[must_use]
    pub fn identified(mut self, who: Option<Identity>) -> Self {
        if let Self::Probe { identity, .. } = &mut self {
            *identity = who;
        }
        self
    }

    /// Returns it with what was found beyond the outcome; a relay's end is as it was.
    #[must_use]
    pub fn finding(mut self, found: Findings) -> Self {
        if let Self::Probe { findings, .. } = &mut self {
            *findings = (!found.is_empty()).then(|| Arc::new(found));
        }
        self
    }

    /// Returns what of it is kept for reports: without what belongs to answers alone.
    #[must_use]
    pub(super) fn for_reports(mut self) -> Self {
        match &mut self {
            Self::Probe { findings, .. } => *findings = None,
            Self::Relay { statements, .. } => statements.clear(),
        }
        self
    }
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A stream to a manager stands.
    SessionOpened {
        /// Its number.
        session: SessionId,
        /// Where it leads.
        endpoint: ManagerEndpoint,
    },
    /// A stream is gone.
    SessionClosed {
        /// Its number.
        session: SessionId,
    },
    /// A manager said something.
    Heard {
        /// On which stream.
        session: SessionId,
        /// What.
        message: proto::ToWatcher,
    },
    /// A probe can run now.
    ProbeReady {
        /// SHA-256 of its component.
        digest: Digest,
        /// Where that came from.
        origin: Origin,
    },
    /// A probe could not be made ready.
    ProbeUnavailable {
        /// SHA-256 of its component.
        digest: Digest,
        /// Why, for people.
        why: String,
    },
    /// A run is over.
    RunEnded {
        /// Its number.
        run: RunId,
        /// What came of it.
        ended: Ended,
    },
    /// A round of echoes is over.
    EchoesEnded {
        /// Its number.
        round: RoundId,
        /// What came of each address, in the order of the round.
        came: Vec<Came>,
    },
    /// The driver measured how well this machine keeps time.
    HealthMeasured {
        /// Worst lateness of a timer in the last second.
        loop_lag: Duration,
        /// Per cent of time that the hypervisor kept.
        steal_percent: u8,
    },
    /// The moment of [`Logic::next_wake`](super::Logic::next_wake) has come.
    Woken,
}

/// Why a stream is dropped by this side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// No tick came for too long.
    NoTick,
    /// The manager broke the contract.
    Malformed,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Send a message; if the stream cannot take it at once, drop the stream.
    Send {
        /// On which stream.
        session: SessionId,
        /// What.
        message: proto::FromWatcher,
    },
    /// Drop a stream and dial anew.
    Close {
        /// Which.
        session: SessionId,
        /// Why.
        why: CloseReason,
    },
    /// Begin a run; answered by [`Event::RunEnded`].
    Begin(Run),
    /// Send echo requests to peers; answered by [`Event::EchoesEnded`].
    Echo(EchoRound),
    /// Make a probe ready; answered by [`Event::ProbeReady`] or [`Event::ProbeUnavailable`].
    Prepare {
        /// Its name.
        probe: ProbeName,
        /// SHA-256 of its component.
        digest: Digest,
    },
    /// Give back what a probe takes that is not needed any more.
    Forget {
        /// SHA-256 of its component.
        digest: Digest,
    },
}
