//! The request as bytes (RFC 9112, section 3). Pure.

use std::net::IpAddr;

use crate::settings::{HTTP_PORT, HTTPS_PORT, HttpSettings, Scheme};

/// Returns the request to this address. It asks for one answer as it is: no compression, and no further request.
pub fn request(address: IpAddr, settings: &HttpSettings) -> Vec<u8> {
    let site = match (&settings.host, address) {
        (Some(host), _) => host.clone(),
        (None, IpAddr::V4(address)) => address.to_string(),
        (None, IpAddr::V6(address)) => format!("[{address}]"),
    };
    let usual = match settings.scheme {
        Scheme::Http => HTTP_PORT,
        Scheme::Https(_) => HTTPS_PORT,
    };
    // The port is left out where it is the usual one (RFC 9110, section 7.2).
    let port = if settings.port == usual { String::new() } else { format!(":{}", settings.port) };
    let (method, path, version) = (settings.method.as_str(), &settings.path, env!("CARGO_PKG_VERSION"));
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {site}{port}\r\nUser-Agent: vouch/{version}\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(address: &str, settings: &str) -> String {
        let settings = HttpSettings::parse(settings).unwrap();
        String::from_utf8(request(address.parse().unwrap(), &settings)).unwrap()
    }

    #[test]
    fn a_request_names_the_site_and_ends_the_connection() {
        let plain = head("192.0.2.7", "{}");
        assert!(plain.starts_with("GET / HTTP/1.1\r\nHost: 192.0.2.7\r\n"), "{plain}");
        assert!(plain.ends_with("\r\nConnection: close\r\n\r\n"), "{plain}");
        let named = head("192.0.2.7", r#"{"host": "desk.example", "port": 8080, "path": "/a?b=1", "method": "HEAD"}"#);
        assert!(named.starts_with("HEAD /a?b=1 HTTP/1.1\r\nHost: desk.example:8080\r\n"), "{named}");
        let six = head("2001:db8::7", r#"{"tls": true}"#);
        assert!(six.contains("\r\nHost: [2001:db8::7]\r\n"), "{six}");
    }
}
