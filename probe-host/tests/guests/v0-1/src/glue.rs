//! Its settings are the port to connect to, as `{"port": 22}`, or one word of what to do instead, as `"echo"`.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

wit_bindgen::generate!({ world: "probe", path: "../../../../wit/vouch-probe-0.1.0" });

use vouch::probe::guest_agent;
use vouch::probe::icmp::{self, EchoRequest};
use vouch::probe::log::{self, Level};
use vouch::probe::types::{Phase, Sample, State};

struct First;

export!(First);

impl Guest for First {
    fn describe() -> Descriptor {
        Descriptor {
            name: "v0-1".to_owned(),
            version: "0.1.0".to_owned(),
            summary: "Connects, as the first contract has it.".to_owned(),
            ports: vec![22, 2222],
        }
    }

    fn validate(settings: String) -> Result<(), String> {
        match settings.starts_with(['{', '"']) {
            true => Ok(()),
            false => Err(format!("settings are {settings}: must be an object or a word")),
        }
    }

    fn run(target: Target, settings: String, deadline_ms: u32) -> Result<Outcome, Fault> {
        let address = target.addresses.first().ok_or(Fault::NotApplicable("no address".to_owned()))?;
        log::write(Level::Info, &format!("checking {address}"));
        match settings.trim_matches('"') {
            "echo" => {
                let request = EchoRequest { address: address.clone(), count: 2, interval_ms: 10, timeout_ms: 100 };
                match icmp::echo(&request) {
                    Ok(replies) => Ok(found("replied", replies.len().to_string())),
                    Err(icmp::Error::Unreachable(why)) => {
                        Ok(Outcome { state: State::Unknown, ..found("no_route", why) })
                    }
                    Err(other) => Err(Fault::Other(format!("{other:?}"))),
                }
            }
            "agent" => match guest_agent::ping(100) {
                Ok(micros) => Ok(found("answered", micros.to_string())),
                Err(other) => Err(Fault::Other(format!("{other:?}"))),
            },
            "bad" => Err(Fault::BadSettings("field `word` is bad".to_owned())),
            _ => connect(address, &settings, Duration::from_millis(u64::from(deadline_ms) / 2)),
        }
    }
}

fn connect(address: &str, settings: &str, within: Duration) -> Result<Outcome, Fault> {
    let digits: String = settings.chars().filter(char::is_ascii_digit).collect();
    let port = digits.parse().map_err(|_| Fault::BadSettings("field `port` is none".to_owned()))?;
    let address: IpAddr = address.parse().map_err(|_| Fault::Other(format!("address {address} is none")))?;
    let begun = Instant::now();
    let connected = TcpStream::connect_timeout(&SocketAddr::new(address, port), within).and_then(|stream| {
        stream.take_error()?.map_or(Ok(()), Err)?;
        stream.peer_addr()
    });
    Ok(match connected {
        Ok(_) => Outcome {
            phases: vec![Phase { name: "connect to it".to_owned(), micros: begun.elapsed().as_micros() as u64 }],
            samples: vec![Sample { name: "tries".to_owned(), value: 1.0, unit: String::new() }; 17],
            facts: vec![("Free Text".to_owned(), "as it was".to_owned())],
            ..found("connected", String::new())
        },
        Err(e) => Outcome { state: State::Down, ..found("closed", e.to_string()) },
    })
}

fn found(reason: &str, message: String) -> Outcome {
    let (phases, samples, facts) = (Vec::new(), Vec::new(), Vec::new());
    Outcome { state: State::Up, reason: reason.to_owned(), message, phases, samples, facts }
}
