//! `vouch-bench-growth`: what the replicated state costs as it grows, in the stores of one manager.
//!
//! Apply, projection (sled) and snapshot are those of a manager; Raft and its log, whose cost does not depend on the
//! size of the state, are left out. Each size has processes of its own, so that memory is that of one size: one that
//! fills the stores, one that starts from a projection closed in good order, one that starts from the snapshot, as
//! after a crash.

#![expect(clippy::print_stdout, reason = "a command talks to its terminal")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use vouch_bench::writes::cluster::{resident_kib, size_of_folder};
use vouch_manager::raft::{SnapshotMeta, restored_position};
use vouch_manager::store::codec::decode;
use vouch_manager::store::{
    Batch, FileSnapshotStore, Image, Position, SledStateStore, SnapshotSource, SnapshotStore, State, StateHash,
    StateStore, replace_all,
};
use vouch_types::command::ClusterSecrets;
use vouch_types::{
    Applied, BootId, ClusterId, Command, Incarnation, LogIndex, ManagerId, ManagerNode, Network, NextCa, NodeId,
    NodePath, NodeRecord, SortedMap, Term, VmId, VmSpec, WallTime,
};

/// The one of `vouch`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nodes, so long as each has at least [`VMS_PER_NODE_MIN`] VMs.
const NODES_MAX: usize = 1_000;
const VMS_PER_NODE_MIN: usize = 50;
/// How often memory is looked at while the projection is written.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Phase {
    Fill,
    Projection,
    Snapshot,
}

#[derive(Debug, Parser)]
struct Args {
    /// Sizes, in VMs
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    vms: Vec<usize>,
    /// Writes whose rate is measured in the grown state
    #[arg(long, default_value_t = 20_000)]
    writes: u64,
    /// Where the stores are made
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Runs one phase on the first size: how this program calls itself
    #[arg(long, hide = true)]
    phase: Option<Phase>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(phase) = args.phase {
        let vms = *args.vms.first().context("no size")?;
        return match phase {
            Phase::Fill => fill(&args.folder, vms, args.writes),
            Phase::Projection => from_projection(&args.folder, vms),
            Phase::Snapshot => from_snapshot(&args.folder, vms),
        };
    }
    println!(
        "| VMs | VMs recorded/s | writes/s | snapshot s | snapshot MiB | projection MiB | MiB in use while writing \
         | close s | start s | start MiB | start after a crash s | start after a crash MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for vms in &args.vms {
        let home = tempfile::tempdir_in(&args.folder).context("no folder for the stores")?;
        let mut row = format!("| {vms} ");
        for phase in ["fill", "projection", "snapshot"] {
            let mut child = Process::new(std::env::current_exe()?);
            child.args(["--phase", phase, "--vms", &vms.to_string(), "--writes", &args.writes.to_string()]);
            child.arg("--folder").arg(home.path());
            let output = child.output().context("a phase cannot be started")?;
            ensure!(output.status.success(), "phase {phase}: {}", String::from_utf8_lossy(&output.stderr));
            row.push_str(String::from_utf8(output.stdout)?.trim_end());
        }
        println!("{row}|");
    }
    Ok(())
}

/// A state with its projection, as the state machine keeps them.
struct Stores {
    state: State,
    hash: StateHash,
    index: u64,
    store: SledStateStore,
}

impl Stores {
    fn apply(&mut self, command: Command) -> Result<()> {
        self.index += 1;
        let (applied, changes) = self.state.apply(LogIndex::new(self.index), command);
        ensure!(!matches!(applied, Applied::Denied(_)), "{applied:?}");
        let batch = Batch::of_changes(&self.state, &changes, &position(&self.meta()), &mut self.hash)?;
        Ok(self.store.commit(batch)?)
    }

    fn meta(&self) -> SnapshotMeta {
        let alone = BTreeMap::from([(ManagerId::new(1), ManagerNode::default())]);
        restored_position(ManagerId::new(1), Term::new(1), LogIndex::new(self.index), alone).1
    }
}

fn position(meta: &SnapshotMeta) -> Position {
    Position { applied: meta.last_log_id, membership: meta.last_membership.clone() }
}

fn node(number: usize, incarnation: u64) -> Result<Command> {
    let node = NodeRecord {
        id: NodeId::new(&format!("node-{number:05}"))?,
        rack: Some(format!("rack-{:03}", number / 40)),
        relay: SocketAddr::from(([127, 0, 0, 1], 7002)),
        statement_key: vec![7; 32],
        boot: BootId::new(uuid::Uuid::from_u128(number as u128)),
        incarnation: Incarnation::new(incarnation),
        driver: "libvirt".to_owned(),
        hosts_watchers: true,
        path: NodePath::direct(WallTime::default()),
        fence: None,
        modified: LogIndex::default(),
    };
    Ok(Command::RecordNode { node, at: WallTime::default() })
}

