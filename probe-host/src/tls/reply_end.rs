//! Where a reply ends, in the bytes that have come so far. Pure.

use crate::limits::{TLS_REPLY_MAX, TLS_TERMINATOR_MAX};

/// Where the reply of an exchange ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ReplyEnd {
    /// Before it begins.
    None,
    /// With the first bytes.
    Any,
    /// After so many bytes.
    Bytes(usize),
    /// After these bytes.
    Terminator(Vec<u8>),
    /// With the stream.
    End,
}

impl ReplyEnd {
    /// Returns the rule that it breaks, if it does.
    pub(crate) fn broken_rule(&self) -> Option<String> {
        match self {
            Self::None | Self::Any | Self::End => None,
            Self::Bytes(bytes) => (!(1..=TLS_REPLY_MAX).contains(bytes))
                .then(|| format!("bytes is {bytes}: must be from 1 to {TLS_REPLY_MAX}")),
            Self::Terminator(bytes) => (!(1..=TLS_TERMINATOR_MAX).contains(&bytes.len()))
                .then(|| format!("terminator has {} bytes: must be from 1 to {TLS_TERMINATOR_MAX}", bytes.len())),
        }
    }

    /// Returns how long the reply is, once it is all there. It did not end within the first `searched` bytes, which are
    /// not searched again: a target that sends byte after byte would have all of them searched for each.
    pub(crate) fn reply_len(&self, unread: &[u8], searched: usize) -> Option<usize> {
        match self {
            Self::None => Some(0),
            Self::Any => Some(unread.len()).filter(|len| *len > 0),
            Self::Bytes(bytes) => Some(*bytes).filter(|bytes| unread.len() >= *bytes),
            Self::Terminator(bytes) => {
                let from = searched.saturating_sub(bytes.len().saturating_sub(1));
                let found = unread[from..].windows(bytes.len().max(1)).position(|at| at == bytes);
                found.map(|at| from + at + bytes.len())
            }
            Self::End => Some(TLS_REPLY_MAX).filter(|most| unread.len() >= *most),
        }
    }

    /// Returns whether the reply is whole when the target closes its side.
    pub(crate) fn ends_with_stream(&self) -> bool {
        match self {
            Self::End => true,
            Self::None | Self::Any | Self::Bytes(_) | Self::Terminator(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_where_it_was_said_to() {
        let of = |end: ReplyEnd, unread: &[u8]| end.reply_len(unread, 0);
        assert_eq!(
            (of(ReplyEnd::None, b"x"), of(ReplyEnd::Any, b""), of(ReplyEnd::Any, b"xy")),
            (Some(0), None, Some(2))
        );
        assert_eq!((of(ReplyEnd::Bytes(3), b"xy"), of(ReplyEnd::Bytes(3), b"xyz.")), (None, Some(3)));
        let line = || ReplyEnd::Terminator(b"\r\n".to_vec());
        assert_eq!((of(line(), b"220 \r"), of(line(), b"220 hi\r\n250")), (None, Some(8)));
        assert_eq!(line().reply_len(b"220 hi\r\n250", 7), Some(8), "the end may have begun in what was searched");
        assert_eq!((of(ReplyEnd::End, b"xy"), of(ReplyEnd::End, &vec![0; TLS_REPLY_MAX])), (None, Some(TLS_REPLY_MAX)));
    }

    #[test]
    fn an_end_that_cannot_be_reached_is_refused_with_the_rule() {
        let rule = |end: ReplyEnd| end.broken_rule().unwrap_or_default();
        assert_eq!(rule(ReplyEnd::Bytes(0)), "bytes is 0: must be from 1 to 65536");
        assert_eq!(rule(ReplyEnd::Bytes(65_537)), "bytes is 65537: must be from 1 to 65536");
        assert_eq!(rule(ReplyEnd::Terminator(vec![0; 17])), "terminator has 17 bytes: must be from 1 to 16");
        assert_eq!(rule(ReplyEnd::Terminator(Vec::new())), "terminator has 0 bytes: must be from 1 to 16");
        assert_eq!(rule(ReplyEnd::Bytes(TLS_REPLY_MAX)), "");
    }
}
