//! One file per command group: ask the API, print what it says.

pub mod backup;
pub mod cluster;
pub mod daemon;
pub mod debug;
pub mod event;
pub mod incident;
pub mod join;
pub mod maintenance;
pub mod node;
pub mod pki;
pub mod policy;
pub mod probe;
pub mod token;
pub mod trace;
pub mod vm;
pub mod watcher;

use vouch_manager::api::view::FaultView;

/// Returns faults in one cell.
fn faults(list: &[FaultView]) -> String {
    let words: Vec<String> = list.iter().map(|f| format!("{} {}", f.cause, f.detail).trim_end().to_owned()).collect();
    words.join(", ")
}

/// Returns the first digits of a UUID or digest: enough to tell two apart.
fn short(id: &str) -> String {
    id.chars().take(8).collect()
}
