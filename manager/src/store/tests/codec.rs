//! Every word of the log survives being written and read.

use vouch_types::{Applied, DenyReason, LogIndex};

use super::samples;
use crate::raft::Payload;
use crate::store::codec::{decode, encode};
use crate::store::{Image, State};

/// What earlier versions wrote into the log, and read from it.
type Plain = openraft::EntryPayload<vouch_types::Command, u64, vouch_types::ManagerNode>;

fn survives<T>(value: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = encode("value", value).unwrap();
    assert_eq!(&decode::<T>("value", &bytes).unwrap(), value);
}

#[test]
fn every_command_and_what_comes_of_it_survives_being_written() {
    let mut state = State::default();
    for (index, command) in (1..).zip(samples::every_command()) {
        survives(&command);
        let logged = Payload::Normal(command.clone().into());
        survives(&logged);
        assert_eq!(encode("entry", &logged).unwrap(), encode("entry", &Plain::Normal(command.clone())).unwrap());
        let (applied, changes) = state.apply(LogIndex::new(index), command);
        assert!(!matches!(applied, Applied::Denied(_)), "the samples fit together: {applied:?}");
        survives(&applied);
        for event in changes.events {
            survives(&*event);
        }
    }
    survives(&Image::from(&state));
    let back: State = decode::<Image>("image", &encode("image", &Image::from(&state)).unwrap()).unwrap().into();
    assert_eq!(back, state, "an image brings the whole state back");
}

#[test]
fn the_samples_try_these_kinds_of_events() {
    let mut state = State::default();
    let mut kinds = std::collections::BTreeSet::new();
    for (index, command) in (1..).zip(samples::every_command()) {
        for event in state.apply(LogIndex::new(index), command).1.events {
            let value = serde_json::to_value(&event.kind).unwrap();
            kinds.insert(value["kind"].as_str().unwrap().to_owned());
        }
    }
    // A kind that is missing here would not have been tried by the test above.
    let expected = [
        "ca_rotated",
        "cluster_initialised",
        "fence_proof_recorded",
        "fence_proof_withdrawn",
        "incident_changed",
        "incident_closed",
        "incident_opened",
        "join_token_created",
        "join_token_revoked",
        "join_token_used",
        "leader_elected",
        "maintenance_begun",
        "maintenance_ended",
        "manager_log_lost",
        "manager_notes_changed",
        "manager_return_ended",
        "node_joined",
        "node_removed",
        "path_changed",
        "policy_changed",
        "probe_assigned",
        "probe_canary_chosen",
        "probe_granted",
        "probe_key_added",
        "probe_key_removed",
        "probe_recorded",
        "probe_refused",
        "probe_rolled_out",
        "probe_rollout_begun",
        "probe_taken_back",
        "probe_unassigned",
        "signature_rule_changed",
        "vm_moved",
        "vm_pins_forgotten",
        "vm_registered",
        "vm_state_changed",
        "watcher_live",
        "watcher_lost",
        "watcher_placed",
        "watcher_retired",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn refusals_survive_being_written() {
    for reason in [
        DenyReason::AlreadyInitialised(samples::cluster_id()),
        DenyReason::NotInitialised,
        DenyReason::UnknownNode(samples::node_id("n1")),
        DenyReason::UnknownWatcher(vouch_types::WatcherId::new(4)),
        DenyReason::BadSecret(vouch_types::WatcherId::new(4)),
        DenyReason::TooMany { what: "vms".to_owned(), count: 3, limit: 2 },
        DenyReason::UnknownVm(samples::vm_id(1)),
        DenyReason::UnknownMaintenance(vouch_types::MaintenanceId::new(3)),
        DenyReason::CaStage(vouch_types::CaStage::Renewing),
        DenyReason::UnknownJoinToken(vouch_types::JoinTokenId::new(3)),
        DenyReason::NotMember(vouch_types::ManagerId::new(2)),
        DenyReason::OtherLog {
            manager: vouch_types::ManagerId::new(2),
            recorded: samples::log_name(1),
            told: samples::log_name(2),
        },
        DenyReason::JoinRefused(vouch_types::JoinRefusal::Unknown),
        DenyReason::BadPolicy(vouch_types::PolicyError {
            field: "silence_failures".to_owned(),
            value: "5".to_owned(),
            rule: "from 6 to 1000".to_owned(),
        }),
        DenyReason::BadValue { field: "proof.note".to_owned(), value: "x".to_owned(), rule: "short".to_owned() },
        DenyReason::NodeIsHeard(samples::node_id("n1")),
        DenyReason::NodeLives { node: samples::node_id("n1"), watchers: vec![vouch_types::WatcherId::new(4)] },
        DenyReason::NodeHasVms {
            node: samples::node_id("n1"),
            count: 21,
            vms: vec![vouch_types::VmInTheWay {
                id: samples::vm_id(1),
                name: "desk-1".to_owned(),
                state: vouch_types::VmState::Lost,
            }],
        },
        DenyReason::NodeRemoved(samples::node_id("n1")),
        DenyReason::OtherBoot {
            node: samples::node_id("n1"),
            recorded: samples::node("n1").boot,
            told: samples::node("n1").boot,
        },
        DenyReason::UnknownProbe(samples::probe().name),
        DenyReason::NoRollout { probe: samples::probe().name, digest: samples::probe().digest },
        DenyReason::UnknownScopedProbe(samples::scoped(vouch_types::PolicyScope::Cluster, "{}").key()),
        DenyReason::UnknownProbeKey(samples::key_name("release")),
        DenyReason::SignerNotTrusted(samples::key_name("release")),
        DenyReason::SignatureRequired(samples::probe().name),
        DenyReason::NotGranted {
            imports: [vouch_types::ProbeInterface::Sockets].into(),
            granted: [vouch_types::ProbeInterface::Icmp].into(),
        },
        DenyReason::NotOwner { vm: samples::vm_id(1), owner: samples::node_id("n2") },
    ] {
        survives(&Applied::Denied(reason));
    }
    survives(&Applied::Nothing);
}
