//! Who leads, and what the others do meanwhile.

use vouch_types::{Applied, DenyReason, LogIndex, NodeId};

use super::cluster::{SimCluster, m, simulate, until};
use crate::raft::{Consistency, Notice, ProposeError, ReadError, Role};
use crate::store::tests::samples;

#[test]
fn three_managers_elect_one_leader_and_apply_the_same_commands() {
    simulate(1, async {
        let cluster = SimCluster::start().await;
        let leader = cluster.leader(|_| true).await;
        let mut notices = cluster.consensus(leader).subscribe();
        assert!(matches!(cluster.propose(samples::init()).await, Applied::Done { .. }));
        let Some(Notice::Changed { index, changes }) = notices.next().await else { panic!("a notice of the change") };
        assert_eq!((changes.events.len(), changes.head), (1, true));
        assert!(*cluster.consensus(leader).applied_index().borrow() >= index);

        cluster.propose(samples::record_node("n1")).await;
        cluster.propose(samples::record_vms("n1", &[1, 2])).await;
        let events = cluster.settled_events().await;
        assert_eq!(events.len(), 4, "cluster, node and two VMs: {events:?}");
        let followers = cluster.managers.values().filter(|manager| manager.consensus.status().role == Role::Follower);
        assert_eq!(followers.count(), 2);
    });
}

#[test]
fn a_refusal_comes_back_to_who_proposed_it() {
    simulate(2, async {
        let cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        let unknown = NodeId::new("n9").unwrap();
        let applied = cluster.propose(samples::record_vms("n9", &[1])).await;
        assert_eq!(applied, Applied::Denied(DenyReason::UnknownNode(unknown)));
    });
}

#[test]
fn a_follower_says_who_leads_instead_of_proposing() {
    simulate(3, async {
        let cluster = SimCluster::start().await;
        let leader = cluster.leader(|_| true).await;
        let follower = (1..=3).map(m).find(|id| *id != leader).unwrap();
        until("the follower to know", || (cluster.consensus(follower).status().leader == Some(leader)).then_some(()))
            .await;
        let refused = cluster.consensus(follower).propose(samples::init()).await;
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leader) }));
        let refused = cluster.consensus(follower).ensure_current(Consistency::Linearizable).await;
        assert_eq!(refused, Err(ReadError::NotLeader { leader: Some(leader) }));
    });
}

#[test]
fn another_manager_leads_when_the_leader_is_isolated_and_nothing_is_lost() {
    simulate(4, async {
        let cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        let old = cluster.leader(|_| true).await;
        cluster.consensus(old).ensure_current(Consistency::Lease).await.unwrap();
        let cut_at = tokio::time::Instant::now();
        cluster.links.isolate(old);

        let new = cluster.leader(|status| status.manager != old).await;
        let took = cut_at.elapsed();
        let config = &cluster.config;
        assert!(took <= 2 * (config.election_max * 2), "a new leader after {took:?}");
        // It has to hear from a quorum once before it takes proposals.
        until("the new leader to hear a quorum", || cluster.consensus(new).status().quorum_acked.then_some(())).await;
        cluster.consensus(new).propose(samples::record_node("n1")).await.unwrap();
        cluster.consensus(new).ensure_current(Consistency::Linearizable).await.unwrap();

        // The old one may believe that it leads, and must not answer as if it did.
        let refused = cluster.consensus(old).ensure_current(Consistency::Lease).await;
        assert!(matches!(refused, Err(ReadError::NoQuorum | ReadError::NotLeader { .. })), "{refused:?}");
        let refused = cluster.consensus(old).propose(samples::record_node("n2")).await;
        assert_eq!(
            refused,
            Err(ProposeError::NotLeader { leader: None }),
            "it believes that it leads, and knows that nobody answers"
        );
        assert!(cluster.consensus(old).read_state(|state| state.nodes().is_empty()));

        cluster.links.heal();
        let events = cluster.settled_events().await;
        assert_eq!(events.len(), 2, "cluster and node, once each: {events:?}");
        assert!(cluster.consensus(old).read_state(|state| state.nodes().len() == 1));
    });
}

#[test]
fn when_the_leaders_streams_are_reset_its_lease_alone_is_waited_out() {
    for seed in 20..30 {
        simulate(seed, async {
            let cluster = SimCluster::start().await;
            cluster.propose(samples::init()).await;
            let old = cluster.leader(|_| true).await;
            cluster.settled_events().await;
            let cut_at = tokio::time::Instant::now();
            cluster.links.isolate(old);
            cluster.links.reset_streams();
            cluster.leader(|status| status.manager != old).await;
            let took = cut_at.elapsed();
            let config = &cluster.config;
            // A lease begins when the last heartbeat arrived.
            let (least, most) = (config.election_max - config.heartbeat, config.election_max + 2 * config.heartbeat);
            assert!(most < config.election_max + config.election_min, "it says something");
            assert!(least <= took && took <= most, "a new leader after {took:?}");
        });
    }
}

