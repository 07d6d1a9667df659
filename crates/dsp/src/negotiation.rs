//! Negotiation messages: JSON to domain and back, and the path that each is posted to.

use control_plane::Refusal;
use control_plane::cause::Cause;
use control_plane::ids::{CallbackAddress, ConsumerPid, ProviderPid};
use control_plane::negotiation::{
    AgreementMessage, ContractOffer, ContractRequest, Event, EventKind, Message, OfferOpening,
    RequestOpening, StateName, Termination, Verification,
};
use control_plane::pids::Role;
use serde_json::{Value, json};

use crate::json::{Object, head, malformed, message, message_id, optional, reasons, text, with};
use crate::policy::{self, SIGNATURE};
use crate::{Canonical, Speaking};

/// Which message a path takes (DSP 2025-1, HTTPS binding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `request`.
    Request,
    /// `offers`.
    Offer,
    /// `agreement`.
    Agreement,
    /// `agreement/verification`.
    Verification,
    /// `events`.
    Event,
    /// `termination`.
    Termination,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Request, Self::Offer, Self::Agreement, Self::Verification, Self::Event, Self::Termination];

    /// The last part of the path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Offer => "offers",
            Self::Agreement => "agreement",
            Self::Verification => "agreement/verification",
            Self::Event => "events",
            Self::Termination => "termination",
        }
    }

    const fn type_name(self) -> &'static str {
        match self {
            Self::Request => "ContractRequestMessage",
            Self::Offer => "ContractOfferMessage",
            Self::Agreement => "ContractAgreementMessage",
            Self::Verification => "ContractAgreementVerificationMessage",
            Self::Event => "ContractNegotiationEventMessage",
            Self::Termination => "ContractNegotiationTerminationMessage",
        }
    }
}

/// Reads what was posted to a path of `kind`.
///
/// # Errors
/// [`crate::MALFORMED`] naming the member, the codes of [`crate::policy`], or an identifier's refusal.
pub fn read(
    kind: Kind,
    value: &Value,
    speaking: Speaking<'_>,
    canonical: &dyn Canonical,
) -> Result<Message, Refusal> {
    let members = message(value, kind.type_name())?;
    let message_id = message_id(value)?;
    Ok(match kind {
        Kind::Request => Message::Request(ContractRequest {
            message_id,
            consumer_pid: consumer_pid(members)?,
            offer: policy::read_offer(member(members, "offer")?, speaking, canonical)?,
            opening: match opening(members, "providerPid")? {
                Opening::At(callback) => RequestOpening::Opens(callback),
                Opening::Of(pid) => RequestOpening::Counters(ProviderPid::parse(pid)?),
            },
        }),
        Kind::Offer => Message::Offer(ContractOffer {
            message_id,
            provider_pid: provider_pid(members)?,
            offer: policy::read_offer(member(members, "offer")?, speaking, canonical)?,
            opening: match opening(members, "consumerPid")? {
                Opening::At(callback) => OfferOpening::Opens(callback),
                Opening::Of(pid) => OfferOpening::Counters(ConsumerPid::parse(pid)?),
            },
        }),
        Kind::Agreement => Message::Agreement(AgreementMessage {
            message_id,
            provider_pid: provider_pid(members)?,
            consumer_pid: consumer_pid(members)?,
            agreement: policy::read_agreement(member(members, "agreement")?, speaking, canonical)?,
            assigner_signature: signature(members, speaking)?,
        }),
        Kind::Verification => Message::Verification(Verification {
            message_id,
            provider_pid: provider_pid(members)?,
            consumer_pid: consumer_pid(members)?,
            assignee_signature: signature(members, speaking)?,
        }),
        Kind::Event => Message::Event(Event {
            message_id,
            provider_pid: provider_pid(members)?,
            consumer_pid: consumer_pid(members)?,
            kind: match text(members, "eventType")? {
                "ACCEPTED" => EventKind::Accepted,
                "FINALIZED" => EventKind::Finalized,
                _ => return Err(malformed("`eventType` is neither ACCEPTED nor FINALIZED")),
            },
        }),
        Kind::Termination => {
            let why = reasons(members);
            Message::Termination(Termination {
                message_id,
                provider_pid: provider_pid(members)?,
                consumer_pid: consumer_pid(members)?,
                cause: Cause::new(
                    optional(members, "code")?.unwrap_or_default(),
                    why.iter().map(String::as_str),
                ),
            })
        }
    })
}

/// A message and where it goes, below the peer's address.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    /// Relative path.
    pub path: String,
    /// Body.
    pub body: Value,
}

