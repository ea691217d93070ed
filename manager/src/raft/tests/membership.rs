//! Managers that come and go while commands are agreed on.

use std::collections::BTreeSet;
use std::time::Duration;

use vouch_types::{Applied, ManagerId, ManagerNode, Timing};

use super::cluster::{SimCluster, m, simulate, until};
use crate::config::MEMBERS_MAX;
use crate::raft::{ConsensusConfig, MembershipError, PROMOTE_LAG_MAX};
use crate::store::Stores;
use crate::store::tests::samples;

const WITHIN: Duration = Duration::from_secs(5);

/// One manager in memory that is the whole cluster.
async fn alone() -> SimCluster {
    let config = ConsensusConfig::from(&Timing::default());
    let cluster = SimCluster::on(config, [(m(1), Stores::memory())].into()).await;
    cluster.consensus(m(1)).initialize([(m(1), ManagerNode::default())].into()).await.unwrap();
    cluster.leader(|_| true).await;
    cluster
}

async fn write(cluster: &SimCluster, round: u128) {
    let applied = cluster.propose(samples::record_vms("n1", &[round, round + 1])).await;
    assert!(matches!(applied, Applied::Done { .. }), "{applied:?}");
}

/// Starts a manager, adds it, and gives it a vote once it has caught up; writes go on meanwhile.
async fn grow(cluster: &mut SimCluster, id: ManagerId) {
    cluster.run(id, Stores::memory()).await;
    let leader = cluster.leader(|_| true).await;
    cluster.consensus(leader).add_member(id, ManagerNode::default()).await.unwrap();
    write(cluster, u128::from(id.get())).await;
    until("it to be heard", || cluster.consensus(leader).answering().contains(&id).then_some(())).await;
    cluster.consensus(leader).promote_member(id).await.unwrap();
    write(cluster, u128::from(id.get()) + 1).await;
}

fn voters(cluster: &SimCluster, at: ManagerId) -> BTreeSet<u64> {
    cluster.consensus(at).status().voters.keys().map(|id| id.get()).collect()
}

#[test]
fn a_cluster_grows_from_one_to_five_and_shrinks_to_three_while_commands_are_agreed_on() {
    simulate(51, async {
        let mut cluster = alone().await;
        cluster.propose(samples::init()).await;
        cluster.propose(samples::record_node("n1")).await;
        for id in 2..=5 {
            grow(&mut cluster, m(id)).await;
        }
        let leader = cluster.leader(|_| true).await;
        assert_eq!(voters(&cluster, leader), (1..=5).collect());
        for id in (1..=5).map(m).filter(|id| *id != leader).take(2).collect::<Vec<_>>() {
            cluster.consensus(leader).remove_member(id).await.unwrap();
            write(&cluster, 50).await;
            cluster.stop(id).await;
        }
        let events = cluster.settled_events().await;
        assert_eq!(voters(&cluster, leader).len(), 3);
        assert!(events.len() > 8, "what was written meanwhile: {events:?}");
    });
}

#[test]
fn a_dead_manager_is_replaced_and_the_last_quorum_is_not_given_away() {
    simulate(52, async {
        let mut cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        cluster.propose(samples::record_node("n1")).await;
        let leader = cluster.leader(|_| true).await;
        let [dead, other] = [1, 2, 3].map(m).into_iter().filter(|id| *id != leader).collect::<Vec<_>>()[..] else {
            panic!("two others")
        };
        cluster.stop(dead).await;
        let silent = || !cluster.consensus(leader).answering().contains(&dead);
        until("the dead one to be missed", || silent().then_some(())).await;

        let refused = cluster.consensus(leader).remove_member(other).await;
        let expected = MembershipError::NoQuorumLeft { manager: other, voters: 2, answering: 1, needed: 2 };
        assert_eq!(refused, Err(expected));
        assert_eq!(cluster.consensus(leader).remove_member(leader).await, Err(MembershipError::Leads(leader)));
        write(&cluster, 7).await;

        cluster.consensus(leader).remove_member(dead).await.unwrap();
        grow(&mut cluster, m(4)).await;
        assert_eq!(voters(&cluster, leader), [leader.get(), other.get(), 4].into());
        cluster.settled_events().await;
    });
}

