//! A lab: two switches and the machines on them, made and taken away.

use std::{
    collections::{BTreeMap, BTreeSet},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, kill_process};
use vouch_types::Network;

use super::{
    fault::{Carriage, Carrier, Cut, Pace},
    host::{self, Addresses, Host, Role},
    run::{ip, ip_batch, nft, tc_batch},
};
use crate::{process as processes, wait};

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);
/// Interface names have at most 15 bytes, and a port's name has two before the host's.
const NAME_LIMIT: usize = 13;

/// Two networks and the machines on them. Dropping it removes everything.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    hosts: BTreeMap<String, Host>,
    /// Those that are plugged into a compute node and not into a switch.
    behind: BTreeSet<String>,
    namespaces: Vec<String>,
}

impl Lab {
    /// Makes the two switches, without machines.
    ///
    /// # Errors
    /// Fails without root, `ip` or `nft`; see [`super::must_skip`].
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut lab = Self {
            prefix: format!("vt{}-{number}", process::id()),
            hosts: BTreeMap::new(),
            behind: BTreeSet::new(),
            namespaces: Vec::new(),
        };
        for network in Network::ALL {
            let switch = lab.switch(network);
            lab.add_namespace(&switch)?;
            ip_batch(&switch, "link add name fabric type bridge mcast_snooping 0\nlink set dev fabric up\n")?;
            nft(
                &switch,
                "table bridge vouch {\n\
                 set cuts { type ipv4_addr . ipv4_addr; }\n\
                 chain cut { type filter hook forward priority 0; ip saddr . ip daddr @cuts drop; }\n\
                 chain carriage { type filter hook forward priority 1; }\n}\n",
            )?;
        }
        Ok(lab)
    }

    /// Adds a machine with a leg in both networks.
    ///
    /// # Errors
    /// Fails if the name is taken or too long, or the kernel refuses.
    pub fn add(&mut self, name: &str, role: Role, addresses: Addresses) -> Result<Host> {
        if name.is_empty() || name.len() > NAME_LIMIT {
            bail!("the host name {name:?} must have 1 to {NAME_LIMIT} bytes");
        }
        if self.hosts.contains_key(name) {
            bail!("there is a host {name} already");
        }
        let namespace = format!("{}-{name}", self.prefix);
        self.add_namespace(&namespace)?;
        let host = Host { name: name.to_owned(), namespace, role, addresses };
        ip_batch(&host.namespace, "link set lo up\n")?;
        for network in Network::ALL {
            self.plug_in(&host, network)?;
        }
        self.hosts.insert(name.to_owned(), host.clone());
        Ok(host)
    }

    /// Adds a stand-in for a VM to a compute node: a namespace whose legs join the node's bridges as a tap would.
    ///
    /// # Errors
    /// Fails as [`Self::add`] does, or if the node has no bridges.
    pub fn add_behind(&mut self, node: &Host, name: &str, addresses: Addresses) -> Result<Host> {
        if node.role != Role::Compute {
            bail!("{} is no compute node", node.name);
        }
        let namespace = format!("{}-{name}", self.prefix);
        self.add_namespace(&namespace)?;
        let host = Host { name: name.to_owned(), namespace, role: Role::Plain, addresses };
        ip_batch(&host.namespace, "link set lo up\n")?;
        for network in Network::ALL {
            let bridge = host::node_bridge(network);
            self.cable(&host, network, &node.namespace, bridge)?;
            address(&host, network, host::interface(network))?;
        }
        self.behind.insert(name.to_owned());
        self.hosts.insert(name.to_owned(), host.clone());
        Ok(host)
    }

    /// Returns a machine by its name.
    ///
    /// # Errors
    /// Fails if there is none of that name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.get(name).with_context(|| format!("the lab has no host {name}"))
    }

    /// Takes the carrier of a machine's port away or gives it back; the machine sees it.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn carrier(&self, host: &Host, network: Network, carrier: Carrier) -> Result<()> {
        let word = match carrier {
            Carrier::Up => "up",
            Carrier::Down => "down",
        };
        ip_batch(&self.switch(network), &format!("link set dev {} {word}\n", host.port(network)))
    }

    /// Begins to drop packets silently in both switches.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn cut(&self, cut: &Cut) -> Result<()> {
        self.change("add", cut)
    }

    /// Lets the packets of a cut through again; pairs that another cut names as well are healed too.
    ///
    /// # Errors
    /// Fails if the cut is not in force.
    pub fn heal(&self, cut: &Cut) -> Result<()> {
        self.change("delete", cut)
    }

    /// Heals every cut, whoever made it; what the switches do with everything that they carry stays.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn heal_all(&self) -> Result<()> {
        Network::ALL.iter().try_for_each(|&network| nft(&self.switch(network), "flush set bridge vouch cuts\n"))
    }

    /// Changes what becomes of all that goes through the switch of a network. What passes between machines of one node
    /// does not go through it.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn carry(&self, network: Network, carriage: Carriage) -> Result<()> {
        let rule = carriage.rule().map(|rule| format!("add rule bridge vouch carriage {rule}\n")).unwrap_or_default();
        nft(&self.switch(network), &format!("flush chain bridge vouch carriage\n{rule}"))
    }

    /// Changes how fast the switch of a network hands out what it carries to the machines that are plugged in.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn pace(&self, network: Network, pace: Pace) -> Result<()> {
        let plugged = self.hosts.values().filter(|host| !self.behind.contains(&host.name));
        let bucket = pace.bucket();
        let lines: String =
            plugged.map(|host| format!("qdisc replace dev {} root tbf {bucket}\n", host.port(network))).collect();
        tc_batch(&self.switch(network), &lines)
    }

    /// Kills every process on a machine at once: agent, hypervisors and all, as a power cut would.
    ///
    /// # Errors
    /// Fails if one of them stays.
    pub fn power_off(&self, host: &Host) -> Result<()> {
        kill_all(&host.namespace)
    }

    /// Returns the ids of the processes that run on a machine.
    ///
    /// # Errors
    /// Fails if the namespace is gone.
    pub fn pids(&self, host: &Host) -> Result<Vec<u32>> {
        pids(&host.namespace)
    }

    /// Returns the names of all namespaces of this lab.
    pub fn namespaces(&self) -> &[String] {
        &self.namespaces
    }

    fn change(&self, word: &str, cut: &Cut) -> Result<()> {
        let elements = cut.elements();
        if elements.is_empty() {
            return Ok(());
        }
        let line = format!("{word} element bridge vouch cuts {{ {elements} }}\n");
        Network::ALL.iter().try_for_each(|&network| nft(&self.switch(network), &line))
    }

    fn add_namespace(&mut self, name: &str) -> Result<()> {
        ip(&format!("netns add {name}"))?;
        self.namespaces.push(name.to_owned());
        Ok(())
    }

    fn switch(&self, network: Network) -> String {
        match network {
            Network::Management => format!("{}-swm", self.prefix),
            Network::Service => format!("{}-sws", self.prefix),
        }
    }

    fn plug_in(&self, host: &Host, network: Network) -> Result<()> {
        self.cable(host, network, &self.switch(network), "fabric")?;
        match host.role {
            Role::Plain => address(host, network, host::interface(network)),
            Role::Compute => {
                let (bridge, interface) = (host::node_bridge(network), host::interface(network));
                // The fixed address keeps the bridge from taking over a tap's lower one, after which the neighbours'
                // entries for it would be wrong for seconds.
                let mac = mac(host, network);
                ip_batch(
                    &host.namespace,
                    &format!(
                        "link add name {bridge} type bridge mcast_snooping 0\nlink set dev {bridge} address {mac}\n\
                         link set dev {interface} master {bridge}\nlink set dev {interface} up\n"
                    ),
                )?;
                address(host, network, bridge)
            }
        }
    }

    /// Lays a cable from a machine's interface to a bridge in another namespace.
    fn cable(&self, host: &Host, network: Network, to: &str, bridge: &str) -> Result<()> {
        let (interface, port) = (host::interface(network), host.port(network));
        ip(&format!("link add name {port} netns {to} type veth peer name {interface} netns {}", host.namespace))?;
        ip_batch(to, &format!("link set dev {port} master {bridge}\nlink set dev {port} up\n"))
    }
}

