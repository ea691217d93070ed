//! [`DatagramLink`] over a UDP socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_trait::async_trait;
use tokio::net::UdpSocket;

use crate::links::{DatagramLink, LinkError};

/// What a socket may hold of datagrams that wait to be read: the heartbeats of 1,000 nodes at once. The system may
/// grant less (`net.core.rmem_max`).
pub const RECEIVE_BUFFER: usize = 1024 * 1024;

/// A UDP socket.
#[derive(Debug)]
pub struct UdpLink {
    socket: UdpSocket,
}

impl UdpLink {
    /// Binds a socket to this address and port.
    ///
    /// # Errors
    /// Those of the system: the port is taken, or the address is not of this machine.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        Ok(Self { socket })
    }

    /// Binds a socket to an ephemeral port of this address, or of the one that the route to `to` gives it.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn towards(to: SocketAddr, local: Option<IpAddr>) -> io::Result<Self> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Self::bind(SocketAddr::new(local.unwrap_or(any), 0)).await
    }

    /// Returns the address and port that it is bound to.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[async_trait]
impl DatagramLink for UdpLink {
    async fn send(&self, to: SocketAddr, datagram: &[u8]) -> Result<(), LinkError> {
        self.socket.send_to(datagram, to).await.map(drop).map_err(|e| LinkError::Unreachable {
            to: "the other side of heartbeats".to_owned(),
            address: to.to_string(),
            why: e.to_string(),
        })
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), LinkError> {
        self.socket.recv_from(buffer).await.map_err(|e| LinkError::Reset(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_datagram_arrives_whole_with_its_source() {
        let receiver = UdpLink::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let to = receiver.local_addr().unwrap();
        let sender = UdpLink::towards(to, Some("127.0.0.1".parse().unwrap())).await.unwrap();
        sender.send(to, b"beat").await.unwrap();
        let mut buffer = [0; 16];
        let (length, from) = receiver.receive(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"beat"[..], sender.local_addr().unwrap()));
    }
}
