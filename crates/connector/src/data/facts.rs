//! What is known about a use before it is decided: of the store what is held, agreed, owed and counted; of this moment the
//! user, the lease and the time.

use std::sync::Arc;

use control_plane::ids::AgreementId;
use control_plane::status::HeldAgreement;
use control_plane::{Refusal, UnixMillis};
use data_plane::{TransformMark, UseRequest};
use policy::{Facts, Policy, Source, Value};
use store::Snapshot;

use super::acts::{self, Standing};
use super::counts::{self, Cost, Counted, Step};
use super::holdings::{self, Holding};
use super::situation::{self, Situation};
use super::uses::{DUTY_OVERDUE, RESTORED};
use super::{events, transforms};
use crate::driver::records;
use crate::driver::transfers::AGREEMENT_NOT_FOUND;
use crate::error::Error;
use crate::node::Node;
use crate::policies::facts_about;
use crate::{restored, trust};

/// The use that a person or program asks for, with what is known about it.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) held: HeldAgreement,
    pub(super) holding: Holding,
    pub(super) policy: Arc<Policy>,
    pub(super) counted: Counted,
    /// What the step in question costs.
    pub(super) cost: Cost,
    /// Whether the provider shares the keys.
    pub(super) leased: bool,
    /// What the provider did to the data before it left.
    transform: Option<TransformMark>,
    pub(super) duties: Standing,
    events: Vec<(String, String)>,
}

/// What is held and agreed, as the store has it.
pub(super) fn asked(
    node: &Node,
    store: &Snapshot<'_>,
    id: &AgreementId,
    step: Step,
    now: UnixMillis,
) -> Result<Asked, Error> {
    let held = records::found(records::agreement(store, id)?, &AGREEMENT_NOT_FOUND, id.as_str())?;
    held.status.require_active()?;
    trust::require_good_standing(store, &node.identity.trust(), held.signed.agreement().assigner())?;
    let holding = records::found(holdings::get(store, id)?, &holdings::NO_HOLDING, id.as_str())?;
    if holding.is_destroyed() {
        return Err(Refusal::new(&holdings::DESTROYED, id.as_str()).into());
    }
    let owed = acts::all_of(store, id)?;
    if let Some(duty) = owed.iter().find(|duty| duty.overdue_since.is_some() && duty.done_at.is_none()) {
        return Err(Refusal::new(&DUTY_OVERDUE, duty.kind.as_str()).into());
    }
    let duties = acts::standing(&owed, now)?;
    if let Some(consequence) = &duties.consequence {
        return Err(Refusal::new(&DUTY_OVERDUE, format!("{consequence}, as its consequence")).into());
    }
    let policy = node.policies.compiled(held.signed.agreement().text())?;
    let counted = counts::counted(store, id, &policy)?;
    let cost = counted.cost(step, now);
    if restored::is_closed(store, id)? {
        return Err(Refusal::new(&RESTORED, id.as_str()).into());
    }
    let leased = policy.lease_millis().is_some();
    let transform = match transforms::demands(&policy) {
        true => holdings::manifest(store, id)?.and_then(|manifest| manifest.transform().cloned()),
        false => None,
    };
    let events = events::running(store)?;
    Ok(Asked { held, holding, policy, counted, cost, leased, transform, duties, events })
}

/// The lease that a use rests on now.
pub(super) fn lease_at(node: &Node, asked: &Asked, now: UnixMillis) -> Option<UnixMillis> {
    let live = node.data.leases.live(asked.held.signed.agreement().id(), now);
    live.filter(|_| asked.leased).map(|granted| granted.last)
}

/// What is known about a use.
pub(super) fn facts(
    node: &Node,
    asked: &Asked,
    request: &UseRequest,
    lease: Option<UnixMillis>,
    now: UnixMillis,
) -> Facts {
    let agreement = asked.held.signed.agreement();
    let facts = facts_about(Some(&node.statement.load().statement), now);
    let mut facts = transforms::fulfilled(&asked.policy, asked.transform.as_ref(), facts)
        .uses_spent(asked.counted.before(asked.cost))
        .unit_of_count(asked.counted.unit)
        .first_use(asked.holding.first_use().unwrap_or(now))
        .signed(agreement.timestamp());
    if let Some(lease) = lease {
        facts = facts.leased(lease);
    }
    for (key, state) in &asked.duties.states {
        facts = facts.duty(key, *state);
    }
    if let Some(purpose) = &request.purpose {
        facts = facts.purpose(purpose);
    }
    if let Some(recipient) = &request.recipient {
        facts =
            facts.with(policy::vocab::operand::RECIPIENT, Value::symbol(recipient), Source::Asserted, now);
    }
    let config = node.config.load();
    let situation = Situation {
        user: user_id(&request.actor).and_then(|uid| config.users.iter().find(|user| user.uid == uid)),
        events: &asked.events,
        action: &request.action,
        unsealed: !asked.holding.unsealed.is_empty(),
    };
    situation::add(facts, &situation)
}

/// The number in what the socket says about its caller.
fn user_id(actor: &str) -> Option<u32> {
    actor.strip_prefix("uid ")?.parse().ok()
}
