//! Guests that break the rules: each is stopped, each with one clear error, and the host goes on.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{DEADLINE, host, order, port, probe, server, target};
use vouch_probe_host::limits::{
    ABOUT_MAX, AGENT_QUESTIONS_MAX, AGENT_REPLY_MAX, DEADLINE_GRACE, DESCRIBED_NETWORKS_MAX, DESCRIBED_PORTS_MAX,
    FACTS_MAX, OUTCOME_TEXT_MAX, PHASES_MAX, RESOURCES_MAX, SAMPLES_MAX,
};
use vouch_probe_host::{
    AgentQuery, Capabilities, EchoReply, EchoRequest, GuestAgent, GuestAgentError, HostLimits, Icmp, IcmpError,
    LoadError, PortGrant, ProbeHost, RunFault, Target,
};
use vouch_types::{Network, VmId};

/// Everything that a test could lend, so that only the rule under test refuses.
fn port_granted(port: u16) -> Capabilities {
    Capabilities { ports: PortGrant::Only([port].into()), ..Capabilities::default() }
}

async fn refusal(words: &str, capabilities: &Capabilities) -> (String, String) {
    let found = order(words, capabilities).await.unwrap();
    (found.reason, found.message)
}

#[tokio::test]
async fn a_guest_that_loops_is_stopped_soon_after_its_deadline() {
    let deadline = Duration::from_millis(200);
    let begun = Instant::now();
    let ran = probe("hostile").run(&target(), "\"loop\"", deadline, &Capabilities::default()).await;
    assert!(matches!(ran, Err(RunFault::Deadline { .. })), "{ran:?}");
    let took = begun.elapsed();
    assert!(took >= deadline + DEADLINE_GRACE && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_guest_that_sleeps_inside_a_host_call_is_stopped_too() {
    let begun = Instant::now();
    let ran = probe("hostile").run(&target(), "\"sleep\"", Duration::from_millis(200), &Capabilities::default()).await;
    assert!(matches!(ran, Err(RunFault::Deadline { .. })), "{ran:?}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn settings_are_not_waited_for_without_end() {
    let ran = probe("hostile").validate("{}").await;
    assert!(matches!(ran, Err(RunFault::Deadline { .. })), "{ran:?}");
}

#[tokio::test]
async fn other_runs_go_on_while_guests_loop_on_the_only_thread() {
    let open = server(async |stream| drop(stream)).await;
    // Compiled before the others begin: the compiler would hold the only thread.
    probe("tcp").describe().await.unwrap();
    probe("hostile").describe().await.unwrap();
    let deadline = Duration::from_millis(1500);
    let loops: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                probe("hostile").run(&target(), "\"loop\"", deadline, &Capabilities::default()).await
            })
        })
        .collect();
    let found = probe("tcp").run(&target(), &port(open), DEADLINE, &Capabilities::default()).await.unwrap();
    assert_eq!(found.reason, "connected");
    assert!(loops.iter().all(|run| !run.is_finished()), "it ran beside them, not after them");
    for run in loops {
        assert!(matches!(run.await.unwrap(), Err(RunFault::Deadline { .. })));
    }
}

#[tokio::test]
async fn a_guest_that_eats_memory_is_stopped_at_its_limit() {
    let limit = HostLimits::default().memory;
    assert_eq!(order("eat", &Capabilities::default()).await, Err(RunFault::Memory { limit }));
}

#[tokio::test]
async fn guests_that_hoard_memory_together_leave_some_for_others_and_give_it_back() {
    const MIB: usize = 1024 * 1024;
    let host = ProbeHost::new(HostLimits { memory_of_all: 16 * MIB, ..HostLimits::default() }).unwrap();
    let hostile = host.compile(vouch_probe_bundle::hostile().bytes).unwrap();
    let tcp = host.compile(vouch_probe_bundle::by_name("tcp").unwrap().bytes).unwrap();
    hostile.describe().await.unwrap();
    let open = server(async |stream| drop(stream)).await;
    let hoard = |mib: usize| {
        let hostile = hostile.clone();
        let run = async move {
            let order = format!("\"hoard {mib}\"");
            hostile.run(&target(), &order, Duration::from_millis(700), &Capabilities::default()).await
        };
        tokio::spawn(run)
    };
    for _ in 0..2 {
        let hoards: Vec<_> = (0..20).map(|_| hoard(3)).collect();
        let found = tcp.run(&target(), &port(open), DEADLINE, &Capabilities::default()).await.unwrap();
        assert_eq!(found.reason, "connected");
        let mut ended = Vec::new();
        for run in hoards {
            ended.push(run.await.unwrap().unwrap_err());
        }
        let (held, refused): (Vec<_>, Vec<_>) =
            ended.into_iter().partition(|fault| matches!(fault, RunFault::Deadline { .. }));
        // Half of the memory is one probe's, and a guest has a little more than its hoard.
        assert_eq!(held.len(), 2);
        assert!(refused.iter().all(|fault| *fault == RunFault::MemoryOfProbe { limit: 8 * MIB }), "{refused:?}");
    }
}

