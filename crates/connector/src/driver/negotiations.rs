//! Negotiations: what peers send, what our rules decide at once, what people decide later.

use std::sync::Arc;

use control_plane::agreement::{Agreement, PartySignature, SignedPart, Signing};
use control_plane::cause::Cause;
use control_plane::durable;
use control_plane::ids::{CallbackAddress, ConsumerPid, DatasetId, MessageId, ParticipantId, ProviderPid};
use control_plane::negotiation::{
    Command, Consent, Decision, Effect, Message, NOT_YOUR_STEP, Negotiation, Opening, Received, State,
    StateName, Step, TERMS_ALTERED, UNKNOWN_PROCESS, Undelivered, WaitsFor,
};
use control_plane::pids::Role;
use control_plane::status::HeldAgreement;
use control_plane::terms::{Offer, Table};
use control_plane::{Refusal, UnixMillis};
use identity::{Typ, jws};
use policy::Policy;
use policy::accept::Acceptable;
use store::{Collection, OutboxItem, Snapshot, Tx, crash_point};

use super::comparison::{self, Compared};
use super::{notices, records};
use crate::caller::Caller;
use crate::config::{Acceptance, AlteredTerms, Steps};
use crate::data::{onward, transforms};
use crate::enforceable;
use crate::error::Error;
use crate::fresh;
use crate::http;
use crate::node::Node;
use crate::policies::{PublishedTerms, decide_negotiation, facts_about};

control_plane::refusal_codes! {
    TOO_MANY_OPEN = "limit/open-negotiations", Limit,
        "too many negotiations with this participant are under way",
        "與此參與者進行中的協商過多", "与该参与者进行中的协商过多",
        clause "limits.open_negotiations_per_peer", next "wait until some have ended";
    UNKNOWN_NEGOTIATION = "negotiation/not-found", NotFound,
        "there is no such negotiation", "沒有此協商", "没有该协商",
        clause "administration", next "`fairlead negotiation list` shows the known ones";
}

/// The outbox kind of a negotiation message.
pub const OUTBOX_KIND: &str = "negotiation";

/// The most steps that follow one another in one transaction: received, then at most one decision of ours; the
/// second is room for a decision that itself leaves one to us.
const MAX_CHAINED_DECISIONS: usize = 2;

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
    pub fn of(negotiation: &Negotiation) -> Self {
        Self {
            provider_pid: negotiation.pids().provider().map(ToString::to_string).unwrap_or_default(),
            consumer_pid: negotiation.pids().consumer().map(ToString::to_string).unwrap_or_default(),
            state: negotiation.state_name(),
        }
    }
}

/// Takes a peer's message for our `role`; answers when everything that follows at once is durable.
pub async fn receive(node: &Arc<Node>, peer: &Caller, role: Role, message: Message) -> Result<Answer, Error> {
    let compared = comparison::of_message(node, peer.id(), &message).await?;
    let told = crate::peers::enforces(node, peer.id()).await?;
    let driver = Driver { compared, told, ..Driver::for_message(node, peer, &message)? };
    let peer = peer.id().clone();
    let answer = node.store.write(move |tx| driver.receive(tx, &peer, role, &message)).await?;
    crash_point("message-received");
    Ok(answer)
}

/// Asks the dataset's provider for an agreement on `offer`: over gRPC, or over HTTP at `address`. Counter-offers within
/// `ceiling` are accepted by rule.
pub async fn open(
    node: &Arc<Node>,
    counterparty: ParticipantId,
    offer: Offer,
    address: Option<CallbackAddress>,
    ceiling: Option<String>,
) -> Result<Negotiation, Error> {
    if address.is_some() {
        http::require_carried(node, &counterparty, &offer, Role::Consumer)?;
    }
    let driver = Driver::new(node, &offer, None, address.is_some())?;
    let pid = ConsumerPid::parse(&fresh::urn())?;
    let opening = Opening {
        us: node.us.clone(),
        counterparty,
        offer,
        callback: callback_of(node, address.as_ref())?,
        address,
        message_id: fresh::message_id()?,
        ceiling,
    };
    node.store
        .write(move |tx| {
            let step = Negotiation::open_as_consumer(opening, pid, &driver.terms, driver.now)?;
            driver.apply(tx, step)
        })
        .await
}

