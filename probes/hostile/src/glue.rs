//! The orders that the hostile guest follows.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

wit_bindgen::generate!({ world: "probe", path: "../../wit/vouch-probe-1" });

use exports::vouch::probe::check::{Descriptor, Fault, Guest, Outcome, Target};
use vouch::probe::icmp::{self, EchoRequest};
use vouch::probe::log::{self, Level};
use vouch::probe::tls::{Connection, Error, ReplyEnd};
use vouch::probe::types::{Fact, Network, Phase, Sample, State};
use vouch::probe::{guest_agent, tcp};

struct Hostile;

export!(Hostile);

impl Guest for Hostile {
    fn describe() -> Descriptor {
        Descriptor {
            name: "hostile".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            proves: "Breaks the rules.".to_owned(),
            settings_schema: "x".repeat(20_000),
            networks: vec![Network::Service; 99],
            ports: (0..=99).collect(),
            interval_ms: 0,
            timeout_ms: u32::MAX,
            about: vec![Fact { name: "author".to_owned(), value: "x".repeat(1000) }; 99],
        }
    }

    fn validate(settings: String) -> Result<(), String> {
        match settings.trim_matches('"').split_once(' ') {
            Some(("reach", value)) => Err(reached(value)),
            Some(_) | None => loop {
                black_box(());
            },
        }
    }

