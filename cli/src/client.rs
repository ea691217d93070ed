//! The client of the admin API: tries one manager after the other, and turns problem documents into exit codes.
//!
//! A request that was sent is repeated on another manager only when the first one said that it could not serve it
//! (503), or when the connection failed before anything was sent.

mod sse;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use vouch_manager::api::Problem;
use vouch_manager::api::view::Page;

use sse::SseParser;

use crate::args::Global;
use crate::exit::{CliError, Exit};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take to begin; a manager gives up before that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// What the last event of a stream says that was cut because its reader was slow; it comes back for the rest.
const TOO_SLOW: &str = "/problems/too-slow";
/// How long an answer of any length may stand still; the manager makes it meanwhile.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// What a body is that is no form.
const PLAIN: &str = "application/octet-stream";
/// The largest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// One manager's API.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    url: String,
    authority: String,
    tls_name: Option<String>,
}

/// The client.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    endpoints: Vec<Endpoint>,
    token: String,
    tls: Option<Arc<ClientConfig>>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

fn parse_endpoint(url: &str) -> Result<Endpoint, CliError> {
    let wrong = |rule: &str| CliError::text(Exit::Usage, format!("--api {url:?}: {rule}"));
    let (base, name) = url.split_once('#').map_or((url, None), |(base, name)| (base, Some(name)));
    let uri: Uri = base.parse().map_err(|_| wrong("must be a URL, as http://127.0.0.1:7080"))?;
    let authority = uri.authority().ok_or_else(|| wrong("must name a host"))?;
    if !matches!(uri.path(), "" | "/") {
        return Err(wrong("must end after the port"));
    }
    let tls_name = match uri.scheme_str() {
        Some("http") => None,
        Some("https") => Some(match name {
            Some(id) if !id.contains('.') => format!("{id}.manager.vouch"),
            Some(name) => name.to_owned(),
            None => authority.host().trim_matches(['[', ']']).to_owned(),
        }),
        _ => return Err(wrong("must begin with http:// or https://")),
    };
    let port = authority.port_u16().unwrap_or(7080);
    let url = base.trim_end_matches('/').to_owned();
    Ok(Endpoint { url, authority: format!("{}:{port}", authority.host()), tls_name })
}

fn read_token(global: &Global) -> Result<String, CliError> {
    let path = global.token_file.as_ref().ok_or_else(|| {
        CliError::text(Exit::Denied, "no token: name its file with --token-file FILE or VOUCH_TOKEN_FILE")
    })?;
    let token = std::fs::read_to_string(path)
        .with_context(|| format!("token file {}: cannot be read", path.display()))
        .map_err(|e| CliError::new(Exit::Denied, e))?;
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let text = format!("token file {}: must hold one line of printable characters", path.display());
        return Err(CliError::text(Exit::Denied, text));
    }
    Ok(token.to_owned())
}

fn tls_config(global: &Global) -> Result<Arc<ClientConfig>, CliError> {
    let path = global.ca.as_ref().ok_or_else(|| {
        CliError::text(Exit::Usage, "https needs the cluster's CA: name it with --ca FILE or VOUCH_CA")
    })?;
    let roots = roots(path)?;
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Returns the CAs of a file: while one takes the other's place there are two.
fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let unreadable = || format!("--ca {}: cannot be read", path.display());
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_file_iter(path).with_context(unreadable)? {
        let ca = ca.with_context(unreadable)?;
        roots.add(ca).with_context(|| format!("--ca {}: is no CA certificate", path.display()))?;
    }
    if roots.is_empty() {
        anyhow::bail!("--ca {}: holds no certificate", path.display());
    }
    Ok(roots)
}

/// Why one manager gave no answer.
enum Attempt {
    /// Nothing was sent: another one may be asked.
    NotSent(anyhow::Error),
    /// It was sent, and what became of it is not known.
    Sent(anyhow::Error),
}

