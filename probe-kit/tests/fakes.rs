//! Every fake, looked at by the shipped probe for it: what it is called is what is found.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use common::{EXPIRES, NOT_AFTER, acceptor, ran_at_localhost, shipped};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use vouch_probe_host::{RunFault, RunOutcome};
use vouch_probe_kit::{Aim, Fake, Load, Plan, Ran, Trial, TrialError, bench};
use vouch_types::Outcome;

/// Time for a probe to find out that somebody is silent.
const SHORT: Duration = Duration::from_millis(600);

async fn ran(probe: &'static str, fake: &str, timeout: Duration) -> Ran {
    let plan = Plan { timeout, ..Plan::new(Aim::Fake(fake.parse().unwrap())) };
    Trial::start(&shipped(probe), &plan).await.unwrap().run().await
}

/// Returns how long a run may take: little only where silence is waited for to its end.
fn time_for(reason: &str) -> Duration {
    let is_silence = ["wedged", "timeout", "tls_timeout", "overstayed", "silent", "stalled"].contains(&reason);
    if is_silence { SHORT } else { Duration::from_secs(10) }
}

async fn finds(probe: &'static str, fake: &str, state: &str, reason: &str) -> Ran {
    let ran = ran(probe, fake, time_for(reason)).await;
    assert_eq!((ran.state(), ran.reason()), (state, reason), "{fake}: {}", ran.message());
    ran
}

#[tokio::test]
async fn ports_accept_refuse_and_hang() {
    finds("tcp", "tcp:accept", "up", "connected").await;
    finds("tcp", "tcp:refuse", "down", "closed").await;
    finds("tcp", "tcp:hang", "down", "timeout").await;
}

#[tokio::test]
async fn desktops_are_what_their_names_say() {
    finds("rdp", "rdp:ok", "up", "negotiated").await;
    finds("rdp", "rdp:refuse", "degraded", "refused").await;
    finds("rdp", "rdp:hang", "down", "wedged").await;
    for fake in ["rdp:nla", "rdp:nla-hang"] {
        let nla = finds("rdp", fake, "up", "negotiated").await.result.unwrap();
        assert!(nla.facts.contains(&("protocol".to_owned(), "credssp".to_owned())), "{:?}", nla.facts);
    }
}

#[tokio::test]
async fn a_desktop_whose_tls_hangs_still_negotiates() {
    let ran = ran("rdp", "rdp:tls-hang", Duration::from_secs(10)).await;
    assert_eq!(ran.result.unwrap().facts[0], ("protocol".to_owned(), "tls".to_owned()));
}

async fn desktop(fake: &str, settings: &str, timeout: Duration) -> Ran {
    let plan = Plan { timeout, settings: settings.to_owned(), ..Plan::new(Aim::Fake(fake.parse().unwrap())) };
    Trial::start(&shipped("rdp"), &plan).await.unwrap().run().await
}

async fn certificate_of(fake: &str, timeout: Duration) -> Ran {
    desktop(fake, r#"{"certificate": true}"#, timeout).await
}

/// Returns the value of a fact, if it was told.
fn fact<'a>(found: &'a RunOutcome, name: &str) -> Option<&'a str> {
    found.facts.iter().find(|(told, _)| told == name).map(|(_, value)| value.as_str())
}

/// Returns the value of a fact of a run that found something.
fn told<'a>(ran: &'a Ran, name: &str) -> Option<&'a str> {
    fact(ran.result.as_ref().unwrap(), name)
}

