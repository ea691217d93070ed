//! What an SSH service says first, as bytes (RFC 4253, section 4.2). Pure.
//!
//! `SSH-protoversion-softwareversion SP comments CR LF`, and before it any lines that do not begin with `SSH-`, which servers
//! use to say something to people. A server that takes no more connections ends its words without an identification.

/// The longest identification string in bytes, its line's end included.
pub const IDENTIFICATION_MAX: usize = 255;
/// The most lines before it. RFC 4253 names no limit.
pub const LINES_MAX: usize = 64;
/// The longest of them in bytes, its end included.
pub const LINE_MAX: usize = 1024;

/// The most characters of a line that are shown.
const SHOWN_MAX: usize = 80;
const PREFIX: &[u8] = b"SSH-";

/// Version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// `2.0`.
    Two,
    /// `1.99`: a server that speaks both (RFC 4253, section 5.1).
    Both,
    /// Any other: too old, or not known.
    Other,
}

/// An identification string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identification {
    /// Version of the protocol, as `2.0`.
    pub protocol: String,
    /// Version of the software, as `OpenSSH_9.2p1`.
    pub software: String,
    /// What else it says, as `Debian-2`.
    pub comments: Option<String>,
}

impl Identification {
    /// Returns which version of the protocol is spoken.
    pub fn version(&self) -> Version {
        match self.protocol.as_str() {
            "2.0" => Version::Two,
            "1.99" => Version::Both,
            _ => Version::Other,
        }
    }
}

/// What has come so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Greeting {
    /// Not enough to say.
    Unfinished {
        /// The last whole line that was no identification, for people.
        said: Option<String>,
    },
    /// The identification.
    Identified(Identification),
    /// Something else.
    NotSsh(NotSsh),
}

/// Why what came is not the greeting of an SSH service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotSsh {
    /// More lines than [`LINES_MAX`] came before an identification.
    TooManyLines,
    /// A line before it is longer than [`LINE_MAX`].
    LineTooLong,
    /// The identification is longer than [`IDENTIFICATION_MAX`].
    IdentificationTooLong,
    /// There is a NUL in it.
    Nul,
    /// It lacks the version of the protocol or of the software.
    Malformed,
}

impl NotSsh {
    /// Returns it as a clause for people.
    pub fn describe(self) -> String {
        match self {
            Self::TooManyLines => format!("more than {LINES_MAX} lines came, and no identification"),
            Self::LineTooLong => format!("a line has more than {LINE_MAX} bytes"),
            Self::IdentificationTooLong => format!("the identification has more than {IDENTIFICATION_MAX} bytes"),
            Self::Nul => "there is a NUL byte in it".to_owned(),
            Self::Malformed => "the identification lacks a version".to_owned(),
        }
    }
}

/// Reads what a service has said so far. What comes after the identification is not looked at.
pub fn read_greeting(bytes: &[u8]) -> Greeting {
    let (mut rest, mut said) = (bytes, None);
    for _ in 0..=LINES_MAX {
        let is_identification = rest.starts_with(PREFIX);
        let most = if is_identification { IDENTIFICATION_MAX } else { LINE_MAX };
        let line_len = rest.iter().take(most).position(|byte| *byte == b'\n').map(|at| at + 1);
        let line = &rest[..line_len.unwrap_or(rest.len().min(most))];
        if line.contains(&0) {
            return Greeting::NotSsh(NotSsh::Nul);
        }
        match (line_len, is_identification) {
            (None, _) if rest.len() < most => return Greeting::Unfinished { said },
            (None, true) => return Greeting::NotSsh(NotSsh::IdentificationTooLong),
            (None, false) => return Greeting::NotSsh(NotSsh::LineTooLong),
            (Some(_), true) => {
                return identification(line).map_or(Greeting::NotSsh(NotSsh::Malformed), Greeting::Identified);
            }
            (Some(length), false) => {
                said = Some(shown(line));
                rest = &rest[length..];
            }
        }
    }
    Greeting::NotSsh(NotSsh::TooManyLines)
}

