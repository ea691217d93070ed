//! A probe against one target: the real host, real sockets, no cluster.
//!
//! A trial lends what a watcher would: the addresses of the target on the granted ports, echo requests, and, where a
//! fake plays the agent, questions to it. It judges nothing.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tracing::instrument::WithSubscriber;
use vouch_probe_host::limits::DEADLINE_MAX;
use vouch_probe_host::{Capabilities, GuestAgent, Icmp, IcmpSockets, PortGrant, RunFault, Target};
use vouch_types::{Network, VmId};

use crate::fakes::RunningFake;
use crate::recorder::{RecordedAgent, RecordedIcmp, Recorder};
use crate::{Fake, ProbeFile, Ran};

/// The VM that a probe is told it checks.
const TRIAL_VM: &str = "00000000-0000-4000-8000-000000000001";

/// At what a probe is aimed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Aim {
    /// At these addresses, the one to use first in front.
    Addresses(Vec<IpAddr>),
    /// At a fake that is started for the trial.
    Fake(Fake),
}

/// How a probe is tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// At what.
    pub aim: Aim,
    /// The network that the probe is told.
    pub network: Network,
    /// Ports that are granted; none for those of the settings, as a watcher does it.
    pub ports: BTreeSet<u16>,
    /// Settings, a JSON object. With a fake that listens, they are given its `port` unless they have one.
    pub settings: String,
    /// The deadline of each run.
    pub timeout: Duration,
}

impl Plan {
    /// Returns a plan with empty settings, the service network and a deadline of two seconds.
    pub fn new(aim: Aim) -> Self {
        let timeout = Duration::from_secs(2);
        Self { aim, network: Network::Service, ports: BTreeSet::new(), settings: "{}".to_owned(), timeout }
    }
}

/// Why a trial cannot begin.
#[derive(thiserror::Error, Debug)]
pub enum TrialError {
    /// The deadline is out of bounds.
    #[error("timeout {given:?}: must be more than 0 and at most {DEADLINE_MAX:?}")]
    Timeout {
        /// The deadline.
        given: Duration,
    },
    /// The fake could not be started.
    #[error("fake {fake}: cannot be started")]
    Start {
        /// The fake.
        fake: Fake,
        /// Why.
        source: io::Error,
    },
    /// The probe cannot be led to the fake.
    #[error("fake {fake} listens on port {port}, and the probe refuses settings with that `port`: {said}")]
    NoPort {
        /// The fake.
        fake: Fake,
        /// Its port.
        port: u16,
        /// What the probe said.
        said: String,
    },
}

/// A probe that is being tried.
pub struct Trial {
    file: ProbeFile,
    target: Target,
    settings: String,
    timeout: Duration,
    ports: PortGrant,
    icmp: Option<Arc<dyn Icmp>>,
    guest_agent: Option<Arc<dyn GuestAgent>>,
    /// Ends with the trial.
    _fake: Option<RunningFake>,
}

impl Trial {
    /// Starts what the trial needs; must be called inside a tokio runtime with its timers and sockets.
    ///
    /// # Errors
    /// [`TrialError`] when the plan is out of bounds, or its fake cannot be started or reached by the probe.
    pub async fn start(file: &ProbeFile, plan: &Plan) -> Result<Self, TrialError> {
        if plan.timeout.is_zero() || plan.timeout > DEADLINE_MAX {
            return Err(TrialError::Timeout { given: plan.timeout });
        }
        let mut settings = plan.settings.clone();
        let mut ports = plan.ports.clone();
        let (addresses, fake) = match &plan.aim {
            Aim::Addresses(addresses) => (addresses.clone(), None),
            Aim::Fake(fake) => {
                let running = fake.start().await.map_err(|source| TrialError::Start { fake: *fake, source })?;
                if let Some(port) = running.port() {
                    settings = lead_to(file, *fake, port, &settings).await?;
                    if !ports.is_empty() {
                        ports.insert(port);
                    }
                }
                (vec![Ipv4Addr::LOCALHOST.into()], Some(running))
            }
        };
        let vm: VmId = TRIAL_VM.parse().expect("a constant UUID");
        // Raw sockets are not opened for a probe that cannot use them.
        let icmp = file.imports("icmp").then(|| Arc::new(IcmpSockets::open()) as Arc<dyn Icmp>);
        Ok(Self {
            file: file.clone(),
            target: Target { vm, addresses, network: plan.network, labels: Vec::new() },
            settings,
            timeout: plan.timeout,
            ports: if ports.is_empty() { PortGrant::Settings } else { PortGrant::Only(ports) },
            icmp,
            guest_agent: fake.as_ref().and_then(RunningFake::guest_agent),
            _fake: fake,
        })
    }

    /// Returns the settings that the probe is given.
    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// Runs the probe once, and takes down what it logs and asks of the host.
    pub async fn run(&self) -> Ran {
        let recorder = Recorder::starting_now();
        let mut lent = self.lent();
        lent.icmp =
            lent.icmp.map(|inner| Arc::new(RecordedIcmp { inner, recorder: recorder.clone() }) as Arc<dyn Icmp>);
        lent.guest_agent = lent
            .guest_agent
            .map(|inner| Arc::new(RecordedAgent { inner, recorder: recorder.clone() }) as Arc<dyn GuestAgent>);
        let run = self.file.probe.run(&self.target, &self.settings, self.timeout, &lent);
        let result = run.with_subscriber(recorder.subscriber()).await;
        Ran { result, took: recorder.elapsed(), trace: recorder.lines() }
    }

    /// Returns what a run may do.
    fn lent(&self) -> Capabilities {
        let mut lent = Capabilities::default();
        lent.icmp.clone_from(&self.icmp);
        lent.guest_agent.clone_from(&self.guest_agent);
        lent.ports.clone_from(&self.ports);
        lent
    }

    /// Runs the probe once and takes nothing down: as a watcher runs it.
    ///
    /// # Errors
    /// Why the run says nothing.
    pub async fn run_bare(&self) -> Result<vouch_probe_host::RunOutcome, RunFault> {
        let lent = self.lent();
        self.file.probe.run(&self.target, &self.settings, self.timeout, &lent).await
    }
}

/// Returns the settings with the port of the fake, unless they name one.
async fn lead_to(file: &ProbeFile, fake: Fake, port: u16, settings: &str) -> Result<String, TrialError> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(settings) else {
        // The probe itself will say what is wrong with them.
        return Ok(settings.to_owned());
    };
    if fields.contains_key("port") {
        return Ok(settings.to_owned());
    }
    fields.insert("port".to_owned(), port.into());
    let led = Value::Object(fields).to_string();
    match file.probe.validate(&led).await {
        Err(RunFault::BadSettings(said)) => Err(TrialError::NoPort { fake, port, said }),
        // Another fault is the run's to tell.
        Ok(()) | Err(_) => Ok(led),
    }
}
