//! A watcher's way to the managers, and its enrolment before it has a certificate.

use async_trait::async_trait;
use futures::future::FutureExt;
use tokio::time::timeout;

use super::dial::{Connection, Dialler};
use super::session::dialled;
use super::status::from_status;
use super::{MESSAGE_MAX, PROBE_MAX};
use crate::links::{LinkError, ManagerEndpoint, Session, WatcherLink};
use crate::pki::PeerIdentity;
use crate::proto;
use crate::proto::enroll_service_client::EnrollServiceClient;
use crate::proto::watcher_service_client::WatcherServiceClient;

/// [`WatcherLink`] over mutual TLS; each session is a connection of its own.
#[derive(Debug, Clone)]
pub struct GrpcWatcherLink {
    dialler: Dialler,
}

impl GrpcWatcherLink {
    /// Returns a link that dials so.
    pub const fn new(dialler: Dialler) -> Self {
        Self { dialler }
    }
}

async fn connect(dialler: &Dialler, to: &ManagerEndpoint) -> Result<Connection, LinkError> {
    let peer = PeerIdentity::Manager(to.manager);
    dialler.connect(&peer, to.address, to.network, dialler.options().connect_timeout).await
}

#[async_trait]
impl WatcherLink for GrpcWatcherLink {
    async fn open(&self, to: &ManagerEndpoint) -> Result<Session<proto::ToWatcher, proto::FromWatcher>, LinkError> {
        let connection = connect(&self.dialler, to).await?;
        dialled(connection, self.dialler.options().handshake_timeout, |channel, requests| {
            async move {
                WatcherServiceClient::new(channel)
                    .max_decoding_message_size(MESSAGE_MAX)
                    .max_encoding_message_size(MESSAGE_MAX)
                    .session(requests)
                    .await
            }
            .boxed()
        })
        .await
    }

    async fn fetch_probe(&self, to: &ManagerEndpoint, digest: &[u8; 32]) -> Result<Vec<u8>, LinkError> {
        let connection = connect(&self.dialler, to).await?;
        let _cut_at_the_end = connection.cut.clone().drop_guard();
        let limit = self.dialler.options().handshake_timeout;
        let mut client = WatcherServiceClient::new(connection.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let failed = |status| from_status(&status, &connection.callee);
        let request = proto::FetchProbeRequest { digest: digest.to_vec() };
        let mut chunks = timeout(limit, client.fetch_probe(request))
            .await
            .map_err(|_| LinkError::Timeout(limit))?
            .map_err(failed)?
            .into_inner();
        let mut component = Vec::new();
        while let Some(chunk) =
            timeout(limit, chunks.message()).await.map_err(|_| LinkError::Timeout(limit))?.map_err(failed)?
        {
            if component.len() + chunk.bytes.len() > PROBE_MAX {
                return Err(LinkError::Malformed(format!("component: must be at most {PROBE_MAX} bytes")));
            }
            component.extend_from_slice(&chunk.bytes);
        }
        Ok(component)
    }
}

/// Redeems a watcher's secret for a certificate.
///
/// `dialler` is made of [`crate::pki::client_config_without_certificate`]: the manager proves itself, the watcher has
/// only its secret yet.
///
/// # Errors
/// [`LinkError::Refused`] when the manager is not who it should be or the secret is wrong; else why it was not answered.
pub async fn enroll(
    dialler: &Dialler,
    to: &ManagerEndpoint,
    request: proto::EnrollRequest,
) -> Result<proto::EnrollResponse, LinkError> {
    let connection = connect(dialler, to).await?;
    let _cut_at_the_end = connection.cut.clone().drop_guard();
    // The certificate is signed by the leader and its making is replicated: longer than a handshake.
    let limit = dialler.options().handshake_timeout * 2;
    timeout(limit, EnrollServiceClient::new(connection.channel.clone()).enroll(request))
        .await
        .map_err(|_| LinkError::Timeout(limit))?
        .map(tonic::Response::into_inner)
        .map_err(|status| from_status(&status, &connection.callee))
}
