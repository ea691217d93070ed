//! The task of one process that keeps its certificate good: asks, takes into use, keeps, and asks again later.
//!
//! ```text
//! waiting --time or nudge--> asking --answer--> waiting (as long as the managers say)
//!                              |--none--------> waiting (RETRY)
//! ```
//!
//! A certificate that grows old with nobody renewing it is told at half of its life, and every day from then on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use vouch_types::WallTime;

use super::{Kept, renew_at, share_of};
use crate::files::PutError;
use crate::links::{CertificateLink, LinkError};
use crate::pki::{CaDigest, CertificateRequest, LiveIdentity, PkiError, Validity};
use crate::proto;

/// How often the managers are asked, unless they say otherwise.
pub const CHECK_DEFAULT: Duration = Duration::from_secs(600);
/// The longest time between two questions, whatever a manager says.
pub const CHECK_MAX: Duration = Duration::from_secs(24 * 3600);
/// When to ask again when nobody answered, or what was answered could not be used.
pub const RETRY: Duration = Duration::from_secs(30);
/// How often it is told that a certificate is to be renewed and is not.
pub const TELL_EVERY: Duration = Duration::from_secs(24 * 3600);
/// When to ask again after something was taken into use: the managers see it by what is shown.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);
/// Over how long the first questions of a fleet that starts at once are spread.
const FIRST_SPREAD: Duration = Duration::from_secs(5);
/// The longest time that one question may take, all managers and networks together.
const ASK_MAX: Duration = Duration::from_secs(60);

/// How one's own certificate is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenewalReport {
    /// When it holds.
    pub validity: Validity,
    /// When it is to be renewed.
    pub renew_at: WallTime,
    /// What stood in the way the last time that something was to be done.
    pub problem: Option<String>,
}

/// Why a check came to nothing.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("no manager gave an answer")]
    Link(#[from] LinkError),
    #[error("no manager answered within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Keep(#[from] PutError),
    #[error("the clock of this machine tells no time")]
    NoTime,
    #[error("the managers signed none, as for one that is no member")]
    NotSigned,
    #[error("the new one must not be due at once: it is at {renew_at}, and this machine's clock says {now}")]
    DueAtOnce { renew_at: WallTime, now: WallTime },
}

/// What was taken into use and is to be kept yet.
#[derive(Default)]
struct Unkept {
    roots: Option<String>,
    certificate: Option<String>,
}

/// The task; see the module's head.
pub struct RenewalTask {
    live: LiveIdentity,
    link: Arc<dyn CertificateLink>,
    kept: Kept,
    nudge: Arc<Notify>,
    report: watch::Sender<Option<RenewalReport>>,
    unkept: Unkept,
    told: Option<Instant>,
}

