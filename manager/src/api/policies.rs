//! Policies and maintenance windows as the API shows them, and as it takes them.
//!
//! Pure. What a request says is checked here by its form, and by the rules of `vouch_types` with the cluster's own timing.

use serde_json::Value;
use vouch_types::policy::{SCOPE_RULE, SILENCE_FAILURES_MIN};
use vouch_types::{MaintenanceRecord, Policy, PolicyError, PolicyScope, ProbeName, Timing, VmRecord};

use super::problem::{Problem, ProblemKind};
use super::view::{MaintenanceView, PolicySettings, PolicyView, SettingView};
use crate::store::State;

/// Where a setting comes from that no policy names.
const DEFAULT: &str = "default";

/// Returns the scope that a text names.
///
/// # Errors
/// A problem with the rule when it names none.
pub fn scope(text: &str) -> Result<PolicyScope, Problem> {
    let rule = format!("must be {SCOPE_RULE}");
    text.parse().map_err(|_| Problem::field(ProblemKind::BadParameter, "scope", text, &rule))
}

/// Returns the problem that a setting is.
pub fn refusal(e: &PolicyError) -> Problem {
    Problem::field(ProblemKind::BadParameter, &e.field, &e.value, &format!("must be {}", e.rule))
}

/// Returns the policy that these settings are.
///
/// # Errors
/// A problem that names field, value and rule when a setting breaks one, or when there is none.
pub fn policy_of(settings: &PolicySettings, timing: &Timing) -> Result<Policy, Problem> {
    let rule = "must be 1 to 63 of a-z, 0-9 and '-', and start and end with a letter or digit";
    let name = |name: &String| {
        ProbeName::new(name).map_err(|_| Problem::field(ProblemKind::BadParameter, "required_probes", name, rule))
    };
    let probes = settings.required_probes.as_ref().map(|names| names.iter().map(name).collect()).transpose()?;
    let policy = Policy {
        probe_interval_ms: settings.probe_interval_ms,
        probe_timeout_ms: settings.probe_timeout_ms,
        lost_after_ms: settings.lost_after_ms,
        boot_budget_ms: settings.boot_budget_ms,
        silence_failures: settings.silence_failures,
        required_probes: probes,
    };
    if policy == Policy::default() {
        let rule = "must name at least one setting: a policy without any is removed with DELETE";
        return Err(Problem::field(ProblemKind::BadParameter, "body", "{}", rule));
    }
    policy.validate(timing).map_err(|e| refusal(&e))?;
    Ok(policy)
}

/// Returns the policy as the API shows it.
pub fn policy_view(scope: &PolicyScope, policy: &Policy) -> PolicyView {
    let settings = PolicySettings {
        probe_interval_ms: policy.probe_interval_ms,
        probe_timeout_ms: policy.probe_timeout_ms,
        lost_after_ms: policy.lost_after_ms,
        boot_budget_ms: policy.boot_budget_ms,
        silence_failures: policy.silence_failures,
        required_probes: policy.required_probes.as_ref().map(|p| p.iter().map(ToString::to_string).collect()),
    };
    PolicyView { scope: scope.to_string(), settings }
}

/// Returns every setting as it holds for a VM, with the scope that it comes from.
pub fn settings_of(state: &State, vm: &VmRecord, timing: &Timing) -> Vec<SettingView> {
    let millis = |d: std::time::Duration| Value::from(u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let mut settings = [
        ("probe_interval_ms", millis(timing.probe_interval)),
        ("probe_timeout_ms", millis(timing.probe_timeout)),
        ("lost_after_ms", millis(timing.lost_after)),
        ("boot_budget_ms", millis(timing.boot_budget)),
        ("silence_failures", Value::from(SILENCE_FAILURES_MIN)),
        ("required_probes", Value::Null),
    ]
    .map(|(name, value)| SettingView { name: name.to_owned(), value, from: DEFAULT.to_owned() });
    // The order of the scopes is the order of their closeness: the last one that names a setting rules.
    for (scope, policy) in state.policies().iter().filter(|(scope, _)| scope.covers(&vm.spec, &vm.node)) {
        let named = serde_json::to_value(policy).unwrap_or_default();
        for setting in &mut settings {
            if let Some(value) = named.get(&setting.name) {
                setting.value = value.clone();
                setting.from = scope.to_string();
            }
        }
    }
    settings.into()
}

/// Returns the window as the API shows it.
pub fn maintenance_view(state: &State, window: &MaintenanceRecord) -> MaintenanceView {
    let covered = |vm: &VmRecord| window.scope.covers(&vm.spec, &vm.node);
    MaintenanceView {
        id: window.id.to_string(),
        scope: window.scope.to_string(),
        reason: window.reason.clone(),
        remaining_ms: u64::try_from(window.remaining.as_millis()).unwrap_or(u64::MAX),
        begun: window.begun.into(),
        vms: state.vms().values().filter(|vm| covered(vm)).count() as u64,
    }
}
