//! Joining by token: the manager proves by its CA that it is of the token's cluster, and only then hears the secret.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use rustls::time_provider::TimeProvider;
use tokio::time::timeout;
use tonic::{Request, Response, Status};
use vouch_types::Network;

use super::MESSAGE_MAX;
use super::dial::{DialOptions, Dialler};
use super::manager::ManagerPort;
use super::serve::PeerInfo;
use super::status::{from_status, to_status};
use crate::links::LinkError;
use crate::pki::{CaDigest, joining_config};
use crate::proto;
use crate::proto::join_service_client::JoinServiceClient;
use crate::proto::join_service_server::JoinService;

#[async_trait]
impl JoinService for ManagerPort {
    async fn join(&self, request: Request<proto::JoinRequest>) -> Result<Response<proto::JoinResponse>, Status> {
        let from = PeerInfo::of(&request).address;
        self.0.join(request.into_inner(), from).await.map(Response::new).map_err(|e| to_status(&e))
    }
}

/// Joins at the manager of this address, which may be any of the cluster with this CA.
///
/// # Errors
/// [`LinkError::Refused`] when it is a manager of another CA, which then has not heard the secret, or when it refuses;
/// [`LinkError::Malformed`] when it let the joiner in and handed out other CAs than the token's; else why it did not
/// answer.
pub async fn join(
    ca: CaDigest,
    clock: Arc<dyn TimeProvider>,
    options: DialOptions,
    address: SocketAddr,
    request: proto::JoinRequest,
) -> Result<proto::JoinResponse, LinkError> {
    let refuse = |e: &dyn std::fmt::Display| LinkError::Refused(e.to_string());
    let (tls, verdict) = joining_config(ca, clock).map_err(|e| refuse(&e))?;
    // The certificate is signed by the leader and its making is replicated: longer than a handshake.
    let (connect_timeout, limit) = (options.connect_timeout, options.handshake_timeout * 2);
    let dialled =
        Dialler::new(tls, options).connect_to_any_manager(address, Network::Management, connect_timeout).await;
    let connection = match (dialled, verdict.get()) {
        (Err(_), Some(why)) => return Err(LinkError::Refused(format!("manager at {address}: {why}"))),
        (dialled, _) => dialled?,
    };
    let _cut_at_the_end = connection.cut.clone().drop_guard();
    let mut client = JoinServiceClient::new(connection.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
    let response = timeout(limit, client.join(request))
        .await
        .map_err(|_| LinkError::Timeout(limit))?
        .map(Response::into_inner)
        .map_err(|status| from_status(&status, &connection.callee))?;
    // From here on the token is used: what is wrong with the answer is no refusal, after which a key is thrown away.
    let malformed = |why: &dyn std::fmt::Display| LinkError::Malformed(format!("manager at {address}: {why}"));
    let told = CaDigest::all_of_pem(&response.ca_certificate).map_err(|e| malformed(&e))?;
    if told.contains(&ca) {
        Ok(response)
    } else {
        let told = told.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(malformed(&format!("it handed out the CA {told}, and the token names {ca}")))
    }
}
