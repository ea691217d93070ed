//! What an operator grants a probe: which interfaces, over which networks, to which ports.
//!
//! A component's imports say what it is able to do; the grant says what it may. Both are lists, compared here and nowhere
//! else: at the upload by the manager, before a push by the command line, and before every run by the watcher. Logging,
//! clocks, random numbers and what the standard library of every guest names reach nothing, and need no grant.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Network, ProbeImports};

/// The most ports that one grant may name.
pub const GRANT_PORTS_MAX: usize = 64;

/// The word for the ports that a VM's settings name.
pub const PORTS_OF_SETTINGS: &str = "settings";

/// An interface by which a probe reaches something, and so has to be granted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeInterface {
    /// TCP and UDP to the target (`wasi:sockets`), and the handshake alone by the host (`vouch:probe/tcp`).
    Sockets,
    /// Echo requests to the target (`vouch:probe/icmp`).
    Icmp,
    /// Questions to the guest agent of the target (`vouch:probe/guest-agent`).
    GuestAgent,
    /// TLS connections to the target (`vouch:probe/tls`).
    Tls,
}

impl ProbeInterface {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sockets, Self::Icmp, Self::GuestAgent, Self::Tls];

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::Icmp => "icmp",
            Self::GuestAgent => "guest-agent",
            Self::Tls => "tls",
        }
    }

    /// Returns what has to be granted for an import, by its full name; `None` for one that reaches nothing.
    pub fn of_import(import: &str) -> Option<Self> {
        match import.split('@').next().unwrap_or(import) {
            "vouch:probe/icmp" => Some(Self::Icmp),
            "vouch:probe/guest-agent" => Some(Self::GuestAgent),
            "vouch:probe/tls" => Some(Self::Tls),
            // What a probe can do with it, it can do with sockets; a word of its own would be one more for no less.
            "vouch:probe/tcp" => Some(Self::Sockets),
            other => other.starts_with("wasi:sockets/").then_some(Self::Sockets),
        }
    }

    /// Returns whether it connects to ports of the target.
    pub const fn has_ports(self) -> bool {
        match self {
            Self::Sockets | Self::Tls => true,
            Self::Icmp | Self::GuestAgent => false,
        }
    }
}

impl fmt::Display for ProbeInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ProbeInterface {
    type Err = GrantError;
    fn from_str(text: &str) -> Result<Self, GrantError> {
        let known = Self::ALL.into_iter().find(|interface| interface.as_str() == text);
        known.ok_or_else(|| GrantError::new("interfaces", text, "must be sockets, icmp, guest-agent or tls"))
    }
}

/// The ports of the target that are granted, for [`ProbeInterface::Sockets`] and [`ProbeInterface::Tls`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbePorts {
    /// The `port` of the settings that a VM gives the probe; without one, those that the component describes.
    #[default]
    Settings,
    /// These and no others, whatever the settings say.
    Only(BTreeSet<u16>),
}

/// What an operator grants a probe.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProbeGrant {
    /// Interfaces by which it may reach its target.
    pub interfaces: BTreeSet<ProbeInterface>,
    /// Networks over which it may.
    pub networks: BTreeSet<Network>,
    /// Ports that it may connect to.
    pub ports: ProbePorts,
}

/// A grant that breaks a rule.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{field} {value:?}: {rule}")]
pub struct GrantError {
    /// Which part: `interfaces`, `networks` or `ports`.
    pub field: &'static str,
    /// What it was.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

impl GrantError {
    fn new(field: &'static str, value: &str, rule: impl Into<String>) -> Self {
        Self { field, value: value.chars().take(80).collect(), rule: rule.into() }
    }
}

impl ProbeImports {
    /// Returns what has to be granted to a component with these imports.
    pub fn needs(&self) -> BTreeSet<ProbeInterface> {
        self.interfaces.iter().filter_map(|import| ProbeInterface::of_import(import)).collect()
    }
}

impl ProbeGrant {
    /// Returns the grant of all that a component imports, over both networks, to the ports of its settings: what
    /// vouch's own probes have.
    pub fn of_all(imports: &ProbeImports) -> Self {
        Self { interfaces: imports.needs(), networks: Network::ALL.into(), ports: ProbePorts::Settings }
    }

