//! Exit codes, and the one report of what went wrong.
//!
//! `vouch probe run` ends with what the probe found, 10 to 13 for what is not up: nothing went wrong then, and nothing
//! is reported besides.

use std::io::Write;
use std::process::ExitCode;

use vouch_manager::api::{Problem, ProblemKind};

/// Exit codes, documented in `vouch --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Failed.
    Failed,
    /// The command line is wrong, as clap says it as well.
    Usage,
    /// Not found.
    NotFound,
    /// No leader, no quorum, or no manager can be reached.
    Unavailable,
    /// Token or role.
    Denied,
    /// A probe found its target degraded.
    Degraded,
    /// A probe could not tell.
    Unknown,
    /// A probe found its target down.
    Down,
    /// A probe could not be run to its end.
    Fault,
    /// Storage error of a manager (sysexits EX_IOERR).
    Storage,
    /// The configuration is wrong (sysexits EX_CONFIG).
    Config,
}

impl Exit {
    /// Returns the number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Unavailable => 4,
            Self::Denied => 5,
            Self::Degraded => 10,
            Self::Unknown => 11,
            Self::Down => 12,
            Self::Fault => 13,
            Self::Storage => 74,
            Self::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What went wrong, with its exit code.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// What, with all its causes.
    pub error: anyhow::Error,
    /// The type of the problem that a manager answered with, if it did.
    pub problem: Option<String>,
}

impl CliError {
    /// Returns the error with this exit code.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), problem: None }
    }

    /// Returns an error of this text with this exit code.
    pub fn text(exit: Exit, text: impl std::fmt::Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{text}"), problem: None }
    }

    /// Returns the error with one more line on what to do.
    #[must_use]
    pub fn with_more(self, more: &str) -> Self {
        let text = format!("{:#}\n{more}", self.error);
        Self { problem: self.problem, ..Self::text(self.exit, text) }
    }

    /// Returns the error as the answer of a manager.
    #[must_use]
    pub fn of_problem(self, problem: &Problem) -> Self {
        Self { problem: Some(problem.problem_type.clone()), ..self }
    }

    /// Returns whether a manager answered with a problem of this kind.
    pub fn is(&self, kind: ProblemKind) -> bool {
        self.problem.as_deref().and_then(|told| told.strip_prefix("/problems/")) == Some(kind.parts().0)
    }

    /// Prints the whole chain once, one line each, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        // The reader of standard error may be gone; the exit code still says it.
        let _ = std::io::stderr().write_all(self.render().as_bytes());
        self.exit.into()
    }

    /// Returns the report.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut last = String::new();
        for (depth, cause) in self.error.chain().enumerate() {
            let line = cause.to_string();
            // Transparent errors say what their source says.
            if line == last {
                continue;
            }
            let head = if depth == 0 { "vouch: " } else { "  because: " };
            text.push_str(&format!("{head}{}\n", line.trim_end().replace('\n', "\n    ")));
            last = line;
        }
        text
    }
}

impl<E: Into<anyhow::Error>> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::new(Exit::Failed, error)
    }
}