/// Returns the hostile guest with components beside it that hold a memory of so many pages of 64 KiB each.
fn with_memories(pages: &[u8]) -> Vec<u8> {
    let section = |id: u8, content: &[u8]| [&[id, u8::try_from(content.len()).unwrap()], content].concat();
    let mut component = vouch_probe_bundle::hostile().bytes.to_vec();
    // The guest has one component in it already, which holds its export.
    for (index, pages) in (1..).zip(pages) {
        let memory = section(5, &[1, 0, pages | 0x80, pages >> 7]);
        let module = section(1, &[&b"\0asm\x01\0\0\0"[..], &memory].concat());
        let beside = [&b"\0asm\x0d\0\x01\0"[..], &module, &section(2, &[1, 0, 0, 0])].concat();
        component.extend([section(4, &beside), section(5, &[1, 0, index, 0])].concat());
    }
    component
}

#[tokio::test]
async fn the_memories_of_a_guest_count_together() {
    let run = async |pages| {
        let probe = host().compile(&with_memories(&[pages])).unwrap();
        probe.run(&target(), "\"environment\"", DEADLINE, &Capabilities::default()).await
    };
    assert_eq!(run(1).await.unwrap().reason, "counted");
    assert_eq!(run(255).await, Err(RunFault::Memory { limit: HostLimits::default().memory }));
    let refused = host().compile(&with_memories(&[1, 1])).err().unwrap().to_string();
    assert!(refused.contains("3 Wasm linear memories"), "{refused}");
}

#[tokio::test]
async fn a_guest_that_recurses_without_end_is_stopped_at_the_end_of_its_stack() {
    let ran = order("recurse", &Capabilities::default()).await;
    assert!(matches!(ran, Err(RunFault::Crashed(_))), "{ran:?}");
    assert_eq!(
        order("environment", &Capabilities::default()).await.unwrap().reason,
        "counted",
        "and the next one runs"
    );
}

#[tokio::test]
async fn a_guest_that_hoards_handles_gets_no_more_than_its_limit() {
    match order("eat-handles", &Capabilities::default()).await {
        Ok(held) => assert!(held.message.parse::<usize>().unwrap() <= RESOURCES_MAX, "{}", held.message),
        Err(fault) => assert!(matches!(fault, RunFault::Crashed(_)), "{fault:?}"),
    }
}

#[tokio::test]
async fn a_guest_reaches_no_address_but_its_target() {
    let elsewhere = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let address = elsewhere.local_addr().unwrap();
    let lent = port_granted(address.port());
    let (reason, why) = refusal(&format!("connect {address}"), &lent).await;
    assert_eq!((reason.as_str(), why.as_str()), ("refused", "PermissionDenied"));
    let (reason, why) = refusal(&format!("connect [::ffff:127.0.0.2]:{}", address.port()), &lent).await;
    assert_eq!(reason, "refused", "{why}");
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "nothing arrived");
}

#[tokio::test]
async fn a_guest_reaches_no_port_of_its_target_but_the_granted_one() {
    let other = server(async |stream| drop(stream)).await;
    let (reason, why) = refusal(&format!("connect 127.0.0.1:{other}"), &port_granted(1)).await;
    assert_eq!((reason.as_str(), why.as_str()), ("refused", "PermissionDenied"));
    let (reason, _) = refusal(&format!("connect 127.0.0.1:{other}"), &port_granted(other)).await;
    assert_eq!(reason, "connected", "the same with the grant");
}

#[tokio::test]
async fn a_guest_sends_no_datagram_elsewhere() {
    let elsewhere = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let address = elsewhere.local_addr().unwrap();
    let (reason, why) = refusal(&format!("send {address}"), &port_granted(address.port())).await;
    assert_eq!(reason, "refused", "{why}");
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.recv(&mut [0; 1]).is_err(), "nothing arrived");
}

#[tokio::test]
async fn a_wildcard_is_no_way_to_another_address() {
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for address in ["0.0.0.0", "[::]", "[::ffff:0.0.0.0]"] {
        let (reason, why) = refusal(&format!("connect {address}:{port}"), &port_granted(port)).await;
        assert_eq!(reason, "refused", "{address}: {why}");
    }
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "nothing arrived");
}

#[tokio::test]
async fn a_guest_binds_to_no_port_of_its_choice() {
    for address in ["0.0.0.0:53", "127.0.0.1:53", "0.0.0.0:40000", "[::]:53", "127.0.0.1:0"] {
        let (reason, why) = refusal(&format!("bind {address}"), &port_granted(53)).await;
        assert_eq!((reason.as_str(), why.as_str()), ("refused", "PermissionDenied"), "{address}");
    }
}

