//! Named events that are under way here, as our operator says: durable, recorded, and felt by running sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use control_plane::ids::AgreementId;
use control_plane::{Refusal, UnixMillis};
use policy::vocab::operand;
use store::{Collection, Expect, Snapshot, Tx};

use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    BAD_EVENT = "event/name", Input,
        "an event is named by an IRI", "事件須以 IRI 命名", "事件须以 IRI 命名",
        clause "ODRL 2.2 Vocabulary, event", next "name it as the policy does, e.g. urn:event:trial-1";
    NOT_RUNNING = "event/not-running", NotFound,
        "no such event is under way", "沒有此事件正在進行", "没有此事件正在进行",
        clause "ODRL 2.2 Vocabulary, event", next "`fairlead event list` shows those that are";
    TOO_MANY_EVENTS = "limit/events", Limit,
        "too many events are under way", "正在進行的事件過多", "正在进行的事件过多",
        clause "usage control: events", next "end one first";
    EVENT_CHANGED = "use/event-changed", Policy,
        "an event began or ended that this policy is about", "此政策所涉的事件已開始或結束", "此策略所涉的事件已开始或结束",
        clause "ODRL 2.2 Vocabulary, event", next "use the data again; the answer is decided anew";
}

/// Events at once: each is looked at in every decision that asks for them.
const MAX_EVENTS: usize = 64;
/// The longest name.
const MAX_NAME_BYTES: usize = 256;
/// Where the rows lie.
const PREFIX: &str = "event ";

/// The events under way, by name, each with its beginning.
pub fn running(store: &Snapshot<'_>) -> Result<Vec<(String, String)>, Error> {
    let rows = store.scan(Collection::Local, PREFIX, None, MAX_EVENTS)?;
    let mut events = Vec::new();
    for row in rows {
        let since =
            String::from_utf8(row.value).map_err(|error| Error::damaged(&row.key, error.to_string()))?;
        events.push((row.key.trim_start_matches(PREFIX).to_owned(), since));
    }
    Ok(events)
}

/// Says that an event began; one that is under way stays as it is.
pub async fn begin(node: &Arc<Node>, event: &str) -> Result<Vec<(String, String)>, Error> {
    let event = name(event)?;
    let told = event.clone();
    change(node, event, move |tx, key, now| {
        if tx.get(Collection::Local, key)?.is_some() {
            return Ok(false);
        }
        if running(tx)?.len() >= MAX_EVENTS {
            return Err(Refusal::new(&TOO_MANY_EVENTS, format!("{MAX_EVENTS} at once")).into());
        }
        tx.put(Collection::Local, key, now.to_string().as_bytes(), Expect::Absent)?;
        records::append_fields(tx, "event-begun", now, [("event", told)])?;
        Ok(true)
    })
    .await
}

/// Says that an event is over; sessions that it permitted stop.
pub async fn end(node: &Arc<Node>, event: &str) -> Result<Vec<(String, String)>, Error> {
    let event = name(event)?;
    let told = event.clone();
    change(node, event, move |tx, key, now| {
        if tx.get(Collection::Local, key)?.is_none() {
            return Err(Refusal::new(&NOT_RUNNING, told).into());
        }
        tx.delete(Collection::Local, key, Expect::Any)?;
        records::append_fields(tx, "event-ended", now, [("event", told)])?;
        Ok(true)
    })
    .await
}

/// Stores a change; then everything stops whose policy speaks of the event, whatever it was granted on.
async fn change(
    node: &Arc<Node>,
    event: String,
    store: impl FnOnce(&Tx<'_>, &str, UnixMillis) -> Result<bool, Error> + Send + 'static,
) -> Result<Vec<(String, String)>, Error> {
    let (worker, now) = (node.clone(), node.now());
    let (events, concerned) = node
        .store
        .write(move |tx| {
            let changed = store(tx, &format!("{PREFIX}{event}"), now)?;
            let mut concerned = Vec::new();
            for agreement in worker.data.agreements_running() {
                if changed && speaks_of(&worker, tx, &agreement, &event)? {
                    concerned.push(agreement);
                }
            }
            Ok::<_, Error>((running(tx)?, concerned))
        })
        .await?;
    for agreement in concerned {
        node.data.stop_agreement(&agreement, &Refusal::new(&EVENT_CHANGED, agreement.as_str()));
    }
    Ok(events)
}

fn speaks_of(node: &Node, store: &Snapshot<'_>, agreement: &AgreementId, event: &str) -> Result<bool, Error> {
    let Some(held) = records::agreement(store, agreement)? else { return Ok(false) };
    let policy = node.policies.compiled(held.signed.agreement().text())?;
    let named: BTreeSet<&str> = [operand::EVENT, operand::IDS_EVENT]
        .into_iter()
        .flat_map(|operand| policy.mentioned(operand))
        .collect();
    Ok(named.contains(event))
}

fn name(text: &str) -> Result<String, Refusal> {
    let event = crate::admin::holdings::expand(text);
    let well_formed = event.len() <= MAX_NAME_BYTES
        && event.contains(':')
        // What would not be shown as it stands names nothing.
        && control_plane::ids::printable(&event) == event
        && !event.contains(char::is_whitespace);
    if well_formed { Ok(event) } else { Err(Refusal::new(&BAD_EVENT, control_plane::ids::printable(text))) }
}
