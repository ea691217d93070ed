//! Processes that outlive the agent: started in a session of their own, known by pid and start time, watched by pidfd.
//!
//! After a restart of the agent they are no children of it any more, so nothing here relies on `wait`. A pid alone
//! must never be signalled: it may belong to another process by now, so the start time is checked first.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use vouch_types::BootId;

/// A process, by what no other one of this boot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its pid.
    pub pid: i32,
    /// When it was started, in clock ticks since the boot (`/proc/PID/stat`, field 22).
    pub started: u64,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Niceness to add, 0 to 19.
    pub nice: u8,
}

/// Returns whether the command line of any live process mentions `path`; also when the processes cannot be listed,
/// because the caller wants to know that there is none.
pub fn any_mentions(path: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return true };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(ProcessIdentity::of).any(|process| process.mentions(path))
}

impl ProcessIdentity {
    /// Returns the identity of the live process with this pid; `None` when there is none or it is a zombie.
    ///
    /// It lives until the last of its threads has ended: a hypervisor whose first thread is a zombie may still write to
    /// the VM's disk from another one.
    pub fn of(pid: i32) -> Option<Self> {
        Self::read(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads a line of `/proc/PID/stat` (proc(5)).
    fn read(pid: i32, stat: &str) -> Option<Self> {
        // The second field is the name in brackets and may hold anything, so count from its end: the state comes first,
        // then the number of threads as the 17th after it, the first thread among them until it is reaped.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let threads: u32 = fields.get(17)?.parse().ok()?;
        if matches!(*fields.first()?, "Z" | "X") && threads <= 1 {
            return None;
        }
        Some(Self { pid, started: fields.get(19)?.parse().ok()? })
    }

    /// Returns whether this very process is alive.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Returns whether its command line mentions `path`.
    pub fn mentions(&self, path: &Path) -> bool {
        let needle = path.as_os_str().as_encoded_bytes();
        !needle.is_empty() && self.command_line().windows(needle.len()).any(|w| w == needle)
    }

    /// Returns its command line, as any of its threads that still executes tells it: one that has ended tells none.
    fn command_line(&self) -> Vec<u8> {
        let of = |path: PathBuf| std::fs::read(path.join("cmdline")).ok().filter(|line| !line.is_empty());
        let process = PathBuf::from(format!("/proc/{}", self.pid));
        let threads = || std::fs::read_dir(process.join("task")).into_iter().flatten().flatten();
        of(process.clone()).or_else(|| threads().find_map(|thread| of(thread.path()))).unwrap_or_default()
    }

    fn open(&self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        let pid = Pid::from_raw(self.pid).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The descriptor holds the process, so a check after the opening cannot be overtaken by a reused pid.
            Ok(fd) => Ok(self.is_alive().then_some(fd)),
            Err(Errno::SRCH) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Kills it (SIGKILL). Does nothing when it is gone already.
    ///
    /// # Errors
    /// What the system said.
    pub fn kill(&self) -> io::Result<()> {
        match self.open()? {
            Some(fd) => match pidfd_send_signal(&fd, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => Ok(()),
                Err(e) => Err(e.into()),
            },
            None => Ok(()),
        }
    }

    /// Returns once it has ended, at once when it has already.
    ///
    /// # Errors
    /// What the system said when it could not be watched.
    #[expect(unsafe_code, reason = "tokio asks for the promise that the descriptor stays what it is")]
    pub async fn exited(self) -> io::Result<()> {
        let Some(fd) = self.open()? else { return Ok(()) };
        // SAFETY: an OwnedFd is one descriptor until it is dropped, and nothing here replaces it.
        let exit = unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) };
        exit.map_err(io::Error::from)?.readable().await.map(drop)
    }

    /// Returns the CPU time that one of its threads has run, and the time that it waited for a CPU, in nanoseconds
    /// (`/proc/PID/task/TID/schedstat`).
    pub fn thread_times(&self, thread: i32) -> Option<(u64, u64)> {
        let text = std::fs::read_to_string(format!("/proc/{}/task/{thread}/schedstat", self.pid)).ok()?;
        let mut fields = text.split_ascii_whitespace().map(str::parse);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    }
}

/// Starts a program in a session of its own, in the folder `dir`, its output appended to `dir/output.log`.
///
/// # Errors
/// What the system said.
#[expect(unsafe_code, reason = "setsid and nice have to happen between fork and exec")]
pub fn spawn_detached(launch: &Launch, dir: &Path) -> io::Result<ProcessIdentity> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("output.log"))?;
    let mut command = tokio::process::Command::new(&launch.program);
    command.args(&launch.args).current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let nice = i32::from(launch.nice);
    // SAFETY: setsid and nice are plain system calls; nothing is allocated and no lock is taken in the child.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            if nice > 0 {
                rustix::process::nice(nice)?;
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    let gone = || io::Error::other("it ended at once");
    let pid = child.id().and_then(|p| i32::try_from(p).ok()).ok_or_else(gone)?;
    let identity = ProcessIdentity::of(pid);
    if launch.nice > 0 {
        lower_session(pid, launch.nice);
    }
    // While the agent lives it is the parent and has to reap; the pidfd tells the exit.
    tokio::spawn(async move { child.wait().await });
    identity.ok_or_else(gone)
}

