//! The stage of processes: `vouch dev`, whose VMs and watchers are processes on loopback and whose links run through
//! forwarders. It shows the logic of a whole cluster in seconds; that real machines agree is what the stage of QEMU
//! shows.

mod agents;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::stage::{Profile, Stage, VM_ONE, VM_TWO};
use super::steps::until_well;
use crate::api::Client;
use crate::process::{self, Process};
use crate::{paths, wait};

/// How long the whole cluster may take until it is well.
const SERVE: Duration = Duration::from_secs(60);
/// How long a manager may take to end in good order.
const STOP: Duration = Duration::from_secs(30);
/// Where the VM of a new node is; the port says that any will do.
const NEW_VM: (&str, u16) = ("127.0.19.1", 0);
const MANAGERS: [&str; 3] = ["m1", "m2", "m3"];

/// A cluster on loopback. Dropping it ends everything that it started.
pub struct LocalStage {
    dev: Process,
    /// Managers that this test has started again; those that it has killed are absent from both.
    restarted: BTreeMap<String, Process>,
    killed: Vec<String>,
    /// Run folders of VMs that this test has added: they live on when their node's agent ends.
    added_vms: Vec<PathBuf>,
    folder: tempfile::TempDir,
    logs: PathBuf,
    vouch: PathBuf,
    profile: Profile,
    told: fn(&str),
}

impl LocalStage {
    /// Starts the whole of it and waits until it is well; returns how long that took.
    ///
    /// # Errors
    /// Fails with the logs' place if something doesn't come up.
    pub fn start(test: &str, profile: Profile, told: fn(&str)) -> Result<(Self, Duration)> {
        let folder = tempfile::Builder::new().prefix("vl").tempdir().context("a folder")?;
        let logs = paths::logs(test)?;
        let vouch = paths::vouch()?;
        let mut command = Command::new(&vouch);
        command.args(["dev", "--dir"]).arg(folder.path()).args(["up", "--profile", profile.name()]);
        let dev = Process::start("dev", &mut command, &logs)?;
        let mut stage = Self {
            dev,
            restarted: BTreeMap::new(),
            killed: Vec::new(),
            added_vms: Vec::new(),
            folder,
            logs,
            vouch,
            profile,
            told,
        };
        let begun = std::time::Instant::now();
        let ready = |stage: &mut Self| -> Result<()> {
            stage.dev.must_run()?;
            ensure!(stage.dev.log()?.contains("ready after"), "vouch dev is not ready");
            Ok(())
        };
        wait::until_ok("vouch dev is ready, or has ended", SERVE, || {
            if stage.dev.ended()?.is_some() { Ok(()) } else { ready(&mut stage) }
        })
        .with_context(|| stage.last_words())?;
        stage.dev.must_run()?;
        until_well(&stage, &[VM_ONE, VM_TWO], SERVE).with_context(|| stage.last_words())?;
        Ok((stage, begun.elapsed()))
    }

    /// Starts the whole of it with the tests' timing, and plays. For tests: a failure is a panic that names the logs.
    ///
    /// # Panics
    /// When it does not come up, or `play` fails.
    pub fn play(test: &str, told: fn(&str), play: impl FnOnce(&mut Self) -> Result<()>) {
        let (mut stage, ready) = Self::start(test, Profile::Slow, told).unwrap_or_else(|e| panic!("{e:#}"));
        told(&format!("{test}: well after {ready:.1?}"));
        if let Err(error) = play(&mut stage) {
            let logs = stage.keep_logs().map_or_else(|e| format!("{e:#}"), |logs| logs.display().to_string());
            panic!("{error:#}\nlogs: {logs}");
        }
    }

    /// Returns a command that runs `vouch` with the managers' APIs and the token.
    pub fn cli(&self) -> Command {
        let mut command = Command::new(&self.vouch);
        for id in MANAGERS {
            if let Ok(api) = self.api_of(id) {
                command.args(["--api", &api]);
            }
        }
        command.arg("--token-file").arg(self.token_file());
        command
    }

