//! Provider side of key leases: decides again on fresh facts, counts, and only then gives a share.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_plane::ids::{AgreementId, ParticipantId};
use control_plane::pids::Role;
use control_plane::status::HeldAgreement;
use control_plane::transfer::{StateName, UNKNOWN_AGREEMENT, UNKNOWN_PROCESS};
use control_plane::{Refusal, UnixMillis};
use data_plane::{FileKek, SessionId};
use identity::{Statement, Typ, VerifiedParticipant};
use policy::Policy;
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Seen, Snapshot, Tx, crash_point};

use super::lease_grant::{Asking, GrantedObject, LeaseGrant, NONCE_BYTES};
use super::shares::{self, Turn, Turned};
use super::{provider, uses};
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;
use crate::policies::facts_about;
use crate::{restored, trust};

control_plane::refusal_codes! {
    NOT_LEASED = "use/lease-not-agreed", Input,
        "this agreement asks for no key leases", "此協議並無金鑰租約要求", "此协议并无密钥租约要求",
        clause "fl:keyLease", next "use the copy without a lease";
    NONCE_REUSED = "use/lease-nonce-reused", Input,
        "this nonce was already used in a request for a lease", "此隨機數已用於另一租約請求", "此随机数已用于另一租约请求",
        clause "security model: what a lease holds", next "draw a fresh nonce for each request";
    UNKNOWN_OBJECT = "use/lease-unknown-object", NotFound,
        "the transfer has no such object", "此傳輸沒有此物件", "该传输没有此对象",
        clause "proto/fairlead/data: GetManifest", next "ask for objects of the manifest";
    TOO_MANY_OPEN = "limit/open-leases", Limit,
        "too many sessions hold a lease under this agreement", "此協議下持有租約的會話過多", "该协议下持有租约的会话过多",
        clause "key leases", next "end sessions, or wait until their leases have ended";
    TOO_MANY_OBJECTS = "limit/lease-objects", Limit,
        "a request for leases names too many objects or sessions, or one twice", "租約請求所列物件或會話過多，或有重複",
        "租约请求所列对象或会话过多，或有重复",
        clause "proto/fairlead/use", next "ask for at most 64 distinct ones at a time";
}

/// Objects and sessions of one request: each is a row or two in one transaction.
pub const MAX_NAMED: usize = 64;
/// Sessions under one agreement that hold a lease at once; those of the largest `limits.use_sessions` are fewer.
const MAX_OPEN: usize = 512;
/// Names of actions and purposes are IRIs.
const MAX_IRI_BYTES: usize = 2048;

/// A request for shares.
pub struct Asked {
    /// The agreement.
    pub agreement: AgreementId,
    /// Of this request alone.
    pub nonce: [u8; NONCE_BYTES],
    /// Index and presented epoch.
    pub objects: Vec<(u32, u64)>,
    /// What for.
    pub what_for: WhatFor,
}

/// What shares are asked for.
pub enum WhatFor {
    /// Uses: each session is counted once.
    Sessions(Vec<SessionUse>),
    /// To seal what a transfer, by our name of it, brings.
    Transfer(String),
}

/// A session and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUse {
    /// The consumer's name of it.
    pub session: SessionId,
    /// IRI.
    pub action: String,
    /// IRI, as declared.
    pub purpose: Option<String>,
}

/// The answer.
pub struct Granted {
    /// The signed grant.
    pub grant: String,
    /// In the order of the request.
    pub shares: Vec<Turned>,
}

