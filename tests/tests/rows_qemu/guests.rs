//! Rows of one guest: its services and its firewall.

use std::time::Duration;

use anyhow::{Result, ensure};
use vouch_tests::story::{Claim, QemuStage, Row, VM_ONE, VM_THREE, VM_TWO, well};
use vouch_tests::wait;

use crate::NOT_WELL;

/// For how long a guest is silent to one probe: longer than any silence is taken for a fault.
const SILENCE: Duration = Duration::from_secs(13);

pub fn rdp_accepts_and_is_silent(stage: &mut QemuStage) -> Result<()> {
    let row = Row::begin(stage, "15", "desk-1 accepts RDP connections and never says a word")?;
    stage.wedge_rdp(VM_ONE)?;
    let wedged = Claim {
        vm: VM_ONE,
        state: "degraded",
        source: Some("direct"),
        causes: &["service(rdp) wedged"],
        advice: "none",
    };
    row.expect(stage, &[wedged, well(VM_TWO), well(VM_THREE)], None)?;
    stage.unwedge_rdp(VM_ONE)?;
    row.end(stage, &["down", "lost", "hung", "conflict"]).map(drop)
}

pub fn ping_is_dropped(stage: &mut QemuStage) -> Result<()> {
    let row = Row::begin(stage, "17", "desk-1 drops ping")?;
    stage.ignore_ping(VM_ONE, true)?;
    wait::while_for(SILENCE, || row.events(stage)?.never(NOT_WELL))?;
    row.expect(stage, &[well(VM_ONE), well(VM_TWO), well(VM_THREE)], None)?;
    stage.ignore_ping(VM_ONE, false)?;
    let events = row.end(stage, NOT_WELL)?;
    ensure!(events.notifications().is_empty(), "somebody was woken: {:?}", events.notifications());
    Ok(())
}
