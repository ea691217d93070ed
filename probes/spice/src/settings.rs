//! Settings of the `spice` probe.

use probe_kit::Settings;

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// The port of the first display.
pub const SPICE_PORT: u16 = 5900;

/// Settings of the `spice` probe: `{"port": 5900}`, optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpiceSettings {
    /// The port that the service listens on.
    pub port: u16,
}

impl SpiceSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { port: Settings::parse(text, &["port"])?.port()?.unwrap_or(SPICE_PORT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_5900_unless_the_settings_say_otherwise() {
        assert_eq!(SpiceSettings::parse("{}"), Ok(SpiceSettings { port: 5900 }));
        assert_eq!(SpiceSettings::parse(r#"{"port": 5901}"#), Ok(SpiceSettings { port: 5901 }));
        assert!(SpiceSettings::parse(r#"{"port": 0}"#).unwrap_err().contains("`port` is 0"));
    }
}
