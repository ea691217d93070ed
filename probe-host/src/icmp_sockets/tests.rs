//! The engine against the kernel, and against targets of the test's own that answer late or never.
//!
//! On loopback every address answers echo requests, so the latter are UDP sockets at one port of several addresses, which
//! take the packets of an engine that has a UDP socket too.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

/// How many dead targets are asked beside one that answers.
const DEAD: usize = 2_000;
const DEAD_TARGET: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const TARGET: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn request(address: IpAddr, count: u32) -> EchoRequest {
    EchoRequest { address, count, interval: Duration::ZERO, timeout: Duration::from_secs(2) }
}

/// Returns an engine whose packets go to a port of the test's targets.
async fn over_udp(port: u16) -> IcmpSockets {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (family, kind) = (Family::V4, IcmpSocketKind::Datagram);
    let socket = Arc::new(FamilySocket { family, kind, socket, port, waiting: Mutex::default() });
    let tasks = vec![tokio::spawn(receive(Arc::clone(&socket)))];
    IcmpSockets { v4: Ok(socket), v6: Err("not in this test".to_owned()), tasks }
}

/// Makes the reply to a request of this engine, as a kernel does.
fn reply_to(request: &[u8]) -> Vec<u8> {
    let mut reply = request.to_vec();
    reply[0] = 0;
    reply
}

#[tokio::test]
async fn loopback_answers_every_request_of_several_series_at_a_time() {
    let sockets = IcmpSockets::open();
    // IPv6 has one loopback address; two series to it are told apart as well.
    let loopback: [[IpAddr; 2]; 2] = [[Ipv4Addr::LOCALHOST.into(), TARGET.into()], [Ipv6Addr::LOCALHOST.into(); 2]];
    for [one, other] in loopback {
        if let Err(error) = sockets.kind_of(one) {
            // Neither ping_group_range nor CAP_NET_RAW: then this must be what every request says.
            let said = sockets.echo(request(one, 1)).await;
            assert_eq!(said, Err(error));
            continue;
        }
        let (a, b) = tokio::join!(sockets.echo(request(one, 3)), sockets.echo(request(other, 2)));
        let sequences = |replies: Vec<EchoReply>| replies.iter().map(|r| r.sequence).collect::<Vec<_>>();
        assert_eq!((sequences(a.unwrap()), sequences(b.unwrap())), (vec![0, 1, 2], vec![0, 1]), "{one}");
        let socket = sockets.socket_for(one).unwrap();
        assert!(socket.waiting().is_empty(), "{one}: a series that ended is forgotten");
    }
}

#[tokio::test]
async fn thousands_of_dead_targets_delay_none_that_answers() {
    let target = UdpSocket::bind((TARGET, 0)).await.unwrap();
    let port = target.local_addr().unwrap().port();
    // It takes what is sent to it, and says nothing.
    let _dead = UdpSocket::bind((DEAD_TARGET, port)).await.unwrap();
    let sockets = Arc::new(over_udp(port).await);
    tokio::spawn(async move {
        let mut packet = [0; PACKET_READ];
        while let Ok((length, from)) = target.recv_from(&mut packet).await {
            target.send_to(&reply_to(&packet[..length]), from).await.unwrap();
        }
    });
    let ended = Arc::new(Mutex::new(0));
    let mut silent = tokio::task::JoinSet::new();
    for _ in 0..DEAD {
        let (sockets, ended) = (Arc::clone(&sockets), Arc::clone(&ended));
        let forever = EchoRequest { timeout: Duration::from_secs(3600), ..request(DEAD_TARGET.into(), 1) };
        silent.spawn(async move {
            let said = sockets.echo(forever).await;
            *ended.lock().unwrap() += 1;
            said
        });
    }
    while sockets.v4.as_ref().unwrap().waiting().len() < DEAD {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        let replies = sockets.echo(request(TARGET.into(), 1)).await.unwrap();
        assert_eq!(replies.len(), 1, "answered while {DEAD} targets are waited for");
    }
    assert_eq!(*ended.lock().unwrap(), 0, "no dead target has had its time");
    silent.shutdown().await;
    assert!(sockets.v4.as_ref().unwrap().waiting().is_empty(), "a series that was given up is forgotten");
}

#[tokio::test]
async fn a_batch_of_replies_is_told_apart_by_series_and_request() {
    let target = UdpSocket::bind((TARGET, 0)).await.unwrap();
    let sockets = Arc::new(over_udp(target.local_addr().unwrap().port()).await);
    let mut series = tokio::task::JoinSet::new();
    let asked = BATCH + BATCH / 4;
    for number in 0..asked {
        let sockets = Arc::clone(&sockets);
        series.spawn(async move { (number, sockets.echo(request(TARGET.into(), 1)).await.unwrap()) });
    }
    let mut requests = Vec::new();
    let mut packet = [0; 2 * PACKET_READ];
    while requests.len() < asked {
        let (length, from) = target.recv_from(&mut packet).await.unwrap();
        requests.push((packet[..length].to_vec(), from));
    }
    // All at once, in another order, each twice, among what is no reply.
    let noise = [requests[0].0.clone(), vec![0; 2 * PACKET_READ], Vec::new()];
    for ((request, from), noise) in requests.iter().rev().zip(noise.iter().cycle()) {
        for answer in [&reply_to(request), noise, &reply_to(request)] {
            target.send_to(answer, from).await.unwrap();
        }
    }
    let answered = series.join_all().await;
    assert!(answered.iter().all(|(_, replies)| replies.len() == 1), "{answered:?}");
    assert!(sockets.v4.as_ref().unwrap().waiting().is_empty());
}

#[test]
fn what_comes_again_or_for_no_request_is_not_counted() {
    let at = Instant::now();
    let (told, mut whole) = oneshot::channel();
    let mut heard = Heard { count: 3, arrived: Vec::new(), missing: 3, whole: Some(told) };
    for sequence in [3, u32::MAX, 1, 1] {
        heard.note(sequence, at);
    }
    assert_eq!((heard.missing, heard.arrived.as_slice()), (2, &[None, Some(at)][..]));
    assert!(whole.try_recv().is_err());
    heard.note(0, at);
    heard.note(2, at);
    assert!(whole.try_recv().is_ok(), "told when the last one came");
}
