//! The fake's side of network level authentication, up to its challenge (MS-CSSP 2.2.1, MS-NLMP 2.2.1.2).
//!
//! It knows no user, and takes no answer to its challenge: who sends one is hung up on.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::ComputerName;

/// The NetBIOS domain of every fake, and the DNS domain that its name is in.
const DOMAIN: &str = "FAKE";
const DNS_DOMAIN: &str = "fake.example";
/// The operating system of every fake: the version of Windows Server 2022.
const VERSION: [u8; 8] = [10, 0, 0x7c, 0x4f, 0, 0, 0, 15];
/// What it can: Unicode, names, signing, sealing, extended session security, pairs, a version, strong keys.
const FLAGS: u32 = 0xe28a_8235;
/// No two are alike in the real ones; nobody answers this.
const SERVER_CHALLENGE: [u8; 8] = *b"no login";
/// Where the name of the target begins: after the fixed part.
const FIXED_LEN: u32 = 56;

/// The longest request that is read, in bytes.
const REQUEST_MAX: usize = 1024;
/// What a message of NTLM that asks for a challenge begins with.
const NEGOTIATE: [u8; 12] = *b"NTLMSSP\0\x01\0\0\0";
/// SEC_E_INVALID_TOKEN as an INTEGER (MS-ERREF 2.1.1).
const INVALID_TOKEN: [u8; 5] = [0, 0x80, 0x09, 0x03, 0x08];

/// Tags (X.690).
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// Reads a request and answers it: with a challenge if it carries NTLM's request for one as it is, else with an error.
pub(super) async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), name: ComputerName) -> io::Result<()> {
    let request = read_request(stream).await?;
    // Wrapped in another mechanism it is not taken: neither does FreeRDP 2.
    let asks = token_of(&request).is_some_and(|token| token.starts_with(&NEGOTIATE));
    let answer = if asks { with_token(&challenge(name)) } else { with_error(&INVALID_TOKEN) };
    stream.write_all(&answer).await?;
    stream.flush().await
}

/// Reads one TSRequest.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let long = usize::from(head[1] & 0x7f);
    let length = match head {
        [SEQUENCE, 0..=0x7f] => long,
        [SEQUENCE, 0x81 | 0x82] => {
            let mut bytes = [0; 2];
            stream.read_exact(&mut bytes[2 - long..]).await?;
            usize::from(u16::from_be_bytes(bytes))
        }
        other => return Err(io::Error::other(format!("no TSRequest: it begins with {other:?}"))),
    };
    if length > REQUEST_MAX {
        return Err(io::Error::other(format!("a TSRequest of {length} bytes: at most {REQUEST_MAX} are read")));
    }
    let mut request = vec![0; length];
    stream.read_exact(&mut request).await?;
    Ok(request)
}

/// Returns the token in the fields of a TSRequest.
fn token_of(fields: &[u8]) -> Option<&[u8]> {
    let (_version, rest) = unwrap(0xa0, fields)?;
    let (tokens, _) = unwrap(0xa1, rest)?;
    [SEQUENCE, SEQUENCE, 0xa0, OCTET_STRING].iter().try_fold(tokens, |value, tag| Some(unwrap(*tag, value)?.0))
}

/// Returns the value under this tag, and what comes after it.
fn unwrap(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, value) = match bytes {
        [found, 0x81, length, value @ ..] if *found == tag => (u16::from(*length), value),
        [found, 0x82, high, low, value @ ..] if *found == tag => (u16::from_be_bytes([*high, *low]), value),
        [found, length @ 0..=0x7f, value @ ..] if *found == tag => (u16::from(*length), value),
        _ => return None,
    };
    value.split_at_checked(usize::from(length))
}

