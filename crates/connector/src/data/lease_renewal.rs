//! Renewal of key leases while sessions are open.

use std::sync::Arc;
use std::time::Duration;

use control_plane::ids::AgreementId;

use super::lease_provider::{MAX_NAMED, SessionUse};
use super::leases::{For, NoLease, ask};
use crate::driver::records;
use crate::node::Node;

/// Renews while sessions are open, and lets shares go when their lease has ended, until the node stops.
pub async fn run(node: Arc<Node>) {
    loop {
        for agreement in node.data.leases.due(node.now()) {
            tokio::spawn(renew(node.clone(), agreement));
        }
        let next = node.data.leases.next();
        let sleep = async {
            match next {
                Some(at) => {
                    let left = at.millis_since(node.now()).max(1).unsigned_abs();
                    tokio::time::sleep(Duration::from_millis(left)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = node.data.leases.changed.notified() => {}
            () = sleep => {}
        }
    }
}

async fn renew(node: Arc<Node>, agreement: AgreementId) {
    let turn = node.data.leases.turn(&agreement);
    // Somebody is asking already.
    let Ok(asking) = turn.try_lock() else { return };
    let sessions = node.data.leases.sessions().get(&agreement).cloned().unwrap_or_default();
    let objects: Vec<u32> = node
        .data
        .leases
        .held()
        .get(&agreement)
        .map(|lease| lease.shares.keys().copied().collect())
        .unwrap_or_default();
    if sessions.is_empty() {
        return;
    }
    let renewed = renew_all(&node, &agreement, &objects, &sessions).await;
    drop(asking);
    match renewed {
        Ok(()) => {}
        Err(NoLease::Refused(reason)) => {
            tracing::warn!(%agreement, code = reason.code.code, detail = %reason.detail, "the provider ended the lease");
            node.data.stop_agreement(&agreement, &reason);
        }
        Err(no_lease) => {
            let why = no_lease.into_error().into_refusal();
            tracing::info!(%agreement, code = why.code.code, detail = %why.detail, "the lease was not renewed yet");
        }
    }
}

/// In requests of bounded size: each names some of the objects and some of the sessions.
async fn renew_all(
    node: &Arc<Node>,
    id: &AgreementId,
    objects: &[u32],
    sessions: &[SessionUse],
) -> Result<(), NoLease> {
    let key = id.clone();
    let held = node.store.read(move |store| records::agreement(store, &key)).await?;
    let held = records::found(held, &crate::driver::transfers::AGREEMENT_NOT_FOUND, id.as_str())?;
    let mut rest = objects.chunks(MAX_NAMED);
    for some in sessions.chunks(MAX_NAMED) {
        ask(node, &held, rest.next().unwrap_or_default(), For::Renewal(some)).await?;
    }
    for objects in rest {
        let some = sessions.get(..sessions.len().min(MAX_NAMED)).unwrap_or_default();
        ask(node, &held, objects, For::Renewal(some)).await?;
    }
    Ok(())
}
