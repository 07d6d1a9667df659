//! Requests for access: a person of this institution asks for a dataset, an officer decides, and both see what became of it.

use std::sync::Arc;

use control_plane::ids::{DatasetId, printable};
use control_plane::{Refusal, UnixMillis};
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Snapshot, Tx};

use crate::approval::{self, Act};
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    UNKNOWN_REQUEST = "access/unknown-request", NotFound,
        "no request for access has this reference", "沒有此編號的存取請求", "没有此编号的访问请求",
        clause "requests for access", next "`fairlead access list` shows all";
    ALREADY_DECIDED = "access/already-decided", State,
        "the request was decided already", "此請求已獲處理", "该请求已获处理",
        clause "requests for access", next "`fairlead access show REFERENCE` tells what became of it; submit a new one if it is still wanted";
    NOT_YOURS = "access/not-yours", Policy,
        "only whoever submitted a request can withdraw it", "只有提交者可撤回請求", "只有提交者可撤回请求",
        clause "requests for access", next "ask the one who submitted it, or reject it";
    TOO_MANY_REQUESTS = "limit/access-requests", Limit,
        "too many requests for access wait for a decision", "等待處理的存取請求過多", "等待处理的访问请求过多",
        clause "requests for access", next "decide those that wait";
    TEXT_TOO_LONG = "access/text-too-long", Input,
        "purpose or note is too long", "用途或備註過長", "用途或备注过长",
        clause "requests for access", next "keep each below 2000 characters";
}

/// Requests that wait at once; more means that nobody looks at them.
const MAX_SUBMITTED: usize = 1_000;
/// A purpose and a note: a page of text.
const MAX_TEXT_CHARS: usize = 2_000;
const VERSION: u32 = 1;
const REFERENCES: &str = "access-references";
/// Tag of rows that wait for a decision.
const SUBMITTED: &str = "submitted";

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has decided.
    Submitted,
    /// Granted; the negotiation tells what followed.
    Approved,
    /// Refused, with a reason.
    Rejected,
    /// Taken back.
    Withdrawn,
}

impl State {
    /// The name that people and rows see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A request for access; the durable form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessRequest {
    version: u32,
    /// What people call it.
    pub reference: String,
    /// The dataset.
    pub dataset: String,
    /// Its offer; empty where it has one.
    pub offer: String,
    /// What it is for.
    pub purpose: String,
    /// For whoever decides.
    pub note: String,
    /// Who asks.
    pub requester: String,
    /// RFC 3339.
    pub requested: String,
    /// Where it stands.
    pub state: State,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<String>,
    /// Why, or what kept the negotiation from opening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The negotiation that was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negotiation: Option<String>,
}

impl AccessRequest {
    /// The request after `actor` moved it to `to`.
    ///
    /// # Errors
    /// [`ALREADY_DECIDED`], unless an approval whose negotiation never opened is given again; [`NOT_YOURS`];
    /// [`approval::SAME_PERSON`] where the settings want a second person.
    pub fn decided(
        self,
        to: State,
        actor: &str,
        reason: &str,
        four_eyes: bool,
        now: UnixMillis,
    ) -> Result<Self, Refusal> {
        let again = self.state == State::Approved && to == State::Approved && self.negotiation.is_none();
        if self.state != State::Submitted && !again {
            return Err(Refusal::new(&ALREADY_DECIDED, format!("{}: {}", self.reference, self.state.name())));
        }
        let own = self.requester == actor;
        if to == State::Withdrawn && !own {
            return Err(Refusal::new(&NOT_YOURS, format!("{} is of {}", self.reference, self.requester)));
        }
        if to == State::Approved && own && four_eyes {
            return Err(Refusal::new(&approval::SAME_PERSON, self.reference));
        }
        let reason = (!reason.is_empty()).then(|| reason.chars().take(MAX_TEXT_CHARS).collect());
        Ok(Self {
            state: to,
            decided_by: Some(actor.to_owned()),
            decided: Some(now.to_string()),
            reason,
            ..self
        })
    }
}

/// What a person asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The dataset.
    pub dataset: DatasetId,
    /// Its offer; empty where it has one.
    pub offer: String,
    /// What it is for.
    pub purpose: String,
    /// For whoever decides.
    pub note: String,
}

/// Stores a request.
pub async fn submit(node: &Arc<Node>, wanted: Wanted, actor: &str) -> Result<AccessRequest, Error> {
    let now = node.clock.trusted_now()?;
    if wanted.purpose.chars().count() > MAX_TEXT_CHARS || wanted.note.chars().count() > MAX_TEXT_CHARS {
        return Err(Refusal::new(&TEXT_TOO_LONG, format!("at most {MAX_TEXT_CHARS} characters")).into());
    }
    let actor = actor.to_owned();
    node.store
        .write(move |tx| {
            let waiting = tx.find(Collection::AccessRequests, SUBMITTED, "yes", None, MAX_SUBMITTED)?;
            if waiting.len() >= MAX_SUBMITTED {
                return Err(Refusal::new(&TOO_MANY_REQUESTS, waiting.len().to_string()).into());
            }
            let request = AccessRequest {
                version: VERSION,
                reference: approval::reference(tx, REFERENCES, "AR", now)?,
                dataset: wanted.dataset.to_string(),
                offer: wanted.offer,
                purpose: wanted.purpose,
                note: printable(&wanted.note),
                requester: actor,
                requested: now.to_string(),
                state: State::Submitted,
                decided_by: None,
                decided: None,
                reason: None,
                negotiation: None,
            };
            put(tx, &request)?;
            recorded(tx, &request, &request.requester, now)?;
            Ok(request)
        })
        .await
}