impl Asked {
    /// Within the bounds of one request?
    fn require_bounded(&self) -> Result<(), Refusal> {
        let objects: BTreeSet<u32> = self.objects.iter().map(|(object, _)| *object).collect();
        let (sessions, named) = match &self.what_for {
            WhatFor::Sessions(sessions) => {
                let names: BTreeSet<&str> = sessions.iter().map(|of| of.session.as_str()).collect();
                (sessions.len(), names.len())
            }
            WhatFor::Transfer(_) => (1, 1),
        };
        let distinct = objects.len() == self.objects.len() && named == sessions;
        if distinct && objects.len() <= MAX_NAMED && (1..=MAX_NAMED).contains(&sessions) {
            return Ok(());
        }
        let detail = format!("{} objects, {sessions} sessions", self.objects.len());
        Err(Refusal::new(&TOO_MANY_OBJECTS, detail))
    }
}

impl SessionUse {
    /// Names that are no IRIs of any length are not decided about.
    pub fn parse(session: &str, action: &str, purpose: &str) -> Result<Self, Refusal> {
        if action.len() > MAX_IRI_BYTES || purpose.len() > MAX_IRI_BYTES {
            return Err(Refusal::new(&TOO_MANY_OBJECTS, "an action's or purpose's name"));
        }
        Ok(Self {
            session: SessionId::parse(session)?,
            action: action.to_owned(),
            purpose: (!purpose.is_empty()).then(|| purpose.to_owned()),
        })
    }
}

/// The counter of uses under an agreement that we granted leases for.
fn counter(agreement: &AgreementId) -> String {
    format!("leased-uses {agreement}")
}

/// Decides about a request; what is granted is counted, recorded and durable before the answer exists.
pub async fn grant(
    node: &Arc<Node>,
    peer: &VerifiedParticipant,
    channel: [u8; 32],
    asked: Asked,
) -> Result<Granted, Error> {
    asked.require_bounded()?;
    let now = node.clock.trusted_now()?;
    let kek = node.data.keys.current().await;
    let deciding = Deciding {
        node: node.clone(),
        kek: (*kek).clone(),
        peer: peer.id().clone(),
        statement: peer.statement().clone(),
        channel,
        now,
    };
    let granted = node.store.write(move |tx| deciding.decide(tx, &asked)).await?;
    drop(kek);
    crash_point("lease-given");
    Ok(granted?)
}

/// One decision with what it rests on.
struct Deciding {
    node: Arc<Node>,
    kek: Arc<FileKek>,
    peer: ParticipantId,
    statement: Statement,
    channel: [u8; 32],
    now: UnixMillis,
}

/// What a request may be given; nothing is changed yet.
struct Permitted {
    until: UnixMillis,
    turns: Vec<Turn>,
    uses: u64,
    fresh: Vec<SessionId>,
}

impl Deciding {
    /// The answer, or the refusal that was recorded; what another than the agreement's consumer asks leaves no record.
    fn decide(&self, tx: &Tx<'_>, asked: &Asked) -> Result<Result<Granted, Refusal>, Error> {
        let id = &asked.agreement;
        let held = records::agreement(tx, id)?.filter(|held| {
            let agreement = held.signed.agreement();
            *agreement.assigner() == self.node.us && *agreement.assignee() == self.peer
        });
        let held = records::found(held, &UNKNOWN_AGREEMENT, id.as_str())?;
        // One nonce, one answer: what was overheard or stored cannot be asked again.
        let nonce = format!("lease {}", URL_SAFE_NO_PAD.encode(asked.nonce));
        if !matches!(tx.seen(self.peer.as_str(), &nonce, &nonce)?, Seen::New) {
            return Err(Refusal::new(&NONCE_REUSED, id.as_str()).into());
        }
        match self.permitted(tx, &held, asked) {
            Ok(permitted) => {
                tx.remember(self.peer.as_str(), &nonce, &nonce, b"", self.now)?;
                self.account(tx, &held, asked, permitted).map(Ok)
            }
            Err(Error::Refused(refusal)) => {
                let mut fields = self.fields(asked);
                fields.push(("code", refusal.code.code.to_owned()));
                records::append_fields(tx, "lease-refused", self.now, fields)?;
                Ok(Err(refusal))
            }
            Err(error) => Err(error),
        }
    }

