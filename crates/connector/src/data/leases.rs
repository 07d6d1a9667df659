//! Consumer side of key leases: how one is asked for, and what is stored of the answer.
//!
//! A lease is asked for in three steps: the provider tells the share that the durable copy is wrapped with and the next
//! one; the copy's row moves to the next in one transaction; only then is it used. A crash between them asks again with
//! the epoch of the row, which the provider keeps until a newer one is presented.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control_plane::ids::AgreementId;
use control_plane::status::HeldAgreement;
use control_plane::{Fault, Refusal, UnixMillis};
use data_plane::{AgreementKey, LeaseShare, ObjectRecord, ObjectState, SessionId};
use identity::{Typ, jws};
use proto::lease::acquire_request::Reason;
use proto::lease::lease_service_client::LeaseServiceClient;
use proto::lease::{AcquireRequest, LeaseResponse, LeasedObject, ReleaseRequest, RenewRequest};
use proto::status::from_status;
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Snapshot, Tx, crash_point};
use tonic::Status;

use super::lease_grant::{Asking, LeaseGrant, NONCE_BYTES, OTHER_GRANT};
use super::lease_provider::SessionUse;
use super::live_leases::Granted;
use super::provider::data_error;
use super::{holdings, keys};
use crate::driver::records;
use crate::error::Error;
use crate::fresh;
use crate::node::Node;
use crate::transport::dialer::{Link, REFUSED_BY_PEER};
use crate::trust;

control_plane::refusal_codes! {
    LEASE_NEEDED = "use/lease-needed", Unavailable,
        "the provider has to grant a key lease first, and gave no answer", "須先由提供方授予金鑰租約，而提供方沒有回覆",
        "须先由提供方授予密钥租约，而提供方没有答复",
        clause "fl:keyLease", next "let the connector reach the provider, then ask again";
    LEASE_REFUSED = "use/lease-refused", Policy,
        "the provider refused the key lease", "提供方拒絕授予金鑰租約", "提供方拒绝授予密钥租约",
        clause "fl:keyLease", next "the detail has the provider's code; ask its operator";
}

/// Answers have at most [`super::lease_provider::MAX_NAMED`] shares and one signed grant.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// How long a session's end waits to be told; its lease ends by itself.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no lease.
#[derive(Debug)]
pub enum NoLease {
    /// The provider gave no answer.
    Unanswered(Refusal),
    /// It said no.
    Refused(Refusal),
    /// Something here failed.
    Ours(Error),
}

