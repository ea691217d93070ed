//! The exchange: agree on a version, read the security types, close, and say what it means.

use std::net::IpAddr;
use std::time::Duration;

use probe_kit::{Budget, Conversation, Fault, Interruption, Outcome, State, not_connected};

use crate::rfb::{RfbVersion, SecurityType, VERSION_LEN, names};

/// The longest reason that is read, in bytes. RFC 6143 names no limit.
const REASON_MAX: usize = 1024;
/// How the reason begins of a server (TigerVNC, RealVNC) that turns away an address which connected often without a login:
/// it works, and anybody else is let in.
const TURNED_AWAY: &str = "Too many security failures";

/// How far the handshake came.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Handshake {
    /// The server offers these, of which there is at least one.
    Offered(RfbVersion, Vec<SecurityType>),
    /// It offers none, and says why.
    Refused(RfbVersion, String),
    /// Its version is older than any that was published.
    TooOld(RfbVersion),
    /// It is no RFB server: this is what it said.
    NotVnc(Vec<u8>),
}

/// Checks the service once.
///
/// # Errors
/// [`Fault`], when the check says nothing of it.
pub fn run(address: IpAddr, port: u16, budget: &Budget) -> Result<Outcome, Fault> {
    let (mut conversation, connected) = match Conversation::begin(address, port, budget) {
        Ok(begun) => begun,
        Err(error) => return not_connected(address, port, error),
    };
    let came_to = handshake(&mut conversation);
    let took = conversation.lasted();
    conversation.close();
    match came_to {
        Ok(handshake) => Ok(judge(&handshake, port, connected, took)),
        Err(interruption) => interruption.judge(port, took, budget),
    }
}

fn handshake(conversation: &mut Conversation<'_>) -> Result<Handshake, Interruption> {
    let message: [u8; VERSION_LEN] = match read_version(conversation)? {
        Ok(message) => message,
        Err(said) => return Ok(Handshake::NotVnc(said)),
    };
    let Some(version) = RfbVersion::from_message(&message) else { return Ok(Handshake::NotVnc(message.to_vec())) };
    let Some(answer) = version.answer() else { return Ok(Handshake::TooOld(version)) };
    conversation.send(&answer.message())?;
    let types = if answer == RfbVersion::V3_3 {
        // The server has chosen itself, in four bytes.
        match read_u32(conversation)? {
            0 => Vec::new(),
            chosen => vec![SecurityType(u8::try_from(chosen).unwrap_or(u8::MAX))],
        }
    } else {
        let count = conversation.read_exact(1)?;
        conversation.read_exact(count.first().copied().map_or(0, usize::from))?.into_iter().map(SecurityType).collect()
    };
    if types.is_empty() {
        return Ok(Handshake::Refused(version, read_reason(conversation)));
    }
    Ok(Handshake::Offered(version, types))
}

/// Reads a version message, or what was said that cannot become one: a service that greets with a shorter line would be
/// waited for in vain.
fn read_version(conversation: &mut Conversation<'_>) -> Result<Result<[u8; VERSION_LEN], Vec<u8>>, Interruption> {
    let mut message = [0; VERSION_LEN];
    let mut length = 0;
    while length < VERSION_LEN {
        length += conversation.read(&mut message[length..])?;
        let said = &message[..length];
        if !said.iter().zip(b"RFB ").all(|(one, other)| one == other) {
            return Ok(Err(said.to_vec()));
        }
    }
    Ok(Ok(message))
}

/// Reads why there is no security type. The refusal stands, whatever becomes of its reason.
fn read_reason(conversation: &mut Conversation<'_>) -> String {
    let mut read = || {
        let length = usize::try_from(read_u32(conversation)?).unwrap_or(usize::MAX);
        conversation.read_exact(length.min(REASON_MAX))
    };
    read().map_or_else(|_: Interruption| String::new(), |reason| String::from_utf8_lossy(&reason).into_owned())
}

