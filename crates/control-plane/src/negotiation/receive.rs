//! What the peer's messages do.

use policy::refusal::Refusal;
use policy::time::UnixMillis;

use super::machine::require_dataset;
use super::message::{
    AgreementMessage, ContractOffer, ContractRequest, OfferOpening, RequestOpening, Verification,
};
use super::{
    Accepted, Message, MessageKind, NOT_YOUR_MESSAGE, Negotiation, SIGNATURE_MISSING, Sent, State, Step,
    UNKNOWN_OFFER, UNKNOWN_PROCESS, WITH_ITSELF,
};
use crate::agreement::{PartySignature, Signing};
use crate::dedupe::{self, Arrival};
use crate::ids::{ConsumerPid, DatasetId, ParticipantId, ProviderPid};
use crate::pids::{Pids, Role};
use crate::terms::{Offer, Standing, Table, Terms};

/// A message with what was checked about it at the edge.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The verified participant at the other end of the connection; never taken from the message.
    pub sender: &'a ParticipantId,
    /// The message.
    pub message: &'a Message,
    /// The verified signature of an agreement or verification message; `None` for the others.
    pub signature: Option<&'a PartySignature>,
    /// Whether the sender must sign, as our configuration says about it.
    pub signing: Signing,
}

impl Negotiation {
    /// A peer opens a negotiation with us, by a request (we are the provider) or an offer (we are the consumer).
    ///
    /// `our_pid` is fresh. Look for a process of this peer and this peer's pid first: an opening message that
    /// arrives again belongs to [`Negotiation::receive`] of that process.
    ///
    /// # Errors
    /// [`UNKNOWN_OFFER`] for a request that names no published offer, [`WITH_ITSELF`], or
    /// [`super::ILLEGAL_TRANSITION`] for a message that opens nothing.
    pub fn opened_by_peer(
        received: &Received<'_>,
        our_pid: &str,
        us: &ParticipantId,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let (offer, callback, pids) = match received.message {
            Message::Request(ContractRequest {
                offer,
                opening: RequestOpening::Opens(callback),
                consumer_pid,
                ..
            }) => {
                let ours = ProviderPid::parse(our_pid)?;
                (offer, callback, Pids::Provider { ours, theirs: Some(consumer_pid.clone()) })
            }
            Message::Offer(ContractOffer {
                offer,
                opening: OfferOpening::Opens(callback),
                provider_pid,
                ..
            }) => {
                let ours = ConsumerPid::parse(our_pid)?;
                (offer, callback, Pids::Consumer { ours, theirs: Some(provider_pid.clone()) })
            }
            Message::Request(_)
            | Message::Offer(_)
            | Message::Agreement(_)
            | Message::Verification(_)
            | Message::Event(_)
            | Message::Termination(_) => {
                return Err(Refusal::new(&UNKNOWN_PROCESS, received.message.kind().as_str()));
            }
        };
        let peer = pids.role().other();
        let state = table_state(peer, offer, terms)?;
        let mut fresh = Self::fresh(us, received.sender, pids, offer.target(), state)?;
        fresh.address = Some(callback.clone());
        Ok(fresh.accepting(received.message).arrived(peer, received.message.kind(), now))
    }

    /// A message of the counterparty for this process.
    ///
    /// # Errors
    /// A refusal changes nothing: [`UNKNOWN_PROCESS`] for anybody but the counterparty,
    /// [`super::ILLEGAL_TRANSITION`] and the further codes of [`super::CODES`],
    /// [`crate::dedupe::MESSAGE_ID_REUSED`], [`crate::pids::PID_MISMATCH`], and the codes of [`crate::agreement`].
    pub fn receive(
        &self,
        received: &Received<'_>,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let message = received.message;
        if *received.sender != self.counterparty {
            return Err(Refusal::new(
                &UNKNOWN_PROCESS,
                format!("`{}` is not its counterparty", received.sender),
            ));
        }
        if self.is_repeat(message)? {
            return Ok(self.unchanged());
        }
        let peer = self.role().other();
        if message.sender().is_some_and(|sender| sender != peer) {
            return Err(Refusal::new(
                &NOT_YOUR_MESSAGE,
                format!("{} from the {peer}", message.kind().as_str()),
            ));
        }
        if message.opens() {
            return Err(self.illegal(message.kind()));
        }
        let pids = self.pids.learn(message.provider_pid(), message.consumer_pid())?;
        if self.crosses_our_termination(message) {
            let mut next = self.clone().accepting(message);
            next.pids = pids;
            next.owed_termination = None;
            // Settled either way: theirs says that they have ended too.
            next.last_sent = next.last_sent.map(|sent| Sent { settled: true, ..sent });
            return Ok(Step { next, effects: Vec::new(), repeat: false });
        }
        let state = self.answered(received, &pids, terms, now)?;
        let mut next = self.clone().accepting(message);
        next.pids = pids;
        next.owed_termination = None;
        next.last_sent = match message.kind() {
            // A termination may cross what we sent; every other message answers it.
            MessageKind::Termination => next.last_sent,
            MessageKind::Request
            | MessageKind::Offer
            | MessageKind::Accepted
            | MessageKind::Agreement
            | MessageKind::Verification
            | MessageKind::Finalized => next.last_sent.map(|sent| Sent { settled: true, ..sent }),
        };
        Ok(next.moved(state, peer, message.kind(), now))
    }

