//! Settings of the `http` probe.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use probe_kit::Settings;
use serde_json::Value;

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// The ports of web services, without and with TLS.
pub const HTTP_PORT: u16 = 80;
/// See [`HTTP_PORT`].
pub const HTTPS_PORT: u16 = 443;

/// The most of a body that settings can ask for, in KiB: a reply over the host's connections comes in a limited number of
/// pieces, which may be as small as a packet.
const BODY_KIB_MAX: u32 = 32;
const BODY_KIB: u32 = 16;
const CONTAINS_MAX: usize = 256;
const DAYS_MAX: u32 = 3650;
const PATH_MAX: usize = 1024;
/// The longest DNS name (RFC 1035, section 2.3.4).
const HOST_MAX: usize = 253;
const STATUSES_MAX: usize = 16;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The method of the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// With the body.
    Get,
    /// Without it.
    Head,
}

impl Method {
    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }
}

/// What goes over the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// HTTP in plain text.
    Http,
    /// HTTP inside TLS. With a time, a certificate that ends within it is degraded.
    Https(Option<Duration>),
}

/// Settings of the `http` probe; every one has a default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpSettings {
    /// The port that the service listens on.
    pub port: u16,
    /// What goes over the connection.
    pub scheme: Scheme,
    /// The method of the request.
    pub method: Method,
    /// Path and query of the request.
    pub path: String,
    /// Name of the site, if it is not asked for by its address.
    pub host: Option<String>,
    /// The statuses that are as they should be.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// What the body has to contain.
    pub contains: Option<String>,
    /// How much of the body is read at most, in bytes.
    pub body_max: usize,
}

impl HttpSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known =
            ["body_kib", "contains", "expires_within_days", "host", "method", "path", "port", "statuses", "tls"];
        let settings = Settings::parse(text, &known)?;
        let days = settings.whole("expires_within_days", 0..=DAYS_MAX)?;
        let scheme = match (settings.switch("tls")?, days) {
            (true, days) => Scheme::Https(days.map(|days| DAY * days)),
            (false, None) => Scheme::Http,
            (false, Some(days)) => {
                return Err(format!(
                    "field `expires_within_days` is {days}: must go with `tls`, as there is no certificate without"
                ));
            }
        };
        let method = match settings.text("method", "GET or HEAD", |text| ["GET", "HEAD"].contains(&text))? {
            None | Some("GET") => Method::Get,
            Some(_) => Method::Head,
        };
        let within = format!("a text of 1 to {CONTAINS_MAX} bytes");
        let contains = settings.text("contains", &within, |text| (1..=CONTAINS_MAX).contains(&text.len()))?;
        if let (Some(text), Method::Head) = (contains, method) {
            return Err(format!("field `contains` is {text:?}: must not go with the method HEAD, which has no body"));
        }
        let rule = format!("1 to {PATH_MAX} printable ASCII characters without spaces and `#`, the first of them `/`");
        let path = settings.text("path", &rule, is_path)?.unwrap_or("/").to_owned();
        let rule = format!("a DNS name or an IPv4 address of at most {HOST_MAX} bytes, without a port");
        let host = settings.text("host", &rule, is_host)?.map(ToOwned::to_owned);
        let rule = "a whole number from 200 to 599 or one of 2xx, 3xx, 4xx, 5xx";
        let statuses = settings.list("statuses", STATUSES_MAX, rule, statuses)?;
        let default_port = if scheme == Scheme::Http { HTTP_PORT } else { HTTPS_PORT };
        Ok(Self {
            port: settings.port()?.unwrap_or(default_port),
            scheme,
            method,
            path,
            host,
            // Redirects are not followed, and to redirect is what many a healthy site does with `/`.
            statuses: statuses.unwrap_or_else(|| vec![200..=399]),
            contains: contains.map(ToOwned::to_owned),
            body_max: settings.whole("body_kib", 1..=BODY_KIB_MAX)?.unwrap_or(BODY_KIB) as usize * 1024,
        })
    }

    /// Returns whether a status is as it should be.
    pub fn expects(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| range.contains(&status))
    }

    /// Returns the name that the target is told in the handshake; an address is none (RFC 6066, section 3).
    pub fn server_name(&self) -> Option<String> {
        self.host.clone().filter(|host| host.parse::<Ipv4Addr>().is_err())
    }
}

fn is_path(text: &str) -> bool {
    (1..=PATH_MAX).contains(&text.len())
        && text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= HOST_MAX && text.split('.').all(is_label)
}

fn statuses(item: &Value) -> Option<RangeInclusive<u16>> {
    if let Some(status) = item.as_u64() {
        let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status))?;
        return Some(status..=status);
    }
    let hundreds = match item.as_str()? {
        "2xx" => 200,
        "3xx" => 300,
        "4xx" => 400,
        "5xx" => 500,
        _ => return None,
    };
    Some(hundreds..=hundreds + 99)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> HttpSettings {
        HttpSettings::parse(text).unwrap()
    }

    #[test]
    fn without_settings_the_first_page_of_port_80_is_asked_for() {
        let plain = parse("{}");
        assert_eq!((plain.port, plain.scheme, plain.method, plain.path.as_str()), (80, Scheme::Http, Method::Get, "/"));
        let expected: Vec<u16> = [199, 200, 302, 399, 400].into_iter().filter(|s| plain.expects(*s)).collect();
        assert_eq!((expected, plain.body_max, plain.server_name()), (vec![200, 302, 399], 16 * 1024, None));
        let secure = parse(r#"{"tls": true, "host": "desk-1.example"}"#);
        assert_eq!((secure.port, secure.scheme), (443, Scheme::Https(None)));
        assert_eq!(secure.server_name().as_deref(), Some("desk-1.example"));
        assert_eq!(parse(r#"{"tls": true, "host": "192.0.2.1"}"#).server_name(), None);
    }

    #[test]
    fn statuses_are_numbers_and_classes() {
        let given = parse(r#"{"statuses": [204, "4xx"]}"#);
        let expected: Vec<u16> = [200, 204, 400, 499, 500].into_iter().filter(|s| given.expects(*s)).collect();
        assert_eq!(expected, [204, 400, 499]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_field_its_value_and_the_rule() {
        for (text, words) in [
            (r#"{"path": "index"}"#, r#"`path` is "index": must be 1 to 1024 printable"#),
            (r#"{"path": "/a b"}"#, r#"`path` is "/a b": must be"#),
            (r#"{"host": "a..b"}"#, r#"`host` is "a..b": must be a DNS name"#),
            (r#"{"host": "a:80"}"#, "without a port"),
            (r#"{"method": "POST"}"#, r#"`method` is "POST": must be GET or HEAD"#),
            (
                r#"{"statuses": [100]}"#,
                "`statuses` is 100: must be a list of items, each a whole number from 200 to 599",
            ),
            (r#"{"statuses": []}"#, "`statuses` is []: must be a list of 1 to 16 items"),
            (r#"{"contains": ""}"#, r#"`contains` is "": must be a text of 1 to 256 bytes"#),
            (r#"{"contains": "x", "method": "HEAD"}"#, r#"`contains` is "x": must not go with the method HEAD"#),
            (r#"{"body_kib": 33}"#, "`body_kib` is 33: must be a whole number from 1 to 32"),
            (r#"{"expires_within_days": 14}"#, "`expires_within_days` is 14: must go with `tls`"),
            (r#"{"expires_within_days": 3651, "tls": true}"#, "from 0 to 3650"),
        ] {
            let refused = HttpSettings::parse(text).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
