//! Whether a node that opens a stream may speak: one that was removed may not, whatever its certificate says, until a
//! join token has let its name in with another key.
//!
//! That a node was removed is its last word here, after which it ends. So this manager does not say so alone: it may
//! lag behind, and the node have joined again meanwhile.

use vouch_types::{Digest, NodeId};
use vouch_wire::links::{Caller, LinkError};
use vouch_wire::proto;

use crate::enroll::unreachable;
use crate::manager::ManagerHandle;

/// Returns which key the certificate of a node is of; `None` when it has shown none.
pub(crate) fn key_of(node: &Caller<NodeId>) -> Option<Digest> {
    node.shown.as_ref()?.key_digest().ok().map(Digest::new)
}

impl ManagerHandle {
    /// Lets a node in, or says why not.
    ///
    /// # Errors
    /// [`LinkError::Removed`] when it was removed, as the leader says; others when that cannot be told now.
    pub(crate) async fn admit_node(&self, node: &Caller<NodeId>) -> Result<(), LinkError> {
        let key = key_of(node);
        let refusal = |state: &crate::store::State| state.refusal_of(&node.id, key.as_ref()).map(ToString::to_string);
        let Some(refusal) = self.0.consensus.read_state(refusal) else { return Ok(()) };
        if let Some(shown) = node.shown.clone() {
            match self.check_certificate(shown, proto::CertificateCheck::default()).await {
                Ok(_) => return Err(unreachable("it does not know yet that the node has joined again")),
                Err(LinkError::Removed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        tracing::warn!(node_id = %node.id, reason = refusal, "node stream refused");
        Err(LinkError::Removed(refusal))
    }
}
