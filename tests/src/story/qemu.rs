//! The stage of real machines: managers and nodes in network namespaces, guests and watchers as QEMU VMs.

mod breaks;
mod files;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vouch_types::Network;

use super::local::machine_pid;
use super::stage::{Profile, Stage};
use super::steps::until_well;
use crate::api::Client;
use crate::netns::{Addresses, Carrier, Cut, Host, Lab, Role};
use crate::process::{self, Process};
use crate::wall_clock::WallClock;
use crate::{paths, wait};

pub use breaks::OneWay;

const MANAGERS: usize = 3;
/// Port of the managers' mutually authenticated service.
const PORT: u16 = 7001;
const RELAY_PORT: u16 = 7002;
const API: &str = "127.0.0.1:7080";
/// How long a process may take to serve.
const SERVE: Duration = Duration::from_secs(30);
/// How long the guests and the watchers may take, all together: they boot in software emulation.
const BOOT: Duration = Duration::from_secs(180);
/// How long a command in a guest may take.
const GUEST_COMMAND: Duration = Duration::from_secs(30);

/// A guest of the stage: `desk-NUMBER`, and the index of the node that it is on.
#[derive(Debug, Clone, Copy)]
struct Guest {
    number: usize,
    node: usize,
}

/// What is to be played, which decides what is on the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// The story: two guests, both on node n1.
    Story,
    /// Rows of the fault table: a third guest on node n2, since what all nodes share shows only where each has something
    /// to lose; and managers with wall clocks of their own, where the library for that is installed.
    Rows,
    /// A rack of two nodes and one of a single node, with a guest each.
    Racks,
}

impl Scene {
    const GUESTS: &'static [Guest] =
        &[Guest { number: 1, node: 0 }, Guest { number: 2, node: 0 }, Guest { number: 3, node: 1 }];

    const IN_RACKS: &'static [Guest] =
        &[Guest { number: 1, node: 0 }, Guest { number: 2, node: 1 }, Guest { number: 3, node: 2 }];

    fn guests(self) -> &'static [Guest] {
        match self {
            Self::Story => &Self::GUESTS[..2],
            Self::Rows => Self::GUESTS,
            Self::Racks => Self::IN_RACKS,
        }
    }

    /// Returns the rack of each node.
    fn racks(self) -> &'static [&'static str] {
        match self {
            Self::Story | Self::Rows => &["r1", "r2"],
            Self::Racks => &["r1", "r1", "r2"],
        }
    }
}

struct Machine {
    host: Host,
    config: PathBuf,
    /// The file that stands in for the kernel's boot id since the machine was given power again.
    boot: Option<PathBuf>,
    process: Option<Process>,
}

/// A cluster on real QEMU guests. Dropping it ends everything that it started.
pub struct QemuStage {
    managers: Vec<Machine>,
    nodes: Vec<Machine>,
    scene: Scene,
    profile: Profile,
    /// How often a node was given power again.
    boots: u32,
    /// The guests' ports for commands, as far as they were used.
    ports: Mutex<BTreeMap<usize, BufReader<UnixStream>>>,
    lab: Lab,
    folder: tempfile::TempDir,
    logs: PathBuf,
    token: String,
    vouch: PathBuf,
    /// Whether what is told goes to the terminal.
    told: fn(&str),
}

fn ca(folder: &Path) -> PathBuf {
    folder.join("pki")
}

fn manager_addresses(i: usize) -> Addresses {
    Addresses::ending_with(u8::try_from(i + 1).unwrap_or(u8::MAX))
}

fn node_addresses(i: usize) -> Addresses {
    Addresses::ending_with(u8::try_from(i + 11).unwrap_or(u8::MAX))
}

fn vm_id(number: usize) -> String {
    format!("6f1c2a9e-0000-4000-8000-{number:012}")
}

