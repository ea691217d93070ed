//! The evidence streams between managers: each dials every other, and talks over whichever stream is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use vouch_types::ManagerId;
use vouch_wire::links::{Caller, LinkError, Session};
use vouch_wire::pki::ShownCertificate;
use vouch_wire::proto;

use super::Fleet;
use super::peer::PeerStream;
use crate::counters::Count;

/// How long to wait before a manager that cannot be reached is dialled again; doubled up to the greatest.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

type EvidenceSession = Session<proto::EvidenceFrame, proto::EvidenceFrame>;

/// Who opened an evidence stream.
enum Opener {
    /// This manager.
    Own,
    /// The other one, with this certificate; none over a link without TLS.
    Other(Option<ShownCertificate>),
}

impl Fleet {
    /// Keeps evidence streams to all other managers, whoever they are.
    pub(super) async fn run_peers(self) {
        let mut running: BTreeMap<ManagerId, AbortHandle> = BTreeMap::new();
        let members = self.parts().members.clone();
        let own = self.parts().own;
        let fleet = self.clone();
        members
            .follow(|now| {
                running.retain(|manager, task| {
                    let stays = now.contains_key(manager);
                    if !stays {
                        task.abort();
                        fleet.book().peers.remove(manager);
                        fleet.forget_health(*manager);
                    }
                    stays
                });
                for manager in now.into_keys().filter(|manager| *manager != own) {
                    let start = || fleet.spawn(Self::run_peer(fleet.clone(), manager));
                    running.entry(manager).or_insert_with(start);
                }
            })
            .await;
    }

    /// Keeps an evidence stream to another manager.
    pub(super) async fn run_peer(self, to: ManagerId) {
        let mut retry = RETRY_FIRST;
        loop {
            match self.parts().peer_link.evidence(to).await {
                Ok(session) => {
                    retry = RETRY_FIRST;
                    self.run_evidence(to, session, Opener::Own).await;
                }
                Err(error) => tracing::debug!(manager_id = %to, %error, "evidence stream not opened"),
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    /// Runs the evidence stream that another manager opened.
    pub(crate) fn accept_evidence(&self, from: Caller<ManagerId>, session: EvidenceSession) {
        let fleet = self.clone();
        self.spawn(async move { fleet.run_evidence(from.id, session, Opener::Other(from.shown)).await });
    }

    async fn run_evidence(&self, other: ManagerId, session: EvidenceSession, opener: Opener) {
        let Session { outbound, mut inbound } = session;
        let stop = CancellationToken::new();
        self.heartbeats().tell_anew(other);
        let id = {
            let mut book = self.book();
            let id = book.next_session();
            let shown = match &opener {
                Opener::Own => None,
                Opener::Other(shown) => shown.clone(),
            };
            let stream = Some(PeerStream { id, outbound, shown, stop: stop.clone() });
            let peer = book.peers.entry(other).or_default();
            // A new stream may follow a restart: hand everything on again.
            peer.relayed_nodes.clear();
            peer.relayed_watchers.clear();
            match &opener {
                Opener::Own => peer.dialled = stream,
                Opener::Other(_) => peer.accepted = stream,
            }
            id
        };
        loop {
            let message = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                message = inbound.recv() => message,
            };
            match message {
                Some(Ok(frame)) => self.evidence_frame(other, frame).await,
                Some(Err(LinkError::Malformed(why))) => {
                    self.parts().counters.add(Count::Malformed, "manager", 1);
                    tracing::warn!(manager_id = %other, %why, "malformed evidence");
                    break;
                }
                Some(Err(_)) | None => break,
            }
        }
        let mut book = self.book();
        if let Some(peer) = book.peers.get_mut(&other) {
            let stream = match opener {
                Opener::Own => &mut peer.dialled,
                Opener::Other(_) => &mut peer.accepted,
            };
            if stream.as_ref().is_some_and(|s| s.id == id) {
                *stream = None;
            }
        }
    }

    /// Drops what another manager heard of nodes that were removed: it may not know yet.
    fn drop_removed(&self, frame: &mut proto::EvidenceFrame) {
        let shut: BTreeSet<String> = self.parts().consensus.read_state(|state| {
            let shut = state.removed_nodes().values().filter(|removed| removed.is_shut());
            shut.map(|removed| removed.id.to_string()).collect()
        });
        if !shut.is_empty() {
            frame.nodes.retain(|heard| !shut.contains(&heard.node));
            frame.node_reports.retain(|report| !shut.contains(&report.node));
            frame.links.retain(|link| !shut.contains(&link.node));
        }
    }

    async fn evidence_frame(&self, from: ManagerId, mut frame: proto::EvidenceFrame) {
        self.parts().counters.add(Count::MessagesReceived, "manager", 1);
        let now = self.parts().clock.now();
        let news = !frame.node_reports.is_empty() || !frame.watcher_messages.is_empty();
        if let Some(health) = frame.health.take() {
            // Told with every frame, so that a detector that has just started learns it too.
            let told = self.take_health(from, health);
            self.tell(vec![told]).await;
        }
        self.drop_removed(&mut frame);
        let taken = self.book().take_frame(from, frame, now, &|node| self.statement_key(node));
        match taken {
            Ok(events) => self.tell(self.permitted(events)).await,
            Err(error) => {
                self.parts().counters.add(Count::Malformed, "manager", 1);
                tracing::warn!(manager_id = %from, %error, "malformed evidence");
            }
        }
        if news {
            self.note_change();
        }
    }
}
