//! How everything that is kept or sent between managers is written: JSON, by field name.
//!
//! Why JSON: several words (events, advice, causes) are enums whose tag is a field, which serde can read back only from
//! a self-describing format; and ids print differently for readable formats, while serde's buffering of such enums
//! forgets that a format was not readable. JSON is the one format where both sides always agree, and where a field can
//! be added later. The cost was judged small beside an fsync.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Bytes that are not what they should be, or a value that cannot be written.
#[derive(Debug, Error)]
#[error("{what} cannot be {step}")]
pub struct CodecError {
    what: &'static str,
    step: &'static str,
    #[source]
    source: serde_json::Error,
}

impl From<CodecError> for std::io::Error {
    fn from(e: CodecError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, e)
    }
}

/// Returns `value` as bytes.
///
/// # Errors
/// [`CodecError`] when the value has no form in JSON, such as a map whose keys are not texts.
pub fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, CodecError> {
    serde_json::to_vec(value).map_err(|source| CodecError { what, step: "written", source })
}

/// Returns the value that these bytes stand for.
///
/// # Errors
/// [`CodecError`] when they stand for no such value.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    serde_json::from_slice(bytes).map_err(|source| CodecError { what, step: "read", source })
}
