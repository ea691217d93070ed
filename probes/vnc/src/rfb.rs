//! The words of the RFB handshake (RFC 6143, sections 7.1.1 and 7.1.2, and its registry of security types). Pure.

use std::fmt;

/// Length of a version message: `RFB 003.008` and a line's end.
pub const VERSION_LEN: usize = 12;

/// A version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RfbVersion {
    /// Before the dot.
    pub major: u16,
    /// After the dot.
    pub minor: u16,
}

impl RfbVersion {
    /// The version whose server chooses the security type itself.
    pub const V3_3: Self = Self { major: 3, minor: 3 };
    /// The first version with a list of security types.
    pub const V3_7: Self = Self { major: 3, minor: 7 };
    /// The newest version.
    pub const V3_8: Self = Self { major: 3, minor: 8 };

    /// Reads a version message; `None` if it is something else.
    pub fn from_message(message: &[u8; VERSION_LEN]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?.strip_prefix("RFB ")?.strip_suffix('\n')?;
        let (major, minor) = text.split_once('.')?;
        let number = |digits: &str| {
            (digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
        };
        Some(Self { major: number(major)?, minor: number(minor)? })
    }

    /// Returns the version to answer with: the highest of 3.3, 3.7 and 3.8 that the server has. Others were never
    /// published, and count as 3.3 below 3.7 (section 7.1.1); newer ones, as Apple's 3.889, know 3.8.
    pub fn answer(self) -> Option<Self> {
        [Self::V3_8, Self::V3_7, Self::V3_3].into_iter().find(|known| *known <= self)
    }

    /// Returns it as a version message.
    pub fn message(self) -> [u8; VERSION_LEN] {
        let mut message = *b"RFB 000.000\n";
        for (at, number) in [(4, self.major), (8, self.minor)] {
            let digits = format!("{:03}", number.min(999));
            message[at..at + 3].copy_from_slice(digits.as_bytes());
        }
        message
    }
}

impl fmt::Display for RfbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RFB {}.{}", self.major, self.minor)
    }
}

/// A way to log in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SecurityType(pub u8);

impl fmt::Display for SecurityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "none",
            2 => "vnc_authentication",
            5 => "ra2",
            6 => "ra2ne",
            16 => "tight",
            17 => "ultra",
            18 => "tls",
            19 => "vencrypt",
            20 => "sasl",
            21 => "md5",
            22 => "xvp",
            30 => "apple_remote_desktop",
            other => return write!(f, "type_{other}"),
        })
    }
}

/// Returns the names of security types, each once, in the order of the server.
pub fn names(types: &[SecurityType]) -> String {
    let mut names: Vec<String> = Vec::new();
    for name in types.iter().map(SecurityType::to_string) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_read_and_answered_with_one_that_both_know() {
        let of = |text: &[u8; VERSION_LEN]| RfbVersion::from_message(text).unwrap();
        for (message, answer) in [
            (b"RFB 003.003\n", Some(RfbVersion::V3_3)),
            (b"RFB 003.005\n", Some(RfbVersion::V3_3)),
            (b"RFB 003.007\n", Some(RfbVersion::V3_7)),
            (b"RFB 003.008\n", Some(RfbVersion::V3_8)),
            (b"RFB 003.889\n", Some(RfbVersion::V3_8)),
            (b"RFB 005.000\n", Some(RfbVersion::V3_8)),
            (b"RFB 002.000\n", None),
        ] {
            assert_eq!(of(message).answer(), answer, "{message:?}");
        }
        assert_eq!(of(b"RFB 003.889\n").to_string(), "RFB 3.889");
        for message in [b"RFB 003.08 \n", b"RFB 003,008\n", b"SSH-2.0-Open", b"RFB 003.008\r", b"RFB +03.008\n"] {
            assert_eq!(RfbVersion::from_message(message), None, "{message:?}");
        }
    }

    #[test]
    fn security_types_have_the_names_of_the_registry() {
        let types = [1, 2, 19, 99, 2].map(SecurityType);
        assert_eq!(names(&types), "none, vnc_authentication, vencrypt, type_99");
    }

    proptest! {
        #[test]
        fn a_version_is_read_back_from_its_message(major in 0..1000u16, minor in 0..1000u16) {
            let version = RfbVersion { major, minor };
            prop_assert_eq!(RfbVersion::from_message(&version.message()), Some(version));
        }

        #[test]
        fn no_bytes_make_it_panic(message in any::<[u8; VERSION_LEN]>()) {
            let _ = RfbVersion::from_message(&message);
        }
    }
}
