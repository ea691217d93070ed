//! One heartbeat as bytes: the layout of the module's head, its authentication, and every way to refuse one.

use std::fmt;
use std::time::Duration;

use ring::hmac;
use thiserror::Error;
use vouch_types::Incarnation;

use super::arrivals::{LossCount, WINDOW};
use crate::convert::{ConvertError, present};
use crate::proto;

/// Length of every heartbeat in bytes.
pub const HEARTBEAT_LEN: usize = 80;
/// Length of a key in bytes.
pub const KEY_LEN: usize = 32;

const VERSION: u8 = 1;
/// Where the HMAC begins: it covers all before it.
const TAG_AT: usize = 48;
const FLAG_READ_AGE: u8 = 1;

/// Names one agreed key, among all of one manager's process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeartbeatSession(u64);

impl HeartbeatSession {
    /// Returns the session of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for HeartbeatSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A manager.
    Manager,
    /// A node.
    Node,
}

impl Role {
    /// Returns the role of the other side.
    pub const fn other(self) -> Self {
        match self {
            Self::Manager => Self::Node,
            Self::Node => Self::Manager,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Manager => 1,
            Self::Node => 2,
        }
    }
}

/// Why a heartbeat is dropped.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum HeartbeatError {
    /// It does not have the one length.
    #[error("heartbeat of {0} bytes: must be {HEARTBEAT_LEN}")]
    Length(usize),
    /// Another version.
    #[error("heartbeat of version {0}: must be {VERSION}")]
    Version(u8),
    /// Nobody agreed on its session, or a later one replaced it.
    #[error("heartbeat of session {0:?}, which is not known")]
    UnknownSession(HeartbeatSession),
    /// Its HMAC does not hold.
    #[error("heartbeat whose HMAC does not hold")]
    Forged,
    /// A field breaks the layout.
    #[error("heartbeat field {field}: {value}: {rule}")]
    Field {
        /// Which.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        rule: &'static str,
    },
    /// It is of another life of the sender.
    #[error("heartbeat of incarnation {found}: must be {wanted}")]
    OtherLife {
        /// Of which.
        found: Incarnation,
        /// Of which it must be.
        wanted: Incarnation,
    },
    /// It came before, or is too old to tell.
    #[error("heartbeat {sequence} came before, or is too old: the highest is {highest}")]
    Replayed {
        /// Its sequence.
        sequence: u64,
        /// The highest that came.
        highest: u64,
    },
}

impl HeartbeatError {
    /// Returns the reason as one word, for counters.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Length(_) | Self::Version(_) | Self::Field { .. } => "malformed",
            Self::UnknownSession(_) => "unknown_session",
            Self::Forged => "forged",
            Self::OtherLife { .. } => "other_life",
            Self::Replayed { .. } => "replayed",
        }
    }
}

/// One heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Who sends.
    pub role: Role,
    /// Under which key.
    pub session: HeartbeatSession,
    /// The sender's life.
    pub incarnation: Incarnation,
    /// Its position in that life, from 1.
    pub sequence: u64,
    /// The highest sequence heard from the other side, 0 for none.
    pub heard: u64,
    /// How many of the other side's newest arrived.
    pub count: LossCount,
    /// Age of the node's last read of its hypervisor; `None` before the first, and from managers. Whole milliseconds.
    pub read_age: Option<Duration>,
}

/// Returns the session that a datagram names, unchecked: it says which key to check it with.
///
/// # Errors
/// [`HeartbeatError::Length`] or [`HeartbeatError::Version`].
pub fn session_of(datagram: &[u8]) -> Result<HeartbeatSession, HeartbeatError> {
    let bytes = sized(datagram)?;
    Ok(HeartbeatSession(number(bytes, 8)))
}

fn sized(datagram: &[u8]) -> Result<&[u8; HEARTBEAT_LEN], HeartbeatError> {
    let bytes: &[u8; HEARTBEAT_LEN] = datagram.try_into().map_err(|_| HeartbeatError::Length(datagram.len()))?;
    if bytes[0] == VERSION { Ok(bytes) } else { Err(HeartbeatError::Version(bytes[0])) }
}

fn number(bytes: &[u8; HEARTBEAT_LEN], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A key that two sides agreed on. Never printed.
#[derive(Clone)]
pub struct HeartbeatKey(hmac::Key);

impl fmt::Debug for HeartbeatKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeartbeatKey")
    }
}

