//! Configuration of `vouch manager`: one TOML file, unknown keys are errors, everything is checked before any bind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use vouch_types::timing::TimingError;
use vouch_types::{ManagerId, ManagerNode, Network, Timing};
use vouch_wire::renewal::{CHECK_DEFAULT, CHECK_MAX};

/// The most members that a control cluster may have, those without a vote included.
pub const MEMBERS_MAX: usize = 5;

/// The greatest number of a manager: nonces have one byte for it.
pub const NUMBER_MAX: u64 = 255;

/// The least that `storage.free_min_mib` may be, and its default: two chunks of the log.
pub const FREE_MIN_MIB: u64 = 128;
/// The most that `storage.free_min_mib` may be: 1 TiB.
pub const FREE_MIN_MIB_MAX: u64 = 1024 * 1024;

/// Environment variable that overrides `data_dir`.
pub const ENV_DATA_DIR: &str = "VOUCH_DATA_DIR";
/// Environment variable that overrides `api.listen`.
pub const ENV_API_LISTEN: &str = "VOUCH_API_LISTEN";

/// Configuration of one manager.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its id, as `m1`.
    pub id: ManagerId,
    /// Where it keeps its log, its projection and its blobs.
    pub data_dir: PathBuf,
    /// Its mutually authenticated port, per network.
    pub listen: Listen,
    /// The admin API.
    pub api: Api,
    /// Its identity, and whom it trusts.
    pub tls: Tls,
    /// All initial members, itself included.
    #[serde(rename = "manager")]
    pub managers: Vec<Member>,
    /// Where this manager dials another one instead of the member's own address.
    #[serde(default)]
    pub dial: BTreeMap<ManagerId, Dial>,
    /// How certificates are kept good.
    #[serde(default)]
    pub certificates: Certificates,
    /// Whether it exchanges heartbeats with nodes: UDP on the addresses and ports of `listen`.
    #[serde(default = "on")]
    pub heartbeats: bool,
    /// The disk that `data_dir` is on.
    #[serde(default)]
    pub storage: Storage,
    /// Timing of the cluster: a profile, and what differs from it.
    #[serde(default, deserialize_with = "timing")]
    pub timing: Timing,
}

fn on() -> bool {
    true
}

/// Addresses of the mutually authenticated port.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// On the management network.
    pub management: SocketAddr,
    /// On the service network.
    pub service: Option<SocketAddr>,
}

/// The admin API.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Where it listens: in clear text on loopback, over TLS anywhere else.
    pub listen: SocketAddr,
    /// File of the bearer token; made at the first start when it is absent. Default: `api.token` in the data folder.
    pub token_file: Option<PathBuf>,
}

/// Certificate, key and CA, as PEM files.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate of the CA.
    pub ca_certificate: PathBuf,
    /// This manager's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CA's key: needed by the manager on which the cluster is initialised.
    pub ca_key: Option<PathBuf>,
}

/// How certificates are kept good.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// How often managers, nodes and watchers ask whether theirs are to be renewed and which CAs are to be trusted, in
    /// seconds. The leader tells it to all.
    pub check_secs: u64,
}

impl Default for Certificates {
    fn default() -> Self {
        Self { check_secs: CHECK_DEFAULT.as_secs() }
    }
}

/// The disk that `data_dir` is on.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// How much of it has to be free, in MiB: below that this manager hands over its leadership and takes no entries.
    pub free_min_mib: u64,
}

impl Default for Storage {
    fn default() -> Self {
        Self { free_min_mib: FREE_MIN_MIB }
    }
}

/// A member of the control cluster.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its id.
    pub id: ManagerId,
    /// Its port on the management network.
    pub management: SocketAddr,
    /// Its port on the service network.
    pub service: Option<SocketAddr>,
    /// Base URL of its admin API.
    pub api: Option<String>,
}

impl Member {
    /// Returns the member as the membership records it.
    pub fn node(&self) -> ManagerNode {
        let management = (Network::Management, self.management);
        let service = self.service.map(|address| (Network::Service, address));
        ManagerNode {
            addresses: std::iter::once(management).chain(service).collect(),
            api: self.api.clone().unwrap_or_default(),
        }
    }
}

/// Where this manager dials another one.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// Over the management network.
    pub management: Option<SocketAddr>,
    /// Over the service network.
    pub service: Option<SocketAddr>,
}

