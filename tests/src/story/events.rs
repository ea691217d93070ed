//! The replicated events of a stretch of time: what "never" is asserted over.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::stage::Stage;

/// A place in the log of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub(super) String);

/// Events in their order, from behind a cursor on.
#[derive(Debug, Clone)]
pub struct Events(Vec<Value>);

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl Cursor {
    /// Returns the place behind the last event that is there now.
    ///
    /// # Errors
    /// Fails if no manager tells the events.
    pub fn now(stage: &dyn Stage) -> Result<Self> {
        let all = Events::after(stage, &Self("0.0".to_owned()))?;
        Ok(all.0.last().map_or_else(|| Self("0.0".to_owned()), |event| Self(text(event, "id").to_owned())))
    }
}

impl Events {
    /// Reads all events behind a cursor.
    ///
    /// # Errors
    /// Fails if no manager tells the events.
    pub fn after(stage: &dyn Stage, cursor: &Cursor) -> Result<Self> {
        let (mut at, mut all) = (cursor.0.clone(), Vec::new());
        loop {
            let page = stage.read(&format!("/v1/events?format=json&limit=1000&after={at}"))?;
            let items = page.get("items").and_then(Value::as_array).context("a page of events has items")?;
            all.extend(items.iter().cloned());
            match page.get("next").and_then(Value::as_str) {
                Some(next) if !items.is_empty() => at = next.to_owned(),
                _ => return Ok(Self(all)),
            }
        }
    }

    /// Returns how many events of this kind are about this node.
    pub fn count(&self, kind: &str, node: &str) -> usize {
        self.0.iter().filter(|e| text(e, "kind") == kind && text(e, "node") == node).count()
    }

    /// Returns when each recovery of this node was told, in milliseconds since the Unix epoch.
    pub(super) fn recoveries(&self, node: &str) -> Vec<u64> {
        let of_node = self.0.iter().filter(|e| text(e, "kind") == "path_recovered" && text(e, "node") == node);
        of_node.filter_map(|e| e.pointer("/at/unix_ms").and_then(Value::as_u64)).collect()
    }

    /// Returns how many events of this kind there are.
    pub fn of_kind(&self, kind: &str) -> usize {
        self.0.iter().filter(|e| text(e, "kind") == kind).count()
    }

    /// Returns the texts of those events that somebody is woken by.
    pub fn notifications(&self) -> Vec<String> {
        let notified = self.0.iter().filter(|e| e.get("notify") == Some(&Value::Bool(true)));
        notified.map(|e| text(e, "text").to_owned()).collect()
    }

    /// Returns those events that are about this VM, by its UUID.
    #[must_use]
    pub fn of_vm(&self, vm: &str) -> Self {
        Self(self.0.iter().filter(|e| text(e, "vm") == vm).cloned().collect())
    }

    /// Returns the VMs whose state changed, once per change.
    pub fn changed_vms(&self) -> Vec<String> {
        self.0.iter().filter(|e| text(e, "kind") == "vm_state_changed").map(|e| text(e, "vm").to_owned()).collect()
    }

    /// Fails if any VM was ever said to be in one of these states.
    ///
    /// # Errors
    /// Names the event.
    pub fn never(&self, states: &[&str]) -> Result<()> {
        for event in self.0.iter().filter(|e| text(e, "kind") == "vm_state_changed") {
            let to = event.pointer("/detail/to").and_then(Value::as_str).context("a change of state has a target")?;
            ensure!(!states.contains(&to), "a vm was said to be {to}: {event}");
        }
        Ok(())
    }

    /// Fails unless there is exactly one recovery of this node, and nothing but what led to it.
    ///
    /// # Errors
    /// Shows all events.
    pub fn one_recovery(&self, node: &str) -> Result<()> {
        let count = self.count("path_recovered", node);
        ensure!(count == 1, "{count} recoveries of {node} instead of 1:\n{}", self.lines());
        Ok(())
    }

    /// Returns a line per event, for people.
    pub fn lines(&self) -> String {
        let at = |e: &Value| e.pointer("/at/rfc3339").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.0.iter().map(|e| format!("  {} {} {}\n", text(e, "id"), at(e), text(e, "text"))).collect()
    }

    /// Fails if an event stands twice, or out of order.
    ///
    /// # Errors
    /// Names the event.
    pub fn in_order(&self) -> Result<()> {
        let position = |e: &Value| {
            let number = |key| e.get(key).and_then(Value::as_u64).unwrap_or_default();
            (number("index"), number("ordinal"))
        };
        for pair in self.0.windows(2) {
            ensure!(position(&pair[0]) < position(&pair[1]), "events out of order: {} then {}", pair[0], pair[1]);
        }
        Ok(())
    }
}
