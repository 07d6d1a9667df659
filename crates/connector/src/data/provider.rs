//! The provider's side of a pull: what may start, and the stream that asks again at every window.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_plane::agreement::Signing;
use control_plane::ids::{DatasetId, ParticipantId, printable};
use control_plane::pids::Role;
use control_plane::status::HeldAgreement;
use control_plane::transfer::{GRPC_PULL, TransferProcess, UNKNOWN_PROCESS};
use control_plane::{Refusal, UnixMillis};
use data_plane::ports::AccessSubject;
use data_plane::{
    AccessGrant, AccessQuestion, DataError, DecisionPort, Digest, Egress, Publication, PullRequest,
};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, stream};
use identity::{Statement, VerifiedParticipant};
use policy::Policy;
use proto::data;
use proto::data::data_service_server::DataService;
use proto::data::pull_request::Step as Asked;
use proto::data::pull_response::Step as Told;
use store::{Collection, Expect, Snapshot, Tx, crash_point};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Response, Status, Streaming};

use super::{FlowOf, Registered, onward, register, transforms};
use crate::caller::Caller;
use crate::driver::{records, transfers};
use crate::error::Error;
use crate::grpc::{VERDICT_EXPIRED, peer, refuse};
use crate::node::Node;
use crate::policies::facts_about;
use crate::telemetry::metrics;
use crate::{catalogue, enforceable, grpc};

control_plane::refusal_codes! {
    NOT_PUBLISHED = "transfer/not-published", NotFound,
        "the dataset of this agreement has no published data", "此協議的資料集沒有已發布的資料",
        "该协议的数据集没有已发布的数据",
        clause "proto/fairlead/data: GetManifest", next "ask the provider to publish the dataset again";
    RECEIPT_MISSING = "transfer/receipt-missing", Input,
        "the consumer ended the stream without a receipt", "使用方未提交收據即結束資料流",
        "使用方未提交收据即结束数据流",
        clause "usage control: evidence", next "pull the object again; what is held is not sent twice";
    MALFORMED_DIGEST = "message/malformed-digest", Input,
        "a digest is written `sha-256:` and 43 characters of base64url", "摘要須寫作 `sha-256:` 加 43 個 base64url 字元",
        "摘要须写作 `sha-256:` 加 43 个 base64url 字符",
        clause "FIPS 180-4: SHA-256", next "send the digest as the manifest states it";
    OPEN_MISSING = "transfer/open-missing", Input,
        "a pull begins with its opening message", "拉取須以開啟訊息開始", "拉取须以开启消息开始",
        clause "proto/fairlead/data", next "send `open` first";
}

/// A consumer that holds the last byte tells so within this time.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a transfer under this agreement may start now; fixes what it consists of.
pub fn may_start(
    node: &Node,
    tx: &Tx<'_>,
    held: &HeldAgreement,
    process: &TransferProcess,
    statement: Option<&Statement>,
    now: UnixMillis,
) -> Result<(), Error> {
    let (agreement, pid) = (held.signed.agreement(), process.pids().ours());
    let policy = node.policies.compiled(agreement.text())?;
    enforceable::require_between(&policy, process.format() != GRPC_PULL)?;
    decide(&policy, agreement.assignee().as_str(), agreement.target(), statement, now)?;
    onward::require_open(node, tx, agreement.target(), now)?;
    let publication = catalogue::published(tx, agreement.target())?;
    let publication = records::found(publication, &NOT_PUBLISHED, agreement.target().as_str())?;
    // The dataset may have been published anew, with another transform, since this was agreed.
    transforms::require_bound(&policy, publication.manifest().transform())?;
    pin(tx, pid, &publication)
}