    fn run(_target: Target, settings: String, _deadline_ms: u32) -> Result<Outcome, Fault> {
        // As an object where a manager hands them out, which takes no other settings.
        let object = settings.strip_prefix(r#"{"order": ""#).and_then(|rest| rest.strip_suffix(r#""}"#));
        let order = object.unwrap_or(settings.trim_matches('"'));
        let (order, value) = order.split_once(' ').unwrap_or((order, ""));
        match order {
            "loop" => loop {
                black_box(());
            },
            // For so many milliseconds, and then it answers.
            "spin" => {
                let (begun, millis) = (Instant::now(), value.parse().unwrap_or(0));
                while begun.elapsed() < Duration::from_millis(millis) {
                    (0..10_000).for_each(|n| drop(black_box(n)));
                }
                said("spun", value.to_owned())
            }
            "sleep" => {
                std::thread::sleep(Duration::from_secs(3600));
                said("slept", String::new())
            }
            "eat" => {
                let mut eaten: Vec<Vec<u8>> = Vec::new();
                loop {
                    eaten.push(black_box(vec![1; 64 * 1024]));
                }
            }
            // So many MiB, for as long as it may.
            "hoard" => {
                let hoard = vec![1u8; value.parse::<usize>().map_or(0, |mib| mib * 1024 * 1024)];
                std::thread::sleep(Duration::from_secs(3600));
                said("hoarded", black_box(hoard).len().to_string())
            }
            "eat-handles" => {
                let mut sockets = Vec::new();
                while let Ok(socket) = UdpSocket::bind("0.0.0.0:0") {
                    sockets.push(socket);
                }
                said("held", sockets.len().to_string())
            }
            // As many as there are, for so many milliseconds. With more of them its handles would run out first.
            "hold-sockets" => {
                let sockets: Vec<_> = std::iter::from_fn(|| UdpSocket::bind("0.0.0.0:0").ok()).take(16).collect();
                std::thread::sleep(Duration::from_millis(value.parse().unwrap_or(0)));
                said("held", sockets.len().to_string())
            }
            "recurse" => said("recursed", deeper(0).to_string()),
            "panic" => panic!("told to panic"),
            "connect" => match TcpStream::connect(address(value)) {
                Ok(_) => said("connected", String::new()),
                Err(e) => said("refused", format!("{:?}", e.kind())),
            },
            // A byte at a time, many of them.
            "write-on" => {
                let mut stream = TcpStream::connect(address(value)).expect("a connection");
                let written = (0..400).take_while(|_| stream.write_all(b"x").is_ok()).count();
                said("wrote", written.to_string())
            }
            "send" => match UdpSocket::bind("0.0.0.0:0").and_then(|s| s.send_to(b"x", address(value))) {
                Ok(_) => said("sent", String::new()),
                Err(e) => said("refused", format!("{:?}", e.kind())),
            },
            "bind" => match UdpSocket::bind(address(value)) {
                Ok(_) => said("bound", String::new()),
                Err(e) => said("refused", format!("{:?}", e.kind())),
            },
            "listen" => match TcpListener::bind(address(value)) {
                Ok(_) => said("listening", String::new()),
                Err(e) => said("refused", format!("{:?}", e.kind())),
            },
            "echo" => {
                let request = EchoRequest { address: value.to_owned(), count: 1, interval_ms: 0, timeout_ms: 100 };
                match icmp::echo(&request) {
                    Ok(_) => said("sent", String::new()),
                    Err(e) => said("refused", format!("{e:?}")),
                }
            }
            "ask" => match guest_agent::query(value, 100) {
                Ok(reply) => said("answered", reply),
                Err(e) => said("refused", format!("{e:?}")),
            },
            "ask-on" => {
                let mut answered = 0;
                loop {
                    match guest_agent::query(value, 100) {
                        Ok(_) => answered += 1,
                        Err(e) => break said("answered", format!("{answered}: {e:?}")),
                    }
                }
            }
            "look-up" => match value.to_socket_addrs() {
                Ok(found) => said("found", format!("{:?}", found.collect::<Vec<_>>())),
                Err(e) => said("refused", format!("{:?}", e.kind())),
            },
            "read" => match std::fs::File::open(value).and_then(|mut f| f.read(&mut [0; 1])) {
                Ok(_) => said("read", String::new()),
                Err(e) => said("refused", format!("{:?}", e.kind())),
            },
            "handshake" => match tcp::handshake(&host(value), port(value), u32::MAX) {
                Ok(_) => said("connected", String::new()),
                Err(e) => said("refused", format!("{e:?}")),
            },
            "handshake-on" => {
                let mut made = 0;
                loop {
                    match tcp::handshake(&host(value), port(value), 1000) {
                        Ok(_) => made += 1,
                        Err(e) => break said("made", format!("{made}: {e:?}")),
                    }
                }
            }
            "tls-connect" => match Connection::connect(&host(value), port(value), 1000) {
                Ok(_) => said("connected", String::new()),
                Err(e) => said("refused", format!("{e:?}")),
            },
            "tls-hoard" => {
                let mut held = Vec::new();
                let refused = loop {
                    match Connection::connect(&host(value), port(value), 1000) {
                        Ok(connection) => held.push(connection),
                        Err(e) => break e,
                    }
                };
                said("held", format!("{}: {refused:?}", held.len()))
            }
            "tls-exchange-on" => {
                let connection = Connection::connect(&host(value), port(value), 1000).expect("a connection");
                let mut exchanged = 0;
                loop {
                    match connection.exchange(b"x", &ReplyEnd::None, 1000) {
                        Ok(_) => exchanged += 1,
                        Err(e) => break said("exchanged", format!("{exchanged}: {e:?}")),
                    }
                }
            }
            "tls-bounds" => {
                let connection = Connection::connect(&host(value), port(value), 1000).expect("a connection");
                let refused = [
                    connection.exchange(&[0; 16 * 1024 + 1], &ReplyEnd::None, 1000).err(),
                    connection.exchange(b"", &ReplyEnd::Bytes(65 * 1024), 1000).err(),
                    connection.exchange(b"", &ReplyEnd::Terminator(vec![0; 17]), 1000).err(),
                    connection.handshake(Some("no name"), &[], 1000).err(),
                    connection.handshake(Some(&"x".repeat(254)), &[], 1000).err(),
                    connection.handshake(None, &vec!["h2".to_owned(); 9], 1000).err(),
                    connection.handshake(None, &[String::new()], 1000).err(),
                    connection.certificate_der(0).err(),
                    connection.certificate().err(),
                    // And it goes on after all that; the server sends without end.
                    connection.exchange(b"", &ReplyEnd::Terminator(vec![1]), 3000).err(),
                ];
                let fact = |e: &Option<Error>| Fact { name: "refused".to_owned(), value: format!("{e:?}") };
                Ok(Outcome { facts: refused.iter().map(fact).collect(), ..said("refused", String::new())? })
            }
            "tls-talk" => match talk(value) {
                Ok(heard) => said("talked", heard),
                Err(e) => said("refused", format!("{e:?}")),
            },
            "tls-wait" => {
                let connection = Connection::connect(&host(value), port(value), 1000).expect("a connection");
                said("waited", format!("{:?}", connection.handshake(None, &[], u32::MAX).err()))
            }
            "tls-last-words" => {
                let connection = Connection::connect(&host(value), port(value), 1000).expect("a connection");
                let line = connection.exchange(b"hello", &ReplyEnd::Terminator(b"\r\n".to_vec()), 1000).err();
                let rest = connection.exchange(b"", &ReplyEnd::Any, 1000).map(|rest| String::from_utf8(rest));
                let after = connection.exchange(b"more", &ReplyEnd::Any, 1000).err();
                said("read", format!("{line:?} {rest:?} {after:?}"))
            }
            "tls-rest" => {
                let connection = Connection::connect(&host(value), port(value), 1000).expect("a connection");
                let all = connection.exchange(b"hello", &ReplyEnd::End, 1000).map(|all| String::from_utf8(all));
                said("read", format!("{all:?}"))
            }
            "tls-shown" => {
                let connection = Connection::connect(&host(value), port(value), 1000).expect("a connection");
                let session = connection.handshake(None, &[], 1000).map(|session| session.key_proved);
                let closed = connection.exchange(b"hello", &ReplyEnd::Any, 1000).err();
                let shown = connection.certificate().map(|shown| shown.names.join(","));
                said("shown", format!("{session:?} {closed:?} {shown:?}"))
            }
            "environment" => said("counted", std::env::vars().count().to_string()),
            "shout" => {
                let line = "x".repeat(1000);
                while std::io::stderr().write_all(line.as_bytes()).is_ok() {}
                said("shouted", String::new())
            }
            "log" => {
                (0..10_000).for_each(|n| log::write(Level::Info, &format!("line {n} {}", "x".repeat(5000))));
                said("logged", String::new())
            }
            "huge-message" => said("huge", "x".repeat(4 * 1024 * 1024)),
            "many-facts" => {
                let word = || "a".to_owned();
                Ok(Outcome {
                    phases: vec![Phase { name: word(), micros: u64::MAX }; 99],
                    samples: vec![Sample { name: word(), value: 1.0, unit: word() }; 99],
                    facts: vec![Fact { name: word(), value: "x".repeat(1000) }; 99],
                    ..said("many", String::new())?
                })
            }
            "bad-reason" => said("two words", String::new()),
            other => Err(Fault::BadSettings(format!("order is {other}: not known"))),
        }
    }
}

/// Goes on until no stack is left.
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(true) { deeper(depth + 1) + black_box(frame[0]) } else { depth }
}

