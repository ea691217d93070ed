//! Plays a schedule against a cluster and records what was published and what was true.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::fault::Active;
use super::guest::SimVm;
use super::host::{NodeNo, VmNo};
use super::published::{Record, Recorder};
use super::schedule::{AFTER, Schedule};
use super::sim::{Sim, on_paused_clock};
use super::truth::{Truth, Truths};
use super::world::Size;

/// How often the truth moves on and the recorder looks.
const STEP: Duration = Duration::from_millis(10);

/// All that one run left behind; times are since the schedule's begin.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// What was played.
    pub schedule: Schedule,
    /// What was published.
    pub record: Record,
    /// What was true.
    pub truths: Truths,
    /// How long it went on.
    pub lasted: Duration,
    /// VMs that each fault of the schedule struck, as they stood when it began.
    pub struck: Vec<Vec<VmNo>>,
    /// Nodes that each fault of the schedule struck.
    pub struck_nodes: Vec<Vec<NodeNo>>,
}

/// Plays a schedule from a fresh cluster of this seed and size.
pub fn play(seed: u64, schedule: &Schedule, size: Size, after: Duration) -> Run {
    on_paused_clock(seed, async {
        let mut sim = Sim::start(seed, size).await;
        let run = play_on(&mut sim, seed, schedule, after).await;
        for manager in sim.managers.into_values() {
            manager.shutdown().await;
        }
        run
    })
}

/// Plays a schedule with the usual time after it.
pub fn play_whole(seed: u64, schedule: &Schedule) -> Run {
    play(seed, schedule, Size::default(), AFTER)
}

async fn play_on(sim: &mut Sim, seed: u64, schedule: &Schedule, after: Duration) -> Run {
    let mut recorder = Recorder::begin(sim);
    let mut truths = Truths::default();
    let mut seen = None;
    let mut active: Vec<(usize, Active)> = Vec::new();
    let mut waiting: Vec<usize> = (0..schedule.0.len()).collect();
    let (mut struck, mut struck_nodes) = (vec![Vec::new(); schedule.0.len()], vec![Vec::new(); schedule.0.len()]);
    let end = schedule.end() + after;
    while recorder.now() < end {
        for index in std::mem::take(&mut waiting) {
            let entry = schedule.0[index];
            if entry.start <= recorder.now() {
                struck[index] = entry.fault.vms(sim);
                struck_nodes[index] = entry.fault.nodes(sim);
                active.push((index, entry.fault.begin(sim, index as u64 + 1).await));
            } else {
                waiting.push(index);
            }
        }
        for (index, mut fault) in std::mem::take(&mut active) {
            fault.step(sim);
            if schedule.0[index].end() <= recorder.now() {
                fault.heal(sim);
            } else {
                active.push((index, fault));
            }
        }
        for node in sim.world.nodes.values() {
            let booted = node.read(|s| s.power && s.vms.values().any(SimVm::has_booted));
            if booted {
                node.change(|s| s.vms.values_mut().for_each(SimVm::boot_on));
            }
        }
        recorder.look(sim);
        let version = Some((sim.world.version(), recorder.record.published.len()));
        if seen != version {
            seen = version;
            truths.0.push((recorder.now(), Arc::new(Truth::now(sim))));
        }
        sleep(STEP).await;
    }
    let lasted = recorder.now();
    Run { seed, schedule: schedule.clone(), record: recorder.record, truths, lasted, struck, struck_nodes }
}
