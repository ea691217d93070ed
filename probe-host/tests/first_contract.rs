//! A component that was built for `vouch:probe@0.1.0`, on today's host: everything is as it was.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{DEADLINE, port, probe, refusing_port, server, target};
use vouch_probe_host::limits::{OUTCOME_ITEMS_MAX, SETTINGS_MAX};
use vouch_probe_host::{
    AgentQuery, Capabilities, ContractVersion, EchoReply, EchoRequest, GuestAgent, GuestAgentError, Icmp, IcmpError,
    PortGrant, RunFault, RunOutcome,
};
use vouch_types::{Network, Outcome, VmId};

async fn run(settings: &str, lent: &Capabilities) -> Result<RunOutcome, RunFault> {
    probe("v0-1").run(&target(), settings, DEADLINE, lent).await
}

#[tokio::test]
async fn it_is_known_by_what_it_exports_and_describes_itself_in_its_own_words() {
    let probe = probe("v0-1");
    assert_eq!(probe.contract(), ContractVersion::V0_1);
    assert!(probe.imports().interfaces.contains(&"vouch:probe/icmp@0.1.0".to_owned()), "{:?}", probe.imports());
    let described = probe.describe().await.unwrap();
    assert_eq!((described.name.as_str(), described.version.as_str()), ("v0-1", "0.1.0"));
    assert_eq!(described.summary, "Connects, as the first contract has it.");
    assert_eq!((described.contract, &described.ports[..]), (ContractVersion::V0_1, &[22, 2222][..]));
    assert_eq!(described.networks, [Network::Management, Network::Service], "it never said that it can't");
    assert_eq!((&described.settings_schema, described.interval, described.timeout), (&None, None, None));
}

#[tokio::test]
async fn it_takes_and_refuses_settings() {
    assert_eq!(probe("v0-1").validate("{}").await, Ok(()));
    let refused = probe("v0-1").validate("22").await;
    assert_eq!(refused, Err(RunFault::BadSettings("settings are 22: must be an object or a word".to_owned())));
    let long = probe("v0-1").validate(&" ".repeat(SETTINGS_MAX + 1)).await;
    assert!(matches!(long, Err(RunFault::BadSettings(_))), "{long:?}");
}

#[tokio::test]
async fn it_connects_and_is_heard_whole() {
    let open = server(async |stream| drop(stream)).await;
    let found = run(&port(open), &Capabilities::default()).await.unwrap();
    assert_eq!((found.outcome, found.reason.as_str()), (Outcome::Up, "connected"));
    assert_eq!(found.phases[0].name, "connect to it", "names were any text");
    assert_eq!(found.facts, [("Free Text".to_owned(), "as it was".to_owned())]);
    assert_eq!((found.samples.len(), found.left_out), (OUTCOME_ITEMS_MAX, 1));
    let (_held, refusing) = refusing_port();
    let closed = run(&port(refusing), &Capabilities::default()).await.unwrap();
    assert_eq!((closed.outcome, closed.reason.as_str()), (Outcome::Down, "closed"));
}

#[tokio::test]
async fn it_reaches_no_more_than_it_is_granted() {
    let open = server(async |stream| drop(stream)).await;
    let lent = Capabilities { ports: PortGrant::Only([1].into()), ..Capabilities::default() };
    let refused = run(&port(open), &lent).await.unwrap();
    assert_eq!(refused.reason, "closed");
    let nothing = Capabilities::default();
    for word in ["\"echo\"", "\"agent\""] {
        let said = run(word, &nothing).await;
        assert!(matches!(&said, Err(RunFault::Probe(why)) if why.contains("NotGranted")), "{word}: {said:?}");
    }
}

struct Lent(Result<Vec<EchoReply>, IcmpError>);

#[async_trait::async_trait]
impl Icmp for Lent {
    async fn echo(&self, request: EchoRequest) -> Result<Vec<EchoReply>, IcmpError> {
        assert_eq!((request.count, request.interval), (2, Duration::from_millis(10)));
        self.0.clone()
    }
}

#[async_trait::async_trait]
impl GuestAgent for Lent {
    async fn ping(&self, vm: &VmId, _timeout: Duration) -> Result<Duration, GuestAgentError> {
        assert_eq!(vm.to_string(), common::VM);
        Ok(Duration::from_micros(7))
    }

    async fn query(&self, _vm: &VmId, _query: AgentQuery, _timeout: Duration) -> Result<String, GuestAgentError> {
        Err(GuestAgentError::Silent)
    }
}

async fn lending(settings: &str, echoes: Result<Vec<EchoReply>, IcmpError>) -> Result<RunOutcome, RunFault> {
    let (icmp, agent) = (Arc::new(Lent(echoes)), Arc::new(Lent(Ok(Vec::new()))));
    let lent = Capabilities { icmp: Some(icmp), guest_agent: Some(agent), ..Capabilities::default() };
    run(settings, &lent).await
}

#[tokio::test]
async fn its_imports_answer_in_its_own_words() {
    let reply = EchoReply { sequence: 1, round_trip: Duration::from_micros(250) };
    assert_eq!(lending("\"echo\"", Ok(vec![reply])).await.unwrap().message, "1");
    let no_route = lending("\"echo\"", Err(IcmpError::NoRoute("none".to_owned()))).await.unwrap();
    assert_eq!((no_route.outcome, no_route.reason.as_str()), (Outcome::Unknown, "no_route"));
    assert_eq!(lending("\"agent\"", Ok(Vec::new())).await.unwrap().message, "7");
}

#[tokio::test]
async fn its_faults_are_faults_and_nothing_is_down_by_them() {
    let bad = run("\"bad\"", &Capabilities::default()).await;
    assert_eq!(bad, Err(RunFault::BadSettings("field `word` is bad".to_owned())));
    let nowhere = vouch_probe_host::Target { addresses: Vec::new(), ..target() };
    let ran = probe("v0-1").run(&nowhere, "{}", DEADLINE, &Capabilities::default()).await;
    assert_eq!(ran, Err(RunFault::NotApplicable("no address".to_owned())));
}
