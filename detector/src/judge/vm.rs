//! Judges one VM: base state from its hypervisor's word, lowered by guest evidence, kept while a path is cut.

use vouch_types::{
    Advice, Cause, ExitReason, Fault, Generation, HypervisorState, PauseReason, Verdict, VmState, WatcherId,
};

use super::guest::{Check, GuestJudgement, judge_guest};

/// What is known of the VM's life while its node's word does not rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// A healthy observer saw the VM itself within the window.
    Seen(WatcherId),
    /// The node's relay, or a watcher on the node, was heard within the window.
    NodeLives(WatcherId),
    /// Nothing was heard for less time than `lost` takes, or this manager has not listened for long enough.
    Silent,
    /// Nothing was heard on any path for as long as `lost` takes.
    SilentForLong,
}

/// Where the base state comes from now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Base {
    /// The node's own word, heard by a manager.
    Direct(HypervisorState),
    /// The node's signed statement, carried by a watcher.
    Stated(HypervisorState, WatcherId),
    /// No word of the node: what else is known of its life.
    None(Life),
}

/// All that the judgement on a VM rests on.
#[derive(Clone, Debug)]
pub(crate) struct VmInputs<'a> {
    pub recorded: &'a Verdict,
    pub generation: Generation,
    pub base: Base,
    pub checks: Vec<Check<'a>>,
    pub service_link_down: bool,
    pub may_judge_silence: bool,
}

/// What is to be said of a VM, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VmJudgement {
    pub state: VmState,
    pub faults: Vec<Fault>,
    pub notes: Vec<Fault>,
    pub advice: Advice,
    pub reason: String,
    /// A failure is under way that is not confirmed yet.
    pub suspicious: bool,
}

impl VmJudgement {
    fn plain(state: VmState, reason: String) -> Self {
        Self { state, faults: Vec::new(), notes: Vec::new(), advice: Advice::None, reason, suspicious: false }
    }

    fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    fn with_advice(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }

    /// Keeps what is recorded, word for word.
    fn keep(recorded: &Verdict) -> Self {
        Self {
            state: recorded.state,
            faults: recorded.faults.clone(),
            notes: recorded.notes.clone(),
            advice: recorded.advice.clone(),
            reason: recorded.reason.clone(),
            suspicious: false,
        }
    }

    /// Returns whether it says what the verdict says; reasons and digests may differ.
    pub fn says(&self, verdict: &Verdict) -> bool {
        self.state == verdict.state
            && self.faults == verdict.faults
            && self.notes == verdict.notes
            && self.advice == verdict.advice
    }
}

/// Returns what is to be said of a VM.
pub(crate) fn judge_vm(inputs: &VmInputs<'_>) -> VmJudgement {
    match inputs.base {
        Base::Direct(state) => from_hypervisor(inputs, state, "its node says".to_owned()),
        Base::Stated(state, carrier) => from_hypervisor(inputs, state, format!("its node states through {carrier}")),
        Base::None(life) => without_word(inputs, life),
    }
}

fn from_hypervisor(inputs: &VmInputs<'_>, state: HypervisorState, who: String) -> VmJudgement {
    let restart = Advice::Restart { generation: inputs.generation };
    match state {
        HypervisorState::Running => lowered(inputs, format!("{who} that it runs")),
        HypervisorState::Paused(PauseReason::IoError) => {
            VmJudgement::plain(VmState::Paused, format!("{who} that it is paused by an I/O error"))
                .with_fault(Fault::sure(Cause::Storage).with_detail("i/o error"))
        }
        HypervisorState::Paused(PauseReason::Operator | PauseReason::Migration | PauseReason::Other) => {
            VmJudgement::plain(VmState::Paused, format!("{who} that it is paused"))
        }
        HypervisorState::Rebooting => VmJudgement::plain(VmState::Rebooting, format!("{who} that it reboots")),
        HypervisorState::Stopped => VmJudgement::plain(VmState::Stopped, format!("{who} that it was shut down")),
        HypervisorState::Panicked | HypervisorState::Gone(ExitReason::Panic) => {
            VmJudgement::plain(VmState::Down, format!("{who} that its kernel panicked"))
                .with_fault(Fault::sure(Cause::GuestOs).with_detail("panic"))
                .with_advice(restart)
        }
        HypervisorState::Gone(ExitReason::Process) => {
            VmJudgement::plain(VmState::Down, format!("{who} that its process died"))
                .with_fault(Fault::sure(Cause::VmProcess).with_detail("exited"))
                .with_advice(restart)
        }
        HypervisorState::Gone(ExitReason::Unknown) => {
            VmJudgement::plain(VmState::Down, format!("{who} that its process is gone, and nobody saw how"))
                .with_fault(Fault::sure(Cause::VmProcess).with_detail("exit unknown"))
                .with_advice(restart)
        }
        HypervisorState::Unknown => {
            let fault = Fault::sure(Cause::NodeVmPath).with_detail("monitor silent");
            match inputs.recorded.state {
                VmState::Up | VmState::Degraded | VmState::Lost => {
                    lowered(inputs, format!("{who} that its monitor does not answer; its last state holds"))
                        .with_fault(fault)
                }
                VmState::Paused
                | VmState::Hung
                | VmState::Rebooting
                | VmState::Stopped
                | VmState::Down
                | VmState::Conflict
                | VmState::Unknown => {
                    let mut kept = VmJudgement::keep(inputs.recorded);
                    if !kept.faults.contains(&fault) {
                        kept.faults.push(fault);
                    }
                    kept
                }
            }
        }
    }
}

