//! `fairlead negotiate`, `fairlead negotiation …` and `fairlead agreement …`.

use proto::admin;

use super::args::{AgreementCommand, ChangeArgs, NegotiateArgs, NegotiationCommand};
use super::client::Admin;
use super::datasets::{clause_lines, page_request, read_text};
use super::output::{Failure, Output, exit, facts};

/// Largest offer text taken from a file.
const MAX_TERMS_BYTES: u64 = 256 * 1024;

pub(super) async fn negotiate(output: Output, admin: &mut Admin, args: NegotiateArgs) -> Result<(), Failure> {
    let text = |file: Option<&std::path::Path>| {
        Ok::<_, Failure>(file.map(|file| read_text(file, MAX_TERMS_BYTES)).transpose()?.unwrap_or_default())
    };
    let request = admin::NegotiateRequest {
        dataset: args.dataset,
        offer: args.offer,
        offer_text: text(args.terms.as_deref())?,
        ceiling_text: text(args.ceiling.as_deref())?,
        wait_seconds: args.wait,
        counterparty: args.peer,
        counterparty_address: args.peer_url,
    };
    let negotiation = admin.negotiate(request).await?.into_inner();
    show(output, &negotiation)
}

pub(super) async fn run(
    output: Output,
    admin: &mut Admin,
    command: NegotiationCommand,
) -> Result<(), Failure> {
    let negotiation = match command {
        NegotiationCommand::List(page) => {
            let list = admin.list_negotiations(page_request(page)).await?.into_inner();
            return output.list(
                &list.negotiations,
                ["negotiation", "role", "counterparty", "dataset", "state", "waits for"],
                |row| {
                    let [id, role, peer] = [row.id.clone(), row.role.clone(), row.counterparty.clone()];
                    [id, role, peer, row.dataset.clone(), row.state.clone(), row.waits_for.clone()]
                },
                &list.next_page_token,
            );
        }
        NegotiationCommand::Show { id, wait } => {
            admin.show_negotiation(admin::ShowNegotiationRequest { id, wait_seconds: wait }).await?
        }
        NegotiationCommand::Accept { id } => {
            admin.accept_negotiation(admin::DecideNegotiationRequest { id, reason: String::new() }).await?
        }
        NegotiationCommand::Counter { id, terms } => {
            let offer_text = read_text(&terms, MAX_TERMS_BYTES)?;
            admin.counter_negotiation(admin::CounterNegotiationRequest { id, offer_text }).await?
        }
        NegotiationCommand::Terminate { id, reason } => {
            let ended = admin.terminate_negotiation(admin::DecideNegotiationRequest { id, reason }).await?;
            // What was asked for happened: a terminated negotiation is no failure here.
            return output.show(&ended.into_inner(), negotiation_facts);
        }
    };
    show(output, &negotiation.into_inner())
}

pub(super) async fn agreement(
    output: Output,
    admin: &mut Admin,
    command: AgreementCommand,
) -> Result<(), Failure> {
    let change = |ChangeArgs { id, reason }| admin::ChangeAgreementRequest { id, reason };
    let agreement = match command {
        AgreementCommand::List(page) => {
            let list = admin.list_agreements(page_request(page)).await?.into_inner();
            return output.list(
                &list.agreements,
                ["agreement", "role", "dataset", "assigner", "assignee", "status"],
                |row| {
                    let [id, role, dataset] = [row.id.clone(), row.role.clone(), row.dataset.clone()];
                    [id, role, dataset, row.assigner.clone(), row.assignee.clone(), row.status.clone()]
                },
                &list.next_page_token,
            );
        }
        AgreementCommand::Show { id } => {
            let language = output.language.tag().into();
            admin.show_agreement(admin::ShowAgreementRequest { id, language }).await?
        }
        AgreementCommand::Suspend(args) => admin.suspend_agreement(change(args)).await?,
        AgreementCommand::Resume(args) => admin.resume_agreement(change(args)).await?,
        AgreementCommand::Revoke(args) => admin.revoke_agreement(change(args)).await?,
    };
    output.show(&agreement.into_inner(), agreement_text)
}

/// Prints a negotiation; one that the other side or a rule ended is a refusal.
fn show(output: Output, negotiation: &admin::Negotiation) -> Result<(), Failure> {
    output.show(negotiation, negotiation_facts)?;
    if negotiation.state != "TERMINATED" {
        return Ok(());
    }
    Err(Failure {
        code: if negotiation.code.is_empty() { "negotiation/terminated".into() } else { negotiation.code.clone() },
        text: "the negotiation ended without an agreement".into(),
        detail: negotiation.reason.clone(),
        next: "`fairlead catalogue show DATASET` tells the offer's terms; `fairlead policy explain` what they need".into(),
        exit: exit::REFUSED_BY_PEER,
    })
}

fn negotiation_facts(negotiation: &admin::Negotiation) -> String {
    facts(&[
        ("negotiation", negotiation.id.clone()),
        ("role", negotiation.role.clone()),
        ("counterparty", negotiation.counterparty.clone()),
        ("dataset", negotiation.dataset.clone()),
        ("state", negotiation.state.clone()),
        ("waits for", negotiation.waits_for.clone()),
        ("offer", negotiation.offer.clone()),
        (
            "terms",
            if negotiation.terms_altered { "differ from the published offer".into() } else { String::new() },
        ),
        ("agreement", negotiation.agreement.clone()),
        ("code", negotiation.code.clone()),
        ("reason", negotiation.reason.clone()),
        ("updated", negotiation.updated.clone()),
    ])
}

fn agreement_text(agreement: &admin::Agreement) -> String {
    let mut text = facts(&[
        ("agreement", agreement.id.clone()),
        ("role", agreement.role.clone()),
        ("dataset", agreement.dataset.clone()),
        ("assigner", agreement.assigner.clone()),
        ("assignee", agreement.assignee.clone()),
        ("status", agreement.status.clone()),
        ("changed by", agreement.changed_by.clone()),
        ("reason", agreement.reason.clone()),
        ("signed at", agreement.signed_at.clone()),
        ("not signed by", agreement.unsigned_by.clone()),
        ("hash", agreement.hash.clone()),
        ("valid until", agreement.valid_until.clone()),
    ]);
    if !agreement.clauses.is_empty() {
        text.push_str(&format!("\nclauses\n{}", clause_lines(&agreement.clauses)));
    }
    text
}
