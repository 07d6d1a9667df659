//! Compiled policies and the facts they are asked with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use control_plane::agreement::Agreement;
use control_plane::ids::ParticipantId;
use control_plane::terms::{Offer, Standing, Terms};
use control_plane::{Refusal, UnixMillis};
use identity::Statement;
use policy::vocab::operand;
use policy::{Facts, Policy, Profiles, Source, Value};

/// Compiled policies kept: some 20 KiB each, so at most about 80 MiB for a busy connector.
const MAX_KEPT: usize = 4096;

/// Compiles each policy text once.
pub struct Policies {
    profiles: Profiles,
    kept: Mutex<HashMap<String, Arc<Policy>>>,
}

impl Policies {
    /// With the profiles that are shipped.
    pub fn new(profiles: Profiles) -> Self {
        Self { profiles, kept: Mutex::default() }
    }

    /// The profiles in use.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// The policy of this canonical text; anything not understood refuses, naming it.
    pub fn compiled(&self, text: &str) -> Result<Arc<Policy>, Refusal> {
        if let Some(policy) = self.lock().get(text) {
            return Ok(policy.clone());
        }
        let policy = Policy::from_json(text, &self.profiles).map_err(|problems| problems.first())?;
        let policy = Arc::new(policy);
        let mut kept = self.lock();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(text.to_owned(), policy.clone());
        Ok(policy)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Policy>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known about a participant before any use: when, and where it is registered.
pub fn facts_about(statement: Option<&Statement>, now: UnixMillis) -> Facts {
    let Some(statement) = statement else { return Facts::at(now) };
    let membership = &statement.membership;
    let registered = |facts: Facts, operand, value| {
        facts.with(operand, Value::symbol(value), Source::Registered, statement.issued)
    };
    let facts = Facts::at(now).jurisdiction(membership.jurisdiction.as_str());
    let facts = registered(facts, operand::JURISDICTION, membership.jurisdiction.as_str());
    registered(facts, operand::SECURITY_PROFILE, membership.security_profile.as_str())
}

/// The terms questions of one negotiation, answered from the offers that its provider published.
pub struct PublishedTerms {
    policies: Arc<Policies>,
    offers: Vec<(String, Arc<Policy>)>,
    elsewhere: bool,
}

impl PublishedTerms {
    /// `offers` are the canonical texts that the dataset is published with, by offer id.
    pub fn new(
        policies: Arc<Policies>,
        offers: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Refusal> {
        let compiled = |(id, text): (String, String)| Ok((id, policies.compiled(&text)?));
        let offers = offers.into_iter().map(compiled).collect::<Result<_, Refusal>>()?;
        Ok(Self { policies, offers, elsewhere: false })
    }

    /// The terms of a provider whose catalogue is none of ours: what it published is not known here, so that no rule
    /// may accept its offers, and a person may.
    pub fn elsewhere(policies: Arc<Policies>) -> Self {
        Self { policies, offers: Vec::new(), elsewhere: true }
    }
}

impl Terms for PublishedTerms {
    fn standing(&self, offer: &Offer) -> Standing {
        let Some((_, published)) = self.offers.iter().find(|(id, _)| id == offer.id().as_str()) else {
            return if self.elsewhere { Standing::Altered } else { Standing::Unknown };
        };
        match self.policies.compiled(offer.text()) {
            Ok(policy) if policy.terms_equal(published) => Standing::Published,
            // What is not understood is at least not what was published.
            Ok(_) | Err(_) => Standing::Altered,
        }
    }

    fn terms_equal(&self, offer: &Offer, agreement: &Agreement) -> bool {
        match (self.policies.compiled(offer.text()), self.policies.compiled(agreement.text())) {
            (Ok(offer), Ok(agreement)) => agreement.terms_equal(&offer),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }
}

/// Whether `assignee` may have an agreement on this policy at all, as far as it can be known before use.
pub fn decide_negotiation(
    policy: &Policy,
    assignee: &ParticipantId,
    target: &str,
    facts: &Facts,
) -> Result<(), Refusal> {
    let request = policy::Request {
        action: policy::vocab::action::USE,
        target,
        assignee: assignee.as_str(),
        stage: policy::Stage::Negotiation,
    };
    match policy.decide(&request, facts).refusal() {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}
