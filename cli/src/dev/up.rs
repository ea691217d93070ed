//! Starts the loopback cluster, tells how to use it, and ends it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use vouch_manager::api::view::{ClusterView, Page, VmView, WatcherView};
use vouch_wire::pki::PeerIdentity;

use super::children::{self, Process};
use super::control;
use super::layout::Layout;
use crate::args::{DevUpArgs, Format, Global};
use crate::client::Client;
use crate::commands::pki;
use crate::exit::{CliError, Exit};

/// How long certificates of a loopback cluster are valid.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long to wait until the cluster is complete before the user is told what is missing.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often to look.
const POLL: Duration = Duration::from_millis(50);

macro_rules! say {
    ($($text:tt)*) => {
        // The terminal may be gone; the cluster is then ended by its signal.
        let _ = writeln!(std::io::stdout(), $($text)*);
    };
}

/// Runs the cluster until Ctrl-C.
///
/// # Errors
/// When it cannot be started.
pub fn run(dir: &Path, args: &DevUpArgs) -> Result<(), CliError> {
    let begun = Instant::now();
    let _lock = take_folder(dir)?;
    let program = std::env::current_exe().context("finding this very program")?;
    let watcher = find_watcher(&program)?;
    let probes = precompile(dir, &watcher)?;
    make_certificates(dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        let layout = Layout::plan(dir, args.profile)?;
        let forwarder = Arc::new(layout.write(&watcher, &probes).await?);
        control::serve(dir, forwarder)?;
        children::become_reaper()?;
        let outcome = tokio::select! {
            biased;
            () = stop.asked() => Ok(()),
            outcome = stay(&program, &layout, begun) => outcome,
        };
        say!("\nending all processes ...");
        children::end_all().await;
        let _ = fs::remove_file(control::socket(dir));
        outcome.map_err(Into::into)
    })
}

/// Ctrl-C or SIGTERM.
struct Stop(Signal, Signal, Signal);

impl Stop {
    fn new() -> std::io::Result<Self> {
        let on = |kind| signal(kind);
        Ok(Self(on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?))
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
            _ = self.2.recv() => {}
        }
    }
}

/// Makes the folder this process's own, and clears what an earlier cluster left in it. Probes stay.
fn take_folder(dir: &Path) -> anyhow::Result<File> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            return Err(e).with_context(|| format!("{}: cannot be made", dir.display()));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(dir)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::getuid().as_raw() {
        bail!("--dir {}: must be a folder of your own", dir.display());
    }
    let lock_path = dir.join("vouch-dev.lock");
    let empty = fs::read_dir(dir)?.next().is_none();
    if !empty && !lock_path.exists() {
        bail!("--dir {}: must be empty or made by \"vouch dev\": what is in it would be deleted", dir.display());
    }
    let lock = File::create(&lock_path)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| anyhow::anyhow!("--dir {}: another \"vouch dev\" runs in it", dir.display()))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "vouch-dev.lock" || name == "probes" || name == "probes.stamp" {
            continue;
        }
        let path = entry.path();
        let removed = if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("{}: cannot be removed", path.display()))?;
    }
    Ok(lock)
}

fn find_watcher(program: &Path) -> Result<PathBuf, CliError> {
    let path = program.with_file_name("vouch-watcher");
    if path.is_file() {
        return Ok(path);
    }
    let text = format!(
        "{}: is not there, and watchers are processes of it; build it with \"cargo build -p vouch-watcher\"",
        path.display()
    );
    Err(CliError::text(Exit::Failed, text))
}