#[tokio::test]
async fn a_guest_cannot_listen() {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:22", "0.0.0.0:22"] {
        let (reason, why) = refusal(&format!("listen {address}"), &port_granted(1)).await;
        assert_eq!(reason, "refused", "{address}: {why}");
    }
}

#[tokio::test]
async fn a_guest_looks_up_no_names() {
    let (reason, why) = refusal("look-up localhost:80", &port_granted(80)).await;
    assert_eq!(reason, "refused", "{why}");
}

#[tokio::test]
async fn a_guest_has_no_files_and_no_environment() {
    let (reason, why) = refusal("read /etc/hostname", &Capabilities::default()).await;
    assert_eq!(reason, "refused", "{why}");
    assert_eq!(order("environment", &Capabilities::default()).await.unwrap().message, "0");
}

struct NoEcho;

#[async_trait::async_trait]
impl Icmp for NoEcho {
    async fn echo(&self, request: EchoRequest) -> Result<Vec<EchoReply>, IcmpError> {
        panic!("a guest got a packet out: {request:?}");
    }
}

#[tokio::test]
async fn a_guest_pings_nobody_but_its_target() {
    let lent = Capabilities { icmp: Some(Arc::new(NoEcho)), ..Capabilities::default() };
    let (reason, why) = refusal("echo 127.0.0.2", &lent).await;
    assert_eq!(reason, "refused");
    assert!(why.contains("NotTheTarget"), "{why}");
}

/// An agent whose answer to every command is so long.
struct LongAnswer(usize);

#[async_trait::async_trait]
impl GuestAgent for LongAnswer {
    async fn ping(&self, _vm: &VmId, _timeout: Duration) -> Result<Duration, GuestAgentError> {
        panic!("nobody pings here");
    }

    async fn query(&self, _vm: &VmId, query: AgentQuery, _timeout: Duration) -> Result<String, GuestAgentError> {
        assert!(AgentQuery::ALL.contains(&query));
        Ok("x".repeat(self.0))
    }
}

async fn asks(words: &str, answer: usize) -> (String, String) {
    let agent: Arc<dyn GuestAgent> = Arc::new(LongAnswer(answer));
    refusal(words, &Capabilities { guest_agent: Some(agent), ..Capabilities::default() }).await
}

#[tokio::test]
async fn a_guest_asks_the_agent_for_what_only_reads_and_not_without_end() {
    assert_eq!(asks("ask guest-info", 7).await, ("answered".to_owned(), "xxxxxxx".to_owned()));
    for query in AgentQuery::ALL {
        let (reason, _) = asks(&format!("ask {}", query.as_str()), 7).await;
        assert_eq!(reason, "answered", "{query:?}");
    }
    for command in ["guest-exec", "guest-shutdown", "guest-file-open", "guest-get-fsinfo", ""] {
        let (_, why) = asks(&format!("ask {command}"), 7).await;
        assert!(why.starts_with("Error::NotCarried(") && why.contains("must be one of guest-info"), "{command}: {why}");
    }
    let (_, why) = asks("ask guest-info", AGENT_REPLY_MAX + 1).await;
    assert!(why.starts_with("Error::OutOfBounds(") && why.contains("at most 65536 are taken"), "{why}");
    let (_, why) = asks("ask-on guest-info", 1).await;
    assert!(why.starts_with(&format!("{AGENT_QUESTIONS_MAX}: Error::OutOfBounds(")), "{why}");
    let (_, why) = refusal("ask guest-info", &Capabilities::default()).await;
    assert_eq!(why, "Error::NotGranted");
}

#[tokio::test]
async fn a_crash_is_told_with_the_words_of_the_guest() {
    let Err(RunFault::Crashed(why)) = order("panic", &Capabilities::default()).await else { panic!("no crash") };
    assert!(why.contains("told to panic"), "{why}");
}

#[tokio::test]
async fn output_is_limited() {
    let shout = order("shout", &Capabilities::default()).await;
    assert!(shout.is_ok() || matches!(shout, Err(RunFault::Crashed(_))), "{shout:?}");
    assert_eq!(order("log", &Capabilities::default()).await.unwrap().reason, "logged");
    // More than one call into the host may carry: it is refused before the host holds any of it.
    let huge = order("huge-message", &Capabilities::default()).await;
    let why = "fuel allocated for hostcalls has been exhausted";
    assert!(matches!(&huge, Err(RunFault::Crashed(said)) if said.contains(why)), "{huge:?}");
    let many = order("many-facts", &Capabilities::default()).await.unwrap();
    assert_eq!((many.phases.len(), many.samples.len(), many.facts.len()), (PHASES_MAX, SAMPLES_MAX, FACTS_MAX));
    assert_eq!(
        (many.facts[0].1.len(), many.left_out),
        (OUTCOME_TEXT_MAX, 3 * 99 - PHASES_MAX - SAMPLES_MAX - FACTS_MAX)
    );
    let bad = order("bad-reason", &Capabilities::default()).await;
    assert!(matches!(&bad, Err(RunFault::BadAnswer(why)) if why.contains("two words")), "{bad:?}");
}

