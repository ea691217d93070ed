//! The rotation of the CA, as the leader sees it: who is not ready for the next step yet, and the step itself.
//!
//! A step is refused with the names of those whom it would lock out: who was not seen by this leader counts as not
//! ready. An operator may leave out by name who will not come back.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::command::ClusterSecrets;
use vouch_types::{Applied, CaSecrets, CaStage, Command, DenyReason, NextCa, WatcherLife};
use vouch_wire::pki::{CaDigest, CertificateAuthority, PeerIdentity, PkiError, ROOTS_MAX, Validity, certificates_of};

use crate::api::ca_view::{CaCertificateView, CaView};
use crate::api::live::{CaError, CaStep};
use crate::certificates::{Seen, signing};
use crate::enroll::EnrollError;
use crate::manager::ManagerHandle;
use crate::raft::ProposeError;

/// Name of a new CA, for people.
const CA_NAME: &str = "vouch cluster CA";

/// Returns who is not ready for the step that follows, of all that there are: who does not trust the new CA yet, or has
/// no certificate of it yet.
fn behind(
    stage: CaStage,
    new: CaDigest,
    all: &BTreeSet<PeerIdentity>,
    seen: &BTreeMap<PeerIdentity, Seen>,
) -> BTreeSet<PeerIdentity> {
    let wanted = new.to_string();
    let is_ready = |owner: &PeerIdentity| match (stage, seen.get(owner)) {
        (CaStage::Steady, _) => true,
        (CaStage::Spreading, Some(seen)) => seen.trusts.contains(&wanted),
        (CaStage::Renewing, Some(seen)) => seen.ca == new,
        (CaStage::Spreading | CaStage::Renewing, None) => false,
    };
    all.iter().filter(|owner| !is_ready(owner)).cloned().collect()
}

/// Returns the CA that everybody is to be ready for.
fn newest(secrets: &ClusterSecrets) -> Result<CaDigest, PkiError> {
    CaDigest::of_pem(match &secrets.next_ca {
        NextCa::None => &secrets.ca_certificate,
        NextCa::Spreading(next) | NextCa::Renewing(next) => &next.certificate,
    })
}

/// Whether there is room for one CA more: with more than may be trusted nobody could read them, and none could be taken
/// away again.
fn has_room(secrets: &ClusterSecrets) -> Result<(), CaError> {
    let trusted = certificates_of(&secrets.trusted_cas()).map_err(internal)?.len();
    if trusted < ROOTS_MAX { Ok(()) } else { Err(CaError::NoRoom { trusted }) }
}

fn internal(error: impl std::fmt::Display) -> CaError {
    CaError::Internal(error.to_string())
}

impl ManagerHandle {
    /// Returns all who need a certificate: managers, nodes, and watchers that live.
    pub(crate) fn certified(&self) -> BTreeSet<PeerIdentity> {
        let mut all: BTreeSet<_> = self.0.members.now().into_keys().map(PeerIdentity::Manager).collect();
        self.0.consensus.read_state(|state| {
            all.extend(state.nodes().keys().cloned().map(PeerIdentity::Node));
            let live = state.watchers().values().filter(|watcher| watcher.life == WatcherLife::Live);
            all.extend(live.map(|watcher| PeerIdentity::Watcher(watcher.id)));
        });
        all
    }

    async fn current_secrets(&self) -> Result<ClusterSecrets, CaError> {
        self.lead_now().await.map_err(|error| match error {
            EnrollError::NotLeader(_) => CaError::NotLeader,
            EnrollError::Unavailable(why) | EnrollError::Refused(why) | EnrollError::Removed(why) => {
                CaError::Internal(why)
            }
        })?;
        let secrets = self.0.consensus.read_state(|state| state.cluster().map(|cluster| cluster.secrets.clone()));
        secrets.ok_or(CaError::Refused(DenyReason::NotInitialised))
    }

    fn all_behind(&self, secrets: &ClusterSecrets) -> Result<BTreeSet<PeerIdentity>, CaError> {
        let new = newest(secrets).map_err(internal)?;
        Ok(behind(secrets.next_ca.stage(), new, &self.certified(), &self.certificates_seen()))
    }