/// What a person decides about a negotiation that waits for us.
#[derive(Clone, Debug)]
pub enum ByHand {
    /// Accept what is on the table, altered terms included.
    Accept,
    /// Put other terms on the table.
    Counter(Offer),
    /// End it.
    Terminate(String),
}

/// Carries out a person's decision.
pub async fn decide(node: &Arc<Node>, pid: &str, decision: ByHand) -> Result<Negotiation, Error> {
    let known = get(node, pid).await?;
    // The statement of the counterparty as last seen tells what a policy may need to know about it.
    let statement = crate::peers::latest_statement(node, known.counterparty()).await?;
    let over_http = known.address().is_some_and(http::is_http);
    if let (ByHand::Counter(offer), true) = (&decision, over_http) {
        http::require_carried(node, known.counterparty(), offer, known.role())?;
    }
    let elsewhere = over_http && known.role() == Role::Consumer;
    let driver = match known.table() {
        Some(table) => Driver::new(node, &table.offer, statement, elsewhere)?,
        None => Driver::without_offer(node)?,
    };
    let driver = Driver { told: crate::peers::enforces(node, known.counterparty()).await?, ..driver };
    let pid = pid.to_owned();
    node.store
        .write(move |tx| {
            let negotiation = records::found(records::negotiation(tx, &pid)?, &UNKNOWN_NEGOTIATION, &pid)?;
            let command = match decision {
                ByHand::Counter(offer) => Command::Counter(offer),
                ByHand::Terminate(reason) => {
                    Command::Terminate(Cause::new("negotiation/terminated", [reason.as_str()]))
                }
                ByHand::Accept => driver.accepted_by_hand(tx, &negotiation)?,
            };
            let step = negotiation.command(command, fresh::message_id()?, &driver.terms, driver.now)?;
            driver.apply(tx, step)
        })
        .await
}

/// The negotiation under our own name of it.
pub async fn get(node: &Arc<Node>, pid: &str) -> Result<Negotiation, Error> {
    let key = pid.to_owned();
    let found = node.store.read(move |store| records::negotiation(store, &key)).await?;
    Ok(records::found(found, &UNKNOWN_NEGOTIATION, pid)?)
}

/// The peer answered a message of ours with its own names of the process.
pub async fn acknowledged(
    node: &Arc<Node>,
    entry_id: String,
    pid: String,
    provider_pid: ProviderPid,
    consumer_pid: ConsumerPid,
) -> Result<(), Error> {
    let driver = Driver::without_offer(node)?;
    node.store
        .write(move |tx| {
            if let Some(negotiation) = records::negotiation(tx, &pid)? {
                let message_id = MessageId::parse(&entry_id)?;
                let step = match negotiation.acknowledged(&message_id, &provider_pid, &consumer_pid) {
                    Ok(step) => step,
                    // Another process was acknowledged: the two sides do not mean the same.
                    Err(refusal) => {
                        let why = Undelivered::Refused(Cause::of_refusal(&refusal));
                        negotiation.undelivered(&message_id, &why, fresh::message_id()?, driver.now)
                    }
                };
                driver.apply(tx, step)?;
            }
            tx.outbox_done(&entry_id)?;
            Ok(())
        })
        .await
}

/// A message of ours will not arrive.
pub async fn undelivered(
    node: &Arc<Node>,
    entry_id: String,
    pid: String,
    why: Undelivered,
) -> Result<(), Error> {
    let driver = Driver::without_offer(node)?;
    node.store
        .write(move |tx| {
            if let Some(negotiation) = records::negotiation(tx, &pid)? {
                let message_id = MessageId::parse(&entry_id)?;
                driver.apply(
                    tx,
                    negotiation.undelivered(&message_id, &why, fresh::message_id()?, driver.now),
                )?;
            }
            tx.outbox_done(&entry_id)?;
            Ok(())
        })
        .await
}

/// Where peers of our data space reach us: the name that their connectors dial by statement or settings.
pub fn callback(us: &ParticipantId) -> Result<CallbackAddress, Refusal> {
    CallbackAddress::parse(&format!("grpcs:{us}"))
}

