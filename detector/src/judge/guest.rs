//! Judges what probes say of a guest that executes: guest evidence only ever lowers `up`.
//!
//! Two disjoint paths before a bad word: the watcher on the VM's node looks over the local bridge, the other one over
//! the network; for `hung` the node's counters are the second. A refusal or a wedged service is positive evidence (the
//! guest answered, wrongly); silence is not, and has to last.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::{Cause, Fault, Network, NodeId, Outcome, ProbeName, Progress, WatcherId};

/// Refusals in a row that a single observer is believed about, where there is no second one: a refusal is an answer of
/// the guest itself, whatever path it came by.
const LONE_REFUSALS: u32 = 3;
/// Failures of the guest agent in a row, as the watcher on its node sees them, before it is noted.
const AGENT_FAILURES: u32 = 3;
/// How long a guest is given, silent on all its network, until its node's counters have had time to show whether it
/// hangs: their window is 3 s.
const COUNTERS_SETTLE: Duration = Duration::from_millis(4_500);

/// One observer's standing word with one probe, fresh enough to count.
#[derive(Clone, Debug)]
pub(crate) struct Check<'a> {
    pub watcher: WatcherId,
    /// The node that the observer runs on: two on one node share their path.
    pub from: &'a NodeId,
    /// The observer runs on the VM's own node.
    pub local: bool,
    pub network: Network,
    pub probe: &'a ProbeName,
    pub outcome: Outcome,
    pub reason: &'a str,
    /// Failures in a row.
    pub failures: u32,
    /// Failures in a row that silence takes on this observer's path.
    pub needed: u32,
    /// How long ago it last answered, or was first asked.
    pub silent_for: Duration,
    /// The probe has succeeded for this VM before.
    pub proven: bool,
    /// The observer is healthy on that network, and its own node reaches it.
    pub healthy: bool,
}

impl Check<'_> {
    fn is_silent(&self) -> bool {
        self.outcome == Outcome::Down && self.failures >= self.needed
    }

    /// Something of the guest, or in its place, did answer.
    fn is_answer(&self) -> bool {
        matches!(self.reason, "closed" | "wedged" | "broken")
    }

    fn is_alive(&self) -> bool {
        self.outcome.is_sign_of_life()
    }
}

/// All that a guest is judged by.
#[derive(Clone, Debug)]
pub(crate) struct GuestInputs<'a> {
    pub checks: &'a [Check<'a>],
    /// Its port on the service network has no link or carrier.
    pub service_link_down: bool,
    /// Whether it gets on, as its node's counters say.
    pub progress: Progress,
    /// Its monitor does not answer, so that there are no counters.
    pub monitor_silent: bool,
    /// Its boot budget is over, and nothing has answered since it began to boot.
    pub boot_overdue: bool,
    /// Probes whose failure lowers the state; `None`: all services.
    pub required: Option<&'a [ProbeName]>,
    /// False while this manager has not listened for long enough itself.
    pub may_judge_silence: bool,
    /// What is recorded of it.
    pub told: &'a [Fault],
}

impl GuestInputs<'_> {
    /// Returns how a service fails, as it is told.
    fn told_of(&self, probe: &ProbeName) -> Option<String> {
        let is_its = |fault: &&Fault| matches!(fault.top(), Cause::Service(name) if name == probe.as_str());
        self.told.iter().find(is_its).map(|fault| fault.detail.clone())
    }
}

/// How the guest is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum GuestState {
    /// Nothing speaks against it.
    #[default]
    Well,
    /// Something of it does not work.
    Degraded,
    /// It executes and makes no progress.
    Hung,
}

/// What the probes say together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct GuestJudgement {
    /// How it is.
    pub state: GuestState,
    /// What lowers the state.
    pub faults: Vec<Fault>,
    /// What does not.
    pub notes: Vec<Fault>,
    /// Why, for people.
    pub reason: String,
    /// A failure is under way that is not confirmed yet: look again soon.
    pub suspicious: bool,
}

/// What kind of evidence a probe gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Weak: firewalls drop it.
    Ping,
    /// Positive proof of a living guest, and by itself nothing more.
    Agent,
    /// What users use.
    Service,
}

/// Returns what kind of evidence a probe gives.
pub(crate) fn class(probe: &ProbeName) -> Class {
    match probe.as_str() {
        "ping" => Class::Ping,
        "guest-agent" => Class::Agent,
        _ => Class::Service,
    }
}

