//! Whether this node still is one of its cluster, asked before it starts guests.
//!
//! After a reboot a node starts its VMs. Those of one that was removed may run elsewhere by then, so the managers are
//! asked first, and not once the guests run. A node that reaches no manager cannot hear that it was removed: it starts
//! its guests after [`ANSWER_WITHIN`], since a whole site may be without managers when its power comes back.

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use rustls::time_provider::DefaultTimeProvider;
    use tokio::time::Instant;
    use vouch_wire::pki::{CertificateAuthority, PeerIdentity, VALIDITY_MIN};

    use super::*;
    use crate::wall_clock::wall_now;

    /// Managers that say this; nothing at all where there is none.
    struct SimManagers(Option<LinkError>);

    #[async_trait]
    impl CertificateLink for SimManagers {
        async fn check(&self, _: proto::CertificateCheck) -> Result<proto::CertificateAnswer, LinkError> {
            match &self.0 {
                Some(error) => Err(error.clone()),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn guests_wait_for_an_answer_so_long_and_no_longer_and_only_a_removal_holds_them_back() {
        let node = NodeId::new("n1").unwrap();
        let ca = CertificateAuthority::generate("test", wall_now()).unwrap();
        let identity = ca.issue(&PeerIdentity::Node(node.clone()), wall_now(), VALIDITY_MIN).unwrap().identity();
        let live = LiveIdentity::new(identity.unwrap(), Arc::new(DefaultTimeProvider)).unwrap();
        let begun = Instant::now();
        assert_eq!(ask(&SimManagers(None), &live, &node).await, Ok(()));
        assert_eq!(begun.elapsed(), ANSWER_WITHIN);
        let refused = LinkError::Refused("its CA is not one of this cluster any more".to_owned());
        assert_eq!(ask(&SimManagers(Some(refused)), &live, &node).await, Ok(()));
        let removed = SimManagers(Some(LinkError::Removed("join again".to_owned())));
        assert_eq!(ask(&removed, &live, &node).await, Err(Removed("join again".to_owned())));
        assert_eq!(begun.elapsed(), ANSWER_WITHIN, "neither takes a moment");
    }
}
