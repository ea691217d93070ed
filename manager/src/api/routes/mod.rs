//! One file per group of routes; each says in its `utoipa::path` what it takes and answers.

pub mod backup;
pub mod ca;
pub mod cluster;
pub mod events;
pub mod explain;
pub mod fencing;
pub mod health;
pub mod incidents;
pub mod join_tokens;
pub mod maintenances;
pub mod members;
pub mod metrics;
pub mod nodes;
pub mod policies;
pub mod probe_assignments;
pub mod probe_grants;
pub mod probe_keys;
pub mod probe_rollouts;
pub mod probes;
pub mod prometheus;
pub mod vms;
pub mod watchers;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::view::Page;

/// Returns all public routes with their description.
pub(super) fn public_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(vms::list))
        .routes(routes!(vms::show))
        .routes(routes!(vms::evidence))
        .routes(routes!(vms::history))
        .routes(routes!(vms::check))
        .routes(routes!(explain::explain))
        .routes(routes!(explain::story))
        .routes(routes!(policies::of_vm))
        .routes(routes!(fencing::forget_pins))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::show, nodes::remove))
        .routes(routes!(fencing::prove, fencing::withdraw))
        .routes(routes!(incidents::list))
        .routes(routes!(incidents::show))
        .routes(routes!(policies::list))
        .routes(routes!(policies::show, policies::set, policies::remove))
        .routes(routes!(maintenances::list, maintenances::begin))
        .routes(routes!(maintenances::show, maintenances::end))
        .routes(routes!(join_tokens::list, join_tokens::create))
        .routes(routes!(join_tokens::revoke))
        .routes(routes!(watchers::list))
        .routes(routes!(probes::list, probes::upload))
        .routes(routes!(probe_grants::set))
        .routes(routes!(probe_rollouts::promote))
        .routes(routes!(probe_rollouts::abort))
        .routes(routes!(probe_assignments::list))
        .routes(routes!(probe_assignments::show, probe_assignments::set, probe_assignments::remove))
        .routes(routes!(probe_keys::list, probe_keys::add))
        .routes(routes!(probe_keys::remove))
        .routes(routes!(probe_keys::show_trust, probe_keys::set_trust))
        .routes(routes!(events::list))
        .routes(routes!(cluster::show))
        .routes(routes!(cluster::init))
        .routes(routes!(ca::show))
        .routes(routes!(ca::rotate))
        .routes(routes!(ca::switch))
        .routes(routes!(ca::finish))
        .routes(routes!(members::add))
        .routes(routes!(members::promote))
        .routes(routes!(members::remove))
        .routes(routes!(members::transfer))
        .routes(routes!(backup::backup))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(prometheus::probe))
        .routes(routes!(prometheus::discovery))
        .routes(routes!(super::openapi::document))
}

/// Cuts a page out of an ordered list: the first `limit` items, and the key of the last one if there are more.
fn page<T>(mut items: impl Iterator<Item = T>, limit: usize, key: impl Fn(&T) -> String) -> Page<T> {
    let page: Vec<T> = items.by_ref().take(limit).collect();
    let next = items.next().and_then(|_| page.last().map(key));
    Page { items: page, next }
}
