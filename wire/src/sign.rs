//! Ed25519 signatures (RFC 8032) of statements and grants: proof, whoever carries it.
//!
//! What is signed is a context string and then the encoded message, byte for byte as it travels, so that nothing is
//! ever encoded a second time to be checked, and a grant can never pass for a statement.

use prost::Message;
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use thiserror::Error;
use vouch_types::{Grant, Statement};

use crate::convert::ConvertError;
use crate::proto;

/// Stands before a statement's bytes in what is signed.
pub const STATEMENT_CONTEXT: &[u8] = b"vouch statement v1";
/// Stands before a grant's bytes in what is signed.
pub const GRANT_CONTEXT: &[u8] = b"vouch grant v1";
/// Length of a public key in bytes.
pub const PUBLIC_KEY_LEN: usize = 32;

/// Why a signed message does not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    /// The signature is not of this key, context and payload.
    #[error("the signature does not hold for the {0}")]
    Signature(&'static str),
    /// The payload is signed but malformed.
    #[error("malformed {what}: {why}")]
    Payload {
        /// Statement or grant.
        what: &'static str,
        /// What the decoder said.
        why: String,
    },
    /// A value in the payload breaks a rule.
    #[error(transparent)]
    Value(#[from] ConvertError),
    /// A stored key cannot be used.
    #[error("signing key: {0}")]
    Key(String),
}

struct Key {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl Key {
    fn generate(random: &dyn SecureRandom) -> Result<Self, SignError> {
        let document = Ed25519KeyPair::generate_pkcs8(random)
            .map_err(|_| SignError::Key("the system gives no randomness".to_owned()))?;
        Self::from_pkcs8(document.as_ref())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SignError> {
        let pair =
            Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|e| SignError::Key(format!("not PKCS #8 Ed25519: {e}")))?;
        Ok(Self { pair, pkcs8: pkcs8.to_vec() })
    }

    fn public(&self) -> [u8; PUBLIC_KEY_LEN] {
        let mut out = [0; PUBLIC_KEY_LEN];
        out.copy_from_slice(self.pair.public_key().as_ref());
        out
    }

    fn sign(&self, context: &[u8], payload: Vec<u8>) -> proto::Signed {
        let signature = self.pair.sign(&[context, &payload].concat()).as_ref().to_vec();
        proto::Signed { payload, signature }
    }
}

fn verify(what: &'static str, context: &[u8], signed: &proto::Signed, public_key: &[u8]) -> Result<(), SignError> {
    UnparsedPublicKey::new(&ED25519, public_key)
        .verify(&[context, &signed.payload].concat(), &signed.signature)
        .map_err(|_| SignError::Signature(what))
}

macro_rules! signer {
    ($(#[$doc:meta])* $name:ident, $noun:ty, $message:ty, $context:expr) => {
        $(#[$doc])*
        pub struct $name(Key);

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        impl $name {
            /// Makes a new key.
            ///
            /// # Errors
            /// [`SignError::Key`] when `random` fails.
            pub fn generate(random: &dyn SecureRandom) -> Result<Self, SignError> {
                Key::generate(random).map(Self)
            }

            /// Loads a key from PKCS #8 DER (RFC 8410).
            ///
            /// # Errors
            /// [`SignError::Key`] when it is no Ed25519 key with its public half.
            pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SignError> {
                Key::from_pkcs8(pkcs8).map(Self)
            }

            /// Returns the private key as PKCS #8 DER, for storing.
            pub fn pkcs8(&self) -> &[u8] {
                &self.0.pkcs8
            }

            /// Returns the public key.
            pub fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
                self.0.public()
            }

            /// Encodes and signs.
            pub fn sign(&self, noun: &$noun) -> proto::Signed {
                self.0.sign($context, <$message>::from(noun).encode_to_vec())
            }
        }
    };
}

signer!(
    /// A node's key for its statements.
    StatementSigner,
    Statement,
    proto::Statement,
    STATEMENT_CONTEXT
);
signer!(
    /// The cluster's key for grants.
    GrantSigner,
    Grant,
    proto::Grant,
    GRANT_CONTEXT
);

/// Returns the statement if it was signed with the key of this public key.
///
/// Whether the signer is the owner of the VM, and the nonce the one that was asked with, is for the caller to check:
/// the key must be the one recorded for `statement.node`.
///
/// # Errors
/// [`SignError`] when the signature does not hold or the payload is malformed.
pub fn verify_statement(signed: &proto::Signed, public_key: &[u8]) -> Result<Statement, SignError> {
    verify("statement", STATEMENT_CONTEXT, signed, public_key)?;
    peek_statement(signed)
}

/// Returns the statement without checking its signature, to find whose key it is to be checked with.
///
/// # Errors
/// [`SignError`] when the payload is malformed.
pub fn peek_statement(signed: &proto::Signed) -> Result<Statement, SignError> {
    let message = proto::Statement::decode(signed.payload.as_slice())
        .map_err(|e| SignError::Payload { what: "statement", why: e.to_string() })?;
    Ok(Statement::try_from(message)?)
}

/// Returns the grant if it was signed with the key of this public key.
///
/// # Errors
/// [`SignError`] when the signature does not hold or the payload is malformed.
pub fn verify_grant(signed: &proto::Signed, public_key: &[u8]) -> Result<Grant, SignError> {
    verify("grant", GRANT_CONTEXT, signed, public_key)?;
    let message = proto::Grant::decode(signed.payload.as_slice())
        .map_err(|e| SignError::Payload { what: "grant", why: e.to_string() })?;
    Ok(Grant::try_from(message)?)
}

#[cfg(test)]
mod tests;
