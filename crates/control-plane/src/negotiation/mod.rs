//! The contract negotiation of the Dataspace Protocol 2025-1, both roles, as a pure machine.
//!
//! A process is opened by [`Negotiation::open_as_consumer`] or [`Negotiation::open_as_provider`] (ours) or by
//! [`Negotiation::opened_by_peer`] (theirs). Then [`Negotiation::receive`] takes the peer's messages,
//! [`Negotiation::command`] our decisions, [`Negotiation::acknowledged`] and [`Negotiation::undelivered`] the fate
//! of what we sent. Each gives a [`Step`]: the next process and effects as data. A refusal changes nothing.
//!
//! Our state moves when we commit to sending, the peer's when it receives. The peer may therefore answer before
//! we have its acknowledgement; the turn-taking of the protocol makes that answer the acknowledgement.
//! Where the two sides cannot be brought together the process ends in TERMINATED on both and a
//! `negotiation-divergence` record says so.

mod command;
mod machine;
mod message;
mod receive;

pub use command::{Command, Consent, Opening};
pub use message::{
    AgreementMessage, ContractOffer, ContractRequest, Event, EventKind, Message, MessageKind, OfferOpening,
    RequestOpening, Termination, Verification,
};
pub use receive::Received;

use policy::refusal::Refusal;
use policy::time::UnixMillis;

use crate::agreement::{Annex, SignedAgreement, SignedPart};
use crate::cause::Cause;
use crate::digest::Digest;
use crate::ids::{CallbackAddress, DatasetId, MessageId, ParticipantId};
use crate::pids::{Pids, Role};
use crate::record::Record;
use crate::terms::Table;

policy::refusal_codes! {
    ILLEGAL_TRANSITION = "negotiation/illegal-transition", State,
        "this message is not allowed in the state the negotiation is in",
        "協商在目前狀態下不接受此訊息", "协商在当前状态下不接受此消息",
        clause "DSP 2025-1, 1.5", next "ask for the state of the negotiation and go on from there";
    NOT_YOUR_MESSAGE = "negotiation/wrong-sender", Input,
        "this message may only be sent by the other role",
        "此訊息只能由另一角色發出", "此消息只能由另一角色发出",
        clause "DSP 2025-1, 1.4", next "send the messages of your own role";
    NOT_YOUR_STEP = "negotiation/not-our-step", State,
        "this step is not ours to take in the state the negotiation is in",
        "協商在目前狀態下，這一步不由我方進行", "协商在当前状态下，这一步不由我方进行",
        clause "DSP 2025-1, 1.5", next "look at what the negotiation waits for";
    UNKNOWN_PROCESS = "negotiation/unknown-process", NotFound,
        "there is no such negotiation with this participant",
        "與此參與者之間沒有這項協商", "与此参与者之间没有这项协商",
        clause "DSP 2025-1, 1.3", next "check the process id and the peer";
    UNKNOWN_OFFER = "negotiation/unknown-offer", Input,
        "no offer of this id is published for this dataset",
        "此資料集沒有發布具此識別碼的要約", "此数据集没有发布具此标识符的要约",
        clause "DSP 2025-1, 1.4", next "take an offer from the current catalogue";
    OTHER_DATASET = "negotiation/other-dataset", Input,
        "the offer or agreement is about another dataset than the negotiation",
        "要約或協議涉及的資料集與協商不同", "要约或协议涉及的数据集与协商不同",
        clause "DSP 2025-1, 1.4", next "open a negotiation of its own for the other dataset";
    TERMS_ALTERED = "negotiation/terms-altered", Policy,
        "the terms differ from what was published, so only an explicit decision can agree to them",
        "條款與已發布者不同，只有明確決定才能同意", "条款与已发布者不同，只有明确决定才能同意",
        clause "protocol: altered terms are a counter-offer", next "read the changed clauses and accept, counter or terminate by hand";
    AGREEMENT_DIFFERS = "negotiation/agreement-differs", Policy,
        "the agreement's terms are not those of the offer on the table",
        "協議條款與議定中的要約不同", "协议条款与议定中的要约不同",
        clause "protocol: rules copied verbatim", next "conclude with the rules of the offer last made, unchanged";
    WRONG_PARTIES = "negotiation/wrong-parties", Input,
        "the agreement does not name the two parties of this negotiation",
        "協議所列雙方並非此次協商的雙方", "协议所列双方并非此次协商的双方",
        clause "DSP 2025-1, 1.4", next "name the provider as assigner and the consumer as assignee, as enrolled";
    FROM_THE_FUTURE = "negotiation/timestamp-in-future", Input,
        "the agreement's timestamp lies in the future",
        "協議的時間戳在未來", "协议的时间戳在未来",
        clause "bound: clock difference", next "compare both clocks, then conclude again";
    SIGNATURE_MISSING = "negotiation/signature-missing", Policy,
        "the message carries no verified signature of its party",
        "訊息未附該方經驗證的簽章", "消息未附该方经验证的签名",
        clause "RFC 7515 section 7.2; security model: the promise", next "sign the agreement with the participant key";
    TOO_MANY_ROUNDS = "limit/negotiation-rounds", Limit,
        "the negotiation has had too many offers and counter-offers",
        "協商的要約與反要約次數過多", "协商的要约与反要约次数过多",
        clause "bound: negotiation rounds", next "accept or terminate, and negotiate anew after talking to each other";
    WITH_ITSELF = "negotiation/with-itself", Input,
        "a participant cannot negotiate with itself",
        "參與者不能與自己協商", "参与者不能与自己协商",
        clause "bound: two parties", next "choose another participant's dataset";
    PEER_PID_UNKNOWN = "negotiation/peer-pid-unknown", Unavailable,
        "the peer has not told its id of this negotiation yet",
        "對方尚未告知此協商的識別碼", "对方尚未告知此协商的标识符",
        clause "DSP 2025-1, 1.1", next "try again after the peer has acknowledged the opening message";
}

