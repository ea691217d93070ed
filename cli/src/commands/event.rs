//! `vouch event`.

use anyhow::Context;
use vouch_manager::api::view::EventView;

use crate::args::{EventArgs, EventCommand, Global};
use crate::client::{Client, escape};
use crate::exit::CliError;
use crate::output::Output;

/// Runs a command of this group.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, command: &EventCommand) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let out = Output::new(global);
    match command {
        EventCommand::Ls(args) => {
            let after = args.after.as_ref().map(|a| format!("&after={}", escape(a))).unwrap_or_default();
            let mut events: Vec<EventView> = Vec::new();
            if after.is_empty() {
                events = client.list(&format!("/v1/events?format=json{}", filter(args)))?;
            } else {
                // The first page begins where the caller says, the others where the pages say.
                let mut from = after;
                loop {
                    let path = format!("/v1/events?format=json&limit=1000{}{from}", filter(args));
                    let page: vouch_manager::api::view::Page<EventView> = client.get(&path)?;
                    events.extend(page.items);
                    match page.next {
                        Some(next) => from = format!("&after={}", escape(&next)),
                        None => break,
                    }
                }
            }
            out.show(&events, |_| events.iter().map(|e| line(e) + "\n").collect())
        }
        EventCommand::Tail(args) => {
            client.follow(&format!("/v1/events?format=sse{}", filter(args)), args.after.clone(), |data| {
                let event: EventView = serde_json::from_str(data).context("an event that cannot be read")?;
                out.line(&event, |_| line(&event))
            })
        }
    }
}

fn filter(args: &EventArgs) -> String {
    let vm = args.vm.map(|vm| format!("&vm={vm}")).unwrap_or_default();
    let node = args.node.as_ref().map(|node| format!("&node={}", escape(node))).unwrap_or_default();
    vm + &node
}

/// Returns an event for people, in one line.
pub fn line(event: &EventView) -> String {
    format!("{}  {:>8}  {}", event.at.rfc3339, event.id, event.text)
}