/// Asks for TLS in plain text, does the handshake, and talks inside: what all this interface is for.
fn talk(value: &str) -> Result<String, Error> {
    let line = ReplyEnd::Terminator(b"\r\n".to_vec());
    let connection = Connection::connect(&host(value), port(value), 1000)?;
    let before = connection.exchange(b"STARTTLS\r\n", &line, 1000)?;
    let session = connection.handshake(Some("desk-1.example"), &["smtp".to_owned()], 3000)?;
    let certificate = connection.certificate()?;
    let der = connection.certificate_der(0)?;
    let inside = connection.exchange(b"EHLO probe\r\n", &line, 1000)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    let (sha256, names) = (&certificate.sha256, certificate.names.join(","));
    let (version, proved, alpn) = (session.version, session.key_proved, session.alpn.unwrap_or_default());
    let shown = (certificate.not_after, der.len(), session.certificates);
    Ok(format!("{}|{version}|{proved}|{alpn}|{sha256}|{names}|{shown:?}|{}", text(before), text(inside)))
}

fn host(value: &str) -> String {
    address(value).ip().to_string()
}

fn port(value: &str) -> u16 {
    address(value).port()
}

fn address(value: &str) -> SocketAddr {
    value.parse().expect("an order with an address")
}

/// Tries every way out, and returns what came of each.
fn reached(value: &str) -> String {
    let request = EchoRequest { address: host(value), count: 1, interval_ms: 0, timeout_ms: 100 };
    let ways = [
        Connection::connect(&host(value), port(value), 1000).err().map(|e| format!("tls {e:?}")),
        tcp::handshake(&host(value), port(value), 1000).err().map(|e| format!("handshake {e:?}")),
        TcpStream::connect(address(value)).err().map(|e| format!("tcp {:?}", e.kind())),
        UdpSocket::bind("0.0.0.0:0")
            .and_then(|s| s.send_to(b"x", address(value)))
            .err()
            .map(|e| format!("udp {:?}", e.kind())),
        icmp::echo(&request).err().map(|e| format!("icmp {e:?}")),
        guest_agent::ping(100).err().map(|e| format!("agent {e:?}")),
    ];
    ways.map(|way| way.unwrap_or_else(|| "reached".to_owned())).join(", ")
}

fn said(reason: &str, message: String) -> Result<Outcome, Fault> {
    Ok(Outcome {
        state: State::Up,
        reason: reason.to_owned(),
        message,
        phases: Vec::new(),
        samples: Vec::new(),
        facts: Vec::new(),
    })
}