/// Returns the challenge of a desktop with this name.
fn challenge(name: ComputerName) -> Vec<u8> {
    let netbios = name.as_str().to_ascii_uppercase();
    let dns = format!("{}.{DNS_DOMAIN}", name.as_str().to_ascii_lowercase());
    let target = utf16(DOMAIN);
    let pairs = [pair(2, &target), pair(1, &utf16(&netbios)), pair(4, &utf16(DNS_DOMAIN)), pair(3, &utf16(&dns))];
    let info = [&pairs.concat()[..], &pair(0, &[])].concat();
    let mut bytes = b"NTLMSSP\0\x02\0\0\0".to_vec();
    bytes.extend(fields(&target, FIXED_LEN));
    bytes.extend(FLAGS.to_le_bytes());
    bytes.extend(SERVER_CHALLENGE);
    bytes.extend([0; 8]);
    bytes.extend(fields(&info, FIXED_LEN + u32::from(length_of(&target))));
    bytes.extend(VERSION);
    bytes.extend(target);
    bytes.extend(info);
    bytes
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn length_of(value: &[u8]) -> u16 {
    u16::try_from(value.len()).expect("names are short")
}

fn pair(id: u16, value: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &length_of(value).to_le_bytes(), value].concat()
}

/// Returns length, room and place of a part.
fn fields(value: &[u8], at: u32) -> Vec<u8> {
    let length = length_of(value).to_le_bytes();
    [&length[..], &length, &at.to_le_bytes()].concat()
}

fn wrap(tag: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = length_of(value).to_be_bytes();
    let length = match (high, low) {
        (0, 0..=0x7f) => vec![low],
        (0, _) => vec![0x81, low],
        (_, _) => vec![0x82, high, low],
    };
    [&[tag][..], &length, value].concat()
}

fn ts_request(fields: &[u8]) -> Vec<u8> {
    let version = wrap(0xa0, &wrap(INTEGER, &[6]));
    wrap(SEQUENCE, &[&version, fields].concat())
}

fn with_token(token: &[u8]) -> Vec<u8> {
    let token = wrap(0xa0, &wrap(OCTET_STRING, token));
    ts_request(&wrap(0xa1, &wrap(SEQUENCE, &wrap(SEQUENCE, &token))))
}

fn with_error(code: &[u8]) -> Vec<u8> {
    ts_request(&wrap(0xa4, &wrap(INTEGER, code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what the fake answers to these bytes, until it is done.
    async fn answered(request: &[u8]) -> (Vec<u8>, io::Result<()>) {
        let (mut here, mut there) = tokio::io::duplex(64 * 1024);
        here.write_all(request).await.unwrap();
        let done = answer(&mut there, ComputerName::default()).await;
        drop(there);
        let mut said = Vec::new();
        here.read_to_end(&mut said).await.unwrap();
        (said, done)
    }

    #[tokio::test]
    async fn a_request_for_a_challenge_gets_one_whatever_the_form_of_its_lengths() {
        let long = with_token(&[&NEGOTIATE[..], &[0; 300]].concat());
        for asked in [with_token(&[&NEGOTIATE[..], &[0; 28]].concat()), long] {
            let (said, done) = answered(&asked).await;
            done.unwrap();
            assert!(said.windows(12).any(|bytes| bytes == b"NTLMSSP\0\x02\0\0\0"), "{said:02x?}");
            assert!(said.windows(8).any(|bytes| bytes == utf16("FAKE")), "{said:02x?}");
        }
    }

    #[tokio::test]
    async fn another_token_is_refused_and_what_is_too_long_is_hung_up_on() {
        let wrapped = [&[0x60, 14, 4, 12][..], &NEGOTIATE].concat();
        for token in [&wrapped[..], b"", b"NTLMSSP\0\x03\0\0\0"] {
            let (said, done) = answered(&with_token(token)).await;
            done.unwrap();
            assert_eq!(said, *b"\x30\x0e\xa0\x03\x02\x01\x06\xa4\x07\x02\x05\0\x80\x09\x03\x08");
        }
        for wrong in [&b"\x30\x82\x04\x01"[..], b"GET / HTTP/1.1\r\n\r\n"] {
            let (said, done) = answered(wrong).await;
            assert!(said.is_empty() && done.is_err(), "{said:02x?}");
        }
    }
}
