//! The owner of a certificate: role and id, as its one name says.

use std::fmt;

use rustls_pki_types::{CertificateDer, ServerName};
use vouch_types::{ManagerId, NodeId, WatcherId};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::PkiError;

const SUFFIX: &str = "vouch";

/// What a part of vouch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A manager.
    Manager,
    /// A compute node.
    Node,
    /// A watcher VM.
    Watcher,
}

impl Role {
    /// Returns the word for it, which is also the middle of its server name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Node => "node",
            Self::Watcher => "watcher",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The owner of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerIdentity {
    /// This manager.
    Manager(ManagerId),
    /// This compute node.
    Node(NodeId),
    /// This watcher.
    Watcher(WatcherId),
}

impl PeerIdentity {
    /// Returns its role.
    pub const fn role(&self) -> Role {
        match self {
            Self::Manager(_) => Role::Manager,
            Self::Node(_) => Role::Node,
            Self::Watcher(_) => Role::Watcher,
        }
    }

    /// Returns its server name, as `m1.manager.vouch`.
    pub fn server_name(&self) -> String {
        let role = self.role();
        match self {
            Self::Manager(id) => format!("{id}.{role}.{SUFFIX}"),
            Self::Node(id) => format!("{id}.{role}.{SUFFIX}"),
            Self::Watcher(id) => format!("{id}.{role}.{SUFFIX}"),
        }
    }

    /// Returns the owner that a server name says.
    ///
    /// # Errors
    /// [`PkiError::Name`] when it is not `ID.ROLE.vouch` with an id of that role.
    pub fn from_server_name(name: &str) -> Result<Self, PkiError> {
        let wrong = || PkiError::Name { name: name.chars().take(160).collect() };
        let mut labels = name.split('.');
        let (Some(id), Some(role), Some(SUFFIX), None) = (labels.next(), labels.next(), labels.next(), labels.next())
        else {
            return Err(wrong());
        };
        match role {
            "manager" => id.parse().map(Self::Manager).map_err(|_| wrong()),
            "node" => id.parse().map(Self::Node).map_err(|_| wrong()),
            "watcher" => id.parse().map(Self::Watcher).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    /// Returns the owner that a certificate names. The chain must have been verified already.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when it cannot be parsed, [`PkiError::Name`] unless it has exactly one name, of a part
    /// of vouch.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, PkiError> {
        let malformed = |e: &dyn fmt::Display| PkiError::Certificate(e.to_string());
        let (_, parsed) =
            x509_parser::certificate::X509Certificate::from_der(certificate).map_err(|e| malformed(&e))?;
        let san = parsed.subject_alternative_name().map_err(|e| malformed(&e))?;
        let names = san.map(|s| s.value.general_names.as_slice()).unwrap_or_default();
        match names {
            [GeneralName::DNSName(name)] => Self::from_server_name(name),
            other => Err(PkiError::Name { name: format!("{} names", other.len()) }),
        }
    }

    pub(crate) fn tls_name(&self) -> ServerName<'static> {
        // Ids are DNS labels or a letter with digits, so this cannot fail.
        ServerName::try_from(self.server_name()).expect("ids make valid DNS names")
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.server_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_tell_role_and_id_both_ways() {
        for (identity, name) in [
            (PeerIdentity::Manager(ManagerId::new(1)), "m1.manager.vouch"),
            (PeerIdentity::Node(NodeId::new("n1").unwrap()), "n1.node.vouch"),
            (PeerIdentity::Watcher(WatcherId::new(12)), "w12.watcher.vouch"),
        ] {
            assert_eq!(identity.server_name(), name);
            assert_eq!(PeerIdentity::from_server_name(name).unwrap(), identity);
        }
    }

    #[test]
    fn a_name_that_is_no_part_of_vouch_is_refused_with_the_rule() {
        for bad in ["m1", "m1.manager", "m1.manager.example", "x.m1.manager.vouch", "w1.manager.vouch", "n1.root.vouch"]
        {
            let e = PeerIdentity::from_server_name(bad).expect_err("must be refused").to_string();
            assert!(e.contains(bad) && e.contains("ID.manager.vouch"), "{e}");
        }
    }

    #[test]
    fn the_longest_node_name_still_makes_a_server_name() {
        let identity = PeerIdentity::Node(NodeId::new(&"n".repeat(63)).unwrap());
        assert_eq!(identity.tls_name().to_str(), identity.server_name());
    }
}
