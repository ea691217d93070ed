//! Typed ids: one newtype per thing that has an identity, so that no bare `u64`, `String` or `Uuid` crosses a module.
//!
//! Names that people choose (nodes, probes) follow the DNS label rule, because they become server names in
//! certificates; numbers that the cluster allots (managers, watchers) print with a letter, as `m1` and `w3`.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// The longest name of a node or probe, in bytes: one DNS label (RFC 1035, section 2.3.4).
pub const NAME_MAX: usize = 63;

/// Why a text is not the id that it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// A name broke the DNS label rule.
    #[error("{what} {value:?}: must be 1 to 63 of a-z, 0-9 and '-', and start and end with a letter or digit")]
    Name { what: &'static str, value: String },
    /// A number id lacks its letter or is no number.
    #[error("{what} {value:?}: must be {prefix:?} and a number from 1, as in {prefix}1")]
    Number { what: &'static str, prefix: char, value: String },
    /// A VM id is no UUID.
    #[error("vm {value:?}: must be a UUID such as 6f1c2a9e-0000-4000-8000-000000000001")]
    Uuid { value: String },
    /// A digest is not 64 hexadecimal digits.
    #[error("digest {value:?}: must be 64 hexadecimal digits (SHA-256)")]
    Digest { value: String },
}

fn is_label(s: &str) -> bool {
    let b = s.as_bytes();
    let inner = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    (1..=NAME_MAX).contains(&b.len()) && b.iter().all(inner) && b[0] != b'-' && b[b.len() - 1] != b'-'
}

/// The probes that come with vouch: most names of probes are one of these.
const SHIPPED_PROBES: [&str; 9] = ["ping", "tcp", "rdp", "guest-agent", "http", "dns", "ssh", "vnc", "spice"];
const NO_NAMES: [&str; 0] = [];

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $known:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the id of this name.
            ///
            /// # Errors
            /// [`IdError::Name`] when the name is not one DNS label in lower case.
            pub fn new(name: &str) -> Result<Self, IdError> {
                // One text for all of them: two that are the same are then told by their place, without a look at it.
                static KNOWN: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| $known.iter().copied().map(Arc::from).collect());
                if let Some(known) = KNOWN.iter().find(|known| ***known == *name) {
                    Ok(Self(Arc::clone(known)))
                } else if is_label(name) {
                    Ok(Self(name.into()))
                } else {
                    Err(IdError::Name { what: $what, value: name.chars().take(80).collect() })
                }
            }

            /// Returns the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(s: String) -> Result<Self, IdError> {
                Self::new(&s)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_id!(
    /// A compute node, by the name in its configuration.
    NodeId,
    "node",
    NO_NAMES
);
name_id!(
    /// A key whose signatures under probes the cluster trusts, by the name that it was added with.
    ProbeKeyName,
    "probe key",
    NO_NAMES
);
name_id!(
    /// A probe, by the name that its component describes itself with.
    ProbeName,
    "probe",
    SHIPPED_PROBES
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// Returns the id with this number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                let wrong = || IdError::Number { what: $what, prefix: $prefix, value: s.chars().take(80).collect() };
                let digits = s.strip_prefix($prefix).ok_or_else(wrong)?;
                if digits.is_empty() || digits.starts_with(['0', '+']) {
                    return Err(wrong());
                }
                digits.parse().map(Self).map_err(|_| wrong())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!("{}{}", $prefix, self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0)
            }
        }

        // Readable formats get `m1`, so that a person can paste it; the log gets the number.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_u64(self.0) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let s = String::deserialize(d)?;
                    s.parse().map_err(serde::de::Error::custom)
                } else {
                    u64::deserialize(d).map(Self)
                }
            }
        }
    };
}

