//! Which log each manager has, and who is on its way back.

use vouch_types::{LogName, ManagerNode, ManagerReturn, RecordedLog, ReturnEnd, Suffrage};

use super::*;
use crate::store::codec::{decode, encode};
use crate::store::state::Head;

fn m(number: u64) -> ManagerId {
    ManagerId::new(number)
}

fn log(number: u128) -> LogName {
    LogName::new(uuid::Uuid::from_u128(number))
}

fn record(manager: u64, name: u128) -> Command {
    Command::RecordManagerLog { manager: m(manager), log: log(name) }
}

fn begin(manager: u64, suffrage: Suffrage) -> Command {
    let returning = ManagerReturn { node: ManagerNode::default(), suffrage };
    Command::BeginManagerReturn { manager: m(manager), returning, at: at(81) }
}

fn end(manager: u64, end: ReturnEnd) -> Command {
    Command::EndManagerReturn { manager: m(manager), end, at: at(82) }
}

#[test]
fn the_first_log_of_a_manager_stands_until_it_is_removed_from_the_members() {
    let mut story = Story::begun();
    story.tell(record(2, 7));
    let first = story.state.recorded_log(m(2)).unwrap();
    assert_eq!(first, RecordedLog { name: log(7), index: LogIndex::new(story.next - 1) });
    story.in_vain(record(2, 7));
    assert_eq!(story.state.recorded_log(m(2)), Some(first), "the same again is no news");
    let other = DenyReason::OtherLog { manager: m(2), recorded: log(7), told: log(8) };
    assert_eq!(story.refused(record(2, 8)), other);

    let index = LogIndex::new(100);
    assert!(story.state.apply_members(index, &[m(1), m(2), m(3)].into()).is_empty(), "it is a member still");
    let changes = story.state.apply_members(index, &[m(1), m(3)].into());
    assert!(changes.head && story.state.manager_records().is_empty());
    assert_eq!(story.state.marks().latest, index);
    story.tell(record(2, 8));
    survives(&story.state);
    assert_eq!(story.state.recorded_log(m(2)).map(|log| log.name), Some(log(8)));
}

#[test]
fn what_a_manager_had_outlives_its_removal_until_it_has_returned_or_was_given_up() {
    for how in [ReturnEnd::Returned, ReturnEnd::GivenUp] {
        let mut story = Story::begun();
        story.tell(record(2, 7));
        assert_eq!(story.tell(begin(2, Suffrage::Voter)), [EventKind::ManagerLogLost { manager: m(2) }]);
        story.state.apply_members(LogIndex::new(100), &[m(1), m(3)].into());
        assert_eq!(story.state.recorded_log(m(2)), None);
        survives(&story.state);
        assert_eq!(story.tell(begin(2, Suffrage::Learner)), [], "it had a vote at first");
        let returning = story.state.manager_record(m(2)).and_then(|record| record.returning.clone());
        assert_eq!(returning.map(|returning| returning.suffrage), Some(Suffrage::Voter));
        assert_eq!(story.tell(end(2, how)), [EventKind::ManagerReturnEnded { manager: m(2), end: how }]);
        assert_eq!(story.tell(end(2, how)), [], "once");
        assert!(story.state.manager_records().is_empty());
    }
}

#[test]
fn a_head_of_an_earlier_version_is_read_and_one_without_records_is_written_as_before() {
    let bytes = encode("head", &Head::default()).unwrap();
    assert!(!String::from_utf8(bytes.clone()).unwrap().contains("managers\":"));
    assert_eq!(decode::<Head>("head", &bytes).unwrap(), Head::default());
}
