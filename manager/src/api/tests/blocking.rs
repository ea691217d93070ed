//! Reads that wait for a change: what wakes them, what does not, and when they end.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::ServiceExt;
use vouch_types::{BootChange, BootKind, BootRecord, Command, Generation, Policy, PolicyScope, StartId, VmState};

use super::double::{SimManager, Standing, at, body, cut, get, judge, lone, populate, request, vm_id};
use crate::api::limits::{WAIT_DEFAULT, WAIT_JITTER, WAIT_MAX, WAITING_MAX};

fn farm() -> SimManager {
    let manager = lone();
    populate(&manager.published, "n1", &[(1, "desk-1"), (2, "desk-2")]);
    populate(&manager.published, "n2", &[(3, "desk-3")]);
    manager
}

fn index(manager: &SimManager) -> u64 {
    use crate::api::Published;
    manager.published.applied().borrow().get()
}

fn begin(manager: &SimManager, path: &str) -> JoinHandle<Response<Body>> {
    let (api, request) = (manager.api.router(), request("GET", path).body(Body::empty()).unwrap());
    tokio::spawn(async move { api.oneshot(request).await.unwrap() })
}

/// Records a boot of a VM that was not judged yet: what a new leader is to know, and nobody sees.
fn record_boot(manager: &SimManager, vm: u128) {
    let boot = BootRecord { kind: BootKind::Reboot, start: StartId::new(7), left: Duration::from_secs(30) };
    let generation = Generation::new(u64::try_from(vm).unwrap());
    manager.published.apply(Command::RecordVerdicts {
        boots: vec![BootChange { vm: vm_id(vm), generation, boot: Some(boot) }],
        claims: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: None,
        incidents: Vec::new(),
        placements: Vec::new(),
        at: at(7),
    });
}

#[tokio::test]
async fn what_is_recorded_of_a_boot_moves_no_etag() {
    let manager = farm();
    let tag = async || {
        let request = request("GET", "/v1/vms/desk-1").body(Body::empty()).unwrap();
        manager.api.router().oneshot(request).await.unwrap().headers()["etag"].clone()
    };
    let before = tag().await;
    record_boot(&manager, 1);
    use crate::api::Published;
    let mut recorded = false;
    manager.published.look(&mut |state| recorded = state.vms()[&vm_id(1)].boot.is_some());
    assert!(recorded);
    assert_eq!(tag().await, before);
}

/// Lets everything run that can run now.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_wakes_when_its_item_changes_and_sleeps_through_the_changes_of_others() {
    let manager = farm();
    let from = index(&manager);
    let read = begin(&manager, &format!("/v1/vms/desk-1?index={from}"));
    settle().await;
    judge(&manager.published, vm_id(2), VmState::Up, "it runs", 5);
    let policy = Policy { probe_interval_ms: Some(5_000), ..Policy::default() };
    manager.published.apply(Command::SetPolicy { scope: PolicyScope::Cluster, policy, at: at(6) });
    cut(&manager.published, "n2", 7);
    settle().await;
    assert!(!read.is_finished(), "others changed");
    record_boot(&manager, 1);
    settle().await;
    assert!(!read.is_finished(), "nothing that is shown of it changed");
    judge(&manager.published, vm_id(1), VmState::Up, "it runs", 8);
    let response = read.await.unwrap();
    assert_eq!(response.headers()["x-vouch-index"], index(&manager).to_string());
    let (_, vm) = body(response).await;
    assert_eq!(vm["state"], "up");
    // What it shows of its node is part of it.
    let read = begin(&manager, &format!("/v1/vms/desk-1?index={}", index(&manager)));
    settle().await;
    cut(&manager.published, "n1", 9);
    let (_, vm) = body(read.await.unwrap()).await;
    assert_eq!(vm["source"], "watcher");
}

