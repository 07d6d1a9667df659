//! The six messages of a contract negotiation as domain values (DSP 2025-1, 1.4).

use crate::agreement::Agreement;
use crate::cause::Cause;
use crate::digest::Digest;
use crate::ids::{CallbackAddress, ConsumerPid, MessageId, ProviderPid};
use crate::pids::Role;
use crate::terms::Offer;

/// A message of a negotiation. Which side may send it is part of its meaning, see [`Message::sender`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// ContractRequestMessage.
    Request(ContractRequest),
    /// ContractOfferMessage.
    Offer(ContractOffer),
    /// ContractAgreementMessage.
    Agreement(AgreementMessage),
    /// ContractAgreementVerificationMessage.
    Verification(Verification),
    /// ContractNegotiationEventMessage.
    Event(Event),
    /// ContractNegotiationTerminationMessage.
    Termination(Termination),
}

/// The consumer asks for an agreement on these terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractRequest {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
    /// The terms asked for, whole.
    pub offer: Offer,
    /// Whether it opens the process or counters an offer.
    pub opening: RequestOpening,
}

/// The exactly-one of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOpening {
    /// Opens a process; where the provider may call back.
    Opens(CallbackAddress),
    /// Counters the offer of this process.
    Counters(ProviderPid),
}

/// The provider offers these terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractOffer {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The provider's name of the process.
    pub provider_pid: ProviderPid,
    /// The terms offered, whole.
    pub offer: Offer,
    /// Whether it opens the process or counters a request.
    pub opening: OfferOpening,
}

/// The exactly-one of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferOpening {
    /// Opens a process; where the consumer may call back.
    Opens(CallbackAddress),
    /// Counters the request of this process.
    Counters(ConsumerPid),
}

/// The provider concludes: the agreement and the assigner's signature. The annex digest stands in the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementMessage {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The provider's name of the process.
    pub provider_pid: ProviderPid,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
    /// The agreement.
    pub agreement: Agreement,
    /// Compact JWS as it travels, if the provider signs; verified before [`super::Negotiation::receive`] sees it.
    pub assigner_signature: Option<String>,
}

/// The consumer countersigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The provider's name of the process.
    pub provider_pid: ProviderPid,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
    /// Compact JWS as it travels, if the consumer signs; verified before [`super::Negotiation::receive`] sees it.
    pub assignee_signature: Option<String>,
}

/// The consumer accepts, or the provider finalises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The provider's name of the process.
    pub provider_pid: ProviderPid,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
    /// Which event; it says who may send it.
    pub kind: EventKind,
}

/// DSP `eventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The consumer accepts the provider's offer.
    Accepted,
    /// The provider makes the agreement final.
    Finalized,
}

/// Either side ends the process without agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The provider's name of the process.
    pub provider_pid: ProviderPid,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
    /// Why.
    pub cause: Cause,
}

/// Which message, for tables, histories and routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// ContractRequestMessage.
    Request,
    /// ContractOfferMessage.
    Offer,
    /// Event ACCEPTED.
    Accepted,
    /// ContractAgreementMessage.
    Agreement,
    /// ContractAgreementVerificationMessage.
    Verification,
    /// Event FINALIZED.
    Finalized,
    /// ContractNegotiationTerminationMessage.
    Termination,
}

impl MessageKind {
    /// Every kind, in the order of the protocol.
    pub const ALL: [Self; 7] = [
        Self::Request,
        Self::Offer,
        Self::Accepted,
        Self::Agreement,
        Self::Verification,
        Self::Finalized,
        Self::Termination,
    ];

