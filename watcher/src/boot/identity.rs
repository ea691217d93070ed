//! The watcher's identity: a key made inside, and the one-time secret redeemed for a certificate.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;
use tracing::{info, warn};
use vouch_types::{Incarnation, WatcherBoot};
use vouch_wire::grpc::{DialOptions, Dialler, enroll};
use vouch_wire::links::{LinkError, ManagerEndpoint};
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
    let mut told = BTreeSet::new();
    let certificate = 'tries: loop {
        for manager in managers {
            match try_one(&dialler, boot, incarnation, manager, &secret, key.der()).await {
                Ok(certificate) => break 'tries certificate,
                // The same failure at every try would fill the console.
                Err(error) if told.insert((manager, error.to_string())) => {
                    warn!(manager_id = %manager.manager, network = %manager.network, %error, "enrolment failed");
                }
                Err(_) => {}
            }
        }
        sleep(RETRY).await;
    };
    Ok(key.complete(&certificate, &boot.ca_certificate)?)
}

async fn try_one(
    dialler: &Dialler,
    boot: &WatcherBoot,
    incarnation: Incarnation,
    manager: &ManagerEndpoint,
    secret: &[u8],
    csr: &[u8],
) -> Result<String, LinkError> {
    let request = proto::EnrollRequest {
        watcher: boot.watcher.get(),
        incarnation: incarnation.get(),
        secret: secret.to_vec(),
        csr: csr.to_vec(),
    };
    let response = enroll(dialler, manager, request).await?;
    info!(manager_id = %manager.manager, network = %manager.network, "secret redeemed");
    Ok(response.certificate)
}
