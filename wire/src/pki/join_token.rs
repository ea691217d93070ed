//! A join token as a person carries it: `VOUCH-<CA digest>-<secret>`, both in hexadecimal digits.
//!
//! The digest lets the joiner see that it talks to the right cluster before it says the secret.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;

use super::PkiError;

const PREFIX: &str = "VOUCH";

/// SHA-256 of the DER of a CA's certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaDigest([u8; 32]);

impl CaDigest {
    /// Returns the digest of a CA certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }

    /// Returns the digest of the first CA certificate of a PEM text.
    ///
    /// # Errors
    /// [`PkiError::Pem`] when it holds none.
    pub fn of_pem(certificate_pem: &str) -> Result<Self, PkiError> {
        super::identity::one_certificate("CA certificate", certificate_pem).map(|der| Self::of(&der))
    }

    /// Returns the digests of all CA certificates of a PEM text, in their order.
    ///
    /// # Errors
    /// [`PkiError::Pem`] when it holds none, or more than [`ROOTS_MAX`](super::ROOTS_MAX).
    pub fn all_of_pem(certificates_pem: &str) -> Result<Vec<Self>, PkiError> {
        Ok(super::identity::roots_of("CA certificate", certificates_pem)?.iter().map(Self::of).collect())
    }
}

impl fmt::Display for CaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for CaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A join token with its secret. It prints its secret by [`JoinToken::reveal`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The CA that the managers must have.
    pub ca: CaDigest,
    /// What is shown to them.
    pub secret: [u8; 32],
}

impl JoinToken {
    /// Returns the text that a person carries.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}-{}-{}", self.ca, hex::encode(self.secret))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// A text is no join token. It does not repeat the text, which may hold most of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "join token: must be VOUCH-<64 hexadecimal digits>-<64 hexadecimal digits>, as \"vouch token create\" printed it"
)]
pub struct JoinTokenError;

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let mut parts = text.trim().split('-');
        let (Some(PREFIX), Some(ca), Some(secret), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JoinTokenError);
        };
        let bytes = |part: &str| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(part, &mut bytes).map(|()| bytes).map_err(|_| JoinTokenError)
        };
        Ok(Self { ca: CaDigest(bytes(ca)?), secret: bytes(secret)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_printed_and_shows_its_secret_nowhere_else() {
        let token = JoinToken { ca: CaDigest([0xab; 32]), secret: [0xcd; 32] };
        let text = token.reveal();
        assert_eq!(format!("{text}\n").parse::<JoinToken>().unwrap(), token);
        assert!(!format!("{token:?}").contains("cdcd"));
        for bad in ["", "VOUCH", &text[1..], &text[..text.len() - 1], &format!("{text}-00"), &text.replace("cd", "zz")]
        {
            let e = bad.parse::<JoinToken>().expect_err("must be refused").to_string();
            assert!(!e.contains("abab") && e.contains("vouch token create"), "{e}");
        }
    }
}
