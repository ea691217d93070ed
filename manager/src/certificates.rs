//! Certificates of those who have one: renewed by the leader, for whoever shows the old one, and never on the word of a
//! request.
//!
//! Everybody asks now and then on a connection of its own. So the leader also knows which certificate each part uses
//! now, and tells when those end. What it knows of that is soft: a new leader learns it anew, and who is gone is
//! forgotten.
//!
//! A node that was removed gets nothing with the key of before. Nothing is signed for one who only may be of the
//! cluster: a manager that was removed is nobody known to a leader that has started anew, and so is one that has joined
//! and is no member yet. Both hear which CAs are trusted, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use vouch_types::command::ClusterSecrets;
use vouch_types::{DenyReason, Digest, ManagerId, Term, WallTime, WatcherId, WatcherLife};
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
use crate::store::State;

/// How many questions about certificates are worked on at once; who comes on top of that asks again.
pub(crate) const CHECKS_MAX: usize = 64;
/// Hexadecimal digits of a CA's digest.
const DIGEST_DIGITS: usize = 64;

/// What somebody has shown, and said, when it asked last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// When its certificate holds.
    pub(crate) validity: Validity,
    /// The CA that signed it.
    pub(crate) ca: CaDigest,
    /// The CAs that it trusts, by their digests in hexadecimal digits.
    pub(crate) trusts: BTreeSet<String>,
}

/// What was seen in one term as the leader.
#[derive(Default)]
struct SeenInTerm {
    term: Term,
    all: BTreeMap<PeerIdentity, Seen>,
}

/// What the owner of a certificate that holds may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entitled {
    /// A new one, and the CAs.
    ToCertificate,
    /// The CAs alone.
    ToCas,
}

fn of_manager(id: ManagerId, standing: Standing) -> Result<Entitled, String> {
    match standing {
        Standing::Member => Ok(Entitled::ToCertificate),
        Standing::Unheard => Ok(Entitled::ToCas),
        Standing::Removed => Err(format!("{id} was removed from the cluster")),
    }
}

fn of_watcher(id: WatcherId, life: Option<WatcherLife>) -> Result<Entitled, String> {
    match life {
        Some(WatcherLife::Placed | WatcherLife::Live) => Ok(Entitled::ToCertificate),
        Some(WatcherLife::Lost | WatcherLife::Retired) | None => {
            Err(format!("{id} is no watcher of this cluster any more"))
        }
    }
}

/// Returns what somebody says that it trusts, as far as it has the shape of digests: it is kept, and so must not be of
/// any length.
fn digests_of(trusts: &[String]) -> BTreeSet<String> {
    let is_digest = |text: &&String| text.len() == DIGEST_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    trusts.iter().filter(is_digest).take(ROOTS_MAX).cloned().collect()
}

/// What is known of certificates in use.
pub(crate) struct Certificates {
    /// How often everybody is to ask.
    check: Duration,
    checking: Semaphore,
    seen: Mutex<SeenInTerm>,
    own: OnceLock<watch::Receiver<Option<RenewalReport>>>,
}

impl Certificates {
    pub(crate) fn new(check: Duration) -> Self {
        Self { check, checking: Semaphore::new(CHECKS_MAX), seen: Mutex::default(), own: OnceLock::new() }
    }

    /// Notes what one showed who asked the leader of this term. All others that are not among these are forgotten.
    fn note(&self, term: Term, all: &BTreeSet<PeerIdentity>, owner: PeerIdentity, seen: Seen) {
        let mut noted = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.term != term {
            *noted = SeenInTerm { term, all: BTreeMap::new() };
        }
        noted.all.retain(|owner, _| all.contains(owner));
        noted.all.insert(owner, seen);
    }

