//! The exchange: send the request, read head and body, each wait within what is left of the run.

use std::time::{Duration, Instant};

use probe_kit::{Budget, Interruption};

use crate::body::{Body, Framing, Want};
use crate::head::{Head, HeadRead, NotHttp, read_head};
use crate::settings::HttpSettings;

/// The connection that an exchange goes over.
pub trait Wire {
    /// Sends bytes, and returns what comes, as far as it is wanted.
    ///
    /// # Errors
    /// [`Interruption`], by what the failure says of the service.
    fn exchange(&mut self, send: &[u8], want: Want, budget: &Budget) -> Result<Vec<u8>, Interruption>;

    /// Returns what came short of what was wanted, after an interruption; it does not wait.
    fn kept(&mut self) -> Vec<u8>;
}

/// How the body of an answer came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BodyEnd {
    /// Nobody looked at it.
    Unread,
    /// To its end.
    Whole,
    /// As far as it is read at most, or as was needed.
    Enough,
    /// The service hung up before its end.
    Truncated,
    /// Nothing more came in time.
    Stalled,
    /// Its framing is malformed: says how.
    Malformed(String),
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// What was read of its body.
    pub body: Vec<u8>,
    /// How the body came.
    pub end: BodyEnd,
    /// From the request to the end of the head.
    pub answered: Duration,
    /// From there to the end of what was read.
    pub read: Duration,
}

/// What one exchange found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The service answered.
    Answered(Answer),
    /// It did not, after so long.
    Interrupted(Interruption, Duration),
    /// What came is no HTTP.
    NotHttp(NotHttp),
}

/// Sends the request and reads the answer. The body is looked at only where the status is as it should be.
pub fn fetch(wire: &mut impl Wire, request: &[u8], settings: &HttpSettings, budget: &Budget) -> Finding {
    let begun = Instant::now();
    let (mut came, mut send) = (Vec::new(), request);
    let (head, length) = loop {
        match wire.exchange(send, Want::Some, budget) {
            Ok(bytes) => came.extend(bytes),
            Err(interruption) => return Finding::Interrupted(interruption, begun.elapsed()),
        }
        send = &[];
        match read_head(&came, settings.method) {
            Ok(HeadRead::Final(head, length)) => break (head, length),
            Ok(HeadRead::Unfinished) => {}
            Err(error) => return Finding::NotHttp(error),
        }
    };
    let answered = begun.elapsed();
    let mut body = Body::new(head.framing, settings.body_max);
    let end = match (settings.expects(head.status), head.framing) {
        (false, _) | (true, Framing::None) => BodyEnd::Unread,
        (true, _) => match read_body(wire, &came[length..], &mut body, settings.contains.as_deref(), budget) {
            Ok(end) => end,
            Err(interruption) => return Finding::Interrupted(interruption, begun.elapsed()),
        },
    };
    let read = begun.elapsed() - answered;
    Finding::Answered(Answer { head, body: body.bytes().to_vec(), end, answered, read })
}

/// Reads a body of which this has come already.
///
/// # Errors
/// [`Interruption::Failed`], when a text that is looked for was not found in what came before a limit of the host: the
/// service may well have sent it.
fn read_body(
    wire: &mut impl Wire,
    came: &[u8],
    body: &mut Body,
    contains: Option<&str>,
    budget: &Budget,
) -> Result<BodyEnd, Interruption> {
    let found = |body: &Body| contains.is_some_and(|text| holds(body.bytes(), text));
    let mut next = Ok(came.to_vec());
    loop {
        let (bytes, interruption) = match next {
            Ok(bytes) => (bytes, None),
            Err(interruption) => (wire.kept(), Some(interruption)),
        };
        if let Err(why) = body.push(&bytes) {
            return Ok(BodyEnd::Malformed(why));
        }
        if body.is_whole() {
            return Ok(BodyEnd::Whole);
        }
        match interruption {
            None => {}
            Some(Interruption::Closed) if body.may_end() => return Ok(BodyEnd::Whole),
            Some(Interruption::Closed) => return Ok(BodyEnd::Truncated),
            Some(Interruption::Silent) => return Ok(BodyEnd::Stalled),
            Some(failed @ Interruption::Failed(_)) if contains.is_some() && !found(body) => return Err(failed),
            Some(Interruption::Failed(_)) => return Ok(BodyEnd::Enough),
        }
        match body.wants().filter(|_| !found(body)) {
            Some(want) => next = wire.exchange(&[], want, budget),
            None => return Ok(BodyEnd::Enough),
        }
    }
}

