//! Orders and asks on their way out: over the own stream that answered last, else through a manager that hears the
//! other side.

use std::collections::BTreeSet;

use vouch_detector::Ask;
use vouch_types::{ManagerId, Moment, NodeId, Nonce, VmId, WatcherId};
use vouch_wire::{convert, proto};

use super::book::Book;
use super::looks::Look;
use super::sessions::{Sent, SessionId, Sessions};
use super::{FORWARD_WITHIN, Fleet};
use crate::counters::Count;

/// How a node or watcher is reached now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// Over streams of this manager.
    Own(Vec<SessionId>),
    /// Through another manager.
    Via(ManagerId),
}

fn own_route<Out: Clone>(sessions: &Sessions<Out>) -> Option<Route> {
    let ids: Vec<_> = sessions.iter().map(|(_, s)| s.id).collect();
    (!ids.is_empty()).then_some(Route::Own(ids))
}

/// Returns whether a stream has brought anything lately.
fn is_lively<Out: Clone>(sessions: &Sessions<Out>, floor: Moment) -> bool {
    sessions.last_arrival().is_some_and(|at| at >= floor)
}

fn node_route_in(book: &Book, node: &NodeId, floor: Moment) -> Option<Route> {
    let own = book.nodes.get(node).map(|e| &e.sessions);
    if let Some(sessions) = own.filter(|s| is_lively(s, floor)) {
        return own_route(sessions);
    }
    let via = book.peers.iter().find(|(_, p)| p.hears_node(node, floor));
    via.map(|(m, _)| Route::Via(*m)).or_else(|| own.and_then(own_route))
}

impl Fleet {
    fn watcher_floor(&self) -> Moment {
        self.parts().clock.now() - self.parts().timing.watcher_report_interval * 3
    }

    fn node_floor(&self) -> Moment {
        self.parts().clock.now() - self.parts().timing.report_interval * 3
    }

    /// Returns how a watcher is reached now.
    pub(crate) fn watcher_route(&self, watcher: WatcherId) -> Option<Route> {
        let floor = self.watcher_floor();
        let book = self.book();
        let own = book.watchers.get(&watcher).map(|e| &e.sessions);
        if let Some(sessions) = own.filter(|s| is_lively(s, floor)) {
            return own_route(sessions);
        }
        let via = book.peers.iter().filter_map(|(m, p)| Some((p.last_word_of(watcher)?, *m)));
        let best = via.filter(|(word, _)| *word >= floor).max_by_key(|(word, m)| (*word, std::cmp::Reverse(*m)));
        best.map(|(_, m)| Route::Via(m)).or_else(|| own.and_then(own_route))
    }

    /// Returns how a node is reached now.
    pub(crate) fn node_route(&self, node: &NodeId) -> Option<Route> {
        node_route_in(&self.book(), node, self.node_floor())
    }

    /// Returns the nodes that are reached now, by streams of this manager or through another one.
    pub(crate) fn routed_nodes(&self) -> BTreeSet<NodeId> {
        let floor = self.node_floor();
        let book = self.book();
        let heard = book.peers.values().flat_map(|p| p.nodes.keys());
        let known: BTreeSet<&NodeId> = book.nodes.keys().chain(heard).collect();
        known.into_iter().filter(|node| node_route_in(&book, node, floor).is_some()).cloned().collect()
    }

    /// Sends a message to a watcher; returns whether it was handed to a stream or to another manager.
    pub(crate) fn send_to_watcher(&self, watcher: WatcherId, message: proto::to_watcher::Message) -> bool {
        let message = proto::ToWatcher { message: Some(message) };
        match self.watcher_route(watcher) {
            Some(Route::Own(_)) => self.send_to_own_watcher(watcher, &message),
            Some(Route::Via(manager)) => {
                let request = proto::ForwardToWatcher { watcher: watcher.get(), message: Some(message) };
                self.forward(manager, proto::forward_request::Request::ToWatcher(request));
                true
            }
            None => {
                self.parts().counters.add(Count::Undelivered, "watcher", 1);
                false
            }
        }
    }

    /// Sends a message to a node; returns whether it was handed to a stream or to another manager.
    pub(crate) fn send_to_node(&self, node: &NodeId, message: proto::to_node::Message) -> bool {
        let message = proto::ToNode { message: Some(message) };
        match self.node_route(node) {
            Some(Route::Own(_)) => self.send_to_own_node(node, &message),
            Some(Route::Via(manager)) => {
                let request = proto::ForwardToNode { node: node.as_str().to_owned(), message: Some(message) };
                self.forward(manager, proto::forward_request::Request::ToNode(request));
                true
            }
            None => {
                self.parts().counters.add(Count::Undelivered, "node", 1);
                false
            }
        }
    }

