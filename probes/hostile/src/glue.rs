//! The orders that the hostile guest follows.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

wit_bindgen::generate!({ world: "probe", path: "../../wit/vouch-probe-0.1.0" });

use vouch::probe::icmp::{self, EchoRequest};
use vouch::probe::log::{self, Level};
use vouch::probe::types::State;

struct Hostile;

export!(Hostile);

impl Guest for Hostile {
    fn describe() -> Descriptor {
        Descriptor {
            name: "hostile".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Breaks the rules.".to_owned(),
            ports: Vec::new(),
        }
    }

    fn validate(_settings: String) -> Result<(), String> {
        loop {
            black_box(());
        }
    }

    fn run(_target: Target, settings: String, _deadline_ms: u32) -> Result<Outcome, Fault> {
        let order = settings.trim_matches('"');
        let (order, value) = order.split_once(' ').unwrap_or((order, ""));
        match order {
            "loop" => loop {
                black_box(());
            },
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
            "eat-handles" => {
                let mut sockets = Vec::new();
                while let Ok(socket) = UdpSocket::bind("0.0.0.0:0") {
                    sockets.push(socket);
                }
                said("held", sockets.len().to_string())
            }
            "panic" => panic!("told to panic"),
            "connect" => match TcpStream::connect(address(value)) {
                Ok(_) => said("connected", String::new()),
                Err(e) => said("refused", format!("{:?}", e.kind())),
            },
            "send" => match UdpSocket::bind("0.0.0.0:0").and_then(|s| s.send_to(b"x", address(value))) {
                Ok(_) => said("sent", String::new()),
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
            "look-up" => match value.to_socket_addrs() {
                Ok(found) => said("found", format!("{:?}", found.collect::<Vec<_>>())),
                Err(e) => said("refused", format!("{:?}", e.kind())),
            },
            "read" => match std::fs::File::open(value).and_then(|mut f| f.read(&mut [0; 1])) {
                Ok(_) => said("read", String::new()),
                Err(e) => said("refused", format!("{:?}", e.kind())),
            },
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
            "bad-reason" => said("two words", String::new()),
            other => Err(Fault::BadSettings(format!("order is {other}: not known"))),
        }
    }
}

fn address(value: &str) -> SocketAddr {
    value.parse().expect("an order with an address")
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
