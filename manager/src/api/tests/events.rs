//! Streams of events at their limits: readers that are slow, histories that are gone, and silence.

use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use serde_json::{Value, json};
use vouch_types::VmState;

use super::double::{SimManager, body, get, judge, lone, populate, request, send, vm_id};
use super::{next_event, open_stream};
use crate::api::limits::{KEEP_ALIVE, STREAM_BATCH, STREAM_BUFFER, STREAM_SLOW, STREAMS_MAX};
use crate::store::state::EVENTS_MAX;

fn farm() -> SimManager {
    let manager = lone();
    populate(&manager.published, "n1", &[(1, "desk-1")]);
    manager
}

fn flip(manager: &SimManager, times: usize) {
    for n in 0..times {
        let state = if n % 2 == 0 { VmState::Up } else { VmState::Degraded };
        judge(&manager.published, vm_id(1), state, "it runs", 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_cut_with_a_last_word_makes_room_and_gets_exactly_the_rest_when_it_comes_back() {
    let manager = farm();
    let mut slow = Vec::new();
    for _ in 0..STREAMS_MAX {
        slow.push(open_stream(&manager, "?after=0.0").await);
    }
    flip(&manager, STREAM_BUFFER + STREAM_BATCH);
    let (status, _) = body(open_stream(&manager, "").await).await;
    assert_eq!(status.as_u16(), 503, "there is no room yet");
    tokio::time::sleep(STREAM_SLOW + Duration::from_secs(1)).await;
    assert_eq!(open_stream(&manager, "").await.status().as_u16(), 200, "those that were cut made room");

    let (mut stream, mut rest) = (slow.remove(0).into_body().into_data_stream(), String::new());
    let mut ids = Vec::new();
    let problem = loop {
        let (id, event) = next_event(&mut stream, &mut rest).await;
        if event["type"].is_string() {
            break event;
        }
        ids.push(id);
    };
    assert_eq!((&problem["type"], ids.len()), (&json!("/problems/too-slow"), STREAM_BUFFER));
    assert!(problem["detail"].as_str().unwrap().contains(ids.last().unwrap()), "{problem}");
    assert!(stream.next().await.is_none(), "nothing follows the last word");
    drop(slow);
    let resumed = open_stream(&manager, &format!("?follow&after={}", ids.last().unwrap())).await;
    let (mut stream, mut rest) = (resumed.into_body().into_data_stream(), String::new());
    let all = 3 + STREAM_BUFFER + STREAM_BATCH;
    while ids.len() < all {
        ids.push(next_event(&mut stream, &mut rest).await.0);
    }
    let position =
        |id: &String| id.split_once('.').map(|(i, o)| (i.parse::<u64>().unwrap(), o.parse::<u32>().unwrap()));
    assert!(ids.windows(2).all(|pair| position(&pair[0]) < position(&pair[1])), "each once, in order");
}

#[tokio::test]
async fn history_that_is_gone_is_told_with_the_oldest_position_and_its_very_edge_is_still_served() {
    let manager = farm();
    flip(&manager, EVENTS_MAX);
    // Three events came before them, so that three have left.
    for path in ["/v1/events?follow&after=2.0", "/v1/events?follow=false&after=0.0", "/v1/events?follow&after=0.0"] {
        let (status, problem) = get(&manager, path).await;
        assert_eq!((status.as_u16(), &problem["type"]), (410, &json!("/problems/events-gone")), "{path}");
        assert_eq!(problem["oldest"], "4.0", "{path}");
    }
    let (status, page) = get(&manager, "/v1/events?follow=false&after=3.0&limit=1").await;
    assert_eq!((status.as_u16(), &page["items"][0]["id"]), (200, &json!("4.0")));
    // One that falls behind while it is open is told so as well.
    let behind = open_stream(&manager, "?after=3.0").await;
    tokio::task::yield_now().await;
    flip(&manager, EVENTS_MAX);
    let (mut stream, mut rest) = (behind.into_body().into_data_stream(), String::new());
    let last = loop {
        let (_, event) = next_event(&mut stream, &mut rest).await;
        if event["type"].is_string() {
            break event;
        }
    };
    assert_eq!((&last["type"], last["oldest"].is_string()), (&json!("/problems/events-gone"), true));
}

#[tokio::test(start_paused = true)]
async fn a_comment_comes_when_nothing_else_does() {
    let manager = farm();
    let mut stream = open_stream(&manager, "?follow=true").await.into_body().into_data_stream();
    let began = tokio::time::Instant::now();
    let chunk = stream.next().await.unwrap().unwrap();
    assert!(chunk.starts_with(b":"), "{chunk:?}");
    assert!(began.elapsed() <= KEEP_ALIVE + Duration::from_millis(10));
}

#[tokio::test]
async fn follow_and_format_must_say_the_same() {
    let manager = farm();
    for (query, field) in [("follow=maybe", "follow"), ("follow&format=json", "follow"), ("format=xml", "format")] {
        let response =
            send(&manager, request("GET", &format!("/v1/events?{query}")).body(Body::empty()).unwrap()).await;
        let (status, problem): (_, Value) = body(response).await;
        assert_eq!((status.as_u16(), &problem["field"]), (400, &json!(field)), "{query}");
    }
}
