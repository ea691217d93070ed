//! Bad input: one clear message with field, value and rule, a documented exit code, and nothing made or changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;

use crate::args::Cli;
use crate::exit::{CliError, Exit};

fn vouch(args: &[&str]) -> Result<(), CliError> {
    crate::run(Cli::try_parse_from(std::iter::once("vouch").chain(args.iter().copied())).unwrap()).map(drop)
}

fn refused(args: &[&str]) -> (Exit, String) {
    let e = vouch(args).expect_err("must be refused");
    (e.exit, e.render())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_malformed_configuration_or_an_unknown_key_ends_with_78_and_names_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    for daemon in ["manager", "node"] {
        let path = dir.path().join(format!("{daemon}.toml"));
        for (content, named) in [("id = ", "line 1"), ("colour = \"red\"", "colour"), ("id = \"N 1\"", "N 1")] {
            fs::write(&path, content).unwrap();
            let (exit, message) = refused(&[daemon, "--config", text(&path)]);
            assert_eq!(exit, Exit::Config, "{message}");
            assert!(message.contains(text(&path)) && message.contains(named), "{message}");
        }
        let (exit, message) = refused(&[daemon, "--config", "/nowhere/x.toml"]);
        assert_eq!(exit, Exit::Config, "{message}");
        assert!(message.contains("/nowhere/x.toml") && message.contains("No such file"), "{message}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing was made");
}

#[test]
fn certificates_are_private_and_never_replace_others() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    vouch(&["pki", "init", text(&pki)]).unwrap();
    vouch(&["pki", "issue", text(&pki), "--role", "manager", "--id", "m1"]).unwrap();
    for file in ["ca.pem", "ca.key", "m1.pem", "m1.key"] {
        assert_eq!(fs::metadata(pki.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    let key = fs::read(pki.join("ca.key")).unwrap();
    let (exit, message) = refused(&["pki", "init", text(&pki)]);
    assert_eq!(exit, Exit::Failed);
    assert!(message.contains("ca.key") && message.contains("never replaced"), "{message}");
    assert_eq!(fs::read(pki.join("ca.key")).unwrap(), key);
    let (exit, message) = refused(&["pki", "issue", text(&pki), "--role", "manager", "--id", "n1"]);
    assert_eq!(exit, Exit::Usage);
    assert!(message.contains("--id") && message.contains("\"n1\"") && message.contains("as in m1"), "{message}");
    let (_, message) = refused(&["pki", "issue", text(dir.path()), "--role", "node", "--id", "n1"]);
    assert!(message.contains("vouch pki init"), "{message}");
    let identity = vouch_wire::pki::Identity::load(&pki.join("m1.pem"), &pki.join("m1.key"), &pki.join("ca.pem"));
    assert_eq!(identity.unwrap().owner().server_name(), "m1.manager.vouch");
}

#[test]
fn a_missing_token_is_denied_and_an_unreachable_manager_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let (exit, message) = refused(&["vm", "ls", "--token-file", text(&token)]);
    assert_eq!(exit, Exit::Denied);
    assert!(message.contains(text(&token)), "{message}");
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    // A port that was free a moment ago: nothing listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let (exit, message) = refused(&["vm", "ls", "--api", &url, "--token-file", text(&token)]);
    assert_eq!(exit, Exit::Unavailable);
    assert!(message.contains(&url), "{message}");
    let (exit, message) = refused(&["vm", "ls", "--api", "ftp://x", "--token-file", text(&token)]);
    assert_eq!(exit, Exit::Usage);
    assert!(message.contains("--api \"ftp://x\"") && message.contains("must begin with"), "{message}");
}

#[test]
fn the_loopback_cluster_does_not_clear_a_folder_that_is_not_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let precious = dir.path().join("precious");
    fs::write(&precious, "x").unwrap();
    let (exit, message) = refused(&["dev", "--dir", text(dir.path())]);
    assert_eq!(exit, Exit::Failed);
    assert!(message.contains("must be empty or made by"), "{message}");
    assert!(precious.exists());
    let (exit, message) = refused(&["dev", "--dir", text(dir.path()), "cut", "n1-m1"]);
    assert_eq!(exit, Exit::Unavailable);
    assert!(message.contains("vouch dev"), "{message}");
}
