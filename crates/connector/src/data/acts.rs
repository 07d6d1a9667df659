//! Duties that a person performs: paying, citing, asking for consent. The connector keeps the row, closes the
//! permission while it must, and tells the provider what was entered; whether that is true nobody here can know.

use std::collections::BTreeMap;
use std::sync::Arc;

use control_plane::ids::{AgreementId, ParticipantId, printable};
use control_plane::{Refusal, UnixMillis};
use policy::vocab::short;
use policy::{DutyRole, Phase};
use serde::{Deserialize, Serialize};
use store::{Duty, DutyState, NewDuty, Snapshot, Tx};

use super::holdings;
use crate::driver::notices::{self, Notice, What};
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    NO_DUTY = "duty/not-found", NotFound,
        "there is no duty of this id", "沒有此識別碼的義務", "没有此标识符的义务",
        clause "usage control: duties are rows with a state", next "`fairlead duty list` shows the ids";
    NOT_A_PERSONS = "duty/not-a-persons", State,
        "the connector performs this duty itself", "此義務由連接器自行履行", "此义务由连接器自行履行",
        clause "usage control: duties are rows with a state", next "`fairlead holdings delete AGREEMENT` deletes before the deadline";
    ALREADY_DONE = "duty/already-done", State,
        "this duty is done; its evidence stays as it is", "此義務已履行，其證據不變", "此义务已履行，其证据不变",
        clause "usage control: duties are rows with a state", next "`fairlead duty show ID` tells the evidence";
    EVIDENCE = "duty/evidence", Input,
        "the evidence is empty or too long", "證據為空或過長", "证据为空或过长",
        clause "usage control: evidence of duties", next "name the invoice, the consent or the publication in a line, or give a file";
}

/// The longest evidence: a line that names a document. It travels in a notice and stands in two ledgers.
pub const MAX_EVIDENCE_CHARS: usize = 512;

/// The deadline of what has none, and the start of what the connector never begins: the end of the year 9999.
pub const NEVER: UnixMillis = UnixMillis(253_402_300_799_999);

/// The version of [`Act`] that is written.
const VERSION: u32 = 1;

/// What a person has to do; the durable form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Act {
    version: u32,
    /// The action's IRI.
    pub action: String,
    /// The duty's name in the policy.
    pub key: String,
    /// Whether it comes before use, and so closes the permission.
    pub before_use: bool,
    /// From when on it is owed, RFC 3339: of a recurring duty the beginning of the period.
    pub from: String,
    /// What was done counts for so many milliseconds; a string, as integers that may pass 2^53 are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_millis: Option<String>,
    /// Owed because another duty was not fulfilled in time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub consequence: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Act {
    fn from(&self) -> UnixMillis {
        // What does not read back is owed now.
        UnixMillis::parse_rfc3339(&self.from).unwrap_or(UnixMillis(0))
    }

    fn period(&self) -> Option<i64> {
        self.period_millis.as_deref().map(|millis| millis.parse().unwrap_or(0))
    }

    fn bytes(&self) -> Result<Vec<u8>, Error> {
        serde_jcs::to_vec(self).map_err(Error::ours)
    }
}

/// What a row demands of a person; `None` for a duty that the connector performs.
pub fn read(duty: &Duty) -> Result<Option<Act>, Error> {
    if duty.kind == super::duties::DELETE {
        return Ok(None);
    }
    let damaged = |why: String| Error::damaged(&format!("duty {}", duty.id), why);
    let act: Act = serde_json::from_slice(&duty.body).map_err(|error| damaged(error.to_string()))?;
    if act.version != VERSION {
        return Err(damaged(format!("version {}", act.version)));
    }
    Ok(Some(act))
}

