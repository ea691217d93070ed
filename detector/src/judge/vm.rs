//! Judges one VM: base state from its hypervisor's word, lowered by guest evidence, kept while a path is cut.

use std::time::Duration;

use vouch_types::advice::SAFE_VALID_FOR;
use vouch_types::{
    Advice, Cause, ExitReason, Fault, FenceKind, FenceProof, Generation, HypervisorState, IncidentScope, Moment,
    NodeId, Operation, Outcome, PauseReason, Progress, Proof, Verdict, VmState, WatcherId,
};

use super::guest::{Check, GuestInputs, GuestJudgement, GuestState, judge_guest};

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

/// How far the guest is with starting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Booting {
    /// It is not.
    No,
    /// Some of its probes have been answered since, and the others owe no answer while its budget lasts.
    Partly(Moment),
    /// Its process is new, and its budget lasts.
    Starting,
    /// It restarts from inside, and its budget lasts.
    Rebooting,
    /// Its budget is over, and nothing has answered.
    Overdue,
}

/// What is known of the store of its disks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Storage {
    /// No more than the VM's own word.
    Own,
    /// Other VMs of the store are paused as well: its incident tells it.
    Shared,
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
    /// This manager has not listened for as long as the slowest judgement takes: what it does not find yet, its predecessor
    /// may have found.
    pub is_young: bool,
    pub progress: Progress,
    pub operation: Option<Operation>,
    pub booting: Booting,
    /// An operation ended a moment ago, and the next word may be another node's.
    pub settling: bool,
    pub maintenance: &'a str,
    pub required: Option<&'a [vouch_types::ProbeName]>,
    /// The node's hypervisor service is silent: that is its node's fault, and no VM's.
    pub hypervisor_silent: bool,
    /// Its users are cut off by something that it shares.
    pub service_cut: Option<(IncidentScope, Fault)>,
    /// The shared element whose incident tells of a node that is silent.
    pub silent_with: Option<IncidentScope>,
    pub storage: Storage,
    pub datastore: Option<&'a str>,
    /// The proof that its node does not run.
    pub fence: Option<&'a FenceProof>,
    /// Another node executes it as well.
    pub rival: Option<&'a NodeId>,
    /// Some other node said last that it executes it, and is not proved to be off itself.
    pub executes_elsewhere: bool,
    /// For how long it has been judged to hang.
    pub hung_for: Option<Duration>,
    /// How long a hang has to last before a restart is advised.
    pub hung_confirmed_after: Duration,
}

/// What is to be said of a VM, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VmJudgement {
    pub state: VmState,
    pub faults: Vec<Fault>,
    pub notes: Vec<Fault>,
    pub advice: Advice,
    pub suppressed: String,
    pub reason: String,
    /// The shared element whose incident tells it already.
    pub shared: Option<IncidentScope>,
    /// A failure is under way that is not confirmed yet.
    pub suspicious: bool,
}

impl VmJudgement {
    fn plain(state: VmState, reason: String) -> Self {
        Self {
            state,
            faults: Vec::new(),
            notes: Vec::new(),
            advice: Advice::None,
            suppressed: String::new(),
            reason,
            shared: None,
            suspicious: false,
        }
    }

    fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    fn with_advice(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }

    fn suppressed_by(mut self, why: &str) -> Self {
        why.clone_into(&mut self.suppressed);
        self
    }

    fn shared_with(mut self, scope: Option<IncidentScope>) -> Self {
        self.shared = scope;
        self
    }

    /// Keeps what is recorded, word for word.
    pub fn keep(recorded: &Verdict) -> Self {
        Self {
            state: recorded.state,
            faults: recorded.faults.clone(),
            notes: recorded.notes.clone(),
            advice: recorded.advice.clone(),
            suppressed: recorded.suppressed.clone(),
            reason: recorded.reason.clone(),
            shared: None,
            suspicious: false,
        }
    }

    /// Returns whether it says what the verdict says; reasons and digests may differ.
    pub fn says(&self, verdict: &Verdict) -> bool {
        self.state == verdict.state
            && self.faults == verdict.faults
            && self.notes == verdict.notes
            && self.advice == verdict.advice
            && self.suppressed == verdict.suppressed
    }
}

/// Returns what is to be said of a VM.
pub(crate) fn judge_vm(inputs: &VmInputs<'_>) -> VmJudgement {
    let mut judged = match (inputs.rival, inputs.base) {
        (Some(rival), Base::Direct(_) | Base::Stated(..)) => conflict(rival),
        (_, Base::Direct(state)) => from_hypervisor(inputs, state, "its node says".to_owned()),
        (_, Base::Stated(state, carrier)) => {
            from_hypervisor(inputs, state, format!("its node states through {carrier}"))
        }
        (_, Base::None(life)) => without_word(inputs, life),
    };
    if !inputs.maintenance.is_empty() && judged.state != VmState::Conflict {
        // It is watched on; nothing is said against it, and nothing advised.
        judged.notes.append(&mut judged.faults);
        judged.notes.dedup();
        judged.advice = Advice::None;
        inputs.maintenance.clone_into(&mut judged.suppressed);
    } else if inputs.operation.is_some() && judged.advice != Advice::None {
        judged.advice = Advice::Blocked;
    }
    judged
}

