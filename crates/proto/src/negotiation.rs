//! Negotiation messages: wire to domain and back, each refusal naming the field.

use control_plane::Refusal;
use control_plane::agreement::Agreement;
use control_plane::cause::Cause;
use control_plane::ids::{CallbackAddress, ConsumerPid, MessageId, ProviderPid};
use control_plane::negotiation::{
    AgreementMessage, ContractOffer, ContractRequest, Event, EventKind, Message, OfferOpening,
    RequestOpening, StateName, Termination, Verification,
};
use control_plane::terms::Offer;

use crate::dsp;
use crate::fields::{in_field, required};

impl TryFrom<dsp::ContractRequestMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::ContractRequestMessage) -> Result<Self, Refusal> {
        use dsp::contract_request_message::Opening;
        Ok(Self::Request(ContractRequest {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
            offer: offer(required("offer", wire.offer)?)?,
            opening: match required("opening", wire.opening)? {
                Opening::CallbackAddress(text) => {
                    RequestOpening::Opens(in_field("callback_address", CallbackAddress::parse(&text))?)
                }
                Opening::ProviderPid(text) => {
                    RequestOpening::Counters(in_field("provider_pid", ProviderPid::parse(&text))?)
                }
            },
        }))
    }
}

impl TryFrom<dsp::ContractOfferMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::ContractOfferMessage) -> Result<Self, Refusal> {
        use dsp::contract_offer_message::Opening;
        Ok(Self::Offer(ContractOffer {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            provider_pid: in_field("provider_pid", ProviderPid::parse(&wire.provider_pid))?,
            offer: offer(required("offer", wire.offer)?)?,
            opening: match required("opening", wire.opening)? {
                Opening::CallbackAddress(text) => {
                    OfferOpening::Opens(in_field("callback_address", CallbackAddress::parse(&text))?)
                }
                Opening::ConsumerPid(text) => {
                    OfferOpening::Counters(in_field("consumer_pid", ConsumerPid::parse(&text))?)
                }
            },
        }))
    }
}

impl TryFrom<dsp::ContractAgreementMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::ContractAgreementMessage) -> Result<Self, Refusal> {
        let agreement = in_field("agreement", Agreement::parse(&wire.agreement))?;
        agreement.require_copies(
            &wire.agreement_id,
            &wire.target,
            &wire.assigner,
            &wire.assignee,
            &wire.timestamp,
        )?;
        Ok(Self::Agreement(AgreementMessage {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            provider_pid: in_field("provider_pid", ProviderPid::parse(&wire.provider_pid))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
            agreement,
            assigner_signature: carried(wire.assigner_signature),
        }))
    }
}

impl TryFrom<dsp::ContractAgreementVerificationMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::ContractAgreementVerificationMessage) -> Result<Self, Refusal> {
        Ok(Self::Verification(Verification {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            provider_pid: in_field("provider_pid", ProviderPid::parse(&wire.provider_pid))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
            assignee_signature: carried(wire.assignee_signature),
        }))
    }
}

impl TryFrom<dsp::ContractNegotiationEventMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::ContractNegotiationEventMessage) -> Result<Self, Refusal> {
        let kind = match wire.event_type() {
            dsp::EventType::Accepted => Some(EventKind::Accepted),
            dsp::EventType::Finalized => Some(EventKind::Finalized),
            dsp::EventType::Unspecified => None,
        };
        Ok(Self::Event(Event {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            provider_pid: in_field("provider_pid", ProviderPid::parse(&wire.provider_pid))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
            kind: required("event_type", kind)?,
        }))
    }
}

impl TryFrom<dsp::ContractNegotiationTerminationMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::ContractNegotiationTerminationMessage) -> Result<Self, Refusal> {
        Ok(Self::Termination(Termination {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            provider_pid: in_field("provider_pid", ProviderPid::parse(&wire.provider_pid))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
            cause: Cause::new(&wire.code, wire.reason.iter().map(String::as_str)),
        }))
    }
}

