//! Which sockets a guest may use: those of its target, on granted ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use wasmtime_wasi::sockets::SocketAddrUse;

/// What one run may reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SocketFilter {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

impl SocketFilter {
    /// Returns the filter for these addresses; IPv4 addresses written as IPv6 count as IPv4.
    pub(crate) fn new(addresses: &[IpAddr], ports: BTreeSet<u16>) -> Self {
        Self { addresses: addresses.iter().map(IpAddr::to_canonical).collect(), ports }
    }

    /// Returns whether this is an address of the target.
    pub(crate) fn is_target(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address.to_canonical())
    }

    /// Returns whether a guest may use a socket like this.
    pub(crate) fn permits(&self, address: SocketAddr, usage: SocketAddrUse) -> bool {
        match usage {
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {
                self.is_target(address.ip()) && self.ports.contains(&address.port())
            }
            // The bind that comes before a connect: any address, any port.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.ip().is_unspecified() && address.port() == 0,
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(address: &str, usage: SocketAddrUse) -> bool {
        let target = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        SocketFilter::new(&target, BTreeSet::from([3389])).permits(address.parse().unwrap(), usage)
    }

    #[test]
    fn only_the_target_on_granted_ports_can_be_reached() {
        for usage in [SocketAddrUse::TcpConnect, SocketAddrUse::UdpSend, SocketAddrUse::UdpReceive] {
            assert!(permits("192.0.2.7:3389", usage));
            assert!(permits("[2001:db8::7]:3389", usage));
            assert!(permits("[::ffff:192.0.2.7]:3389", usage), "an IPv4 address in IPv6 form is the same machine");
            assert!(!permits("192.0.2.7:22", usage));
            assert!(!permits("192.0.2.8:3389", usage));
            assert!(!permits("[::ffff:192.0.2.8]:3389", usage));
            assert!(!permits("0.0.0.0:3389", usage));
        }
    }

    #[test]
    fn a_guest_binds_to_nothing_in_particular_and_never_listens() {
        for usage in [SocketAddrUse::TcpBind, SocketAddrUse::UdpBind] {
            assert!(permits("0.0.0.0:0", usage) && permits("[::]:0", usage));
            assert!(!permits("0.0.0.0:3389", usage) && !permits("127.0.0.1:0", usage));
        }
        for usage in [SocketAddrUse::TcpListen, SocketAddrUse::TcpAccept] {
            assert!(!permits("0.0.0.0:0", usage) && !permits("192.0.2.7:3389", usage));
        }
    }
}
