//! Settings of the `guest-agent` probe.

use probe_kit::Settings;

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// Settings of the `guest-agent` probe: `{"timeout_ms": 1500}`, optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuestAgentSettings {
    /// How long to wait for the answer, 50 to 10000; without it, until the deadline.
    pub timeout_ms: Option<u32>,
}

impl GuestAgentSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &["timeout_ms"])?;
        Ok(Self { timeout_ms: settings.whole("timeout_ms", 50..=10_000)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_optional_and_bounded() {
        assert_eq!(GuestAgentSettings::parse("{}"), Ok(GuestAgentSettings::default()));
        let message = GuestAgentSettings::parse(r#"{"timeout_ms": "1s"}"#).unwrap_err();
        assert!(message.contains(r#"`timeout_ms` is "1s""#) && message.contains("50 to 10000"), "{message}");
    }
}
