//! Transfers as our operator sees and steers them.

use std::sync::Arc;

use control_plane::cause::Cause;
use control_plane::durable;
use control_plane::ids::AgreementId;
use control_plane::pids::Role;
use control_plane::status::{Act, Holds};
use control_plane::transfer::{Command, DataAddress, GRPC_PULL, State, TransferProcess};
use futures::stream;
use proto::admin;
use store::{Collection, Signal};
use tonic::Status;

use super::{Answers, instant, next_page, page, refuse};
use crate::data;
use crate::driver::{records, transfers};
use crate::error::Error;
use crate::http;
use crate::node::Node;

/// Asks for the dataset of an agreement.
pub async fn start(node: &Arc<Node>, request: admin::StartTransferRequest) -> Result<admin::Transfer, Error> {
    let agreement = AgreementId::parse(&request.agreement)?;
    let address = match request.counterparty_address.as_str() {
        "" => None,
        address => {
            let id = agreement.clone();
            let held = node.store.read(move |store| records::agreement(store, &id)).await?;
            let held = records::found(held, &transfers::AGREEMENT_NOT_FOUND, agreement.as_str())?;
            Some(http::counterparty(node, held.signed.agreement().assigner(), address)?)
        }
    };
    let format = if request.format.is_empty() { GRPC_PULL } else { &request.format };
    let process = transfers::open(node, agreement, format, address).await?;
    shown(node, &process).await
}

/// All transfers, oldest first.
pub async fn list(node: &Arc<Node>, request: admin::PageRequest) -> Result<admin::TransferList, Error> {
    let (rows, after) = page(&request);
    let found =
        node.store.read(move |store| store.scan(Collection::Transfers, "", after.as_deref(), rows)).await?;
    let mut transfers = Vec::new();
    for row in &found {
        let process =
            durable::decode_transfer(&row.value).map_err(|cause| Error::damaged(&row.key, cause))?;
        transfers.push(shown(node, &process).await?);
    }
    Ok(admin::TransferList { transfers, next_page_token: next_page(rows, found.last(), found.len()) })
}

