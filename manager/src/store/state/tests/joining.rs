//! Join tokens: made within bounds, used as often as they may be, and refused each with its reason.

use std::time::Duration;

use vouch_types::join::{JOIN_TOKEN_TTL_MAX, JOIN_TOKEN_USES_MAX, JOIN_TOKENS_MAX, JOIN_USES_KEPT};
use vouch_types::{
    Digest, Incarnation, JoinFor, JoinRefusal, JoinRole, JoinStanding, JoinTokenId, Joiner, WatcherLife,
};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: u64 = 3_600_000;

fn create(secret: u8, allows: JoinFor, uses: u32, ttl: Duration) -> Command {
    Command::CreateJoinToken { allows, secret_hash: Digest::new([secret; 32]), uses, ttl, at: at(100) }
}

fn any_node() -> JoinFor {
    JoinFor::Any(JoinRole::Node)
}

fn n(name: &str) -> Joiner {
    Joiner::Node(node_id(name))
}

fn join(secret: u8, joiner: Joiner, request: u8, millis: u64) -> Command {
    Command::RedeemJoinToken {
        secret_hash: Digest::new([secret; 32]),
        joiner,
        request: Digest::new([request; 32]),
        key: Some(Digest::new([request; 32])),
        incarnation: Incarnation::new(9),
        at: at(millis),
    }
}

fn t(number: u64) -> JoinTokenId {
    JoinTokenId::new(number)
}

fn revoke(number: u64) -> Command {
    Command::RevokeJoinToken { token: t(number), at: at(150) }
}

fn why(reason: DenyReason) -> JoinRefusal {
    match reason {
        DenyReason::JoinRefused(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_lets_in_as_many_as_it_says_and_the_same_request_again() {
    let mut story = Story::begun();
    assert!(matches!(story.tell(create(1, any_node(), 2, HOUR))[..], [EventKind::JoinTokenCreated { uses: 2, .. }]));
    assert_eq!(story.tell(join(1, n("n8"), 1, 200)), [EventKind::JoinTokenUsed { token: t(1), joiner: n("n8") }]);
    story.tell(join(1, n("n9"), 2, 201));
    assert!(matches!(story.in_vain(join(1, n("n9"), 2, 202)), Applied::Done { .. }), "its answer was lost");
    assert_eq!(why(story.refused(join(1, n("n9"), 3, 203))), JoinRefusal::UsedUp { token: t(1), uses: 2 });
    assert_eq!(story.state.join_tokens()[0].standing(at(204)), JoinStanding::UsedUp);
    survives(&story.state);
}

#[test]
fn each_refusal_has_its_reason_and_takes_no_use() {
    let mut story = Story::begun();
    story.tell(create(1, JoinFor::One(n("n8")), 1, HOUR));
    story.tell(create(2, any_node(), 1, HOUR));
    assert_eq!(why(story.refused(join(7, n("n8"), 1, 200))), JoinRefusal::Unknown);
    let m4 = Joiner::Manager(ManagerId::new(4));
    let role = JoinRefusal::WrongRole { token: t(1), wanted: JoinRole::Node, shown: JoinRole::Manager };
    assert_eq!(why(story.refused(join(1, m4, 1, 200))), role);
    let name = JoinRefusal::WrongName { token: t(1), wanted: n("n8"), shown: n("n9") };
    assert_eq!(why(story.refused(join(1, n("n9"), 1, 200))), name);
    assert_eq!(why(story.refused(join(1, n("n8"), 1, 100 + HOUR_MS))), JoinRefusal::Expired(t(1)));
    assert_eq!(story.tell(revoke(2)), [EventKind::JoinTokenRevoked { token: t(2) }]);
    assert!(matches!(story.in_vain(revoke(2)), Applied::Done { .. }), "revoked twice");
    assert_eq!(why(story.refused(join(2, n("n8"), 1, 200))), JoinRefusal::Revoked(t(2)));
    assert_eq!(story.refused(revoke(9)), DenyReason::UnknownJoinToken(t(9)));
    story.tell(join(1, n("n8"), 1, 99 + HOUR_MS));
}

#[test]
fn the_time_of_a_token_is_judged_by_the_command_alone() {
    let mut story = Story::begun();
    story.tell(create(1, any_node(), 5, HOUR));
    assert_eq!(why(story.refused(join(1, n("n8"), 1, 100 + HOUR_MS))), JoinRefusal::Expired(t(1)));
    // A leader whose clock is behind proposes an earlier time: every manager judges by that one.
    story.tell(join(1, n("n8"), 1, 200));
}

#[test]
fn a_watcher_joins_only_while_it_waits_for_its_certificate() {
    let mut story = Story::begun();
    story.tell(create(1, JoinFor::Any(JoinRole::Watcher), 5, HOUR));
    let w1 = Joiner::Watcher(WatcherId::new(1));
    assert_eq!(why(story.refused(join(1, w1.clone(), 1, 200))), JoinRefusal::NoSuchWatcher(w1.clone()));
    story.tell(place("n1", 1));
    story.tell(join(1, w1.clone(), 1, 200));
    assert_eq!(story.state.watchers()[&WatcherId::new(1)].life, WatcherLife::Live);
    assert!(matches!(story.refused(redeem(1, 1)), DenyReason::BadSecret(_)), "its own secret is worth nothing now");
    assert!(matches!(story.in_vain(join(1, w1.clone(), 1, 201)), Applied::Done { .. }));
    assert_eq!(why(story.refused(join(1, w1.clone(), 2, 202))), JoinRefusal::NoSuchWatcher(w1));
}

#[test]
fn a_token_has_so_many_uses_and_holds_so_long_and_no_more() {
    let mut story = Story::begun();
    for (uses, ttl, name) in [
        (0, HOUR, "uses"),
        (JOIN_TOKEN_USES_MAX + 1, HOUR, "uses"),
        (1, Duration::from_millis(999), "ttl"),
        (1, JOIN_TOKEN_TTL_MAX + Duration::from_millis(1), "ttl"),
    ] {
        let refused = story.refused(create(1, any_node(), uses, ttl));
        assert!(matches!(&refused, DenyReason::BadValue { field, .. } if field == name), "{refused:?}");
    }
    story.tell(create(1, any_node(), JOIN_TOKEN_USES_MAX, JOIN_TOKEN_TTL_MAX));
    for use_number in 0..=JOIN_USES_KEPT {
        story.tell(join(1, n(&format!("x{use_number}")), 1, 200));
    }
    let uses: Vec<String> = story.state.join_tokens()[0].last_uses.iter().map(|used| used.joiner.name()).collect();
    assert_eq!((uses.len(), uses[0].as_str()), (JOIN_USES_KEPT, "x1"), "the last ones are kept");
}

#[test]
fn there_are_so_many_tokens_and_those_that_have_ended_make_room() {
    let mut story = Story::begun();
    for _ in 0..JOIN_TOKENS_MAX {
        story.tell(create(1, any_node(), 1, HOUR));
    }
    let refused = story.refused(create(2, any_node(), 1, HOUR));
    assert!(matches!(refused, DenyReason::TooMany { limit, .. } if limit == JOIN_TOKENS_MAX as u64), "{refused:?}");
    story.tell(revoke(7));
    story.tell(create(2, any_node(), 1, HOUR));
    assert_eq!(story.state.join_tokens().len(), JOIN_TOKENS_MAX);
    assert_eq!(story.state.join_token(t(7)), None);
    assert!(story.state.join_token(t(JOIN_TOKENS_MAX as u64 + 1)).is_some(), "numbers are never used again");
}
