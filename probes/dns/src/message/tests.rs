//! Questions and answers, well-formed and not.

use proptest::prelude::*;

use super::*;

const ID: u16 = 0xbeef;

fn question(name: &str, record: RecordType) -> Question {
    Question { name: Name::parse(name).unwrap(), record }
}

/// An answer to the question with these flags and records, each a type and its data, all by a pointer to the question's name.
fn answer(question: &Question, flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = query(ID, question);
    bytes[2..4].copy_from_slice(&(RESPONSE | flags).to_be_bytes());
    bytes[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    for (kind, data) in records {
        bytes.extend(b"\xc0\x0c");
        bytes.extend(kind.to_be_bytes());
        bytes.extend(b"\0\x01\0\0\0\x3c");
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

#[test]
fn a_question_is_as_rfc_1035_draws_it() {
    let bytes = query(ID, &question("a.example.", RecordType::MX));
    assert_eq!(bytes, b"\xbe\xef\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x0f\0\x01");
    assert_eq!(query(ID, &question(".", RecordType::NS))[12..], *b"\0\0\x02\0\x01");
}

#[test]
fn names_keep_their_limits() {
    let label = "x".repeat(63);
    let longest = [&label[..], &label, &label, &label[..61]].join(".");
    assert!(Name::parse(&longest).is_some() && Name::parse(&format!("{longest}.")).is_some());
    assert_eq!(longest.len(), 253);
    for bad in ["", "..", "a..b", ".a", "a b", "é", &"x".repeat(64), &format!("{longest}x")] {
        assert_eq!(Name::parse(bad), None, "{bad}");
    }
}

#[test]
fn an_answer_counts_the_records_of_its_type() {
    let asked = question("desk.example", RecordType::A);
    let records: [(u16, &[u8]); 3] = [(5, b"\x01x\0"), (1, &[192, 0, 2, 1]), (1, &[192, 0, 2, 2])];
    let reply = parse_reply(&answer(&asked, AUTHORITATIVE | RECURSION_AVAILABLE, &records), ID, &asked).unwrap();
    assert_eq!((reply.rcode, reply.answers, reply.records, reply.truncated), (Rcode::NOERROR, 2, 3, false));
    assert!(reply.authoritative && reply.recursive);
    assert_eq!(reply.addresses, ["192.0.2.1", "192.0.2.2"].map(|a| a.parse::<IpAddr>().unwrap()));
    let six = question("desk.example", RecordType::AAAA);
    let reply = parse_reply(&answer(&six, 0, &[(28, &[0; 16])]), ID, &six).unwrap();
    assert_eq!(reply.addresses, ["::".parse::<IpAddr>().unwrap()]);
    let many: Vec<(u16, &[u8])> = vec![(1, &[192, 0, 2, 1]); 20];
    let reply = parse_reply(&answer(&asked, 0, &many), ID, &asked).unwrap();
    assert_eq!((reply.answers, reply.addresses.len()), (20, ADDRESSES_MAX));
    let mut more = answer(&asked, 0, &[]);
    more[8..12].copy_from_slice(&[1, 3, 0, 4]);
    let reply = parse_reply(&more, ID, &asked).unwrap();
    assert_eq!((reply.records, reply.authorities, reply.additionals), (0, 0x103, 4), "they are counted, and not read");
}

#[test]
fn the_question_must_be_repeated_in_any_case_of_letters() {
    let asked = question("desk.example", RecordType::A);
    let shouted = answer(&question("DESK.example", RecordType::A), 3, &[]);
    assert_eq!(parse_reply(&shouted, ID, &asked).unwrap().rcode, Rcode::NXDOMAIN);
    for other in [question("desk.examples", RecordType::A), question("desk.example", RecordType::MX)] {
        assert_eq!(parse_reply(&answer(&other, 0, &[]), ID, &asked), Err(NotAnswer::OtherQuestion), "{other:?}");
    }
    let bare = |flags: u16| {
        let numbers = [ID, RESPONSE | flags, 0, 0, 0, 0].map(u16::to_be_bytes);
        parse_reply(&numbers.concat(), ID, &asked).map(|reply| reply.rcode)
    };
    assert_eq!((bare(0), bare(1)), (Err(NotAnswer::OtherQuestion), Ok(Rcode::FORMERR)));
}

#[test]
fn what_is_no_answer_is_told_apart() {
    let asked = question("desk.example", RecordType::A);
    let whole = answer(&asked, 0, &[(1, &[192, 0, 2, 1])]);
    assert_eq!(parse_reply(&whole, ID + 1, &asked), Err(NotAnswer::Stray));
    assert_eq!(parse_reply(&[], ID, &asked), Err(NotAnswer::Stray));
    assert_eq!(parse_reply(&query(ID, &asked), ID, &asked), Err(NotAnswer::NoResponse));
    for length in 12..whole.len() {
        let cut = parse_reply(&whole[..length], ID, &asked);
        assert!(matches!(cut, Err(NotAnswer::Malformed | NotAnswer::OtherQuestion)), "{length}: {cut:?}");
    }
    let mut looped = whole;
    let name = looped.len() - 16;
    looped[name] = 0x40;
    assert_eq!(parse_reply(&looped, ID, &asked), Err(NotAnswer::Malformed));
}

#[test]
fn a_cut_answer_says_nothing_of_its_records() {
    let asked = question("desk.example", RecordType::A);
    let mut cut = answer(&asked, TRUNCATED, &[]);
    cut[6..8].copy_from_slice(&9_u16.to_be_bytes());
    let reply = parse_reply(&cut, ID, &asked).unwrap();
    assert!(reply.truncated && reply.answers == 0);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        tail in proptest::collection::vec(any::<u8>(), 0..200),
        records in any::<u16>(),
        flags in any::<u16>(),
    ) {
        let asked = question("a.example", RecordType::A);
        let mut bytes = answer(&asked, flags, &[]);
        bytes[6..8].copy_from_slice(&records.to_be_bytes());
        bytes.extend(tail);
        let _ = parse_reply(&bytes, ID, &asked);
        let _ = parse_reply(&bytes[..bytes.len().min(30)], ID, &asked);
    }

    #[test]
    fn as_many_answers_are_counted_as_there_are(count in 0..30usize, aliases in 0..5usize) {
        let asked = question("a.example", RecordType::TXT);
        let records = [vec![(16, &b"\x01x"[..]); count], vec![(5, &b"\x01y\0"[..]); aliases]].concat();
        let reply = parse_reply(&answer(&asked, 0, &records), ID, &asked).unwrap();
        prop_assert_eq!(reply.answers as usize, count);
    }
}
