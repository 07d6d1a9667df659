//! Signed notices about an agreement: made, sent from the outbox, received once.

use std::collections::BTreeMap;
use std::sync::Arc;

use control_plane::cause::Cause;
use control_plane::ids::{AgreementId, MessageId, ParticipantId, printable};
use control_plane::pids::Role;
use control_plane::status::{Act, StatusChange};
use control_plane::{Refusal, UnixMillis};
use identity::{Typ, VerifiedParticipant, jws};
use proto::status::RemoteRefusal;
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, OutboxEntry, OutboxItem, Seen, Tx};

use super::{agreements, records};
use crate::error::Error;
use crate::fresh;
use crate::node::Node;

control_plane::refusal_codes! {
    MALFORMED = "notice/malformed", Input,
        "the notice is not one that this version understands", "通知並非此版本所能理解", "通知并非此版本所能理解",
        clause "proto/fairlead/notice", next "compare the versions of both connectors";
    NOT_A_PARTY = "notice/not-a-party", Input,
        "the notice is not by a party of the agreement it names", "通知並非由所述協議的一方發出", "通知并非由所述协议的一方发出",
        clause "proto/fairlead/notice", next "send notices only about agreements of your own";
    REUSED = "notice/message-id-reused", Input,
        "this message id was already used for another notice", "此訊息識別碼已用於另一通知", "此消息标识符已用于另一通知",
        clause "proto/fairlead/notice: message id", next "send a new notice under a new id";
}

/// The outbox kind of a notice.
pub const OUTBOX_KIND: &str = "notice";

/// The newest version of the notice format that is written and read.
const VERSION: u32 = 1;

/// Further members of a notice: a digest, a time, a count; never more than a handful.
const MAX_FIELDS: usize = 16;

/// Members that are copied into our record of the notice; the whole notice is kept signed.
const TOLD: &[&str] = &["digest", "session", "action", "purpose", "duty", "deadline"];

/// So much of a member stands in our record: an IRI or a line.
const MAX_TOLD_CHARS: usize = 512;

/// How far the sender's clock may be ahead of ours in what it says, as for signatures.
const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;

/// What a notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The sender suspends the agreement.
    Suspended,
    /// The sender lifts its suspension.
    Resumed,
    /// The sender ends the agreement.
    Revoked,
    /// The sender destroyed its copies; fields hold the proof.
    Deleted,
    /// The sender used the data; fields hold the receipt.
    Used,
    /// A duty of the sender is overdue.
    DutyOverdue,
    /// A person of the sender's says that a duty is done; the reason is the evidence.
    DutyDone,
}

impl What {
    /// The code that stands in records and causes.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Suspended => "agreement/suspended",
            Self::Resumed => "agreement/resumed",
            Self::Revoked => "agreement/revoked",
            Self::Deleted => "agreement/deleted",
            Self::Used => "agreement/used",
            Self::DutyOverdue => "agreement/duty-overdue",
            Self::DutyDone => "agreement/duty-done",
        }
    }
}

/// A notice about an agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The agreement.
    pub agreement: AgreementId,
    /// What happened.
    pub what: What,
    /// For people.
    pub reason: String,
    /// When, by the sender's clock.
    pub at: UnixMillis,
    /// Further members, e.g. the proof of a deletion.
    pub fields: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NoticeJson {
    version: u32,
    agreement: String,
    what: What,
    reason: String,
    at: String,
    fields: BTreeMap<String, String>,
}

impl Notice {
    /// The RFC 8785 bytes that are signed.
    fn payload(&self) -> Result<Vec<u8>, Error> {
        let json = NoticeJson {
            version: VERSION,
            agreement: self.agreement.to_string(),
            what: self.what,
            reason: self.reason.clone(),
            at: self.at.to_string(),
            fields: self.fields.clone(),
        };
        serde_jcs::to_vec(&json).map_err(Error::ours)
    }

    /// Reads a signed payload.
    fn read(payload: &[u8]) -> Result<Self, Refusal> {
        let refuse = |why: String| Refusal::new(&MALFORMED, why);
        let json: NoticeJson = serde_json::from_slice(payload).map_err(|error| refuse(error.to_string()))?;
        if json.version != VERSION || json.fields.len() > MAX_FIELDS {
            return Err(refuse(format!("version {}, {} fields", json.version, json.fields.len())));
        }
        Ok(Self {
            agreement: AgreementId::parse(&json.agreement)?,
            what: json.what,
            reason: printable(&json.reason),
            at: UnixMillis::parse_rfc3339(&json.at).ok_or_else(|| refuse("`at` is not an instant".into()))?,
            fields: json.fields,
        })
    }
}

