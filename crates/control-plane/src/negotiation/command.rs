//! What our own side does: opening, deciding, and hearing what became of the messages sent.

use policy::accept::Acceptable;
use policy::refusal::Refusal;
use policy::time::UnixMillis;

use super::machine::require_dataset;
use super::message::{
    AgreementMessage, ContractOffer, ContractRequest, Event, EventKind, OfferOpening, RequestOpening,
    Termination, Verification,
};
use super::receive::table_state;
use super::{
    Effect, Message, MessageKind, NOT_YOUR_STEP, Negotiation, PEER_PID_UNKNOWN, Sent, State, StateName, Step,
    TERMS_ALTERED, Undelivered,
};
use crate::agreement::{PartySignature, SignedPart};
use crate::cause::Cause;
use crate::ids::{CallbackAddress, ConsumerPid, MessageId, ParticipantId, ProviderPid};
use crate::pids::{Pids, Role};
use crate::terms::{Offer, Table, Terms};

/// What opening a negotiation needs beside our fresh pid.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Our own participant.
    pub us: ParticipantId,
    /// With whom; for a consumer the offer's assigner.
    pub counterparty: ParticipantId,
    /// The terms of the first message; its target is the dataset.
    pub offer: Offer,
    /// Where the peer may call back.
    pub callback: CallbackAddress,
    /// Where the peer is called; `None` for a participant that is found by its name.
    pub address: Option<CallbackAddress>,
    /// A fresh id for the first message.
    pub message_id: MessageId,
    /// A consumer's ceiling: the policy text below which counter-offers may be accepted by rule. Kept, never sent.
    pub ceiling: Option<String>,
}

/// What lets our side agree to the terms on the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// They are what was published; altered terms are refused.
    AsPublished,
    /// The policy engine compared exactly these terms with what we published, or with our ceiling, and said yes.
    Compared(Acceptable),
    /// A person decided.
    ByHand,
}

/// A decision of our side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Consumer, OFFERED: accept the offer on the table.
    Accept {
        /// Why these terms may be accepted.
        consent: Consent,
    },
    /// Provider in REQUESTED, consumer in OFFERED: put other terms on the table.
    Counter(Offer),
    /// Provider in REQUESTED or ACCEPTED: conclude with the signed agreement.
    Agree {
        /// The agreement and our signature, made with the digest of [`Negotiation::annex`].
        part: SignedPart,
        /// Why these terms may be agreed to.
        consent: Consent,
    },
    /// Consumer, AGREED: countersign; the signature carries the digest of [`Negotiation::annex`].
    Verify(PartySignature),
    /// Provider, VERIFIED: put the agreement in force.
    Finalize,
    /// End the process: in REQUESTED and OFFERED by either side, in ACCEPTED and VERIFIED by the provider, in
    /// AGREED by the consumer (DSP 2025-1, 1.5).
    Terminate(Cause),
}

impl Negotiation {
    /// We ask a provider for an agreement.
    ///
    /// # Errors
    /// [`super::UNKNOWN_OFFER`] if the provider published no such offer, [`super::WITH_ITSELF`].
    pub fn open_as_consumer(
        opening: Opening,
        consumer_pid: ConsumerPid,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let message = Message::Request(ContractRequest {
            message_id: opening.message_id.clone(),
            consumer_pid: consumer_pid.clone(),
            offer: opening.offer.clone(),
            opening: RequestOpening::Opens(opening.callback.clone()),
        });
        Self::opened_by_us(&opening, Pids::Consumer { ours: consumer_pid, theirs: None }, message, terms, now)
    }

    /// We offer a dataset to a consumer unasked.
    ///
    /// # Errors
    /// [`super::WITH_ITSELF`].
    pub fn open_as_provider(
        opening: Opening,
        provider_pid: ProviderPid,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let message = Message::Offer(ContractOffer {
            message_id: opening.message_id.clone(),
            provider_pid: provider_pid.clone(),
            offer: opening.offer.clone(),
            opening: OfferOpening::Opens(opening.callback.clone()),
        });
        Self::opened_by_us(&opening, Pids::Provider { ours: provider_pid, theirs: None }, message, terms, now)
    }

