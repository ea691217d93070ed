//! `vouch trace`.

use vouch_manager::api::view::EventView;

use super::event;
use crate::args::{Global, TraceArgs};
use crate::client::{Client, escape};
use crate::exit::CliError;
use crate::output::Output;

/// Runs the command.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, args: &TraceArgs) -> Result<(), CliError> {
    let query = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("&{name}={}", escape(value))).unwrap_or_default()
    };
    let (since, until) = (query("since", &args.since), query("until", &args.until));
    let path = format!("/v1/vms/{}/trace?consistency=default{since}{until}", escape(&args.vm));
    let events: Vec<EventView> = Client::new(global)?.list(&path)?;
    Output::new(global).show(&events, |_| tell(&events))
}

/// Returns a story for people, one line per event; what somebody was to be woken for is marked.
pub fn tell(events: &[EventView]) -> String {
    let mark = |event: &EventView| if event.notify { "! " } else { "  " };
    events.iter().map(|event| format!("{}{}\n", mark(event), event::line(event))).collect()
}
