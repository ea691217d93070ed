//! One machine of a lab.

use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use vouch_types::Network;

/// What kind of machine a host is, which decides where its addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A machine with an interface per network (`mgmt0`, `svc0`): a manager, a client.
    Plain,
    /// A compute node: the addresses are on the bridges `brmgmt` and `brsvc`, which VMs join with their taps.
    Compute,
}

/// A machine's address in each network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// In the management network, 10.1.0.0/24.
    pub management: Ipv4Addr,
    /// In the service network, 10.2.0.0/24.
    pub service: Ipv4Addr,
}

impl Addresses {
    /// Returns the addresses that end with the given number: 10.1.0.N and 10.2.0.N.
    pub const fn ending_with(number: u8) -> Self {
        Self { management: Ipv4Addr::new(10, 1, 0, number), service: Ipv4Addr::new(10, 2, 0, number) }
    }

    /// Returns the address in one network.
    pub const fn on(&self, network: Network) -> Ipv4Addr {
        match network {
            Network::Management => self.management,
            Network::Service => self.service,
        }
    }
}

/// One machine of a lab: a network namespace with a leg in both networks.
#[derive(Debug, Clone)]
pub struct Host {
    /// Name within the lab, such as `m1`.
    pub name: String,
    /// Name of the network namespace.
    pub namespace: String,
    /// What kind of machine it is.
    pub role: Role,
    /// Its own addresses.
    pub addresses: Addresses,
}

impl Host {
    /// Returns a command that runs a program on this machine. The process that is started becomes the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Returns true if one echo to the address is answered within a second.
    pub fn reaches(&self, address: Ipv4Addr) -> bool {
        self.reaches_from(None, address)
    }

    /// As [`Self::reaches`], with one of several addresses of this machine as the sender.
    pub fn reaches_from(&self, sender: Option<Ipv4Addr>, address: Ipv4Addr) -> bool {
        let mut command = self.command("ping");
        command.args(["-n", "-q", "-c", "1", "-W", "1"]);
        if let Some(sender) = sender {
            command.args(["-I", &sender.to_string()]);
        }
        command.arg(address.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Returns the name of this machine's port in the switch of a network.
    pub(super) fn port(&self, network: Network) -> String {
        let kind = match network {
            Network::Management => 'm',
            Network::Service => 's',
        };
        format!("{kind}-{}", self.name)
    }
}

/// Returns the name of the bridge of a network in a compute node.
pub(super) const fn node_bridge(network: Network) -> &'static str {
    match network {
        Network::Management => "brmgmt",
        Network::Service => "brsvc",
    }
}

/// Returns the name of a machine's interface in a network.
pub(super) const fn interface(network: Network) -> &'static str {
    match network {
        Network::Management => "mgmt0",
        Network::Service => "svc0",
    }
}