    /// Our decision, sent under the fresh `message_id`.
    ///
    /// # Errors
    /// A refusal changes nothing: [`NOT_YOUR_STEP`], [`TERMS_ALTERED`], [`PEER_PID_UNKNOWN`],
    /// [`super::TOO_MANY_ROUNDS`], and for an agreement everything that the consumer would refuse.
    pub fn command(
        &self,
        command: Command,
        message_id: MessageId,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        match (command, self.role()) {
            (Command::Accept { consent }, Role::Consumer) => match &self.state {
                State::Offered(table) => {
                    require_decided(table, &consent)?;
                    let state = State::Accepted(table.clone());
                    Ok(self.sending(state, self.event(message_id, EventKind::Accepted)?, now))
                }
                other => Err(self.not_ours("accept", other.name())),
            },
            (Command::Counter(offer), role) => self.counter(offer, role, message_id, terms, now),
            (Command::Agree { part, consent }, Role::Provider) => match &self.state {
                State::Requested(table) | State::Accepted(table) => {
                    if table.by == Role::Consumer {
                        require_decided(table, &consent)?;
                    }
                    self.agree(table, part, message_id, terms, now)
                }
                other => Err(self.not_ours("agree", other.name())),
            },
            (Command::Verify(signature), Role::Consumer) => match &self.state {
                State::Agreed { part, .. } => {
                    let (provider_pid, consumer_pid) = self.both_pids()?;
                    let message = Message::Verification(Verification {
                        message_id,
                        provider_pid,
                        consumer_pid,
                        assignee_signature: Some(signature.jws().to_owned()),
                    });
                    let signed = part.clone().countersigned(signature)?;
                    Ok(self.sending(State::Verified { signed }, message, now))
                }
                other => Err(self.not_ours("verify", other.name())),
            },
            (Command::Finalize, Role::Provider) => match &self.state {
                State::Verified { signed } => {
                    let state = State::Finalized { signed: signed.clone() };
                    Ok(self.sending(state, self.event(message_id, EventKind::Finalized)?, now))
                }
                other => Err(self.not_ours("finalize", other.name())),
            },
            (Command::Terminate(cause), role) => {
                let ours = match self.state_name() {
                    StateName::Requested | StateName::Offered => true,
                    StateName::Accepted | StateName::Verified => role == Role::Provider,
                    StateName::Agreed => role == Role::Consumer,
                    StateName::Finalized | StateName::Terminated => false,
                };
                if !ours {
                    return Err(self.not_ours("terminate", self.state_name()));
                }
                Ok(self.terminated(cause, message_id, now))
            }
            (Command::Accept { .. } | Command::Verify(_), Role::Provider)
            | (Command::Agree { .. } | Command::Finalize, Role::Consumer) => {
                Err(self.not_ours("a step of the other role", self.state_name()))
            }
        }
    }

    /// The peer acknowledged `message_id` and told its names of the process.
    ///
    /// Store `next` and run the effects as for every step: a termination that had to wait for the peer's pid is
    /// sent now. An acknowledgement of an older message changes nothing.
    ///
    /// # Errors
    /// [`crate::pids::PID_MISMATCH`] if the peer acknowledges another process; treat it as
    /// [`Undelivered::Refused`].
    pub fn acknowledged(
        &self,
        message_id: &MessageId,
        provider_pid: &ProviderPid,
        consumer_pid: &ConsumerPid,
    ) -> Result<Step, Refusal> {
        if !self.awaits(message_id) {
            return Ok(self.unchanged());
        }
        let mut next = self.settled();
        next.pids = self.pids.learn(Some(provider_pid), Some(consumer_pid))?;
        let Some(owed) = next.owed_termination.take() else {
            return Ok(Step { next, effects: Vec::new(), repeat: false });
        };
        let cause = match &self.state {
            State::Terminated { cause, .. } => cause.clone(),
            State::Requested(_)
            | State::Offered(_)
            | State::Accepted(_)
            | State::Agreed { .. }
            | State::Verified { .. }
            | State::Finalized { .. } => return Err(self.not_ours("terminate", self.state_name())),
        };
        let mut effects = Vec::new();
        if let Some((provider, consumer)) = next.pids.both() {
            let (provider_pid, consumer_pid) = (provider.clone(), consumer.clone());
            next.last_sent = Some(Sent { id: owed.clone(), settled: false });
            effects.push(Effect::Send(Box::new(Message::Termination(Termination {
                message_id: owed,
                provider_pid,
                consumer_pid,
                cause: cause.clone(),
            }))));
        }
        Ok(Step { next, effects, repeat: false })
    }

