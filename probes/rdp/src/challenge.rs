//! The last stage before a login: asks for a challenge inside TLS, reads it, and says what came of it.
//!
//! Whoever is asked has begun a login and no more: it goes on only when the challenge is answered, which this never does. So
//! nobody's password is tried, and no account is locked.

use std::time::{Duration, Instant};

use probe_kit::{Budget, Interruption, is_wedged};

use crate::ber::HEAD_LEN;
use crate::credssp::{Answer, CredSspError, RefusalCode, answer_length, parse_answer, request};
use crate::exchange::Line;
use crate::ntlm::Challenge;

/// What asking for a challenge came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// The challenge came.
    Challenged(Challenge),
    /// The service refuses to give one.
    Refused(RefusalCode),
    /// The service hung up.
    Broken,
    /// Nothing came, or not to its end, for the time given.
    Wedged(Duration),
    /// Too little time was left to tell a slow service from a wedged one.
    TooLate,
    /// Something came that is no answer to it.
    NotCredSsp(CredSspError),
    /// The exchange failed for a reason that says nothing of the service.
    Failed(String),
}

/// Asks for a challenge over a line on which CredSSP was chosen and TLS is up; returns how long the answer took too.
pub fn challenge(line: &mut impl Line, budget: &Budget) -> (Asked, Duration) {
    let begun = Instant::now();
    let answered = exchange(line, budget);
    let took = begun.elapsed();
    let asked = match answered {
        Ok(Answer::Challenge(challenge)) => Asked::Challenged(challenge),
        Ok(Answer::Refused(code)) => Asked::Refused(code),
        Err(Failure::NotCredSsp(error)) => Asked::NotCredSsp(error),
        Err(Failure::Line(Interruption::Closed)) => Asked::Broken,
        Err(Failure::Line(Interruption::Silent)) if is_wedged(took, budget) => Asked::Wedged(took),
        Err(Failure::Line(Interruption::Silent)) => Asked::TooLate,
        Err(Failure::Line(Interruption::Failed(why))) => Asked::Failed(why),
    };
    (asked, took)
}

enum Failure {
    Line(Interruption),
    NotCredSsp(CredSspError),
}

impl From<Interruption> for Failure {
    fn from(error: Interruption) -> Self {
        Self::Line(error)
    }
}

impl From<CredSspError> for Failure {
    fn from(error: CredSspError) -> Self {
        Self::NotCredSsp(error)
    }
}

fn exchange(line: &mut impl Line, budget: &Budget) -> Result<Answer, Failure> {
    let mut answer = line.ask(&request(), HEAD_LEN, budget)?;
    let head = answer.first_chunk().ok_or(Failure::Line(Interruption::Closed))?;
    let length = answer_length(head)?;
    if length > answer.len() {
        answer.extend(line.ask(&[], length - answer.len(), budget)?);
    }
    Ok(parse_answer(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ber::BerError;
    use crate::ntlm::tests::OF_FREERDP;

    /// A line on which this comes, and then what is said of its end.
    struct Scripted {
        coming: Vec<u8>,
        end: Interruption,
        sent: Vec<u8>,
    }

    impl Line for Scripted {
        fn ask(&mut self, send: &[u8], count: usize, _: &Budget) -> Result<Vec<u8>, Interruption> {
            self.sent.extend(send);
            if self.coming.len() < count { Err(self.end.clone()) } else { Ok(self.coming.drain(..count).collect()) }
        }

        fn close(self) {}
    }

    fn asked(coming: &[u8], end: Interruption, budget: Budget) -> Asked {
        let mut line = Scripted { coming: coming.to_vec(), end, sent: Vec::new() };
        let (asked, _) = challenge(&mut line, &budget);
        assert_eq!(line.sent, request(), "one request and nothing after it");
        asked
    }

    /// What FreeRDP sends, with its token.
    fn of_freerdp() -> Vec<u8> {
        let head = [0x30, 0x81, 0x79, 0xa0, 3, 2, 1, 6, 0xa1, 0x74, 0x30, 0x72, 0x30, 0x70, 0xa0, 0x6e, 4, 0x6c];
        let mut bytes = [&head[..], &OF_FREERDP].concat();
        bytes[2] = u8::try_from(bytes.len() - 3).unwrap();
        bytes
    }

    #[test]
    fn a_challenge_is_read_to_its_end_and_no_further() {
        let more = [&of_freerdp()[..], b"more"].concat();
        let Asked::Challenged(told) = asked(&more, Interruption::Silent, Budget::starting_now(1000)) else { panic!() };
        assert_eq!(told.identity().as_deref(), Some("vm/vm"));
    }

    #[test]
    fn how_a_line_ends_without_a_challenge_is_told_apart() {
        let whole = of_freerdp();
        for cut in [0, HEAD_LEN, whole.len() - 1] {
            let begun = |end| asked(&whole[..cut], end, Budget::starting_now(60_000));
            assert_eq!(begun(Interruption::Closed), Asked::Broken);
            assert_eq!(begun(Interruption::Silent), Asked::TooLate, "it was silent for no time at all");
            let why = Interruption::Failed("no memory".to_owned());
            assert_eq!(begun(why), Asked::Failed("no memory".to_owned()));
        }
        let http = asked(b"HTTP/1.1 400 Bad Request", Interruption::Closed, Budget::starting_now(1000));
        let tag = BerError::Tag { wanted: 0x30, found: b'H' };
        assert_eq!(http, Asked::NotCredSsp(CredSspError::Ber(tag)));
    }

    #[test]
    fn silence_that_lasts_is_wedged() {
        /// A line that is silent for as long as it may be.
        struct Silent;
        impl Line for Silent {
            fn ask(&mut self, _: &[u8], _: usize, budget: &Budget) -> Result<Vec<u8>, Interruption> {
                while budget.left().is_some() {
                    std::thread::yield_now();
                }
                Err(Interruption::Silent)
            }
            fn close(self) {}
        }
        let (asked, _) = challenge(&mut Silent, &Budget::starting_now(100));
        assert!(matches!(asked, Asked::Wedged(_)), "{asked:?}");
    }
}
