//! The provider's side of a push: one worker for each started transfer, which sends object after object and goes on
//! behind the last one that the receiver took.

use std::sync::Arc;

use control_plane::pids::Role;
use control_plane::transfer::{Command, StateName, TransferProcess};
use control_plane::{Fault, Refusal};
use data_plane::ports::AccessSubject;
use data_plane::{Egress, Manifest, PullRequest, StopSignal};
use dsp::HTTP_PUSH;
use store::{Collection, Expect, Snapshot, crash_point};

use super::provider::{Windows, data_error, started};
use super::pull::{FIRST_PAUSE, LONGEST_PAUSE, continue_or_end, end};
use super::{FlowOf, register};
use crate::caller::Caller;
use crate::config::Steps;
use crate::driver::{records, transfers};
use crate::error::Error;
use crate::http::NOT_SPOKEN;
use crate::http::push::{self, ADDRESS_MISSING, Destination, Object};
use crate::node::Node;
use crate::peers;
use crate::trust::require_good_standing;

/// Attempts in a row that bring no object across: with the pauses between them some four hours, in which an operator
/// on the other side can bring a receiver back.
const MAX_FAILURES: u32 = 1_000;

/// Goes on with every push that was under way when the process ended.
pub async fn resume_all(node: &Arc<Node>) -> Result<(), Error> {
    let mut after = None;
    loop {
        let from = after.clone();
        let rows = node
            .store
            .read(move |store| {
                store.find(Collection::Transfers, records::PUSHING, "yes", from.as_deref(), store::MAX_PAGE)
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
                match worked {
                    Ok(Left::Done) => return,
                    Ok(Left::Stopped) => {}
                    Err(error) => {
                        tracing::error!(transfer = %pid, %error, "a push could not go on; it will at the next start");
                        return;
                    }
                }
                // Resumed between our last look and leaving: whoever resumed it found us still at work.
                let resumed = transfers::get(&node, &pid).await.is_ok_and(|process| is_to_push(&process));
                if !resumed || node.stop.is_cancelled() || !node.data.take_work(&pid) {
                    return;
                }
            }
        });
    }
}

/// Whether bytes of this transfer are to be sent: we push it, and the consumer has heard that it is started.
pub fn is_to_push(process: &TransferProcess) -> bool {
    process.role() == Role::Provider
        && process.format() == HTTP_PUSH
        && process.state_name() == StateName::Started
        && process.is_heard()
}

/// Why a worker left.
enum Left {
    /// Nothing is left to be sent, or it will be at the next start.
    Done,
    /// The transfer is not to be pushed now.
    Stopped,
}

