//! Machines as network namespaces, joined by two switches: the management and the service network.
//!
//! ```text
//!            PREFIX-swm  fabric --- management -------+
//!               |                    |                 |
//!            mgmt0                mgmt0             mgmt0         PREFIX-n1 (compute node):
//!         PREFIX-m1            PREFIX-m2          in brmgmt         brmgmt 10.1.0.x: mgmt0 + the taps of VMs
//!            svc0                 svc0              in brsvc        brsvc  10.2.0.x: svc0 + the taps of VMs
//!               |                    |                 |
//!            PREFIX-sws  fabric ------ service --------+
//! ```
//!
//! Every name begins with a prefix of its own per [`Lab`], so that runs beside one another, or left over by a killed
//! one, don't clash. A lab that is dropped kills what still runs in its namespaces, by pid, and removes them. Needs
//! root, `ip` and `nft`; touches nothing of the machine's own network.

mod fault;
mod host;
mod lab;
mod run;

use crate::paths;

pub use fault::{Carriage, Carrier, Cut, Pace};
pub use host::{Addresses, Host, Role};
pub use lab::Lab;

/// What a test does where the namespaces can't be had.
///
/// Prints why and returns true, so that the test ends; in CI (`CI=true`) nothing may be left out, so it panics there.
#[must_use]
pub fn must_skip(test: &str) -> bool {
    let Some(why) = unavailable() else { return false };
    paths::leave_out(test, &why);
    true
}

fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    ["ip", "tc", "nft", "ping"]
        .into_iter()
        .find(|name| paths::program(name).is_none())
        .map(|name| format!("`{name}` is not installed"))
}
