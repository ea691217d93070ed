//! What servers send, what no server should, and that nothing of it makes the reader panic.

use proptest::prelude::*;

use super::*;

/// What the server of FreeRDP 2.11 answers to the message of this probe, on a machine with the name `vm`.
pub(crate) const OF_FREERDP: [u8; 108] = *b"NTLMSSP\0\x02\0\0\0\x04\0\x04\08\0\0\0\x35\x82\x88\xe2\
    \x8c\x7a\xaa\xbf\xef\x53\x89\xa1\0\0\0\0\0\0\0\0\x30\0\x30\0\x3c\0\0\0\x06\x01\xb1\x1d\0\0\0\x0f\
    V\0M\0\x02\0\x04\0V\0M\0\x01\0\x04\0V\0M\0\x04\0\x04\0v\0m\0\x03\0\x04\0v\0m\0\x07\0\x08\0\
    \x80\xc8\x01\x4d\xf6\x7e\xdd\x01\0\0\0\0";

fn pair(id: u16, value: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &u16::try_from(value.len()).unwrap().to_le_bytes(), value].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Returns a challenge of a Windows Server 2022 with these pairs.
pub(crate) fn challenge_with(pairs: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 56];
    bytes[..8].copy_from_slice(&SIGNATURE);
    bytes[8] = 2;
    bytes[20..24].copy_from_slice(&0xe28a_8235_u32.to_le_bytes());
    let length = u16::try_from(pairs.len()).unwrap().to_le_bytes();
    bytes[40..44].copy_from_slice(&[length, length].concat());
    bytes[44] = 56;
    bytes[48..56].copy_from_slice(&[10, 0, 0x7c, 0x4f, 0, 0, 0, 15]);
    bytes.extend(pairs);
    bytes
}

fn desktop() -> Vec<u8> {
    let pairs = [pair(2, &utf16("EXAMPLE")), pair(1, &utf16("DESK-1")), pair(4, &utf16("corp.example"))];
    let more = [pair(3, &utf16("desk-1.corp.example")), pair(7, &[1; 8]), pair(0, &[])];
    challenge_with(&[pairs.concat(), more.concat()].concat())
}

#[test]
fn the_message_that_asks_has_no_name_in_it() {
    let bytes = negotiate();
    assert_eq!(bytes[..16], *b"NTLMSSP\0\x01\0\0\0\x35\x82\x08\xe2");
    assert_eq!(bytes[16..32], [0; 16], "no domain, no workstation");
    assert_eq!(bytes[32..], [10, 0, 0x63, 0x45, 0, 0, 0, 15]);
}

#[test]
fn a_challenge_tells_names_and_version() {
    let told = parse_challenge(&desktop()).unwrap();
    assert_eq!(told.netbios_computer.as_deref(), Some("DESK-1"));
    assert_eq!(told.netbios_domain.as_deref(), Some("EXAMPLE"));
    assert_eq!(told.dns_computer.as_deref(), Some("desk-1.corp.example"));
    assert_eq!(told.os_version.unwrap().to_string(), "10.0.20348");
    let real = parse_challenge(&OF_FREERDP).unwrap();
    assert_eq!((real.netbios_computer.as_deref(), real.dns_computer.as_deref()), (Some("VM"), Some("vm")));
    assert_eq!(real.os_version.unwrap().to_string(), "6.1.7601");
}

#[test]
fn the_identity_is_both_names_whatever_their_case() {
    let of = |netbios: Option<&str>, dns: Option<&str>| {
        let name = |name: Option<&str>| name.map(str::to_owned);
        Challenge { netbios_computer: name(netbios), dns_computer: name(dns), ..Challenge::default() }.identity()
    };
    assert_eq!(of(Some("DESK-1"), Some("Desk-1.corp.example")), of(Some("desk-1"), Some("desk-1.corp.example")));
    assert_eq!(of(Some("DESK-1"), None).as_deref(), Some("desk-1/"));
    assert_ne!(of(Some("desk-1"), None), of(None, Some("desk-1")));
    assert_eq!(of(None, None), None);
}

#[test]
fn a_challenge_without_pairs_or_version_is_a_challenge_of_nobody() {
    assert_eq!(parse_challenge(&challenge_with(&[])).unwrap().identity(), None);
    let old = &challenge_with(&[])[..CHALLENGE_MIN];
    assert_eq!(parse_challenge(old), Ok(Challenge::default()));
    let mut unsaid = desktop();
    unsaid[23] &= !2;
    assert_eq!(parse_challenge(&unsaid).unwrap().os_version, None);
}

#[test]
fn a_name_that_is_empty_or_longer_than_a_name_can_be_is_no_name() {
    let computer = |text: &str| parse_challenge(&challenge_with(&pair(1, &utf16(text)))).unwrap().netbios_computer;
    assert_eq!(computer(&"x".repeat(NAME_MAX)).map(|name| name.len()), Some(NAME_MAX));
    assert_eq!(computer(&"x".repeat(NAME_MAX + 1)), None);
    assert_eq!(computer(""), None);
    let broken = challenge_with(&pair(1, &[0x00, 0xd8]));
    assert_eq!(parse_challenge(&broken).unwrap().netbios_computer.as_deref(), Some("\u{fffd}"));
}

#[test]
fn control_characters_of_a_name_do_not_reach_a_terminal() {
    let told = parse_challenge(&challenge_with(&pair(1, &utf16("A\u{1b}[2JB\r\n\u{85}")))).unwrap();
    assert_eq!(told.netbios_computer.as_deref(), Some("A\u{fffd}[2JB\u{fffd}\u{fffd}\u{fffd}"));
}

#[test]
fn what_is_no_challenge_is_told_apart() {
    assert_eq!(parse_challenge(b"SSH-2.0-OpenSSH"), Err(NtlmError::NotNtlm));
    assert_eq!(parse_challenge(&negotiate()), Err(NtlmError::NotChallenge(1)));
    assert_eq!(parse_challenge(&SIGNATURE), Err(NtlmError::Short));
    for outside in [u32::MAX, 57] {
        let mut bytes = challenge_with(&pair(0, &[]));
        bytes[44..48].copy_from_slice(&outside.to_le_bytes());
        assert_eq!(parse_challenge(&bytes), Err(NtlmError::Short), "{outside}");
    }
    let longer = challenge_with(&[1, 0, 9, 0, b'x', 0]);
    assert_eq!(parse_challenge(&longer), Err(NtlmError::Short), "a pair beyond the end");
}

#[test]
fn no_prefix_of_a_challenge_panics() {
    for whole in [&desktop()[..], &OF_FREERDP] {
        for length in 0..whole.len() {
            let cut = parse_challenge(&whole[..length]);
            assert!(length >= CHALLENGE_MIN || cut.is_err(), "{length}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, pairs in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse_challenge(&bytes);
        let _ = parse_challenge(&challenge_with(&pairs));
    }

    #[test]
    fn no_damage_makes_it_panic(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = desktop();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = parse_challenge(&bytes);
    }

    #[test]
    fn names_of_every_script_come_back(text in "\\PC{1,60}") {
        let told = parse_challenge(&challenge_with(&pair(1, &utf16(&text)))).unwrap();
        prop_assert_eq!(told.netbios_computer, Some(text));
    }
}