/// Sends until every object is taken, the transfer is stopped, or the receiver refuses for good.
async fn work(node: &Arc<Node>, pid: &str) -> Result<Left, Error> {
    let (mut pause, mut failures) = (FIRST_PAUSE, 0_u32);
    loop {
        let process = transfers::get(node, pid).await?;
        if !is_to_push(&process) {
            return Ok(Left::Stopped);
        }
        let of = FlowOf {
            transfer: Some(pid.to_owned()),
            agreement: process.agreement_id().clone(),
            peer: process.counterparty().clone(),
        };
        // On the list first: what is revoked between here and the first decision stops it too.
        let (_registered, mut stop) = register(node, of);
        let place = tokio::select! {
            _ = stop.stopped() => continue,
            () = node.stop.cancelled() => return Ok(Left::Done),
            place = node.data.streams.clone().acquire_owned() => place.map_err(Error::ours)?,
        };
        let mut taken = 0;
        let signal = stop.clone();
        let pushed = tokio::select! {
            biased;
            reason = stop.stopped() => Err(reason.into()),
            () = node.stop.cancelled() => return Ok(Left::Done),
            pushed = push_all(node, &process, &signal, &mut taken) => pushed,
        };
        drop(place);
        let refusal = match pushed {
            Ok(()) => match completed(node, pid).await? {
                Some(left) => return Ok(left),
                None => continue,
            },
            Err(error) => error.into_refusal(),
        };
        if stop.check().is_err() {
            tracing::info!(transfer = pid, code = refusal.code.code, "push stopped");
            continue_or_end(node, pid).await?;
            continue;
        }
        if taken > 0 {
            (pause, failures) = (FIRST_PAUSE, 0);
        }
        failures = failures.saturating_add(1);
        let passes =
            matches!(refusal.code.fault, Fault::Unavailable | Fault::Ours | Fault::Limit | Fault::Identity);
        let again = passes && failures < MAX_FAILURES;
        tracing::warn!(transfer = pid, code = refusal.code.code, detail = %refusal.detail, again, "push interrupted");
        if !again {
            end(node, pid, &refusal).await?;
            return Ok(Left::Stopped);
        }
        tokio::select! {
            _ = stop.stopped() => {}
            () = node.stop.cancelled() => return Ok(Left::Done),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Everything is taken: tells the consumer, unless a person does that. `None` if the transfer has moved meanwhile.
async fn completed(node: &Arc<Node>, pid: &str) -> Result<Option<Left>, Error> {
    if node.config.load().negotiation.steps == Steps::Manual {
        tracing::info!(transfer = pid, "everything is pushed; a person completes the transfer");
        return Ok(Some(Left::Done));
    }
    crash_point("push-before-complete");
    match transfers::command(node, pid, Command::Complete).await {
        Ok(_) => {
            tracing::info!(transfer = pid, "push complete");
            Ok(Some(Left::Done))
        }
        Err(Error::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends every object that is not taken yet; counts in `taken`.
async fn push_all(
    node: &Arc<Node>,
    process: &TransferProcess,
    stop: &StopSignal,
    taken: &mut u32,
) -> Result<(), Error> {
    node.clock.trusted_now()?;
    let (peer, pid) = (process.counterparty(), process.pids().ours());
    node.require_not_suspended(peer)?;
    let (trust, participant) = (node.identity.trust(), peer.clone());
    node.store.read(move |store| require_good_standing(store, &trust, &participant)).await?;
    let config = node.config.load_full();
    let settings = config.dsp_http.as_ref().ok_or_else(|| Refusal::new(&NOT_SPOKEN, ""))?;
    let address = process.destination().ok_or_else(|| Refusal::new(&ADDRESS_MISSING, ""))?;
    let destination = Destination::read(settings, address)?;
    let (_, held, publication) = started(node, peer, pid).await?;
    let publication = Arc::new(publication);
    let manifest = publication.manifest();
    let agreement = held.signed.agreement();
    let subject = AccessSubject {
        agreement: agreement.id().clone(),
        participant: peer.clone(),
        transfer: process
            .pids()
            .provider()
            .cloned()
            .ok_or_else(|| Error::ours("a transfer without its pid"))?,
        dataset: agreement.target().clone(),
    };
    for (index, described) in (0_u32..).zip(manifest.objects()) {
        let key = key(pid, index);
        let known = node.store.read(move |store| object(store, &key)).await?;
        if known == Some(Sent::Taken) {
            continue;
        }
        let port = Windows {
            node: node.clone(),
            policy: node.policies.compiled(agreement.text())?,
            peer: Caller::of_statement(peer.clone(), peers::latest_statement(node, peer).await?),
        };
        let request =
            PullRequest { subject: subject.clone(), manifest: manifest.digest(), object: index, offset: 0 };
        let clock: Arc<dyn data_plane::Clock> = node.clock.clone();
        let sources = &node.data.sources;
        let egress =
            Egress::open(Arc::new(port), clock, sources, publication.clone(), request, stop.clone()).await;
        let egress = egress.map_err(data_error)?;
        if known.is_none() {
            note(node, process, manifest, index, Sent::Begun).await?;
        }
        let object = Object { index, of: manifest.objects().len(), described };
        push::send(node, settings, peer, &destination, object, egress).await?;
        crash_point("push-object-taken");
        note(node, process, manifest, index, Sent::Taken).await?;
        *taken = taken.saturating_add(1);
    }
    Ok(())
}

/// How far an object has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Bytes of it may have left.
    Begun,
    /// The receiver has taken all of it.
    Taken,
}

impl Sent {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Taken => "taken",
        }
    }
}

fn keys(pid: &str) -> String {
    format!("push {pid} ")
}

fn key(pid: &str, index: u32) -> String {
    format!("{}{index:05}", keys(pid))
}

fn object(store: &Snapshot<'_>, key: &str) -> Result<Option<Sent>, Error> {
    let Some(row) = store.get(Collection::Manifests, key)? else { return Ok(None) };
    read(key, &row.value).map(Some)
}

fn read(key: &str, value: &[u8]) -> Result<Sent, Error> {
    let known = [Sent::Begun, Sent::Taken].into_iter().find(|sent| sent.as_str().as_bytes() == value);
    known.ok_or_else(|| Error::damaged(key, "neither begun nor taken"))
}

/// The places of the objects that were taken.
pub fn taken(store: &Snapshot<'_>, pid: &str) -> Result<Vec<u32>, Error> {
    let (prefix, mut after, mut taken) = (keys(pid), None::<String>, Vec::new());
    loop {
        let rows = store.scan(Collection::Manifests, &prefix, after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { return Ok(taken) };
        after = Some(last.key.clone());
        for row in &rows {
            let index = row.key.strip_prefix(&prefix).and_then(|index| index.parse().ok());
            let index = index.ok_or_else(|| Error::damaged(&row.key, "no object"))?;
            if read(&row.key, &row.value)? == Sent::Taken {
                taken.push(index);
            }
        }
    }
}

/// Remembers how far an object has come, with its ledger record.
async fn note(
    node: &Arc<Node>,
    process: &TransferProcess,
    manifest: &Manifest,
    index: u32,
    sent: Sent,
) -> Result<(), Error> {
    let described = manifest.object(index).ok_or_else(|| Error::ours("an object outside its manifest"))?;
    let pid = process.pids().ours();
    let fields = [
        ("transfer", pid.to_owned()),
        ("agreement", process.agreement_id().to_string()),
        ("consumer", process.counterparty().to_string()),
        ("object", index.to_string()),
        ("bytes", described.size().to_string()),
        ("digest", described.digest().to_string()),
    ];
    let (key, now) = (key(pid, index), node.now());
    let kind = match sent {
        Sent::Begun => "transfer-http-push-begun",
        Sent::Taken => "transfer-http-push",
    };
    node.store
        .write(move |tx| {
            tx.put(Collection::Manifests, &key, sent.as_str().as_bytes(), Expect::Any)?;
            records::append_fields(tx, kind, now, fields)
        })
        .await
}
