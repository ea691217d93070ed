//! How current an answer is: what a read costs, what it may not miss, and what its headers say.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use vouch_types::VmState;

use super::double::{SimManager, Standing, body, get, judge, lone, populate, request, send, three, vm_id};

/// How many reads come at once; a manager serves as many.
const READS: usize = 100;

async fn read(manager: &SimManager, path: &str) -> Response<Body> {
    send(manager, request("GET", path).body(Body::empty()).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reads_at_once_cost_two_rounds_at_most_at_each_consistency() {
    for consistency in ["default", "consistent"] {
        let manager = lone();
        populate(&manager.published, "n1", &[(1, "desk-1")]);
        manager.published.slow_rounds(Duration::from_millis(50));
        let path = format!("/v1/vms/desk-1?consistency={consistency}");
        let reads = (0..READS).map(|_| read(&manager, &path));
        let answers = futures::future::join_all(reads).await;
        assert!(answers.iter().all(|answer| answer.status().as_u16() == 200));
        let rounds = manager.published.rounds();
        assert!((1..=2).contains(&rounds), "{consistency}: {rounds} rounds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_comes_during_a_round_is_not_answered_by_it_but_by_the_next() {
    let manager = lone();
    populate(&manager.published, "n1", &[(1, "desk-1")]);
    manager.published.slow_rounds(Duration::from_millis(50));
    let later = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let came = tokio::time::Instant::now();
        read(&manager, "/v1/vms/desk-1?consistency=consistent").await;
        came.elapsed()
    };
    let (first, waited) = tokio::join!(read(&manager, "/v1/vms/desk-1?consistency=consistent"), later);
    assert_eq!(first.status().as_u16(), 200);
    assert_eq!(manager.published.rounds(), 2);
    assert!(waited >= Duration::from_millis(50), "a whole round after it came: {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn readers_that_go_away_take_no_round_from_the_others() {
    let manager = lone();
    populate(&manager.published, "n1", &[(1, "desk-1")]);
    manager.published.slow_rounds(Duration::from_millis(50));
    let impatient = tokio::time::timeout(Duration::from_millis(10), read(&manager, "/v1/vms/desk-1"));
    let (gone, stays) = tokio::join!(impatient, read(&manager, "/v1/vms/desk-1"));
    assert!(gone.is_err());
    assert_eq!(stays.status().as_u16(), 200);
}

#[tokio::test(start_paused = true)]
async fn every_answer_says_its_index_its_leader_and_when_that_was_last_heard() {
    let [leader, follower, _] = three();
    for manager in [&leader, &follower] {
        populate(&manager.published, "n1", &[(1, "desk-1")]);
    }
    let never = read(&follower, "/v1/vms?consistency=stale").await;
    assert_eq!(never.headers()["x-vouch-last-contact"], "unknown");
    let fresh = read(&follower, "/v1/vms").await;
    assert_eq!(fresh.headers()["x-vouch-last-contact"], "0");
    assert!(fresh.headers().get("x-vouch-age-ms").is_none());
    tokio::time::advance(Duration::from_millis(1_500)).await;
    let stale = read(&follower, "/v1/vms?consistency=stale").await;
    for (name, value) in [
        ("x-vouch-index", "3"),
        ("x-vouch-leader", "m1"),
        ("x-vouch-known-leader", "true"),
        ("x-vouch-last-contact", "1500"),
        ("x-vouch-age-ms", "1500"),
    ] {
        assert_eq!(stale.headers()[name], value, "{name}");
    }
    // What the leader answers for a follower keeps what it says.
    let evidence = read(&follower, "/v1/vms/desk-1/evidence").await;
    for name in ["x-vouch-index", "x-vouch-leader", "x-vouch-known-leader", "x-vouch-last-contact"] {
        assert!(evidence.headers().contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn every_list_and_document_of_the_state_takes_each_consistency() {
    let manager = lone();
    populate(&manager.published, "n1", &[(1, "desk-1")]);
    judge(&manager.published, vm_id(1), VmState::Up, "it runs", 5);
    manager.published.stand(Standing::LeadsAlone);
    for path in [
        "/v1/vms",
        "/v1/vms/desk-1",
        "/v1/vms/desk-1/evidence",
        "/v1/vms/desk-1/history",
        "/v1/vms/desk-1/explain",
        "/v1/vms/desk-1/trace",
        "/v1/vms/desk-1/policy",
        "/v1/nodes",
        "/v1/nodes/n1",
        "/v1/incidents",
        "/v1/policies",
        "/v1/maintenances",
        "/v1/watchers",
        "/v1/probes",
        "/v1/cluster",
        "/v1/events?format=json",
    ] {
        let and = if path.contains('?') { '&' } else { '?' };
        for (consistency, status) in [("default", 503), ("consistent", 503), ("stale", 200)] {
            let (have, problem) = get(&manager, &format!("{path}{and}consistency={consistency}")).await;
            assert_eq!(have.as_u16(), status, "{path} {consistency}: {problem}");
        }
        let (status, _) = body(read(&manager, &format!("{path}{and}consistency=maybe")).await).await;
        assert_eq!(status.as_u16(), 400, "{path}");
    }
}
