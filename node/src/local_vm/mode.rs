//! What a local VM is told to do, and what it then does. Pure.

use vouch_types::{HypervisorState, Operation, PauseReason, Progress};

use crate::local_word::LocalWord;

/// What the control socket takes, one word per line; each is answered with `ok` or `error: ...`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `stop-rdp`: the port is closed.
    StopRdp,
    /// `start-rdp`: the port serves again.
    StartRdp,
    /// `wedge-rdp`: the port accepts and never answers.
    WedgeRdp,
    /// `stop-agent`: the guest agent is silent.
    StopAgent,
    /// `start-agent`: it answers again.
    StartAgent,
    /// `hang`: RDP and agent are silent, the vCPUs are halted, and the process lives on.
    Hang,
    /// `spin`: as `hang`, and the vCPUs use all the time that there is.
    Spin,
    /// `pause`: an operator has stopped the vCPUs.
    Pause,
    /// `io-error`: they are stopped because a disk has failed.
    IoError,
    /// `crash`: its kernel has panicked, and the process stands.
    Crash,
    /// `reboot`: it was reset and has not come up yet; `resume` brings it up.
    Reboot,
    /// `never-boots`: after `reboot`, it executes and nothing of it comes up.
    NeverBoots,
    /// `lose-monitor`: it works, and the node cannot ask anybody about it; `resume` ends that.
    LoseMonitor,
    /// `migrate`: a migration of it begins.
    Migrate,
    /// `snapshot`: a snapshot of it begins.
    Snapshot,
    /// `freeze`: its file systems are frozen.
    Freeze,
    /// `end-operation`: the migration, snapshot or freeze is over.
    EndOperation,
    /// `resume`: everything works again.
    Resume,
    /// `shutdown`: it ends as a guest that was shut down.
    Shutdown,
    /// `panic`: it ends as a guest whose kernel panicked.
    Panic,
}

impl Command {
    /// Returns the command of a line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        Some(match line.trim() {
            "stop-rdp" => Self::StopRdp,
            "start-rdp" => Self::StartRdp,
            "wedge-rdp" => Self::WedgeRdp,
            "stop-agent" => Self::StopAgent,
            "start-agent" => Self::StartAgent,
            "hang" => Self::Hang,
            "spin" => Self::Spin,
            "pause" => Self::Pause,
            "io-error" => Self::IoError,
            "crash" => Self::Crash,
            "reboot" => Self::Reboot,
            "never-boots" => Self::NeverBoots,
            "lose-monitor" => Self::LoseMonitor,
            "migrate" => Self::Migrate,
            "snapshot" => Self::Snapshot,
            "freeze" => Self::Freeze,
            "end-operation" => Self::EndOperation,
            "resume" => Self::Resume,
            "shutdown" => Self::Shutdown,
            "panic" => Self::Panic,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rdp {
    Serving,
    Wedged,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agent {
    Serving,
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    ShutDown,
    Panicked,
}

/// What it does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) rdp: Rdp,
    pub(super) agent: Agent,
    pub(super) life: Life,
    /// What a hypervisor would say of it.
    pub(super) word: LocalWord,
}

impl Mode {
    /// Everything works.
    pub(super) const WELL: Self = Self {
        rdp: Rdp::Serving,
        agent: Agent::Serving,
        life: Life::Running,
        word: LocalWord { state: HypervisorState::Running, progress: Progress::Working, operation: None },
    };

    /// Returns what it does after a command.
    pub(super) fn after(self, command: Command) -> Self {
        match command {
            Command::StopRdp => Self { rdp: Rdp::Closed, ..self },
            Command::StartRdp => Self { rdp: Rdp::Serving, ..self },
            Command::WedgeRdp => Self { rdp: Rdp::Wedged, ..self },
            Command::StopAgent => Self { agent: Agent::Silent, ..self },
            Command::StartAgent => Self { agent: Agent::Serving, ..self },
            Command::Hang => self.silent(HypervisorState::Running, Progress::Still),
            Command::Spin => self.silent(HypervisorState::Running, Progress::Spinning),
            Command::Pause => self.stopped(HypervisorState::Paused(PauseReason::Operator)),
            Command::IoError => self.stopped(HypervisorState::Paused(PauseReason::IoError)),
            Command::Crash => self.stopped(HypervisorState::Panicked),
            Command::Reboot => Self { rdp: Rdp::Closed, ..self.stopped(HypervisorState::Rebooting) },
            Command::NeverBoots => {
                Self { rdp: Rdp::Closed, ..self.silent(HypervisorState::Running, Progress::Working) }
            }
            Command::LoseMonitor => Self {
                word: LocalWord { state: HypervisorState::Unknown, progress: Progress::Unknown, operation: None },
                ..self
            },
            Command::Migrate => self.under(Some(Operation::Migration)),
            Command::Snapshot => self.under(Some(Operation::Snapshot)),
            Command::Freeze => self.under(Some(Operation::FsFreeze)),
            Command::EndOperation => self.under(None),
            Command::Resume => Self::WELL,
            Command::Shutdown => Self { life: Life::ShutDown, ..self },
            Command::Panic => Self { life: Life::Panicked, ..self },
        }
    }

    /// A guest that answers nobody. Connections are still accepted: that is the kernel's part, and it is this host's.
    fn silent(self, state: HypervisorState, progress: Progress) -> Self {
        Self { rdp: Rdp::Wedged, agent: Agent::Silent, word: LocalWord { state, progress, ..self.word }, ..self }
    }

    fn stopped(self, state: HypervisorState) -> Self {
        self.silent(state, Progress::Unknown)
    }

    fn under(self, operation: Option<Operation>) -> Self {
        Self { word: LocalWord { operation, ..self.word }, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_changes_what_it_names_and_resume_makes_all_well() {
        let after = |words: &[&str]| words.iter().fold(Mode::WELL, |m, w| m.after(Command::parse(w).unwrap()));
        assert_eq!(after(&["hang"]).word.progress, Progress::Still);
        assert_eq!((after(&["spin"]).rdp, after(&["spin"]).word.progress), (Rdp::Wedged, Progress::Spinning));
        assert_eq!(after(&["io-error"]).word.state, HypervisorState::Paused(PauseReason::IoError));
        assert_eq!(after(&["crash"]).word.state, HypervisorState::Panicked);
        assert_eq!((after(&["reboot"]).rdp, after(&["reboot"]).word.state), (Rdp::Closed, HypervisorState::Rebooting));
        let unseen = after(&["lose-monitor"]);
        assert_eq!((unseen.rdp, unseen.word.state), (Rdp::Serving, HypervisorState::Unknown));
        let stuck = after(&["reboot", "never-boots"]);
        assert_eq!((stuck.agent, stuck.word.state), (Agent::Silent, HypervisorState::Running));
        let frozen = after(&["stop-rdp", "freeze"]);
        assert_eq!((frozen.rdp, frozen.word.operation), (Rdp::Closed, Some(Operation::FsFreeze)));
        assert_eq!(after(&["migrate", "end-operation"]), Mode::WELL);
        for word in ["hang", "spin", "pause", "io-error", "crash", "reboot", "snapshot", "stop-agent", "wedge-rdp"] {
            assert_eq!(after(&[word, "resume"]), Mode::WELL, "{word}");
        }
    }
}