    /// A message of ours will not arrive: the peer refused it for good, or retrying was given up.
    ///
    /// Before the end this terminates the process on both sides (DSP 2025-1, 1.1: sides that differ terminate).
    /// After FINALIZED a refusal disputes the agreement. Where the peer has since answered, it did arrive, and
    /// nothing changes. Never give up on delivering FINALIZED: a peer that comes back will take it.
    pub fn undelivered(
        &self,
        message_id: &MessageId,
        why: &Undelivered,
        fresh: MessageId,
        now: UnixMillis,
    ) -> Step {
        if !self.awaits(message_id) {
            return self.unchanged();
        }
        let cause = match why {
            Undelivered::Refused(cause) => cause.clone(),
            Undelivered::GaveUp => Cause::new("negotiation/peer-unreachable", []),
        };
        let next = self.settled();
        match &self.state {
            State::Requested(_)
            | State::Offered(_)
            | State::Accepted(_)
            | State::Agreed { .. }
            | State::Verified { .. } => {
                let mut step = next.terminated(cause.clone(), fresh, now);
                // Nobody will tell a pid that was not told with the opening message.
                step.next.owed_termination = None;
                step.effects.insert(0, self.divergence(&cause, now));
                step
            }
            State::Finalized { signed } => {
                let mut effects = vec![self.divergence(&cause, now)];
                if matches!(why, Undelivered::Refused(_)) {
                    effects.push(Effect::AgreementDisputed { signed: Box::new(signed.clone()), cause });
                }
                Step { next, effects, repeat: false }
            }
            // Termination needs nobody's consent (DSP 2025-1, 1.1), but a peer that never heard of it goes on.
            State::Terminated { .. } => {
                let owed = next.owed_termination.is_some();
                let next = Self { owed_termination: None, ..next };
                let effects = match why {
                    Undelivered::Refused(_) if !owed => Vec::new(),
                    Undelivered::Refused(_) | Undelivered::GaveUp => vec![self.divergence(&cause, now)],
                };
                Step { next, effects, repeat: false }
            }
        }
    }

    fn opened_by_us(
        opening: &Opening,
        pids: Pids,
        message: Message,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let role = pids.role();
        let state = table_state(role, &opening.offer, terms)?;
        let mut fresh =
            Self::fresh(&opening.us, &opening.counterparty, pids, opening.offer.target(), state.clone())?;
        fresh.address = opening.address.clone();
        fresh.ceiling.clone_from(&opening.ceiling);
        Ok(fresh.sending(state, message, now))
    }

