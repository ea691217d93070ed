//! What a driver has to know about starting machines; everything else is the same for all drivers whose machines are
//! processes of this node.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use vouch_types::Network;

use super::machine::Monitor;
use super::run_dir::{MachinePlan, RunDir};
use super::{HypervisorError, ServiceState};
use crate::process::Launch;

/// How long a command of the system (`ip`, `nft`) may take.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// A driver's part.
#[async_trait]
pub(crate) trait Launcher: Send + Sync + 'static {
    fn driver(&self) -> &'static str;

    /// Returns whether what stands between the agent and its machines answers.
    fn service(&self) -> ServiceState;

    /// Returns how the state of this machine is read.
    fn monitor(&self, plan: &MachinePlan, dir: &RunDir) -> Monitor;

    /// Makes what the machine needs before its process starts.
    async fn prepare(&self, plan: &MachinePlan) -> Result<(), HypervisorError>;

    fn launch(&self, plan: &MachinePlan, dir: &RunDir) -> Launch;

    /// Removes what `prepare` has made.
    async fn clean_up(&self, plan: &MachinePlan);

    /// Returns the host's interface for each network card of the machine.
    fn ports(&self, plan: &MachinePlan) -> BTreeMap<Network, Vec<String>>;
}

/// Runs a command of the system to its end.
pub(crate) async fn run_command(program: &str, args: &[&str], input: Option<&str>) -> Result<(), HypervisorError> {
    let step = || format!("{program} {}", args.join(" "));
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let work = async {
        let mut child = command.spawn()?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(COMMAND_TIMEOUT, work).await {
        Ok(output) => output.map_err(HypervisorError::io(step()))?,
        Err(_) => return Err(HypervisorError::io(step())(std::io::ErrorKind::TimedOut.into())),
    };
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(HypervisorError::io(step())(std::io::Error::other(format!("{}: {said}", output.status))))
    }
}
