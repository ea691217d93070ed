//! The plan of the loopback cluster: who is there, which addresses and ports they have, and their configuration files.
//!
//! ```text
//!  127.0.0.1        managers, relays, forwarders
//!  127.0.1N.K       VM K of node N, service network
//!  127.0.2N.1-4     watchers on node N, management network
//!  127.0.3N.1-4     watchers on node N, service network
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::forwarder::{Forwarder, Route};
use crate::args::Profile;

/// How many managers there are.
pub const MANAGERS: u8 = 3;
/// How many nodes there are.
pub const NODES: u8 = 2;
/// How many VMs each node has.
pub const VMS_PER_NODE: u8 = 2;
/// How many watchers a node has addresses for.
const WATCHERS_MAX: u8 = 4;
/// Where the APIs listen if the ports are free.
const API_PORT: u16 = 7080;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A manager.
pub struct ManagerPlan {
    /// As `m1`.
    pub id: String,
    management: SocketAddr,
    service: SocketAddr,
    /// Where its API listens.
    pub api: SocketAddr,
}

/// A VM.
pub struct VmPlan {
    /// As `desk-1`.
    pub name: String,
    id: String,
    address: IpAddr,
    rdp_port: u16,
}

/// A node.
pub struct NodePlan {
    /// As `n1`.
    pub id: String,
    relay: SocketAddr,
    watchers_management: Vec<IpAddr>,
    watchers_service: Vec<IpAddr>,
    /// Its VMs.
    pub vms: Vec<VmPlan>,
}

/// The whole cluster.
pub struct Layout {
    dir: PathBuf,
    profile: Profile,
    /// Managers.
    pub managers: Vec<ManagerPlan>,
    /// Nodes.
    pub nodes: Vec<NodePlan>,
}

/// Hands out ports below those that the kernel gives to anyone who asks for none (32768 on Linux), so that neither a
/// forwarder nor an outgoing connection takes one before its daemon binds it.
struct Ports(u16);

impl Ports {
    /// First and last port that is handed out.
    const RANGE: (u16, u16) = (10_000, 29_999);

    fn new() -> Self {
        // Two clusters that start at once begin at different places.
        let spread = u32::from(Self::RANGE.1 - Self::RANGE.0);
        let begin = std::process::id().wrapping_mul(97) % spread;
        Self(Self::RANGE.0 + u16::try_from(begin).unwrap_or_default())
    }

