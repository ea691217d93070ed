//! A node that an operator removed, as the cluster remembers it: so that its certificate is worth nothing.
//!
//! ```text
//! (recorded) --RemoveNode--> removed --a join token lets its name in--> let in again, with that one key
//!     ^                         ^                                          |              |
//!     |                         \--------------RemoveNode------------------/              |
//!     \-----------------------------------it is heard-------------------------------------/
//! ```
//!
//! A certificate holds a name, and a name may come back: it is the key that tells the old owner from the new one. What
//! is remembered is forgotten at the second rotation of the CA after it, when nobody trusts what the old owner has.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Advice, Digest, LogIndex, NodeId, Verdict, VmId, VmState, WallTime};

/// The most removed nodes that are remembered: beyond that none is removed, until the CA has been rotated twice.
pub const REMOVED_NODES_MAX: usize = 10_000;
/// The most VMs that a refused removal names; it counts them all.
pub const REMOVAL_VMS_NAMED: usize = 20;

/// What becomes of VMs that may run, when the node is removed that they are recorded on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmsLeft {
    /// The removal is refused.
    #[default]
    Refuse,
    /// They are forgotten. That proves nothing of them: whoever starts one elsewhere answers for it.
    Forget,
}

impl VmsLeft {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Forget => "forget",
        }
    }
}

/// Which CA signed the certificates that a removed node may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedBy {
    /// The one that signs now.
    #[default]
    Present,
    /// One that signs no more, since a rotation that may not have come to its end.
    Former,
}

/// A node that was removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RemovedNode {
    /// Its name.
    pub id: NodeId,
    /// Who removed it, as far as is known.
    pub by: String,
    /// When.
    pub at: WallTime,
    /// The log index of that.
    pub index: LogIndex,
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER) that a join token let in under this name since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<Digest>,
    /// Which CA signed what it had.
    #[serde(default)]
    pub signed_by: SignedBy,
}

impl RemovedNode {
    /// Returns whether one with this key may speak under the name.
    pub fn lets_in(&self, key: Option<&Digest>) -> bool {
        self.admitted.is_some() && self.admitted.as_ref() == key
    }

    /// Returns whether nobody may.
    pub const fn is_shut(&self) -> bool {
        self.admitted.is_none()
    }
}

impl fmt::Display for RemovedNode {
    /// What one reads who comes with a certificate of before: what happened, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, at, .. } = self;
        write!(
            f,
            "node {id} was removed from the cluster at {at}, and its certificate is worth nothing: join again (`vouch \
             token create --role node --name {id}`, then `vouch join` on the node with an empty --out folder)"
        )
    }
}

/// A VM that stands in the way of a removal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VmInTheWay {
    /// Which.
    pub id: VmId,
    /// What people call it.
    pub name: String,
    /// Its state, as recorded.
    pub state: VmState,
}

impl fmt::Display for VmInTheWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.state)
    }
}

/// Returns whether a VM ran nowhere when it was last judged: its end was seen or proved, and nobody answers for it.
pub fn is_gone(verdict: &Verdict) -> bool {
    let ended = match verdict.state {
        VmState::Stopped | VmState::Down => true,
        VmState::Up
        | VmState::Degraded
        | VmState::Paused
        | VmState::Hung
        | VmState::Rebooting
        | VmState::Lost
        | VmState::Conflict
        | VmState::Unknown => false,
    };
    ended && verdict.advice != Advice::Blocked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_that_a_token_let_in_since_may_speak() {
        let (old, new) = (Digest::new([1; 32]), Digest::new([2; 32]));
        let removed = RemovedNode {
            id: NodeId::new("n3").expect("a name"),
            by: "admin token of m1".to_owned(),
            at: WallTime::from_unix_millis(1_795_383_407_042),
            index: LogIndex::new(9),
            admitted: None,
            signed_by: SignedBy::Present,
        };
        assert!(removed.is_shut());
        assert!([None, Some(&old), Some(&new)].into_iter().all(|key| !removed.lets_in(key)));
        let again = RemovedNode { admitted: Some(new), ..removed };
        assert!(again.lets_in(Some(&new)) && !again.lets_in(Some(&old)) && !again.lets_in(None));
        let line = again.to_string();
        assert!(line.contains("n3") && line.contains("vouch join") && !line.contains('\n'), "{line}");
    }

    #[test]
    fn what_is_lost_or_may_run_somewhere_is_not_gone() {
        let of = |state, advice| is_gone(&Verdict { state, advice, ..Verdict::unjudged(WallTime::default()) });
        let generation = crate::Generation::new(1);
        assert!(of(VmState::Stopped, Advice::None) && of(VmState::Down, Advice::Restart { generation }));
        assert!(!of(VmState::Down, Advice::Blocked), "somebody answers for it");
        assert!(!of(VmState::Lost, Advice::FenceFirst { generation }));
        assert!(![VmState::Up, VmState::Unknown, VmState::Conflict].into_iter().any(|state| of(state, Advice::None)));
    }
}
