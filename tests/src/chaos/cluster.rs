//! Three managers on machines of their own, two networks between them, and what can be done to them.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vouch_types::Network;

use super::nemesis::Who;
use crate::api::Client;
use crate::disk::SmallDisk;
use crate::netns::{Addresses, Cut, Host, Lab, Pace, Role};
use crate::process::Process;
use crate::wall_clock::WallClock;
use crate::{paths, wait};

const COUNT: usize = 3;
const PORT: u16 = 7001;
const API: &str = "127.0.0.1:7080";
const TOKEN: &str = "the-token-of-this-test-cluster-0123456789";
/// How large the disk of a manager is, and what is left free of it when it is filled: less than the watermark of
/// 128 MiB, and more than is written until that is noticed.
const DISK_MIB: u64 = 768;
const LEFT_MIB: u64 = 32;
/// How far a wall clock jumps, in seconds.
const JUMP: i64 = 3600;
/// How long a process may take to serve, and the cluster to be whole again.
const SERVE: Duration = Duration::from_secs(60);
/// How long a process may take to end in good order.
const STOP: Duration = Duration::from_secs(30);
/// How long one call of a client may take.
const CALL: Duration = Duration::from_secs(4);

struct Machine {
    host: Host,
    disk: SmallDisk,
    /// Where libfaketime is installed.
    clock: Option<WallClock>,
    process: Option<Process>,
    paused: bool,
}

/// Three managers. Dropping it ends them.
pub struct Managers {
    machines: Vec<Machine>,
    lab: Lab,
    folder: tempfile::TempDir,
    logs: PathBuf,
    vouch: PathBuf,
    cut: Option<Cut>,
}

fn addresses(i: usize) -> Addresses {
    Addresses::ending_with(u8::try_from(i + 1).unwrap_or(u8::MAX))
}

fn ips(i: usize) -> [Ipv4Addr; 2] {
    Network::ALL.map(|network| addresses(i).on(network))
}

fn disk_of(folder: &Path, i: usize) -> PathBuf {
    folder.join(format!("{}.disk", id(i)))
}

fn data_of(folder: &Path, i: usize) -> PathBuf {
    disk_of(folder, i).join("data")
}

fn id(i: usize) -> String {
    format!("m{}", i + 1)
}

impl Managers {
    /// Starts three managers and makes them a cluster.
    ///
    /// # Errors
    /// Fails if something doesn't come up.
    pub fn start(test: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("chaos-").tempdir_in(paths::target()).context("a folder")?;
        let mut lab = Lab::new()?;
        let mut machines = Vec::new();
        for i in 0..COUNT {
            let host = lab.add(&id(i), Role::Plain, addresses(i))?;
            let disk = SmallDisk::mount(&disk_of(folder.path(), i), DISK_MIB)?;
            let clock = WallClock::following(&folder.path().join(format!("{}.clock", id(i))))?;
            machines.push(Machine { host, disk, clock, process: None, paused: false });
        }
        let (logs, vouch) = (paths::logs(test)?, paths::vouch()?);
        let mut managers = Self { machines, lab, folder, logs, vouch, cut: None };
        managers.write_files()?;
        (0..COUNT).try_for_each(|i| managers.run(i))?;
        let first = managers.client(0);
        wait::until_ok("the cluster is made", SERVE, || {
            let reply = first.post("/v1/cluster/init", &json!({}))?;
            if reply.status == 409 { Ok(()) } else { reply.ok().map(drop) }
        })?;
        managers.whole()?;
        Ok(managers)
    }

