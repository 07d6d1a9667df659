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

/// What is known about a participant before any use: when, where it is registered, how far its protection was examined.
pub fn facts_about(statement: Option<&Statement>, now: UnixMillis) -> Facts {
    // A statement that has ended tells nothing any more.
    let Some(statement) = statement.filter(|statement| now < statement.expires) else {
        return Facts::at(now);
    };
    let membership = &statement.membership;
    let registered = |facts: Facts, operand, value| {
        facts.with(operand, Value::symbol(value), Source::Registered, statement.issued)
    };
    let facts = Facts::at(now).jurisdiction(membership.jurisdiction.as_str());
    let facts = registered(facts, operand::JURISDICTION, membership.jurisdiction.as_str());
    let facts = registered(facts, operand::SECURITY_PROFILE, membership.security_profile.as_str());
    // A participant has one connector, whose certificate carries the participant's URI: that is the connector's, too.
    facts.with(
        operand::CONNECTOR,
        Value::symbol(statement.participant.as_str()),
        Source::Attested,
        statement.issued,
    )
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

#[cfg(test)]
mod tests {
    use identity::membership::{Jurisdiction, LegalName, Membership, SecurityProfile, SubjectBase};
    use policy::vocab::action;
    use policy::{Request, Stage, template};

    use super::*;
    use crate::config::User;
    use crate::data::situation::{self, Situation};
    use crate::data::transforms;

    const NOW: UnixMillis = UnixMillis(1_795_564_800_000);

    fn statement(security_profile: SecurityProfile) -> Statement {
        Statement {
            participant: ParticipantId::parse("https://b.example/id").unwrap(),
            membership: Membership {
                legal_name: LegalName { en: "Harbour University".into(), zh_hant: None, zh_hans: None },
                jurisdiction: Jurisdiction::parse("HK").unwrap(),
                city: "Hong Kong".into(),
                prefixes: Vec::new(),
                addresses: Vec::new(),
                roles: Vec::new(),
                security_profile,
                subject_base: SubjectBase::parse("https://b.example/id/").unwrap(),
            },
            certificates: Vec::new(),
            sequence: 1,
            issued: NOW,
            expires: NOW.plus_millis(1),
        }
    }

    /// Whatever is accepted as enforceable must find its facts when it is used.
    #[test]
    fn every_template_that_is_accepted_can_be_decided() {
        let profiles = Profiles::shipped();
        let mut held = 0;
        for template in template::all() {
            let parts = [(template, template.examples())];
            let (offer, target) = ("https://a.example/offers/1", "https://a.example/data/1");
            let offer = template::offer(offer, "https://a.example/id", target, &parts, &profiles).unwrap();
            if crate::enforceable::require(&offer).is_err() {
                continue;
            }
            held += 1;
            let about = statement(SecurityProfile::Trust);
            let request =
                Request { action: action::USE, target, assignee: "https://b.example/id", stage: Stage::Use };
            let user = User { uid: 1, roles: vec!["urn:role:student".into()], projects: Vec::new() };
            let situation =
                Situation { user: Some(&user), events: &[], action: action::USE, unsealed: false };
            let facts = facts_about(Some(&about), NOW)
                .uses_spent(0)
                .first_use(NOW)
                .leased(NOW)
                .signed(NOW)
                .purpose("dpv:ScientificResearch");
            let policy = offer.as_if_agreed();
            let offers = [Arc::new(offer.as_if_agreed())];
            let transform = transforms::of_offers(None, &offers).unwrap().map(|transform| transform.mark());
            let facts = transforms::fulfilled(&policy, transform.as_ref(), facts);
            let mut facts = situation::add(facts, &situation);
            // As planned with the holding.
            for duty in policy.duties() {
                facts = facts.duty(&duty.key, policy::DutyState::Fulfilled);
            }
            let decision = policy.decide(&request, &facts);
            assert_eq!(decision.missing().collect::<Vec<_>>(), Vec::<&str>::new(), "{}", template.name);
        }
        assert!(held >= 18, "{held}");
    }

    #[test]
    fn the_security_profile_of_the_statement_decides() {
        let profiles = Profiles::shipped();
        let template = template::named("security-level").unwrap();
        let parts = [(template, template.examples())];
        let offer = template::offer("urn:o", "https://a.example/id", "urn:d", &parts, &profiles).unwrap();
        let consumer = ParticipantId::parse("https://b.example/id").unwrap();
        let decide = |profile| {
            decide_negotiation(&offer, &consumer, "urn:d", &facts_about(Some(&statement(profile)), NOW))
        };
        assert!(decide(SecurityProfile::Trust).is_ok());
        assert_eq!(decide(SecurityProfile::Base).unwrap_err().code.code, "policy/constraint-unmet");
        let ended = Statement { expires: NOW, ..statement(SecurityProfile::Trust) };
        let facts = facts_about(Some(&ended), NOW);
        assert!(
            decide_negotiation(&offer, &consumer, "urn:d", &facts).is_err(),
            "an ended statement tells nothing"
        );
    }
}