impl QemuStage {
    /// Starts the whole of it and waits until it is well; returns how long the guests took.
    ///
    /// # Errors
    /// Fails with the logs' place if something doesn't come up.
    pub fn start(test: &str, profile: Profile, scene: Scene, told: fn(&str)) -> Result<(Self, Duration)> {
        let folder = tempfile::Builder::new().prefix("vouch-").tempdir().context("a folder")?;
        let logs = paths::logs(test)?;
        let vouch = paths::vouch()?;
        let mut lab = Lab::new()?;
        let mut managers = Vec::new();
        let mut nodes = Vec::new();
        for i in 0..MANAGERS {
            let host = lab.add(&format!("m{}", i + 1), Role::Plain, manager_addresses(i))?;
            let config = folder.path().join(format!("m{}.toml", i + 1));
            managers.push(Machine { host, config, boot: None, process: None });
        }
        for i in 0..scene.racks().len() {
            let host = lab.add(&format!("n{}", i + 1), Role::Compute, node_addresses(i))?;
            let config = folder.path().join(format!("n{}.toml", i + 1));
            nodes.push(Machine { host, config, boot: None, process: None });
        }
        let token = "the-token-of-this-test-cluster-0123456789".to_owned();
        let mut stage = Self {
            managers,
            nodes,
            scene,
            profile,
            boots: 0,
            ports: Mutex::default(),
            lab,
            folder,
            logs,
            token,
            vouch,
            told,
        };
        stage.write_files(profile)?;
        for i in 0..MANAGERS {
            stage.start_manager_number(i)?;
        }
        stage.initialise()?;
        for i in 0..scene.racks().len() {
            stage.start_node(i)?;
        }
        let took = stage.until_well(BOOT).with_context(|| format!("the logs are in {}", stage.logs.display()))?;
        Ok((stage, took))
    }

    /// Returns the network namespace of a manager, for a person who wants to look.
    pub fn namespace_of_manager(&self, number: usize) -> &str {
        &self.managers[number].host.namespace
    }

