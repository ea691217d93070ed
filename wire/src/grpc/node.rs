//! A node's way to the managers.

use async_trait::async_trait;
use futures::future::FutureExt;

use super::MESSAGE_MAX;
use super::dial::Dialler;
use super::session::dialled;
use crate::links::{LinkError, ManagerEndpoint, NodeLink, Session};
use crate::pki::PeerIdentity;
use crate::proto;
use crate::proto::node_service_client::NodeServiceClient;

/// [`NodeLink`] over mutual TLS; each session is a connection of its own.
#[derive(Debug, Clone)]
pub struct GrpcNodeLink {
    dialler: Dialler,
}

impl GrpcNodeLink {
    /// Returns a link that dials so.
    pub const fn new(dialler: Dialler) -> Self {
        Self { dialler }
    }
}

#[async_trait]
impl NodeLink for GrpcNodeLink {
    async fn open(&self, to: &ManagerEndpoint) -> Result<Session<proto::ToNode, proto::FromNode>, LinkError> {
        let options = self.dialler.options();
        let peer = PeerIdentity::Manager(to.manager);
        let connection = self.dialler.connect(&peer, to.address, to.network, options.connect_timeout).await?;
        dialled(connection, options.handshake_timeout, |channel, requests| {
            async move {
                NodeServiceClient::new(channel)
                    .max_decoding_message_size(MESSAGE_MAX)
                    .max_encoding_message_size(MESSAGE_MAX)
                    .session(requests)
                    .await
            }
            .boxed()
        })
        .await
    }
}