fn identification(line: &[u8]) -> Option<Identification> {
    // Old servers end the line with LF alone (RFC 4253, section 4.2).
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8_lossy(line.strip_prefix(PREFIX)?);
    let (protocol, rest) = text.split_once('-')?;
    let (software, comments) = rest.split_once(' ').map_or((rest, None), |(software, rest)| (software, Some(rest)));
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    (is_word(protocol) && is_word(software)).then(|| Identification {
        protocol: protocol.to_owned(),
        software: software.to_owned(),
        comments: comments.filter(|text| !text.is_empty()).map(ToOwned::to_owned),
    })
}

/// Returns the beginning of a line for people.
fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identified(bytes: &[u8]) -> Identification {
        match read_greeting(bytes) {
            Greeting::Identified(found) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_identification_is_taken_apart() {
        let found = identified(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10\r\nwhat follows");
        assert_eq!((found.protocol.as_str(), found.software.as_str()), ("2.0", "OpenSSH_9.2p1"));
        assert_eq!((found.comments.as_deref(), found.version()), (Some("Debian-2+deb12u10"), Version::Two));
        let bare = identified(b"SSH-1.99-Cisco-1.25\n");
        assert_eq!((bare.software.as_str(), bare.comments, bare.protocol.as_str()), ("Cisco-1.25", None, "1.99"));
        assert_eq!(identified(b"SSH-1.99-Cisco-1.25\n").version(), Version::Both);
        assert_eq!(identified(b"SSH-1.5-old\r\n").version(), Version::Other);
    }

    #[test]
    fn lines_before_it_are_passed_over_and_the_last_is_kept() {
        assert_eq!(identified(b"welcome\r\nto\r\nSSH-2.0-x\r\n").software, "x");
        let cut = read_greeting(b"welcome\r\nNot allowed at this time\r\n");
        assert_eq!(cut, Greeting::Unfinished { said: Some("Not allowed at this time".to_owned()) });
        assert_eq!(read_greeting(b"SSH-2.0-Open"), Greeting::Unfinished { said: None });
    }

    #[test]
    fn each_limit_is_kept() {
        let line = |length: usize| [vec![b'x'; length - 2], b"\r\n".to_vec()].concat();
        let then = |before: Vec<u8>| [before, b"SSH-2.0-x\r\n".to_vec()].concat();
        assert_eq!(identified(&then(line(LINE_MAX))).software, "x");
        assert_eq!(read_greeting(&then(line(LINE_MAX + 1))), Greeting::NotSsh(NotSsh::LineTooLong));
        assert_eq!(identified(&then(line(3).repeat(LINES_MAX))).software, "x");
        assert_eq!(read_greeting(&then(line(3).repeat(LINES_MAX + 1))), Greeting::NotSsh(NotSsh::TooManyLines));
        let long = |length: usize| [b"SSH-2.0-".to_vec(), line(length - 8)].concat();
        assert_eq!(identified(&long(IDENTIFICATION_MAX)).software.len(), IDENTIFICATION_MAX - 10);
        assert_eq!(read_greeting(&long(IDENTIFICATION_MAX + 1)), Greeting::NotSsh(NotSsh::IdentificationTooLong));
    }

    #[test]
    fn what_is_malformed_is_not_ssh() {
        for bytes in [&b"SSH-2.0\r\n"[..], b"SSH-2.0-\r\n", b"SSH--x\r\n", b"SSH-2.0-\xff\r\n"] {
            assert_eq!(read_greeting(bytes), Greeting::NotSsh(NotSsh::Malformed), "{bytes:?}");
        }
        assert_eq!(read_greeting(b"SSH-2.0-a\0b\r\n"), Greeting::NotSsh(NotSsh::Nul));
    }

    proptest! {
        #[test]
        fn bytes_that_come_later_never_change_what_was_said(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'S'), any::<u8>()], 0..400),
            ident in any::<bool>(),
            cut in 0..400usize,
        ) {
            let bytes = if ident { [b"SSH-2.0-".to_vec(), bytes].concat() } else { bytes };
            let early = read_greeting(&bytes[..cut.min(bytes.len())]);
            if !matches!(early, Greeting::Unfinished { .. }) {
                prop_assert_eq!(early, read_greeting(&bytes));
            }
        }
    }
}
