//! Stored forms of a negotiation and of its messages.

use serde::{Deserialize, Serialize};

use super::agreement::{StoredPart, StoredSigned};
use super::{
    Result, StoredAccepted, StoredCause, StoredParties, StoredSent, StoredTransition, callback, instant,
    instant_to_text, known, message_id, read, require, role, text, write,
};
use crate::agreement::{Agreement, Annex};
use crate::ids::{CallbackAddress, ConsumerPid, DatasetId, MessageId, ProviderPid};
use crate::negotiation::{
    Accepted, AgreementMessage, ContractOffer, ContractRequest, Event, EventKind, MAX_TRANSITIONS, Message,
    MessageKind, Negotiation, OfferOpening, RequestOpening, Sent, State, StateName, Termination, Transition,
    Verification,
};
use crate::pids::Role;
use crate::terms::{Offer, Table};

const KIND: &str = "fairlead-negotiation";
const MESSAGE_KIND: &str = "fairlead-negotiation-message";

/// Writes a negotiation.
///
/// # Errors
/// [`super::DurableError`] if an instant is out of range.
pub fn encode_negotiation(negotiation: &Negotiation) -> Result<Vec<u8>> {
    let mut history = Vec::with_capacity(negotiation.history.len());
    for transition in &negotiation.history {
        history.push(StoredTransition {
            to: text(&transition.to),
            by: text(&transition.by),
            message: text(transition.message.as_str()),
            at: instant_to_text(transition.at)?,
        });
    }
    let stored = Stored {
        parties: StoredParties::of(&negotiation.us, &negotiation.counterparty, &negotiation.pids),
        dataset: text(&negotiation.dataset),
        state: StoredState::of(&negotiation.state),
        callback: negotiation.address.as_ref().map(text),
        history,
        accepted: negotiation
            .accepted
            .iter()
            .map(|accepted| StoredAccepted { id: text(&accepted.id), body: text(&accepted.body) })
            .collect(),
        last_sent: negotiation
            .last_sent
            .as_ref()
            .map(|sent| StoredSent { id: text(&sent.id), settled: sent.settled }),
        owed_termination: negotiation.owed_termination.as_ref().map(text),
        ceiling: negotiation.ceiling.clone(),
    };
    write(KIND, &stored)
}

/// Reads a negotiation, and checks that its parts belong together: who made the offer on the table, that offer and
/// agreement are about its dataset, the agreement's parties and annex, and that its history ends in its state.
///
/// # Errors
/// [`super::DurableError`].
pub fn decode_negotiation(bytes: &[u8]) -> Result<Negotiation> {
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
    let negotiation = Negotiation {
        us,
        counterparty,
        pids,
        dataset: DatasetId::parse(&stored.dataset)?,
        state: stored.state.restore()?,
        address: callback(stored.callback.as_ref())?,
        history,
        accepted,
        last_sent,
        owed_termination: message_id(stored.owed_termination.as_ref())?,
        ceiling: stored.ceiling,
    };
    check(&negotiation)?;
    Ok(negotiation)
}

/// Writes a message for the outbox.
///
/// # Errors
/// [`super::DurableError`].
pub fn encode_negotiation_message(message: &Message) -> Result<Vec<u8>> {
    write(MESSAGE_KIND, &StoredMessage::of(message))
}

/// Reads a message from the outbox.
///
/// # Errors
/// [`super::DurableError`].
pub fn decode_negotiation_message(bytes: &[u8]) -> Result<Message> {
    let stored: StoredMessage = read(MESSAGE_KIND, bytes)?;
    stored.restore()
}