fn conflict(rival: &NodeId) -> VmJudgement {
    VmJudgement::plain(VmState::Conflict, format!("its node and {rival} both say that they execute it"))
        .with_fault(Fault::sure(Cause::VmProcess).with_detail(&format!("executes on {rival} as well")))
        .with_advice(Advice::Blocked)
}

fn from_hypervisor(inputs: &VmInputs<'_>, state: HypervisorState, who: String) -> VmJudgement {
    let restart = Advice::Restart { generation: inputs.generation };
    match state {
        HypervisorState::Running => executing(inputs, format!("{who} that it runs")),
        HypervisorState::Paused(PauseReason::IoError) => io_error(inputs, &who),
        HypervisorState::Paused(PauseReason::Migration) => match inputs.recorded.state {
            VmState::Up | VmState::Degraded => keep_clear(inputs.recorded).suppressed_by(Operation::Migration.as_str()),
            VmState::Paused
            | VmState::Hung
            | VmState::Rebooting
            | VmState::Stopped
            | VmState::Down
            | VmState::Lost
            | VmState::Conflict
            | VmState::Unknown => VmJudgement::plain(VmState::Paused, format!("{who} that a migration holds it"))
                .suppressed_by(Operation::Migration.as_str()),
        },
        HypervisorState::Paused(PauseReason::Operator | PauseReason::Other) => {
            VmJudgement::plain(VmState::Paused, format!("{who} that it is paused")).suppressed_by(operation(inputs))
        }
        HypervisorState::Rebooting => VmJudgement::plain(VmState::Rebooting, format!("{who} that it reboots")),
        // Its end may be the end of a migration, whose new owner has not spoken yet.
        HypervisorState::Stopped | HypervisorState::Gone(_) if inputs.settling => {
            VmJudgement { suspicious: true, ..VmJudgement::keep(inputs.recorded) }
        }
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
        HypervisorState::Unknown => unseen(inputs, &who),
    }
}

/// Returns the recorded state without what was said against it: an operation excuses it.
fn keep_clear(recorded: &Verdict) -> VmJudgement {
    VmJudgement::plain(VmState::Up, recorded.reason.clone())
}