/// Adds the row of a duty of this agreement, unless it is there.
pub fn plan(
    tx: &Tx<'_>,
    agreement: &AgreementId,
    duty: &policy::Duty,
    deadline: Option<UnixMillis>,
    is_consequence: bool,
    now: UnixMillis,
) -> Result<(), Error> {
    let act = Act {
        version: VERSION,
        action: duty.action.clone(),
        key: duty.key.clone(),
        before_use: duty.phase == Phase::Before
            && matches!(duty.role, DutyRole::OfPermission(_))
            && !is_consequence,
        from: now.to_string(),
        period_millis: duty.period_millis.map(|millis| millis.to_string()),
        consequence: is_consequence,
    };
    add(tx, agreement, &super::duties::row_id(agreement, &duty.key), &act, deadline.unwrap_or(NEVER), now)
}

fn add(
    tx: &Tx<'_>,
    agreement: &AgreementId,
    id: &str,
    act: &Act,
    deadline: UnixMillis,
    now: UnixMillis,
) -> Result<(), Error> {
    if let Some(planned) = tx.duty(id)? {
        // Nobody begins it but a person.
        return super::duties::hasten(tx, &planned, NEVER, deadline, now);
    }
    let kind = short(&act.action);
    let body = act.bytes()?;
    tx.duty_add(&NewDuty {
        id,
        subject: agreement.as_str(),
        kind: &kind,
        body: &body,
        // Nobody begins it but a person.
        start: NEVER,
        deadline,
    })?;
    let mut fields = vec![("agreement", agreement.to_string()), ("duty", id.to_owned())];
    if deadline < NEVER {
        fields.push(("deadline", deadline.to_string()));
    }
    records::append_fields(tx, "duty-planned", now, fields)
}

/// How far the duties before use are, and until when that holds.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// By the duty's name in the policy.
    pub states: BTreeMap<String, policy::DutyState>,
    /// The first end of a period that was paid for.
    pub until: Option<UnixMillis>,
    /// The first consequence that is still owed.
    pub consequence: Option<String>,
}

/// How far the duties of an agreement are at `now`.
pub fn standing(duties: &[Duty], now: UnixMillis) -> Result<Standing, Error> {
    let mut standing = Standing::default();
    for duty in duties {
        let Some(act) = read(duty)? else { continue };
        let done = duty.state == DutyState::Done;
        if act.consequence {
            if !done {
                standing.consequence.get_or_insert_with(|| duty.kind.clone());
            }
            continue;
        }
        // The row of the next period stands beside those that are done, and is owed once they are over.
        let fulfilled = done || act.from() > now;
        if !done && act.from() > now {
            standing.until = Some(standing.until.map_or(act.from(), |until| until.min(act.from())));
        }
        let state = standing.states.entry(act.key).or_insert(policy::DutyState::Fulfilled);
        if !fulfilled {
            *state = policy::DutyState::Pending;
        }
    }
    Ok(standing)
}

