//! The transfer process of the Dataspace Protocol 2025-1, both roles, as a pure machine.
//!
//! Opened by [`TransferProcess::open_as_consumer`] or, at the provider, [`TransferProcess::opened_by_peer`]; both
//! demand the [`HeldAgreement`], and so does every step that lets bytes flow. Only the side that suspended may
//! resume: a provider that stopped for a reason is not started again by its consumer.
//!
//! Unlike a negotiation, both sides may act at once. Each side's suspension is its own hold, which only its own
//! start lifts, so that crossing suspensions and resumptions lead to the same state on both sides. Completion
//! prevails over a suspension that crosses it; a termination always ends the process.

mod command;
mod message;
mod receive;

pub use command::{Command, Opening};
pub use message::CODES as MESSAGE_CODES;
pub use message::{
    DataAddress, GRPC_PULL, MALFORMED_DATA_ADDRESS, MAX_DATA_ADDRESS_BYTES, MAX_DATA_ADDRESS_PROPERTIES,
    Message, MessageKind, TransferCompletion, TransferRequest, TransferStart, TransferSuspension,
    TransferTermination,
};
pub use receive::Received;

use policy::refusal::Refusal;
use policy::time::UnixMillis;

use crate::cause::Cause;
use crate::digest::Digest;
use crate::ids::{AgreementId, CallbackAddress, DatasetId, MessageId, ParticipantId};
use crate::pids::{Pids, Role};
use crate::record::Record;
use crate::status::{HeldAgreement, Holds};

policy::refusal_codes! {
    ILLEGAL_TRANSITION = "transfer/illegal-transition", State,
        "this message is not allowed in the state the transfer is in",
        "傳輸在目前狀態下不接受此訊息", "传输在当前状态下不接受此消息",
        clause "DSP 2025-1, 1.5", next "ask for the state of the transfer and go on from there";
    NOT_YOUR_MESSAGE = "transfer/wrong-sender", Input,
        "this message may only be sent by the other role",
        "此訊息只能由另一角色發出", "此消息只能由另一角色发出",
        clause "DSP 2025-1, 1.4", next "send the messages of your own role";
    NOT_YOUR_STEP = "transfer/not-our-step", State,
        "this step is not ours to take in the state the transfer is in",
        "傳輸在目前狀態下，這一步不由我方進行", "传输在当前状态下，这一步不由我方进行",
        clause "DSP 2025-1, 1.5", next "look at the state of the transfer";
    UNKNOWN_PROCESS = "transfer/unknown-process", NotFound,
        "there is no such transfer with this participant",
        "與此參與者之間沒有這項傳輸", "与此参与者之间没有这项传输",
        clause "DSP 2025-1, 1.3", next "check the process id and the peer";
    UNKNOWN_AGREEMENT = "transfer/unknown-agreement", NotFound,
        "there is no such agreement between the two participants",
        "雙方之間沒有此協議", "双方之间没有此协议",
        clause "DSP 2025-1, 1.5", next "negotiate an agreement first";
    UNSUPPORTED_FORMAT = "transfer/unsupported-format", Input,
        "the dataset is not offered in this format",
        "資料集不以此格式提供", "数据集不以此格式提供",
        clause "DSP 2025-1, 1.5", next "choose one of the formats of the dataset's distributions";
    SUSPENDED_BY_OTHER = "transfer/suspended-by-other", State,
        "only the side that suspended the transfer can resume it",
        "只有暫停傳輸的一方才能恢復", "只有暂停传输的一方才能恢复",
        clause "protocol: who suspended", next "ask the side that suspended it to resume it";
    DATA_ADDRESS_MISSING = "transfer/data-address-missing", Input,
        "a pull starts with the address to pull from",
        "拉取須附上資料位址才能開始", "拉取须附上数据地址才能开始",
        clause "DSP 2025-1, 1.4", next "send `dataAddress` in the start message";
    PEER_PID_UNKNOWN = "transfer/peer-pid-unknown", Unavailable,
        "the peer has not told its id of this transfer yet",
        "對方尚未告知此傳輸的識別碼", "对方尚未告知此传输的标识符",
        clause "DSP 2025-1, 1.1", next "try again after the peer has acknowledged the request";
    NOT_STARTED = "transfer/not-started", State,
        "bytes flow only while the transfer is started",
        "傳輸已開始時才可傳送資料", "传输已开始时才可传送数据",
        clause "DSP 2025-1, 1.5", next "start or resume the transfer first";
    OTHER_AGREEMENT = "transfer/other-agreement", Ours,
        "the agreement at hand is not the one of this transfer",
        "所持協議並非此傳輸的協議", "所持协议并非此传输的协议",
        clause "DSP 2025-1, 1.5", next "report this: the connector looked up the wrong agreement";
}

