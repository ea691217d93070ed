//! `vouch watcher`.

use vouch_manager::api::view::WatcherView;

use crate::args::{Global, WatcherCommand};
use crate::client::Client;
use crate::exit::CliError;
use crate::output::{Output, Paint, age, table};

/// Runs a command of this group.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, command: &WatcherCommand) -> Result<(), CliError> {
    match command {
        WatcherCommand::Ls => {
            let watchers: Vec<WatcherView> = Client::new(global)?.list("/v1/watchers")?;
            Output::new(global).show(&watchers, |paint| tell(&watchers, paint))
        }
    }
}

/// Returns watchers for people.
pub fn tell(watchers: &[WatcherView], paint: Paint) -> String {
    let rows = watchers.iter().map(|w| {
        let heard: Vec<String> = w
            .heard
            .iter()
            .filter(|h| h.stream == "open")
            .map(|h| {
                let over = if h.networks.is_empty() { String::new() } else { format!(" ({})", h.networks.join("+")) };
                let ago = h.age_ms.map(|ms| format!(" {} ago", age(ms))).unwrap_or_default();
                format!("{}{over}{ago}", h.manager)
            })
            .collect();
        vec![w.id.clone(), w.node.clone(), paint.state(&w.life), w.vms.len().to_string(), heard.join(", ")]
    });
    table(&["watcher", "node", "life", "vms", "heard by"], rows)
}
