//! What the rows of the fault table claim: more than a state, and of more than one VM.
//!
//! A row is played from a cluster that is well to one that is well again, and what nobody may say is asserted over the
//! replicated events from before the fault to after the heal.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::events::{Cursor, Events};
use super::qemu::QemuStage;
use super::stage::Stage;
use crate::wait;

/// The longest that any single answer may take; what is measured is printed, not asserted.
const LIMIT: Duration = Duration::from_secs(90);
/// How long it may take until all is well again: guests and watchers may have to boot.
const WELL_AGAIN: Duration = Duration::from_secs(180);

/// A row that takes longer than this to be well again shows all that was said.
const SLOW: Duration = Duration::from_secs(10);

/// What the managers must say of one VM.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The VM.
    pub vm: &'static str,
    /// Its state.
    pub state: &'static str,
    /// Where the state comes from; `None` where the row doesn't say.
    pub source: Option<&'static str>,
    /// Beginnings of causes, one of which has to be the likeliest of one of the VM's faults. None: it may have no fault.
    pub causes: &'static [&'static str],
    /// The advice.
    pub advice: &'static str,
}

/// Returns the claim that a VM is well.
pub const fn well(vm: &'static str) -> Claim {
    Claim { vm, state: "up", source: Some("direct"), causes: &[], advice: "none" }
}

impl Claim {
    fn check(&self, stage: &dyn Stage) -> Result<()> {
        let shown = stage.read(&format!("/v1/vms/{}", self.vm))?;
        let text = |key: &str| shown.get(key).and_then(Value::as_str).unwrap_or_default();
        let advice = shown.pointer("/advice/do").and_then(Value::as_str).unwrap_or_default();
        let told = causes(&shown);
        let cause = match self.causes {
            [] => told.is_empty(),
            wanted => told.iter().any(|cause| wanted.iter().any(|w| cause.starts_with(w))),
        };
        ensure!(
            text("state") == self.state
                && self.source.is_none_or(|source| source == text("source"))
                && cause
                && advice == self.advice,
            "{}: {} by {}, faults {told:?}, advice {advice}, because {:?}",
            self.vm,
            text("state"),
            text("source"),
            text("reason")
        );
        Ok(())
    }
}

/// Returns the likeliest cause of each fault of a VM with how it shows, as `service(rdp) wedged`.
fn causes(vm: &Value) -> Vec<String> {
    let faults = vm.get("faults").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    faults.iter().map(cause).collect()
}

fn cause(fault: &Value) -> String {
    let text = |key: &str| fault.get(key).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("cause"), text("detail")).trim_end().to_owned()
}

/// A shared fault that must be open, and no other one.
#[derive(Debug, Clone, Copy)]
pub struct Shared {
    /// The kind of the incident, as `network`.
    pub kind: &'static str,
    /// Of what, as `management`.
    pub of: &'static str,
    /// Beginnings of causes, one of which has to be its likeliest.
    pub causes: &'static [&'static str],
}

/// Returns the incidents that are open.
///
/// # Errors
/// Fails if no manager tells them.
pub fn open_incidents(stage: &dyn Stage) -> Result<Vec<Value>> {
    let page = stage.read("/v1/incidents?state=open")?;
    Ok(page.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
}

fn check_incidents(stage: &dyn Stage, wanted: Option<Shared>) -> Result<()> {
    let open = open_incidents(stage)?;
    let text =
        |incident: &Value, key: &str| incident.pointer(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let lines = || open.iter().map(|i| format!("{} {}", text(i, "/scope"), text(i, "/reason"))).collect::<Vec<_>>();
    match (wanted, open.as_slice()) {
        (None, []) => Ok(()),
        (Some(wanted), [one]) => {
            let cause = one.get("fault").map(cause).unwrap_or_default();
            let right = text(one, "/kind") == wanted.kind
                && text(one, "/of") == wanted.of
                && wanted.causes.iter().any(|w| cause.starts_with(w));
            ensure!(right, "the incident of {wanted:?} is not open, but {:?} by {cause}", lines());
            Ok(())
        }
        (wanted, _) => {
            let wanted = wanted.map_or_else(|| "no incident".to_owned(), |w| format!("one incident {w:?}"));
            anyhow::bail!("{wanted} should be open, and these are: {:?}", lines())
        }
    }
}

/// Waits until every claim holds at once, and the shared fault is the one incident that is open.
///
/// # Errors
/// Fails with what was said last and the evidence on the first VM.
pub fn claim(stage: &dyn Stage, row: &str, claims: &[Claim], shared: Option<Shared>) -> Result<Duration> {
    let look = || -> Result<()> {
        claims.iter().try_for_each(|claim| claim.check(stage))?;
        check_incidents(stage, shared)
    };
    let looked = wait::until_ok(format!("row {row} as expected"), LIMIT, look);
    let (_, took) = looked.with_context(|| claims.first().map_or_else(String::new, |c| stage.evidence(c.vm)))?;
    if !claims.is_empty() {
        stage.tell(&format!("{:>8.2} s  row {row}: {}", took.as_secs_f64(), said(claims, shared)));
    }
    Ok(took)
}

fn said(claims: &[Claim], shared: Option<Shared>) -> String {
    let mut parts: Vec<String> = claims
        .iter()
        .map(|c| {
            format!("{} {} by {}, {:?}, advice {}", c.vm, c.state, c.source.unwrap_or("either"), c.causes, c.advice)
        })
        .collect();
    parts.extend(shared.map(|s| format!("one incident: {} {}", s.kind, s.of)));
    parts.join("; ")
}

/// One row being played: what was said since it began.
#[derive(Debug)]
pub struct Row {
    number: &'static str,
    before: Cursor,
    begun: Instant,
}

impl Row {
    /// Begins a row on a cluster that is well.
    ///
    /// # Errors
    /// Fails if no manager tells the events.
    pub fn begin(stage: &QemuStage, number: &'static str, what: &str) -> Result<Self> {
        stage.tell(&format!("row {number}: {what}"));
        Ok(Self { number, before: Cursor::now(stage)?, begun: Instant::now() })
    }

    /// Waits until the claims hold.
    ///
    /// # Errors
    /// As [`claim`].
    pub fn expect(&self, stage: &QemuStage, claims: &[Claim], shared: Option<Shared>) -> Result<Duration> {
        let told = claim(stage, self.number, claims, shared);
        told.with_context(|| format!("row {}", self.number))
    }

    /// Returns the events since it began.
    ///
    /// # Errors
    /// Fails if no manager tells them.
    pub fn events(&self, stage: &QemuStage) -> Result<Events> {
        Events::after(stage, &self.before)
    }

    /// Waits until all is well again, and fails if anything was said since the row began that nobody may say.
    ///
    /// # Errors
    /// Names the event.
    pub fn end(self, stage: &QemuStage, never: &[&str]) -> Result<Events> {
        let healed = Instant::now();
        let well = stage.until_well(WELL_AGAIN).and_then(|_| claim(stage, self.number, &[], None));
        well.with_context(|| format!("row {}, healed", self.number))?;
        let events = self.events(stage)?;
        events.never(never)?;
        events.in_order()?;
        if healed.elapsed() > SLOW {
            stage.tell(&events.lines());
        }
        let (all, again) = (self.begun.elapsed().as_secs_f64(), healed.elapsed().as_secs_f64());
        stage
            .tell(&format!("           row {}: well again {again:.1} s after its end; {all:.1} s in all", self.number));
        Ok(events)
    }
}
