//! Settings of the `rdp` probe.

use probe_kit::Settings;

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings.schema.json");

/// The port of the remote desktop service.
pub const RDP_PORT: u16 = 3389;

/// How far a check goes, each one through those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Depth {
    /// To the answer of the negotiation.
    Negotiation,
    /// To the end of the TLS handshake, which costs the target a signature: tells its certificate.
    Certificate,
    /// To the challenge of NTLM, where network level authentication is chosen: tells its names.
    Challenge,
}

/// What tells the target from another machine at its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdentityFrom {
    /// Nothing.
    Nothing,
    /// Its certificate, if it proves that it has the key.
    Certificate,
    /// Its NetBIOS and DNS name, as its challenge tells them.
    Name,
}

impl IdentityFrom {
    const ALL: [Self; 3] = [Self::Nothing, Self::Certificate, Self::Name];

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Certificate => "certificate",
            Self::Name => "name",
        }
    }

    /// Returns the rule that a check of this depth breaks, if it does.
    fn broken_rule(self, depth: Depth) -> Option<&'static str> {
        match self {
            Self::Certificate if depth < Depth::Certificate => {
                Some("field `identity` is \"certificate\": `certificate` or `nla` must be true with it")
            }
            Self::Name if depth < Depth::Challenge => Some("field `identity` is \"name\": `nla` must be true with it"),
            Self::Nothing | Self::Certificate | Self::Name => None,
        }
    }
}

/// Settings of the `rdp` probe: `{"port": 3389, "certificate": false, "nla": false, "identity": "none"}`, all optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RdpSettings {
    /// The port that the service listens on.
    pub port: u16,
    /// How far a check goes.
    pub depth: Depth,
    /// What is told as the identity of the target.
    pub identity: IdentityFrom,
}

impl RdpSettings {
    /// Reads them from a JSON object.
    ///
    /// # Errors
    /// A sentence that names the field, its value and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &["certificate", "identity", "nla", "port"])?;
        let depth = match (settings.switch("certificate")?, settings.switch("nla")?) {
            (_, true) => Depth::Challenge,
            (true, false) => Depth::Certificate,
            (false, false) => Depth::Negotiation,
        };
        let words = IdentityFrom::ALL.map(|identity| (identity.as_str(), identity));
        let identity = settings.choice("identity", &words)?.unwrap_or(IdentityFrom::Nothing);
        match identity.broken_rule(depth) {
            Some(rule) => Err(rule.to_owned()),
            None => Ok(Self { port: settings.port()?.unwrap_or(RDP_PORT), depth, identity }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_3389_unless_the_settings_say_otherwise() {
        let port = |text| RdpSettings::parse(text).map(|settings| settings.port);
        assert_eq!((port("{}"), port(r#"{"port": 3390}"#)), (Ok(3389), Ok(3390)));
        assert!(port(r#"{"port": -1}"#).unwrap_err().contains("`port` is -1"));
    }

    #[test]
    fn a_check_goes_as_far_as_it_is_asked_to() {
        let depth = |text| RdpSettings::parse(text).map(|settings| settings.depth);
        assert_eq!(depth("{}"), Ok(Depth::Negotiation));
        assert_eq!(depth(r#"{"certificate": true}"#), Ok(Depth::Certificate));
        assert_eq!(depth(r#"{"certificate": false}"#), Ok(Depth::Negotiation));
        assert_eq!(depth(r#"{"nla": true}"#), Ok(Depth::Challenge));
        assert_eq!(depth(r#"{"nla": true, "certificate": false}"#), Ok(Depth::Challenge), "through the handshake");
        assert!(depth(r#"{"certificate": 1}"#).unwrap_err().contains("`certificate` is 1: must be true or false"));
        assert!(depth(r#"{"nla": "yes"}"#).unwrap_err().contains(r#"`nla` is "yes": must be true or false"#));
    }

    #[test]
    fn an_identity_needs_a_check_that_goes_as_far_as_it_comes_from() {
        let identity = |text| RdpSettings::parse(text).map(|settings| settings.identity);
        assert_eq!(identity("{}"), Ok(IdentityFrom::Nothing));
        assert_eq!(identity(r#"{"identity": "none"}"#), Ok(IdentityFrom::Nothing));
        assert_eq!(identity(r#"{"identity": "certificate", "certificate": true}"#), Ok(IdentityFrom::Certificate));
        assert_eq!(identity(r#"{"identity": "certificate", "nla": true}"#), Ok(IdentityFrom::Certificate));
        assert_eq!(identity(r#"{"identity": "name", "nla": true}"#), Ok(IdentityFrom::Name));
        for (text, words) in [
            (r#"{"identity": "certificate"}"#, r#"`identity` is "certificate": `certificate` or `nla` must be true"#),
            (r#"{"identity": "name"}"#, r#"`identity` is "name": `nla` must be true"#),
            (r#"{"identity": "name", "certificate": true}"#, r#"`identity` is "name": `nla` must be true"#),
            (r#"{"identity": "host", "nla": true}"#, r#"`identity` is "host": must be one of none, certificate, name"#),
            (r#"{"identity": true}"#, "`identity` is true: must be one of none, certificate, name"),
        ] {
            let refused = identity(text).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
