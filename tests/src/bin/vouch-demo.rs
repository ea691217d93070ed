//! `vouch-demo`: plays the story on real guests for a person who watches, then leaves the cluster up to try.
//!
//! `cargo xtask demo` builds what it needs and runs it. `--once` ends after the story.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person who watches")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use vouch_tests::story::{
    LocalStage, Profile, QemuStage, Scene, Stage, Took, VM_ONE, step_a, step_b, step_c, step_d_cable, step_d_process,
    step_e_rdp, step_e_watcher,
};

type Step = fn(&mut dyn Stage) -> Result<Took>;

fn main() -> ExitCode {
    let (mut once, mut local, mut runs) = (false, false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--once" => once = true,
            "--local" => local = true,
            "--runs" => {
                runs = arguments.next().and_then(|n| n.parse::<usize>().ok()).filter(|n| (1..=1000).contains(n))
            }
            other => {
                eprintln!("error: {other:?}: must be --once, --local or --runs N with N from 1 to 1000");
                return ExitCode::from(2);
            }
        }
    }
    let played = match runs {
        Some(runs) => measure_on_local(runs),
        None if local => play_on_local(once),
        None => play_on_guests(once),
    };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play_on_guests(once: bool) -> Result<()> {
    println!("Three managers, two compute nodes, two networks; guests with xrdp and qemu-ga; a watcher VM per node.");
    println!("Booting the guests and the watchers in software emulation ...");
    let (mut stage, boot) = QemuStage::start("demo", Profile::Default, Scene::Story, tell)?;
    println!("Everything is up and proven after {:.1} s.", boot.as_secs_f64());
    play(&mut stage)?;
    let logs = stage.logs().to_owned();
    stay(once, || stage.cli(), &logs)
}

fn play_on_local(once: bool) -> Result<()> {
    println!("Three managers, two compute nodes, two networks; VMs and watchers are plain processes (`local`).");
    let (mut stage, ready) = LocalStage::start("demo-local", Profile::Default, tell)?;
    println!("Everything is up and proven after {:.1} s.", ready.as_secs_f64());
    play(&mut stage)?;
    let logs = stage.keep_logs()?;
    stay(once, || Ok(stage.cli()), &logs)
}

/// Plays the story on `local` again and again, and prints the median and the worst of each answer's time.
///
/// Each run takes three fresh clusters, so that no path heals more than twice in a minute and nothing has to be waited
/// out.
fn measure_on_local(runs: usize) -> Result<()> {
    let acts: [&[Step]; 3] =
        [&[step_a, step_b, step_e_rdp, step_e_watcher], &[step_c, step_d_cable], &[step_d_process]];
    let mut times: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    let (mut terms, mut clusters) = (0, 0);
    for run in 1..=runs {
        for act in acts {
            let (mut stage, ready) = LocalStage::start("measure-local", Profile::Default, |_| {})?;
            times.entry("ready and proven").or_default().push(ready);
            for step in act {
                let took = step(&mut stage).with_context(|| format!("run {run}"))?;
                took.into_iter().for_each(|(what, time)| times.entry(what).or_default().push(time));
            }
            let term = stage.read("/v1/cluster")?.get("term").and_then(serde_json::Value::as_u64).unwrap_or_default();
            // One election makes the cluster, and step C asks for one more.
            let wanted = if act.len() == 2 { 2 } else { 1 };
            terms += term.saturating_sub(wanted);
            clusters += 1;
        }
        println!("run {run} of {runs} done");
    }
    println!("{runs} runs, {clusters} clusters, {terms} elections that nobody asked for");
    println!("     p50    worst");
    for (what, mut all) in times {
        all.sort_unstable();
        let (p50, worst) = (all[all.len() / 2], all[all.len() - 1]);
        println!("{:>6.2} s {:>6.2} s  {what}", p50.as_secs_f64(), worst.as_secs_f64());
    }
    Ok(())
}

fn tell(text: &str) {
    println!("{text}");
}

/// Plays every step, shows what the managers say in the middle of the first one, and the times of all.
fn play(stage: &mut dyn Stage) -> Result<()> {
    let steps: [Step; 7] = [step_a, step_b, step_e_rdp, step_e_watcher, step_c, step_d_cable, step_d_process];
    let mut took = Took::new();
    for step in steps {
        let times = step(stage)?;
        for (what, time) in &times {
            println!("   {:>6.2} s  {what}", time.as_secs_f64());
        }
        took.extend(times);
    }
    println!("\nThe story in times, from the fault to the answer that a client reads:");
    for (what, time) in &took {
        println!("   {:>6.2} s  {what}", time.as_secs_f64());
    }
    Ok(())
}

/// Shows what the managers say at the end, and leaves the cluster up until a key is pressed.
fn stay(once: bool, cli: impl Fn() -> Result<Command>, logs: &Path) -> Result<()> {
    println!("\nWhat the managers say now:\n");
    show(cli()?.args(["vm", "ls"]))?;
    show(cli()?.args(["vm", "show", VM_ONE]))?;
    if once {
        println!("Ending everything.");
        return Ok(());
    }
    println!("The cluster stays up. Ask it from another terminal:\n\n   {}\n", line(cli()?.args(["vm", "ls"])));
    println!("Logs: {}\nPress Enter to end everything.", logs.display());
    // End of input counts as well: without a terminal there is nobody to press a key.
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}

/// Returns a command as a person types it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn show(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("can't start {command:?}"))?;
    anyhow::ensure!(status.success(), "{command:?}: {status}");
    println!();
    Ok(())
}
