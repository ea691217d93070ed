//! Datagrams between addresses: each arrives after its delay, or not at all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::mpsc;
use vouch_types::Network;
use vouch_wire::links::{DatagramLink, LinkError};

use super::super::host::Host;
use super::{Lane, SimNetwork, lock};

/// Datagrams that may wait for a receiver; more are dropped, as a full socket drops them.
const INBOX: usize = 1024;

type Datagram = (Vec<u8>, SocketAddr);

/// Who receives at which address.
#[derive(Default)]
pub(super) struct Inboxes(Mutex<BTreeMap<SocketAddr, (Host, mpsc::Sender<Datagram>)>>);

/// One host's socket on one network.
pub struct SimDatagrams {
    network: Arc<SimNetwork>,
    over: Network,
    host: Host,
    own: SocketAddr,
    inbox: tokio::sync::Mutex<mpsc::Receiver<Datagram>>,
}

impl SimNetwork {
    /// Returns a socket of a host; whoever had the address before receives no more.
    pub fn bind(self: &Arc<Self>, host: Host, over: Network, own: SocketAddr) -> SimDatagrams {
        let (sender, inbox) = mpsc::channel(INBOX);
        lock(&self.inboxes.0).insert(own, (host, sender));
        SimDatagrams { network: Arc::clone(self), over, host, own, inbox: tokio::sync::Mutex::new(inbox) }
    }
}

#[async_trait]
impl DatagramLink for SimDatagrams {
    async fn send(&self, to: SocketAddr, datagram: &[u8]) -> Result<(), LinkError> {
        let receiver = lock(&self.network.inboxes.0).get(&to).cloned();
        let Some((host, inbox)) = receiver else { return Ok(()) };
        if let Some(takes) = self.network.packet(self.host, host, self.over, Lane::Heartbeat) {
            let message = (datagram.to_vec(), self.own);
            tokio::spawn(async move {
                tokio::time::sleep(takes).await;
                // A socket that is full or closed drops it.
                let _ = inbox.try_send(message);
            });
        }
        Ok(())
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), LinkError> {
        let received = self.inbox.lock().await.recv().await;
        let (datagram, from) = received.ok_or_else(|| LinkError::Reset("the address has another socket".to_owned()))?;
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        Ok((length, from))
    }
}
