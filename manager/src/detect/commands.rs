//! The commands that a proposal of the detector becomes.

use vouch_detector::Proposal;
use vouch_types::command::CHANGES_MAX;
use vouch_types::{Command, WallTime};

/// Returns the commands of a proposal, each with at most [`CHANGES_MAX`] changes, in the order in which they are to be
/// applied.
pub fn commands_of(proposal: Proposal, at: WallTime) -> Vec<Command> {
    let mut commands = Vec::new();
    let Proposal {
        mut verdicts,
        mut paths,
        mut manager_notes,
        proven,
        pins,
        mut incidents,
        mut placements,
        mut boots,
        mut claims,
        withdrawn,
        lost_watchers,
    } = proposal;
    if !proven.is_empty() || !pins.is_empty() {
        commands.push(Command::RecordProven { proven, pins });
    }
    for (node, reason) in withdrawn {
        commands.push(Command::WithdrawFenceProof { node, reason, at });
    }
    for (watcher, reason) in lost_watchers {
        commands.push(Command::LoseWatcher { watcher, reason, at });
    }
    while !(paths.is_empty()
        && verdicts.is_empty()
        && incidents.is_empty()
        && placements.is_empty()
        && boots.is_empty()
        && claims.is_empty())
        || manager_notes.is_some()
    {
        let mut room = CHANGES_MAX;
        let some_incidents = take(&mut incidents, &mut room);
        let some_paths = take(&mut paths, &mut room);
        let some_placements = take(&mut placements, &mut room);
        let some_verdicts = take(&mut verdicts, &mut room);
        let some_boots = take(&mut boots, &mut room);
        let some_claims = take(&mut claims, &mut room);
        commands.push(Command::RecordVerdicts {
            boots: some_boots,
            claims: some_claims,
            verdicts: some_verdicts,
            paths: some_paths,
            manager_notes: manager_notes.take(),
            incidents: some_incidents,
            placements: some_placements,
            at,
        });
    }
    commands
}

/// Takes as many as there is room for, from the first.
fn take<T>(from: &mut Vec<T>, room: &mut usize) -> Vec<T> {
    let some: Vec<_> = from.drain(..from.len().min(*room)).collect();
    *room -= some.len();
    some
}
