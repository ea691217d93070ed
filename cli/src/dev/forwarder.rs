//! A TCP forwarder under every link of the loopback cluster, so that links can be cut without root.
//!
//! While a link is cut its connections stay open and carry nothing; new ones are accepted by the kernel and stay
//! silent. A heal ends the connections of the cut, so that nobody waits for TCP to try again. The forwarder knows
//! nothing of what it carries, and no drop flag is in any other part of vouch.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::links::{LinkState, matches};

/// How long a connection to the far end may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// One link that can be cut.
struct Link {
    to: SocketAddr,
    state: watch::Sender<LinkState>,
}

/// All links.
#[derive(Default)]
pub struct Forwarder {
    links: BTreeMap<String, Arc<Link>>,
}

/// Which link a connection runs over: by the address that it comes from.
pub struct Route {
    /// Addresses of diallers; any when empty.
    pub from: Vec<IpAddr>,
    /// Name of the link.
    pub link: String,
}

impl Forwarder {
    /// Listens on `at` and forwards each connection to `to`, over the first link whose diallers it comes from.
    /// Returns the address that it listens on.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn add(&mut self, at: SocketAddr, to: SocketAddr, routes: Vec<Route>) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let mut table = Vec::new();
        for route in routes {
            let link = Arc::new(Link { to, state: watch::Sender::new(LinkState::Open) });
            table.push((route.from, Arc::clone(&link)));
            self.links.insert(route.link, link);
        }
        tokio::spawn(accept_all(listener, table));
        Ok(address)
    }

    /// Returns all links, by name: where they lead, and how they are.
    pub fn list(&self) -> Vec<(String, SocketAddr, LinkState)> {
        self.links.iter().map(|(name, link)| (name.clone(), link.to, *link.state.borrow())).collect()
    }

    /// Sets the state of the links that the pattern means, and returns their names.
    pub fn set(&self, pattern: &str, state: LinkState) -> Vec<String> {
        let meant = self.links.iter().filter(|(name, _)| matches(pattern, name));
        meant
            .map(|(name, link)| {
                link.state.send_replace(state);
                name.clone()
            })
            .collect()
    }
}

async fn accept_all(listener: TcpListener, table: Vec<(Vec<IpAddr>, Arc<Link>)>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of file descriptors: the next try may do better.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let link = table.iter().find(|(from, _)| from.is_empty() || from.contains(&peer.ip())).map(|(_, link)| link);
        if let Some(link) = link.or(table.first().map(|(_, link)| link)) {
            tokio::spawn(carry(stream, Arc::clone(link)));
        }
    }
}

/// Ends a connection so that the other side notices at once.
fn reset(stream: &TcpStream) {
    // A connection that is gone already needs no reset.
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// Waits until the link is no longer cut.
async fn until_not_cut(state: &mut watch::Receiver<LinkState>) {
    // The sender lives as long as the process.
    let _ = state.wait_for(|s| *s != LinkState::Cut).await;
}

async fn carry(mut near: TcpStream, link: Arc<Link>) {
    let mut state = link.state.subscribe();
    let now = *state.borrow_and_update();
    match now {
        LinkState::Open => {}
        LinkState::Cut => {
            until_not_cut(&mut state).await;
            return reset(&near);
        }
        LinkState::NoCarrier => return reset(&near),
    }
    let far = tokio::select! {
        far = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(link.to)) => far,
        _ = state.changed() => {
            until_not_cut(&mut state).await;
            return reset(&near);
        }
    };
    let Ok(Ok(mut far)) = far else { return reset(&near) };
    // Delays of small messages are not the forwarder's to add.
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    tokio::select! {
        biased;
        _ = state.changed() => {
            until_not_cut(&mut state).await;
            reset(&near);
            reset(&far);
        }
        // One side closed in good order, or the other one broke: dropping both tells the rest.
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn says_back(stream: &mut TcpStream) -> io::Result<bool> {
        stream.write_all(b"x").await?;
        let mut byte = [0];
        match tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut byte)).await {
            Ok(read) => read.map(|_| true),
            Err(_) => Ok(false),
        }
    }

    #[tokio::test]
    async fn a_cut_link_is_silent_and_a_heal_ends_its_connections() {
        let mut forwarder = Forwarder::default();
        let any = "127.0.0.1:0".parse().unwrap();
        let route = Route { from: Vec::new(), link: "n1-m1".to_owned() };
        let at = forwarder.add(any, echo().await, vec![route]).await.unwrap();
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert!(says_back(&mut stream).await.unwrap());
        assert_eq!(forwarder.set("n1-m*", LinkState::Cut), ["n1-m1"]);
        assert!(!says_back(&mut stream).await.unwrap(), "a cut link carries nothing");
        let mut during = TcpStream::connect(at).await.unwrap();
        assert!(!says_back(&mut during).await.unwrap());
        forwarder.set("n1-m1", LinkState::Open);
        assert!(says_back(&mut stream).await.is_err(), "a connection of the cut ends at the heal");
        let mut after = TcpStream::connect(at).await.unwrap();
        assert!(says_back(&mut after).await.unwrap());
        forwarder.set("n1-m1", LinkState::NoCarrier);
        assert!(says_back(&mut after).await.is_err(), "without a carrier connections are reset");
    }

    #[tokio::test]
    async fn diallers_with_addresses_of_their_own_have_links_of_their_own() {
        let mut forwarder = Forwarder::default();
        let route = |ip: &str, link: &str| Route { from: vec![ip.parse().unwrap()], link: link.to_owned() };
        let routes = vec![route("127.0.21.1", "w@n1-n1"), route("127.0.22.1", "w@n2-n1")];
        let at = forwarder.add("127.0.0.1:0".parse().unwrap(), echo().await, routes).await.unwrap();
        let dial = async |from: &str| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
            socket.connect(at).await.unwrap()
        };
        forwarder.set("w@n2-n1", LinkState::Cut);
        assert!(says_back(&mut dial("127.0.21.1").await).await.unwrap());
        assert!(!says_back(&mut dial("127.0.22.1").await).await.unwrap());
    }
}
