//! Plays events to a detector, and holds what it says against what any of them proved.

use super::*;

/// What proves that a VM ended, as far as any event so far has said.
#[derive(Default)]
struct Proofs {
    /// VMs whose end a node reported or stated, whoever owns them.
    ended: BTreeSet<VmId>,
    /// Nodes that were ever recorded with a proof that they do not run.
    fenced: BTreeSet<NodeId>,
    /// Nodes with VMs that they were recorded to own.
    owned: BTreeSet<(NodeId, VmId)>,
}

fn ends(state: HypervisorState) -> bool {
    match state {
        HypervisorState::Gone(_) | HypervisorState::Panicked | HypervisorState::Stopped => true,
        HypervisorState::Running
        | HypervisorState::Paused(_)
        | HypervisorState::Rebooting
        | HypervisorState::Unknown => false,
    }
}

impl Proofs {
    fn take(&mut self, event: &Event) {
        match event {
            Event::NodeReported(report) => {
                self.ended.extend(report.vms.iter().filter(|word| ends(word.state)).map(|word| word.vm));
            }
            Event::StatementReceived { statement, .. } if ends(statement.state) => {
                self.ended.insert(statement.vm);
            }
            Event::InventoryChanged(inventory) => {
                self.fenced.extend(inventory.nodes.iter().filter(|n| n.fence.is_some()).map(|n| n.node.clone()));
                self.owned.extend(inventory.vms.iter().map(|vm| (vm.node.clone(), vm.vm)));
            }
            _ => {}
        }
    }

    fn has_ended(&self, vm: VmId) -> bool {
        self.ended.contains(&vm) || self.fenced.iter().any(|node| self.owned.contains(&(node.clone(), vm)))
    }
}

/// Plays events to a detector and returns all that it orders.
///
/// # Panics
/// When it calls a VM `down` of which nothing said that it ended (I1), or safe to start elsewhere of which nothing proved
/// that it does not run (I7).
pub fn play(events: &[(Moment, Event)]) -> Vec<Vec<Effect>> {
    let mut detector = Detector::new(ManagerId::new(1), Timing::default());
    let mut proofs = Proofs::default();
    let mut orders = Vec::with_capacity(events.len());
    for (now, event) in events {
        proofs.take(event);
        let effects = detector.handle(*now, event.clone());
        for effect in &effects {
            let Effect::Propose(proposal) = effect else { continue };
            for change in &proposal.verdicts {
                let proven = proofs.has_ended(change.vm);
                let verdict = &change.verdict;
                assert!(proven || verdict.state != VmState::Down, "I1: {} down without proof: {verdict:?}", change.vm);
                let safe = matches!(verdict.advice, Advice::SafeToRestart { .. });
                assert!(proven || !safe, "I7: {} safe without proof: {verdict:?}", change.vm);
            }
        }
        orders.push(effects);
    }
    // Whoever asks is answered, too.
    let now = events.last().map_or(Moment::ZERO, |(now, _)| *now);
    for n in 0..8 {
        let _ = detector.evidence(now, &VmId::new(Uuid::from_u128(n)));
    }
    let _ = detector.dropped();
    orders
}
