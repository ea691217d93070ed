//! The admin API as a user's program reaches it: HTTP with a bearer token, from the machine where it listens.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::netns::Host;

/// How long one call may take, unless told otherwise.
const LIMIT: Duration = Duration::from_secs(10);

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body; `Null` if there is none, a string if it isn't JSON.
    pub body: Value,
}

impl Reply {
    /// Returns the body if the call succeeded.
    ///
    /// # Errors
    /// Fails with status and body for any status but 2xx.
    pub fn ok(self) -> Result<Value> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        bail!("the API answered {}: {}", self.status, self.body)
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Method<'a> {
    Get,
    Post(&'a Value),
    Upload(&'a [u8]),
    Put(&'a Value),
    Delete,
}

/// A client of one manager's API.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    token: String,
    namespace: Option<PathBuf>,
    limit: Duration,
}

impl Client {
    /// Returns a client for an API on this machine, such as `http://127.0.0.1:7400`.
    pub fn new(base: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            base: base.into().trim_end_matches('/').to_owned(),
            token: token.into().trim().to_owned(),
            namespace: None,
            limit: LIMIT,
        }
    }

    /// Returns a client for an API that listens on a machine of a lab; its loopback is meant by 127.0.0.1.
    #[must_use]
    pub fn on(mut self, host: &Host) -> Self {
        self.namespace = Some(Path::new("/run/netns").join(&host.namespace));
        self
    }

    /// Returns the same client, each of whose calls may take so long.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the same client with another token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = token.into();
        self
    }

    /// Returns the URL of a path, for a test that has to say more than a good client would.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Returns the value of the header `Authorization`.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Calls GET; a status of 4xx or 5xx is an answer, not an error.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub fn get(&self, path: &str) -> Result<Reply> {
        self.call(Method::Get, path)
    }

    /// Calls GET and returns the body of a good answer.
    ///
    /// # Errors
    /// Fails if there is no answer or the status is not 2xx.
    pub fn read(&self, path: &str) -> Result<Value> {
        self.get(path)?.ok().with_context(|| format!("GET {path}"))
    }

    /// Calls POST with a JSON body.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.call(Method::Post(body), path)
    }

    /// Calls POST with the bytes of a component.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub fn upload(&self, path: &str, component: &[u8]) -> Result<Reply> {
        self.call(Method::Upload(component), path)
    }

    /// Calls PUT with a JSON body.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub fn put(&self, path: &str, body: &Value) -> Result<Reply> {
        self.call(Method::Put(body), path)
    }

    /// Calls DELETE.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub fn delete(&self, path: &str) -> Result<Reply> {
        self.call(Method::Delete, path)
    }

    /// Reads server-sent events and gives the data of each to `take`, until it returns false or the limit is over.
    ///
    /// # Errors
    /// Fails if the stream can't be opened.
    pub fn events(&self, path: &str, limit: Duration, mut take: impl FnMut(Value) -> bool + Send) -> Result<()> {
        self.inside(|| {
            let response = self
                .agent(limit)
                .get(format!("{}{path}", self.base))
                .header("Authorization", format!("Bearer {}", self.token))
                .header("Accept", "text/event-stream")
                .call()
                .with_context(|| format!("GET {path}"))?;
            if response.status().as_u16() != 200 {
                bail!("GET {path} answered {}", response.status());
            }
            let mut body = response.into_body();
            for line in BufReader::new(body.as_reader()).lines() {
                // The limit ends the stream in the middle, which is no error here.
                let Ok(line) = line else { return Ok(()) };
                let Some(data) = line.strip_prefix("data:") else { continue };
                let data = data.trim();
                let value = serde_json::from_str(data).unwrap_or_else(|_| Value::String(data.to_owned()));
                if !take(value) {
                    return Ok(());
                }
            }
            Ok(())
        })
    }

    fn call(&self, method: Method<'_>, path: &str) -> Result<Reply> {
        self.inside(|| {
            let url = format!("{}{path}", self.base);
            let token = format!("Bearer {}", self.token);
            let agent = self.agent(self.limit);
            let response = match method {
                Method::Get => agent.get(&url).header("Authorization", token).call(),
                Method::Post(body) => agent.post(&url).header("Authorization", token).send_json(body),
                Method::Upload(component) => {
                    let post = agent.post(&url).header("Authorization", token);
                    post.header("Content-Type", "application/wasm").send(component)
                }
                Method::Delete => agent.delete(&url).header("Authorization", token).call(),
                Method::Put(body) => agent.put(&url).header("Authorization", token).send_json(body),
            };
            let mut response = response.with_context(|| format!("no answer from {url}"))?;
            let status = response.status().as_u16();
            let text = response.body_mut().read_to_string().with_context(|| format!("can't read the body of {url}"))?;
            let body = match text.as_str() {
                "" => Value::Null,
                text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
            };
            Ok(Reply { status, body })
        })
    }

    fn agent(&self, limit: Duration) -> ureq::Agent {
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(limit))
            .proxy(None)
            .build()
            .new_agent()
    }

    /// Runs a call where the API listens. A thread that moves into a namespace can't come back, so it is one of its own.
    fn inside<T: Send>(&self, call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(namespace) = &self.namespace else { return call() };
        let enter = || -> Result<()> {
            let file = File::open(namespace).with_context(|| format!("can't open {}", namespace.display()))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("can't move into {}", namespace.display()))
        };
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                enter()?;
                call()
            });
            done.join().unwrap_or_else(|_| Err(anyhow!("the call panicked")))
        })
    }
}

/// Runs a command of `vouch` with `-o json` and returns what it printed.
///
/// # Errors
/// Fails with its message if it ends with another exit code than 0, or prints something that is no JSON.
pub fn cli_json(command: &mut Command) -> Result<Value> {
    let done = command
        .args(["-o", "json"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't start {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?} ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    serde_json::from_slice(&done.stdout).with_context(|| {
        format!("{command:?} printed something that is no JSON: {}", String::from_utf8_lossy(&done.stdout).trim())
    })
}
