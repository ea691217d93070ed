//! `vouch-demo`: plays the story on real guests for a person who watches, then leaves the cluster up to try.
//!
//! `cargo xtask demo` builds what it needs and runs it. `--once` ends after the story.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person who watches")]

use std::io::Read;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use vouch_tests::story::{
    Profile, QemuStage, Stage, Took, VM_ONE, step_a, step_b, step_c, step_d_cable, step_d_process, step_e_rdp,
    step_e_watcher,
};

type Step = fn(&mut dyn Stage) -> Result<Took>;

fn main() -> ExitCode {
    let once = std::env::args().any(|a| a == "--once");
    match play(once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(once: bool) -> Result<()> {
    println!("Three managers, two compute nodes, two networks; guests with xrdp and qemu-ga; a watcher VM per node.");
    println!("Booting the guests and the watchers in software emulation ...");
    let (mut stage, boot) = QemuStage::start("demo", Profile::Default, |text| println!("\n{text}"))?;
    println!("Everything is up and proven after {:.1} s.\n", boot.as_secs_f64());
    let mut took = Took::new();
    let steps: [Step; 7] = [step_a, step_b, step_e_rdp, step_e_watcher, step_c, step_d_cable, step_d_process];
    for step in steps {
        let times = step(&mut stage)?;
        for (what, time) in &times {
            println!("   {:>6.2} s  {what}", time.as_secs_f64());
        }
        took.extend(times);
    }
    println!("\nThe story in times, from the fault to the answer that a client reads:");
    for (what, time) in &took {
        println!("   {:>6.2} s  {what}", time.as_secs_f64());
    }
    println!("\nWhat the managers say now:\n");
    show(stage.cli()?.args(["vm", "ls"]))?;
    show(stage.cli()?.args(["vm", "show", VM_ONE]))?;
    if once {
        println!("Ending everything.");
        return Ok(());
    }
    println!("\nThe cluster stays up. Ask it from another terminal:\n\n   {:?} vm ls\n", stage.cli()?);
    println!("Logs: {}\nPress Enter to end everything.", stage.logs().display());
    // End of input counts as well: without a terminal there is nobody to press a key.
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}

fn show(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("can't start {command:?}"))?;
    anyhow::ensure!(status.success(), "{command:?}: {status}");
    println!();
    Ok(())
}
