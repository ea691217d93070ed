//! Managers that were away: what they lack comes from the log, or in a snapshot.

use vouch_types::Timing;
use vouch_wire::grpc::PEER_MESSAGE_MAX;

use super::cluster::{SimCluster, m, simulate, until};
use crate::raft::{ConsensusConfig, Notice};
use crate::store::tests::samples;

#[test]
fn a_manager_that_was_away_too_long_gets_a_snapshot() {
    simulate(11, async {
        let config = ConsensusConfig { snapshot_after: 20, log_kept: 5, ..ConsensusConfig::from(&Timing::default()) };
        let mut cluster = SimCluster::start_with(config).await;
        cluster.propose(samples::init()).await;
        cluster.propose(samples::record_node("n1")).await;
        let leader = cluster.leader(|_| true).await;
        let away = (1..=3).map(m).find(|id| *id != leader).unwrap();
        let stores = cluster.stop(away).await;
        for round in 0..100 {
            let vms: &[u128] = if round % 2 == 0 { &[1] } else { &[1, 2] };
            cluster.propose(samples::record_vms("n1", vms)).await;
        }
        until("a snapshot", || (cluster.consensus(leader).status().snapshot.get() >= 60).then_some(())).await;
        // The heir let go of what its snapshot covers; a leader keeps what it still means to send to somebody.
        let heir = (1..=3).map(m).find(|id| *id != leader && *id != away).unwrap();
        until("the heir to have purged its log", || {
            (cluster.managers[&heir].stores.log.purged() >= Some(60)).then_some(())
        })
        .await;
        cluster.consensus(leader).transfer_leader(heir).await.unwrap();
        cluster.leader(|status| status.manager == heir).await;
        let before = stores.snapshots.load().await.unwrap().and_then(|s| s.meta.last_log_id).map(|id| id.index);

        cluster.run(away, stores.clone()).await;
        let mut notices = cluster.consensus(away).subscribe();
        let events = cluster.settled_events().await;
        assert!(events.len() > 100, "all that happened meanwhile");
        let after = stores.snapshots.load().await.unwrap().and_then(|s| s.meta.last_log_id).map(|id| id.index);
        assert!(after > before && after >= Some(60), "a snapshot was installed: {before:?} then {after:?}");
        let mut told = Vec::new();
        while told.last() != Some(&Notice::Replaced) {
            let notice = tokio::time::timeout(std::time::Duration::from_secs(1), notices.next()).await;
            told.push(notice.expect("its readers are told to start over").unwrap());
        }
        let kept = stores.state.load().unwrap().expect("a projection");
        assert_eq!(kept.state.events().count(), events.len(), "the projection was replaced as well");
    });
}

#[test]
fn a_manager_that_was_away_while_large_commands_came_gets_them_in_several_messages() {
    simulate(17, async {
        let mut cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        cluster.propose(samples::record_node("n1")).await;
        let leader = cluster.leader(|_| true).await;
        let away = (1..=3).map(m).find(|id| *id != leader).unwrap();
        let stores = cluster.stop(away).await;
        let (mut bytes, mut first) = (0, 1);
        while bytes <= PEER_MESSAGE_MAX {
            let vms: Vec<u128> = (first..first + 5_000).collect();
            let command = samples::record_vms("n1", &vms);
            bytes += serde_json::to_vec(&command).unwrap().len();
            cluster.propose(command).await;
            first += 5_000;
        }
        cluster.run(away, stores).await;
        cluster.settled_events().await;
    });
}
