//! The API on three real managers over links in memory, across a change of the leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use serde_json::{Value, json};
use tower::ServiceExt;
use vouch_types::{Command, ManagerId, ManagerNode, Timing, VmState};

use super::double::{SimPeers, api_of, body, connect, request};
use super::next_event;
use crate::api::Api;
use crate::backup::{Backup, Target, restore};
use crate::raft::tests::cluster::{SimCluster, m, simulate, until};
use crate::raft::{ConsensusConfig, ProposeError};
use crate::seams::{MemoryBlobs, SystemRng};
use crate::store::Stores;
use crate::store::tests::samples;

fn apis(cluster: &SimCluster) -> BTreeMap<ManagerId, Api> {
    let peers = Arc::new(SimPeers::default());
    let of = |id: ManagerId| {
        let consensus = Arc::new(cluster.consensus(id).clone());
        (id, api_of(id, consensus, Arc::new(MemoryBlobs::default()), peers.clone()))
    };
    let apis: BTreeMap<ManagerId, Api> = (1..=3).map(m).map(of).collect();
    connect(&peers, apis.clone());
    apis
}

async fn begin(cluster: &SimCluster) {
    cluster.propose(samples::init()).await;
    cluster.propose(samples::record_node("n1")).await;
    cluster.propose(samples::record_vms("n1", &[1, 2])).await;
    cluster.settled_events().await;
}

/// Has this manager propose, once it may: one that was just elected has to hear from a quorum first.
async fn propose(cluster: &SimCluster, leader: ManagerId, command: Command) {
    let proposed = async {
        while let Err(error) = cluster.consensus(leader).propose(command.clone()).await {
            assert!(matches!(error, ProposeError::NotLeader { .. }), "{error}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), proposed).await.expect("a leader with a quorum");
}

async fn call(api: &Api, method: &str, path: &str, headers: &[(&str, &str)], document: &Value) -> Response<Body> {
    let mut request = request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let document = if document.is_null() { Body::empty() } else { Body::from(document.to_string()) };
    api.router().oneshot(request.body(document).unwrap()).await.unwrap()
}

#[test]
fn a_key_and_an_etag_hold_across_a_change_of_the_leader_and_through_any_manager() {
    simulate(7, async {
        let cluster = SimCluster::start().await;
        begin(&cluster).await;
        let apis = apis(&cluster);
        let leader = cluster.leader(|_| true).await;
        let follower = apis.keys().copied().find(|id| *id != leader).unwrap();
        let window = json!({"scope": "node:n1", "lasts_ms": 60_000, "reason": "new firmware"});
        let key = [("idempotency-key", "k1")];
        let first = body(call(&apis[&follower], "POST", "/v1/maintenances", &key, &window).await).await;
        assert_eq!(first.0.as_u16(), 201, "{first:?}");
        let policy = json!({"probe_interval_ms": 5_000});
        let set = call(&apis[&follower], "PUT", "/v1/policies/cluster", &[], &policy).await;
        let tag = set.headers()["etag"].to_str().unwrap().to_owned();

        cluster.links.isolate(leader);
        let next = cluster.leader(|status| status.manager != leader).await;
        let other = apis.keys().copied().find(|id| *id != leader && *id != next).unwrap();
        // It may have to hear of the new leader first.
        propose(&cluster, next, samples::record_verdict(1, 0, samples::verdict(VmState::Up), 50)).await;
        until("the other one to follow", || (cluster.consensus(other).status().leader == Some(next)).then_some(()))
            .await;
        for api in [&apis[&next], &apis[&other]] {
            let again = body(call(api, "POST", "/v1/maintenances", &key, &window).await).await;
            assert_eq!(again, first);
            let (status, _) = body(
                call(
                    api,
                    "POST",
                    "/v1/maintenances",
                    &key,
                    &json!({"scope": "cluster", "lasts_ms": 1_000, "reason": "x"}),
                )
                .await,
            )
            .await;
            assert_eq!(status.as_u16(), 422);
            assert_eq!(
                call(api, "GET", "/v1/policies/cluster", &[], &Value::Null).await.headers()["etag"],
                tag.as_str()
            );
        }
        let stale = call(&apis[&other], "PUT", "/v1/policies/cluster", &[("if-match", "\"1\"")], &policy).await;
        assert_eq!(stale.status().as_u16(), 412);
        let (_, windows) = body(call(&apis[&next], "GET", "/v1/maintenances", &[], &Value::Null).await).await;
        assert_eq!(windows["items"].as_array().unwrap().len(), 1);
        let alone = call(&apis[&leader], "GET", "/v1/maintenances", &[], &Value::Null).await;
        assert_eq!(alone.status().as_u16(), 503, "the old leader shows nothing as fresh");
    });
}

#[test]
fn a_reader_that_goes_to_another_manager_after_the_leader_was_lost_gets_exactly_the_rest() {
    simulate(11, async {
        let cluster = SimCluster::start().await;
        begin(&cluster).await;
        let apis = apis(&cluster);
        let leader = cluster.leader(|_| true).await;
        let mut ids = Vec::new();
        let stream = call(&apis[&leader], "GET", "/v1/events?after=0.0", &[], &Value::Null).await;
        let (mut stream, mut rest) = (stream.into_body().into_data_stream(), String::new());
        for _ in 0..3 {
            ids.push(next_event(&mut stream, &mut rest).await.0);
        }
        cluster.links.isolate(leader);
        drop(stream);
        let next = cluster.leader(|status| status.manager != leader).await;
        let follower = apis.keys().copied().find(|id| *id != leader && *id != next).unwrap();
        let last = ids.last().unwrap().clone();
        let stream = call(&apis[&follower], "GET", "/v1/events", &[("last-event-id", &last)], &Value::Null).await;
        let (mut stream, mut rest) = (stream.into_body().into_data_stream(), String::new());
        for (round, state) in (0..).zip([VmState::Up, VmState::Degraded, VmState::Up]) {
            propose(&cluster, next, samples::record_verdict(1, round, samples::verdict(state), 50 + round)).await;
        }
        let all: Vec<String> = {
            let events = cluster.consensus(next).read_state(|state| state.events().cloned().collect::<Vec<_>>());
            events.iter().map(|event| format!("{}.{}", event.index, event.ordinal)).collect()
        };
        while ids.len() < all.len() {
            ids.push(next_event(&mut stream, &mut rest).await.0);
        }
        assert_eq!(ids, all);
    });
}

/// Returns a backup that a follower made while the leader wrote, after a policy had been set.
fn backup_under_writes() -> Bytes {
    simulate(13, async {
        let cluster = SimCluster::start().await;
        begin(&cluster).await;
        let apis = apis(&cluster);
        let leader = cluster.leader(|_| true).await;
        let consensus = cluster.consensus(leader).clone();
        let _writing = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            for round in 0.. {
                let state = if round % 2 == 0 { VmState::Up } else { VmState::Degraded };
                let command = samples::record_verdict(1, round, samples::verdict(state), 50 + round);
                consensus.propose(command).await.unwrap();
            }
        }));
        let policy = json!({"probe_interval_ms": 5_000});
        let set = call(&apis[&leader], "PUT", "/v1/policies/cluster", &[], &policy).await;
        assert_eq!(set.status().as_u16(), 200);
        let follower = apis.keys().copied().find(|id| *id != leader).unwrap();
        let answer = call(&apis[&follower], "GET", "/v1/cluster/backup", &[], &Value::Null).await;
        assert_eq!(answer.status().as_u16(), 200);
        axum::body::to_bytes(answer.into_body(), 1 << 24).await.unwrap()
    })
}

