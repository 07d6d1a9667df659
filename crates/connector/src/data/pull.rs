//! The consumer's side of a pull: one worker for each started transfer, which goes on where it stopped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_plane::cause::Cause;
use control_plane::pids::Role;
use control_plane::status::HeldAgreement;
use control_plane::transfer::{Command, GRPC_PULL, StateName, TransferProcess, UNKNOWN_AGREEMENT};
use control_plane::{Fault, Refusal};
use data_plane::digest::Digest;
use data_plane::{AgreementKey, Chunk, Ingress, Manifest, PullPlan};
use proto::data;
use proto::data::data_service_client::DataServiceClient;
use proto::data::pull_request::Step as Ask;
use proto::data::pull_response::Step as Told;
use proto::status::from_status;
use store::{Collection, crash_point};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::provider::data_error;
use super::{FlowOf, holdings, leases, register, transforms};
use crate::config::Steps;
use crate::driver::{records, transfers};
use crate::error::Error;
use crate::node::Node;
use crate::telemetry::metrics;

control_plane::refusal_codes! {
    BROKEN = "transfer/connection-broken", Unavailable,
        "the connection to the provider broke", "與提供方的連線中斷", "与提供方的连接中断",
        clause "transfer: resume", next "nothing: the pull goes on by itself behind what is held";
    REFUSED_BY_PROVIDER = "transfer/refused-by-provider", Policy,
        "the provider refused to send", "提供方拒絕傳送", "提供方拒绝发送",
        clause "DSP 2025-1, 1.5", next "`fairlead agreement show` tells whether the agreement still permits it";
    OTHER_DATASET = "transfer/other-dataset", Input,
        "the manifest is about another dataset than the agreement", "清單涉及的資料集與協議不同",
        "清单涉及的数据集与协议不同",
        clause "proto/fairlead/data: GetManifest", next "tell the provider: its connector sent a foreign manifest";
}

/// The first pause after a broken connection; doubled each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A source that is slower than this for one chunk is taken for gone, and asked again.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// Requests of one pull that wait to be sent: the opening and the receipt.
const REQUESTS: usize = 2;
/// A manifest's text is at most a little under 4 MiB; a chunk is 1 MiB.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Goes on with every pull that was under way when the process ended.
pub async fn resume_all(node: &Arc<Node>) -> Result<(), Error> {
    let mut after = None;
    loop {
        let from = after.clone();
        let rows = node
            .store
            .read(move |store| {
                store.find(Collection::Transfers, records::PULLING, "yes", from.as_deref(), store::MAX_PAGE)
            })
            .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.key.clone());
        for row in rows {
            spawn(node.clone(), row.key);
        }
    }
}

/// Starts the worker of a transfer, unless one is at it.
pub fn spawn(node: Arc<Node>, pid: String) {
    if node.data.take_work(&pid) {
        tokio::spawn(async move {
            loop {
                let worked = work(&node, &pid).await;
                node.data.leave_work(&pid);
                if let Err(error) = worked {
                    tracing::error!(transfer = %pid, %error, "a pull could not go on; it will at the next start");
                    return;
                }
                // Resumed between our last look and leaving: whoever resumed it found us still at work.
                let resumed = !node.stop.is_cancelled() && is_to_pull(&node, &pid).await;
                if !resumed || !node.data.take_work(&pid) {
                    return;
                }
            }
        });
    }
}

async fn is_to_pull(node: &Arc<Node>, pid: &str) -> bool {
    transfers::get(node, pid)
        .await
        .is_ok_and(|process| process.state_name() == StateName::Started && is_ours(node, &process))
}

/// Whether this connector itself pulls the bytes: in our own format, unless a person takes every step. What is to be
/// had in another format the operator's own client fetches from the address that the provider told.
pub fn is_ours(node: &Node, process: &TransferProcess) -> bool {
    process.role() == Role::Consumer
        && process.format() == GRPC_PULL
        && node.config.load().negotiation.steps == Steps::Automatic
}

