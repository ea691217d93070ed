//! What the bytes of a guest agent's stream say. Pure: who reads and writes it is `GuestAgent`.
//!
//! The stream has no notion of a connection to the guest, so that answers to questions of an earlier life may come first.
//! It is in step once the agent has answered `guest-sync-delimited` with our number behind a 0xFF byte (QEMU reference:
//! qemu-ga-ref); everything before that is thrown away.

use std::mem;

use serde_json::{Value, json};
use thiserror::Error;

/// The most bytes of a line that are kept to wait for its end.
pub const REPLY_MAX: usize = 64 * 1024;
/// The most bytes before a 0xFF that are thrown away: what is left of an answer that was too long, and no flood.
pub const STALE_MAX: usize = 16 * REPLY_MAX;
/// Ends whatever the agent has read so far, and begins its answer to a synchronisation.
const SENTINEL: u8 = 0xff;
const LINE_END: u8 = b'\n';

/// What does not come from an agent that works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotAnAgent {
    /// More than [`REPLY_MAX`] bytes came without the end that was waited for.
    #[error("more than {REPLY_MAX} bytes without an end")]
    TooLong,
    /// More than [`STALE_MAX`] bytes came before the answer to the synchronisation.
    #[error("more than {STALE_MAX} bytes before the answer to the synchronisation")]
    Flood,
    /// The line behind a question is no JSON object with `return` or `error`.
    #[error("neither `return` nor `error`")]
    NoAnswer,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Awaited {
    /// Nothing, and the stream has to be synchronised before a question.
    #[default]
    Beginning,
    /// Nothing: what comes is kept, and is the beginning of the next answer.
    Nothing,
    /// The 0xFF before an answer to the synchronisation of this number.
    Sentinel(u32),
    /// That answer.
    InStep(u32),
    /// The answer to a question.
    Answer,
}

/// What has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The agent answers us: a question may be sent.
    InStep,
    /// The answer to the question, JSON in one line. An error, as "the command is disabled", is an answer as well:
    /// somebody lives there.
    Answer(String),
}

/// The reading side of one stream.
#[derive(Clone, Debug, Default)]
pub struct AgentStream {
    unread: Vec<u8>,
    /// How many bytes at the front of `unread` are known not to hold the end that is waited for.
    searched: usize,
    /// How many bytes were thrown away since the last synchronisation.
    stale: usize,
    awaited: Awaited,
}

impl AgentStream {
    /// Returns whether a question may be sent: whatever was asked before has been answered.
    pub fn is_in_step(&self) -> bool {
        self.awaited == Awaited::Nothing
    }

    /// Returns what is to be sent so that the stream gets into step; the number must be one that was not used on it.
    pub fn synchronise(&mut self, number: u32) -> Vec<u8> {
        self.wait_for(Awaited::Sentinel(number));
        self.stale = 0;
        let sync = json!({ "execute": "guest-sync-delimited", "arguments": { "id": number } });
        [&[SENTINEL], sync.to_string().as_bytes(), &[LINE_END]].concat()
    }

    /// Returns what is to be sent to put this question, a command without arguments.
    pub fn ask(&mut self, command: &str) -> Vec<u8> {
        self.wait_for(Awaited::Answer);
        let mut line = json!({ "execute": command }).to_string().into_bytes();
        line.push(LINE_END);
        line
    }

    /// Takes bytes from the stream, in any portions.
    pub fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Returns what the bytes so far say, or `None` when more are needed.
    ///
    /// # Errors
    /// [`NotAnAgent`]; the stream is of no use afterwards.
    pub fn hear(&mut self) -> Result<Option<Heard>, NotAnAgent> {
        loop {
            match self.awaited {
                Awaited::Beginning | Awaited::Nothing => return Ok(None),
                Awaited::Sentinel(number) => {
                    if !self.throw_away_until(SENTINEL)? {
                        return Ok(None);
                    }
                    self.wait_for(Awaited::InStep(number));
                }
                Awaited::InStep(number) => {
                    let Some(line) = self.take_until(LINE_END)? else { return Ok(None) };
                    if is_sync_answer(&line, number) {
                        self.wait_for(Awaited::Nothing);
                        return Ok(Some(Heard::InStep));
                    }
                    // Another number answers an earlier attempt.
                    self.wait_for(Awaited::Sentinel(number));
                }
                Awaited::Answer => {
                    let Some(line) = self.take_until(LINE_END)? else { return Ok(None) };
                    self.wait_for(Awaited::Nothing);
                    return answer(&line).map(|text| Some(Heard::Answer(text)));
                }
            }
        }
    }

    fn wait_for(&mut self, awaited: Awaited) {
        self.awaited = awaited;
        self.searched = 0;
    }

    /// Throws away what comes up to this byte, and the byte: the rest of an answer that was too long, say. Returns whether it
    /// has come.
    fn throw_away_until(&mut self, end: u8) -> Result<bool, NotAnAgent> {
        let found = self.unread.iter().position(|byte| *byte == end);
        let stale = found.unwrap_or(self.unread.len());
        self.stale += stale;
        if self.stale > STALE_MAX {
            return Err(NotAnAgent::Flood);
        }
        self.unread.drain(..found.map_or(stale, |at| at + 1));
        Ok(found.is_some())
    }

