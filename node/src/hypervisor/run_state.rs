//! What QEMU's words mean: the run state of `query-status`, and the operations of `query-migrate` and `query-jobs`
//! (QEMU QMP reference: run-state.json, migration.json, job.json). Pure.
//!
//! A word that is not known must never become proof of anything: the vCPUs of an unknown run state do not execute,
//! because there is only one in which they do, and that is all.

use serde_json::Value;
use vouch_types::{HypervisorState, Operation, PauseReason};

/// Returns what the `status` of `query-status` means (RunState).
///
/// `internal-error` is told as a panic: QEMU (runstate_needs_reset) refuses to let such a machine go on before a reset,
/// so it is proved that the guest is over while its process stands, and the way out is the same. `debug` is an operator
/// with a debugger.
pub(crate) fn run_state(status: &str) -> HypervisorState {
    match status {
        "running" => HypervisorState::Running,
        "paused" | "debug" => HypervisorState::Paused(PauseReason::Operator),
        "io-error" => HypervisorState::Paused(PauseReason::IoError),
        "inmigrate" | "finish-migrate" | "postmigrate" | "colo" => HypervisorState::Paused(PauseReason::Migration),
        "guest-panicked" | "internal-error" => HypervisorState::Panicked,
        "shutdown" => HypervisorState::Stopped,
        // `prelaunch` (not started yet), `suspended` (ACPI S3), `watchdog`, `save-vm`, `restore-vm`, and what is not known.
        _ => HypervisorState::Paused(PauseReason::Other),
    }
}

/// Returns the operation that is under way, by the answers of `query-status`, `query-migrate` and `query-jobs`.
///
/// A migration that cannot end by itself (COLO) and a mirror that has caught up and waits (`ready`) are a state of the
/// machine and no operation: they would excuse its silence for ever.
pub(crate) fn operation(status: &str, migration: &Value, jobs: &Value) -> Option<Operation> {
    let migrates = matches!(status, "inmigrate" | "finish-migrate")
        || matches!(
            migration.get("status").and_then(Value::as_str),
            Some(
                "setup"
                    | "active"
                    | "pre-switchover"
                    | "device"
                    | "wait-unplug"
                    | "postcopy-device"
                    | "postcopy-active"
                    | "postcopy-paused"
                    | "postcopy-recover-setup"
                    | "postcopy-recover"
                    | "cancelling"
            )
        );
    let snapshots = matches!(status, "save-vm" | "restore-vm")
        || jobs.as_array().map(Vec::as_slice).unwrap_or_default().iter().any(is_snapshot);
    match (migrates, snapshots) {
        (true, _) => Some(Operation::Migration),
        (false, true) => Some(Operation::Snapshot),
        (false, false) => None,
    }
}

/// Returns whether a job copies disk or memory and is at work (JobType, JobStatus).
fn is_snapshot(job: &Value) -> bool {
    let word = |key: &str| job.get(key).and_then(Value::as_str).unwrap_or_default();
    let copies = matches!(
        word("type"),
        "backup" | "mirror" | "commit" | "stream" | "snapshot-save" | "snapshot-load" | "snapshot-delete"
    );
    copies && matches!(word("status"), "running" | "waiting" | "pending" | "aborting")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pause_is_told_by_its_reason() {
        for (status, expected) in [
            ("paused", PauseReason::Operator),
            ("debug", PauseReason::Operator),
            ("io-error", PauseReason::IoError),
            ("inmigrate", PauseReason::Migration),
            ("finish-migrate", PauseReason::Migration),
            ("postmigrate", PauseReason::Migration),
            ("colo", PauseReason::Migration),
            ("prelaunch", PauseReason::Other),
            ("save-vm", PauseReason::Other),
            ("suspended", PauseReason::Other),
            ("watchdog", PauseReason::Other),
            ("a-run-state-of-a-later-qemu", PauseReason::Other),
            ("", PauseReason::Other),
        ] {
            assert_eq!(run_state(status), HypervisorState::Paused(expected), "{status}");
        }
    }

    #[test]
    fn a_machine_that_cannot_go_on_without_a_reset_is_told_as_panicked() {
        assert_eq!(run_state("guest-panicked"), HypervisorState::Panicked);
        assert_eq!(run_state("internal-error"), HypervisorState::Panicked);
    }

    #[test]
    fn an_operation_is_under_way_only_while_it_works() {
        let migration = |status: &str| operation("running", &json!({ "status": status }), &json!([]));
        for status in ["setup", "active", "postcopy-active", "postcopy-paused", "device", "cancelling"] {
            assert_eq!(migration(status), Some(Operation::Migration), "{status}");
        }
        for status in ["none", "completed", "failed", "cancelled", "colo", ""] {
            assert_eq!(migration(status), None, "{status}");
        }
        let job = |kind: &str, status: &str| {
            operation("running", &json!({}), &json!([{ "id": "j", "type": kind, "status": status }]))
        };
        assert_eq!(job("backup", "running"), Some(Operation::Snapshot));
        assert_eq!(job("snapshot-save", "running"), Some(Operation::Snapshot));
        assert_eq!(job("mirror", "ready"), None, "a mirror that waits would excuse silence for ever");
        assert_eq!(job("backup", "concluded"), None);
        assert_eq!(job("create", "running"), None, "an image is made for nobody's guest");
        assert_eq!(operation("save-vm", &json!({}), &json!([])), Some(Operation::Snapshot));
        assert_eq!(operation("finish-migrate", &json!({}), &json!([])), Some(Operation::Migration));
        assert_eq!(operation("postmigrate", &json!({ "status": "completed" }), &json!([])), None);
        assert_eq!(operation("running", &Value::Null, &Value::Null), None, "an old QEMU answers with an error");
    }
}
