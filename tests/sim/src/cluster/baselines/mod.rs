//! How usual systems would judge the same faults: pure models, fed by the truth of the same network, nodes and VMs.
//!
//! Each says what it would publish of every VM; that is scored like what vouch publishes. They know no watchers, advice
//! or incidents. A fault lasts [`LASTS`] for them, so that the slowest timeout can run out.

mod host_matrix;
mod node_word;
mod swim;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vouch_types::{Advice, Cause, EventKind, EventRecord, Fault, LogIndex, Source, VmState, WallTime};

use super::fault::Active;
use super::host::{NodeNo, VmNo};
use super::play::Run;
use super::published::{Published, Record, Said, Told, VmSaid};
use super::schedule::Schedule;
use super::sim::{Sim, on_paused_clock};
use super::truth::{Truth, Truths};
use super::world::Size;

pub use host_matrix::HostMatrix;
pub use node_word::NodeWord;
pub use swim::Swim;

/// How long a fault lasts for a baseline.
pub const LASTS: Duration = Duration::from_secs(90);
/// How long all is well before the schedule begins: every baseline has heard everybody by then.
const SETTLED: Duration = Duration::from_secs(15);
/// How often a baseline is stepped.
const STEP: Duration = Duration::from_millis(100);

/// What a baseline says of one VM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// Its state.
    pub state: VmState,
    /// What it holds to be broken.
    pub cause: Option<Cause>,
}

impl Word {
    /// Returns the word on a VM that nothing is said against.
    pub const fn up() -> Self {
        Self { state: VmState::Up, cause: None }
    }
}

/// A usual system.
pub trait Baseline {
    /// Time passed: it looks at what it can see of the truth.
    fn step(&mut self, sim: &Sim, now: Duration);

    /// Returns what it says of a VM on a node.
    fn says(&self, sim: &Sim, vm: VmNo, home: NodeNo) -> Word;
}

/// Which baseline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Which {
    /// The node's word alone.
    NodeWord,
    /// A matrix of host checks over two networks.
    HostMatrix,
    /// SWIM with three indirect probers.
    Swim,
}

impl Which {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NodeWord, Self::HostMatrix, Self::Swim];

    /// Returns its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeWord => "node's word, 60 s",
            Self::HostMatrix => "host matrix",
            Self::Swim => "SWIM",
        }
    }

    fn start(self, seed: u64, size: Size) -> Box<dyn Baseline> {
        match self {
            Self::NodeWord => Box::new(NodeWord::new(size)),
            Self::HostMatrix => Box::new(HostMatrix::new(size)),
            Self::Swim => Box::new(Swim::new(seed, size)),
        }
    }
}

/// Plays a schedule of one fault before a baseline.
pub fn play(which: Which, seed: u64, schedule: &Schedule, after: Duration) -> Run {
    let size = Size::default();
    let mut schedule = schedule.clone();
    schedule.0.iter_mut().for_each(|entry| entry.lasts = entry.lasts.max(LASTS));
    on_paused_clock(seed, async move {
        let mut sim = Sim::models_only(seed, size);
        let mut baseline = which.start(seed, size);
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < SETTLED {
            baseline.step(&sim, begun.elapsed());
            tokio::time::sleep(STEP).await;
        }
        let mut record = Record::default();
        let mut truths = Truths::default();
        let mut active: Vec<(usize, Active)> = Vec::new();
        let mut waiting: Vec<usize> = (0..schedule.0.len()).collect();
        let (mut struck, mut struck_nodes) = (vec![Vec::new(); schedule.0.len()], vec![Vec::new(); schedule.0.len()]);
        let mut last: BTreeMap<VmNo, Word> = BTreeMap::new();
        let end = schedule.end() + after;
        let now = || begun.elapsed() - SETTLED;
        while now() < end {
            for index in std::mem::take(&mut waiting) {
                let entry = schedule.0[index];
                if entry.start <= now() {
                    struck[index] = entry.fault.vms(&sim);
                    struck_nodes[index] = entry.fault.nodes(&sim);
                    active.push((index, entry.fault.begin(&mut sim, index as u64 + 1).await));
                } else {
                    waiting.push(index);
                }
            }
            for (index, mut fault) in std::mem::take(&mut active) {
                fault.step(&sim);
                if schedule.0[index].end() <= now() { fault.heal(&sim) } else { active.push((index, fault)) }
            }
            baseline.step(&sim, begun.elapsed());
            truths.0.push((now(), Arc::new(Truth::now(&sim))));
            publish(&mut record, &mut last, &sim, &*baseline, now());
            tokio::time::sleep(STEP).await;
        }
        Run { seed, lasted: now(), schedule, record, truths, struck, struck_nodes }
    })
}

fn publish(record: &mut Record, last: &mut BTreeMap<VmNo, Word>, sim: &Sim, baseline: &dyn Baseline, at: Duration) {
    let mut said = Said::default();
    for vm in (1..=sim.world.size.vms()).map(VmNo) {
        let Some(home) = sim.world.home(vm) else { continue };
        let word = baseline.says(sim, vm, home);
        let faults: Vec<Fault> = word.cause.iter().cloned().map(Fault::sure).collect();
        let before = last.insert(vm, word.clone()).unwrap_or_else(Word::up);
        if before.state != word.state {
            let kind = EventKind::VmStateChanged {
                vm: vm.id(),
                from: before.state,
                to: word.state,
                faults: faults.clone(),
                advice: Advice::None,
                reason: String::new(),
                shared: None,
                cleared: Vec::new(),
            };
            let (index, ordinal) = (LogIndex::new(record.events.len() as u64 + 1), 0);
            record.events.push(Told { at, event: EventRecord { index, ordinal, at: WallTime::default(), kind } });
        }
        let (state, source, notes) = (word.state, Source::Direct, Vec::new());
        let (advice, suppressed, node) = (Advice::None, String::new(), home.id());
        said.vms.insert(vm, VmSaid { node, state, source, faults, notes, advice, suppressed });
    }
    if record.published.last().is_none_or(|p| *p.said != said) {
        record.published.push(Published { at, said: Arc::new(said) });
    }
}
