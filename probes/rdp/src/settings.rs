//! Settings of the `rdp` probe.

use probe_kit::Settings;

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// The port of the remote desktop service.
pub const RDP_PORT: u16 = 3389;

/// How far a check goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// To the answer of the negotiation.
    Negotiation,
    /// To the end of the TLS handshake, which costs the target a signature: tells its certificate.
    Certificate,
}

/// Settings of the `rdp` probe: `{"port": 3389, "certificate": false}`, both optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RdpSettings {
    /// The port that the service listens on.
    pub port: u16,
    /// How far a check goes.
    pub depth: Depth,
}

impl RdpSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &["certificate", "port"])?;
        let depth = if settings.switch("certificate")? { Depth::Certificate } else { Depth::Negotiation };
        Ok(Self { port: settings.port()?.unwrap_or(RDP_PORT), depth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_3389_unless_the_settings_say_otherwise() {
        let depth = Depth::Negotiation;
        assert_eq!(RdpSettings::parse("{}"), Ok(RdpSettings { port: 3389, depth }));
        assert_eq!(RdpSettings::parse(r#"{"port": 3390}"#), Ok(RdpSettings { port: 3390, depth }));
        assert!(RdpSettings::parse(r#"{"port": -1}"#).unwrap_err().contains("`port` is -1"));
    }

    #[test]
    fn the_certificate_is_looked_at_only_where_it_is_asked_for() {
        let depth = |text| RdpSettings::parse(text).map(|settings| settings.depth);
        assert_eq!(depth(r#"{"certificate": true}"#), Ok(Depth::Certificate));
        assert_eq!(depth(r#"{"certificate": false}"#), Ok(Depth::Negotiation));
        assert!(depth(r#"{"certificate": 1}"#).unwrap_err().contains("`certificate` is 1: must be true or false"));
    }
}
