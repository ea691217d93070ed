//! Three etcd processes with their defaults and mutual TLS, and puts to their leader.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tonic::transport::Channel;

use super::cluster::{Running, free_addresses};
use super::etcd_tls::EtcdTls;
use super::load::Write;

/// etcd's generated client.
#[allow(
    unused_qualifications,
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/ by tonic-prost-build"
)]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

use proto::PutRequest;
use proto::kv_client::KvClient;

const MEMBERS: usize = 3;
const READY: Duration = Duration::from_secs(30);

/// A cluster of etcd.
#[derive(Debug)]
pub struct Etcd {
    channels: Vec<Channel>,
    _members: Vec<Running>,
}

impl Etcd {
    /// Starts it in a folder and waits until it takes writes.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(program: &Path, folder: &Path, connections: usize) -> Result<Self> {
        let addresses = free_addresses(3 * MEMBERS)?;
        let (peers, clients) = addresses.split_at(MEMBERS);
        // Beside the port that is measured, one in clear text, which is asked who leads.
        let (clients, asked) = clients.split_at(MEMBERS);
        let tls = EtcdTls::make(folder)?;
        let listed: Vec<String> = peers.iter().enumerate().map(|(i, at)| format!("e{i}=https://{at}")).collect();
        let mut members = Vec::new();
        for i in 0..MEMBERS {
            let (peer, client) = (format!("https://{}", peers[i]), format!("https://{}", clients[i]));
            let listened = format!("{client},http://{}", asked[i]);
            let mut command = Command::new(program);
            command
                .args(["--name", &format!("e{i}"), "--data-dir"])
                .arg(folder.join(format!("e{i}")))
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--listen-client-urls", &listened, "--advertise-client-urls", &client])
                .args(["--initial-cluster", &listed.join(","), "--initial-cluster-state", "new"]);
            tls.apply(&mut command);
            members.push(Running::start(&mut command, &folder.join(format!("e{i}.log")))?);
        }
        let found = leader(asked).await?;
        let channels = (0..connections).map(|_| tls.channel(clients[found])).collect::<Result<_>>()?;
        Ok(Self { channels, _members: members })
    }

    /// Returns puts of so many bytes.
    pub fn writes(&self, bytes: usize) -> Write {
        let clients: Vec<_> = self.channels.iter().cloned().map(KvClient::new).collect();
        Arc::new(move |client, number| {
            let mut kv = clients[client % clients.len()].clone();
            let key = format!("bench-{client:04}").into_bytes();
            let mut value = number.to_be_bytes().to_vec();
            value.resize(bytes, b'x');
            Box::pin(async move {
                kv.put(PutRequest { key, value }).await.context("etcd refused a put")?;
                Ok(())
            })
        })
    }
}

/// Returns which member leads: the one whose own status names itself.
async fn leader(clients: &[std::net::SocketAddr]) -> Result<usize> {
    let begun = Instant::now();
    loop {
        for (i, at) in clients.iter().enumerate() {
            let at = *at;
            let asked = tokio::task::spawn_blocking(move || status(at)).await?;
            if asked.is_ok_and(|leads| leads) {
                return Ok(i);
            }
        }
        if begun.elapsed() > READY {
            bail!("etcd has no leader after {READY:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn status(at: std::net::SocketAddr) -> Result<bool> {
    let mut answer = ureq::post(format!("http://{at}/v3/maintenance/status")).send("{}")?;
    let status: serde_json::Value = answer.body_mut().read_json()?;
    let leader = &status["leader"];
    Ok(!leader.is_null() && *leader != "0" && *leader == status["header"]["member_id"])
}
