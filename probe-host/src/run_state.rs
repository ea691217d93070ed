//! What the host holds for one run, and how it serves the contract's interfaces to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vouch_types::VmId;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::vouch::probe::{guest_agent, icmp, log, types};
use crate::limits::{
    AGENT_QUESTIONS_MAX, ECHOES_MAX, LOG_LINE_MAX, LOG_LINES_MAX, RESOURCES_MAX, STDERR_MAX, TABLE_ELEMENTS_MAX,
};
use crate::outcome::cut;
use crate::socket_filter::SocketFilter;
use crate::{EchoRequest, GuestAgent, GuestAgentError, Icmp, IcmpError};

/// What one run may do besides computing.
pub(crate) struct Reach {
    pub(crate) vm: Option<VmId>,
    pub(crate) filter: SocketFilter,
    pub(crate) icmp: Option<Arc<dyn Icmp>>,
    pub(crate) guest_agent: Option<Arc<dyn GuestAgent>>,
}

impl Reach {
    /// Returns the reach of `describe` and `validate`: nothing.
    pub(crate) fn nothing() -> Self {
        Self { vm: None, filter: SocketFilter::new(&[], Default::default()), icmp: None, guest_agent: None }
    }
}

/// The state of one run.
pub(crate) struct RunState {
    wasi: WasiCtx,
    table: ResourceTable,
    stderr: MemoryOutputPipe,
    probe: Arc<str>,
    reach: Arc<Reach>,
    ends: Instant,
    memory: MemoryLimit,
    echoes_left: u32,
    questions_left: u32,
    lines_left: u32,
}

impl RunState {
    /// Returns the state of a run of this probe that ends at `ends`.
    pub(crate) fn new(probe: Arc<str>, reach: Reach, ends: Instant, memory: usize) -> Self {
        let reach = Arc::new(reach);
        let stderr = MemoryOutputPipe::new(STDERR_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let mut wasi = WasiCtx::builder();
        let seen = Arc::clone(&reach);
        wasi.stderr(stderr.clone()).allow_tcp(true).allow_udp(true).allow_ip_name_lookup(false);
        wasi.socket_addr_check(move |address, usage| {
            let permitted = seen.filter.permits(address, usage);
            Box::pin(std::future::ready(permitted))
        });
        Self {
            wasi: wasi.build(),
            table,
            stderr,
            probe,
            reach,
            ends,
            memory: MemoryLimit { limit: memory, refused: false },
            echoes_left: ECHOES_MAX,
            questions_left: AGENT_QUESTIONS_MAX,
            lines_left: LOG_LINES_MAX,
        }
    }

    /// Returns whether the guest asked for more memory than it may have.
    pub(crate) fn memory_refused(&self) -> bool {
        self.memory.refused
    }

    /// Returns what the guest wrote to its standard error.
    pub(crate) fn stderr(&self) -> String {
        cut(String::from_utf8_lossy(&self.stderr.contents()).trim().to_owned(), STDERR_MAX)
    }

    /// Returns the limiter of the guest's memory.
    pub(crate) fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }

    fn within_run(&self, wanted_ms: u32) -> Duration {
        Duration::from_millis(u64::from(wanted_ms)).min(self.ends.saturating_duration_since(Instant::now()))
    }
}

impl WasiView for RunState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for RunState {}

impl icmp::Host for RunState {
    async fn echo(&mut self, request: icmp::EchoRequest) -> Result<Vec<icmp::EchoReply>, icmp::Error> {
        let sender = self.reach.icmp.clone().ok_or(icmp::Error::NotGranted)?;
        let address: IpAddr = request
            .address
            .parse()
            .ok()
            .filter(|address| self.reach.filter.is_target(*address))
            .ok_or(icmp::Error::NotTheTarget)?;
        if request.count == 0 || request.count > self.echoes_left {
            return Err(icmp::Error::Other(format!(
                "count is {}: must be from 1 to {} in the rest of this run",
                request.count, self.echoes_left
            )));
        }
        self.echoes_left -= request.count;
        let series = EchoRequest {
            address: address.to_canonical(),
            count: request.count,
            interval: self.within_run(request.interval_ms),
            timeout: self.within_run(request.timeout_ms),
        };
        let replies = sender.echo(series).await.map_err(|error| match error {
            IcmpError::NoRoute(text) => icmp::Error::Unreachable(text),
            IcmpError::NoSocket(_) | IcmpError::Send(_) => icmp::Error::Other(error.to_string()),
        })?;
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        Ok(replies
            .into_iter()
            .map(|reply| icmp::EchoReply { sequence: reply.sequence, micros: micros(reply.round_trip) })
            .collect())
    }
}

impl guest_agent::Host for RunState {
    async fn ping(&mut self, timeout_ms: u32) -> Result<u64, guest_agent::Error> {
        let (Some(agent), Some(vm)) = (self.reach.guest_agent.clone(), self.reach.vm) else {
            return Err(guest_agent::Error::NotGranted);
        };
        let Some(left) = self.questions_left.checked_sub(1) else {
            return Err(guest_agent::Error::Other(format!("more than {AGENT_QUESTIONS_MAX} questions in one run")));
        };
        self.questions_left = left;
        match agent.ping(&vm, self.within_run(timeout_ms)).await {
            Ok(took) => Ok(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            Err(GuestAgentError::NotGranted) => Err(guest_agent::Error::NotGranted),
            Err(GuestAgentError::NoChannel) => Err(guest_agent::Error::NoChannel),
            Err(GuestAgentError::Silent) => Err(guest_agent::Error::Silent),
            Err(GuestAgentError::Unreachable(text)) => Err(guest_agent::Error::Unreachable(text)),
            Err(GuestAgentError::Other(text)) => Err(guest_agent::Error::Other(text)),
        }
    }
}

impl log::Host for RunState {
    fn write(&mut self, level: log::Level, message: String) {
        let Some(left) = self.lines_left.checked_sub(1) else { return };
        self.lines_left = left;
        let (probe, message) = (&*self.probe, cut(message, LOG_LINE_MAX));
        let vm_id = self.reach.vm.map(|vm| vm.to_string());
        match level {
            log::Level::Debug => tracing::debug!(probe, vm_id, message, "probe says"),
            log::Level::Info => tracing::info!(probe, vm_id, message, "probe says"),
            log::Level::Warn => tracing::warn!(probe, vm_id, message, "probe says"),
        }
    }
}

/// Refuses memory above the limit and remembers that it did, so that the crash that follows can be explained.
struct MemoryLimit {
    limit: usize,
    refused: bool,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.limit;
        self.refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}
