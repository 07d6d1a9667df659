//! Terms that a rule may accept although nobody published them, or only within a ceiling: what the policy engine says.
//!
//! A comparison may take tens of milliseconds, so it comes before the transaction that uses its answer.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use control_plane::Refusal;
use control_plane::digest::Digest;
use control_plane::ids::ParticipantId;
use control_plane::negotiation::{Decision, Message, Negotiation, State, WaitsFor};
use control_plane::terms::{MAX_POLICY_BYTES, Offer, Table};
use policy::Policy;
use policy::accept::{self, Acceptable};
use tokio::sync::Semaphore;

use super::records;
use crate::config::AlteredTerms;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    BEYOND_CEILING = "negotiation/beyond-ceiling", Policy,
        "the offer is not proven to stay within the ceiling that this connector was given",
        "無法證明該要約在此連接器所設的上限之內", "无法证明该要约在此连接器所设的上限之内",
        clause "negotiation: the consumer's ceiling", next "read the terms with `fairlead catalogue show`; to take them nevertheless, give them as --ceiling";
    CEILING_UNUSABLE = "negotiation/ceiling-unusable", Unavailable,
        "the ceiling named by `negotiation.ceiling` cannot be read",
        "無法讀取 `negotiation.ceiling` 所指的上限", "无法读取 `negotiation.ceiling` 所指的上限",
        clause "negotiation: the consumer's ceiling", next "correct the file until `fairlead policy check` understands it";
}

/// Comparisons under way: one core's worth, so that altered offers cannot keep a connector from its other work.
/// Who waits for a turn holds a request, and those are bounded by connection.
static COMPARING: Semaphore = Semaphore::const_new(1);

/// What was said about one offer.
pub struct Compared {
    offer: Digest,
    answer: Result<Acceptable, String>,
}

impl Compared {
    /// The answer, if it is about the offer on this table.
    pub fn about(&self, table: &Table) -> Option<&Result<Acceptable, String>> {
        (self.offer == *table.offer.hash()).then_some(&self.answer)
    }
}

/// The comparison that our rules ask for before `message` may be answered without a person.
pub async fn of_message(
    node: &Arc<Node>,
    peer: &ParticipantId,
    message: &Message,
) -> Result<Option<Compared>, Error> {
    match message {
        Message::Request(request) => with_published(node, peer, &request.offer).await,
        Message::Offer(offer) => {
            let stored = match message.consumer_pid() {
                None => None,
                Some(pid) => {
                    let pid = pid.to_string();
                    match node.store.read(move |store| records::negotiation(store, &pid)).await? {
                        Some(negotiation) => negotiation.ceiling().map(str::to_owned),
                        // It will be refused; nothing is worth comparing.
                        None => return Ok(None),
                    }
                }
            };
            with_ceiling(node, stored, &offer.offer).await
        }
        Message::Agreement(_) | Message::Verification(_) | Message::Event(_) | Message::Termination(_) => {
            Ok(None)
        }
    }
}

/// Why a negotiation that waits for us was not decided by a rule which could have.
pub async fn left_to_people(node: &Arc<Node>, negotiation: &Negotiation) -> Result<Option<String>, Error> {
    let compared = match (negotiation.waits_for(), negotiation.state()) {
        (WaitsFor::Us(Decision::Request { terms_altered: true }), State::Requested(table)) => {
            with_published(node, negotiation.counterparty(), &table.offer).await?
        }
        (WaitsFor::Us(Decision::Offer { .. }), State::Offered(table)) => {
            with_ceiling(node, negotiation.ceiling().map(str::to_owned), &table.offer).await?
        }
        _ => None,
    };
    Ok(compared
        .and_then(|compared| compared.answer.err())
        .map(|reason| format!("not accepted by rule: {reason}")))
}

/// The ceiling of a negotiation that we open: the one given, else that of the settings. In canonical form.
pub fn chosen_ceiling(node: &Node, given: &str) -> Result<Option<String>, Refusal> {
    if given.is_empty() {
        return configured(node);
    }
    let policy = Policy::from_json(given, node.policies.profiles()).map_err(|problems| problems.first())?;
    Ok(Some(policy.canonical_text().to_owned()))
}

