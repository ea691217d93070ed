//! Settings of the `guest-agent` probe.

use probe_kit::Settings;

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// Settings of the `guest-agent` probe: `{"timeout_ms": 1500, "facts": true}`, all optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuestAgentSettings {
    /// How long to wait for the answer, 50 to 10000; without it, until the deadline.
    pub timeout_ms: Option<u32>,
    /// An agent that answers is also asked what it and its machine are.
    pub facts: bool,
}

impl GuestAgentSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &["timeout_ms", "facts"])?;
        Ok(Self { timeout_ms: settings.whole("timeout_ms", 50..=10_000)?, facts: settings.switch("facts")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_optional_and_bounded() {
        assert_eq!(GuestAgentSettings::parse("{}"), Ok(GuestAgentSettings::default()));
        let asked = GuestAgentSettings { facts: true, ..GuestAgentSettings::default() };
        assert_eq!(GuestAgentSettings::parse(r#"{"facts": true}"#), Ok(asked));
        let message = GuestAgentSettings::parse(r#"{"timeout_ms": "1s"}"#).unwrap_err();
        assert!(message.contains(r#"`timeout_ms` is "1s""#) && message.contains("50 to 10000"), "{message}");
    }
}
