//! The messages of a SPICE link as bytes (spice-protocol, `spice/protocol.h`). Pure. All numbers are little-endian.

/// The version that is offered.
pub const MAJOR: u32 = 2;
/// See [`MAJOR`].
pub const MINOR: u32 = 2;
/// Length of a `SpiceLinkHeader`.
pub const HEADER_LEN: usize = 16;
/// The longest reply that is read, in bytes: a real one has 178 and some capabilities.
pub const REPLY_MAX: usize = 4096;

/// `SPICE_MAGIC`.
const MAGIC: &[u8; 4] = b"REDQ";
/// Length of a `SpiceLinkMess` without capabilities.
const MESSAGE_LEN: u32 = 18;
/// `SPICE_CHANNEL_MAIN`.
const MAIN_CHANNEL: u8 = 1;
/// `SPICE_TICKET_PUBKEY_BYTES`.
const PUBLIC_KEY_LEN: usize = 162;
/// Length of a `SpiceLinkReply` without capabilities.
const REPLY_LEN: usize = 4 + PUBLIC_KEY_LEN + 12;
/// The most words of capabilities that are read.
const CAPABILITY_WORDS_MAX: u32 = 16;
/// `SPICE_COMMON_CAP_*`, by their bits.
const COMMON_CAPABILITIES: [&str; 4] = ["auth_selection", "auth_spice", "auth_sasl", "mini_header"];

/// Returns the request for a link of a new session's main channel: a header and a `SpiceLinkMess` without capabilities.
pub fn request() -> Vec<u8> {
    let mut request = MAGIC.to_vec();
    let connection_id = 0_u32;
    for number in [MAJOR, MINOR, MESSAGE_LEN, connection_id] {
        request.extend(number.to_le_bytes());
    }
    let channel_id = 0;
    request.extend([MAIN_CHANNEL, channel_id]);
    // No common and no channel capabilities, which would begin behind the message.
    for number in [0, 0, MESSAGE_LEN] {
        request.extend(number.to_le_bytes());
    }
    request
}

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkHeader {
    /// Version of the server before the dot.
    pub major: u32,
    /// Version of the server after the dot.
    pub minor: u32,
    /// Length of what follows, in bytes.
    pub size: usize,
}

impl LinkHeader {
    /// Reads a header; `None` if it is something else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let numbers = bytes.strip_prefix(MAGIC)?;
        let size = usize::try_from(number(numbers, 8)?).ok()?;
        Some(Self { major: number(numbers, 0)?, minor: number(numbers, 4)?, size })
    }
}

/// Returns whether these bytes may be the beginning of a header.
pub fn may_begin(bytes: &[u8]) -> bool {
    bytes.iter().zip(MAGIC).all(|(one, other)| one == other)
}

/// Why a server refuses a link (`SPICE_LINK_ERR_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkError {
    /// 1: it does not say why.
    Error,
    /// 2: it does not take ours for a header.
    InvalidMagic,
    /// 3: it finds the request malformed.
    InvalidData,
    /// 4: it speaks another version.
    VersionMismatch,
    /// 5: it wants TLS.
    NeedSecured,
    /// 6: it does not want TLS.
    NeedUnsecured,
    /// 7: it denies the link.
    PermissionDenied,
    /// 8: it does not know the session.
    BadConnectionId,
    /// 9: it does not have the channel.
    ChannelNotAvailable,
    /// A code that is newer than this probe.
    Other(u32),
}

impl LinkError {
    /// Returns the meaning of an `error` field; `None` for `SPICE_LINK_ERR_OK`.
    pub const fn from_wire(code: u32) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::Error,
            2 => Self::InvalidMagic,
            3 => Self::InvalidData,
            4 => Self::VersionMismatch,
            5 => Self::NeedSecured,
            6 => Self::NeedUnsecured,
            7 => Self::PermissionDenied,
            8 => Self::BadConnectionId,
            9 => Self::ChannelNotAvailable,
            other => Self::Other(other),
        })
    }

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::InvalidMagic => "invalid_magic",
            Self::InvalidData => "invalid_data",
            Self::VersionMismatch => "version_mismatch",
            Self::NeedSecured => "need_secured",
            Self::NeedUnsecured => "need_unsecured",
            Self::PermissionDenied => "permission_denied",
            Self::BadConnectionId => "bad_connection_id",
            Self::ChannelNotAvailable => "channel_not_available",
            Self::Other(_) => "other",
        }
    }
}

