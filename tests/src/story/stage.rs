//! What a story needs of a cluster: to ask it, and to break it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use vouch_types::Timing;

use crate::{api::Client, wait};

/// Name of the first VM, on node n1: the one that nearly everything happens to.
pub const VM_ONE: &str = "desk-1";
/// Name of the second VM, on node n1: the one whose process dies.
pub const VM_TWO: &str = "desk-2";
/// Name of the third VM, on node n2, where there is one.
pub const VM_THREE: &str = "desk-3";

/// The timing that a cluster runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The defaults, as an operator would run them.
    Default,
    /// The slower one of the tests, for a machine that also runs the guests.
    Slow,
}

impl Profile {
    /// Returns the name of the profile in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Slow => "slow",
        }
    }

    /// Returns its times.
    pub fn timing(self) -> Timing {
        match self {
            Self::Default => Timing::default(),
            Self::Slow => Timing::slow(),
        }
    }
}

/// What the managers are expected to say of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The state.
    pub state: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// A cause that has to be the likeliest of one of its faults.
    pub cause: Option<&'static str>,
}

/// All is well.
pub const WELL: Expected = Expected { state: "up", source: "direct", cause: None };
/// The path between the managers and the node is cut, and nothing else.
pub const CUT: Expected = Expected { state: "up", source: "watcher", cause: Some("manager_node_path") };

/// A running cluster whose parts can be broken: three managers, nodes n1 and n2, VMs on n1, a watcher on each node.
pub trait Stage {
    /// Returns a client per manager that runs, with its name.
    fn clients(&self) -> Vec<(String, Client)>;
    /// Drops what goes between node 1's own agent and the managers, on every network, and nothing else.
    ///
    /// # Errors
    /// Fails if it can't be done, as all of these do.
    fn cut_agent(&mut self) -> Result<()>;
    /// Ends what [`Self::cut_agent`] began.
    fn heal_agent(&mut self) -> Result<()>;
    /// Takes node 1's uplink to the management network away.
    fn cut_uplink(&mut self) -> Result<()>;
    /// Gives it back.
    fn heal_uplink(&mut self) -> Result<()>;
    /// Kills a manager as a crash would.
    fn kill_manager(&mut self, name: &str) -> Result<()>;
    /// Starts a killed manager again.
    fn start_manager(&mut self, name: &str) -> Result<()>;
    /// Kills the process of a VM on node 1.
    fn kill_vm(&mut self, name: &str) -> Result<()>;
    /// Pulls the cable that a VM of node 1 has on the service network.
    fn pull_cable(&mut self, name: &str) -> Result<()>;
    /// Plugs it in again.
    fn plug_cable(&mut self, name: &str) -> Result<()>;
    /// Stops the RDP server in a VM of node 1.
    fn stop_rdp(&mut self, name: &str) -> Result<()>;
    /// Starts it again.
    fn start_rdp(&mut self, name: &str) -> Result<()>;
    /// Kills the machine of a watcher.
    fn kill_watcher(&mut self, id: &str) -> Result<()>;
    /// Says what happens now.
    fn tell(&self, text: &str);

    /// Calls GET at one manager after the other until one answers well.
    fn read(&self, path: &str) -> Result<Value> {
        let mut last = None;
        for (name, client) in self.clients() {
            match client.read(path).with_context(|| format!("manager {name}")) {
                Ok(value) => return Ok(value),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no manager runs")))
    }

    /// Calls POST at one manager after the other until one does it.
    fn write(&self, path: &str, body: &Value) -> Result<Value> {
        let mut last = None;
        for (name, client) in self.clients() {
            match client.post(path, body).and_then(crate::api::Reply::ok).with_context(|| format!("manager {name}")) {
                Ok(value) => return Ok(value),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no manager runs")))
    }

    /// Returns the timing that it runs with.
    fn profile(&self) -> Profile;

    /// Returns the leader's name.
    fn leader(&self) -> Result<String> {
        let cluster = self.read("/v1/cluster")?;
        let leader = cluster.get("leader").and_then(Value::as_str);
        leader.map(str::to_owned).with_context(|| format!("nobody leads: {cluster}"))
    }

    /// Waits until the managers say of a VM what is expected; returns how long that took.
    fn expect(&self, vm: &str, expected: Expected, limit: Duration) -> Result<Duration> {
        let path = format!("/v1/vms/{vm}");
        let looked = wait::until_ok(format!("{vm} is {expected:?}"), limit, || self.look(&path, expected));
        let (_, took) = looked.with_context(|| self.evidence(vm))?;
        self.said(vm, &self.read(&path)?, took);
        Ok(took)
    }

    /// Returns what the leader's detector holds on a VM, for a message.
    fn evidence(&self, vm: &str) -> String {
        let Ok(evidence) = self.read(&format!("/v1/vms/{vm}/evidence")) else { return "no evidence".to_owned() };
        let mut lines = format!("the evidence on {vm}:");
        for key in ["node_words", "statements", "observations", "relays"] {
            for item in evidence.get(key).and_then(Value::as_array).into_iter().flatten() {
                lines.push_str(&format!("\n  {key}: {item}"));
            }
        }
        lines
    }

    /// Tells what the managers say of a VM, in a line.
    fn said(&self, name: &str, vm: &Value, took: Duration) {
        let text = |key: &str| vm.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (state, source, causes) = (text("state"), text("source"), causes(vm).join(", "));
        let faults = if causes.is_empty() { "nothing is broken".to_owned() } else { format!("broken: {causes}") };
        let seconds = took.as_secs_f64();
        self.tell(&format!("   after {seconds:.2} s the managers say of {name}: {state}, by {source}; {faults}"));
    }

    /// Looks once whether a VM is as expected.
    fn look(&self, path: &str, expected: Expected) -> Result<()> {
        let vm = self.read(path)?;
        let text = |key: &str| vm.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let causes = causes(&vm);
        let cause = expected.cause.is_none_or(|cause| causes.iter().any(|c| c == cause));
        let clean = expected.cause.is_some() || causes.is_empty();
        if text("state") == expected.state && text("source") == expected.source && cause && clean {
            return Ok(());
        }
        bail!("{} by {}, faults {causes:?}, because {:?}", text("state"), text("source"), text("reason"))
    }
}

/// Returns the likeliest cause of each fault of a VM as the API shows it.
pub(super) fn causes(vm: &Value) -> Vec<String> {
    let faults = vm.get("faults").and_then(Value::as_array).cloned().unwrap_or_default();
    faults.iter().filter_map(|f| f.get("cause").and_then(Value::as_str)).map(str::to_owned).collect()
}