fn check(negotiation: &Negotiation) -> Result<()> {
    let Negotiation { us, counterparty, pids, dataset, state, history, accepted, .. } = negotiation;
    require(
        KIND,
        history.last().is_some_and(|last| last.to == state.name()),
        "the history ends in another state",
    )?;
    require(KIND, history.len() <= MAX_TRANSITIONS, "the history is too long")?;
    // One accepted message a transition, and a termination that crossed ours.
    require(KIND, accepted.len() <= MAX_TRANSITIONS + 1, "too many accepted messages")?;
    require(
        KIND,
        negotiation.owed_termination.is_none()
            || (state.name() == StateName::Terminated && pids.both().is_none()),
        "a termination is owed outside its place",
    )?;
    let (assigner, assignee) = match pids.role() {
        Role::Consumer => (counterparty, us),
        Role::Provider => (us, counterparty),
    };
    let check_table = |table: &Table, by: Option<Role>| {
        require(KIND, table.offer.target() == dataset, "the offer is about another dataset")?;
        require(KIND, by.is_none_or(|by| by == table.by), "the wrong side made the offer on the table")
    };
    let check_agreement = |agreement: &Agreement| {
        require(KIND, agreement.target() == dataset, "the agreement is about another dataset")?;
        let parties = agreement.assigner() == assigner && agreement.assignee() == assignee;
        require(KIND, parties, "the agreement is between others")
    };
    match state {
        State::Requested(table) => check_table(table, Some(Role::Consumer)),
        State::Offered(table) | State::Accepted(table) => check_table(table, Some(Role::Provider)),
        State::Agreed { table, part } => {
            check_table(table, None)?;
            check_agreement(part.agreement())?;
            let (provider, consumer) = known(KIND, pids.both(), "a process id is missing")?;
            let annex = Annex::of(&table.offer, provider, consumer);
            let same = part.assigner_signature().is_none_or(|signature| signature.annex() == annex.digest());
            require(KIND, same, "the annex is another")
        }
        State::Verified { signed } | State::Finalized { signed } => check_agreement(signed.agreement()),
        State::Terminated { .. } => Ok(()),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    parties: StoredParties,
    dataset: String,
    state: StoredState,
    callback: Option<String>,
    history: Vec<StoredTransition>,
    accepted: Vec<StoredAccepted>,
    last_sent: Option<StoredSent>,
    owed_termination: Option<String>,
    /// Absent in what was written before there were ceilings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ceiling: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredTable {
    offer: String,
    by: String,
    terms_altered: bool,
}

impl StoredTable {
    fn of(table: &Table) -> Self {
        Self { offer: text(table.offer.text()), by: text(&table.by), terms_altered: table.terms_altered }
    }

    fn restore(&self) -> Result<Table> {
        Ok(Table {
            offer: Offer::parse(&self.offer)?,
            by: role(&self.by)?,
            terms_altered: self.terms_altered,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "UPPERCASE", deny_unknown_fields)]
enum StoredState {
    Requested { table: StoredTable },
    Offered { table: StoredTable },
    Accepted { table: StoredTable },
    Agreed { table: StoredTable, part: StoredPart },
    Verified { signed: StoredSigned },
    Finalized { signed: StoredSigned },
    Terminated { by: String, cause: StoredCause },
}

impl StoredState {
    fn of(state: &State) -> Self {
        match state {
            State::Requested(table) => Self::Requested { table: StoredTable::of(table) },
            State::Offered(table) => Self::Offered { table: StoredTable::of(table) },
            State::Accepted(table) => Self::Accepted { table: StoredTable::of(table) },
            State::Agreed { table, part } => {
                Self::Agreed { table: StoredTable::of(table), part: StoredPart::of(part) }
            }
            State::Verified { signed } => Self::Verified { signed: StoredSigned::of(signed) },
            State::Finalized { signed } => Self::Finalized { signed: StoredSigned::of(signed) },
            State::Terminated { by, cause } => {
                Self::Terminated { by: text(by), cause: StoredCause::from(cause) }
            }
        }
    }

    fn restore(self) -> Result<State> {
        Ok(match self {
            Self::Requested { table } => State::Requested(table.restore()?),
            Self::Offered { table } => State::Offered(table.restore()?),
            Self::Accepted { table } => State::Accepted(table.restore()?),
            Self::Agreed { table, part } => State::Agreed { table: table.restore()?, part: part.restore()? },
            Self::Verified { signed } => State::Verified { signed: signed.restore()? },
            Self::Finalized { signed } => State::Finalized { signed: signed.restore()? },
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
    OpeningRequest { message_id: String, consumer_pid: String, offer: String, callback: String },
    OpeningOffer { message_id: String, provider_pid: String, offer: String, callback: String },
    Request { ids: Ids, offer: String },
    Offer { ids: Ids, offer: String },
    Agreement { ids: Ids, agreement: String, assigner_signature: Option<String> },
    Verification { ids: Ids, assignee_signature: Option<String> },
    Accepted { ids: Ids },
    Finalized { ids: Ids },
    Termination { ids: Ids, cause: StoredCause },
}

impl StoredMessage {
    fn of(message: &Message) -> Self {
        match message {
            Message::Request(request) => {
                let offer = text(request.offer.text());
                match &request.opening {
                    RequestOpening::Opens(callback) => Self::OpeningRequest {
                        message_id: text(&request.message_id),
                        consumer_pid: text(&request.consumer_pid),
                        offer,
                        callback: text(callback),
                    },
                    RequestOpening::Counters(pid) => {
                        Self::Request { ids: Ids::of(&request.message_id, pid, &request.consumer_pid), offer }
                    }
                }
            }
            Message::Offer(message) => {
                let offer = text(message.offer.text());
                match &message.opening {
                    OfferOpening::Opens(callback) => Self::OpeningOffer {
                        message_id: text(&message.message_id),
                        provider_pid: text(&message.provider_pid),
                        offer,
                        callback: text(callback),
                    },
                    OfferOpening::Counters(pid) => {
                        Self::Offer { ids: Ids::of(&message.message_id, &message.provider_pid, pid), offer }
                    }
                }
            }
            Message::Agreement(message) => Self::Agreement {
                ids: Ids::of(&message.message_id, &message.provider_pid, &message.consumer_pid),
                agreement: text(message.agreement.text()),
                assigner_signature: message.assigner_signature.clone(),
            },
            Message::Verification(message) => Self::Verification {
                ids: Ids::of(&message.message_id, &message.provider_pid, &message.consumer_pid),
                assignee_signature: message.assignee_signature.clone(),
            },
            Message::Event(event) => {
                let ids = Ids::of(&event.message_id, &event.provider_pid, &event.consumer_pid);
                match event.kind {
                    EventKind::Accepted => Self::Accepted { ids },
                    EventKind::Finalized => Self::Finalized { ids },
                }
            }
            Message::Termination(message) => Self::Termination {
                ids: Ids::of(&message.message_id, &message.provider_pid, &message.consumer_pid),
                cause: StoredCause::from(&message.cause),
            },
        }
    }

    fn restore(self) -> Result<Message> {
        let event = |ids: &Ids, kind| -> Result<Message> {
            let (message_id, provider_pid, consumer_pid) = ids.restore()?;
            Ok(Message::Event(Event { message_id, provider_pid, consumer_pid, kind }))
        };
        Ok(match self {
            Self::OpeningRequest { message_id, consumer_pid, offer, callback } => {
                Message::Request(ContractRequest {
                    message_id: MessageId::parse(&message_id)?,
                    consumer_pid: ConsumerPid::parse(&consumer_pid)?,
                    offer: Offer::parse(&offer)?,
                    opening: RequestOpening::Opens(CallbackAddress::parse(&callback)?),
                })
            }
            Self::OpeningOffer { message_id, provider_pid, offer, callback } => {
                Message::Offer(ContractOffer {
                    message_id: MessageId::parse(&message_id)?,
                    provider_pid: ProviderPid::parse(&provider_pid)?,
                    offer: Offer::parse(&offer)?,
                    opening: OfferOpening::Opens(CallbackAddress::parse(&callback)?),
                })
            }
            Self::Request { ids, offer } => {
                let (message_id, provider_pid, consumer_pid) = ids.restore()?;
                Message::Request(ContractRequest {
                    message_id,
                    consumer_pid,
                    offer: Offer::parse(&offer)?,
                    opening: RequestOpening::Counters(provider_pid),
                })
            }
            Self::Offer { ids, offer } => {
                let (message_id, provider_pid, consumer_pid) = ids.restore()?;
                Message::Offer(ContractOffer {
                    message_id,
                    provider_pid,
                    offer: Offer::parse(&offer)?,
                    opening: OfferOpening::Counters(consumer_pid),
                })
            }
            Self::Agreement { ids, agreement, assigner_signature } => {
                let (message_id, provider_pid, consumer_pid) = ids.restore()?;
                let agreement = Agreement::parse(&agreement)?;
                Message::Agreement(AgreementMessage {
                    message_id,
                    provider_pid,
                    consumer_pid,
                    agreement,
                    assigner_signature,
                })
            }
            Self::Verification { ids, assignee_signature } => {
                let (message_id, provider_pid, consumer_pid) = ids.restore()?;
                Message::Verification(Verification {
                    message_id,
                    provider_pid,
                    consumer_pid,
                    assignee_signature,
                })
            }
            Self::Accepted { ids } => event(&ids, EventKind::Accepted)?,
            Self::Finalized { ids } => event(&ids, EventKind::Finalized)?,
            Self::Termination { ids, cause } => {
                let (message_id, provider_pid, consumer_pid) = ids.restore()?;
                Message::Termination(Termination {
                    message_id,
                    provider_pid,
                    consumer_pid,
                    cause: cause.restore()?,
                })
            }
        })
    }
}
