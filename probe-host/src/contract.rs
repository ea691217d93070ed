//! The versions of the contract beside each other, behind one door: what a probe is asked and says, in our own words.
//!
//! A component shows its version by what it exports: the interface `vouch:probe/check@1.x`, or the three bare functions of
//! 0.1. The host runs both; nothing beyond this module knows which one a probe was written for.

mod v0_1;
mod v1;

use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use crate::bindings;
use crate::outcome::Found;
use crate::run_state::RunState;
use crate::{Descriptor, LoadError, RunFault, Target};

/// The interface that a probe of the contract exports, up to its version.
const CHECK: &str = "vouch:probe/check@";
/// What a probe of 0.1 exports.
const BARE: [&str; 3] = ["describe", "run", "validate"];

/// A version of the contract, as a component was written for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ContractVersion {
    /// `vouch:probe@0.1.0`.
    V0_1,
    /// `vouch:probe@1`, in any of its versions.
    V1,
}

impl ContractVersion {
    /// Returns the package with its version: of the contract, its first number.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1 => "vouch:probe@0.1.0",
            Self::V1 => "vouch:probe@1",
        }
    }

    /// Returns the version that a component with these exports was written for.
    pub(crate) fn of<'a>(exports: impl Iterator<Item = &'a str>) -> Result<Self, LoadError> {
        let exports: Vec<&str> = exports.collect();
        let versions: Vec<&str> = exports.iter().filter_map(|name| name.strip_prefix(CHECK)).collect();
        if versions.iter().any(|version| version.starts_with("1.")) {
            return Ok(Self::V1);
        }
        // Whoever exports an older version too, beside one that is not known here, does so to run on hosts like this one.
        if BARE.iter().any(|name| exports.contains(name)) {
            return Ok(Self::V0_1);
        }
        if let Some(version) = versions.first() {
            return Err(LoadError::UnknownContract { version: (*version).to_owned() });
        }
        Err(LoadError::NoContract { exports: exports.into_iter().map(ToOwned::to_owned).collect() })
    }
}

/// Provides the imports of all versions.
pub(crate) fn add_to_linker(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    bindings::v0_1::Probe::add_to_linker::<_, HasSelf<RunState>>(linker, |state| state)?;
    bindings::v1::Probe::add_to_linker::<_, HasSelf<RunState>>(linker, |state| state)
}

/// A component that was found to fit its version.
pub(crate) enum Linked {
    /// One of 0.1.
    V0_1(bindings::v0_1::ProbePre<RunState>),
    /// One of 1.
    V1(bindings::v1::ProbePre<RunState>),
}

impl Linked {
    /// Returns it, if it exports what its version asks for.
    pub(crate) fn new(version: ContractVersion, linked: InstancePre<RunState>) -> wasmtime::Result<Self> {
        Ok(match version {
            ContractVersion::V0_1 => Self::V0_1(bindings::v0_1::ProbePre::new(linked)?),
            ContractVersion::V1 => Self::V1(bindings::v1::ProbePre::new(linked)?),
        })
    }

    /// Returns the version.
    pub(crate) const fn version(&self) -> ContractVersion {
        match self {
            Self::V0_1(_) => ContractVersion::V0_1,
            Self::V1(_) => ContractVersion::V1,
        }
    }

    /// Makes an instance.
    pub(crate) async fn instantiate(&self, store: &mut Store<RunState>) -> wasmtime::Result<Instance> {
        Ok(match self {
            Self::V0_1(linked) => Instance::V0_1(linked.instantiate_async(store).await?),
            Self::V1(linked) => Instance::V1(linked.instantiate_async(store).await?),
        })
    }
}

/// An instance that is asked one question.
pub(crate) enum Instance {
    /// One of 0.1.
    V0_1(bindings::v0_1::Probe),
    /// One of 1.
    V1(bindings::v1::Probe),
}

impl Instance {
    /// Asks it to describe itself.
    pub(crate) async fn describe(&self, store: &mut Store<RunState>) -> wasmtime::Result<Descriptor> {
        Ok(match self {
            Self::V0_1(probe) => v0_1::described(probe.call_describe(store).await?),
            Self::V1(probe) => v1::described(probe.vouch_probe_check().call_describe(store).await?),
        })
    }

    /// Asks it whether it takes settings.
    pub(crate) async fn validate(
        &self,
        store: &mut Store<RunState>,
        settings: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        match self {
            Self::V0_1(probe) => probe.call_validate(store, settings).await,
            Self::V1(probe) => probe.vouch_probe_check().call_validate(store, settings).await,
        }
    }

    /// Has it check a target.
    pub(crate) async fn run(
        &self,
        store: &mut Store<RunState>,
        target: &Target,
        settings: &str,
        deadline_ms: u32,
    ) -> wasmtime::Result<Result<Found, RunFault>> {
        Ok(match self {
            Self::V0_1(probe) => {
                v0_1::answered(probe.call_run(store, &v0_1::target(target), settings, deadline_ms).await?)
            }
            Self::V1(probe) => {
                let check = probe.vouch_probe_check();
                v1::answered(check.call_run(store, &v1::target(target), settings, deadline_ms).await?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_shows_its_version_by_what_it_exports() {
        let of = |exports: &[&str]| ContractVersion::of(exports.iter().copied());
        assert_eq!(of(&["describe", "run", "validate"]).unwrap(), ContractVersion::V0_1);
        assert_eq!(of(&["vouch:probe/check@1.0.0"]).unwrap(), ContractVersion::V1);
        assert_eq!(of(&["vouch:probe/check@1.7.2"]).unwrap(), ContractVersion::V1, "it may ask for nothing newer");
        assert_eq!(of(&["run", "vouch:probe/check@1.0.0"]).unwrap(), ContractVersion::V1, "the newer one goes first");
        assert!(
            matches!(of(&["vouch:probe/check@2.0.0"]), Err(LoadError::UnknownContract { version }) if version == "2.0.0")
        );
        let both = ["describe", "run", "validate", "vouch:probe/check@2.0.0"];
        assert_eq!(of(&both).unwrap(), ContractVersion::V0_1, "what it still has for older hosts");
        assert!(matches!(of(&["wasi:cli/run@0.2.6"]), Err(LoadError::NoContract { exports }) if exports.len() == 1));
    }
}
