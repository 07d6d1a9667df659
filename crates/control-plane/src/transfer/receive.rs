//! What the peer's messages do.

use policy::refusal::Refusal;
use policy::time::UnixMillis;

use super::{
    Accepted, DATA_ADDRESS_MISSING, DataAddress, GRPC_PULL, ILLEGAL_TRANSITION, MAX_FORMAT_BYTES, Message,
    MessageKind, NOT_YOUR_MESSAGE, SUSPENDED_BY_OTHER, State, StateName, Step, TransferProcess,
    UNKNOWN_AGREEMENT, UNKNOWN_PROCESS, UNSUPPORTED_FORMAT, remember,
};
use crate::dedupe::{self, Arrival};
use crate::ids::{ParticipantId, ProviderPid, printable};
use crate::pids::{Pids, Role};
use crate::status::{Act, HeldAgreement, Holds};

/// A message with who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The verified participant at the other end of the connection; never taken from the message.
    pub sender: &'a ParticipantId,
    /// The message.
    pub message: &'a Message,
}

/// What a message does to a process that it may be sent to.
enum Outcome {
    /// It moves.
    Moves(State),
    /// It crossed a completion or termination of ours, which prevails: answered, remembered, without effect.
    Absorbed,
}

impl TransferProcess {
    /// A consumer asks us, the provider, for the dataset of `agreement`: what we hold under the message's
    /// agreement id, or `None`. `formats` are those of the dataset's distributions.
    ///
    /// Look for a process of this peer and consumer pid first: a request that arrives again belongs to
    /// [`TransferProcess::receive`] of that process (DSP 2025-1, 1.6).
    ///
    /// # Errors
    /// [`UNKNOWN_AGREEMENT`] also where it is with somebody else, [`UNSUPPORTED_FORMAT`], or the agreement's
    /// status as a code of [`crate::status`].
    pub fn opened_by_peer(
        received: &Received<'_>,
        provider_pid: ProviderPid,
        us: &ParticipantId,
        agreement: Option<&HeldAgreement>,
        formats: &[&str],
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let request = match received.message {
            Message::Request(request) => request,
            Message::Start(_) | Message::Completion(_) | Message::Suspension(_) | Message::Termination(_) => {
                return Err(Refusal::new(&UNKNOWN_PROCESS, received.message.kind().as_str()));
            }
        };
        let agreement = agreement
            .filter(|held| {
                let held = held.signed.agreement();
                *held.id() == request.agreement_id
                    && *held.assigner() == *us
                    && *held.assignee() == *received.sender
            })
            .ok_or_else(|| Refusal::new(&UNKNOWN_AGREEMENT, format!("`{}`", request.agreement_id)))?;
        require_format(&request.format, formats)?;
        agreement.status.require_active()?;
        let process = Self {
            us: us.clone(),
            counterparty: received.sender.clone(),
            pids: Pids::Provider { ours: provider_pid, theirs: Some(request.consumer_pid.clone()) },
            agreement_id: request.agreement_id.clone(),
            dataset: agreement.signed.agreement().target().clone(),
            format: request.format.clone(),
            destination: request.data_address.clone(),
            state: State::Requested,
            address: Some(request.callback.clone()),
            history: Vec::new(),
            accepted: Vec::new(),
            last_sent: None,
            owed_termination: None,
        };
        Ok(process.accepting(received.message).arrived(None, Role::Consumer, MessageKind::Request, now))
    }

    /// A message of the counterparty for this process, under `agreement` as we hold it now.
    ///
    /// # Errors
    /// A refusal changes nothing: [`UNKNOWN_PROCESS`] for anybody but the counterparty, [`ILLEGAL_TRANSITION`],
    /// [`SUSPENDED_BY_OTHER`], the agreement's status where bytes would flow, and the further codes of
    /// [`super::CODES`], [`crate::dedupe`] and [`crate::pids`].
    pub fn receive(
        &self,
        received: &Received<'_>,
        agreement: &HeldAgreement,
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
        let us = self.role();
        let peer = us.other();
        if message.sender().is_some_and(|sender| sender != peer) {
            return Err(Refusal::new(
                &NOT_YOUR_MESSAGE,
                format!("{} from the {peer}", message.kind().as_str()),
            ));
        }
        if matches!(message, Message::Request(_)) {
            return Err(self.illegal(message));
        }
        let pids = self.pids.learn(message.provider_pid(), Some(message.consumer_pid()))?;
        let outcome = self.outcome(message, agreement, now)?;
        let mut next = self.clone().accepting(message);
        next.pids = pids;
        next.owed_termination = None;
        match outcome {
            Outcome::Absorbed => {
                // Their completion or termination beside ours: they have ended as we have. Their suspension or
                // start says nothing about whether they will take our completion.
                if matches!(message, Message::Completion(_) | Message::Termination(_)) {
                    next = next.settled();
                }
                Ok(Step { next, effects: Vec::new(), repeat: false })
            }
            Outcome::Moves(state) => {
                // Whoever names our pid has our request. Later messages may cross, and prove nothing.
                if self.state_name() == StateName::Requested && us == Role::Consumer {
                    next = next.settled();
                }
                Ok(next.moved(state, peer, message.kind(), now))
            }
        }
    }