impl std::fmt::Debug for RenewalTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RenewalTask").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl RenewalTask {
    /// Returns the task for the identity of a process.
    pub fn new(live: LiveIdentity, link: Arc<dyn CertificateLink>, kept: Kept) -> Self {
        let (nudge, report) = (Arc::new(Notify::new()), watch::Sender::new(None));
        Self { live, link, kept, nudge, report, unkept: Unkept::default(), told: None }
    }

    /// Returns what makes it ask at once.
    pub fn nudge(&self) -> Arc<Notify> {
        Arc::clone(&self.nudge)
    }

    /// Returns a receiver that follows how the certificate is; none before the first look.
    pub fn report(&self) -> watch::Receiver<Option<RenewalReport>> {
        self.report.subscribe()
    }

    /// Keeps the certificate good until it is dropped.
    pub async fn run(mut self) -> Infallible {
        let owner = self.live.identity().owner().clone();
        self.tell_report(None);
        if let Some(report) = self.report.borrow().as_ref() {
            let (until, renew_at) = (report.validity.until, report.renew_at);
            tracing::info!(%owner, %until, %renew_at, "certificate in use");
        }
        self.wait(share_of(&owner, FIRST_SPREAD)).await;
        loop {
            let next = match self.check().await {
                Ok(next) => {
                    self.tell_report(None);
                    self.told = None;
                    // A little apart, so that those that were answered at once do not ask at once again.
                    next + share_of(&owner, next / 8)
                }
                Err(error) => {
                    self.tell_failure(&error);
                    RETRY + share_of(&owner, RETRY)
                }
            };
            self.wait(next).await;
        }
    }

    async fn wait(&self, time: Duration) {
        tokio::select! {
            biased;
            () = self.nudge.notified() => {}
            () = sleep(time) => {}
        }
    }

    /// Asks, does what follows, and returns when to ask again.
    async fn check(&mut self) -> Result<Duration, CheckError> {
        self.keep()?;
        let now = self.live.now().ok_or(CheckError::NoTime)?;
        let identity = self.live.identity();
        let due = renew_at(identity.validity()?, identity.owner()) <= now;
        let mut answer = self.ask(due).await?;
        let renew = due || answer.renew_now;
        if renew && !due {
            // First the CAs: whoever shows a certificate of a new one has to trust it.
            self.take(&answer)?;
            answer = self.ask(true).await?;
        }
        self.take(&answer)?;
        self.keep()?;
        if renew && answer.certificate.is_empty() {
            return Err(CheckError::NotSigned);
        }
        let new = self.live.identity();
        if new.chain() != identity.chain() || new.roots() != identity.roots() {
            // With a wrong clock each new one is due too: asking soon again would have the managers sign without an
            // end.
            let (renew_at, now) = (renew_at(new.validity()?, new.owner()), self.live.now().unwrap_or(now));
            if renew_at <= now {
                return Err(CheckError::DueAtOnce { renew_at, now });
            }
            // So that the managers see soon what is in use now.
            return Ok(CONFIRM_AFTER);
        }
        Ok(Duration::from_secs(answer.next_check_secs.max(1)).min(CHECK_MAX))
    }

    async fn ask(&self, renew: bool) -> Result<proto::CertificateAnswer, CheckError> {
        let identity = self.live.identity();
        let csr = if renew { CertificateRequest::renewal_of(&identity)?.der().to_vec() } else { Vec::new() };
        let trusts = identity.roots().iter().map(|root| CaDigest::of(root).to_string()).collect();
        let check = proto::CertificateCheck { csr, trusts };
        Ok(timeout(ASK_MAX, self.link.check(check)).await.map_err(|_| CheckError::Timeout(ASK_MAX))??)
    }

    /// Takes what was answered into use, where it is new.
    fn take(&mut self, answer: &proto::CertificateAnswer) -> Result<(), CheckError> {
        let identity = self.live.identity();
        let certificate = (!answer.certificate.is_empty()).then_some(answer.certificate.as_str());
        let renewed = identity.renewed(certificate, &answer.ca_certificates)?;
        let other_roots = renewed.roots() != identity.roots();
        if certificate.is_none() && !other_roots {
            return Ok(());
        }
        let (owner, until, roots) = (renewed.owner().clone(), renewed.validity()?.until, renewed.roots().len());
        self.live.replace(renewed)?;
        if other_roots {
            self.unkept.roots = Some(answer.ca_certificates.clone());
            tracing::info!(%owner, roots, "trusted CAs changed");
        }
        if let Some(certificate) = certificate {
            self.unkept.certificate = Some(certificate.to_owned());
            tracing::info!(%owner, %until, "certificate renewed");
        }
        Ok(())
    }

    /// Keeps what is to be kept yet; what fails is tried again at the next check, and is in use meanwhile.
    fn keep(&mut self) -> Result<(), PutError> {
        let owner = self.live.identity().owner().clone();
        if let Some(roots) = &self.unkept.roots {
            self.kept.keep_roots(&owner, roots)?;
            self.unkept.roots = None;
        }
        if let Some(certificate) = &self.unkept.certificate {
            self.kept.keep_certificate(&owner, certificate)?;
            self.unkept.certificate = None;
        }
        Ok(())
    }

    fn tell_report(&self, problem: Option<String>) {
        let identity = self.live.identity();
        let Ok(validity) = identity.validity() else { return };
        let renew_at = renew_at(validity, identity.owner());
        self.report.send_replace(Some(RenewalReport { validity, renew_at, problem }));
    }

    /// Says what stands in the way: as a warning once a certificate should be renewed or could not be kept, and then
    /// once a day.
    fn tell_failure(&mut self, error: &CheckError) {
        self.tell_report(Some(whole(error)));
        let report = self.report.borrow().clone();
        let Some(report) = report else { return };
        let overdue = self.live.now().is_none_or(|now| report.renew_at <= now);
        let matters = overdue || matches!(error, CheckError::Keep(_));
        let owner = self.live.identity().owner().clone();
        if !matters {
            tracing::debug!(%owner, error = whole(error), "certificate check failed");
        } else if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!(%owner, until = %report.validity.until, error = whole(error), "certificate not renewed");
        }
    }
}

/// Returns an error with its causes in one line.
fn whole(error: &CheckError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
