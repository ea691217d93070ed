//! Questions and answers as bytes (RFC 1035, section 4). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of the header.
const HEADER_LEN: usize = 12;
/// The longest label, in bytes.
const LABEL_MAX: usize = 63;
/// The longest name on the wire, in bytes.
const NAME_MAX: usize = 255;
/// The class of the Internet.
const CLASS_IN: u16 = 1;
/// The most addresses of an answer that are told.
const ADDRESSES_MAX: usize = 8;
/// Bits of the header.
const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0b1111 << 11;
const AUTHORITATIVE: u16 = 1 << 10;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;
const RCODE: u16 = 0b1111;

/// A domain name as it goes over the wire: labels, each after its length, and a zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name(Vec<u8>);

impl Name {
    /// Reads an absolute name, with or without the dot at its end; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut wire = Vec::new();
        let text =
            if text == "." { "" } else { text.strip_suffix('.').or(Some(text).filter(|text| !text.is_empty()))? };
        for label in text.split('.').filter(|_| !text.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=LABEL_MAX as u8).contains(length))?;
            if !label.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            wire.push(length);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        (wire.len() <= NAME_MAX).then_some(Self(wire))
    }
}

macro_rules! record_types {
    ($($name:ident = $value:literal),+ $(,)?) => {
        /// A type of record.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum RecordType {
            $(#[doc = concat!("`", stringify!($name), "`.")] $name = $value),+
        }

        impl RecordType {
            /// All that can be asked for.
            pub const ALL: [Self; [$($value),+].len()] = [$(Self::$name),+];

            /// Returns its name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

record_types!(A = 1, AAAA = 28, CNAME = 5, MX = 15, NS = 2, PTR = 12, SOA = 6, SRV = 33, TXT = 16);

impl RecordType {
    /// Returns the type of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|record| record.as_str() == name)
    }
}

/// A response code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rcode(pub u8);

impl Rcode {
    /// No error.
    pub const NOERROR: Self = Self(0);
    /// The server cannot read the question.
    pub const FORMERR: Self = Self(1);
    /// The server has failed.
    pub const SERVFAIL: Self = Self(2);
    /// There is no such name.
    pub const NXDOMAIN: Self = Self(3);
    /// The server does not know such questions.
    pub const NOTIMP: Self = Self(4);
    /// The server does not want to answer.
    pub const REFUSED: Self = Self(5);
    /// The codes of RFC 1035.
    pub const KNOWN: [Self; 6] =
        [Self::NOERROR, Self::FORMERR, Self::SERVFAIL, Self::NXDOMAIN, Self::NOTIMP, Self::REFUSED];

    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            _ => "other",
        }
    }

    /// Returns the code of RFC 1035 with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::KNOWN.into_iter().find(|code| code.as_str() == name)
    }
}

/// What a server is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// The type of record.
    pub record: RecordType,
}

/// Returns a question that asks for recursion, as stub resolvers do; servers that don't offer it pass over that.
pub fn query(id: u16, question: &Question) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend_from_slice(&question.name.0);
    for number in [question.record as u16, CLASS_IN] {
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

/// What an answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Its response code.
    pub rcode: Rcode,
    /// It was cut, and is to be asked for over TCP: nothing is known of its records.
    pub truncated: bool,
    /// The server owns the zone.
    pub authoritative: bool,
    /// The server asks others.
    pub recursive: bool,
    /// How many records of the type there are.
    pub answers: u32,
    /// How many records its first section has, of whatever type.
    pub records: u16,
    /// How many records its second section has, on who owns the zone.
    pub authorities: u16,
    /// How many records its third section has, beyond what was asked.
    pub additionals: u16,
    /// The first addresses among them.
    pub addresses: Vec<IpAddr>,
}

/// Why bytes are no answer to a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAnswer {
    /// They may be anybody's: another id, or too short to have one. They are passed over.
    Stray,
    /// It is no response.
    NoResponse,
    /// It repeats another question.
    OtherQuestion,
    /// It ends too early, or a name in it leads nowhere.
    Malformed,
}

impl NotAnswer {
    /// Returns it as a clause for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Stray => "it has another id",
            Self::NoResponse => "it is no response",
            Self::OtherQuestion => "it repeats another question",
            Self::Malformed => "it is malformed",
        }
    }
}

/// Reads the answer to a question.
///
/// # Errors
/// [`NotAnswer`], when the bytes are none.
pub fn parse_reply(bytes: &[u8], id: u16, question: &Question) -> Result<Reply, NotAnswer> {
    if number(bytes, 0) != Some(id) {
        return Err(NotAnswer::Stray);
    }
    let read = |at| number(bytes, at).ok_or(NotAnswer::Malformed);
    let (flags, questions, records) = (read(2)?, read(4)?, read(6)?);
    let (authorities, additionals) = (read(8)?, read(10)?);
    if bytes.len() < HEADER_LEN {
        return Err(NotAnswer::Malformed);
    }
    if flags & RESPONSE == 0 || flags & OPCODE != 0 {
        return Err(NotAnswer::NoResponse);
    }
    let rcode = Rcode((flags & RCODE) as u8);
    let mut at = HEADER_LEN;
    match questions {
        1 => at = same_question(bytes, at, question)?,
        // A server that cannot read a question, or doesn't want to, need not repeat it.
        0 if rcode != Rcode::NOERROR => {}
        _ => return Err(NotAnswer::OtherQuestion),
    }
    let has = |bit: u16| flags & bit != 0;
    let mut reply = Reply {
        rcode,
        truncated: has(TRUNCATED),
        authoritative: has(AUTHORITATIVE),
        recursive: has(RECURSION_AVAILABLE),
        answers: 0,
        records,
        authorities,
        additionals,
        addresses: Vec::new(),
    };
    if !reply.truncated {
        for _ in 0..records {
            at = record(bytes, at, question.record, &mut reply).ok_or(NotAnswer::Malformed)?;
        }
    }
    Ok(reply)
}

/// Returns where the question ends, if it is this one. Letters are the same in either case (RFC 1035, section 2.3.3).
fn same_question(bytes: &[u8], at: usize, question: &Question) -> Result<usize, NotAnswer> {
    let end = at + question.name.0.len();
    let name = bytes.get(at..end).ok_or(NotAnswer::OtherQuestion)?;
    let is_same = name.eq_ignore_ascii_case(&question.name.0)
        && number(bytes, end) == Some(question.record as u16)
        && number(bytes, end + 2) == Some(CLASS_IN);
    if is_same { Ok(end + 4) } else { Err(NotAnswer::OtherQuestion) }
}

/// Reads one record into the reply, and returns where it ends.
fn record(bytes: &[u8], at: usize, asked: RecordType, reply: &mut Reply) -> Option<usize> {
    let fields = after_name(bytes, at)?;
    let (kind, class) = (number(bytes, fields)?, number(bytes, fields + 2)?);
    let data = fields + 10;
    let end = data + usize::from(number(bytes, fields + 8)?);
    let data = bytes.get(data..end)?;
    if kind == asked as u16 && class == CLASS_IN {
        reply.answers += 1;
        let address = match asked {
            RecordType::A => <[u8; 4]>::try_from(data).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
            RecordType::AAAA => <[u8; 16]>::try_from(data).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
            _ => None,
        };
        reply.addresses.extend(address.filter(|_| reply.addresses.len() < ADDRESSES_MAX));
    }
    Some(end)
}

/// Returns where the name that begins here ends. A pointer ends it, and is not followed: what it leads to is not asked.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0..=0xff => return bytes.get(at + 1).map(|_| at + 2),
            64..=0xbf => return None,
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests;