fn read_u32(conversation: &mut Conversation<'_>) -> Result<u32, Interruption> {
    let bytes = conversation.read_exact(4)?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

fn judge(handshake: &Handshake, port: u16, connected: Duration, took: Duration) -> Outcome {
    let (state, reason, message) = match handshake {
        Handshake::Offered(version, types) => {
            (State::Up, "negotiated", format!("port {port} speaks {version} and offers {}", names(types)))
        }
        Handshake::Refused(_, why) if why.starts_with(TURNED_AWAY) => {
            (State::Up, "refused", format!("port {port} answers, and turns this watcher away: {why}"))
        }
        Handshake::Refused(_, why) => {
            (State::Degraded, "refused", format!("port {port} answers, and offers no way to log in: {why:?}"))
        }
        Handshake::TooOld(version) => {
            (State::Degraded, "old_protocol", format!("port {port} speaks {version}, which is older than RFB 3.3"))
        }
        Handshake::NotVnc(said) => {
            let said = String::from_utf8_lossy(said);
            (State::Degraded, "not_vnc", format!("port {port} answers, but not with RFB: {said:?}"))
        }
    };
    let outcome = Outcome::new(state, reason, message).with_phase("connect", connected).with_phase("negotiate", took);
    match handshake {
        Handshake::Offered(version, types) => {
            outcome.with_fact("protocol", version.to_string()).with_fact("security_types", names(types))
        }
        Handshake::Refused(version, why) => {
            outcome.with_fact("protocol", version.to_string()).with_fact("refusal", why)
        }
        Handshake::TooOld(version) => outcome.with_fact("protocol", version.to_string()),
        Handshake::NotVnc(_) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    /// Greets with this, and says the rest after the answer; returns what was found and the answer.
    fn check(greeting: &'static [u8], then: &'static [u8]) -> (Outcome, Vec<u8>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(greeting).unwrap();
            let mut answer = [0; VERSION_LEN];
            if stream.read_exact(&mut answer).is_err() {
                return Vec::new();
            }
            // Dropping it hangs up: a shutdown would fail where the probe has read enough and has reset it already.
            stream.write_all(then).unwrap();
            answer.to_vec()
        });
        let found = run(Ipv4Addr::LOCALHOST.into(), port, &Budget::starting_now(5000)).unwrap();
        (found, served.join().unwrap())
    }

    fn said(found: &Outcome) -> (State, &str) {
        (found.state, found.reason)
    }

    #[test]
    fn offered_security_types_are_told() {
        let (found, answer) = check(b"RFB 003.008\n", b"\x02\x02\x13");
        assert_eq!(said(&found), (State::Up, "negotiated"), "{}", found.message);
        assert_eq!(answer, b"RFB 003.008\n");
        let facts = ["protocol", "security_types"].map(|name| found.fact(name).unwrap());
        assert_eq!(facts, ["RFB 3.8", "vnc_authentication, vencrypt"]);
        assert!(found.phases.iter().map(|(name, _)| *name).eq(["connect", "negotiate"]));
    }

    #[test]
    fn an_old_server_chooses_itself() {
        let (found, answer) = check(b"RFB 003.003\n", b"\0\0\0\x02");
        assert_eq!((said(&found), answer.as_slice()), ((State::Up, "negotiated"), &b"RFB 003.003\n"[..]));
        assert_eq!(found.fact("security_types"), Some("vnc_authentication"));
        assert_eq!(said(&check(b"RFB 002.002\n", b"").0), (State::Degraded, "old_protocol"));
    }

    #[test]
    fn a_server_without_a_security_type_says_why() {
        let (found, _) = check(b"RFB 003.008\n", b"\0\0\0\0\x09No memory");
        assert_eq!((said(&found), found.fact("refusal")), ((State::Degraded, "refused"), Some("No memory")));
        let (away, _) = check(b"RFB 003.003\n", b"\0\0\0\0\0\0\0\x1aToo many security failures");
        assert_eq!(said(&away), (State::Up, "refused"), "{}", away.message);
        assert!(away.message.contains("Too many security failures"), "{}", away.message);
        let (endless, _) = check(b"RFB 003.008\n", b"\0\xff\xff\xff\xffand then it ends");
        assert_eq!((said(&endless), endless.fact("refusal")), ((State::Degraded, "refused"), Some("")));
    }

    #[test]
    fn a_reason_is_read_up_to_its_limit() {
        let long = [&b"\0\0\0\x08\0"[..], &[b'x'; 2048]].concat().leak();
        let (found, _) = check(b"RFB 003.008\n", long);
        assert_eq!(found.fact("refusal").map(str::len), Some(REASON_MAX));
    }

    #[test]
    fn who_hangs_up_is_broken_and_another_service_is_not_vnc() {
        assert_eq!(said(&check(b"RFB 003.008\n", b"").0), (State::Down, "broken"));
        assert_eq!(said(&check(b"RFB 003.008\n", b"\x03\x01").0), (State::Down, "broken"));
        let (short, answer) = check(b"220 hi\r\n", b"");
        assert_eq!((said(&short), answer), ((State::Degraded, "not_vnc"), Vec::new()));
    }
}