impl Client {
    /// Returns a client for the managers of the command line.
    ///
    /// # Errors
    /// When URLs, token or CA cannot be used.
    pub fn new(global: &Global) -> Result<Self, CliError> {
        let endpoints: Vec<Endpoint> = global.api.iter().map(|url| parse_endpoint(url)).collect::<Result<_, _>>()?;
        let tls = endpoints.iter().any(|e| e.tls_name.is_some()).then(|| tls_config(global)).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, endpoints, token: read_token(global)?, tls })
    }

    /// Gets a document.
    ///
    /// # Errors
    /// What the managers said, with the exit code for it.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.call(Method::GET, path, Bytes::new())
    }

    /// Posts a body and gets a document.
    ///
    /// # Errors
    /// What the managers said, with the exit code for it.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T, CliError> {
        self.call(Method::POST, path, body.into())
    }

    /// Posts a form of named parts (RFC 7578) and gets a document.
    ///
    /// # Errors
    /// What the managers said, with the exit code for it.
    pub fn post_form<T: DeserializeOwned>(&self, path: &str, parts: &[(&str, &[u8])]) -> Result<T, CliError> {
        let boundary = uuid::Uuid::new_v4().simple().to_string();
        let kind = format!("multipart/form-data; boundary={boundary}");
        self.call_as(Method::POST, path, form(&boundary, parts).into(), &kind)
    }

    /// Sends a document with a method and gets one back.
    ///
    /// # Errors
    /// What the managers said, with the exit code for it.
    pub fn tell<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        document: &B,
    ) -> Result<T, CliError> {
        self.call(method, path, serde_json::to_vec(document)?.into())
    }

    /// Deletes something and gets what it was, or what is left.
    ///
    /// # Errors
    /// What the managers said, with the exit code for it.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.call(Method::DELETE, path, Bytes::new())
    }

    /// Gets all pages of a list.
    ///
    /// # Errors
    /// What the managers said, with the exit code for it.
    pub fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, CliError> {
        let (mut items, mut after) = (Vec::new(), None::<String>);
        loop {
            let and = if path.contains('?') { '&' } else { '?' };
            let after_text = after.map(|a| format!("&after={}", escape(&a))).unwrap_or_default();
            let page: Page<T> = self.get(&format!("{path}{and}limit=1000{after_text}"))?;
            items.extend(page.items);
            match page.next {
                None => return Ok(items),
                next => after = next,
            }
        }
    }

    /// Gets what the first manager answers as a text, whatever its status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(&self, path: &str) -> Result<String, CliError> {
        self.runtime.block_on(async {
            let endpoint = self.endpoints.first().context("no manager is named")?;
            let response = match self.attempt(endpoint, &Method::GET, path, Bytes::new(), PLAIN).await {
                Ok(response) => response,
                Err(Attempt::NotSent(e) | Attempt::Sent(e)) => {
                    return Err(CliError::new(Exit::Unavailable, e.context(endpoint.url.clone())));
                }
            };
            let limited = http_body_util::Limited::new(response.into_body(), ANSWER_MAX);
            let collected = tokio::time::timeout(ANSWER_TIMEOUT, limited.collect()).await;
            let bytes = collected
                .context("the answer did not end in time")?
                .map_err(|e| anyhow::anyhow!("the answer was cut off: {e}"))?
                .to_bytes();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        })
    }

    /// Gets bytes of any length.
    ///
    /// # Errors
    /// What the managers said, with the exit code for it, or an answer that is cut off or stands still.
    pub fn fetch(&self, path: &str) -> Result<Bytes, CliError> {
        self.runtime.block_on(async {
            let mut body = self.send(&Method::GET, path, Bytes::new()).await?.into_body();
            let mut bytes = Vec::new();
            loop {
                let frame = tokio::time::timeout(STALL_TIMEOUT, body.frame()).await;
                let frame = frame.with_context(|| format!("the answer stood still for {STALL_TIMEOUT:?}"))?;
                let Some(frame) = frame else { return Ok(bytes.into()) };
                let frame = frame.map_err(|e| anyhow::anyhow!("the answer was cut off: {e}"))?;
                bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
            }
        })
    }

    fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, CliError> {
        self.call_as(method, path, body, PLAIN)
    }

    fn call_as<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes, kind: &str) -> Result<T, CliError> {
        self.runtime.block_on(async {
            let response = self.send_as(&method, path, body, kind).await?;
            let limited = http_body_util::Limited::new(response.into_body(), ANSWER_MAX);
            let collected = tokio::time::timeout(ANSWER_TIMEOUT, limited.collect()).await;
            let bytes = collected
                .context("the answer did not end in time")?
                .map_err(|e| anyhow::anyhow!("the answer was cut off: {e}"))?
                .to_bytes();
            serde_json::from_slice(&bytes)
                .context("the answer is not what this version of vouch expects")
                .map_err(Into::into)
        })
    }

    /// Follows server-sent events of `path` (which ends in `?` or in parameters), one call per event with its data,
    /// and comes back with the last position when a connection ends.
    ///
    /// # Errors
    /// When no manager answers, or one refuses.
    pub fn follow(
        &self,
        path: &str,
        after: Option<String>,
        mut each: impl FnMut(&str) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut after = after;
        self.runtime.block_on(async {
            loop {
                let from = after.as_ref().map(|a| format!("&after={}", escape(a))).unwrap_or_default();
                let response = self.send(&Method::GET, &format!("{path}{from}"), Bytes::new()).await?;
                let mut body = response.into_body();
                let mut parser = SseParser::default();
                while let Some(Ok(frame)) = body.frame().await {
                    let Some(data) = frame.data_ref() else { continue };
                    for event in parser.feed(data) {
                        if event.kind == "problem" {
                            if event.data.contains(TOO_SLOW) {
                                continue;
                            }
                            return Err(problem_error(event.data.as_bytes(), StatusCode::GONE));
                        }
                        each(&event.data)?;
                        if !event.id.is_empty() {
                            after = Some(event.id);
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    }

    async fn send(&self, method: &Method, path: &str, body: Bytes) -> Result<Response<Incoming>, CliError> {
        self.send_as(method, path, body, PLAIN).await
    }

    async fn send_as(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        kind: &str,
    ) -> Result<Response<Incoming>, CliError> {
        let mut unreachable = Vec::new();
        let mut refused = None;
        for endpoint in &self.endpoints {
            match self.attempt(endpoint, method, path, body.clone(), kind).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let status = response.status();
                    let bytes = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                    let error = problem_error(&bytes, status);
                    if status != StatusCode::SERVICE_UNAVAILABLE {
                        return Err(error);
                    }
                    refused = Some(error);
                }
                Err(Attempt::NotSent(e)) => unreachable.push(format!("{}: {e:#}", endpoint.url)),
                Err(Attempt::Sent(e)) if *method == Method::GET => unreachable.push(format!("{}: {e:#}", endpoint.url)),
                Err(Attempt::Sent(e)) => {
                    return Err(CliError::new(
                        Exit::Unavailable,
                        e.context(format!("{} did not answer", endpoint.url)),
                    ));
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            CliError::text(Exit::Unavailable, format!("no manager can be reached\n{}", unreachable.join("\n")))
        }))
    }

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        method: &Method,
        path: &str,
        body: Bytes,
        kind: &str,
    ) -> Result<Response<Incoming>, Attempt> {
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(endpoint));
        let stream = connect
            .await
            .map_err(|_| Attempt::NotSent(anyhow::anyhow!("no connection within {CONNECT_TIMEOUT:?}")))?
            .map_err(|e| Attempt::NotSent(e.into()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| Attempt::NotSent(e.into()))?;
        tokio::spawn(async move {
            // A connection that breaks shows at its request.
            let _ = connection.await;
        });
        let host = endpoint.tls_name.as_ref().filter(|name| name.ends_with(".vouch")).unwrap_or(&endpoint.authority);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, kind)
            .body(Full::new(body))
            .map_err(|e| Attempt::NotSent(e.into()))?;
        match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) => Err(Attempt::Sent(e.into())),
            Err(_) => Err(Attempt::Sent(anyhow::anyhow!("no answer within {ANSWER_TIMEOUT:?}"))),
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(&endpoint.authority).await?;
        tcp.set_nodelay(true)?;
        match (&endpoint.tls_name, &self.tls) {
            (Some(name), Some(tls)) => {
                let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
                Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?))
            }
            _ => Ok(Box::new(tcp)),
        }
    }
}