    fn answered(
        &self,
        received: &Received<'_>,
        pids: &Pids,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<State, Refusal> {
        let kind = received.message.kind();
        match received.message {
            Message::Request(request) => match &self.state {
                State::Offered(_) => self.countered(&request.offer, terms),
                State::Requested(_)
                | State::Accepted(_)
                | State::Agreed { .. }
                | State::Verified { .. }
                | State::Finalized { .. }
                | State::Terminated { .. } => Err(self.illegal(kind)),
            },
            Message::Offer(offer) => match &self.state {
                State::Requested(_) => self.countered(&offer.offer, terms),
                State::Offered(_)
                | State::Accepted(_)
                | State::Agreed { .. }
                | State::Verified { .. }
                | State::Finalized { .. }
                | State::Terminated { .. } => Err(self.illegal(kind)),
            },
            Message::Agreement(message) => match &self.state {
                State::Requested(table) | State::Accepted(table) => {
                    let AgreementMessage { agreement, assigner_signature, .. } = message;
                    let signature = verified(received, assigner_signature.as_deref())?;
                    self.concluded(pids, table, agreement, signature, terms, now)
                }
                State::Offered(_)
                | State::Agreed { .. }
                | State::Verified { .. }
                | State::Finalized { .. }
                | State::Terminated { .. } => Err(self.illegal(kind)),
            },
            Message::Verification(Verification { assignee_signature, .. }) => match &self.state {
                State::Agreed { part, .. } => {
                    let signed = match verified(received, assignee_signature.as_deref())? {
                        Some(signature) => part.clone().countersigned(signature.clone())?,
                        None => part.clone().uncountersigned()?,
                    };
                    Ok(State::Verified { signed })
                }
                State::Requested(_)
                | State::Offered(_)
                | State::Accepted(_)
                | State::Verified { .. }
                | State::Finalized { .. }
                | State::Terminated { .. } => Err(self.illegal(kind)),
            },
            Message::Event(event) => match (event.kind, &self.state) {
                (super::EventKind::Accepted, State::Offered(table)) => Ok(State::Accepted(table.clone())),
                (super::EventKind::Finalized, State::Verified { signed }) => {
                    Ok(State::Finalized { signed: signed.clone() })
                }
                (super::EventKind::Accepted | super::EventKind::Finalized, _) => Err(self.illegal(kind)),
            },
            Message::Termination(termination) => {
                if self.state_name().is_terminal() {
                    return Err(self.illegal(kind));
                }
                Ok(State::Terminated { by: self.role().other(), cause: termination.cause.clone() })
            }
        }
    }

    fn countered(&self, offer: &Offer, terms: &dyn Terms) -> Result<State, Refusal> {
        require_dataset(&self.dataset, offer.target())?;
        self.require_round()?;
        table_state(self.role().other(), offer, terms)
    }

    /// Whether the message was accepted before; the opening one is also known by its body, since a peer that lost
    /// our acknowledgement may open again under a new message id (DSP 2025-1, 1.6).
    fn is_repeat(&self, message: &Message) -> Result<bool, Refusal> {
        let body = message.body_digest();
        let known = dedupe::known(message.id(), &self.accepted, |accepted| &accepted.id);
        if dedupe::arrival(message.id(), &body, known.map(|accepted| &accepted.body))? == Arrival::Repeat {
            return Ok(true);
        }
        Ok(message.opens() && self.accepted.first().is_some_and(|first| first.body == body))
    }

    /// Both sides ended the process before hearing of the other's termination.
    fn crosses_our_termination(&self, message: &Message) -> bool {
        let ended_by_us = matches!(&self.state, State::Terminated { by, .. } if *by == self.role());
        let ours_is_under_way =
            self.owed_termination.is_some() || self.last_sent.as_ref().is_some_and(|sent| !sent.settled);
        ended_by_us && ours_is_under_way && message.kind() == MessageKind::Termination
    }

    fn accepting(mut self, message: &Message) -> Self {
        self.accepted.push(Accepted { id: message.id().clone(), body: message.body_digest() });
        self
    }

    pub(super) fn fresh(
        us: &ParticipantId,
        counterparty: &ParticipantId,
        pids: Pids,
        dataset: &DatasetId,
        state: State,
    ) -> Result<Self, Refusal> {
        if us == counterparty {
            return Err(Refusal::new(&WITH_ITSELF, us.as_str()));
        }
        Ok(Self {
            us: us.clone(),
            counterparty: counterparty.clone(),
            pids,
            dataset: dataset.clone(),
            state,
            address: None,
            history: Vec::new(),
            accepted: Vec::new(),
            last_sent: None,
            owed_termination: None,
            ceiling: None,
        })
    }
}

/// The state with `offer`, made by `by`, on the table.
pub(super) fn table_state(by: Role, offer: &Offer, terms: &dyn Terms) -> Result<State, Refusal> {
    let standing = terms.standing(offer);
    if by == Role::Consumer && standing == Standing::Unknown {
        return Err(Refusal::new(&UNKNOWN_OFFER, format!("`{}` for `{}`", offer.id(), offer.target())));
    }
    let table = Table { offer: offer.clone(), by, terms_altered: standing != Standing::Published };
    Ok(match by {
        Role::Consumer => State::Requested(table),
        Role::Provider => State::Offered(table),
    })
}

/// The signature that the message carries, checked; none only from a sender that need not sign.
fn verified<'a>(
    received: &Received<'a>,
    carried: Option<&str>,
) -> Result<Option<&'a PartySignature>, Refusal> {
    match (received.signature, carried) {
        (Some(signature), Some(jws)) if signature.jws() == jws => Ok(Some(signature)),
        (None, None) if received.signing == Signing::IfOffered => Ok(None),
        (Some(_), Some(_)) => {
            Err(Refusal::new(&SIGNATURE_MISSING, "the checked signature is not the one in the message"))
        }
        (Some(_), None) | (None, Some(_) | None) => Err(Refusal::new(&SIGNATURE_MISSING, "none was checked")),
    }
}