/// Refuses an offer that is not proven to lie within `ceiling`.
pub async fn require_within(node: &Arc<Node>, offer: &Offer, ceiling: &str) -> Result<(), Error> {
    match with_ceiling(node, Some(ceiling.to_owned()), offer).await?.map(|compared| compared.answer) {
        Some(Ok(_)) => Ok(()),
        Some(Err(reason)) => Err(Refusal::new(&BEYOND_CEILING, reason).into()),
        None => Err(Refusal::new(&BEYOND_CEILING, "not compared").into()),
    }
}

/// As provider: a request with other terms against the offer that it names, where the rules want that compared.
async fn with_published(
    node: &Arc<Node>,
    consumer: &ParticipantId,
    offer: &Offer,
) -> Result<Option<Compared>, Error> {
    if node.config.load().negotiation.answers(offer.target(), consumer).altered
        != AlteredTerms::AcceptIfStricter
    {
        return Ok(None);
    }
    let offers = node.catalogue.offers(offer.target(), node.now())?;
    let Some((_, published)) = offers.into_iter().find(|(id, _)| id == offer.id().as_str()) else {
        return Ok(None);
    };
    compare(node, offer, published, accept::counter_offer).await.map(Some)
}

/// As consumer: an offer against the ceiling of the negotiation, else of the settings.
async fn with_ceiling(
    node: &Arc<Node>,
    ceiling: Option<String>,
    offer: &Offer,
) -> Result<Option<Compared>, Error> {
    let ceiling = match ceiling {
        Some(ceiling) => Ok(Some(ceiling)),
        None => configured(node),
    };
    match ceiling {
        Ok(None) => Ok(None),
        Ok(Some(ceiling)) => compare(node, offer, ceiling, accept::within_ceiling).await.map(Some),
        // A ceiling that cannot be read permits nothing by rule.
        Err(refusal) => {
            let reason = format!("{}: {}", refusal.code.en, refusal.detail);
            Ok(Some(Compared { offer: offer.hash().clone(), answer: Err(reason) }))
        }
    }
}

async fn compare(
    node: &Arc<Node>,
    offer: &Offer,
    against: String,
    ask: fn(&Policy, &Policy) -> Result<Acceptable, String>,
) -> Result<Compared, Error> {
    let (policies, text) = (node.policies.clone(), offer.text().to_owned());
    let question = move || {
        let compiled = |text: &str| policies.compiled(text).map_err(|refusal| refusal.to_string());
        let (offer, against) = (compiled(&text)?, compiled(&against)?);
        if offer.canonical_text() != text {
            return Err("the offer's text is not in canonical form".to_owned());
        }
        ask(&offer, &against)
    };
    let _turn = COMPARING.acquire().await.map_err(Error::ours)?;
    let answer = tokio::task::spawn_blocking(question).await.map_err(Error::ours)?;
    Ok(Compared { offer: offer.hash().clone(), answer })
}

fn configured(node: &Node) -> Result<Option<String>, Refusal> {
    let config = node.config.load();
    let Some(file) = &config.negotiation.ceiling else { return Ok(None) };
    let unusable = |cause: String| Refusal::new(&CEILING_UNUSABLE, format!("`{}`: {cause}", file.display()));
    let text = read_bounded(file).map_err(unusable)?;
    let policy = Policy::from_json(&text, node.policies.profiles())
        .map_err(|problems| unusable(problems.to_string()))?;
    Ok(Some(policy.canonical_text().to_owned()))
}

fn read_bounded(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let limit = u64::try_from(MAX_POLICY_BYTES).unwrap_or(u64::MAX);
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    opened.take(limit.saturating_add(1)).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() > MAX_POLICY_BYTES {
        return Err(format!("larger than {MAX_POLICY_BYTES} bytes"));
    }
    Ok(text)
}
