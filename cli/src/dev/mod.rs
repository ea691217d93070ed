//! `vouch dev`: a whole cluster on loopback, without root, for trying out.
//!
//! Managers, nodes, watchers and VMs are real processes, and every link between them runs through a forwarder in this
//! process, where `vouch dev cut` and `heal` work on it.

mod children;
mod control;
mod forwarder;
mod layout;
mod links;
mod up;

use std::io::Write;
use std::path::PathBuf;

use crate::args::{DevArgs, DevCommand, DevUpArgs};
use crate::exit::{CliError, Exit};
use crate::output::table;
use control::{LinkLine, Request};
use links::LinkState;

fn default_dir() -> PathBuf {
    std::env::temp_dir().join(format!("vouch-dev-{}", rustix::process::getuid().as_raw()))
}

/// Runs a command of this group.
///
/// # Errors
/// When the cluster cannot be started, or none runs in the folder.
pub fn run(args: &DevArgs) -> Result<(), CliError> {
    let dir = std::path::absolute(args.dir.clone().unwrap_or_else(default_dir))?;
    match &args.command {
        None => up::run(&dir, &DevUpArgs::default()),
        Some(DevCommand::Up(up)) => up::run(&dir, up),
        Some(DevCommand::Cut { link, carrier }) => {
            let state = if *carrier { LinkState::NoCarrier } else { LinkState::Cut };
            set(&dir, link, state)
        }
        Some(DevCommand::Heal { link }) => set(&dir, link, LinkState::Open),
        Some(DevCommand::Links) => show(&control::ask(&dir, &Request::Links)?),
    }
}

fn set(dir: &std::path::Path, pattern: &str, state: LinkState) -> Result<(), CliError> {
    let links = control::ask(dir, &Request::Set { pattern: pattern.to_owned(), state })?;
    if links.is_empty() {
        let text = format!("link {pattern:?}: must be the name of a link or a pattern with *, see \"vouch dev links\"");
        return Err(CliError::text(Exit::NotFound, text));
    }
    show(&links)
}

fn show(links: &[LinkLine]) -> Result<(), CliError> {
    let rows = links.iter().map(|l| vec![l.name.clone(), l.state.as_str().to_owned(), l.to.to_string()]);
    Ok(std::io::stdout().write_all(table(&["link", "state", "leads to"], rows).as_bytes())?)
}
