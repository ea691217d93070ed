//! The steps A to E, each from a cluster that is well to a cluster that is well again (but for the VM that died).

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::events::{Cursor, Events};
use super::stage::{CUT, Expected, Stage, VM_ONE, VM_TWO, WELL};
use crate::wait;

/// The longest that any single answer may take; what is measured is reported, not asserted.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a new watcher may take: its machine boots.
const BOOT: Duration = Duration::from_secs(120);

const BAD: [&str; 2] = ["down", "lost"];

/// How long each answer of a step took, with what it was.
pub type Took = Vec<(&'static str, Duration)>;

/// Waits until one more heal is still told as a recovery: of more than two in the window of flapping, the rest are one
/// flapping path.
///
/// # Errors
/// Fails if no manager tells the events.
pub fn calm(stage: &mut dyn Stage) -> Result<()> {
    calm_of(stage, "n1")
}

/// As [`calm`], for a node by its name.
///
/// # Errors
/// As [`calm`].
pub fn calm_of(stage: &dyn Stage, node: &str) -> Result<()> {
    let told = Events::after(stage, &Cursor("0.0".to_owned()))?.recoveries(node);
    let Some(second_last) = told.len().checked_sub(2).and_then(|i| told.get(i)) else { return Ok(()) };
    let window = stage.profile().timing().flap_window + Duration::from_secs(1);
    let free = UNIX_EPOCH + Duration::from_millis(*second_last) + window;
    if let Ok(left) = free.duration_since(SystemTime::now()) {
        stage.tell(&format!("   (two heals were told a moment ago; waiting {:.0} s)", left.as_secs_f64()));
        thread::sleep(left);
    }
    Ok(())
}

/// A: only the path between node 1's agent and the managers is cut.
///
/// # Errors
/// Fails if the managers say anything else than that.
pub fn step_a(stage: &mut dyn Stage) -> Result<Took> {
    calm(stage)?;
    stage.tell("A. The path between node n1's agent and every manager is cut; everything else works.");
    let before = Cursor::now(stage)?;
    stage.cut_agent()?;
    let cut = stage.expect(VM_ONE, CUT, LIMIT)?;
    stage.tell("   The path heals.");
    stage.heal_agent()?;
    let heal = stage.expect(VM_ONE, WELL, LIMIT)?;
    let events = Events::after(stage, &before)?;
    events.never(&BAD)?;
    events.one_recovery("n1")?;
    Ok(vec![("A cut: up by watcher, manager_node_path", cut), ("A heal: direct", heal)])
}

/// B: node 1's uplink to the management network is dead.
///
/// # Errors
/// As for [`step_a`].
pub fn step_b(stage: &mut dyn Stage) -> Result<Took> {
    calm(stage)?;
    stage.tell("B. Node n1 loses its uplink to the management network; its watcher answers over the service network.");
    let before = Cursor::now(stage)?;
    stage.cut_uplink()?;
    let uplink = Expected { state: "up", source: "watcher", cause: Some("node_uplink(management)") };
    let cut = stage.expect(VM_ONE, uplink, LIMIT)?;
    stage.tell("   The uplink is back.");
    stage.heal_uplink()?;
    let heal = stage.expect(VM_ONE, WELL, LIMIT)?;
    let events = Events::after(stage, &before)?;
    events.never(&BAD)?;
    events.one_recovery("n1")?;
    Ok(vec![("B uplink dead: up by watcher, node_uplink(management)", cut), ("B heal: direct", heal)])
}

/// C: cut as in A, and the leader dies.
///
/// # Errors
/// As for [`step_a`].
pub fn step_c(stage: &mut dyn Stage) -> Result<Took> {
    calm(stage)?;
    stage.tell("C. Cut as in A, and the leader is killed.");
    let before = Cursor::now(stage)?;
    stage.cut_agent()?;
    stage.expect(VM_ONE, CUT, LIMIT)?;
    let killed = stage.leader()?;
    stage.tell(&format!("   {killed} led, and is killed."));
    stage.kill_manager(&killed)?;
    let other = || -> Result<()> {
        let leader = stage.leader()?;
        ensure!(leader != killed, "{killed} still counts as the leader");
        stage.look(&format!("/v1/vms/{VM_ONE}"), CUT)
    };
    let (_, failover) = wait::until_ok("another manager says the same", LIMIT, other)?;
    stage.tell("   The path heals while that manager is still dead.");
    stage.heal_agent()?;
    let heal = stage.expect(VM_ONE, WELL, LIMIT)?;
    stage.start_manager(&killed)?;
    wait::until_ok(format!("{killed} is ready again"), LIMIT, || ready(stage, &killed))?;
    let events = Events::after(stage, &before)?;
    events.never(&BAD)?;
    events.one_recovery("n1")?;
    events.in_order()?;
    Ok(vec![("C leader killed: another says the same", failover), ("C heal: direct", heal)])
}

/// D, second half: cut as in A, and the VM's cable on the service network is pulled.
///
/// # Errors
/// As for [`step_a`].
pub fn step_d_cable(stage: &mut dyn Stage) -> Result<Took> {
    calm(stage)?;
    stage.tell("D. Cut as in A, and the guest's service cable is pulled: not down.");
    let before = Cursor::now(stage)?;
    stage.cut_agent()?;
    stage.expect(VM_ONE, CUT, LIMIT)?;
    stage.pull_cable(VM_ONE)?;
    let degraded = Expected { state: "degraded", source: "watcher", cause: Some("manager_node_path") };
    let pulled = stage.expect(VM_ONE, degraded, LIMIT)?;
    stage.plug_cable(VM_ONE)?;
    let plugged = stage.expect(VM_ONE, CUT, LIMIT)?;
    stage.heal_agent()?;
    stage.expect(VM_ONE, WELL, LIMIT)?;
    let events = Events::after(stage, &before)?;
    events.never(&BAD)?;
    events.one_recovery("n1")?;
    Ok(vec![("D cable pulled during a cut: degraded", pulled), ("D cable back: up", plugged)])
}

/// D, first half: cut as in A, and the guest's process dies. It stays dead.
///
/// # Errors
/// As for [`step_a`].
pub fn step_d_process(stage: &mut dyn Stage) -> Result<Took> {
    calm(stage)?;
    stage.tell("D. Cut as in A, and the guest's process is killed: a watcher brings the node's signed statement.");
    let before = Cursor::now(stage)?;
    stage.cut_agent()?;
    stage.expect(VM_TWO, CUT, LIMIT)?;
    stage.kill_vm(VM_TWO)?;
    let dead = Expected { state: "down", source: "watcher", cause: Some("vm_process") };
    let down = stage.expect(VM_TWO, dead, LIMIT)?;
    stage.look(&format!("/v1/vms/{VM_ONE}"), CUT).context("the other vm of the node is as it was")?;
    stage.heal_agent()?;
    stage.expect(VM_ONE, WELL, LIMIT)?;
    let still = Expected { source: "direct", ..dead };
    stage.expect(VM_TWO, still, LIMIT)?;
    let events = Events::after(stage, &before)?;
    events.never(&["lost"])?;
    let id = stage.read(&format!("/v1/vms/{VM_TWO}"))?.get("id").and_then(Value::as_str).map(str::to_owned);
    ensure!(events.changed_vms().iter().all(|vm| Some(vm) == id.as_ref()), "another vm changed:\n{}", events.lines());
    Ok(vec![("D process killed during a cut: down, vm_process", down)])
}

/// E, first half: the RDP server in the guest stops, and starts again.
///
/// # Errors
/// As for [`step_a`].
pub fn step_e_rdp(stage: &mut dyn Stage) -> Result<Took> {
    stage.tell("E. The RDP server in the guest is stopped.");
    let before = Cursor::now(stage)?;
    stage.stop_rdp(VM_ONE)?;
    let closed = Expected { state: "degraded", source: "direct", cause: Some("service(rdp)") };
    let stopped = stage.expect(VM_ONE, closed, LIMIT)?;
    stage.start_rdp(VM_ONE)?;
    let started = stage.expect(VM_ONE, WELL, LIMIT)?;
    Events::after(stage, &before)?.never(&BAD)?;
    Ok(vec![("E rdp stopped: degraded, service(rdp)", stopped), ("E rdp started: up", started)])
}

/// E, second half: a watcher is killed, and replaced.
///
/// # Errors
/// As for [`step_a`].
pub fn step_e_watcher(stage: &mut dyn Stage) -> Result<Took> {
    stage.tell("E. The watcher on node n2 is killed.");
    let before = Cursor::now(stage)?;
    let victim = live_watcher_on(stage, "n2").context("n2 has a live watcher")?;
    stage.kill_watcher(&victim)?;
    let lost = || match Events::after(stage, &before)?.of_kind("watcher_lost") {
        0 => anyhow::bail!("nobody said that {victim} is lost"),
        _ => Ok(()),
    };
    let (_, told) = wait::until_ok("the loss of the watcher is told", LIMIT, lost)?;
    let replaced = || -> Result<()> {
        let new = live_watcher_on(stage, "n2")?;
        ensure!(new != victim, "{victim} still counts as live");
        covers(stage)
    };
    let (_, replaced) = wait::until_ok("the watcher is replaced", BOOT, replaced)?;
    Events::after(stage, &before)?.never(&BAD)?;
    Ok(vec![("E watcher killed: told", told), ("E watcher replaced", replaced)])
}

/// The whole story, in an order in which each step finds the cluster well. `uplink` tells whether the stage has one
/// to take away (step B).
///
/// # Errors
/// As for [`step_a`].
pub fn whole(stage: &mut dyn Stage, uplink: bool) -> Result<Took> {
    let mut took = step_a(stage)?;
    if uplink {
        took.extend(step_b(stage)?);
    }
    took.extend(step_e_rdp(stage)?);
    took.extend(step_e_watcher(stage)?);
    took.extend(step_c(stage)?);
    took.extend(step_d_cable(stage)?);
    took.extend(step_d_process(stage)?);
    Ok(took)
}

/// Fails unless a manager says of itself that it is ready.
fn ready(stage: &dyn Stage, name: &str) -> Result<()> {
    let client = stage.clients().into_iter().find(|(n, _)| n == name).context("it does not run")?.1;
    client.read("/readyz").map(drop)
}

/// Returns the live watcher on a node.
fn live_watcher_on(stage: &dyn Stage, node: &str) -> Result<String> {
    let page = stage.read("/v1/watchers")?;
    let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let field = |w: &Value, key: &str| w.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let live = items.iter().find(|w| field(w, "node") == node && field(w, "life") == "live");
    live.map(|w| field(w, "id")).with_context(|| format!("no live watcher on {node}: {page}"))
}

/// Fails unless the first VM has all the watchers that it should have.
fn covers(stage: &dyn Stage) -> Result<()> {
    let vm = stage.read(&format!("/v1/vms/{VM_ONE}"))?;
    let gaps = vm.get("coverage").and_then(Value::as_array).cloned().unwrap_or_default();
    ensure!(gaps.is_empty(), "coverage: {gaps:?}");
    Ok(())
}

/// Waits until a freshly started cluster is well: VMs up and proven, covered by live watchers.
///
/// # Errors
/// Fails if it is not well in time.
pub(super) fn until_well(stage: &dyn Stage, vms: &[&str], limit: Duration) -> Result<Duration> {
    let well = || -> Result<()> {
        for vm in vms {
            let path = format!("/v1/vms/{vm}");
            stage.look(&path, WELL)?;
            let shown = stage.read(&path)?;
            let probes = shown.get("probes").and_then(Value::as_array).cloned().unwrap_or_default();
            for probe in &probes {
                ensure!(probe.get("proven") == Some(&Value::Bool(true)), "{vm}: not proven yet: {probe}");
            }
            ensure!(!probes.is_empty(), "{vm} has no probes");
        }
        covers(stage)
    };
    let (_, took) = wait::until_ok("the cluster is well", limit, well)?;
    Ok(took)
}
