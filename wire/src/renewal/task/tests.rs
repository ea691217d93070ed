//! What the owner of a certificate would notice: it is renewed in time, once, on disk and in use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::advance;
use vouch_types::NodeId;

use super::*;
use crate::pki::{AdjustableTime, CertificateAuthority, Identity, PeerIdentity, VALIDITY_MIN};

const BORN: u64 = 1_795_383_407_000;

fn after(days: u64) -> WallTime {
    WallTime::from_unix_millis(BORN + days * 24 * 3600 * 1000)
}

fn n1() -> PeerIdentity {
    PeerIdentity::Node(NodeId::new("n1").unwrap())
}

/// Managers that sign for `n1` with their newest CA.
struct SimManagers {
    /// When to ask again, as they say.
    next_check: Duration,
    /// All that are trusted, the one that signs first.
    cas: Mutex<Vec<Arc<CertificateAuthority>>>,
    clock: Arc<AdjustableTime>,
    silent: AtomicBool,
    signs: AtomicBool,
    asked: Mutex<Vec<proto::CertificateCheck>>,
}

#[async_trait]
impl CertificateLink for SimManagers {
    async fn check(&self, check: proto::CertificateCheck) -> Result<proto::CertificateAnswer, LinkError> {
        self.asked.lock().unwrap().push(check.clone());
        if self.silent.load(Ordering::SeqCst) {
            return Err(LinkError::Timeout(Duration::from_secs(2)));
        }
        let cas = self.cas.lock().unwrap().clone();
        let now = self.clock.now();
        let certificate = match check.csr.as_slice() {
            [] => String::new(),
            _ if !self.signs.load(Ordering::SeqCst) => String::new(),
            csr => cas[0].sign_request(csr, &n1(), now, VALIDITY_MIN).unwrap(),
        };
        let ca_certificates = cas.iter().map(|ca| ca.certificate_pem()).collect();
        let renew_now = cas.len() > 1 && check.csr.is_empty();
        Ok(proto::CertificateAnswer {
            certificate,
            ca_certificates,
            renew_now,
            next_check_secs: self.next_check.as_secs(),
        })
    }
}

struct Bed {
    folder: TempDir,
    live: LiveIdentity,
    clock: Arc<AdjustableTime>,
    managers: Arc<SimManagers>,
    report: watch::Receiver<Option<RenewalReport>>,
    task: JoinHandle<Infallible>,
}

impl Bed {
    /// Starts a node whose certificate for a week was made `days` before.
    fn start(days: u64, lose_folder: bool) -> Self {
        Self::asking(days, lose_folder, CHECK_DEFAULT)
    }

