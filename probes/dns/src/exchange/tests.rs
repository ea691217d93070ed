//! Questions to small servers on loopback.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::message::Rcode;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;

/// Turns a question into an answer with this byte of flags, and this code.
fn answered(question: &[u8], flags: u8, rcode: u8) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] |= RESPONSE | flags;
    answer[3] = rcode;
    answer
}

/// Answers the questions that come with what `serve` makes of each and its number; returns the port.
fn server(serve: impl Fn(&[u8], usize) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    serving(UdpSocket::bind((LOCALHOST, 0)).unwrap(), serve)
}

fn serving(socket: UdpSocket, serve: impl Fn(&[u8], usize) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        for number in 1.. {
            let Ok((length, who)) = socket.recv_from(&mut buffer) else { return };
            for answer in serve(&buffer[..length], number) {
                socket.send_to(&answer, who).unwrap();
            }
        }
    });
    port
}

fn ask(port: u16, deadline_ms: u32) -> Asked {
    let settings = DnsSettings::parse(&format!(r#"{{"name": "a.example", "port": {port}}}"#)).unwrap();
    super::ask(LOCALHOST, &settings, &Budget::starting_now(deadline_ms))
}

#[test]
fn an_answer_counts_and_strays_are_passed_over() {
    let port = server(|question, _| {
        let mut stray = answered(question, 0, 2);
        stray[0] ^= 0xff;
        vec![stray, b"x".to_vec(), answered(question, 0, 0)]
    });
    match ask(port, 5000) {
        Asked::Answered(reply, _, Transport::Udp, 1) => assert_eq!(reply.rcode, Rcode::NOERROR),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_that_was_lost_is_sent_again_and_not_for_ever() {
    let port = server(|question, number| if number < 3 { Vec::new() } else { vec![answered(question, 0, 0)] });
    assert!(matches!(ask(port, 1200), Asked::Answered(_, _, Transport::Udp, SENDS_MAX)));
    let (told, heard) = std::sync::mpsc::channel();
    let silent = server(move |_, number| {
        told.send(number).unwrap();
        Vec::new()
    });
    assert_eq!(ask(silent, 600), Asked::NoAnswer(ConnectError::Timeout));
    assert_eq!(heard.try_iter().last(), Some(SENDS_MAX as usize));
}

#[test]
fn ids_are_not_the_same_twice() {
    let (told, heard) = std::sync::mpsc::channel();
    let port = server(move |question, _| {
        told.send([question[0], question[1]]).unwrap();
        vec![answered(question, 0, 0)]
    });
    for _ in 0..4 {
        ask(port, 5000);
    }
    let ids: std::collections::BTreeSet<_> = heard.try_iter().collect();
    assert!(ids.len() > 1, "{ids:?}");
}

#[test]
fn another_question_with_the_right_id_is_no_dns() {
    let port = server(|question, _| {
        let mut other = answered(question, 0, 0);
        other[13] = b'b';
        vec![other]
    });
    assert_eq!(ask(port, 5000), Asked::NotDns(NotAnswer::OtherQuestion));
}

#[test]
fn a_closed_port_is_told_at_once() {
    let port = UdpSocket::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    assert_eq!(ask(port, 5000), Asked::NoAnswer(ConnectError::Closed));
}

#[test]
fn a_cut_answer_is_asked_for_over_tcp() {
    let cut = |question: &[u8], _: usize| vec![answered(question, TRUNCATED, 0)];
    let only_udp = server(cut);
    assert!(matches!(ask(only_udp, 2000), Asked::OnlyCut(..)));
    // Another process may have the port of the one kind that is free for the other.
    let both = || {
        let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        TcpListener::bind(socket.local_addr().unwrap()).ok().map(|listener| (socket, listener))
    };
    let (socket, listener) = (0..16).find_map(|_| both()).unwrap();
    let port = serving(socket, cut);
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(&[&length[..], &answered(&question, 0, 3)].concat()).unwrap();
    });
    match ask(port, 5000) {
        Asked::Answered(reply, _, Transport::Tcp, 1) => assert_eq!(reply.rcode, Rcode::NXDOMAIN),
        other => panic!("{other:?}"),
    }
}
