//! The head of an answer (RFC 9112, sections 4 to 6). Pure; the lines are read by `httparse`.

use httparse::{EMPTY_HEADER, Response, Status};

use crate::body::Framing;
use crate::settings::Method;

/// The longest head that is read, in bytes.
pub const HEAD_MAX: usize = 16 * 1024;
/// The most header fields of an answer.
pub const FIELDS_MAX: usize = 64;

/// What the head of a final answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Version of the protocol, as `HTTP/1.1`.
    pub protocol: &'static str,
    /// The status.
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// What the service calls itself.
    pub server: Option<String>,
    /// How long the body is.
    pub framing: Framing,
    /// The length that is announced, which there is without a body as well (RFC 9110, section 8.6).
    pub announced: Option<u64>,
}

/// What has come so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeadRead {
    /// Not to its end yet.
    Unfinished,
    /// A final answer; so many bytes are its head, interim answers before it included.
    Final(Head, usize),
}

/// Why what came is not the answer of a web service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotHttp {
    /// It is malformed: says where.
    Malformed(String),
    /// The head has more than [`HEAD_MAX`] bytes or [`FIELDS_MAX`] fields.
    TooLong,
}

/// Reads the head of the answer to this method. Interim answers (100 to 199) are passed over.
///
/// # Errors
/// [`NotHttp`], as soon as it can be told.
pub fn read_head(bytes: &[u8], method: Method) -> Result<HeadRead, NotHttp> {
    let mut begun = 0;
    loop {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut response = Response::new(&mut fields);
        let length = match response.parse(&bytes[begun..]) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if bytes.len() >= HEAD_MAX => return Err(NotHttp::TooLong),
            Ok(Status::Partial) => return Ok(HeadRead::Unfinished),
            Err(httparse::Error::TooManyHeaders) => return Err(NotHttp::TooLong),
            Err(error) => return Err(NotHttp::Malformed(error.to_string())),
        };
        let end = begun + length;
        if end > HEAD_MAX {
            return Err(NotHttp::TooLong);
        }
        match response.code {
            // 101 would change the protocol, which was not asked for: it is as final as any other.
            Some(100 | 102..=199) => begun = end,
            Some(status) => return Ok(HeadRead::Final(head(&response, status, method)?, end)),
            None => return Err(NotHttp::Malformed("there is no status".to_owned())),
        }
    }
}

fn head(response: &Response<'_, '_>, status: u16, method: Method) -> Result<Head, NotHttp> {
    let values = |name: &'static str| {
        let fields = response.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| String::from_utf8_lossy(field.value).trim().to_owned())
    };
    let framing = framing(status, method, values("transfer-encoding").next_back(), values("content-length"))?;
    let announced = match framing {
        Framing::Length(length) => Some(length),
        Framing::None => values("content-length").next().as_deref().and_then(whole),
        Framing::Chunked | Framing::UntilClosed => None,
    };
    Ok(Head {
        protocol: if response.version == Some(1) { "HTTP/1.1" } else { "HTTP/1.0" },
        status,
        location: values("location").next(),
        server: values("server").next(),
        framing,
        announced,
    })
}

