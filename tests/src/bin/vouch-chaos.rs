//! `vouch-chaos --seed N --minutes M`: plays one run of chaos and says what was checked.
//!
//! `cargo xtask chaos` builds what it needs and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person who watches")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use vouch_tests::chaos::{Plan, play};

fn main() -> ExitCode {
    match plan().and_then(|plan| play("chaos", plan, |text| println!("{text}"))) {
        Ok(outcome) => {
            println!("every check passed: {outcome:#?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn plan() -> Result<Plan> {
    let (mut seed, mut minutes) = (1, 2.0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{argument}: a value must follow"))?;
        match argument.as_str() {
            "--seed" => seed = value.parse().with_context(|| format!("--seed {value}: must be a number"))?,
            "--minutes" => {
                minutes = value.parse::<f64>().with_context(|| format!("--minutes {value}: must be a number"))?
            }
            other => bail!("{other}: must be --seed or --minutes"),
        }
    }
    if !(0.1..=60.0).contains(&minutes) {
        bail!("--minutes {minutes}: must be from 0.1 to 60");
    }
    Ok(Plan { seed, lasts: Duration::from_secs_f64(minutes * 60.0) })
}