    fn asking(days: u64, lose_folder: bool, next_check: Duration) -> Self {
        let ca = Arc::new(CertificateAuthority::generate("test", after(0)).unwrap());
        let issued = ca.issue(&n1(), after(0), VALIDITY_MIN).unwrap();
        let folder = TempDir::new().unwrap();
        for (name, text) in
            [("n1.pem", &issued.certificate_pem), ("n1.key", &issued.key_pem), ("ca.pem", &issued.ca_certificate_pem)]
        {
            fs::write(folder.path().join(name), text).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let clock = Arc::new(AdjustableTime::at_least(WallTime::default()));
        clock.set(after(days));
        let live = LiveIdentity::new(issued.identity().unwrap(), clock.clone()).unwrap();
        let managers_clock = Arc::new(AdjustableTime::at_least(WallTime::default()));
        managers_clock.set(after(days));
        let managers = Arc::new(SimManagers {
            next_check,
            cas: Mutex::new(vec![ca]),
            clock: managers_clock,
            silent: AtomicBool::new(false),
            signs: AtomicBool::new(true),
            asked: Mutex::default(),
        });
        let at =
            |name: &str| if lose_folder { folder.path().join("gone").join(name) } else { folder.path().join(name) };
        let kept = Kept::Files { certificate: at("n1.pem"), ca_certificate: at("ca.pem") };
        let task = RenewalTask::new(live.clone(), managers.clone(), kept);
        let report = task.report();
        Self { folder, live, clock, managers, report, task: tokio::spawn(task.run()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stored(&self) -> Identity {
        Identity::load(&self.path("n1.pem"), &self.path("n1.key"), &self.path("ca.pem")).unwrap()
    }

    /// Sets the clocks of all.
    fn set_clocks(&self, now: WallTime) {
        self.clock.set(now);
        self.managers.clock.set(now);
    }

    fn asked(&self) -> usize {
        self.managers.asked.lock().unwrap().len()
    }

    /// Lets time pass, on the paused clock.
    async fn pass(&self, time: Duration) {
        for _ in 0..4 {
            advance(time / 4).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_whose_half_is_over_is_renewed_in_use_and_on_disk_with_the_same_key() {
    let bed = Bed::start(5, false);
    let key = fs::read(bed.path("n1.key")).unwrap();
    bed.pass(FIRST_SPREAD).await;
    assert!(bed.live.identity().validity().unwrap().until >= after(11));
    assert_eq!(bed.stored().chain(), bed.live.identity().chain());
    assert_eq!(fs::read(bed.path("n1.key")).unwrap(), key);
    assert!(LiveIdentity::new(bed.stored(), bed.clock.clone()).is_ok(), "key and certificate fit together");
    let asked = bed.asked();
    bed.pass(Duration::from_secs(3600)).await;
    assert!(bed.asked() > asked, "it goes on asking");
    let wants = bed.managers.asked.lock().unwrap().iter().filter(|check| !check.csr.is_empty()).count();
    assert_eq!(wants, 1, "one new certificate is enough");
}

#[tokio::test(start_paused = true)]
async fn a_young_certificate_is_left_alone_until_half_of_its_life_is_over() {
    let bed = Bed::start(1, false);
    let first = bed.live.identity().chain().to_vec();
    bed.pass(FIRST_SPREAD).await;
    assert_eq!(bed.asked(), 1);
    assert_eq!(bed.live.identity().chain(), first);
    bed.set_clocks(after(5));
    bed.pass(Duration::from_secs(1200)).await;
    assert_ne!(bed.live.identity().chain(), first);
}

#[tokio::test(start_paused = true)]
async fn managers_that_do_not_answer_are_asked_again_and_the_delay_shows() {
    let bed = Bed::start(5, false);
    bed.managers.silent.store(true, Ordering::SeqCst);
    bed.pass(FIRST_SPREAD).await;
    let problem = bed.report.borrow().clone().unwrap().problem.unwrap();
    assert!(problem.contains("no manager gave an answer"), "{problem}");
    bed.managers.silent.store(false, Ordering::SeqCst);
    bed.pass(RETRY * 2).await;
    assert!(bed.live.identity().validity().unwrap().until >= after(11));
    assert_eq!(bed.report.borrow().clone().unwrap().problem, None);
    assert!(!bed.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_written_leaves_the_new_certificate_in_use_and_is_tried_again() {
    let bed = Bed::start(5, true);
    bed.pass(FIRST_SPREAD).await;
    assert!(bed.live.identity().validity().unwrap().until >= after(11));
    let problem = bed.report.borrow().clone().unwrap().problem.unwrap();
    assert!(problem.contains("gone/n1.pem"), "{problem}");
    fs::create_dir(bed.path("gone")).unwrap();
    bed.pass(RETRY * 2).await;
    assert_eq!(bed.report.borrow().clone().unwrap().problem, None);
    assert!(bed.path("gone").join("n1.pem").exists());
}

#[tokio::test(start_paused = true)]
async fn a_second_ca_is_trusted_first_and_then_a_certificate_of_it_is_taken_before_its_time() {
    let bed = Bed::start(1, false);
    bed.pass(FIRST_SPREAD).await;
    let new = Arc::new(CertificateAuthority::generate("test", after(1)).unwrap());
    bed.managers.cas.lock().unwrap().insert(0, new.clone());
    bed.pass(Duration::from_secs(1200)).await;
    let live = bed.live.identity();
    assert_eq!(live.roots().len(), 2);
    assert_eq!(live.shown().signed_by(live.roots()), Some(new.digest().unwrap()));
    assert_eq!((bed.stored().chain(), bed.stored().roots()), (live.chain(), live.roots()));
    // The old one goes: its own certificate holds still.
    bed.managers.cas.lock().unwrap().truncate(1);
    bed.pass(Duration::from_secs(1200)).await;
    assert_eq!(bed.stored().roots().len(), 1);
    let trusts = bed.managers.asked.lock().unwrap().last().unwrap().trusts.clone();
    bed.pass(Duration::from_secs(1200)).await;
    assert!(bed.managers.asked.lock().unwrap().last().unwrap().trusts.len() <= trusts.len());
}

#[tokio::test(start_paused = true)]
async fn cas_that_would_lock_it_out_are_not_taken() {
    let bed = Bed::start(1, false);
    bed.pass(FIRST_SPREAD).await;
    let other = Arc::new(CertificateAuthority::generate("test", after(1)).unwrap());
    let old = std::mem::replace(&mut *bed.managers.cas.lock().unwrap(), vec![other]);
    bed.pass(Duration::from_secs(1200)).await;
    assert_eq!(CaDigest::of(&bed.live.identity().roots()[0]), old[0].digest().unwrap());
    let problem = bed.report.borrow().clone().unwrap().problem.unwrap();
    assert!(problem.contains("signed it"), "{problem}");
    assert_eq!(bed.stored().roots(), bed.live.identity().roots());
}

#[tokio::test(start_paused = true)]
async fn managers_that_say_to_ask_in_a_year_are_asked_within_a_day_and_an_eighth() {
    let bed = Bed::asking(1, false, Duration::from_secs(365 * 24 * 3600));
    bed.pass(FIRST_SPREAD).await;
    assert_eq!(bed.asked(), 1);
    bed.pass(CHECK_MAX + CHECK_MAX / 8).await;
    assert_eq!(bed.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_makes_every_new_certificate_due_has_the_managers_asked_no_more_often_than_a_failure() {
    let bed = Bed::start(5, false);
    // The managers' clock stands at the birth of the certificate, this machine's days later.
    bed.managers.clock.set(after(0));
    bed.pass(FIRST_SPREAD).await;
    let problem = bed.report.borrow().clone().unwrap().problem.unwrap();
    assert!(problem.contains("must not be due at once"), "{problem}");
    let asked = bed.asked();
    for _ in 0..20 {
        bed.pass(RETRY).await;
    }
    assert!(bed.asked() - asked <= 20, "{} times within {:?}", bed.asked() - asked, RETRY * 20);
    bed.managers.clock.set(after(5));
    bed.pass(RETRY * 2).await;
    assert_eq!(bed.report.borrow().clone().unwrap().problem, None);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_the_managers_do_not_sign_is_told_as_not_renewed() {
    let bed = Bed::start(5, false);
    bed.managers.signs.store(false, Ordering::SeqCst);
    bed.pass(FIRST_SPREAD).await;
    let problem = bed.report.borrow().clone().unwrap().problem.unwrap();
    assert!(problem.contains("signed none"), "{problem}");
    bed.managers.signs.store(true, Ordering::SeqCst);
    bed.pass(RETRY * 2).await;
    assert_eq!(bed.report.borrow().clone().unwrap().problem, None);
}