/// Where the peer of a process calls us back: over HTTP if that is how we call it.
pub fn callback_of(node: &Node, address: Option<&CallbackAddress>) -> Result<CallbackAddress, Refusal> {
    match address {
        Some(address) if http::is_http(address) => CallbackAddress::parse(&http::base(node)?),
        Some(_) | None => callback(&node.us),
    }
}

/// What one transaction needs besides the store: everything is fetched before it begins.
struct Driver {
    node: Arc<Node>,
    terms: PublishedTerms,
    /// What the counterparty's statement says, where rules ask for it.
    statement: Option<identity::Statement>,
    /// Whether the counterparty must sign.
    signing: Signing,
    /// What the comparison said that rules ask for.
    compared: Option<Compared>,
    /// What the counterparty said that it enforces as a consumer; `None` if it never said anything.
    told: Option<Vec<String>>,
    now: UnixMillis,
}

impl Driver {
    fn for_message(node: &Arc<Node>, peer: &Caller, message: &Message) -> Result<Self, Error> {
        let offer = match message {
            Message::Request(request) => Some(&request.offer),
            Message::Offer(offer) => Some(&offer.offer),
            Message::Agreement(_)
            | Message::Verification(_)
            | Message::Event(_)
            | Message::Termination(_) => None,
        };
        let driver = match offer {
            Some(offer) => Self::new(node, offer, peer.statement().cloned(), false)?,
            None => Self { statement: peer.statement().cloned(), ..Self::without_offer(node)? },
        };
        Ok(Self { signing: peer.signing(), ..driver })
    }

    /// `elsewhere`: the provider's catalogue need not be ours.
    fn new(
        node: &Arc<Node>,
        offer: &Offer,
        statement: Option<identity::Statement>,
        elsewhere: bool,
    ) -> Result<Self, Error> {
        let now = node.now();
        let published = node.catalogue.offers(offer.target(), now)?;
        let terms = if elsewhere && published.is_empty() {
            PublishedTerms::elsewhere(node.policies.clone())
        } else {
            PublishedTerms::new(node.policies.clone(), published)?
        };
        Ok(Self {
            node: node.clone(),
            terms,
            statement,
            signing: Signing::Required,
            compared: None,
            told: None,
            now,
        })
    }

    fn without_offer(node: &Arc<Node>) -> Result<Self, Error> {
        let terms = PublishedTerms::new(node.policies.clone(), [])?;
        let now = node.now();
        Ok(Self {
            node: node.clone(),
            terms,
            statement: None,
            signing: Signing::Required,
            compared: None,
            told: None,
            now,
        })
    }

    fn receive(
        &self,
        tx: &Tx<'_>,
        peer: &ParticipantId,
        role: Role,
        message: &Message,
    ) -> Result<Answer, Error> {
        let (ours, theirs) = match role {
            Role::Provider => (
                message.provider_pid().map(ProviderPid::as_str),
                message.consumer_pid().map(ConsumerPid::as_str),
            ),
            Role::Consumer => (
                message.consumer_pid().map(ConsumerPid::as_str),
                message.provider_pid().map(ProviderPid::as_str),
            ),
        };
        let known = match (ours, theirs) {
            (Some(ours), _) => records::negotiation(tx, ours)?,
            (None, Some(theirs)) => records::negotiation_of_peer(tx, peer, theirs)?,
            (None, None) => None,
        };
        let known = known.filter(|negotiation| negotiation.role() == role);
        let signature = match &known {
            Some(negotiation) => self.verified_signature(negotiation, message)?,
            None => None,
        };
        let received =
            Received { sender: peer, message, signature: signature.as_ref(), signing: self.signing };
        let step = match known {
            Some(negotiation) => negotiation.receive(&received, &self.terms, self.now)?,
            None if message.opens() => {
                self.require_room(tx, peer)?;
                Negotiation::opened_by_peer(&received, &fresh::urn(), &self.node.us, &self.terms, self.now)?
            }
            None => {
                let name = ours.or(theirs).unwrap_or_default();
                return Err(Refusal::new(&UNKNOWN_PROCESS, format!("`{name}`")).into());
            }
        };
        if step.repeat {
            return Ok(Answer::of(&step.next));
        }
        if let (Role::Provider, Message::Request(request)) = (role, message) {
            self.require_there(&request.offer)?;
        }
        let step = self.decided_by_rule(tx, step)?;
        Ok(Answer::of(&self.apply(tx, step)?))
    }

