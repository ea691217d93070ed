//! The driver `local`: VMs are processes `vouch local-vm` on loopback, watchers are processes `vouch-watcher`.
//!
//! For trying out, without root, QEMU or networks. It shows every part at work but the isolation: there is no guest, no
//! network card and no packet filter here, and nothing in this module pretends that there is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use vouch_types::Network;

use super::launcher::Launcher;
use super::machine::Monitor;
use super::run_dir::{MachinePlan, RunDir};
use super::{HypervisorError, ServiceState};
use crate::config::{Config, WatchersConfig};
use crate::local_word;
use crate::process::Launch;

/// While a file of this name is in the run folder, the driver plays a hypervisor service that does not answer.
pub const SILENT_FILE: &str = "service-silent";

/// Folder in the node's data folder in which its watchers keep the native code of custom probes.
const COMPILED_DIR: &str = "compiled-probes";

/// The driver `local`.
#[derive(Debug, Clone)]
pub(crate) struct LocalLauncher {
    binary: PathBuf,
    watchers: WatchersConfig,
    /// Where watchers of this node keep what they compile.
    compiled_dir: PathBuf,
    silent_file: PathBuf,
}

impl LocalLauncher {
    pub(crate) fn new(config: &Config) -> Result<Self, HypervisorError> {
        let binary = match &config.hypervisor.local.binary {
            Some(binary) => binary.clone(),
            None => std::env::current_exe().map_err(HypervisorError::io("finding this very program"))?,
        };
        Ok(Self {
            binary,
            watchers: config.watchers.clone(),
            compiled_dir: absolute(&config.data_dir.join(COMPILED_DIR)),
            silent_file: config.run_dir().join(SILENT_FILE),
        })
    }
}

/// A relative path would be looked up in the run folder, where the process is started.
fn absolute(path: &std::path::Path) -> PathBuf {
    // A bare name is looked up in PATH.
    if path.components().count() > 1 {
        std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
    } else {
        path.to_path_buf()
    }
}

#[async_trait]
impl Launcher for LocalLauncher {
    fn driver(&self) -> &'static str {
        "local"
    }

    /// There is none, but the file [`SILENT_FILE`] in the run folder plays one that hangs.
    fn service(&self) -> ServiceState {
        if self.silent_file.exists() { ServiceState::Silent } else { ServiceState::Answering }
    }

    fn monitor(&self, _plan: &MachinePlan, dir: &RunDir) -> Monitor {
        Monitor::Process { word_file: dir.file(local_word::FILE), exit_file: dir.file("exit") }
    }

    async fn prepare(&self, _plan: &MachinePlan) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn launch(&self, plan: &MachinePlan, dir: &RunDir) -> Launch {
        let text = |path: PathBuf| path.display().to_string();
        match plan {
            MachinePlan::Vm(file) => {
                let mut args = vec!["local-vm".to_owned(), "--id".to_owned(), file.id.to_string()];
                args.extend(["--run-dir".to_owned(), text(dir.path().to_path_buf())]);
                if let Some(local) = &file.local {
                    args.extend(["--address".to_owned(), local.address.to_string()]);
                    args.extend(["--rdp-port".to_owned(), local.rdp_port.to_string()]);
                }
                Launch { program: absolute(&self.binary), args, nice: 0 }
            }
            MachinePlan::Watcher(_) => {
                let probes = self.watchers.probes_dir.clone().unwrap_or_default();
                let probes = std::path::absolute(&probes).unwrap_or(probes);
                let (boot, compiled) = (text(dir.file("boot.json")), text(self.compiled_dir.clone()));
                let args = ["run", "--boot", &boot, "--probes-dir", &text(probes), "--compiled-dir", &compiled];
                let args = args.into_iter().map(ToOwned::to_owned).collect();
                Launch { program: absolute(&self.watchers.binary), args, nice: 0 }
            }
        }
    }

    async fn clean_up(&self, _plan: &MachinePlan) {}

    fn ports(&self, _plan: &MachinePlan) -> BTreeMap<Network, Vec<String>> {
        BTreeMap::new()
    }
}