#[tokio::test(start_paused = true)]
async fn lists_wake_when_their_kind_changes_and_no_other() {
    let manager = farm();
    let reads: Vec<(&str, JoinHandle<Response<Body>>)> = [
        "/v1/vms",
        "/v1/nodes",
        "/v1/nodes/n1",
        "/v1/watchers",
        "/v1/probes",
        "/v1/incidents",
        "/v1/policies",
        "/v1/vms/desk-1/policy",
        "/v1/maintenances",
    ]
    .into_iter()
    .map(|path| (path, begin(&manager, &format!("{path}?index={}", index(&manager)))))
    .collect();
    settle().await;
    let policy = Policy { probe_interval_ms: Some(5_000), ..Policy::default() };
    manager.published.apply(Command::SetPolicy { scope: PolicyScope::Cluster, policy, at: at(6) });
    settle().await;
    let woken: Vec<&str> = reads.iter().filter(|(_, read)| read.is_finished()).map(|(path, _)| *path).collect();
    assert_eq!(woken, ["/v1/policies", "/v1/vms/desk-1/policy"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_before_the_read_is_answered_at_once_and_so_is_an_index_that_is_not_reached() {
    let manager = farm();
    let from = index(&manager);
    judge(&manager.published, vm_id(1), VmState::Up, "it runs", 8);
    let began = Instant::now();
    for path in [
        format!("/v1/vms/desk-1?index={from}"),
        "/v1/vms/desk-1?index=0".to_owned(),
        format!("/v1/vms/desk-1?index={}", from + 1_000),
        format!("/v1/vms?index={}&consistency=stale", u64::MAX),
    ] {
        let (status, _) = get(&manager, &path).await;
        assert_eq!(status.as_u16(), 200, "{path}");
    }
    let (status, _) = get(&manager, &format!("/v1/vms/desk-9?index={from}")).await;
    assert_eq!((status.as_u16(), began.elapsed()), (404, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_after_what_was_asked_for_at_most_a_sixteenth_later_and_is_cut_to_the_longest() {
    let manager = farm();
    for (wait, limit) in [("&wait=30s", Duration::from_secs(30)), ("", WAIT_DEFAULT), ("&wait=1h", WAIT_MAX)] {
        let began = Instant::now();
        let response = begin(&manager, &format!("/v1/vms?index={}{wait}", index(&manager))).await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{wait}");
        let took = began.elapsed();
        assert!(took >= limit && took <= limit + limit / WAIT_JITTER + Duration::from_millis(2), "{wait}: {took:?}");
    }
    for (wrong, field) in [("index=x", "index"), ("index=1&wait=soon", "wait"), ("index=-1", "index")] {
        let (status, problem) = get(&manager, &format!("/v1/vms?{wrong}")).await;
        assert_eq!((status.as_u16(), problem["field"].as_str()), (400, Some(field)), "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_waiting_read_too_many_is_refused_and_others_are_served_meanwhile() {
    let manager = farm();
    let path = format!("/v1/vms?index={}&wait=10m", index(&manager));
    let waiting: Vec<_> = (0..WAITING_MAX).map(|_| begin(&manager, &path)).collect();
    settle().await;
    let (status, problem) = get(&manager, &path).await;
    assert_eq!((status.as_u16(), problem["type"].as_str()), (503, Some("/problems/busy")));
    let (status, _) = get(&manager, "/v1/vms").await;
    assert_eq!(status.as_u16(), 200);
    judge(&manager.published, vm_id(1), VmState::Up, "it runs", 8);
    for read in waiting {
        assert_eq!(read.await.unwrap().status().as_u16(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_waited_for_is_not_shown_as_fresh_when_the_quorum_was_lost_meanwhile() {
    let manager = farm();
    let read = begin(&manager, &format!("/v1/vms?index={}&wait=30s", index(&manager)));
    settle().await;
    manager.published.stand(Standing::LeadsAlone);
    let (status, problem) = body(read.await.unwrap()).await;
    assert_eq!((status.as_u16(), problem["type"].as_str()), (503, Some("/problems/no-quorum")));
}
