//! The first two messages of NTLM as bytes (MS-NLMP 2.2.1.1, 2.2.1.2): what asks for a challenge, and the challenge.
//!
//! The third one would be a login, and is not here. Nothing in the first names anybody; of the second, what the server says
//! of itself is read, and its challenge is not: there is nothing to answer it with.

use std::fmt;

/// What every message begins with.
pub const SIGNATURE: [u8; 8] = *b"NTLMSSP\0";
/// Length of the message that is sent.
pub const NEGOTIATE_LEN: usize = 40;
/// The longest name that is told, in UTF-16 units: that of a DNS name (RFC 1035).
pub const NAME_MAX: usize = 255;

const NEGOTIATE: u32 = 1;
const CHALLENGE: u32 = 2;

/// Flags (MS-NLMP 2.2.2.5): Unicode, the target's name, signing and sealing, as CredSSP needs them, extended session
/// security, the version, and keys of 128 and 56 bits that are exchanged.
const FLAGS: u32 = 0xe208_8235;
const FLAG_VERSION: u32 = 0x0200_0000;

/// A version as clients of Windows 10 say it, in the form of MS-NLMP 2.2.2.10; servers use it for nothing.
const CLIENT_VERSION: [u8; 8] = [10, 0, 0x63, 0x45, 0, 0, 0, 15];

/// Where the parts of a challenge stand. A server of before 2000 ends it before the pairs.
const FLAGS_AT: usize = 20;
const TARGET_INFO_AT: usize = 40;
const VERSION_AT: usize = 48;
/// The shortest challenge: up to its reserved bytes.
const CHALLENGE_MIN: usize = 32;

/// Ids of pairs (MS-NLMP 2.2.2.1).
const END: u16 = 0;
const NETBIOS_COMPUTER: u16 = 1;
const NETBIOS_DOMAIN: u16 = 2;
const DNS_COMPUTER: u16 = 3;

/// Version of the server's operating system (MS-NLMP 2.2.2.10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OsVersion {
    /// Its major number.
    pub major: u8,
    /// Its minor number.
    pub minor: u8,
    /// Its build.
    pub build: u16,
}

impl fmt::Display for OsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// What a challenge says of who sent it. Each may be missing; nobody has proved any of it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Challenge {
    /// NetBIOS name of the computer.
    pub netbios_computer: Option<String>,
    /// NetBIOS name of its domain; of a computer that is in none, that of the computer.
    pub netbios_domain: Option<String>,
    /// DNS name of the computer.
    pub dns_computer: Option<String>,
    /// Version of its operating system.
    pub os_version: Option<OsVersion>,
}

impl Challenge {
    /// Returns who it is by its names, the case of which means nothing; `None` if it has none.
    pub fn identity(&self) -> Option<String> {
        match (&self.netbios_computer, &self.dns_computer) {
            (None, None) => None,
            (netbios, dns) => {
                let name = |name: &Option<String>| name.as_deref().unwrap_or_default().to_ascii_lowercase();
                Some(format!("{}/{}", name(netbios), name(dns)))
            }
        }
    }
}

/// Why bytes are not a challenge.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
pub enum NtlmError {
    /// They do not begin as NTLM does.
    #[error("it is not NTLM")]
    NotNtlm,
    /// They are another message.
    #[error("message {0} of NTLM stands where the challenge (2) belongs")]
    NotChallenge(u32),
    /// They end too early, or a part of them stands outside.
    #[error("the challenge is cut short")]
    Short,
}

/// Returns the message that asks for a challenge.
pub fn negotiate() -> [u8; NEGOTIATE_LEN] {
    let mut bytes = [0; NEGOTIATE_LEN];
    bytes[..8].copy_from_slice(&SIGNATURE);
    bytes[8..12].copy_from_slice(&NEGOTIATE.to_le_bytes());
    bytes[12..16].copy_from_slice(&FLAGS.to_le_bytes());
    // Domain and workstation stay empty: a check is nobody's login.
    bytes[32..].copy_from_slice(&CLIENT_VERSION);
    bytes
}

/// Reads a challenge.
///
/// # Errors
/// [`NtlmError`] when it is none.
pub fn parse_challenge(bytes: &[u8]) -> Result<Challenge, NtlmError> {
    if !bytes.starts_with(&SIGNATURE) {
        return Err(NtlmError::NotNtlm);
    }
    let kind = u32_at(bytes, SIGNATURE.len()).ok_or(NtlmError::Short)?;
    if kind != CHALLENGE {
        return Err(NtlmError::NotChallenge(kind));
    }
    if bytes.len() < CHALLENGE_MIN {
        return Err(NtlmError::Short);
    }
    let flags = u32_at(bytes, FLAGS_AT).ok_or(NtlmError::Short)?;
    let mut challenge = match u16_at(bytes, TARGET_INFO_AT).zip(u32_at(bytes, TARGET_INFO_AT + 4)) {
        Some((length, offset)) if length > 0 => {
            let from = usize::try_from(offset).map_err(|_| NtlmError::Short)?;
            let to = from.checked_add(usize::from(length)).ok_or(NtlmError::Short)?;
            parse_pairs(bytes.get(from..to).ok_or(NtlmError::Short)?)?
        }
        Some(_) | None => Challenge::default(),
    };
    if flags & FLAG_VERSION != 0
        && let Some([major, minor, low, high]) = bytes.get(VERSION_AT..VERSION_AT + 4)
    {
        let build = u16::from_le_bytes([*low, *high]);
        challenge.os_version = Some(OsVersion { major: *major, minor: *minor, build });
    }
    Ok(challenge)
}

/// Reads the pairs of a challenge. Those that this probe has no use for are passed over.
fn parse_pairs(mut pairs: &[u8]) -> Result<Challenge, NtlmError> {
    let mut challenge = Challenge::default();
    while let Some(id) = u16_at(pairs, 0).filter(|id| *id != END) {
        let end = 4 + usize::from(u16_at(pairs, 2).ok_or(NtlmError::Short)?);
        let value = pairs.get(4..end).ok_or(NtlmError::Short)?;
        match id {
            NETBIOS_COMPUTER => challenge.netbios_computer = name(value),
            NETBIOS_DOMAIN => challenge.netbios_domain = name(value),
            DNS_COMPUTER => challenge.dns_computer = name(value),
            _ => {}
        }
        pairs = &pairs[end..];
    }
    Ok(challenge)
}

/// Returns a name in UTF-16; `None` for an empty one, and for one that is longer than a name can be. No name has control
/// characters, and whoever sends them writes to the terminals on which names are shown.
fn name(value: &[u8]) -> Option<String> {
    let units = value.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let shown = |unit: Result<char, _>| match unit {
        Ok(letter) if !letter.is_control() => letter,
        Ok(_) | Err(_) => char::REPLACEMENT_CHARACTER,
    };
    (1..=NAME_MAX).contains(&units.len()).then(|| char::decode_utf16(units).map(shown).collect())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests;
