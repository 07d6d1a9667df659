//! `fairlead use` and `fairlead holdings …`.

use std::io::{self, Write};
use std::path::PathBuf;

use proto::admin::{self, use_response::Step};

use super::args::{HoldingsCommand, UseArgs};
use super::client::Admin;
use super::datasets::{clause_lines, page_request};
use super::output::{Failure, Output, exit, facts, table};

/// Writing a file leaves an unsealed copy: an action of its own, which the policy must permit.
const EXPORT: &str = "fl:export";

pub(super) async fn use_data(output: Output, admin: &mut Admin, args: UseArgs) -> Result<(), Failure> {
    let file = (args.output != "-").then(|| PathBuf::from(&args.output));
    if file.as_deref().is_some_and(std::path::Path::exists) {
        return Err(Failure::usage(
            format!("`{}` exists", args.output),
            "name a file that does not exist yet",
        ));
    }
    let request = admin::UseRequest {
        agreement: args.agreement,
        action: if file.is_some() { EXPORT.into() } else { args.action },
        purpose: args.purpose,
        recipient: args.recipient,
        application: args.application,
        object: args.object,
        offset: args.offset,
        length: args.length,
        language: output.language.tag().into(),
    };
    if args.explain {
        return explain(output, admin, request).await;
    }
    let mut answer = admin.r#use(request).await?.into_inner();
    // The file appears only once the grant is here: a refused use leaves nothing behind.
    let mut sink: Option<Box<dyn Write + Send>> = None;
    while let Some(message) = answer.message().await? {
        match message.step {
            Some(Step::Grant(grant)) => {
                sink = Some(open_sink(file.as_ref())?);
                if grant.uses_left >= 0 {
                    output.note(&format!("granted; {} uses left after this one", grant.uses_left));
                }
            }
            Some(Step::Data(bytes)) => {
                let Some(sink) = sink.as_mut() else {
                    return Err(Failure::ours("data arrived before its grant"));
                };
                match sink.write_all(&bytes) {
                    // Who reads our output has seen enough (`| head`): the session ends with this connection.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    written => written.map_err(Failure::ours)?,
                }
            }
            Some(Step::Receipt(receipt)) => {
                if let Some(sink) = sink.as_mut() {
                    sink.flush().map_err(Failure::ours)?;
                }
                output.note(&format!("{} bytes; session {}", receipt.bytes, receipt.session));
                return Ok(());
            }
            None => {}
        }
    }
    Err(Failure {
        code: "use/interrupted".into(),
        text: "the session ended before its receipt".into(),
        detail: "the use counts as spent".into(),
        next: "`fairlead holdings show AGREEMENT` tells what is left".into(),
        exit: exit::UNAVAILABLE,
    })
}

fn open_sink(file: Option<&PathBuf>) -> Result<Box<dyn Write + Send>, Failure> {
    match file {
        None => Ok(Box::new(io::stdout())),
        Some(path) => {
            let created = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
            created.map(|file| Box::new(file) as Box<dyn Write + Send>).map_err(|error| {
                Failure::usage(
                    format!("cannot create `{}`: {error}", path.display()),
                    "the use is spent; check the path",
                )
            })
        }
    }
}

async fn explain(output: Output, admin: &mut Admin, request: admin::UseRequest) -> Result<(), Failure> {
    let explanation = admin.explain_use(request).await?.into_inner();
    output.show(&explanation, |explanation| {
        let mut text = facts(&[
            ("outcome", explanation.outcome.clone()),
            ("code", explanation.code.clone()),
            ("because", explanation.text.clone()),
            ("valid until", explanation.valid_until.clone()),
        ]);
        for detail in &explanation.details {
            text.push_str(&format!("\n  - {detail}"));
        }
        text
    })
}