    /// Returns what was seen, of these, of who asked this manager as the leader of this term.
    pub(crate) fn seen(&self, term: Term, of: &BTreeSet<PeerIdentity>) -> BTreeMap<PeerIdentity, Seen> {
        let noted = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.term != term {
            return BTreeMap::new();
        }
        noted.all.iter().filter(|(owner, _)| of.contains(*owner)).map(|(o, seen)| (o.clone(), seen.clone())).collect()
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

    /// Returns when certificates end: of this manager's own, and of those in `seen`.
    pub(crate) fn metrics(&self, own: ManagerId, seen: BTreeMap<PeerIdentity, Seen>) -> Vec<Metric> {
        let mut ends: BTreeMap<_, _> = seen.into_iter().map(|(owner, seen)| (owner, seen.validity.until)).collect();
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

/// Whether a certificate holds now; its owner has to join anew if not.
fn holds(owner: &PeerIdentity, validity: Validity, now: WallTime) -> Result<(), String> {
    if validity.holds_at(now) {
        return Ok(());
    }
    let Validity { from, until } = validity;
    Err(format!("{owner}: its certificate must hold now, at {now}, and holds from {from} to {until}"))
}

impl ManagerHandle {
    /// Answers one whose certificate TLS has checked, or has the leader answer it.
    ///
    /// # Errors
    /// [`LinkError::Refused`] and [`LinkError::Removed`] say in one line why it gets no certificate; others when no
    /// leader answers.
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
        if let Err(LinkError::Refused(reason) | LinkError::Removed(reason)) = &answer {
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
        self.is_not_removed(shown)?;
        let entitled = self.entitled(owner).map_err(EnrollError::Refused)?;
        let validity = Validity::of(&shown.der).map_err(|e| refused(&e))?;
        let now = self.0.wall_clock.now();
        // TLS has checked it for everybody but this manager itself, with the clock of whoever was asked.
        if *owner != PeerIdentity::Manager(self.0.manager) {
            holds(owner, validity, now).map_err(EnrollError::Refused)?;
        }
        let seen = Seen { validity, ca: shown_ca, trusts: digests_of(&check.trusts) };
        self.0.certificates.note(self.0.consensus.status().term, &self.certified(), owner.clone(), seen);
        let ca = signing(&secrets).map_err(|e| refused(&e))?;
        let signs = ca.digest().map_err(|e| refused(&e))?;
        let certificate = match (entitled, check.csr.as_slice()) {
            (Entitled::ToCas, _) | (Entitled::ToCertificate, []) => String::new(),
            (Entitled::ToCertificate, csr) => {
                let certificate = ca
                    .sign_request(csr, owner, now, validity_for(owner))
                    .map_err(|_| refused(&"signing request: must be PKCS #10 (DER), signed by its own key"))?;
                tracing::info!(%owner, ca = %signs, "certificate signed");
                certificate
            }
        };
        let renew_now = entitled == Entitled::ToCertificate && shown_ca != signs;
        let next_check_secs = self.0.certificates.check.as_secs();
        Ok(proto::CertificateAnswer { certificate, ca_certificates, renew_now, next_check_secs })
    }

    /// Refuses a node that was removed, unless it has joined again with the key that it shows.
    fn is_not_removed(&self, shown: &ShownCertificate) -> Result<(), EnrollError> {
        let PeerIdentity::Node(id) = &shown.owner else { return Ok(()) };
        let key = shown.key_digest().ok().map(Digest::new);
        let refusal = |state: &State| state.refusal_of(id, key.as_ref()).map(ToString::to_string);
        self.0.consensus.read_state(refusal).map_or(Ok(()), |why| Err(EnrollError::Removed(why)))
    }

    /// Returns what the owner of a certificate may have.
    fn entitled(&self, owner: &PeerIdentity) -> Result<Entitled, String> {
        match owner {
            PeerIdentity::Manager(id) => of_manager(*id, self.0.members.standing(*id)),
            PeerIdentity::Node(_) => Ok(Entitled::ToCertificate),
            PeerIdentity::Watcher(id) => {
                let life = |state: &State| state.watchers().get(id).map(|watcher| watcher.life);
                of_watcher(*id, self.0.consensus.read_state(life))
            }
        }
    }

    /// Returns what this manager knows of certificates in use; nothing unless it leads.
    pub(crate) fn certificates_seen(&self) -> BTreeMap<PeerIdentity, Seen> {
        let status = self.0.consensus.status();
        if !status.leads() {
            return BTreeMap::new();
        }
        self.0.certificates.seen(status.term, &self.certified())
    }

    /// Returns the way of this manager to its own renewal.
    pub(crate) fn own_certificate_link(&self, live: LiveIdentity) -> Arc<dyn CertificateLink> {
        Arc::new(OwnCertificateLink { manager: self.clone(), live })
    }

    /// Closes streams that were opened with a certificate whose CA is trusted no more, each time that other CAs are.
    pub(crate) async fn close_untrusted(self, live: LiveIdentity) {
        let mut changes = live.changes();
        while changes.changed().await.is_ok() {
            self.0.fleet.close_untrusted(live.identity().roots());
        }
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

    fn node(name: &str) -> PeerIdentity {
        PeerIdentity::Node(NodeId::new(name).unwrap())
    }

    fn seen(until: u64) -> Seen {
        Seen { validity: validity(until), ca: ca(), trusts: BTreeSet::new() }
    }

    #[test]
    fn the_leader_tells_when_everybodys_certificate_ends_and_another_manager_its_own_alone() {
        let certificates = Certificates::new(Duration::from_secs(600));
        let all: BTreeSet<_> = [node("n1")].into();
        certificates.note(Term::new(3), &all, node("n1"), seen(900));
        let report = RenewalReport { validity: validity(700), renew_at: at(350), problem: None };
        let (_sender, report) = watch::channel(Some(report));
        certificates.own.set(report).unwrap();
        let told = |term| {
            let metrics = certificates.metrics(ManagerId::new(1), certificates.seen(Term::new(term), &all));
            metrics.into_iter().map(|m| (m.labels[0].1.clone(), m.value)).collect::<Vec<_>>()
        };
        let own = ("m1.manager.vouch".to_owned(), 700);
        assert_eq!(told(4), std::slice::from_ref(&own), "of an earlier term nothing is known");
        assert_eq!(told(3), [own, ("n1.node.vouch".to_owned(), 900)]);
    }

    #[test]
    fn who_is_gone_is_told_no_more_and_forgotten_and_a_new_term_begins_with_nothing() {
        let certificates = Certificates::new(Duration::from_secs(600));
        let (both, one): (BTreeSet<_>, BTreeSet<_>) = ([node("n1"), node("n2")].into(), [node("n2")].into());
        let (first, second) = (Term::new(1), Term::new(2));
        let known = |term, of: &BTreeSet<_>| certificates.seen(term, of).into_keys().collect::<BTreeSet<_>>();
        certificates.note(first, &both, node("n1"), seen(700));
        certificates.note(first, &both, node("n2"), seen(700));
        assert_eq!(known(first, &both), both);
        assert_eq!(known(first, &one), one, "one that is gone is not told");
        certificates.note(first, &one, node("n2"), seen(800));
        assert_eq!(known(first, &both), one, "nor kept");
        certificates.note(second, &both, node("n1"), seen(900));
        assert_eq!(known(second, &both), [node("n1")].into());
    }

    #[test]
    fn of_what_one_says_that_it_trusts_only_four_digests_are_kept() {
        let digests: Vec<String> = (0..ROOTS_MAX + 1).map(|n| format!("{n:064x}")).collect();
        let mut said = vec!["f".repeat(65), "g".repeat(64), String::new(), "f".repeat(4_000_000)];
        said.extend(digests.clone());
        assert_eq!(digests_of(&said), digests.into_iter().take(ROOTS_MAX).collect());
        let real = ca().to_string();
        assert_eq!(digests_of(std::slice::from_ref(&real)), [real].into());
    }

    #[test]
    fn only_members_and_watchers_that_live_or_may_get_a_new_certificate() {
        let (manager, watcher) = (ManagerId::new(4), WatcherId::new(7));
        assert_eq!(of_manager(manager, Standing::Member), Ok(Entitled::ToCertificate));
        assert_eq!(of_manager(manager, Standing::Unheard), Ok(Entitled::ToCas), "it may have been removed once");
        assert!(of_manager(manager, Standing::Removed).unwrap_err().contains("m4 was removed"));
        for life in [WatcherLife::Placed, WatcherLife::Live] {
            assert_eq!(of_watcher(watcher, Some(life)), Ok(Entitled::ToCertificate));
        }
        for life in [Some(WatcherLife::Lost), Some(WatcherLife::Retired), None] {
            assert!(of_watcher(watcher, life).unwrap_err().contains("w7 is no watcher"));
        }
    }

    #[test]
    fn a_certificate_that_has_ended_is_refused_with_both_times_and_the_rule() {
        assert_eq!(holds(&node("n1"), validity(700), at(700)), Ok(()));
        let why = holds(&node("n1"), validity(700), at(701)).unwrap_err();
        let parts = ["n1.node.vouch", "must hold now", "1970-01-01T00:11:41", "1970-01-01T00:11:40"];
        assert!(parts.iter().all(|part| why.contains(part)), "{why}");
        assert!(holds(&node("n1"), Validity { from: at(10), until: at(20) }, at(9)).is_err(), "nor before it begins");
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
