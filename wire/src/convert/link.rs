//! What heartbeats say of a manager's path to a node, as managers tell each other.

use std::time::Duration;

use vouch_types::{Network, NodeId};

use super::report::micros;
use super::watcher::per_mille;
use super::{ConvertError, network, node_id};
use crate::proto;

/// A manager's path to a node. Ages are counted as those of the frame that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireLink {
    /// The node.
    pub node: NodeId,
    /// Over which network.
    pub network: Network,
    /// Age of the node's newest heartbeat; `None` when there was none.
    pub heard_age: Option<Duration>,
    /// Age of the manager's newest heartbeat that the node says it has; `None` when there was none.
    pub echoed_age: Option<Duration>,
    /// Age of the node's last read of its hypervisor when its newest heartbeat was sent; `None` before the first.
    pub read_age: Option<Duration>,
    /// Per mille of the node's heartbeats that were lost lately.
    pub loss_in_per_mille: u16,
    /// Per mille of the manager's heartbeats that were lost lately.
    pub loss_out_per_mille: u16,
}

impl From<&WireLink> for proto::MeasuredLink {
    fn from(l: &WireLink) -> Self {
        Self {
            node: l.node.as_str().to_owned(),
            network: proto::Network::from(l.network).into(),
            heard_age_micros: l.heard_age.map(micros),
            echoed_age_micros: l.echoed_age.map(micros),
            read_age_micros: l.read_age.map(micros),
            loss_in_per_mille: l.loss_in_per_mille.into(),
            loss_out_per_mille: l.loss_out_per_mille.into(),
        }
    }
}

impl TryFrom<proto::MeasuredLink> for WireLink {
    type Error = ConvertError;
    fn try_from(m: proto::MeasuredLink) -> Result<Self, ConvertError> {
        Ok(Self {
            node: node_id("evidence.links.node", &m.node)?,
            network: network("evidence.links.network", m.network)?,
            heard_age: m.heard_age_micros.map(Duration::from_micros),
            echoed_age: m.echoed_age_micros.map(Duration::from_micros),
            read_age: m.read_age_micros.map(Duration::from_micros),
            loss_in_per_mille: per_mille("evidence.links.loss_in_per_mille", m.loss_in_per_mille)?,
            loss_out_per_mille: per_mille("evidence.links.loss_out_per_mille", m.loss_out_per_mille)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_survives_the_way_and_an_impossible_loss_is_named() {
        let link = WireLink {
            node: NodeId::new("n1").unwrap(),
            network: Network::Service,
            heard_age: Some(Duration::from_micros(7)),
            echoed_age: None,
            read_age: Some(Duration::ZERO),
            loss_in_per_mille: 300,
            loss_out_per_mille: 1000,
        };
        let message = proto::MeasuredLink::from(&link);
        assert_eq!(WireLink::try_from(message.clone()), Ok(link));
        let bad = proto::MeasuredLink { loss_in_per_mille: 1001, ..message };
        let refused = WireLink::try_from(bad).expect_err("must be refused").to_string();
        assert!(refused.contains("loss_in_per_mille") && refused.contains("1001"), "{refused}");
    }
}
