//! The guide for authors of probes, run: every command of `docs/probes.md` in its order, in one shell, in an empty
//! folder.
//!
//! The shell has its own ports and folders. What the guide says before its first block (a checkout that is built) is
//! what this test begins with; the project takes over the versions of this repository and its target folder, so that
//! nothing is fetched a second time, and what was compiled with the same features is not compiled again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vouch_tests::{paths, process::Process, wait};

/// A whole project with the host of probes may have to be compiled on a busy machine.
const LIMIT: Duration = Duration::from_secs(3000);
/// How long the shell may take to end what it started, after it was asked to.
const END: Duration = Duration::from_secs(30);
/// What the shell does first: whatever ends it, nothing that it started stays.
const PROLOGUE: &str =
    "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait || true' EXIT\ntrap 'exit 143' TERM\n";

/// Returns the commands of the `console` blocks of a page: lines that begin with `$ `.
fn commands(page: &str) -> Vec<&str> {
    let blocks = page.split("```console\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")).collect()
}

/// Returns a script of these commands that says each before it runs it.
fn script(commands: &[&str], after_new: &str) -> String {
    let mut script = PROLOGUE.to_owned();
    for command in commands {
        let said = command.replace('\'', r"'\''");
        script += &format!("printf '%s\\n' '$ {said}'\n{command}\n");
        if command.starts_with("vouch probe new ssh-banner") {
            script += after_new;
        }
    }
    script + "printf 'the guide ends\\n'\n"
}

/// The tools of other languages: those on the PATH, else those that `cargo xtask test` fetches below the target folder.
struct Tools {
    path: String,
    zig: Option<String>,
    has_npm: bool,
}

impl Tools {
    fn find(programs: &Path) -> Result<Self> {
        let tools = paths::target().canonicalize()?.join("tools");
        let (python, node) = (tools.join("zig/bin/python"), tools.join("node/bin"));
        let own = paths::program("zig").map(|_| "zig".to_owned());
        let zig = own.or_else(|| python.is_file().then(|| format!("{} -m ziglang", python.display())));
        let has_npm = paths::program("npm").is_some() || node.join("npm").is_file();
        let path = format!("{}:{}:{}", programs.display(), std::env::var("PATH")?, node.display());
        Ok(Self { path, zig, has_npm })
    }

    /// Returns whether a command can be run, and says so if not; in CI nothing may be left out.
    fn has_what_it_takes(&self, command: &str) -> bool {
        let missing = [("c-banner", "zig", self.zig.is_some()), ("js-banner", "npm", self.has_npm)]
            .into_iter()
            .find(|(project, _, is_there)| command.contains(project) && !is_there);
        if let Some((_, tool, _)) = missing {
            paths::leave_out(&format!("guide: {command}"), &format!("there is no {tool}"));
        }
        missing.is_none()
    }
}

fn source() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().context("finding the sources")
}

#[test]
fn every_command_of_the_guide_for_probe_authors_does_what_it_says() -> Result<()> {
    let source = source()?;
    let page = fs::read_to_string(source.join("docs/probes.md"))?;
    let commands = commands(&page);
    for verb in
        ["new", "build", "check", "run", "bench", "push", "grant", "sign", "key", "ls", "show", "rollout", "assign"]
    {
        ensure!(commands.iter().any(|c| c.contains(&format!("vouch probe {verb}"))), "{verb} is not in the guide");
    }
    let vouch = paths::vouch()?.canonicalize()?;
    let programs = vouch.parent().context("the folder of vouch")?;
    ensure!(programs.join("vouch-watcher").is_file(), "vouch-watcher is not there: run `cargo build` first");
    let tools = Tools::find(programs)?;
    let commands: Vec<&str> = commands.into_iter().filter(|command| tools.has_what_it_takes(command)).collect();
    let folder = tempfile::Builder::new().prefix("vg").tempdir_in("/tmp")?;
    let after_new = format!(
        // A run that did not come to its end left a signature of another component.
        "ln -s '{}' ssh-banner/target\ncp '{}' ssh-banner/\nrm -f ssh-banner/target/wasm32-wasip2/release/*.sig\n",
        paths::target().canonicalize()?.display(),
        source.join("Cargo.lock").display()
    );
    fs::write(folder.path().join("guide.sh"), script(&commands, &after_new))?;
    let mut shell = Command::new("bash");
    shell.arg("guide.sh").current_dir(folder.path()).env("PATH", &tools.path).env("VOUCH_SOURCE", &source);
    shell.envs(tools.zig.as_ref().map(|zig| ("ZIG", zig)));
    for variable in ["CARGO_TARGET_DIR", "VOUCH_API", "VOUCH_TOKEN_FILE", "VOUCH_CA"] {
        shell.env_remove(variable);
    }
    let mut shell = Process::start("guide", &mut shell, &paths::logs("guide")?)?;
    let ended = wait::until("the guide has ended", LIMIT, || shell.ended().ok().flatten());
    let Ok((status, _)) = ended else {
        shell.stop(END)?;
        anyhow::bail!("the guide did not come to its end:\n{}", shell.log()?);
    };
    let log = shell.log()?;
    ensure!(status.success() && log.ends_with("the guide ends\n"), "the guide ended with {status}:\n{log}");
    let of_languages = [("c-banner", tools.zig.is_some()), ("js-banner", tools.has_npm)];
    for (probe, _) in of_languages.into_iter().filter(|(_, is_run)| *is_run) {
        ensure!(log.contains(&format!("probe     {probe} 0.1.0")), "{probe} was not looked at:\n{log}");
    }
    for words in [
        "down  closed  port ",
        "down  wedged  port ",
        "up  greeted  port ",
        "fact    banner  SSH-2.0-Example",
        "test a_service_that_greets_is_up ... ok",
        "probe ssh-banner 0.1.0 recorded",
        "nothing is granted to it yet, and so it is not taken",
        "it imports: sockets; granted: icmp; not granted: sockets",
        "probe ssh-banner is granted sockets; networks service; ports 22",
        "The signature is of no trusted key",
        "A probe needs a signature of a trusted key",
        "assigned  desk-1  service  ",
        "rollout   ssh-banner 0.1.0 -> 0.2.0, sha256 ",
        "probe ssh-banner 0.2.0, sha256 ",
        "probe ssh-banner 0.3.0, sha256 ",
        "probe ssh-banner is assigned to vm:",
        "probe ssh-banner is assigned to tag:pool=gold no more",
    ] {
        ensure!(log.contains(words), "{words:?} was not said:\n{log}");
    }
    Ok(())
}

#[test]
fn commands_are_the_lines_behind_a_dollar_in_console_blocks() {
    let page = "```sh\n$ no\n```\n```console\n$ a 'b'\nits answer\n$ vouch probe new ssh-banner\n```\ntext\n```console\n$ c\n```\n";
    assert_eq!(commands(page), ["a 'b'", "vouch probe new ssh-banner", "c"]);
    let script = script(&commands(page), "after\n");
    assert!(script.contains("printf '%s\\n' '$ a '\\''b'\\'''\na 'b'\n"), "{script}");
    assert!(script.contains("vouch probe new ssh-banner\nafter\nprintf"), "{script}");
}
