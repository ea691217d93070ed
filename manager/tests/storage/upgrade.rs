//! A data folder of an older format, brought up to date: `tests/fixtures/format-1` was written by the version before
//! formats had numbers.

use std::path::Path;
use std::sync::Arc;

use vouch_manager::data_format::OwnFolder;
use vouch_manager::raft::Consensus;
use vouch_manager::seams::SystemRng;
use vouch_manager::store::Stores;
use vouch_types::NodeId;

use crate::writer::{Alone, config, own};

const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_format_1_is_brought_up_to_date_and_nothing_in_it_is_lost() {
    let home = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1");
    copy(&fixture, home.path());
    let refused = Stores::open(home.path(), &SystemRng).expect_err("a log of format 1 is not opened as it is");
    assert!(refused.to_string().contains("acknowledged"), "{refused}");

    for _ in 0..2 {
        OwnFolder::claim(home.path(), own(), CA, &SystemRng).unwrap();
        let label = std::fs::read_to_string(home.path().join("format")).unwrap();
        assert!(label.contains("format = 3") && label.contains("m1"), "{label}");
        let consensus =
            Consensus::start(own(), &config(), Stores::open(home.path(), &SystemRng).unwrap(), Arc::new(Alone))
                .await
                .unwrap();
        consensus.watch().wait_for(|status| status.leads() && status.quorum_acked).await.unwrap();
        consensus.ensure_current(vouch_manager::raft::Consistency::Linearizable).await.unwrap();
        let node = NodeId::new("n1").unwrap();
        assert_eq!(consensus.read_state(|state| state.vms_of(&node).count()), 3);
        consensus.shutdown().await;
    }
}
