//! Carries out the managers' orders on watcher VMs, one after the other, each once its fence is written down.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{info, warn};
use vouch_types::WatcherId;
use vouch_wire::convert::{CreateWatcher, Fence};
use vouch_wire::proto;

use super::Shared;
use crate::hypervisor::WatcherOrder;
use crate::hypervisor::qemu::error_chain;
use crate::store::{NodeMemory, NodeStore, OrderFence, OrderSubject, StoreError};

/// How many orders may wait. Managers send an order again until it is reported done, so more are dropped.
pub(crate) const ORDERS_QUEUE: usize = 64;

/// One order, and where its result goes.
pub(crate) struct Order {
    pub(crate) kind: OrderKind,
    pub(crate) result: mpsc::Sender<proto::OrderResult>,
}

pub(crate) enum OrderKind {
    Create(CreateWatcher),
    Destroy { fence: Fence, watcher: WatcherId },
}

pub(crate) fn order_fence(fence: Fence) -> OrderFence {
    OrderFence { term: fence.term, log_index: fence.log_index }
}

/// Changes the node's memory off the runtime: a change is an fsync.
pub(crate) async fn update<T: Send + 'static>(
    store: &NodeStore,
    change: impl FnOnce(&mut NodeMemory) -> T + Send + 'static,
) -> Result<T, StoreError> {
    let blocking = store.clone();
    match tokio::task::spawn_blocking(move || blocking.update(change)).await {
        Ok(result) => result,
        Err(e) => Err(StoreError::Damaged { path: "node.json".into(), why: e.to_string() }),
    }
}

pub(crate) struct OrderTask {
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
}

impl OrderTask {
    pub(crate) fn new(shared: Arc<Shared>, orders: mpsc::Receiver<Order>) -> Self {
        Self { shared, orders }
    }

    pub(crate) async fn run(mut self) {
        while let Some(order) = self.orders.recv().await {
            let result = self.obey(order.kind).await;
            // The session may be gone; the manager sees the watcher in the reports as well.
            let _ = order.result.try_send(result);
        }
    }

    async fn obey(&self, kind: OrderKind) -> proto::OrderResult {
        use proto::order_result::Result as Outcome;
        let (watcher, fence) = match &kind {
            OrderKind::Create(order) => (order.watcher, order.fence),
            OrderKind::Destroy { fence, watcher } => (*watcher, *fence),
        };
        let admitted =
            update(&self.shared.store, move |m| m.admit(OrderSubject::Watcher(watcher), order_fence(fence))).await;
        let refused = match admitted {
            Ok(Ok(())) => None,
            Ok(Err(stale)) => Some(stale.to_string()),
            Err(e) => Some(error_chain(&e)),
        };
        let outcome = match (refused, kind) {
            (Some(why), _) => Err(why),
            (None, OrderKind::Create(order)) => {
                let managers = order.managers.iter().map(|e| (e.manager, e.network, e.address)).collect();
                let order = WatcherOrder {
                    watcher,
                    placed: order.placed,
                    secret: order.secret.to_vec(),
                    ca_certificate: order.ca_certificate,
                    managers,
                };
                let created = self.shared.hypervisor.create_watcher(order).await;
                created.map(|()| Outcome::Created(true)).map_err(|e| error_chain(&e))
            }
            (None, OrderKind::Destroy { .. }) => {
                let destroyed = self.shared.hypervisor.destroy_watcher(watcher).await;
                destroyed.map(|()| Outcome::Destroyed(true)).map_err(|e| error_chain(&e))
            }
        };
        match &outcome {
            Ok(done) => info!(watcher_id = %watcher, ?done, log_index = fence.log_index.get(), "order done"),
            Err(why) => warn!(watcher_id = %watcher, why, log_index = fence.log_index.get(), "order not done"),
        }
        let result = Some(outcome.unwrap_or_else(Outcome::Failed));
        proto::OrderResult { watcher: watcher.get(), result }
    }
}
