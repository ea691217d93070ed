//! One probe, ready to run: a fresh instance for every question.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use vouch_types::observation::MESSAGE_MAX;
use vouch_types::{Network, ProbeImports, VmId};
use wasmtime::{Store, Trap, UpdateDeadline};

use crate::contract::{Instance, Linked};
use crate::host::Shared;
use crate::limits::{
    DEADLINE_GRACE, DEADLINE_MAX, EPOCH_PAUSE, HOSTCALL_FUEL, QUESTION_DEADLINE, SETTINGS_MAX, UNDISTURBED_TICKS,
};
use crate::memory::{ComponentMemory, RunMemory};
use crate::outcome::cut;
use crate::pool::Share;
use crate::run_state::{Reach, RunState};
use crate::socket_filter::SocketFilter;
use crate::sockets::RunSockets;
use crate::{Capabilities, ContractVersion, Descriptor, RunFault, RunOutcome};

/// One VM as a probe sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The VM.
    pub vm: VmId,
    /// Its addresses on that network, the one to use first.
    pub addresses: Vec<IpAddr>,
    /// The network over which it is reached.
    pub network: Network,
    /// Free labels.
    pub labels: Vec<(String, String)>,
}

struct Inner {
    shared: Arc<Shared>,
    contract: Linked,
    imports: ProbeImports,
    descriptor: OnceCell<Descriptor>,
    memory: Arc<ComponentMemory>,
    sockets: Arc<Share>,
}

/// One probe, ready to run; cheap to clone.
#[derive(Clone)]
pub struct Probe {
    inner: Arc<Inner>,
}

impl Probe {
    pub(crate) fn new(shared: Arc<Shared>, contract: Linked, imports: Vec<String>) -> Self {
        let imports = ProbeImports { interfaces: imports };
        let memory = Arc::new(ComponentMemory::of(Arc::clone(&shared.memory)));
        let sockets = Arc::new(Share::of(Arc::clone(&shared.sockets)));
        Self { inner: Arc::new(Inner { shared, contract, imports, descriptor: OnceCell::new(), memory, sockets }) }
    }

    /// Returns what the component imports, sorted.
    pub fn imports(&self) -> &ProbeImports {
        &self.inner.imports
    }

    /// Returns how many runs of this probe at a time the host has memory for, by the most that a run took so far.
    pub fn runs_in_memory(&self) -> usize {
        self.inner.memory.runs()
    }

    /// Returns the version of the contract that the component was written for.
    pub fn contract(&self) -> ContractVersion {
        self.inner.contract.version()
    }

    /// Returns how the probe describes itself; asked once, then remembered.
    ///
    /// # Errors
    /// [`RunFault`] when the probe could not be asked.
    pub async fn describe(&self) -> Result<&Descriptor, RunFault> {
        self.inner.descriptor.get_or_try_init(|| self.question(async |probe, store| probe.describe(store).await)).await
    }

    /// Checks settings, a JSON object.
    ///
    /// # Errors
    /// [`RunFault::BadSettings`], with the probe's own words, when it refuses them; another fault when it could not be
    /// asked.
    pub async fn validate(&self, settings: &str) -> Result<(), RunFault> {
        check_size(settings)?;
        let said = self.question(async |probe, store| probe.validate(store, settings).await).await?;
        said.map_err(|refusal| RunFault::BadSettings(cut(refusal, MESSAGE_MAX)))
    }

    /// Checks the target once, in a fresh instance, within the deadline (at most a minute).
    ///
    /// Waits for a free slot within the deadline too. A probe that overstays is stopped a moment (250 ms) after it.
    /// Dropping the future stops the run.
    ///
    /// # Errors
    /// [`RunFault`] when the run says nothing about the target; never counts as `down`.
    pub async fn run(
        &self,
        target: &Target,
        settings: &str,
        deadline: Duration,
        capabilities: &Capabilities,
    ) -> Result<RunOutcome, RunFault> {
        check_size(settings)?;
        let deadline = deadline.min(DEADLINE_MAX);
        let described = self.describe().await?;
        if !described.networks.contains(&target.network) {
            return Err(other_network(described, target.network));
        }
        let reach = Reach {
            vm: Some(target.vm),
            filter: SocketFilter::new(&target.addresses, capabilities.ports.ports(settings, &described.ports)),
            icmp: capabilities.icmp.clone(),
            guest_agent: capabilities.guest_agent.clone(),
        };
        let arrived = Instant::now();
        let ((answer, elapsed), computed) = self
            .call(reach, deadline, async |probe, store| {
                let left = deadline.saturating_sub(arrived.elapsed()).as_millis();
                let begun = Instant::now();
                let answer = probe.run(store, target, settings, u32::try_from(left).unwrap_or(u32::MAX)).await?;
                Ok((answer, begun.elapsed()))
            })
            .await?;
        answer?.bounded(elapsed, computed)
    }

