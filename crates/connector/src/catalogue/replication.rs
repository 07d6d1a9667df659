//! Keeping the logs of all replicas equal: deliveries of what we publish, and asking each peer for what we lack.
//!
//! A delivery that fails is repeated by the outbox; a pull that fails is followed by the next. Neither ever takes
//! anything away: an answer that is missing or wrong leaves what is held as it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::catalogue::envelope::{Envelope, Header};
use ::catalogue::hash::Digest;
use ::catalogue::log::{self, FETCH_LIMIT, HeadMark, Missing, missing};
use bytes::Bytes;
use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use futures::StreamExt as _;
use proto::catalogue as wire;
use proto::catalogue::replication_service_client::ReplicationServiceClient;
use proto::status::{Audience, to_status};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use store::{OutboxItem, Snapshot, Tx};
use tonic::Status;
use tonic::transport::Channel;

use super::keys::Members;
use super::log_store::{SnapshotLog, log_error};
use super::{admission, heads, publication};
use crate::config::Config;
use crate::error::Error;
use crate::node::Node;
use crate::restored;
use crate::transport::dialer::Link;

control_plane::refusal_codes! {
    NO_PROGRESS = "catalogue/no-progress", State,
        "the peer answered, but its copy of the log did not grow", "對方已回應，但其日誌副本並無進展",
        "对方已回应，但其日志副本并无进展",
        clause "catalogue: replication", next "look at the peer's log for what it refused";
    PULL_REFUSED = "catalogue/pull-refused", Unavailable,
        "the peer did not answer a question about its logs", "對方未答覆有關其日誌的查詢", "对方未答复有关其日志的查询",
        clause "catalogue: replication", next "it is asked again at the next interval";
}

/// The outbox kind of an envelope's delivery.
pub const OUTBOX_KIND: &str = "envelope";

/// Peers asked at once: one that does not answer must not hold up the others.
const PULLS_AT_ONCE: usize = 4;

/// A peer that takes longer is left until the next round; what it gave stays.
const LONGEST_PULL: Duration = Duration::from_secs(300);

/// The version of [`Delivery`] that is written.
const DELIVERY_VERSION: u32 = 1;

