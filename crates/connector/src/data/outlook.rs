//! What may be done with a copy now and until when, as far as that is known before anybody asks.

use control_plane::ids::AgreementId;
use control_plane::{Refusal, UnixMillis};
use data_plane::UseRequest;
use policy::vocab::short;
use policy::{Outcome, Policy, Stage, TermKind};
use store::{DutyState, Snapshot};

use super::counts::Step;
use super::facts::{self, Asked};
use super::{acts, holdings};
use crate::error::Error;
use crate::node::Node;

/// What may be done, and what changes next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// One row for each action that the policy permits somewhere.
    pub may: Vec<MayDo>,
    /// The first instant at which time changes something.
    pub changes: Option<Change>,
}

/// Whether an action may be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MayDo {
    /// The action, prefixed.
    pub action: String,
    /// `permit`, `deny` or `unknown`.
    pub outcome: &'static str,
    /// Of anything but a permit.
    pub code: Option<&'static str>,
    /// When the answer may change by itself.
    pub until: Option<UnixMillis>,
    /// Operands that a use states or that only it knows, and `duty` for what must be done before.
    pub needs: Vec<String>,
}

/// Something that time changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: UnixMillis,
    /// `permission`, `period`, `lease`, or the action of a duty.
    pub what: String,
}

/// The outlook of a copy for a user, without using it.
pub fn of(
    node: &Node,
    store: &Snapshot<'_>,
    id: &AgreementId,
    policy: &Policy,
    actor: &str,
    now: UnixMillis,
) -> Result<Outlook, Error> {
    let opening = Step::Opens { with_object: true };
    let asked = match facts::asked(node, store, id, opening, now) {
        Ok(asked) => Ok(asked),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(error) => return Err(error),
    };
    let mut outlook = Outlook::default();
    let mut changes = changes_of_duties(store, id, now)?;
    if let Ok(asked) = &asked {
        let lease = node.data.leases.live(id, now).filter(|_| asked.leased);
        changes.extend(lease.map(|lease| Change { at: lease.until, what: "lease".to_owned() }));
        changes.extend(asked.duties.until.map(|at| Change { at, what: "period".to_owned() }));
    }
    for action in permitted(policy) {
        let row = match &asked {
            Ok(asked) => decided(node, asked, policy, &action, actor, now),
            Err(refusal) => closed(&action, refusal),
        };
        changes.extend(row.until.map(|at| Change { at, what: "permission".to_owned() }));
        outlook.may.push(row);
    }
    // What is gone changes no more.
    let gone = holdings::get(store, id)?.is_none_or(|holding| holding.is_destroyed());
    outlook.changes =
        changes.into_iter().filter(|change| !gone && change.at > now).min_by_key(|change| change.at);
    Ok(outlook)
}

/// The actions of all permissions, each once.
fn permitted(policy: &Policy) -> Vec<String> {
    let mut actions: Vec<String> = policy
        .terms()
        .into_iter()
        .filter(|term| term.kind == TermKind::Permitted)
        .map(|term| term.iri)
        .collect();
    actions.sort();
    actions.dedup();
    actions
}

fn closed(action: &str, refusal: &Refusal) -> MayDo {
    MayDo {
        action: short(action),
        outcome: "deny",
        code: Some(refusal.code.code),
        until: None,
        needs: Vec::new(),
    }
}

/// What is known decides; what only a use states is listed.
fn decided(node: &Node, asked: &Asked, policy: &Policy, action: &str, actor: &str, now: UnixMillis) -> MayDo {
    let agreement = asked.held.signed.agreement();
    let request = UseRequest {
        agreement: agreement.id().clone(),
        dataset: agreement.target().clone(),
        actor: actor.to_owned(),
        action: action.to_owned(),
        purpose: None,
        recipient: None,
        application: None,
    };
    // Without a live lease: what the use would be answered if the provider granted one now.
    let lease = facts::lease_at(node, asked, now).unwrap_or(now);
    let facts = facts::facts(node, asked, &request, Some(lease), now);
    let question = policy::Request {
        action,
        target: agreement.target().as_str(),
        assignee: node.us.as_str(),
        stage: Stage::Transfer,
    };
    let decision = policy.decide(&question, &facts);
    let own = "http://www.w3.org/ns/odrl/2/action";
    let waiting = decision.deferred().chain(decision.missing()).filter(|operand| *operand != own);
    let needs = waiting.map(short).collect();
    let live = node.data.leases.live(agreement.id(), now).filter(|_| asked.leased).map(|lease| lease.until);
    let ends = [decision.valid_until, live, asked.duties.until];
    MayDo {
        action: short(action),
        outcome: match decision.outcome {
            Outcome::Permit => "permit",
            Outcome::Deny => "deny",
            Outcome::Unknown => "unknown",
        },
        code: decision.code.map(|code| code.code),
        until: ends.into_iter().flatten().min(),
        needs,
    }
}

/// When the connector begins a duty, or a person's duty is overdue.
fn changes_of_duties(store: &Snapshot<'_>, id: &AgreementId, now: UnixMillis) -> Result<Vec<Change>, Error> {
    let open = acts::all_of(store, id)?.into_iter().filter(|duty| duty.state != DutyState::Done);
    let next = open.filter_map(|duty| {
        let at = [duty.start, duty.deadline].into_iter().filter(|at| *at > now && *at < acts::NEVER).min()?;
        Some(Change { at, what: duty.kind })
    });
    Ok(next.collect())
}
