//! A guest agent, as the node that carries questions to it would tell of it.

use std::time::{Duration, Instant};

use vouch_probe_host::{AgentQuery, GuestAgent, GuestAgentError};
use vouch_types::VmId;

/// Returns an answer to a command, as Debian's agent gives it (QEMU guest agent reference).
const fn answer_to(query: AgentQuery) -> &'static str {
    match query {
        AgentQuery::Info => concat!(
            r#"{"return":{"version":"10.0.0","supported_commands":["#,
            r#"{"enabled":true,"name":"guest-ping","success-response":true}]}}"#
        ),
        AgentQuery::OsInfo => concat!(
            r#"{"return":{"name":"Debian GNU/Linux","kernel-release":"6.1.0-37-amd64","version":"12 (bookworm)","#,
            r#""pretty-name":"Debian GNU/Linux 12 (bookworm)","version-id":"12","machine":"x86_64","id":"debian"}}"#
        ),
        AgentQuery::HostName => r#"{"return":{"host-name":"desk-1"}}"#,
        AgentQuery::Time => r#"{"return":1796000000000000000}"#,
        AgentQuery::TimeZone => r#"{"return":{"zone":"UTC","offset":0}}"#,
        AgentQuery::Users => r#"{"return":[{"login-time":1795990000.5,"user":"ada"}]}"#,
        AgentQuery::NetworkInterfaces => concat!(
            r#"{"return":[{"name":"lo","ip-addresses":["#,
            r#"{"ip-address-type":"ipv4","ip-address":"127.0.0.1","prefix":8}]}]}"#
        ),
        AgentQuery::FsFreezeStatus => r#"{"return":"thawed"}"#,
    }
}

/// What the agent does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FakeAgent {
    /// It answers.
    Ok,
    /// It is silent.
    Hang,
    /// It answers questions of before and never this one: answers without the id that was asked for don't count.
    Stale,
    /// It answers that the command is disabled, which is a sign of life (QEMU guest agent reference).
    Disabled,
}

/// A guest agent that behaves in one way.
#[derive(Clone, Copy, Debug)]
pub struct FakeGuestAgent {
    behaviour: FakeAgent,
}

impl FakeGuestAgent {
    /// Returns an agent that behaves like this.
    pub fn new(behaviour: FakeAgent) -> Self {
        Self { behaviour }
    }
}

#[async_trait::async_trait]
impl GuestAgent for FakeGuestAgent {
    async fn ping(&self, _vm: &VmId, timeout: Duration) -> Result<Duration, GuestAgentError> {
        let asked = Instant::now();
        match self.behaviour {
            // Any well-formed answer proves life, also a refusal.
            FakeAgent::Ok | FakeAgent::Disabled => Ok(asked.elapsed()),
            FakeAgent::Hang | FakeAgent::Stale => {
                tokio::time::sleep(timeout).await;
                Err(GuestAgentError::Silent)
            }
        }
    }

    async fn query(&self, vm: &VmId, query: AgentQuery, timeout: Duration) -> Result<String, GuestAgentError> {
        self.ping(vm, timeout).await?;
        Ok(match (self.behaviour, query) {
            (FakeAgent::Disabled, query) => disabled(query),
            (FakeAgent::Ok | FakeAgent::Hang | FakeAgent::Stale, query) => answer_to(query).to_owned(),
        })
    }
}

/// Returns the agent's answer to a command that its administrator has disabled.
fn disabled(query: AgentQuery) -> String {
    let command = query.as_str();
    format!(r#"{{"error":{{"class":"CommandNotFound","desc":"Command {command} has been disabled"}}}}"#)
}