    /// Returns where the rotation stands.
    ///
    /// # Errors
    /// [`CaError::NotLeader`]: only the leader knows.
    pub(crate) async fn ca(&self) -> Result<CaView, CaError> {
        let secrets = self.current_secrets().await?;
        let signs = signing(&secrets).and_then(|ca| ca.digest()).map_err(internal)?;
        let ca_certificates = secrets.trusted_cas();
        let mut cas = Vec::new();
        for certificate in certificates_of(&ca_certificates).map_err(internal)? {
            let digest = CaDigest::of(&certificate);
            let expires = Validity::of(&certificate).map_err(internal)?.until.into();
            cas.push(CaCertificateView { digest: digest.to_string(), signs: digest == signs, expires });
        }
        let behind = self.all_behind(&secrets)?.iter().map(PeerIdentity::server_name).collect();
        Ok(CaView { stage: secrets.next_ca.stage().as_str().to_owned(), cas, behind, ca_certificates })
    }

    /// Takes a step of the rotation.
    ///
    /// # Errors
    /// [`CaError`] says why not; nothing has changed then, but after [`CaError::Unknown`].
    pub(crate) async fn rotate_ca(&self, step: CaStep) -> Result<CaView, CaError> {
        let secrets = self.current_secrets().await?;
        let (stage, at) = (secrets.next_ca.stage(), self.0.wall_clock.now());
        let elsewhere = || CaError::Refused(DenyReason::CaStage(stage));
        let (command, without) = match (step, stage) {
            (CaStep::Begin, CaStage::Steady) => {
                has_room(&secrets)?;
                let ca = CertificateAuthority::generate(CA_NAME, at).map_err(internal)?;
                let ca = CaSecrets { certificate: ca.certificate_pem().to_owned(), key: ca.key_pem() };
                (Command::AddCa { ca, at }, BTreeSet::new())
            }
            (CaStep::Switch { without }, CaStage::Spreading) => (Command::SwitchCa { at }, without),
            (CaStep::Finish { without }, CaStage::Renewing) => (Command::RetireCa { at }, without),
            (CaStep::Begin, CaStage::Spreading | CaStage::Renewing)
            | (CaStep::Switch { .. }, CaStage::Steady | CaStage::Renewing)
            | (CaStep::Finish { .. }, CaStage::Steady | CaStage::Spreading) => return Err(elsewhere()),
        };
        // When a rotation begins, nobody is behind.
        let behind = self.all_behind(&secrets)?;
        let behind: Vec<String> = behind.difference(&without).map(PeerIdentity::server_name).collect();
        if !behind.is_empty() {
            return Err(CaError::Behind { stage, behind });
        }
        let name = command.name();
        match self.0.consensus.propose(command).await {
            Ok(Applied::Denied(reason)) => Err(CaError::Refused(reason)),
            Ok(_) => {
                let left_out: Vec<String> = without.iter().map(PeerIdentity::server_name).collect();
                tracing::info!(from = stage.as_str(), step = name, ?left_out, "rotation of the CA");
                self.ca().await
            }
            Err(ProposeError::NotLeader { .. } | ProposeError::NoRoom) => Err(CaError::NotLeader),
            Err(error @ ProposeError::Unknown { .. }) => Err(CaError::Unknown(error.to_string())),
            Err(error @ ProposeError::Stopped(_)) => Err(internal(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::WallTime;

    use super::*;

    #[test]
    fn a_rotation_does_not_begin_when_the_new_ca_would_be_one_too_many_to_be_read() {
        let now = WallTime::from_unix_millis(1_795_383_407_000);
        let one = CertificateAuthority::generate(CA_NAME, now).unwrap();
        let of = |count: usize| ClusterSecrets {
            ca_certificate: one.certificate_pem().repeat(count),
            ca_key: one.key_pem(),
            grant_key: Vec::new(),
            grant_public_key: Vec::new(),
            next_ca: NextCa::None,
        };
        assert_eq!(has_room(&of(ROOTS_MAX - 1)), Ok(()));
        let full = has_room(&of(ROOTS_MAX)).unwrap_err();
        assert_eq!(full, CaError::NoRoom { trusted: ROOTS_MAX });
        assert!(full.to_string().contains("4 CAs") && full.to_string().contains("must be at most 4"), "{full}");
    }
}
