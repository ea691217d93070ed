//! Certificates of those who have one: renewed by the leader, for whoever shows the old one, and never on the word of a
//! request.
//!
//! Everybody asks now and then on a connection of its own. So the leader also knows which certificate each part uses
//! now, and tells when those end. What it knows of that is soft: a new leader learns it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use vouch_types::command::ClusterSecrets;
use vouch_types::{DenyReason, ManagerId, WallTime};
use vouch_wire::links::{CertificateLink, LinkError};
use vouch_wire::pki::{
    CaDigest, CertificateAuthority, LiveIdentity, PeerIdentity, PkiError, ROOTS_MAX, ShownCertificate, Validity,
    certificates_of,
};
use vouch_wire::proto;
use vouch_wire::renewal::RenewalReport;

use crate::api::{Metric, MetricKind};
use crate::enroll::{EnrollError, WATCHER_VALIDITY, no_longer, unreachable};
use crate::join::JOINED_VALIDITY;
use crate::manager::ManagerHandle;
use crate::members::Standing;

/// How many questions about certificates are worked on at once; who comes on top of that asks again.
pub(crate) const CHECKS_MAX: usize = 64;

/// What somebody has shown, and said, when it asked last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// When its certificate holds.
    pub(crate) validity: Validity,
    /// The CA that signed it.
    pub(crate) ca: CaDigest,
    /// The CAs that it trusts, as it wrote their digests.
    pub(crate) trusts: BTreeSet<String>,
}

/// What is known of certificates in use.
pub(crate) struct Certificates {
    /// How often everybody is to ask.
    check: Duration,
    checking: Semaphore,
    seen: Mutex<BTreeMap<PeerIdentity, Seen>>,
    own: OnceLock<watch::Receiver<Option<RenewalReport>>>,
}

impl Certificates {
    pub(crate) fn new(check: Duration) -> Self {
        Self { check, checking: Semaphore::new(CHECKS_MAX), seen: Mutex::default(), own: OnceLock::new() }
    }

    fn note(&self, owner: PeerIdentity, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(owner, seen);
    }

    /// Returns what was seen of everybody who asked this manager as the leader.
    pub(crate) fn seen(&self) -> BTreeMap<PeerIdentity, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what is known of this manager's own certificate.
    pub(crate) fn own(&self) -> Option<RenewalReport> {
        self.own.get().and_then(|report| report.borrow().clone())
    }

    /// Returns what is to be told of this manager's own certificate: that it should have been renewed and was not.
    pub(crate) fn overdue(&self, now: WallTime) -> Option<String> {
        let report = self.own().filter(|report| report.renew_at <= now)?;
        let problem = report.problem?;
        Some(format!("this manager's certificate ends {} and is not renewed: {problem}", report.validity.until))
    }

    /// Returns when certificates end: of this manager's own, and of all that asked it as the leader.
    pub(crate) fn metrics(&self, own: ManagerId, leads: bool) -> Vec<Metric> {
        let mut ends = BTreeMap::new();
        if leads {
            ends.extend(self.seen().into_iter().map(|(owner, seen)| (owner, seen.validity.until)));
        }
        if let Some(report) = self.own() {
            ends.insert(PeerIdentity::Manager(own), report.validity.until);
        }
        let metric = |(owner, until): (PeerIdentity, WallTime)| Metric {
            name: "certificate_expiry_timestamp_seconds",
            help: "When a certificate in use ends, in seconds since 1970: this manager's, and on the leader everybody's.",
            kind: MetricKind::Gauge,
            labels: vec![("owner", owner.to_string())],
            value: until.as_unix_millis() / 1000,
        };
        ends.into_iter().map(metric).collect()
    }
}

/// Returns the CA that signs now.
///
/// # Errors
/// [`PkiError`] when its certificate and key cannot be used.
pub(crate) fn signing(secrets: &ClusterSecrets) -> Result<CertificateAuthority, PkiError> {
    let (certificate, key) = secrets.signing_ca();
    CertificateAuthority::from_pem(certificate, key)
}

fn validity_for(owner: &PeerIdentity) -> Duration {
    match owner {
        PeerIdentity::Manager(_) | PeerIdentity::Node(_) => JOINED_VALIDITY,
        PeerIdentity::Watcher(_) => WATCHER_VALIDITY,
    }
}

