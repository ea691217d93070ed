//! `vouch policy`.

use std::time::Duration;

use hyper::Method;
use vouch_manager::api::view::{Page, PolicySettings, PolicyView, VmPolicyView};
use vouch_types::PolicyScope;

use crate::args::{Global, PolicyCommand, PolicySettingsArgs};
use crate::client::{Client, escape};
use crate::exit::{CliError, Exit};
use crate::output::{Output, table};

/// Runs a command of this group.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, command: &PolicyCommand) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let out = Output::new(global);
    let path = |scope: &PolicyScope| format!("/v1/policies/{}", escape(&scope.to_string()));
    match command {
        PolicyCommand::Ls => {
            let page: Page<PolicyView> = client.get("/v1/policies")?;
            out.show(&page.items, |_| list(&page.items))
        }
        PolicyCommand::Show { scope: _, vm: Some(vm) } => {
            let view: VmPolicyView = client.get(&format!("/v1/vms/{}/policy", escape(vm)))?;
            out.show(&view, |_| resolved(&view))
        }
        PolicyCommand::Show { scope: Some(scope), vm: None } => {
            let view: PolicyView = client.get(&path(scope))?;
            out.show(&view, |_| list(std::slice::from_ref(&view)))
        }
        PolicyCommand::Show { scope: None, vm: None } => {
            Err(CliError::text(Exit::Usage, "policy show: name a scope, or a VM with --vm"))
        }
        PolicyCommand::Set(args) => {
            let view: PolicyView = client.tell(Method::PUT, &path(&args.scope), &settings(&args.settings))?;
            out.show(&view, |_| list(std::slice::from_ref(&view)))
        }
        PolicyCommand::Rm { scope } => {
            let view: PolicyView = client.delete(&path(scope))?;
            out.show(&view, |_| format!("the policy of {} was removed\n", view.scope))
        }
    }
}

/// Returns what the command line says as the API takes it.
pub fn settings(args: &PolicySettingsArgs) -> PolicySettings {
    let millis = |d: Option<Duration>| d.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let probes: Vec<String> = args.required_probe.iter().map(ToString::to_string).collect();
    PolicySettings {
        probe_interval_ms: millis(args.probe_interval),
        probe_timeout_ms: millis(args.probe_timeout),
        lost_after_ms: millis(args.lost_after),
        boot_budget_ms: millis(args.boot_budget),
        silence_failures: args.silence_failures,
        required_probes: (!probes.is_empty()).then_some(probes),
    }
}

/// Returns policies for people.
pub fn list(policies: &[PolicyView]) -> String {
    let rows = policies.iter().map(|policy| {
        let settings = &policy.settings;
        let ms = |value: Option<u64>| value.map(|ms| format!("{ms} ms")).unwrap_or_default();
        vec![
            policy.scope.clone(),
            ms(settings.probe_interval_ms),
            ms(settings.probe_timeout_ms),
            ms(settings.lost_after_ms),
            ms(settings.boot_budget_ms),
            settings.silence_failures.map(|n| n.to_string()).unwrap_or_default(),
            settings.required_probes.as_ref().map(|probes| probes.join(", ")).unwrap_or_default(),
        ]
    });
    let head = ["scope", "interval", "timeout", "lost after", "boot budget", "failures", "required probes"];
    table(&head, rows)
}

/// Returns every setting of a VM for people.
pub fn resolved(view: &VmPolicyView) -> String {
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "all".to_owned(),
        serde_json::Value::Array(list) => list.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let rows = view.settings.iter().map(|s| vec![s.name.clone(), value(&s.value), s.from.clone()]);
    table(&["setting", "value", "from"], rows)
}