/// Accepted messages and transitions remembered besides the opening one. Deliveries are in order within a process,
/// so a repeat is at most a few messages old; the connector's own table of seen messages reaches further back.
pub const MAX_REMEMBERED: usize = 64;
/// The longest name of a format.
pub const MAX_FORMAT_BYTES: usize = 255;

/// One side's view of one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferProcess {
    pub(crate) us: ParticipantId,
    pub(crate) counterparty: ParticipantId,
    pub(crate) pids: Pids,
    pub(crate) agreement_id: AgreementId,
    pub(crate) dataset: DatasetId,
    pub(crate) format: String,
    pub(crate) destination: Option<DataAddress>,
    pub(crate) state: State,
    pub(crate) address: Option<CallbackAddress>,
    pub(crate) history: Vec<Transition>,
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) last_sent: Option<Sent>,
    pub(crate) owed_termination: Option<MessageId>,
}

/// A state with what is true in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// REQUESTED: the provider decides.
    Requested,
    /// STARTED: bytes may flow.
    Started {
        /// Where to pull from.
        data_address: Option<DataAddress>,
    },
    /// SUSPENDED: bytes must not flow until every hold is lifted, each by the side that put it.
    Suspended {
        /// Who suspended, why and when; both sides if their suspensions crossed.
        holds: Holds,
        /// Where to go on pulling from, unless resuming names another.
        data_address: Option<DataAddress>,
    },
    /// COMPLETED. Terminal.
    Completed {
        /// Who said so.
        by: Role,
    },
    /// TERMINATED. Terminal.
    Terminated {
        /// Who ended it.
        by: Role,
        /// Why.
        cause: Cause,
    },
}

/// The name of a state on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// REQUESTED.
    Requested,
    /// STARTED.
    Started,
    /// SUSPENDED.
    Suspended,
    /// COMPLETED.
    Completed,
    /// TERMINATED.
    Terminated,
}

impl StateName {
    /// Every name, in the order of the protocol.
    pub const ALL: [Self; 5] =
        [Self::Requested, Self::Started, Self::Suspended, Self::Completed, Self::Terminated];

    /// The name as DSP writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Started => "STARTED",
            Self::Suspended => "SUSPENDED",
            Self::Completed => "COMPLETED",
            Self::Terminated => "TERMINATED",
        }
    }

    /// Reads DSP's name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == text)
    }

    /// Whether nothing follows it.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::Terminated => true,
            Self::Requested | Self::Started | Self::Suspended => false,
        }
    }
}

impl std::fmt::Display for StateName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// One line of a transfer's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state it led to.
    pub to: StateName,
    /// Whose message it was.
    pub by: Role,
    /// The message.
    pub message: MessageKind,
    /// When we took it, by our clock.
    pub at: UnixMillis,
}

/// A peer's message that was accepted: a second arrival is answered, and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: MessageId,
    /// [`Message::body_digest`].
    pub body: Digest,
}

/// The message we sent last, and whether the peer is known to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// The peer acknowledged it, answered it, or refused it for good.
    pub settled: bool,
}

