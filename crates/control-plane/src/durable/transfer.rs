//! Stored forms of a transfer process and of its messages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::agreement::StoredHolds;
use super::{
    Result, StoredAccepted, StoredCause, StoredParties, StoredSent, StoredTransition, callback, instant,
    instant_to_text, known, message_id, read, require, role, text, write,
};
use crate::ids::{AgreementId, CallbackAddress, ConsumerPid, DatasetId, MessageId, ProviderPid};
use crate::transfer::{
    Accepted, DataAddress, MAX_FORMAT_BYTES, MAX_REMEMBERED, Message, MessageKind, Sent, State, StateName,
    TransferCompletion, TransferProcess, TransferRequest, TransferStart, TransferSuspension,
    TransferTermination, Transition,
};

const KIND: &str = "fairlead-transfer";
const MESSAGE_KIND: &str = "fairlead-transfer-message";

/// Writes a transfer process.
///
/// # Errors
/// [`super::DurableError`] if an instant is out of range.
pub fn encode_transfer(process: &TransferProcess) -> Result<Vec<u8>> {
    let mut history = Vec::with_capacity(process.history.len());
    for transition in &process.history {
        history.push(StoredTransition {
            to: text(&transition.to),
            by: text(&transition.by),
            message: text(transition.message.as_str()),
            at: instant_to_text(transition.at)?,
        });
    }
    let stored = Stored {
        parties: StoredParties::of(&process.us, &process.counterparty, &process.pids),
        agreement: text(&process.agreement_id),
        dataset: text(&process.dataset),
        format: process.format.clone(),
        destination: stored_address(process.destination.as_ref()),
        state: StoredState::of(&process.state)?,
        callback: process.address.as_ref().map(text),
        history,
        accepted: process
            .accepted
            .iter()
            .map(|accepted| StoredAccepted { id: text(&accepted.id), body: text(&accepted.body) })
            .collect(),
        last_sent: process
            .last_sent
            .as_ref()
            .map(|sent| StoredSent { id: text(&sent.id), settled: sent.settled }),
        owed_termination: process.owed_termination.as_ref().map(text),
    };
    write(KIND, &stored)
}

/// Reads a transfer process, and checks its bounds and that its history ends in its state.
///
/// # Errors
/// [`super::DurableError`].
pub fn decode_transfer(bytes: &[u8]) -> Result<TransferProcess> {
    let stored: Stored = read(KIND, bytes)?;
    let (us, counterparty, pids) = stored.parties.restore(KIND)?;
    let mut history = Vec::with_capacity(stored.history.len());
    for transition in &stored.history {
        history.push(Transition {
            to: known(KIND, StateName::parse(&transition.to), "a state in the history is unknown")?,
            by: role(&transition.by)?,
            message: known(
                KIND,
                MessageKind::parse(&transition.message),
                "a message in the history is unknown",
            )?,
            at: instant(&transition.at)?,
        });
    }
    let mut accepted = Vec::with_capacity(stored.accepted.len());
    for entry in &stored.accepted {
        let (id, body) = entry.restore(KIND)?;
        accepted.push(Accepted { id, body });
    }
    let last_sent = match &stored.last_sent {
        Some(sent) => Some(Sent { id: MessageId::parse(&sent.id)?, settled: sent.settled }),
        None => None,
    };
    let state = stored.state.restore()?;
    let owed_termination = message_id(stored.owed_termination.as_ref())?;
    require(
        KIND,
        history.last().is_some_and(|last| last.to == state.name()),
        "the history ends in another state",
    )?;
    require(KIND, history.len() <= MAX_REMEMBERED + 1, "the history is too long")?;
    require(KIND, accepted.len() <= MAX_REMEMBERED + 1, "too many accepted messages")?;
    require(
        KIND,
        (1..=MAX_FORMAT_BYTES).contains(&stored.format.len()),
        "the format's name is empty or too long",
    )?;
    let owed_fits =
        owed_termination.is_none() || (state.name() == StateName::Terminated && pids.both().is_none());
    require(KIND, owed_fits, "a termination is owed outside its place")?;
    Ok(TransferProcess {
        us,
        counterparty,
        pids,
        agreement_id: AgreementId::parse(&stored.agreement)?,
        dataset: DatasetId::parse(&stored.dataset)?,
        format: stored.format,
        destination: restored_address(stored.destination)?,
        state,
        address: callback(stored.callback.as_ref())?,
        history,
        accepted,
        last_sent,
        owed_termination,
    })
}

/// Writes a message for the outbox.
///
/// # Errors
/// [`super::DurableError`].
pub fn encode_transfer_message(message: &Message) -> Result<Vec<u8>> {
    write(MESSAGE_KIND, &StoredMessage::of(message))
}

