//! The most of everything that a message may hold. A message over a limit is refused whole.

pub use vouch_types::findings::{FACTS_MAX, FINDING_TEXT_MAX, PHASES_MAX, SAMPLES_MAX};
pub use vouch_types::grant::GRANT_VMS_MAX;
pub use vouch_types::observation::{MESSAGE_MAX, REASON_MAX};
pub use vouch_types::probe_grant::GRANT_PORTS_MAX;
pub use vouch_types::vm::{ADDRESSES_MAX, PROBES_PER_VM_MAX, SETTINGS_MAX};

/// Days of [`AGE_MAX`].
pub const AGE_MAX_DAYS: u64 = 366;
/// The longest age or time that a report may tell: no agent and no watcher lives for longer without being renewed.
pub const AGE_MAX: std::time::Duration = std::time::Duration::from_secs(AGE_MAX_DAYS * 24 * 3600);
/// VMs in one report of a node, and in the ownership that it is told.
pub const VMS_PER_REPORT_MAX: usize = 10_000;
/// Watcher VMs in one report of a node.
pub const WATCHERS_PER_REPORT_MAX: usize = 1_000;
/// Observations in one report or answer of a watcher.
pub const OBSERVATIONS_PER_REPORT_MAX: usize = 5_000;
/// Findings in one answer of a watcher: twice as many as one VM can have probes.
pub const FINDINGS_PER_ANSWER_MAX: usize = 2 * PROBES_PER_VM_MAX;
/// Bytes of all of these together (`Findings::bytes`).
pub const FINDINGS_BYTES_MAX: usize = 128 * 1024;
/// Relay observations in one report or answer of a watcher.
pub const RELAYS_PER_REPORT_MAX: usize = 1_000;
/// Signed statements in one answer.
pub const STATEMENTS_PER_ANSWER_MAX: usize = 5_000;
/// Targets in one assignment of a watcher.
pub const TARGETS_PER_ASSIGNMENT_MAX: usize = 1_000;
/// Relays in one assignment of a watcher.
pub const RELAYS_PER_ASSIGNMENT_MAX: usize = 1_000;
/// Probe components in one assignment of a watcher.
pub const PROBES_PER_ASSIGNMENT_MAX: usize = 256;
/// Peers in one assignment of a watcher; more than are given now, so that a later manager may give more.
pub const PEERS_PER_ASSIGNMENT_MAX: usize = 16;
/// Words on peers in one watcher's health: one per peer and network.
pub const PEER_REACHES_MAX: usize = 2 * PEERS_PER_ASSIGNMENT_MAX;
/// Histograms of durations that a watcher tells: one per probe, network and node of its VMs.
pub const DURATION_HISTOGRAMS_MAX: usize = 512;
/// What one of them has counted, in checks and in microseconds: 35 years of looking, and exact as a floating-point number.
pub const DURATIONS_COUNTED_MAX: u64 = 1 << 50;
/// Interfaces in the grant of one probe: more than there are, for those of later versions.
pub const GRANT_INTERFACES_MAX: usize = 32;
/// Managers that a watcher is told of.
pub const MANAGERS_MAX: usize = 16;
/// Labels of one VM.
pub const LABELS_MAX: usize = 64;
/// Bytes of one label's key or value.
pub const LABEL_TEXT_MAX: usize = 256;
/// Bytes of a VM's name, and of the name of a rack, driver or datastore.
pub const NAME_TEXT_MAX: usize = 256;
/// Bytes of a PEM certificate.
pub const CERTIFICATE_MAX: usize = 16_384;
/// Bytes of a one-time secret.
pub const SECRET_LEN: usize = 32;
