//! The relay over a hypervisor that the test plays: who is answered, about what, and resting on which read.

use std::collections::BTreeMap;

use ring::rand::SystemRandom;
use vouch_types::{ClusterId, Generation, HypervisorState, PauseReason, Progress};
use vouch_wire::sign::{GrantSigner, verify_statement};

use super::*;
use crate::config::DriverKind;
use crate::hypervisor::sim::SimHypervisor;
use crate::store::KnownCluster;
use crate::vm_file::VmFile;

const CALLER: WatcherId = WatcherId::new(3);

struct Bed {
    relay: Relay,
    hypervisor: Arc<SimHypervisor>,
    grants: GrantSigner,
    key: [u8; 32],
    store: NodeStore,
    vm: VmId,
}

fn cluster() -> ClusterId {
    ClusterId::new(uuid::Uuid::from_u128(7))
}

async fn bed() -> Bed {
    let grants = GrantSigner::generate(&SystemRandom::new()).unwrap();
    let signer = StatementSigner::generate(&SystemRandom::new()).unwrap();
    let store = NodeStore::in_memory();
    let file = VmFile::parse(
        "id = \"6f1c2a9e-0000-4000-8000-000000000001\"\nname = \"a\"\n[local]\naddress = \"127.0.10.1\"\nrdp_port = 5\n",
        DriverKind::Local,
    )
    .unwrap();
    let vm = file.id;
    store
        .update(|m| {
            m.cluster = Some(KnownCluster { id: cluster(), grant_public_key: grants.public_key().to_vec() });
            m.owned = BTreeMap::from([(vm, Generation::new(4))]);
        })
        .unwrap();
    let hypervisor = Arc::new(SimHypervisor::default());
    hypervisor.set_vms(vec![file]).await;
    let key = signer.public_key();
    let node = NodeId::new("n1").unwrap();
    let boot = BootId::new(uuid::Uuid::from_u128(9));
    let relay = Relay::new(node, boot, store.clone(), hypervisor.clone(), signer, SequenceCounter::default());
    Bed { relay, hypervisor, grants, key, store, vm }
}

impl Bed {
    fn grant(&self, change: impl FnOnce(&mut Grant)) -> Option<proto::Signed> {
        let mut grant = Grant {
            cluster: cluster(),
            watcher: CALLER,
            node: NodeId::new("n1").unwrap(),
            vms: vec![self.vm],
            generation: AssignmentGeneration::new(2),
        };
        change(&mut grant);
        Some(self.grants.sign(&grant))
    }

    async fn state(&self, grant: Option<proto::Signed>) -> Result<Vec<proto::Signed>, LinkError> {
        self.state_with(grant, 77).await
    }

    async fn state_with(&self, grant: Option<proto::Signed>, nonce: u64) -> Result<Vec<proto::Signed>, LinkError> {
        self.relay.state(CALLER, proto::StateRequest { grant, nonce }).await.map(|r| r.statements)
    }

    async fn ask(&self, vm: VmId) -> Result<proto::GuestAgentResponse, LinkError> {
        let request = proto::GuestAgentRequest {
            grant: self.grant(|_| {}),
            vm: convert::vm_bytes(vm),
            query: proto::GuestAgentQuery::Ping.into(),
            timeout_micros: 1_000_000,
        };
        self.relay.guest_agent(CALLER, request).await
    }
}

#[tokio::test]
async fn a_granted_watcher_gets_the_nodes_signed_word_with_its_nonce() {
    let bed = bed().await;
    bed.hypervisor.set_state(bed.vm, HypervisorState::Paused(PauseReason::IoError));
    let statements = bed.state(bed.grant(|_| {})).await.unwrap();
    let statement = verify_statement(&statements[0], &bed.key).unwrap();
    assert_eq!((statement.nonce, statement.generation), (Nonce::new(77), Generation::new(4)));
    assert_eq!(statement.state, HypervisorState::Paused(PauseReason::IoError));
    let again = bed.state(bed.grant(|_| {})).await.unwrap();
    assert!(verify_statement(&again[0], &bed.key).unwrap().sequence > statement.sequence);
}