    fn outcome(
        &self,
        message: &Message,
        agreement: &HeldAgreement,
        now: UnixMillis,
    ) -> Result<Outcome, Refusal> {
        let us = self.role();
        let peer = us.other();
        match message {
            Message::Request(_) => Err(self.illegal(message)),
            Message::Start(start) => match &self.state {
                State::Requested if us == Role::Consumer => {
                    self.require_agreement(agreement)?;
                    require_address(&self.format, start.data_address.as_ref())?;
                    Ok(Outcome::Moves(State::Started { data_address: start.data_address.clone() }))
                }
                State::Suspended { holds, data_address } => {
                    if !holds.held_by(peer) {
                        return Err(Refusal::new(&SUSPENDED_BY_OTHER, format!("suspended by the {us}")));
                    }
                    self.require_agreement(agreement)?;
                    let told = if peer == Role::Provider { start.data_address.clone() } else { None };
                    Ok(Outcome::Moves(lifted(holds, peer, told.or_else(|| data_address.clone()))))
                }
                // We had completed before their start reached us; they will hear of it.
                State::Completed { by } if *by == us && self.ours_is_under_way() => Ok(Outcome::Absorbed),
                State::Requested
                | State::Started { .. }
                | State::Completed { .. }
                | State::Terminated { .. } => Err(self.illegal(message)),
            },
            Message::Suspension(suspension) => match &self.state {
                State::Started { data_address } => {
                    let act = Act { cause: suspension.cause.clone(), at: now };
                    Ok(Outcome::Moves(State::Suspended {
                        holds: Holds::One(peer, act),
                        data_address: data_address.clone(),
                    }))
                }
                // Both suspended at once: each holds.
                State::Suspended { holds, data_address } if !holds.held_by(peer) => {
                    let act = Act { cause: suspension.cause.clone(), at: now };
                    Ok(Outcome::Moves(State::Suspended {
                        holds: holds.with(peer, act),
                        data_address: data_address.clone(),
                    }))
                }
                State::Completed { by } if *by == us && self.ours_is_under_way() => Ok(Outcome::Absorbed),
                State::Requested
                | State::Suspended { .. }
                | State::Completed { .. }
                | State::Terminated { .. } => Err(self.illegal(message)),
            },
            Message::Completion(_) => match &self.state {
                State::Started { .. } => Ok(Outcome::Moves(State::Completed { by: peer })),
                // The peer had completed before our suspension reached it.
                State::Suspended { holds, .. } if !holds.held_by(peer) => {
                    Ok(Outcome::Moves(State::Completed { by: peer }))
                }
                State::Completed { by } if *by == us && self.ours_is_under_way() => Ok(Outcome::Absorbed),
                State::Requested
                | State::Suspended { .. }
                | State::Completed { .. }
                | State::Terminated { .. } => Err(self.illegal(message)),
            },
            Message::Termination(termination) => match &self.state {
                State::Requested | State::Started { .. } | State::Suspended { .. } => {
                    Ok(Outcome::Moves(State::Terminated { by: peer, cause: termination.cause.clone() }))
                }
                State::Terminated { by, .. } if *by == us && self.ours_is_under_way() => {
                    Ok(Outcome::Absorbed)
                }
                State::Completed { .. } | State::Terminated { .. } => Err(self.illegal(message)),
            },
        }
    }

    fn ours_is_under_way(&self) -> bool {
        self.owed_termination.is_some() || self.last_sent.as_ref().is_some_and(|sent| !sent.settled)
    }

    /// Whether the message was accepted before; the request is also known by its body, since a consumer that lost
    /// our acknowledgement may ask again under a new message id (DSP 2025-1, 1.6).
    fn is_repeat(&self, message: &Message) -> Result<bool, Refusal> {
        let body = message.body_digest();
        let known = dedupe::known(message.id(), &self.accepted, |accepted| &accepted.id);
        if dedupe::arrival(message.id(), &body, known.map(|accepted| &accepted.body))? == Arrival::Repeat {
            return Ok(true);
        }
        Ok(message.kind() == MessageKind::Request
            && self.accepted.first().is_some_and(|first| first.body == body))
    }

    fn accepting(mut self, message: &Message) -> Self {
        remember(&mut self.accepted, Accepted { id: message.id().clone(), body: message.body_digest() });
        self
    }

    fn illegal(&self, message: &Message) -> Refusal {
        Refusal::new(&ILLEGAL_TRANSITION, format!("{} in {}", message.kind().as_str(), self.state_name()))
    }
}

/// The state once `role` has lifted its hold.
pub(super) fn lifted(holds: &Holds, role: Role, data_address: Option<DataAddress>) -> State {
    match holds.without(role) {
        Some(holds) => State::Suspended { holds, data_address },
        None => State::Started { data_address },
    }
}

pub(super) fn require_format(format: &str, formats: &[&str]) -> Result<(), Refusal> {
    if (1..=MAX_FORMAT_BYTES).contains(&format.len()) && formats.contains(&format) {
        return Ok(());
    }
    Err(Refusal::new(&UNSUPPORTED_FORMAT, format!("`{}`", printable(format))))
}

/// Our own pull cannot begin without knowing where; what foreign formats need is their peer's business.
pub(super) fn require_address(format: &str, address: Option<&DataAddress>) -> Result<(), Refusal> {
    if format == GRPC_PULL && address.is_none() {
        return Err(Refusal::new(&DATA_ADDRESS_MISSING, GRPC_PULL));
    }
    Ok(())
}
