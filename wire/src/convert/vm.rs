//! A VM's description: addresses, probes, labels.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vouch_types::{Network, ProbeAssignment, SortedMap, VmId, VmSpec, WatcherLegs};

use super::{ConvertError, at_most, distinct, limits, network, probe_name, text};
use crate::proto;

impl From<&ProbeAssignment> for proto::ProbeAssignment {
    fn from(p: &ProbeAssignment) -> Self {
        Self {
            probe: p.probe.as_str().to_owned(),
            network: proto::Network::from(p.network).into(),
            settings: p.settings.clone(),
            interval_micros: 0,
            timeout_micros: 0,
        }
    }
}

impl TryFrom<proto::ProbeAssignment> for ProbeAssignment {
    type Error = ConvertError;
    fn try_from(m: proto::ProbeAssignment) -> Result<Self, ConvertError> {
        let settings = text("probe.settings", m.settings, limits::SETTINGS_MAX)?;
        if !matches!(serde_json::from_str(&settings), Ok(serde_json::Value::Object(_))) {
            return Err(ConvertError::new("probe.settings", settings, "must be a JSON object"));
        }
        Ok(Self {
            probe: probe_name("probe.probe", &m.probe)?,
            network: network("probe.network", m.network)?,
            settings,
        })
    }
}

pub(super) fn to_addresses(addresses: &SortedMap<Network, Vec<IpAddr>>) -> Vec<proto::Address> {
    addresses
        .iter()
        .flat_map(|(network, list)| {
            let network = proto::Network::from(*network).into();
            list.iter().map(move |ip| proto::Address { network, address: ip.to_string() })
        })
        .collect()
}

pub(super) fn from_addresses(list: Vec<proto::Address>) -> Result<SortedMap<Network, Vec<IpAddr>>, ConvertError> {
    let mut addresses: BTreeMap<Network, Vec<IpAddr>> = BTreeMap::new();
    for entry in list {
        let ip = entry
            .address
            .parse()
            .map_err(|_| ConvertError::new("address.address", &entry.address, "must be an IP address"))?;
        let of_network = addresses.entry(network("address.network", entry.network)?).or_default();
        of_network.push(ip);
        at_most("addresses", of_network.len(), limits::ADDRESSES_MAX, "per network")?;
    }
    Ok(addresses.into())
}

pub(super) fn to_legs(legs: &WatcherLegs) -> Vec<proto::Address> {
    let leg = |(network, ip): (&Network, &IpAddr)| proto::Address {
        network: proto::Network::from(*network).into(),
        address: ip.to_string(),
    };
    legs.iter().map(leg).collect()
}

/// Returns a watcher's legs, at most one per network.
pub(super) fn from_legs(list: &[proto::Address]) -> Result<WatcherLegs, ConvertError> {
    at_most("legs", list.len(), Network::ALL.len(), "legs")?;
    let leg = |entry: &proto::Address| {
        let ip = entry.address.parse();
        let ip = ip.map_err(|_| ConvertError::new("legs.address", &entry.address, "must be an IP address"))?;
        Ok((network("legs.network", entry.network)?, ip))
    };
    let legs: Vec<(Network, IpAddr)> = list.iter().map(leg).collect::<Result<_, ConvertError>>()?;
    distinct("legs", legs.iter().map(|(network, _)| network))?;
    Ok(legs.into_iter().collect())
}

pub(super) fn from_probes(list: Vec<proto::ProbeAssignment>) -> Result<Vec<ProbeAssignment>, ConvertError> {
    at_most("probes", list.len(), limits::PROBES_PER_VM_MAX, "per VM")?;
    list.into_iter().map(ProbeAssignment::try_from).collect()
}

pub(super) fn to_labels(labels: &SortedMap<String, String>) -> Vec<proto::Label> {
    labels.iter().map(|(key, value)| proto::Label { key: key.clone(), value: value.clone() }).collect()
}

pub(super) fn from_labels(list: Vec<proto::Label>) -> Result<SortedMap<String, String>, ConvertError> {
    at_most("labels", list.len(), limits::LABELS_MAX, "labels")?;
    list.into_iter()
        .map(|l| {
            Ok((
                text("label.key", l.key, limits::LABEL_TEXT_MAX)?,
                text("label.value", l.value, limits::LABEL_TEXT_MAX)?,
            ))
        })
        .collect()
}

/// Returns the message of a VM's description; its id travels beside it.
pub fn vm_description(spec: &VmSpec) -> proto::VmDescription {
    proto::VmDescription {
        name: spec.name.clone(),
        addresses: to_addresses(&spec.addresses),
        probes: spec.probes.iter().map(Into::into).collect(),
        labels: to_labels(&spec.labels),
        datastore: spec.datastore.clone().unwrap_or_default(),
    }
}

/// Returns the description of the VM `id`. An empty datastore is none.
///
/// # Errors
/// [`ConvertError`] names the field that breaks a rule or limit.
pub fn vm_spec(id: VmId, m: proto::VmDescription) -> Result<VmSpec, ConvertError> {
    let datastore = text("description.datastore", m.datastore, limits::NAME_TEXT_MAX)?;
    Ok(VmSpec {
        id,
        name: text("description.name", m.name, limits::NAME_TEXT_MAX)?,
        addresses: from_addresses(m.addresses)?,
        probes: from_probes(m.probes)?,
        labels: from_labels(m.labels)?,
        datastore: Some(datastore).filter(|d| !d.is_empty()),
    })
}