impl HeartbeatKey {
    /// Returns the key of these bytes.
    pub fn new(bytes: &[u8; KEY_LEN]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Returns a heartbeat as bytes, authenticated.
    pub fn seal(&self, heartbeat: &Heartbeat) -> [u8; HEARTBEAT_LEN] {
        let mut bytes = [0; HEARTBEAT_LEN];
        bytes[0] = VERSION;
        bytes[1] = heartbeat.role.byte();
        bytes[3] = heartbeat.count.arrived;
        bytes[4] = heartbeat.count.expected;
        bytes[8..16].copy_from_slice(&heartbeat.session.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&heartbeat.incarnation.get().to_be_bytes());
        bytes[24..32].copy_from_slice(&heartbeat.sequence.to_be_bytes());
        bytes[32..40].copy_from_slice(&heartbeat.heard.to_be_bytes());
        if let Some(age) = heartbeat.read_age {
            bytes[2] = FLAG_READ_AGE;
            let millis = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
            bytes[40..44].copy_from_slice(&millis.to_be_bytes());
        }
        let tag = hmac::sign(&self.0, &bytes[..TAG_AT]);
        bytes[TAG_AT..].copy_from_slice(tag.as_ref());
        bytes
    }

    /// Returns the heartbeat of a datagram that was sealed with this key.
    ///
    /// # Errors
    /// [`HeartbeatError`]; nothing of its fields is believed before its HMAC was checked.
    pub fn open(&self, datagram: &[u8]) -> Result<Heartbeat, HeartbeatError> {
        let bytes = sized(datagram)?;
        hmac::verify(&self.0, &bytes[..TAG_AT], &bytes[TAG_AT..]).map_err(|_| HeartbeatError::Forged)?;
        let refuse = |field, value: u64, rule| Err(HeartbeatError::Field { field, value, rule });
        let role = match bytes[1] {
            1 => Role::Manager,
            2 => Role::Node,
            other => return refuse("role", other.into(), "must be 1 (manager) or 2 (node)"),
        };
        let has_age = bytes[2] == FLAG_READ_AGE;
        if bytes[2] & !FLAG_READ_AGE != 0 {
            return refuse("flags", bytes[2].into(), "must be 0 or 1");
        }
        let millis = number(bytes, 40) >> 32;
        if number(bytes, 0) & 0xff_ffff != 0 || number(bytes, 40) & 0xffff_ffff != 0 {
            return refuse("padding", 1, "must be zero");
        }
        if has_age && role == Role::Manager || !has_age && millis != 0 {
            return refuse("read_age", millis, "must be a node's, with its flag");
        }
        let count = LossCount { arrived: bytes[3], expected: bytes[4] };
        if count.arrived > count.expected || count.expected > WINDOW {
            return refuse("arrived", count.arrived.into(), "must be at most `expected`, and that at most 64");
        }
        let (sequence, heard) = (number(bytes, 24), number(bytes, 32));
        if sequence == 0 {
            return refuse("sequence", 0, "must be at least 1");
        }
        Ok(Heartbeat {
            role,
            session: HeartbeatSession(number(bytes, 8)),
            incarnation: Incarnation::new(number(bytes, 16)),
            sequence,
            heard,
            count,
            read_age: has_age.then(|| Duration::from_millis(millis)),
        })
    }
}

/// What a manager's welcome says of heartbeats: the key of one stream, and its name.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// Its name.
    pub session: HeartbeatSession,
    /// The key.
    pub key: HeartbeatKey,
}

impl Agreement {
    /// Returns the message that tells an agreement.
    pub fn message(session: HeartbeatSession, key: &[u8; KEY_LEN]) -> proto::Heartbeats {
        proto::Heartbeats { session: session.get(), key: key.to_vec() }
    }
}

