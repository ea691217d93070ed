//! The user's VM files: one TOML file per VM in a folder. Nobody registers a VM by hand; its file is all there is.
//!
//! Reading is strict: malformed TOML, unknown keys, wrong ids and ids, MACs or addresses that two files share are
//! errors that name the file. What follows from an error is the caller's to say: a start is refused, a running agent
//! logs it and goes on with everything else. This module must never start or change a VM.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vouch_types::vm::{ADDRESSES_MAX, PROBES_PER_VM_MAX};
use vouch_types::{Network, ProbeAssignment, ProbeName, VmId, VmSpec};

use vouch_wire::convert::limits::{LABEL_TEXT_MAX, LABELS_MAX, NAME_TEXT_MAX, SETTINGS_MAX};

use crate::config::DriverKind;

/// The longest name of a VM, in bytes.
pub const VM_NAME_MAX: usize = 128;
/// The most network cards of a VM.
pub const NICS_MAX: usize = 4;
/// The largest VM file, in bytes.
pub const VM_FILE_MAX: u64 = 64 * 1024;

/// Why a VM file is refused.
#[derive(Debug, Error)]
#[error("{}: {why}", path.display())]
pub struct VmFileError {
    /// The file.
    pub path: PathBuf,
    /// Field, value and rule, or what the parser or the system said.
    pub why: String,
}

/// What QEMU does when the guest resets itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReboot {
    /// The guest starts again in the same process.
    #[default]
    Restart,
    /// The process ends, and the VM is stopped.
    Stop,
}

/// What QEMU does when the guest's kernel panics, as far as the guest says so (pvpanic).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnPanic {
    /// The guest is stopped where it is, so that its memory can be looked at; a reset starts it again.
    #[default]
    Pause,
    /// The process ends.
    Stop,
    /// The guest is left to itself: it may write a dump, or reset itself.
    Continue,
}

/// QEMU's machine type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineType {
    /// Small and quick; needs a kernel.
    Microvm,
    /// A whole PC; boots from a disk as well.
    Q35,
}

/// A network card of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// Which network it is on.
    pub network: Network,
    /// The bridge that its tap joins.
    pub bridge: String,
    /// Its MAC, as `52:54:00:01:00:01`.
    pub mac: String,
    /// The addresses that the guest has there; with anti-spoofing the only ones that it may send from.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// A probe of a VM file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeEntry {
    /// The probe.
    pub probe: ProbeName,
    /// Over which network.
    pub network: Network,
    /// Its settings.
    #[serde(default)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// Where a VM of the driver `local` listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalPart {
    /// Its address, in 127.0.0.0/8.
    pub address: IpAddr,
    /// Where it speaks X.224 as an RDP server does.
    pub rdp_port: u16,
}

/// One VM as its file describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmFile {
    /// The UUID, which the hypervisor knows as well.
    pub id: VmId,
    /// What people call it.
    pub name: String,
    /// Memory. Driver `qemu`.
    #[serde(default)]
    pub memory_mib: Option<u32>,
    /// Virtual CPUs. Driver `qemu`.
    #[serde(default = "one")]
    pub cpus: u8,
    /// Kernel to boot. Driver `qemu`.
    #[serde(default)]
    pub kernel: Option<PathBuf>,
    /// Its initramfs.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// What its command line has after vouch's own part.
    #[serde(default)]
    pub append: Option<String>,
    /// Disk to boot: qcow2 or raw, told by the file's own head. Driver `qemu`.
    #[serde(default)]
    pub disk: Option<PathBuf>,
    /// Machine type; default `microvm` for a kernel, `q35` for a disk.
    #[serde(default)]
    pub machine: Option<MachineType>,
    /// What a reset from inside does.
    #[serde(default)]
    pub on_reboot: OnReboot,
    /// What a panic of its kernel does.
    #[serde(default)]
    pub on_panic: OnPanic,
    /// More arguments for QEMU, after all others.
    #[serde(default)]
    pub extra_args: Vec<String>,
    /// Network cards. Driver `qemu`.
    #[serde(default, rename = "nic")]
    pub nics: Vec<Nic>,
    /// Probes to run.
    #[serde(default, rename = "probe")]
    pub probes: Vec<ProbeEntry>,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The store of its disks.
    #[serde(default)]
    pub datastore: Option<String>,
    /// Driver `local`.
    #[serde(default)]
    pub local: Option<LocalPart>,
}

