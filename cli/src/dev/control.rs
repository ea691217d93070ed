//! The unix socket over which `vouch dev cut`, `heal` and `links` reach the process that holds the links: one line of
//! JSON each way.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::forwarder::Forwarder;
use super::links::LinkState;
use crate::exit::{CliError, Exit};

/// The longest request, in bytes.
const REQUEST_MAX: u64 = 4096;

/// Returns where the socket is.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Set links to a state.
    Set {
        /// Which.
        pattern: String,
        /// How they shall be.
        state: LinkState,
    },
    /// List the links.
    Links,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLine {
    /// Its name.
    pub name: String,
    /// Where it leads.
    pub to: SocketAddr,
    /// How it is.
    pub state: LinkState,
}

fn answer(forwarder: &Forwarder, line: &str) -> Vec<LinkLine> {
    let all = |wanted: Option<Vec<String>>| {
        let links = forwarder.list().into_iter().map(|(name, to, state)| LinkLine { name, to, state });
        links.filter(|link| wanted.as_ref().is_none_or(|names| names.contains(&link.name))).collect()
    };
    match serde_json::from_str(line) {
        Ok(Request::Set { pattern, state }) => all(Some(forwarder.set(&pattern, state))),
        Ok(Request::Links) => all(None),
        Err(_) => Vec::new(),
    }
}

/// Answers requests until the process ends.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(dir: &Path, forwarder: Arc<Forwarder>) -> anyhow::Result<()> {
    let path = socket(dir);
    let listener = UnixListener::bind(&path).with_context(|| format!("{}: cannot be made", path.display()))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let forwarder = Arc::clone(&forwarder);
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut line = String::new();
                let mut reader = tokio::io::BufReader::new(read.take(REQUEST_MAX));
                if reader.read_line(&mut line).await.is_ok() {
                    let text = serde_json::to_string(&answer(&forwarder, &line)).unwrap_or_default() + "\n";
                    // A caller that went away needs no answer.
                    let _ = write.write_all(text.as_bytes()).await;
                }
            });
        }
    });
    Ok(())
}

/// Asks the running cluster.
///
/// # Errors
/// Unavailable, when none runs in this folder.
pub fn ask(dir: &Path, request: &Request) -> Result<Vec<LinkLine>, CliError> {
    let path = socket(dir);
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("no loopback cluster runs in {}: start it with \"vouch dev\"", dir.display()))
        .map_err(|e| CliError::new(Exit::Unavailable, e))?;
    writeln!(stream, "{}", serde_json::to_string(request)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line).context("the loopback cluster gave no answer")?)
}
