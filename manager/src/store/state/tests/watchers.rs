//! Watchers: their secrets, their assignments, their life.

use vouch_types::grant::GRANT_VMS_MAX;
use vouch_types::{AssignmentGeneration, Incarnation, NodeId, WatcherLife};

use super::*;

#[test]
fn numbers_of_watchers_are_never_used_again() {
    let mut story = Story::begun();
    let placed = |story: &mut Story| match story.apply(place("n1", 1)).0 {
        Applied::WatcherPlaced { watcher, .. } => watcher.get(),
        other => panic!("{other:?}"),
    };
    assert_eq!(placed(&mut story), 1);
    story.tell(Command::ForgetWatcher { watcher: WatcherId::new(1) });
    assert_eq!(placed(&mut story), 2);
    assert_eq!(story.watcher(2).placed, LogIndex::new(story.next - 1));
    assert_eq!(story.refused(place("n9", 1)), DenyReason::UnknownNode(NodeId::new("n9").unwrap()));
}

#[test]
fn a_secret_is_redeemed_once_and_only_the_right_one() {
    let mut story = Story::begun();
    story.tell(place("n1", 7));
    let bad = DenyReason::BadSecret(WatcherId::new(1));
    assert_eq!(story.refused(redeem(1, 8)), bad);
    let short = Command::RedeemSecret {
        watcher: WatcherId::new(1),
        secret_hash: vec![7; 31],
        incarnation: Incarnation::new(1),
        at: at(31),
    };
    assert_eq!(story.refused(short), bad);
    let live = EventKind::WatcherLive { watcher: WatcherId::new(1), node: node_id("n1") };
    assert_eq!(story.tell(redeem(1, 7)), [live]);
    let watcher = story.watcher(1);
    assert_eq!((watcher.life, watcher.incarnation), (WatcherLife::Live, Some(Incarnation::new(5))));
    assert_eq!(watcher.secret_hash, None);
    assert_eq!(watcher.redeemed_hash, Some(vec![7; 32]));
    assert!(matches!(story.in_vain(redeem(1, 7)), Applied::Done { .. }), "the same life lost the first answer");
    let other_life = Command::RedeemSecret {
        watcher: WatcherId::new(1),
        secret_hash: vec![7; 32],
        incarnation: Incarnation::new(6),
        at: at(32),
    };
    assert_eq!(story.refused(other_life), bad, "to another life a used secret is worth nothing");
    assert_eq!(story.refused(redeem(1, 0)), bad, "and neither is the absence of one");
    assert_eq!(story.refused(redeem(9, 7)), DenyReason::UnknownWatcher(WatcherId::new(9)));
    story.tell(Command::LoseWatcher { watcher: WatcherId::new(1), reason: "silent".to_owned(), at: at(40) });
    assert_eq!(story.refused(redeem(1, 7)), bad, "a life that is over enrols no more");
}

#[test]
fn a_watcher_that_was_lost_before_it_came_up_cannot_come_up_any_more() {
    let mut story = Story::begun();
    story.tell(place("n1", 7));
    story.tell(Command::LoseWatcher { watcher: WatcherId::new(1), reason: "boot budget".to_owned(), at: at(40) });
    assert_eq!(story.refused(redeem(1, 7)), DenyReason::BadSecret(WatcherId::new(1)));
}

#[test]
fn an_assignment_gets_a_new_generation_only_when_it_changes() {
    let mut story = Story::begun();
    story.tell(place("n1", 7));
    let watcher = WatcherId::new(1);
    let assign = |vms: &[u128]| Command::AssignWatchers {
        assignments: vec![(watcher, vms.iter().map(|vm| vm_id(*vm)).collect())],
    };
    let generation = |applied: Applied| match applied {
        Applied::WatchersAssigned { generations, .. } => generations,
        other => panic!("{other:?}"),
    };
    assert_eq!(generation(story.apply(assign(&[2, 1])).0), [(watcher, AssignmentGeneration::new(1))]);
    assert_eq!(generation(story.in_vain(assign(&[1, 2, 1]))), [(watcher, AssignmentGeneration::new(1))]);
    assert_eq!(generation(story.apply(assign(&[1])).0), [(watcher, AssignmentGeneration::new(2))]);
    assert_eq!(story.watcher(1).vms, [vm_id(1)]);

    let unknown = Command::AssignWatchers { assignments: vec![(watcher, Vec::new()), (WatcherId::new(9), Vec::new())] };
    assert_eq!(story.refused(unknown), DenyReason::UnknownWatcher(WatcherId::new(9)));
    let many: Vec<u128> = (0..=GRANT_VMS_MAX as u128).collect();
    assert!(matches!(story.refused(assign(&many)), DenyReason::TooMany { .. }));
}

#[test]
fn a_watcher_goes_through_its_life_in_order() {
    let mut story = Story::begun();
    story.tell(place("n1", 7));
    story.tell(redeem(1, 7));
    let watcher = WatcherId::new(1);
    let lose = Command::LoseWatcher { watcher, reason: "silent".to_owned(), at: at(40) };
    let retire = Command::RetireWatcher { watcher, at: at(41) };
    let forget = Command::ForgetWatcher { watcher };

    assert!(matches!(story.tell(lose.clone()).as_slice(), [EventKind::WatcherLost { .. }]));
    story.in_vain(lose.clone());
    assert!(matches!(story.tell(retire.clone()).as_slice(), [EventKind::WatcherRetired { .. }]));
    story.in_vain(retire.clone());
    story.in_vain(lose.clone());
    assert_eq!(story.watcher(1).life, WatcherLife::Retired);
    assert_eq!(story.tell(forget.clone()), []);
    assert!(story.state.watchers().is_empty());
    for command in [lose, retire, forget] {
        assert_eq!(story.refused(command), DenyReason::UnknownWatcher(watcher));
    }
}