/// What is wrong with a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path:?} cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML, or has a key or value that it may not have.
    #[error("configuration {path:?}: {message}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Place and rule, over several lines.
        message: String,
    },
    /// An environment variable has no value that its key may have.
    #[error("environment variable {name}={value:?}: must be {rule}")]
    Environment {
        /// Which variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// A value breaks a rule.
    #[error("{key}: {value} {rule}")]
    Rule {
        /// Which key.
        key: String,
        /// What it is.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// Two times do not fit together.
    #[error(transparent)]
    Timing(#[from] TimingError),
}

fn rule(key: impl Into<String>, value: impl ToString, rule: impl Into<String>) -> ConfigError {
    ConfigError::Rule { key: key.into(), value: value.to_string(), rule: rule.into() }
}

fn timing<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Timing, D::Error> {
    use serde::de::Error;
    let mut overrides = toml::Table::deserialize(deserializer)?;
    let base = match overrides.remove("profile") {
        None => Timing::default(),
        Some(toml::Value::String(name)) if name == "default" => Timing::default(),
        Some(toml::Value::String(name)) if name == "slow" => Timing::slow(),
        Some(other) => {
            return Err(D::Error::custom(format!("timing.profile {other}: must be \"default\" or \"slow\"")));
        }
    };
    let mut table = toml::Table::try_from(base).map_err(D::Error::custom)?;
    table.extend(overrides);
    table.try_into().map_err(|e: toml::de::Error| D::Error::custom(format!("timing: {}", e.message())))
}

impl Config {
    /// Reads, overrides from the environment, and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, the value and the rule that is broken.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|e| ConfigError::Parse { path: path.to_owned(), message: e.to_string().trim_end().to_owned() })?;
        config.override_from(env)?;
        config.validate()?;
        Ok(config)
    }

    fn override_from(&mut self, env: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        if let Some(folder) = env(ENV_DATA_DIR) {
            self.data_dir = folder.into();
        }
        if let Some(value) = env(ENV_API_LISTEN) {
            self.api.listen = value.parse().map_err(|_| ConfigError::Environment {
                name: ENV_API_LISTEN,
                value: value.clone(),
                rule: "an address and a port, as 127.0.0.1:7080",
            })?;
        }
        Ok(())
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, the value and the rule that is broken.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let count = self.managers.len();
        if count == 0 || count > MEMBERS_MAX {
            return Err(rule("manager", format!("{count} members"), format!("must be 1 to {MEMBERS_MAX}")));
        }
        let mut ids = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for member in &self.managers {
            if !ids.insert(member.id) {
                return Err(rule("manager.id", member.id, "is there twice: each member must have an id of its own"));
            }
            if member.id.get() > NUMBER_MAX {
                return Err(rule("manager.id", member.id, format!("must be at most m{NUMBER_MAX}")));
            }
            for address in std::iter::once(member.management).chain(member.service) {
                if !addresses.insert(address) {
                    let key = format!("manager {}", member.id);
                    return Err(rule(key, address, "is there twice: each port must be of one member on one network"));
                }
            }
        }
        let own = self.managers.iter().find(|m| m.id == self.id).ok_or_else(|| {
            let listed: Vec<String> = ids.iter().map(ToString::to_string).collect();
            rule("id", self.id, format!("must be one of the members [{}]", listed.join(", ")))
        })?;
        if own.service.is_some() != self.listen.service.is_some() {
            let say = |address: Option<SocketAddr>| address.map_or_else(|| "none".to_owned(), |a| a.to_string());
            return Err(rule(
                "listen.service",
                say(self.listen.service),
                format!("and service = {} of member {} must be there both or not at all", say(own.service), self.id),
            ));
        }
        for id in self.dial.keys() {
            if !ids.contains(id) || *id == self.id {
                return Err(rule(format!("dial.{id}"), id, "must be another member"));
            }
        }
        let free = self.storage.free_min_mib;
        if !(FREE_MIN_MIB..=FREE_MIN_MIB_MAX).contains(&free) {
            let rule_text = format!("must be {FREE_MIN_MIB} (two chunks of the log) to {FREE_MIN_MIB_MAX}");
            return Err(rule("storage.free_min_mib", free, rule_text));
        }
        let (check, most) = (self.certificates.check_secs, CHECK_MAX.as_secs());
        if !(1..=most).contains(&check) {
            return Err(rule("certificates.check_secs", check, format!("must be 1 to {most}")));
        }
        self.validate_listeners()?;
        self.timing.validate()?;
        Ok(())
    }

    fn validate_listeners(&self) -> Result<(), ConfigError> {
        let same = |a: SocketAddr, b: SocketAddr| a == b && a.port() != 0;
        if let Some(service) = self.listen.service {
            if same(service, self.listen.management) {
                return Err(rule("listen.service", service, "must differ from listen.management"));
            }
            if self.api.listen.ip().to_canonical().is_unspecified() {
                return Err(rule(
                    "api.listen",
                    self.api.listen,
                    format!(
                        "must name one address: all of them include the service network (listen.service = {service})"
                    ),
                ));
            }
            let ip: IpAddr = service.ip();
            if self.api.listen.ip() == ip && !ip.is_loopback() {
                return Err(rule(
                    "api.listen",
                    self.api.listen,
                    format!("must not be on the service network (listen.service = {service})"),
                ));
            }
        }
        if same(self.api.listen, self.listen.management) {
            return Err(rule(
                "api.listen",
                self.api.listen,
                format!("must differ from listen.management = {}", self.listen.management),
            ));
        }
        Ok(())
    }

    /// Returns where the bearer token of the API is kept.
    pub fn token_file(&self) -> PathBuf {
        self.api.token_file.clone().unwrap_or_else(|| self.data_dir.join("api.token"))
    }

    /// Returns the members as the membership records them.
    pub fn members(&self) -> BTreeMap<ManagerId, ManagerNode> {
        self.managers.iter().map(|m| (m.id, m.node())).collect()
    }

    /// Returns where this manager dials each other one, management first.
    pub fn dial_addresses(&self) -> BTreeMap<ManagerId, Vec<(Network, SocketAddr)>> {
        let others = self.managers.iter().filter(|m| m.id != self.id);
        others
            .map(|member| {
                let dial = self.dial.get(&member.id);
                let management = dial.and_then(|d| d.management).or(Some(member.management));
                let service = dial.and_then(|d| d.service).or(member.service);
                let addresses = [(Network::Management, management), (Network::Service, service)];
                (member.id, addresses.into_iter().filter_map(|(n, a)| Some((n, a?))).collect())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
