//! The documents that are told and drawn: fixed ones.

use std::collections::BTreeMap;

use vouch_manager::api::view::{
    AdviceView, CauseView, EvidenceView, FaultView, NodeWordView, ObservationView, RelayView, StatementView, TimeView,
    VmView, VmWatcherView,
};
use vouch_types::WallTime;

pub(super) fn at(ms: u64) -> TimeView {
    WallTime::from_unix_millis(1_795_383_407_042 + ms).into()
}

pub(super) fn fault(cause: &str, detail: &str) -> FaultView {
    FaultView {
        cause: cause.to_owned(),
        detail: detail.to_owned(),
        causes: vec![CauseView { cause: cause.to_owned(), score: 100 }],
    }
}

pub(super) fn watcher(id: &str, node: &str, same_node: bool) -> VmWatcherView {
    VmWatcherView { id: id.to_owned(), node: node.to_owned(), life: "live".to_owned(), same_node }
}

/// Returns a VM that is up by its node's word.
pub(super) fn healthy() -> VmView {
    VmView {
        id: "6f1c2a9e-0000-4000-8000-000000000001".to_owned(),
        name: "desk-1".to_owned(),
        node: "n1".to_owned(),
        generation: 1,
        state: "up".to_owned(),
        since: at(0),
        source: "direct".to_owned(),
        source_since: at(0),
        faults: Vec::new(),
        shared_faults: 0,
        notes: Vec::new(),
        advice: AdviceView {
            proof_index: None,
            valid_for_ms: None,
            action: "none".to_owned(),
            generation: None,
            proof: None,
        },
        reason: "its node says that it runs".to_owned(),
        evidence: "ab".repeat(32),
        version: 1,
        watchers: vec![watcher("w1", "n1", true), watcher("w2", "n2", false)],
        coverage: Vec::new(),
        addresses: BTreeMap::new(),
        probes: Vec::new(),
        labels: BTreeMap::new(),
        datastore: None,
        suppressed: String::new(),
        incidents: Vec::new(),
        pins: Vec::new(),
    }
}

pub(super) fn evidence() -> EvidenceView {
    let word = |age_ms, fresh| NodeWordView {
        manager: "m1".to_owned(),
        node: "n1".to_owned(),
        state: "running".to_owned(),
        generation: 1,
        age_ms,
        fresh,
    };
    let relay = |watcher: &str, node: &str, same_node, outcome: &str| RelayView {
        watcher: watcher.to_owned(),
        watcher_node: node.to_owned(),
        same_node,
        node: "n1".to_owned(),
        outcome: outcome.to_owned(),
        age_ms: 140,
        fresh: true,
    };
    let observation = |watcher: &str, node: &str, same_node, outcome: &str, proven| ObservationView {
        watcher: watcher.to_owned(),
        watcher_node: node.to_owned(),
        same_node,
        network: "service".to_owned(),
        probe: "rdp".to_owned(),
        outcome: outcome.to_owned(),
        reason: "closed".to_owned(),
        message: "port 3389 refuses".to_owned(),
        age_ms: 250,
        fresh: true,
        healthy: true,
        proven,
    };
    EvidenceView {
        vm: "6f1c2a9e-0000-4000-8000-000000000001".to_owned(),
        manager: "m1".to_owned(),
        leads: true,
        live: true,
        digest: "ab".repeat(32),
        explanation: vec!["the node's own word is not heard: watchers speak for it".to_owned()],
        node_words: vec![word(2_300, false)],
        statements: vec![StatementView {
            watcher: "w1".to_owned(),
            node: "n1".to_owned(),
            state: "running".to_owned(),
            generation: 1,
            age_ms: 140,
            fresh: true,
        }],
        observations: vec![observation("w1", "n1", true, "down", true), observation("w2", "n2", false, "down", false)],
        relays: vec![relay("w1", "n1", true, "reached"), relay("w2", "n2", false, "silent")],
        ..EvidenceView::default()
    }
}