/// Pulls and renews until the node stops.
pub async fn run(node: Arc<Node>) {
    loop {
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = round(&node) => {}
        }
        let pause =
            with_jitter(node.config.load().catalogue.pull_interval, rand::rng().random_range(0.0..1.0));
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks `peer` once for everything that we lack; tells how many envelopes were new.
pub async fn pull(node: &Arc<Node>, peer: &ParticipantId) -> Result<usize, Error> {
    let link = node.links.control(node, peer).await?;
    let mut client = client(&link);
    let answer =
        client.heads(wire::HeadsRequest {}).await.map_err(|status| unanswered(node, &link, &status))?;
    let theirs = answer.into_inner().heads.iter().map(mark).collect::<Result<Vec<HeadMark>, Refusal>>()?;
    let held = heads(node).await?;
    let ours: Vec<HeadMark> = held.iter().map(|(mark, _)| mark.clone()).collect();
    let mut taken = 0;
    let theirs_of_us = theirs.iter().find(|mark| mark.publisher == node.us).cloned();
    for missing in missing(&ours, &theirs) {
        let frozen = held.iter().any(|(mark, frozen)| *frozen && mark.publisher == missing.publisher);
        if !frozen && can_be_checked(node, peer, &missing.publisher).await? {
            taken += fetch(node, &link, &mut client, peer, &missing).await?;
        }
    }
    let us = node.us.clone();
    let head = node.store.read(move |store| log::head(&SnapshotLog(store), &us).map_err(log_error)).await?;
    let held = head.map_or((0, 0), |head| (head.epoch, head.seq));
    if theirs_of_us.is_none_or(|mark| (mark.epoch, mark.seq) <= held) {
        restored::replica_asked(node, peer).await?;
    }
    Ok(taken)
}

/// Sends what a delivery is about to the peer, and whatever its copy of our log lacks before it.
///
/// The outer failure is ours; the inner one is the peer's answer, or the end of the connection.
pub async fn deliver_envelope(
    node: &Arc<Node>,
    link: &Link,
    peer: &ParticipantId,
    body: &[u8],
) -> Result<Result<(), Status>, Error> {
    let Delivery { publisher, epoch, seq, .. } = Delivery::from_json(body)?;
    let publisher = ParticipantId::parse(&publisher)?;
    if !replicas(&node.config.load()).contains(peer) || node.catalogue.delivered.covers(peer, epoch, seq) {
        return Ok(Ok(()));
    }
    let mut client = client(link);
    let (mut from, mut went_back) = (seq, false);
    loop {
        let run = run_from(node, publisher.clone(), epoch, from).await?;
        let envelopes = run.into_iter().map(to_wire).collect();
        let heads = match client.push(wire::PushRequest { envelopes }).await {
            Ok(answer) => answer.into_inner().heads,
            Err(status) => return Ok(Err(status)),
        };
        let marks = match heads.iter().map(mark).collect::<Result<Vec<HeadMark>, Refusal>>() {
            Ok(marks) => marks,
            Err(refusal) => return Ok(Err(to_status(&refusal, Audience::Peer))),
        };
        let next = match marks.iter().find(|mark| mark.publisher == publisher) {
            Some(mark) if (mark.epoch, mark.seq) >= (epoch, seq) => {
                node.catalogue.delivered.note(peer, mark.epoch, mark.seq);
                return Ok(Ok(()));
            }
            Some(mark) if mark.epoch == epoch => mark.seq.saturating_add(1),
            Some(_) | None => 1,
        };
        // One answer may lead back to the beginning of a gap; from there on each must lead forward.
        if next == from || (next < from && went_back) {
            let refusal = Refusal::new(&NO_PROGRESS, format!("`{peer}`: epoch {epoch}, at {next} of {seq}"));
            return Ok(Err(to_status(&refusal, Audience::Peer)));
        }
        went_back |= next < from;
        from = next;
    }
}

/// The peers with whom logs are exchanged.
pub fn replicas(config: &Config) -> Vec<ParticipantId> {
    let replicating = config.peers.iter().filter(|peer| peer.replicate);
    replicating.map(|peer| peer.participant.clone()).collect()
}

/// Queues the delivery of an envelope of ours to each replica, one after the other for each.
pub(super) fn queue(
    tx: &Tx<'_>,
    replicas: &[ParticipantId],
    header: &Header,
    now: UnixMillis,
) -> Result<(), Error> {
    let delivery = Delivery {
        version: DELIVERY_VERSION,
        publisher: header.publisher.to_string(),
        epoch: header.epoch,
        seq: header.seq,
    };
    let body = delivery.to_json()?;
    for peer in replicas {
        tx.outbox_push(&OutboxItem {
            id: &format!("envelope {} {} {peer}", header.epoch, header.seq),
            lane: &format!("envelopes {peer}"),
            destination: peer.as_str(),
            kind: OUTBOX_KIND,
            body: &body,
            due: now,
        })?;
    }
    Ok(())
}

/// Envelopes as they travel.
pub(super) fn to_wire(envelope: Envelope) -> wire::Envelope {
    let Envelope { header, content, certificates } = envelope;
    let certificates = certificates.into_iter().map(Bytes::from).collect();
    wire::Envelope { header, content: Bytes::from(content), certificates }
}

/// Envelopes as they came.
pub(super) fn from_wire(envelope: wire::Envelope) -> Envelope {
    let wire::Envelope { header, content, certificates } = envelope;
    Envelope {
        header,
        content: content.into(),
        certificates: certificates.into_iter().map(Vec::from).collect(),
    }
}

/// A position as it travels.
pub(super) fn mark_to_wire(mark: &HeadMark) -> wire::Head {
    let HeadMark { publisher, epoch, seq, hash } = mark;
    wire::Head { publisher: publisher.to_string(), epoch: *epoch, seq: *seq, hash: hash.to_string() }
}

/// A run of a log from `from_seq`, oldest first.
pub(super) async fn run_from(
    node: &Arc<Node>,
    publisher: ParticipantId,
    epoch: u32,
    from_seq: u64,
) -> Result<Vec<Envelope>, Error> {
    let read = move |store: &Snapshot<'_>| {
        log::fetch(&SnapshotLog(store), &publisher, epoch, from_seq, FETCH_LIMIT).map_err(log_error)
    };
    node.store.read(read).await
}