    /// Returns the grant of these words: interfaces, networks, and ports as numbers or the word `settings`.
    ///
    /// # Errors
    /// [`GrantError`] for a word that is none, and for what [`validate`](Self::validate) refuses.
    pub fn parse<S: AsRef<str>>(interfaces: &[S], networks: &[S], ports: &[S]) -> Result<Self, GrantError> {
        let interfaces = interfaces.iter().map(|word| word.as_ref().parse()).collect::<Result<_, _>>()?;
        let network = |word: &S| {
            let wrong = |_| GrantError::new("networks", word.as_ref(), "must be management or service");
            word.as_ref().parse::<Network>().map_err(wrong)
        };
        let networks = networks.iter().map(network).collect::<Result<_, _>>()?;
        let port = |word: &S| {
            let rule = "must be a number from 1 to 65535, or settings alone";
            let port = word.as_ref().parse().ok().filter(|port: &u16| *port > 0);
            port.ok_or_else(|| GrantError::new("ports", word.as_ref(), rule))
        };
        let ports = match ports {
            [word] if word.as_ref() == PORTS_OF_SETTINGS => ProbePorts::Settings,
            list => ProbePorts::Only(list.iter().map(port).collect::<Result<_, _>>()?),
        };
        let grant = Self { interfaces, networks, ports };
        grant.validate().map(|()| grant)
    }

