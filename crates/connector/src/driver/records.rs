//! How processes and agreements lie in the store: keys, tags and ledger records.

use control_plane::agreement::SignedAgreement;
use control_plane::durable;
use control_plane::ids::{AgreementId, ParticipantId};
use control_plane::negotiation::Negotiation;
use control_plane::record::Record;
use control_plane::status::HeldAgreement;
use control_plane::transfer::TransferProcess;
use control_plane::{Refusal, UnixMillis};
use store::{Collection, Expect, Snapshot, Tx};

use crate::error::Error;
use crate::fresh;

control_plane::refusal_codes! {
    AGREEMENT_ID_REUSED = "agreement/id-reused", State,
        "another agreement is held under this id", "此識別碼下已持有另一份協議", "此标识符下已持有另一份协议",
        clause "DSP 2025-1: the id of an agreement is unique and new", next "conclude the agreement under a fresh id";
}

/// Tag of a process: the peer and the peer's name of it, so that a repeated opening finds it.
const PEER_PID: &str = "peer-pid";
/// Tag of a transfer: its agreement.
pub const AGREEMENT: &str = "agreement";
/// Tag of an agreement: its dataset.
pub const TARGET: &str = "target";
/// Tag of a process that has not ended: its counterparty.
pub const OPEN_WITH: &str = "open-with";
/// Tag of a transfer that a pull worker must carry on.
pub const PULLING: &str = "pulling";
/// Tag of a transfer that a push worker must carry on.
pub const PUSHING: &str = "pushing";

fn peer_pid(peer: &ParticipantId, pid: &str) -> String {
    format!("{peer} {pid}")
}

/// The negotiation under our own name of it.
pub fn negotiation(store: &Snapshot<'_>, pid: &str) -> Result<Option<Negotiation>, Error> {
    let row = store.get(Collection::Negotiations, pid)?;
    row.map(|row| decoded(pid, &row.value)).transpose()
}

fn decoded(pid: &str, value: &[u8]) -> Result<Negotiation, Error> {
    durable::decode_negotiation(value).map_err(|cause| Error::damaged(&format!("negotiation {pid}"), cause))
}

/// The negotiation and its row's version, unless that is still `seen`.
pub fn negotiation_newer_than(
    store: &Snapshot<'_>,
    pid: &str,
    seen: Option<u64>,
) -> Result<Option<(u64, Negotiation)>, Error> {
    let row = store.get(Collection::Negotiations, pid)?.filter(|row| Some(row.version) != seen);
    row.map(|row| decoded(pid, &row.value).map(|negotiation| (row.version, negotiation))).transpose()
}

/// The negotiation that `peer` names `pid`.
pub fn negotiation_of_peer(
    store: &Snapshot<'_>,
    peer: &ParticipantId,
    pid: &str,
) -> Result<Option<Negotiation>, Error> {
    let rows = store.find(Collection::Negotiations, PEER_PID, &peer_pid(peer, pid), None, 1)?;
    rows.first().map(|row| negotiation(store, &row.key)).transpose().map(Option::flatten)
}

/// Stores a negotiation under our own name of it.
pub fn put_negotiation(tx: &Tx<'_>, negotiation: &Negotiation) -> Result<(), Error> {
    let key = negotiation.pids().ours();
    let bytes = durable::encode_negotiation(negotiation).map_err(|cause| Error::damaged(key, cause))?;
    tx.put(Collection::Negotiations, key, &bytes, Expect::Any)?;
    let named = negotiation.pids().theirs().map(|pid| peer_pid(negotiation.counterparty(), pid));
    let mut tags = Vec::new();
    if let Some(named) = &named {
        tags.push((PEER_PID, named.as_str()));
    }
    if !negotiation.state_name().is_terminal() {
        tags.push((OPEN_WITH, negotiation.counterparty().as_str()));
    }
    tx.tag(Collection::Negotiations, key, &tags)?;
    Ok(())
}

/// The transfer under our own name of it.
pub fn transfer(store: &Snapshot<'_>, pid: &str) -> Result<Option<TransferProcess>, Error> {
    let row = store.get(Collection::Transfers, pid)?;
    row.map(|row| {
        durable::decode_transfer(&row.value)
            .map_err(|cause| Error::damaged(&format!("transfer {pid}"), cause))
    })
    .transpose()
}