    fn require_room(&self, store: &Snapshot<'_>, peer: &ParticipantId) -> Result<(), Error> {
        let allowed = self.node.config.load().limits.open_negotiations_per_peer as usize;
        let limit = allowed.min(store::MAX_PAGE - 1) + 1;
        let open = store.find(Collection::Negotiations, records::OPEN_WITH, peer.as_str(), None, limit)?;
        if open.len() >= limit {
            return Err(Refusal::new(&TOO_MANY_OPEN, format!("{allowed} with `{peer}`")).into());
        }
        Ok(())
    }

    /// The signature that an agreement or verification message carries, checked against its sender's certificate.
    fn verified_signature(
        &self,
        negotiation: &Negotiation,
        message: &Message,
    ) -> Result<Option<PartySignature>, Error> {
        let (jws, agreement) = match message {
            Message::Agreement(message) => (&message.assigner_signature, &message.agreement),
            Message::Verification(message) => match negotiation.state() {
                State::Agreed { part, .. } => (&message.assignee_signature, part.agreement()),
                // The machine answers a repeat, and refuses the message in any other state, without looking at it.
                _ => return Ok(None),
            },
            Message::Request(_) | Message::Offer(_) | Message::Event(_) | Message::Termination(_) => {
                return Ok(None);
            }
        };
        let Some(jws) = jws else { return Ok(None) };
        jws::verify(jws, Typ::Agreement, &self.node.certificates, self.now)?;
        Ok(Some(PartySignature::verified(jws, agreement)?))
    }

    /// Adds what our rules decide at once; leaves to people what they leave.
    fn decided_by_rule(&self, store: &Snapshot<'_>, mut step: Step) -> Result<Step, Error> {
        for _ in 0..MAX_CHAINED_DECISIONS {
            let Some(decision) = step.decision() else { return Ok(step) };
            let Some(command) = self.rule(store, &step.next, decision)? else { return Ok(step) };
            let message_id = fresh::message_id()?;
            step =
                step.then(|negotiation| negotiation.command(command, message_id, &self.terms, self.now))?;
        }
        Ok(step)
    }

    /// What the rules say; `None` leaves the decision to a person.
    fn rule(
        &self,
        store: &Snapshot<'_>,
        negotiation: &Negotiation,
        decision: Decision,
    ) -> Result<Option<Command>, Error> {
        let config = self.node.config.load();
        if config.negotiation.steps == Steps::Manual {
            return Ok(None);
        }
        let answers = config.negotiation.answers(negotiation.dataset(), negotiation.counterparty());
        Ok(match (decision, negotiation.state()) {
            (Decision::Request { terms_altered: true }, State::Requested(table)) => match answers.altered {
                AlteredTerms::Manual => None,
                AlteredTerms::AcceptIfStricter => self.proof(negotiation, table).map(|proof| {
                    self.agree_or_terminate(store, negotiation, table, Consent::Compared(proof))
                }),
                AlteredTerms::Counter => Some(Command::Counter(self.published_offer(&table.offer)?)),
                AlteredTerms::Terminate => {
                    Some(Command::Terminate(Cause::of_refusal(&Refusal::new(&TERMS_ALTERED, ""))))
                }
            },
            (Decision::Request { terms_altered: false }, State::Requested(table)) => match answers.accept {
                Acceptance::Manual => None,
                Acceptance::Automatic => {
                    Some(self.agree_or_terminate(store, negotiation, table, Consent::AsPublished))
                }
            },
            // The consumer accepted what we ourselves put on the table.
            (Decision::Acceptance, State::Accepted(table)) => {
                Some(self.agree_or_terminate(store, negotiation, table, Consent::AsPublished))
            }
            (Decision::Verification, _) => Some(Command::Finalize),
            // With a ceiling, exactly what lies within it is accepted by rule; without one, what was published.
            (Decision::Offer { terms_altered }, State::Offered(table)) => {
                let limited = negotiation.ceiling().is_some()
                    || config.negotiation.ceiling.is_some()
                    || self.compared.is_some();
                let consent = match (limited, terms_altered) {
                    (true, _) => self.proof(negotiation, table).map(Consent::Compared),
                    (false, false) => Some(Consent::AsPublished),
                    (false, true) => None,
                };
                consent.map(|consent| Command::Accept { consent })
            }
            (Decision::Agreement, State::Agreed { part, .. }) => Some(match self.verify(negotiation, part) {
                Ok(command) => command,
                Err(error) => Command::Terminate(Cause::of_refusal(&error.into_refusal())),
            }),
            // A decision comes with its state; any other pair is left to a person.
            (
                Decision::Request { .. }
                | Decision::Offer { .. }
                | Decision::Acceptance
                | Decision::Agreement,
                _,
            ) => None,
        })
    }