    fn permitted(
        &self,
        store: &Snapshot<'_>,
        held: &HeldAgreement,
        asked: &Asked,
    ) -> Result<Permitted, Error> {
        let id = &asked.agreement;
        held.status.require_active()?;
        trust::require_good_standing(store, &self.node.identity.trust(), &self.peer)?;
        if restored::is_closed(store, id)? {
            return Err(Refusal::new(&uses::RESTORED, id.as_str()).into());
        }
        let policy = self.node.policies.compiled(held.signed.agreement().text())?;
        crate::enforceable::count_unit(&policy)?;
        let term = records::found(policy.lease_millis(), &NOT_LEASED, id.as_str())?;
        let mut until = self.now.plus_millis(term);
        let mut uses = store.counter(&counter(id))?;
        let mut fresh = Vec::new();
        let begins = match &asked.what_for {
            WhatFor::Transfer(pid) => {
                self.require_brought(store, asked, pid)?;
                until = until.min(self.judge(&policy, held, None, None)?.unwrap_or(until));
                true
            }
            WhatFor::Sessions(sessions) => {
                let open = self.open_sessions(store, id)?;
                for of in sessions {
                    let known = open.iter().any(|(name, _)| name == of.session.as_str());
                    // What goes on was counted when it began.
                    let spent = if known { uses.saturating_sub(1) } else { uses };
                    until = until.min(self.judge(&policy, held, Some(of), Some(spent))?.unwrap_or(until));
                    if !known {
                        uses = uses.saturating_add(1);
                        fresh.push(of.session.clone());
                    }
                }
                if open.len() + fresh.len() > MAX_OPEN {
                    return Err(Refusal::new(&TOO_MANY_OPEN, format!("{} are open", open.len())).into());
                }
                false
            }
        };
        let turns = asked
            .objects
            .iter()
            .map(|(object, epoch)| shares::turn(store, id, *object, *epoch, begins))
            .collect::<Result<_, _>>()?;
        Ok(Permitted { until, turns, uses, fresh })
    }

