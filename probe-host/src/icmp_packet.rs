//! Echo requests and replies as bytes (RFC 792, RFC 4443 section 4).

use std::net::IpAddr;

/// Length of a request: 8 bytes of header, 12 of ours, padded to what most routers see.
pub(crate) const REQUEST_LEN: usize = 40;

const NONCE_AT: usize = 8;
const SEQUENCE_AT: usize = 16;
const PAYLOAD_END: usize = 20;

/// The two forms of ICMP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Returns the form that reaches this address.
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    const fn request_type(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    const fn reply_type(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }
}

/// Which request of which series: the nonce of the series and the place in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EchoMark {
    pub(crate) nonce: u64,
    pub(crate) sequence: u32,
}

/// Returns an echo request. The kernel sets the checksum of ICMPv6, and the id of datagram sockets.
pub(crate) fn request(family: Family, id: u16, mark: EchoMark) -> [u8; REQUEST_LEN] {
    let mut packet = [0; REQUEST_LEN];
    packet[0] = family.request_type();
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&mark.sequence.to_be_bytes()[2..]);
    packet[NONCE_AT..SEQUENCE_AT].copy_from_slice(&mark.nonce.to_be_bytes());
    packet[SEQUENCE_AT..PAYLOAD_END].copy_from_slice(&mark.sequence.to_be_bytes());
    if family == Family::V4 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Returns the mark of an echo reply, or `None` for any other packet.
///
/// Raw IPv4 sockets deliver the IP header too; it is skipped where it stands.
pub(crate) fn reply(family: Family, packet: &[u8]) -> Option<EchoMark> {
    let packet = match family {
        Family::V4 if packet.first().is_some_and(|b| b >> 4 == 4) => packet.get(usize::from(packet[0] & 0x0f) * 4..)?,
        Family::V4 | Family::V6 => packet,
    };
    if *packet.first()? != family.reply_type() || *packet.get(1)? != 0 {
        return None;
    }
    let nonce = packet.get(NONCE_AT..SEQUENCE_AT)?.try_into().ok()?;
    let sequence = packet.get(SEQUENCE_AT..PAYLOAD_END)?.try_into().ok()?;
    Some(EchoMark { nonce: u64::from_be_bytes(nonce), sequence: u32::from_be_bytes(sequence) })
}

fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: EchoMark = EchoMark { nonce: 0x0123_4567_89ab_cdef, sequence: 7 };

    #[test]
    fn a_request_sums_to_nothing_as_rfc_1071_wants() {
        assert_eq!(checksum(&request(Family::V4, 0xbeef, MARK)), 0);
    }

    #[test]
    fn a_reply_is_known_by_its_mark_with_and_without_an_ip_header() {
        let mut packet = request(Family::V4, 1, MARK);
        assert_eq!(reply(Family::V4, &packet), None, "our own request, which loopback shows to raw sockets");
        packet[0] = 0;
        assert_eq!(reply(Family::V4, &packet), Some(MARK));
        let with_header = [&[0x45; 1][..], &[0; 19], &packet].concat();
        assert_eq!(reply(Family::V4, &with_header), Some(MARK));
        let mut packet = request(Family::V6, 1, MARK);
        packet[0] = 129;
        assert_eq!(reply(Family::V6, &packet), Some(MARK));
    }

    #[test]
    fn a_short_packet_is_no_reply() {
        for length in 0..PAYLOAD_END {
            assert_eq!(reply(Family::V4, &[0; PAYLOAD_END][..length]), None);
            assert_eq!(reply(Family::V4, &[0x4f; PAYLOAD_END][..length]), None);
        }
    }
}