#[test]
fn a_backup_under_writes_is_restored_into_one_of_three_empty_managers_and_all_have_its_state() {
    let bytes = backup_under_writes();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(restored_on_three(bytes));
}

async fn restored_on_three(bytes: Bytes) {
    let backup = Backup::parse(&bytes).unwrap();
    let wanted = backup.state().unwrap();
    assert!(!wanted.policies().is_empty(), "what was acknowledged before is in it");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    std::fs::write(&file, &bytes).unwrap();
    let data = |id: u64| folder.path().join(format!("m{id}"));
    let members: BTreeMap<ManagerId, ManagerNode> = (1..=3).map(|id| (m(id), ManagerNode::default())).collect();
    let target =
        Target { data_dir: data(1), token_file: data(1).join("api.token"), manager: m(1), members: members.clone() };
    let restored = restore(&file, &target).await.unwrap();
    let stores = (1..=3).map(|id| (m(id), Stores::open(&data(id), &SystemRng).unwrap())).collect();
    let again = SimCluster::on(ConsensusConfig::from(&Timing::slow()), stores).await;
    let first = again.leader(|_| true).await;
    assert_eq!(first, m(1), "nobody else has anything to lead with");
    let status = again.consensus(first).status();
    assert!(status.term > restored.term && status.voters == members, "{status:?}");
    // It goes on, and the others get the state from it.
    again.propose(samples::record_vms("n1", &[1, 2])).await;
    again.settled_events().await;
    for id in members.keys() {
        assert_eq!(again.consensus(*id).read_state(Clone::clone), wanted, "{id}");
    }
    again.propose(samples::record_verdict(2, 0, samples::verdict(VmState::Up), 90)).await;
    let events = again.settled_events().await;
    let last = events.last().unwrap();
    assert!(last.index > backup.head.index, "and events go on behind those of the backup");
}

#[tokio::test]
async fn one_backup_is_made_at_a_time_and_none_without_a_quorum() {
    let manager = super::farm();
    let first = call(&manager.api, "GET", "/v1/cluster/backup", &[], &Value::Null).await;
    assert_eq!(first.status().as_u16(), 200);
    let second = call(&manager.api, "GET", "/v1/cluster/backup", &[], &Value::Null).await;
    assert_eq!(second.status().as_u16(), 503);
    let bytes = axum::body::to_bytes(first.into_body(), 1 << 24).await.unwrap();
    assert_eq!(Backup::parse(&bytes).unwrap().state().unwrap().vms().len(), 5);
    manager.published.stand(super::double::Standing::LeadsAlone);
    let (status, problem) = body(call(&manager.api, "GET", "/v1/cluster/backup", &[], &Value::Null).await).await;
    assert_eq!((status.as_u16(), &problem["type"]), (503, &json!("/problems/no-quorum")));
}