    /// The proof that the terms on the table may be accepted by rule; without one a person decides.
    fn proof(&self, negotiation: &Negotiation, table: &Table) -> Option<Acceptable> {
        let reason = match self.compared.as_ref().and_then(|compared| compared.about(table)) {
            Some(Ok(proof)) => return Some(proof.clone()),
            Some(Err(reason)) => reason.as_str(),
            None => "these terms were not compared",
        };
        tracing::info!(
            negotiation = negotiation.pids().ours(),
            reason,
            "not accepted by rule: a person decides"
        );
        None
    }

    /// What a person's yes means in the state that the negotiation is in.
    fn accepted_by_hand(&self, store: &Snapshot<'_>, negotiation: &Negotiation) -> Result<Command, Error> {
        let not_ours = || Refusal::new(&NOT_YOUR_STEP, negotiation.state_name().as_str());
        match (negotiation.waits_for(), negotiation.state()) {
            (WaitsFor::Us(_), State::Offered(_)) => Ok(Command::Accept { consent: Consent::ByHand }),
            (WaitsFor::Us(_), State::Requested(table) | State::Accepted(table)) => {
                self.agree(store, negotiation, table, Consent::ByHand)
            }
            (WaitsFor::Us(_), State::Agreed { part, .. }) => self.verify(negotiation, part),
            (WaitsFor::Us(_), State::Verified { .. }) => Ok(Command::Finalize),
            (WaitsFor::Us(_), State::Finalized { .. } | State::Terminated { .. })
            | (WaitsFor::Peer | WaitsFor::Nobody, _) => Err(not_ours().into()),
        }
    }

    fn published_offer(&self, offer: &Offer) -> Result<Offer, Error> {
        let published = self.node.catalogue.offers(offer.target(), self.now)?;
        let same = published.into_iter().find(|(id, _)| id == offer.id().as_str());
        let (_, text) =
            records::found(same, &control_plane::negotiation::UNKNOWN_OFFER, offer.id().as_str())?;
        Ok(Offer::parse(&text)?)
    }

    fn agree_or_terminate(
        &self,
        store: &Snapshot<'_>,
        negotiation: &Negotiation,
        table: &Table,
        consent: Consent,
    ) -> Command {
        match self.agree(store, negotiation, table, consent) {
            Ok(command) => command,
            Err(error) => {
                let refusal = error.into_refusal();
                tracing::info!(negotiation = negotiation.pids().ours(), code = refusal.code.code, detail = %refusal.detail, "not agreed");
                Command::Terminate(Cause::of_refusal(&refusal))
            }
        }
    }

    /// Provider: asks the policy whether this consumer may have an agreement, writes it and signs it.
    fn agree(
        &self,
        store: &Snapshot<'_>,
        negotiation: &Negotiation,
        table: &Table,
        consent: Consent,
    ) -> Result<Command, Error> {
        let policy = self.node.policies.compiled(table.offer.text())?;
        enforceable::require_between(&policy, negotiation.address().is_some_and(http::is_http))?;
        let published = self.published(table.offer.target())?;
        transforms::require_published(&policy, &published)?;
        onward::require_open(&self.node, store, table.offer.target(), self.now)?;
        let proven = matches!(consent, Consent::Compared(_));
        onward::require_terms(store, table.offer.target(), &policy, &published, proven)?;
        self.require_there(&table.offer)?;
        let facts = facts_about(self.statement.as_ref(), self.now);
        let assignee = negotiation.counterparty();
        decide_negotiation(&policy, assignee, table.offer.target().as_str(), &facts)?;
        let text = policy.agreement_text(fresh::agreement_id()?.as_str(), assignee.as_str(), self.now)?;
        let agreement = Agreement::parse(&text)?;
        let signature = self.sign(negotiation, &agreement)?;
        Ok(Command::Agree { part: SignedPart::new(agreement, signature)?, consent })
    }