#[test]
fn what_cannot_be_changed_is_refused_with_its_reason() {
    simulate(53, async {
        let mut cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        let leader = cluster.leader(|_| true).await;
        let follower = (1..=3).map(m).find(|id| *id != leader).unwrap();
        until("the follower to know", || (cluster.consensus(follower).status().leader == Some(leader)).then_some(()))
            .await;
        let node = ManagerNode::default;
        let (chief, other) = (cluster.consensus(leader).clone(), cluster.consensus(follower).clone());
        let elsewhere = other.add_member(m(4), node()).await;
        assert_eq!(elsewhere, Err(MembershipError::NotLeader { leader: Some(leader) }));
        assert_eq!(chief.add_member(follower, node()).await, Err(MembershipError::AlreadyMember(follower)));
        assert_eq!(chief.promote_member(follower).await, Err(MembershipError::AlreadyVoter(follower)));
        assert_eq!(chief.promote_member(m(9)).await, Err(MembershipError::NotMember(m(9))));
        assert_eq!(chief.remove_member(m(9)).await, Err(MembershipError::NotMember(m(9))));

        // It was never started: it gets no vote, and can be removed at once.
        chief.add_member(m(4), node()).await.unwrap();
        assert_eq!(chief.promote_member(m(4)).await, Err(MembershipError::Silent(m(4))));
        chief.remove_member(m(4)).await.unwrap();
        for id in 4..=u64::try_from(MEMBERS_MAX).unwrap() {
            chief.add_member(m(id), node()).await.unwrap();
        }
        assert_eq!(chief.add_member(m(99), node()).await, Err(MembershipError::TooMany));
        cluster.run(m(5), Stores::memory()).await;
        until("it to be heard", || chief.answering().contains(&m(5)).then_some(())).await;
        cluster.links.isolate_from(m(5), leader);
        let many = (0..PROMOTE_LAG_MAX + 5).map(|n| chief.propose(samples::record_vms("n1", &[u128::from(n % 2)])));
        assert!(futures::future::join_all(many).await.iter().all(Result::is_ok));
        let refused = chief.promote_member(m(5)).await;
        assert!(
            matches!(refused, Err(MembershipError::Behind { behind, .. }) if behind > PROMOTE_LAG_MAX),
            "{refused:?}"
        );
        cluster.links.heal();
        until("it to catch up", || {
            let status = chief.status();
            (status.replicated.get(&m(5)) == Some(&status.last_log)).then_some(())
        })
        .await;
        chief.promote_member(m(5)).await.unwrap();
    });
}

#[test]
fn a_manager_that_stops_hands_the_leadership_to_one_that_answers() {
    simulate(54, async {
        let mut cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        let leader = cluster.leader(|_| true).await;
        let dead = (1..=3).map(m).find(|id| *id != leader).unwrap();
        cluster.stop(dead).await;
        let silent = || !cluster.consensus(leader).answering().contains(&dead);
        until("the dead one to be missed", || silent().then_some(())).await;
        assert_eq!(cluster.consensus(leader).hand_over(Some(dead), WITHIN).await, Err(MembershipError::Silent(dead)));

        let begun = tokio::time::Instant::now();
        assert!(cluster.consensus(leader).step_down(|_| true, WITHIN).await);
        let heir = cluster.leader(|status| status.manager != leader).await;
        assert!(heir != dead);
        // On the simulated clock: no election timeout was waited out.
        assert!(begun.elapsed() < cluster.config.election_min, "{:?}", begun.elapsed());
        assert!(
            cluster.consensus(leader).step_down(|_| true, WITHIN).await,
            "one that follows has nothing to hand over"
        );
    });
}