/// Gives a process's whole session this niceness where the kernel groups sessions (sched(7), autogroup): there, the
/// niceness of a process counts only within its session, and every machine has a session of its own.
fn lower_session(pid: i32, nice: u8) {
    let path = format!("/proc/{pid}/autogroup");
    match std::fs::write(&path, nice.to_string()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path, error = %e, "niceness counts only within the session of the process");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Returns the id of this boot of the operating system.
///
/// # Errors
/// What the system said.
pub fn boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    text.trim().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_the_last_of_its_threads_has_ended() {
        let stat = |state: char, threads: u32| {
            format!("7 (a) b) {state} 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 99 8192 3\n")
        };
        let alive = Some(ProcessIdentity { pid: 7, started: 99 });
        assert_eq!(ProcessIdentity::read(7, &stat('S', 1)), alive);
        assert_eq!(ProcessIdentity::read(7, &stat('Z', 2)), alive, "another thread may still write to the disk");
        assert_eq!(ProcessIdentity::read(7, &stat('Z', 1)), None);
        assert_eq!(ProcessIdentity::read(7, &stat('X', 0)), None);
    }

    #[tokio::test]
    async fn niceness_counts_for_the_whole_session() {
        let dir = tempfile::tempdir().unwrap();
        let process = spawn_detached(&sleep(), dir.path()).unwrap();
        let group = std::fs::read_to_string(format!("/proc/{}/autogroup", process.pid));
        process.kill().unwrap();
        // A kernel without autogroups has no such file, and the niceness of the process is all that counts.
        assert!(group.is_err() || group.as_ref().is_ok_and(|g| g.trim_end().ends_with("nice 3")), "{group:?}");
    }

    fn sleep() -> Launch {
        Launch { program: "sleep".into(), args: vec!["600".into()], nice: 3 }
    }

    #[tokio::test]
    async fn a_detached_process_leads_its_own_session_and_its_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let process = spawn_detached(&sleep(), dir.path()).unwrap();
        assert!(process.is_alive());
        let session = rustix::process::getsid(Pid::from_raw(process.pid)).unwrap();
        assert_eq!(session.as_raw_nonzero().get(), process.pid, "a signal to the agent's session misses it");
        let watch = tokio::spawn(process.exited());
        process.kill().unwrap();
        watch.await.unwrap().unwrap();
        process.exited().await.unwrap();
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_process() {
        let me = ProcessIdentity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        let other = ProcessIdentity { started: me.started + 1, ..me };
        assert!(!other.is_alive());
        other.kill().unwrap();
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch { program: "/nonexistent/qemu".into(), ..sleep() };
        assert_eq!(spawn_detached(&launch, dir.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
