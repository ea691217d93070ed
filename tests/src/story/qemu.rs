//! The stage of real machines: managers and nodes in network namespaces, guests and watchers as QEMU VMs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vouch_types::Network;

use super::local::machine_pid;
use super::stage::{Profile, Stage, VM_ONE, VM_TWO};
use super::steps::until_well;
use crate::api::Client;
use crate::netns::{Addresses, Carrier, Cut, Host, Lab, Role};
use crate::process::{self, Process};
use crate::{paths, wait};

const MANAGERS: usize = 3;
const NODES: usize = 2;
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

struct Machine {
    host: Host,
    config: PathBuf,
    process: Option<Process>,
}

/// A cluster on real QEMU guests. Dropping it ends everything that it started.
pub struct QemuStage {
    managers: Vec<Machine>,
    nodes: Vec<Machine>,
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

fn vm_number(name: &str) -> Result<usize> {
    match name {
        VM_ONE => Ok(1),
        VM_TWO => Ok(2),
        other => bail!("there is no vm {other}"),
    }
}

impl QemuStage {
    /// Starts the whole of it and waits until it is well; returns how long the guests took.
    ///
    /// # Errors
    /// Fails with the logs' place if something doesn't come up.
    pub fn start(test: &str, profile: Profile, told: fn(&str)) -> Result<(Self, Duration)> {
        let folder = tempfile::Builder::new().prefix("vouch-").tempdir().context("a folder")?;
        let logs = paths::logs(test)?;
        let vouch = paths::vouch()?;
        let mut lab = Lab::new()?;
        let mut managers = Vec::new();
        let mut nodes = Vec::new();
        for i in 0..MANAGERS {
            let host = lab.add(&format!("m{}", i + 1), Role::Plain, manager_addresses(i))?;
            let config = folder.path().join(format!("m{}.toml", i + 1));
            managers.push(Machine { host, config, process: None });
        }
        for i in 0..NODES {
            let host = lab.add(&format!("n{}", i + 1), Role::Compute, node_addresses(i))?;
            let config = folder.path().join(format!("n{}.toml", i + 1));
            nodes.push(Machine { host, config, process: None });
        }
        let token = "the-token-of-this-test-cluster-0123456789".to_owned();
        let mut stage = Self { managers, nodes, lab, folder, logs, token, vouch, told };
        stage.write_files(profile)?;
        for i in 0..MANAGERS {
            stage.start_manager_number(i)?;
        }
        stage.initialise()?;
        for i in 0..NODES {
            stage.start_node(i)?;
        }
        let took = until_well(&stage, &[VM_ONE, VM_TWO], BOOT)
            .with_context(|| format!("the logs are in {}", stage.logs.display()))?;
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

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let done = Command::new(&self.vouch).args(arguments).output().context("vouch can't be started")?;
        ensure!(done.status.success(), "vouch {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    fn write_files(&self, profile: Profile) -> Result<()> {
        let at = self.folder.path();
        let pki = ca(at);
        let pki_text = pki.to_str().context("the folder's name is UTF-8")?;
        self.run(&["pki", "init", pki_text])?;
        let token = self.token_file();
        fs::write(&token, &self.token)?;
        fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        for (i, machine) in self.managers.iter().enumerate() {
            let id = format!("m{}", i + 1);
            self.run(&["pki", "issue", pki_text, "--role", "manager", "--id", &id])?;
            fs::write(&machine.config, self.manager_config(&id, i, profile))?;
        }
        for (i, machine) in self.nodes.iter().enumerate() {
            let id = format!("n{}", i + 1);
            self.run(&["pki", "issue", pki_text, "--role", "node", "--id", &id])?;
            let vms = at.join(format!("vms-{id}"));
            fs::create_dir(&vms)?;
            fs::write(&machine.config, self.node_config(&id, i)?)?;
        }
        for number in [1, 2] {
            fs::write(at.join(format!("vms-n1/desk-{number}.toml")), self.vm_file(number)?)?;
        }
        Ok(())
    }

    fn tls(&self, id: &str) -> String {
        let pki = ca(self.folder.path());
        let pki = pki.display();
        format!(
            "[tls]\nca_certificate = \"{pki}/ca.pem\"\ncertificate = \"{pki}/{id}.pem\"\nkey = \"{pki}/{id}.key\"\n"
        )
    }

    fn manager_config(&self, id: &str, i: usize, profile: Profile) -> String {
        let (at, own) = (self.folder.path().display(), manager_addresses(i));
        let mut members = String::new();
        for m in 0..MANAGERS {
            let a = manager_addresses(m);
            members.push_str(&format!(
                "[[manager]]\nid = \"m{}\"\nmanagement = \"{}:{PORT}\"\nservice = \"{}:{PORT}\"\n",
                m + 1,
                a.management,
                a.service
            ));
        }
        format!(
            "id = \"{id}\"\ndata_dir = \"{at}/{id}\"\n[listen]\nmanagement = \"{}:{PORT}\"\nservice = \"{}:{PORT}\"\n\
             [api]\nlisten = \"{API}\"\ntoken_file = \"{at}/api.token\"\n{}ca_key = \"{at}/pki/ca.key\"\n\
             {members}[timing]\nprofile = \"{}\"\n",
            own.management,
            own.service,
            self.tls(id),
            profile.name()
        )
    }

    fn node_config(&self, id: &str, i: usize) -> Result<String> {
        let (at, own) = (self.folder.path().display(), node_addresses(i));
        let image = paths::image("watcher")?;
        let image = image.canonicalize()?;
        let mut managers = String::new();
        let mut dial = String::new();
        for m in 0..MANAGERS {
            let (a, number) = (manager_addresses(m), m + 1);
            managers.push_str(&format!("[[manager]]\nid = \"m{number}\"\nmanagement = \"{}:{PORT}\"\n", a.management));
            dial.push_str(&format!(
                "[watchers.dial.m{number}]\nmanagement = \"{}:{PORT}\"\nservice = \"{}:{PORT}\"\n",
                a.management, a.service
            ));
        }
        // Two addresses more than one watcher needs: a lost one keeps its own until its node has destroyed it.
        let pool = |third: u8| {
            let first = 200 + 10 * i;
            (first..first + 4).map(|n| format!("\"10.{third}.0.{n}\"")).collect::<Vec<_>>().join(", ")
        };
        Ok(format!(
            "id = \"{id}\"\nrack = \"r{}\"\ndata_dir = \"{at}/{id}\"\nrelay = \"{}:{RELAY_PORT}\"\n{}{managers}\
             [hypervisor]\ndriver = \"qemu\"\nvm_dir = \"{at}/vms-{id}\"\nrun_dir = \"{at}/run-{id}\"\n\
             [watchers]\nenabled = true\nimage_dir = \"{}\"\n\
             [watchers.management]\nbridge = \"brmgmt\"\naddresses = [{}]\nprefix_len = 24\n\
             [watchers.service]\nbridge = \"brsvc\"\naddresses = [{}]\nprefix_len = 24\n{dial}",
            i + 1,
            own.management,
            self.tls(id),
            image.display(),
            pool(1),
            pool(2),
        ))
    }

    fn vm_file(&self, number: usize) -> Result<String> {
        let image = paths::image("guest")?.canonicalize()?;
        let (image, socket) = (image.display(), self.guest_socket(number));
        let (management, service) = (format!("10.1.0.{}", 100 + number), format!("10.2.0.{}", 100 + number));
        let probe = |probe: &str, network: Network, settings: &str| {
            format!(
                "[[probe]]
probe = \"{probe}\"
network = \"{network}\"
{settings}"
            )
        };
        Ok(format!(
            "id = \"{}\"\nname = \"desk-{number}\"\nmemory_mib = 128\n\
             kernel = \"{image}/vmlinux\"\ninitrd = \"{image}/initramfs.cpio\"\n\
             append = \"vouch.eth0={management}/24 vouch.eth1={service}/24\"\n\
             extra_args = [\"-chardev\", \"socket,id=tc,path={},server=on,wait=off\", \
             \"-device\", \"virtserialport,chardev=tc,name=vouch.test.0\"]\n\
             [[nic]]\nnetwork = \"management\"\nbridge = \"brmgmt\"\nmac = \"52:54:00:01:00:{number:02}\"\n\
             addresses = [\"{management}\"]\n\
             [[nic]]\nnetwork = \"service\"\nbridge = \"brsvc\"\nmac = \"52:54:00:02:00:{number:02}\"\n\
             addresses = [\"{service}\"]\n{}{}{}",
            vm_id(number),
            socket.display(),
            probe("rdp", Network::Service, "settings = { port = 3389 }\n"),
            probe("ping", Network::Service, ""),
            probe("guest-agent", Network::Management, ""),
        ))
    }

    fn guest_socket(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("guest-{number}.sock"))
    }

