//! The rotation of the CA, as the log has it: one step after the other. Whether everybody is ready for a step is the
//! leader's knowledge of now, and judged before the proposal.

use vouch_types::{CaSecrets, CaStage, DenyReason, EventKind, NextCa, WallTime};

use super::State;
use super::apply::{Outcome, Step};

impl State {
    pub(super) fn add_ca(&mut self, step: &mut Step, ca: CaSecrets, at: WallTime) -> Outcome {
        self.rotate(step, at, CaStage::Spreading, |next| match next {
            NextCa::None => Ok(NextCa::Spreading(ca)),
            NextCa::Spreading(_) | NextCa::Renewing(_) => Err(next),
        })
    }

    pub(super) fn switch_ca(&mut self, step: &mut Step, at: WallTime) -> Outcome {
        self.rotate(step, at, CaStage::Renewing, |next| match next {
            NextCa::Spreading(ca) => Ok(NextCa::Renewing(ca)),
            NextCa::None | NextCa::Renewing(_) => Err(next),
        })?;
        self.note_other_ca(step);
        step.done()
    }

    pub(super) fn retire_ca(&mut self, step: &mut Step, at: WallTime) -> Outcome {
        let mut new = None;
        self.rotate(step, at, CaStage::Steady, |next| match next {
            NextCa::Renewing(ca) => {
                new = Some(ca);
                Ok(NextCa::None)
            }
            NextCa::None | NextCa::Spreading(_) => Err(next),
        })?;
        if let (Some(cluster), Some(ca)) = (&mut self.head.cluster, new) {
            (cluster.secrets.ca_certificate, cluster.secrets.ca_key) = (ca.certificate, ca.key);
        }
        step.done()
    }

    /// Takes one step, or gives back what is there.
    fn rotate(
        &mut self,
        step: &mut Step,
        at: WallTime,
        to: CaStage,
        go: impl FnOnce(NextCa) -> Result<NextCa, NextCa>,
    ) -> Outcome {
        let cluster = self.head.cluster.as_mut().ok_or(DenyReason::NotInitialised)?;
        let next = &mut cluster.secrets.next_ca;
        let stage = next.stage();
        match go(std::mem::take(next)) {
            Ok(new) => *next = new,
            Err(old) => {
                *next = old;
                return Err(DenyReason::CaStage(stage));
            }
        }
        step.changes.head = true;
        step.event(at, EventKind::CaRotated { to });
        step.done()
    }
}