/// Reads a number of digits alone.
fn whole(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Returns how long the body is (RFC 9112, section 6.3).
fn framing(
    status: u16,
    method: Method,
    encoding: Option<String>,
    lengths: impl Iterator<Item = String>,
) -> Result<Framing, NotHttp> {
    if method == Method::Head || matches!(status, 100..=199 | 204 | 304) {
        return Ok(Framing::None);
    }
    if let Some(encoding) = encoding {
        let last = encoding.rsplit(',').next().unwrap_or_default().trim();
        return Ok(if last.eq_ignore_ascii_case("chunked") { Framing::Chunked } else { Framing::UntilClosed });
    }
    let mut length = None;
    // A field that came twice may have been joined to one by whoever passed it on; then both must say the same.
    for value in lengths.flat_map(|value| value.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>()) {
        match (whole(&value), length) {
            (None, _) => return Err(NotHttp::Malformed(format!("the content length is {value:?}"))),
            (Some(read), Some(other)) if read != other => {
                return Err(NotHttp::Malformed(format!("the content length is {other} and {read}")));
            }
            (Some(read), _) => length = Some(read),
        }
    }
    Ok(length.map_or(Framing::UntilClosed, Framing::Length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Head {
        match read_head(text.as_bytes(), Method::Get).unwrap() {
            HeadRead::Final(head, length) => {
                assert_eq!(length, text.len());
                head
            }
            HeadRead::Unfinished => panic!("{text:?} is unfinished"),
        }
    }

    #[test]
    fn a_head_tells_status_redirect_and_length() {
        let found = of("HTTP/1.1 301 Moved\r\nServer: nginx\r\nLocation: https://desk/\r\ncontent-length: 5\r\n\r\n");
        assert_eq!((found.status, found.protocol, found.framing), (301, "HTTP/1.1", Framing::Length(5)));
        assert_eq!((found.location.as_deref(), found.server.as_deref()), (Some("https://desk/"), Some("nginx")));
        assert_eq!(of("HTTP/1.0 200 OK\r\n\r\n").protocol, "HTTP/1.0");
        assert_eq!(of("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n").status, 204);
        assert_eq!(of("HTTP/1.1 101 Switching\r\n\r\n").status, 101);
    }

    #[test]
    fn a_length_is_announced_with_a_body_and_without_and_not_beside_an_encoding() {
        let announced = |fields: &str| of(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).announced;
        assert_eq!(announced("Content-Length: 3\r\n"), Some(3));
        assert_eq!(announced(""), None);
        assert_eq!(announced("Content-Length: 3, 3\r\n"), Some(3));
        for encoding in ["chunked", "gzip"] {
            assert_eq!(announced(&format!("Transfer-Encoding: {encoding}\r\nContent-Length: 3\r\n")), None);
        }
        for (length, announced) in [("5", Some(5)), ("+5", None), ("", None)] {
            let text = format!("HTTP/1.1 204 No\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(of(&text).announced, announced, "{length:?}");
        }
    }

    #[test]
    fn a_bodys_length_follows_the_rules_of_rfc_9112() {
        let of = |fields: &str| of(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).framing;
        assert_eq!(of(""), Framing::UntilClosed);
        assert_eq!(of("Transfer-Encoding: gzip, Chunked\r\nContent-Length: 3\r\n"), Framing::Chunked);
        assert_eq!(of("Transfer-Encoding: gzip\r\n"), Framing::UntilClosed);
        assert_eq!(of("Content-Length: 3\r\nContent-Length: 3, 3\r\n"), Framing::Length(3));
        let none = read_head(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Method::Head).unwrap();
        let HeadRead::Final(none, _) = none else { panic!("it is unfinished") };
        assert_eq!((none.framing, none.announced), (Framing::None, Some(9)));
        for fields in ["Content-Length: 3\r\nContent-Length: 4\r\n", "Content-Length: -1\r\n", "Content-Length: +1\r\n"]
        {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            let refused = read_head(text.as_bytes(), Method::Get);
            assert!(matches!(refused, Err(NotHttp::Malformed(_))), "{refused:?}");
        }
    }

    #[test]
    fn each_limit_of_a_head_is_kept() {
        let with = |fields: usize, filler: usize| {
            let filler = "x".repeat(filler);
            format!("HTTP/1.1 200 OK\r\n{}f: {filler}\r\n\r\n", "a: b\r\n".repeat(fields - 1))
        };
        let read = |text: String| read_head(text.as_bytes(), Method::Get);
        assert!(read(with(FIELDS_MAX, 1)).is_ok());
        assert_eq!(read(with(FIELDS_MAX + 1, 1)), Err(NotHttp::TooLong));
        let room = HEAD_MAX - with(1, 0).len();
        assert!(matches!(read(with(1, room)), Ok(HeadRead::Final(_, HEAD_MAX))));
        assert_eq!(read(with(1, room + 1)), Err(NotHttp::TooLong));
        let unended = format!("HTTP/1.1 200 OK\r\nf: {}", "x".repeat(HEAD_MAX));
        assert_eq!(read(unended), Err(NotHttp::TooLong));
    }

    #[test]
    fn what_is_not_http_is_told_at_once() {
        for text in ["SSH-2.0-OpenSSH_9.2p1\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 2x0\r\n", "\u{0}"] {
            let refused = read_head(text.as_bytes(), Method::Get);
            assert!(matches!(refused, Err(NotHttp::Malformed(_))), "{text:?}: {refused:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), begins in any::<bool>()) {
            let bytes = if begins { [b"HTTP/1.1 200 OK\r\n".to_vec(), bytes].concat() } else { bytes };
            let _ = read_head(&bytes, Method::Get);
        }

        #[test]
        fn a_head_is_found_at_its_end_and_not_before(
            status in 200..600u16,
            fields in proptest::collection::vec(("[a-z]{1,9}", "[!-~]{0,9}"), 0..9),
        ) {
            let fields: String = fields.iter().map(|(name, value)| format!("x-{name}: {value}\r\n")).collect();
            let text = format!("HTTP/1.1 {status} Word\r\n{fields}\r\n");
            for cut in 0..text.len() {
                prop_assert_eq!(read_head(&text.as_bytes()[..cut], Method::Get), Ok(HeadRead::Unfinished));
            }
            prop_assert_eq!(of(&text).status, status);
        }
    }
}
