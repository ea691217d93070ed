//! `/probe` and `/v1/discovery/prometheus`: checks in the form of `blackbox_exporter`, and the targets of these.
//!
//! `/probe?module=PROBE&target=VM` has the VM's watchers look now and answers in the names of `blackbox_exporter` (its
//! `/probe` of version 0.23), so that dashboards and alerts that were written for it work. A check that came to nothing for
//! reasons of vouch's own is an error of the scrape and never `probe_success 0`: it says nothing of the VM. The discovery
//! is Prometheus' `http_sd_config`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vouch_types::{Network, NodeId, ProbeAssignment, ProbeName, SortedMap, VmId, VmRecord, WatcherId, WatcherLife};

use super::metrics::OPENMETRICS;
use super::vms::{check_now, find};
use crate::api::blackbox::Series;
use crate::api::forward::{self, Hop};
use crate::api::freshness::{Wanted, make_current};
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::{CheckView, LookView};
use crate::api::{Api, compose, published};
use crate::store::State as Records;

type Labels = Vec<(&'static str, String)>;

/// Whether facts are told as series too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Facts {
    AsLabels,
    LeftOut,
}

/// What one check of one probe came to.
struct Found<'a> {
    check: &'a CheckView,
    looks: Vec<&'a LookView>,
    module: &'a VmModule,
    facts: Facts,
}

impl<'a> Found<'a> {
    /// Returns what the watchers found with this probe, also those whose answer was not complete in time; or one of them
    /// alone.
    fn of(check: &'a CheckView, module: &'a VmModule, only: Option<WatcherId>, facts: Facts) -> Self {
        let only = only.map(|watcher| watcher.to_string());
        let meant = |look: &&LookView| only.as_ref().is_none_or(|only| look.watcher == *only);
        let told = |look: &&LookView| look.probe == module.probe.as_str() && look.outcome != "unknown";
        Self { check, looks: check.looks.iter().filter(meant).filter(told).collect(), module, facts }
    }

    /// Returns the look that is told in the exporter's names, which know one only: the best one, as for `probe_success`,
    /// and of several as good ones that over the service network, and of a watcher that tells what it rests on.
    fn telling(&self) -> Option<&'a LookView> {
        let rank =
            |look: &&LookView| (rank_of(&look.outcome), look.network != Network::Service.as_str(), !look.is_told());
        self.looks.iter().copied().min_by_key(rank)
    }

    fn text(&self) -> Result<String, Problem> {
        let mut series = Series(Registry::default());
        let success = Gauge::<u64, AtomicU64>::default();
        let telling = self.telling();
        success.set(u64::from(telling.is_some_and(|look| look.outcome == "up")));
        series.0.register("probe_success", "Displays whether or not the probe was a success", success);
        if let Some(look) = telling {
            series.add(look, self.module.address_over(&look.network));
            match self.facts {
                Facts::AsLabels => series.add_facts(look),
                Facts::LeftOut => {}
            }
        }
        // Milliseconds of one check: far below 2^52.
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        let took = self.check.took_ms as f64 / 1000.0;
        let help = "How long the check of the VM took with all its probes, with the way to the watchers and back";
        series.set("vouch_check_duration_seconds", help, took);
        let outcomes = Family::<Labels, Gauge<u64, AtomicU64>>::default();
        let durations = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for look in &self.looks {
            let who = || vec![("watcher_id", look.watcher.clone()), ("network", look.network.clone())];
            let came = [("outcome", look.outcome.clone()), ("reason", look.reason.clone())];
            outcomes.get_or_create(&who().into_iter().chain(came).collect()).set(1);
            durations.get_or_create(&who()).set(look.seconds);
        }
        series.0.register("vouch_probe_outcome", "What each watcher found", outcomes);
        series.0.register("vouch_probe_look_seconds", "How long each watcher looked", durations);
        let mut text = String::new();
        encode(&mut text, &series.0).map_err(|e| Problem::new(ProblemKind::Internal, e.to_string()))?;
        Ok(text)
    }

    /// Returns the same for people, in the parts that `blackbox_exporter` shows.
    fn debug(&self) -> Result<String, Problem> {
        let mut text = String::from("Logs for the probe:\n");
        let mut line = |line: String| text.push_str(&(line + "\n"));
        line(format!("asked {}, answered {}", self.check.asked.join(", "), self.check.answered.join(", ")));
        for look in &self.looks {
            let at = if self.module.on_its_node.contains(&look.watcher) { "on its node" } else { "on another node" };
            line(format!(
                "{} ({at}) found {} over {} {}: {} {}",
                look.watcher, look.probe, look.network, look.outcome, look.reason, look.message
            ));
            look.phases.iter().for_each(|p| line(format!("  phase {}: {} s", p.name, p.seconds)));
            look.samples.iter().for_each(|s| line(format!("  sample {}: {} {}", s.name, s.value, s.unit)));
            look.facts.iter().for_each(|f| line(format!("  fact {}: {}", f.name, f.value)));
        }
        let _ = write!(text, "\n\nMetrics that would have been returned:\n{}\n\nModule configuration:\n", self.text()?);
        for assigned in self.module.assigned.iter().filter(|p| p.probe == self.module.probe) {
            let _ = writeln!(
                text,
                "probe: {}\nnetwork: {}\nsettings: {}",
                assigned.probe, assigned.network, assigned.settings
            );
        }
        Ok(text)
    }
}

