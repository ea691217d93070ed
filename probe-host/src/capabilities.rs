//! What the caller lends to a run.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{GuestAgent, Icmp};

/// Which ports of the target a run may connect and send to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum PortGrant {
    /// The `port` of its settings, a whole number at the top level; if there is none, the ports that the probe describes.
    ///
    /// So an operator grants a port by writing it into the settings, and a shipped probe works without.
    #[default]
    Settings,
    /// These and no others.
    Only(BTreeSet<u16>),
}

/// What the caller lends to a run; what is absent is refused to the guest as not granted.
#[derive(Clone, Default)]
pub struct Capabilities {
    /// Echo requests to the target's addresses.
    pub icmp: Option<Arc<dyn Icmp>>,
    /// Questions to the target's guest agent.
    pub guest_agent: Option<Arc<dyn GuestAgent>>,
    /// Ports of the target's addresses, over TCP and UDP.
    pub ports: PortGrant,
}

impl PortGrant {
    /// Returns the granted ports of one run.
    pub(crate) fn ports(&self, settings: &str, described: &[u16]) -> BTreeSet<u16> {
        match self {
            Self::Only(ports) => ports.clone(),
            Self::Settings => match port_of(settings) {
                Some(port) => BTreeSet::from([port]),
                None => described.iter().copied().collect(),
            },
        }
    }
}

fn port_of(settings: &str) -> Option<u16> {
    let settings: serde_json::Value = serde_json::from_str(settings).ok()?;
    settings.get("port")?.as_u64()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_the_settings_goes_before_the_described_ones() {
        let grant = PortGrant::default();
        assert_eq!(grant.ports(r#"{"port": 22}"#, &[3389]), BTreeSet::from([22]));
        assert_eq!(grant.ports("{}", &[3389]), BTreeSet::from([3389]));
        assert_eq!(grant.ports(r#"{"port": 70000}"#, &[]), BTreeSet::new());
        assert_eq!(PortGrant::Only(BTreeSet::from([1])).ports(r#"{"port": 22}"#, &[3389]), BTreeSet::from([1]));
    }
}
