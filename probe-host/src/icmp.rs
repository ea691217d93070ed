//! Echo requests, as whoever runs the probes sends them.

use std::net::IpAddr;
use std::time::Duration;

/// A series of echo requests to one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EchoRequest {
    /// Whom to ask.
    pub address: IpAddr,
    /// How many requests.
    pub count: u32,
    /// From one request to the next; at least 10 ms are kept.
    pub interval: Duration,
    /// How long to wait for the reply to the last request.
    pub timeout: Duration,
}

/// One reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EchoReply {
    /// Which request it answers, from 0.
    pub sequence: u32,
    /// Its round trip.
    pub round_trip: Duration,
}

/// Why nothing could be sent; says nothing of the target.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub enum IcmpError {
    /// There is no route from here.
    #[error("no route: {0}")]
    NoRoute(String),
    /// No socket of this family could be opened.
    #[error("no ICMP socket: {0}")]
    NoSocket(String),
    /// Sending failed.
    #[error("send: {0}")]
    Send(String),
}

/// Sends echo requests.
#[async_trait::async_trait]
pub trait Icmp: Send + Sync {
    /// Returns the replies in the order of their requests; an empty list if all stayed silent.
    ///
    /// # Errors
    /// [`IcmpError`] when the requests could not be sent.
    async fn echo(&self, request: EchoRequest) -> Result<Vec<EchoReply>, IcmpError>;
}
