//! The engine's configuration, and the count of what it compiled.
//!
//! Native code is compiled in one process (`vouch-watcher precompile`) and loaded in another on a machine whose CPU may
//! have fewer features: the target is explicit, so that none are inferred from the CPU of the build, and everything that
//! wasmtime's compatibility check compares is fixed here and nowhere else. That check compares architecture and operating
//! system of the target but not its environment, so a file made by a glibc build loads in a static musl one.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use vouch_types::Digest;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::HostLimits;
use crate::limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, STACK_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::memory::SLOT_MEMORY;

/// Stack of the host's calls above that of the guest.
const HOST_STACK: usize = 512 * 1024;

static COMPILATIONS: AtomicU64 = AtomicU64::new(0);

/// Why there is no engine.
#[derive(thiserror::Error, Debug)]
pub enum EngineError {
    /// This platform cannot run it.
    #[error("probe engine: configure for {target}")]
    Configure {
        /// The target triple.
        target: String,
        /// What was wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The contract's interfaces could not be provided.
    #[error("probe engine: provide the contract's interfaces")]
    Link(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The thread that keeps the time could not be started.
    #[error("probe engine: start the clock thread")]
    Clock(#[source] std::io::Error),
}

/// Returns how often the compiler ran in this process: 0 in a watcher that has shipped probes only.
pub fn compilations() -> u64 {
    COMPILATIONS.load(Ordering::Relaxed)
}

/// Counts one run of the compiler.
pub(crate) fn count_compilation() {
    COMPILATIONS.fetch_add(1, Ordering::Relaxed);
}

/// A hasher whose result is the same in every process.
#[derive(Default)]
pub(crate) struct Sha256Hasher(Sha256);

impl Sha256Hasher {
    /// Returns the SHA-256 of all that was hashed.
    pub(crate) fn digest(self) -> Digest {
        Digest::new(self.0.finalize().into())
    }
}

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Its first eight bytes.
    fn finish(&self) -> u64 {
        self.0.clone().finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// Returns the target triple of this build, with the baseline of its architecture.
fn target() -> String {
    let environment = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-unknown-linux-{environment}", std::env::consts::ARCH)
}

/// Returns the configuration of every engine that compiles or runs probes.
///
/// # Errors
/// [`EngineError::Configure`] when the engine does not know this platform.
pub fn engine_config(limits: &HostLimits) -> Result<Config, EngineError> {
    let target = target();
    let mut config = Config::new();
    config.target(&target).map_err(|e| EngineError::Configure { target: target.clone(), source: e.into() })?;
    config
        .epoch_interruption(true)
        .consume_fuel(false)
        .concurrency_support(false)
        .wasm_simd(false)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None)
        .max_wasm_stack(STACK_MAX)
        .async_stack_size(STACK_MAX + HOST_STACK)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    Ok(config)
}

/// Returns the engine for these limits.
pub(crate) fn engine(limits: &HostLimits) -> Result<Engine, EngineError> {
    Engine::new(&engine_config(limits)?).map_err(|e| EngineError::Configure { target: target(), source: e.into() })
}

fn pool(limits: &HostLimits) -> PoolingAllocationConfig {
    let runs = limits.concurrency;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(runs)
        .total_core_instances(runs.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(runs.saturating_mul(MEMORIES_MAX))
        .total_tables(runs.saturating_mul(TABLES_MAX))
        .total_stacks(runs)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(limits.memory)
        .linear_memory_keep_resident(SLOT_MEMORY)
        // Where the kernel tells which pages a run wrote to (Linux 6.7), only those are cleared, and the others take no memory.
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(4096);
    pool
}
