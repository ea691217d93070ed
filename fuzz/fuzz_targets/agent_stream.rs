//! What a guest agent, or whoever sits at the other end of its channel, may send: see `node/src/hypervisor/agent_stream.rs`.
//!
//! The first byte says how large the portions are; in whatever portions the bytes come, the same is heard, and no more is
//! kept than the limit says.

#![no_main]

#[expect(dead_code, reason = "the file is that of the node, whole")]
#[path = "../../node/src/hypervisor/agent_stream.rs"]
mod agent_stream;

use agent_stream::{AgentStream, Heard, NotAnAgent, REPLY_MAX};

const NUMBER: u32 = 7;

fn read<'a>(portions: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Heard>, NotAnAgent> {
    let mut stream = AgentStream::default();
    stream.synchronise(NUMBER);
    let mut heard = Vec::new();
    for portion in portions {
        stream.push(portion);
        while let Some(one) = stream.hear()? {
            match &one {
                Heard::InStep => assert!(heard.is_empty(), "it is synchronised once"),
                Heard::Answer(text) => {
                    assert_eq!(heard.first(), Some(&Heard::InStep), "no answer counts before the synchronisation");
                    assert!(!text.contains('\n'), "an answer is one line");
                }
            }
            stream.ask("guest-ping");
            heard.push(one);
        }
    }
    Ok(heard)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = read(std::iter::once(bytes));
    assert_eq!(read(bytes.chunks(usize::from(*size) + 1)), whole, "portions make a difference");
    let answers = whole.iter().flatten().filter_map(|heard| match heard {
        Heard::InStep => None,
        Heard::Answer(text) => Some(text.len()),
    });
    // What is written anew may be longer than what was read: six characters for a control character of one.
    assert!(answers.max().unwrap_or_default() <= 6 * REPLY_MAX);
});
