//! What comes back out of a backup, and what is refused.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use vouch_types::{Digest, LogIndex, ManagerId, ManagerNode, Term};

use super::{Backup, BackupError, FORMAT, RestoreError, Target, restore};
use crate::seams::digest_of;
use crate::store::State;
use crate::store::tests::samples;

/// One byte in so many is flipped.
const SAMPLED: usize = 97;

fn state() -> State {
    let mut state = State::default();
    for (index, command) in (1..).zip(samples::every_command()) {
        state.apply(LogIndex::new(index), command);
    }
    state
}

fn component() -> (Digest, Bytes) {
    let bytes = Bytes::from_static(b"a component");
    (digest_of(&bytes), bytes)
}

fn backup() -> Backup {
    let blobs = BTreeMap::from([component()]);
    Backup::new(&state(), LogIndex::new(500), Term::new(7), samples::at(9), blobs).unwrap()
}

fn target(folder: &Path) -> Target {
    let data_dir = folder.join("data");
    Target {
        token_file: data_dir.join("api.token"),
        data_dir,
        manager: ManagerId::new(1),
        members: BTreeMap::from([(ManagerId::new(1), ManagerNode::default())]),
    }
}

#[test]
fn a_backup_comes_back_as_it_was_made() {
    let backup = backup();
    let back = Backup::parse(&backup.to_bytes().unwrap().into()).unwrap();
    assert_eq!(back, backup);
    assert_eq!(back.state().unwrap(), state());
    assert_eq!((back.head.index, back.head.term), (LogIndex::new(500), Term::new(7)));
}

#[test]
fn a_byte_that_was_flipped_and_an_end_that_is_missing_are_damage_wherever_they_are() {
    let whole = backup().to_bytes().unwrap();
    let damaged = |bytes: Vec<u8>, what: &str| match Backup::parse(&bytes.into()) {
        Err(BackupError::Damaged(_)) => {}
        other => panic!("{what}: {other:?}"),
    };
    let edges = (0..64).chain(whole.len() - 64..whole.len());
    for at in edges.chain((0..whole.len()).step_by(SAMPLED)) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        damaged(flipped, &format!("byte {at} of {}", whole.len()));
        damaged(whole[..at].to_vec(), &format!("cut off after {at}"));
    }
    let mut longer = whole;
    longer.push(0);
    damaged(longer, "longer");
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_in_one_line_that_says_what_to_do_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (file, target) = (folder.path().join("b"), target(folder.path()));
    let sealed = |mut body: Vec<u8>| {
        let checksum = Sha256::digest(&body);
        body.extend_from_slice(&checksum);
        body
    };
    let whole = backup().to_bytes().unwrap();
    let mut newer = whole[..whole.len() - 32].to_vec();
    newer[7] = FORMAT + 1;
    for (bytes, say) in [
        (whole[..whole.len() - 1].to_vec(), "use another backup"),
        (sealed(newer), "use the version that made it"),
        (sealed(b"VOUCHSN1 a snapshot".to_vec()), "no backup of a vouch cluster"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let refused = restore(&file, &target).await.expect_err("refused").to_string();
        assert!(refused.contains(say) && refused.contains("\"") && !refused.contains('\n'), "{refused}");
        assert!(!target.data_dir.exists());
    }
    assert!(matches!(restore(&folder.path().join("none"), &target).await, Err(RestoreError::Read { .. })));

    std::fs::write(&file, whole).unwrap();
    std::fs::create_dir(&target.data_dir).unwrap();
    std::fs::write(&target.token_file, "0123456789abcdef").unwrap();
    std::fs::write(target.data_dir.join("incarnation"), "7").unwrap();
    let refused = restore(&file, &target).await.expect_err("refused").to_string();
    assert!(refused.contains("not empty") && refused.contains("incarnation"), "{refused}");
    std::fs::remove_file(target.data_dir.join("incarnation")).unwrap();
    restore(&file, &target).await.expect("the token alone may be there");
    let again = restore(&file, &target).await.expect_err("refused").to_string();
    assert!(again.contains("not empty"), "{again}");
}

#[tokio::test]
async fn restored_files_are_their_owners_alone_and_components_are_among_them() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (file, target) = (folder.path().join("b"), target(folder.path()));
    std::fs::write(&file, backup().to_bytes().unwrap()).unwrap();
    let restored = restore(&file, &target).await.unwrap();
    assert_eq!((restored.cluster, restored.vms), (samples::cluster_id(), state().vms().len()));
    assert!(restored.term > Term::new(7));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&target.data_dir), 0o700);
    assert_eq!(mode(&target.data_dir.join("snapshot").join("snapshot")), 0o600);
    let (digest, bytes) = component();
    assert_eq!(std::fs::read(target.data_dir.join("blobs").join(digest.to_string())).unwrap(), bytes);
}