#[tokio::test]
async fn a_statement_says_whether_the_guest_gets_on() {
    let bed = bed().await;
    bed.hypervisor.set_progress(bed.vm, Progress::Spinning);
    let statements = bed.state(bed.grant(|_| {})).await.unwrap();
    assert_eq!(verify_statement(&statements[0], &bed.key).unwrap().progress, Progress::Spinning);
}

#[tokio::test]
async fn a_nonce_is_answered_from_a_read_that_began_after_the_request() {
    let bed = bed().await;
    bed.state_with(bed.grant(|_| {}), 0).await.unwrap();
    bed.state_with(bed.grant(|_| {}), 77).await.unwrap();
    assert_eq!(bed.hypervisor.read_ages(), [READ_AGE_MAX, Duration::ZERO]);
}

#[tokio::test]
async fn a_grant_that_breaks_a_rule_is_refused_with_the_rule() {
    let bed = bed().await;
    let forged = bed.grant(|_| {}).map(|mut s| {
        s.payload[0] ^= 1;
        s
    });
    for (grant, words) in [
        (None, "no grant"),
        (forged, "signature"),
        (bed.grant(|g| g.cluster = ClusterId::new(uuid::Uuid::from_u128(8))), "another cluster"),
        (bed.grant(|g| g.watcher = WatcherId::new(4)), "for w4"),
        (bed.grant(|g| g.node = NodeId::new("n2").unwrap()), "node n2"),
    ] {
        let Err(LinkError::Refused(why)) = bed.state(grant).await else { panic!("must be refused: {words}") };
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn a_grant_that_a_later_assignment_replaced_is_refused() {
    let bed = bed().await;
    bed.state(bed.grant(|g| g.generation = AssignmentGeneration::new(3))).await.unwrap();
    let Err(LinkError::Refused(why)) = bed.state(bed.grant(|_| {})).await else { panic!("must be refused") };
    assert!(why.contains("generation 2") && why.contains('3'), "{why}");
}

#[tokio::test]
async fn nothing_is_said_of_a_vm_that_the_node_does_not_own() {
    let bed = bed().await;
    bed.store.update(|m| m.owned.clear()).unwrap();
    assert!(bed.state(bed.grant(|_| {})).await.unwrap().is_empty());
    let answer = bed.ask(bed.vm).await.unwrap().result;
    assert!(matches!(answer, Some(proto::guest_agent_response::Result::NotPut(_))));
}

#[tokio::test(start_paused = true)]
async fn one_question_to_an_agent_too_many_says_nothing_of_it() {
    let bed = bed().await;
    let all = u32::try_from(AGENT_QUERIES_MAX).unwrap();
    let taken = bed.relay.queries.acquire_many(all).await.unwrap();
    let answer = bed.ask(bed.vm).await.unwrap().result;
    let full = format!("{AGENT_QUERIES_MAX} questions are in flight");
    assert_eq!(answer, Some(proto::guest_agent_response::Result::NotPut(full)));
    drop(taken);
    assert_eq!(bed.ask(bed.vm).await.unwrap().result, Some(proto::guest_agent_response::Result::Silent(true)));
}

#[tokio::test]
async fn the_guest_agent_answers_through_the_relay_for_granted_vms_only() {
    let bed = bed().await;
    assert_eq!(bed.ask(bed.vm).await.unwrap().result, Some(proto::guest_agent_response::Result::Silent(true)));
    bed.hypervisor.set_agent(bed.vm, AgentReply::NotPut("busy".to_owned()));
    let answer = bed.ask(bed.vm).await.unwrap().result;
    assert_eq!(answer, Some(proto::guest_agent_response::Result::NotPut("busy".to_owned())));
    bed.hypervisor.set_agent(bed.vm, AgentReply::Reply("{\"return\":{}}".into()));
    let answer = bed.ask(bed.vm).await.unwrap().result;
    assert_eq!(answer, Some(proto::guest_agent_response::Result::Reply("{\"return\":{}}".into())));
    let other = VmId::new(uuid::Uuid::from_u128(5));
    assert!(matches!(bed.ask(other).await, Err(LinkError::Refused(_))));
}