    /// The policy's answer now; `Some` instant at which it may change.
    fn judge(
        &self,
        policy: &Policy,
        held: &HeldAgreement,
        of: Option<&SessionUse>,
        spent: Option<u64>,
    ) -> Result<Option<UnixMillis>, Refusal> {
        let mut facts = facts_about(Some(&self.statement), self.now).leased(self.now);
        if let Some(spent) = spent {
            facts = facts.uses_spent(spent);
        }
        if let Some(purpose) = of.and_then(|of| of.purpose.as_deref()) {
            facts = facts.purpose(purpose);
        }
        let request = policy::Request {
            action: of.map_or(policy::vocab::action::USE, |of| of.action.as_str()),
            target: held.signed.agreement().target().as_str(),
            assignee: self.peer.as_str(),
            // What only the consumer knows (first use, say) stays its connector's to decide.
            stage: policy::Stage::Transfer,
        };
        let decision = policy.decide(&request, &facts);
        match decision.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(decision.valid_until),
        }
    }

    /// Only what a started transfer brings may be sealed under a new share.
    fn require_brought(&self, store: &Snapshot<'_>, asked: &Asked, pid: &str) -> Result<(), Error> {
        let process = records::transfer(store, pid)?.filter(|process| {
            process.role() == Role::Provider
                && *process.counterparty() == self.peer
                && *process.agreement_id() == asked.agreement
                && process.state_name() == StateName::Started
        });
        records::found(process, &UNKNOWN_PROCESS, pid)?;
        let publication = records::found(provider::pinned(store, pid)?, &provider::NOT_PUBLISHED, pid)?;
        match asked.objects.iter().find(|(object, _)| publication.manifest().object(*object).is_none()) {
            Some((object, _)) => Err(Refusal::new(&UNKNOWN_OBJECT, object.to_string()).into()),
            None => Ok(()),
        }
    }

    /// Sessions whose lease has not ended; gone ones count as they did.
    fn open_sessions(
        &self,
        store: &Snapshot<'_>,
        agreement: &AgreementId,
    ) -> Result<Vec<(String, UnixMillis)>, Error> {
        let prefix = sessions_of(agreement);
        let rows = store.scan(Collection::Leases, &prefix, None, MAX_OPEN)?;
        let mut open = Vec::new();
        for row in rows {
            let until = read_session(&row.key, &row.value)?;
            if until > self.now {
                open.push((row.key.strip_prefix(&prefix).unwrap_or_default().to_owned(), until));
            }
        }
        Ok(open)
    }

    fn account(
        &self,
        tx: &Tx<'_>,
        held: &HeldAgreement,
        asked: &Asked,
        permitted: Permitted,
    ) -> Result<Granted, Error> {
        let id = &asked.agreement;
        let Permitted { until, turns, uses, fresh } = permitted;
        let asking = Asking { nonce: &asked.nonce, channel: &self.channel };
        let mut grant = LeaseGrant::new(held.signed.agreement(), asking, self.now, until);
        grant.uses = uses.to_string();
        match &asked.what_for {
            WhatFor::Transfer(pid) => grant.transfer = Some(pid.clone()),
            WhatFor::Sessions(sessions) => {
                let added = u64::try_from(fresh.len()).map_err(Error::ours)?;
                let _counted = tx.counter_add(&counter(id), added, None)?;
                self.forget_ended(tx, id)?;
                for of in sessions {
                    put_session(tx, id, &of.session, until)?;
                    grant.sessions.push(of.session.to_string());
                }
            }
        }
        let mut given = Vec::new();
        for turn in turns {
            let (object, epoch) = turn.next();
            grant.objects.push(GrantedObject { object, epoch: epoch.to_string() });
            given.push(turn.take(tx, &self.kek, id)?);
        }
        let signer = self.node.identity.signer();
        let signed = signer.sign(Typ::Grant, &grant.payload()?, self.now, None)?;
        tx.put(Collection::Receipts, &format!("lease-given {id}"), signed.as_bytes(), Expect::Any)?;
        let mut fields = self.fields(asked);
        fields.push(("uses", uses.to_string()));
        fields.push(("validUntil", until.to_string()));
        fields.push(("grantHash", control_plane::digest::Digest::of(signed.as_bytes()).to_string()));
        records::append_fields(tx, "lease-granted", self.now, fields)?;
        Ok(Granted { grant: signed, shares: given })
    }

    fn forget_ended(&self, tx: &Tx<'_>, agreement: &AgreementId) -> Result<(), Error> {
        for row in tx.scan(Collection::Leases, &sessions_of(agreement), None, MAX_OPEN)? {
            if read_session(&row.key, &row.value)? <= self.now {
                tx.delete(Collection::Leases, &row.key, Expect::Any)?;
            }
        }
        Ok(())
    }

    fn fields(&self, asked: &Asked) -> Vec<(&'static str, String)> {
        let what_for = match &asked.what_for {
            WhatFor::Transfer(pid) => ("transfer", control_plane::ids::printable(pid)),
            WhatFor::Sessions(sessions) => {
                let names: Vec<&str> = sessions.iter().map(|of| of.session.as_str()).collect();
                ("sessions", names.join(" "))
            }
        };
        vec![
            ("agreement", asked.agreement.to_string()),
            ("consumer", self.peer.to_string()),
            ("objects", asked.objects.len().to_string()),
            what_for,
        ]
    }
}

/// A session of a consumer ended: it is not renewed any more, and naming it again would count again.
pub async fn release(
    node: &Arc<Node>,
    peer: &ParticipantId,
    agreement: AgreementId,
    session: SessionId,
) -> Result<(), Error> {
    let (us, peer) = (node.us.clone(), peer.clone());
    node.store
        .write(move |tx| {
            let held = records::agreement(tx, &agreement)?.filter(|held| {
                let parties = held.signed.agreement();
                *parties.assigner() == us && *parties.assignee() == peer
            });
            records::found(held, &UNKNOWN_AGREEMENT, agreement.as_str())?;
            tx.delete(Collection::Leases, &session_key(&agreement, &session), Expect::Any)?;
            Ok(())
        })
        .await
}

