//! What our own side does: asking, starting, stopping, and hearing what became of the messages sent.

use policy::refusal::Refusal;
use policy::time::UnixMillis;

use super::receive::{lifted, require_address, require_format};
use super::{
    DataAddress, Effect, Message, MessageKind, NOT_YOUR_STEP, PEER_PID_UNKNOWN, SUSPENDED_BY_OTHER, Sent,
    State, Step, TransferCompletion, TransferProcess, TransferRequest, TransferStart, TransferSuspension,
    TransferTermination, UNKNOWN_AGREEMENT, Undelivered,
};
use crate::cause::Cause;
use crate::ids::{CallbackAddress, ConsumerPid, MessageId, ParticipantId, ProviderPid};
use crate::pids::{Pids, Role};
use crate::status::{Act, HeldAgreement, Holds};

/// What asking for a transfer needs beside our fresh pid and the agreement.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Our own participant: the agreement's assignee.
    pub us: ParticipantId,
    /// One of the distribution's formats, e.g. [`super::GRPC_PULL`].
    pub format: String,
    /// Where the provider may call back.
    pub callback: CallbackAddress,
    /// Where the peer is called; `None` for a participant that is found by its name.
    pub address: Option<CallbackAddress>,
    /// A fresh id for the request.
    pub message_id: MessageId,
}

/// A decision of our side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Provider in REQUESTED, or in SUSPENDED whoever holds: lifts our hold, and starts if no other is left.
    Start(Option<DataAddress>),
    /// Either side in STARTED.
    Suspend(Cause),
    /// Either side in STARTED.
    Complete,
    /// Either side before the end.
    Terminate(Cause),
}

impl TransferProcess {
    /// We ask the provider for the agreement's dataset.
    ///
    /// # Errors
    /// [`UNKNOWN_AGREEMENT`] unless we are its assignee, the agreement's status as a code of [`crate::status`].
    pub fn open_as_consumer(
        opening: Opening,
        consumer_pid: ConsumerPid,
        agreement: &HeldAgreement,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let held = agreement.signed.agreement();
        if *held.assignee() != opening.us || *held.assigner() == opening.us {
            return Err(Refusal::new(&UNKNOWN_AGREEMENT, format!("`{}` is not ours as assignee", held.id())));
        }
        require_format(&opening.format, &[&opening.format])?;
        agreement.status.require_active()?;
        let process = Self {
            us: opening.us,
            counterparty: held.assigner().clone(),
            pids: Pids::Consumer { ours: consumer_pid.clone(), theirs: None },
            agreement_id: held.id().clone(),
            dataset: held.target().clone(),
            format: opening.format.clone(),
            destination: None,
            state: State::Requested,
            address: opening.address,
            history: Vec::new(),
            accepted: Vec::new(),
            last_sent: None,
            owed_termination: None,
        };
        let message = Message::Request(TransferRequest {
            message_id: opening.message_id,
            consumer_pid,
            agreement_id: held.id().clone(),
            format: opening.format,
            callback: opening.callback,
            data_address: None,
        });
        Ok(process.sending(State::Requested, message, now))
    }

    /// Our decision, sent under the fresh `message_id`, under `agreement` as we hold it now.
    ///
    /// # Errors
    /// A refusal changes nothing: [`NOT_YOUR_STEP`], [`SUSPENDED_BY_OTHER`], [`PEER_PID_UNKNOWN`], and for a
    /// start the agreement's status as a code of [`crate::status`].
    pub fn command(
        &self,
        command: Command,
        message_id: MessageId,
        agreement: &HeldAgreement,
        now: UnixMillis,
    ) -> Result<Step, Refusal> {
        let us = self.role();
        match command {
            Command::Start(told) => {
                let state = match &self.state {
                    State::Requested if us == Role::Provider => {
                        require_address(&self.format, told.as_ref())?;
                        State::Started { data_address: told }
                    }
                    State::Suspended { holds, data_address } => {
                        if !holds.held_by(us) {
                            return Err(Refusal::new(
                                &SUSPENDED_BY_OTHER,
                                format!("suspended by the {}", us.other()),
                            ));
                        }
                        let told = if us == Role::Provider { told } else { None };
                        lifted(holds, us, told.or_else(|| data_address.clone()))
                    }
                    State::Requested
                    | State::Started { .. }
                    | State::Completed { .. }
                    | State::Terminated { .. } => return Err(self.not_ours("start")),
                };
                self.require_agreement(agreement)?;
                let (provider_pid, consumer_pid) = self.both_pids()?;
                let data_address = match (&state, us) {
                    (
                        State::Started { data_address } | State::Suspended { data_address, .. },
                        Role::Provider,
                    ) => data_address.clone(),
                    (State::Started { .. } | State::Suspended { .. }, Role::Consumer)
                    | (State::Requested | State::Completed { .. } | State::Terminated { .. }, _) => None,
                };
                let message =
                    Message::Start(TransferStart { message_id, provider_pid, consumer_pid, data_address });
                Ok(self.sending(state, message, now))
            }
            Command::Suspend(cause) => match &self.state {
                State::Started { data_address } => {
                    let (provider_pid, consumer_pid) = self.both_pids()?;
                    let act = Act { cause: cause.clone(), at: now };
                    let state =
                        State::Suspended { holds: Holds::One(us, act), data_address: data_address.clone() };
                    let message = Message::Suspension(TransferSuspension {
                        message_id,
                        provider_pid,
                        consumer_pid,
                        cause,
                    });
                    Ok(self.sending(state, message, now))
                }
                State::Requested
                | State::Suspended { .. }
                | State::Completed { .. }
                | State::Terminated { .. } => Err(self.not_ours("suspend")),
            },
            Command::Complete => match &self.state {
                State::Started { .. } => {
                    let (provider_pid, consumer_pid) = self.both_pids()?;
                    let message =
                        Message::Completion(TransferCompletion { message_id, provider_pid, consumer_pid });
                    Ok(self.sending(State::Completed { by: us }, message, now))
                }
                State::Requested
                | State::Suspended { .. }
                | State::Completed { .. }
                | State::Terminated { .. } => Err(self.not_ours("complete")),
            },
            Command::Terminate(cause) => {
                if self.state_name().is_terminal() {
                    return Err(self.not_ours("terminate"));
                }
                Ok(self.terminated(cause, message_id, now))
            }
        }
    }