pub(super) async fn run(output: Output, admin: &mut Admin, command: HoldingsCommand) -> Result<(), Failure> {
    let language = output.language.tag().to_owned();
    let holding = match command {
        HoldingsCommand::List(page) => {
            let list = admin.list_holdings(page_request(page)).await?.into_inner();
            return output.list(
                &list.holdings,
                ["agreement", "dataset", "state", "uses", "left", "changes at"],
                |row| {
                    let [agreement, dataset, state] =
                        [row.agreement.clone(), row.dataset.clone(), row.state.clone()];
                    [
                        agreement,
                        dataset,
                        state,
                        row.uses.to_string(),
                        uses_left(row.uses_left),
                        row.changes_at.clone(),
                    ]
                },
                &list.next_page_token,
            );
        }
        HoldingsCommand::Show { agreement } => {
            admin.show_holding(admin::ShowHoldingRequest { agreement, language }).await?
        }
        HoldingsCommand::Delete { agreement } => {
            admin.delete_holding(admin::ShowHoldingRequest { agreement, language }).await?
        }
    };
    output.show(&holding.into_inner(), holding_text)
}

fn uses_left(left: i64) -> String {
    if left < 0 { "not counted".into() } else { left.to_string() }
}

fn holding_text(holding: &admin::Holding) -> String {
    let mut text = facts(&[
        ("agreement", holding.agreement.clone()),
        ("status", holding.agreement_status.clone()),
        ("dataset", holding.dataset.clone()),
        ("from", holding.assigner.clone()),
        ("copy", holding.state.clone()),
        ("transform", holding.transform.clone()),
        ("derived from", holding.derived_from.join(" ")),
        ("uses", holding.uses.to_string()),
        ("counted by", holding.unit_of_count.clone()),
        ("uses left", uses_left(holding.uses_left)),
        ("first use", holding.first_use.clone()),
        ("changes at", holding.changes_at.clone()),
        ("what changes", holding.changes.clone()),
    ]);
    if !holding.lease.is_empty() {
        let lease = facts(&[
            ("lease", holding.lease.clone()),
            ("leased at", holding.leased_at.clone()),
            ("leased until", holding.lease_until.clone()),
        ]);
        text.push_str(&format!("\n{lease}"));
    }
    let section = |text: &mut String, name: &str, table: String| {
        if !table.is_empty() {
            text.push_str(&format!("\n\n{name}\n{table}"));
        }
    };
    let may = table(["action", "now", "until", "needs"], &holding.may, |row| {
        let now =
            if row.code.is_empty() { row.outcome.clone() } else { format!("{}: {}", row.outcome, row.code) };
        [row.action.clone(), now, row.until.clone(), row.needs.join(", ")]
    });
    section(&mut text, "may be done", may);
    let duties = table(["duty", "state", "deadline", "by", "evidence"], &holding.duties, |duty| {
        let [action, state, deadline] = [duty.action.clone(), duty.state.clone(), duty.deadline.clone()];
        [action, state, deadline, duty.performed_by.clone(), duty.evidence.clone()]
    });
    section(&mut text, "duties", duties);
    let sessions = table(["session", "user", "action", "purpose", "until"], &holding.sessions, |open| {
        let [session, actor, action] = [open.session.clone(), open.actor.clone(), open.action.clone()];
        [session, actor, action, open.purpose.clone(), open.valid_until.clone()]
    });
    section(&mut text, "open sessions", sessions);
    let objects = table(["object", "bytes", "copy", "digest"], &holding.objects, |object| {
        [object.path.clone(), object.bytes.to_string(), object.state.clone(), object.digest.clone()]
    });
    section(&mut text, "objects", objects);
    for copy in &holding.unsealed_copies {
        text.push_str(&format!("\nunsealed copy  {copy}"));
    }
    let layers = table(["clause", "part", "term", "held"], &holding.layers, |held| {
        [held.clause.clone(), held.part.clone(), held.term.clone(), held.layer.clone()]
    });
    section(&mut text, "how it is held", layers);
    if !holding.clauses.is_empty() {
        section(&mut text, "clauses", clause_lines(&holding.clauses));
    }
    text
}
