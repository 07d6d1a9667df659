//! Four eyes: an act that the settings name is carried out only when a second person approves what the first asked for.
//!
//! The first call stores what was asked and is refused with a reference; whoever else may administer shows it, approves or
//! rejects it. Who somebody is, the operating system says (the socket's peer credentials).

use std::sync::Arc;

use control_plane::digest::Digest;
use control_plane::{Refusal, UnixMillis};
use serde::{Deserialize, Serialize};
use store::{Added, Collection, Expect, Snapshot, Tx};

use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    SECOND_PERSON_NEEDED = "approval/second-person-needed", Policy,
        "a second person has to approve this", "須由第二人批准", "须由第二人批准",
        clause "settings: administration.four_eyes", next "somebody else runs `fairlead approval show REFERENCE` and `fairlead approval approve REFERENCE`";
    SAME_PERSON = "approval/same-person", Policy,
        "whoever asked for it cannot approve it", "提出請求者不可自行批准", "提出请求者不可自行批准",
        clause "settings: administration.four_eyes", next "ask another officer to approve it";
    NOT_WAITING = "approval/not-waiting", State,
        "it was decided already, or has expired", "此請求已獲處理或已過期", "该请求已获处理或已过期",
        clause "approval", next "`fairlead approval show REFERENCE` tells what became of it; ask again if it is still wanted";
    UNKNOWN_APPROVAL = "approval/unknown", NotFound,
        "no approval has this reference", "沒有此編號的批准請求", "没有此编号的批准请求",
        clause "approval", next "`fairlead approval list` shows all";
    TOO_MANY = "limit/approvals-waiting", Limit,
        "too many acts wait for a second person", "等待第二人批准的請求過多", "等待第二人批准的请求过多",
        clause "approval", next "decide those that wait";
}

/// How long an act waits: a week with its weekend. What is approved later was asked in another situation.
const WAITING_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Acts that wait at once; more means that nobody looks at them.
const MAX_WAITING: u64 = 1_000;
/// What is kept of an outcome: an answer in JSON, cut where it is longer.
const MAX_OUTCOME_CHARS: usize = 4_000;
/// The version of [`Asked`] that is written.
const VERSION: u32 = 1;
/// The counter that references are taken from.
const REFERENCES: &str = "approval-references";
/// Tag of rows that wait.
const WAITING: &str = "waiting";

macro_rules! acts {
    ($( $(#[$doc:meta])* $name:ident = $text:literal, $call:literal; )*) => {
        /// What can be put under four eyes; the list is closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Act { $( $(#[$doc])* #[serde(rename = $text)] $name, )* }

        impl Act {
            /// Every act with its name in the settings.
            pub const NAMES: &[(&str, Self)] = &[$( ($text, Self::$name) ),*];

            /// The name in the settings.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }

            /// The act that an administration call carries out, if it is one of these.
            pub fn of_call(call: &str) -> Option<Self> {
                match call { $( $call => Some(Self::$name), )* _ => None }
            }
        }
    };
}

acts! {
    /// Offer a dataset.
    DatasetPublish = "dataset-publish", "publish_dataset";
    /// Take a dataset out of the catalogue.
    DatasetWithdraw = "dataset-withdraw", "withdraw_dataset";
    /// Ask a provider for an agreement, also by granting a person's request for access.
    Negotiate = "negotiate", "negotiate";
    /// Accept what is on the table.
    NegotiationAccept = "negotiation-accept", "accept_negotiation";
    /// Put other terms on the table.
    NegotiationCounter = "negotiation-counter", "counter_negotiation";
    /// Lift a suspension.
    AgreementResume = "agreement-resume", "resume_agreement";
    /// End an agreement.
    AgreementRevoke = "agreement-revoke", "revoke_agreement";
    /// Talk to a suspended peer again.
    PeerResume = "peer-resume", "resume_peer";
    /// Destroy a copy early.
    HoldingsDelete = "holdings-delete", "delete_holding";
    /// Copy the state to a file.
    Backup = "backup", "backup";
}

/// What became of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has decided.
    Waiting,
    /// Approved, and being carried out; what a crash left so is looked at by people.
    Approved,
    /// Carried out.
    Done,
    /// Approved, but it could not be carried out.
    Failed,
    /// A second person said no.
    Rejected,
    /// The first person took it back.
    Withdrawn,
    /// Nobody decided in time.
    Expired,
}

/// An act that somebody asked for; the durable form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    version: u32,
    /// What people call it.
    pub reference: String,
    /// What is to be done.
    pub act: Act,
    /// The administration request as JSON.
    pub request: String,
    /// Who asked.
    pub requester: String,
    /// RFC 3339.
    pub requested: String,
    /// RFC 3339.
    pub expires: String,
    /// What became of it.
    pub state: State,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<String>,
    /// The answer as JSON, a refusal's code, or a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// How an act that waits can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By another person: carry it out.
    Approve,
    /// By another person: do not.
    Reject,
    /// By the one who asked: never mind.
    Withdraw,
}

