//! What an operator grants a probe, on its way to the watchers.

use vouch_types::{ProbeGrant, ProbeInterface, ProbePorts};

use super::{ConvertError, at_most, limits, network};
use crate::proto;

impl From<&ProbeGrant> for proto::ProbeGrant {
    fn from(grant: &ProbeGrant) -> Self {
        let (ports, ports_of_settings) = match &grant.ports {
            ProbePorts::Settings => (Vec::new(), true),
            ProbePorts::Only(ports) => (ports.iter().copied().map(u32::from).collect(), false),
        };
        Self {
            interfaces: grant.interfaces.iter().map(ToString::to_string).collect(),
            networks: grant.networks.iter().map(|n| proto::Network::from(*n).into()).collect(),
            ports,
            ports_of_settings,
        }
    }
}

impl TryFrom<proto::ProbeGrant> for ProbeGrant {
    type Error = ConvertError;
    fn try_from(m: proto::ProbeGrant) -> Result<Self, ConvertError> {
        at_most("probe_grant.interfaces", m.interfaces.len(), limits::GRANT_INTERFACES_MAX, "interfaces")?;
        at_most("probe_grant.networks", m.networks.len(), vouch_types::Network::ALL.len(), "networks")?;
        at_most("probe_grant.ports", m.ports.len(), limits::GRANT_PORTS_MAX, "ports")?;
        let port = |port: u32| {
            let port = u16::try_from(port).ok().filter(|port| *port > 0);
            port.ok_or_else(|| ConvertError::new("probe_grant.ports", "0 or over 65535", "must be from 1 to 65535"))
        };
        let ports = m.ports.into_iter().map(port).collect::<Result<_, _>>()?;
        Ok(Self {
            // A later manager may know more of them: what this watcher does not know, it does not lend.
            interfaces: m.interfaces.iter().filter_map(|word| word.parse::<ProbeInterface>().ok()).collect(),
            networks: m.networks.into_iter().map(|n| network("probe_grant.networks", n)).collect::<Result<_, _>>()?,
            ports: if m.ports_of_settings { ProbePorts::Settings } else { ProbePorts::Only(ports) },
        })
    }
}