    /// The peer acknowledged `message_id` and told its names of the process; see
    /// [`crate::negotiation::Negotiation::acknowledged`].
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
        let mut next = self.clone().settled();
        next.pids = self.pids.learn(Some(provider_pid), Some(consumer_pid))?;
        let mut effects = Vec::new();
        if let (Some(owed), State::Terminated { cause, .. }) = (next.owed_termination.take(), &self.state) {
            next.last_sent = Some(Sent { id: owed.clone(), settled: false });
            effects.push(Effect::Send(Box::new(Message::Termination(TransferTermination {
                message_id: owed,
                provider_pid: provider_pid.clone(),
                consumer_pid: consumer_pid.clone(),
                cause: cause.clone(),
            }))));
        }
        Ok(Step { next, effects, repeat: false })
    }

    /// A message of ours will not arrive: before the end this terminates the process on both sides. Where we had
    /// completed, a `transfer-divergence` record says that the peer ended it otherwise.
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
            Undelivered::GaveUp => Cause::new("transfer/peer-unreachable", []),
        };
        let divergence = Effect::Record(
            self.record("transfer-divergence", now)
                .with("code", cause.code())
                .with("reason", cause.reasons().join("; ")),
        );
        let mut next = self.clone().settled();
        match &self.state {
            State::Requested | State::Started { .. } | State::Suspended { .. } => {
                let mut step = next.terminated(cause, fresh, now);
                // Nobody will tell a pid that was not told with the request.
                step.next.owed_termination = None;
                step.effects.insert(0, divergence);
                step
            }
            State::Completed { by } => {
                let effects = if *by == self.role() { vec![divergence] } else { Vec::new() };
                Step { next, effects, repeat: false }
            }
            // Termination needs nobody's consent (DSP 2025-1, 1.1), but a peer that never heard of it goes on.
            State::Terminated { .. } => {
                let owed = next.owed_termination.take().is_some();
                let effects = match why {
                    Undelivered::Refused(_) if !owed => Vec::new(),
                    Undelivered::Refused(_) | Undelivered::GaveUp => vec![divergence],
                };
                Step { next, effects, repeat: false }
            }
        }
    }

    fn terminated(&self, cause: Cause, message_id: MessageId, now: UnixMillis) -> Step {
        let state = State::Terminated { by: self.role(), cause: cause.clone() };
        match self.both_pids() {
            Ok((provider_pid, consumer_pid)) => {
                let message = Message::Termination(TransferTermination {
                    message_id,
                    provider_pid,
                    consumer_pid,
                    cause,
                });
                self.sending(state, message, now)
            }
            // The peer cannot be told before it has told its pid; `acknowledged` sends the termination then.
            Err(_) => {
                let mut next = self.clone();
                next.owed_termination = Some(message_id);
                next.moved(state, self.role(), MessageKind::Termination, now)
            }
        }
    }

    fn sending(&self, state: State, message: Message, now: UnixMillis) -> Step {
        let mut next = self.clone();
        next.state = state;
        next.last_sent = Some(Sent { id: message.id().clone(), settled: false });
        let kind = message.kind();
        next.arrived(Some(message), self.role(), kind, now)
    }

    fn both_pids(&self) -> Result<(ProviderPid, ConsumerPid), Refusal> {
        let (provider, consumer) = self.pids.both().ok_or_else(|| Refusal::new(&PEER_PID_UNKNOWN, ""))?;
        Ok((provider.clone(), consumer.clone()))
    }

    fn not_ours(&self, step: &str) -> Refusal {
        Refusal::new(&NOT_YOUR_STEP, format!("{step} as {} in {}", self.role(), self.state_name()))
    }
}