fn operation(inputs: &VmInputs<'_>) -> &'static str {
    inputs.operation.map_or("", Operation::as_str)
}

fn io_error(inputs: &VmInputs<'_>, who: &str) -> VmJudgement {
    let paused = VmJudgement::plain(VmState::Paused, format!("{who} that it is paused by an I/O error"))
        .with_fault(Fault::sure(Cause::Storage).with_detail("i/o error"));
    match (inputs.storage, inputs.datastore) {
        (Storage::Shared, Some(store)) => paused
            .shared_with(Some(IncidentScope::Datastore(store.to_owned())))
            .with_advice(Advice::FenceFirst { generation: inputs.generation }),
        (Storage::Shared, None) | (Storage::Own, _) => paused,
    }
}

/// Its node cannot see it now: its last state holds, unless probes lower it.
fn unseen(inputs: &VmInputs<'_>, who: &str) -> VmJudgement {
    match inputs.recorded.state {
        VmState::Up | VmState::Degraded | VmState::Lost | VmState::Hung => {
            let reason = if inputs.hypervisor_silent {
                format!("{who} that its hypervisor service does not answer; its last state holds")
            } else {
                format!("{who} that its monitor does not answer; its last state holds")
            };
            let judged = executing(inputs, reason);
            if inputs.hypervisor_silent || judged.state == VmState::Hung {
                return judged;
            }
            judged.with_fault(Fault::sure(Cause::NodeVmPath).with_detail("monitor silent"))
        }
        VmState::Paused
        | VmState::Rebooting
        | VmState::Stopped
        | VmState::Down
        | VmState::Conflict
        | VmState::Unknown => {
            let fault = Fault::sure(Cause::NodeVmPath).with_detail("monitor silent");
            let mut kept = VmJudgement::keep(inputs.recorded);
            if !inputs.hypervisor_silent && !kept.faults.contains(&fault) {
                kept.faults.push(fault);
            }
            kept
        }
    }
}

/// `up`, or what guest evidence lowers it to; an operation or a boot excuses the guest.
fn executing(inputs: &VmInputs<'_>, reason: String) -> VmJudgement {
    if let Some(operation) = inputs.operation {
        return VmJudgement::plain(VmState::Up, reason).suppressed_by(operation.as_str());
    }
    match inputs.booting {
        Booting::Rebooting => return VmJudgement::plain(VmState::Rebooting, format!("{reason}; its guest boots")),
        Booting::Starting => return VmJudgement::plain(VmState::Up, reason).suppressed_by("boot"),
        Booting::No | Booting::Partly(_) | Booting::Overdue => {}
    }
    if !inputs.maintenance.is_empty() {
        return VmJudgement::plain(VmState::Up, reason);
    }
    let judged = judge_guest(&GuestInputs {
        checks: &inputs.checks,
        service_link_down: inputs.service_link_down,
        progress: inputs.progress,
        monitor_silent: matches!(
            inputs.base,
            Base::Direct(HypervisorState::Unknown) | Base::Stated(HypervisorState::Unknown, _)
        ) && !inputs.hypervisor_silent,
        boot_overdue: inputs.booting == Booting::Overdue,
        required: inputs.required,
        may_judge_silence: inputs.may_judge_silence,
        told: &inputs.recorded.faults,
    });
    // Nobody looks any more (its watchers are being replaced), or what fails has not been seen to fail for long enough by
    // this manager, which has just begun to look: what was seen last still holds.
    let lowered = matches!(inputs.recorded.state, VmState::Degraded | VmState::Hung);
    let fails = judged.suspicious || !inputs.checks.iter().any(|c| c.outcome == Outcome::Up);
    let unseen = inputs.checks.is_empty() || (inputs.is_young && fails);
    if lowered && judged.faults.is_empty() && unseen && inputs.service_cut.is_none() {
        return VmJudgement::keep(inputs.recorded);
    }
    say(inputs, judged, reason)
}

fn say(inputs: &VmInputs<'_>, judged: GuestJudgement, reason: String) -> VmJudgement {
    let GuestJudgement { state, faults, notes, reason: guest_reason, suspicious } = judged;
    let mut out = match state {
        GuestState::Well => VmJudgement::plain(VmState::Up, reason),
        GuestState::Degraded => VmJudgement::plain(VmState::Degraded, format!("{reason}; {guest_reason}")),
        GuestState::Hung => VmJudgement::plain(VmState::Hung, format!("{reason}; {guest_reason}")),
    };
    out.faults = faults;
    out.notes = notes;
    out.suspicious = suspicious;
    if state == GuestState::Hung {
        // What hangs for a moment may be a stall of the host: a restart is advised once it has lasted.
        let confirmed = inputs.hung_for.is_some_and(|lasted| lasted >= inputs.hung_confirmed_after);
        out.suspicious |= !confirmed;
        if confirmed {
            out.advice = Advice::Restart { generation: inputs.generation };
        }
    } else if let Some((scope, fault)) = &inputs.service_cut {
        // Its users are cut off, whatever the watcher on its node sees.
        if out.state == VmState::Up {
            out.state = VmState::Degraded;
            out.reason = format!("{}; its users are cut off: {fault}", out.reason);
            out.shared = Some(scope.clone());
        }
        out.faults.insert(0, fault.clone());
    }
    out
}

fn without_word(inputs: &VmInputs<'_>, life: Life) -> VmJudgement {
    let recorded = inputs.recorded;
    let keep = || VmJudgement::keep(recorded);
    if let Some(proof) = inputs.fence {
        return fenced(inputs, proof, life);
    }
    match life {
        // It answers: whatever kept it from being judged before, it lives.
        Life::Seen(w) => match recorded.state {
            VmState::Up | VmState::Degraded | VmState::Hung | VmState::Lost | VmState::Unknown => {
                executing(inputs, format!("{w} sees it, while no manager hears its node"))
            }
            VmState::Paused | VmState::Rebooting | VmState::Stopped | VmState::Down | VmState::Conflict => keep(),
        },
        Life::NodeLives(w) => match recorded.state {
            VmState::Up | VmState::Degraded => {
                executing(inputs, format!("{w} vouches for its node, and nothing says that it changed"))
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
                    .shared_with(inputs.silent_with.clone())
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

/// What a proof that the node does not run says of its VMs: they run nowhere, unless somebody has seen one since.
fn fenced(inputs: &VmInputs<'_>, proof: &FenceProof, life: Life) -> VmJudgement {
    let (detail, kind) = match proof.kind {
        FenceKind::PowerOff => ("power off", Proof::PowerOff),
        FenceKind::Fenced => ("fenced", Proof::Fenced),
    };
    if inputs.recorded.state == VmState::Stopped {
        return VmJudgement::keep(inputs.recorded);
    }
    let down = VmJudgement::plain(
        VmState::Down,
        format!("its node does not run ({detail}), as log index {} proves", proof.index),
    )
    .with_fault(Fault::sure(Cause::Node).with_detail(detail))
    .shared_with(inputs.silent_with.clone());
    match life {
        // While anybody may be it, nothing is safe.
        Life::Silent | Life::SilentForLong if inputs.executes_elsewhere => down.with_advice(Advice::Blocked),
        // A lone answer is no veto: it may be another machine on its address, or the VM started elsewhere.
        Life::Seen(_) | Life::NodeLives(_) => {
            let mut down = down.with_advice(Advice::Blocked);
            down.notes.push(Fault::sure(Cause::Node).with_detail("answers after its proof"));
            down
        }
        Life::Silent | Life::SilentForLong => down.with_advice(Advice::SafeToRestart {
            generation: inputs.generation,
            proof: kind,
            index: proof.index,
            valid_for: SAFE_VALID_FOR,
        }),
    }
}

#[cfg(test)]
mod tests;
