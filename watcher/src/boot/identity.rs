//! The watcher's identity: a key made inside, and the one-time secret redeemed for a certificate.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;
use tracing::{info, warn};
use vouch_types::{Incarnation, WatcherBoot};
use vouch_wire::grpc::{DialOptions, Dialler, enroll};
use vouch_wire::links::ManagerEndpoint;
use vouch_wire::pki::{AdjustableTime, CertificateRequest, Identity, PkiError, client_config_without_certificate};
use vouch_wire::proto;

/// From one round over all managers to the next.
const RETRY: Duration = Duration::from_millis(300);

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// The secret of the boot configuration is no secret.
    #[error("boot configuration: secret: must be 64 hexadecimal digits")]
    Secret,
    /// A key or certificate could not be made or used.
    #[error("identity of the watcher")]
    Pki(#[from] PkiError),
    /// There is nobody to ask.
    #[error("boot configuration: managers: none is on a network of legs")]
    NoManagers,
}

/// Makes a key and redeems the secret at whichever manager answers first; tries until one does.
///
/// # Errors
/// [`EnrolError`] when trying again cannot help.
pub(super) async fn redeem(
    boot: &WatcherBoot,
    incarnation: Incarnation,
    managers: &[ManagerEndpoint],
    options: DialOptions,
    clock: Arc<AdjustableTime>,
) -> Result<Identity, EnrolError> {
    if managers.is_empty() {
        return Err(EnrolError::NoManagers);
    }
    let secret = hex::decode(&boot.secret).ok().filter(|s| s.len() == 32).ok_or(EnrolError::Secret)?;
    let key = CertificateRequest::generate()?;
    let dialler = Dialler::new(client_config_without_certificate(&boot.ca_certificate, clock)?, options);
    let certificate = loop {
        if let Some(certificate) = try_all(&dialler, boot, incarnation, managers, &secret, key.der()).await {
            break certificate;
        }
        sleep(RETRY).await;
    };
    Ok(key.complete(&certificate, &boot.ca_certificate)?)
}

async fn try_all(
    dialler: &Dialler,
    boot: &WatcherBoot,
    incarnation: Incarnation,
    managers: &[ManagerEndpoint],
    secret: &[u8],
    csr: &[u8],
) -> Option<String> {
    for manager in managers {
        let request = proto::EnrollRequest {
            watcher: boot.watcher.get(),
            incarnation: incarnation.get(),
            secret: secret.to_vec(),
            csr: csr.to_vec(),
        };
        match enroll(dialler, manager, request).await {
            Ok(response) => {
                info!(manager_id = %manager.manager, network = %manager.network, "secret redeemed");
                return Some(response.certificate);
            }
            Err(error) => warn!(manager_id = %manager.manager, network = %manager.network, %error, "enrolment failed"),
        }
    }
    None
}
