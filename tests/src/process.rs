//! Processes that a test starts, stops, freezes and kills; each writes its log to a file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// One process of a test. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command; its output and errors go to `NAME.log` in the folder, behind what is there already.
    ///
    /// # Errors
    /// Fails if the log can't be opened or the program can't be started.
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("can't open {}", log.display()))?;
        let errors = file.try_clone().with_context(|| format!("can't open {} twice", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("can't start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Returns the name that the test gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its process id. It is the program's own even in a namespace, since `ip netns exec` becomes the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns all that it has written so far.
    ///
    /// # Errors
    /// Fails if the log can't be read.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("can't read {}", self.log.display()))
    }

    /// Returns how it ended, or `None` while it runs.
    ///
    /// # Errors
    /// Fails if the kernel can't be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("can't ask for {}", self.name))
    }

    /// Fails with the end of its log if it has ended.
    ///
    /// # Errors
    /// Fails if it doesn't run any more.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended by itself with {status}; its log ends with:\n{}", self.name, self.log_end())
            }
        }
    }

    /// Kills it as a crash would (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// Fails if it can't be killed.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.child.kill().with_context(|| format!("can't kill {}", self.name))?;
        self.child.wait().map(drop).with_context(|| format!("can't wait for {}", self.name))
    }

    /// Asks it to end (SIGTERM) and returns how it did.
    ///
    /// # Errors
    /// Fails if it doesn't end within the limit.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let name = self.name.clone();
        let (status, _) = wait::until(format!("{name} has ended"), limit, || self.ended().ok().flatten())?;
        Ok(status)
    }

    /// Stops it from running without ending it (SIGSTOP): a hung process.
    ///
    /// # Errors
    /// Fails if it is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen one run on (SIGCONT).
    ///
    /// # Errors
    /// Fails if it is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = pid(self.child.id())?;
        kill_process(pid, signal).with_context(|| format!("can't send {signal:?} to {}", self.name))
    }

    fn log_end(&self) -> String {
        let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Kills a process that is not a child of the test (a guest's QEMU, for example) and waits until it is gone.
///
/// # Errors
/// Fails if it can't be killed or stays.
pub fn kill_by_pid(number: u32) -> Result<()> {
    kill_process(pid(number)?, Signal::KILL).with_context(|| format!("can't kill process {number}"))?;
    wait::until(format!("process {number} is gone"), GONE, || is_gone(number).then_some(()))?;
    Ok(())
}

/// Asks a process that is not a child of the test to end (SIGTERM) and waits until it is gone.
///
/// # Errors
/// Fails if it can't be asked or stays longer than the limit.
pub fn stop_by_pid(number: u32, limit: Duration) -> Result<()> {
    kill_process(pid(number)?, Signal::TERM).with_context(|| format!("can't stop process {number}"))?;
    wait::until(format!("process {number} is gone"), limit, || is_gone(number).then_some(()))?;
    Ok(())
}

/// Stops a process that is not a child of the test from running without ending it (SIGSTOP): a hung process.
///
/// # Errors
/// Fails if it is gone.
pub fn freeze_by_pid(number: u32) -> Result<()> {
    kill_process(pid(number)?, Signal::STOP).with_context(|| format!("can't stop process {number}"))
}

/// Lets a frozen one run on (SIGCONT).
///
/// # Errors
/// Fails if it is gone.
pub fn thaw_by_pid(number: u32) -> Result<()> {
    kill_process(pid(number)?, Signal::CONT).with_context(|| format!("process {number} can't go on"))
}

/// Returns true if no such process executes any more; one that nobody has reaped yet counts as gone.
///
/// A process whose first thread has ended is a zombie to look at while others of its threads are still ending, and hold
/// its files and sockets: it is gone with the last of them.
pub fn is_gone(number: u32) -> bool {
    fs::read_to_string(format!("/proc/{number}/stat")).map_or(true, |stat| is_over(&stat))
}

/// Returns whether a line of `/proc/PID/stat` (proc(5)) is of a process with no thread that executes.
fn is_over(stat: &str) -> bool {
    // The state is the third field, behind the name, which is in brackets and may hold anything; the twentieth is how
    // many threads there are, the first one among them until it is reaped.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let threads = rest.split_whitespace().nth(17).and_then(|count| count.parse::<u32>().ok());
    rest.starts_with(['Z', 'X']) && threads.is_none_or(|count| count <= 1)
}

pub(crate) fn pid(number: u32) -> Result<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw).with_context(|| format!("{number} is no process id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_gone_with_the_last_of_its_threads_and_not_with_the_first() {
        let stat = |state: char, threads: u32| {
            format!("7 (a) (b) Z) {state} 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 99 0 0")
        };
        assert!(!is_over(&stat('S', 9)));
        assert!(!is_over(&stat('Z', 2)), "its sockets are still bound");
        assert!(is_over(&stat('Z', 1)) && is_over(&stat('X', 0)));
        let own = fs::read_to_string("/proc/self/stat").expect("this process");
        assert!(!is_over(&own) && !is_gone(std::process::id()));
    }

    #[test]
    fn a_killed_process_is_gone_and_its_log_stays() {
        let logs = tempfile::tempdir().expect("a folder");
        let mut process =
            Process::start("talker", Command::new("sh").args(["-c", "echo hello; exec sleep 600"]), logs.path())
                .expect("a shell");
        wait::until("it has spoken", GONE, || process.log().ok().filter(|log| log == "hello\n")).expect("its word");
        process.must_run().expect("it sleeps");
        let number = process.pid();
        process.kill().expect("it can be killed");
        assert!(is_gone(number));
        assert!(process.must_run().expect_err("it is dead").to_string().contains("hello"));
    }

    #[test]
    fn a_frozen_process_does_nothing_until_it_is_thawed() {
        let logs = tempfile::tempdir().expect("a folder");
        let process = Process::start(
            "ticker",
            Command::new("sh").args(["-c", "while :; do echo t; sleep 0.01; done"]),
            logs.path(),
        )
        .expect("a shell");
        let ticks = || process.log().expect("a log").len();
        wait::until("it ticks", GONE, || (ticks() > 0).then_some(())).expect("a tick");
        process.freeze().expect("it runs");
        let state = || fs::read_to_string(format!("/proc/{}/stat", process.pid())).expect("it is there");
        wait::until("it is frozen", GONE, || state().contains(") T ").then_some(())).expect("the state");
        let before = ticks();
        wait::while_for(Duration::from_millis(100), || if ticks() == before { Ok(()) } else { Err("it ticked") })
            .expect("no tick while frozen");
        process.thaw().expect("it is there");
        wait::until("it ticks again", GONE, || (ticks() > before).then_some(())).expect("a tick");
    }
}