/// Writes `message` of ours; `speaking.role` is our role.
///
/// # Errors
/// [`policy::NOT_CARRIED`].
pub fn write(message: &Message, speaking: Speaking<'_>) -> Result<Post, Refusal> {
    let (kind, mut body) = match message {
        Message::Request(request) => {
            let mut body = head(Kind::Request.type_name());
            body.insert("offer".to_owned(), policy::write_offer(&request.offer, speaking)?);
            (
                Kind::Request,
                match &request.opening {
                    RequestOpening::Opens(callback) => with(body, [("callbackAddress", callback.as_str())]),
                    RequestOpening::Counters(_) => body,
                },
            )
        }
        Message::Offer(offer) => {
            let mut body = head(Kind::Offer.type_name());
            body.insert("offer".to_owned(), policy::write_offer(&offer.offer, speaking)?);
            (
                Kind::Offer,
                match &offer.opening {
                    OfferOpening::Opens(callback) => with(body, [("callbackAddress", callback.as_str())]),
                    OfferOpening::Counters(_) => body,
                },
            )
        }
        Message::Agreement(message) => {
            let mut body = head(Kind::Agreement.type_name());
            body.insert("agreement".to_owned(), policy::write_agreement(&message.agreement, speaking)?);
            (Kind::Agreement, signed(body, message.assigner_signature.as_deref(), speaking))
        }
        Message::Verification(message) => {
            let body = head(Kind::Verification.type_name());
            (Kind::Verification, signed(body, message.assignee_signature.as_deref(), speaking))
        }
        Message::Event(event) => {
            let name = match event.kind {
                EventKind::Accepted => "ACCEPTED",
                EventKind::Finalized => "FINALIZED",
            };
            (Kind::Event, with(head(Kind::Event.type_name()), [("eventType", name)]))
        }
        Message::Termination(message) => {
            (Kind::Termination, caused(head(Kind::Termination.type_name()), &message.cause))
        }
    };
    let (provider, consumer) =
        (message.provider_pid().map(ProviderPid::as_str), message.consumer_pid().map(ConsumerPid::as_str));
    body = with(body, [("@id", message.id().as_str())]);
    body = with(body, provider.map(|pid| ("providerPid", pid)));
    body = with(body, consumer.map(|pid| ("consumerPid", pid)));
    let theirs = match speaking.role {
        Role::Provider => consumer,
        Role::Consumer => provider,
    };
    let path = match theirs {
        Some(pid) => format!("negotiations/{}/{}", segment(pid), kind.path()),
        None => format!("negotiations/{}", kind.path()),
    };
    Ok(Post { path, body: Value::Object(body) })
}

/// What a look at a process, and every accepted opening, is answered.
pub fn write_process(provider_pid: &str, consumer_pid: &str, state: StateName) -> Value {
    let pids = [("providerPid", provider_pid), ("consumerPid", consumer_pid), ("state", state.as_str())];
    Value::Object(with(head("ContractNegotiation"), pids))
}

/// The two names in a peer's answer to an opening; answers to other messages have an unspecified body.
pub fn read_pids(value: &Value) -> Option<(&str, &str)> {
    let object = value.as_object()?;
    Some((text(object, "providerPid").ok()?, text(object, "consumerPid").ok()?))
}

enum Opening<'a> {
    At(CallbackAddress),
    Of(&'a str),
}

/// The exactly-one of an opening message and a counter-offer.
fn opening<'a>(members: &'a Object, pid: &str) -> Result<Opening<'a>, Refusal> {
    match (optional(members, "callbackAddress")?, optional(members, pid)?) {
        (Some(callback), None) => Ok(Opening::At(CallbackAddress::parse(callback)?)),
        (None, Some(pid)) => Ok(Opening::Of(pid)),
        (Some(_), Some(_)) | (None, None) => {
            Err(malformed(format!("exactly one of `callbackAddress` and `{pid}` is needed")))
        }
    }
}

fn member<'a>(members: &'a Object, name: &str) -> Result<&'a Value, Refusal> {
    members.get(name).ok_or_else(|| malformed(format!("`{name}` is missing")))
}

pub(crate) fn provider_pid(members: &Object) -> Result<ProviderPid, Refusal> {
    ProviderPid::parse(text(members, "providerPid")?)
}

pub(crate) fn consumer_pid(members: &Object) -> Result<ConsumerPid, Refusal> {
    ConsumerPid::parse(text(members, "consumerPid")?)
}

fn signature(members: &Object, speaking: Speaking<'_>) -> Result<Option<String>, Refusal> {
    if !speaking.names.profile {
        return Ok(None);
    }
    Ok(optional(members, SIGNATURE)?.map(str::to_owned))
}

fn signed(body: Object, jws: Option<&str>, speaking: Speaking<'_>) -> Object {
    with(body, jws.filter(|_| speaking.names.profile).map(|jws| (SIGNATURE, jws)))
}

pub(crate) fn caused(mut body: Object, cause: &Cause) -> Object {
    if !cause.code().is_empty() {
        body = with(body, [("code", cause.code())]);
    }
    if !cause.reasons().is_empty() {
        body.insert("reason".to_owned(), json!(cause.reasons()));
    }
    body
}

/// A pid as one part of a path.
pub(crate) fn segment(pid: &str) -> String {
    let mut out = String::with_capacity(pid.len());
    for byte in pid.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