/// Returns how far an outcome is from the best one.
fn rank_of(outcome: &str) -> u8 {
    match outcome {
        "up" => 0,
        "degraded" => 1,
        _ => 2,
    }
}

/// A probe as one VM is watched with it.
struct VmModule {
    id: VmId,
    probe: ProbeName,
    assigned: Vec<ProbeAssignment>,
    addresses: SortedMap<Network, Vec<IpAddr>>,
    /// Watchers of the VM that can be asked.
    watchers: Vec<WatcherId>,
    /// Those of them that run on the VM's node, by name.
    on_its_node: BTreeSet<String>,
}

impl VmModule {
    fn of(state: &Records, target: &str, probe: ProbeName) -> Result<Self, Problem> {
        let (id, vm) = find(state, target)?;
        let live = || compose::watchers_of(state, id).filter(|watcher| watcher.life == WatcherLife::Live);
        let on_its_node = live().filter(|watcher| watcher.node == vm.node).map(|watcher| watcher.id.to_string());
        Ok(Self {
            id,
            probe,
            assigned: compose::assignments_of(state, &vm),
            addresses: vm.spec.addresses.clone(),
            watchers: live().map(|watcher| watcher.id).collect(),
            on_its_node: on_its_node.collect(),
        })
    }

    /// Returns the address that probes use over this network.
    fn address_over(&self, network: &str) -> Option<IpAddr> {
        let (_, addresses) = self.addresses.iter().find(|(known, _)| known.as_str() == network)?;
        addresses.first().copied()
    }
}