    /// `request`, `offer`, `accepted`, `agreement`, `verification`, `finalized` or `termination`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Offer => "offer",
            Self::Accepted => "accepted",
            Self::Agreement => "agreement",
            Self::Verification => "verification",
            Self::Finalized => "finalized",
            Self::Termination => "termination",
        }
    }

    /// Reads what [`MessageKind::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Message {
    /// The message's own name.
    pub fn id(&self) -> &MessageId {
        match self {
            Self::Request(message) => &message.message_id,
            Self::Offer(message) => &message.message_id,
            Self::Agreement(message) => &message.message_id,
            Self::Verification(message) => &message.message_id,
            Self::Event(message) => &message.message_id,
            Self::Termination(message) => &message.message_id,
        }
    }

    /// Which message it is.
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::Request(_) => MessageKind::Request,
            Self::Offer(_) => MessageKind::Offer,
            Self::Agreement(_) => MessageKind::Agreement,
            Self::Verification(_) => MessageKind::Verification,
            Self::Event(event) => match event.kind {
                EventKind::Accepted => MessageKind::Accepted,
                EventKind::Finalized => MessageKind::Finalized,
            },
            Self::Termination(_) => MessageKind::Termination,
        }
    }

    /// The only side that may send it; `None` where both may.
    pub fn sender(&self) -> Option<Role> {
        match self.kind() {
            MessageKind::Request | MessageKind::Accepted | MessageKind::Verification => Some(Role::Consumer),
            MessageKind::Offer | MessageKind::Agreement | MessageKind::Finalized => Some(Role::Provider),
            MessageKind::Termination => None,
        }
    }

    /// The provider's name of the process, where the message carries it.
    pub fn provider_pid(&self) -> Option<&ProviderPid> {
        match self {
            Self::Request(message) => match &message.opening {
                RequestOpening::Opens(_) => None,
                RequestOpening::Counters(pid) => Some(pid),
            },
            Self::Offer(message) => Some(&message.provider_pid),
            Self::Agreement(message) => Some(&message.provider_pid),
            Self::Verification(message) => Some(&message.provider_pid),
            Self::Event(message) => Some(&message.provider_pid),
            Self::Termination(message) => Some(&message.provider_pid),
        }
    }

    /// The consumer's name of the process, where the message carries it.
    pub fn consumer_pid(&self) -> Option<&ConsumerPid> {
        match self {
            Self::Request(message) => Some(&message.consumer_pid),
            Self::Offer(message) => match &message.opening {
                OfferOpening::Opens(_) => None,
                OfferOpening::Counters(pid) => Some(pid),
            },
            Self::Agreement(message) => Some(&message.consumer_pid),
            Self::Verification(message) => Some(&message.consumer_pid),
            Self::Event(message) => Some(&message.consumer_pid),
            Self::Termination(message) => Some(&message.consumer_pid),
        }
    }

    /// Whether it opens a process: it then carries only its sender's name of it.
    pub fn opens(&self) -> bool {
        self.provider_pid().is_none() || self.consumer_pid().is_none()
    }

    /// SHA-256 over everything but the message's id, independent of the binding: what deduplication compares.
    pub fn body_digest(&self) -> Digest {
        let mut fields = vec![
            self.kind().as_str(),
            self.provider_pid().map_or("", ProviderPid::as_str),
            self.consumer_pid().map_or("", ConsumerPid::as_str),
        ];
        match self {
            Self::Request(message) => {
                fields.push(message.offer.text());
                if let RequestOpening::Opens(callback) = &message.opening {
                    fields.push(callback.as_str());
                }
            }
            Self::Offer(message) => {
                fields.push(message.offer.text());
                if let OfferOpening::Opens(callback) = &message.opening {
                    fields.push(callback.as_str());
                }
            }
            Self::Agreement(message) => {
                fields.push(message.agreement.text());
                fields.push(message.assigner_signature.as_deref().unwrap_or_default());
            }
            Self::Verification(message) => {
                fields.push(message.assignee_signature.as_deref().unwrap_or_default())
            }
            Self::Event(_) => {}
            Self::Termination(message) => {
                fields.push(message.cause.code());
                fields.extend(message.cause.reasons().iter().map(String::as_str));
            }
        }
        Digest::of_fields(&fields)
    }
}