    /// Checks that it can be of use, and is within its limits.
    ///
    /// # Errors
    /// [`GrantError`]: no network, too many ports, the port 0, or an interface with ports and no port.
    pub fn validate(&self) -> Result<(), GrantError> {
        if self.networks.is_empty() {
            return Err(GrantError::new("networks", "", "must be at least one of management and service"));
        }
        let ProbePorts::Only(ports) = &self.ports else { return Ok(()) };
        if ports.len() > GRANT_PORTS_MAX {
            let rule = format!("must be at most {GRANT_PORTS_MAX} ports");
            return Err(GrantError::new("ports", &ports.len().to_string(), rule));
        }
        if ports.contains(&0) {
            return Err(GrantError::new("ports", "0", "must be from 1 to 65535"));
        }
        match self.interfaces.iter().find(|interface| interface.has_ports()) {
            Some(interface) if ports.is_empty() => {
                let rule = format!("must name a port for {interface}, or be settings: the port of a VM's settings");
                Err(GrantError::new("ports", "", rule))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns what of these needs is not granted.
    pub fn missing(&self, needs: &BTreeSet<ProbeInterface>) -> BTreeSet<ProbeInterface> {
        needs.difference(&self.interfaces).copied().collect()
    }

    /// Returns what is granted beyond these needs.
    pub fn surplus(&self, needs: &BTreeSet<ProbeInterface>) -> BTreeSet<ProbeInterface> {
        self.interfaces.difference(needs).copied().collect()
    }

    /// Returns those of these networks over which it may not run.
    pub fn missing_networks(&self, networks: &[Network]) -> BTreeSet<Network> {
        networks.iter().copied().filter(|network| !self.networks.contains(network)).collect()
    }

    /// Returns those of these ports that it may not reach.
    pub fn missing_ports(&self, ports: &[u16]) -> BTreeSet<u16> {
        match &self.ports {
            ProbePorts::Settings => BTreeSet::new(),
            ProbePorts::Only(granted) => ports.iter().copied().filter(|port| !granted.contains(port)).collect(),
        }
    }

    /// Returns its interfaces, networks and ports as [`parse`](Self::parse) reads them.
    pub fn words(&self) -> [Vec<String>; 3] {
        let ports = match &self.ports {
            ProbePorts::Settings => vec![PORTS_OF_SETTINGS.to_owned()],
            ProbePorts::Only(ports) => words(ports),
        };
        [words(&self.interfaces), words(&self.networks), ports]
    }
}

/// Returns the items of a set as texts.
pub fn words<T: fmt::Display>(set: &BTreeSet<T>) -> Vec<String> {
    set.iter().map(ToString::to_string).collect()
}

impl fmt::Display for ProbeGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |list: Vec<String>, none: &str| if list.is_empty() { none.to_owned() } else { list.join(", ") };
        let [interfaces, networks, ports] = self.words();
        let (interfaces, networks) = (or(interfaces, "nothing"), or(networks, "none"));
        write!(f, "{interfaces}; networks {networks}")?;
        match &self.ports {
            ProbePorts::Only(none) if none.is_empty() => Ok(()),
            ProbePorts::Settings => write!(f, "; ports of its settings"),
            ProbePorts::Only(_) => write!(f, "; ports {}", ports.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(list: &[&str]) -> ProbeImports {
        ProbeImports { interfaces: list.iter().map(|s| (*s).to_owned()).collect() }
    }

    #[test]
    fn what_reaches_nothing_needs_no_grant_and_all_else_does() {
        let quiet =
            ["vouch:probe/log@1.0.0", "vouch:probe/types@1.0.0", "wasi:clocks/wall-clock@0.2.6", "wasi:io/poll@0.2.6"];
        assert!(imports(&quiet).needs().is_empty());
        let loud = [
            "vouch:probe/icmp@0.1.0",
            "vouch:probe/guest-agent@1.0.0",
            "vouch:probe/tls@1.2.0",
            "wasi:sockets/udp@0.2.6",
        ];
        assert_eq!(imports(&loud).needs(), ProbeInterface::ALL.into());
        let handshake = imports(&["vouch:probe/tcp@1.1.0"]).needs();
        assert_eq!(handshake, [ProbeInterface::Sockets].into(), "it reaches what sockets reach");
    }

    #[test]
    fn a_grant_is_compared_with_what_is_needed_in_both_directions() {
        let needs = imports(&["wasi:sockets/tcp@0.2.6", "vouch:probe/tls@1.0.0"]).needs();
        let grant = ProbeGrant::parse(&["icmp", "tls"], &["service"], &["22", "8443"]).unwrap();
        assert_eq!(grant.missing(&needs), [ProbeInterface::Sockets].into());
        assert_eq!(grant.surplus(&needs), [ProbeInterface::Icmp].into());
        assert_eq!(grant.missing_networks(&Network::ALL), [Network::Management].into());
        assert_eq!(grant.missing_ports(&[22, 23]), [23].into());
        assert_eq!(grant.to_string(), "icmp, tls; networks service; ports 22, 8443");
        let [interfaces, networks, ports] = grant.words();
        assert_eq!(ProbeGrant::parse(&interfaces, &networks, &ports), Ok(grant));
        let own = ProbeGrant::of_all(&imports(&["vouch:probe/icmp@1.0.0"]));
        assert_eq!((own.validate(), own.missing_ports(&[7])), (Ok(()), BTreeSet::new()));
    }

    #[test]
    fn a_word_or_number_that_is_none_is_refused_with_its_rule() {
        let many: Vec<String> = (1..=GRANT_PORTS_MAX + 1).map(|port| port.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (interfaces, networks, ports, said) in [
            (&["http"][..], &["service"][..], &["80"][..], "interfaces \"http\": must be sockets, icmp"),
            (&["icmp"], &["lan"], &[], "networks \"lan\": must be management or service"),
            (&["icmp"], &[], &[], "networks \"\": must be at least one"),
            (&["sockets"], &["service"], &[], "ports \"\": must name a port for sockets, or be settings"),
            (&["tls"], &["service"], &["0"], "ports \"0\": must be a number from 1 to 65535"),
            (&["tls"], &["service"], &["settings", "22"], "ports \"settings\": must be a number"),
            (&["tls"], &["service"], &many, "ports \"65\": must be at most 64 ports"),
        ] {
            let wrong = ProbeGrant::parse(interfaces, networks, ports).unwrap_err().to_string();
            assert!(wrong.starts_with(said), "{wrong} is not {said}");
        }
        assert!(ProbeGrant::parse(&["tls"], &["service"], &many[..GRANT_PORTS_MAX]).is_ok());
        assert!(ProbeGrant::parse(&["icmp"], &["service"], &[]).is_ok(), "what has no ports needs none");
        let zero =
            ProbeGrant { ports: ProbePorts::Only([0].into()), networks: Network::ALL.into(), ..ProbeGrant::default() };
        assert_eq!(zero.validate().unwrap_err().value, "0");
    }

    #[test]
    fn a_record_of_before_there_were_grants_is_read_and_written_as_it_was() {
        let old = r#"{"name":"ssh","version":"1.0.0","digest":"0303030303030303030303030303030303030303030303030303030303030303","size":9,"imports":{"interfaces":[]},"shipped":false}"#;
        let record: crate::ProbeRecord = serde_json::from_str(old).unwrap();
        assert_eq!(record.grant, None);
        assert_eq!(serde_json::to_string(&record).unwrap(), old);
    }
}
