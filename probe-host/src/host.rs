//! The host of all probes of a process: one engine, its clock, and the ways a component becomes a [`Probe`].

use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::Semaphore;
use vouch_types::Digest;
use vouch_types::allowed_imports::{allowed, may_import};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::contract::{self, Linked};
use crate::engine::{self, EngineError};
use crate::limits::COMPONENT_MAX;
use crate::manifest::{Manifest, digest_of};
use crate::pool::Pool;
use crate::run_state::RunState;
use crate::ticker::Ticker;
use crate::{ContractVersion, HostLimits, Probe, sockets};

/// Version field of a component and of a core module, bytes 4 to 8.
const COMPONENT_VERSION: [u8; 4] = [0x0d, 0x00, 0x01, 0x00];
const MODULE_VERSION: [u8; 4] = [0x01, 0x00, 0x00, 0x00];

/// Why bytes are not a probe.
#[derive(thiserror::Error, Debug)]
pub enum LoadError {
    /// Not WASM at all.
    #[error("not a WASM component: the file does not begin like one")]
    NotWasm,
    /// A core module.
    #[error("a core WASM module, not a component: build it for wasm32-wasip2")]
    CoreModule,
    /// Too large.
    #[error("the component has {size} bytes: at most {COMPONENT_MAX} are taken")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// Damaged, or beyond a limit of the engine.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It wants an interface that no probe may have.
    #[error("the component imports `{interface}`, which no probe may have: a probe may import {}", allowed().collect::<Vec<_>>().join(", "))]
    ForbiddenImport {
        /// The interface.
        interface: String,
    },
    /// It is no probe.
    #[error(
        "the component exports {}: a probe exports `vouch:probe/check@1.0.0`",
        if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") }
    )]
    NoContract {
        /// What it exports.
        exports: Vec<String>,
    },
    /// It was written for a contract that this host does not know.
    #[error(
        "the component exports `vouch:probe/check@{version}`: this host runs probes of {} and {}",
        ContractVersion::V1.as_str(),
        ContractVersion::V0_1.as_str()
    )]
    UnknownContract {
        /// The version.
        version: String,
    },
    /// It does not fit its contract.
    #[error("the component does not fit the contract `{}`: {reason}", contract.as_str())]
    Contract {
        /// The contract that it was written for.
        contract: ContractVersion,
        /// Where it does not fit.
        reason: String,
    },
    /// Native code that nobody vouched for.
    #[error("native code {digest} is not in the manifest")]
    NotInManifest {
        /// SHA-256 of the bytes.
        digest: Digest,
    },
    /// Native code of another version, configuration or processor.
    #[error("native code {digest} was not made for this host: {reason}")]
    Incompatible {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// What differs.
        reason: String,
    },
}

/// What all probes of one host share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
    pub(crate) slots: Semaphore,
    pub(crate) limits: HostLimits,
    pub(crate) memory: Arc<Pool>,
    pub(crate) sockets: Arc<Pool>,
    linker: Linker<RunState>,
}

/// The host of all probes of a process; cheap to clone.
#[derive(Clone)]
pub struct ProbeHost {
    shared: Arc<Shared>,
}

impl ProbeHost {
    /// Returns a host with these limits.
    ///
    /// # Errors
    /// [`EngineError`] when this platform cannot run probes.
    pub fn new(limits: HostLimits) -> Result<Self, EngineError> {
        let engine = engine::engine(&limits)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(|e| EngineError::Link(e.into()))?;
        sockets::add_to_linker(&mut linker).map_err(|e| EngineError::Link(e.into()))?;
        contract::add_to_linker(&mut linker).map_err(|e| EngineError::Link(e.into()))?;
        let ticker = Ticker::start(&engine).map_err(EngineError::Clock)?;
        let slots = Semaphore::new(usize::try_from(limits.concurrency).unwrap_or(usize::MAX));
        let memory = Arc::new(Pool::new(limits.memory_of_all));
        let sockets = Arc::new(Pool::new(limits.sockets_of_all));
        Ok(Self { shared: Arc::new(Shared { engine, ticker, slots, limits, memory, sockets, linker }) })
    }

