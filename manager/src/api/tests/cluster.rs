//! The API on three real managers over links in memory, across a change of the leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};
use tower::ServiceExt;
use vouch_types::{Command, ManagerId, VmState};

use super::double::{SimPeers, api_of, body, connect, request};
use super::next_event;
use crate::api::Api;
use crate::raft::ProposeError;
use crate::raft::tests::cluster::{SimCluster, m, simulate, until};
use crate::seams::MemoryBlobs;
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
