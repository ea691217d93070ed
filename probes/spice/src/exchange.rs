//! The exchange: ask for a link, read the reply, close, and say what it means.

use std::net::IpAddr;
use std::time::Duration;

use probe_kit::{Budget, Conversation, Fault, Interruption, Outcome, State, not_connected};

use crate::link::{HEADER_LEN, LinkError, LinkHeader, LinkReply, MAJOR, REPLY_MAX, may_begin, request};

/// What a server said.
enum Said {
    /// A reply to the link.
    Reply(LinkHeader, LinkReply),
    /// Something else: says what.
    NotSpice(String),
}

/// Checks the server once.
///
/// # Errors
/// [`Fault`], when the check says nothing of it.
pub fn run(address: IpAddr, port: u16, budget: &Budget) -> Result<Outcome, Fault> {
    let (mut conversation, connected) = match Conversation::begin(address, port, budget) {
        Ok(begun) => begun,
        Err(error) => return not_connected(address, port, error),
    };
    let said = exchange(&mut conversation);
    let took = conversation.lasted();
    conversation.close();
    match said {
        Ok(said) => Ok(judge(&said, port, connected, took)),
        Err(interruption) => interruption.judge(port, took, budget),
    }
}

fn exchange(conversation: &mut Conversation<'_>) -> Result<Said, Interruption> {
    conversation.send(&request())?;
    let mut header = [0; HEADER_LEN];
    let mut length = 0;
    while length < HEADER_LEN {
        length += conversation.read(&mut header[length..])?;
        let said = &header[..length];
        // A service that greets with a shorter line would be waited for in vain.
        if !may_begin(said) {
            return Ok(Said::NotSpice(format!("it says {:?}", String::from_utf8_lossy(said))));
        }
    }
    let Some(header) = LinkHeader::parse(&header) else {
        return Ok(Said::NotSpice("its header is no header".to_owned()));
    };
    if header.size > REPLY_MAX {
        return Ok(Said::NotSpice(format!("its reply has {} bytes, and at most {REPLY_MAX} are read", header.size)));
    }
    let reply = conversation.read_exact(header.size)?;
    Ok(match LinkReply::parse(&reply) {
        Some(reply) => Said::Reply(header, reply),
        None => Said::NotSpice(format!("its reply of {} bytes is malformed", header.size)),
    })
}

fn judge(said: &Said, port: u16, connected: Duration, took: Duration) -> Outcome {
    let (header, reply) = match said {
        Said::NotSpice(why) => {
            let message = format!("port {port} answers, but not with SPICE: {why}");
            return with_times(Outcome::new(State::Degraded, "not_spice", message), connected, took);
        }
        Said::Reply(header, reply) => (header, reply),
    };
    let protocol = format!("SPICE {}.{}", header.major, header.minor);
    let (state, reason, message) = match reply {
        LinkReply::Refused(LinkError::NeedSecured) => {
            (State::Up, "refused", format!("port {port} answers, and wants TLS: need_secured"))
        }
        LinkReply::Refused(error) => {
            (State::Degraded, "refused", format!("port {port} answers, and refuses the link: {}", error.as_str()))
        }
        LinkReply::Accepted(_) if header.major < MAJOR => {
            (State::Degraded, "old_protocol", format!("port {port} speaks {protocol}, and not {MAJOR}"))
        }
        LinkReply::Accepted(_) => (State::Up, "negotiated", format!("port {port} accepts a link of {protocol}")),
    };
    let outcome = with_times(Outcome::new(state, reason, message), connected, took).with_fact("protocol", protocol);
    match reply {
        LinkReply::Accepted(capabilities) => outcome.with_fact("capabilities", capabilities.join(", ")),
        LinkReply::Refused(error) => outcome.with_fact("refusal", error.as_str()),
    }
}

fn with_times(outcome: Outcome, connected: Duration, took: Duration) -> Outcome {
    outcome.with_phase("connect", connected).with_phase("negotiate", took)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    /// Reads a request and says this.
    fn check(words: Vec<u8>) -> Outcome {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; HEADER_LEN + 18]).unwrap();
            stream.write_all(&words).unwrap();
        });
        run(Ipv4Addr::LOCALHOST.into(), port, &Budget::starting_now(5000)).unwrap()
    }

    fn reply(major: u32, error: u32, size: u32) -> Vec<u8> {
        let header = [major, 2, size].map(u32::to_le_bytes).concat();
        let mut reply = [b"REDQ".to_vec(), header, error.to_le_bytes().to_vec(), vec![0; 174]].concat();
        reply.truncate(HEADER_LEN + size as usize);
        reply
    }

    fn said(found: &Outcome) -> (State, &str) {
        (found.state, found.reason)
    }

    #[test]
    fn an_accepted_link_is_up() {
        let found = check(reply(2, 0, 178));
        assert_eq!((said(&found), found.fact("protocol")), ((State::Up, "negotiated"), Some("SPICE 2.2")));
        assert!(found.phases.iter().map(|(name, _)| *name).eq(["connect", "negotiate"]));
        assert_eq!(said(&check(reply(1, 0, 178))), (State::Degraded, "old_protocol"));
    }

    #[test]
    fn a_refused_link_tells_its_error() {
        let secured = check(reply(2, 5, 178));
        assert_eq!((said(&secured), secured.fact("refusal")), ((State::Up, "refused"), Some("need_secured")));
        let denied = check(reply(2, 7, 4));
        assert_eq!((said(&denied), denied.fact("refusal")), ((State::Degraded, "refused"), Some("permission_denied")));
    }

    #[test]
    fn what_is_no_reply_is_not_spice_and_who_hangs_up_is_broken() {
        assert_eq!(said(&check(b"RFB 003.008\n".to_vec())), (State::Degraded, "not_spice"));
        assert_eq!(said(&check(reply(2, 0, 177))), (State::Degraded, "not_spice"));
        let long = check(reply(2, 0, REPLY_MAX as u32 + 1));
        assert!(long.reason == "not_spice" && long.message.contains("4097 bytes"), "{}", long.message);
        assert_eq!(said(&check(b"REDQ".to_vec())), (State::Down, "broken"));
        assert_eq!(said(&check(reply(2, 0, 178)[..50].to_vec())), (State::Down, "broken"));
    }
}
