//! `vouch maintenance`.

use hyper::Method;
use vouch_manager::api::view::{MaintenanceRequest, MaintenanceView, Page};

use crate::args::{Global, MaintenanceCommand};
use crate::client::Client;
use crate::exit::CliError;
use crate::output::{Output, age, table};

/// Runs a command of this group.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, command: &MaintenanceCommand) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let out = Output::new(global);
    match command {
        MaintenanceCommand::Ls => {
            let page: Page<MaintenanceView> = client.get("/v1/maintenances")?;
            out.show(&page.items, |_| tell(&page.items))
        }
        MaintenanceCommand::Begin { scope, lasts, reason } => {
            let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
            let request = MaintenanceRequest { scope: scope.to_string(), lasts_ms, reason: reason.clone() };
            let window: MaintenanceView = client.tell(Method::POST, "/v1/maintenances", &request)?;
            out.show(&window, |_| tell(std::slice::from_ref(&window)))
        }
        MaintenanceCommand::End { maintenance } => {
            let window: MaintenanceView = client.delete(&format!("/v1/maintenances/{maintenance}"))?;
            out.show(&window, |_| format!("maintenance {} of {} ended\n", window.id, window.scope))
        }
    }
}

/// Returns windows for people.
pub fn tell(windows: &[MaintenanceView]) -> String {
    let rows = windows.iter().map(|window| {
        vec![
            window.id.clone(),
            window.scope.clone(),
            age(window.remaining_ms),
            window.vms.to_string(),
            window.begun.rfc3339.clone(),
            window.reason.clone(),
        ]
    });
    table(&["maintenance", "scope", "left", "vms", "begun", "reason"], rows)
}