/// proto3 writes a text that is not there as an empty one.
fn carried(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn offer(wire: dsp::Offer) -> Result<Offer, Refusal> {
    let offer = in_field("offer.text", Offer::parse(&wire.text))?;
    offer.require_copies(&wire.id, &wire.target)?;
    Ok(offer)
}

fn wire_offer(offer: &Offer) -> Option<dsp::Offer> {
    Some(dsp::Offer {
        text: offer.text().to_owned(),
        id: offer.id().to_string(),
        target: offer.target().to_string(),
    })
}

/// A message as the call that carries it; the receiving role's service follows from the message.
#[derive(Clone, Debug, PartialEq)]
pub enum NegotiationCall {
    /// `NegotiationProviderService.RequestContract`.
    RequestContract(dsp::ContractRequestMessage),
    /// `NegotiationConsumerService.OfferContract`.
    OfferContract(dsp::ContractOfferMessage),
    /// `NegotiationConsumerService.ConcludeAgreement`.
    ConcludeAgreement(dsp::ContractAgreementMessage),
    /// `NegotiationProviderService.VerifyAgreement`.
    VerifyAgreement(dsp::ContractAgreementVerificationMessage),
    /// `NegotiationProviderService.SendEvent`: accepted.
    Accept(dsp::ContractNegotiationEventMessage),
    /// `NegotiationConsumerService.SendEvent`: finalized.
    Finalize(dsp::ContractNegotiationEventMessage),
    /// `Terminate` of the receiving role.
    Terminate(dsp::ContractNegotiationTerminationMessage),
}

impl From<&Message> for NegotiationCall {
    fn from(message: &Message) -> Self {
        match message {
            Message::Request(request) => Self::RequestContract(dsp::ContractRequestMessage {
                message_id: request.message_id.to_string(),
                consumer_pid: request.consumer_pid.to_string(),
                offer: wire_offer(&request.offer),
                opening: Some(match &request.opening {
                    RequestOpening::Opens(callback) => {
                        dsp::contract_request_message::Opening::CallbackAddress(callback.to_string())
                    }
                    RequestOpening::Counters(pid) => {
                        dsp::contract_request_message::Opening::ProviderPid(pid.to_string())
                    }
                }),
            }),
            Message::Offer(offer) => Self::OfferContract(dsp::ContractOfferMessage {
                message_id: offer.message_id.to_string(),
                provider_pid: offer.provider_pid.to_string(),
                offer: wire_offer(&offer.offer),
                opening: Some(match &offer.opening {
                    OfferOpening::Opens(callback) => {
                        dsp::contract_offer_message::Opening::CallbackAddress(callback.to_string())
                    }
                    OfferOpening::Counters(pid) => {
                        dsp::contract_offer_message::Opening::ConsumerPid(pid.to_string())
                    }
                }),
            }),
            Message::Agreement(message) => Self::ConcludeAgreement(dsp::ContractAgreementMessage {
                message_id: message.message_id.to_string(),
                provider_pid: message.provider_pid.to_string(),
                consumer_pid: message.consumer_pid.to_string(),
                agreement: message.agreement.text().to_owned(),
                agreement_id: message.agreement.id().to_string(),
                target: message.agreement.target().to_string(),
                assigner: message.agreement.assigner().to_string(),
                assignee: message.agreement.assignee().to_string(),
                timestamp: message.agreement.timestamp_text().to_owned(),
                assigner_signature: message.assigner_signature.clone().unwrap_or_default(),
            }),
            Message::Verification(message) => {
                Self::VerifyAgreement(dsp::ContractAgreementVerificationMessage {
                    message_id: message.message_id.to_string(),
                    provider_pid: message.provider_pid.to_string(),
                    consumer_pid: message.consumer_pid.to_string(),
                    assignee_signature: message.assignee_signature.clone().unwrap_or_default(),
                })
            }
            Message::Event(event) => {
                let kind = match event.kind {
                    EventKind::Accepted => dsp::EventType::Accepted,
                    EventKind::Finalized => dsp::EventType::Finalized,
                };
                let wire = dsp::ContractNegotiationEventMessage {
                    message_id: event.message_id.to_string(),
                    provider_pid: event.provider_pid.to_string(),
                    consumer_pid: event.consumer_pid.to_string(),
                    event_type: kind.into(),
                };
                match event.kind {
                    EventKind::Accepted => Self::Accept(wire),
                    EventKind::Finalized => Self::Finalize(wire),
                }
            }
            Message::Termination(message) => Self::Terminate(dsp::ContractNegotiationTerminationMessage {
                message_id: message.message_id.to_string(),
                provider_pid: message.provider_pid.to_string(),
                consumer_pid: message.consumer_pid.to_string(),
                code: message.cause.code().to_owned(),
                reason: message.cause.reasons().to_vec(),
            }),
        }
    }
}

/// A state on the wire.
pub const fn wire_state(state: StateName) -> dsp::NegotiationState {
    match state {
        StateName::Requested => dsp::NegotiationState::Requested,
        StateName::Offered => dsp::NegotiationState::Offered,
        StateName::Accepted => dsp::NegotiationState::Accepted,
        StateName::Agreed => dsp::NegotiationState::Agreed,
        StateName::Verified => dsp::NegotiationState::Verified,
        StateName::Finalized => dsp::NegotiationState::Finalized,
        StateName::Terminated => dsp::NegotiationState::Terminated,
    }
}
