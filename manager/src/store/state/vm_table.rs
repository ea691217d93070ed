//! The VMs by id, and which of them each node owns.
//!
//! A node's report touches its own VMs alone, however many there are: without the second order every report would walk
//! through all of them. It is made of the records, never stored, and must never disagree with them: a record's node
//! changes by [`VmTable::move_to`] and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vouch_types::{Generation, NodeId, VmId, VmRecord};

/// The VMs by id, and which of them each node owns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::store) struct VmTable {
    records: BTreeMap<VmId, Arc<VmRecord>>,
    owned: BTreeMap<NodeId, BTreeSet<VmId>>,
}

impl VmTable {
    /// Returns all of them by id.
    pub(in crate::store) fn all(&self) -> &BTreeMap<VmId, Arc<VmRecord>> {
        &self.records
    }

    pub(in crate::store) fn get(&self, id: &VmId) -> Option<&Arc<VmRecord>> {
        self.records.get(id)
    }

    /// Returns a record to change anything of but its node.
    pub(super) fn get_mut(&mut self, id: &VmId) -> Option<&mut Arc<VmRecord>> {
        self.records.get_mut(id)
    }

    /// Returns those that a node owns, by id.
    pub(super) fn of<'a>(&'a self, node: &NodeId) -> impl Iterator<Item = (&'a VmId, &'a Arc<VmRecord>)> + use<'a> {
        self.owned.get(node).into_iter().flatten().filter_map(|id| self.records.get_key_value(id))
    }

    /// Takes in a record, in place of one of the same id.
    pub(in crate::store) fn insert(&mut self, record: Arc<VmRecord>) {
        let (id, node) = (record.spec.id, record.node.clone());
        self.remove(&id);
        self.owned.entry(node).or_default().insert(id);
        self.records.insert(id, record);
    }

    pub(super) fn remove(&mut self, id: &VmId) {
        if let Some(record) = self.records.remove(id) {
            self.disown(&record.node, id);
        }
    }

    /// Gives a VM to another node, in a new generation; returns the node that it leaves, unless it is unknown.
    pub(super) fn move_to(&mut self, id: &VmId, to: NodeId, generation: Generation) -> Option<NodeId> {
        let record = Arc::make_mut(self.records.get_mut(id)?);
        let from = std::mem::replace(&mut record.node, to.clone());
        record.generation = generation;
        self.disown(&from, id);
        self.owned.entry(to).or_default().insert(*id);
        Some(from)
    }

    fn disown(&mut self, node: &NodeId, id: &VmId) {
        if let Some(owned) = self.owned.get_mut(node) {
            owned.remove(id);
            if owned.is_empty() {
                self.owned.remove(node);
            }
        }
    }
}

impl FromIterator<Arc<VmRecord>> for VmTable {
    fn from_iter<T: IntoIterator<Item = Arc<VmRecord>>>(records: T) -> Self {
        let mut table = Self::default();
        records.into_iter().for_each(|record| table.insert(record));
        table
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::{LogIndex, SortedMap, Verdict, VmSpec, WallTime};

    use super::*;

    fn vm(number: u128, node: &str) -> Arc<VmRecord> {
        let id = VmId::new(uuid::Uuid::from_u128(number));
        let spec = VmSpec {
            id,
            name: id.to_string(),
            addresses: SortedMap::new(),
            probes: Vec::new(),
            labels: SortedMap::new(),
            datastore: None,
        };
        Arc::new(VmRecord {
            spec,
            node: NodeId::new(node).unwrap(),
            generation: Generation::new(1),
            verdict: Verdict::unjudged(WallTime::default()),
            proven: Vec::new(),
            pins: Vec::new(),
            boot: None,
            claimed_by: Vec::new(),
            modified: LogIndex::default(),
        })
    }

    #[test]
    fn what_a_node_owns_follows_every_change_of_the_records() {
        let (n1, n2) = (NodeId::new("n1").unwrap(), NodeId::new("n2").unwrap());
        let owned =
            |table: &VmTable, node: &NodeId| table.of(node).map(|(id, _)| id.get().as_u128()).collect::<Vec<_>>();
        let mut table: VmTable = [vm(2, "n1"), vm(1, "n1"), vm(3, "n2")].into_iter().collect();
        assert_eq!((owned(&table, &n1), owned(&table, &n2)), (vec![1, 2], vec![3]));

        let id = vm(2, "n1").spec.id;
        assert_eq!(table.move_to(&id, n2.clone(), Generation::new(9)), Some(n1.clone()));
        assert_eq!((owned(&table, &n1), owned(&table, &n2)), (vec![1], vec![2, 3]));
        assert_eq!(table.get(&id).unwrap().generation, Generation::new(9));

        table.insert(vm(3, "n1"));
        table.remove(&id);
        table.remove(&id);
        assert_eq!((owned(&table, &n1), owned(&table, &n2)), (vec![1, 3], vec![]));
        assert_eq!(table, [vm(3, "n1"), vm(1, "n1")].into_iter().collect(), "whatever happened before");
        assert_eq!(table.move_to(&id, n2, Generation::new(9)), None);
    }
}