pub use crate::negotiation::Undelivered;

/// What a step leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The process to store.
    pub next: TransferProcess,
    /// What to do once it is stored, in this order.
    pub effects: Vec<Effect>,
    /// The message was known: `next` equals what was stored, `effects` is empty, the answer is as before.
    pub repeat: bool,
}

/// Something to do after the step is stored. All of it may run twice after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Deliver this to the counterparty, in order within the process, until acknowledged: an outbox row.
    Send(Box<Message>),
    /// Provider, REQUESTED: answer with `Start` or `Terminate`, by rule or by hand.
    DecideStart,
    /// Append to the ledger, in the same transaction.
    Record(Record),
    /// Bytes may flow from here on; the consumer begins or goes on pulling.
    DataMayFlow(Option<DataAddress>),
    /// Bytes must stop at once.
    DataMustStop,
}

impl TransferProcess {
    /// Our side.
    pub fn role(&self) -> Role {
        self.pids.role()
    }

    /// Our own participant.
    pub fn us(&self) -> &ParticipantId {
        &self.us
    }

    /// The only participant whose messages count here.
    pub fn counterparty(&self) -> &ParticipantId {
        &self.counterparty
    }

    /// Both names of the process.
    pub fn pids(&self) -> &Pids {
        &self.pids
    }

    /// Under which agreement.
    pub fn agreement_id(&self) -> &AgreementId {
        &self.agreement_id
    }

    /// The agreement's dataset.
    pub fn dataset(&self) -> &DatasetId {
        &self.dataset
    }

    /// In which format.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// Where the consumer wants the data to be sent, if it asked for that.
    pub fn destination(&self) -> Option<&DataAddress> {
        self.destination.as_ref()
    }

    /// The state with what is true in it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state's name.
    pub fn state_name(&self) -> StateName {
        self.state.name()
    }

    /// Where the peer is called: what it gave when it opened the process, or what we opened it at. Its scheme says
    /// which binding the process uses; dialling has its own rules.
    pub fn address(&self) -> Option<&CallbackAddress> {
        self.address.as_ref()
    }

    /// What happened, oldest first: the opening and the last [`MAX_REMEMBERED`].
    pub fn history(&self) -> &[Transition] {
        &self.history
    }

    /// When it last moved.
    pub fn updated(&self) -> Option<UnixMillis> {
        self.history.last().map(|transition| transition.at)
    }

    /// Demands that bytes may flow now: the transfer is started and its agreement active.
    ///
    /// What the policy says about this window is the policy engine's question, asked after this one.
    ///
    /// # Errors
    /// [`NOT_STARTED`], [`OTHER_AGREEMENT`], or the agreement's status as a code of [`crate::status`].
    pub fn require_flow(&self, agreement: &HeldAgreement) -> Result<(), Refusal> {
        match &self.state {
            State::Started { .. } => self.require_agreement(agreement),
            State::Requested
            | State::Suspended { .. }
            | State::Completed { .. }
            | State::Terminated { .. } => Err(Refusal::new(&NOT_STARTED, self.state_name().as_str())),
        }
    }

    pub(crate) fn require_agreement(&self, agreement: &HeldAgreement) -> Result<(), Refusal> {
        let held = agreement.signed.agreement();
        if *held.id() != self.agreement_id || *held.target() != self.dataset {
            return Err(Refusal::new(&OTHER_AGREEMENT, format!("`{}`", held.id())));
        }
        agreement.status.require_active()
    }

    fn moved(mut self, state: State, by: Role, message: MessageKind, now: UnixMillis) -> Step {
        self.state = state;
        self.arrived(None, by, message, now)
    }

