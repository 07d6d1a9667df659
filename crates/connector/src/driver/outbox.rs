//! Delivers what transactions queued: in order within a process, many processes at once, until acknowledged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use control_plane::cause::Cause;
use control_plane::ids::{CallbackAddress, ConsumerPid, ParticipantId, ProviderPid};
use control_plane::negotiation::{Message as NegotiationMessage, MessageKind, Undelivered};
use control_plane::pids::Role;
use control_plane::transfer::Message as TransferMessage;
use control_plane::{Fault, durable};
use proto::dsp::negotiation_consumer_service_client::NegotiationConsumerServiceClient as NegotiationConsumer;
use proto::dsp::negotiation_provider_service_client::NegotiationProviderServiceClient as NegotiationProvider;
use proto::dsp::transfer_consumer_service_client::TransferConsumerServiceClient as TransferConsumer;
use proto::dsp::transfer_provider_service_client::TransferProviderServiceClient as TransferProvider;
use proto::negotiation::NegotiationCall;
use proto::notice::DeliverRequest;
use proto::notice::notice_service_client::NoticeServiceClient;
use proto::status::{RemoteRefusal, from_status};
use proto::transfer::TransferCall;
use rand::Rng;
use store::{OutboxEntry, Signal, crash_point};
use tokio::sync::Semaphore;
use tonic::Request;
use tonic::transport::Channel;
use tracing::Instrument as _;

use super::{negotiations, notices, transfers};
use crate::error::Error;
use crate::http;
use crate::node::Node;
use crate::telemetry::{RequestId, metrics};
use crate::transport::dialer::Link;