#[tokio::test]
async fn a_desktop_that_is_asked_for_a_challenge_tells_its_names() {
    let ran = desktop("rdp:nla=DESK-1", r#"{"nla": true}"#, Duration::from_secs(10)).await;
    let calls: Vec<&str> = ran.trace.iter().map(|line| line.text.as_str()).collect();
    assert!(calls.iter().any(|call| call.starts_with("exchange of 57 bytes: 6 bytes came")), "{calls:?}");
    let found = ran.result.unwrap();
    assert_eq!((found.outcome, found.reason.as_str()), (Outcome::Up, "negotiated"), "{}", found.message);
    for (name, value) in [
        ("nla", "challenged"),
        ("computer_name", "DESK-1"),
        ("domain", "FAKE"),
        ("dns_computer_name", "desk-1.fake.example"),
        ("os_version", "10.0.20348"),
        ("certificate_key_proved", "yes"),
    ] {
        assert_eq!(fact(&found, name), Some(value), "{name}: {:?}", found.facts);
    }
    assert_eq!(fact(&found, "identity"), None, "nobody asked for it");
    let steps: Vec<&str> = found.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(steps, ["connect", "negotiate", "handshake", "challenge"]);
}

#[tokio::test]
async fn a_desktop_that_gives_no_challenge_is_told_apart() {
    let nla = r#"{"nla": true}"#;
    for (fake, state, reason) in [
        ("rdp:nla-hang", "degraded", "wedged"),
        ("rdp:tls-hang", "degraded", "tls_timeout"),
        ("rdp:hang", "down", "wedged"),
        ("rdp:refuse", "degraded", "refused"),
        ("tcp:refuse", "down", "closed"),
    ] {
        let ran = desktop(fake, nla, SHORT).await;
        assert_eq!((ran.state(), ran.reason()), (state, reason), "{fake}: {}", ran.message());
    }
    let plain = desktop("rdp:ok", nla, Duration::from_secs(10)).await.result.unwrap();
    assert_eq!((plain.outcome, plain.reason.as_str()), (Outcome::Up, "negotiated"), "TLS is what it wants");
    assert_eq!((fact(&plain, "protocol"), fact(&plain, "nla")), (Some("tls"), Some("not_chosen")));
}

#[tokio::test]
async fn the_identity_is_what_the_settings_take_it_from() {
    let of = async |fake: &str, settings: &str| {
        let found = desktop(fake, settings, Duration::from_secs(10)).await.result.unwrap();
        assert_eq!(found.outcome, Outcome::Up, "{}", found.message);
        let told = |name: &str| fact(&found, name).map(str::to_owned);
        (told("identity"), told("identity_unknown"), told("certificate_sha256"))
    };
    let by_name = r#"{"nla": true, "identity": "name"}"#;
    let (who, unknown, _) = of("rdp:nla=DESK-1", by_name).await;
    assert_eq!((who.as_deref(), unknown), (Some("desk-1/desk-1.fake.example"), None));
    assert_eq!(
        of("rdp:nla=desk-1", by_name).await.0,
        who,
        "each fake has its own certificate, and this is the same name"
    );
    assert_ne!(of("rdp:nla=DESK-2", by_name).await.0, who);
    assert_eq!(of("rdp:ok", by_name).await.1.as_deref(), Some("name"), "it tells no name");
    for settings in
        [r#"{"certificate": true, "identity": "certificate"}"#, r#"{"nla": true, "identity": "certificate"}"#]
    {
        let (who, unknown, certificate) = of("rdp:nla", settings).await;
        assert!(who.is_some() && who == certificate && unknown.is_none(), "{who:?} {certificate:?}");
    }
    assert_eq!(of("rdp:nla", r#"{"nla": true, "identity": "none"}"#).await.1, None);
}

#[tokio::test]
async fn a_desktop_that_is_asked_for_its_certificate_tells_it() {
    for fake in ["rdp:ok", "rdp:nla"] {
        let ran = certificate_of(fake, Duration::from_secs(10)).await;
        let calls: Vec<&str> = ran.trace.iter().map(|line| line.text.as_str()).collect();
        assert!(ran.trace.iter().all(|line| line.kind == "tls"), "{:?}", ran.trace);
        let asked = ["connect 127.0.0.1:", "to send: 19 bytes: 03 00 00 13 0e e0"];
        let answered = ["exchange of 19 bytes: 4 bytes came", "received 4 bytes: 03 00 00 "];
        for (call, begins) in calls.iter().zip(asked.into_iter().chain(answered)) {
            assert!(call.starts_with(begins), "{call}");
        }
        assert!(calls.last().unwrap().starts_with("handshake: TLS 1.3, TLS_AES_"), "{calls:?}");
        let found = ran.result.unwrap();
        assert_eq!((found.outcome, found.reason.as_str()), (Outcome::Up, "negotiated"), "{}", found.message);
        let fact = |name: &str| &found.facts.iter().find(|(told, _)| told == name).unwrap().1;
        assert_eq!((fact("tls_version").as_str(), fact("certificate_key_proved").as_str()), ("TLS 1.3", "yes"));
        assert_eq!(fact("certificate_names"), "fake-desktop");
        assert_eq!(fact("certificate_sha256").len(), 64);
        let expires = fact("certificate_expires");
        assert!(expires.len() == 20 && expires.ends_with('Z'), "{expires}");
        let steps: Vec<&str> = found.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(steps, ["connect", "negotiate", "handshake"]);
        assert!(found.samples[0].name == "certificate_left" && found.samples[0].value > 0.0);
    }
}

#[tokio::test]
async fn a_desktop_tells_when_its_certificate_ends_and_how_long_that_is() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 19]).await.unwrap();
        // A connection confirm that chooses TLS.
        stream.write_all(b"\x03\0\0\x13\x0e\xd0\0\0\x12\x34\0\x02\0\x08\0\x01\0\0\0").await.unwrap();
        let mut inside = acceptor().accept(stream).await.unwrap();
        // The probe hangs up when it has seen the certificate.
        let _ = inside.read(&mut [0; 1]).await;
    });
    let begun = OffsetDateTime::now_utc().unix_timestamp();
    let ran = ran_at_localhost("rdp", format!(r#"{{"port": {port}, "certificate": true}}"#)).await;
    let ended = OffsetDateTime::now_utc().unix_timestamp();
    assert_eq!((ran.state(), ran.reason()), ("up", "negotiated"), "{}", ran.message());
    assert_eq!(told(&ran, "certificate_expires"), Some(EXPIRES));
    let samples = &ran.result.as_ref().unwrap().samples;
    let left = samples.iter().find(|sample| sample.name == "certificate_left").unwrap();
    let possible = (NOT_AFTER - ended) as f64..=(NOT_AFTER - begun) as f64;
    assert!(possible.contains(&left.value) && left.unit == "seconds", "{left:?} is not in {possible:?}");
}

#[tokio::test]
async fn a_desktop_that_is_asked_for_its_certificate_and_has_none_is_told_apart() {
    for (fake, state, reason) in [
        ("rdp:tls-hang", "degraded", "tls_timeout"),
        ("rdp:hang", "down", "wedged"),
        ("rdp:refuse", "degraded", "refused"),
        ("tcp:refuse", "down", "closed"),
        ("tcp:hang", "down", "timeout"),
        ("http:200", "down", "wedged"),
    ] {
        let ran = certificate_of(fake, SHORT).await;
        assert_eq!((ran.state(), ran.reason()), (state, reason), "{fake}: {}", ran.message());
    }
}

#[tokio::test]
async fn a_desktop_goes_on_to_the_handshake_with_a_certificate_of_its_own() {
    for fake in ["rdp:ok", "rdp:nla"] {
        let fake = fake.parse::<Fake>().unwrap().start().await.unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, fake.port().unwrap())).await.unwrap();
        stream.write_all(b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x0b\0\0\0").await.unwrap();
        stream.read_exact(&mut [0; 19]).await.unwrap();
        let nobody = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let refused = TlsConnector::from(Arc::new(nobody)).connect("fake-desktop".try_into().unwrap(), stream).await;
        // Whoever trusts nobody learns from the handshake that the server signed its certificate itself.
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("UnknownIssuer"), "{refused}");
    }
}

