//! Records what the detector proposes, the way the replicated state would.

use vouch_detector::{Event, OpenIncident, Proposal, Settlement};
use vouch_types::{Source, Verdict, WatcherLife};

use super::{NODES, STEP, SimWorld, Told, node, vm};

impl SimWorld {
    pub(super) fn record(&mut self, proposal: Proposal) {
        self.inventory.index = self.inventory.index.next();
        for (id, probe) in proposal.proven {
            self.proven.entry(id).or_default().push(probe);
        }
        for (id, pin) in proposal.pins {
            self.pins.entry(id).or_default().push(pin);
        }
        for change in proposal.verdicts {
            let i = (0..NODES).find(|i| vm(*i) == change.vm).unwrap();
            let known = &mut self.inventory.vms[i].verdict;
            assert_eq!(known.version, change.replaces, "a change names the version that it replaces");
            let faults = change.verdict.faults.iter().map(ToString::to_string).collect();
            self.told.push(Told::State { at: self.now, vm: i, from: known.state, to: change.verdict.state, faults });
            *known = Verdict { version: known.version.next(), ..change.verdict };
        }
        for change in proposal.paths {
            let i = (0..NODES).find(|i| node(*i) == change.node).unwrap();
            let known = &mut self.inventory.nodes[i].path;
            assert_eq!(known.version, change.replaces);
            let recovered = change.source == Source::Direct && change.faults.is_empty();
            let faults = change.faults.iter().map(|f| f.top().to_string()).collect();
            self.told.push(Told::Path { at: self.now, node: i, to: change.source, faults, recovered });
            known.source = change.source;
            known.faults = change.faults;
            known.version = known.version.next();
            known.hand_backs = change.hand_backs;
        }
        for change in proposal.boots {
            let entry = self.inventory.vms.iter_mut().find(|entry| entry.vm == change.vm).unwrap();
            assert_eq!(entry.generation, change.generation);
            entry.boot = change.boot;
        }
        for change in proposal.claims {
            let entry = self.inventory.vms.iter_mut().find(|entry| entry.vm == change.vm).unwrap();
            assert_eq!(entry.generation, change.generation);
            assert_ne!(entry.claimed_by, change.claimed_by, "it says something new");
            entry.claimed_by = change.claimed_by;
        }
        for change in proposal.incidents {
            let opened = change.word.is_some();
            self.inventory.incidents.retain(|i| i.scope != change.scope);
            self.told.push(Told::Incident { at: self.now, scope: change.scope.to_string(), opened });
            if let Some(word) = change.word {
                self.inventory.incidents.push(OpenIncident { scope: change.scope, word });
            }
        }
        for change in proposal.placements {
            let entry = self.inventory.vms.iter_mut().find(|entry| entry.vm == change.vm).unwrap();
            assert_eq!(entry.generation, change.replaces);
            entry.generation = entry.generation.next();
            entry.node = change.to;
            entry.claimed_by.clear();
        }
        for (gone, _) in proposal.withdrawn {
            self.inventory.nodes.iter_mut().filter(|n| n.node == gone).for_each(|n| n.fence = None);
        }
        if let Some(notes) = proposal.manager_notes {
            self.inventory.manager_notes = notes;
        }
        for (lost, _) in proposal.lost_watchers {
            self.told.push(Told::WatcherLost { at: self.now, watcher: lost });
            for w in &mut self.inventory.watchers {
                if w.watcher == lost {
                    w.life = WatcherLife::Lost;
                }
            }
        }
        for entry in &mut self.inventory.vms {
            entry.proven = self.proven.get(&entry.vm).cloned().unwrap_or_default();
            entry.pins = self.pins.get(&entry.vm).cloned().unwrap_or_default();
        }
        let (index, inventory) = (self.inventory.index, self.inventory.clone());
        // The inventory may be seen before or after the proposer hears of its success: both happen.
        let soon = self.now + STEP;
        self.pending.push((soon, Event::ProposalSettled(Settlement::Committed(index))));
        self.pending.push((soon, Event::InventoryChanged(inventory)));
    }
}
