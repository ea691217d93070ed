//! Settings of the `tcp` probe.

use probe_kit::Settings;

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// Settings of the `tcp` probe: `{"port": 22}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpSettings {
    /// The port to connect to.
    pub port: u16,
}

impl TcpSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let port = Settings::parse(text, &["port"])?.port()?;
        Ok(Self { port: port.ok_or("field `port` is absent: must be a whole number from 1 to 65535")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_has_no_default() {
        assert_eq!(TcpSettings::parse(r#"{"port": 22}"#), Ok(TcpSettings { port: 22 }));
        assert!(TcpSettings::parse("{}").unwrap_err().contains("`port` is absent"));
    }
}