/// Pulls until the transfer is complete, stopped, or refused for good.
async fn work(node: &Arc<Node>, pid: &str) -> Result<(), Error> {
    let mut pause = FIRST_PAUSE;
    loop {
        let process = transfers::get(node, pid).await?;
        if process.state_name() != StateName::Started || !is_ours(node, &process) {
            return Ok(());
        }
        let of = FlowOf {
            transfer: Some(pid.to_owned()),
            agreement: process.agreement_id().clone(),
            peer: process.counterparty().clone(),
        };
        let (_registered, mut stop) = register(node, of);
        let place = tokio::select! {
            _ = stop.stopped() => continue,
            () = node.stop.cancelled() => return Ok(()),
            place = node.data.pulls.clone().acquire_owned() => place.map_err(Error::ours)?,
        };
        let refusal = tokio::select! {
            reason = stop.stopped() => {
                tracing::info!(transfer = pid, code = reason.code.code, "pull stopped");
                continue_or_end(node, pid).await?;
                continue;
            }
            () = node.stop.cancelled() => return Ok(()),
            pulled = pull_all(node, &process) => match pulled {
                Ok(()) => {
                    crash_point("pull-before-complete");
                    transfers::command(node, pid, Command::Complete).await?;
                    tracing::info!(transfer = pid, "pull complete");
                    return Ok(());
                }
                Err(error) => error.into_refusal(),
            },
        };
        drop(place);
        let passes =
            matches!(refusal.code.fault, Fault::Unavailable | Fault::Ours | Fault::Limit | Fault::Identity);
        tracing::warn!(transfer = pid, code = refusal.code.code, detail = %refusal.detail, again = passes, "pull interrupted");
        if !passes {
            end(node, pid, &refusal).await?;
            return Ok(());
        }
        tokio::select! {
            _ = stop.stopped() => {}
            () = node.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// After a stop: a transfer that is no longer started needs no worker; one that still is was stopped for another
/// reason (an agreement, a peer) and ends with it.
pub(super) async fn continue_or_end(node: &Arc<Node>, pid: &str) -> Result<(), Error> {
    let process = transfers::get(node, pid).await?;
    if process.state_name() == StateName::Started {
        let id = process.agreement_id().clone();
        let held = node.store.read(move |store| records::agreement(store, &id)).await?;
        let still_fine = held.is_some_and(|held| held.status.require_active().is_ok());
        if !still_fine {
            end(node, pid, &Refusal::new(&transfers::STOPPED, "the agreement")).await?;
        }
    }
    Ok(())
}

pub(super) async fn end(node: &Arc<Node>, pid: &str, refusal: &Refusal) -> Result<(), Error> {
    match transfers::command(node, pid, Command::Terminate(Cause::of_refusal(refusal))).await {
        Ok(_) | Err(Error::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn pull_all(node: &Arc<Node>, process: &TransferProcess) -> Result<(), Error> {
    node.clock.trusted_now()?;
    let provider_pid = process.pids().provider().map(ToString::to_string).unwrap_or_default();
    let id = process.agreement_id().clone();
    let held = node.store.read(move |store| records::agreement(store, &id)).await?;
    let held = records::found(held, &UNKNOWN_AGREEMENT, process.agreement_id().as_str())?;
    let link = node.links.data(node, process.counterparty()).await?;
    let mut client = DataServiceClient::new(link.channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES + CHUNK_ROOM)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let request = data::ManifestRequest { provider_pid: provider_pid.clone() };
    let answer =
        in_time(client.get_manifest(request)).await.map_err(|status| broken(node, &link, &status))?;
    let manifest = Arc::new(Manifest::parse(&answer.into_inner().manifest)?);
    if manifest.dataset() != process.dataset() {
        return Err(Refusal::new(&OTHER_DATASET, manifest.dataset().as_str()).into());
    }
    // What was to be changed before it left does not come here unchanged.
    let policy = node.policies.compiled(held.signed.agreement().text())?;
    transforms::require_bound(&policy, manifest.transform())?;
    let key = holdings::prepare(node, held.clone(), manifest.clone()).await?;
    let mut sealing = Sealing::new(node, &held, &provider_pid, key, manifest.objects().len())?;
    for index in 0..u32::try_from(manifest.objects().len()).map_err(Error::ours)? {
        let key = sealing.key(index).await?;
        let object =
            One { node, process, provider_pid: &provider_pid, manifest: &manifest, index, key: &key };
        object.pull(&mut client).await.map_err(|error| match error {
            Interrupted::Told(status) => broken(node, &link, &status),
            Interrupted::Ours(error) => error,
        })?;
    }
    Ok(())
}

/// The keys that the objects of a pull are sealed with: under a leased agreement derived from the provider's shares,
/// asked for some objects at a time.
struct Sealing<'a> {
    node: &'a Arc<Node>,
    held: &'a HeldAgreement,
    provider_pid: &'a str,
    key: AgreementKey,
    objects: u32,
    leased: bool,
    shared: HashMap<u32, AgreementKey>,
    asked_until: u32,
}

impl<'a> Sealing<'a> {
    fn new(
        node: &'a Arc<Node>,
        held: &'a HeldAgreement,
        provider_pid: &'a str,
        key: AgreementKey,
        objects: usize,
    ) -> Result<Self, Error> {
        let leased = node.policies.compiled(held.signed.agreement().text())?.lease_millis().is_some();
        let objects = u32::try_from(objects).map_err(Error::ours)?;
        let shared = HashMap::new();
        Ok(Self { node, held, provider_pid, key, objects, leased, shared, asked_until: 0 })
    }

    async fn key(&mut self, index: u32) -> Result<AgreementKey, Error> {
        if !self.leased {
            return Ok(self.key.clone());
        }
        if index >= self.asked_until {
            let end = self.objects.min(index.saturating_add(OBJECTS_LEASED_AHEAD));
            let objects: Vec<u32> = (index..end).collect();
            self.shared =
                leases::for_transfer(self.node, self.held, self.provider_pid, &objects, &self.key).await?;
            self.asked_until = end;
        }
        // A whole object is only asked about, and needs no share.
        Ok(self.shared.remove(&index).unwrap_or_else(|| self.key.clone()))
    }
}

/// Objects whose shares one request of a pull names: as many as a request may.
const OBJECTS_LEASED_AHEAD: u32 = 64;

/// An answer, or the next part of one; a provider that is silent for longer holds a place in vain.
async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answered = tokio::time::timeout(LONGEST_SILENCE, answer).await;
    answered.unwrap_or_else(|_| Err(Status::unavailable("the provider is silent")))
}

/// What a message may have besides its payload.
const CHUNK_ROOM: usize = 64 * 1024;

/// What a failed call means: the provider's refusal, or a connection that has to be dialled anew.
fn broken(node: &Arc<Node>, link: &crate::transport::dialer::Link, status: &Status) -> Error {
    let told = from_status(status);
    if told.code.is_empty() || matches!(told.fault, Fault::Identity) {
        node.links.failed(link);
        return Refusal::new(&BROKEN, format!("{}: {}", status.code(), told.text)).into();
    }
    let detail = format!("{}: {}", told.code, told.text);
    // Suspended or ended over there: the message that says so is on its way, and decides what becomes of the transfer.
    let passes = told.is_retryable() || told.code == transfers::STOPPED.code;
    let code = if passes { &BROKEN } else { &REFUSED_BY_PROVIDER };
    Refusal::new(code, detail).into()
}

enum Interrupted {
    Told(Status),
    Ours(Error),
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// One object of a pull.
struct One<'a> {
    node: &'a Arc<Node>,
    process: &'a TransferProcess,
    provider_pid: &'a str,
    manifest: &'a Arc<Manifest>,
    index: u32,
    key: &'a AgreementKey,
}

impl One<'_> {
    async fn pull(&self, client: &mut DataServiceClient<Channel>) -> Result<(), Interrupted> {
        let plan = PullPlan {
            agreement: self.process.agreement_id().clone(),
            object: holdings::object_id(self.index).map_err(Error::from)?,
            manifest: self.manifest.clone(),
            index: self.index,
        };
        let port = Arc::new(holdings::Progress(self.node.clone()));
        let opened = Ingress::open(port, &self.node.data.sealed, self.key, plan, self.node.now()).await;
        let mut ingress = opened.map_err(data_error)?;
        let outcome = self.stream(client, &mut ingress).await;
        let mut answers = match outcome {
            Ok(answers) => answers,
            Err(interrupted) => {
                // What has arrived is kept, whatever the reason; its own failure comes second.
                let kept = ingress.suspend().await;
                tracing::debug!(object = self.index, kept = ?kept.ok(), "kept what arrived");
                return Err(interrupted);
            }
        };
        let received = ingress.finish().await.map_err(data_error)?;
        crash_point("pull-object-durable");
        let receipt = data::PullReceipt { bytes: received.bytes, digest: received.digest.to_string() };
        self.send(&answers.asked, Ask::Receipt(receipt)).await?;
        match in_time(answers.told.message())
            .await
            .map_err(Interrupted::Told)?
            .and_then(|message| message.step)
        {
            Some(Told::ReceiptAccepted(_)) => Ok(()),
            Some(Told::Chunk(_)) | None => {
                Err(Interrupted::Told(Status::unavailable("the receipt was not answered")))
            }
        }
    }

    async fn stream(
        &self,
        client: &mut DataServiceClient<Channel>,
        ingress: &mut Ingress,
    ) -> Result<Answers, Interrupted> {
        let (asked, requests) = mpsc::channel(REQUESTS);
        let open = data::PullOpen {
            provider_pid: self.provider_pid.to_owned(),
            manifest_digest: self.manifest.digest().to_string(),
            object: self.index,
            offset: ingress.offset(),
        };
        self.send(&asked, Ask::Open(open)).await?;
        let answer = in_time(client.pull(ReceiverStream::new(requests))).await.map_err(Interrupted::Told)?;
        let mut told = answer.into_inner();
        loop {
            let message = in_time(told.message()).await.map_err(Interrupted::Told)?;
            let Some(Told::Chunk(chunk)) = message.and_then(|message| message.step) else {
                return Err(Interrupted::Told(Status::unavailable("the stream ended early")));
            };
            let last = chunk.last;
            metrics::bytes_received(chunk.data.len() as u64);
            ingress.push(domain_chunk(chunk)?).await.map_err(data_error)?;
            if last {
                return Ok(Answers { asked, told });
            }
        }
    }

    async fn send(&self, asked: &mpsc::Sender<data::PullRequest>, step: Ask) -> Result<(), Interrupted> {
        let request = data::PullRequest { step: Some(step) };
        asked
            .send(request)
            .await
            .map_err(|_| Interrupted::Told(Status::unavailable("the stream ended early")))
    }
}

/// Both directions of an open pull.
struct Answers {
    asked: mpsc::Sender<data::PullRequest>,
    told: tonic::Streaming<data::PullResponse>,
}

fn domain_chunk(chunk: data::Chunk) -> Result<Chunk, Error> {
    let digest = Digest::from_slice(&chunk.digest)
        .ok_or_else(|| Refusal::new(&data_plane::SOURCE_CHANGED, "a chunk's digest is not 32 bytes"))?;
    let data: Bytes = chunk.data;
    Ok(Chunk { offset: chunk.offset, data, digest, last: chunk.last })
}
