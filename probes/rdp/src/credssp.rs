//! The outer layers of a login over CredSSP as bytes: TSRequest (MS-CSSP 2.2.1) and, where a server wraps its answer in
//! it, SPNEGO (RFC 4178 4.2).
//!
//! A token of NTLM is sent as it is, without SPNEGO: servers of Windows take it so, and so does FreeRDP, which takes nothing
//! else up to version 2. The answer is read in both forms.

use crate::ber::{self, BerError, INTEGER, OCTET_STRING, Reader, SEQUENCE, context};
use crate::ntlm::{self, Challenge, NtlmError};

/// The longest answer that is read, in bytes. A challenge has some hundred; FreeRDP 2 refuses with 12 KiB of zeros.
pub const ANSWER_MAX: usize = 16 * 1024;

/// The version that is spoken: the last one (MS-CSSP 2.2.1).
const VERSION: u8 = 6;
/// The code of no error.
const SUCCESS: u32 = 0;
/// A SPNEGO token of a server, NegTokenResp: `[1]` of the choice NegotiationToken.
const NEG_TOKEN_RESP: u8 = context(1);

/// Why a server refuses: an NTSTATUS or one of the security packages' codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefusalCode(pub u32);

impl RefusalCode {
    /// Returns whether a server that refuses with this code works, and just has no NTLM: its domain allows Kerberos alone
    /// (STATUS_NTLM_BLOCKED, STATUS_NOT_SUPPORTED, SEC_E_UNSUPPORTED_FUNCTION, SEC_E_SECPKG_NOT_FOUND; MS-ERREF 2.3.1,
    /// 2.1.1).
    pub const fn is_healthy(self) -> bool {
        matches!(self.0, 0xc000_0418 | 0xc000_00bb | 0x8009_0302 | 0x8009_0305)
    }
}

/// What a server says to a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Its challenge.
    Challenge(Challenge),
    /// It refuses.
    Refused(RefusalCode),
}

