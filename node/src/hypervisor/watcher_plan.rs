//! What a watcher VM is made of: its legs from the pools, and the boot file that it reads. Pure but for the secret's
//! file, which is 0600 and never part of a command line.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use vouch_types::{LogIndex, ManagerId, Network, NodeId, WallTime, WatcherBoot, WatcherId, WatcherLeg, WatcherLegs};

use super::{HypervisorError, WatcherOrder};
use crate::config::WatchersConfig;

/// A watcher as its node remembers it. The secret is in the boot file only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WatcherPlan {
    pub(crate) watcher: WatcherId,
    pub(crate) placed: LogIndex,
    pub(crate) legs: Vec<WatcherLeg>,
    pub(crate) managers: Vec<(ManagerId, Network, SocketAddr)>,
}

impl WatcherPlan {
    /// Returns the plan with free addresses, and managers where this node says that its watchers reach them.
    pub(crate) fn new(
        order: &WatcherOrder,
        config: &WatchersConfig,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<Self, HypervisorError> {
        let mut legs = Vec::new();
        for network in Network::ALL {
            let Some(leg) = config.leg(network) else { continue };
            let address = leg.addresses.iter().find(|a| !taken.contains(a));
            let address = *address.ok_or(HypervisorError::NoAddress { network, count: leg.addresses.len() })?;
            let mac = match &leg.bridge {
                Some(_) => mac(order.watcher, network),
                None => String::new(),
            };
            legs.push(WatcherLeg { network, mac, address, prefix_len: leg.prefix_len });
        }
        let managers = order
            .managers
            .iter()
            .map(|(manager, network, address)| {
                let instead = config.dial.get(manager).and_then(|d| d.on(*network));
                (*manager, *network, instead.unwrap_or(*address))
            })
            .collect();
        Ok(Self { watcher: order.watcher, placed: order.placed, legs, managers })
    }

    /// Returns where others reach it and nothing else of its host: a leg without a card of its own is an address of the
    /// host, whose answer says nothing of the way to a machine.
    pub(crate) fn own_legs(&self) -> WatcherLegs {
        self.legs.iter().filter(|leg| !leg.mac.is_empty()).map(|leg| (leg.network, leg.address)).collect()
    }

    /// Returns the content of its boot file.
    pub(crate) fn boot(&self, order: &WatcherOrder, node: &NodeId, stamp: WallTime) -> WatcherBoot {
        WatcherBoot {
            watcher: self.watcher,
            node: node.clone(),
            secret: hex::encode(&order.secret),
            ca_certificate: order.ca_certificate.clone(),
            managers: self.managers.clone(),
            legs: self.legs.clone(),
            stamp,
        }
    }
}

/// Returns the MAC of a watcher's card: locally administered, unique in the cluster as the number is, and lower for
/// the management network, by which a guest tells its cards apart.
fn mac(watcher: WatcherId, network: Network) -> String {
    let kind = match network {
        Network::Management => 0x76,
        Network::Service => 0x77,
    };
    let [.., a, b, c] = watcher.get().to_be_bytes();
    format!("52:54:{kind:02x}:{a:02x}:{b:02x}:{c:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DialConfig, WatcherLegConfig};

    fn config() -> WatchersConfig {
        let leg = |addresses: &[&str]| WatcherLegConfig {
            bridge: Some("br".into()),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            prefix_len: 24,
        };
        let dial = DialConfig { management: Some("127.0.0.1:9".parse().unwrap()), service: None };
        WatchersConfig {
            enabled: true,
            management: Some(leg(&["10.1.0.200", "10.1.0.201"])),
            service: Some(leg(&["10.2.0.200"])),
            dial: [(ManagerId::new(1), dial)].into(),
            ..WatchersConfig::default()
        }
    }

    fn order() -> WatcherOrder {
        let at = |a: &str| a.parse().unwrap();
        WatcherOrder {
            watcher: WatcherId::new(3),
            placed: LogIndex::new(9),
            secret: vec![7; 32],
            ca_certificate: "pem".into(),
            managers: vec![
                (ManagerId::new(1), Network::Management, at("10.1.0.1:7001")),
                (ManagerId::new(1), Network::Service, at("10.2.0.1:7001")),
            ],
        }
    }

    #[test]
    fn a_taken_address_is_not_given_again_and_an_empty_pool_says_so() {
        let first = WatcherPlan::new(&order(), &config(), &BTreeSet::new()).unwrap();
        assert!(first.legs[0].mac < first.legs[1].mac, "the management card is known by its lower MAC");
        let taken = first.legs.iter().map(|l| l.address).collect();
        let message = WatcherPlan::new(&order(), &config(), &taken).expect_err("one service address only").to_string();
        assert_eq!(message, "watchers.service.addresses: all 1 are taken");
    }

    #[test]
    fn legs_are_told_of_a_machine_and_not_of_a_process_on_the_host() {
        let on_cards = WatcherPlan::new(&order(), &config(), &BTreeSet::new()).unwrap();
        let told: Vec<_> = on_cards.own_legs().into_iter().map(|(network, ip)| (network, ip.to_string())).collect();
        let expected = [(Network::Management, "10.1.0.200"), (Network::Service, "10.2.0.200")];
        assert_eq!(told, expected.map(|(network, ip)| (network, ip.to_owned())));
        let mut config = config();
        for leg in [&mut config.management, &mut config.service].into_iter().flatten() {
            leg.bridge = None;
        }
        let process = WatcherPlan::new(&order(), &config, &BTreeSet::new()).unwrap();
        assert!(process.own_legs().is_empty() && process.legs.len() == 2, "it has them all the same");
    }

    #[test]
    fn the_boot_file_holds_what_the_watcher_needs_and_the_plan_not_the_secret() {
        let plan = WatcherPlan::new(&order(), &config(), &BTreeSet::new()).unwrap();
        let boot = plan.boot(&order(), &NodeId::new("n1").unwrap(), WallTime::from_unix_millis(5));
        assert_eq!(boot.managers[0].2, "127.0.0.1:9".parse().unwrap(), "the node's own way to a manager rules");
        assert_eq!(boot.managers[1].2, "10.2.0.1:7001".parse().unwrap());
        assert_eq!(boot.secret, "07".repeat(32));
        assert!(!serde_json::to_string(&plan).unwrap().contains("0707"));
    }
}