#[test]
fn a_manager_that_stops_prefers_whom_it_is_told_and_takes_another_where_that_one_is_gone() {
    simulate(56, async {
        let mut cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        let leader = cluster.leader(|_| true).await;
        let wanted = (1..=3).rev().map(m).find(|id| *id != leader).unwrap();
        until("it to be heard", || cluster.consensus(leader).answering().contains(&wanted).then_some(())).await;
        assert!(cluster.consensus(leader).step_down(|id| id == wanted, WITHIN).await);
        cluster.leader(|status| status.manager == wanted).await;
        cluster.stop(leader).await;
        let left = (1..=3).map(m).find(|id| *id != leader && *id != wanted).unwrap();
        until("the one that is left to be heard", || {
            cluster.consensus(wanted).answering().contains(&left).then_some(())
        })
        .await;
        assert!(cluster.consensus(wanted).step_down(|id| id == leader, WITHIN).await, "rather another than nobody");
        cluster.leader(|status| status.manager == left).await;
    });
}

#[test]
fn a_change_that_a_leader_left_halfway_is_finished_by_the_next_one() {
    simulate(59, async {
        let cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        let leader = cluster.leader(|_| true).await;
        let mut others = (1..=3).map(m).filter(|id| *id != leader);
        let (gone, next) = (others.next().unwrap(), others.next().unwrap());
        // What stands in the log when the leader ends after the first of the two entries of a removal.
        let old: BTreeSet<u64> = [1, 2, 3].into();
        let new = old.iter().copied().filter(|id| *id != gone.get()).collect();
        let nodes: std::collections::BTreeMap<u64, ManagerNode> =
            old.iter().map(|id| (*id, ManagerNode::default())).collect();
        let halfway = crate::raft::Membership::new(vec![old, new], nodes).unwrap();
        cluster.consensus(leader).raft().append_membership(halfway, openraft::EntryPayload::Blank, []).await.unwrap();
        assert!(cluster.consensus(leader).change_is_halfway());
        until("it to be heard", || cluster.consensus(leader).answering().contains(&next).then_some(())).await;
        cluster.consensus(leader).hand_over(Some(next), WITHIN).await.unwrap();
        cluster.leader(|status| status.manager == next).await;
        assert!(cluster.consensus(next).change_is_halfway(), "nobody finishes it by himself");
        let refused = cluster.consensus(leader).finish_change().await;
        assert!(matches!(refused, Err(MembershipError::NotLeader { .. })), "{refused:?}");
        cluster.consensus(next).finish_change().await.unwrap();
        assert!(!cluster.consensus(next).change_is_halfway());
        assert!(!voters(&cluster, next).contains(&gone.get()));
    });
}

#[test]
fn one_that_is_alone_keeps_the_leadership() {
    simulate(55, async {
        let cluster = alone().await;
        let refused = cluster.consensus(m(1)).hand_over(None, WITHIN).await;
        assert_eq!(refused, Err(MembershipError::Alone(m(1))));
        assert!(!cluster.consensus(m(1)).step_down(|_| true, WITHIN).await);
    });
}

#[test]
fn a_member_that_lost_its_log_gets_no_entries_and_is_put_right_by_removing_and_adding_it() {
    simulate(58, async {
        let mut cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        cluster.propose(samples::record_node("n1")).await;
        cluster.settled_events().await;
        let leader = cluster.leader(|_| true).await;
        let term = cluster.consensus(leader).status().term;
        let emptied = (1..=3).map(m).find(|id| *id != leader).unwrap();
        cluster.stop(emptied).await;
        cluster.run(emptied, Stores::memory()).await;

        // The others go on, and the leader stays.
        for round in 0..20 {
            write(&cluster, round).await;
            tokio::time::sleep(cluster.config.heartbeat * 4).await;
        }
        let status = cluster.consensus(leader).status();
        assert_eq!((status.leads(), status.term), (true, term));
        assert_eq!(cluster.consensus(emptied).status().last_log.get(), 0, "a part of the log is worse than none");

        cluster.consensus(leader).remove_member(emptied).await.unwrap();
        cluster.stop(emptied).await;
        grow(&mut cluster, emptied).await;
        cluster.settled_events().await;
        assert_eq!(cluster.consensus(leader).status().term, term);
        assert_eq!(voters(&cluster, leader), [1, 2, 3].into());
    });
}
