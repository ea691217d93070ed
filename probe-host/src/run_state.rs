//! What the host holds for one run, and what is left of its limits. What the imports do with it is in `calls`, `tcp`
//! and `tls`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vouch_types::VmId;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::limits::{
    AGENT_QUESTIONS_MAX, ECHOES_MAX, LOG_LINES_MAX, RESOURCES_MAX, STDERR_MAX, TCP_HANDSHAKES_MAX, TLS_CONNECTIONS_MAX,
    TLS_EXCHANGES_MAX,
};
use crate::memory::RunMemory;
use crate::outcome::cut;
use crate::run_trace::RunTrace;
use crate::socket_filter::SocketFilter;
use crate::socket_trace;
use crate::sockets::RunSockets;
use crate::{GuestAgent, Icmp, RunFault};

mod calls;

pub(crate) use calls::{AgentRefusal, EchoRefusal, Level};

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
    pub(crate) table: ResourceTable,
    stderr: MemoryOutputPipe,
    probe: Arc<str>,
    pub(crate) reach: Arc<Reach>,
    /// `None` where nobody listens.
    pub(crate) trace: Option<RunTrace>,
    pub(crate) open_sockets: RunSockets,
    deadline: Instant,
    memory: RunMemory,
    echoes_left: u32,
    questions_left: u32,
    lines_left: u32,
    pub(crate) handshakes_left: u32,
    pub(crate) tls_left: TlsLeft,
}

/// What a run may still do over TLS.
pub(crate) struct TlsLeft {
    pub(crate) connections: u32,
    pub(crate) exchanges: u32,
}

impl RunState {
    /// Returns the state of a run of this probe with this deadline.
    pub(crate) fn new(
        probe: Arc<str>,
        reach: Reach,
        deadline: Instant,
        memory: RunMemory,
        open_sockets: RunSockets,
    ) -> Self {
        let reach = Arc::new(reach);
        let stderr = MemoryOutputPipe::new(STDERR_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let mut wasi = WasiCtx::builder();
        let trace = RunTrace::listened_to(&probe, reach.vm);
        let (seen, told) = (Arc::clone(&reach), trace.clone());
        wasi.stderr(stderr.clone()).allow_tcp(true).allow_udp(true).allow_ip_name_lookup(false);
        wasi.socket_addr_check(move |address, usage| {
            let permitted = seen.filter.permits(address, usage);
            if let Some(trace) = &told {
                socket_trace::note_use(trace, address, usage, permitted);
            }
            Box::pin(std::future::ready(permitted))
        });
        Self {
            wasi: wasi.build(),
            table,
            stderr,
            probe,
            reach,
            trace,
            open_sockets,
            deadline,
            memory,
            echoes_left: ECHOES_MAX,
            questions_left: AGENT_QUESTIONS_MAX,
            lines_left: LOG_LINES_MAX,
            handshakes_left: TCP_HANDSHAKES_MAX,
            tls_left: TlsLeft { connections: TLS_CONNECTIONS_MAX, exchanges: TLS_EXCHANGES_MAX },
        }
    }

    /// Returns why the guest was refused memory that it asked for, if it was.
    pub(crate) const fn memory_refused(&self) -> Option<&RunFault> {
        self.memory.refused()
    }

    /// Returns what the guest wrote to its standard error.
    pub(crate) fn stderr(&self) -> String {
        cut(String::from_utf8_lossy(&self.stderr.contents()).trim().to_owned(), STDERR_MAX)
    }

    /// Returns the limiter of the guest's memory.
    pub(crate) fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }

    /// Returns where a connection of the run goes, if it may: to the target, and to a granted port.
    pub(crate) fn reachable(&self, address: &str, port: u16) -> Option<SocketAddr> {
        let address = SocketAddr::new(address.parse::<IpAddr>().ok()?.to_canonical(), port);
        Some(address).filter(|address| self.reach.filter.permits(*address, SocketAddrUse::TcpConnect))
    }

    /// Returns the time that a call may take: what it wants, and no longer than to the deadline of the run.
    ///
    /// Not to the moment at which the run is stopped, a little later: a guest must hear that its call timed out while it
    /// can still answer, or a silent target would be a fault of the probe.
    pub(crate) fn within_run(&self, wanted_ms: u32) -> Duration {
        Duration::from_millis(u64::from(wanted_ms)).min(self.left())
    }

    /// Returns the time up to the deadline of the run.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl WasiView for RunState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
