//! Sets up network cards through rtnetlink (rtnetlink(7)): just the two requests that a watcher needs.

use std::io;
use std::net::IpAddr;

use rustix::fd::OwnedFd;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLMSG_ERROR: u16 = 2;
/// NLM_F_REQUEST | NLM_F_ACK.
const REQUEST_ACK: u16 = 0x0001 | 0x0004;
/// NLM_F_CREATE | NLM_F_REPLACE.
const CREATE_REPLACE: u16 = 0x0400 | 0x0100;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const HEADER: usize = 16;

/// An open rtnetlink socket.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sets a card up.
    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.request(RTM_NEWLINK, REQUEST_ACK, &link_up(index))
    }

    /// Gives a card an address.
    pub(super) fn add_address(&mut self, index: u32, address: IpAddr, prefix_len: u8) -> io::Result<()> {
        self.request(RTM_NEWADDR, REQUEST_ACK | CREATE_REPLACE, &new_address(index, address, prefix_len))
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        sendto(&self.socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0u8; 4096];
        let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        acknowledged(&answer[..length])
    }
}

/// struct ifinfomsg: family, padding, type, index, flags, mask of the flags to change.
fn link_up(index: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body
}

/// struct ifaddrmsg: family, prefix length, flags, scope, index; then the address twice.
fn new_address(index: u32, address: IpAddr, prefix_len: u8) -> Vec<u8> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    };
    let mut body = vec![family, prefix_len, 0, 0];
    body.extend(index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        // 4 or 16 bytes: already a multiple of the alignment of 4.
        let length = u16::try_from(4 + bytes.len()).unwrap_or(u16::MAX);
        body.extend(length.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(&bytes);
    }
    body
}

/// Reads struct nlmsgerr: a negative errno, 0 for an acknowledgement.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let (kind, code) = (answer.get(4..6), answer.get(HEADER..HEADER + 4));
    let (Some(&[k0, k1]), Some(&[c0, c1, c2, c3])) = (kind, code) else {
        return Err(io::Error::other("rtnetlink: short answer"));
    };
    if u16::from_ne_bytes([k0, k1]) != NLMSG_ERROR {
        return Err(io::Error::other("rtnetlink: unexpected answer"));
    }
    match i32::from_ne_bytes([c0, c1, c2, c3]) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_encoded_as_the_kernel_reads_it() {
        let body = new_address(3, "10.1.0.200".parse().unwrap(), 24);
        assert_eq!(body[..4], [2, 24, 0, 0]);
        assert_eq!(body[4..8], 3u32.to_ne_bytes());
        assert_eq!(body[8..16], [8, 0, 2, 0, 10, 1, 0, 200]);
        assert_eq!(body.len(), 24);
    }

    #[test]
    fn the_kernel_acknowledges_what_is_so_already_or_says_why_not() {
        let mut netlink = Netlink::open().unwrap();
        // Without privilege the kernel says so; with it, loopback is up already.
        match netlink.set_up(1) {
            Ok(()) => {}
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::PermissionDenied),
        }
        assert!(netlink.set_up(999_999).is_err(), "a card that is not there");
    }
}
