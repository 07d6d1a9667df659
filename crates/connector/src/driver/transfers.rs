//! Transfers: what peers send, what follows at once, and when bytes may flow or must stop.

use std::sync::Arc;

use control_plane::cause::Cause;
use control_plane::durable;
use control_plane::ids::{AgreementId, CallbackAddress, ConsumerPid, MessageId, ParticipantId, ProviderPid};
use control_plane::pids::Role;
use control_plane::status::HeldAgreement;
use control_plane::transfer::{
    Command, DataAddress, Effect, GRPC_PULL, Message, Opening, Received, StateName, Step, TransferProcess,
    UNKNOWN_AGREEMENT, UNKNOWN_PROCESS, Undelivered,
};
use control_plane::{Refusal, UnixMillis};
use dsp::HTTP_PUSH;
use identity::Statement;
use store::{Collection, OutboxItem, Tx, crash_point};

use super::{negotiations, records};
use crate::caller::Caller;
use crate::config::Steps;
use crate::data;
use crate::error::Error;
use crate::fresh;
use crate::http;
use crate::node::Node;

control_plane::refusal_codes! {
    UNKNOWN_TRANSFER = "transfer/not-found", NotFound,
        "there is no such transfer", "沒有此傳輸", "没有该传输",
        clause "administration", next "`fairlead transfer list` shows the known ones";
    AGREEMENT_NOT_FOUND = "agreement/not-found", NotFound,
        "there is no such agreement", "沒有此協議", "没有该协议",
        clause "administration", next "`fairlead agreement list` shows the known ones";
    STOPPED = "transfer/stopped", State,
        "the transfer was suspended or has ended", "傳輸已暫停或結束", "传输已暂停或结束",
        clause "DSP 2025-1, 1.5", next "`fairlead transfer show` tells who did it and why";
}

/// The outbox kind of a transfer message.
pub const OUTBOX_KIND: &str = "transfer";

/// What a peer is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The provider's name of the process.
    pub provider_pid: String,
    /// The consumer's name of the process.
    pub consumer_pid: String,
    /// Its state.
    pub state: StateName,
}

impl Answer {
    /// What a look at this process is answered.
    pub fn of(process: &TransferProcess) -> Self {
        Self {
            provider_pid: process.pids().provider().map(ToString::to_string).unwrap_or_default(),
            consumer_pid: process.pids().consumer().map(ToString::to_string).unwrap_or_default(),
            state: process.state_name(),
        }
    }
}

/// Takes a peer's message for our `role`; answers when everything that follows at once is durable.
pub async fn receive(node: &Arc<Node>, peer: &Caller, role: Role, message: Message) -> Result<Answer, Error> {
    let now = node.now();
    let (driver, statement, peer) = (node.clone(), peer.statement().cloned(), peer.id().clone());
    let stored = node
        .store
        .write(move |tx| receive_in(&driver, tx, &peer, statement.as_ref(), role, &message, now))
        .await?;
    crash_point("message-received");
    Ok(Answer::of(&settle(node, stored)))
}

/// Asks the provider of an agreement for its dataset in a format: over gRPC, or over HTTP at `address`.
pub async fn open(
    node: &Arc<Node>,
    agreement: AgreementId,
    format: &str,
    address: Option<CallbackAddress>,
) -> Result<TransferProcess, Error> {
    let now = node.clock.trusted_now()?;
    let pid = ConsumerPid::parse(&fresh::urn())?;
    let opening = Opening {
        us: node.us.clone(),
        format: format.to_owned(),
        callback: negotiations::callback_of(node, address.as_ref())?,
        address,
        message_id: fresh::message_id()?,
    };
    let stored = node
        .store
        .write(move |tx| {
            let held = held(tx, &agreement)?;
            apply(tx, TransferProcess::open_as_consumer(opening, pid, &held, now)?, now)
        })
        .await?;
    Ok(settle(node, stored))
}

/// Carries out our own decision about a transfer.
pub async fn command(node: &Arc<Node>, pid: &str, command: Command) -> Result<TransferProcess, Error> {
    let (now, pid) = (node.now(), pid.to_owned());
    let stored = node.store.write(move |tx| command_in(tx, &pid, command, now)).await?;
    Ok(settle(node, stored))
}

/// Our yes to a transfer: as provider to one that was asked for, on either side to go on with what we suspended.
pub async fn start(node: &Arc<Node>, pid: &str) -> Result<TransferProcess, Error> {
    let (now, pid, worker) = (node.now(), pid.to_owned(), node.clone());
    let stored = node
        .store
        .write(move |tx| {
            let process = records::found(records::transfer(tx, &pid)?, &UNKNOWN_TRANSFER, &pid)?;
            let held = held(tx, process.agreement_id())?;
            let told = match (process.role(), process.state_name()) {
                (Role::Provider, StateName::Requested) => {
                    let statement = crate::peers::statement(tx, process.counterparty())?;
                    data::provider::may_start(&worker, tx, &held, &process, statement.as_ref(), now)?;
                    data_address(&worker, tx, &process, now)?
                }
                // A credential of a suspended pull may have been seen by whoever made us suspend it.
                (Role::Provider, StateName::Suspended) if process.format() != GRPC_PULL => {
                    data_address(&worker, tx, &process, now)?
                }
                _ => None,
            };
            apply(tx, process.command(Command::Start(told), fresh::message_id()?, &held, now)?, now)
        })
        .await?;
    Ok(settle(node, stored))
}

