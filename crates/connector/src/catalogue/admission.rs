//! Into the log with what a peer sent: verified first, appended in one transaction with its record, then indexed.

use std::sync::Arc;

use ::catalogue::envelope::Envelope;
use ::catalogue::log::{self, Admission, Admitted, CheckedEnvelope, FETCH_LIMIT, ForkEvidence, LogError};
use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use store::Tx;

use super::keys::{Members, signers};
use super::log_store::{TxLog, log_error};
use super::to_the_end;
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    RUN_TOO_LONG = "catalogue/run-too-long", Limit,
        "at most 64 envelopes are taken at once", "每次最多接收 64 份信封", "每次最多接收 64 份信封",
        clause "catalogue: replication", next "send the envelopes in runs of 64";
    MIXED_RUN = "catalogue/mixed-run", Input,
        "a run of envelopes holds those of one publisher, the one asked for",
        "一組信封須同屬所要求的一個發布者", "一组信封须同属所要求的一个发布者",
        clause "catalogue: replication", next "send the envelopes of each publisher by themselves";
}

/// What became of a run of envelopes.
#[derive(Debug, Default)]
pub struct Run {
    /// Whose log it belongs to; none for an empty run.
    pub publisher: Option<ParticipantId>,
    /// Those that are new here, in order.
    pub admitted: Vec<Admitted>,
    /// How many were here already.
    pub repeats: usize,
    /// Proof that the publisher signed two histories; its log is frozen.
    pub fork: Option<ForkEvidence>,
    /// Why the rest was not taken.
    pub refused: Option<Refusal>,
}

/// Takes envelopes that `from` sent, all of one publisher (of `expected`, if given), in order, up to the first that
/// is refused. What is held is never given up for what comes.
pub(super) async fn receive(
    node: &Arc<Node>,
    from: &ParticipantId,
    expected: Option<&ParticipantId>,
    envelopes: Vec<Envelope>,
) -> Result<Run, Error> {
    if envelopes.len() > FETCH_LIMIT {
        return Err(Refusal::new(&RUN_TOO_LONG, envelopes.len().to_string()).into());
    }
    let now = node.now();
    let members = Members::load(node, signers(&envelopes), now).await?;
    let expected = expected.cloned();
    let checked = tokio::task::spawn_blocking(move || check(envelopes, expected, &members, now));
    let Checked { publisher, envelopes, refused } = checked.await.map_err(Error::ours)?;
    if envelopes.is_empty() {
        return Ok(Run { publisher, refused, ..Run::default() });
    }
    let (node, from) = (node.clone(), from.clone());
    to_the_end(async move {
        let writer = node.catalogue.begin().await;
        let run = node.store.write(move |tx| append(tx, envelopes, refused, &from, now)).await?;
        node.catalogue.follow(&node.store, &run.admitted, &writer).await?;
        report(&run);
        Ok(Run { publisher, ..run })
    })
    .await
}

struct Checked {
    publisher: Option<ParticipantId>,
    envelopes: Vec<CheckedEnvelope>,
    refused: Option<Refusal>,
}

/// The costly part, without the store: signatures, hashes, descriptions.
fn check(
    envelopes: Vec<Envelope>,
    expected: Option<ParticipantId>,
    members: &Members,
    now: UnixMillis,
) -> Checked {
    let mut checked = Checked { publisher: expected, envelopes: Vec::new(), refused: None };
    for envelope in envelopes {
        let one = log::check(envelope, members, now).and_then(|one| {
            let publisher = &one.header().publisher;
            match &checked.publisher {
                Some(known) if known != publisher => {
                    Err(Refusal::new(&MIXED_RUN, format!("`{publisher}`, expected `{known}`")))
                }
                Some(_) | None => Ok(one),
            }
        });
        match one {
            Ok(one) => {
                checked.publisher = Some(one.header().publisher.clone());
                checked.envelopes.push(one);
            }
            Err(refusal) => {
                checked.refused = Some(refusal);
                break;
            }
        }
    }
    checked
}

/// Appends in one transaction. The log writes nothing before it refuses, so what came before a refusal stays.
pub(super) fn append(
    tx: &Tx<'_>,
    envelopes: Vec<CheckedEnvelope>,
    refused: Option<Refusal>,
    from: &ParticipantId,
    now: UnixMillis,
) -> Result<Run, Error> {
    let mut run = Run { refused, ..Run::default() };
    for envelope in envelopes {
        match log::append(&mut TxLog(tx), envelope) {
            Ok(Admission::New(admitted)) => run.admitted.push(*admitted),
            Ok(Admission::Repeat) => run.repeats += 1,
            Ok(Admission::Fork(fork)) => {
                run.fork = Some(fork);
                break;
            }
            Err(LogError::Refused(refusal)) => {
                run.refused = Some(refusal);
                break;
            }
            Err(error) => return Err(log_error(error)),
        }
    }
    record(tx, &run, from, now)?;
    Ok(run)
}

/// One record for a run: the hash chain makes its last envelope stand for all before it.
fn record(tx: &Tx<'_>, run: &Run, from: &ParticipantId, now: UnixMillis) -> Result<(), Error> {
    if let (Some(first), Some(last)) = (run.admitted.first(), run.admitted.last()) {
        let fields = [
            ("publisher", last.header.publisher.to_string()),
            ("from", from.to_string()),
            ("epoch", last.header.epoch.to_string()),
            ("firstSeq", first.header.seq.to_string()),
            ("lastSeq", last.header.seq.to_string()),
            ("envelope", last.head.hash.to_string()),
        ];
        records::append_fields(tx, "catalogue-received", now, fields)?;
    }
    if let Some(fork) = &run.fork {
        let fields = [
            ("publisher", fork.publisher.to_string()),
            ("from", from.to_string()),
            ("epoch", fork.epoch.to_string()),
            ("seq", fork.seq.to_string()),
            ("held", fork.held.to_string()),
            ("found", fork.found.to_string()),
        ];
        records::append_fields(tx, "catalogue-fork", now, fields)?;
    }
    Ok(())
}

fn report(run: &Run) {
    if let Some(fork) = &run.fork {
        tracing::error!(
            publisher = %fork.publisher, epoch = fork.epoch, seq = fork.seq, held = %fork.held, found = %fork.found,
            "a publisher signed two histories of its catalogue; nothing more is taken from it"
        );
    }
    if let Some(last) = run.admitted.last() {
        tracing::info!(
            publisher = %last.header.publisher, seq = last.header.seq, envelopes = run.admitted.len(),
            "catalogue envelopes taken"
        );
    }
}
