//! Settings of the `ping` probe.

use probe_kit::Settings;

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// Settings of the `ping` probe: `{"count": 3, "interval_ms": 50}`, both optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PingSettings {
    /// How many requests one run sends, 1 to 16.
    pub count: u32,
    /// Milliseconds from one to the next, 10 to 1000.
    pub interval_ms: u32,
}

impl Default for PingSettings {
    fn default() -> Self {
        Self { count: 2, interval_ms: 50 }
    }
}

impl PingSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &["count", "interval_ms"])?;
        let default = Self::default();
        Ok(Self {
            count: settings.whole("count", 1..=16)?.unwrap_or(default.count),
            interval_ms: settings.whole("interval_ms", 10..=1000)?.unwrap_or(default.interval_ms),
        })
    }

    /// Returns how long the requests take to send, in milliseconds.
    pub fn sending_ms(&self) -> u32 {
        (self.count - 1) * self.interval_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fields_have_defaults_and_bounds() {
        assert_eq!(PingSettings::parse("{}"), Ok(PingSettings::default()));
        assert_eq!(PingSettings::parse(r#"{"count": 16}"#).unwrap().sending_ms(), 750);
        for (text, field) in [(r#"{"count": 0}"#, "`count` is 0"), (r#"{"interval_ms": 9}"#, "`interval_ms` is 9")] {
            let message = PingSettings::parse(text).unwrap_err();
            assert!(message.contains(field) && message.contains("must be"), "{message}");
        }
    }
}
