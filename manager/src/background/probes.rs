//! Keeps the shipped probes recorded: a fresh cluster watches at once.

use async_trait::async_trait;
use vouch_types::{Command, ProbeRecord, Term};

use super::{Desk, Reconciler, ReconcilerReport, RoundError};

/// The reconciler; see the module's head.
pub(super) struct ProbesReconciler {
    shipped: Vec<ProbeRecord>,
}

impl ProbesReconciler {
    pub(super) fn new(shipped: Vec<ProbeRecord>) -> Self {
        Self { shipped }
    }
}

#[async_trait]
impl Reconciler for ProbesReconciler {
    fn name(&self) -> &'static str {
        "probes"
    }

    fn reset(&mut self) {}

    async fn round(&mut self, desk: &Desk, _term: Term) -> Result<ReconcilerReport, RoundError> {
        let missing: Vec<ProbeRecord> = desk.consensus.read_state(|state| {
            if state.cluster().is_none() {
                return Vec::new();
            }
            // A name that an operator has taken for a probe of their own stays theirs.
            let differs = |p: &&ProbeRecord| state.probes().get(&p.name).is_none_or(|k| k.shipped && **k != **p);
            self.shipped.iter().filter(differs).cloned().collect()
        });
        for probe in missing {
            desk.propose(Command::RecordProbe { probe, by: String::new(), at: desk.wall_clock.now() }).await?;
        }
        Ok(ReconcilerReport::default())
    }
}