/// What a server says to a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkReply {
    /// It accepts: these are its common capabilities, by their names.
    Accepted(Vec<&'static str>),
    /// It refuses.
    Refused(LinkError),
}

impl LinkReply {
    /// Reads what followed the header; `None` if it is malformed. A refusal needs its code and no more.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if let Some(error) = LinkError::from_wire(number(bytes, 0)?) {
            return Some(Self::Refused(error));
        }
        let counts = 4 + PUBLIC_KEY_LEN;
        let words = number(bytes, counts)?;
        let offset = usize::try_from(number(bytes, counts + 8)?).ok()?;
        if bytes.len() < REPLY_LEN || words > CAPABILITY_WORDS_MAX {
            return None;
        }
        if words == 0 {
            return Some(Self::Accepted(Vec::new()));
        }
        let first = number(bytes, offset)?;
        let names = COMMON_CAPABILITIES.iter().enumerate();
        Some(Self::Accepted(names.filter(|(bit, _)| first >> bit & 1 == 1).map(|(_, name)| *name).collect()))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(error: u32, words: u32, offset: u32, capabilities: &[u32]) -> Vec<u8> {
        let mut bytes = error.to_le_bytes().to_vec();
        bytes.extend([0x30; PUBLIC_KEY_LEN]);
        for number in [words, 0, offset].iter().chain(capabilities) {
            bytes.extend(number.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_request_is_a_header_and_a_message_of_18_bytes() {
        let request = request();
        assert_eq!(request.len(), HEADER_LEN + 18);
        let header = LinkHeader::parse(&request).unwrap();
        assert_eq!((header.major, header.minor, header.size), (2, 2, 18));
        assert_eq!(request[HEADER_LEN..], *b"\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\x12\0\0\0");
    }

    #[test]
    fn a_reply_tells_its_capabilities_or_its_error() {
        assert_eq!(reply(0, 1, 178, &[0b1011]).len(), REPLY_LEN + 4);
        let accepted = LinkReply::parse(&reply(0, 1, 178, &[0b1011]));
        assert_eq!(accepted, Some(LinkReply::Accepted(vec!["auth_selection", "auth_spice", "mini_header"])));
        assert_eq!(LinkReply::parse(&reply(0, 0, 178, &[])), Some(LinkReply::Accepted(Vec::new())));
        assert_eq!(LinkReply::parse(&reply(5, 0, 0, &[])), Some(LinkReply::Refused(LinkError::NeedSecured)));
        assert_eq!(LinkReply::parse(b"\x07\0\0\0"), Some(LinkReply::Refused(LinkError::PermissionDenied)));
        assert_eq!(LinkError::from_wire(77), Some(LinkError::Other(77)));
    }

    #[test]
    fn a_reply_that_is_short_or_points_elsewhere_is_malformed() {
        assert_eq!(LinkReply::parse(&reply(0, 0, 178, &[])[..177]), None);
        assert_eq!(LinkReply::parse(&reply(0, 1, 178, &[])), None);
        assert_eq!(LinkReply::parse(&reply(0, 1, u32::MAX, &[1])), None);
        assert_eq!(LinkReply::parse(&reply(0, CAPABILITY_WORDS_MAX + 1, 178, &[1; 17])), None);
        assert!(LinkReply::parse(&reply(0, CAPABILITY_WORDS_MAX, 178, &[1; 16])).is_some());
        assert_eq!(LinkHeader::parse(b"REDQ\x02\0\0\0\x02\0\0\0\0\0\0"), None);
        assert_eq!(LinkHeader::parse(b"QDER\x02\0\0\0\x02\0\0\0\0\0\0\0"), None);
        assert!(may_begin(b"RE") && may_begin(b"REDQ\x02") && !may_begin(b"RF"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), accepted in any::<bool>()) {
            let bytes = if accepted { [vec![0; 4], bytes].concat() } else { bytes };
            let _ = (LinkReply::parse(&bytes), LinkHeader::parse(&bytes));
        }
    }
}
