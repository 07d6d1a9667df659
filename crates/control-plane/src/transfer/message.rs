//! The five messages of a transfer process as domain values (DSP 2025-1, 1.4).

use std::collections::BTreeMap;

use policy::refusal::Refusal;

use crate::cause::Cause;
use crate::digest::Digest;
use crate::ids::{AgreementId, CallbackAddress, ConsumerPid, MessageId, ProviderPid, printable};
use crate::pids::Role;

policy::refusal_codes! {
    MALFORMED_DATA_ADDRESS = "message/malformed-data-address", Input,
        "a data address has a type, and at most 32 properties of at most 4 KiB in all",
        "資料位址須有類型，屬性最多 32 個，合計不超過 4 KiB",
        "数据地址须有类型，属性最多 32 个，合计不超过 4 KiB",
        clause "DSP 2025-1, 1.4", next "send the endpoint and its credentials, nothing else";
}

/// The format of our own pull: chunks over gRPC, with mutual TLS.
pub const GRPC_PULL: &str = "fairlead-grpc-pull";
/// Properties of a data address: an endpoint needs a handful.
pub const MAX_DATA_ADDRESS_PROPERTIES: usize = 32;
/// All texts of a data address together: room for a token, not for data.
pub const MAX_DATA_ADDRESS_BYTES: usize = 4 * 1024;

/// A message of a transfer process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// TransferRequestMessage: the consumer asks.
    Request(TransferRequest),
    /// TransferStartMessage: the provider starts, or the suspending side resumes.
    Start(TransferStart),
    /// TransferCompletionMessage.
    Completion(TransferCompletion),
    /// TransferSuspensionMessage.
    Suspension(TransferSuspension),
    /// TransferTerminationMessage.
    Termination(TransferTermination),
}

/// The consumer asks for the agreement's dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
    /// Under which agreement.
    pub agreement_id: AgreementId,
    /// One of the distribution's formats.
    pub format: String,
    /// Where the provider may call back.
    pub callback: CallbackAddress,
    /// Where the data is to be sent, if the format is one in which the provider sends.
    pub data_address: Option<DataAddress>,
}

/// Bytes may flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferStart {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The provider's name of the process.
    pub provider_pid: ProviderPid,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
    /// Where to pull from; a consumer that resumes sends none.
    pub data_address: Option<DataAddress>,
}

/// All bytes have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferCompletion {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The provider's name of the process.
    pub provider_pid: ProviderPid,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
}

/// Bytes must stop for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferSuspension {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The provider's name of the process.
    pub provider_pid: ProviderPid,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
    /// Why.
    pub cause: Cause,
}

/// Bytes must stop for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferTermination {
    /// Stable across retries.
    pub message_id: MessageId,
    /// The provider's name of the process.
    pub provider_pid: ProviderPid,
    /// The consumer's name of the process.
    pub consumer_pid: ConsumerPid,
    /// Why.
    pub cause: Cause,
}

/// Where data is to be had (DSP DataAddress).
#[derive(Clone, PartialEq, Eq)]
pub struct DataAddress {
    endpoint_type: String,
    endpoint: String,
    properties: BTreeMap<String, String>,
}

impl DataAddress {
    /// Accepts a non-empty type, an endpoint that may be empty, and named properties, all bounded.
    ///
    /// # Errors
    /// [`MALFORMED_DATA_ADDRESS`].
    pub fn new(
        endpoint_type: &str,
        endpoint: &str,
        properties: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Refusal> {
        let refuse = |why: &str| Refusal::new(&MALFORMED_DATA_ADDRESS, why);
        let properties: BTreeMap<String, String> =
            properties.into_iter().take(MAX_DATA_ADDRESS_PROPERTIES + 1).collect();
        if endpoint_type.is_empty() {
            return Err(refuse("the type is empty"));
        }
        if properties.len() > MAX_DATA_ADDRESS_PROPERTIES {
            return Err(refuse("too many properties"));
        }
        let bytes: usize = properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes + endpoint_type.len() + endpoint.len() > MAX_DATA_ADDRESS_BYTES {
            return Err(refuse("too long"));
        }
        Ok(Self { endpoint_type: endpoint_type.to_owned(), endpoint: endpoint.to_owned(), properties })
    }

    /// What kind of endpoint, e.g. [`GRPC_PULL`].
    pub fn endpoint_type(&self) -> &str {
        &self.endpoint_type
    }

    /// The endpoint; empty where the connection in use is the endpoint.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Named properties; may hold credentials.
    pub fn properties(&self) -> &BTreeMap<String, String> {
        &self.properties
    }

    fn fields(&self) -> impl Iterator<Item = &str> {
        let properties = self.properties.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        [self.endpoint_type.as_str(), self.endpoint.as_str()].into_iter().chain(properties)
    }
}

/// Values of properties and the query of the endpoint stay out of logs: they may be credentials.
impl std::fmt::Debug for DataAddress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.properties.keys().collect();
        out.debug_struct("DataAddress")
            .field("endpoint_type", &printable(&self.endpoint_type))
            .field("endpoint", &printable(self.endpoint.split('?').next().unwrap_or_default()))
            .field("properties", &names)
            .finish()
    }
}