/// `up`, or `degraded` when guest evidence lowers it.
fn lowered(inputs: &VmInputs<'_>, reason: String) -> VmJudgement {
    let GuestJudgement { faults, notes, reason: guest_reason, suspicious } =
        judge_guest(&inputs.checks, inputs.service_link_down, inputs.may_judge_silence);
    // Nobody looks any more (its watchers are being replaced): what was seen last still holds.
    let unwatched = inputs.recorded.state == VmState::Degraded && faults.is_empty() && inputs.checks.is_empty();
    if unwatched {
        return VmJudgement::keep(inputs.recorded);
    }
    let (state, reason) = if faults.is_empty() {
        (VmState::Up, reason)
    } else {
        (VmState::Degraded, format!("{reason}; {guest_reason}"))
    };
    VmJudgement { state, faults, notes, advice: Advice::None, reason, suspicious }
}

fn without_word(inputs: &VmInputs<'_>, life: Life) -> VmJudgement {
    let recorded = inputs.recorded;
    let keep = || VmJudgement::keep(recorded);
    match life {
        // It answers: whatever kept it from being judged before, it lives.
        Life::Seen(w) => match recorded.state {
            VmState::Up | VmState::Degraded | VmState::Lost | VmState::Unknown => {
                lowered(inputs, format!("{w} sees it, while no manager hears its node"))
            }
            VmState::Paused
            | VmState::Hung
            | VmState::Rebooting
            | VmState::Stopped
            | VmState::Down
            | VmState::Conflict => keep(),
        },
        Life::NodeLives(w) => match recorded.state {
            VmState::Up | VmState::Degraded => {
                lowered(inputs, format!("{w} vouches for its node, and nothing says that it changed"))
            }
            VmState::Paused
            | VmState::Hung
            | VmState::Rebooting
            | VmState::Stopped
            | VmState::Down
            | VmState::Lost
            | VmState::Conflict
            | VmState::Unknown => keep(),
        },
        Life::Silent => keep(),
        Life::SilentForLong => match recorded.state {
            VmState::Up | VmState::Degraded | VmState::Hung => {
                let reason = "it is silent on every path, and nothing proves that it does not run".to_owned();
                VmJudgement::plain(VmState::Lost, reason)
                    .with_advice(Advice::FenceFirst { generation: inputs.generation })
            }
            // Other states are kept with their age: no silence says that a stopped VM has changed.
            VmState::Paused
            | VmState::Rebooting
            | VmState::Stopped
            | VmState::Down
            | VmState::Lost
            | VmState::Conflict
            | VmState::Unknown => keep(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vouch_types::WallTime;

    fn recorded(state: VmState) -> Verdict {
        Verdict { state, ..Verdict::unjudged(WallTime::default()) }
    }

    fn judge(state: VmState, base: Base) -> VmJudgement {
        judge_vm(&VmInputs {
            recorded: &recorded(state),
            generation: Generation::new(1),
            base,
            checks: Vec::new(),
            service_link_down: false,
            may_judge_silence: true,
        })
    }

    const ALL_STATES: [VmState; 10] = [
        VmState::Up,
        VmState::Degraded,
        VmState::Paused,
        VmState::Hung,
        VmState::Rebooting,
        VmState::Stopped,
        VmState::Down,
        VmState::Lost,
        VmState::Conflict,
        VmState::Unknown,
    ];

    #[test]
    fn silence_never_makes_a_vm_down() {
        for state in ALL_STATES.into_iter().filter(|s| *s != VmState::Down) {
            for life in
                [Life::Seen(WatcherId::new(1)), Life::NodeLives(WatcherId::new(1)), Life::Silent, Life::SilentForLong]
            {
                assert_ne!(judge(state, Base::None(life)).state, VmState::Down, "{state} {life:?}");
            }
        }
    }

    #[test]
    fn only_up_degraded_and_hung_are_ever_lost() {
        for state in ALL_STATES {
            let lost = judge(state, Base::None(Life::SilentForLong)).state == VmState::Lost;
            let may = matches!(state, VmState::Up | VmState::Degraded | VmState::Hung | VmState::Lost);
            assert_eq!(lost, may, "{state}");
        }
    }

    #[test]
    fn a_statement_that_the_process_died_is_proof() {
        let j = judge(VmState::Up, Base::Stated(HypervisorState::Gone(ExitReason::Process), WatcherId::new(1)));
        assert_eq!(j.state, VmState::Down);
        assert_eq!(j.faults[0].top(), &Cause::VmProcess);
        assert_eq!(j.advice, Advice::Restart { generation: Generation::new(1) });
        assert_eq!(j.reason, "its node states through w1 that its process died");
    }

    #[test]
    fn a_monitor_that_does_not_answer_keeps_the_state() {
        let j = judge(VmState::Up, Base::Direct(HypervisorState::Unknown));
        assert_eq!(j.state, VmState::Up);
        assert_eq!(j.faults[0].top(), &Cause::NodeVmPath);
    }

    #[test]
    fn a_lost_vm_that_is_seen_is_up_again() {
        assert_eq!(judge(VmState::Lost, Base::None(Life::Seen(WatcherId::new(2)))).state, VmState::Up);
        assert_eq!(judge(VmState::Lost, Base::None(Life::Silent)).state, VmState::Lost);
    }
}