/// Compiles the shipped probes with this very watcher, once per build of it.
fn precompile(dir: &Path, watcher: &Path) -> anyhow::Result<PathBuf> {
    let probes = dir.join("probes");
    let metadata = fs::metadata(watcher)?;
    let stamp = format!("{} {} {}.{}", watcher.display(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    let stamp_path = dir.join("probes.stamp");
    if fs::read_to_string(&stamp_path).is_ok_and(|have| have == stamp) && probes.join("manifest.json").is_file() {
        return Ok(probes);
    }
    say!("compiling the shipped probes into {} (once per build of vouch-watcher)", probes.display());
    if probes.exists() {
        fs::remove_dir_all(&probes)?;
    }
    let status = std::process::Command::new(watcher)
        .args(["precompile", "--out"])
        .arg(&probes)
        .status()
        .with_context(|| format!("{} precompile: cannot be started", watcher.display()))?;
    if !status.success() {
        bail!("{} precompile --out {}: {status}", watcher.display(), probes.display());
    }
    fs::write(stamp_path, stamp)?;
    Ok(probes)
}

fn make_certificates(dir: &Path) -> anyhow::Result<()> {
    let pki = dir.join("pki");
    pki::make_ca(&pki)?;
    for i in 1..=super::layout::MANAGERS {
        let id = format!("m{i}");
        pki::issue(&pki, &PeerIdentity::Manager(id.parse()?), &id, VALIDITY)?;
    }
    for i in 1..=super::layout::NODES {
        let id = format!("n{i}");
        pki::issue(&pki, &PeerIdentity::Node(id.parse()?), &id, VALIDITY)?;
    }
    Ok(())
}

/// Starts everything, and watches over it for ever.
async fn stay(program: &Path, layout: &Layout, begun: Instant) -> anyhow::Result<()> {
    let mut processes = Vec::new();
    // The first manager makes the token that all share, so the others wait for it.
    for manager in &layout.managers {
        let id = &manager.id;
        let process = Process::start(program, "manager", id, &layout.config(id), &layout.log(id))?;
        say!("manager {id}  pid {:>7}  api http://{}  log {}", process.pid, manager.api, process.log.display());
        processes.push(process);
        while !layout.token().is_file() {
            report_ends(&mut processes)?;
            tokio::time::sleep(POLL).await;
        }
    }
    for node in &layout.nodes {
        let id = &node.id;
        let process = Process::start(program, "node", id, &layout.config(id), &layout.log(id))?;
        let vms: Vec<&str> = node.vms.iter().map(|vm| vm.name.as_str()).collect();
        say!("node    {id}  pid {:>7}  vms {}  log {}", process.pid, vms.join(", "), process.log.display());
        processes.push(process);
    }
    let mut missing = String::from("no answer from m1 yet");
    let mut ready = false;
    while !ready && begun.elapsed() < READY_TIMEOUT {
        report_ends(&mut processes)?;
        let global = global(layout);
        match tokio::task::spawn_blocking(move || look(&global)).await? {
            Ok(()) => ready = true,
            Err(e) => missing = e,
        }
        tokio::time::sleep(POLL).await;
    }
    if ready {
        say!("\nready after {:.1} s", begun.elapsed().as_secs_f64());
    } else {
        say!("\nnot complete after {:.0} s: {missing}; see the logs", begun.elapsed().as_secs_f64());
    }
    tell_how(program, layout);
    let mut told = vec![false; processes.len()];
    loop {
        for (process, told) in processes.iter_mut().zip(&mut told) {
            if let (false, Some(status)) = (*told, process.ended()) {
                *told = true;
                let kind = if process.name.starts_with('m') { "manager" } else { "node" };
                say!(
                    "{} (pid {}) has ended: {status}; start it again with: {} {kind} --config {}",
                    process.name,
                    process.pid,
                    program.display(),
                    process.config.display()
                );
            }
        }
        tokio::time::sleep(POLL * 4).await;
    }
}

/// Before the cluster is complete, a process that ends means that it never will be.
fn report_ends(processes: &mut [Process]) -> anyhow::Result<()> {
    for process in processes {
        if let Some(status) = process.ended() {
            bail!("{} (pid {}) has ended: {status}\n{}", process.name, process.pid, process.last_words());
        }
    }
    Ok(())
}

fn global(layout: &Layout) -> Global {
    Global {
        api: layout.managers.iter().map(|m| format!("http://{}", m.api)).collect(),
        token_file: Some(layout.token()),
        ca: None,
        output: Format::Table,
    }
}

/// Makes the cluster if there is none, and says what is missing until all is there.
fn look(global: &Global) -> Result<(), String> {
    let say = |e: CliError| e.render().trim_end().to_owned();
    let first = Global { api: global.api[..1].to_vec(), ..global.clone() };
    let client = Client::new(&first).map_err(say)?;
    let cluster: ClusterView = client.get("/v1/cluster").map_err(say)?;
    if cluster.id.is_none() {
        if cluster.members.is_empty() {
            client.post::<ClusterView>("/v1/cluster/init", Vec::new()).map_err(say)?;
        } else {
            return Err("the cluster is being made".to_owned());
        }
    }
    let vms: Page<VmView> = client.get("/v1/vms").map_err(say)?;
    let wanted = usize::from(super::layout::NODES * super::layout::VMS_PER_NODE);
    let up = vms.items.iter().filter(|vm| vm.state == "up").count();
    if up < wanted {
        return Err(format!("{up} of {wanted} VMs are up"));
    }
    let watchers: Page<WatcherView> = client.get("/v1/watchers").map_err(say)?;
    let live = watchers.items.iter().filter(|watcher| watcher.life == "live").count();
    let covered = vms.items.iter().filter(|vm| vm.coverage.is_empty()).count();
    if covered < wanted {
        return Err(format!(
            "{covered} of {wanted} VMs have a live watcher on their node and one elsewhere ({live} live)"
        ));
    }
    Ok(())
}

fn tell_how(program: &Path, layout: &Layout) {
    let urls: Vec<String> = layout.managers.iter().map(|m| format!("http://{}", m.api)).collect();
    let vouch = program.display();
    let dir = layout.token().parent().map(|d| d.display().to_string()).unwrap_or_default();
    say!(
        "\nIn another terminal:\n  export VOUCH_API={}\n  export VOUCH_TOKEN_FILE={}\n\n\
         Then try:\n  {vouch} vm ls\n  {vouch} vm show desk-1\n  {vouch} event tail\n  \
         {vouch} dev --dir {dir} cut 'n1-m*'     # node n1 is cut from all managers: its VMs stay up, by their watchers\n  \
         {vouch} vm show desk-1\n  {vouch} dev --dir {dir} heal '*'\n  {vouch} dev --dir {dir} links\n\n\
         Ctrl-C ends all processes.",
        urls.join(","),
        layout.token().display(),
    );
}
