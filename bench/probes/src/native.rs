//! The checks of the shipped probes without WASM: the same settings, the same judgement, the sockets of the runtime.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use probe_kit::{Outcome, State};
use probe_ping::{PingSettings, SeriesState, judge};
use probe_tcp::TcpSettings;
use tokio::net::TcpStream;
use tokio::time::timeout;
use vouch_probe_host::{EchoRequest, Icmp};

use crate::load::DEADLINE;

/// Connects as the `tcp` probe does; returns whether the port accepts.
pub(crate) async fn tcp(address: Ipv4Addr, settings: &str) -> bool {
    let Ok(settings) = TcpSettings::parse(settings) else { return false };
    let (port, begun) = (settings.port, Instant::now());
    let connected = timeout(DEADLINE, TcpStream::connect(SocketAddr::from((address, port)))).await;
    let Ok(Ok(stream)) = connected else { return false };
    let answers = matches!(stream.take_error(), Ok(None)) && stream.peer_addr().is_ok();
    let outcome = Outcome::new(State::Up, "connected", format!("port {port} accepts connections"));
    let outcome = outcome.with_phase("connect", begun.elapsed());
    answers && std::hint::black_box(outcome).state == State::Up
}

/// Sends echo requests as the `ping` probe does; returns whether the target answers.
pub(crate) async fn icmp(sockets: &dyn Icmp, address: Ipv4Addr, settings: &str) -> bool {
    let Ok(settings) = PingSettings::parse(settings) else { return false };
    let request = EchoRequest {
        address: address.into(),
        count: settings.count,
        interval: std::time::Duration::from_millis(settings.interval_ms.into()),
        timeout: DEADLINE,
    };
    let Ok(replies) = sockets.echo(request).await else { return false };
    let judged = judge(settings.count, u32::try_from(replies.len()).unwrap_or(u32::MAX));
    let text = format!("{address} answered {} of {} echo requests", replies.len(), settings.count);
    let outcome = Outcome::new(State::Up, judged.as_str(), text);
    std::hint::black_box(outcome);
    judged != SeriesState::Silent
}