const fn one() -> u8 {
    1
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn rule(field: &str, value: impl std::fmt::Display, rule: impl std::fmt::Display) -> Result<(), String> {
    Err(format!("{field} = {value}: {rule}"))
}

impl VmFile {
    /// Parses one file's text and checks it for `driver`.
    ///
    /// # Errors
    /// Where and what, without the path.
    pub fn parse(text: &str, driver: DriverKind) -> Result<Self, String> {
        let mut file: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        for nic in &mut file.nics {
            nic.mac.make_ascii_lowercase();
        }
        file.validate(driver)?;
        Ok(file)
    }

    fn validate(&self, driver: DriverKind) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > VM_NAME_MAX {
            return rule("name", &self.name, format!("must be 1 to {VM_NAME_MAX} bytes"));
        }
        if let Some(datastore) = &self.datastore
            && (datastore.is_empty() || datastore.len() > NAME_TEXT_MAX)
        {
            return rule(
                "datastore",
                format!("{datastore:?}"),
                format!("must be 1 to {NAME_TEXT_MAX} bytes, or unset"),
            );
        }
        if self.probes.len() > PROBES_PER_VM_MAX {
            return rule("probe", self.probes.len(), format!("a VM has at most {PROBES_PER_VM_MAX} probes"));
        }
        match driver {
            DriverKind::Qemu => self.validate_qemu()?,
            DriverKind::Local => self.validate_local()?,
        }
        let spec = self.spec();
        for (network, addresses) in spec.addresses.iter() {
            if addresses.len() > ADDRESSES_MAX {
                let most = format!("a VM has at most {ADDRESSES_MAX} addresses per network");
                return rule(&format!("addresses ({network})"), addresses.len(), most);
            }
        }
        self.validate_labels()?;
        let mut seen = BTreeSet::new();
        for probe in &spec.probes {
            if probe.settings.len() > SETTINGS_MAX {
                let most = format!("must be at most {SETTINGS_MAX} bytes as JSON");
                return rule("probe.settings", format!("{} bytes ({})", probe.settings.len(), probe.probe), most);
            }
            if !seen.insert(probe) {
                return rule("probe", &probe.probe, "is there twice with the same network and settings");
            }
        }
        Ok(())
    }

    /// Managers refuse a whole report for one label that is too long, so such a file must not come into one.
    fn validate_labels(&self) -> Result<(), String> {
        if self.labels.len() > LABELS_MAX {
            return rule("labels", self.labels.len(), format!("a VM has at most {LABELS_MAX} labels"));
        }
        match self.labels.iter().find(|(key, value)| key.len().max(value.len()) > LABEL_TEXT_MAX) {
            Some((key, value)) => {
                let longest = format!("key and value must be at most {LABEL_TEXT_MAX} bytes each");
                rule(&format!("labels.{key}"), value, longest)
            }
            None => Ok(()),
        }
    }

    fn validate_qemu(&self) -> Result<(), String> {
        if self.local.is_some() {
            return rule("local", "..", "belongs to driver local, and this node's driver is qemu");
        }
        match self.memory_mib {
            None => return rule("memory_mib", "unset", "must be set on driver qemu"),
            Some(mib) if mib < 16 => return rule("memory_mib", mib, "must be at least 16"),
            Some(_) => {}
        }
        if self.cpus == 0 {
            return rule("cpus", 0, "must be at least 1");
        }
        if self.kernel.is_none() && self.disk.is_none() {
            return rule("kernel", "unset", "kernel or disk must be set on driver qemu");
        }
        if self.machine_type() == MachineType::Microvm && self.kernel.is_none() {
            return rule("machine", "microvm", "needs a kernel; a disk alone boots on q35");
        }
        if self.nics.len() > NICS_MAX {
            return rule("nic", self.nics.len(), format!("a VM has at most {NICS_MAX} network cards"));
        }
        let mut macs = BTreeSet::new();
        for nic in &self.nics {
            if !is_mac(&nic.mac) {
                return rule("nic.mac", &nic.mac, "must be six pairs of hexadecimal digits, as 52:54:00:01:00:01");
            }
            if u8::from_str_radix(&nic.mac[..2], 16).is_ok_and(|b| b & 1 == 1) {
                return rule("nic.mac", &nic.mac, "must not be a multicast address: its first byte must be even");
            }
            if !macs.insert(&nic.mac) {
                return rule("nic.mac", &nic.mac, "is there twice");
            }
            if nic.bridge.is_empty() || nic.bridge.len() > 15 || nic.bridge.contains(['/', ' ']) {
                return rule("nic.bridge", &nic.bridge, "must be the name of a network interface, 1 to 15 bytes");
            }
        }
        Ok(())
    }

    fn validate_local(&self) -> Result<(), String> {
        let Some(local) = &self.local else {
            return rule("local", "unset", "must be set on driver local");
        };
        if !local.address.is_loopback() {
            return rule("local.address", local.address, "must be a loopback address");
        }
        if local.rdp_port == 0 {
            return rule("local.rdp_port", 0, "must not be 0");
        }
        if !self.nics.is_empty() {
            return rule("nic", self.nics.len(), "belongs to driver qemu, and this node's driver is local");
        }
        match self.probes.iter().find(|p| p.probe.as_str() == "ping") {
            Some(p) => rule("probe", &p.probe, "every loopback address answers ping, so it says nothing of a local VM"),
            None => Ok(()),
        }
    }

    /// Returns the machine type that it is started with.
    pub fn machine_type(&self) -> MachineType {
        self.machine.unwrap_or(if self.kernel.is_some() { MachineType::Microvm } else { MachineType::Q35 })
    }

    /// Returns what the managers are told of it.
    pub fn spec(&self) -> VmSpec {
        let mut addresses: BTreeMap<Network, Vec<IpAddr>> = BTreeMap::new();
        for nic in &self.nics {
            addresses.entry(nic.network).or_default().extend(&nic.addresses);
        }
        if let Some(local) = &self.local {
            // A process on loopback is on both networks at once, as far as there are any.
            for network in Network::ALL {
                addresses.entry(network).or_default().push(local.address);
            }
        }
        VmSpec {
            id: self.id,
            name: self.name.clone(),
            addresses: addresses.into(),
            probes: self
                .probes
                .iter()
                .map(|p| ProbeAssignment {
                    probe: p.probe.clone(),
                    network: p.network,
                    settings: serde_json::Value::Object(p.settings.clone()).to_string(),
                })
                .collect(),
            labels: self.labels.clone().into(),
            datastore: self.datastore.clone(),
        }
    }

    /// Returns what no other VM may have as well: MACs, addresses per network, sockets.
    fn claims(&self) -> Vec<String> {
        let mut claims = vec![format!("id {}", self.id)];
        for nic in &self.nics {
            claims.push(format!("nic.mac {}", nic.mac));
            claims.extend(nic.addresses.iter().map(|a| format!("address {a} on network {}", nic.network)));
        }
        if let Some(local) = &self.local {
            claims.push(format!("local address {}", SocketAddr::new(local.address, local.rdp_port)));
        }
        claims
    }
}