impl ManagerHandle {
    /// Answers one whose certificate TLS has checked, or has the leader answer it.
    ///
    /// # Errors
    /// [`LinkError::Refused`] says in one line why it gets no certificate; others when no leader answers.
    pub(crate) async fn check_certificate(
        &self,
        shown: ShownCertificate,
        check: proto::CertificateCheck,
    ) -> Result<proto::CertificateAnswer, LinkError> {
        let Ok(_permit) = self.0.certificates.checking.try_acquire() else {
            return Err(unreachable("too many ask at once"));
        };
        let owner = shown.owner.to_string();
        let answer = match self.check_certificate_here(&shown, &check).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let forward = proto::ForwardCertificate { shown: shown.der.to_vec(), check: Some(check) };
                let request = proto::forward_request::Request::Certificate(forward);
                self.ask_leader(error, request).await.and_then(|response| match response {
                    proto::forward_response::Response::Certificate(answer) => Ok(answer),
                    _ => Err(no_longer()),
                })
            }
        };
        if let Err(LinkError::Refused(reason)) = &answer {
            tracing::warn!(owner, reason, "certificate refused");
        }
        answer
    }

    /// Answers as the leader.
    pub(crate) async fn check_certificate_here(
        &self,
        shown: &ShownCertificate,
        check: &proto::CertificateCheck,
    ) -> Result<proto::CertificateAnswer, EnrollError> {
        let refused = |why: &dyn std::fmt::Display| EnrollError::Refused(why.to_string());
        // A new leader may not have applied yet that somebody was removed.
        self.lead_now().await?;
        let secrets = self.0.consensus.read_state(|state| state.cluster().map(|cluster| cluster.secrets.clone()));
        let secrets = secrets.ok_or_else(|| refused(&DenyReason::NotInitialised))?;
        let ca_certificates = secrets.trusted_cas();
        let roots = certificates_of(&ca_certificates).map_err(|e| refused(&e))?;
        let owner = &shown.owner;
        let Some(shown_ca) = shown.signed_by(&roots) else {
            return Err(refused(&format!("{owner}: its CA is not one of this cluster any more: it has to join again")));
        };
        self.is_to_have_one(owner).map_err(EnrollError::Refused)?;
        let validity = Validity::of(&shown.der).map_err(|e| refused(&e))?;
        let trusts = check.trusts.iter().take(ROOTS_MAX).cloned().collect();
        self.0.certificates.note(owner.clone(), Seen { validity, ca: shown_ca, trusts });
        let ca = signing(&secrets).map_err(|e| refused(&e))?;
        let signs = ca.digest().map_err(|e| refused(&e))?;
        let certificate = if check.csr.is_empty() {
            String::new()
        } else {
            let certificate = ca
                .sign_request(&check.csr, owner, self.0.wall_clock.now(), validity_for(owner))
                .map_err(|_| refused(&"signing request: must be PKCS #10 (DER), signed by its own key"))?;
            tracing::info!(%owner, ca = %signs, "certificate signed");
            certificate
        };
        let renew_now = shown_ca != signs;
        let next_check_secs = self.0.certificates.check.as_secs();
        Ok(proto::CertificateAnswer { certificate, ca_certificates, renew_now, next_check_secs })
    }

    /// Whether the owner of a certificate is still one who is to have one.
    fn is_to_have_one(&self, owner: &PeerIdentity) -> Result<(), String> {
        match owner {
            PeerIdentity::Manager(id) => match self.0.members.standing(*id) {
                Standing::Member | Standing::Unheard => Ok(()),
                Standing::Removed => Err(format!("{id} was removed from the cluster")),
            },
            PeerIdentity::Node(_) => Ok(()),
            PeerIdentity::Watcher(id) => {
                let known = self.0.consensus.read_state(|state| state.watchers().contains_key(id));
                if known { Ok(()) } else { Err(format!("{id} is no watcher of this cluster any more")) }
            }
        }
    }

    /// Returns the way of this manager to its own renewal.
    pub(crate) fn own_certificate_link(&self, live: LiveIdentity) -> Arc<dyn CertificateLink> {
        Arc::new(OwnCertificateLink { manager: self.clone(), live })
    }

    /// Lets `/readyz` and `/metrics` tell of this manager's own certificate. Done once.
    pub(crate) fn set_certificate(&self, report: watch::Receiver<Option<RenewalReport>>) {
        if self.0.certificates.own.set(report).is_err() {
            tracing::warn!("the report on the certificate was set before");
        }
    }
}

/// A manager asks itself, or the leader as any of its callers would.
struct OwnCertificateLink {
    manager: ManagerHandle,
    live: LiveIdentity,
}

#[async_trait]
impl CertificateLink for OwnCertificateLink {
    async fn check(&self, check: proto::CertificateCheck) -> Result<proto::CertificateAnswer, LinkError> {
        self.manager.check_certificate(self.live.identity().shown(), check).await
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::NodeId;

    use super::*;

    fn at(secs: u64) -> WallTime {
        WallTime::from_unix_millis(secs * 1000)
    }

    fn validity(until: u64) -> Validity {
        Validity { from: at(0), until: at(until) }
    }

    fn ca() -> CaDigest {
        let ca = CertificateAuthority::generate("test", at(1_795_383_407)).unwrap();
        ca.digest().unwrap()
    }

    #[test]
    fn the_leader_tells_when_everybodys_certificate_ends_and_another_manager_its_own_alone() {
        let certificates = Certificates::new(Duration::from_secs(600));
        let node = PeerIdentity::Node(NodeId::new("n1").unwrap());
        certificates.note(node, Seen { validity: validity(900), ca: ca(), trusts: BTreeSet::new() });
        let report = RenewalReport { validity: validity(700), renew_at: at(350), problem: None };
        let (_sender, report) = watch::channel(Some(report));
        certificates.own.set(report).unwrap();
        let told = |leads| {
            let metrics = certificates.metrics(ManagerId::new(1), leads);
            metrics.into_iter().map(|m| (m.labels[0].1.clone(), m.value)).collect::<Vec<_>>()
        };
        let own = ("m1.manager.vouch".to_owned(), 700);
        assert_eq!(told(false), std::slice::from_ref(&own));
        assert_eq!(told(true), [own, ("n1.node.vouch".to_owned(), 900)]);
    }

    #[test]
    fn a_certificate_that_is_not_renewed_in_time_is_told_with_its_end_and_the_reason() {
        let certificates = Certificates::new(Duration::from_secs(600));
        assert_eq!(certificates.overdue(at(500)), None, "nothing is known yet");
        let problem = Some("nobody leads".to_owned());
        let (sender, report) =
            watch::channel(Some(RenewalReport { validity: validity(700), renew_at: at(350), problem }));
        certificates.own.set(report).unwrap();
        assert_eq!(certificates.overdue(at(349)), None, "there is time yet");
        let told = certificates.overdue(at(350)).unwrap();
        assert!(told.contains("1970-01-01T00:11:40") && told.contains("nobody leads"), "{told}");
        sender.send_replace(Some(RenewalReport { validity: validity(1400), renew_at: at(700), problem: None }));
        assert_eq!(certificates.overdue(at(700)), None, "it is about to be");
    }
}
