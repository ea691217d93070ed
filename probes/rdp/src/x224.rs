//! The connection request and confirm of RDP as bytes (MS-RDPBCGR 2.2.1.1, 2.2.1.2; X.224 class 0 over TPKT).

/// Length of a request.
pub const REQUEST_LEN: usize = 19;
/// The longest confirm that is read, in bytes: a real one has 11 or 19.
pub const CONFIRM_MAX: usize = 512;
/// Length of the TPKT header.
pub const TPKT_LEN: usize = 4;

/// TLS, CredSSP, and CredSSP with early user authorisation: what every current server can choose from.
pub const OFFERED: u32 = 0x0b;

const TPKT_VERSION: u8 = 3;
const CONNECTION_CONFIRM: u8 = 0xd0;
const NEGOTIATION_RESPONSE: u8 = 2;
const NEGOTIATION_FAILURE: u8 = 3;
/// TPKT header and the fixed part of the confirm.
const FIXED_LEN: usize = 11;

/// A security protocol of RDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Plain RDP security.
    Rdp,
    /// TLS.
    Tls,
    /// CredSSP.
    CredSsp,
    /// RDSTLS.
    RdsTls,
    /// CredSSP with early user authorisation.
    CredSspEarly,
    /// RDS with an identity of Microsoft Entra.
    RdsAad,
    /// A value that is newer than this probe.
    Other(u32),
}

impl Protocol {
    /// Returns the protocol of a `selectedProtocol` field.
    pub const fn from_wire(value: u32) -> Self {
        match value {
            0x00 => Self::Rdp,
            0x01 => Self::Tls,
            0x02 => Self::CredSsp,
            0x04 => Self::RdsTls,
            0x08 => Self::CredSspEarly,
            0x10 => Self::RdsAad,
            other => Self::Other(other),
        }
    }

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rdp => "rdp",
            Self::Tls => "tls",
            Self::CredSsp => "credssp",
            Self::RdsTls => "rdstls",
            Self::CredSspEarly => "credssp_early",
            Self::RdsAad => "rdsaad",
            Self::Other(_) => "other",
        }
    }
}

/// Why a server refuses a negotiation (`failureCode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureCode {
    /// 1: it wants TLS.
    TlsRequired,
    /// 2: it has plain RDP security only.
    TlsNotAllowed,
    /// 3: it has no certificate.
    NoCertificate,
    /// 4: it finds the request inconsistent.
    InconsistentFlags,
    /// 5: it wants CredSSP.
    CredSspRequired,
    /// 6: it wants TLS with user authentication.
    TlsWithUserRequired,
    /// A code that is newer than this probe.
    Other(u32),
}

impl FailureCode {
    /// Returns the meaning of a `failureCode` field.
    pub const fn from_wire(code: u32) -> Self {
        match code {
            1 => Self::TlsRequired,
            2 => Self::TlsNotAllowed,
            3 => Self::NoCertificate,
            4 => Self::InconsistentFlags,
            5 => Self::CredSspRequired,
            6 => Self::TlsWithUserRequired,
            other => Self::Other(other),
        }
    }

    /// Returns what to offer when asking again, if another offer can help.
    pub const fn offer_instead(self) -> Option<u32> {
        match self {
            Self::TlsRequired | Self::TlsWithUserRequired => Some(0x01),
            Self::CredSspRequired => Some(0x02),
            Self::TlsNotAllowed => Some(0x00),
            Self::NoCertificate | Self::InconsistentFlags | Self::Other(_) => None,
        }
    }

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TlsRequired => "tls_required",
            Self::TlsNotAllowed => "tls_not_allowed",
            Self::NoCertificate => "no_certificate",
            Self::InconsistentFlags => "inconsistent_flags",
            Self::CredSspRequired => "credssp_required",
            Self::TlsWithUserRequired => "tls_with_user_required",
            Self::Other(_) => "other",
        }
    }
}

/// What a server says to a connection request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confirm {
    /// It chose this protocol; without a negotiation structure that is plain RDP security.
    Selected(Protocol),
    /// It refuses what was offered.
    Refused(FailureCode),
}

/// Why bytes are not a confirm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// They do not begin with a TPKT header: something else than RDP answers.
    NotTpkt,
    /// The header's length is out of bounds.
    Length(u16),
    /// They are a TPKT packet, but no connection confirm.
    NotConfirm(u8),
    /// They end too early.
    Short,
    /// The negotiation structure is of an unknown kind.
    UnknownNegotiation(u8),
}

