//! `fairlead duty …` and `fairlead event …`.

use std::io::Read as _;
use std::path::Path;

use control_plane::digest::Digest;
use proto::admin;

use super::args::{DutyCommand, EventCommand};
use super::client::Admin;
use super::datasets::page_request;
use super::output::{Failure, Output, facts};

/// The largest document that is hashed as evidence: a scan, not an archive.
const MAX_EVIDENCE_BYTES: u64 = 64 * 1024 * 1024;

pub(super) async fn run(output: Output, admin: &mut Admin, command: DutyCommand) -> Result<(), Failure> {
    let duty = match command {
        DutyCommand::List { agreement, state, page } => {
            let request = admin::ListDutiesRequest { agreement, state, page: Some(page_request(page)) };
            let list = admin.list_duties(request).await?.into_inner();
            return output.list(
                &list.duties,
                ["id", "action", "state", "by", "deadline", "evidence"],
                |row| {
                    let [id, action, state] = [row.id.clone(), row.action.clone(), row.state.clone()];
                    [id, action, state, row.performed_by.clone(), row.deadline.clone(), row.evidence.clone()]
                },
                &list.next_page_token,
            );
        }
        DutyCommand::Show { id } => admin.show_duty(admin::ShowDutyRequest { id }).await?,
        DutyCommand::Fulfil { id, evidence, evidence_file } => {
            let evidence = match evidence_file {
                Some(file) => of_file(&file)?,
                None => evidence.unwrap_or_default(),
            };
            admin.fulfil_duty(admin::FulfilDutyRequest { id, evidence }).await?
        }
    };
    output.show(&duty.into_inner(), |duty| {
        facts(&[
            ("duty", duty.id.clone()),
            ("action", duty.action.clone()),
            ("agreement", duty.agreement.clone()),
            ("state", duty.state.clone()),
            ("performed by", duty.performed_by.clone()),
            ("before use", if duty.before_use { "yes" } else { "no" }.to_owned()),
            ("owed from", duty.owed_from.clone()),
            ("deadline", duty.deadline.clone()),
            ("overdue since", duty.overdue_since.clone()),
            ("done", duty.done_at.clone()),
            ("evidence", duty.evidence.clone()),
        ])
    })
}

/// Name and digest of a document; the document stays with us.
fn of_file(path: &Path) -> Result<String, Failure> {
    let cannot = |why: String| {
        Failure::usage(format!("`{}`: {why}", path.display()), "name a readable file of at most 64 MiB")
    };
    let file = std::fs::File::open(path).map_err(|error| cannot(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_EVIDENCE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| cannot(error.to_string()))?;
    if bytes.len() as u64 > MAX_EVIDENCE_BYTES {
        return Err(cannot("too large".to_owned()));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(format!("{name} {}", Digest::of(&bytes)))
}

pub(super) async fn event(output: Output, admin: &mut Admin, command: EventCommand) -> Result<(), Failure> {
    let events = match command {
        EventCommand::List => admin.list_events(admin::ListEventsRequest {}).await?,
        EventCommand::Begin { event } => admin.begin_event(admin::ChangeEventRequest { event }).await?,
        EventCommand::End { event } => admin.end_event(admin::ChangeEventRequest { event }).await?,
    };
    let list = events.into_inner();
    output.list(&list.events, ["event", "since"], |row| [row.event.clone(), row.since.clone()], "")
}
