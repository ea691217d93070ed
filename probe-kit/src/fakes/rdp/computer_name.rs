//! The name of a fake desktop, as its challenge tells it.

use std::fmt;
use std::str::FromStr;

/// The longest NetBIOS name of a computer, in bytes.
pub const COMPUTER_NAME_MAX: usize = 15;

/// A NetBIOS name of a computer: 1 to 15 letters, digits and dashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ComputerName {
    bytes: [u8; COMPUTER_NAME_MAX],
    length: usize,
}

/// A text that is no name of a computer.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
#[error("computer name {given:?}: must be 1 to {COMPUTER_NAME_MAX} letters, digits and dashes")]
pub struct NotComputerName {
    given: String,
}

impl ComputerName {
    /// The name of a fake that is given none.
    pub const FAKE_DESKTOP: Self = Self { bytes: *b"FAKE-DESKTOP\0\0\0", length: 12 };

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).expect("it has ASCII only")
    }
}

impl Default for ComputerName {
    fn default() -> Self {
        Self::FAKE_DESKTOP
    }
}

impl FromStr for ComputerName {
    type Err = NotComputerName;
    fn from_str(given: &str) -> Result<Self, NotComputerName> {
        let fits = (1..=COMPUTER_NAME_MAX).contains(&given.len());
        if fits && given.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            let mut bytes = [0; COMPUTER_NAME_MAX];
            bytes[..given.len()].copy_from_slice(given.as_bytes());
            Ok(Self { bytes, length: given.len() })
        } else {
            Err(NotComputerName { given: given.chars().take(80).collect() })
        }
    }
}

impl fmt::Display for ComputerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_1_to_15_letters_digits_and_dashes() {
        for name in ["D", "DESK-1", "ABCDEFGHIJ12345"] {
            assert_eq!(name.parse::<ComputerName>().unwrap().as_str(), name);
        }
        assert_eq!(ComputerName::default().to_string(), "FAKE-DESKTOP");
        for wrong in ["", "ABCDEFGHIJ123456", "DESK_1", "DÉSK"] {
            let refused = wrong.parse::<ComputerName>().unwrap_err().to_string();
            assert!(refused.ends_with("must be 1 to 15 letters, digits and dashes"), "{refused}");
        }
    }
}