    /// Returns a port that nobody has on this address, and that it has not handed out before.
    fn free(&mut self, ip: IpAddr) -> io::Result<SocketAddr> {
        for _ in Self::RANGE.0..Self::RANGE.1 {
            let port = self.0;
            self.0 = if port == Self::RANGE.1 { Self::RANGE.0 } else { port + 1 };
            if let Ok(listener) = TcpListener::bind((ip, port)) {
                return listener.local_addr();
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{ip} has no free port in {:?}", Self::RANGE)))
    }

    /// Returns where a manager's API listens: the usual port, or another one when that is taken.
    fn api(&mut self, number: u8) -> io::Result<SocketAddr> {
        match TcpListener::bind((LOCALHOST, API_PORT + u16::from(number) - 1)) {
            Ok(listener) => listener.local_addr(),
            Err(_) => self.free(LOCALHOST),
        }
    }
}

fn loopback(third: u8, fourth: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, third, fourth).into()
}

impl Layout {
    /// Plans a cluster in this folder.
    ///
    /// # Errors
    /// When there are no free ports.
    pub fn plan(dir: &Path, profile: Profile) -> io::Result<Self> {
        let mut ports = Ports::new();
        let managers = (1..=MANAGERS)
            .map(|i| {
                let id = format!("m{i}");
                Ok(ManagerPlan {
                    id,
                    management: ports.free(LOCALHOST)?,
                    service: ports.free(LOCALHOST)?,
                    api: ports.api(i)?,
                })
            })
            .collect::<io::Result<_>>()?;
        let nodes = (1..=NODES)
            .map(|i| {
                let relay = ports.free(LOCALHOST)?;
                let vms = (1..=VMS_PER_NODE).map(|k| {
                    let number = (i - 1) * VMS_PER_NODE + k;
                    let address = loopback(10 + i, k);
                    Ok(VmPlan {
                        name: format!("desk-{number}"),
                        id: format!("6f1c2a9e-0000-4000-8000-{number:012}"),
                        address,
                        rdp_port: ports.free(address)?.port(),
                    })
                });
                Ok(NodePlan {
                    id: format!("n{i}"),
                    relay,
                    watchers_management: (1..=WATCHERS_MAX).map(|k| loopback(20 + i, k)).collect(),
                    watchers_service: (1..=WATCHERS_MAX).map(|k| loopback(30 + i, k)).collect(),
                    vms: vms.collect::<io::Result<_>>()?,
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { dir: dir.to_owned(), profile, managers, nodes })
    }

    /// Returns where a daemon's configuration is.
    pub fn config(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.toml"))
    }

    /// Returns where a daemon's log is.
    pub fn log(&self, id: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{id}.log"))
    }

    /// Returns where the bearer token is, the same for all managers.
    pub fn token(&self) -> PathBuf {
        self.dir.join("api.token")
    }

    fn tls(&self, id: &str) -> String {
        let pki = self.dir.join("pki");
        let path = |file: String| toml::Value::String(pki.join(file).display().to_string()).to_string();
        format!(
            "[tls]\nca_certificate = {}\ncertificate = {}\nkey = {}\n",
            path("ca.pem".to_owned()),
            path(format!("{id}.pem")),
            path(format!("{id}.key"))
        )
    }

    /// Puts a forwarder under every link and writes all configuration files.
    ///
    /// # Errors
    /// When a port cannot be bound or a file cannot be written.
    pub async fn write(&self, watcher: &Path, probes: &Path) -> anyhow::Result<Forwarder> {
        let mut forwarder = Forwarder::default();
        fs::create_dir_all(self.dir.join("logs"))?;
        for manager in &self.managers {
            let text = self.manager_config(manager, &mut forwarder).await?;
            write(&self.config(&manager.id), &text)?;
        }
        for node in &self.nodes {
            let text = self.node_config(node, watcher, probes, &mut forwarder).await?;
            write(&self.config(&node.id), &text)?;
            for vm in &node.vms {
                let path = self.vm_dir(node).join(format!("{}.toml", vm.name));
                let at = SocketAddr::new(vm.address, 0);
                let to = SocketAddr::new(vm.address, vm.rdp_port);
                let route = Route { from: Vec::new(), link: format!("w-vm:{}", vm.name) };
                let port = forwarder.add(at, to, vec![route]).await?.port();
                write(&path, &vm_file(vm, port))?;
            }
        }
        Ok(forwarder)
    }

    fn vm_dir(&self, node: &NodePlan) -> PathBuf {
        self.dir.join(&node.id).join("vms")
    }

    async fn manager_config(&self, manager: &ManagerPlan, forwarder: &mut Forwarder) -> anyhow::Result<String> {
        let id = &manager.id;
        let mut text = format!(
            "# Made by \"vouch dev\".\nid = \"{id}\"\ndata_dir = {}\n\n[listen]\nmanagement = \"{}\"\nservice = \"{}\"\n\n\
             [api]\nlisten = \"{}\"\ntoken_file = {}\n\n{}",
            quoted(&self.dir.join(id)),
            manager.management,
            manager.service,
            manager.api,
            quoted(&self.token()),
            self.tls(id),
        );
        if *id == self.managers[0].id {
            writeln!(text, "ca_key = {}", quoted(&self.dir.join("pki/ca.key")))?;
        }
        for member in &self.managers {
            writeln!(
                text,
                "\n[[manager]]\nid = \"{}\"\nmanagement = \"{}\"\nservice = \"{}\"\napi = \"http://{}\"",
                member.id, member.management, member.service, member.api
            )?;
        }
        for other in self.managers.iter().filter(|m| m.id != *id) {
            let (management, service) = dial(forwarder, id, other).await?;
            let to = &other.id;
            writeln!(text, "\n[dial.{to}]\nmanagement = \"{management}\"\nservice = \"{service}\"")?;
        }
        // Tests watch certificates being renewed.
        let (profile, certificates) = match self.profile {
            Profile::Default => ("default", ""),
            Profile::Slow => ("slow", "\n[certificates]\ncheck_secs = 5\n"),
        };
        writeln!(text, "\n[timing]\nprofile = \"{profile}\"\n{certificates}")?;
        Ok(text)
    }

    async fn node_config(
        &self,
        node: &NodePlan,
        watcher: &Path,
        probes: &Path,
        forwarder: &mut Forwarder,
    ) -> anyhow::Result<String> {
        let id = &node.id;
        let routes = self
            .nodes
            .iter()
            .map(|from| Route { from: from.watchers_management.clone(), link: format!("w@{}-{id}", from.id) });
        let advertised = forwarder.add(SocketAddr::new(LOCALHOST, 0), node.relay, routes.collect()).await?;
        let mut text = format!(
            "# Made by \"vouch dev\".\nid = \"{id}\"\nrack = \"r-{id}\"\ndata_dir = {}\nrelay = \"{}\"\n\
             relay_advertise = \"{advertised}\"\n\n{}",
            quoted(&self.dir.join(id)),
            node.relay,
            self.tls(id),
        );
        for manager in &self.managers {
            let route = Route { from: Vec::new(), link: format!("{id}-{}", manager.id) };
            let at = forwarder.add(SocketAddr::new(LOCALHOST, 0), manager.management, vec![route]).await?;
            writeln!(text, "\n[[manager]]\nid = \"{}\"\nmanagement = \"{at}\"", manager.id)?;
        }
        writeln!(text, "\n[hypervisor]\ndriver = \"local\"\nvm_dir = {}", quoted(&self.vm_dir(node)))?;
        writeln!(text, "\n[watchers]\nenabled = true\nbinary = {}\nprobes_dir = {}", quoted(watcher), quoted(probes))?;
        for (network, pool) in [("management", &node.watchers_management), ("service", &node.watchers_service)] {
            let pool: Vec<String> = pool.iter().map(|ip| format!("\"{ip}\"")).collect();
            writeln!(text, "\n[watchers.{network}]\naddresses = [{}]\nprefix_len = 24", pool.join(", "))?;
        }
        for manager in &self.managers {
            let (management, service) = dial(forwarder, &format!("w@{id}"), manager).await?;
            let to = &manager.id;
            writeln!(text, "\n[watchers.dial.{to}]\nmanagement = \"{management}\"\nservice = \"{service}\"")?;
        }
        Ok(text)
    }
}

/// Puts forwarders under the two links from `from` to a manager.
async fn dial(forwarder: &mut Forwarder, from: &str, to: &ManagerPlan) -> io::Result<(SocketAddr, SocketAddr)> {
    let at = SocketAddr::new(LOCALHOST, 0);
    let route = |link: String| vec![Route { from: Vec::new(), link }];
    let management = forwarder.add(at, to.management, route(format!("{from}-{}", to.id))).await?;
    let service = forwarder.add(at, to.service, route(format!("{from}-{}.svc", to.id))).await?;
    Ok((management, service))
}

/// All of it is on one disk.
const DATASTORE: &str = "dev";

fn vm_file(vm: &VmPlan, forwarded: u16) -> String {
    let VmPlan { name, id, address, rdp_port } = vm;
    format!(
        "# Made by \"vouch dev\". Watchers reach the VM through a forwarder on port {forwarded}.\n\
         id = \"{id}\"\nname = \"{name}\"\ndatastore = \"{DATASTORE}\"\n\n[local]\naddress = \"{address}\"\nrdp_port = {rdp_port}\n\n\
         [[probe]]\nprobe = \"rdp\"\nnetwork = \"service\"\nsettings = {{ port = {forwarded} }}\n\n\
         [[probe]]\nprobe = \"guest-agent\"\nnetwork = \"management\"\n"
    )
}

fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_written_configuration_is_one_that_the_daemons_accept() {
        let dir = tempfile::Builder::new().prefix("vd").tempdir_in("/tmp").unwrap();
        let layout = Layout::plan(dir.path(), Profile::Slow).unwrap();
        let forwarder = layout.write(Path::new("/x/vouch-watcher"), Path::new("/x/probes")).await.unwrap();
        for manager in &layout.managers {
            let config = vouch_manager::Config::load(&layout.config(&manager.id), |_| None).unwrap();
            assert_eq!(config.id.to_string(), manager.id);
        }
        for node in &layout.nodes {
            let config = vouch_node::Config::load(&layout.config(&node.id)).unwrap();
            assert_eq!(config.id.as_str(), node.id);
            for vm in &node.vms {
                let text = fs::read_to_string(layout.vm_dir(node).join(format!("{}.toml", vm.name))).unwrap();
                vouch_node::VmFile::parse(&text, vouch_node::config::DriverKind::Local).unwrap();
            }
        }
        let names: Vec<String> = forwarder.list().into_iter().map(|(name, ..)| name).collect();
        for name in ["n1-m1", "m1-m2", "m1-m2.svc", "w@n1-m1", "w@n1-m1.svc", "w@n1-n2", "w@n1-n1", "w-vm:desk-4"] {
            assert!(names.iter().any(|n| n == name), "{name} is not among {names:?}");
        }
    }
}