/// Two answers to one append come late, the second so late that the first has committed it: what tells the second follower
/// of that is sent, and lost, before it has answered the append itself.
#[test]
fn a_lease_counts_from_the_last_append_that_arrived_and_not_from_a_later_one_that_was_lost() {
    for seed in 40..50 {
        simulate(seed, async {
            let cluster = SimCluster::start().await;
            cluster.propose(samples::init()).await;
            let leader = cluster.leader(|_| true).await;
            cluster.settled_events().await;
            let before = cluster.consensus(leader).status().last_log;
            let followers: Vec<_> = (1..=3).map(m).filter(|id| *id != leader).collect();
            let [first, second] = followers[..] else { panic!("two followers") };
            let config = &cluster.config;
            let late = config.election_max / 2;
            cluster.links.slow_answers(first, leader, late);
            cluster.links.slow_answers(second, leader, late + config.heartbeat);

            let consensus = cluster.consensus(leader).clone();
            let proposed = tokio::spawn(async move { consensus.propose(samples::record_node("n1")).await });
            let arrived = || followers.iter().all(|id| cluster.consensus(*id).status().last_log > before);
            until("the append to arrive", || arrived().then_some(())).await;
            let last_heard = tokio::time::Instant::now();
            for follower in &followers {
                cluster.links.cut_way(leader, *follower);
            }
            proposed.await.unwrap().unwrap();
            tokio::time::sleep_until(last_heard + late + 2 * config.heartbeat).await;
            cluster.consensus(leader).ensure_current(Consistency::Lease).await.expect("its lease lasts");
            tokio::time::sleep_until(last_heard + config.election_max).await;
            let refused = cluster.consensus(leader).ensure_current(Consistency::Lease).await;
            assert_eq!(refused, Err(ReadError::NoQuorum), "seed {seed}: a lease may not outlast what followers wait");
        });
    }
}

#[test]
fn a_stream_that_is_reset_while_the_leader_lives_changes_nothing() {
    for (seed, cut_for) in [(30, 2), (31, 100)] {
        simulate(seed, async {
            let cluster = SimCluster::start().await;
            cluster.propose(samples::init()).await;
            let leader = cluster.leader(|_| true).await;
            cluster.settled_events().await;
            let term = cluster.consensus(leader).status().term;
            let follower = (1..=3).map(m).find(|id| *id != leader).unwrap();
            // The other follower hears the leader all the time, and refuses its vote.
            cluster.links.isolate_from(leader, follower);
            cluster.links.reset_streams();
            tokio::time::sleep(cluster.config.heartbeat * cut_for).await;
            cluster.links.heal();
            tokio::time::sleep(cluster.config.election_max * 4).await;
            let status = cluster.consensus(leader).status();
            assert_eq!((status.role, status.term), (Role::Leader, term));
            assert_eq!(cluster.consensus(follower).status().leader, Some(leader));
        });
    }
}

#[test]
fn a_manager_that_was_isolated_does_not_disturb_the_leader_when_it_comes_back() {
    simulate(5, async {
        let cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        let leader = cluster.leader(|_| true).await;
        let term = cluster.consensus(leader).status().term;
        let follower = (1..=3).map(m).find(|id| *id != leader).unwrap();
        cluster.links.isolate(follower);
        // Many election timeouts: without the vote before the vote it would come back with a far higher term.
        tokio::time::sleep(cluster.config.election_max * 20).await;
        cluster.propose(samples::record_node("n1")).await;
        cluster.links.heal();
        cluster.settled_events().await;
        tokio::time::sleep(cluster.config.election_max * 4).await;

        let status = cluster.consensus(leader).status();
        assert_eq!((status.role, status.term), (Role::Leader, term));
        assert_eq!(cluster.consensus(follower).status().term, term);
    });
}

#[test]
fn leadership_is_handed_over_on_request() {
    simulate(6, async {
        let cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        let old = cluster.leader(|_| true).await;
        cluster.settled_events().await;
        let heir = (1..=3).map(m).find(|id| *id != old).unwrap();
        cluster.consensus(old).transfer_leader(heir).await.unwrap();
        let new = cluster.leader(|status| status.manager != old).await;
        assert_eq!(new, heir);
        assert!(matches!(cluster.propose(samples::record_node("n1")).await, Applied::Done { .. }));
    });
}

#[test]
fn a_minority_accepts_nothing() {
    simulate(7, async {
        let mut cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        cluster.settled_events().await;
        let leader = cluster.leader(|_| true).await;
        let others: Vec<_> = (1..=3).map(m).filter(|id| *id != leader).collect();
        for other in others {
            cluster.stop(other).await;
        }
        let alone = cluster.consensus(leader);
        let before = alone.status().committed;
        let proposed =
            tokio::time::timeout(cluster.config.election_max * 20, alone.propose(samples::record_node("n1")));
        assert!(!matches!(proposed.await, Ok(Ok(_))), "nothing is applied without a quorum");
        assert!(alone.read_state(|state| state.nodes().is_empty()));
        assert_eq!(alone.ensure_current(Consistency::Linearizable).await, Err(ReadError::NoQuorum));
        assert_eq!(alone.status().committed, before);
        assert_ne!(before, LogIndex::default());
    });
}

#[test]
fn a_cluster_is_initialised_once() {
    simulate(8, async {
        let cluster = SimCluster::start().await;
        cluster.leader(|_| true).await;
        let members = cluster.managers.keys().map(|id| (*id, Default::default())).collect();
        let refused = cluster.consensus(m(1)).initialize(members).await.expect_err("must be refused");
        assert!(refused.to_string().contains("m1"), "{refused}");
    });
}
