//! Why consensus stopped by itself, in words for an operator.

use openraft::errors::Fatal;

use super::types::Types;

/// Returns what an operator needs of the reason why consensus stopped: which file, and what the system said. At which
/// entry that was is for the log.
pub(super) fn told(fatal: &Fatal<Types>) -> String {
    let Fatal::StorageError(storage) = fatal else { return chain(fatal) };
    let text = std::error::Error::source(storage).map_or_else(|| storage.to_string(), chain);
    text.strip_prefix("std::io::error::Error: ").unwrap_or(&text).to_owned()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