/// Where the consumer finds the bytes, unless we send them.
fn data_address(
    node: &Node,
    tx: &Tx<'_>,
    process: &TransferProcess,
    now: UnixMillis,
) -> Result<Option<DataAddress>, Error> {
    Ok(match process.format() {
        GRPC_PULL => Some(DataAddress::new(GRPC_PULL, "", [])?),
        HTTP_PUSH => None,
        _ => Some(http::data::address(node, tx, process, now)?),
    })
}

/// Ends every transfer under an agreement that may no longer be acted on; part of the caller's transaction.
pub fn end_all(
    tx: &Tx<'_>,
    held: &HeldAgreement,
    cause: &Cause,
    now: UnixMillis,
) -> Result<Vec<Stored>, Error> {
    let id = held.signed.agreement().id();
    let (mut ended, mut after) = (Vec::new(), None::<String>);
    loop {
        let rows = tx.find(
            Collection::Transfers,
            records::AGREEMENT,
            id.as_str(),
            after.as_deref(),
            store::MAX_PAGE,
        )?;
        let Some(last) = rows.last() else { return Ok(ended) };
        after = Some(last.key.clone());
        for row in rows {
            let Some(process) = records::transfer(tx, &row.key)? else { continue };
            if process.state_name().is_terminal() {
                continue;
            }
            let step = process.command(Command::Terminate(cause.clone()), fresh::message_id()?, held, now)?;
            ended.push(apply(tx, step, now)?);
        }
    }
}

/// The transfer under our own name of it.
pub async fn get(node: &Arc<Node>, pid: &str) -> Result<TransferProcess, Error> {
    let key = pid.to_owned();
    let found = node.store.read(move |store| records::transfer(store, &key)).await?;
    Ok(records::found(found, &UNKNOWN_TRANSFER, pid)?)
}

/// The peer answered a message of ours with its own names of the process.
pub async fn acknowledged(
    node: &Arc<Node>,
    entry_id: String,
    pid: String,
    provider_pid: ProviderPid,
    consumer_pid: ConsumerPid,
) -> Result<(), Error> {
    let now = node.now();
    let stored = node
        .store
        .write(move |tx| {
            let mut stored = None;
            if let Some(process) = records::transfer(tx, &pid)? {
                let message_id = MessageId::parse(&entry_id)?;
                let step = match process.acknowledged(&message_id, &provider_pid, &consumer_pid) {
                    Ok(step) => step,
                    Err(refusal) => {
                        let why = Undelivered::Refused(Cause::of_refusal(&refusal));
                        process.undelivered(&message_id, &why, fresh::message_id()?, now)
                    }
                };
                stored = Some(apply(tx, step, now)?);
            }
            tx.outbox_done(&entry_id)?;
            Ok::<_, Error>(stored)
        })
        .await?;
    if let Some(stored) = stored {
        settle(node, stored);
    }
    Ok(())
}

/// A message of ours will not arrive.
pub async fn undelivered(
    node: &Arc<Node>,
    entry_id: String,
    pid: String,
    why: Undelivered,
) -> Result<(), Error> {
    let now = node.now();
    let stored = node
        .store
        .write(move |tx| {
            let mut stored = None;
            if let Some(process) = records::transfer(tx, &pid)? {
                let message_id = MessageId::parse(&entry_id)?;
                stored =
                    Some(apply(tx, process.undelivered(&message_id, &why, fresh::message_id()?, now), now)?);
            }
            tx.outbox_done(&entry_id)?;
            Ok::<_, Error>(stored)
        })
        .await?;
    if let Some(stored) = stored {
        settle(node, stored);
    }
    Ok(())
}

/// A stored step and what must happen to bytes once it is durable.
pub struct Stored {
    process: TransferProcess,
    flow: Option<Flow>,
}

enum Flow {
    Go,
    Halt,
}

/// Lets bytes flow or stops them, after the step is durable.
pub fn settle(node: &Arc<Node>, stored: Stored) -> TransferProcess {
    let Stored { process, flow } = stored;
    let pid = process.pids().ours();
    match (flow, process.role()) {
        (Some(Flow::Go), Role::Consumer) if data::pull::is_ours(node, &process) => {
            data::pull::spawn(node.clone(), pid.to_owned());
        }
        // Other bytes of a provider flow when the consumer asks for them. A push begins with the acknowledgement of the
        // start, so that its receiver is ready.
        (Some(Flow::Go) | None, Role::Provider) if data::push::is_to_push(&process) => {
            data::push::spawn(node.clone(), pid.to_owned());
        }
        (Some(Flow::Go), Role::Provider | Role::Consumer) | (None, _) => {}
        (Some(Flow::Halt), _) => {
            node.data.stop_transfer(pid, &Refusal::new(&STOPPED, process.state_name().as_str()));
        }
    }
    process
}