/// How far each peer said it holds our log, so that queued deliveries of what it has already cost no call. Only a
/// saving: after a restart it is learnt again.
#[derive(Default)]
pub(super) struct Delivered(Mutex<HashMap<ParticipantId, (u32, u64)>>);

impl Delivered {
    fn covers(&self, peer: &ParticipantId, epoch: u32, seq: u64) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(peer).is_some_and(|held| *held >= (epoch, seq))
    }

    fn note(&self, peer: &ParticipantId, epoch: u32, seq: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.clone(), (epoch, seq));
    }
}

/// What the outbox keeps about a delivery; the envelope itself lies in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Delivery {
    version: u32,
    publisher: String,
    epoch: u32,
    #[serde(with = "super::row::decimal")]
    seq: u64,
}

impl Delivery {
    fn to_json(&self) -> Result<Vec<u8>, Error> {
        serde_jcs::to_vec(self).map_err(Error::ours)
    }

    fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let delivery: Self =
            serde_json::from_slice(bytes).map_err(|error| Error::damaged("delivery", error))?;
        if delivery.version != DELIVERY_VERSION {
            return Err(Error::damaged("delivery", format!("version {}", delivery.version)));
        }
        Ok(delivery)
    }
}

async fn round(node: &Arc<Node>) {
    let peers = futures::stream::iter(replicas(&node.config.load()));
    peers
        .for_each_concurrent(PULLS_AT_ONCE, |peer| async move {
            let pulled = tokio::time::timeout(LONGEST_PULL, pull(node, &peer)).await;
            match pulled.unwrap_or_else(|_| Err(Refusal::new(&PULL_REFUSED, "no end in time").into())) {
                Ok(0) => tracing::debug!(%peer, "nothing new in the peer's catalogue"),
                Ok(envelopes) => tracing::info!(%peer, envelopes, "catalogue pulled"),
                Err(error) => tracing::info!(%peer, %error, "the peer's catalogue could not be pulled"),
            }
        })
        .await;
    match publication::renew_if_due(node).await {
        Ok(Some(until)) => tracing::info!(%until, "our catalogue entries were renewed"),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "our catalogue entries could not be renewed"),
    }
}

/// Fetches one missing run, piece by piece, for as long as it grows.
async fn fetch(
    node: &Arc<Node>,
    link: &Link,
    client: &mut ReplicationServiceClient<Channel>,
    peer: &ParticipantId,
    missing: &Missing,
) -> Result<usize, Error> {
    let mut from_seq = missing.from_seq;
    let mut taken = 0;
    while from_seq <= missing.to_seq {
        let request = wire::FetchRequest {
            publisher: missing.publisher.to_string(),
            epoch: missing.epoch,
            from_seq,
            limit: u32::try_from(FETCH_LIMIT).unwrap_or(u32::MAX),
        };
        let answer =
            client.fetch(request).await.map_err(|status| unanswered(node, link, &status))?.into_inner();
        let envelopes: Vec<Envelope> = answer.envelopes.into_iter().map(from_wire).collect();
        let count = envelopes.len() as u64;
        let run = admission::receive(node, peer, Some(&missing.publisher), envelopes).await?;
        taken += run.admitted.len();
        if let Some(refusal) = run.refused {
            // The other logs of this peer may still be good.
            tracing::warn!(
                publisher = %missing.publisher, %peer, from_seq, code = refusal.code.code, detail = %refusal.detail,
                "an envelope of the catalogue was refused"
            );
            break;
        }
        // An answer that holds nothing new never will, whatever the peer says how far its log goes.
        if run.admitted.is_empty() || run.fork.is_some() {
            break;
        }
        from_seq = from_seq.saturating_add(count);
    }
    Ok(taken)
}