number_id!(
    /// A manager of the control cluster, printed as `m1`. Also its Raft node id.
    ManagerId,
    "manager",
    'm'
);
number_id!(
    /// A watcher VM, numbered by the cluster and never reused, printed as `w1`.
    WatcherId,
    "watcher",
    'w'
);
number_id!(
    /// An incident, numbered by the cluster and never reused, printed as `i1`.
    IncidentId,
    "incident",
    'i'
);
number_id!(
    /// A maintenance window, numbered by the cluster and never reused, printed as `x1`.
    MaintenanceId,
    "maintenance window",
    'x'
);
number_id!(
    /// A join token, numbered by the cluster and never reused, printed as `t1`. It is no secret.
    JoinTokenId,
    "join token",
    't'
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Returns the counter at this value.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// Returns the value.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Returns the value after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

counter!(
    /// Placement generation of a VM: replicated, and moves with a migration.
    Generation
);
counter!(
    /// One start of a VM's process on its node; a later start has a greater id.
    StartId
);
counter!(
    /// One life of a process (node agent, watcher, manager); a later life has a greater number.
    Incarnation
);
counter!(
    /// Position in one sender's stream of reports; lower ones are dropped and counted.
    Sequence
);
counter!(
    /// Number that ties an answer to its ask.
    Nonce
);
counter!(
    /// Raft term.
    Term
);
counter!(
    /// Raft log index: the order of everything that is published.
    LogIndex
);
counter!(
    /// Generation of what a watcher is told to watch.
    AssignmentGeneration
);
counter!(
    /// Number of a manager's tick; what a sender echoes to show how fresh its word is.
    TickSequence
);
counter!(
    /// Version of a verdict or path state, raised by every recorded change.
    VerdictVersion
);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        // The order of its bytes, as one number: maps by id compare these millions of times a second.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.0.as_u128().cmp(&other.0.as_u128())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// Returns the id of this UUID.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the UUID.
            pub const fn get(self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                Uuid::parse_str(s).map(Self).map_err(|_| IdError::Uuid { value: s.chars().take(80).collect() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

uuid_id!(
    /// A VM that is watched, by the UUID that its hypervisor knows it by.
    VmId
);
uuid_id!(
    /// One boot of a node's operating system (`/proc/sys/kernel/random/boot_id`).
    BootId
);
uuid_id!(
    /// The cluster, made at its initialisation.
    ClusterId
);
uuid_id!(
    /// One log of one manager, drawn when that log is made: who loses the log loses the name.
    LogName
);

/// SHA-256 of a probe component or of a verdict's evidence, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the digest of these bytes, which are the hash itself.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first 12 digits, enough for a person to tell two apart.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Digest { value: s.chars().take(80).collect() };
        if s.len() != 64 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut out = [0; 32];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_stand_in_the_order_of_their_digits() {
        let id = |text: &str| text.parse::<VmId>().expect("a UUID");
        let mut ids = [
            id("ff000000-0000-4000-8000-000000000000"),
            id("00000000-0000-4000-8000-0000000000ff"),
            id("00000000-0000-4000-8000-000000000100"),
            id("0100-0000-0000-4000-8000000000000000".replace('-', "").as_str()),
        ];
        ids.sort();
        assert!(ids.map(|id| id.to_string()).is_sorted());
    }

    #[test]
    fn a_name_outside_the_label_rule_is_refused_with_its_value() {
        for bad in ["", "-a", "a-", "N1", "a.b", &"a".repeat(64)] {
            let e = NodeId::new(bad).expect_err("must be refused");
            assert!(e.to_string().contains("a-z"), "{e}");
        }
        assert_eq!(NodeId::new(&"a".repeat(63)).unwrap().as_str().len(), 63);
    }

    #[test]
    fn number_ids_print_and_parse_with_their_letter() {
        assert_eq!("m7".parse::<ManagerId>().unwrap(), ManagerId::new(7));
        assert_eq!(WatcherId::new(3).to_string(), "w3");
        for bad in ["7", "m", "m0", "w7", "m+1", "m-1", "m1x"] {
            assert!(bad.parse::<ManagerId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_survives_printing() {
        let d = Digest::new([0xab; 32]);
        assert_eq!(d.to_string().parse::<Digest>().unwrap(), d);
        assert!("ab".parse::<Digest>().is_err());
        assert!("zz".repeat(32).parse::<Digest>().is_err());
    }
}