#[tokio::test]
async fn what_a_guest_tells_of_itself_is_limited() {
    let hostile = probe("hostile");
    let described = hostile.describe().await.unwrap();
    assert_eq!((described.networks.len(), described.ports.len()), (DESCRIBED_NETWORKS_MAX, DESCRIBED_PORTS_MAX));
    assert_eq!((described.about.len(), described.about[0].1.len()), (ABOUT_MAX, OUTCOME_TEXT_MAX));
    assert_eq!(described.settings_schema, None, "a part of a schema is none");
    let beyond: Vec<&str> = described.beyond.iter().map(|beyond| beyond.text.as_str()).collect();
    assert_eq!(
        beyond,
        [
            "settings-schema has 20000 bytes: must have at most 16384",
            "networks has 99 items: must have at most 2",
            "ports has 100 items: must have at most 16",
            "about has 99 items: must have at most 16",
        ],
        "what is cut is told"
    );
}

#[tokio::test]
async fn a_question_reaches_nothing() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listening.local_addr().unwrap();
    let answered = probe("hostile").validate(&format!("\"reach {address}\"")).await;
    let Err(RunFault::BadSettings(ways)) = answered else { panic!("{answered:?}") };
    assert_eq!(
        ways,
        "tls Error::NotGranted, handshake Error::NotGranted, tcp PermissionDenied, udp PermissionDenied, icmp \
         Error::NotGranted, agent Error::NotGranted"
    );
    listening.set_nonblocking(true).unwrap();
    assert!(listening.accept().is_err(), "nothing arrived");
}

#[tokio::test]
async fn a_target_on_a_network_that_the_probe_does_not_describe_is_not_applicable() {
    let target = Target { network: Network::Management, ..target() };
    let ran = probe("hostile").run(&target, "\"environment\"", DEADLINE, &Capabilities::default()).await;
    assert_eq!(
        ran,
        Err(RunFault::NotApplicable("network management: probe hostile checks over service, service".to_owned()))
    );
}

#[tokio::test]
async fn a_run_that_finds_no_slot_says_so() {
    let narrow = ProbeHost::new(HostLimits { concurrency: 1, ..HostLimits::default() }).unwrap();
    let probe = narrow.compile(vouch_probe_bundle::hostile().bytes).unwrap();
    probe.describe().await.unwrap();
    let (lent, target) = (Capabilities::default(), target());
    let long = probe.run(&target, "\"sleep\"", Duration::from_millis(700), &lent);
    let short = probe.run(&target, "\"environment\"", Duration::from_millis(100), &lent);
    let (long, short) = tokio::join!(long, short);
    assert!(matches!(long, Err(RunFault::Deadline { .. })), "{long:?}");
    assert_eq!(short, Err(RunFault::Busy { deadline: Duration::from_millis(100) }));
}

#[test]
fn what_is_not_a_probe_is_refused_with_one_clear_error() {
    let refused = |bytes: &[u8]| host().compile(bytes).err().expect("must be refused");
    assert!(matches!(refused(b"#!/bin/sh\n"), LoadError::NotWasm));
    assert!(matches!(refused(b""), LoadError::NotWasm));
    assert!(matches!(refused(b"\0asm\x01\0\0\0"), LoadError::CoreModule));
    let whole = vouch_probe_bundle::by_name("tcp").unwrap().bytes;
    let cut = refused(&whole[..whole.len() / 2]);
    assert!(matches!(cut, LoadError::Compile(_)), "{cut}");
    let empty = refused(b"\0asm\x0d\0\x01\0");
    assert!(matches!(empty, LoadError::NoContract { .. }), "{empty}");
}

/// A component that imports one empty interface of this name, in the binary format.
fn importing(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    // Type section: one empty instance type. Import section: one import of it, under a plain or interface name.
    bytes.extend([7, 3, 1, 0x42, 0]);
    bytes.extend([10, length + 5, 1, 0, length]);
    bytes.extend(name.bytes());
    bytes.extend([5, 0]);
    bytes
}

#[test]
fn a_component_that_wants_more_than_a_probe_may_have_is_refused_by_name() {
    for name in ["wasi:keyvalue/store@0.2.0", "wasi:http/outgoing-handler@0.2.6", "vouch:probe/tls@2.0.0"] {
        match host().compile(&importing(name)).err() {
            Some(LoadError::ForbiddenImport { interface }) => assert_eq!(interface, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}
