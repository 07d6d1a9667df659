//! The one place where a negotiation moves: history, record and decision of each transition.

use policy::refusal::Refusal;
use policy::time::UnixMillis;

use super::{
    AGREEMENT_DIFFERS, Effect, FROM_THE_FUTURE, ILLEGAL_TRANSITION, MAX_CLOCK_AHEAD_MS, MAX_ROUNDS,
    MessageKind, Negotiation, OTHER_DATASET, PEER_PID_UNKNOWN, State, StateName, Step, TOO_MANY_ROUNDS,
    Transition, WRONG_PARTIES, WaitsFor,
};
use crate::agreement::{ANNEX_DIFFERS, Agreement, Annex, PartySignature, SignedPart};
use crate::cause::Cause;
use crate::ids::DatasetId;
use crate::pids::{Pids, Role};
use crate::record::Record;
use crate::terms::{Offer, Table, Terms};

impl Negotiation {
    /// Moves to `state` by `by`'s `message`; effects: the record, the final agreement, our decision.
    pub(super) fn moved(mut self, state: State, by: Role, message: MessageKind, now: UnixMillis) -> Step {
        self.state = state;
        self.arrived(by, message, now)
    }

    /// The step into the state that the process already holds.
    pub(super) fn arrived(mut self, by: Role, message: MessageKind, now: UnixMillis) -> Step {
        let record = self.record("negotiation-state", now);
        self.history.push(Transition { to: self.state_name(), by, message, at: now });
        let mut effects =
            vec![Effect::Record(self.state_fields(record).with("by", by).with("message", message.as_str()))];
        if let State::Finalized { signed } = &self.state {
            effects.push(Effect::AgreementFinal(Box::new(signed.clone())));
        }
        if let WaitsFor::Us(decision) = self.waits_for() {
            effects.push(Effect::Decide(decision));
        }
        Step { next: self, effects, repeat: false }
    }

    /// A step that answers without moving.
    pub(super) fn unchanged(&self) -> Step {
        Step { next: self.clone(), effects: Vec::new(), repeat: true }
    }

    /// A record of what the two sides do not agree about.
    pub(super) fn divergence(&self, cause: &Cause, now: UnixMillis) -> Effect {
        let record = self.state_fields(self.record("negotiation-divergence", now)).with("code", cause.code());
        Effect::Record(record.with("reason", cause.reasons().join("; ")))
    }

    fn record(&self, kind: &'static str, now: UnixMillis) -> Record {
        Record::new(kind, now)
            .with("role", self.role())
            .with("counterparty", &self.counterparty)
            .with("dataset", &self.dataset)
            .with_some("providerPid", self.pids.provider())
            .with_some("consumerPid", self.pids.consumer())
            .with_some("from", self.history.last().map(|transition| transition.to))
    }

    fn state_fields(&self, record: Record) -> Record {
        let record = record.with("state", self.state_name());
        match &self.state {
            State::Requested(table) | State::Offered(table) | State::Accepted(table) => {
                record.with("offerHash", table.offer.hash()).with("termsAltered", table.terms_altered)
            }
            State::Agreed { table, part } => record
                .with("offerHash", table.offer.hash())
                .with("agreement", part.agreement().id())
                .with("agreementHash", part.agreement().hash()),
            State::Verified { signed } | State::Finalized { signed } => record
                .with("agreement", signed.agreement().id())
                .with("agreementHash", signed.agreement().hash())
                .with("annex", signed.annex())
                .with_some("unsignedBy", signed.unsigned_by()),
            State::Terminated { cause, .. } => {
                record.with("code", cause.code()).with("reason", cause.reasons().join("; "))
            }
        }
    }

    pub(super) fn illegal(&self, message: MessageKind) -> Refusal {
        Refusal::new(&ILLEGAL_TRANSITION, format!("{} in {}", message.as_str(), self.state_name()))
    }

    /// Demands room for another request or offer.
    pub(super) fn require_round(&self) -> Result<(), Refusal> {
        let rounds = self
            .history
            .iter()
            .filter(|transition| matches!(transition.to, StateName::Requested | StateName::Offered))
            .count();
        if rounds < MAX_ROUNDS {
            return Ok(());
        }
        Err(Refusal::new(&TOO_MANY_ROUNDS, format!("{rounds} rounds")))
    }

    /// Demands that an agreement with its assigner's signature concludes exactly what is on the table.
    pub(super) fn concluded(
        &self,
        pids: &Pids,
        table: &Table,
        agreement: &Agreement,
        assigner: Option<&PartySignature>,
        terms: &dyn Terms,
        now: UnixMillis,
    ) -> Result<State, Refusal> {
        require_dataset(&self.dataset, agreement.target())?;
        let (provider, consumer) = match self.role() {
            Role::Consumer => (&self.counterparty, &self.us),
            Role::Provider => (&self.us, &self.counterparty),
        };
        if agreement.assigner() != provider || agreement.assignee() != consumer {
            let parties = format!("assigner `{}`, assignee `{}`", agreement.assigner(), agreement.assignee());
            return Err(Refusal::new(&WRONG_PARTIES, parties));
        }
        if agreement.timestamp().millis_since(now) > MAX_CLOCK_AHEAD_MS {
            return Err(Refusal::new(&FROM_THE_FUTURE, agreement.timestamp_text()));
        }
        if !terms.terms_equal(&table.offer, agreement) {
            return Err(Refusal::new(&AGREEMENT_DIFFERS, format!("offer `{}`", table.offer.id())));
        }
        let part = match assigner {
            Some(assigner) => {
                require_annex(assigner, &table.offer, pids)?;
                SignedPart::new(agreement.clone(), assigner.clone())?
            }
            None => SignedPart::unsigned(agreement.clone()),
        };
        Ok(State::Agreed { table: table.clone(), part })
    }
}

/// Demands that the signature carries the annex digest of this negotiation.
fn require_annex(signature: &PartySignature, offer: &Offer, pids: &Pids) -> Result<(), Refusal> {
    let (provider, consumer) = pids.both().ok_or_else(|| Refusal::new(&PEER_PID_UNKNOWN, ""))?;
    let annex = Annex::of(offer, provider, consumer);
    if signature.annex() == annex.digest() {
        return Ok(());
    }
    Err(Refusal::new(&ANNEX_DIFFERS, format!("expected {}, signed {}", annex.digest(), signature.annex())))
}

pub(super) fn require_dataset(ours: &DatasetId, theirs: &DatasetId) -> Result<(), Refusal> {
    if ours == theirs {
        return Ok(());
    }
    Err(Refusal::new(&OTHER_DATASET, format!("`{theirs}` instead of `{ours}`")))
}
