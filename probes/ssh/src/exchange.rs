//! The exchange: connect, read the greeting, answer it, and say what it means.

use std::net::IpAddr;
use std::time::Duration;

use probe_kit::{Budget, Conversation, Fault, Interruption, Outcome, State, not_connected};

use crate::greeting::{Greeting, Identification, LINE_MAX, Version, read_greeting};
use crate::settings::SshSettings;

/// Our own identification (RFC 4253, section 4.2).
const OURS: &[u8] = concat!("SSH-2.0-vouch_", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes();
/// What OpenSSH says to an address that made too many connections without a login (`PerSourcePenalties`): it works, and
/// anybody else is let in.
const PENALISED: &str = "Not allowed at this time";
/// What OpenSSH says when as many connections as it takes are waiting to log in (`MaxStartups`): nobody is let in.
const BUSY: &str = "Exceeded MaxStartups";

/// How a service has greeted.
enum Answer {
    Greeting(Greeting),
    Interrupted(Interruption),
}

/// Checks the service once.
///
/// # Errors
/// [`Fault`], when the check says nothing of it.
pub fn run(address: IpAddr, settings: &SshSettings, budget: &Budget) -> Result<Outcome, Fault> {
    let port = settings.port;
    let (mut conversation, connected) = match Conversation::begin(address, port, budget) {
        Ok(begun) => begun,
        Err(error) => return not_connected(address, port, error),
    };
    let answer = greeting(&mut conversation);
    let took = conversation.lasted();
    if matches!(answer, Answer::Greeting(Greeting::Identified(_))) {
        // It has greeted; if it hangs up at once, there is nobody left to answer.
        let _ = conversation.send(OURS);
    }
    conversation.close();
    let outcome = match answer {
        Answer::Greeting(greeting) => judge(&greeting, settings),
        Answer::Interrupted(interruption) => return interruption.judge(port, took, budget),
    };
    Ok(with_times(outcome, connected, took))
}

/// Reads until it can be said what the service is, or it ends.
fn greeting(conversation: &mut Conversation<'_>) -> Answer {
    let (mut said, mut buffer) = (Vec::new(), [0; LINE_MAX]);
    loop {
        let ended = match conversation.read(&mut buffer) {
            Ok(read) => {
                said.extend_from_slice(&buffer[..read]);
                None
            }
            Err(interruption) => Some(interruption),
        };
        let greeting = read_greeting(&said);
        match (ended, &greeting) {
            (None, Greeting::Unfinished { .. }) => {}
            (None, _) => return Answer::Greeting(greeting),
            // Words and then the end: a service that turns the caller away.
            (Some(Interruption::Closed), Greeting::Unfinished { said: Some(_) }) => return Answer::Greeting(greeting),
            (Some(interruption), _) => return Answer::Interrupted(interruption),
        }
    }
}

/// Says what a greeting means.
fn judge(greeting: &Greeting, settings: &SshSettings) -> Outcome {
    let port = settings.port;
    match greeting {
        Greeting::Identified(found) => judge_identification(found, settings),
        Greeting::Unfinished { said } => {
            let said = said.as_deref().unwrap_or_default();
            let (state, reason) = match said {
                PENALISED => (State::Up, "refused"),
                BUSY => (State::Degraded, "busy"),
                _ => (State::Degraded, "not_ssh"),
            };
            Outcome::new(state, reason, format!("port {port} says {said:?} and hangs up"))
        }
        Greeting::NotSsh(why) => {
            let why = why.describe();
            Outcome::new(State::Degraded, "not_ssh", format!("port {port} answers, but not with SSH: {why}"))
        }
    }
}

fn judge_identification(found: &Identification, settings: &SshSettings) -> Outcome {
    let (port, Identification { protocol, software, comments }) = (settings.port, found);
    let outcome = match (found.version(), &settings.expect) {
        (Version::Other, _) => Outcome::new(
            State::Degraded,
            "old_protocol",
            format!("port {port} speaks SSH {protocol}, and not 2.0 ({software})"),
        ),
        (Version::Two | Version::Both, Some(expect)) if !software.starts_with(expect) => Outcome::new(
            State::Degraded,
            "unexpected",
            format!("port {port} greets as {software}, and is expected to begin with {expect}"),
        ),
        (Version::Two | Version::Both, _) => {
            Outcome::new(State::Up, "greeted", format!("port {port} greets as {software}"))
        }
    };
    let outcome = outcome.with_fact("protocol", format!("SSH {protocol}")).with_fact("software", software);
    match comments {
        Some(comments) => outcome.with_fact("comments", comments),
        None => outcome,
    }
}

fn with_times(outcome: Outcome, connected: Duration, greeted: Duration) -> Outcome {
    outcome.with_phase("connect", connected).with_phase("greeting", greeted)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Says this to whoever connects and hangs up when they do; returns what was found, and what was heard of the probe.
    fn check(words: &'static [u8], expect: Option<&str>) -> (Outcome, Vec<u8>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heard, hear) = mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(words).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut said = Vec::new();
            stream.read_to_end(&mut said).unwrap();
            heard.send(said).unwrap();
        });
        let settings = SshSettings { port, expect: expect.map(ToOwned::to_owned) };
        let found = run(Ipv4Addr::LOCALHOST.into(), &settings, &Budget::starting_now(5000)).unwrap();
        (found, hear.recv().unwrap())
    }

    fn said(found: &Outcome) -> (State, &str) {
        (found.state, found.reason)
    }

    #[test]
    fn a_greeting_is_answered_and_told() {
        let (found, heard) = check(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Some("OpenSSH_9"));
        assert_eq!(said(&found), (State::Up, "greeted"), "{}", found.message);
        assert_eq!(heard, OURS);
        let facts = ["protocol", "software", "comments"].map(|name| found.fact(name).unwrap());
        assert_eq!(facts, ["SSH 2.0", "OpenSSH_9.2p1", "Debian-2"]);
        assert!(found.phases.iter().map(|(name, _)| *name).eq(["connect", "greeting"]));
    }

    #[test]
    fn an_old_protocol_and_unexpected_software_are_degraded() {
        let (old, _) = check(b"SSH-1.5-1.2.27\r\n", None);
        assert_eq!((said(&old), old.fact("protocol")), ((State::Degraded, "old_protocol"), Some("SSH 1.5")));
        let (both, _) = check(b"SSH-1.99-OpenSSH_3.9\r\n", None);
        assert_eq!(said(&both), (State::Up, "greeted"));
        let (other, _) = check(b"SSH-2.0-dropbear_2022.83\r\n", Some("OpenSSH_"));
        assert_eq!(said(&other), (State::Degraded, "unexpected"));
        assert!(other.message.contains("dropbear_2022.83") && other.message.contains("OpenSSH_"), "{}", other.message);
    }

    #[test]
    fn a_service_that_turns_the_caller_away_says_why() {
        let (penalised, heard) = check(b"Not allowed at this time\r\n", None);
        assert_eq!((said(&penalised), heard), ((State::Up, "refused"), Vec::new()));
        assert_eq!(said(&check(b"Exceeded MaxStartups\r\n", None).0), (State::Degraded, "busy"));
        let (other, _) = check(b"220 mail.example ESMTP\r\n", None);
        assert_eq!(said(&other), (State::Degraded, "not_ssh"));
        assert!(other.message.contains("220 mail.example ESMTP"), "{}", other.message);
    }

    #[test]
    fn who_hangs_up_without_a_word_or_within_one_is_broken() {
        assert_eq!(said(&check(b"", None).0), (State::Down, "broken"));
        assert_eq!(said(&check(b"SSH-2.0-Open", None).0), (State::Down, "broken"));
        assert_eq!(said(&check(b"SSH-2.0-\r\n", None).0), (State::Degraded, "not_ssh"));
    }
}
