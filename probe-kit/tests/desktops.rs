//! The probe `rdp` at the servers of Debian: FreeRDP's, which speaks network level authentication, and xrdp, which does not.
//!
//! What is not installed is left out and said so; in CI (`CI=true`) nothing may be left out.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]
#![expect(clippy::print_stderr, reason = "a test that is left out says so where the tests' output goes")]

mod common;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::shipped;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::time::{interval, timeout};
use vouch_probe_host::RunOutcome;
use vouch_probe_kit::{Aim, Plan, Ran, Trial};
use vouch_types::Outcome;

/// How long a server may take until it answers, on a machine with other things to do.
const START: Duration = Duration::from_secs(60);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(50);
/// Time for a run that finds what it looks for.
const LONG: Duration = Duration::from_secs(20);

/// Returns the program of this name; that of a service is not on everybody's PATH.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn must_skip(test: &str, programs: &[&str]) -> bool {
    let Some(missing) = programs.iter().find(|name| program(name).is_none()) else { return false };
    let in_ci = std::env::var("CI").as_deref() == Ok("true");
    assert!(!in_ci, "{test} can't run: `{missing}` is not installed, and in CI nothing is left out");
    eprintln!("SKIPPED {test}: `{missing}` is not installed");
    true
}

/// Screens are begun one at a time: two that look for a free number at the same moment may find the same one.
static SCREENS: Mutex<()> = Mutex::new(());

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that listens on a port of 127.0.0.1.
struct Desktop {
    port: u16,
    /// The server first, then what it needs.
    processes: Vec<Running>,
    folder: TempDir,
}

impl Desktop {
    /// Returns a port that nobody has now: none of these servers takes one that the system chooses.
    fn free_port() -> u16 {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
    }

    /// Starts FreeRDP's server with this protocol alone, on a screen that nobody sees.
    async fn freerdp(security: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = |name: &str| Stdio::from(std::fs::File::create(folder.path().join(name)).unwrap());
        let mut screen = Command::new("Xvfb");
        // FreeRDP looks at the screen, leaves, and comes again: a screen that begins anew in between would refuse it.
        screen.args(["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp", "-noreset"]);
        let mut number = String::new();
        let screen = {
            let _one = SCREENS.lock().unwrap_or_else(PoisonError::into_inner);
            let mut screen = Running::start(screen.stdout(Stdio::piped()).stderr(log("screen.log")));
            BufReader::new(screen.0.stdout.take().unwrap()).read_line(&mut number).unwrap();
            screen
        };
        let users = folder.path().join("sam");
        // The user `user` with the password `password`, whom nobody logs in as.
        std::fs::write(&users, "user:::8846F7EAEE8FB117AD06BDD830B7586C:::\n").unwrap();
        let port = Self::free_port();
        let mut server = Command::new("freerdp-shadow-cli");
        server
            .args([format!("/port:{port}"), "/bind-address:127.0.0.1".to_owned(), format!("/sec:{security}")])
            .arg(format!("/sam-file:{}", users.display()))
            .env("HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .env("DISPLAY", format!(":{}", number.trim()));
        let server = Running::start(server.stdout(log("server.log")).stderr(log("server.err")));
        Self { port, processes: vec![server, screen], folder }.listening().await
    }

    /// Starts xrdp with the package's configuration, a port and a certificate of its own.
    async fn xrdp() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["desk-1.example".to_owned()]).unwrap();
        std::fs::write(file("cert.pem"), cert.pem()).unwrap();
        std::fs::write(file("key.pem"), signing_key.serialize_pem()).unwrap();
        let port = Self::free_port();
        let text = std::fs::read_to_string("/etc/xrdp/xrdp.ini").unwrap();
        let line = |line: &str| match line.split_once('=') {
            Some(("port", "3389")) => format!("port=tcp://127.0.0.1:{port}\n"),
            Some(("certificate", _)) => format!("certificate={}\n", file("cert.pem")),
            Some(("key_file", _)) => format!("key_file={}\n", file("key.pem")),
            Some(("security_layer", _)) => "security_layer=tls\n".to_owned(),
            Some(_) | None => format!("{line}\n"),
        };
        std::fs::write(file("xrdp.ini"), text.lines().map(line).collect::<String>()).unwrap();
        let log = Stdio::from(std::fs::File::create(file("server.log")).unwrap());
        let mut server = Command::new(program("xrdp").unwrap());
        server.args(["--nodaemon", "--config", &file("xrdp.ini")]).current_dir(folder.path());
        let server = Running::start(server.stdout(log).stderr(Stdio::null()));
        Self { port, processes: vec![server], folder }.listening().await
    }

    async fn listening(mut self) -> Self {
        let looked = async {
            let mut looks = interval(LOOK);
            while self.run("{}", LONG).await.reason() == "closed" {
                looks.tick().await;
                let ended = self.processes[0].0.try_wait().unwrap();
                assert!(ended.is_none(), "the server has ended: {}", log_of(self.folder.path()));
            }
        };
        let looked = timeout(START, looked).await;
        assert!(looked.is_ok(), "it does not listen: {}", log_of(self.folder.path()));
        self
    }

    async fn run(&self, settings: &str, within: Duration) -> Ran {
        let mut settings: serde_json::Value = serde_json::from_str(settings).unwrap();
        settings["port"] = self.port.into();
        let aim = Aim::Addresses(vec![Ipv4Addr::LOCALHOST.into()]);
        let plan = Plan { timeout: within, settings: settings.to_string(), ..Plan::new(aim) };
        Trial::start(&shipped("rdp"), &plan).await.unwrap().run().await
    }

    /// Returns what the probe finds, which must be that all is well.
    async fn finds(&self, settings: &str) -> RunOutcome {
        let found = self.run(settings, LONG).await.result.unwrap();
        let well = (found.outcome, found.reason.as_str()) == (Outcome::Up, "negotiated");
        assert!(well, "{found:?}\n{}", log_of(self.folder.path()));
        found
    }
}