/// Signs a notice and queues it for `peer`, in the caller's transaction.
pub fn push(node: &Node, tx: &Tx<'_>, peer: &ParticipantId, notice: &Notice) -> Result<String, Error> {
    let signed = node.identity.signer().sign(Typ::Notice, &notice.payload()?, notice.at, None)?;
    let id = fresh::urn();
    tx.put(Collection::Notices, &id, signed.as_bytes(), Expect::Absent)?;
    tx.outbox_push(&OutboxItem {
        id: &id,
        // Notices about one agreement stay in their order.
        lane: &format!("notices {}", notice.agreement),
        destination: peer.as_str(),
        kind: OUTBOX_KIND,
        body: signed.as_bytes(),
        due: notice.at,
    })?;
    Ok(id)
}

/// A peer refused a notice of ours for good: that is recorded, and the notices behind it may go.
pub async fn not_taken(node: &Arc<Node>, entry: OutboxEntry, told: &RemoteRefusal) -> Result<(), Error> {
    let (now, code) = (node.now(), told.code.clone());
    node.store
        .write(move |tx| {
            let fields = [("notice", entry.id.clone()), ("to", entry.destination.clone()), ("code", code)];
            records::append_fields(tx, "notice-not-taken", now, fields)?;
            tx.outbox_done(&entry.id)?;
            Ok(())
        })
        .await
}

/// Takes a peer's notice; a second arrival changes nothing.
pub async fn receive(
    node: &Arc<Node>,
    peer: &VerifiedParticipant,
    message_id: MessageId,
    signed: String,
) -> Result<(), Error> {
    let now = node.now();
    let verified = jws::verify(&signed, Typ::Notice, &node.certificates, now)?;
    if verified.signer() != peer.id() {
        return Err(Refusal::new(&NOT_A_PARTY, format!("signed by `{}`", verified.signer())).into());
    }
    let notice = Notice::read(verified.payload())?;
    if notice.at.millis_since(now) > MAX_AHEAD_MS {
        return Err(Refusal::new(&MALFORMED, format!("`at` lies ahead: {}", notice.at)).into());
    }
    let hash = control_plane::digest::Digest::of(signed.as_bytes());
    let (worker, peer) = (node.clone(), peer.id().clone());
    let changed = node
        .store
        .write(move |tx| {
            match tx.seen(peer.as_str(), message_id.as_str(), hash.as_str())? {
                Seen::New => {}
                Seen::Repeat(_) => return Ok(None),
                Seen::Conflict => return Err(Refusal::new(&REUSED, format!("`{message_id}`")).into()),
            }
            let held = records::agreement(tx, &notice.agreement)?;
            let held = records::found(held, &NOT_A_PARTY, notice.agreement.as_str())?;
            let role = [Role::Consumer, Role::Provider]
                .into_iter()
                .find(|role| *held.signed.agreement().party(*role) == peer);
            let role = records::found(role, &NOT_A_PARTY, peer.as_str())?;
            // Under the peer's name: nobody's message replaces another's, nor ours.
            tx.put(Collection::Notices, &format!("{peer} {message_id}"), signed.as_bytes(), Expect::Any)?;
            let mut fields = vec![
                ("agreement", notice.agreement.to_string()),
                ("from", peer.to_string()),
                ("what", notice.what.code().to_owned()),
                ("at", notice.at.to_string()),
                ("noticeHash", hash.to_string()),
            ];
            for told in TOLD {
                if let Some(value) = notice.fields.get(*told) {
                    fields.push((told, printable(value).chars().take(MAX_TOLD_CHARS).collect()));
                }
            }
            if notice.what == What::DutyDone {
                fields.push(("evidence", notice.reason.chars().take(MAX_TOLD_CHARS).collect()));
            }
            records::append_fields(tx, "notice-received", now, fields)?;
            let changed = agreements::changed_by_peer(&worker, tx, &held, role, &notice, now)?;
            tx.remember(peer.as_str(), message_id.as_str(), hash.as_str(), b"", now)?;
            Ok::<_, Error>(Some(changed))
        })
        .await?;
    if let Some((held, ended)) = changed {
        agreements::settle(node, &held, ended);
        node.data.keys.rotate_if_owed(&node.store).await?;
    }
    Ok(())
}

/// The change that a disputed agreement undergoes: the side that finds out ends it.
pub fn revocation(by: Role, cause: Cause, at: UnixMillis) -> StatusChange {
    StatusChange::Revoke(by, Act { cause, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_frozen() {
        let notice = Notice {
            agreement: AgreementId::parse("urn:uuid:1").unwrap(),
            what: What::Deleted,
            reason: "deadline".into(),
            at: UnixMillis(0),
            fields: [("digest".to_owned(), "sha-256:x".to_owned())].into(),
        };
        let text = String::from_utf8(notice.payload().unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"agreement":"urn:uuid:1","at":"1970-01-01T00:00:00.000Z","fields":{"digest":"sha-256:x"},"reason":"deadline","version":1,"what":"deleted"}"#
        );
        assert_eq!(Notice::read(text.as_bytes()), Ok(notice));
        for bad in
            ["", "{}", &text.replace("\"version\":1", "\"version\":2"), &text.replace("reason", "season")]
        {
            assert_eq!(Notice::read(bad.as_bytes()).unwrap_err().code, &MALFORMED, "{bad}");
        }
    }
}
