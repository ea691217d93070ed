//! The configuration of one compute node: what the TOML file says, checked before anything is bound or started.
//!
//! Unknown keys are errors, and so are values that cannot work together; each message names the field, its value and
//! the rule. This module reads and checks. It must never open a socket or touch the hypervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use vouch_types::{ManagerId, Network, NodeId};
use vouch_wire::convert::limits::NAME_TEXT_MAX;

/// The longest `run_dir`: Unix socket paths end at 107 bytes, and vouch adds a folder and a file name to it.
pub const RUN_DIR_MAX: usize = 60;
/// The most managers that a node dials.
pub const MANAGERS_MAX: usize = 9;
/// The least memory that a watcher VM may be given, in MiB.
pub const WATCHER_MEMORY_MIN_MIB: u32 = 128;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, or has unknown or missing keys.
    #[error("{}: {why}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
    /// A value breaks a rule.
    #[error("{field} = {value}: {rule}")]
    Value {
        /// Which field.
        field: String,
        /// Its value.
        value: String,
        /// The rule that it breaks.
        rule: String,
    },
}

pub(crate) fn bad(field: impl Into<String>, value: impl ToString, rule: impl Into<String>) -> ConfigError {
    ConfigError::Value { field: field.into(), value: value.to_string(), rule: rule.into() }
}

/// The configuration of `vouch node`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name; also its server name, as `n1.node.vouch`.
    pub id: NodeId,
    /// Its rack, if racks are told apart.
    #[serde(default)]
    pub rack: Option<String>,
    /// Where it keeps its signing key, counters and run folders.
    pub data_dir: PathBuf,
    /// Where the relay listens, on the management network.
    pub relay: SocketAddr,
    /// What watchers are told instead, when a forwarder stands in between.
    #[serde(default)]
    pub relay_advertise: Option<SocketAddr>,
    /// Certificates.
    pub tls: TlsConfig,
    /// The managers that it dials.
    #[serde(rename = "manager")]
    pub managers: Vec<ManagerConfig>,
    /// Whether it exchanges heartbeats with managers: UDP to the addresses and ports that it dials them at.
    #[serde(default = "on")]
    pub heartbeats: bool,
    /// How VMs are run.
    pub hypervisor: HypervisorConfig,
    /// Watcher VMs.
    #[serde(default)]
    pub watchers: WatchersConfig,
}

fn on() -> bool {
    true
}

/// Files of the node's certificate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The cluster's CA, PEM.
    pub ca_certificate: PathBuf,
    /// The node's certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Where this node dials one manager.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagerConfig {
    /// The manager.
    pub id: ManagerId,
    /// Its address on the management network.
    #[serde(default)]
    pub management: Option<SocketAddr>,
    /// Its address on the service network.
    #[serde(default)]
    pub service: Option<SocketAddr>,
}

/// Which driver runs VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverKind {
    /// vouch starts and supervises QEMU itself.
    Qemu,
    /// VMs are plain processes on loopback, for trying out.
    Local,
}

impl DriverKind {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Local => "local",
        }
    }
}

/// How VMs are run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HypervisorConfig {
    /// Which driver.
    pub driver: DriverKind,
    /// Folder with one TOML file per VM.
    pub vm_dir: PathBuf,
    /// Folder of sockets and state per VM; default `DATA_DIR/run`.
    #[serde(default)]
    pub run_dir: Option<PathBuf>,
    /// Settings of the driver `qemu`.
    #[serde(default)]
    pub qemu: QemuConfig,
    /// Settings of the driver `local`.
    #[serde(default)]
    pub local: LocalConfig,
}

/// Settings of the driver `qemu`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QemuConfig {
    /// The QEMU to start.
    pub binary: PathBuf,
    /// Niceness of its processes, 0 to 19.
    pub nice: u8,
    /// QEMU's accelerator: `tcg` or `kvm`.
    pub accel: String,
    /// QEMU's CPU model; default `qemu64` under tcg, `host` under kvm.
    pub cpu: Option<String>,
    /// Whether frames of a VM with a foreign source address are dropped at its tap (nftables).
    pub anti_spoofing: bool,
}