/// Requests and offers in one negotiation. People settle terms in a handful of rounds; this stops two automatic
/// sides from countering each other for ever, and bounds the stored history.
pub const MAX_ROUNDS: usize = 32;
/// Transitions kept: all rounds, then accepted, agreed, verified, finalized or terminated.
pub const MAX_TRANSITIONS: usize = MAX_ROUNDS + 5;
/// How far an agreement's timestamp may lie ahead of our clock: two clocks that each keep to two minutes.
pub const MAX_CLOCK_AHEAD_MS: i64 = 5 * 60 * 1000;

/// One side's view of one negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation {
    pub(crate) us: ParticipantId,
    pub(crate) counterparty: ParticipantId,
    pub(crate) pids: Pids,
    pub(crate) dataset: DatasetId,
    pub(crate) state: State,
    pub(crate) address: Option<CallbackAddress>,
    pub(crate) history: Vec<Transition>,
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) last_sent: Option<Sent>,
    pub(crate) owed_termination: Option<MessageId>,
    pub(crate) ceiling: Option<String>,
}

/// A state with what is true in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// REQUESTED: the consumer's terms are on the table, the provider decides.
    Requested(Table),
    /// OFFERED: the provider's terms are on the table, the consumer decides.
    Offered(Table),
    /// ACCEPTED: the consumer accepted them, the provider concludes.
    Accepted(Table),
    /// AGREED: the provider concluded and signed, the consumer countersigns.
    Agreed {
        /// What it was concluded on.
        table: Table,
        /// The agreement with the assigner's signature.
        part: SignedPart,
    },
    /// VERIFIED: both signed, the provider finalises.
    Verified {
        /// The agreement with both signatures.
        signed: SignedAgreement,
    },
    /// FINALIZED: the agreement is in force. Terminal.
    Finalized {
        /// The agreement with both signatures.
        signed: SignedAgreement,
    },
    /// TERMINATED: there is no agreement from this process. Terminal.
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
    /// OFFERED.
    Offered,
    /// ACCEPTED.
    Accepted,
    /// AGREED.
    Agreed,
    /// VERIFIED.
    Verified,
    /// FINALIZED.
    Finalized,
    /// TERMINATED.
    Terminated,
}

impl StateName {
    /// Every name, in the order of the protocol.
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::Offered,
        Self::Accepted,
        Self::Agreed,
        Self::Verified,
        Self::Finalized,
        Self::Terminated,
    ];

    /// The name as DSP writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Offered => "OFFERED",
            Self::Accepted => "ACCEPTED",
            Self::Agreed => "AGREED",
            Self::Verified => "VERIFIED",
            Self::Finalized => "FINALIZED",
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
            Self::Finalized | Self::Terminated => true,
            Self::Requested | Self::Offered | Self::Accepted | Self::Agreed | Self::Verified => false,
        }
    }
}

impl std::fmt::Display for StateName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// One line of a negotiation's history.
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

/// What a step leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The process to store.
    pub next: Negotiation,
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
    /// Our side must decide now, by rule or by hand; [`Negotiation::waits_for`] says the same later.
    Decide(Decision),
    /// Append to the ledger, in the same transaction.
    Record(Record),
    /// The agreement is in force: store it as active.
    AgreementFinal(Box<SignedAgreement>),
    /// We finalised, and the peer refuses to have it so: stop acting on the agreement and tell the operator.
    AgreementDisputed {
        /// The agreement that the peer does not hold as final.
        signed: Box<SignedAgreement>,
        /// What the peer said.
        cause: Cause,
    },
}

/// What our side must decide; each is answered by the [`Command`]s named. What it is about stands in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Provider, REQUESTED: `Agree`, `Counter` or `Terminate`.
    Request {
        /// The terms differ from every published offer: a person may agree, a rule only with the proof of a comparison.
        terms_altered: bool,
    },
    /// Consumer, OFFERED: `Accept`, `Counter` or `Terminate`.
    Offer {
        /// The terms differ from every published offer: a person may accept, a rule only with the proof of a comparison.
        terms_altered: bool,
    },
    /// Provider, ACCEPTED: `Agree` or `Terminate`.
    Acceptance,
    /// Consumer, AGREED: `Verify` or `Terminate`.
    Agreement,
    /// Provider, VERIFIED: `Finalize` or `Terminate`.
    Verification,
}

/// Whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Ours, with what is to be decided.
    Us(Decision),
    /// The peer's.
    Peer,
    /// Nobody's: the process has ended.
    Nobody,
}

/// Why a message of ours did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The peer answered, and its answer is final (4xx, FAILED_PRECONDITION and the like).
    Refused(Cause),
    /// Retrying was given up; the peer may or may not have it.
    GaveUp,
}

impl Negotiation {
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

    /// What is negotiated.
    pub fn dataset(&self) -> &DatasetId {
        &self.dataset
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

    /// The consumer's own ceiling for this negotiation, as it was given at the opening.
    pub fn ceiling(&self) -> Option<&str> {
        self.ceiling.as_deref()
    }

    /// What happened, oldest first, at most [`MAX_TRANSITIONS`].
    pub fn history(&self) -> &[Transition] {
        &self.history
    }

    /// When it last moved.
    pub fn updated(&self) -> Option<UnixMillis> {
        self.history.last().map(|transition| transition.at)
    }

    /// The offer on the table, while there is one to talk about.
    pub fn table(&self) -> Option<&Table> {
        match &self.state {
            State::Requested(table) | State::Offered(table) | State::Accepted(table) => Some(table),
            State::Agreed { table, .. } => Some(table),
            State::Verified { .. } | State::Finalized { .. } | State::Terminated { .. } => None,
        }
    }

    /// The agreement with both signatures, once final.
    pub fn final_agreement(&self) -> Option<&SignedAgreement> {
        match &self.state {
            State::Finalized { signed } => Some(signed),
            State::Requested(_)
            | State::Offered(_)
            | State::Accepted(_)
            | State::Agreed { .. }
            | State::Verified { .. }
            | State::Terminated { .. } => None,
        }
    }

    /// The annex whose digest both signatures must carry; sign with it before `Agree` and `Verify`.
    ///
    /// # Errors
    /// [`NOT_YOUR_STEP`] without an offer on the table, [`PEER_PID_UNKNOWN`] before both names are known.
    pub fn annex(&self) -> Result<Annex, Refusal> {
        let table = self.table().ok_or_else(|| {
            Refusal::new(&NOT_YOUR_STEP, format!("no offer is on the table in {}", self.state_name()))
        })?;
        let (provider, consumer) = self.pids.both().ok_or_else(|| Refusal::new(&PEER_PID_UNKNOWN, ""))?;
        Ok(Annex::of(&table.offer, provider, consumer))
    }

    /// Whose move it is.
    pub fn waits_for(&self) -> WaitsFor {
        let (mover, decision) = match &self.state {
            State::Requested(table) => {
                (Role::Provider, Decision::Request { terms_altered: table.terms_altered })
            }
            State::Offered(table) => (Role::Consumer, Decision::Offer { terms_altered: table.terms_altered }),
            State::Accepted(_) => (Role::Provider, Decision::Acceptance),
            State::Agreed { .. } => (Role::Consumer, Decision::Agreement),
            State::Verified { .. } => (Role::Provider, Decision::Verification),
            State::Finalized { .. } | State::Terminated { .. } => return WaitsFor::Nobody,
        };
        if mover == self.role() { WaitsFor::Us(decision) } else { WaitsFor::Peer }
    }
}

impl State {
    /// The state's name.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Requested(_) => StateName::Requested,
            Self::Offered(_) => StateName::Offered,
            Self::Accepted(_) => StateName::Accepted,
            Self::Agreed { .. } => StateName::Agreed,
            Self::Verified { .. } => StateName::Verified,
            Self::Finalized { .. } => StateName::Finalized,
            Self::Terminated { .. } => StateName::Terminated,
        }
    }
}

impl Step {
    /// Goes on from this step in the same transaction, e.g. with the automatic answer to a `Decide`.
    ///
    /// The decision of this step counts as answered and is left out; all other effects stay, in order.
    ///
    /// # Errors
    /// Whatever `go_on` refuses with; this step is then still to be had by calling the machine without it.
    pub fn then(self, go_on: impl FnOnce(&Negotiation) -> Result<Step, Refusal>) -> Result<Step, Refusal> {
        let further = go_on(&self.next)?;
        let mut effects: Vec<Effect> =
            self.effects.into_iter().filter(|effect| !matches!(effect, Effect::Decide(_))).collect();
        effects.extend(further.effects);
        Ok(Step { next: further.next, effects, repeat: false })
    }

    /// What our side must decide now, if anything.
    pub fn decision(&self) -> Option<Decision> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Decide(decision) => Some(*decision),
            Effect::Send(_)
            | Effect::Record(_)
            | Effect::AgreementFinal(_)
            | Effect::AgreementDisputed { .. } => None,
        })
    }
}