    /// Returns where the logs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    fn write_files(&self) -> Result<()> {
        let at = self.folder.path();
        let pki = at.join("pki");
        let pki = pki.to_str().context("the folder's name is UTF-8")?;
        self.vouch(&["pki", "init", pki])?;
        let token = at.join("api.token");
        fs::write(&token, TOKEN)?;
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
        for i in 0..COUNT {
            self.vouch(&["pki", "issue", pki, "--role", "manager", "--id", &id(i)])?;
            fs::write(at.join(format!("{}.toml", id(i))), self.configuration(i))?;
        }
        Ok(())
    }

    fn configuration(&self, own: usize) -> String {
        let at = self.folder.path().display();
        let (name, [management, service]) = (id(own), ips(own));
        let data = data_of(self.folder.path(), own).display().to_string();
        let member = |i: usize| {
            let [management, service] = ips(i);
            format!(
                "[[manager]]\nid = \"{}\"\nmanagement = \"{management}:{PORT}\"\nservice = \"{service}:{PORT}\"\n",
                id(i)
            )
        };
        let members: String = (0..COUNT).map(member).collect();
        format!(
            "id = \"{name}\"\ndata_dir = \"{data}\"\n\
             [listen]\nmanagement = \"{management}:{PORT}\"\nservice = \"{service}:{PORT}\"\n\
             [api]\nlisten = \"{API}\"\ntoken_file = \"{at}/api.token\"\n\
             [tls]\nca_certificate = \"{at}/pki/ca.pem\"\ncertificate = \"{at}/pki/{name}.pem\"\n\
             key = \"{at}/pki/{name}.key\"\nca_key = \"{at}/pki/ca.key\"\n{members}[timing]\nprofile = \"default\"\n"
        )
    }

    fn vouch(&self, arguments: &[&str]) -> Result<()> {
        let done = Command::new(&self.vouch).args(arguments).output().context("vouch can't be started")?;
        ensure!(done.status.success(), "vouch {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    fn run(&mut self, i: usize) -> Result<()> {
        let machine = &mut self.machines[i];
        let mut command = machine.host.command(&self.vouch);
        command.envs(machine.clock.iter().flat_map(WallClock::environment));
        command.args(["manager", "--config"]).arg(self.folder.path().join(format!("{}.toml", id(i))));
        machine.process = Some(Process::start(&id(i), &mut command, &self.logs)?);
        Ok(())
    }

    /// Returns a client of one manager, by its place.
    pub fn client(&self, i: usize) -> Client {
        Client::new(format!("http://{API}"), TOKEN).on(&self.machines[i].host).within(CALL)
    }

    /// Returns clients of all managers.
    pub fn clients(&self) -> Vec<Client> {
        (0..COUNT).map(|i| self.client(i)).collect()
    }

    /// Returns the place of the manager that leads, as any of them says.
    ///
    /// # Errors
    /// Fails if nobody says.
    pub fn leader(&self) -> Result<usize> {
        let running = (0..COUNT).filter(|i| self.machines[*i].process.is_some() && !self.machines[*i].paused);
        let says = |i: usize| {
            let cluster = self.client(i).read("/v1/cluster").ok()?;
            let leader = cluster.get("leader")?.as_str()?.strip_prefix('m')?.parse::<usize>().ok()?;
            leader.checked_sub(1).filter(|i| *i < COUNT)
        };
        running.filter_map(says).next().context("nobody says who leads")
    }

    /// Returns the place that is meant; of the first manager when nobody leads.
    pub fn place(&self, who: Who) -> usize {
        let leader = self.leader().unwrap_or_default();
        match who {
            Who::Leader => leader,
            Who::Next => (leader + 1) % COUNT,
            Who::AfterNext => (leader + 2) % COUNT,
        }
    }

    /// Kills one as a crash would.
    ///
    /// # Errors
    /// Fails if it can't be killed.
    pub fn kill(&mut self, i: usize) -> Result<()> {
        self.machines[i].process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Ends one in good order.
    ///
    /// # Errors
    /// Fails if it stays.
    pub fn stop(&mut self, i: usize) -> Result<()> {
        self.machines[i].process.take().map_or(Ok(()), |mut process| process.stop(STOP).map(drop))
    }

    /// Lets one do nothing until everything is mended.
    ///
    /// # Errors
    /// Fails if it is gone.
    pub fn pause(&mut self, i: usize) -> Result<()> {
        self.machines[i].paused = true;
        self.machines[i].process.as_ref().map_or(Ok(()), Process::freeze)
    }

    /// Fills the disk of one until everything is mended. It has to go on.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn fill_disk(&mut self, i: usize) -> Result<()> {
        self.machines[i].disk.fill(LEFT_MIB)
    }

    /// Sets the wall clock of one forward until everything is mended.
    ///
    /// # Errors
    /// Fails if there is no library for it, or its file can't be written.
    pub fn jump_clock(&mut self, i: usize) -> Result<()> {
        let clock = self.machines[i].clock.as_ref();
        clock.context("libfaketime is not installed: `cargo xtask chaos` installs it")?.set(JUMP)
    }

    /// Drops packets between managers until everything is mended: from each of these to each of those.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn cut(&mut self, from: &[usize], to: &[usize]) -> Result<()> {
        let all = |places: &[usize]| places.iter().flat_map(|i| ips(*i)).collect::<Vec<_>>();
        let cut = Cut::one_way(&all(from), &all(to));
        self.lab.cut(&cut)?;
        self.cut = Some(self.cut.take().unwrap_or_default().and(cut));
        Ok(())
    }

    /// Holds everything up on both networks, or no longer.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn pace(&self, pace: Pace) -> Result<()> {
        Network::ALL.into_iter().try_for_each(|network| self.lab.pace(network, pace))
    }

    /// Takes one out of the cluster, wipes what it has stored, and brings it back with a vote.
    ///
    /// # Errors
    /// Fails if the cluster does not let it in again in time.
    pub fn replace(&mut self, i: usize) -> Result<()> {
        let others: Vec<Client> = (0..COUNT).filter(|other| *other != i).map(|i| self.client(i)).collect();
        let (name, [management, service]) = (id(i), ips(i));
        let any = |what: &str, call: &dyn Fn(&Client) -> Result<crate::api::Reply>| {
            wait::until_ok(format!("{name}: {what}"), SERVE, || {
                let mut last = None;
                for client in &others {
                    match call(client).and_then(crate::api::Reply::ok) {
                        Ok(cluster) => return Ok(cluster),
                        Err(error) => last = Some(error),
                    }
                }
                Err(last.context("there are others")?)
            })
        };
        let has = |cluster: &Value, voter: Option<bool>| {
            let members = cluster.get("members").and_then(Value::as_array).into_iter().flatten();
            members.filter(|m| m["id"] == name.as_str()).any(|m| voter.is_none_or(|voter| m["voter"] == voter))
        };
        // What was asked before may be done already: its answer can be lost.
        any("is removed", &|client| {
            let cluster = client.get("/v1/cluster")?;
            if !has(&cluster.body, None) { Ok(cluster) } else { client.delete(&format!("/v1/cluster/members/{name}")) }
        })?;
        self.kill(i)?;
        fs::remove_dir_all(data_of(self.folder.path(), i)).context("its data folder")?;
        self.run(i)?;
        let request = json!({"id": name, "management": format!("{management}:{PORT}"),
            "service": format!("{service}:{PORT}")});
        any("is added", &|client| {
            let cluster = client.get("/v1/cluster")?;
            if has(&cluster.body, None) { Ok(cluster) } else { client.post("/v1/cluster/members", &request) }
        })?;
        any("has a vote", &|client| {
            let cluster = client.get("/v1/cluster")?;
            if has(&cluster.body, Some(true)) {
                return Ok(cluster);
            }
            client.post(&format!("/v1/cluster/members/{name}/promote"), &json!({}))
        })?;
        Ok(())
    }

    /// Ends everything that was done to them.
    ///
    /// # Errors
    /// Fails if something can't be mended.
    pub fn mend(&mut self) -> Result<()> {
        if self.cut.take().is_some() {
            self.lab.heal_all()?;
        }
        self.pace(Pace::AtOnce)?;
        for i in 0..COUNT {
            self.machines[i].disk.free()?;
            self.machines[i].clock.as_ref().map_or(Ok(()), |clock| clock.set(0))?;
            if std::mem::take(&mut self.machines[i].paused)
                && let Some(process) = &self.machines[i].process
            {
                process.thaw()?;
            }
            if self.machines[i].process.is_none() {
                self.run(i)?;
            }
        }
        Ok(())
    }

    /// Fails if a manager has ended by itself.
    ///
    /// # Errors
    /// Names it, with its last words.
    pub fn must_run(&mut self) -> Result<()> {
        self.machines.iter_mut().filter_map(|machine| machine.process.as_mut()).try_for_each(Process::must_run)
    }

    /// Waits until every manager is ready and has applied the same.
    ///
    /// # Errors
    /// Fails if that doesn't come about.
    pub fn whole(&mut self) -> Result<()> {
        let clients = self.clients();
        let looked = wait::until_ok("all managers are whole", SERVE, || {
            let mut applied = Vec::new();
            for client in &clients {
                client.get("/readyz")?.ok()?;
                let cluster = client.read("/v1/cluster")?;
                applied.push(cluster.get("applied").and_then(Value::as_u64).context("applied")?);
            }
            ensure!(applied.iter().all(|index| *index == applied[0]), "applied {applied:?}");
            Ok::<(), anyhow::Error>(())
        });
        self.must_run()?;
        looked.map(drop).map_err(anyhow::Error::from)
    }
}
