//! The VNC server of QEMU, of a machine without a processor.

use std::process::Command;

use serde_json::json;

use super::server::{Server, free_port, program};
use super::{fact, finds, soon};

/// QEMU counts displays from this port.
const FIRST: u16 = 5900;

/// Starts QEMU with these options of its VNC server; `None` if there is none.
async fn qemu(options: &str) -> Option<(Server, u16)> {
    let qemu = program("qemu-system-x86_64", "qemu-system-x86")?;
    let port = free_port();
    let display = port.checked_sub(FIRST).unwrap();
    let mut command = Command::new(qemu);
    command.args(["-machine", "none", "-nodefaults", "-no-user-config", "-vnc"]);
    command.arg(format!("127.0.0.1:{display}{options}"));
    Some((Server::start(command, tempfile::tempdir().unwrap()).listens(port).await, port))
}

#[tokio::test]
async fn qemu_offers_its_security_types() {
    let Some((_server, port)) = qemu("").await else { return };
    let open = finds("vnc", port, json!({}), "up", "negotiated").await;
    assert_eq!((fact(&open, "protocol"), fact(&open, "security_types")), ("RFB 3.8", "none"));
    let Some((_server, port)) = qemu(",password=on").await else { return };
    let asking = finds("vnc", port, json!({}), "up", "negotiated").await;
    assert_eq!(fact(&asking, "security_types"), "vnc_authentication");
}

#[tokio::test]
async fn qemu_that_is_stopped_is_wedged() {
    let Some((server, port)) = qemu("").await else { return };
    server.stop();
    let wedged = soon("vnc", port, json!({})).await;
    assert_eq!((wedged.state(), wedged.reason()), ("down", "wedged"), "{}", wedged.message());
}