/// Deliveries under way at once: enough to keep a distant peer busy, few enough that their memory does not matter.
const MAX_IN_FLIGHT: usize = 128;
/// Of these, to one peer: one that does not answer leaves room for the others.
const MAX_TO_ONE_PEER: usize = 96;
/// Entries read at once; more than can be in flight, so that those do not hide others.
const BATCH: usize = 2 * MAX_IN_FLIGHT;
/// The first pause after a failed delivery; doubled each time up to `limits.longest_retry`.
const FIRST_PAUSE_MS: i64 = 250;
/// Deliveries of one message before it is given up: a day and more at the longest pause. FINALIZED, notices and
/// catalogue envelopes are never given up.
const MAX_ATTEMPTS: u32 = 2_000;
/// A refusal of our identity at this attempt or a later one ends a process; before it may be lists that are not here yet.
const MAX_IDENTITY_REFUSALS: u32 = 3;
/// The longest sleep without a look at the outbox, should a signal be missed.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// Deadline of one delivery.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Delivers until the node stops.
pub async fn run(node: Arc<Node>) {
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let in_flight: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let mut changed = node.store.subscribe(Signal::Outbox);
    loop {
        changed.mark_unchanged();
        let now = node.now();
        let (due, next) = match node
            .store
            .read(move |store| Ok::<_, Error>((store.outbox_due(now, BATCH)?, store.outbox_next_due()?)))
            .await
        {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                (Vec::new(), None)
            }
        };
        for entry in due {
            if !take(&in_flight, &entry) {
                continue;
            }
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (node, in_flight) = (node.clone(), in_flight.clone());
            // The receiver's log has the same id.
            let span = RequestId::carried_or_fresh(Some(&entry.id)).span("deliver");
            let work = async move {
                let id = entry.id.clone();
                if let Err(error) = deliver(&node, entry).await {
                    tracing::error!(%error, "a delivery could not be recorded");
                }
                held(&in_flight).remove(&id);
                drop(place);
            };
            tokio::spawn(work.instrument(span));
        }
        let sleep = next.map_or(LONGEST_SLEEP, |next| {
            let wait = u64::try_from(next.millis_since(node.now())).unwrap_or(0);
            // What is due already is in flight, and its end signals.
            if wait == 0 { LONGEST_SLEEP } else { Duration::from_millis(wait).min(LONGEST_SLEEP) }
        });
        tokio::select! {
            () = node.stop.cancelled() => return,
            _ = changed.changed() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Entries under way, with their destinations.
type InFlight = Mutex<HashMap<String, String>>;

fn held(entries: &InFlight) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes an entry on, unless it is under way or its destination has its share of places.
fn take(in_flight: &InFlight, entry: &OutboxEntry) -> bool {
    let mut entries = held(in_flight);
    let to_same = entries.values().filter(|destination| **destination == entry.destination).count();
    if entries.contains_key(&entry.id) || to_same >= MAX_TO_ONE_PEER {
        return false;
    }
    entries.insert(entry.id.clone(), entry.destination.clone());
    true
}

/// How one delivery ended.
pub enum Delivered {
    /// The receiver's acknowledgement names the process.
    Process {
        /// The provider's name.
        provider_pid: String,
        /// The consumer's name.
        consumer_pid: String,
    },
    /// There is nothing to tell.
    Plain,
}

/// Why one delivery did not succeed.
pub struct Undone {
    /// What the peer, or the way to it, said.
    pub told: RemoteRefusal,
}

async fn deliver(node: &Arc<Node>, entry: OutboxEntry) -> Result<(), Error> {
    crash_point("outbox-before-send");
    let sent = tokio::time::timeout(DELIVERY_TIMEOUT, send(node, &entry)).await;
    crash_point("outbox-after-send");
    let outcome = match sent {
        Ok(outcome) => outcome?,
        Err(_) => Err(Undone { told: unavailable("no answer in time") }),
    };
    match outcome {
        Ok(delivered) => {
            acknowledged(node, entry, delivered).await?;
            crash_point("outbox-delivered");
            Ok(())
        }
        Err(undone) => not_delivered(node, entry, undone.told).await,
    }
}

async fn acknowledged(node: &Arc<Node>, entry: OutboxEntry, delivered: Delivered) -> Result<(), Error> {
    metrics::delivery("delivered");
    tracing::info!(peer = %entry.destination, kind = %entry.kind, "delivered");
    match delivered {
        Delivered::Plain => done(node, entry.id).await,
        Delivered::Process { provider_pid, consumer_pid } => {
            let pids =
                ProviderPid::parse(&provider_pid).and_then(|p| Ok((p, ConsumerPid::parse(&consumer_pid)?)));
            match pids {
                Ok((provider, consumer)) if entry.kind == negotiations::OUTBOX_KIND => {
                    negotiations::acknowledged(node, entry.id, entry.lane, provider, consumer).await
                }
                Ok((provider, consumer)) => {
                    transfers::acknowledged(node, entry.id, entry.lane, provider, consumer).await
                }
                Err(refusal) => {
                    undelivered(node, entry, Undelivered::Refused(Cause::of_refusal(&refusal))).await
                }
            }
        }
    }
}

async fn not_delivered(node: &Arc<Node>, entry: OutboxEntry, told: RemoteRefusal) -> Result<(), Error> {
    metrics::delivery("failed");
    let attempts = entry.attempts.saturating_add(1);
    let final_no = match told.fault {
        Fault::Unavailable | Fault::Ours | Fault::Limit => false,
        Fault::Identity => attempts >= MAX_IDENTITY_REFUSALS,
        Fault::Input | Fault::Policy | Fault::State | Fault::NotFound => true,
    };
    tracing::warn!(
        peer = %entry.destination, kind = %entry.kind, attempts,
        code = %told.code, text = %told.text, detail = %told.detail, final_no, "not delivered"
    );
    if matches!(told.fault, Fault::Input | Fault::State | Fault::NotFound)
        && entry.kind == notices::OUTBOX_KIND
    {
        // Said again it would be refused again, and keep back what comes behind it.
        return notices::not_taken(node, entry, &told).await;
    }
    // That an agreement is finalized is told until it is heard: a suspension or old lists over there may pass.
    let keeps_trying = matches!(told.fault, Fault::Identity | Fault::Policy) && is_finalized(&entry);
    if final_no && !keeps_trying && can_give_up(&entry) {
        let code = if told.code.is_empty() { "peer/refused" } else { told.code.as_str() };
        let cause = Cause::new(code, [told.text.as_str(), told.detail.as_str()]);
        return undelivered(node, entry, Undelivered::Refused(cause)).await;
    }
    if attempts >= MAX_ATTEMPTS && can_give_up(&entry) && !is_finalized(&entry) {
        return undelivered(node, entry, Undelivered::GaveUp).await;
    }
    let longest = i64::try_from(node.config.load().limits.longest_retry.as_millis()).unwrap_or(i64::MAX);
    let pause = FIRST_PAUSE_MS.saturating_mul(1_i64 << attempts.min(20)).min(longest);
    // Half of the pause is chance, so that many messages to a peer that comes back do not arrive at once.
    let pause = pause / 2 + rand::rng().random_range(0..=pause / 2 + 1);
    let due = node.now().plus_millis(pause);
    node.store.write(move |tx| tx.outbox_retry(&entry.id, due, attempts).map_err(Error::from)).await
}

/// Notices and envelopes wait for ever: what they say stays true.
fn can_give_up(entry: &OutboxEntry) -> bool {
    entry.kind == negotiations::OUTBOX_KIND || entry.kind == transfers::OUTBOX_KIND
}

fn is_finalized(entry: &OutboxEntry) -> bool {
    entry.kind == negotiations::OUTBOX_KIND
        && durable::decode_negotiation_message(&entry.body)
            .is_ok_and(|message| message.kind() == MessageKind::Finalized)
}

async fn undelivered(node: &Arc<Node>, entry: OutboxEntry, why: Undelivered) -> Result<(), Error> {
    if entry.kind == negotiations::OUTBOX_KIND {
        negotiations::undelivered(node, entry.id, entry.lane, why).await
    } else if entry.kind == transfers::OUTBOX_KIND {
        transfers::undelivered(node, entry.id, entry.lane, why).await
    } else {
        done(node, entry.id).await
    }
}

async fn done(node: &Arc<Node>, id: String) -> Result<(), Error> {
    node.store.write(move |tx| tx.outbox_done(&id).map(drop).map_err(Error::from)).await
}

/// Sends one entry; a failure to dial is as good as an unavailable peer.
async fn send(node: &Arc<Node>, entry: &OutboxEntry) -> Result<Result<Delivered, Undone>, Error> {
    let peer = ParticipantId::parse(&entry.destination)?;
    if let Some(address) = http_address(node, entry).await {
        return http::deliver::send(node, entry, &peer, &address).await;
    }
    if entry.kind == notices::OUTBOX_KIND && http::is_plain(node, &peer) {
        // The protocol knows no notices; what they are about ends transfers, and that is told.
        tracing::info!(%peer, "a notice has no way to a peer that only speaks the Dataspace Protocol");
        return Ok(Ok(Delivered::Plain));
    }
    let link = match node.links.control(node, &peer).await {
        Ok(link) => link,
        Err(error) => {
            let refusal = error.into_refusal();
            let told = RemoteRefusal {
                code: refusal.code.code.to_owned(),
                fault: match refusal.code.fault {
                    Fault::Identity => Fault::Identity,
                    // Whatever else keeps us from dialling may pass.
                    _ => Fault::Unavailable,
                },
                text: refusal.code.en.to_owned(),
                detail: refusal.detail,
                next: refusal.code.next.to_owned(),
            };
            return Ok(Err(Undone { told }));
        }
    };
    let called = call(node, &link, &peer, entry).await?;
    if let Err(status) = &called {
        let told = from_status(status);
        if told.code.is_empty() {
            // Not our peer's answer but the end of the connection.
            node.links.failed(&link);
        }
        return Ok(Err(Undone { told }));
    }
    Ok(called.map_err(|status| Undone { told: from_status(&status) }))
}

/// The HTTP address of the process that an entry belongs to, if it uses that binding.
async fn http_address(node: &Arc<Node>, entry: &OutboxEntry) -> Option<CallbackAddress> {
    let address = if entry.kind == negotiations::OUTBOX_KIND {
        negotiations::get(node, &entry.lane).await.ok()?.address().cloned()
    } else if entry.kind == transfers::OUTBOX_KIND {
        transfers::get(node, &entry.lane).await.ok()?.address().cloned()
    } else {
        None
    };
    address.filter(http::is_http)
}

async fn call(
    node: &Arc<Node>,
    link: &Link,
    peer: &ParticipantId,
    entry: &OutboxEntry,
) -> Result<Result<Delivered, tonic::Status>, Error> {
    let channel = link.channel.clone();
    let damaged = |cause: String| Error::damaged(&entry.id, cause);
    if entry.kind == negotiations::OUTBOX_KIND {
        let message =
            durable::decode_negotiation_message(&entry.body).map_err(|error| damaged(error.to_string()))?;
        // Only a termination does not tell by itself which role receives it.
        let receiver = match message.sender() {
            Some(sender) => sender.other(),
            None => negotiations::get(node, &entry.lane).await?.role().other(),
        };
        return Ok(negotiation_call(channel, &message, receiver).await);
    }
    if entry.kind == transfers::OUTBOX_KIND {
        let message =
            durable::decode_transfer_message(&entry.body).map_err(|error| damaged(error.to_string()))?;
        let process = transfers::get(node, &entry.lane).await?;
        return Ok(transfer_call(channel, &message, process.role().other()).await);
    }
    if entry.kind == notices::OUTBOX_KIND {
        let notice = String::from_utf8(entry.body.clone()).map_err(|error| damaged(error.to_string()))?;
        let request = Request::new(DeliverRequest { message_id: entry.id.clone(), notice });
        return Ok(NoticeServiceClient::new(channel).deliver(request).await.map(|_| Delivered::Plain));
    }
    if entry.kind == crate::catalogue::OUTBOX_KIND {
        let delivered = crate::catalogue::deliver_envelope(node, link, peer, &entry.body).await?;
        return Ok(delivered.map(|()| Delivered::Plain));
    }
    Err(damaged(format!("unknown kind `{}`", entry.kind)))
}

async fn negotiation_call(
    channel: Channel,
    message: &NegotiationMessage,
    receiver: Role,
) -> Result<Delivered, tonic::Status> {
    let to_provider = || NegotiationProvider::new(channel.clone());
    let to_consumer = || NegotiationConsumer::new(channel.clone());
    let answer = match NegotiationCall::from(message) {
        NegotiationCall::RequestContract(wire) => to_provider().request_contract(wire).await,
        NegotiationCall::OfferContract(wire) => to_consumer().offer_contract(wire).await,
        NegotiationCall::ConcludeAgreement(wire) => to_consumer().conclude_agreement(wire).await,
        NegotiationCall::VerifyAgreement(wire) => to_provider().verify_agreement(wire).await,
        NegotiationCall::Accept(wire) => to_provider().send_event(wire).await,
        NegotiationCall::Finalize(wire) => to_consumer().send_event(wire).await,
        NegotiationCall::Terminate(wire) => match receiver {
            Role::Provider => to_provider().terminate(wire).await,
            Role::Consumer => to_consumer().terminate(wire).await,
        },
    }?
    .into_inner();
    Ok(Delivered::Process { provider_pid: answer.provider_pid, consumer_pid: answer.consumer_pid })
}

async fn transfer_call(
    channel: Channel,
    message: &TransferMessage,
    receiver: Role,
) -> Result<Delivered, tonic::Status> {
    let mut provider = TransferProvider::new(channel.clone());
    let mut consumer = TransferConsumer::new(channel);
    let answer = match (TransferCall::from(message), receiver) {
        (TransferCall::Request(wire), _) => provider.request_transfer(wire).await,
        (TransferCall::Start(wire), Role::Provider) => provider.start(wire).await,
        (TransferCall::Start(wire), Role::Consumer) => consumer.start(wire).await,
        (TransferCall::Complete(wire), Role::Provider) => provider.complete(wire).await,
        (TransferCall::Complete(wire), Role::Consumer) => consumer.complete(wire).await,
        (TransferCall::Suspend(wire), Role::Provider) => provider.suspend(wire).await,
        (TransferCall::Suspend(wire), Role::Consumer) => consumer.suspend(wire).await,
        (TransferCall::Terminate(wire), Role::Provider) => provider.terminate(wire).await,
        (TransferCall::Terminate(wire), Role::Consumer) => consumer.terminate(wire).await,
    }?
    .into_inner();
    Ok(Delivered::Process { provider_pid: answer.provider_pid, consumer_pid: answer.consumer_pid })
}

fn unavailable(text: &str) -> RemoteRefusal {
    RemoteRefusal {
        code: String::new(),
        fault: Fault::Unavailable,
        text: text.to_owned(),
        detail: String::new(),
        next: String::new(),
    }
}
