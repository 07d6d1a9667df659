//! `fairlead approval …` and `fairlead access …`.

use proto::admin;

use super::args::{AccessCommand, ApprovalCommand, ChangeArgs};
use super::client::Admin;
use super::datasets::page_request;
use super::output::{Failure, Output, facts};

pub(super) async fn run(output: Output, admin: &mut Admin, command: ApprovalCommand) -> Result<(), Failure> {
    let decided = |ChangeArgs { id, reason }| admin::DecideApprovalRequest { reference: id, reason };
    let approval = match command {
        ApprovalCommand::List(page) => {
            let list = admin.list_approvals(page_request(page)).await?.into_inner();
            return output.list(
                &list.approvals,
                ["reference", "act", "asked by", "asked", "state", "decided by"],
                |row| {
                    let [reference, act, requester] =
                        [row.reference.clone(), row.act.clone(), row.requester.clone()];
                    [
                        reference,
                        act,
                        requester,
                        row.requested.clone(),
                        row.state.clone(),
                        row.decided_by.clone(),
                    ]
                },
                &list.next_page_token,
            );
        }
        ApprovalCommand::Show { reference } => {
            let request = admin::DecideApprovalRequest { reference, reason: String::new() };
            admin.show_approval(request).await?
        }
        ApprovalCommand::Approve(args) => admin.approve(decided(args)).await?,
        ApprovalCommand::Reject(args) => admin.reject_approval(decided(args)).await?,
        ApprovalCommand::Withdraw(args) => admin.withdraw_approval(decided(args)).await?,
    };
    output.show(&approval.into_inner(), |approval| {
        facts(&[
            ("reference", approval.reference.clone()),
            ("act", approval.act.clone()),
            ("request", approval.request.clone()),
            ("asked by", approval.requester.clone()),
            ("asked", approval.requested.clone()),
            ("expires", approval.expires.clone()),
            ("state", approval.state.clone()),
            ("decided by", approval.decided_by.clone()),
            ("decided", approval.decided.clone()),
            ("outcome", approval.outcome.clone()),
        ])
    })
}

pub(super) async fn access(output: Output, admin: &mut Admin, command: AccessCommand) -> Result<(), Failure> {
    let decided = |ChangeArgs { id, reason }| admin::DecideAccessRequest { reference: id, reason };
    let request = match command {
        AccessCommand::List(page) => {
            let list = admin.list_access_requests(page_request(page)).await?.into_inner();
            return output.list(
                &list.requests,
                ["reference", "dataset", "asked by", "state", "negotiation", "copy"],
                |row| {
                    let [reference, dataset, requester] =
                        [row.reference.clone(), row.dataset.clone(), row.requester.clone()];
                    [
                        reference,
                        dataset,
                        requester,
                        row.state.clone(),
                        row.negotiation_state.clone(),
                        row.copy.clone(),
                    ]
                },
                &list.next_page_token,
            );
        }
        AccessCommand::Request { dataset, offer, purpose, note } => {
            admin.request_access(admin::RequestAccessRequest { dataset, offer, purpose, note }).await?
        }
        AccessCommand::Show { reference } => {
            let request = admin::DecideAccessRequest { reference, reason: String::new() };
            admin.show_access_request(request).await?
        }
        AccessCommand::Approve(args) => admin.approve_access(decided(args)).await?,
        AccessCommand::Reject(args) => admin.reject_access(decided(args)).await?,
        AccessCommand::Withdraw(args) => admin.withdraw_access(decided(args)).await?,
    };
    output.show(&request.into_inner(), |request| {
        facts(&[
            ("reference", request.reference.clone()),
            ("state", request.state.clone()),
            ("dataset", request.dataset.clone()),
            ("offer", request.offer.clone()),
            ("purpose", request.purpose.clone()),
            ("note", request.note.clone()),
            ("asked by", request.requester.clone()),
            ("asked", request.requested.clone()),
            ("decided by", request.decided_by.clone()),
            ("decided", request.decided.clone()),
            ("reason", request.reason.clone()),
            ("negotiation", request.negotiation.clone()),
            ("negotiation is", request.negotiation_state.clone()),
            ("agreement", request.agreement.clone()),
            ("copy", request.copy.clone()),
        ])
    })
}