impl Asked {
    /// The state now: what nobody decided in time has expired.
    pub fn state_at(&self, now: UnixMillis) -> State {
        let over = UnixMillis::parse_rfc3339(&self.expires).is_none_or(|expires| expires <= now);
        if self.state == State::Waiting && over { State::Expired } else { self.state }
    }

    /// The act after `actor` decided it.
    ///
    /// # Errors
    /// [`NOT_WAITING`]; [`SAME_PERSON`] where the one who asked approves or rejects, or another one withdraws.
    pub fn decided(
        self,
        verdict: Verdict,
        actor: &str,
        reason: &str,
        now: UnixMillis,
    ) -> Result<Self, Refusal> {
        let state = self.state_at(now);
        if state != State::Waiting {
            return Err(Refusal::new(&NOT_WAITING, format!("{}: {state:?}", self.reference)));
        }
        if (verdict == Verdict::Withdraw) != (actor == self.requester) {
            return Err(Refusal::new(
                &SAME_PERSON,
                format!("{} was asked for by {}", self.reference, self.requester),
            ));
        }
        let state = match verdict {
            Verdict::Approve => State::Approved,
            Verdict::Reject => State::Rejected,
            Verdict::Withdraw => State::Withdrawn,
        };
        let outcome = (!reason.is_empty()).then(|| cut(reason));
        Ok(Self {
            state,
            decided_by: Some(actor.to_owned()),
            decided: Some(now.to_string()),
            outcome,
            ..self
        })
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_OUTCOME_CHARS).collect()
}

/// Lets an act pass that needs no second person; stores any other, and refuses it with its reference.
pub async fn require<T: Serialize>(
    node: &Arc<Node>,
    act: Act,
    request: &T,
    actor: &str,
) -> Result<(), Error> {
    if !node.config.load().administration.four_eyes.contains(&act) {
        return Ok(());
    }
    let asked = serde_json::to_value(request).map_err(Error::ours)?;
    // A dry run changes nothing, so nobody has to agree to it.
    if asked.get("dry_run").and_then(serde_json::Value::as_bool) == Some(true) {
        return Ok(());
    }
    let request = serde_json::to_string(request).map_err(Error::ours)?;
    let (actor, now) = (actor.to_owned(), node.clock.trusted_now()?);
    let reference = node.store.write(move |tx| ask(tx, act, request, &actor, now)).await?;
    Err(Refusal::new(&SECOND_PERSON_NEEDED, reference).into())
}

