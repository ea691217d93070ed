//! The contract for probes that are written against [`probe_kit::Probe`]: one place for the generated code, and for how a
//! finding is said in its types.
//!
//! On the host there is nothing of it: a probe's own code is tested without. It decides nothing about a target.

#[cfg(target_family = "wasm")]
mod component;

#[cfg(target_family = "wasm")]
pub use component::{Component, export_probe, exports, vouch};

/// Makes this crate the component of a type that is a [`probe_kit::Probe`].
#[cfg(target_family = "wasm")]
#[macro_export]
macro_rules! component {
    ($probe:ty) => {
        type Exported = $crate::Component<$probe>;
        $crate::export_probe!(Exported with_types_in $crate);
    };
}
