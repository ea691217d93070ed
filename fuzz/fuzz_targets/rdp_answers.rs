//! What whoever listens on the port of RDP may answer: X.224 (MS-RDPBCGR 2.2.1.2), CredSSP (MS-CSSP 2.2.1) and the
//! challenge of NTLM (MS-NLMP 2.2.1.2), each reader over the same bytes.

#![no_main]

use probe_rdp::{ANSWER_MAX, Answer};

/// `ber::HEAD_LEN`: the bytes that tell how long an answer of CredSSP is.
const HEAD_LEN: usize = 6;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(header) = bytes.first_chunk() {
        let length = probe_rdp::tpkt_length(header);
        let confirm = probe_rdp::parse_confirm(bytes);
        match (length, confirm) {
            (Err(why), confirm) => assert_eq!(confirm, Err(why), "the header alone decides"),
            (Ok(length), Ok(_)) => {
                assert!(length <= bytes.len());
                assert_eq!(probe_rdp::parse_confirm(&bytes[..length]), confirm, "what follows makes no difference");
            }
            (Ok(_), Err(_)) => {}
        }
    }
    if let Some(length) = bytes.first_chunk::<HEAD_LEN>().and_then(|head| probe_rdp::answer_length(head).ok()) {
        assert!(length <= ANSWER_MAX, "{length}");
    }
    let wrapped = match probe_rdp::parse_answer(bytes) {
        Ok(Answer::Challenge(challenge)) => Some(challenge),
        Ok(Answer::Refused(_)) | Err(_) => None,
    };
    for challenge in wrapped.into_iter().chain(probe_rdp::parse_challenge(bytes)) {
        let names = [challenge.netbios_computer.clone(), challenge.netbios_domain.clone(), challenge.identity()];
        for name in names.into_iter().flatten() {
            assert!(!name.is_empty() && name.chars().all(|letter| !letter.is_control()), "{name:?}");
        }
    }
});
