//! The book of heartbeats: which keys were agreed on with which nodes, and what each path to them measures. Pure.
//!
//! It has a lock of its own, which is never held together with the book's: heartbeats come by the thousand, and must not
//! wait for an evidence frame that is being made.
//!
//! ```text
//! (nothing) --a node's stream opens--> Agreed --a later stream--> Agreed ...
//!     ^                                  |
//!     \------- KEY_KEPT without a stream -
//! ```
//!
//! A key outlives its stream, since a stream that breaks under loss is not silence; but not for ever, since it is the
//! stream that proves by its certificate who the node is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use vouch_detector::{Event, LinkMeasure};
use vouch_types::{Incarnation, ManagerId, Moment, Network, NodeId};
use vouch_wire::heartbeat::{
    Agreement, Arrival, Exchange, HEARTBEAT_LEN, HeartbeatKey, HeartbeatSession, KEY_LEN, Measure, Role, session_of,
};
use vouch_wire::proto;

use crate::seams::Rng;

/// How long a key counts after its stream has ended.
pub(crate) const KEY_KEPT: Duration = Duration::from_secs(600);

/// A node over one network.
type Path = (NodeId, Network);

/// A heartbeat that is to be sent now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Due {
    pub(crate) network: Network,
    pub(crate) to: SocketAddr,
    pub(crate) datagram: [u8; HEARTBEAT_LEN],
}

/// What was measured of one path.
pub(crate) type Measured = (NodeId, Network, Measure);

#[derive(Debug)]
struct Entry {
    exchange: Exchange,
    /// Where the newest heartbeat came from: where those of this manager go.
    address: Option<SocketAddr>,
    /// When the stream ended that its key was agreed on; `None` while it is open.
    ended: Option<Moment>,
    /// Revision of the book at its last change.
    changed: u64,
}

/// Which changes of the book somebody has been told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Listener {
    Detector,
    Peer(ManagerId),
}

/// The book of heartbeats.
#[derive(Debug)]
pub(crate) struct HeartbeatBook {
    own: ManagerId,
    incarnation: Incarnation,
    paths: BTreeMap<Path, Entry>,
    sessions: BTreeMap<HeartbeatSession, Path>,
    /// Rises with every heartbeat that is the newest of its path.
    revision: u64,
    told: BTreeMap<Listener, u64>,
}

impl HeartbeatBook {
    pub(crate) fn new(own: ManagerId, incarnation: Incarnation) -> Self {
        let (paths, sessions, told) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { own, incarnation, paths, sessions, revision: 0, told }
    }

    /// Agrees on a fresh key for a node's new stream, and returns what the welcome is to say; `None` for a stream of a
    /// life that is over.
    pub(crate) fn agree(
        &mut self,
        rng: &dyn Rng,
        node: &NodeId,
        network: Network,
        life: Incarnation,
    ) -> Option<(HeartbeatSession, proto::Heartbeats)> {
        let path = (node.clone(), network);
        if self.paths.get(&path).is_some_and(|entry| life < entry.exchange.other()) {
            return None;
        }
        let session = loop {
            let mut number = [0; 8];
            rng.fill(&mut number);
            let drawn = HeartbeatSession::new(u64::from_be_bytes(number));
            if !self.sessions.contains_key(&drawn) {
                break drawn;
            }
        };
        let mut key = [0; KEY_LEN];
        rng.fill(&mut key);
        let agreement = Agreement { session, key: HeartbeatKey::new(&key) };
        match self.paths.get_mut(&path) {
            Some(entry) => {
                self.sessions.remove(&entry.exchange.session());
                entry.exchange.agree(life, agreement);
                entry.ended = None;
            }
            None => {
                let exchange = Exchange::new(Role::Manager, self.incarnation, life, agreement);
                self.paths.insert(path.clone(), Entry { exchange, address: None, ended: None, changed: 0 });
            }
        }
        self.sessions.insert(session, path);
        Some((session, Agreement::message(session, &key)))
    }