    /// Compiles a component to native code for [`ProbeHost::load_native`]; costs the compiler's time and memory.
    ///
    /// # Errors
    /// [`LoadError`] when the bytes are not a component that compiles.
    pub fn precompile(&self, component: &[u8]) -> Result<Vec<u8>, LoadError> {
        check_component(component)?;
        engine::count_compilation();
        self.shared.engine.precompile_component(component).map_err(|e| LoadError::Compile(format!("{e:#}")))
    }

    /// Compiles a component and makes it ready to run.
    ///
    /// Blocks for as long as the compiler runs: call it from a thread that may.
    ///
    /// # Errors
    /// [`LoadError`] when the bytes are not a component that fits the contract.
    pub fn compile(&self, component: &[u8]) -> Result<Probe, LoadError> {
        self.ready(self.compiled(component)?)
    }

    fn compiled(&self, component: &[u8]) -> Result<Component, LoadError> {
        check_component(component)?;
        engine::count_compilation();
        Component::from_binary(&self.shared.engine, component).map_err(|e| LoadError::Compile(format!("{e:#}")))
    }

    /// Compiles a component as [`ProbeHost::compile`] does, and returns its native code as well, to be loaded another time;
    /// `None` where that cannot be had.
    ///
    /// # Errors
    /// [`LoadError`] when the bytes are not a component that fits the contract.
    pub fn compile_to_keep(&self, component: &[u8]) -> Result<(Probe, Option<Vec<u8>>), LoadError> {
        let compiled = self.compiled(component)?;
        let native = compiled.serialize().ok();
        Ok((self.ready(compiled)?, native))
    }

    /// Returns what tells hosts apart that do not run each other's native code: SHA-256 over the version of the engine, its
    /// configuration and its target.
    pub fn engine_hash(&self) -> Digest {
        let mut hasher = engine::Sha256Hasher::default();
        self.shared.engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.digest()
    }

    /// Loads native code that [`ProbeHost::precompile`] or [`ProbeHost::compile_to_keep`] made; never compiles.
    ///
    /// # Errors
    /// [`LoadError::NotInManifest`] unless the SHA-256 of the bytes stands in `manifest`; [`LoadError`] when they were
    /// made for another host.
    #[expect(unsafe_code, reason = "native code is loaded, after its SHA-256 was found in the manifest")]
    pub fn load_native(&self, native: &[u8], manifest: &Manifest) -> Result<Probe, LoadError> {
        let digest = digest_of(native);
        if !manifest.contains(&digest) {
            return Err(LoadError::NotInManifest { digest });
        }
        // SAFETY: these very bytes hash to a digest in the manifest, which lists only what a host compiled: what came with
        // the image, or what lies in a folder that nobody else may write into. The engine itself refuses code of another
        // version, configuration or processor.
        let loaded = unsafe { Component::deserialize(&self.shared.engine, native) };
        let component = loaded.map_err(|e| LoadError::Incompatible { digest, reason: format!("{e:#}") })?;
        self.ready(component)
    }

    fn ready(&self, component: Component) -> Result<Probe, LoadError> {
        let engine = &self.shared.engine;
        let mut imports: Vec<String> = component.component_type().imports(engine).map(|(n, _)| n.to_owned()).collect();
        imports.sort();
        if let Some(interface) = imports.iter().find(|name| !may_import(name)) {
            return Err(LoadError::ForbiddenImport { interface: interface.clone() });
        }
        let version = ContractVersion::of(component.component_type().exports(engine).map(|(name, _)| name))?;
        let misfit = |e: wasmtime::Error| LoadError::Contract { contract: version, reason: format!("{e:#}") };
        let linked = self.shared.linker.instantiate_pre(&component).map_err(misfit)?;
        Ok(Probe::new(Arc::clone(&self.shared), Linked::new(version, linked).map_err(misfit)?, imports))
    }
}

fn check_component(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.len() > COMPONENT_MAX {
        return Err(LoadError::TooLarge { size: bytes.len() });
    }
    let version = bytes.strip_prefix(b"\0asm").and_then(|rest| rest.get(..4));
    match version {
        Some(version) if version == COMPONENT_VERSION => Ok(()),
        Some(version) if version == MODULE_VERSION => Err(LoadError::CoreModule),
        _ => Err(LoadError::NotWasm),
    }
}
