//! `vouch cluster backup` and `vouch cluster restore`.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use vouch_manager::backup::{Backup, RestoreError, Target, restore as restore_into};
use vouch_manager::{Config, ConfigError};

use super::daemon::config_error;
use crate::args::Global;
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::private_file;

/// What was backed up or restored.
#[derive(Debug, Serialize)]
struct Done {
    cluster: String,
    index: u64,
    term: u64,
    vms: usize,
    bytes: Option<usize>,
}

/// Makes a backup of the cluster.
///
/// # Errors
/// What the managers said, an answer that is not whole, or a file that cannot be written.
pub fn backup(global: &Global, file: &Path) -> Result<(), CliError> {
    let bytes = Client::new(global)?.fetch("/v1/cluster/backup")?;
    // One that cannot be restored is worth nothing: it is read before it takes the place of an older one.
    let backup = Backup::parse(&bytes).context("the backup that the manager sent")?;
    let vms = backup.state().context("the backup that the manager sent")?.vms().len();
    private_file::write(file, &bytes)?;
    let head = &backup.head;
    let done = Done {
        cluster: head.cluster.to_string(),
        index: head.index.get(),
        term: head.term.get(),
        vms,
        bytes: Some(bytes.len()),
    };
    Output::new(global).show(&done, |_| {
        format!(
            "cluster {} is backed up to {} up to index {} ({vms} VMs, {} bytes)\n\
             it holds the keys of the cluster: keep it as safe as the managers' data folders\n",
            done.cluster,
            file.display(),
            done.index,
            bytes.len()
        )
    })
}

/// Fills the empty data folder of a manager from a backup.
///
/// # Errors
/// A wrong configuration (78), storage that failed (74), or a file or folder that is refused.
pub fn restore(global: &Global, file: &Path, config: &Path) -> Result<(), CliError> {
    let loaded =
        Config::load(config, |name| std::env::var(name).ok()).map_err(|e: ConfigError| config_error(config, e))?;
    let target = Target {
        data_dir: loaded.data_dir.clone(),
        token_file: loaded.token_file(),
        manager: loaded.id,
        members: loaded.members(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let restored = runtime.block_on(restore_into(file, &target)).map_err(|e| CliError::new(exit_of(&e), e))?;
    let done = Done {
        cluster: restored.cluster.to_string(),
        index: restored.index.get(),
        term: restored.term.get(),
        vms: restored.vms,
        bytes: None,
    };
    let others: Vec<String> =
        target.members.keys().filter(|id| **id != target.manager).map(ToString::to_string).collect();
    Output::new(global).show(&done, |_| {
        let then = if others.is_empty() {
            format!("start {} now\n", target.manager)
        } else {
            format!("start {} now, and {} with empty data folders\n", target.manager, others.join(", "))
        };
        format!(
            "cluster {} is restored into {} as of index {} ({} VMs)\n\
             no manager of the old cluster may run any more; {then}",
            done.cluster,
            target.data_dir.display(),
            done.index,
            done.vms
        )
    })
}

fn exit_of(error: &RestoreError) -> Exit {
    match error {
        RestoreError::Read { .. } | RestoreError::Backup { .. } | RestoreError::NotEmpty { .. } => Exit::Failed,
        RestoreError::DataFolder(_)
        | RestoreError::Blob(_)
        | RestoreError::Log(_)
        | RestoreError::Write { .. }
        | RestoreError::Snapshot(_) => Exit::Storage,
    }
}