    /// Provider: the offers that a dataset is published with.
    fn published(&self, target: &DatasetId) -> Result<Vec<Arc<Policy>>, Error> {
        let published = self.node.catalogue.offers(target, self.now)?;
        let published = published.iter().map(|(_, text)| self.node.policies.compiled(text));
        Ok(published.collect::<Result<Vec<_>, _>>()?)
    }

    /// Consumer: countersigns an agreement whose terms the machine has compared and whose policy we understand.
    fn verify(&self, negotiation: &Negotiation, part: &SignedPart) -> Result<Command, Error> {
        let policy = self.node.policies.compiled(part.agreement().text())?;
        enforceable::require_between(&policy, negotiation.address().is_some_and(http::is_http))?;
        Ok(Command::Verify(self.sign(negotiation, part.agreement())?))
    }

    /// Refuses terms of which the consumer's connector did not say that it holds them. One that cannot say anything, as
    /// over HTTP, gets what a rule or a person accepts; that is recorded.
    fn require_there(&self, offer: &Offer) -> Result<(), Error> {
        let Some(told) = &self.told else { return Ok(()) };
        let policy = self.node.policies.compiled(offer.text())?;
        Ok(enforceable::require_there(&policy, told)?)
    }

    fn sign(&self, negotiation: &Negotiation, agreement: &Agreement) -> Result<PartySignature, Error> {
        let annex = negotiation.annex()?;
        let annex = identity::Digest::parse(annex.digest().as_str())
            .ok_or_else(|| Error::ours("an annex digest does not read back"))?;
        let signer = self.node.identity.signer();
        let jws = signer.sign(Typ::Agreement, agreement.text().as_bytes(), self.now, Some(annex))?;
        Ok(PartySignature::verified(&jws, agreement)?)
    }

    /// Stores the step: next state, outbox, agreement and ledger together.
    fn apply(&self, tx: &Tx<'_>, step: Step) -> Result<Negotiation, Error> {
        if step.repeat {
            return Ok(step.next);
        }
        records::put_negotiation(tx, &step.next)?;
        for effect in step.effects {
            match effect {
                Effect::Send(message) => push(tx, &step.next, &message, self.now)?,
                Effect::Record(record) => records::append(tx, &record)?,
                Effect::AgreementFinal(signed) => {
                    let agreement = signed.agreement().id().to_string();
                    records::put_new_agreement(tx, *signed)?;
                    if self.told.is_none() && step.next.role() == Role::Provider {
                        let fields =
                            [("agreement", agreement), ("with", step.next.counterparty().to_string())];
                        records::append_fields(tx, "enforcement-not-told", self.now, fields)?;
                    }
                }
                Effect::AgreementDisputed { signed, cause } => {
                    let id = signed.agreement().id().clone();
                    records::put_new_agreement(tx, *signed)?;
                    if let Some(held) = records::agreement(tx, &id)? {
                        let change = notices::revocation(step.next.role(), cause, self.now);
                        let revoked: HeldAgreement = held.after(change)?;
                        records::put_agreement(tx, &revoked)?;
                    }
                }
                // By rule it was decided above; by hand it is read from the stored state.
                Effect::Decide(_) => {}
            }
        }
        Ok(step.next)
    }
}

fn push(tx: &Tx<'_>, negotiation: &Negotiation, message: &Message, now: UnixMillis) -> Result<(), Error> {
    let body = durable::encode_negotiation_message(message)
        .map_err(|cause| Error::damaged(message.id().as_str(), cause))?;
    tx.outbox_push(&OutboxItem {
        id: message.id().as_str(),
        lane: negotiation.pids().ours(),
        destination: negotiation.counterparty().as_str(),
        kind: OUTBOX_KIND,
        body: &body,
        due: now,
    })?;
    Ok(())
}