impl TryFrom<proto::Heartbeats> for Agreement {
    type Error = ConvertError;
    fn try_from(m: proto::Heartbeats) -> Result<Self, ConvertError> {
        // A wrong key is not repeated: it may be most of a right one.
        let key: Option<[u8; KEY_LEN]> = m.key.as_slice().try_into().ok();
        let key = present("welcome.heartbeats.key of 32 bytes", key)?;
        Ok(Self { session: HeartbeatSession::new(m.session), key: HeartbeatKey::new(&key) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            role: Role::Node,
            session: HeartbeatSession::new(0x0102_0304_0506_0708),
            incarnation: Incarnation::new(3),
            sequence: 9,
            heard: 7,
            count: LossCount { arrived: 5, expected: 6 },
            read_age: Some(Duration::from_millis(258)),
        }
    }

    fn key() -> HeartbeatKey {
        HeartbeatKey::new(&[7; KEY_LEN])
    }

    #[test]
    fn the_bytes_are_those_of_the_documented_layout() {
        let bytes = key().seal(&heartbeat());
        assert_eq!(bytes[..8], [1, 2, 1, 5, 6, 0, 0, 0]);
        assert_eq!(bytes[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[16..24], [0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(bytes[24..32], [0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(bytes[32..40], [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(bytes[40..48], [0, 0, 1, 2, 0, 0, 0, 0]);
        assert_eq!(session_of(&bytes), Ok(HeartbeatSession::new(0x0102_0304_0506_0708)));
        const { assert!(HEARTBEAT_LEN <= 128) };
    }

    #[test]
    fn a_key_is_not_printed_and_one_of_another_length_is_refused() {
        let agreement = Agreement { session: HeartbeatSession::new(1), key: key() };
        assert!(!format!("{agreement:?}").contains('7'));
        let refused = Agreement::try_from(proto::Heartbeats { session: 1, key: vec![9; 31] }).expect_err("refused");
        assert!(refused.to_string().contains("32 bytes"), "{refused}");
    }

    #[test]
    fn a_field_that_breaks_the_layout_is_named_though_its_hmac_holds() {
        let reseal = |change: &dyn Fn(&mut [u8; HEARTBEAT_LEN])| {
            let mut bytes = key().seal(&heartbeat());
            change(&mut bytes);
            let tag = hmac::sign(&key().0, &bytes[..TAG_AT]);
            bytes[TAG_AT..].copy_from_slice(tag.as_ref());
            key().open(&bytes).expect_err("must be refused").to_string()
        };
        type Change<'a> = &'a dyn Fn(&mut [u8; HEARTBEAT_LEN]);
        let cases: [(Change<'_>, &str); 7] = [
            (&|b| b[1] = 3, "role"),
            (&|b| b[1] = 1, "read_age"),
            (&|b| b[2] = 2, "flags"),
            (&|b| b[2] = 0, "read_age"),
            (&|b| b[3] = 7, "arrived"),
            (&|b| b[6] = 1, "padding"),
            (&|b| b[24..32].fill(0), "sequence"),
        ];
        for (change, field) in cases {
            let refused = reseal(change);
            assert!(refused.contains(field), "{refused}");
        }
    }

    fn any_heartbeat() -> impl Strategy<Value = Heartbeat> {
        let numbers = (any::<u64>(), any::<u64>(), 1..=u64::MAX, any::<u64>());
        (numbers, 0..=WINDOW, 0..=WINDOW, proptest::option::of(any::<u32>())).prop_map(|(n, a, b, age)| Heartbeat {
            role: if age.is_some() { Role::Node } else { Role::Manager },
            session: HeartbeatSession::new(n.0),
            incarnation: Incarnation::new(n.1),
            sequence: n.2,
            heard: n.3,
            count: LossCount { arrived: a.min(b), expected: a.max(b) },
            read_age: age.map(|ms| Duration::from_millis(ms.into())),
        })
    }

    proptest! {
        #[test]
        fn a_heartbeat_survives_the_way(heartbeat in any_heartbeat()) {
            prop_assert_eq!(key().open(&key().seal(&heartbeat)), Ok(heartbeat));
        }

        #[test]
        fn arbitrary_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(key().open(&bytes).is_err());
            let _ = session_of(&bytes);
        }

        #[test]
        fn a_flipped_bit_is_refused(heartbeat in any_heartbeat(), bit in 0..HEARTBEAT_LEN * 8) {
            let mut bytes = key().seal(&heartbeat);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(key().open(&bytes).is_err());
        }

        #[test]
        fn another_key_opens_nothing(heartbeat in any_heartbeat(), other in any::<[u8; KEY_LEN]>()) {
            prop_assume!(other != [7; KEY_LEN]);
            prop_assert_eq!(HeartbeatKey::new(&other).open(&key().seal(&heartbeat)), Err(HeartbeatError::Forged));
        }
    }
}