/// Every duty of an agreement.
pub fn all_of(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<Vec<Duty>, Error> {
    let mut found: Vec<Duty> = Vec::new();
    loop {
        let after = found.last().map(|duty| duty.id.clone());
        let page = store.duties_of(agreement.as_str(), after.as_deref(), store::MAX_PAGE)?;
        let last = page.len() < store::MAX_PAGE;
        found.extend(page);
        if last {
            return Ok(found);
        }
    }
}

/// A person says that a duty is done, and by what that can be checked: recorded, and told to the provider signed.
pub async fn fulfil(node: &Arc<Node>, id: String, evidence: &str) -> Result<Duty, Error> {
    let evidence = printable(evidence.trim());
    if evidence.is_empty() || evidence.chars().count() > MAX_EVIDENCE_CHARS {
        return Err(Refusal::new(&EVIDENCE, format!("at most {MAX_EVIDENCE_CHARS} characters")).into());
    }
    // A period begins by this clock.
    let now = node.clock.trusted_now()?;
    let worker = node.clone();
    node.store
        .write(move |tx| {
            let duty = records::found(tx.duty(&id)?, &NO_DUTY, &id)?;
            let Some(act) = read(&duty)? else { return Err(Refusal::new(&NOT_A_PERSONS, id).into()) };
            if duty.state == DutyState::Done {
                return Err(Refusal::new(&ALREADY_DONE, id).into());
            }
            let agreement = AgreementId::parse(&duty.subject)?;
            let holding =
                records::found(holdings::get(tx, &agreement)?, &holdings::NO_HOLDING, &duty.subject)?;
            tx.duty_start(&id)?;
            let done = tx.duty_finish(&id, evidence.as_bytes(), now)?;
            let fields =
                [("agreement", agreement.to_string()), ("duty", id.clone()), ("evidence", evidence.clone())];
            records::append_fields(tx, "duty-done", now, fields)?;
            if let Some(period) = act.period() {
                next_period(tx, &agreement, &id, &act, period, now)?;
            }
            let notice = Notice {
                agreement,
                what: What::DutyDone,
                reason: evidence,
                at: now,
                fields: [("duty".to_owned(), act.key), ("action".to_owned(), act.action)].into(),
            };
            notices::push(&worker, tx, &ParticipantId::parse(&holding.assigner)?, &notice)?;
            Ok::<_, Error>(done)
        })
        .await
}

/// What was done counts from now, or from the beginning of its period where that lies ahead.
fn next_period(
    tx: &Tx<'_>,
    agreement: &AgreementId,
    id: &str,
    act: &Act,
    period: i64,
    now: UnixMillis,
) -> Result<(), Error> {
    let (base, number) =
        id.rsplit_once(" #").map_or((id, 1), |(base, number)| (base, number.parse().unwrap_or(1)));
    let number: u64 = number;
    let next = Act { from: act.from().max(now).plus_millis(period).to_string(), ..act.clone() };
    add(tx, agreement, &format!("{base} #{}", number.saturating_add(1)), &next, NEVER, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duty(act: &Act, state: DutyState) -> Duty {
        Duty {
            id: "a k".into(),
            subject: "a".into(),
            kind: "compensate".into(),
            body: act.bytes().unwrap(),
            start: NEVER,
            deadline: NEVER,
            state,
            attempts: 0,
            overdue_since: None,
            done_at: None,
            evidence: None,
            note: None,
        }
    }

    fn act(from: i64) -> Act {
        Act {
            version: VERSION,
            action: "http://www.w3.org/ns/odrl/2/compensate".into(),
            key: "k".into(),
            before_use: true,
            from: UnixMillis(from).to_string(),
            period_millis: Some("1000".into()),
            consequence: false,
        }
    }

    #[test]
    fn row_format_is_frozen() {
        let text = r#"{"action":"http://www.w3.org/ns/odrl/2/compensate","beforeUse":true,"from":"1970-01-01T00:00:00.000Z","key":"k","periodMillis":"1000","version":1}"#;
        assert_eq!(String::from_utf8(act(0).bytes().unwrap()).unwrap(), text);
        assert_eq!(read(&duty(&act(0), DutyState::Due)).unwrap(), Some(act(0)));
    }

    /// A period that is paid for ends; the next row then closes the permission until it is done.
    #[test]
    fn what_was_done_counts_for_its_period() {
        let rows = [duty(&act(0), DutyState::Done), duty(&act(1_500), DutyState::Due)];
        let check = |rows: &[Duty], now, state, until: Option<i64>| {
            let standing = standing(rows, UnixMillis(now)).unwrap();
            assert_eq!(standing.states.get("k"), Some(&state), "{now}");
            assert_eq!(standing.until, until.map(UnixMillis), "{now}");
        };
        check(&rows[..1], 0, policy::DutyState::Fulfilled, None);
        check(&rows, 1_499, policy::DutyState::Fulfilled, Some(1_500));
        check(&rows, 1_500, policy::DutyState::Pending, None);
        check(&rows[1..], 1_500, policy::DutyState::Pending, None);
    }

    #[test]
    fn a_consequence_that_is_owed_is_told_apart() {
        let owed = Act { consequence: true, ..act(0) };
        let told = |state| standing(&[duty(&owed, state)], UnixMillis(1)).unwrap();
        assert_eq!(told(DutyState::Due).consequence.as_deref(), Some("compensate"));
        assert_eq!(told(DutyState::Done).consequence, None);
        assert!(told(DutyState::Due).states.is_empty());
    }
}