    /// Returns the file with the API's token.
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("api.token")
    }

    /// Returns where the logs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Returns what a manager that runs has logged so far.
    ///
    /// # Errors
    /// Fails if it doesn't run.
    pub fn manager_log(&self, name: &str) -> Result<String> {
        let machine = &self.managers[self.manager_number(name)?];
        machine.process.as_ref().with_context(|| format!("{name} runs"))?.log()
    }

    /// Returns a command that runs `vouch` on the machine of a manager that runs, with its API and token.
    ///
    /// # Errors
    /// Fails if no manager runs.
    pub fn cli(&self) -> Result<Command> {
        let machine = self.managers.iter().find(|m| m.process.is_some()).context("no manager runs")?;
        let mut command = machine.host.command(&self.vouch);
        command.args(["--api", &format!("http://{API}"), "--token-file"]).arg(self.token_file());
        Ok(command)
    }

    fn guest_socket(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("guest-{number}.sock"))
    }

    fn start_manager_number(&mut self, i: usize) -> Result<()> {
        let clock = self.clock_of(&self.managers[i].host.name)?;
        let machine = &mut self.managers[i];
        let mut command = machine.host.command(&self.vouch);
        command.args(["manager", "--config"]).arg(&machine.config);
        command.envs(clock.iter().flat_map(WallClock::environment));
        machine.process = Some(Process::start(&machine.host.name, &mut command, &self.logs)?);
        Ok(())
    }

    /// Starts the agent of a node; its guests, if it left any running, are adopted.
    ///
    /// # Errors
    /// Fails if it can't be started.
    pub fn start_node(&mut self, i: usize) -> Result<()> {
        let machine = &mut self.nodes[i];
        let mut command = match &machine.boot {
            None => machine.host.command(&self.vouch),
            Some(boot) => {
                // Each command in a namespace has mounts of its own, so nobody else sees this boot id.
                let mut command = machine.host.command("sh");
                command.args([
                    "-c",
                    "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"",
                    "sh",
                ]);
                command.arg(boot).arg(&self.vouch);
                command
            }
        };
        command.args(["node", "--config"]).arg(&machine.config);
        machine.process = Some(Process::start(&machine.host.name, &mut command, &self.logs)?);
        Ok(())
    }

    /// Kills the agent of a node as a crash would; its guests run on.
    ///
    /// # Errors
    /// Fails if it can't be killed.
    pub fn kill_node(&mut self, i: usize) -> Result<()> {
        let mut process = self.nodes[i].process.take().context("the node agent runs")?;
        process.kill()
    }

    fn initialise(&mut self) -> Result<()> {
        let client = self.clients().remove(0).1;
        let init = || -> Result<()> {
            let reply = client.post("/v1/cluster/init", &serde_json::json!({}))?;
            // Another try may have done it, and its answer was lost.
            if reply.status == 409 { Ok(()) } else { reply.ok().map(drop) }
        };
        wait::until_ok("the cluster is initialised", SERVE, init)
            .with_context(|| format!("the logs are in {}", self.logs.display()))?;
        Ok(())
    }

    fn run_dir(&self, node: usize, machine: &str) -> PathBuf {
        self.folder.path().join(format!("run-n{}", node + 1)).join(machine)
    }

    fn guest(&self, name: &str) -> Result<Guest> {
        let found = self.scene.guests().iter().find(|guest| name == format!("desk-{}", guest.number));
        found.copied().with_context(|| format!("there is no vm {name}"))
    }

    /// Returns the names of all guests.
    pub fn vms(&self) -> Vec<String> {
        self.scene.guests().iter().map(|guest| format!("desk-{}", guest.number)).collect()
    }

    /// Waits until every guest is up and proven, and watched by all who should.
    ///
    /// # Errors
    /// Fails if that takes longer.
    pub fn until_well(&self, limit: Duration) -> Result<Duration> {
        let vms = self.vms();
        until_well(self, &vms.iter().map(String::as_str).collect::<Vec<_>>(), limit)
    }

    fn vm_run_dir(&self, name: &str) -> Result<PathBuf> {
        let guest = self.guest(name)?;
        Ok(self.run_dir(guest.node, &vm_id(guest.number).replace('-', "")))
    }

    /// Returns the process id of a VM's QEMU.
    ///
    /// # Errors
    /// Fails if its node doesn't know one.
    pub fn vm_pid(&self, name: &str) -> Result<u32> {
        machine_pid(&self.vm_run_dir(name)?)
    }

    /// Returns the name of the tap that a VM has on the service bridge.
    fn service_tap(&self, name: &str) -> Result<String> {
        let number = self.guest(name)?.number;
        let pid = self.vm_pid(name)?;
        let raw = fs::read(format!("/proc/{pid}/cmdline"))?;
        let arguments: Vec<_> = raw.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        let mac = format!("52:54:00:02:00:{number:02}");
        let device = arguments.iter().find(|a| a.contains(&mac)).context("QEMU was given the card")?;
        let field = |text: &str, key: &str| {
            text.split(',').find_map(|part| part.strip_prefix(key)).map(str::to_owned).context("a field")
        };
        let netdev = field(device, "netdev=")?;
        let wanted = format!("id={netdev}");
        let tap = arguments.iter().find(|a| a.starts_with("tap,") && a.split(',').any(|part| part == wanted));
        field(tap.context("QEMU was given the tap")?, "ifname=")
    }

    fn set_tap(&self, name: &str, word: &str) -> Result<()> {
        let tap = self.service_tap(name)?;
        let mut command = self.nodes[self.guest(name)?.node].host.command("ip");
        let status = command.args(["link", "set", "dev", &tap, word]).status()?;
        ensure!(status.success(), "ip link set dev {tap} {word}: {status}");
        Ok(())
    }

    /// Runs a command in a guest and returns what it printed.
    ///
    /// The connection is kept: a guest that finds its port closed in the middle of an answer may lose the next line.
    fn in_guest(&self, name: &str, line: &str) -> Result<String> {
        let number = self.guest(name)?.number;
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let port = match ports.entry(number) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(empty) => empty.insert(connect(&self.guest_socket(number))?),
        };
        let done = run_line(port, line);
        if done.is_err() {
            ports.remove(&number);
        }
        done.with_context(|| format!("{line:?} in {name}"))
    }

    fn agent_cut(&self) -> Cut {
        let node = &self.nodes[0].host.addresses;
        let managers: Vec<_> = (0..MANAGERS).map(manager_addresses).flat_map(|a| [a.management, a.service]).collect();
        Cut::between(&[node.management, node.service], &managers)
    }

    fn manager_number(&self, name: &str) -> Result<usize> {
        self.managers.iter().position(|m| m.host.name == name).with_context(|| format!("there is no manager {name}"))
    }
}

