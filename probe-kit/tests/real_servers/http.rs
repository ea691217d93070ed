//! nginx, in plain text and with TLS.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use time::OffsetDateTime;

use super::server::{Server, free_port, program};
use super::{fact, finds, soon};

/// How long the certificate holds.
const DAYS: u64 = 10;
const DAY: u64 = 24 * 60 * 60;
/// Longer than what is read of a body.
const LONG: usize = 100 * 1024;

/// Writes a certificate for this name that holds for ten days, and its key.
fn certify(folder: &Path, name: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp((now + DAYS * DAY + DAY / 2) as i64).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// Starts nginx, which has a port for HTTP and one for HTTPS with two sites; `None` if there is none.
async fn nginx() -> Option<(Server, u16, u16)> {
    let nginx = program("nginx", "nginx-light")?;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    // Its worker is another user when root starts it, and has to reach the pages.
    std::fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(root.join("page.html"), "<p>Log in to desk-1</p>").unwrap();
    std::fs::write(root.join("long.html"), format!("{}the end", "x".repeat(LONG))).unwrap();
    ["one.example", "two.example"].into_iter().for_each(|name| certify(root, name));
    let (plain, secure) = (free_port(), free_port());
    let path = root.display();
    let site = |name: &str| {
        format!(
            "server {{ listen 127.0.0.1:{secure} ssl; server_name {name}; ssl_protocols TLSv1.2 TLSv1.3; \
             ssl_certificate {path}/{name}.pem; \
             ssl_certificate_key {path}/{name}.key; location / {{ return 200 'site {name}'; }} }}"
        )
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {path}/{kind}; "))
        .concat();
    let config = format!(
        "daemon off; master_process off; pid {path}/pid; error_log stderr; events {{}}
         http {{ access_log {path}/access; {temporary}
           server {{ listen 127.0.0.1:{plain}; root {path};
             location = / {{ return 200 'hello'; }}
             location = /moved {{ return 302 /elsewhere; }}
             location = /broken {{ return 503; }}
             location = /page.html {{ }}
             location = /long.html {{ }}
             location = /chunked.html {{ ssi on; ssi_types *; alias {path}/page.html; }}
             location = /empty {{ return 204; }} }}
           {} {} }}",
        site("one.example"),
        site("two.example")
    );
    let file = root.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(nginx);
    command.arg("-p").arg(root).arg("-e").arg("stderr").arg("-c").arg(&file);
    Some((Server::start(command, folder).listens(plain).await, plain, secure))
}

#[tokio::test]
async fn nginx_is_judged_by_its_status() {
    let Some((_server, port, _)) = nginx().await else { return };
    let up = finds("http", port, json!({}), "up", "answered").await;
    assert_eq!((fact(&up, "protocol"), fact(&up, "status")), ("HTTP/1.1", "200"));
    assert!(fact(&up, "server").starts_with("nginx/"), "{}", fact(&up, "server"));
    let steps: Vec<&str> = up.result.as_ref().unwrap().phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(steps, ["connect", "answer", "body"]);
    let moved = finds("http", port, json!({"path": "/moved"}), "up", "answered").await;
    assert!(fact(&moved, "location").ends_with("/elsewhere"), "{}", fact(&moved, "location"));
    finds("http", port, json!({"path": "/moved", "statuses": ["2xx"]}), "degraded", "status").await;
    finds("http", port, json!({"path": "/broken"}), "degraded", "status").await;
    finds("http", port, json!({"path": "/broken", "statuses": [503]}), "up", "answered").await;
    finds("http", port, json!({"path": "/absent"}), "degraded", "status").await;
    finds("http", port, json!({"path": "/empty"}), "up", "answered").await;
    finds("http", port, json!({"method": "HEAD", "path": "/page.html"}), "up", "answered").await;
}

#[tokio::test]
async fn nginx_is_judged_by_its_pages_in_either_framing() {
    let Some((_server, port, _)) = nginx().await else { return };
    for path in ["/page.html", "/chunked.html"] {
        finds("http", port, json!({"path": path, "contains": "desk-1"}), "up", "answered").await;
        finds("http", port, json!({"path": path, "contains": "desk-2"}), "degraded", "body").await;
    }
    let long = json!({"path": "/long.html", "contains": "the end", "body_kib": 32});
    let cut = finds("http", port, long, "degraded", "body").await;
    assert!(cut.message().contains("in the 32768 bytes"), "{}", cut.message());
    finds("http", port, json!({"path": "/long.html"}), "up", "answered").await;
}

#[tokio::test]
async fn nginx_with_tls_shows_the_certificate_of_the_site_that_is_asked_for() {
    let Some((_server, plain, secure)) = nginx().await else { return };
    for site in ["one.example", "two.example"] {
        let settings = json!({"tls": true, "host": site, "contains": format!("site {site}")});
        let up = finds("http", secure, settings, "up", "answered").await;
        assert_eq!((fact(&up, "certificate_names"), fact(&up, "tls_version")), (site, "TLS 1.3"));
        assert_eq!((fact(&up, "certificate_sha256").len(), fact(&up, "certificate_key_proved")), (64, "yes"));
        let steps: Vec<&str> = up.result.as_ref().unwrap().phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(steps, ["connect", "handshake", "answer", "body"]);
    }
    for (days, state, reason) in [(9, "up", "answered"), (11, "degraded", "certificate_expiring")] {
        finds("http", secure, json!({"tls": true, "expires_within_days": days}), state, reason).await;
    }
    finds("http", plain, json!({"tls": true}), "degraded", "tls_failed").await;
    // nginx says in plain text that it wants TLS.
    finds("http", secure, json!({}), "degraded", "status").await;
}

#[tokio::test]
async fn nginx_that_is_stopped_is_wedged() {
    let Some((server, plain, secure)) = nginx().await else { return };
    server.stop();
    for (port, settings) in [(plain, json!({})), (secure, json!({"tls": true}))] {
        let wedged = soon("http", port, settings).await;
        assert_eq!((wedged.state(), wedged.reason()), ("down", "wedged"), "{}", wedged.message());
    }
}