    /// The step into the state that the process already holds; `sent` is delivered first.
    fn arrived(mut self, sent: Option<Message>, by: Role, message: MessageKind, now: UnixMillis) -> Step {
        let from = self.history.last().map(|transition| transition.to);
        let flowed = from == Some(StateName::Started);
        let to = self.state_name();
        remember(&mut self.history, Transition { to, by, message, at: now });
        let record = self
            .record("transfer-state", now)
            .with_some("from", from)
            .with("by", by)
            .with("message", message.as_str());
        let mut effects: Vec<Effect> =
            sent.map(|message| Effect::Send(Box::new(message))).into_iter().collect();
        match &self.state {
            State::Started { data_address } => {
                effects.push(Effect::Record(record));
                effects.push(Effect::DataMayFlow(data_address.clone()));
            }
            State::Requested => {
                effects.push(Effect::Record(record));
                if self.role() == Role::Provider {
                    effects.push(Effect::DecideStart);
                }
            }
            State::Suspended { holds, .. } => {
                // A hold that is left after the other side's start is not a new suspension.
                let record = match holds.of(by) {
                    Some(act) => caused(record, &act.cause),
                    None => record,
                };
                effects.push(Effect::Record(record));
                if flowed {
                    effects.push(Effect::DataMustStop);
                }
            }
            State::Terminated { cause, .. } => {
                effects.push(Effect::Record(caused(record, cause)));
                if flowed {
                    effects.push(Effect::DataMustStop);
                }
            }
            State::Completed { .. } => {
                effects.push(Effect::Record(record));
                if flowed {
                    effects.push(Effect::DataMustStop);
                }
            }
        }
        Step { next: self, effects, repeat: false }
    }

    fn record(&self, kind: &'static str, now: UnixMillis) -> Record {
        Record::new(kind, now)
            .with("role", self.role())
            .with("counterparty", &self.counterparty)
            .with("agreement", &self.agreement_id)
            .with("dataset", &self.dataset)
            .with("state", self.state_name())
            .with_some("providerPid", self.pids.provider())
            .with_some("consumerPid", self.pids.consumer())
    }

    fn unchanged(&self) -> Step {
        Step { next: self.clone(), effects: Vec::new(), repeat: true }
    }

    /// Whether the peer is known to have heard the last that we said.
    pub fn is_heard(&self) -> bool {
        self.last_sent.as_ref().is_none_or(|sent| sent.settled)
    }

    fn awaits(&self, message_id: &MessageId) -> bool {
        self.last_sent.as_ref().is_some_and(|sent| sent.id == *message_id && !sent.settled)
    }

    fn settled(mut self) -> Self {
        self.last_sent = self.last_sent.map(|sent| Sent { settled: true, ..sent });
        self
    }
}

fn caused(record: Record, cause: &Cause) -> Record {
    record.with("code", cause.code()).with("reason", cause.reasons().join("; "))
}

/// Appends, dropping the oldest but the very first, which tells a repeated opening.
fn remember<T>(list: &mut Vec<T>, item: T) {
    list.push(item);
    if list.len() > MAX_REMEMBERED + 1 {
        list.remove(1);
    }
}

impl State {
    /// The state's name.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Requested => StateName::Requested,
            Self::Started { .. } => StateName::Started,
            Self::Suspended { .. } => StateName::Suspended,
            Self::Completed { .. } => StateName::Completed,
            Self::Terminated { .. } => StateName::Terminated,
        }
    }
}

impl Step {
    /// Goes on from this step in the same transaction, e.g. with the automatic answer to a `DecideStart`.
    ///
    /// The decision of this step counts as answered and is left out; all other effects stay, in order.
    ///
    /// # Errors
    /// Whatever `go_on` refuses with; this step is then still to be had by calling the machine without it.
    pub fn then(
        self,
        go_on: impl FnOnce(&TransferProcess) -> Result<Step, Refusal>,
    ) -> Result<Step, Refusal> {
        let further = go_on(&self.next)?;
        let mut effects: Vec<Effect> =
            self.effects.into_iter().filter(|effect| *effect != Effect::DecideStart).collect();
        effects.extend(further.effects);
        Ok(Step { next: further.next, effects, repeat: false })
    }
}
