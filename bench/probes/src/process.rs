//! What a process has taken of the machine, as the kernel tells it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Ticks of a second in `/proc/PID/stat` (USER_HZ), the same on every architecture that Debian has.
const TICKS: u64 = 100;
/// Fields of `/proc/PID/stat` after the name of the program: user and system time, its own and that of children that it
/// has waited for (proc(5): fields 14 to 17, of which two come before).
const OWN: [usize; 2] = [11, 12];
const CHILDREN: [usize; 2] = [13, 14];

/// Returns the processor time of this process, user and system, of all its threads.
pub(crate) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Returns the processor time of another process, user and system, to a hundredth of a second.
///
/// # Errors
/// When it is gone.
pub(crate) fn cpu_of(process: u32) -> Result<Duration> {
    ticks(&format!("/proc/{process}/stat"), OWN)
}

/// Returns the processor time of the children that this process has waited for, to a hundredth of a second.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn cpu_of_children() -> Result<Duration> {
    ticks("/proc/self/stat", CHILDREN)
}

fn ticks(path: &str, fields: [usize; 2]) -> Result<Duration> {
    let stat = fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    let (_, told) = stat.rsplit_once(')').with_context(|| format!("{path} has no name"))?;
    let told: Vec<&str> = told.split_whitespace().collect();
    let mut sum = 0;
    for field in fields {
        let text = told.get(field).with_context(|| format!("{path} is too short"))?;
        sum += text.parse::<u64>().with_context(|| format!("{path} tells {text:?}"))?;
    }
    Ok(Duration::from_millis(sum * 1000 / TICKS))
}

/// Returns the most memory that a process had resident so far, in KiB; `None` for this process is its own.
///
/// # Errors
/// When it is gone.
pub(crate) fn peak_kib(process: Option<u32>) -> Result<u64> {
    let path = format!("/proc/{}/status", process.map_or("self".to_owned(), |process| process.to_string()));
    let status = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    number.with_context(|| format!("{path} tells no peak"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_ask_for_the_time_of_this_process_agree() {
        while own_cpu() < Duration::from_millis(50) {
            std::hint::black_box(fs::read_to_string("/proc/self/stat").unwrap());
        }
        let (before, told, after) = (own_cpu(), cpu_of(std::process::id()).unwrap(), own_cpu());
        let tick = Duration::from_millis(1000 / TICKS);
        assert!(before.saturating_sub(2 * tick) <= told && told <= after + 2 * tick, "{before:?} {told:?} {after:?}");
    }

    #[test]
    fn a_process_that_is_gone_is_told_and_one_that_is_there_has_memory() {
        assert!(cpu_of(u32::MAX).unwrap_err().to_string().contains("/proc/4294967295/stat"));
        assert!(peak_kib(None).unwrap() > 0);
    }
}