/// Decides a request.
pub async fn decide(
    node: &Arc<Node>,
    reference: &str,
    to: State,
    actor: &str,
    reason: &str,
) -> Result<AccessRequest, Error> {
    let now = node.clock.trusted_now()?;
    let four_eyes = node.config.load().administration.four_eyes.contains(&Act::Negotiate);
    let (reference, actor, reason) = (reference.to_owned(), actor.to_owned(), reason.to_owned());
    node.store
        .write(move |tx| {
            let decided = get(tx, &reference)?.decided(to, &actor, &reason, four_eyes, now)?;
            put(tx, &decided)?;
            recorded(tx, &decided, &actor, now)?;
            Ok(decided)
        })
        .await
}

/// Keeps which negotiation an approval opened, or why none.
pub async fn opened(
    node: &Arc<Node>,
    request: AccessRequest,
    negotiation: Result<String, &Refusal>,
) -> Result<AccessRequest, Error> {
    let kept = match negotiation {
        Ok(pid) => AccessRequest { negotiation: Some(pid), ..request },
        Err(refusal) => AccessRequest { reason: Some(refusal.to_string()), ..request },
    };
    let stored = kept.clone();
    node.store.write(move |tx| put(tx, &stored)).await?;
    Ok(kept)
}

fn recorded(tx: &Tx<'_>, request: &AccessRequest, actor: &str, now: UnixMillis) -> Result<(), Error> {
    let kind = format!("access-{}", request.state.name());
    let fields = [
        ("access", request.reference.clone()),
        ("dataset", request.dataset.clone()),
        ("requester", request.requester.clone()),
        ("actor", actor.to_owned()),
    ];
    records::append_fields(tx, &kind, now, fields)
}

/// The request of this reference.
pub fn get(store: &Snapshot<'_>, reference: &str) -> Result<AccessRequest, Error> {
    let row = store.get(Collection::AccessRequests, reference)?;
    let row = records::found(row, &UNKNOWN_REQUEST, reference)?;
    read(&row.key, &row.value)
}

/// Reads a row.
pub fn read(key: &str, value: &[u8]) -> Result<AccessRequest, Error> {
    let request: AccessRequest = serde_json::from_slice(value).map_err(|error| Error::damaged(key, error))?;
    if request.version != VERSION {
        return Err(Error::damaged(key, format!("version {}", request.version)));
    }
    Ok(request)
}

fn put(tx: &Tx<'_>, request: &AccessRequest) -> Result<(), Error> {
    let bytes = serde_jcs::to_vec(request).map_err(Error::ours)?;
    tx.put(Collection::AccessRequests, &request.reference, &bytes, Expect::Any)?;
    let tags: &[(&str, &str)] = if request.state == State::Submitted { &[(SUBMITTED, "yes")] } else { &[] };
    tx.tag(Collection::AccessRequests, &request.reference, tags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_564_800_000);
    const FROZEN: &str = r#"{"dataset":"https://a.example/id/d","note":"","offer":"","purpose":"dpv:AcademicResearch","reference":"AR-2026-00001","requested":"2026-11-25T00:00:00.000Z","requester":"uid 1000","state":"submitted","version":1}"#;

    fn check(to: State, actor: &str, four_eyes: bool, expected: Result<State, &str>) {
        let request = read("k", FROZEN.as_bytes()).unwrap();
        let decided = request.decided(to, actor, "", four_eyes, NOW);
        let decided = decided.map(|request| request.state).map_err(|refusal| refusal.code.code);
        assert_eq!(decided, expected, "{to:?} by {actor}, four eyes: {four_eyes}");
    }

    #[test]
    fn who_may_decide() {
        let (asker, other) = ("uid 1000", "uid 1001");
        check(State::Approved, other, true, Ok(State::Approved));
        check(State::Approved, asker, true, Err("approval/same-person"));
        check(State::Approved, asker, false, Ok(State::Approved));
        check(State::Rejected, other, true, Ok(State::Rejected));
        check(State::Withdrawn, asker, true, Ok(State::Withdrawn));
        check(State::Withdrawn, other, false, Err("access/not-yours"));
    }

    #[test]
    fn decided_once_unless_nothing_was_opened() {
        let request = read("k", FROZEN.as_bytes()).unwrap();
        let approved = request.decided(State::Approved, "uid 1", "", false, NOW).unwrap();
        let again = approved.clone().decided(State::Approved, "uid 1", "", false, NOW);
        assert!(again.is_ok(), "its negotiation never opened");
        let opened = AccessRequest { negotiation: Some("urn:uuid:1".into()), ..approved };
        let again = opened.decided(State::Approved, "uid 1", "", false, NOW).unwrap_err();
        assert_eq!(again.code, &ALREADY_DECIDED);
    }

    #[test]
    fn row_format_is_frozen() {
        let request = read("k", FROZEN.as_bytes()).unwrap();
        assert_eq!(serde_jcs::to_string(&request).unwrap(), FROZEN);
        assert!(read("k", FROZEN.replace("\"version\":1", "\"version\":2").as_bytes()).is_err());
    }
}
