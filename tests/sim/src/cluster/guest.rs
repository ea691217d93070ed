//! [`SimVm`]: one VM with a truth, and what its hypervisor and its network see of it.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use vouch_types::{
    ExitReason, HypervisorState, Network, Operation, PauseReason, ProbeAssignment, ProbeName, Progress, SortedMap,
    VmSpec,
};

use super::host::VmNo;

/// How long counters must stand still before a node says so.
pub const PROGRESS_WINDOW: Duration = Duration::from_secs(2);
/// How long a guest takes to boot.
pub const BOOT_TIME: Duration = Duration::from_secs(12);
/// How long a hypervisor says that a guest which was reset reboots, before it only says that it runs.
pub const RESET_SHOWN: Duration = Duration::from_secs(2);

/// How a guest hangs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stuck {
    /// Its vCPUs halt for ever.
    Still,
    /// Its vCPUs spin.
    Spinning,
}

/// What a VM does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    /// It runs.
    Running,
    /// It boots: it executes and answers nothing.
    Booting {
        /// Since when.
        since: Instant,
    },
    /// Its vCPUs are stopped.
    Paused(PauseReason),
    /// It executes and answers nothing.
    Hung {
        /// How.
        how: Stuck,
        /// Since when.
        since: Instant,
    },
    /// Its kernel panicked, and its hypervisor was told (pvpanic).
    Panicked,
    /// Its process is gone.
    Dead(ExitReason),
}

/// A service of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServiceState {
    /// It serves.
    #[default]
    Serving,
    /// Nothing listens.
    Stopped,
    /// It accepts and never answers.
    Wedged,
}

/// What of a VM is broken beside its running.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Broken {
    /// Its service port has no link.
    pub nic: bool,
    /// Its guest agent is stopped.
    pub guest_agent: bool,
    /// Its firewall drops echo requests.
    pub ping: bool,
    /// Its node cannot reach its monitor.
    pub monitor: bool,
}

/// One VM.
#[derive(Clone, Debug)]
pub struct SimVm {
    /// Its number.
    pub no: VmNo,
    /// As its node describes it.
    pub spec: VmSpec,
    /// What it does.
    pub run: Run,
    /// Its RDP service.
    pub rdp: ServiceState,
    /// What is broken besides.
    pub broken: Broken,
    /// What is done to it.
    pub operation: Option<Operation>,
    /// Number of its start.
    pub start: u64,
}

fn probe(name: &str, network: Network) -> ProbeAssignment {
    let probe = ProbeName::new(name).expect("a shipped probe's name is a label");
    ProbeAssignment { probe, network, settings: "{}".to_owned() }
}

impl SimVm {
    /// Returns a VM that runs, with all three kinds of probe, its disks in this store.
    pub fn new(no: VmNo, datastore: &str) -> Self {
        let [_, _, high, low] = no.0.to_be_bytes();
        let address: IpAddr = [10, 2, high, low].into();
        let spec = VmSpec {
            id: no.id(),
            name: format!("desk-{}", no.0),
            addresses: SortedMap::from([(Network::Service, vec![address])]),
            probes: vec![
                probe("guest-agent", Network::Management),
                probe("ping", Network::Service),
                probe("rdp", Network::Service),
            ],
            labels: SortedMap::new(),
            datastore: Some(datastore.to_owned()),
        };
        let rdp = ServiceState::default();
        Self { no, spec, run: Run::Running, rdp, broken: Broken::default(), operation: None, start: 1 }
    }

    /// Returns whether its vCPUs may execute.
    pub fn executes(&self) -> bool {
        match self.run {
            Run::Running | Run::Booting { .. } | Run::Hung { .. } | Run::Panicked => true,
            Run::Paused(_) | Run::Dead(_) => false,
        }
    }

    /// Returns whether its operating system answers anything.
    pub fn guest_answers(&self) -> bool {
        self.run == Run::Running && self.operation != Some(Operation::FsFreeze)
    }

    /// Returns whether it answers on the service network.
    pub fn is_on_network(&self) -> bool {
        self.guest_answers() && !self.broken.nic
    }

    /// Returns the word of its hypervisor now.
    pub fn hypervisor_state(&self) -> HypervisorState {
        if self.broken.monitor {
            return HypervisorState::Unknown;
        }
        match self.run {
            Run::Booting { since } if since.elapsed() < RESET_SHOWN => HypervisorState::Rebooting,
            Run::Running | Run::Booting { .. } | Run::Hung { .. } => HypervisorState::Running,
            Run::Paused(reason) => HypervisorState::Paused(reason),
            Run::Panicked => HypervisorState::Panicked,
            Run::Dead(reason) => HypervisorState::Gone(reason),
        }
    }

    /// Returns whether it gets on, as its counters say now.
    pub fn progress(&self) -> Progress {
        if self.broken.monitor {
            return Progress::Unknown;
        }
        match self.run {
            Run::Running | Run::Booting { .. } => Progress::Working,
            Run::Hung { since, .. } if since.elapsed() < PROGRESS_WINDOW => Progress::Working,
            Run::Hung { how: Stuck::Still, .. } => Progress::Still,
            Run::Hung { how: Stuck::Spinning, .. } => Progress::Spinning,
            Run::Paused(_) | Run::Panicked | Run::Dead(_) => Progress::Unknown,
        }
    }

    /// Returns whether its boot is over.
    pub fn has_booted(&self) -> bool {
        matches!(self.run, Run::Booting { since } if since.elapsed() >= BOOT_TIME)
    }

    /// Ends its boot when its time is over.
    pub fn boot_on(&mut self) {
        if self.has_booted() {
            self.run = Run::Running;
        }
    }
}