    /// Returns the file with the token of the managers' APIs.
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("api.token")
    }

    /// Copies the daemons' logs beside the test's own, and says where they are.
    ///
    /// # Errors
    /// Fails if they can't be copied.
    pub fn keep_logs(&self) -> Result<PathBuf> {
        for entry in fs::read_dir(self.folder.path().join("logs"))? {
            let path = entry?.path();
            if let Some(name) = path.file_name() {
                fs::copy(&path, self.logs.join(name))?;
            }
        }
        Ok(self.logs.clone())
    }

    /// Returns the log of a daemon that `vouch dev` started.
    ///
    /// # Errors
    /// Fails if it can't be read.
    pub fn log_of(&self, id: &str) -> Result<String> {
        let file = self.folder.path().join("logs").join(format!("{id}.log"));
        fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))
    }

    fn last_words(&self) -> String {
        let place = self.keep_logs().map_or_else(|e| format!("{e:#}"), |p| p.display().to_string());
        format!("logs: {place}; vouch dev said:\n{}", self.dev.log().unwrap_or_default())
    }

    fn api_of(&self, id: &str) -> Result<String> {
        let config = self.config_of(id)?;
        let listen = config.get("api").and_then(|api| api.get("listen")).and_then(toml::Value::as_str);
        Ok(format!("http://{}", listen.context("a manager has an API")?))
    }

    /// Cuts links as packet loss does, with `carrier` as a pulled cable does.
    ///
    /// # Errors
    /// Fails if there is no such link.
    pub fn set_links(&self, verb: &str, links: &[&str], carrier: bool) -> Result<()> {
        for link in links {
            let mut command = Command::new(&self.vouch);
            command.args(["dev", "--dir"]).arg(self.folder.path()).args([verb, link]);
            if carrier {
                command.arg("--carrier");
            }
            let done = command.output()?;
            ensure!(done.status.success(), "dev {verb} {link}: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    fn run_dir(&self, node: &str, machine: &str) -> PathBuf {
        self.folder.path().join(node).join("run").join(machine)
    }

    fn vm_run_dir(&self, name: &str) -> Result<PathBuf> {
        let number = name.strip_prefix("desk-").with_context(|| format!("there is no vm {name}"))?;
        Ok(self.run_dir("n1", &format!("6f1c2a9e000040008000{number:0>12}")))
    }

    /// Tells a VM of node 1 what to do: the words of its control socket, as `hang` or `resume`.
    ///
    /// # Errors
    /// Fails if it does not run, or does not know the word.
    pub fn control(&self, name: &str, word: &str) -> Result<()> {
        let socket = self.vm_run_dir(name)?.join("control.sock");
        let mut stream = UnixStream::connect(&socket).with_context(|| format!("can't reach {}", socket.display()))?;
        stream.write_all(format!("{word}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        ensure!(answer.trim() == "ok", "{word}: {answer}");
        Ok(())
    }

    /// Returns the pid of a daemon by its configuration file, as the kernel lists it.
    fn daemon_pid(&self, id: &str) -> Result<u32> {
        let config = self.folder.path().join(format!("{id}.toml")).display().to_string();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
            let Ok(raw) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
            let arguments: Vec<_> = raw.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
            if arguments.contains(&config) && !process::is_gone(pid) {
                return Ok(pid);
            }
        }
        bail!("no process runs with {config}")
    }

    /// Ends a manager in good order, as an operator does who restarts it.
    ///
    /// # Errors
    /// Fails if it doesn't run, or stays.
    pub fn stop_manager(&mut self, name: &str) -> Result<()> {
        process::stop_by_pid(self.daemon_pid(name)?, STOP)?;
        self.restarted.remove(name);
        self.killed.push(name.to_owned());
        Ok(())
    }

    /// Removes the data folder of a manager that does not run.
    ///
    /// # Errors
    /// Fails if it can't be removed.
    pub fn empty_manager(&self, name: &str) -> Result<()> {
        let config = self.config_of(name)?;
        let folder = config.get("data_dir").and_then(toml::Value::as_str).context("a manager has a data folder")?;
        fs::remove_dir_all(folder).with_context(|| format!("{folder} can't be removed"))
    }

    /// Checks that a manager which was started again still runs.
    ///
    /// # Errors
    /// Fails with the last lines that it wrote if it has ended.
    pub fn must_run(&mut self, name: &str) -> Result<()> {
        self.restarted.get_mut(name).with_context(|| format!("{name} was not started again"))?.must_run()
    }

    /// Waits until a daemon that was started again has ended by itself; returns its exit code and what it said.
    ///
    /// # Errors
    /// Fails if it was not started again, or runs on.
    pub fn await_end(&mut self, id: &str, limit: Duration) -> Result<(Option<i32>, String)> {
        let process = self.restarted.get_mut(id).with_context(|| format!("{id} was not started again"))?;
        let (status, _) = wait::until_ok(format!("{id} has ended by itself"), limit, || {
            process.ended()?.with_context(|| format!("{id} runs on"))
        })?;
        Ok((status.code(), process.log()?))
    }

    /// Lets every flush of a daemon's files fail with EIO from here on, as a disk does that is broken (strace(1), option
    /// `inject`), for as long as what is returned lives.
    ///
    /// # Errors
    /// Fails if it doesn't run, or there is no strace.
    pub fn fail_flushes(&self, id: &str) -> Result<Process> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]);
        strace.args(["-p", &self.daemon_pid(id)?.to_string()]);
        Process::start(&format!("{id}-flushes"), &mut strace, &self.logs)
    }

    /// Returns the folder of the CA, and of certificates and keys.
    pub fn pki(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    /// Returns the mutually authenticated port of a manager on the management network.
    ///
    /// # Errors
    /// Fails if it has no configuration.
    pub fn management_of(&self, id: &str) -> Result<String> {
        let config = self.config_of(id)?;
        let listen = config.get("listen").and_then(|l| l.get("management")).and_then(toml::Value::as_str);
        Ok(listen.context("a manager listens")?.to_owned())
    }

    /// Returns where the configuration of a daemon is.
    pub fn config_file(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("{id}.toml"))
    }

    fn config_of(&self, id: &str) -> Result<toml::Table> {
        let file = self.config_file(id);
        let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
        Ok(toml::from_str(&text)?)
    }

    /// Makes the configuration of a third node, whose files are NAME.pem, NAME.key and ca.pem of a folder, with one VM,
    /// and starts it.
    ///
    /// # Errors
    /// Fails if they can't be made.
    pub fn start_new_node(&mut self, name: &str, pki: &Path) -> Result<()> {
        let mut config = self.config_of("n2")?;
        let at = |name: String| toml::Value::String(self.folder.path().join(name).display().to_string());
        let file = |name: String| toml::Value::String(pki.join(name).display().to_string());
        let relay = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())?;
        config.insert("id".to_owned(), toml::Value::String(name.to_owned()));
        config.insert("data_dir".to_owned(), at(name.to_owned()));
        config.insert("relay".to_owned(), toml::Value::String(relay.to_string()));
        config.remove("relay_advertise");
        // Its VM is what counts here: the others have the addresses for watchers.
        config.remove("watchers");
        let tls: toml::Table = [("ca_certificate", "ca.pem".to_owned()), ("certificate", format!("{name}.pem"))]
            .into_iter()
            .chain([("key", format!("{name}.key"))])
            .map(|(key, value)| (key.to_owned(), file(value)))
            .collect();
        config.insert("tls".to_owned(), toml::Value::Table(tls));
        let vms = self.folder.path().join(name).join("vms");
        fs::create_dir_all(&vms)?;
        let Some(toml::Value::Table(hypervisor)) = config.get_mut("hypervisor") else { bail!("no hypervisor") };
        hypervisor.insert("vm_dir".to_owned(), toml::Value::String(vms.display().to_string()));
        let port = std::net::TcpListener::bind(NEW_VM).and_then(|listener| listener.local_addr())?.port();
        self.added_vms.push(self.run_dir(name, "6f1c2a9e000040008000000000000009"));
        let vm = format!(
            "id = \"6f1c2a9e-0000-4000-8000-000000000009\"\nname = \"desk-9\"\n\n[local]\naddress = \"{}\"\nrdp_port = \
             {port}\n",
            NEW_VM.0
        );
        fs::write(vms.join("desk-9.toml"), vm)?;
        fs::write(self.folder.path().join(format!("{name}.toml")), toml::to_string(&config)?)?;
        self.start_daemon("node", name)
    }

    /// Makes certificate and configuration of a fourth manager, and starts it; it waits to be added. Returns its
    /// address.
    ///
    /// # Errors
    /// Fails if they can't be made.
    pub fn start_newcomer(&mut self, name: &str) -> Result<String> {
        let pki = self.pki();
        let mut issue = Command::new(&self.vouch);
        issue.args(["pki", "issue"]).arg(&pki).args(["--role", "manager", "--id", name]);
        let issued = issue.output()?;
        ensure!(issued.status.success(), "pki issue: {}", String::from_utf8_lossy(&issued.stderr));
        self.start_newcomer_with(name, &pki)
    }

    /// Makes the configuration of a fourth manager, whose files are NAME.pem, NAME.key and ca.pem of a folder, and
    /// starts it; it waits to be added. Returns its address.
    ///
    /// # Errors
    /// Fails if it can't be made.
    pub fn start_newcomer_with(&mut self, name: &str, pki: &Path) -> Result<String> {
        let free = || -> Result<std::net::SocketAddr> {
            Ok(std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())?)
        };
        let (management, api) = (free()?, free()?);
        let mut config = self.config_of("m1")?;
        let value = |text: String| toml::Value::String(text);
        config.insert("id".to_owned(), value(name.to_owned()));
        config.insert("data_dir".to_owned(), value(self.folder.path().join(name).display().to_string()));
        config.remove("dial");
        let mut table = |key: &str, name: &str, to: Option<String>| {
            let Some(toml::Value::Table(table)) = config.get_mut(key) else { return };
            match to {
                Some(to) => table.insert(name.to_owned(), toml::Value::String(to)),
                None => table.remove(name),
            };
        };
        table("listen", "management", Some(management.to_string()));
        table("listen", "service", None);
        table("api", "listen", Some(api.to_string()));
        table("tls", "ca_key", None);
        table("tls", "ca_certificate", Some(pki.join("ca.pem").display().to_string()));
        table("tls", "certificate", Some(pki.join(format!("{name}.pem")).display().to_string()));
        table("tls", "key", Some(pki.join(format!("{name}.key")).display().to_string()));
        let mut own = toml::Table::new();
        own.insert("id".to_owned(), value(name.to_owned()));
        own.insert("management".to_owned(), value(management.to_string()));
        own.insert("api".to_owned(), value(format!("http://{api}")));
        if let Some(toml::Value::Array(managers)) = config.get_mut("manager") {
            managers.push(toml::Value::Table(own));
        }
        fs::write(self.folder.path().join(format!("{name}.toml")), toml::to_string(&config)?)?;
        self.start_daemon("manager", name)?;
        Ok(management.to_string())
    }

    /// Returns a client of one manager's API, whether it runs or not.
    ///
    /// # Errors
    /// Fails if it has no configuration.
    pub fn client_of(&self, name: &str) -> Result<Client> {
        let token = fs::read_to_string(self.folder.path().join("api.token"))?;
        Ok(Client::new(self.api_of(name)?, token.trim().to_owned()))
    }

    fn start_daemon(&mut self, kind: &str, id: &str) -> Result<()> {
        let mut command = Command::new(&self.vouch);
        command.args([kind, "--config"]).arg(self.folder.path().join(format!("{id}.toml")));
        let process = Process::start(&format!("{id}-again"), &mut command, &self.logs)?;
        self.restarted.insert(id.to_owned(), process);
        Ok(())
    }
}

