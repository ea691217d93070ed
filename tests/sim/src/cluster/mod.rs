//! Whole managers with Raft, real watcher logic, and models of nodes, VMs and networks, under virtual time.
