//! What vouch says of a VM.

use serde::{Deserialize, Serialize};

use crate::{Advice, Digest, Fault, VerdictVersion, VmState, WallTime};

/// The replicated judgement on one VM.
///
/// Its source and the faults that it shares with its node are not stored here: they are the
/// [`NodePath`](crate::NodePath) of its node, so that a cut path is one change and not one per VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The state.
    pub state: VmState,
    /// Faults of this VM alone.
    pub faults: Vec<Fault>,
    /// Things worth knowing that change nothing, such as a silent guest agent.
    pub notes: Vec<Fault>,
    /// What may be done.
    pub advice: Advice,
    /// Why nothing is said against it now: an operation, or maintenance; empty when nothing suppresses.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suppressed: String,
    /// Why, in one sentence for people; at most 256 bytes.
    pub reason: String,
    /// SHA-256 over the evidence that it rests on.
    pub evidence: Digest,
    /// Raised by every recorded change; a change names the version that it replaces.
    pub version: VerdictVersion,
    /// Since when the state is this one, as the proposing leader's wall clock said.
    pub since: WallTime,
}

impl Verdict {
    /// Returns the verdict on a VM that nobody has judged.
    pub fn unjudged(since: WallTime) -> Self {
        Self {
            state: VmState::Unknown,
            faults: Vec::new(),
            notes: Vec::new(),
            advice: Advice::None,
            suppressed: String::new(),
            reason: "not yet judged".to_owned(),
            evidence: Digest::new([0; 32]),
            version: VerdictVersion::default(),
            since,
        }
    }
}