impl From<Error> for NoLease {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<Refusal> for NoLease {
    fn from(refusal: Refusal) -> Self {
        Self::Ours(refusal.into())
    }
}

impl NoLease {
    /// As the one who wanted to use or pull is told.
    pub fn into_error(self) -> Error {
        match self {
            Self::Unanswered(why) => told(&LEASE_NEEDED, &why),
            Self::Refused(why) => why.into(),
            Self::Ours(error) => error,
        }
    }
}

fn told(code: &'static control_plane::Code, why: &Refusal) -> Error {
    Refusal::new(code, format!("{}: {}", why.code.code, why.detail)).into()
}

/// What shares are asked for.
pub enum For<'a> {
    /// A session that opens.
    Session(&'a SessionUse),
    /// Sessions that go on.
    Renewal(&'a [SessionUse]),
    /// To seal what the transfer, by the provider's name of it, brings.
    Transfer(&'a str),
}

/// A lease for a session that opens with these objects. `counted`: the provider must have counted it; otherwise a live
/// lease bridges the time in which the provider gives no answer.
pub async fn for_session(
    node: &Arc<Node>,
    held: &HeldAgreement,
    objects: &[u32],
    of: &SessionUse,
    counted: bool,
) -> Result<(), NoLease> {
    let id = held.signed.agreement().id();
    let turn = node.data.leases.turn(id);
    let _asking = turn.lock().await;
    let now = node.clock.trusted_now()?;
    if !counted && node.data.leases.is_young(id, objects, now) {
        return Ok(());
    }
    match ask(node, held, objects, For::Session(of)).await {
        Err(NoLease::Unanswered(why)) if !counted && node.data.leases.covers(id, objects, now) => {
            tracing::info!(agreement = %id, code = why.code.code, "the provider gives no answer; the last lease goes on");
            Ok(())
        }
        asked => asked,
    }
}

/// Key and row of a leased object as they are now; asks for its share if the session has none yet.
pub async fn unlock(
    node: &Arc<Node>,
    held: &HeldAgreement,
    of: &SessionUse,
    record: &ObjectRecord,
    key: &AgreementKey,
) -> Result<(ObjectRecord, AgreementKey), Error> {
    let id = held.signed.agreement().id();
    let index = records::found(holdings::object_index(record.object()), &holdings::NO_HOLDING, id.as_str())?;
    let turn = node.data.leases.turn(id);
    let _asking = turn.lock().await;
    if node.data.leases.share(id, index, node.clock.trusted_now()?).is_none() {
        ask(node, held, &[index], For::Session(of)).await.map_err(NoLease::into_error)?;
    }
    let share = node.data.leases.share(id, index, node.now());
    let share = records::found(share, &LEASE_NEEDED, id.as_str())?;
    let (agreement, object) = (id.clone(), record.object().clone());
    let row = node.store.read(move |store| holdings::object(store, &agreement, &object)).await?;
    let row = records::found(row, &holdings::NO_HOLDING, id.as_str())?;
    let key = key.leased(row.object(), &share).map_err(data_error)?;
    Ok((row, key))
}

/// Keys to seal these objects of a transfer with; what is whole already needs none.
pub async fn for_transfer(
    node: &Arc<Node>,
    held: &HeldAgreement,
    provider_pid: &str,
    objects: &[u32],
    key: &AgreementKey,
) -> Result<HashMap<u32, AgreementKey>, Error> {
    let id = held.signed.agreement().id();
    let turn = node.data.leases.turn(id);
    let _asking = turn.lock().await;
    ask(node, held, objects, For::Transfer(provider_pid)).await.map_err(|no_lease| match no_lease {
        // A pull goes on by itself once the provider answers.
        NoLease::Unanswered(why) => why.into(),
        other => other.into_error(),
    })?;
    let mut keys = HashMap::new();
    for object in objects {
        if let Some(share) = node.data.leases.share(id, *object, node.now()) {
            let leased = key.leased(&holdings::object_id(*object)?, &share).map_err(data_error)?;
            keys.insert(*object, leased);
        }
    }
    Ok(keys)
}

/// Tells the provider that a session is over, without waiting for it.
pub fn release(node: &Arc<Node>, held: &HeldAgreement, session: &SessionId) {
    let id = held.signed.agreement().id();
    if !node.data.leases.ended(id, session) {
        return;
    }
    let (node, provider) = (node.clone(), held.signed.agreement().assigner().clone());
    let request = ReleaseRequest { agreement: id.to_string(), session: session.to_string() };
    tokio::spawn(async move {
        let told = async {
            let link = node.links.control(&node, &provider).await?;
            LeaseServiceClient::new(link.channel.clone()).release(request).await.map_err(Error::ours)
        };
        // The provider forgets the session when its lease has ended, told or not.
        drop(tokio::time::timeout(RELEASE_TIMEOUT, told).await);
    });
}

/// One request and what follows from its answer; the caller holds the agreement's turn.
pub(super) async fn ask(
    node: &Arc<Node>,
    held: &HeldAgreement,
    objects: &[u32],
    what_for: For<'_>,
) -> Result<(), NoLease> {
    let agreement = held.signed.agreement();
    let (id, provider) = (agreement.id(), agreement.assigner());
    let asked_at = node.clock.trusted_now()?;
    let presented = presented(node, id, objects, matches!(what_for, For::Transfer(_))).await?;
    let (answer, nonce, link) = match exchange(node, held, &presented, &what_for).await {
        Err(NoLease::Refused(reason)) => {
            refused(node, id, &reason).await?;
            return Err(NoLease::Refused(reason));
        }
        answered => answered?,
    };
    let channel = link.connection.binding().copied();
    let channel = channel.ok_or_else(|| Refusal::new(&OTHER_GRANT, "the connection has no binding"))?;
    let verified = jws::verify(&answer.grant, Typ::Grant, &node.certificates, node.now())?;
    if verified.signer() != provider {
        return Err(Refusal::new(&OTHER_GRANT, format!("signed by `{}`", verified.signer())).into());
    }
    let asking = Asking { nonce: &nonce, channel: &channel };
    let (grant, lasts) = LeaseGrant::answering(verified.payload(), agreement, asking)?;
    let moves = moves(&presented, &answer, &grant)?;
    // By our clock, from before the request: neither delay nor a wrong clock over there lengthens it.
    let policy = node.policies.compiled(agreement.text())?;
    let term = policy.lease_millis().unwrap_or(0);
    let granted = Granted { last: asked_at, until: asked_at.plus_millis(lasts.min(term)) };
    let taken = Taken { node: node.clone(), agreement: id.clone(), grant: answer.grant, granted };
    let shares = taken.store(moves).await?;
    crash_point("lease-taken");
    // Kept first, looked at then: what ended the agreement in between either sees the shares or is seen.
    node.data.leases.keep(id, provider, granted, shares);
    let (name, peer, trust) = (id.clone(), provider.clone(), node.identity.trust());
    let stands = node
        .store
        .read(move |store| {
            records::agreement(store, &name)?.map_or(Ok(()), |held| held.status.require_active())?;
            trust::require_good_standing(store, &trust, &peer)
        })
        .await
        .and_then(|()| Ok(node.require_not_suspended(provider)?));
    stands.map_err(|error| {
        node.data.leases.forget(id);
        NoLease::Ours(error)
    })
}

/// The epoch that each object's row is wrapped with; for a transfer what is not whole, begun or not.
async fn presented(
    node: &Arc<Node>,
    id: &AgreementId,
    objects: &[u32],
    transfer: bool,
) -> Result<Vec<(u32, u64)>, Error> {
    let (id, objects) = (id.clone(), objects.to_vec());
    let read = move |store: &Snapshot<'_>| {
        let mut presented = Vec::new();
        for index in objects {
            let row = holdings::object(store, &id, &holdings::object_id(index)?)?;
            let complete = row.as_ref().is_some_and(|row| row.state() == ObjectState::Complete);
            let epoch = row.and_then(|row| row.lease_epoch()).unwrap_or(0);
            if complete != transfer {
                presented.push((index, epoch));
            }
        }
        Ok::<_, Error>(presented)
    };
    node.store.read(read).await
}

type Answered = (LeaseResponse, [u8; NONCE_BYTES], Arc<Link>);

/// Asks once, and a second time over a new connection if the first had ended.
async fn exchange(
    node: &Arc<Node>,
    held: &HeldAgreement,
    presented: &[(u32, u64)],
    what_for: &For<'_>,
) -> Result<Answered, NoLease> {
    let provider = held.signed.agreement().assigner();
    let mut last = None;
    for _ in 0..2 {
        let link = node.links.control(node, provider).await.map_err(|error| {
            let refusal = error.into_refusal();
            // That peer does answer: it does not want to deal with us.
            if refusal.code == &REFUSED_BY_PEER {
                return NoLease::Refused(Refusal::new(&LEASE_REFUSED, refusal.detail));
            }
            NoLease::Unanswered(refusal)
        })?;
        let nonce = fresh::salt().0;
        let status = match call(&link, held.signed.agreement().id(), &nonce, presented, what_for).await {
            Ok(answer) => return Ok((answer, nonce, link)),
            Err(status) => status,
        };
        let told = from_status(&status);
        let detail = format!("{}: {}", told.code, told.text);
        if told.code.is_empty() || told.fault == Fault::Identity {
            node.links.failed(&link);
            last = Some(Refusal::new(&super::pull::BROKEN, format!("{}: {}", status.code(), told.text)));
        } else if told.is_retryable() || told.fault == Fault::Limit {
            return Err(NoLease::Unanswered(Refusal::new(&super::pull::BROKEN, detail)));
        } else {
            return Err(NoLease::Refused(Refusal::new(&LEASE_REFUSED, detail)));
        }
    }
    Err(NoLease::Unanswered(last.unwrap_or_else(|| Refusal::new(&super::pull::BROKEN, ""))))
}

async fn call(
    link: &Link,
    id: &AgreementId,
    nonce: &[u8; NONCE_BYTES],
    presented: &[(u32, u64)],
    what_for: &For<'_>,
) -> Result<LeaseResponse, Status> {
    let mut client =
        LeaseServiceClient::new(link.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
    let agreement = id.to_string();
    let nonce = bytes::Bytes::copy_from_slice(nonce);
    let objects =
        presented.iter().map(|(object, epoch)| LeasedObject { object: *object, epoch: *epoch }).collect();
    let reason = match what_for {
        For::Renewal(sessions) => {
            let sessions = sessions.iter().map(wire).collect();
            let request = RenewRequest { agreement, nonce, objects, sessions };
            return Ok(client.renew(request).await?.into_inner());
        }
        For::Session(of) => Reason::Session(wire(of)),
        For::Transfer(pid) => Reason::Transfer((*pid).to_owned()),
    };
    let request = AcquireRequest { agreement, nonce, objects, reason: Some(reason) };
    Ok(client.acquire(request).await?.into_inner())
}

fn wire(of: &SessionUse) -> proto::lease::SessionUse {
    proto::lease::SessionUse {
        session: of.session.to_string(),
        action: of.action.clone(),
        purpose: of.purpose.clone().unwrap_or_default(),
    }
}

/// From one share to the next, for one object.
struct Move {
    object: u32,
    from: Option<LeaseShare>,
    to: LeaseShare,
}

/// The shares of an answer, which must be those that were asked for and granted.
fn moves(presented: &[(u32, u64)], answer: &LeaseResponse, grant: &LeaseGrant) -> Result<Vec<Move>, Refusal> {
    let other = || Refusal::new(&OTHER_GRANT, "objects or epochs");
    if answer.shares.len() != presented.len() || grant.objects.len() != presented.len() {
        return Err(other());
    }
    let mut moves = Vec::new();
    for (((object, epoch), share), granted) in presented.iter().zip(&answer.shares).zip(&grant.objects) {
        let grows = *epoch == 0 || share.next_epoch == epoch.saturating_add(1);
        let named = granted.object == *object && granted.epoch == share.next_epoch.to_string();
        if share.object != *object || share.next_epoch == 0 || !grows || !named {
            return Err(other());
        }
        moves.push(Move {
            object: *object,
            from: match epoch {
                0 => None,
                epoch => Some(LeaseShare::from_bytes(*epoch, &share.held)?),
            },
            to: LeaseShare::from_bytes(share.next_epoch, &share.next)?,
        });
    }
    Ok(moves)
}

/// A verified answer on its way to the store.
struct Taken {
    node: Arc<Node>,
    agreement: AgreementId,
    grant: String,
    granted: Granted,
}

impl Taken {
    /// Moves the rows to the new epoch, with grant and record, in one transaction.
    async fn store(self, moves: Vec<Move>) -> Result<Vec<(u32, LeaseShare)>, Error> {
        let node = self.node.clone();
        let kek = node.data.keys.current().await;
        let wrapper = (*kek).clone();
        let stored = node.store.write(move |tx| {
            let id = &self.agreement;
            let key = keys::agreement_key(tx, &wrapper, id)?;
            let key = records::found(key, &holdings::DESTROYED, id.as_str())?;
            let mut shares = Vec::new();
            for Move { object, from, to } in moves {
                if let Some(from) = from {
                    let row = holdings::object(tx, id, &holdings::object_id(object)?)?;
                    let row = records::found(row, &holdings::NO_HOLDING, id.as_str())?;
                    let leased = |share| key.leased(row.object(), share).map_err(data_error);
                    let (old, new) = (leased(&from)?, leased(&to)?);
                    holdings::save_object(tx, &row.rewrap(&old, &new).map_err(data_error)?)?;
                }
                shares.push((object, to));
            }
            tx.put(Collection::Receipts, &format!("lease-taken {id}"), self.grant.as_bytes(), Expect::Any)?;
            put_taken(tx, id, self.granted)?;
            let fields = [
                ("agreement", id.to_string()),
                ("objects", shares.len().to_string()),
                ("grantHash", control_plane::digest::Digest::of(self.grant.as_bytes()).to_string()),
                ("validUntil", self.granted.until.to_string()),
            ];
            records::append_fields(tx, "lease-granted", self.granted.last, fields)?;
            Ok::<_, Error>(shares)
        });
        let stored = stored.await;
        drop(kek);
        stored
    }
}

async fn refused(node: &Arc<Node>, id: &AgreementId, reason: &Refusal) -> Result<(), Error> {
    let (now, fields) = (node.now(), [("agreement", id.to_string()), ("reason", reason.detail.clone())]);
    node.store.write(move |tx| records::append_fields(tx, "lease-refused", now, fields)).await
}

/// The last lease that was taken; the durable form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TakenRow {
    version: u32,
    last: String,
    until: String,
}

/// The version of [`TakenRow`] that is written and read.
const TAKEN_VERSION: u32 = 1;

fn taken_key(agreement: &AgreementId) -> String {
    format!("taken {agreement}")
}

fn put_taken(tx: &Tx<'_>, agreement: &AgreementId, granted: Granted) -> Result<(), Error> {
    let row =
        TakenRow { version: TAKEN_VERSION, last: granted.last.to_string(), until: granted.until.to_string() };
    let bytes = serde_jcs::to_vec(&row).map_err(Error::ours)?;
    tx.put(Collection::Leases, &taken_key(agreement), &bytes, Expect::Any)?;
    Ok(())
}

/// The last lease under an agreement, live or not.
pub fn taken(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<Option<Granted>, Error> {
    let Some(row) = store.get(Collection::Leases, &taken_key(agreement))? else { return Ok(None) };
    read_taken(&row.key, &row.value).map(Some)
}

fn read_taken(key: &str, value: &[u8]) -> Result<Granted, Error> {
    let damaged = |cause: String| Error::damaged(&format!("lease {key}"), cause);
    let row: TakenRow = serde_json::from_slice(value).map_err(|error| damaged(error.to_string()))?;
    let instant = |text: &str| UnixMillis::parse_rfc3339(text).ok_or_else(|| damaged(text.to_owned()));
    if row.version != TAKEN_VERSION {
        return Err(damaged(format!("version {}", row.version)));
    }
    Ok(Granted { last: instant(&row.last)?, until: instant(&row.until)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_format_is_frozen() {
        let text = r#"{"last":"1970-01-01T00:00:00.000Z","until":"1970-01-01T00:00:01.000Z","version":1}"#;
        let granted = Granted { last: UnixMillis(0), until: UnixMillis(1000) };
        assert_eq!(read_taken("taken a", text.as_bytes()).unwrap(), granted);
        assert!(read_taken("taken a", text.replace(":1}", ":2}").as_bytes()).is_err());
    }

    #[test]
    fn an_answer_must_be_about_what_was_presented() {
        let text = r#"{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Agreement","@id":"urn:a","assigner":"https://p.example/id","assignee":"https://c.example/id","target":"https://p.example/id/d","timestamp":"2026-11-25T08:00:00Z","permission":[{"action":"read"}]}"#;
        let policy = policy::Policy::from_json(text, &policy::Profiles::shipped()).unwrap();
        let agreement = control_plane::agreement::Agreement::parse(policy.canonical_text()).unwrap();
        let asking = Asking { nonce: &[1; 32], channel: &[2; 32] };
        let check = |presented: &[(u32, u64)], told: &[(u32, u64, u64)], good: bool| {
            let mut grant = LeaseGrant::new(&agreement, asking, UnixMillis(0), UnixMillis(1));
            let mut answer = LeaseResponse::default();
            for (object, epoch, granted) in told {
                let bytes = bytes::Bytes::from(vec![7; 32]);
                answer.shares.push(proto::lease::Share {
                    object: *object,
                    held: bytes.clone(),
                    next_epoch: *epoch,
                    next: bytes,
                });
                let epoch = granted.to_string();
                grant.objects.push(super::super::lease_grant::GrantedObject { object: *object, epoch });
            }
            assert_eq!(moves(presented, &answer, &grant).is_ok(), good, "{presented:?} {told:?}");
        };
        check(&[(0, 0), (1, 4)], &[(0, 1, 1), (1, 5, 5)], true);
        check(&[(0, 0)], &[(0, 7, 7)], true);
        check(&[(0, 4)], &[(0, 4, 4)], false);
        check(&[(0, 4)], &[(0, 6, 6)], false);
        check(&[(0, 4)], &[(0, 5, 6)], false);
        check(&[(0, 4)], &[(1, 5, 5)], false);
        check(&[(0, 0)], &[(0, 0, 0)], false);
        check(&[(0, 4)], &[], false);
        check(&[], &[(0, 1, 1)], false);
    }
}