impl Default for QemuConfig {
    fn default() -> Self {
        Self {
            binary: PathBuf::from("qemu-system-x86_64"),
            nice: 10,
            accel: "tcg".to_owned(),
            cpu: None,
            anti_spoofing: true,
        }
    }
}

/// Settings of the driver `local`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// The program with the subcommand `local-vm`; default this very program.
    pub binary: Option<PathBuf>,
}

/// Watcher VMs of this node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchersConfig {
    /// Whether managers may create watchers here.
    pub enabled: bool,
    /// Folder of the watcher's image: `vmlinux`, `initramfs.cpio`. Driver `qemu`.
    pub image_dir: Option<PathBuf>,
    /// The watcher's program. Driver `local`.
    pub binary: PathBuf,
    /// Folder with `manifest.json` and `*.cwasm`. Driver `local`.
    pub probes_dir: Option<PathBuf>,
    /// Memory of a watcher VM.
    pub memory_mib: u32,
    /// Its leg on the management network.
    pub management: Option<WatcherLegConfig>,
    /// Its leg on the service network.
    pub service: Option<WatcherLegConfig>,
    /// Where watchers of this node reach managers instead.
    pub dial: BTreeMap<ManagerId, DialConfig>,
    /// Ports beside the managers' and the relay's that watchers may reach over the management network: other nodes'
    /// relays on other ports, and services that are probed over it.
    pub management_ports: Vec<u16>,
}

impl Default for WatchersConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            image_dir: None,
            binary: PathBuf::from("vouch-watcher"),
            probes_dir: None,
            memory_mib: 256,
            management: None,
            service: None,
            dial: BTreeMap::new(),
            management_ports: Vec::new(),
        }
    }
}

/// Addresses for watchers on one network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatcherLegConfig {
    /// The bridge to join. Driver `qemu`.
    #[serde(default)]
    pub bridge: Option<String>,
    /// The pool: one address per watcher.
    pub addresses: Vec<IpAddr>,
    /// Length of the network's prefix in bits.
    pub prefix_len: u8,
}

/// Where a manager is dialled instead.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DialConfig {
    /// Over the management network.
    pub management: Option<SocketAddr>,
    /// Over the service network.
    pub service: Option<SocketAddr>,
}

impl DialConfig {
    /// Returns the address on `network`, if one is given.
    pub fn on(&self, network: Network) -> Option<SocketAddr> {
        match network {
            Network::Management => self.management,
            Network::Service => self.service,
        }
    }
}

impl ManagerConfig {
    /// Returns the address on `network`, if one is given.
    pub fn on(&self, network: Network) -> Option<SocketAddr> {
        match network {
            Network::Management => self.management,
            Network::Service => self.service,
        }
    }
}

