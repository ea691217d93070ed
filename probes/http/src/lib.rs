//! The `http` probe: does the target's web service answer a request as it should?
//!
//! One request of HTTP/1.1 over one connection, in plain text or inside TLS (RFC 9110, RFC 9112). A status that is expected, and
//! a body that comes to its end or to its limit, are up; a service that accepts and stays silent is `wedged`. Redirects are
//! told and not followed. No certificate is refused; where its settings ask for it, one that ends soon is degraded.

mod body;
mod exchange;
mod head;
mod judge;
mod request;
mod settings;
#[cfg(target_family = "wasm")]
mod wire;

pub use body::{Body, Framing, Want};
pub use exchange::{Answer, BodyEnd, Finding, Wire, fetch};
pub use head::{FIELDS_MAX, HEAD_MAX, Head, HeadRead, NotHttp, read_head};
pub use judge::{Certificate, Shown, judge};
pub use request::request;
pub use settings::{HTTP_PORT, HTTPS_PORT, HttpSettings, Method, SCHEMA, Scheme};

/// The `http` probe.
#[cfg(target_family = "wasm")]
pub struct Http;

#[cfg(target_family = "wasm")]
impl probe_kit::Probe for Http {
    const DESCRIPTION: probe_kit::Description = probe_kit::Description {
        name: "http",
        proves: "The web service of the target answers a request with an expected status and, if asked for, body.",
        schema: SCHEMA,
        ports: &[HTTP_PORT, HTTPS_PORT],
        interval: std::time::Duration::from_secs(5),
        timeout: std::time::Duration::from_secs(3),
    };
    type Settings = HttpSettings;

    fn settings(text: &str) -> Result<HttpSettings, String> {
        HttpSettings::parse(text)
    }

    fn run(
        address: &probe_kit::Address,
        settings: &HttpSettings,
        budget: &probe_kit::Budget,
    ) -> Result<probe_kit::Outcome, probe_kit::Fault> {
        wire::run(address, settings, budget)
    }
}

#[cfg(target_family = "wasm")]
probe_glue::component!(Http);
