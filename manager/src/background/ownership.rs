//! Tells nodes which VMs they own, with the placement generations that their words have to name.

use std::collections::BTreeMap;

use async_trait::async_trait;
use vouch_types::{Generation, NodeId, Term, VmId};
use vouch_wire::{convert, proto};

use super::{Desk, Reconciler, ReconcilerReport, RoundError};
use crate::fleet::Route;

/// The reconciler; see the module's head.
#[derive(Default)]
pub(super) struct OwnershipReconciler {
    told: BTreeMap<NodeId, (Route, Vec<(VmId, Generation)>)>,
}

#[async_trait]
impl Reconciler for OwnershipReconciler {
    fn name(&self) -> &'static str {
        "ownership"
    }

    fn reset(&mut self) {
        self.told.clear();
    }

    async fn round(&mut self, desk: &Desk, term: Term) -> Result<ReconcilerReport, RoundError> {
        let owned: BTreeMap<NodeId, Vec<(VmId, Generation)>> = desk.consensus.read_state(|state| {
            let mut owned: BTreeMap<_, Vec<_>> = state.nodes().keys().map(|n| (n.clone(), Vec::new())).collect();
            for (id, vm) in state.vms() {
                owned.entry(vm.node.clone()).or_default().push((*id, vm.generation));
            }
            owned
        });
        let mut pending = 0;
        for (node, vms) in owned {
            let Some(route) = desk.fleet.node_route(&node) else {
                self.told.remove(&node);
                pending += 1;
                continue;
            };
            let news = (route, vms);
            if self.told.get(&node) == Some(&news) {
                continue;
            }
            let vms = news
                .1
                .iter()
                .map(|(vm, generation)| proto::OwnedVm { vm: convert::vm_bytes(*vm), generation: generation.get() });
            let ownership = proto::Ownership { fence: Some(desk.fence(term).into()), vms: vms.collect() };
            if desk.fleet.send_to_node(&node, proto::to_node::Message::Ownership(ownership)) {
                self.told.insert(node, news);
            } else {
                pending += 1;
            }
        }
        Ok(ReconcilerReport { pending, problem: None })
    }
}
