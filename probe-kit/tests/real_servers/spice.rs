//! The SPICE server of QEMU, of a machine without a processor.

use std::process::Command;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

use super::server::{Server, free_port, left_out, program};
use super::{fact, finds, soon};

/// Starts QEMU with a SPICE server that lets everybody in; `secured`, only inside TLS. `None` if there is none.
async fn qemu(secured: bool) -> Option<(Server, u16)> {
    let qemu = program("qemu-system-x86_64", "qemu-system-x86")?;
    let options = Command::new(&qemu).args(["-spice", "help"]).output().unwrap();
    if !String::from_utf8_lossy(&options.stdout).contains("disable-ticketing") {
        // Debian 13 has it in a package of its own.
        return left_out("no SPICE in QEMU", "qemu-system-modules-spice");
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut options = format!("addr=127.0.0.1,port={port},disable-ticketing=on");
    if secured {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["desk-1".to_owned()]).unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca-cert.pem", cert.pem());
        write("server-cert.pem", cert.pem());
        write("server-key.pem", signing_key.serialize_pem());
        let (tls_port, path) = (free_port(), folder.path().display());
        options += &format!(",tls-port={tls_port},x509-dir={path},tls-channel=main");
    }
    let mut command = Command::new(qemu);
    command.args(["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-spice", &options]);
    Some((Server::start(command, folder).listens(port).await, port))
}

#[tokio::test]
async fn qemu_accepts_a_link() {
    let Some((_server, port)) = qemu(false).await else { return };
    let up = finds("spice", port, json!({}), "up", "negotiated").await;
    assert_eq!(fact(&up, "protocol"), "SPICE 2.2");
    assert!(fact(&up, "capabilities").contains("auth_spice"), "{}", fact(&up, "capabilities"));
}

#[tokio::test]
async fn qemu_that_wants_tls_says_so() {
    let Some((_server, port)) = qemu(true).await else { return };
    let secured = finds("spice", port, json!({}), "up", "refused").await;
    assert_eq!(fact(&secured, "refusal"), "need_secured");
}

#[tokio::test]
async fn qemu_that_is_stopped_is_wedged() {
    let Some((server, port)) = qemu(false).await else { return };
    server.stop();
    let wedged = soon("spice", port, json!({})).await;
    assert_eq!((wedged.state(), wedged.reason()), ("down", "wedged"), "{}", wedged.message());
}
