//! What is remembered of managers beside the membership: which log each one has, and who is on its way back.
//!
//! The first name that is recorded of a manager stands until the manager is removed from the members: one that comes with
//! another name has lost its log. Removal forgets the name, so that whoever is added under that id begins anew.

use std::collections::BTreeSet;

use vouch_types::{
    DenyReason, EventKind, LogIndex, LogName, ManagerId, ManagerRecord, ManagerReturn, RecordedLog, ReturnEnd, WallTime,
};

use super::State;
use super::apply::{Outcome, Step};
use crate::store::Changes;

impl State {
    /// Returns what is remembered of managers, by id.
    pub fn manager_records(&self) -> &[ManagerRecord] {
        &self.head.managers
    }

    /// Returns what is remembered of a manager.
    pub fn manager_record(&self, manager: ManagerId) -> Option<&ManagerRecord> {
        self.head.managers.iter().find(|record| record.id == manager)
    }

    /// Returns the log that is recorded of a manager.
    pub fn recorded_log(&self, manager: ManagerId) -> Option<RecordedLog> {
        self.manager_record(manager)?.log
    }

    /// Takes in who the members are from here on: the names of all others are forgotten.
    pub fn apply_members(&mut self, index: LogIndex, members: &BTreeSet<ManagerId>) -> Changes {
        let mut changes = Changes::default();
        for record in self.head.managers.iter_mut().filter(|record| !members.contains(&record.id)) {
            changes.head |= record.log.take().is_some();
        }
        self.drop_empty_records();
        self.mark(index, &changes);
        changes
    }

    /// Forgets all managers: those of a new cluster have other logs.
    pub fn forget_managers(&mut self) {
        self.head.managers.clear();
    }

    pub(super) fn record_manager_log(&mut self, step: &mut Step, manager: ManagerId, name: LogName) -> Outcome {
        match self.recorded_log(manager) {
            Some(recorded) if recorded.name == name => {}
            Some(recorded) => {
                return Err(DenyReason::OtherLog { manager, recorded: recorded.name, told: name });
            }
            None => {
                self.record_of(manager).log = Some(RecordedLog { name, index: step.index });
                step.changes.head = true;
            }
        }
        step.done()
    }

    pub(super) fn begin_manager_return(
        &mut self,
        step: &mut Step,
        manager: ManagerId,
        returning: ManagerReturn,
        at: WallTime,
    ) -> Outcome {
        let record = self.record_of(manager);
        // What it had is what it had at first, and not what it has on its way.
        if record.returning.is_none() {
            record.returning = Some(returning);
            step.changes.head = true;
            step.event(at, EventKind::ManagerLogLost { manager });
        }
        step.done()
    }

    pub(super) fn end_manager_return(
        &mut self,
        step: &mut Step,
        manager: ManagerId,
        end: ReturnEnd,
        at: WallTime,
    ) -> Outcome {
        let record = self.head.managers.iter_mut().find(|record| record.id == manager);
        if record.is_some_and(|record| record.returning.take().is_some()) {
            self.drop_empty_records();
            step.changes.head = true;
            step.event(at, EventKind::ManagerReturnEnded { manager, end });
        }
        step.done()
    }

    fn record_of(&mut self, manager: ManagerId) -> &mut ManagerRecord {
        let managers = &mut self.head.managers;
        let at = managers.binary_search_by_key(&manager, |record| record.id).unwrap_or_else(|at| {
            managers.insert(at, ManagerRecord { id: manager, log: None, returning: None });
            at
        });
        &mut managers[at]
    }

    fn drop_empty_records(&mut self) {
        self.head.managers.retain(|record| record.log.is_some() || record.returning.is_some());
    }
}
