//! Asking the managers about one's own certificate, each time on a connection of its own: what it shows is what is
//! in use now, and that it came about proves that both sides still trust each other.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::MESSAGE_MAX;
use super::dial::Dialler;
use super::manager::ManagerPort;
use super::serve::PeerInfo;
use super::status::{from_status, to_status};
use crate::links::{CertificateLink, LinkError, ManagerEndpoint};
use crate::pki::PeerIdentity;
use crate::proto;
use crate::proto::certificate_service_client::CertificateServiceClient;
use crate::proto::certificate_service_server::CertificateService;

#[async_trait]
impl CertificateService for ManagerPort {
    async fn check(
        &self,
        request: Request<proto::CertificateCheck>,
    ) -> Result<Response<proto::CertificateAnswer>, Status> {
        let shown = PeerInfo::of(&request).shown()?;
        self.0.check_certificate(shown, request.into_inner()).await.map(Response::new).map_err(|e| to_status(&e))
    }
}

/// [`CertificateLink`] over mutual TLS, to whichever manager answers.
#[derive(Debug, Clone)]
pub struct GrpcCertificateLink {
    dialler: Dialler,
    /// The one that answered last is first, and one that did not is last: a check may be given up before all were
    /// asked, and the next one then goes on with the others.
    managers: Arc<Mutex<Vec<ManagerEndpoint>>>,
}

impl GrpcCertificateLink {
    /// Returns a link to these managers.
    pub fn new(dialler: Dialler, managers: Vec<ManagerEndpoint>) -> Self {
        Self { dialler, managers: Arc::new(Mutex::new(managers)) }
    }

    fn put_last(&self, manager: &ManagerEndpoint) {
        let mut managers = self.managers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = managers.iter().position(|other| other == manager) {
            managers[place..].rotate_left(1);
        }
    }

    fn put_first(&self, manager: &ManagerEndpoint) {
        let mut managers = self.managers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = managers.iter().position(|other| other == manager) {
            managers[..=place].rotate_right(1);
        }
    }

    async fn ask(
        &self,
        to: &ManagerEndpoint,
        check: proto::CertificateCheck,
    ) -> Result<proto::CertificateAnswer, LinkError> {
        let options = self.dialler.options();
        let peer = PeerIdentity::Manager(to.manager);
        let connection = self.dialler.connect(&peer, to.address, to.network, options.connect_timeout).await?;
        let _cut_at_the_end = connection.cut.clone().drop_guard();
        // The leader is asked behind the manager that was dialled: longer than a handshake.
        let limit = options.handshake_timeout * 2;
        let mut client =
            CertificateServiceClient::new(connection.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        timeout(limit, client.check(check))
            .await
            .map_err(|_| LinkError::Timeout(limit))?
            .map(Response::into_inner)
            .map_err(|status| from_status(&status, &connection.callee))
    }
}

#[async_trait]
impl CertificateLink for GrpcCertificateLink {
    async fn check(&self, check: proto::CertificateCheck) -> Result<proto::CertificateAnswer, LinkError> {
        let managers = self.managers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut failed = LinkError::Unreachable {
            to: "a manager".to_owned(),
            address: "no address".to_owned(),
            why: "no manager is configured".to_owned(),
        };
        for manager in managers {
            // Last until it has answered, whether it fails or the check is given up while it is silent.
            self.put_last(&manager);
            match self.ask(&manager, check.clone()).await {
                Ok(answer) => {
                    self.put_first(&manager);
                    return Ok(answer);
                }
                // The leader has said so.
                Err(removed @ LinkError::Removed(_)) => return Err(removed),
                // A refusal may be of the connection, by one whose own certificate is the trouble: the others are
                // asked.
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}