/// The transfer that `peer` names `pid`.
pub fn transfer_of_peer(
    store: &Snapshot<'_>,
    peer: &ParticipantId,
    pid: &str,
) -> Result<Option<TransferProcess>, Error> {
    let rows = store.find(Collection::Transfers, PEER_PID, &peer_pid(peer, pid), None, 1)?;
    rows.first().map(|row| transfer(store, &row.key)).transpose().map(Option::flatten)
}

/// Stores a transfer under our own name of it.
pub fn put_transfer(tx: &Tx<'_>, process: &TransferProcess) -> Result<(), Error> {
    let key = process.pids().ours();
    let bytes = durable::encode_transfer(process).map_err(|cause| Error::damaged(key, cause))?;
    tx.put(Collection::Transfers, key, &bytes, Expect::Any)?;
    let named = process.pids().theirs().map(|pid| peer_pid(process.counterparty(), pid));
    let mut tags = vec![(AGREEMENT, process.agreement_id().as_str())];
    if let Some(named) = &named {
        tags.push((PEER_PID, named.as_str()));
    }
    if !process.state_name().is_terminal() {
        tags.push((OPEN_WITH, process.counterparty().as_str()));
    }
    let started = process.state_name() == control_plane::transfer::StateName::Started;
    if started && process.role() == control_plane::pids::Role::Consumer {
        tags.push((PULLING, "yes"));
    }
    if started && process.destination().is_some() {
        tags.push((PUSHING, "yes"));
    }
    tx.tag(Collection::Transfers, key, &tags)?;
    Ok(())
}

/// The agreement with its status.
pub fn agreement(store: &Snapshot<'_>, id: &AgreementId) -> Result<Option<HeldAgreement>, Error> {
    let row = store.get(Collection::Agreements, id.as_str())?;
    row.map(|row| {
        durable::decode_agreement(&row.value)
            .map_err(|cause| Error::damaged(&format!("agreement {id}"), cause))
    })
    .transpose()
}

/// Stores an agreement with its status.
pub fn put_agreement(tx: &Tx<'_>, held: &HeldAgreement) -> Result<(), Error> {
    let id = held.signed.agreement().id();
    let bytes = durable::encode_agreement(held).map_err(|cause| Error::damaged(id.as_str(), cause))?;
    tx.put(Collection::Agreements, id.as_str(), &bytes, Expect::Any)?;
    tx.tag(Collection::Agreements, id.as_str(), &[(TARGET, held.signed.agreement().target().as_str())])?;
    Ok(())
}

/// Stores a new agreement as active, unless it is known already: its status then stays.
pub fn put_new_agreement(tx: &Tx<'_>, signed: SignedAgreement) -> Result<(), Error> {
    if let Some(known) = agreement(tx, signed.agreement().id())? {
        let id = signed.agreement().id().as_str();
        let same = known.signed.agreement().hash() == signed.agreement().hash();
        return if same { Ok(()) } else { Err(Refusal::new(&AGREEMENT_ID_REUSED, id).into()) };
    }
    put_agreement(tx, &HeldAgreement::active(signed))
}

/// Appends what a pure machine recorded.
pub fn append(tx: &Tx<'_>, record: &Record) -> Result<(), Error> {
    append_fields(
        tx,
        record.kind,
        record.at,
        record.fields.iter().map(|(name, value)| (*name, value.clone())),
    )
}

/// Appends a ledger record in this transaction.
pub fn append_fields(
    tx: &Tx<'_>,
    kind: &str,
    at: UnixMillis,
    fields: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<(), Error> {
    let record = ledger::Record::new(kind, at.0, fields).map_err(Error::ours)?;
    tx.ledger_append(&record, &fresh::salt())?;
    Ok(())
}

/// Refuses when something that must be there is not.
pub fn found<T>(value: Option<T>, code: &'static control_plane::Code, name: &str) -> Result<T, Refusal> {
    value.ok_or_else(|| Refusal::new(code, format!("`{}`", control_plane::ids::printable(name))))
}
