//! The body of an answer, taken out of its framing (RFC 9112, sections 6 and 7). Pure.
//!
//! ```text
//! Size --data--> Data --end--> Size ... Size --0--> Trailer --> Whole
//! ```
//! of a chunked body; any other is bytes up to a length, or to the end of the connection.

use httparse::Status;

/// The longest line of a chunk's size, or of a trailer, in bytes.
pub const LINE_MAX: usize = 1024;

/// How long a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunk by chunk.
    Chunked,
    /// Until the service closes the connection.
    UntilClosed,
}

/// Where in its framing a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// In plain bytes of which so many are left.
    Length(u64),
    /// In plain bytes without an end.
    UntilClosed,
    /// Before a chunk's size.
    Size,
    /// In a chunk of which so many bytes are left.
    Data(u64),
    /// After a chunk's data, before the end of its line.
    DataEnd,
    /// In the fields after the last chunk.
    Trailer,
    /// At the end.
    Whole,
}

/// What a reader should wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// Whatever comes.
    Some,
    /// So many bytes.
    Exactly(usize),
}

/// A body that is being read, up to a limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    bytes: Vec<u8>,
    most: usize,
    at: At,
    /// What came of a line that has not ended.
    line: Vec<u8>,
}

impl Body {
    /// Returns a body of which nothing has come, and at most so many bytes are kept.
    pub fn new(framing: Framing, most: usize) -> Self {
        let at = match framing {
            Framing::None | Framing::Length(0) => At::Whole,
            Framing::Length(length) => At::Length(length),
            Framing::Chunked => At::Size,
            Framing::UntilClosed => At::UntilClosed,
        };
        Self { bytes: Vec::new(), most, at, line: Vec::new() }
    }

    /// Returns what has come of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns whether it has come to its end.
    pub fn is_whole(&self) -> bool {
        self.at == At::Whole
    }

    /// Returns what to wait for, or `None` when it is whole, or as much of it is there as is kept.
    pub fn wants(&self) -> Option<Want> {
        let room = self.most - self.bytes.len();
        match self.at {
            At::Whole => None,
            _ if room == 0 => None,
            At::Length(left) => Some(Want::Exactly(usize::try_from(left).unwrap_or(usize::MAX).min(room))),
            At::UntilClosed => Some(Want::Exactly(room)),
            At::Size | At::Data(_) | At::DataEnd | At::Trailer => Some(Want::Some),
        }
    }

    /// Returns whether the service may close the connection now.
    pub fn may_end(&self) -> bool {
        matches!(self.at, At::Whole | At::UntilClosed)
    }

    /// Takes what has come.
    ///
    /// # Errors
    /// Says what is malformed in its framing.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let taken = match self.at {
                At::Whole => return Ok(()),
                At::UntilClosed => self.keep(bytes, u64::MAX),
                At::Length(left) => {
                    let taken = self.keep(bytes, left);
                    self.at = if taken as u64 == left { At::Whole } else { At::Length(left - taken as u64) };
                    taken
                }
                At::Data(left) => {
                    let taken = self.keep(bytes, left);
                    self.at = if taken as u64 == left { At::DataEnd } else { At::Data(left - taken as u64) };
                    taken
                }
                At::Size | At::DataEnd | At::Trailer => self.line(bytes)?,
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Keeps at most so many bytes, as far as there is room; returns how many were taken, kept or not.
    fn keep(&mut self, bytes: &[u8], most: u64) -> usize {
        let taken = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
        let room = self.most - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..taken.min(room)]);
        taken
    }

    /// Takes bytes of a line; at its end, goes on to what it says is next.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        self.line.extend_from_slice(&bytes[..taken]);
        if self.line.len() > LINE_MAX {
            return Err(format!("a line between chunks has more than {LINE_MAX} bytes"));
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.at = next(self.at, &line)?;
        }
        Ok(taken)
    }
}

