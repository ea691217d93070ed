//! Settings of the `ssh` probe.

use probe_kit::Settings;

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// The port of the SSH service.
pub const SSH_PORT: u16 = 22;

/// The longest expectation, in bytes.
const EXPECT_MAX: usize = 64;

/// Settings of the `ssh` probe: `{"port": 22, "expect": "OpenSSH_9"}`, both optional.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SshSettings {
    /// The port that the service listens on.
    pub port: u16,
    /// How its software version has to begin.
    pub expect: Option<String>,
}

impl SshSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &["expect", "port"])?;
        // What a software version is made of (RFC 4253, section 4.2): anything else could never be met.
        let rule = format!("1 to {EXPECT_MAX} printable ASCII characters without spaces");
        let can_be_met =
            |text: &str| (1..=EXPECT_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let expect = settings.text("expect", &rule, can_be_met)?.map(ToOwned::to_owned);
        Ok(Self { port: settings.port()?.unwrap_or(SSH_PORT), expect })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_22_and_any_software_will_do_unless_the_settings_say_otherwise() {
        assert_eq!(SshSettings::parse("{}"), Ok(SshSettings { port: 22, expect: None }));
        let given = SshSettings::parse(r#"{"port": 2222, "expect": "OpenSSH_"}"#);
        assert_eq!(given, Ok(SshSettings { port: 2222, expect: Some("OpenSSH_".to_owned()) }));
    }

    #[test]
    fn an_expectation_that_can_never_be_met_is_refused_with_the_rule() {
        for bad in [r#""""#, r#""a b""#, r#""é""#, "9", &format!("\"{}\"", "x".repeat(65))] {
            let refused = SshSettings::parse(&format!(r#"{{"expect": {bad}}}"#)).unwrap_err();
            assert!(refused.starts_with("field `expect` is "), "{refused}");
            assert!(refused.ends_with("must be 1 to 64 printable ASCII characters without spaces"), "{refused}");
        }
    }
}
