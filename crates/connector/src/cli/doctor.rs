//! `fairlead doctor`, `status`, `peer`, `ledger` and `reload`.

use proto::admin;

use super::args::{ChangeArgs, DoctorCommand, LedgerArgs, PeerCommand};
use super::client::Admin;
use super::datasets::page_request;
use super::output::{Failure, Output, exit, facts};

pub(super) async fn run(output: Output, admin: &mut Admin, command: DoctorCommand) -> Result<(), Failure> {
    let address = match command {
        DoctorCommand::Here => String::new(),
        DoctorCommand::Peer { address } => address,
    };
    let report = admin.doctor_peer(admin::DoctorPeerRequest { address }).await?.into_inner();
    output.list(
        &report.checks,
        ["check", "verdict", "found", "next"],
        |check| {
            let found = if check.code.is_empty() {
                check.found.clone()
            } else {
                format!("{} [{}]", check.found, check.code)
            };
            [check.name.clone(), check.verdict.clone(), found, check.next.clone()]
        },
        "",
    )?;
    let Some(failed) = report.checks.iter().find(|check| check.verdict == "failed") else {
        return Ok(());
    };
    Err(Failure {
        code: if failed.code.is_empty() { "doctor/failed".into() } else { failed.code.clone() },
        text: format!("check `{}` failed", failed.name),
        detail: failed.found.clone(),
        next: failed.next.clone(),
        exit: exit::UNAVAILABLE,
    })
}

pub(super) async fn status(output: Output, admin: &mut Admin) -> Result<(), Failure> {
    let status = admin.get_status(admin::GetStatusRequest {}).await?.into_inner();
    output.show(&status, status_facts)
}

pub(super) async fn reload(output: Output, admin: &mut Admin) -> Result<(), Failure> {
    let status = admin.reload(admin::ReloadRequest {}).await?.into_inner();
    output.show(&status, status_facts)
}

fn status_facts(status: &admin::Status) -> String {
    facts(&[
        ("participant", status.participant.clone()),
        ("version", status.version.clone()),
        ("peers connect to", status.peer_listener.clone()),
        ("health and metrics", status.health_listener.clone()),
        (
            "ready",
            if status.ready { "yes".into() } else { format!("no: {}", status.not_ready_because.join("; ")) },
        ),
        ("certificate until", status.certificate_expires.clone()),
        ("statement until", status.statement_expires.clone()),
        ("revocation list", status.revocation_list_number.to_string()),
        ("catalogue", format!("{} datasets", status.datasets_in_catalogue)),
        ("outbox", format!("{} waiting", status.outbox_waiting)),
        ("policy classes held", class_list(&status.policy_classes)),
        ("ledger", format!("{} records, root {}", status.ledger_size, status.ledger_root)),
    ])
}

pub(super) fn class_list(classes: &[u32]) -> String {
    classes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) async fn peer(output: Output, admin: &mut Admin, command: PeerCommand) -> Result<(), Failure> {
    let change = |ChangeArgs { id, reason }| admin::ChangePeerRequest { participant: id, reason };
    let peer = match command {
        PeerCommand::List(page) => {
            let list = admin.list_peers(page_request(page)).await?.into_inner();
            return output.list(
                &list.peers,
                ["participant", "name", "jurisdiction", "state", "addresses", "classes", "last error"],
                |row| {
                    let [id, name, place] =
                        [row.participant.clone(), row.legal_name.clone(), row.jurisdiction.clone()];
                    let (addresses, classes) = (row.addresses.join(" "), class_list(&row.policy_classes));
                    [id, name, place, row.state.clone(), addresses, classes, row.last_error.clone()]
                },
                &list.next_page_token,
            );
        }
        PeerCommand::Suspend(args) => admin.suspend_peer(change(args)).await?,
        PeerCommand::Resume(args) => admin.resume_peer(change(args)).await?,
    };
    output.show(&peer.into_inner(), |peer| {
        facts(&[
            ("participant", peer.participant.clone()),
            ("name", peer.legal_name.clone()),
            ("state", peer.state.clone()),
            ("addresses", peer.addresses.join(" ")),
            ("policy classes held", class_list(&peer.policy_classes)),
        ])
    })
}

pub(super) async fn ledger(output: Output, admin: &mut Admin, args: LedgerArgs) -> Result<(), Failure> {
    let request = admin::ListLedgerRequest { from_seq: args.from, limit: args.limit };
    let page = admin.list_ledger(request).await?.into_inner();
    output.list(&page.records, ["seq", "record"], |row| [row.seq.to_string(), row.record.clone()], "")?;
    output.note(&format!("{} records in all, root {}", page.size, page.root));
    Ok(())
}