/// Returns whether bytes hold a text.
pub fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A service that says this, piece by piece, and then ends like this. Like the host, it keeps what was short of what was
    /// asked for.
    struct Scripted {
        pieces: VecDeque<Vec<u8>>,
        kept: Vec<u8>,
        then: Interruption,
        sent: Vec<u8>,
        asked: usize,
    }

    impl Wire for Scripted {
        fn exchange(&mut self, send: &[u8], want: Want, _: &Budget) -> Result<Vec<u8>, Interruption> {
            self.sent.extend_from_slice(send);
            self.asked += 1;
            loop {
                let enough = match want {
                    Want::Some => !self.kept.is_empty(),
                    Want::Exactly(count) => self.kept.len() >= count,
                };
                if enough {
                    let length = if let Want::Exactly(count) = want { count } else { self.kept.len() };
                    return Ok(self.kept.drain(..length).collect());
                }
                self.kept.extend(self.pieces.pop_front().ok_or(self.then.clone())?);
            }
        }

        fn kept(&mut self) -> Vec<u8> {
            std::mem::take(&mut self.kept)
        }
    }

    fn fetched(settings: &str, pieces: &[&str], then: Interruption) -> (Finding, Scripted) {
        let pieces = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        let mut wire = Scripted { pieces, kept: Vec::new(), then, sent: Vec::new(), asked: 0 };
        let settings = HttpSettings::parse(settings).unwrap();
        let found = fetch(&mut wire, b"GET", &settings, &Budget::starting_now(1000));
        assert_eq!(wire.sent, b"GET", "the request is sent once");
        (found, wire)
    }

    fn body_of(settings: &str, pieces: &[&str], then: Interruption) -> (String, BodyEnd) {
        match fetched(settings, pieces, then).0 {
            Finding::Answered(answer) => (String::from_utf8(answer.body).unwrap(), answer.end),
            other => panic!("{other:?}"),
        }
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\n";

    #[test]
    fn each_framing_is_read_to_its_end() {
        let whole = ("hello".to_owned(), BodyEnd::Whole);
        let length = [HEAD, "content-length: 5\r\n\r\nhe", "l", "lo"];
        assert_eq!(body_of("{}", &length, Interruption::Silent), whole);
        let chunked = [HEAD, "transfer-encoding: chunked\r\n\r\n2\r", "\nhe\r\n3\r\nllo\r\n0\r\n", "\r\n"];
        assert_eq!(body_of("{}", &chunked, Interruption::Silent), whole);
        let closed = [HEAD, "\r\nhe", "llo"];
        assert_eq!(body_of("{}", &closed, Interruption::Closed), whole);
    }

    #[test]
    fn a_body_that_breaks_off_is_told_from_one_that_stalls() {
        let cut = [HEAD, "content-length: 9\r\n\r\nhe", "llo"];
        assert_eq!(body_of("{}", &cut, Interruption::Closed), ("hello".to_owned(), BodyEnd::Truncated));
        assert_eq!(body_of("{}", &cut, Interruption::Silent), ("hello".to_owned(), BodyEnd::Stalled));
        let limited = Interruption::Failed("more than 64 exchanges".to_owned());
        assert_eq!(body_of("{}", &cut, limited.clone()).1, BodyEnd::Enough);
        assert_eq!(body_of(r#"{"contains": "hell"}"#, &cut, limited.clone()).1, BodyEnd::Enough);
        let (unfound, _) = fetched(r#"{"contains": "bye"}"#, &cut, limited.clone());
        assert!(matches!(unfound, Finding::Interrupted(failed, _) if failed == limited), "it may stand in the rest");
        let malformed = [HEAD, "transfer-encoding: chunked\r\n\r\nxyz\r\n"];
        assert!(matches!(body_of("{}", &malformed, Interruption::Silent).1, BodyEnd::Malformed(_)));
    }

    #[test]
    fn nothing_is_read_beyond_what_is_needed() {
        let unwanted = ["HTTP/1.1 200 OK\r\n\r\n", "one"];
        let (found, wire) = fetched(r#"{"statuses": ["4xx"]}"#, &unwanted, Interruption::Silent);
        assert!(matches!(found, Finding::Answered(Answer { end: BodyEnd::Unread, .. })), "{found:?}");
        assert_eq!(wire.asked, 1);
        let chunks = ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "3\r\none\r\n", "3\r\ntwo\r\n"];
        let found = body_of(r#"{"contains": "one"}"#, &chunks, Interruption::Silent);
        assert_eq!(found, ("one".to_owned(), BodyEnd::Enough));
        let much = ["HTTP/1.1 200 OK\r\n\r\n".to_owned(), "x".repeat(1500)];
        let found = body_of(r#"{"body_kib": 1}"#, &much.each_ref().map(String::as_str), Interruption::Silent);
        assert_eq!((found.0.len(), found.1), (1024, BodyEnd::Enough));
    }

    #[test]
    fn what_ends_before_the_head_is_no_answer() {
        for pieces in [&[][..], &[HEAD]] {
            let (found, _) = fetched("{}", pieces, Interruption::Closed);
            assert!(matches!(found, Finding::Interrupted(Interruption::Closed, _)), "{found:?}");
        }
        let (found, _) = fetched("{}", &["SSH-2.0-x\r\n"], Interruption::Silent);
        assert!(matches!(found, Finding::NotHttp(NotHttp::Malformed(_))), "{found:?}");
    }

    #[test]
    fn a_text_is_found_across_pieces_and_at_the_ends() {
        assert!(holds(b"hello", "he") && holds(b"hello", "lo") && holds(b"hello", "hello"));
        assert!(!holds(b"hello", "help") && !holds(b"", "x") && !holds(b"hell", "hello"));
    }
}