/// Which message, for tables, histories and routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// TransferRequestMessage.
    Request,
    /// TransferStartMessage.
    Start,
    /// TransferSuspensionMessage.
    Suspension,
    /// TransferCompletionMessage.
    Completion,
    /// TransferTerminationMessage.
    Termination,
}

impl MessageKind {
    /// Every kind, in the order of the protocol.
    pub const ALL: [Self; 5] =
        [Self::Request, Self::Start, Self::Suspension, Self::Completion, Self::Termination];

    /// `request`, `start`, `suspension`, `completion` or `termination`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Start => "start",
            Self::Suspension => "suspension",
            Self::Completion => "completion",
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
            Self::Start(message) => &message.message_id,
            Self::Completion(message) => &message.message_id,
            Self::Suspension(message) => &message.message_id,
            Self::Termination(message) => &message.message_id,
        }
    }

    /// Which message it is.
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::Request(_) => MessageKind::Request,
            Self::Start(_) => MessageKind::Start,
            Self::Completion(_) => MessageKind::Completion,
            Self::Suspension(_) => MessageKind::Suspension,
            Self::Termination(_) => MessageKind::Termination,
        }
    }

    /// The only side that may send it; `None` where both may.
    pub fn sender(&self) -> Option<Role> {
        match self {
            Self::Request(_) => Some(Role::Consumer),
            Self::Start(_) | Self::Completion(_) | Self::Suspension(_) | Self::Termination(_) => None,
        }
    }

    /// The provider's name of the process; only a request lacks it.
    pub fn provider_pid(&self) -> Option<&ProviderPid> {
        match self {
            Self::Request(_) => None,
            Self::Start(message) => Some(&message.provider_pid),
            Self::Completion(message) => Some(&message.provider_pid),
            Self::Suspension(message) => Some(&message.provider_pid),
            Self::Termination(message) => Some(&message.provider_pid),
        }
    }

    /// The consumer's name of the process.
    pub fn consumer_pid(&self) -> &ConsumerPid {
        match self {
            Self::Request(message) => &message.consumer_pid,
            Self::Start(message) => &message.consumer_pid,
            Self::Completion(message) => &message.consumer_pid,
            Self::Suspension(message) => &message.consumer_pid,
            Self::Termination(message) => &message.consumer_pid,
        }
    }

    /// SHA-256 over everything but the message's id, independent of the binding: what deduplication compares.
    pub fn body_digest(&self) -> Digest {
        let mut fields = vec![
            self.kind().as_str(),
            self.provider_pid().map_or("", ProviderPid::as_str),
            self.consumer_pid().as_str(),
        ];
        match self {
            Self::Request(message) => {
                fields.extend([message.agreement_id.as_str(), &message.format, message.callback.as_str()]);
                fields.extend(message.data_address.iter().flat_map(DataAddress::fields));
            }
            Self::Start(message) => {
                fields.extend(message.data_address.iter().flat_map(DataAddress::fields));
            }
            Self::Completion(_) => {}
            Self::Suspension(TransferSuspension { cause, .. })
            | Self::Termination(TransferTermination { cause, .. }) => {
                fields.push(cause.code());
                fields.extend(cause.reasons().iter().map(String::as_str));
            }
        }
        Digest::of_fields(&fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_addresses_are_bounded_and_keep_secrets() {
        let property = |n: usize| (format!("p{n}"), "secret".to_owned());
        let address = DataAddress::new(GRPC_PULL, "https://a.example/?secret", [property(1)]).unwrap();
        assert!(!format!("{address:?}").contains("secret"));
        let many = (0..=MAX_DATA_ADDRESS_PROPERTIES).map(property);
        for bad in [
            DataAddress::new("", "", []),
            DataAddress::new(GRPC_PULL, "", many),
            DataAddress::new(GRPC_PULL, &"x".repeat(MAX_DATA_ADDRESS_BYTES), []),
        ] {
            assert_eq!(bad.unwrap_err().code, &MALFORMED_DATA_ADDRESS);
        }
    }
}