/// Whether we know the publisher's current statement; if it is a peer of ours, it is asked for it.
async fn can_be_checked(
    node: &Arc<Node>,
    from: &ParticipantId,
    publisher: &ParticipantId,
) -> Result<bool, Error> {
    let known = |members: &Members| members.require(publisher).map(drop);
    let first = known(&Members::load(node, [publisher.clone()], node.now()).await?);
    let Err(refusal) = first else { return Ok(true) };
    let is_peer = publisher != from && node.config.load().peer(publisher).is_some();
    if is_peer && node.links.control(node, publisher).await.is_ok() {
        return Ok(known(&Members::load(node, [publisher.clone()], node.now()).await?).is_ok());
    }
    tracing::debug!(%publisher, %from, code = refusal.code.code, "a log is left alone until its publisher is known");
    Ok(false)
}

fn client(link: &Link) -> ReplicationServiceClient<Channel> {
    ReplicationServiceClient::new(link.channel.clone())
}

fn unanswered(node: &Node, link: &Link, status: &Status) -> Error {
    let told = proto::status::from_status(status);
    if told.code.is_empty() {
        // Not the peer's answer but the end of the connection.
        node.links.failed(link);
    }
    Refusal::new(&PULL_REFUSED, format!("{}: {} {}", status.code(), told.code, told.text)).into()
}

fn mark(head: &wire::Head) -> Result<HeadMark, Refusal> {
    Ok(HeadMark {
        publisher: ParticipantId::parse(&head.publisher)?,
        epoch: head.epoch,
        seq: head.seq,
        hash: Digest::parse(&head.hash)?,
    })
}

/// Between four and six fifths of the interval, so that replicas that started together do not ask together.
fn with_jitter(interval: Duration, chance: f64) -> Duration {
    interval.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../../tests/fixtures/envelope-delivery-v1.json");

    #[test]
    fn the_delivery_format_is_frozen() {
        let delivery = Delivery {
            version: DELIVERY_VERSION,
            publisher: "https://harbour.example/id".into(),
            epoch: 2,
            seq: 9_007_199_254_740_993,
        };
        let text = FIXTURE.trim_end();
        assert_eq!(String::from_utf8(delivery.to_json().unwrap()).unwrap(), text);
        assert_eq!(Delivery::from_json(text.as_bytes()).unwrap(), delivery);
        for bad in [text.replacen(":1", ":2", 1), text.replacen('{', "{\"more\":1,", 1), String::new()] {
            assert!(Delivery::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn jitter_stays_near_the_interval() {
        let check = |chance: f64, expected: u64| {
            let pause = with_jitter(Duration::from_secs(30), chance).as_millis();
            assert_eq!(u64::try_from(pause).unwrap(), expected, "{chance}");
        };
        check(0.0, 24_000);
        check(0.5, 30_000);
        check(1.0, 36_000);
        check(7.0, 36_000);
    }

    #[test]
    fn deliveries_of_what_a_peer_has_are_known() {
        let (delivered, peer) = (Delivered::default(), ParticipantId::parse("https://b.example/id").unwrap());
        assert!(!delivered.covers(&peer, 1, 1));
        delivered.note(&peer, 2, 5);
        for (epoch, seq, expected) in [(1, 9, true), (2, 5, true), (2, 6, false), (3, 1, false)] {
            assert_eq!(delivered.covers(&peer, epoch, seq), expected, "{epoch} {seq}");
        }
    }
}