/// What the observers of one probe say together.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Standing {
    /// At least one of them sees it work.
    Alive,
    /// It answers, and says itself that it is not well.
    Unwell(String),
    /// All see it fail, not yet often enough.
    Failing,
    /// It refuses, accepts and is silent, or another machine answers, as all see.
    Broken(String),
    /// It has been silent for all, for long enough.
    Silent,
}

fn standing(checks: &[&Check<'_>]) -> Standing {
    if checks.iter().any(|c| c.outcome == Outcome::Up) {
        return Standing::Alive;
    }
    let two = checks.iter().any(|c| c.from != checks[0].from);
    if let Some(c) = checks.iter().find(|c| c.outcome == Outcome::Degraded) {
        return if two { Standing::Unwell(c.reason.to_owned()) } else { Standing::Failing };
    }
    let all = |reason: &str| checks.iter().all(|c| c.reason == reason);
    if all("closed") && (two || checks[0].failures >= LONE_REFUSALS) {
        return Standing::Broken("closed".to_owned());
    }
    if two && (all("wedged") || all("broken") || all("identity")) {
        return Standing::Broken(checks[0].reason.to_owned());
    }
    if two && checks.iter().all(|c| c.is_silent()) {
        return Standing::Silent;
    }
    Standing::Failing
}

/// What the guest agent shows, where it was ever heard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agent {
    NeverHeard,
    Alive,
    Failing,
    Silent,
}

