//! Settings of the `dns` probe.

use probe_kit::Settings;

use crate::message::{Name, Question, Rcode, RecordType};

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// The port of name servers.
pub const DNS_PORT: u16 = 53;

/// The most answers that settings can ask for.
const ANSWERS_MAX: u32 = 100;
/// What a name must be (RFC 1035, section 2.3.4).
const NAME_RULE: &str =
    "a name of labels of 1 to 63 printable ASCII characters, joined by dots, of at most 253 in all, or `.`";

/// Settings of the `dns` probe: `{"name": "desk-1.example"}`, and more that is optional.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DnsSettings {
    /// The port that the server listens on.
    pub port: u16,
    /// What it is asked.
    pub question: Question,
    /// The response codes that are as they should be.
    pub rcodes: Vec<Rcode>,
    /// How many records of the type an answer without an error must have.
    pub answers_min: u32,
}

impl DnsSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &["answers_min", "name", "port", "rcodes", "type"])?;
        let name = settings.text("name", NAME_RULE, |text| Name::parse(text).is_some())?.and_then(Name::parse);
        let types = RecordType::ALL.map(RecordType::as_str).join(", ");
        let rule = format!("one of {types}");
        let record = settings.text("type", &rule, |text| RecordType::from_name(text).is_some())?;
        let names = Rcode::KNOWN.map(Rcode::as_str).join(", ");
        let most = Rcode::KNOWN.len();
        let read = |item: &serde_json::Value| item.as_str().and_then(Rcode::from_name);
        let rcodes = settings.list("rcodes", most, &format!("one of {names}"), read)?;
        Ok(Self {
            port: settings.port()?.unwrap_or(DNS_PORT),
            question: Question {
                name: name.ok_or_else(|| format!("field `name` is absent: must be {NAME_RULE}"))?,
                record: record.and_then(RecordType::from_name).unwrap_or(RecordType::A),
            },
            rcodes: rcodes.unwrap_or_else(|| vec![Rcode::NOERROR]),
            answers_min: settings.whole("answers_min", 0..=ANSWERS_MAX)?.unwrap_or(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_enough() {
        let plain = DnsSettings::parse(r#"{"name": "desk-1.example"}"#).unwrap();
        assert_eq!((plain.port, plain.question.record, plain.answers_min), (53, RecordType::A, 1));
        assert_eq!(plain.rcodes, [Rcode::NOERROR]);
        let given = r#"{"name": ".", "type": "NS", "rcodes": ["NOERROR", "REFUSED"], "answers_min": 0, "port": 5353}"#;
        let given = DnsSettings::parse(given).unwrap();
        assert_eq!((given.port, given.question.record, given.answers_min), (5353, RecordType::NS, 0));
        assert_eq!(given.rcodes, [Rcode::NOERROR, Rcode::REFUSED]);
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_field_its_value_and_the_rule() {
        for (text, words) in [
            ("{}".to_owned(), "field `name` is absent: must be"),
            (r#"{"name": ""}"#.to_owned(), r#"`name` is "": must be a name of labels"#),
            (r#"{"name": "a..b"}"#.to_owned(), r#"`name` is "a..b": must be"#),
            (format!(r#"{{"name": "{}"}}"#, "x".repeat(64)), "of 1 to 63 printable"),
            (r#"{"name": "a", "type": "ANY"}"#.to_owned(), r#"`type` is "ANY": must be one of A, AAAA, "#),
            (
                r#"{"name": "a", "rcodes": ["OK"]}"#.to_owned(),
                r#"`rcodes` is "OK": must be a list of items, each one of"#,
            ),
            (
                r#"{"name": "a", "answers_min": 101}"#.to_owned(),
                "`answers_min` is 101: must be a whole number from 0 to 100",
            ),
        ] {
            let refused = DnsSettings::parse(&text).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