    /// Sends over a stream of this manager; returns whether there was one.
    pub(crate) fn send_to_own_watcher(&self, watcher: WatcherId, message: &proto::ToWatcher) -> bool {
        let sent = self.book().watchers.get(&watcher).map(|e| e.sessions.send(message));
        self.settle("watcher", sent)
    }

    /// Sends over a stream of this manager; returns whether there was one.
    pub(crate) fn send_to_own_node(&self, node: &NodeId, message: &proto::ToNode) -> bool {
        let sent = self.book().nodes.get(node).map(|e| e.sessions.send(message));
        self.settle("node", sent)
    }

    fn settle(&self, of: &'static str, sent: Option<(Sent, u64)>) -> bool {
        let (sent, overflowed) = sent.unwrap_or((Sent::NoStream, 0));
        self.parts().counters.add(Count::QueuesOverflowed, of, overflowed);
        match sent {
            Sent::Over(_) => true,
            Sent::NoStream => {
                self.parts().counters.add(Count::Undelivered, of, 1);
                false
            }
        }
    }

    fn forward(&self, to: ManagerId, request: proto::forward_request::Request) {
        self.parts().counters.add(Count::Forwarded, "manager", 1);
        let fleet = self.clone();
        self.spawn(async move {
            let request = proto::ForwardRequest { request: Some(request) };
            let answer = tokio::time::timeout(FORWARD_WITHIN, fleet.parts().peer_link.forward(to, request)).await;
            let sent = matches!(
                answer,
                Ok(Ok(proto::ForwardResponse { response: Some(proto::forward_response::Response::Sent(true)) }))
            );
            if !sent {
                fleet.parts().counters.add(Count::Undelivered, "manager", 1);
                tracing::debug!(manager_id = %to, "forwarded message was not sent");
            }
        });
    }

    /// Asks a watcher to look now; returns whether the ask is on its way. What it finds at the VM that is looked at, if one
    /// is, is kept for [`Fleet::take_looks`].
    pub(crate) fn ask(&self, ask: &Ask, looked_at: Option<VmId>) -> bool {
        let now = self.parts().clock.now();
        let nonce = self.book().asks.note(&*self.parts().rng, (ask.watcher, ask.nonce), now, looked_at);
        let depth = super::asks::depth_of(ask.weight, looked_at);
        let message = proto::Ask {
            nonce: nonce.get(),
            deadline_micros: u64::try_from(ask.deadline.as_micros()).unwrap_or(u64::MAX),
            nodes: ask.nodes.iter().map(|n| n.as_str().to_owned()).collect(),
            vms: ask.vms.iter().map(|vm| convert::vm_bytes(*vm)).collect(),
            light: depth.is_light(),
            findings: depth.wants_findings(),
        };
        tracing::debug!(watcher_id = %ask.watcher, nonce = %ask.nonce, vms = ask.vms.len(), "ask");
        self.parts().counters.add(Count::Asks, "watcher", 1);
        self.send_to_watcher(ask.watcher, proto::to_watcher::Message::Ask(message))
    }

    /// Returns what came of an ask that looks at a VM by now, once.
    pub(crate) fn take_looks(&self, watcher: WatcherId, nonce: Nonce) -> Vec<Look> {
        self.book().asks.take_looks(watcher, nonce)
    }

    /// Notes what a node says came of an order. What it reports decides; this is for people and for haste.
    pub(super) fn note_order_result(&self, node: &NodeId, result: &proto::OrderResult) {
        let watcher = WatcherId::new(result.watcher);
        match &result.result {
            Some(proto::order_result::Result::Failed(reason)) => {
                tracing::warn!(node_id = %node, watcher_id = %watcher, %reason, "order failed on the node");
            }
            Some(proto::order_result::Result::Created(_)) => {
                tracing::info!(node_id = %node, watcher_id = %watcher, "watcher created on the node");
            }
            Some(proto::order_result::Result::Destroyed(_)) => {
                tracing::info!(node_id = %node, watcher_id = %watcher, "watcher destroyed on the node");
            }
            None => {}
        }
        self.note_change();
    }
}