fn agent(counted: &[&Check<'_>]) -> Agent {
    let mut checks = counted.iter().filter(|c| class(c.probe) == Class::Agent).peekable();
    if checks.peek().is_none() {
        return Agent::NeverHeard;
    }
    // The watcher on its node reaches it over the local bridge: where there is one, its word is enough.
    let (mut alive, mut local, mut remote) = (false, None, true);
    for check in checks {
        alive |= check.is_alive();
        if check.local {
            local = Some(local.unwrap_or(true) && check.failures >= AGENT_FAILURES);
        } else {
            remote &= check.failures >= check.needed;
        }
    }
    match (alive, local.unwrap_or(remote)) {
        (true, _) => Agent::Alive,
        (false, true) => Agent::Silent,
        (false, false) => Agent::Failing,
    }
}

/// Returns the fault of a guest that hangs, if that can be said: silent where its node's watcher looks, its agent silent
/// where that was ever heard, its port connected, and its counters stuck.
fn hang(counted: &[&Check<'_>], agent: Agent, inputs: &GuestInputs<'_>) -> Option<Fault> {
    if inputs.service_link_down || counted.iter().any(|c| c.is_alive()) {
        return None;
    }
    let mut local = counted.iter().filter(|c| c.local && class(c.probe) != Class::Agent).peekable();
    let services = counted.iter().any(|c| c.local && class(c.probe) == Class::Service);
    let telling = match agent {
        Agent::Alive | Agent::Failing => return None,
        Agent::Silent => true,
        Agent::NeverHeard => services,
    };
    // A guest of which only the agent was ever heard has nothing else to be silent.
    let silent = (local.peek().is_some() && local.all(|c| c.is_silent())) || (agent == Agent::Silent && !services);
    if !telling || !silent {
        return None;
    }
    if inputs.monitor_silent {
        return Some(
            Fault::weighed(&[(Cause::VmProcess, 60), (Cause::GuestOs, 40)]).with_detail("monitor and guest silent"),
        );
    }
    if inputs.boot_overdue {
        return Some(Fault::sure(Cause::GuestOs).with_detail("boot overdue"));
    }
    inputs.progress.is_stuck().then(|| Fault::sure(Cause::GuestOs).with_detail(inputs.progress.as_str()))
}

/// Returns what the checks say of a guest that executes.
pub(crate) fn judge_guest(inputs: &GuestInputs<'_>) -> GuestJudgement {
    // Only what has worked before counts against the VM; only healthy observers are believed about failures.
    let counts = |c: &&Check<'_>| c.proven && c.outcome != Outcome::Unknown && (c.healthy || c.outcome == Outcome::Up);
    let counted: Vec<&Check<'_>> = inputs.checks.iter().filter(counts).collect();
    let mut groups: BTreeMap<(Network, &ProbeName), Vec<&Check<'_>>> = BTreeMap::new();
    for check in &counted {
        groups.entry((check.network, check.probe)).or_default().push(check);
    }
    let agent = agent(&counted);
    let mut out = GuestJudgement::default();
    if inputs.may_judge_silence
        && let Some(fault) = hang(&counted, agent, inputs)
    {
        out.state = GuestState::Hung;
        out.reason = format!("it is silent to the watcher on its own node, and does not get on ({})", fault.detail);
        out.faults.push(fault);
        return out;
    }
    let required = |probe: &ProbeName| inputs.required.is_none_or(|names| names.contains(probe));
    if inputs.service_link_down {
        out.faults.push(Fault::sure(Cause::VmNic).with_detail("no link"));
        out.reason = "its port on the service network has no link".to_owned();
    }
    let mut alive_on_service = false;
    let mut silent = Vec::new();
    let mut broken = Vec::new();
    for ((network, probe), group) in &groups {
        let class = class(probe);
        match standing(group) {
            Standing::Alive => alive_on_service |= class != Class::Agent && *network == Network::Service,
            Standing::Unwell(reason) if class == Class::Service => {
                alive_on_service |= *network == Network::Service;
                broken.push((*probe, reason));
            }
            Standing::Unwell(_) => {}
            Standing::Failing if class == Class::Service => {
                out.suspicious = true;
                // What is told of it stays so until somebody sees it work: one that is being started again is wedged for
                // one watcher and closed for the other, and well for none.
                if let Some(reason) = inputs.told_of(probe) {
                    alive_on_service |= *network == Network::Service && group.iter().any(|c| c.is_answer());
                    broken.push((*probe, reason));
                }
            }
            Standing::Failing => {}
            Standing::Broken(reason) => match class {
                Class::Service => {
                    alive_on_service |= *network == Network::Service && reason != "identity";
                    broken.push((*probe, reason));
                }
                Class::Agent | Class::Ping => {}
            },
            Standing::Silent if !inputs.may_judge_silence => out.suspicious = true,
            Standing::Silent => match class {
                Class::Agent => {}
                Class::Ping | Class::Service => silent.push((*network, *probe, class, group)),
            },
        }
    }
    if agent == Agent::Silent {
        out.notes.push(Fault::sure(Cause::GuestAgent).with_detail("silent"));
    }
    if !inputs.service_link_down {
        let ping_alone = broken.is_empty() && !silent.iter().any(|(_, _, class, _)| *class == Class::Service);
        let services: Vec<_> = silent.iter().filter(|(_, _, class, _)| *class == Class::Service).collect();
        if alive_on_service {
            for (_, probe, _, _) in &services {
                let fault = Fault::sure(Cause::Service(probe.to_string())).with_detail("silent");
                if required(probe) { out.faults.push(fault) } else { out.notes.push(fault) }
            }
        } else if !services.is_empty() {
            let lasted = services.iter().all(|(.., group)| group.iter().all(|c| c.silent_for >= COUNTERS_SETTLE));
            if lasted || agent == Agent::Alive {
                out.faults.push(nic_or_guest(inputs, agent));
                out.reason = "it executes, and nothing of it answers on the service network, from its node or from \
                              another"
                    .to_owned();
            } else {
                out.suspicious = true;
            }
        } else if ping_alone && silent.iter().any(|(_, _, class, _)| *class == Class::Ping) {
            out.notes.push(Fault::weighed(&[(Cause::VmNic, 50), (Cause::GuestOs, 50)]).with_detail("ping silent"));
        }
    }
    for (probe, reason) in broken {
        let fault = Fault::sure(Cause::Service(probe.to_string())).with_detail(&reason);
        if !required(probe) {
            out.notes.push(fault);
            continue;
        }
        if out.reason.is_empty() {
            out.reason = format!("its {probe} service is {reason}");
        }
        out.faults.push(fault);
    }
    if out.reason.is_empty()
        && let Some(fault) = out.faults.first()
    {
        out.reason = format!("{fault}, while other probes see it");
    }
    if !out.faults.is_empty() {
        out.state = GuestState::Degraded;
    }
    out
}

/// Returns what a guest's silence on all its service network comes from: its card, where it is known to get on.
fn nic_or_guest(inputs: &GuestInputs<'_>, agent: Agent) -> Fault {
    let scores = match (agent, inputs.progress) {
        (Agent::Alive, _) => [(Cause::VmNic, 85), (Cause::GuestOs, 15)],
        (_, Progress::Working) => [(Cause::VmNic, 70), (Cause::GuestOs, 30)],
        (_, Progress::Still | Progress::Spinning) => [(Cause::GuestOs, 60), (Cause::VmNic, 40)],
        (_, Progress::Unknown) => [(Cause::GuestOs, 50), (Cause::VmNic, 50)],
    };
    Fault::weighed(&scores).with_detail("silent")
}

#[cfg(test)]
mod tests;