/// What a folder of VM files held at one time.
#[derive(Debug, Default)]
pub struct VmFolder {
    /// Good files, by VM.
    pub files: BTreeMap<VmId, VmFile>,
    /// One error per bad file, in the order of their names.
    pub errors: Vec<VmFileError>,
}

impl VmFolder {
    /// Reads every `*.toml` of the folder, in the order of their names. Where two files claim the same id, MAC or
    /// address, the VM in `known` keeps it, or else the first file does, and the other is an error.
    ///
    /// # Errors
    /// [`VmFileError`] when the folder itself cannot be read.
    pub fn read(dir: &Path, driver: DriverKind, known: &BTreeSet<VmId>) -> Result<Self, VmFileError> {
        let fail = |path: &Path, e: std::io::Error| VmFileError { path: path.to_path_buf(), why: e.to_string() };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|e| fail(dir, e))? {
            let path = entry.map_err(|e| fail(dir, e))?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut folder = Self::default();
        let mut parsed = Vec::new();
        for path in paths {
            match Self::read_one(&path, driver) {
                Ok(file) => parsed.push((path, file)),
                Err(e) => folder.errors.push(e),
            }
        }
        parsed.sort_by_key(|(_, file)| !known.contains(&file.id));
        let mut claimed: BTreeMap<String, PathBuf> = BTreeMap::new();
        for (path, file) in parsed {
            let claims = file.claims();
            if let Some((claim, other)) = claims.iter().find_map(|c| claimed.get(c).map(|other| (c, other))) {
                let why = format!("{claim}: {} has it already", other.display());
                folder.errors.push(VmFileError { path, why });
                continue;
            }
            claimed.extend(claims.into_iter().map(|c| (c, path.clone())));
            folder.files.insert(file.id, file);
        }
        folder.errors.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(folder)
    }

    fn read_one(path: &Path, driver: DriverKind) -> Result<VmFile, VmFileError> {
        let fail = |why: String| VmFileError { path: path.to_path_buf(), why };
        let size = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if size > VM_FILE_MAX {
            return Err(fail(format!("is {size} bytes long and must be at most {VM_FILE_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        VmFile::parse(&text, driver).map_err(fail)
    }
}

#[cfg(test)]
mod tests;