impl WatchersConfig {
    /// Returns the leg on `network`, if watchers have one there.
    pub fn leg(&self, network: Network) -> Option<&WatcherLegConfig> {
        match network {
            Network::Management => self.management.as_ref(),
            Network::Service => self.service.as_ref(),
        }
    }
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it count from the working folder.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, or the field with its value and the rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text).map_err(|e| match e {
            ConfigError::Parse { why, .. } => ConfigError::Parse { path: path.to_path_buf(), why },
            other => other,
        })
    }

    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)
            .map_err(|e| ConfigError::Parse { path: PathBuf::from("configuration"), why: e.to_string() })?;
        config.validate()?;
        Ok(config)
    }

    /// Returns the folder of sockets and state per VM.
    pub fn run_dir(&self) -> PathBuf {
        self.hypervisor.run_dir.clone().unwrap_or_else(|| self.data_dir.join("run"))
    }

    /// Checks the values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the field, its value and the rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_managers()?;
        if let Some(rack) = &self.rack
            && (rack.is_empty() || rack.len() > NAME_TEXT_MAX)
        {
            return Err(bad("rack", format!("{rack:?}"), format!("must be 1 to {NAME_TEXT_MAX} bytes, or unset")));
        }
        if self.relay.port() == 0 && self.relay_advertise.is_none() {
            return Err(bad("relay", self.relay, "must have a port that is not 0: watchers are told it"));
        }
        let run_dir = self.run_dir();
        let length = run_dir.as_os_str().len();
        if length > RUN_DIR_MAX {
            return Err(bad(
                "hypervisor.run_dir",
                run_dir.display(),
                format!("is {length} bytes long and must be at most {RUN_DIR_MAX}: Unix socket paths end at 107"),
            ));
        }
        let qemu = &self.hypervisor.qemu;
        if qemu.nice > 19 {
            return Err(bad("hypervisor.qemu.nice", qemu.nice, "must be 0 to 19"));
        }
        if !["tcg", "kvm"].contains(&qemu.accel.as_str()) {
            return Err(bad("hypervisor.qemu.accel", &qemu.accel, "must be tcg or kvm"));
        }
        if self.watchers.enabled { self.validate_watchers() } else { Ok(()) }
    }

    fn validate_managers(&self) -> Result<(), ConfigError> {
        if self.managers.is_empty() || self.managers.len() > MANAGERS_MAX {
            let rule = format!("must name 1 to {MANAGERS_MAX} managers");
            return Err(bad("manager", self.managers.len(), rule));
        }
        let mut seen = BTreeSet::new();
        for manager in &self.managers {
            if !seen.insert(manager.id) {
                return Err(bad("manager.id", manager.id, "is there twice"));
            }
            if Network::ALL.iter().all(|n| manager.on(*n).is_none()) {
                return Err(bad("manager", manager.id, "must have an address: management, service or both"));
            }
        }
        match self.watchers.dial.keys().find(|id| !seen.contains(id)) {
            Some(id) => Err(bad("watchers.dial", id, "is none of the managers")),
            None => Ok(()),
        }
    }

    fn validate_watchers(&self) -> Result<(), ConfigError> {
        let watchers = &self.watchers;
        let driver = self.hypervisor.driver;
        match driver {
            DriverKind::Qemu if watchers.image_dir.is_none() => {
                return Err(bad("watchers.image_dir", "unset", "must be set when watchers are enabled on driver qemu"));
            }
            DriverKind::Local if watchers.probes_dir.is_none() => {
                return Err(bad(
                    "watchers.probes_dir",
                    "unset",
                    "must be set when watchers are enabled on driver local",
                ));
            }
            DriverKind::Qemu | DriverKind::Local => {}
        }
        if watchers.memory_mib < WATCHER_MEMORY_MIN_MIB {
            let rule = format!("must be at least {WATCHER_MEMORY_MIN_MIB}");
            return Err(bad("watchers.memory_mib", watchers.memory_mib, rule));
        }
        if watchers.management.is_none() {
            return Err(bad("watchers.management", "unset", "must be set: the relay is reached over it"));
        }
        for network in Network::ALL {
            let Some(leg) = watchers.leg(network) else { continue };
            let field = |key: &str| format!("watchers.{network}.{key}");
            if leg.addresses.is_empty() {
                return Err(bad(field("addresses"), "[]", "must hold at least one address"));
            }
            let mut seen = BTreeSet::new();
            for address in &leg.addresses {
                if !seen.insert(address) {
                    return Err(bad(field("addresses"), address, "is there twice"));
                }
                if driver == DriverKind::Local && !address.is_loopback() {
                    return Err(bad(field("addresses"), address, "must be a loopback address on driver local"));
                }
                let bits = if address.is_ipv4() { 32 } else { 128 };
                if leg.prefix_len == 0 || leg.prefix_len > bits {
                    return Err(bad(field("prefix_len"), leg.prefix_len, format!("must be 1 to {bits}")));
                }
            }
            if driver == DriverKind::Qemu && leg.bridge.is_none() {
                return Err(bad(field("bridge"), "unset", "must be set on driver qemu"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
