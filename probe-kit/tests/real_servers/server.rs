//! A real server as a process of the test: found, started on a free port, waited for, and ended with the test.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// How long a server may take to be there.
const START_MAX: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Returns where a program is, or `None` after a note that the test is left out.
pub fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are in folders that are not on every user's path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.or_else(|| left_out(&format!("no {name}"), package))
}

/// Returns `None` after a note that a test is left out, as this is missing. In CI nothing is left out.
pub fn left_out<T>(missing: &str, package: &str) -> Option<T> {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true, but there is {missing} (package {package})");
    eprintln!("left out: there is {missing}, which is in the Debian package {package}");
    None
}

/// A server that runs until this is dropped.
pub struct Server {
    child: Child,
    log: PathBuf,
    /// Goes when the server has ended.
    _folder: TempDir,
}

impl Server {
    /// Starts a program whose words go to a file, with the folder that was made for it.
    pub fn start(mut command: Command, folder: TempDir) -> Self {
        let log = folder.path().join("log");
        let file = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log, _folder: folder }
    }

    /// Stops it where it is: the kernel still accepts connections for it.
    pub fn stop(&self) {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::STOP).unwrap();
    }

    /// Returns what it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its port accepts connections.
    pub async fn listens(mut self, port: u16) -> Self {
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.log());
            }
            assert!(begun.elapsed() < START_MAX, "the server does not listen on port {port}: {}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a port that is free for TCP and UDP. Between this and the server's start somebody else might take it; the server
/// then says so and the test fails with its words.
pub fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        match UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
            Ok(_) => return port,
            Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}"),
        }
    }
}