#[tokio::test]
async fn agents_are_what_their_names_say() {
    finds("guest-agent", "qga:ok", "up", "answered").await;
    finds("guest-agent", "qga:disabled", "up", "answered").await;
    finds("guest-agent", "qga:hang", "down", "silent").await;
    let stale = finds("guest-agent", "qga:stale", "down", "silent").await;
    let call = &stale.trace[0];
    assert_eq!(call.kind, "guest-agent");
    assert!(call.text.starts_with("ping: the guest agent stayed silent, after "), "{}", call.text);
}

#[tokio::test]
async fn an_agent_that_is_asked_for_facts_tells_what_it_and_its_machine_are() {
    let asked = finds_with("guest-agent", r#"{"facts": true}"#, "qga:ok", "up", "answered").await;
    let told: Vec<_> = asked.result.unwrap().facts;
    let told: Vec<(&str, &str)> = told.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let os = "Debian GNU/Linux 12 (bookworm)";
    let all = [("agent_version", "10.0.0"), ("os", os), ("kernel", "6.1.0-37-amd64"), ("host_name", "desk-1")];
    assert_eq!(told, all);
    for (settings, fake) in [(r#"{"facts": true}"#, "qga:disabled"), ("{}", "qga:ok")] {
        let none = finds_with("guest-agent", settings, fake, "up", "answered").await.result.unwrap();
        assert_eq!(none.facts, [], "{settings} {fake}");
    }
}

async fn finds_with(probe: &'static str, settings: &str, fake: &str, state: &str, reason: &str) -> Ran {
    let timeout = time_for(reason);
    let plan = Plan { timeout, settings: settings.to_owned(), ..Plan::new(Aim::Fake(fake.parse().unwrap())) };
    let ran = Trial::start(&shipped(probe), &plan).await.unwrap().run().await;
    assert_eq!((ran.state(), ran.reason()), (state, reason), "{probe} {settings} at {fake}: {}", ran.message());
    ran
}

#[tokio::test]
async fn ssh_services_are_what_their_names_say() {
    let ok = finds("ssh", "ssh:ok", "up", "greeted").await;
    let facts = ["protocol", "software", "comments"].map(|name| told(&ok, name).unwrap());
    assert_eq!(facts, ["SSH 2.0", "fake_1.0", "for trials"]);
    finds("ssh", "ssh:hang", "down", "wedged").await;
    finds("ssh", "ssh:busy", "degraded", "busy").await;
    finds("ssh", "ssh:old", "degraded", "old_protocol").await;
    finds_with("ssh", r#"{"expect": "fake_1"}"#, "ssh:ok", "up", "greeted").await;
    finds_with("ssh", r#"{"expect": "OpenSSH"}"#, "ssh:ok", "degraded", "unexpected").await;
}

#[tokio::test]
async fn vnc_services_are_what_their_names_say() {
    let ok = finds("vnc", "vnc:ok", "up", "negotiated").await;
    assert_eq!((told(&ok, "protocol"), told(&ok, "security_types")), (Some("RFB 3.8"), Some("vnc_authentication")));
    let refused = finds("vnc", "vnc:refuse", "degraded", "refused").await;
    assert_eq!(told(&refused, "refusal"), Some("No display"));
    finds("vnc", "vnc:hang", "down", "wedged").await;
}

#[tokio::test]
async fn spice_servers_are_what_their_names_say() {
    let ok = finds("spice", "spice:ok", "up", "negotiated").await;
    assert_eq!(told(&ok, "capabilities"), Some("auth_selection, auth_spice, mini_header"));
    let secured = finds("spice", "spice:secured", "up", "refused").await;
    assert_eq!((told(&secured, "refusal"), told(&secured, "protocol")), (Some("need_secured"), Some("SPICE 2.2")));
    finds("spice", "spice:hang", "down", "wedged").await;
}

#[tokio::test]
async fn name_servers_are_what_their_names_say() {
    let asked = r#"{"name": "desk.example"}"#;
    let ok = finds_with("dns", asked, "dns:ok", "up", "answered").await;
    assert_eq!((told(&ok, "addresses"), told(&ok, "protocol")), (Some("192.0.2.1"), Some("DNS over UDP")));
    finds_with("dns", asked, "dns:servfail", "degraded", "servfail").await;
    finds_with("dns", asked, "dns:silent", "down", "timeout").await;
    let cut = finds_with("dns", asked, "dns:truncated", "up", "answered").await;
    assert_eq!((told(&cut, "addresses"), told(&cut, "protocol")), (Some("192.0.2.1"), Some("DNS over TCP")));
    // Asked over UDP, told that the answer does not fit, and asked over TCP: all of it stands in the trace, in its order.
    let mut told = cut.trace.iter().filter(|line| line.kind == "sockets").map(|line| line.text.as_str());
    for told_next in [
        "udp send to 127.0.0.1:",
        "sent a datagram of 30 bytes: ",
        "received a datagram of ",
        "tcp connect to 127.0.0.1:",
        "tcp connected to 127.0.0.1:",
        "sent ",
        "received ",
    ] {
        assert!(told.any(|line| line.starts_with(told_next)), "{told_next}: {:#?}", cut.trace);
    }
}

#[tokio::test]
async fn web_servers_are_what_their_names_say() {
    let ok = finds("http", "http:200", "up", "answered").await;
    assert_eq!((told(&ok, "protocol"), told(&ok, "status")), (Some("HTTP/1.1"), Some("200")));
    finds("http", "http:500", "degraded", "status").await;
    finds("http", "http:hang", "down", "wedged").await;
    finds("http", "http:slow", "up", "answered").await;
    finds_with("http", r#"{"contains": "fake 200"}"#, "http:200", "up", "answered").await;
    finds_with("http", r#"{"contains": "login"}"#, "http:200", "degraded", "body").await;
    finds_with("http", r#"{"method": "HEAD", "statuses": [500]}"#, "http:500", "up", "answered").await;
    finds_with("http", r#"{"tls": true}"#, "tcp:accept", "down", "wedged").await;
    finds_with("http", r#"{"tls": true}"#, "ssh:ok", "degraded", "tls_failed").await;
}

#[tokio::test]
async fn a_service_that_is_not_there_or_another_one_is_told_by_every_probe() {
    for probe in ["ssh", "vnc", "spice", "http"] {
        finds(probe, "tcp:refuse", "down", "closed").await;
        finds(probe, "tcp:hang", "down", "timeout").await;
        finds(probe, "tcp:accept", "down", "wedged").await;
    }
    finds_with("dns", r#"{"name": "a"}"#, "tcp:refuse", "down", "closed").await;
    for (probe, other) in [("vnc", "not_vnc"), ("spice", "not_spice"), ("http", "not_http")] {
        finds(probe, "ssh:ok", "degraded", other).await;
    }
    // A web server waits for its client to speak first, as a wedged SSH service would.
    finds("ssh", "http:200", "down", "wedged").await;
}

async fn get(fake: &str) -> (TcpStream, vouch_probe_kit::fakes::RunningFake) {
    let fake = fake.parse::<Fake>().unwrap().start().await.unwrap();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, fake.port().unwrap())).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: fake\r\n\r\n").await.unwrap();
    (stream, fake)
}

#[tokio::test]
async fn web_servers_answer_with_their_status_or_not_at_all() {
    for (fake, status) in [("http:200", "200 OK"), ("http:500", "500 Internal Server Error"), ("http:slow", "200 OK")] {
        finds("tcp", fake, "up", "connected").await;
        let (mut stream, _fake) = get(fake).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    }
    finds("tcp", "http:hang", "up", "connected").await;
    let (mut stream, fake) = get("http:hang").await;
    drop(fake);
    let left = stream.read(&mut [0; 1]).await;
    assert!(!matches!(left, Ok(1..)), "it said something before it ended: {left:?}");
}

#[tokio::test]
async fn what_is_too_long_is_hung_up_on() {
    for (fake, begin, more) in
        [("http:200", &b"GET / HTTP/1.1\r\n"[..], 17 * 1024), ("rdp:ok", &b"\x03\0\x04\x01"[..], 1)]
    {
        let fake = fake.parse::<Fake>().unwrap().start().await.unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, fake.port().unwrap())).await.unwrap();
        stream.write_all(begin).await.unwrap();
        // It may be gone before it has read all that comes.
        let _ = stream.write_all(&vec![b'x'; more]).await;
        let answer = stream.read(&mut [0; 1]).await;
        assert!(!matches!(answer, Ok(1..)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_bench_ends_with_its_runs_too() {
    let plan = Plan::new(Aim::Fake("qga:ok".parse().unwrap()));
    let trial = Trial::start(&shipped("guest-agent"), &plan).await.unwrap();
    let load = Load { concurrency: 2, lasts: Duration::from_secs(3600), runs_max: 3 };
    let benched = bench(trial, load).await;
    assert_eq!(benched.found, [(("up", "answered".to_owned()), 6)].into());
    assert!(benched.times.len() == 6 && benched.times.is_sorted());
}

#[tokio::test]
async fn a_probe_that_takes_no_port_is_not_sent_to_a_fake_that_has_one() {
    let plan = Plan::new(Aim::Fake("tcp:accept".parse().unwrap()));
    match Trial::start(&shipped("guest-agent"), &plan).await.err() {
        Some(TrialError::NoPort { said, .. }) => assert!(said.contains("`port`"), "{said}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn deadlines_out_of_bounds_are_refused_with_the_rule() {
    for timeout in [Duration::ZERO, Duration::from_secs(61)] {
        let plan = Plan { timeout, ..Plan::new(Aim::Fake("tcp:accept".parse().unwrap())) };
        let refused = Trial::start(&shipped("tcp"), &plan).await.err().unwrap().to_string();
        assert!(refused.ends_with("must be more than 0 and at most 60s"), "{refused}");
    }
}

#[tokio::test]
async fn only_granted_ports_are_reached() {
    let fake = "tcp:accept".parse::<Fake>().unwrap().start().await.unwrap();
    let port = fake.port().unwrap();
    let aim = Aim::Addresses(vec![Ipv4Addr::LOCALHOST.into()]);
    let settings = format!(r#"{{"port": {port}}}"#);
    let plan = Plan { settings, ..Plan::new(aim) };
    let ran = Trial::start(&shipped("tcp"), &plan).await.unwrap().run().await;
    assert_eq!(ran.reason(), "connected");
    let narrow = Plan { ports: [1].into(), ..plan };
    let refused = Trial::start(&shipped("tcp"), &narrow).await.unwrap().run().await;
    assert!(matches!(refused.result, Err(RunFault::Probe(_))), "{refused:?}");
}
