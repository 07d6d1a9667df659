//! Transfer messages: wire to domain and back, each refusal naming the field.

use control_plane::Refusal;
use control_plane::cause::Cause;
use control_plane::ids::{AgreementId, CallbackAddress, ConsumerPid, MessageId, ProviderPid};
use control_plane::transfer::{
    DataAddress, Message, StateName, TransferCompletion, TransferRequest, TransferStart, TransferSuspension,
    TransferTermination,
};

use crate::dsp;
use crate::fields::in_field;

impl TryFrom<dsp::TransferRequestMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::TransferRequestMessage) -> Result<Self, Refusal> {
        Ok(Self::Request(TransferRequest {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
            agreement_id: in_field("agreement_id", AgreementId::parse(&wire.agreement_id))?,
            format: wire.format,
            callback: in_field("callback_address", CallbackAddress::parse(&wire.callback_address))?,
            data_address: wire.data_address.map(read_address).transpose()?,
        }))
    }
}

impl TryFrom<dsp::TransferStartMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::TransferStartMessage) -> Result<Self, Refusal> {
        Ok(Self::Start(TransferStart {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            provider_pid: in_field("provider_pid", ProviderPid::parse(&wire.provider_pid))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
            data_address: wire.data_address.map(read_address).transpose()?,
        }))
    }
}

fn read_address(wire: dsp::DataAddress) -> Result<DataAddress, Refusal> {
    let address = DataAddress::new(&wire.endpoint_type, &wire.endpoint, wire.endpoint_properties);
    in_field("data_address", address)
}

fn write_address(address: &DataAddress) -> dsp::DataAddress {
    dsp::DataAddress {
        endpoint_type: address.endpoint_type().to_owned(),
        endpoint: address.endpoint().to_owned(),
        endpoint_properties: address.properties().clone().into_iter().collect(),
    }
}

impl TryFrom<dsp::TransferCompletionMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::TransferCompletionMessage) -> Result<Self, Refusal> {
        Ok(Self::Completion(TransferCompletion {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            provider_pid: in_field("provider_pid", ProviderPid::parse(&wire.provider_pid))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
        }))
    }
}

impl TryFrom<dsp::TransferSuspensionMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::TransferSuspensionMessage) -> Result<Self, Refusal> {
        Ok(Self::Suspension(TransferSuspension {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            provider_pid: in_field("provider_pid", ProviderPid::parse(&wire.provider_pid))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
            cause: Cause::new(&wire.code, wire.reason.iter().map(String::as_str)),
        }))
    }
}

impl TryFrom<dsp::TransferTerminationMessage> for Message {
    type Error = Refusal;

    fn try_from(wire: dsp::TransferTerminationMessage) -> Result<Self, Refusal> {
        Ok(Self::Termination(TransferTermination {
            message_id: in_field("message_id", MessageId::parse(&wire.message_id))?,
            provider_pid: in_field("provider_pid", ProviderPid::parse(&wire.provider_pid))?,
            consumer_pid: in_field("consumer_pid", ConsumerPid::parse(&wire.consumer_pid))?,
            cause: Cause::new(&wire.code, wire.reason.iter().map(String::as_str)),
        }))
    }
}

/// A message as the call that carries it; requests go to the provider's service, the others to the receiver's.
#[derive(Clone, Debug, PartialEq)]
pub enum TransferCall {
    /// `TransferProviderService.RequestTransfer`.
    Request(dsp::TransferRequestMessage),
    /// `Start` of the receiving role.
    Start(dsp::TransferStartMessage),
    /// `Complete` of the receiving role.
    Complete(dsp::TransferCompletionMessage),
    /// `Suspend` of the receiving role.
    Suspend(dsp::TransferSuspensionMessage),
    /// `Terminate` of the receiving role.
    Terminate(dsp::TransferTerminationMessage),
}

impl From<&Message> for TransferCall {
    fn from(message: &Message) -> Self {
        match message {
            Message::Request(request) => Self::Request(dsp::TransferRequestMessage {
                message_id: request.message_id.to_string(),
                consumer_pid: request.consumer_pid.to_string(),
                agreement_id: request.agreement_id.to_string(),
                format: request.format.clone(),
                callback_address: request.callback.to_string(),
                data_address: request.data_address.as_ref().map(write_address),
            }),
            Message::Start(start) => Self::Start(dsp::TransferStartMessage {
                message_id: start.message_id.to_string(),
                provider_pid: start.provider_pid.to_string(),
                consumer_pid: start.consumer_pid.to_string(),
                data_address: start.data_address.as_ref().map(write_address),
            }),
            Message::Completion(completion) => Self::Complete(dsp::TransferCompletionMessage {
                message_id: completion.message_id.to_string(),
                provider_pid: completion.provider_pid.to_string(),
                consumer_pid: completion.consumer_pid.to_string(),
            }),
            Message::Suspension(suspension) => Self::Suspend(dsp::TransferSuspensionMessage {
                message_id: suspension.message_id.to_string(),
                provider_pid: suspension.provider_pid.to_string(),
                consumer_pid: suspension.consumer_pid.to_string(),
                code: suspension.cause.code().to_owned(),
                reason: suspension.cause.reasons().to_vec(),
            }),
            Message::Termination(termination) => Self::Terminate(dsp::TransferTerminationMessage {
                message_id: termination.message_id.to_string(),
                provider_pid: termination.provider_pid.to_string(),
                consumer_pid: termination.consumer_pid.to_string(),
                code: termination.cause.code().to_owned(),
                reason: termination.cause.reasons().to_vec(),
            }),
        }
    }
}

/// A state on the wire.
pub const fn wire_state(state: StateName) -> dsp::TransferState {
    match state {
        StateName::Requested => dsp::TransferState::Requested,
        StateName::Started => dsp::TransferState::Started,
        StateName::Suspended => dsp::TransferState::Suspended,
        StateName::Completed => dsp::TransferState::Completed,
        StateName::Terminated => dsp::TransferState::Terminated,
    }
}
