//! The process that is killed: a manager's consensus, alone in its cluster, or its log alone, writing without end into
//! the folder that it is given, and saying what it was told is durable.
//!
//! It speaks in lines on its standard output, which the other side reads:
//!
//! ```text
//! vote TERM                what the log held at the start
//! kept NAME COUNT          what the state, or the log, held at the start, one line each
//! ready                    all of that was said
//! leads TERM               a vote of this term is durable
//! done NAME COUNT          this command was acknowledged
//! cutting TERM INDEX       the log is about to be truncated to here
//! last TERM INDEX          the log ends here, and that is durable
//! refused WHY              it cannot start
//! fatal WHY                it stops, because storage failed
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::vote::leader_id_std::CommittedLeaderId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;
use vouch_manager::raft::{Consensus, ConsensusConfig, Consistency, Entry, LogId, Vote};
use vouch_manager::seams::SystemRng;
use vouch_manager::store::{FileSnapshotStore, SledStateStore, Stores, WalConfig, WalLogStore};
use vouch_types::command::ClusterSecrets;
use vouch_types::{
    BootId, ClusterId, Command, Incarnation, ManagerId, ManagerNode, NextCa, NodeId, NodePath, NodeRecord, WallTime,
};
use vouch_wire::links::{LinkError, LogNames, RaftCall, RaftLink};

pub const FOLDER: &str = "VOUCH_WRITER_FOLDER";
pub const MODE: &str = "VOUCH_WRITER_MODE";
pub const SEED: &str = "VOUCH_WRITER_SEED";
/// How many commands are under way at a time.
pub const AT_ONCE: u64 = 4;
const CHUNK_BYTES: usize = 8 * 1024;

/// There is no other manager.
pub struct Alone;

#[async_trait]
impl RaftLink for Alone {
    async fn call(&self, _: ManagerId, _: RaftCall) -> Result<Vec<u8>, LinkError> {
        Err(LinkError::Reset("there is no other manager".into()))
    }
    async fn append_stream(
        &self,
        _: ManagerId,
        _: LogNames,
        _: BoxStream<'static, Vec<u8>>,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, LinkError>>, LinkError> {
        Err(LinkError::Reset("there is no other manager".into()))
    }
}

pub fn own() -> ManagerId {
    ManagerId::new(1)
}

pub fn config() -> ConsensusConfig {
    let millis = Duration::from_millis;
    let (heartbeat, election_min, election_max) = (millis(20), millis(40), millis(80));
    ConsensusConfig { heartbeat, election_min, election_max, snapshot_after: 40, log_kept: 10 }
}

pub fn wal() -> WalConfig {
    WalConfig { chunk_bytes: CHUNK_BYTES, ..WalConfig::default() }
}

pub fn stores(folder: &Path) -> Result<Stores<WalLogStore>, Box<dyn std::error::Error>> {
    Ok(Stores {
        log: WalLogStore::open(&folder.join("log"), &wal(), &SystemRng)?,
        state: Arc::new(SledStateStore::open(&folder.join("state"))?),
        snapshots: Arc::new(FileSnapshotStore::open(&folder.join("snapshot"))?),
    })
}

pub fn init() -> Command {
    let secrets = ClusterSecrets {
        ca_certificate: "certificate".to_owned(),
        ca_key: "key".to_owned(),
        grant_key: vec![1],
        grant_public_key: vec![2],
        next_ca: NextCa::None,
    };
    Command::InitCluster { cluster: ClusterId::new(Uuid::from_u128(7)), secrets, at: WallTime::from_unix_millis(1) }
}

/// Returns the command that sets a node's count.
pub fn record(name: &str, count: u64) -> Command {
    let at = WallTime::from_unix_millis(1);
    let node = NodeRecord {
        fence: None,
        modified: vouch_types::LogIndex::default(),
        id: NodeId::new(name).unwrap(),
        rack: None,
        relay: SocketAddr::from(([127, 0, 0, 1], 1)),
        statement_key: vec![9; 32],
        boot: BootId::new(Uuid::from_u128(1)),
        incarnation: Incarnation::new(count),
        driver: "local".to_owned(),
        hosts_watchers: false,
        path: NodePath::direct(at),
    };
    Command::RecordNode { node, at }
}

pub fn counts(consensus: &Consensus) -> BTreeMap<String, u64> {
    consensus.read_state(|state| {
        state.nodes().values().map(|node| (node.id.as_str().to_owned(), node.incarnation.get())).collect()
    })
}