/// Stores what was asked; who asks for the same again gets the same reference.
fn ask(tx: &Tx<'_>, act: Act, request: String, actor: &str, now: UnixMillis) -> Result<String, Error> {
    let digest = Digest::of(format!("{} {actor} {request}", act.name()).as_bytes()).to_string();
    let mut waiting = 0;
    let mut after = None;
    loop {
        let rows = tx.find(Collection::Approvals, WAITING, "yes", after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { break };
        after = Some(last.key.clone());
        for row in &rows {
            let mut asked = read(&row.key, &row.value)?;
            match asked.state_at(now) {
                State::Waiting
                    if asked.act == act && asked.requester == actor && asked.request == request =>
                {
                    return Ok(asked.reference);
                }
                State::Waiting => waiting += 1,
                state => {
                    asked.state = state;
                    put(tx, &asked)?;
                }
            }
        }
    }
    if waiting >= MAX_WAITING {
        return Err(Refusal::new(&TOO_MANY, waiting.to_string()).into());
    }
    let asked = Asked {
        version: VERSION,
        reference: reference(tx, REFERENCES, "AP", now)?,
        act,
        request,
        requester: actor.to_owned(),
        requested: now.to_string(),
        expires: now.plus_millis(WAITING_MS).to_string(),
        state: State::Waiting,
        decided_by: None,
        decided: None,
        outcome: None,
    };
    put(tx, &asked)?;
    let fields = [
        ("approval", asked.reference.clone()),
        ("act", act.name().to_owned()),
        ("actor", actor.to_owned()),
        ("requestHash", digest),
    ];
    records::append_fields(tx, "approval-asked", now, fields)?;
    Ok(asked.reference)
}

/// The next reference of a kind: `AP-2026-00012`. It sorts by age.
pub fn reference(tx: &Tx<'_>, counter: &str, kind: &str, now: UnixMillis) -> Result<String, Error> {
    match tx.counter_add(counter, 1, None)? {
        Added::Now(number) => {
            let year: String = now.to_string().chars().take_while(char::is_ascii_digit).collect();
            Ok(format!("{kind}-{year}-{number:05}"))
        }
        Added::CeilingReached { .. } => Err(Error::ours("no reference is left")),
    }
}

/// The act of this reference.
pub fn get(store: &Snapshot<'_>, reference: &str) -> Result<Asked, Error> {
    let row = store.get(Collection::Approvals, reference)?;
    let row = records::found(row, &UNKNOWN_APPROVAL, reference)?;
    read(&row.key, &row.value)
}

/// Decides an act that waits.
pub async fn decide(
    node: &Arc<Node>,
    reference: &str,
    verdict: Verdict,
    actor: &str,
    reason: &str,
) -> Result<Asked, Error> {
    let now = node.clock.trusted_now()?;
    let (reference, actor, reason) = (reference.to_owned(), actor.to_owned(), reason.to_owned());
    node.store
        .write(move |tx| {
            let decided = get(tx, &reference)?.decided(verdict, &actor, &reason, now)?;
            put(tx, &decided)?;
            let kind = match verdict {
                Verdict::Approve => "approval-given",
                Verdict::Reject => "approval-rejected",
                Verdict::Withdraw => "approval-withdrawn",
            };
            let fields = [
                ("approval", reference),
                ("act", decided.act.name().to_owned()),
                ("requester", decided.requester.clone()),
                ("actor", actor),
            ];
            records::append_fields(tx, kind, now, fields)?;
            Ok(decided)
        })
        .await
}

/// Keeps what came of an approved act.
pub async fn settle(
    node: &Arc<Node>,
    asked: Asked,
    outcome: &Result<String, Refusal>,
) -> Result<Asked, Error> {
    let (state, text) = match outcome {
        Ok(answer) => (State::Done, cut(answer)),
        Err(refusal) => (State::Failed, cut(&refusal.to_string())),
    };
    let settled = Asked { state, outcome: Some(text), ..asked };
    let stored = settled.clone();
    node.store.write(move |tx| put(tx, &stored)).await?;
    Ok(settled)
}

/// Reads a row.
pub fn read(key: &str, value: &[u8]) -> Result<Asked, Error> {
    let asked: Asked = serde_json::from_slice(value).map_err(|error| Error::damaged(key, error))?;
    if asked.version != VERSION {
        return Err(Error::damaged(key, format!("version {}", asked.version)));
    }
    Ok(asked)
}

fn put(tx: &Tx<'_>, asked: &Asked) -> Result<(), Error> {
    let bytes = serde_jcs::to_vec(asked).map_err(Error::ours)?;
    tx.put(Collection::Approvals, &asked.reference, &bytes, Expect::Any)?;
    let tags: &[(&str, &str)] = if asked.state == State::Waiting { &[(WAITING, "yes")] } else { &[] };
    tx.tag(Collection::Approvals, &asked.reference, tags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_564_800_000);
    const FROZEN: &str = r#"{"act":"agreement-revoke","expires":"2026-12-02T00:00:00.000Z","reference":"AP-2026-00001","request":"{}","requested":"2026-11-25T00:00:00.000Z","requester":"uid 1000","state":"waiting","version":1}"#;

    fn check(verdict: Verdict, actor: &str, at: UnixMillis, expected: Result<State, &str>) {
        let asked = read("k", FROZEN.as_bytes()).unwrap();
        let decided = asked.decided(verdict, actor, "because", at);
        let decided = decided.map(|asked| asked.state).map_err(|refusal| refusal.code.code);
        assert_eq!(decided, expected, "{verdict:?} by {actor}");
    }

    #[test]
    fn four_eyes_are_two_people() {
        let (asker, other) = ("uid 1000", "uid 1001");
        check(Verdict::Approve, other, NOW, Ok(State::Approved));
        check(Verdict::Approve, asker, NOW, Err("approval/same-person"));
        check(Verdict::Reject, other, NOW, Ok(State::Rejected));
        check(Verdict::Reject, asker, NOW, Err("approval/same-person"));
        check(Verdict::Withdraw, asker, NOW, Ok(State::Withdrawn));
        check(Verdict::Withdraw, other, NOW, Err("approval/same-person"));
        let late = NOW.plus_millis(30 * 24 * 3_600_000);
        check(Verdict::Approve, other, late, Err("approval/not-waiting"));
        let rejected =
            read("k", FROZEN.as_bytes()).unwrap().decided(Verdict::Reject, other, "", NOW).unwrap();
        let again = rejected.decided(Verdict::Approve, other, "", NOW).unwrap_err();
        assert_eq!(again.code, &NOT_WAITING);
    }

    #[test]
    fn row_format_is_frozen() {
        let asked = read("k", FROZEN.as_bytes()).unwrap();
        assert_eq!(serde_jcs::to_string(&asked).unwrap(), FROZEN);
        assert!(read("k", FROZEN.replace("\"version\":1", "\"version\":2").as_bytes()).is_err());
        assert!(read("k", FROZEN.replace("agreement-revoke", "agreement-burn").as_bytes()).is_err());
    }

    #[test]
    fn each_act_has_one_name_and_one_call() {
        for (name, act) in Act::NAMES {
            assert_eq!(act.name(), *name);
        }
        assert_eq!(Act::of_call("revoke_agreement"), Some(Act::AgreementRevoke));
        assert_eq!(Act::of_call("list_agreements"), None);
    }
}