fn log_of(folder: &Path) -> String {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
    ["server.log", "server.err"].map(|name| String::from_utf8_lossy(&read(name)).into_owned()).concat()
}

fn fact<'a>(found: &'a RunOutcome, name: &str) -> Option<&'a str> {
    found.facts.iter().find(|(told, _)| told == name).map(|(_, value)| value.as_str())
}

fn steps(found: &RunOutcome) -> Vec<&str> {
    found.phases.iter().map(|phase| phase.name.as_str()).collect()
}

const FREERDP: [&str; 2] = ["Xvfb", "freerdp-shadow-cli"];

#[tokio::test]
async fn freerdp_gives_a_challenge_and_its_names_stay_the_same() {
    if must_skip("freerdp_gives_a_challenge_and_its_names_stay_the_same", &FREERDP) {
        return;
    }
    let desktop = Desktop::freerdp("nla").await;
    let found = desktop.finds(r#"{"nla": true, "identity": "name"}"#).await;
    assert_eq!(steps(&found), ["connect", "negotiate", "handshake", "challenge"]);
    assert_eq!((fact(&found, "protocol"), fact(&found, "nla")), (Some("credssp"), Some("challenged")));
    let computer = fact(&found, "computer_name").unwrap().to_ascii_lowercase();
    let who = fact(&found, "identity").unwrap().to_owned();
    assert!(!computer.is_empty() && who.starts_with(&format!("{computer}/")), "{:?}", found.facts);
    assert!(fact(&found, "os_version").is_some_and(|version| version.split('.').count() == 3), "{:?}", found.facts);
    let again = desktop.finds(r#"{"nla": true, "identity": "name"}"#).await;
    assert_eq!(fact(&again, "identity"), Some(who.as_str()), "and it still answers");
    let by_certificate = desktop.finds(r#"{"certificate": true, "identity": "certificate"}"#).await;
    assert!(fact(&by_certificate, "identity").is_some(), "{:?}", by_certificate.facts);
    assert_eq!(fact(&by_certificate, "identity"), fact(&by_certificate, "certificate_sha256"));
}

#[tokio::test]
async fn freerdp_without_nla_is_what_it_is_without_the_setting() {
    if must_skip("freerdp_without_nla_is_what_it_is_without_the_setting", &FREERDP) {
        return;
    }
    for (security, phases) in [("tls", &["connect", "negotiate", "handshake"][..]), ("rdp", &["connect", "negotiate"])]
    {
        let desktop = Desktop::freerdp(security).await;
        let found = desktop.finds(r#"{"nla": true, "identity": "name"}"#).await;
        assert_eq!((fact(&found, "protocol"), steps(&found)), (Some(security), phases.to_vec()));
        assert_eq!((fact(&found, "nla"), fact(&found, "identity_unknown")), (Some("not_chosen"), Some("name")));
    }
}

#[tokio::test]
async fn xrdp_tells_its_certificate_and_has_no_challenge() {
    if must_skip("xrdp_tells_its_certificate_and_has_no_challenge", &["xrdp"]) {
        return;
    }
    let desktop = Desktop::xrdp().await;
    let found = desktop.finds(r#"{"nla": true, "identity": "certificate"}"#).await;
    assert_eq!((fact(&found, "protocol"), fact(&found, "nla")), (Some("tls"), Some("not_chosen")));
    assert_eq!(fact(&found, "certificate_names"), Some("desk-1.example"));
    assert!(fact(&found, "identity").is_some(), "{:?}", found.facts);
    assert_eq!(fact(&found, "identity"), fact(&found, "certificate_sha256"));
}
