//! What befalls the agents of nodes, and their hypervisors.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{LocalStage, machine_pid};
use crate::process;

impl LocalStage {
    /// Kills a node's agent as a crash would.
    ///
    /// # Errors
    /// Fails if it doesn't run.
    pub fn kill_agent(&mut self, id: &str) -> Result<()> {
        self.restarted.remove(id);
        match self.daemon_pid(id) {
            Ok(pid) => process::kill_by_pid(pid),
            Err(_) => Ok(()),
        }
    }

    /// Stops a node's agent from running without ending it: it hears nobody, and its streams stand.
    ///
    /// # Errors
    /// Fails if it doesn't run.
    pub fn freeze_agent(&self, id: &str) -> Result<()> {
        process::freeze_by_pid(self.daemon_pid(id)?)
    }

    /// Lets a frozen agent run on.
    ///
    /// # Errors
    /// Fails if it is gone.
    pub fn thaw_agent(&self, id: &str) -> Result<()> {
        process::thaw_by_pid(self.daemon_pid(id)?)
    }

    /// Returns the pid of the VM that a new node came with.
    ///
    /// # Errors
    /// Fails if it does not run.
    pub fn added_vm_pid(&self) -> Result<u32> {
        machine_pid(self.added_vms.first().context("no node was added")?)
    }

    fn silent_file(&self, node: &str) -> PathBuf {
        self.run_dir(node, "service-silent")
    }

    /// Lets a node's hypervisor service fall silent.
    ///
    /// # Errors
    /// Fails if its file can't be written.
    pub fn silence_hypervisor(&self, node: &str) -> Result<()> {
        Ok(fs::write(self.silent_file(node), "")?)
    }

    /// Lets it answer again.
    ///
    /// # Errors
    /// Fails if its file can't be removed.
    pub fn hear_hypervisor(&self, node: &str) -> Result<()> {
        Ok(fs::remove_file(self.silent_file(node))?)
    }

    /// Starts a node's agent again.
    ///
    /// # Errors
    /// Fails if it can't be started.
    pub fn start_agent(&mut self, id: &str) -> Result<()> {
        self.start_daemon("node", id)
    }
}