/// The agreement ended, or its copies are gone: destroys our shares, so that nobody opens them any more. Recorded.
pub fn destroy(tx: &Tx<'_>, agreement: &AgreementId, now: UnixMillis) -> Result<(), Error> {
    let destroyed = shares::destroy(tx, agreement)?;
    if destroyed == 0 {
        return Ok(());
    }
    for row in tx.scan(Collection::Leases, &sessions_of(agreement), None, MAX_OPEN)? {
        tx.delete(Collection::Leases, &row.key, Expect::Any)?;
    }
    let fields = [("agreement", agreement.to_string()), ("shares", destroyed.to_string())];
    records::append_fields(tx, "lease-shares-destroyed", now, fields)
}

/// A session that holds a lease; the durable form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SessionRow {
    version: u32,
    until: String,
}

/// The version of [`SessionRow`] that is written and read.
const SESSION_VERSION: u32 = 1;

fn sessions_of(agreement: &AgreementId) -> String {
    format!("given {agreement} ")
}

fn session_key(agreement: &AgreementId, session: &SessionId) -> String {
    format!("{}{session}", sessions_of(agreement))
}

fn put_session(
    tx: &Tx<'_>,
    agreement: &AgreementId,
    session: &SessionId,
    until: UnixMillis,
) -> Result<(), Error> {
    let row = SessionRow { version: SESSION_VERSION, until: until.to_string() };
    let bytes = serde_jcs::to_vec(&row).map_err(Error::ours)?;
    tx.put(Collection::Leases, &session_key(agreement, session), &bytes, Expect::Any)?;
    Ok(())
}

fn read_session(key: &str, value: &[u8]) -> Result<UnixMillis, Error> {
    let damaged = |cause: String| Error::damaged(&format!("lease {key}"), cause);
    let row: SessionRow = serde_json::from_slice(value).map_err(|error| damaged(error.to_string()))?;
    match UnixMillis::parse_rfc3339(&row.until) {
        Some(until) if row.version == SESSION_VERSION => Ok(until),
        Some(_) | None => Err(damaged(format!("version {}", row.version))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_format_is_frozen() {
        let text = r#"{"until":"1970-01-01T00:00:01.000Z","version":1}"#;
        assert_eq!(read_session("given a s", text.as_bytes()).unwrap(), UnixMillis(1000));
        let row = SessionRow { version: SESSION_VERSION, until: UnixMillis(1000).to_string() };
        assert_eq!(serde_jcs::to_string(&row).unwrap(), text);
        assert!(read_session("given a s", text.replace(":1}", ":2}").as_bytes()).is_err());
    }

    #[test]
    fn requests_are_bounded_and_name_nothing_twice() {
        let check = |objects: &[u32], sessions: &[&str], good: bool| {
            let sessions =
                sessions.iter().map(|name| SessionUse::parse(name, "odrl:read", "").unwrap()).collect();
            let asked = Asked {
                agreement: AgreementId::parse("urn:a").unwrap(),
                nonce: [0; NONCE_BYTES],
                objects: objects.iter().map(|object| (*object, 1)).collect(),
                what_for: WhatFor::Sessions(sessions),
            };
            assert_eq!(asked.require_bounded().is_ok(), good, "{objects:?}");
        };
        let many: Vec<u32> = (0..65).collect();
        check(&[0, 1], &["s"], true);
        check(&[], &["s", "t"], true);
        check(&many[..64], &["s"], true);
        check(&many, &["s"], false);
        check(&[1, 1], &["s"], false);
        check(&[1], &["s", "s"], false);
        check(&[1], &[], false);
    }
}
