//! `vouch debug bundle`: what a person who helps needs to see, in one file without secrets.
//!
//! Each manager is asked by itself, at `stale`, so that a bundle can be made while there is no quorum; one that does not
//! answer is told by its error. Whatever goes into the bundle goes through [`scrub`].

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use vouch_manager::api::view::ClusterView;

use crate::args::{DebugCommand, Global};
use crate::client::Client;
use crate::exit::CliError;
use crate::output::Output;
use crate::private_file;

/// How much of a log file is taken, in bytes: its end.
const LOG_MAX: u64 = 1024 * 1024;
/// From how many log indexes back events are taken.
const EVENTS_BACK: u64 = 2_000;
/// Mode of the files in the bundle.
const FILE_MODE: u32 = 0o600;

/// What every manager is asked for, and the name of the file with its answer.
const QUESTIONS: [(&str, &str); 9] = [
    ("/v1/cluster", "cluster.json"),
    ("/readyz", "readyz.json"),
    ("/metrics", "metrics.txt"),
    ("/v1/incidents?state=all&limit=1000&consistency=stale", "incidents.json"),
    ("/v1/nodes?limit=1000&consistency=stale", "nodes.json"),
    ("/v1/watchers?limit=1000&consistency=stale", "watchers.json"),
    ("/v1/probes?consistency=stale", "probes.json"),
    ("/v1/policies?consistency=stale", "policies.json"),
    ("/v1/maintenances?consistency=stale", "maintenances.json"),
];

/// Runs a command of this group.
///
/// # Errors
/// A file that cannot be read or written.
pub fn run(global: &Global, command: &DebugCommand) -> Result<(), CliError> {
    let DebugCommand::Bundle { file, config, log } = command;
    // Without one no manager can be asked, and the rest is still worth having.
    let token = global.token_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let mut files = vec![(PathBuf::from("version.txt"), version())];
    if let Some(path) = config {
        files.push(("config.toml".into(), std::fs::read_to_string(path).with_context(|| path.display().to_string())?));
    }
    if let Some(path) = log {
        files.push(("log.txt".into(), end_of(path).with_context(|| path.display().to_string())?));
    }
    for url in &global.api {
        let folder = PathBuf::from("managers").join(file_name(url));
        files.extend(answers_of(global, url).into_iter().map(|(name, text)| (folder.join(name), text)));
    }
    private_file::write(file, &pack(&files, token.trim())?)?;
    let names: Vec<String> = files.iter().map(|(name, _)| name.display().to_string()).collect();
    Output::new(global).show(&names, |_| {
        let list: String = names.iter().map(|name| format!("  {name}\n")).collect();
        format!("{} holds, without tokens and keys:\n{list}", file.display())
    })
}

fn version() -> String {
    let host = std::fs::read_to_string("/proc/version").unwrap_or_default();
    format!("vouch {}\n{host}", env!("CARGO_PKG_VERSION"))
}

/// Returns the end of a file.
fn end_of(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns what one manager answers, and why it does not where it does not.
fn answers_of(global: &Global, url: &str) -> Vec<(&'static str, String)> {
    let client = match Client::new(&Global { api: vec![url.to_owned()], ..global.clone() }) {
        Ok(client) => client,
        Err(error) => return vec![("error.txt", error.render())],
    };
    let ask = |path: &str| match client.ask(path) {
        Ok(text) => text,
        Err(error) => error.render(),
    };
    let mut answers: Vec<(&'static str, String)> = QUESTIONS.iter().map(|(path, name)| (*name, ask(path))).collect();
    let applied = serde_json::from_str::<ClusterView>(&answers[0].1).map_or(0, |cluster| cluster.applied);
    let from = applied.saturating_sub(EVENTS_BACK);
    let events = ask(&format!("/v1/events?follow=false&limit=1000&consistency=stale&after={from}.0"));
    answers.push(("events.json", events));
    answers
}

/// Returns a name for a folder out of a URL.
fn file_name(url: &str) -> String {
    let bare = url.split_once("://").map_or(url, |(_, rest)| rest);
    bare.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).collect()
}

/// Returns a tar archive of these files, without secrets.
fn pack(files: &[(PathBuf, String)], token: &str) -> Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let text = scrub(text, token);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(FILE_MODE);
        header.set_mtime(now);
        archive
            .append_data(&mut header, Path::new("vouch-debug").join(name), text.as_bytes())
            .with_context(|| name.display().to_string())?;
    }
    Ok(archive.into_inner()?)
}

/// Returns a text without this token, bearer and join tokens, and private keys.
fn scrub(text: &str, token: &str) -> String {
    let mut text = text.to_owned();
    if !token.is_empty() {
        text = text.replace(token, "[token removed]");
    }
    text = without_keys(&text);
    for head in ["Bearer ", "bearer ", "VOUCH-"] {
        text = without_words(&text, head);
    }
    text
}

