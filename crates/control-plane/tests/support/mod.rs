//! What the tests of this crate share: parties, texts, stand-in signatures and a naive comparison of terms.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_plane::agreement::{
    Agreement, Annex, PartySignature, SIGNATURE_TYPE, SignedAgreement, SignedPart, Signing,
};
use control_plane::cause::Cause;
use control_plane::ids::*;
use control_plane::negotiation::{
    Command, Consent, Effect, EventKind, Message, Negotiation, Opening, Received, State, StateName, Step,
};
use control_plane::pids::Role;
use control_plane::status::HeldAgreement;
use control_plane::terms::{Offer, Standing, Terms};
use control_plane::{Refusal, UnixMillis};
use serde_json::{Value, json};

pub const NOW: UnixMillis = UnixMillis(1_795_500_000_000);
pub const DATASET: &str = "https://campus.example/id/hku/dataset/weather";

pub fn provider() -> ParticipantId {
    ParticipantId::parse("https://campus.example/id/hku").unwrap()
}

pub fn consumer() -> ParticipantId {
    ParticipantId::parse("https://campus.example/id/sysu").unwrap()
}

pub fn stranger() -> ParticipantId {
    ParticipantId::parse("https://elsewhere.example/id/x").unwrap()
}

pub fn party(role: Role) -> ParticipantId {
    match role {
        Role::Consumer => consumer(),
        Role::Provider => provider(),
    }
}

pub fn id(text: impl AsRef<str>) -> MessageId {
    MessageId::parse(text.as_ref()).unwrap()
}

pub fn p_pid() -> ProviderPid {
    ProviderPid::parse("urn:uuid:p").unwrap()
}

pub fn c_pid() -> ConsumerPid {
    ConsumerPid::parse("urn:uuid:c").unwrap()
}

pub fn callback() -> CallbackAddress {
    CallbackAddress::parse("grpcs://[2001:db8::1]:7443").unwrap()
}

pub fn cause() -> Cause {
    Cause::new("test/because", ["no reason"])
}

/// An offer of this dataset whose one permission allows `count` uses; 3 is what was published.
pub fn offer(count: u32) -> Offer {
    /// Read once: property tests ask for the same few again and again.
    static READ: LazyLock<Vec<Offer>> =
        LazyLock::new(|| (0..16).map(|count| offer_of("urn:offer:1", DATASET, count)).collect());
    READ.get(count as usize).cloned().unwrap_or_else(|| offer_of("urn:offer:1", DATASET, count))
}

pub fn offer_of(uid: &str, dataset: &str, count: u32) -> Offer {
    let rule = json!({"action": "use", "constraint": [{"leftOperand": "count", "operator": "lteq", "rightOperand": count.to_string()}]});
    let value = json!({"@id": uid, "@type": "Offer", "target": dataset, "permission": [rule]});
    Offer::parse(&serde_jcs::to_string(&value).unwrap()).unwrap()
}

/// The offer's rules as an agreement between the two.
pub fn agreement(offer: &Offer) -> Agreement {
    agreement_between(offer, &provider(), &consumer(), NOW)
}

pub fn agreement_between(
    offer: &Offer,
    from: &ParticipantId,
    to: &ParticipantId,
    at: UnixMillis,
) -> Agreement {
    let mut value: Value = serde_json::from_str(offer.text()).unwrap();
    value["@id"] = json!("urn:agreement:1");
    value["@type"] = json!("Agreement");
    value["assigner"] = json!(from.as_str());
    value["assignee"] = json!(to.as_str());
    value["timestamp"] = json!(at.to_string());
    Agreement::parse(&serde_jcs::to_string(&value).unwrap()).unwrap()
}

/// A JWS in form only: these tests stand where the cryptography was done already.
pub fn jws(payload: &str, typ: &str, kid: &str, annex: Option<&str>) -> String {
    let mut header = json!({"alg": "ES256", "kid": kid, "typ": typ});
    if let Some(annex) = annex {
        header["annex"] = json!(annex);
    }
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", encode(&serde_jcs::to_string(&header).unwrap()), encode(payload), encode("signature"))
}

pub fn sign(agreement: &Agreement, signer: &ParticipantId, annex: &Annex) -> PartySignature {
    let jws = jws(agreement.text(), SIGNATURE_TYPE, signer.as_str(), Some(annex.digest().as_str()));
    PartySignature::verified(&jws, agreement).unwrap()
}

pub fn annex(offer: &Offer) -> Annex {
    Annex::of(offer, &p_pid(), &c_pid())
}

pub fn part(offer: &Offer) -> SignedPart {
    let agreement = agreement(offer);
    let signature = sign(&agreement, &provider(), &annex(offer));
    SignedPart::new(agreement, signature).unwrap()
}

pub fn signed(offer: &Offer) -> SignedAgreement {
    let assignee = sign(&agreement(offer), &consumer(), &annex(offer));
    part(offer).countersigned(assignee).unwrap()
}

pub fn held() -> HeldAgreement {
    HeldAgreement::active(signed(&offer(3)))
}

/// Naive: terms are the permissions; `urn:offer:1` with three uses is what was published.
pub struct Published;