/// Starts the process on a folder.
pub fn start(folder: &Path, mode: &str, seed: u64) -> Child {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "writer::writes_until_it_is_killed", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env(MODE, mode).env(SEED, seed.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Returns what it says, line by line.
pub fn lines(child: &mut Child) -> mpsc::Receiver<String> {
    let out = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listened is gone: so is the test.
    let _ = writeln!(out, "\n{line}").and_then(|()| out.flush());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that the other tests start and kill"]
async fn writes_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let mode = std::env::var(MODE).unwrap();
    let outcome = match mode.as_str() {
        "log" => write_log(folder).await,
        "consensus" => write_commands(folder, None).await,
        commands => write_commands(folder, Some(commands.parse().unwrap())).await,
    };
    if let Err(error) = outcome {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        say(&format!("refused {text}"));
    }
}

/// Has commands agreed on until it is killed, or so many of them, and then stops in good order.
async fn write_commands(folder: &Path, commands: Option<u64>) -> Result<(), Box<dyn std::error::Error>> {
    let mut stores = stores(folder)?;
    say(&format!("vote {}", stores.log.read_vote().await?.map_or(0, |vote| vote.leader_id.term)));
    let consensus = Consensus::start(own(), &config(), stores, Arc::new(Alone)).await?;
    if !consensus.is_initialized().await {
        consensus.initialize(BTreeMap::from([(own(), ManagerNode::default())])).await?;
    }
    let mut status = consensus.watch();
    let term = status.wait_for(|status| status.leads() && status.quorum_acked).await?.term;
    say(&format!("leads {term}"));
    consensus.ensure_current(Consistency::Linearizable).await?;
    if consensus.read_state(|state| state.cluster().is_none()) {
        consensus.propose(init()).await?;
    }
    let kept = counts(&consensus);
    for (name, count) in &kept {
        say(&format!("kept {name} {count}"));
    }
    say("ready");
    let writers = (0..AT_ONCE).map(|number| {
        let consensus = consensus.clone();
        let name = format!("n{number}");
        let from = kept.get(&name).copied().unwrap_or(0);
        async move {
            for count in from + 1..=commands.map_or(u64::MAX, |commands| from + commands) {
                if consensus.propose(record(&name, count)).await.is_err() {
                    // Consensus has stopped: why is told by it.
                    std::future::pending::<()>().await;
                }
                say(&format!("done {name} {count}"));
            }
        }
    });
    tokio::select! {
        biased;
        reason = consensus.fatal() => say(&format!("fatal {reason}")),
        _ = futures::future::join_all(writers) => {}
    }
    consensus.shutdown().await;
    Ok(())
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// Votes, appends, truncates and purges, as several leaders would have it, until it is killed.
async fn write_log(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = StdRng::seed_from_u64(std::env::var(SEED)?.parse()?);
    let mut log = WalLogStore::open(&folder.join("log"), &wal(), &SystemRng)?;
    let mut term = log.read_vote().await?.map_or(0, |vote| vote.leader_id.term);
    say(&format!("vote {term}"));
    let state = log.get_log_state().await?;
    let position = |id: Option<LogId>| id.map_or((0, 0), |id| (**id.committed_leader_id(), id.index));
    let mut purged = state.last_purged_log_id.map_or(0, |id| id.index);
    let (mut last_term, mut last) = position(state.last_log_id);
    say(&format!("last {last_term} {last}"));
    say("ready");
    loop {
        match rng.random_range(0..10) {
            0 => {
                term += 1;
                log.save_vote(&Vote::new(term, rng.random_range(1..4))).await?;
                say(&format!("leads {term}"));
            }
            1 if last > purged + 5 => {
                // A new leader takes back what was not committed.
                let to = last - rng.random_range(1..4);
                let kept = log.try_get_log_entries(to..=to).await?.first().map(|entry| entry.log_id);
                let Some(kept) = kept else { continue };
                let (cut_term, _) = position(Some(kept));
                say(&format!("cutting {cut_term} {to}"));
                log.truncate_after(Some(kept)).await?;
                (last_term, last) = (cut_term, to);
                term += 1;
                log.save_vote(&Vote::new_committed(term, 2)).await?;
                say(&format!("leads {term}"));
            }
            2 if last > purged + 30 => {
                let to = last - 20;
                let kept = log.try_get_log_entries(to..=to).await?.first().map(|entry| entry.log_id);
                let Some(kept) = kept else { continue };
                log.purge(kept).await?;
                purged = to;
            }
            _ => {
                let term = term.max(1).max(last_term);
                let count = rng.random_range(1..6);
                let first = last + 1;
                let entries = (first..first + count).map(|index| Entry {
                    log_id: id(term, index),
                    payload: openraft::EntryPayload::Normal(record("n1", index).into()),
                });
                log.blocking_append(entries.collect::<Vec<_>>()).await?;
                (last_term, last) = (term, last + count);
            }
        }
        say(&format!("last {last_term} {last}"));
    }
}