/// Why bytes are no answer.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
pub enum CredSspError {
    /// They are not the ASN.1 that they should be.
    #[error(transparent)]
    Ber(#[from] BerError),
    /// What they say that they are long is out of bounds.
    #[error("it says that it has {0} bytes, and an answer has {min} to {ANSWER_MAX}", min = ber::HEAD_LEN)]
    Length(usize),
    /// There is neither a token nor a refusal in them.
    #[error("it has neither a token nor an error")]
    Empty,
    /// The token is no challenge.
    #[error(transparent)]
    Ntlm(#[from] NtlmError),
}

/// Returns the request that asks for a challenge.
pub fn request() -> Vec<u8> {
    let token = ber::wrap(context(0), &ber::wrap(OCTET_STRING, &ntlm::negotiate()));
    let tokens = ber::wrap(SEQUENCE, &ber::wrap(SEQUENCE, &token));
    let version = ber::wrap(context(0), &ber::wrap(INTEGER, &[VERSION]));
    ber::wrap(SEQUENCE, &[version, ber::wrap(context(1), &tokens)].concat())
}

/// Returns the length of the whole answer that begins with these bytes.
///
/// # Errors
/// [`CredSspError`] when no answer begins so, or it would be too long.
pub fn answer_length(first: &[u8; ber::HEAD_LEN]) -> Result<usize, CredSspError> {
    let length = ber::whole_length(first, SEQUENCE)?;
    if (first.len()..=ANSWER_MAX).contains(&length) { Ok(length) } else { Err(CredSspError::Length(length)) }
}

/// Reads a whole answer. What it says besides a token or an error is passed over.
///
/// # Errors
/// [`CredSspError`] when it is none.
pub fn parse_answer(bytes: &[u8]) -> Result<Answer, CredSspError> {
    let mut request = Reader::new(Reader::new(bytes).value(SEQUENCE)?);
    let version = Reader::new(request.value(context(0))?).value(INTEGER)?;
    ber::number(version)?;
    let tokens = request.optional(context(1))?;
    for passed_over in [context(2), context(3)] {
        request.optional(passed_over)?;
    }
    if let Some(code) = request.optional(context(4))? {
        let code = ber::number(Reader::new(code).value(INTEGER)?)?;
        if code != SUCCESS {
            return Ok(Answer::Refused(RefusalCode(code)));
        }
    }
    let tokens = Reader::new(tokens.ok_or(CredSspError::Empty)?).value(SEQUENCE)?;
    let first = Reader::new(Reader::new(tokens).value(SEQUENCE)?).value(context(0))?;
    let token = Reader::new(first).value(OCTET_STRING)?;
    Ok(Answer::Challenge(ntlm::parse_challenge(unwrap(token)?)?))
}

/// Returns the token inside SPNEGO; the token itself if it is not wrapped.
fn unwrap(token: &[u8]) -> Result<&[u8], CredSspError> {
    if token.first() != Some(&NEG_TOKEN_RESP) {
        return Ok(token);
    }
    let mut fields = Reader::new(Reader::new(Reader::new(token).value(NEG_TOKEN_RESP)?).value(SEQUENCE)?);
    // The state and the mechanism that it chose: it could choose none but what it was sent.
    for passed_over in [context(0), context(1)] {
        fields.optional(passed_over)?;
    }
    let response = fields.optional(context(2))?.ok_or(CredSspError::Empty)?;
    Ok(Reader::new(response).value(OCTET_STRING)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ntlm::tests::{OF_FREERDP, challenge_with};

    /// Returns a value under its tag with a length of two bytes, whether it needs them or not.
    fn long(tag: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, value].concat()
    }

    fn answer_with(token: &[u8], rest: &[u8]) -> Vec<u8> {
        let token = long(SEQUENCE, &long(SEQUENCE, &long(0xa0, &long(OCTET_STRING, token))));
        long(SEQUENCE, &[&[0xa0, 3, 2, 1, 6], &long(0xa1, &token)[..], rest].concat())
    }

    fn in_spnego(token: &[u8]) -> Vec<u8> {
        let state = [0xa0, 3, 0x0a, 1, 1];
        let mechanism = [0xa1, 12, 6, 10, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 0x0a];
        long(0xa1, &long(SEQUENCE, &[&state[..], &mechanism, &long(0xa2, &long(OCTET_STRING, token))].concat()))
    }

    #[test]
    fn the_request_is_a_ts_request_with_one_token() {
        let head = [0x30, 0x37, 0xa0, 3, 2, 1, 6, 0xa1, 0x30, 0x30, 0x2e, 0x30, 0x2c, 0xa0, 0x2a, 4, 0x28];
        assert_eq!(request(), [&head[..], &ntlm::negotiate()].concat());
    }

    #[test]
    fn a_challenge_is_found_as_it_is_and_inside_spnego() {
        for token in [OF_FREERDP.to_vec(), in_spnego(&OF_FREERDP)] {
            let bytes = answer_with(&token, &[]);
            assert_eq!(answer_length(bytes.first_chunk().unwrap()), Ok(bytes.len()));
            let Ok(Answer::Challenge(told)) = parse_answer(&bytes) else { panic!("{bytes:02x?}") };
            assert_eq!(told.identity().as_deref(), Some("vm/vm"));
        }
        let nonce = [0xa5, 4, 4, 2, 7, 7];
        assert!(matches!(parse_answer(&answer_with(&OF_FREERDP, &nonce)), Ok(Answer::Challenge(_))));
    }

    #[test]
    fn an_error_is_a_refusal_whatever_else_is_said() {
        let invalid = [0xa4, 7, 2, 5, 0, 0x80, 0x09, 0x03, 0x08];
        let refused = Ok(Answer::Refused(RefusalCode(0x8009_0308)));
        assert_eq!(parse_answer(&[&[0x30, 14, 0xa0, 3, 2, 1, 6][..], &invalid].concat()), refused);
        assert_eq!(parse_answer(&answer_with(&[0; 0x2fe0], &invalid)), refused, "as FreeRDP 2 does it");
        let fine = [0xa4, 3, 2, 1, 0];
        assert!(matches!(parse_answer(&answer_with(&OF_FREERDP, &fine)), Ok(Answer::Challenge(_))), "no error");
        assert!(!RefusalCode(0x8009_0308).is_healthy() && RefusalCode(0xc000_0418).is_healthy());
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        assert_eq!(parse_answer(&[0x30, 5, 0xa0, 3, 2, 1, 6]), Err(CredSspError::Empty));
        assert_eq!(parse_answer(&answer_with(b"x", &[])), Err(NtlmError::NotNtlm.into()));
        let bare = in_spnego(&[]);
        assert_eq!(parse_answer(&answer_with(&bare, &[])), Err(NtlmError::NotNtlm.into()));
        assert_eq!(parse_answer(&answer_with(&[0xa1, 2, 0x30, 0], &[])), Err(CredSspError::Empty));
        let http = answer_length(b"HTTP/1");
        assert_eq!(http, Err(BerError::Tag { wanted: SEQUENCE, found: b'H' }.into()));
    }

    #[test]
    fn answers_beyond_the_limits_are_refused() {
        let length = |bytes: [u8; 6]| answer_length(&bytes);
        assert_eq!(length([0x30, 0x82, 0x3f, 0xfc, 0, 0]), Ok(ANSWER_MAX));
        assert_eq!(length([0x30, 0x82, 0x3f, 0xfd, 0, 0]), Err(CredSspError::Length(ANSWER_MAX + 1)));
        assert_eq!(length([0x30, 3, 0xa0, 1, 2, 0]), Err(CredSspError::Length(5)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse_answer(&bytes);
            let _ = parse_answer(&answer_with(&bytes, &[]));
            let _ = parse_answer(&answer_with(&in_spnego(&bytes), &[]));
            let _ = parse_answer(&answer_with(&challenge_with(&bytes), &bytes));
        }

        #[test]
        fn no_damage_makes_it_panic(at: prop::sample::Index, byte: u8, wrapped: bool) {
            let token = if wrapped { in_spnego(&OF_FREERDP) } else { OF_FREERDP.to_vec() };
            let mut bytes = answer_with(&token, &[]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = parse_answer(&bytes);
            let _ = parse_answer(&bytes[..at]);
        }
    }
}