fn connect(socket: &Path) -> Result<BufReader<UnixStream>> {
    let stream = UnixStream::connect(socket).with_context(|| format!("can't reach {}", socket.display()))?;
    stream.set_read_timeout(Some(GUEST_COMMAND))?;
    Ok(BufReader::new(stream))
}

fn run_line(port: &mut BufReader<UnixStream>, line: &str) -> Result<String> {
    port.get_mut().write_all(format!("{line}\n").as_bytes())?;
    let mut printed = String::new();
    loop {
        let mut answer = String::new();
        let read = port.read_line(&mut answer).context("the guest said nothing")?;
        ensure!(read > 0, "the guest closed its port");
        match answer.trim_end().strip_prefix("exit ") {
            Some("0") => return Ok(printed),
            Some(code) => bail!("it ended with {code}: {printed}"),
            None => printed.push_str(&answer),
        }
    }
}

impl Stage for QemuStage {
    fn profile(&self) -> Profile {
        self.profile
    }

    fn clients(&self) -> Vec<(String, Client)> {
        let running = self.managers.iter().filter(|m| m.process.is_some());
        running
            .map(|m| {
                let client = Client::new(format!("http://{API}"), self.token.clone()).on(&m.host);
                (m.host.name.clone(), client)
            })
            .collect()
    }

    fn cut_agent(&mut self) -> Result<()> {
        self.lab.cut(&self.agent_cut())
    }

    fn heal_agent(&mut self) -> Result<()> {
        self.lab.heal(&self.agent_cut())
    }

    fn cut_uplink(&mut self) -> Result<()> {
        self.lab.carrier(&self.nodes[0].host, Network::Management, Carrier::Down)
    }

    fn heal_uplink(&mut self) -> Result<()> {
        self.lab.carrier(&self.nodes[0].host, Network::Management, Carrier::Up)
    }

    fn kill_manager(&mut self, name: &str) -> Result<()> {
        let i = self.manager_number(name)?;
        let mut process = self.managers[i].process.take().with_context(|| format!("{name} runs"))?;
        process.kill()
    }

    fn start_manager(&mut self, name: &str) -> Result<()> {
        let i = self.manager_number(name)?;
        self.start_manager_number(i)
    }

    fn kill_vm(&mut self, name: &str) -> Result<()> {
        process::kill_by_pid(self.vm_pid(name)?)
    }

    fn pull_cable(&mut self, name: &str) -> Result<()> {
        self.set_tap(name, "down")
    }

    fn plug_cable(&mut self, name: &str) -> Result<()> {
        self.set_tap(name, "up")
    }

    fn stop_rdp(&mut self, name: &str) -> Result<()> {
        self.in_guest(name, "killall xrdp").map(drop)
    }

    fn start_rdp(&mut self, name: &str) -> Result<()> {
        self.in_guest(name, "xrdp --nodaemon >/dev/null 2>&1 &").map(drop)
    }

    fn kill_watcher(&mut self, id: &str) -> Result<()> {
        // The story kills the watcher of node n2.
        process::kill_by_pid(machine_pid(&self.run_dir(1, id))?)
    }

    fn tell(&self, text: &str) {
        (self.told)(text);
    }
}

impl Drop for QemuStage {
    fn drop(&mut self) {
        // Agents first: they must not see their guests go and say so while everything ends.
        for machine in self.nodes.iter_mut().chain(&mut self.managers) {
            machine.process = None;
        }
    }
}
