//! Publishing what is held: from whom it came, whether it may be passed on, and whether the offers are strict enough.

use std::collections::BTreeSet;
use std::sync::Arc;

use control_plane::Refusal;
use control_plane::ids::{AgreementId, DatasetId, ParticipantId};
use control_plane::status::HeldAgreement;
use data_plane::{Manifest, Publication};
use policy::vocab::operand;
use policy::{Policy, accept};

use super::{
    LAXER, LAXER_THAN_NEXT, LEASED, NEXT_UNKNOWN, NOT_CONSUMER, NOT_DISTRIBUTABLE, Standing,
    decide_to_distribute, facts, next_policies, standing,
};
use crate::data::counts;
use crate::data::holdings::{self, DESTROYED, INCOMPLETE, NO_HOLDING};
use crate::driver::records;
use crate::driver::transfers::AGREEMENT_NOT_FOUND;
use crate::error::Error;
use crate::node::Node;

/// A copy that may be passed on.
pub struct HeldSource {
    agreement: AgreementId,
    dataset: DatasetId,
    assigner: ParticipantId,
    policy: Arc<Policy>,
    purpose: Option<String>,
    /// What it consists of.
    pub manifest: Arc<Manifest>,
    /// The dataset that it was pulled from, and those that this one was made from.
    pub derived_from: BTreeSet<String>,
}

impl HeldSource {
    /// The copy under an agreement of ours; refused unless it is whole and may be passed on now, for `purpose` (an IRI)
    /// where the agreement asks for one.
    pub async fn open(node: &Arc<Node>, agreement: &str, purpose: Option<String>) -> Result<Self, Error> {
        let (worker, id) = (node.clone(), AgreementId::parse(agreement)?);
        let now = node.clock.trusted_now()?;
        node.store
            .read(move |store| {
                let held =
                    records::found(records::agreement(store, &id)?, &AGREEMENT_NOT_FOUND, id.as_str())?;
                let signed = held.signed.agreement();
                if *signed.assignee() != worker.us {
                    return Err(Refusal::new(&NOT_CONSUMER, id.as_str()).into());
                }
                held.status.require_active()?;
                let holding = records::found(holdings::get(store, &id)?, &NO_HOLDING, id.as_str())?;
                if holding.is_destroyed() {
                    return Err(Refusal::new(&DESTROYED, id.as_str()).into());
                }
                if holdings::state(store, &id)? != Some("sealed") {
                    return Err(Refusal::new(&INCOMPLETE, id.as_str()).into());
                }
                let manifest = records::found(holdings::manifest(store, &id)?, &INCOMPLETE, id.as_str())?;
                let policy = worker.policies.compiled(signed.text())?;
                if policy.lease_millis().is_some() {
                    return Err(Refusal::new(&LEASED, id.as_str()).into());
                }
                let spent = counts::spent(store, &id)?;
                let facts = facts(&worker, store, &held, &holding, &policy, now)?.uses_spent(spent);
                require_distributable(&policy, &held, facts, purpose.as_deref())?;
                match standing(&worker, store, &id, now)? {
                    Standing::Open => {}
                    Standing::Paused(refusal) | Standing::Ended(refusal) => return Err(refusal.into()),
                }
                let mut derived_from: BTreeSet<String> = holding.derived_from.iter().cloned().collect();
                derived_from.insert(holding.dataset.clone());
                Ok(Self {
                    dataset: signed.target().clone(),
                    assigner: signed.assigner().clone(),
                    agreement: id,
                    policy,
                    purpose,
                    manifest,
                    derived_from,
                })
            })
            .await
    }

    /// Refuses offers that are not proven at least as strict as the agreement, and as each policy that it wants passed on.
    pub async fn require_strict(&self, node: &Arc<Node>, offers: &[Arc<Policy>]) -> Result<(), Error> {
        let above = self.above(node)?;
        let offers = offers.to_vec();
        // A comparison may take tens of milliseconds.
        let compared = move || {
            for offer in &offers {
                for (code, source) in &above {
                    let proven = accept::passed_on(offer, source);
                    proven.map_err(|reason| Refusal::new(code, format!("`{}`: {reason}", offer.uid())))?;
                }
            }
            Ok::<_, Refusal>(())
        };
        Ok(tokio::task::spawn_blocking(compared).await.map_err(Error::ours)??)
    }

    /// The policies that an offer must be at least as strict as, each with the refusal of one that is not.
    fn above(&self, node: &Node) -> Result<Vec<(&'static control_plane::Code, Arc<Policy>)>, Error> {
        let mut above = vec![(&LAXER, self.policy.clone())];
        let now = node.now();
        for next in next_policies(&self.policy) {
            // The agreement names it and does not contain it: what counts is what its author publishes under that name.
            let published = match node.catalogue.publisher(&self.dataset, now) {
                Ok(publisher) if publisher == self.assigner => node.catalogue.offers(&self.dataset, now)?,
                Ok(_) | Err(_) => Vec::new(),
            };
            let named = published.into_iter().find(|(id, _)| id == next);
            let (_, text) = records::found(named, &NEXT_UNKNOWN, next)?;
            above.push((&LAXER_THAN_NEXT, node.policies.compiled(&text)?));
        }
        Ok(above)
    }

    /// The copy as a publication of `dataset`. Its bytes are not read for that.
    pub fn publication(&self, dataset: DatasetId) -> Result<Publication, Refusal> {
        Publication::of_held(&self.manifest, dataset, &self.agreement, self.purpose.as_deref())
    }
}

fn require_distributable(
    policy: &Policy,
    held: &HeldAgreement,
    facts: policy::Facts,
    purpose: Option<&str>,
) -> Result<(), Refusal> {
    let facts = match purpose {
        Some(purpose) => facts.purpose(purpose),
        None => facts,
    };
    let decision = decide_to_distribute(policy, held, &facts);
    if let Some(refusal) = decision.refusal() {
        let detail = format!("{}: {}", refusal.code.code, refusal.detail);
        return Err(Refusal::new(&NOT_DISTRIBUTABLE, detail));
    }
    // Each pull would be refused for want of it; it is asked for while somebody is there to answer.
    if purpose.is_none() && decision.deferred().any(|operand| operand == operand::PURPOSE) {
        let detail = "it asks for a purpose: state one with `--purpose`";
        return Err(Refusal::new(&NOT_DISTRIBUTABLE, detail));
    }
    Ok(())
}