impl Terms for Published {
    fn standing(&self, made: &Offer) -> Standing {
        let published = offer(3);
        if made.id() != published.id() || made.target() != published.target() {
            Standing::Unknown
        } else if rules(made.text()) == rules(published.text()) {
            Standing::Published
        } else {
            Standing::Altered
        }
    }

    fn terms_equal(&self, offer: &Offer, agreement: &Agreement) -> bool {
        rules(offer.text()) == rules(agreement.text())
    }
}

pub fn rules(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["permission"].clone()
}

pub fn sent(step: &Step) -> Message {
    step.effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Send(message) => Some((**message).clone()),
            _ => None,
        })
        .expect("the step sends")
}

/// The checked signature that belongs to a message, as the edge of the connector would hand it over.
pub fn signature_of(process: &Negotiation, message: &Message) -> Option<PartySignature> {
    match message {
        Message::Agreement(m) => {
            PartySignature::verified(m.assigner_signature.as_deref()?, &m.agreement).ok()
        }
        Message::Verification(m) => match process.state() {
            State::Agreed { part, .. } => {
                PartySignature::verified(m.assignee_signature.as_deref()?, part.agreement()).ok()
            }
            _ => None,
        },
        _ => None,
    }
}

pub fn receive(process: &Negotiation, sender: &ParticipantId, message: &Message) -> Result<Step, Refusal> {
    let signature = signature_of(process, message);
    process.receive(
        &Received { sender, message, signature: signature.as_ref(), signing: Signing::Required },
        &Published,
        NOW,
    )
}

pub fn command(process: &Negotiation, command: Command, message: &str) -> Result<Step, Refusal> {
    process.command(command, id(message), &Published, NOW)
}

pub fn opening(role: Role, offer: Offer) -> Opening {
    Opening {
        us: party(role),
        counterparty: party(role.other()),
        offer,
        callback: callback(),
        address: None,
        message_id: id("open"),
        ceiling: None,
    }
}

pub fn accept() -> Command {
    Command::Accept { consent: Consent::AsPublished }
}

pub fn agree(offer: &Offer) -> Command {
    Command::Agree { part: part(offer), consent: Consent::AsPublished }
}

/// Both sides of a negotiation in the same state, reached by the shortest way, with nothing under way.
pub fn pair(state: StateName) -> (Negotiation, Negotiation) {
    let terms = offer(3);
    let opened =
        Negotiation::open_as_consumer(opening(Role::Consumer, terms.clone()), c_pid(), &Published, NOW)
            .unwrap();
    let message = sent(&opened);
    let received =
        Received { sender: &consumer(), message: &message, signature: None, signing: Signing::Required };
    let provider_side =
        Negotiation::opened_by_peer(&received, p_pid().as_str(), &provider(), &Published, NOW).unwrap().next;
    let consumer_side = opened.next.acknowledged(&id("open"), &p_pid(), &c_pid()).unwrap().next;
    let mut pair = (consumer_side, provider_side);
    let way: &[(Role, Command)] = match state {
        StateName::Requested => &[],
        StateName::Offered => &[(Role::Provider, Command::Counter(terms))],
        StateName::Accepted => &[(Role::Provider, Command::Counter(terms)), (Role::Consumer, accept())],
        StateName::Agreed => &[(Role::Provider, agree(&terms))],
        StateName::Verified => &[
            (Role::Provider, agree(&terms)),
            (Role::Consumer, Command::Verify(sign(&agreement(&terms), &consumer(), &annex(&terms)))),
        ],
        StateName::Finalized => &[
            (Role::Provider, agree(&terms)),
            (Role::Consumer, Command::Verify(sign(&agreement(&terms), &consumer(), &annex(&terms)))),
            (Role::Provider, Command::Finalize),
        ],
        StateName::Terminated => &[(Role::Provider, Command::Terminate(cause()))],
    };
    for (number, (role, next)) in way.iter().enumerate() {
        pair = exchange(pair, *role, next.clone(), &format!("way-{number}"));
    }
    assert_eq!(pair.0.state_name(), state);
    assert_eq!(pair.1.state_name(), state);
    pair
}

/// One side commands, the other receives, the first hears the acknowledgement.
pub fn exchange(
    pair: (Negotiation, Negotiation),
    role: Role,
    next: Command,
    name: &str,
) -> (Negotiation, Negotiation) {
    let (actor, other) = match role {
        Role::Consumer => (&pair.0, &pair.1),
        Role::Provider => (&pair.1, &pair.0),
    };
    let step = command(actor, next, name).unwrap();
    let other = receive(other, &party(role), &sent(&step)).unwrap().next;
    let actor = step.next.acknowledged(&id(name), &p_pid(), &c_pid()).unwrap().next;
    match role {
        Role::Consumer => (actor, other),
        Role::Provider => (other, actor),
    }
}

pub fn event(kind: EventKind, message: &str) -> Message {
    Message::Event(control_plane::negotiation::Event {
        message_id: id(message),
        provider_pid: p_pid(),
        consumer_pid: c_pid(),
        kind,
    })
}
