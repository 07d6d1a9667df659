//! The node under observation: its health listener, and the gauges that follow its state.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use control_plane::Refusal;
use store::StoreError;
use tokio::task::JoinSet;

use super::{HealthListener, Metrics, TelemetryError, metrics};
use crate::error::Error;
use crate::node::Node;
use crate::run::{CANNOT_LISTEN, not_ready_because};

/// Gauges are as fresh as a monitor that asks every few seconds can use.
const REFRESH: Duration = Duration::from_secs(5);

/// Serves health and metrics of `node` at the loopback `address` until the node stops; gives the address as bound.
pub async fn serve(
    node: &Arc<Node>,
    address: SocketAddr,
    tasks: &mut JoinSet<()>,
) -> Result<SocketAddr, Error> {
    let installed = Metrics::install().map_err(Error::ours)?;
    let asked = node.clone();
    let listener = HealthListener::bind(address, move || not_ready_because(&asked), installed).await;
    let listener = listener.map_err(|error| match error {
        TelemetryError::NotLoopback(_) | TelemetryError::Bind { .. } => {
            Error::from(Refusal::new(&CANNOT_LISTEN, error.to_string()))
        }
        TelemetryError::AlreadyInstalled(_) => Error::ours(error),
    })?;
    let bound = listener.address();
    tasks.spawn(listener.serve(node.stop.clone()));
    tasks.spawn(watch(node.clone()));
    Ok(bound)
}

async fn watch(node: Arc<Node>) {
    let mut due = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            () = node.stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let counted =
            node.store.read(|store| Ok::<_, StoreError>((store.outbox_len()?, store.ledger_head()?.size)));
        match counted.await {
            Ok((waiting, records)) => {
                metrics::outbox_waiting(waiting);
                metrics::ledger_records(records);
            }
            Err(error) => tracing::warn!(%error, "cannot count the outbox and the ledger"),
        }
        metrics::catalogue_datasets(node.catalogue.len());
        metrics::connections(node.connections.open().len());
        metrics::certificate_expires(node.identity.certificate().not_after());
        metrics::statement_expires(node.statement.load().statement.expires);
        metrics::ready(not_ready_because(&node).is_empty());
    }
}
