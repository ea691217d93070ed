//! Settings of the `rdp` probe.

use probe_kit::Settings;

/// JSON Schema of the settings.
#[cfg(any(target_family = "wasm", test))]
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// The port of the remote desktop service.
pub const RDP_PORT: u16 = 3389;

/// Settings of the `rdp` probe: `{"port": 3389}`, optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RdpSettings {
    /// The port that the service listens on.
    pub port: u16,
}

impl RdpSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { port: Settings::parse(text, &["port"])?.port()?.unwrap_or(RDP_PORT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_3389_unless_the_settings_say_otherwise() {
        assert_eq!(RdpSettings::parse("{}"), Ok(RdpSettings { port: 3389 }));
        assert_eq!(RdpSettings::parse(r#"{"port": 3390}"#), Ok(RdpSettings { port: 3390 }));
        assert!(RdpSettings::parse(r#"{"port": -1}"#).unwrap_err().contains("`port` is -1"));
    }
}