impl Drop for Lab {
    #[expect(clippy::print_stderr, reason = "a drop has no other way to say what it couldn't take away")]
    fn drop(&mut self) {
        // Everything is tried whatever fails, since a panic may be the reason to be here.
        for namespace in &self.namespaces {
            if let Err(error) = kill_all(namespace) {
                eprintln!("lab: {error:#}");
            }
        }
        for namespace in self.namespaces.iter().rev() {
            if let Err(error) = ip(&format!("netns del {namespace}")) {
                eprintln!("lab: {error:#}");
            }
        }
    }
}

/// Gives an interface its machine's address in a network and takes it up.
fn address(host: &Host, network: Network, interface: &str) -> Result<()> {
    let address = host.addresses.on(network);
    ip_batch(&host.namespace, &format!("addr add {address}/24 dev {interface}\nlink set dev {interface} up\n"))
}

fn mac(host: &Host, network: Network) -> String {
    let [a, b, c, d] = host.addresses.on(network).octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn pids(namespace: &str) -> Result<Vec<u32>> {
    let text = ip(&format!("netns pids {namespace}"))?;
    Ok(text.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}

/// Kills until nothing is left, since a process may start another one while it is being killed.
fn kill_all(namespace: &str) -> Result<()> {
    let kill_those_left = || -> Result<()> {
        let left = pids(namespace)?;
        if left.is_empty() {
            return Ok(());
        }
        for &number in &left {
            // One that has ended meanwhile is as gone as the others will be.
            let _ = kill_process(processes::pid(number)?, Signal::KILL);
        }
        bail!("{left:?}")
    };
    wait::until_ok(format!("all processes in {namespace} are gone"), GONE, kill_those_left)?;
    Ok(())
}
