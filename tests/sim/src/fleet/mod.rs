//! One detector and many watchers over an event-driven network, without Raft: large fleets over long times.