/// Returns the pid in a machine's `state.json`.
pub(super) fn machine_pid(folder: &Path) -> Result<u32> {
    let file = folder.join("state.json");
    let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
    let state: serde_json::Value = serde_json::from_str(&text)?;
    let pid = state.pointer("/life/running/pid").and_then(serde_json::Value::as_u64);
    let pid = pid.with_context(|| format!("{}: it does not run: {state}", file.display()))?;
    Ok(u32::try_from(pid)?)
}

impl Stage for LocalStage {
    fn profile(&self) -> Profile {
        self.profile
    }

    fn clients(&self) -> Vec<(String, Client)> {
        let token = fs::read_to_string(self.folder.path().join("api.token")).unwrap_or_default();
        let running = MANAGERS.into_iter().filter(|id| !self.killed.iter().any(|k| k == id));
        running
            .filter_map(|id| Some((id.to_owned(), Client::new(self.api_of(id).ok()?, token.trim().to_owned()))))
            .collect()
    }

    fn cut_agent(&mut self) -> Result<()> {
        self.set_links("cut", &["n1-m*"], false)
    }

    fn heal_agent(&mut self) -> Result<()> {
        self.set_links("heal", &["n1-m*"], false)
    }

    fn cut_uplink(&mut self) -> Result<()> {
        self.set_links("cut", &["n1-m*", "w@n1-m1", "w@n1-m2", "w@n1-m3", "w@n1-n2", "w@n2-n1"], false)
    }