fn vm(number: usize) -> Result<VmSpec> {
    let address = IpAddr::from(Ipv4Addr::from_bits(u32::try_from(number)?));
    Ok(VmSpec {
        id: VmId::new(uuid::Uuid::from_u128(number as u128)),
        name: format!("desktop-{number:07}"),
        addresses: SortedMap::from([(Network::Service, vec![address])]),
        probes: Vec::new(),
        labels: SortedMap::from([("pool".to_owned(), "office".to_owned())]),
        datastore: Some("pool-1".to_owned()),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn resident_mib() -> f64 {
    mib(resident_kib(std::process::id()).unwrap_or(0) * 1024)
}

fn fill(folder: &Path, vms: usize, writes: u64) -> Result<()> {
    let store = SledStateStore::open(&folder.join("state"))?;
    let mut stores = Stores { state: State::default(), hash: StateHash::default(), index: 0, store };
    let secrets = ClusterSecrets {
        ca_certificate: String::new(),
        ca_key: String::new(),
        grant_key: Vec::new(),
        grant_public_key: Vec::new(),
        next_ca: NextCa::None,
    };
    let cluster = ClusterId::new(uuid::Uuid::from_u128(1));
    stores.apply(Command::InitCluster { cluster, secrets, at: WallTime::default() })?;
    let per_node = vms.div_ceil(NODES_MAX).max(VMS_PER_NODE_MIN);
    let nodes = vms.div_ceil(per_node);
    let begun = Instant::now();
    for number in 0..nodes {
        stores.apply(node(number, 0)?)?;
        let vms = (number * per_node..((number + 1) * per_node).min(vms)).map(vm).collect::<Result<_>>()?;
        stores.apply(Command::RecordVms {
            node: NodeId::new(&format!("node-{number:05}"))?,
            vms,
            at: WallTime::default(),
        })?;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let recorded = vms as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    for incarnation in 1..=writes {
        stores.apply(node(usize::try_from(incarnation)? % nodes, incarnation)?)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let written = writes as f64 / begun.elapsed().as_secs_f64();
    let resident = resident_mib();
    let snapshots = FileSnapshotStore::open(&folder.join("snapshot"))?;
    let begun = Instant::now();
    let view = SnapshotSource::View(Box::new(stores.state.clone()));
    let saved = futures_block(snapshots.save(stores.meta(), view))?;
    let (took, image) = (begun.elapsed().as_secs_f64(), mib(saved.image.len() as u64));
    let begun = Instant::now();
    stores.store.close()?;
    let closed = begun.elapsed().as_secs_f64();
    let disk = mib(size_of_folder(&folder.join("state")));
    print!("| {recorded:.0} | {written:.0} | {took:.2} | {image:.0} | {disk:.0} | {resident:.0} | {closed:.2} ");
    Ok(())
}

fn from_projection(folder: &Path, vms: usize) -> Result<()> {
    let begun = Instant::now();
    let store = SledStateStore::open(&folder.join("state"))?;
    let loaded = store.load()?.context("the projection was in doubt")?;
    ensure!(loaded.state.vms().len() == vms, "{} VMs came back", loaded.state.vms().len());
    print!("| {:.2} | {:.0} ", begun.elapsed().as_secs_f64(), resident_mib());
    Ok(())
}

fn from_snapshot(folder: &Path, vms: usize) -> Result<()> {
    let begun = Instant::now();
    // It was not closed in good order after the phase before: begun anew, as after a crash.
    let store = SledStateStore::open(&folder.join("state"))?;
    ensure!(store.load()?.is_none(), "the projection was not in doubt");
    let snapshots = FileSnapshotStore::open(&folder.join("snapshot"))?;
    let stored = futures_block(snapshots.load())?.context("no snapshot")?;
    let position = position(&stored.meta);
    let state: State = decode::<Image>("snapshot", &stored.image)?.into();
    // A manager lets go of it as well, once it is decoded.
    drop(stored);
    ensure!(state.vms().len() == vms, "{} VMs came back", state.vms().len());
    replace_all(&store, &state, &position)?;
    let took = begun.elapsed();
    // The manager runs by now; the projection is written behind it.
    let closing = std::thread::spawn(move || store.close());
    let mut most = resident_mib();
    while !closing.is_finished() {
        most = most.max(resident_mib());
        std::thread::sleep(LOOK_EVERY);
    }
    closing.join().map_err(|_| anyhow::anyhow!("the projection panicked"))??;
    // A manager has it all that time.
    drop(state);
    print!("| {:.2} | {most:.0} ", took.as_secs_f64());
    Ok(())
}

fn futures_block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers needs nothing of the system").block_on(work)
}
