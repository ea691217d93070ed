//! Running `ip`, `tc` and `nft`: a failure names the command and what it said.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `ip` with words that are separated by blanks.
pub(super) fn ip(words: &str) -> Result<String> {
    output(Command::new("ip").args(words.split_whitespace()))
}

/// Runs several commands of `ip` in one namespace at once, one per line: much faster than one process for each.
pub(super) fn ip_batch(namespace: &str, lines: &str) -> Result<()> {
    feed(Command::new("ip").args(["-n", namespace, "-batch", "-"]), lines)
}

/// Runs commands of `tc` in a namespace, one per line.
pub(super) fn tc_batch(namespace: &str, lines: &str) -> Result<()> {
    feed(Command::new("tc").args(["-n", namespace, "-batch", "-"]), lines)
}

/// Runs commands of `nft` in a namespace, all or none of them.
pub(super) fn nft(namespace: &str, lines: &str) -> Result<()> {
    feed(Command::new("ip").args(["netns", "exec", namespace, "nft", "-f", "-"]), lines)
}

fn output(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("can't start {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn feed(command: &mut Command, lines: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start {command:?}"))?;
    // The program may refuse the first line and be gone before it has read the rest: its message says more than the pipe.
    let fed = child.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, lines.as_bytes()));
    let done = child.wait_with_output().with_context(|| format!("can't wait for {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?} failed on\n{lines}\n{}", String::from_utf8_lossy(&done.stderr).trim());
    }
    fed.transpose().map(drop).with_context(|| format!("can't write to {command:?}"))
}