fn receive_in(
    node: &Arc<Node>,
    tx: &Tx<'_>,
    peer: &ParticipantId,
    statement: Option<&Statement>,
    role: Role,
    message: &Message,
    now: UnixMillis,
) -> Result<Stored, Error> {
    let (provider_pid, consumer_pid) =
        (message.provider_pid().map(ProviderPid::as_str), Some(message.consumer_pid().as_str()));
    let (ours, theirs) = match role {
        Role::Provider => (provider_pid, consumer_pid),
        Role::Consumer => (consumer_pid, provider_pid),
    };
    let known = match (ours, theirs) {
        (Some(ours), _) => records::transfer(tx, ours)?,
        (None, Some(theirs)) => records::transfer_of_peer(tx, peer, theirs)?,
        (None, None) => None,
    };
    let known = known.filter(|process| process.role() == role);
    let received = Received { sender: peer, message };
    let step = match (known, message) {
        (Some(process), _) => {
            let held = held(tx, process.agreement_id())?;
            process.receive(&received, &held, now)?
        }
        (None, Message::Request(request)) => {
            http::push::require_fit(node, request)?;
            let held = records::agreement(tx, &request.agreement_id)?;
            let pid = ProviderPid::parse(&fresh::urn())?;
            TransferProcess::opened_by_peer(
                &received,
                pid,
                &node.us,
                held.as_ref(),
                http::formats(node),
                now,
            )?
        }
        (None, _) => {
            let name = ours.or(theirs).unwrap_or_default();
            return Err(Refusal::new(&UNKNOWN_PROCESS, format!("`{name}`")).into());
        }
    };
    if step.repeat {
        return Ok(Stored { process: step.next, flow: None });
    }
    let must_decide = step.effects.iter().any(|effect| matches!(effect, Effect::DecideStart));
    let by_hand = node.config.load().negotiation.steps == Steps::Manual;
    let step = if must_decide && !by_hand { started_or_ended(node, tx, statement, step, now)? } else { step };
    apply(tx, step, now)
}

/// Provider: the policy says whether this pull may start.
fn started_or_ended(
    node: &Arc<Node>,
    tx: &Tx<'_>,
    statement: Option<&Statement>,
    step: Step,
    now: UnixMillis,
) -> Result<Step, Error> {
    let held = held(tx, step.next.agreement_id())?;
    let may_start = data::provider::may_start(node, tx, &held, &step.next, statement, now);
    let command = match may_start.and_then(|()| data_address(node, tx, &step.next, now)) {
        Ok(address) => Command::Start(address),
        Err(error) => {
            let refusal = error.into_refusal();
            tracing::info!(transfer = step.next.pids().ours(), code = refusal.code.code, detail = %refusal.detail, "transfer not started");
            Command::Terminate(Cause::of_refusal(&refusal))
        }
    };
    let message_id = fresh::message_id()?;
    let further = step.next.command(command, message_id, &held, now)?;
    let decided = |effect: &Effect| !matches!(effect, Effect::DecideStart);
    let mut effects: Vec<Effect> = step.effects.into_iter().filter(decided).collect();
    effects.extend(further.effects);
    Ok(Step { next: further.next, effects, repeat: false })
}

fn command_in(tx: &Tx<'_>, pid: &str, command: Command, now: UnixMillis) -> Result<Stored, Error> {
    let process = records::found(records::transfer(tx, pid)?, &UNKNOWN_TRANSFER, pid)?;
    let held = held(tx, process.agreement_id())?;
    apply(tx, process.command(command, fresh::message_id()?, &held, now)?, now)
}

fn held(tx: &Tx<'_>, id: &AgreementId) -> Result<HeldAgreement, Error> {
    Ok(records::found(records::agreement(tx, id)?, &UNKNOWN_AGREEMENT, id.as_str())?)
}

/// Stores the step: next state, outbox and ledger together; tells what must happen to bytes afterwards.
fn apply(tx: &Tx<'_>, step: Step, now: UnixMillis) -> Result<Stored, Error> {
    let mut flow = None;
    if step.repeat {
        return Ok(Stored { process: step.next, flow });
    }
    records::put_transfer(tx, &step.next)?;
    for effect in step.effects {
        match effect {
            Effect::Send(message) => push(tx, &step.next, &message, now)?,
            Effect::Record(record) => records::append(tx, &record)?,
            Effect::DataMayFlow(_) => flow = Some(Flow::Go),
            Effect::DataMustStop => flow = Some(Flow::Halt),
            Effect::DecideStart => {}
        }
    }
    Ok(Stored { process: step.next, flow })
}

fn push(tx: &Tx<'_>, process: &TransferProcess, message: &Message, now: UnixMillis) -> Result<(), Error> {
    let body = durable::encode_transfer_message(message)
        .map_err(|cause| Error::damaged(message.id().as_str(), cause))?;
    tx.outbox_push(&OutboxItem {
        id: message.id().as_str(),
        lane: process.pids().ours(),
        destination: process.counterparty().as_str(),
        kind: OUTBOX_KIND,
        body: &body,
        due: now,
    })?;
    Ok(())
}