    async fn question<T>(
        &self,
        ask: impl AsyncFnOnce(&Instance, &mut Store<RunState>) -> wasmtime::Result<T>,
    ) -> Result<T, RunFault> {
        self.call(Reach::nothing(), QUESTION_DEADLINE, ask).await.map(|(answer, _computed)| answer)
    }

    /// Makes an instance and calls into it: the one place where guest code runs. Returns how long that computed, too.
    async fn call<T>(
        &self,
        reach: Reach,
        deadline: Duration,
        ask: impl AsyncFnOnce(&Instance, &mut Store<RunState>) -> wasmtime::Result<T>,
    ) -> Result<(T, Duration), RunFault> {
        let shared = &self.inner.shared;
        let begun = Instant::now();
        let ends = begun + deadline + DEADLINE_GRACE;
        let Ok(Ok(_slot)) = tokio::time::timeout(deadline, shared.slots.acquire()).await else {
            return Err(RunFault::Busy { deadline });
        };
        let mut store = self.store(reach, begun + deadline, ends);
        let _ticking = shared.ticker.tick_while();
        let call = async {
            let instance = self.inner.contract.instantiate(&mut store).await?;
            ask(&instance, &mut store).await
        };
        let mut computed = Duration::ZERO;
        let ended = {
            let mut call = std::pin::pin!(call);
            let metered = std::future::poll_fn(|context| {
                let begun = Instant::now();
                let polled = call.as_mut().poll(context);
                computed += begun.elapsed();
                polled
            });
            tokio::time::timeout_at(ends.into(), metered).await
        };
        match ended {
            Ok(Ok(answer)) => Ok((answer, computed)),
            Ok(Err(error)) => Err(Self::fault(&store, &error, begun)),
            Err(_) => Err(RunFault::Deadline { after: begun.elapsed() }),
        }
    }

    fn store(&self, reach: Reach, deadline: Instant, ends: Instant) -> Store<RunState> {
        let shared = &self.inner.shared;
        let name = self.inner.descriptor.get().map_or("", |described| described.name.as_str());
        let memory = RunMemory::new(shared.limits.memory, Arc::clone(&self.inner.memory));
        let sockets = RunSockets::none(Arc::clone(&self.inner.sockets));
        let state = RunState::new(Arc::from(name), reach, deadline, memory, sockets);
        let mut store = Store::new(&shared.engine, state);
        store.limiter(RunState::limiter);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        store.set_epoch_deadline(UNDISTURBED_TICKS);
        store.epoch_deadline_callback(move |_| {
            Ok(if Instant::now() < ends {
                UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(EPOCH_PAUSE)))
            } else {
                UpdateDeadline::Interrupt
            })
        });
        store
    }

    fn fault(store: &Store<RunState>, error: &wasmtime::Error, begun: Instant) -> RunFault {
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            return RunFault::Deadline { after: begun.elapsed() };
        }
        if let Some(refused) = store.data().memory_refused() {
            return refused.clone();
        }
        let (why, said) = (format!("{error:#}"), store.data().stderr());
        let text = if said.is_empty() { why } else { format!("{why}; it wrote: {said}") };
        RunFault::Crashed(cut(text, MESSAGE_MAX))
    }
}

fn check_size(settings: &str) -> Result<(), RunFault> {
    match settings.len() {
        size if size > SETTINGS_MAX => {
            Err(RunFault::BadSettings(format!("settings have {size} bytes: at most {SETTINGS_MAX} are taken")))
        }
        _ => Ok(()),
    }
}

fn other_network(described: &Descriptor, asked: Network) -> RunFault {
    let networks: Vec<&str> = described.networks.iter().map(|network| network.as_str()).collect();
    RunFault::NotApplicable(format!(
        "network {}: probe {} checks over {}",
        asked.as_str(),
        described.name,
        if networks.is_empty() { "none".to_owned() } else { networks.join(", ") }
    ))
}
