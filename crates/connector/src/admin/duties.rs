//! Duties and events as our operator sees them.

use std::sync::Arc;

use control_plane::ids::AgreementId;
use proto::admin;
use store::DutyState;

use super::{bad_argument, instant, page};
use crate::data::{acts, events};
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

/// Duties in the order of their ids.
pub async fn list(node: &Arc<Node>, request: admin::ListDutiesRequest) -> Result<admin::DutyList, Error> {
    let (rows, after) = page(&request.page.unwrap_or_default());
    let state = match request.state.as_str() {
        "" => None,
        name => Some(state(name)?),
    };
    let agreement =
        (!request.agreement.is_empty()).then(|| AgreementId::parse(&request.agreement)).transpose()?;
    let found = node
        .store
        .read(move |store| match agreement {
            Some(agreement) => {
                let duties = store.duties_of(agreement.as_str(), after.as_deref(), rows)?;
                Ok::<_, Error>(duties)
            }
            None => Ok(store.duties_page(state, after.as_deref(), rows)?),
        })
        .await?;
    let next = if found.len() < rows { None } else { found.last().map(|duty| duty.id.clone()) };
    let shown = found.into_iter().filter(|duty| state.is_none_or(|state| duty.state == state));
    Ok(admin::DutyList {
        duties: shown.map(duty_row).collect::<Result<_, _>>()?,
        next_page_token: next.unwrap_or_default(),
    })
}

fn state(name: &str) -> Result<DutyState, Error> {
    let found = DutyState::ALL.into_iter().find(|state| state.as_str() == name);
    found.ok_or_else(|| bad_argument("a state is due, running, done, failed or overdue"))
}

/// One duty.
pub async fn show(node: &Arc<Node>, request: admin::ShowDutyRequest) -> Result<admin::DutyRow, Error> {
    let id = request.id;
    let duty = node
        .store
        .read(move |store| Ok::<_, Error>(records::found(store.duty(&id)?, &acts::NO_DUTY, &id)?))
        .await?;
    duty_row(duty)
}

/// A person says that a duty is done.
pub async fn fulfil(node: &Arc<Node>, request: admin::FulfilDutyRequest) -> Result<admin::DutyRow, Error> {
    duty_row(acts::fulfil(node, request.id, &request.evidence).await?)
}

/// A duty's row for people.
pub fn duty_row(duty: store::Duty) -> Result<admin::DutyRow, Error> {
    let act = acts::read(&duty)?;
    let evidence = duty.evidence.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).or(duty.note);
    Ok(admin::DutyRow {
        id: duty.id,
        action: duty.kind,
        state: duty.state.as_str().to_owned(),
        deadline: instant(Some(duty.deadline).filter(|deadline| *deadline < acts::NEVER)),
        evidence: evidence.unwrap_or_default(),
        agreement: duty.subject,
        performed_by: if act.is_some() { "person" } else { "connector" }.to_owned(),
        before_use: act.as_ref().is_some_and(|act| act.before_use),
        owed_from: act.map(|act| act.from).unwrap_or_default(),
        overdue_since: instant(duty.overdue_since),
        done_at: instant(duty.done_at),
    })
}

/// Events under way.
pub async fn events(node: &Arc<Node>, _request: admin::ListEventsRequest) -> Result<admin::EventList, Error> {
    Ok(event_list(node.store.read(events::running).await?))
}

/// An event begins.
pub async fn begin_event(
    node: &Arc<Node>,
    request: admin::ChangeEventRequest,
) -> Result<admin::EventList, Error> {
    Ok(event_list(events::begin(node, &request.event).await?))
}

/// An event ends.
pub async fn end_event(
    node: &Arc<Node>,
    request: admin::ChangeEventRequest,
) -> Result<admin::EventList, Error> {
    Ok(event_list(events::end(node, &request.event).await?))
}

fn event_list(events: Vec<(String, String)>) -> admin::EventList {
    let shown = events.into_iter().map(|(event, since)| admin::Event { event, since });
    admin::EventList { events: shown.collect() }
}