    fn heal_uplink(&mut self) -> Result<()> {
        self.set_links("heal", &["n1-m*", "w@n1-m1", "w@n1-m2", "w@n1-m3", "w@n1-n2", "w@n2-n1"], false)
    }

    fn kill_manager(&mut self, name: &str) -> Result<()> {
        self.killed.push(name.to_owned());
        match self.restarted.remove(name) {
            Some(mut process) => process.kill(),
            None => process::kill_by_pid(self.daemon_pid(name)?),
        }
    }

    fn start_manager(&mut self, name: &str) -> Result<()> {
        self.start_daemon("manager", name)?;
        self.killed.retain(|k| k != name);
        Ok(())
    }

    fn kill_vm(&mut self, name: &str) -> Result<()> {
        process::kill_by_pid(machine_pid(&self.vm_run_dir(name)?)?)
    }

    fn pull_cable(&mut self, name: &str) -> Result<()> {
        self.set_links("cut", &[&format!("w-vm:{name}")], false)
    }

    fn plug_cable(&mut self, name: &str) -> Result<()> {
        self.set_links("heal", &[&format!("w-vm:{name}")], false)
    }

    fn stop_rdp(&mut self, name: &str) -> Result<()> {
        self.control(name, "stop-rdp")
    }

    fn start_rdp(&mut self, name: &str) -> Result<()> {
        self.control(name, "start-rdp")
    }

    fn kill_watcher(&mut self, id: &str) -> Result<()> {
        process::kill_by_pid(machine_pid(&self.run_dir("n2", id))?)
    }

    fn tell(&self, text: &str) {
        (self.told)(text);
    }
}

impl Drop for LocalStage {
    fn drop(&mut self) {
        self.restarted.clear();
        for folder in &self.added_vms {
            // One that never ran has no pid.
            let _ = machine_pid(folder).and_then(process::kill_by_pid);
        }
        // It ends everything that descends from it; killed at once, it would leave that behind.
        let _ = self.dev.stop(Duration::from_secs(15));
    }
}