/// One transfer.
pub async fn show(node: &Arc<Node>, request: admin::ShowTransferRequest) -> Result<admin::Transfer, Error> {
    let process = transfers::get(node, &request.id).await?;
    let endpoint_properties = match address(process.state()) {
        // Ours are for the consumer alone.
        Some(address) if process.role() == Role::Consumer => {
            address.properties().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        Some(_) | None => Default::default(),
    };
    Ok(admin::Transfer { endpoint_properties, ..shown(node, &process).await? })
}

/// Pauses a transfer.
pub async fn suspend(
    node: &Arc<Node>,
    request: admin::ChangeTransferRequest,
) -> Result<admin::Transfer, Error> {
    let cause = Cause::new("transfer/suspended", [request.reason.as_str()]);
    shown(node, &transfers::command(node, &request.id, Command::Suspend(cause)).await?).await
}

/// Lets a transfer that waits for us start, or one that we paused go on.
pub async fn resume(
    node: &Arc<Node>,
    request: admin::ChangeTransferRequest,
) -> Result<admin::Transfer, Error> {
    shown(node, &transfers::start(node, &request.id).await?).await
}

/// Says that all bytes have arrived, where this connector does not see it itself.
pub async fn complete(
    node: &Arc<Node>,
    request: admin::ChangeTransferRequest,
) -> Result<admin::Transfer, Error> {
    shown(node, &transfers::command(node, &request.id, Command::Complete).await?).await
}

/// Ends a transfer for good.
pub async fn terminate(
    node: &Arc<Node>,
    request: admin::ChangeTransferRequest,
) -> Result<admin::Transfer, Error> {
    let cause = Cause::new("transfer/terminated", [request.reason.as_str()]);
    shown(node, &transfers::command(node, &request.id, Command::Terminate(cause)).await?).await
}

/// The transfer as it is, and again each time it or what it has received changes, until it ends.
pub async fn watch(
    node: &Arc<Node>,
    request: admin::ShowTransferRequest,
) -> Result<Answers<admin::Transfer>, Error> {
    transfers::get(node, &request.id).await?;
    let watched = Watched {
        node: node.clone(),
        id: request.id,
        processes: node.store.subscribe(Signal::Rows(Collection::Transfers)),
        progress: node.store.subscribe(Signal::Rows(Collection::Ingress)),
        last: None,
    };
    Ok(Box::pin(stream::unfold(Some(watched), |watched| async { watched?.next().await })))
}

struct Watched {
    node: Arc<Node>,
    id: String,
    processes: tokio::sync::watch::Receiver<u64>,
    progress: tokio::sync::watch::Receiver<u64>,
    last: Option<admin::Transfer>,
}

impl Watched {
    async fn next(mut self) -> Option<(Result<admin::Transfer, Status>, Option<Self>)> {
        loop {
            let found = async { shown(&self.node, &transfers::get(&self.node, &self.id).await?).await }.await;
            let transfer = match found {
                Ok(transfer) => transfer,
                Err(error) => return Some((Err(refuse(error)), None)),
            };
            if self.last.as_ref() != Some(&transfer) {
                let over = matches!(transfer.state.as_str(), "COMPLETED" | "TERMINATED");
                self.last = Some(transfer.clone());
                return Some((Ok(transfer), if over { None } else { Some(self) }));
            }
            tokio::select! {
                () = self.node.stop.cancelled() => return None,
                _ = self.processes.changed() => {}
                _ = self.progress.changed() => {}
            }
        }
    }
}

/// Code, reasons and who suspended.
fn suspension(holds: &Holds) -> (String, String, String) {
    let told = |act: &Act| (act.cause.code().to_owned(), act.cause.reasons().join("; "));
    match holds {
        Holds::One(role, act) => {
            let (code, reason) = told(act);
            (code, reason, role.to_string())
        }
        Holds::Both { consumer, provider } => {
            let ((code, ours), (_, theirs)) = (told(provider), told(consumer));
            (code, format!("{ours}; {theirs}"), "both".to_owned())
        }
    }
}

const fn address(state: &State) -> Option<&DataAddress> {
    match state {
        State::Started { data_address } | State::Suspended { data_address, .. } => data_address.as_ref(),
        State::Requested | State::Completed { .. } | State::Terminated { .. } => None,
    }
}

async fn shown(node: &Arc<Node>, process: &TransferProcess) -> Result<admin::Transfer, Error> {
    let progress = data::progress(node, process).await?;
    let (code, reason, suspended_by) = match process.state() {
        State::Suspended { holds, .. } => suspension(holds),
        State::Terminated { cause, .. } => {
            (cause.code().to_owned(), cause.reasons().join("; "), String::new())
        }
        State::Requested | State::Started { .. } | State::Completed { .. } => Default::default(),
    };
    Ok(admin::Transfer {
        id: process.pids().ours().to_owned(),
        peer_pid: process.pids().theirs().unwrap_or_default().to_owned(),
        role: process.role().to_string(),
        counterparty: process.counterparty().to_string(),
        agreement: process.agreement_id().to_string(),
        dataset: process.dataset().to_string(),
        state: process.state_name().as_str().to_owned(),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        objects_done: progress.objects_done,
        objects_total: progress.objects_total,
        manifest_digest: progress.manifest_digest,
        code,
        reason,
        suspended_by,
        updated: instant(process.updated()),
        format: process.format().to_owned(),
        endpoint: match (address(process.state()), process.destination()) {
            (Some(told), _) => told.endpoint().to_owned(),
            (None, Some(destination)) => http::client::shown(destination.endpoint()),
            (None, None) => String::new(),
        },
        endpoint_properties: Default::default(),
    })
}
