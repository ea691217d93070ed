//! OpenSSH's sshd, with a key of its own.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use super::server::{Server, free_port, program};
use super::{fact, finds, soon};

/// Starts sshd with these lines of configuration; `None` if there is none.
async fn sshd(lines: &str) -> Option<(Server, u16)> {
    let (sshd, keygen) = (program("sshd", "openssh-server")?, program("ssh-keygen", "openssh-client")?);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let made = Command::new(keygen).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    // Started by root, sshd wants this folder for its unprivileged part; the service makes it, and nobody else does.
    if rustix::process::geteuid().is_root() {
        std::fs::create_dir_all("/run/sshd").unwrap();
        std::fs::set_permissions("/run/sshd", std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let port = free_port();
    let config = folder.path().join("sshd_config");
    let text = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\n{lines}\n",
        key.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(sshd);
    command.args(["-D", "-e", "-f"]).arg(&config);
    Some((Server::start(command, folder).listens(port).await, port))
}

#[tokio::test]
async fn sshd_greets_and_sees_a_clean_end() {
    let Some((server, port)) = sshd("LogLevel VERBOSE").await else { return };
    let found = finds("ssh", port, json!({"expect": "OpenSSH_"}), "up", "greeted").await;
    assert_eq!(fact(&found, "protocol"), "SSH 2.0");
    assert!(fact(&found, "software").starts_with("OpenSSH_"), "{}", fact(&found, "software"));
    finds("ssh", port, json!({"expect": "dropbear"}), "degraded", "unexpected").await;
    // A client that spoke and hung up, not one that is no SSH client.
    let log = server.log();
    assert!(!log.contains("Bad protocol version") && !log.contains("banner exchange"), "{log}");
}

#[tokio::test]
async fn sshd_that_takes_no_more_connections_is_busy() {
    let Some((_server, port)) = sshd("MaxStartups 1:100:1\nLoginGraceTime 600").await else { return };
    // The one connection that it takes. It may still have to forget the one by which it was waited for.
    let hold = async {
        loop {
            let mut held = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap());
            let mut greeting = String::new();
            // One that is turned away may be reset.
            if held.read_line(&mut greeting).await.is_ok() && greeting.starts_with("SSH-2.0-") {
                return held;
            }
        }
    };
    let _held = tokio::time::timeout(Duration::from_secs(60), hold).await.unwrap();
    let busy = finds("ssh", port, json!({}), "degraded", "busy").await;
    assert!(busy.message().contains("Exceeded MaxStartups"), "{}", busy.message());
}

#[tokio::test]
async fn sshd_that_is_stopped_is_wedged() {
    let Some((server, port)) = sshd("").await else { return };
    server.stop();
    let wedged = soon("ssh", port, json!({})).await;
    assert_eq!((wedged.state(), wedged.reason()), ("down", "wedged"), "{}", wedged.message());
}