    /// The stream of a session has ended. Its key still counts for a while.
    pub(crate) fn stream_ended(&mut self, session: HeartbeatSession, now: Moment) {
        if let Some(entry) = self.sessions.get(&session).and_then(|path| self.paths.get_mut(path)) {
            entry.ended = Some(now);
        }
    }

    /// Forgets the keys of nodes: what they send is of no known session any more.
    pub(crate) fn forget(&mut self, nodes: &BTreeSet<NodeId>) {
        self.paths.retain(|(node, _), _| !nodes.contains(node));
        self.sessions.retain(|_, (node, _)| !nodes.contains(node));
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// The reason why it is dropped, as one word.
    pub(crate) fn take(
        &mut self,
        network: Network,
        from: SocketAddr,
        datagram: &[u8],
        now: Moment,
    ) -> Result<(), &'static str> {
        let session = session_of(datagram).map_err(|e| e.reason())?;
        let path = self.sessions.get(&session).ok_or("unknown_session")?;
        if path.1 != network {
            return Err("other_network");
        }
        let entry = self.paths.get_mut(path).ok_or("unknown_session")?;
        match entry.exchange.take(now, datagram) {
            Ok(Arrival::Newest) => {
                self.revision += 1;
                entry.changed = self.revision;
                entry.address = Some(from);
                Ok(())
            }
            Ok(Arrival::Late) => Ok(()),
            Err(error) => Err(error.reason()),
        }
    }

    /// Returns the heartbeats that are to be sent now, and forgets paths whose key does not count any more.
    pub(crate) fn due(&mut self, now: Moment) -> Vec<Due> {
        let sessions = &mut self.sessions;
        self.paths.retain(|_, entry| {
            let counts = entry.ended.is_none_or(|at| now.since(at) < KEY_KEPT);
            if !counts {
                sessions.remove(&entry.exchange.session());
            }
            counts
        });
        let due = self.paths.iter_mut().filter_map(|((_, network), entry)| {
            let to = entry.address?;
            Some(Due { network: *network, to, datagram: entry.exchange.next(now, None) })
        });
        due.collect()
    }

    /// Returns what has changed since the detector was told last: at most one event per path and heartbeat, and none
    /// for a path that is silent, whose last measure says since when.
    pub(crate) fn news(&mut self) -> Vec<Event> {
        let manager = self.own;
        self.changed_for(Listener::Detector).into_iter().map(|measured| link_measured(manager, measured)).collect()
    }

    /// Returns what has changed since another manager was told last.
    pub(crate) fn news_for(&mut self, peer: ManagerId) -> Vec<Measured> {
        self.changed_for(Listener::Peer(peer))
    }

    /// Forgets what another manager was told: it may have been started again.
    pub(crate) fn tell_anew(&mut self, peer: ManagerId) {
        self.told.remove(&Listener::Peer(peer));
    }

    /// Returns what was measured of a node's paths, as events.
    pub(crate) fn measured(&self, node: &NodeId) -> Vec<Event> {
        let paths = Network::ALL.into_iter().filter_map(|network| {
            let entry = self.paths.get(&(node.clone(), network)).filter(|entry| entry.changed > 0)?;
            Some(link_measured(self.own, (node.clone(), network, entry.exchange.measure())))
        });
        paths.collect()
    }

    fn changed_for(&mut self, listener: Listener) -> Vec<Measured> {
        let told = self.told.insert(listener, self.revision).unwrap_or(0);
        let changed = self.paths.iter().filter(|(_, entry)| entry.changed > told);
        changed.map(|((node, network), entry)| (node.clone(), *network, entry.exchange.measure())).collect()
    }
}

fn link_measured(manager: ManagerId, (node, network, measure): Measured) -> Event {
    let Measure { heard, read_age, echoed, loss_in_per_mille, loss_out_per_mille } = measure;
    Event::LinkMeasured(LinkMeasure {
        manager,
        node,
        network,
        heard,
        read_age,
        echoed,
        loss_in_per_mille,
        loss_out_per_mille,
    })
}

#[cfg(test)]
mod tests;