/// The policy's answer for the next bytes; `Some` instant at which it may change.
fn decide(
    policy: &Policy,
    assignee: &str,
    target: &DatasetId,
    statement: Option<&Statement>,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, Refusal> {
    // A pull is not a use: any action that the agreement permits may justify it, and what only a use can tell
    // (purpose, count) is decided then.
    let request = policy::Request {
        action: policy::vocab::action::USE,
        target: target.as_str(),
        assignee,
        stage: policy::Stage::Transfer,
    };
    let decision = policy.decide(&request, &facts_about(statement, now));
    match decision.refusal() {
        Some(refusal) => Err(refusal),
        None => Ok(decision.valid_until),
    }
}

fn publication_key(digest: Digest) -> String {
    format!("publication {digest}")
}

fn transfer_key(pid: &str) -> String {
    format!("transfer {pid}")
}

/// Fixes the manifest and sources of a transfer, so that a later publication does not mix into it.
fn pin(tx: &Tx<'_>, pid: &str, publication: &Publication) -> Result<(), Error> {
    let digest = publication.manifest().digest();
    let key = publication_key(digest);
    if tx.get(Collection::Manifests, &key)?.is_none() {
        let json = publication.to_json().map_err(Error::ours)?;
        tx.put(Collection::Manifests, &key, json.as_bytes(), Expect::Absent)?;
    }
    tx.put(Collection::Manifests, &transfer_key(pid), digest.to_string().as_bytes(), Expect::Any)?;
    Ok(())
}

/// What a transfer of ours as provider consists of.
pub fn pinned(store: &Snapshot<'_>, pid: &str) -> Result<Option<Publication>, Error> {
    let Some(row) = store.get(Collection::Manifests, &transfer_key(pid))? else { return Ok(None) };
    let digest = String::from_utf8_lossy(&row.value).into_owned();
    let Some(row) = store.get(Collection::Manifests, &format!("publication {digest}"))? else {
        return Ok(None);
    };
    let json = std::str::from_utf8(&row.value).map_err(|error| Error::damaged(&digest, error))?;
    Ok(Some(Publication::from_json(json).map_err(|refusal| Error::damaged(&digest, refusal))?))
}

/// Serves the data stream.
pub struct DataPlane(pub Arc<Node>);

#[tonic::async_trait]
impl DataService for DataPlane {
    type PullStream = Pin<Box<dyn Stream<Item = Result<data::PullResponse, Status>> + Send>>;

    async fn get_manifest(
        &self,
        request: Request<data::ManifestRequest>,
    ) -> Result<Response<data::ManifestResponse>, Status> {
        let peer = peer(&self.0, &request)?;
        let pid = request.into_inner().provider_pid;
        let (_, _, publication) = started(&self.0, peer.id(), &pid).await.map_err(refuse)?;
        Ok(Response::new(data::ManifestResponse { manifest: publication.manifest().text().to_owned() }))
    }

    async fn pull(
        &self,
        request: Request<Streaming<data::PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let peer = grpc::peer(&self.0, &request)?;
        let mut asked = request.into_inner();
        let first = tokio::time::timeout(OPENING_TIMEOUT, asked.message()).await;
        let first = first.map_err(|_| refuse(Refusal::new(&OPEN_MISSING, "none in time")))??;
        let open = match first.and_then(|message| message.step) {
            Some(Asked::Open(open)) => open,
            Some(Asked::Receipt(_)) | None => return Err(refuse(Refusal::new(&OPEN_MISSING, ""))),
        };
        let opened = Pull::open(&self.0, peer, open, asked).await.map_err(refuse)?;
        Ok(Response::new(Box::pin(stream::unfold(Some(opened), |pull| async { pull?.next().await }))))
    }
}

/// The transfer, if it is started, this peer's, and its agreement active.
pub async fn started(
    node: &Arc<Node>,
    peer: &ParticipantId,
    pid: &str,
) -> Result<(control_plane::transfer::TransferProcess, HeldAgreement, Publication), Error> {
    let unknown = || Error::from(Refusal::new(&UNKNOWN_PROCESS, format!("`{pid}`")));
    let process = transfers::get(node, pid).await.map_err(|_| unknown())?;
    if process.counterparty() != peer || process.role() != Role::Provider {
        return Err(unknown());
    }
    let (agreement, key) = (process.agreement_id().clone(), pid.to_owned());
    let (held, publication) = node
        .store
        .read(move |store| Ok::<_, Error>((records::agreement(store, &agreement)?, pinned(store, &key)?)))
        .await?;
    let held =
        records::found(held, &control_plane::transfer::UNKNOWN_AGREEMENT, process.agreement_id().as_str())?;
    process.require_flow(&held)?;
    let publication = records::found(publication, &NOT_PUBLISHED, process.dataset().as_str())?;
    Ok((process, held, publication))
}

/// The opening message is sent with the call.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// One open pull of one object.
struct Pull {
    node: Arc<Node>,
    egress: Egress,
    asked: Streaming<data::PullRequest>,
    subject: AccessSubject,
    object: u32,
    sent_last: bool,
    _registered: Registered,
    _place: OwnedSemaphorePermit,
}

impl Pull {
    async fn open(
        node: &Arc<Node>,
        peer: Arc<VerifiedParticipant>,
        open: data::PullOpen,
        asked: Streaming<data::PullRequest>,
    ) -> Result<Self, Error> {
        let process = transfers::get(node, &open.provider_pid).await;
        let process =
            process.map_err(|_| Refusal::new(&UNKNOWN_PROCESS, format!("`{}`", open.provider_pid)))?;
        let of = FlowOf {
            transfer: Some(open.provider_pid.clone()),
            agreement: process.agreement_id().clone(),
            peer: peer.id().clone(),
        };
        // A pull beyond the limit waits; its consumer breaks off after a minute of silence and asks again.
        let place = node.data.streams.clone().acquire_owned().await.map_err(Error::ours)?;
        // On the list first: what is revoked between here and the first decision stops it too.
        let (registered, stop) = register(node, of);
        let (process, held, publication) = started(node, peer.id(), &open.provider_pid).await?;
        let manifest = digest(&open.manifest_digest)?;
        let agreement = held.signed.agreement();
        let subject = AccessSubject {
            agreement: agreement.id().clone(),
            participant: peer.id().clone(),
            transfer: process
                .pids()
                .provider()
                .cloned()
                .ok_or_else(|| Error::ours("a transfer without its pid"))?,
            dataset: agreement.target().clone(),
        };
        let policy = node.policies.compiled(agreement.text())?;
        let port = Windows { node: node.clone(), policy, peer: Caller::member(&peer, Signing::Required) };
        let request =
            PullRequest { subject: subject.clone(), manifest, object: open.object, offset: open.offset };
        let clock: Arc<dyn data_plane::Clock> = node.clock.clone();
        let publication = Arc::new(publication);
        let egress =
            Egress::open(Arc::new(port), clock, &node.data.sources, publication, request, stop).await;
        let egress = egress.map_err(data_error)?;
        Ok(Self {
            node: node.clone(),
            egress,
            asked,
            subject,
            object: open.object,
            sent_last: false,
            _place: place,
            _registered: registered,
        })
    }

    /// The next message; polled only when the connection has room, so at most one chunk is in flight here.
    async fn next(mut self) -> Option<(Result<data::PullResponse, Status>, Option<Self>)> {
        if self.sent_last {
            return Some((self.receipt().await.map_err(refuse), None));
        }
        match self.egress.next().await {
            Some(Ok(chunk)) => {
                self.sent_last = chunk.last;
                let wire = data::Chunk {
                    offset: chunk.offset,
                    digest: Bytes::copy_from_slice(chunk.digest.as_bytes()),
                    data: chunk.data,
                    last: chunk.last,
                };
                metrics::bytes_sent(wire.data.len() as u64);
                crash_point("chunk-released");
                Some((Ok(data::PullResponse { step: Some(Told::Chunk(wire)) }), Some(self)))
            }
            Some(Err(error)) => Some((Err(refuse(data_error(error))), None)),
            None => None,
        }
    }

    /// The consumer holds the whole object: compared with the manifest, and recorded.
    async fn receipt(&mut self) -> Result<data::PullResponse, Error> {
        let missing = || Refusal::new(&RECEIPT_MISSING, format!("object {}", self.object));
        let told = tokio::time::timeout(RECEIPT_TIMEOUT, self.asked.message()).await;
        let told = told.map_err(|_| missing())?.map_err(|_| missing())?;
        let Some(Asked::Receipt(receipt)) = told.and_then(|message| message.step) else {
            return Err(missing().into());
        };
        self.egress.check_receipt(receipt.bytes, digest(&receipt.digest)?)?;
        let now = self.node.now();
        let fields = [
            ("transfer", self.subject.transfer.to_string()),
            ("agreement", self.subject.agreement.to_string()),
            ("consumer", self.subject.participant.to_string()),
            ("object", self.object.to_string()),
            ("bytes", receipt.bytes.to_string()),
            ("digest", receipt.digest),
        ];
        self.node.store.write(move |tx| records::append_fields(tx, "transfer-receipt", now, fields)).await?;
        Ok(data::PullResponse { step: Some(Told::ReceiptAccepted(data::ReceiptAccepted {})) })
    }
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    Digest::parse(text).ok_or_else(|| Refusal::new(&MALFORMED_DIGEST, format!("`{}`", printable(text))))
}

/// Decides each window from values in memory: policy, peer's verdict, time. What changes in the store stops the
/// stream through its handle.
pub struct Windows {
    /// Where the clock is.
    pub node: Arc<Node>,
    /// The agreement's.
    pub policy: Arc<Policy>,
    /// Who reads.
    pub peer: Caller,
}

impl DecisionPort for Windows {
    fn decide(&self, question: AccessQuestion) -> BoxFuture<'_, Result<AccessGrant, Refusal>> {
        async move {
            let now = self.node.clock.trusted_now()?;
            let verdict = self.peer.valid_until();
            if verdict.is_some_and(|until| until <= now) {
                return Err(Refusal::new(&VERDICT_EXPIRED, self.peer.id().as_str()));
            }
            let subject = question.subject();
            let statement = self.peer.statement();
            let until = decide(&self.policy, self.peer.id().as_str(), &subject.dataset, statement, now)?;
            Ok(question.permit([until, verdict].into_iter().flatten().min()))
        }
        .boxed()
    }
}

/// A failure of the data plane as this connector reports it.
pub fn data_error(error: DataError) -> Error {
    match error {
        DataError::Refused(refusal) => Error::Refused(refusal),
        other => Error::Ours(other.to_string()),
    }
}
