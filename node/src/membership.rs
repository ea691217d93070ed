//! Whether this node still is one of its cluster, asked before it starts guests.
//!
//! After a reboot a node starts its VMs. Those of one that was removed may run elsewhere by then, so the managers are asked
//! first, and not once the guests run. A node that reaches no manager cannot hear that it was removed: it starts its guests
//! after [`ANSWER_WITHIN`], since a whole site may be without managers when its power comes back.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};
use vouch_types::NodeId;
use vouch_wire::links::{CertificateLink, LinkError};
use vouch_wire::pki::{CaDigest, LiveIdentity};
use vouch_wire::proto;

use crate::agent::Removed;

/// How long the start of guests waits for an answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Asks whether the cluster has removed this node; that nobody answers is no answer.
///
/// # Errors
/// [`Removed`] when the leader says so.
pub(crate) async fn ask(link: &dyn CertificateLink, live: &LiveIdentity, node: &NodeId) -> Result<(), Removed> {
    let trusts = live.identity().roots().iter().map(|root| CaDigest::of(root).to_string()).collect();
    let check = proto::CertificateCheck { csr: Vec::new(), trusts };
    match timeout(ANSWER_WITHIN, link.check(check)).await {
        Ok(Ok(_)) => info!(node_id = %node, "the cluster knows this node; its guests are started"),
        Ok(Err(LinkError::Removed(why))) => return Err(Removed(why)),
        Ok(Err(error)) => warn!(node_id = %node, %error, "guests are started without a word of the managers"),
        Err(_) => warn!(node_id = %node, within = ?ANSWER_WITHIN, "guests are started: no manager answers"),
    }
    Ok(())
}
