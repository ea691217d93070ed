//! What is told of one run to who traces it: what it asks of the host, and what travels.
//!
//! What it asks is told at the level of debugging. What travels may be secret and is much, so it is told at the finest level
//! alone, and cut short. Both end after a number of lines: a guest decides how much it asks and sends. Of a run that nobody
//! traces nothing is put together.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::Level;
use vouch_types::VmId;

use crate::limits::{LOG_LINE_MAX, TRACED_BYTES_MAX, TRACED_CALLS_MAX, TRACED_TRANSFERS_MAX};
use crate::outcome::cut;

/// Who is told of, and how many more lines.
struct Told {
    probe: Arc<str>,
    vm: Option<VmId>,
    calls_left: AtomicU32,
    transfers_left: AtomicU32,
}

/// The trace of one run; cheap to clone.
#[derive(Clone)]
pub(crate) struct RunTrace(Arc<Told>);

impl RunTrace {
    /// Returns that of a run, if somebody listens.
    pub(crate) fn listened_to(probe: &Arc<str>, vm: Option<VmId>) -> Option<Self> {
        tracing::enabled!(Level::DEBUG).then(|| {
            Self(Arc::new(Told {
                probe: Arc::clone(probe),
                vm,
                calls_left: AtomicU32::new(TRACED_CALLS_MAX),
                transfers_left: AtomicU32::new(TRACED_TRANSFERS_MAX),
            }))
        })
    }

    /// Returns whether somebody wants to know what travels.
    pub(crate) fn follows_transfers(&self) -> bool {
        tracing::enabled!(Level::TRACE)
    }

    /// Tells of something that the run asked for.
    pub(crate) fn call(&self, interface: &'static str, call: String) {
        let Some(call) = line(&self.0.calls_left, cut(call, LOG_LINE_MAX)) else { return };
        let (probe, vm_id) = (&*self.0.probe, self.vm_id());
        tracing::debug!(probe, vm_id, interface, call, "probe calls");
    }

    /// Tells of something that travelled, with its beginning.
    pub(crate) fn transfer(&self, interface: &'static str, what: String, bytes: &[u8]) {
        if !self.follows_transfers() {
            return;
        }
        let told = if bytes.is_empty() { what } else { format!("{what}: {}", shown(bytes)) };
        let Some(call) = line(&self.0.transfers_left, told) else { return };
        let (probe, vm_id) = (&*self.0.probe, self.vm_id());
        tracing::trace!(probe, vm_id, interface, call, "probe transfers");
    }

    fn vm_id(&self) -> Option<String> {
        self.0.vm.map(|vm| vm.to_string())
    }
}

/// Takes one of the lines that are left; the last of them says that it is that.
fn line(left: &AtomicU32, text: String) -> Option<String> {
    let had = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()?;
    Some(if had == 1 { format!("{text} (the last line of this kind)") } else { text })
}

/// Returns how bytes are shown: as text where they are that, else in hexadecimal; their beginning, if they are many.
fn shown(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(TRACED_BYTES_MAX)];
    let cut = if head.len() < bytes.len() { " ..." } else { "" };
    let is_text = head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if is_text {
        return format!("\"{}\"{cut}", head.escape_ascii());
    }
    let mut text = String::with_capacity(3 * head.len());
    for (index, byte) in head.iter().enumerate() {
        let space = if index == 0 { "" } else { " " };
        write!(text, "{space}{byte:02x}").expect("a string takes all");
    }
    text + cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_after_so_many_and_the_last_says_so() {
        let left = AtomicU32::new(2);
        let told: Vec<_> = (0..4).map(|n| line(&left, format!("line {n}"))).collect();
        assert_eq!(
            told,
            [Some("line 0".to_owned()), Some("line 1 (the last line of this kind)".to_owned()), None, None]
        );
    }

    #[test]
    fn text_is_shown_as_text_and_the_rest_in_hexadecimal() {
        assert_eq!(shown(b"SSH-2.0-x\r\n"), r#""SSH-2.0-x\r\n""#);
        assert_eq!(shown(&[3, 0, 0, 0x13]), "03 00 00 13");
        assert_eq!(shown("naïve".as_bytes()), "6e 61 c3 af 76 65");
    }

    #[test]
    fn of_many_bytes_the_beginning_is_shown() {
        let text = shown(&[b'a'; TRACED_BYTES_MAX + 1]);
        assert_eq!(text, format!("\"{}\" ...", "a".repeat(TRACED_BYTES_MAX)));
        assert!(shown(&[0xff; TRACED_BYTES_MAX + 1]).ends_with("ff ff ..."));
        assert!(!shown(&[0xff; TRACED_BYTES_MAX]).contains("..."));
    }
}