/// Returns a connection request that offers these protocols. It has no cookie, and names nobody.
pub fn request(offered: u32) -> [u8; REQUEST_LEN] {
    let mut bytes = [
        0x03, 0x00, 0x00, 0x13, // TPKT: version 3, 19 bytes
        0x0e, 0xe0, 0x00, 0x00, 0x00, 0x00, 0x00, // X.224 connection request, class 0
        0x01, 0x00, 0x08, 0x00, 0, 0, 0, 0, // RDP_NEG_REQ, 8 bytes, protocols
    ];
    bytes[15..].copy_from_slice(&offered.to_le_bytes());
    bytes
}

/// Returns the length of the whole packet that begins with this TPKT header.
///
/// # Errors
/// [`ParseError`] when it is no TPKT header, or its length is not that of a confirm.
pub fn tpkt_length(header: &[u8; TPKT_LEN]) -> Result<usize, ParseError> {
    if header[0] != TPKT_VERSION || header[1] != 0 {
        return Err(ParseError::NotTpkt);
    }
    let length = u16::from_be_bytes([header[2], header[3]]);
    if (FIXED_LEN..=CONFIRM_MAX).contains(&usize::from(length)) {
        Ok(usize::from(length))
    } else {
        Err(ParseError::Length(length))
    }
}

/// Reads a whole packet, header included. The source reference is not checked: servers disagree about it.
///
/// # Errors
/// [`ParseError`] when it is not a connection confirm.
pub fn parse_confirm(packet: &[u8]) -> Result<Confirm, ParseError> {
    let header = packet.first_chunk().ok_or(ParseError::Short)?;
    let packet = packet.get(..tpkt_length(header)?).ok_or(ParseError::Short)?;
    if packet[5] & 0xf0 != CONNECTION_CONFIRM {
        return Err(ParseError::NotConfirm(packet[5]));
    }
    let negotiation = &packet[FIXED_LEN..];
    let Some(kind) = negotiation.first() else { return Ok(Confirm::Selected(Protocol::Rdp)) };
    let value = negotiation.get(4..8).and_then(|v| v.try_into().ok()).map(u32::from_le_bytes);
    match (*kind, value) {
        (NEGOTIATION_RESPONSE, Some(value)) => Ok(Confirm::Selected(Protocol::from_wire(value))),
        (NEGOTIATION_FAILURE, Some(value)) => Ok(Confirm::Refused(FailureCode::from_wire(value))),
        (NEGOTIATION_RESPONSE | NEGOTIATION_FAILURE, None) => Err(ParseError::Short),
        (kind, _) => Err(ParseError::UnknownNegotiation(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS_TLS: [u8; 19] = *b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x1f\x08\x00\x02\x00\x00\x00";
    const NO_CERTIFICATE: [u8; 19] = *b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x03\x00\x08\x00\x03\x00\x00\x00";
    const PLAIN: [u8; 11] = *b"\x03\x00\x00\x0b\x06\xd0\x00\x00\x12\x34\x00";

    #[test]
    fn the_request_is_the_one_of_the_specification() {
        let expected = *b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x0b\x00\x00\x00";
        assert_eq!(request(OFFERED), expected);
    }

    #[test]
    fn every_form_of_confirm_is_read() {
        assert_eq!(parse_confirm(&WINDOWS_TLS), Ok(Confirm::Selected(Protocol::CredSsp)));
        assert_eq!(parse_confirm(&NO_CERTIFICATE), Ok(Confirm::Refused(FailureCode::NoCertificate)));
        assert_eq!(parse_confirm(&PLAIN), Ok(Confirm::Selected(Protocol::Rdp)));
    }

    #[test]
    fn no_prefix_and_no_damage_of_a_confirm_panics() {
        for whole in [&WINDOWS_TLS[..], &NO_CERTIFICATE, &PLAIN] {
            for length in 0..whole.len() {
                assert_eq!(parse_confirm(&whole[..length]), Err(ParseError::Short), "{length}");
            }
            for at in 0..whole.len() {
                for byte in 0..=255 {
                    let mut damaged = whole.to_vec();
                    damaged[at] = byte;
                    let _ = parse_confirm(&damaged);
                }
            }
        }
    }

    #[test]
    fn other_services_are_told_apart() {
        assert_eq!(parse_confirm(b"SSH-2.0-OpenSSH_9.9\r\n"), Err(ParseError::NotTpkt));
        assert_eq!(parse_confirm(b"\x03\x00\xff\xff\x0e\xd0\0\0\0\0\0"), Err(ParseError::Length(0xffff)));
        assert_eq!(parse_confirm(b"\x03\x00\x00\x0b\x06\x80\0\0\0\0\0"), Err(ParseError::NotConfirm(0x80)));
    }
}