/// Has a VM's watchers look at it now with one probe, and answers as `blackbox_exporter` does.
///
/// `probe_success` is 1 if any watcher found it `up`, or the one that is named.
#[utoipa::path(
    get, path = "/probe", tag = "prometheus",
    params(
        ("module" = String, Query, description = "A probe that the VM is watched with"),
        ("target" = String, Query, description = "UUID of the VM, or a name that only one VM has"),
        ("watcher" = Option<String>, Query, description = "Only what this watcher of the VM finds, such as `w3`"),
        ("facts" = Option<bool>, Query, description = "`true`: what the probe learnt is told too, as labels"),
        ("debug" = Option<bool>, Query, description = "`true`: a text for people"),
    ),
    responses(
        (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"),
        (status = 400, description = "The VM is not watched with this probe", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "No such VM", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No watcher can be asked, or none answered in time", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "No leader, or too many checks are under way", body = Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn probe(State(api): State<Api>, hop: Hop, uri: Uri, mut params: Params) -> Result<Response, Problem> {
    let missing = |field: &str, rule: &str| Problem::field(ProblemKind::BadParameter, field, "", rule);
    let module = params.parse::<ProbeName>("module", "must be the name of a probe")?;
    let module = module.ok_or_else(|| missing("module", "must be given: a probe that the VM is watched with"))?;
    let target = params.take("target").ok_or_else(|| missing("target", "must be given: UUID or name of a VM"))?;
    let debug = params.parse::<bool>("debug", "must be true or false")?.unwrap_or(false);
    let facts = params.parse::<bool>("facts", "must be true or false")?.unwrap_or(false);
    let facts = if facts { Facts::AsLabels } else { Facts::LeftOut };
    let watcher = params.parse::<WatcherId>("watcher", "must be a watcher of the VM, such as w3")?;
    params.finish(&["module", "target", "watcher", "facts", "debug"])?;
    let headers = make_current(&api, Wanted::Default).await?;
    let module = published::read(api.published(), |state| VmModule::of(state, &target, module));
    let module = module.map_err(|mut problem: Problem| {
        problem.field = Some("target".to_owned());
        problem
    })?;
    if !module.assigned.iter().any(|p| p.probe == module.probe) {
        let known: Vec<&str> = module.assigned.iter().map(|p| p.probe.as_str()).collect();
        let rule = format!("must be a probe that the VM is watched with: {}", known.join(", "));
        return Err(Problem::field(ProblemKind::BadParameter, "module", module.probe.as_str(), &rule));
    }
    if let Some(watcher) = watcher.filter(|watcher| !module.watchers.contains(watcher)) {
        let known: Vec<String> = module.watchers.iter().map(ToString::to_string).collect();
        let rule = format!("must be a watcher that the VM is assigned to: {}", known.join(", "));
        return Err(Problem::field(ProblemKind::BadParameter, "watcher", &watcher.to_string(), &rule));
    }
    let path = uri.path_and_query().map_or_else(|| uri.path(), |p| p.as_str());
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::GET, path, Bytes::new()).await? {
        return Ok(answer);
    }
    let check = check_now(&api, module.id).await?;
    let found = Found::of(&check, &module, watcher, facts);
    if found.looks.is_empty() {
        let asked = check.asked.join(", ");
        let detail = format!("vm {}: of {asked} none could say in time what {} finds", module.id, module.probe);
        return Err(Problem::new(ProblemKind::NoWatcher, detail));
    }
    let told: (HeaderName, &str) =
        (header::CONTENT_TYPE, if debug { "text/plain; charset=utf-8" } else { OPENMETRICS });
    let text = if debug { found.debug()? } else { found.text()? };
    Ok((headers, [told], text).into_response())
}

/// Targets that share their labels, as Prometheus takes them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TargetGroup {
    /// What `target` of `/probe` takes: one VM's UUID.
    pub targets: Vec<String>,
    /// `__meta_vouch_name`, `_node`, `_state`, `_source`, `_probes` (with a comma before, between and after), and
    /// `_label_NAME` for each label of the VM.
    pub labels: BTreeMap<String, String>,
}

/// Returns a label's name as Prometheus takes it: other characters than letters, digits and `_` become `_`.
fn meta(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("__meta_vouch_{}", name.chars().map(plain).collect::<String>())
}

fn target_group(state: &Records, id: VmId, vm: &VmRecord) -> TargetGroup {
    let probes: BTreeSet<&str> = state.probes_of(vm).into_iter().map(|p| p.assignment.probe.as_str()).collect();
    let told = [
        ("name", vm.spec.name.clone()),
        ("node", vm.node.to_string()),
        ("state", vm.verdict.state.as_str().to_owned()),
        ("source", compose::source_of(state, vm).as_str().to_owned()),
        ("probes", probes.iter().fold(",".to_owned(), |all, probe| all + probe + ",")),
    ];
    let own = told.into_iter().map(|(name, value)| (meta(name), value));
    let labels = vm.spec.labels.iter().map(|(name, value)| (meta(&format!("label_{name}")), value.clone()));
    TargetGroup { targets: vec![id.to_string()], labels: own.chain(labels).collect() }
}

/// All VMs as targets of `/probe`, for `http_sd_config` of Prometheus.
#[utoipa::path(
    get, path = "/v1/discovery/prometheus", tag = "prometheus",
    params(
        ("node" = Option<String>, Query, description = "Only VMs of this node"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
    ),
    responses(
        (status = 200, description = "One group for each VM", body = Vec<TargetGroup>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn discovery(
    State(api): State<Api>,
    mut params: Params,
) -> Result<(HeaderMap, Json<Vec<TargetGroup>>), Problem> {
    let wanted = Wanted::take(&mut params)?;
    let node: Option<NodeId> = params.parse("node", "must be the name of a node")?;
    params.finish(&["node", "consistency"])?;
    let headers = make_current(&api, wanted).await?;
    let groups = published::read(api.published(), |state| {
        let vms = state.vms().iter().filter(|(_, vm)| node.as_ref().is_none_or(|n| vm.node == *n));
        vms.map(|(id, vm)| target_group(state, *id, vm)).collect()
    });
    Ok((headers, Json(groups)))
}