/// Returns where a body is after this line.
fn next(at: At, line: &[u8]) -> Result<At, String> {
    let is_empty = matches!(line, b"\r\n" | b"\n");
    match at {
        At::Size => match httparse::parse_chunk_size(line) {
            Ok(Status::Complete((_, 0))) => Ok(At::Trailer),
            Ok(Status::Complete((_, size))) => Ok(At::Data(size)),
            Ok(Status::Partial) | Err(_) => {
                Err(format!("a chunk's size is {:?}", String::from_utf8_lossy(line).trim_end()))
            }
        },
        At::DataEnd if is_empty => Ok(At::Size),
        At::DataEnd => Err("a chunk is longer than its size".to_owned()),
        At::Trailer if is_empty => Ok(At::Whole),
        At::Trailer => Ok(At::Trailer),
        At::Length(_) | At::UntilClosed | At::Data(_) | At::Whole => Ok(at),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 1000;

    fn chunked(text: &[u8]) -> Result<Body, String> {
        let mut body = Body::new(Framing::Chunked, MOST);
        body.push(text).map(|()| body)
    }

    #[test]
    fn a_length_is_read_to_its_end_and_what_follows_is_left() {
        let mut body = Body::new(Framing::Length(5), MOST);
        assert_eq!(body.wants(), Some(Want::Exactly(5)));
        body.push(b"hel").unwrap();
        assert_eq!((body.wants(), body.may_end(), body.is_whole()), (Some(Want::Exactly(2)), false, false));
        body.push(b"lo and more").unwrap();
        assert_eq!((body.bytes(), body.wants(), body.is_whole()), (&b"hello"[..], None, true));
        assert!(Body::new(Framing::Length(0), MOST).is_whole() && Body::new(Framing::None, MOST).is_whole());
    }

    #[test]
    fn chunks_with_extensions_and_trailers_are_put_together() {
        let body = chunked(b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nx: y\r\n\r\n").unwrap();
        assert_eq!((body.bytes(), body.is_whole()), (&b"hello!"[..], true));
        let cut = chunked(b"5\r\nhello\r\n0\r\n").unwrap();
        assert!(!cut.is_whole() && !cut.may_end());
    }

    #[test]
    fn chunks_that_are_no_chunks_are_refused() {
        assert_eq!(chunked(b"xyz\r\n").unwrap_err(), "a chunk's size is \"xyz\"");
        assert_eq!(chunked(b"1\r\nab\r\n").unwrap_err(), "a chunk is longer than its size");
        let long = |length: usize| [b"1;".to_vec(), vec![b'x'; length - 4], b"\r\n".to_vec()].concat();
        assert!(chunked(&long(LINE_MAX)).is_ok());
        assert!(chunked(&long(LINE_MAX + 1)).unwrap_err().contains("more than 1024 bytes"));
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        for framing in [Framing::UntilClosed, Framing::Length(1 << 40)] {
            let mut body = Body::new(framing, MOST);
            assert_eq!(body.wants(), Some(Want::Exactly(MOST)));
            body.push(&[b'x'; MOST + 1]).unwrap();
            assert_eq!((body.bytes().len(), body.wants(), body.is_whole()), (MOST, None, false));
        }
        let endless = chunked(&[b"ffffff\r\n".to_vec(), vec![b'x'; 2 * MOST]].concat()).unwrap();
        assert_eq!((endless.bytes().len(), endless.wants()), (MOST, None));
    }

    proptest! {
        #[test]
        fn chunks_give_back_what_was_put_into_them_however_they_are_cut(
            chunks in proptest::collection::vec("[a-z]{1,20}", 0..9),
            cut in 1..9usize,
        ) {
            let wire: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
            let mut body = Body::new(Framing::Chunked, MOST);
            for piece in format!("{wire}0\r\n\r\n").as_bytes().chunks(cut) {
                prop_assert!(!body.is_whole());
                body.push(piece).unwrap();
            }
            prop_assert!(body.is_whole());
            prop_assert_eq!(String::from_utf8_lossy(body.bytes()), chunks.concat());
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'1'), any::<u8>()], 0..200),
        ) {
            let _ = chunked(&bytes);
        }
    }
}