/// Returns what a manager refused, with the exit code for it.
fn problem_error(body: &[u8], status: StatusCode) -> CliError {
    let exit = match status {
        // A parameter that only the manager could judge was given on the command line.
        StatusCode::BAD_REQUEST => Exit::Usage,
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Exit::Unavailable,
        _ => Exit::Failed,
    };
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let mut text = format!("{}: {}", problem.title, problem.detail);
            if let Some(imports) = &problem.imports {
                text.push_str(&format!("\nit imports: {}", imports.join(", ")));
            }
            if let Some(allowed) = &problem.allowed_imports {
                text.push_str(&format!("\na probe may import: {}", allowed.join(", ")));
            }
            if let Some(granted) = &problem.granted {
                text.push_str(&format!("\nit is granted: {}", granted.join(", ")));
            }
            if let Some(missing) = &problem.missing {
                text.push_str(&format!("\nnot granted: {}", missing.join(", ")));
            }
            CliError::text(exit, text).of_problem(&problem)
        }
        Err(_) => CliError::text(exit, format!("the manager answered {status}")),
    }
}

/// Returns the body of a form (RFC 7578) between these boundaries, which its parts must not hold.
fn form(boundary: &str, parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in parts {
        body.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes());
        body.extend_from_slice(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").into_bytes());
    body
}

/// Escapes a value of a query or a segment of a path (RFC 3986, unreserved characters stay).
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_two_cas_is_trusted_as_a_whole_and_one_without_any_is_refused_by_its_path() {
        use vouch_wire::pki::CertificateAuthority;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let ca = || CertificateAuthority::generate("test", vouch_types::WallTime::from_unix_millis(1_795_383_407_042));
        let both = [ca(), ca()].map(|ca| ca.unwrap().certificate_pem().to_owned()).concat();
        std::fs::write(&file, both).unwrap();
        assert_eq!(roots(&file).unwrap().len(), 2);
        std::fs::write(&file, "nothing").unwrap();
        let why = roots(&file).unwrap_err().to_string();
        assert!(why.contains("ca.pem") && why.contains("no certificate"), "{why}");
    }

    #[test]
    fn an_endpoint_over_tls_expects_the_manager_that_it_names() {
        let e = parse_endpoint("https://10.1.0.1:7443#m2").unwrap();
        assert_eq!((e.authority.as_str(), e.tls_name.as_deref()), ("10.1.0.1:7443", Some("m2.manager.vouch")));
        let e = parse_endpoint("http://127.0.0.1:7080/").unwrap();
        assert_eq!((e.authority.as_str(), e.tls_name), ("127.0.0.1:7080", None));
        for bad in ["ftp://x", "127.0.0.1:7080", "http://127.0.0.1/v1", ""] {
            assert!(parse_endpoint(bad).unwrap_err().render().contains("must"), "{bad}");
        }
    }
}
