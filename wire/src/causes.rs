//! An error with its causes on one line, for people.

use std::error::Error;

/// Returns `text`, which tells of the error itself, and after it each of its causes that is not told yet.
pub fn with_causes(text: impl Into<String>, error: &dyn Error) -> String {
    let mut text = text.into();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(thiserror::Error, Debug)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: io::Error,
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = |text| Told { text, source: io::Error::other("disk is full") };
        assert_eq!(with_causes("write", &error("write")), "write: disk is full");
        assert_eq!(with_causes("write: disk is full", &error("write: disk is full")), "write: disk is full");
    }
}