/// Reads a message from the outbox.
///
/// # Errors
/// [`super::DurableError`].
pub fn decode_transfer_message(bytes: &[u8]) -> Result<Message> {
    let stored: StoredMessage = read(MESSAGE_KIND, bytes)?;
    stored.restore()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    parties: StoredParties,
    agreement: String,
    dataset: String,
    format: String,
    /// Rows from before data was sent to an address have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination: Option<StoredAddress>,
    state: StoredState,
    callback: Option<String>,
    history: Vec<StoredTransition>,
    accepted: Vec<StoredAccepted>,
    last_sent: Option<StoredSent>,
    owed_termination: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredAddress {
    endpoint_type: String,
    endpoint: String,
    properties: BTreeMap<String, String>,
}

fn stored_address(address: Option<&DataAddress>) -> Option<StoredAddress> {
    address.map(|address| StoredAddress {
        endpoint_type: text(address.endpoint_type()),
        endpoint: text(address.endpoint()),
        properties: address.properties().clone(),
    })
}

fn restored_address(stored: Option<StoredAddress>) -> Result<Option<DataAddress>> {
    match stored {
        Some(stored) => {
            Ok(Some(DataAddress::new(&stored.endpoint_type, &stored.endpoint, stored.properties)?))
        }
        None => Ok(None),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "UPPERCASE", rename_all_fields = "camelCase", deny_unknown_fields)]
enum StoredState {
    Requested {},
    Started { data_address: Option<StoredAddress> },
    Suspended { holds: StoredHolds, data_address: Option<StoredAddress> },
    Completed { by: String },
    Terminated { by: String, cause: StoredCause },
}

impl StoredState {
    fn of(state: &State) -> Result<Self> {
        Ok(match state {
            State::Requested => Self::Requested {},
            State::Started { data_address } => {
                Self::Started { data_address: stored_address(data_address.as_ref()) }
            }
            State::Suspended { holds, data_address } => Self::Suspended {
                holds: StoredHolds::of(holds)?,
                data_address: stored_address(data_address.as_ref()),
            },
            State::Completed { by } => Self::Completed { by: text(by) },
            State::Terminated { by, cause } => {
                Self::Terminated { by: text(by), cause: StoredCause::from(cause) }
            }
        })
    }

    fn restore(self) -> Result<State> {
        Ok(match self {
            Self::Requested {} => State::Requested,
            Self::Started { data_address } => {
                State::Started { data_address: restored_address(data_address)? }
            }
            Self::Suspended { holds, data_address } => {
                State::Suspended { holds: holds.restore()?, data_address: restored_address(data_address)? }
            }
            Self::Completed { by } => State::Completed { by: role(&by)? },
            Self::Terminated { by, cause } => State::Terminated { by: role(&by)?, cause: cause.restore()? },
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Ids {
    message_id: String,
    provider_pid: String,
    consumer_pid: String,
}

impl Ids {
    fn of(message: &MessageId, provider: &ProviderPid, consumer: &ConsumerPid) -> Self {
        Self { message_id: text(message), provider_pid: text(provider), consumer_pid: text(consumer) }
    }

    fn restore(&self) -> Result<(MessageId, ProviderPid, ConsumerPid)> {
        Ok((
            MessageId::parse(&self.message_id)?,
            ProviderPid::parse(&self.provider_pid)?,
            ConsumerPid::parse(&self.consumer_pid)?,
        ))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
enum StoredMessage {
    Request {
        message_id: String,
        consumer_pid: String,
        agreement: String,
        format: String,
        callback: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data_address: Option<StoredAddress>,
    },
    Start {
        ids: Ids,
        data_address: Option<StoredAddress>,
    },
    Completion {
        ids: Ids,
    },
    Suspension {
        ids: Ids,
        cause: StoredCause,
    },
    Termination {
        ids: Ids,
        cause: StoredCause,
    },
}

impl StoredMessage {
    fn of(message: &Message) -> Self {
        match message {
            Message::Request(request) => Self::Request {
                message_id: text(&request.message_id),
                consumer_pid: text(&request.consumer_pid),
                agreement: text(&request.agreement_id),
                format: request.format.clone(),
                callback: text(&request.callback),
                data_address: stored_address(request.data_address.as_ref()),
            },
            Message::Start(start) => Self::Start {
                ids: Ids::of(&start.message_id, &start.provider_pid, &start.consumer_pid),
                data_address: stored_address(start.data_address.as_ref()),
            },
            Message::Completion(message) => Self::Completion {
                ids: Ids::of(&message.message_id, &message.provider_pid, &message.consumer_pid),
            },
            Message::Suspension(message) => Self::Suspension {
                ids: Ids::of(&message.message_id, &message.provider_pid, &message.consumer_pid),
                cause: StoredCause::from(&message.cause),
            },
            Message::Termination(message) => Self::Termination {
                ids: Ids::of(&message.message_id, &message.provider_pid, &message.consumer_pid),
                cause: StoredCause::from(&message.cause),
            },
        }
    }

    fn restore(self) -> Result<Message> {
        Ok(match self {
            Self::Request { message_id, consumer_pid, agreement, format, callback, data_address } => {
                Message::Request(TransferRequest {
                    message_id: MessageId::parse(&message_id)?,
                    consumer_pid: ConsumerPid::parse(&consumer_pid)?,
                    agreement_id: AgreementId::parse(&agreement)?,
                    format,
                    callback: CallbackAddress::parse(&callback)?,
                    data_address: restored_address(data_address)?,
                })
            }
            Self::Start { ids, data_address } => {
                let (message_id, provider_pid, consumer_pid) = ids.restore()?;
                let data_address = restored_address(data_address)?;
                Message::Start(TransferStart { message_id, provider_pid, consumer_pid, data_address })
            }
            Self::Completion { ids } => {
                let (message_id, provider_pid, consumer_pid) = ids.restore()?;
                Message::Completion(TransferCompletion { message_id, provider_pid, consumer_pid })
            }
            Self::Suspension { ids, cause } => {
                let (message_id, provider_pid, consumer_pid) = ids.restore()?;
                let cause = cause.restore()?;
                Message::Suspension(TransferSuspension { message_id, provider_pid, consumer_pid, cause })
            }
            Self::Termination { ids, cause } => {
                let (message_id, provider_pid, consumer_pid) = ids.restore()?;
                let cause = cause.restore()?;
                Message::Termination(TransferTermination { message_id, provider_pid, consumer_pid, cause })
            }
        })
    }
}