/// Removes PEM private keys (RFC 7468), also where their lines stand in one JSON string, and also those that are cut off.
fn without_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const KIND: &str = "PRIVATE KEY-----";
    let (mut clean, mut rest) = (String::new(), text);
    while let Some(begin) = rest.find(BEGIN) {
        let (before, block) = rest.split_at(begin);
        clean.push_str(before);
        let label = &block[BEGIN.len()..];
        // The label is what stands before the next five dashes.
        let is_key = label.find("-----").is_some_and(|dashes| label[..dashes + 5].ends_with(KIND));
        if !is_key {
            clean.push_str(BEGIN);
            rest = label;
            continue;
        }
        clean.push_str("[private key removed]");
        let end = block.find("-----END ").and_then(|end| {
            let after = &block[end..];
            after.find(KIND).map(|kind| end + kind + KIND.len())
        });
        rest = end.map_or("", |end| &block[end..]);
    }
    clean + rest
}

/// Removes the rest of every word that begins like this.
fn without_words(text: &str, head: &str) -> String {
    let mut parts = text.split(head);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '\\')).unwrap_or(part.len());
        clean.push_str(head);
        clean.push_str("[removed]");
        clean.push_str(&part[end..]);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    const KEY: &str = "MC4CAQAwBQYDK2VwBCIEIDq";

    fn pem(kind: &str, line: &str) -> String {
        format!("-----BEGIN {kind}-----{line}{KEY}{line}-----END {kind}-----{line}")
    }

    /// Returns everything that a bundle holds, as one text.
    fn unpacked(bytes: &[u8]) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(bytes);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                assert_eq!(entry.header().mode().unwrap(), FILE_MODE);
                let (name, mut text) = (entry.path().unwrap().display().to_string(), String::new());
                entry.read_to_string(&mut text).unwrap();
                (name, text)
            })
            .collect()
    }

    #[test]
    fn no_token_and_no_key_is_in_a_bundle_whatever_held_them() {
        let cut_off = format!("before\n-----BEGIN EC PRIVATE KEY-----\n{KEY}");
        let files = [
            ("log.txt", format!("sent Authorization: Bearer {TOKEN}\nBearer other-{KEY} again\nleft {TOKEN}.")),
            (
                "config.toml",
                format!("key = \"/etc/vouch/m1.key\"\n{}{}", pem("PRIVATE KEY", "\n"), pem("RSA PRIVATE KEY", "\n")),
            ),
            (
                "cluster.json",
                format!("{{\"ca_key\":\"{}\",\"join\":\"VOUCH-abc-{KEY}\",\"id\":1}}", pem("PRIVATE KEY", "\\n")),
            ),
            ("cut.txt", cut_off),
        ]
        .map(|(name, text)| (PathBuf::from(name), text));
        let files = unpacked(&pack(&files, TOKEN).unwrap());
        assert_eq!(files.len(), 4);
        for (name, text) in &files {
            assert!(!text.contains(TOKEN) && !text.contains(KEY), "{name}: {text}");
        }
        // What is no secret stays.
        assert!(files[1].1.contains("/etc/vouch/m1.key"));
        assert!(files[2].1.ends_with(",\"id\":1}"), "{}", files[2].1);
        assert!(files[0].1.contains(" again\nleft "));
    }

    #[test]
    fn a_certificate_stays() {
        let text = format!("{}{}after", pem("CERTIFICATE", "\n"), pem("PRIVATE KEY", "\n"));
        let clean = scrub(&text, "");
        assert!(clean.starts_with(&pem("CERTIFICATE", "\n")) && clean.ends_with("after"), "{clean}");
        assert_eq!(clean.matches(KEY).count(), 1);
    }

    #[test]
    fn a_long_log_is_taken_from_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let length = usize::try_from(LOG_MAX).unwrap();
        std::fs::write(&path, format!("first{}last", "x".repeat(length))).unwrap();
        let end = end_of(&path).unwrap();
        assert!(end.len() == length && end.ends_with("last") && !end.contains("first"));
    }

    #[test]
    fn managers_that_do_not_answer_are_told_and_the_bundle_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (token, file, config) =
            (folder.path().join("token"), folder.path().join("b.tar"), folder.path().join("m.toml"));
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::write(&config, format!("# {TOKEN}\n")).unwrap();
        let global = Global {
            // Nothing listens on the discard port.
            api: vec!["http://127.0.0.1:9".to_owned()],
            token_file: Some(token),
            ca: None,
            output: crate::args::Format::Json,
        };
        run(&global, &DebugCommand::Bundle { file: file.clone(), config: Some(config), log: None }).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let files = unpacked(&std::fs::read(&file).unwrap());
        let readyz = files.iter().find(|(name, _)| name == "vouch-debug/managers/127.0.0.1_9/readyz.json").unwrap();
        assert!(readyz.1.contains("vouch: "), "{}", readyz.1);
        assert!(files.iter().all(|(_, text)| !text.contains(TOKEN)));
    }
}
