//! Managers on disk, stopped or crashed and started again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use vouch_types::{ManagerNode, Timing};

use super::cluster::{SimCluster, events_of, m, until};
use crate::raft::ConsensusConfig;
use crate::seams::SystemRng;
use crate::store::tests::samples;
use crate::store::{FileSnapshotStore, SledStateStore, StateStore, Stores, WalConfig, WalLogStore};

fn open(folder: &Path) -> Stores<WalLogStore> {
    Stores::open(folder, &SystemRng).unwrap()
}

fn quick() -> ConsensusConfig {
    ConsensusConfig::from(&Timing::default())
}

async fn alone(folder: &Path, config: ConsensusConfig) -> SimCluster<WalLogStore> {
    SimCluster::on(config, BTreeMap::from([(m(1), open(folder))])).await
}

async fn begin(folder: &Path, config: ConsensusConfig) -> SimCluster<WalLogStore> {
    let cluster = alone(folder, config).await;
    cluster.consensus(m(1)).initialize(BTreeMap::from([(m(1), ManagerNode::default())])).await.unwrap();
    cluster.propose(samples::init()).await;
    cluster.propose(samples::record_node("n1")).await;
    cluster.propose(samples::record_vms("n1", &[1, 2])).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_log_and_term_survive_a_stop_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = begin(folder.path(), quick()).await;
    let events = cluster.settled_events().await;
    let term = cluster.consensus(m(1)).status().term;
    drop(cluster.stop(m(1)).await);
    drop(cluster);

    let stores = open(folder.path());
    let kept = stores.state.load().unwrap().expect("the projection was closed in good order");
    assert_eq!(kept.state.events().cloned().collect::<Vec<_>>(), events);
    stores.state.close().unwrap();
    drop(stores);

    let cluster = alone(folder.path(), quick()).await;
    assert_eq!(events_of(&cluster.managers[&m(1)]), events, "all is there before there is a leader");
    cluster.leader(|status| status.term > term).await;
    cluster.propose(samples::record_vms("n1", &[1])).await;
    assert_eq!(cluster.settled_events().await.len(), events.len() + 1, "and it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_made_again_from_the_log_when_the_projection_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = begin(folder.path(), quick()).await;
    let events = cluster.settled_events().await;
    drop(cluster.stop(m(1)).await);
    drop(cluster);
    // As after a crash: nothing says that it was closed in good order.
    std::fs::remove_file(folder.path().join("state").join("closed")).unwrap();

    let cluster = alone(folder.path(), quick()).await;
    cluster.leader(|_| true).await;
    assert_eq!(cluster.settled_events().await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_made_again_from_snapshot_and_log_when_the_log_was_purged() {
    let folder = tempfile::tempdir().unwrap();
    let config = ConsensusConfig { snapshot_after: 20, log_kept: 5, ..quick() };
    let mut cluster = begin(folder.path(), config.clone()).await;
    for round in 0..60 {
        let vms: &[u128] = if round % 2 == 0 { &[1] } else { &[1, 2] };
        cluster.propose(samples::record_vms("n1", vms)).await;
    }
    until("a snapshot", || (cluster.consensus(m(1)).status().snapshot.get() >= 20).then_some(())).await;
    let events = cluster.settled_events().await;
    drop(cluster.stop(m(1)).await);
    drop(cluster);
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();

    let cluster = alone(folder.path(), config).await;
    cluster.leader(|_| true).await;
    assert_eq!(cluster.settled_events().await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_from_before_the_purge_is_brought_up_to_date_from_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let config = ConsensusConfig { snapshot_after: 20, log_kept: 5, ..quick() };
    let mut cluster = begin(folder.path(), config.clone()).await;
    cluster.settled_events().await;
    drop(cluster.stop(m(1)).await);
    drop(cluster);
    let (state, stale) = (folder.path().join("state"), folder.path().join("stale"));
    copy(&state, &stale);

    let mut cluster = alone(folder.path(), config.clone()).await;
    for round in 0..60 {
        let vms: &[u128] = if round % 2 == 0 { &[1] } else { &[1, 2] };
        cluster.propose(samples::record_vms("n1", vms)).await;
    }
    until("a snapshot", || (cluster.consensus(m(1)).status().snapshot.get() >= 20).then_some(())).await;
    let events = cluster.settled_events().await;
    drop(cluster.stop(m(1)).await);
    drop(cluster);
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&stale, &state).unwrap();

    let cluster = alone(folder.path(), config).await;
    cluster.leader(|_| true).await;
    assert_eq!(cluster.settled_events().await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_whose_log_is_gone_may_not_start_on_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = begin(folder.path(), quick()).await;
    cluster.settled_events().await;
    drop(cluster.stop(m(1)).await);
    drop(cluster);
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();

    let links: Arc<super::cluster::SimLinks> = Arc::default();
    let started = crate::raft::Consensus::start(m(1), &quick(), open(folder.path()), links.end_of(m(1))).await;
    let error = started.expect_err("must be refused").to_string();
    assert!(
        error.contains("m1") && error.contains("lost") && error.contains("rejoins the cluster by itself"),
        "{error}"
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_keeps_a_manager_from_starting_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    // One snapshot, asked for: another one under way would be put in place of the damaged one.
    let mut cluster = begin(folder.path(), quick()).await;
    cluster.consensus(m(1)).snapshot().await.unwrap();
    until("a snapshot", || (cluster.consensus(m(1)).status().snapshot.get() > 0).then_some(())).await;
    drop(cluster.stop(m(1)).await);
    drop(cluster);
    let path = folder.path().join("snapshot").join("snapshot");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let links: Arc<super::cluster::SimLinks> = Arc::default();
    let started = crate::raft::Consensus::start(m(1), &quick(), open(folder.path()), links.end_of(m(1))).await;
    let error = started.expect_err("must be refused");
    let mut chain = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        chain.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    assert!(chain.contains(path.to_str().unwrap()), "{chain}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_store_that_fails_stops_consensus_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(SledStateStore::open(&folder.path().join("state")).unwrap());
    let stores = Stores {
        log: WalLogStore::open(&folder.path().join("log"), &WalConfig::default(), &SystemRng).unwrap(),
        state: Arc::clone(&state) as Arc<dyn StateStore>,
        snapshots: Arc::new(FileSnapshotStore::open(&folder.path().join("snapshot")).unwrap()),
    };
    let cluster = SimCluster::on(quick(), BTreeMap::from([(m(1), stores)])).await;
    cluster.consensus(m(1)).initialize(BTreeMap::from([(m(1), ManagerNode::default())])).await.unwrap();
    cluster.propose(samples::init()).await;
    let fatal = cluster.consensus(m(1)).fatal();
    state.close().unwrap();

    cluster.consensus(m(1)).propose(samples::record_node("n1")).await.expect_err("it cannot be kept");
    let reason = tokio::time::timeout(std::time::Duration::from_secs(10), fatal).await.expect("it stops");
    assert!(reason.contains("state store"), "{reason}");
}
