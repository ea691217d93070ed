//! Why consensus stopped by itself, in words for an operator.

use openraft::errors::Fatal;
use vouch_wire::causes::with_causes;

use super::types::Types;

/// Returns what an operator needs of the reason why consensus stopped: which file, and what the system said. At which
/// entry that was is for the log.
pub(super) fn told(fatal: &Fatal<Types>) -> String {
    let Fatal::StorageError(storage) = fatal else { return with_causes(fatal.to_string(), fatal) };
    let text = std::error::Error::source(storage)
        .map_or_else(|| storage.to_string(), |cause| with_causes(cause.to_string(), cause));
    text.strip_prefix("std::io::error::Error: ").unwrap_or(&text).to_owned()
}
