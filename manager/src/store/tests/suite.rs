//! openraft's own suite, over both logs and all stores of the state.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::raft::{StateMachine, Types};
use crate::seams::SystemRng;
use crate::store::{MemoryLogStore, Stores, WalLogStore};

struct Disk;
struct Memory;

impl StoreBuilder<Types, WalLogStore, StateMachine, TempDir> for Disk {
    async fn build(&self) -> Result<(TempDir, WalLogStore, StateMachine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::open(folder.path(), &SystemRng).unwrap();
        Ok((folder, stores.log, StateMachine::open(stores.state, stores.snapshots).unwrap()))
    }
}

impl StoreBuilder<Types, MemoryLogStore, StateMachine> for Memory {
    async fn build(&self) -> Result<((), MemoryLogStore, StateMachine), StorageError<Types>> {
        let stores = Stores::memory();
        Ok(((), stores.log, StateMachine::open(stores.state, stores.snapshots).unwrap()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_on_disk_do_what_openraft_asks_of_stores() {
    Suite::test_all(Disk).await.unwrap();
}

#[tokio::test]
async fn the_stores_in_memory_do_what_openraft_asks_of_stores() {
    Suite::test_all(Memory).await.unwrap();
}