    /// Takes what comes before this byte, and throws the byte away.
    fn take_until(&mut self, end: u8) -> Result<Option<Vec<u8>>, NotAnAgent> {
        let found = self.unread[self.searched..].iter().position(|byte| *byte == end).map(|at| self.searched + at);
        let at = match found {
            Some(at) if at <= REPLY_MAX => at,
            None if self.unread.len() <= REPLY_MAX => {
                self.searched = self.unread.len();
                return Ok(None);
            }
            Some(_) | None => return Err(NotAnAgent::TooLong),
        };
        let rest = self.unread.split_off(at + 1);
        let mut taken = mem::replace(&mut self.unread, rest);
        taken.pop();
        self.searched = 0;
        Ok(Some(taken))
    }
}

fn is_sync_answer(line: &[u8], number: u32) -> bool {
    let answer: Option<Value> = serde_json::from_slice(line).ok();
    answer.as_ref().and_then(|answer| answer.get("return")).and_then(Value::as_u64) == Some(u64::from(number))
}

fn answer(line: &[u8]) -> Result<String, NotAnAgent> {
    let answer: Value = serde_json::from_slice(line).map_err(|_| NotAnAgent::NoAnswer)?;
    if answer.get("return").is_none() && answer.get("error").is_none() {
        return Err(NotAnAgent::NoAnswer);
    }
    Ok(answer.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads these portions as the answer to a synchronisation of number 7, then to a question.
    fn read<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Heard>, NotAnAgent> {
        let mut stream = AgentStream::default();
        stream.synchronise(7);
        let mut heard = Vec::new();
        for portion in portions {
            stream.push(portion);
            while let Some(one) = stream.hear()? {
                if one == Heard::InStep {
                    stream.ask("guest-ping");
                }
                heard.push(one);
            }
        }
        Ok(heard)
    }

    const WHOLE: &[u8] = b"{\"return\": {}}\n\xff{\"return\": 5}\n{\"return\":\xff{\"return\": 7}\n{\"return\": {}}\n";

    #[test]
    fn what_comes_before_the_answer_to_our_number_is_thrown_away() {
        let answered = [Heard::InStep, Heard::Answer("{\"return\":{}}".to_owned())];
        assert_eq!(read([WHOLE]), Ok(answered.to_vec()));
        assert_eq!(read(WHOLE.chunks(1)), Ok(answered.to_vec()));
    }

    #[test]
    fn it_is_in_step_between_an_answer_and_the_next_question() {
        let mut stream = AgentStream::default();
        assert!(!stream.is_in_step(), "nobody has answered yet");
        stream.synchronise(7);
        stream.push(b"\xff{\"return\": 7}\n");
        assert!(!stream.is_in_step());
        assert_eq!(stream.hear(), Ok(Some(Heard::InStep)));
        assert!(stream.is_in_step());
        stream.ask("guest-ping");
        assert!(!stream.is_in_step(), "an answer that comes too late would be taken for the next one");
        stream.push(b"{\"return\": {}}\n");
        assert!(matches!(stream.hear(), Ok(Some(Heard::Answer(_)))));
        assert!(stream.is_in_step());
    }

    #[test]
    fn a_line_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
        let line =
            |spaces: usize| [b"\xff{\"return\":7}\n{\"error\":1}", vec![b' '; spaces].as_slice(), b"\n"].concat();
        let longest = REPLY_MAX - "{\"error\":1}".len();
        assert_eq!(read([line(longest).as_slice()]).map(|heard| heard.len()), Ok(2));
        assert_eq!(read([line(longest + 1).as_slice()]), Err(NotAnAgent::TooLong));
        assert_eq!(read([line(longest + 1).as_slice()].concat().chunks(999)), Err(NotAnAgent::TooLong));
        let late = [vec![b'x'; 3 * REPLY_MAX].as_slice(), b"\xff{\"return\":7}\n"].concat();
        assert_eq!(read(late.chunks(999)).map(|heard| heard.len()), Ok(1), "what comes before the 0xFF is thrown away");
        let stale = |bytes: usize| [vec![b'x'; bytes].as_slice(), b"\xff{\"return\":7}\n"].concat();
        assert_eq!(read(stale(STALE_MAX).chunks(9_999)).map(|heard| heard.len()), Ok(1));
        assert_eq!(read(stale(STALE_MAX + 1).chunks(9_999)), Err(NotAnAgent::Flood));
        assert_eq!(read([stale(STALE_MAX + 1).as_slice()]), Err(NotAnAgent::Flood));
    }

    #[test]
    fn an_answer_that_is_none_is_told() {
        for none in ["", "{}", "7", "{\"return\": {}", "[\"return\"]", "\"return\""] {
            let bytes = format!("{{\"return\":7}}\n{none}\n");
            assert_eq!(read([&[SENTINEL], bytes.as_bytes()]), Err(NotAnAgent::NoAnswer), "{none}");
        }
    }

    proptest! {
        #[test]
        fn portions_make_no_difference(
            parts in prop::collection::vec(
                prop_oneof![
                    Just(b"\xff".to_vec()),
                    Just(b"{\"return\": 7}\n".to_vec()),
                    Just(b"{\"error\": {}}\n".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..20),
                ],
                0..12,
            ),
            portion in 1_usize..40,
        ) {
            let bytes = parts.concat();
            prop_assert_eq!(read([bytes.as_slice()]), read(bytes.chunks(portion)));
        }
    }
}