    fn start_manager_number(&mut self, i: usize) -> Result<()> {
        let machine = &mut self.managers[i];
        let mut command = machine.host.command(&self.vouch);
        command.args(["manager", "--config"]).arg(&machine.config);
        machine.process = Some(Process::start(&machine.host.name, &mut command, &self.logs)?);
        Ok(())
    }

    /// Starts the agent of a node; its guests, if it left any running, are adopted.
    ///
    /// # Errors
    /// Fails if it can't be started.
    pub fn start_node(&mut self, i: usize) -> Result<()> {
        let machine = &mut self.nodes[i];
        let mut command = machine.host.command(&self.vouch);
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

    fn vm_run_dir(&self, name: &str) -> Result<PathBuf> {
        Ok(self.run_dir(0, &vm_id(vm_number(name)?).replace('-', "")))
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
        let number = vm_number(name)?;
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
        let mut command = self.nodes[0].host.command("ip");
        let status = command.args(["link", "set", "dev", &tap, word]).status()?;
        ensure!(status.success(), "ip link set dev {tap} {word}: {status}");
        Ok(())
    }

    /// Runs a command in a guest and returns what it printed.
    fn in_guest(&self, name: &str, line: &str) -> Result<String> {
        let socket = self.guest_socket(vm_number(name)?);
        let mut stream = UnixStream::connect(&socket).with_context(|| format!("can't reach {}", socket.display()))?;
        stream.set_read_timeout(Some(GUEST_COMMAND))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut printed = String::new();
        for answer in BufReader::new(stream).lines() {
            let answer = answer.with_context(|| format!("the guest said nothing to {line:?}"))?;
            match answer.trim_end().strip_prefix("exit ") {
                Some("0") => return Ok(printed),
                Some(code) => bail!("{line:?} ended with {code} in the guest: {printed}"),
                None => printed.push_str(&answer),
            }
        }
        bail!("the guest closed its port")
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

impl Stage for QemuStage {
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