    fn counter(
        &self,
        offer: Offer,
        role: Role,
        message_id: MessageId,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let ours = match (&self.state, role) {
            (State::Requested(_), Role::Provider) | (State::Offered(_), Role::Consumer) => true,
            (State::Requested(_), Role::Consumer)
            | (State::Offered(_), Role::Provider)
            | (
                State::Accepted(_)
                | State::Agreed { .. }
                | State::Verified { .. }
                | State::Finalized { .. }
                | State::Terminated { .. },
                Role::Consumer | Role::Provider,
            ) => false,
        };
        if !ours {
            return Err(self.not_ours("counter", self.state_name()));
        }
        require_dataset(&self.dataset, offer.target())?;
        self.require_round()?;
        let (provider_pid, consumer_pid) = self.both_pids()?;
        let state = table_state(role, &offer, terms)?;
        let message = match role {
            Role::Consumer => Message::Request(ContractRequest {
                message_id,
                consumer_pid,
                offer,
                opening: RequestOpening::Counters(provider_pid),
            }),
            Role::Provider => Message::Offer(ContractOffer {
                message_id,
                provider_pid,
                offer,
                opening: OfferOpening::Counters(consumer_pid),
            }),
        };
        Ok(self.sending(state, message, now))
    }

    fn agree(
        &self,
        table: &Table,
        part: SignedPart,
        message_id: MessageId,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let (provider_pid, consumer_pid) = self.both_pids()?;
        let state =
            self.concluded(&self.pids, table, part.agreement(), part.assigner_signature(), terms, now)?;
        let message = Message::Agreement(AgreementMessage {
            message_id,
            provider_pid,
            consumer_pid,
            assigner_signature: part.assigner_signature().map(|signature| signature.jws().to_owned()),
            agreement: part.agreement().clone(),
        });
        Ok(self.sending(state, message, now))
    }

    fn terminated(&self, cause: Cause, message_id: MessageId, now: UnixMillis) -> Step {
        let state = State::Terminated { by: self.role(), cause: cause.clone() };
        match self.pids.both() {
            Some((provider, consumer)) => {
                let (provider_pid, consumer_pid) = (provider.clone(), consumer.clone());
                let message =
                    Message::Termination(Termination { message_id, provider_pid, consumer_pid, cause });
                self.sending(state, message, now)
            }
            // The peer cannot be told before it has told its pid; `acknowledged` sends the termination then.
            None => {
                let mut next = self.clone();
                next.owed_termination = Some(message_id);
                next.moved(state, self.role(), MessageKind::Termination, now)
            }
        }
    }

    fn sending(&self, state: State, message: Message, now: UnixMillis) -> Step {
        let mut next = self.clone();
        next.last_sent = Some(Sent { id: message.id().clone(), settled: false });
        let mut step = next.moved(state, self.role(), message.kind(), now);
        step.effects.insert(0, Effect::Send(Box::new(message)));
        step
    }

    fn event(&self, message_id: MessageId, kind: EventKind) -> Result<Message, Refusal> {
        let (provider_pid, consumer_pid) = self.both_pids()?;
        Ok(Message::Event(Event { message_id, provider_pid, consumer_pid, kind }))
    }

    fn both_pids(&self) -> Result<(ProviderPid, ConsumerPid), Refusal> {
        let (provider, consumer) = self.pids.both().ok_or_else(|| Refusal::new(&PEER_PID_UNKNOWN, ""))?;
        Ok((provider.clone(), consumer.clone()))
    }

    fn awaits(&self, message_id: &MessageId) -> bool {
        self.last_sent.as_ref().is_some_and(|sent| sent.id == *message_id && !sent.settled)
    }

    fn settled(&self) -> Self {
        let mut next = self.clone();
        next.last_sent = next.last_sent.map(|sent| Sent { settled: true, ..sent });
        next
    }

    fn not_ours(&self, step: &str, state: StateName) -> Refusal {
        Refusal::new(&NOT_YOUR_STEP, format!("{step} as {} in {state}", self.role()))
    }
}

fn require_decided(table: &Table, consent: &Consent) -> Result<(), Refusal> {
    let allowed = match consent {
        Consent::AsPublished => !table.terms_altered,
        Consent::Compared(proof) => proof.hash() == table.offer.hash().as_str(),
        Consent::ByHand => true,
    };
    if allowed {
        return Ok(());
    }
    Err(Refusal::new(&TERMS_ALTERED, format!("offer `{}`", table.offer.id())))
}
