//! What a run may be lent, by what the operator grants the probe: judged before a run, so that what is not granted never
//! touches the network.
//!
//! Pure. A `ProbeGrant` is the operator's word on a probe; a [`PortGrant`] is what one run of it is lent.

use std::collections::BTreeSet;

use thiserror::Error;
use vouch_types::probe_grant::words;
use vouch_types::{Network, ProbeGrant, ProbeInterface, ProbePorts};

use crate::{Descriptor, PortGrant};

/// Why a run does not begin: it needs what the operator does not grant.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NotGranted {
    /// An import.
    #[error("the component imports {}; it is granted {}", list(.imports), list(.granted))]
    Interfaces {
        /// What it imports that has to be granted.
        imports: BTreeSet<ProbeInterface>,
        /// What it is granted.
        granted: BTreeSet<ProbeInterface>,
    },
    /// The network.
    #[error("it is to run over network {asked}; it is granted {}", list(.granted))]
    Network {
        /// Over which it was to run.
        asked: Network,
        /// Over which it may.
        granted: BTreeSet<Network>,
    },
    /// A port.
    #[error("it is to reach port {}; it is granted {}", list(.asked), list(.granted))]
    Ports {
        /// Those that its settings name, or that it describes, and that are not granted.
        asked: BTreeSet<u16>,
        /// Those that are granted.
        granted: BTreeSet<u16>,
    },
}

fn list<T: std::fmt::Display>(set: &BTreeSet<T>) -> String {
    if set.is_empty() { "none".to_owned() } else { words(set).join(", ") }
}

/// Returns the ports that a run of a component with these needs may be lent.
///
/// The ports that it is to reach are the `port` of its settings, else those that it describes; all of them must be
/// granted, because a probe that finds one closed to itself would take its target for down.
///
/// # Errors
/// [`NotGranted`] when the run needs an interface, a network or a port that is not granted.
pub fn granted_ports(
    grant: &ProbeGrant,
    needs: &BTreeSet<ProbeInterface>,
    described: &Descriptor,
    network: Network,
    settings: &str,
) -> Result<PortGrant, NotGranted> {
    if !grant.missing(needs).is_empty() {
        return Err(NotGranted::Interfaces { imports: needs.clone(), granted: grant.interfaces.clone() });
    }
    if !grant.networks.contains(&network) {
        return Err(NotGranted::Network { asked: network, granted: grant.networks.clone() });
    }
    if !needs.iter().any(|interface| interface.has_ports()) {
        return Ok(PortGrant::Only(BTreeSet::new()));
    }
    let ProbePorts::Only(granted) = &grant.ports else { return Ok(PortGrant::Settings) };
    let asked = PortGrant::Settings.ports(settings, &described.ports);
    let asked: BTreeSet<u16> = asked.difference(granted).copied().collect();
    if asked.is_empty() {
        Ok(PortGrant::Only(granted.clone()))
    } else {
        Err(NotGranted::Ports { asked, granted: granted.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContractVersion;

    fn described(ports: &[u16]) -> Descriptor {
        Descriptor {
            contract: ContractVersion::V1,
            name: "ssh".to_owned(),
            version: "0.1.0".to_owned(),
            summary: "An SSH server greets.".to_owned(),
            settings_schema: None,
            networks: Network::ALL.into(),
            ports: ports.to_vec(),
            interval: None,
            timeout: None,
            about: Vec::new(),
            beyond: Vec::new(),
        }
    }

    fn judge(
        grant: &ProbeGrant,
        needs: &[ProbeInterface],
        described_ports: &[u16],
        settings: &str,
    ) -> Result<PortGrant, String> {
        let needs = needs.iter().copied().collect();
        let judged = granted_ports(grant, &needs, &described(described_ports), Network::Service, settings);
        judged.map_err(|not| not.to_string())
    }

    #[test]
    fn an_import_that_is_not_granted_ends_it_before_anything_else_is_looked_at() {
        let grant = ProbeGrant::parse(&["icmp"], &["management"], &[]).unwrap();
        let said = judge(&grant, &[ProbeInterface::Sockets], &[22], "{}");
        assert_eq!(said, Err("the component imports sockets; it is granted icmp".to_owned()));
    }

    #[test]
    fn a_run_over_a_network_that_is_not_granted_does_not_begin() {
        let grant = ProbeGrant::parse(&["icmp"], &["management"], &[]).unwrap();
        let said = judge(&grant, &[ProbeInterface::Icmp], &[], "{}");
        assert_eq!(said, Err("it is to run over network service; it is granted management".to_owned()));
    }

    #[test]
    fn the_port_of_the_settings_must_be_granted_and_without_one_those_that_are_described() {
        let grant = ProbeGrant::parse(&["sockets"], &["service"], &["22", "2222"]).unwrap();
        let tcp = [ProbeInterface::Sockets];
        let both = Ok(PortGrant::Only([22, 2222].into()));
        assert_eq!(judge(&grant, &tcp, &[22], r#"{"port": 2222}"#), both);
        assert_eq!(judge(&grant, &tcp, &[22], "{}"), both);
        assert_eq!(judge(&grant, &tcp, &[], "{}"), both, "it may have other settings for its ports");
        let said = judge(&grant, &tcp, &[22], r#"{"port": 23}"#);
        assert_eq!(said, Err("it is to reach port 23; it is granted 22, 2222".to_owned()));
        let said = judge(&grant, &tcp, &[22, 80], "{}");
        assert_eq!(said, Err("it is to reach port 80; it is granted 22, 2222".to_owned()));
    }

    #[test]
    fn ports_of_the_settings_are_as_they_were_and_what_has_no_ports_is_lent_none() {
        let grant = ProbeGrant::parse(&["sockets", "icmp"], &["service"], &["settings"]).unwrap();
        assert_eq!(judge(&grant, &[ProbeInterface::Sockets], &[22], r#"{"port": 9}"#), Ok(PortGrant::Settings));
        assert_eq!(judge(&grant, &[ProbeInterface::Icmp], &[], "{}"), Ok(PortGrant::Only(BTreeSet::new())));
    }
}
