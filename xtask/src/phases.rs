//! A run of several phases: each one's time is printed, a failure doesn't hide those that come after it, and the last
//! line says how it all went.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// The phases of one run and how they ended.
#[derive(Debug)]
pub(crate) struct Phases {
    begun: Instant,
    done: Vec<Phase>,
}

#[derive(Debug)]
struct Phase {
    name: String,
    took: Duration,
    failure: Option<String>,
}

/// Whether a phase went well: the answer to "does it make sense to go on".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Went {
    Well,
    Wrong,
}

impl Phases {
    /// Begins a run.
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), done: Vec::new() }
    }

    /// Runs one phase and notes how long it took and how it ended.
    pub(crate) fn run(&mut self, name: &str, phase: impl FnOnce() -> Result<()>) -> Went {
        println!("==> {name}");
        let begun = Instant::now();
        let failure = phase().err().map(|error| format!("{error:#}"));
        let took = begun.elapsed();
        let went = match &failure {
            None => {
                println!("<== {name}: ok in {}", Took(took));
                Went::Well
            }
            Some(failure) => {
                println!("<== {name}: FAILED after {}: {failure}", Took(took));
                Went::Wrong
            }
        };
        self.done.push(Phase { name: name.to_owned(), took, failure });
        went
    }

    /// Prints the table of phases; the last line is the summary. Fails if any phase did.
    pub(crate) fn finish(self, what: &str) -> Result<()> {
        println!();
        for phase in &self.done {
            let how = if phase.failure.is_some() { "FAILED" } else { "ok" };
            println!("{:>10}  {how:<6}  {}", Took(phase.took).to_string(), phase.name);
        }
        let failures: Vec<&Phase> = self.done.iter().filter(|phase| phase.failure.is_some()).collect();
        for phase in &failures {
            println!("{}: {}", phase.name, phase.failure.as_deref().unwrap_or_default());
        }
        let took = Took(self.begun.elapsed());
        if failures.is_empty() {
            println!("{what}: all {} phases ok in {took}", self.done.len());
            Ok(())
        } else {
            let names: Vec<&str> = failures.iter().map(|phase| phase.name.as_str()).collect();
            bail!("{what}: {} of {} phases FAILED in {took}: {}", failures.len(), self.done.len(), names.join(", "))
        }
    }
}

/// A duration as a person reads it.
struct Took(Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds >= 60 {
            write!(f, "{} m {:02} s", seconds / 60, seconds % 60)
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_phase_does_not_stop_the_next_one_but_fails_the_run() {
        let mut phases = Phases::begin();
        let mut second_ran = false;
        let _ = phases.run("first", || bail!("broken"));
        let _ = phases.run("second", || {
            second_ran = true;
            Ok(())
        });
        assert!(second_ran);
        let error = phases.finish("trial").expect_err("one phase failed").to_string();
        assert!(error.contains("1 of 2 phases FAILED") && error.contains("first"), "{error}");
    }

    #[test]
    fn times_over_a_minute_are_told_in_minutes() {
        assert_eq!(Took(Duration::from_secs(125)).to_string(), "2 m 05 s");
        assert_eq!(Took(Duration::from_millis(1500)).to_string(), "1.5 s");
    }
}
