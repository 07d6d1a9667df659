//! `fairlead transfer …`.

use control_plane::transfer::GRPC_PULL;
use indicatif::{ProgressBar, ProgressStyle};
use proto::admin;

use super::args::{ChangeArgs, TransferCommand};
use super::client::Admin;
use super::datasets::page_request;
use super::output::{Failure, Output, exit, facts};

pub(super) async fn run(output: Output, admin: &mut Admin, command: TransferCommand) -> Result<(), Failure> {
    let change = |ChangeArgs { id, reason }| admin::ChangeTransferRequest { id, reason };
    let transfer = match command {
        TransferCommand::Start { agreement, format, peer_url, no_wait } => {
            let request = admin::StartTransferRequest { agreement, counterparty_address: peer_url, format };
            let started = admin.start_transfer(request).await?.into_inner();
            // Another client pulls another format: there is nothing to follow once it may.
            let ours = started.format == GRPC_PULL;
            if no_wait { started } else { watch(output, admin, started, ours).await? }
        }
        TransferCommand::List(page) => {
            let list = admin.list_transfers(page_request(page)).await?.into_inner();
            return output.list(
                &list.transfers,
                ["transfer", "role", "agreement", "state", "bytes", "of"],
                |row| {
                    let [id, role, agreement] = [row.id.clone(), row.role.clone(), row.agreement.clone()];
                    [
                        id,
                        role,
                        agreement,
                        row.state.clone(),
                        row.bytes_done.to_string(),
                        row.bytes_total.to_string(),
                    ]
                },
                &list.next_page_token,
            );
        }
        TransferCommand::Show { id } => {
            admin.show_transfer(admin::ShowTransferRequest { id }).await?.into_inner()
        }
        TransferCommand::Suspend(args) => admin.suspend_transfer(change(args)).await?.into_inner(),
        TransferCommand::Resume(args) => admin.resume_transfer(change(args)).await?.into_inner(),
        TransferCommand::Complete(args) => admin.complete_transfer(change(args)).await?.into_inner(),
        TransferCommand::Terminate(args) => {
            let ended = admin.terminate_transfer(change(args)).await?.into_inner();
            return output.show(&ended, transfer_facts);
        }
    };
    output.show(&transfer, transfer_facts)?;
    if transfer.state != "TERMINATED" {
        return Ok(());
    }
    Err(Failure {
        code: if transfer.code.is_empty() { "transfer/terminated".into() } else { transfer.code.clone() },
        text: "the transfer ended before all bytes were here".into(),
        detail: transfer.reason.clone(),
        next: "`fairlead agreement show AGREEMENT` tells whether the agreement still permits it".into(),
        exit: exit::REFUSED_BY_PEER,
    })
}

/// Follows a transfer until it completes, ends or is suspended; shows progress where a person watches.
async fn watch(
    output: Output,
    admin: &mut Admin,
    started: admin::Transfer,
    ours: bool,
) -> Result<admin::Transfer, Failure> {
    let mut changes =
        admin.watch_transfer(admin::ShowTransferRequest { id: started.id.clone() }).await?.into_inner();
    let bar =
        if output.shows_progress() { ProgressBar::new(started.bytes_total) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}") {
        bar.set_style(style);
    }
    let mut latest = started;
    while let Some(transfer) = changes.message().await? {
        bar.set_length(transfer.bytes_total);
        bar.set_position(transfer.bytes_done);
        bar.set_message(transfer.state.clone());
        let over = matches!(transfer.state.as_str(), "COMPLETED" | "TERMINATED" | "SUSPENDED")
            || (!ours && transfer.state == "STARTED");
        latest = transfer;
        if over {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(latest)
}

fn transfer_facts(transfer: &admin::Transfer) -> String {
    let mut properties: Vec<String> =
        transfer.endpoint_properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
    properties.sort_unstable();
    facts(&[
        ("transfer", transfer.id.clone()),
        ("role", transfer.role.clone()),
        ("counterparty", transfer.counterparty.clone()),
        ("agreement", transfer.agreement.clone()),
        ("dataset", transfer.dataset.clone()),
        ("state", transfer.state.clone()),
        ("format", transfer.format.clone()),
        ("endpoint", transfer.endpoint.clone()),
        ("shown there", properties.join(" ")),
        ("suspended by", transfer.suspended_by.clone()),
        ("bytes", format!("{} of {}", transfer.bytes_done, transfer.bytes_total)),
        ("objects", format!("{} of {}", transfer.objects_done, transfer.objects_total)),
        ("manifest", transfer.manifest_digest.clone()),
        ("code", transfer.code.clone()),
        ("reason", transfer.reason.clone()),
        ("updated", transfer.updated.clone()),
    ])
}
