//! `/metrics`: counts in the OpenMetrics text format. Made anew for each scrape from the state and the process.
//!
//! Counts only, no series per VM: a farm of 100,000 VMs must not become as many series.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{HeaderName, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use vouch_types::{Source, WatcherLife};
use vouch_wire::convert::{BOUNDS_MICROS, DurationHistogram, DurationKey};

use crate::api::incidents::{SCOPE_KINDS, scope_parts};
use crate::api::live::{Metric, MetricKind};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::{Api, compose, published};
use crate::store;

/// Media type of the OpenMetrics text format.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// Counts of this manager and of the cluster as it knows it.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn metrics(State(api): State<Api>) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let mut registry = Registry::with_prefix("vouch");
    let status = api.published().status();
    let own = || vec![("manager_id", status.manager.to_string())];
    published::read(api.published(), |state| register_state(&mut registry, state));
    gauge(&mut registry, "raft_term", "Raft term", [(own(), status.term.get())]);
    gauge(&mut registry, "raft_leader", "1 on the manager that leads", [(own(), u64::from(status.leads()))]);
    gauge(&mut registry, "raft_last_log_index", "Last entry of the log", [(own(), status.last_log.get())]);
    gauge(&mut registry, "raft_committed_index", "Last committed entry", [(own(), status.committed.get())]);
    gauge(&mut registry, "raft_applied_index", "Last applied entry", [(own(), status.applied.get())]);
    register_process(&mut registry, api.live().metrics().await);
    registry.register_collector(Box::new(Durations(api.live().durations())));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|e| Problem::new(ProblemKind::Internal, e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text))
}

fn gauge(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Gauge<u64, AtomicU64>>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}

fn register_state(registry: &mut Registry, state: &store::State) {
    let mut vms: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for vm in state.vms().values() {
        *vms.entry((vm.verdict.state.as_str(), compose::source_of(state, vm).as_str())).or_default() += 1;
    }
    let vms = vms
        .into_iter()
        .map(|((state, source), n)| (vec![("state", state.to_owned()), ("source", source.to_owned())], n));
    gauge(registry, "vm_state", "VMs by state and source", vms);

    let nodes = [Source::Direct, Source::Watcher].map(|source| {
        let n = state.nodes().values().filter(|node| node.path.source == source).count();
        (vec![("source", source.as_str().to_owned())], n as u64)
    });
    gauge(registry, "nodes", "Compute nodes by the source of their VMs' states", nodes);

    let lives = [WatcherLife::Placed, WatcherLife::Live, WatcherLife::Lost, WatcherLife::Retired];
    let watchers = lives.map(|life| {
        let n = state.watchers().values().filter(|watcher| watcher.life == life).count();
        (vec![("life", life.as_str().to_owned())], n as u64)
    });
    gauge(registry, "watchers", "Watchers by where they are in their life", watchers);
    let incidents = SCOPE_KINDS.map(|kind| {
        let n = state.open_incidents().filter(|incident| scope_parts(&incident.scope).0 == kind).count();
        (vec![("scope", kind.to_owned())], n as u64)
    });
    gauge(registry, "incidents_open", "Open incidents by what is shared", incidents);
    gauge(registry, "policies", "Policies", [(Vec::new(), state.policies().len() as u64)]);
    let windows = state.maintenances().len() as u64;
    gauge(registry, "maintenance_windows", "Maintenance windows that hold", [(Vec::new(), windows)]);
    let last = state.events().next_back().map_or(0, |event| event.index.get());
    gauge(registry, "event_index", "Log index of the last event", [(Vec::new(), last)]);
}

/// How long checks took, as a family of histograms.
#[derive(Debug)]
struct Durations(Vec<(DurationKey, DurationHistogram)>);

impl Collector for Durations {
    // Counts and microseconds of one process' life: far below 2^52.
    #[expect(clippy::cast_precision_loss, reason = "they are small")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "How long checks of VMs took that were answered, by probe, network and node of the VM";
        let (name, unit) = ("probe_duration", Some(&Unit::Seconds));
        let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        for (key, histogram) in &self.0 {
            let labels = [
                ("probe", key.probe.to_string()),
                ("network", key.network.to_string()),
                ("node_id", key.node.to_string()),
            ];
            let buckets: Vec<(f64, u64)> = bounds.clone().zip(histogram.counts).collect();
            let sum = histogram.sum_micros as f64 / 1e6;
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, histogram.total(), &buckets, None)?;
        }
        Ok(())
    }
}

fn register_process(registry: &mut Registry, metrics: Vec<Metric>) {
    let mut named: BTreeMap<&'static str, Vec<Metric>> = BTreeMap::new();
    for metric in metrics {
        named.entry(metric.name).or_default().push(metric);
    }
    for (name, metrics) in named {
        // The text format ends each help with a full stop of its own.
        let (help, kind) = (metrics[0].help.trim_end_matches('.'), metrics[0].kind);
        match kind {
            MetricKind::Gauge => gauge(registry, name, help, metrics.into_iter().map(|m| (m.labels, m.value))),
            MetricKind::Counter => {
                let family = Family::<Labels, Counter>::default();
                for metric in metrics {
                    family.get_or_create(&metric.labels).inc_by(metric.value);
                }
                registry.register(name, help, family);
            }
        }
    }
}
