//! dnsmasq, with a zone of its own and no other server to ask.

use std::process::Command;

use serde_json::json;

use super::server::{Server, free_port, program};
use super::{fact, finds, soon};

/// Starts dnsmasq; `None` if there is none.
async fn dnsmasq() -> Option<(Server, u16)> {
    let dnsmasq = program("dnsmasq", "dnsmasq-base")?;
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(dnsmasq);
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file"]);
    command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--log-facility=-"]);
    command.arg(format!("--port={port}"));
    // The zone is its own; more than 512 bytes of text do not fit into a datagram.
    command.args(["--local=/example/", "--host-record=desk-1.example,192.0.2.7,2001:db8::7"]);
    for part in ["one", "two", "three"] {
        command.arg(format!("--txt-record=long.example,{part}{}", "x".repeat(240)));
    }
    Some((Server::start(command, folder).listens(port).await, port))
}

#[tokio::test]
async fn dnsmasq_answers_for_its_zone() {
    let Some((_server, port)) = dnsmasq().await else { return };
    let up = finds("dns", port, json!({"name": "desk-1.example"}), "up", "answered").await;
    assert_eq!(
        (fact(&up, "addresses"), fact(&up, "protocol"), fact(&up, "rcode")),
        ("192.0.2.7", "DNS over UDP", "NOERROR")
    );
    let six = finds("dns", port, json!({"name": "DESK-1.example.", "type": "AAAA"}), "up", "answered").await;
    assert_eq!(fact(&six, "addresses"), "2001:db8::7");
    finds("dns", port, json!({"name": "desk-1.example", "answers_min": 2}), "degraded", "answers").await;
    finds("dns", port, json!({"name": "desk-1.example", "type": "MX"}), "degraded", "answers").await;
    finds("dns", port, json!({"name": "desk-1.example", "type": "MX", "answers_min": 0}), "up", "answered").await;
    finds("dns", port, json!({"name": "desk-9.example"}), "degraded", "nxdomain").await;
    finds("dns", port, json!({"name": "desk-9.example", "rcodes": ["NXDOMAIN"]}), "up", "answered").await;
}

#[tokio::test]
async fn dnsmasq_that_does_not_want_to_answer_is_degraded() {
    let Some((_server, port)) = dnsmasq().await else { return };
    let refused = finds("dns", port, json!({"name": "elsewhere.invalid"}), "degraded", "refused").await;
    assert_eq!(fact(&refused, "rcode"), "REFUSED");
}

#[tokio::test]
async fn an_answer_that_is_cut_comes_over_tcp() {
    let Some((_server, port)) = dnsmasq().await else { return };
    let long = json!({"name": "long.example", "type": "TXT", "answers_min": 3});
    let long = finds("dns", port, long, "up", "answered").await;
    assert_eq!(fact(&long, "protocol"), "DNS over TCP");
}

#[tokio::test]
async fn dnsmasq_that_is_stopped_is_silent_and_one_that_is_gone_is_closed() {
    let Some((server, port)) = dnsmasq().await else { return };
    server.stop();
    let silent = soon("dns", port, json!({"name": "desk-1.example"})).await;
    assert_eq!((silent.state(), silent.reason()), ("down", "timeout"), "{}", silent.message());
    drop(server);
    finds("dns", port, json!({"name": "desk-1.example"}), "down", "closed").await;
}
