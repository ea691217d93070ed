//! fping from Debian, over the same targets.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::measured::Measured;
use crate::process::cpu_of_children;
use crate::targets::{TARGETS, address};

/// How often each target is asked.
const PERIOD: Duration = Duration::from_millis(50);

/// How often one process asks each target at most: it takes a number for each request, of which it has 65,535 for the ten
/// seconds for which it remembers them.
const PERIODS_MAX: u128 = 60;

/// The pause that fping keeps between any two requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// None, which root alone may ask for: all targets at once, then nothing until the next period.
    Bursts,
    /// A millisecond, the least that anybody else may have.
    Even,
}

/// Asks every target until the time is up, and returns what that cost.
///
/// # Errors
/// When it fails, or some answers are missing from what it tells.
pub(crate) fn measure(program: &Path, folder: &Path, pace: Pace, lasts: Duration) -> Result<Measured> {
    let list = folder.join("targets");
    let addresses = (0..TARGETS).fold(String::new(), |mut text, number| {
        // Writing into text cannot fail.
        let _ = writeln!(text, "{}", address(number));
        text
    });
    std::fs::write(&list, addresses).with_context(|| format!("{} cannot be written", list.display()))?;
    let round = match pace {
        Pace::Bursts => PERIOD,
        Pace::Even => Duration::from_millis(1) * u32::try_from(TARGETS)?,
    };
    let pause = match pace {
        Pace::Bursts => "0",
        Pace::Even => "1",
    };
    let mut measured = Measured { runs: 0, failed: 0, cpu: Duration::ZERO, peak_kib: None };
    let mut left = (lasts.as_millis() / round.as_millis()).max(1);
    while left > 0 {
        let count = left.min(PERIODS_MAX);
        left -= count;
        let before = cpu_of_children()?;
        let mut command = Command::new(program);
        command
            .args(["-q", "-c", &count.to_string(), "-i", pause, "-p", &round.as_millis().to_string(), "-f"])
            .arg(&list);
        let output = command.stdin(Stdio::null()).output().context("fping cannot be started")?;
        measured.cpu += cpu_of_children()?.saturating_sub(before);
        // It ends with 1 when some target stayed silent, which is counted below.
        ensure!(
            output.status.code().is_some_and(|code| code < 2),
            "fping: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let (sent, received) = counts(line).with_context(|| format!("fping tells {line:?}"))?;
            measured.runs += received;
            measured.failed += sent - received;
        }
    }
    Ok(measured)
}

/// Returns how many requests were sent and answered: `127.1.0.1 : xmt/rcv/%loss = 20/20/0%, min/avg/max = ...`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let (_, told) = line.split_once("xmt/rcv/%loss = ")?;
    let mut numbers = told.split('/');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_a_target_is_read_with_and_without_answers() {
        let line = "127.1.0.250 : xmt/rcv/%loss = 20/19/5%, min/avg/max = 0.011/0.012/0.014";
        assert_eq!(counts(line), Some((20, 19)));
        assert_eq!(counts("127.1.0.250 : xmt/rcv/%loss = 20/0/100%"), Some((20, 0)));
        assert_eq!(counts("ICMP Host Unreachable"), None);
    }
}
