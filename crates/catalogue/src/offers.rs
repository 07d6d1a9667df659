//! Offers as `policy` reads them: the [`OfferReader`] of a publishing connector.

use std::collections::{BTreeMap, BTreeSet};

use control_plane::Refusal;
use oxrdf::{NamedNode, NamedOrBlankNode, Quad, Triple};
use policy::{Policy, Profiles};

use crate::description::{OfferProblem, OfferReader};
use crate::rdf::iri;
use crate::vocabulary as v;

/// Reads offers with the policy profiles given: what they do not define is refused, with the operand named.
#[derive(Clone, Debug)]
pub struct PolicyOffers {
    profiles: Profiles,
}

impl PolicyOffers {
    /// With these profiles.
    pub fn new(profiles: Profiles) -> Self {
        Self { profiles }
    }
}

impl OfferReader for PolicyOffers {
    fn canonical_text(
        &self,
        offer: &NamedNode,
        dataset: &NamedNode,
        triples: &[Triple],
    ) -> Result<String, Vec<OfferProblem>> {
        let quads = statements_of(offer, dataset, triples);
        let policy = Policy::from_quads(&quads, offer.as_str(), &self.profiles).map_err(|problems| {
            let problem = |problem: &policy::Problem| {
                let mut detail = format!("`{}`", problem.term);
                if !problem.expected.is_empty() {
                    detail.push_str(&format!(", expected {}", problem.expected));
                }
                if let Some(suggestion) = &problem.suggestion {
                    detail.push_str(&format!(", did you mean `{suggestion}`?"));
                }
                OfferProblem { path: problem.at.to_string(), refusal: Refusal::new(problem.code, detail) }
            };
            problems.list().iter().map(problem).collect::<Vec<_>>()
        })?;
        Ok(policy.canonical_text().to_owned())
    }
}

/// The statements of the offer alone. Dataset and parties are names in a policy: what the description says about
/// them is none of its members.
fn statements_of(offer: &NamedNode, dataset: &NamedNode, triples: &[Triple]) -> Vec<Quad> {
    let mut by_subject: BTreeMap<&str, Vec<&Triple>> = BTreeMap::new();
    for triple in triples {
        if let NamedOrBlankNode::NamedNode(subject) = &triple.subject {
            by_subject.entry(subject.as_str()).or_default().push(triple);
        }
    }
    let mut seen = BTreeSet::from([dataset.as_str(), offer.as_str()]);
    let mut waiting = vec![offer.as_str()];
    let mut quads = Vec::new();
    while let Some(subject) = waiting.pop() {
        for triple in by_subject.get(subject).into_iter().flatten() {
            quads.push((*triple).clone().in_graph(dataset.clone()));
            let named_only = v::ODRL_NAMES.contains(&triple.predicate.as_str());
            if let Some(object) = iri(&triple.object)
                && !named_only
                && seen.insert(object)
            {
                waiting.push(object);
            }
        }
    }
    let points = NamedNode::new_unchecked(v::ODRL_HAS_POLICY);
    quads.push(Triple::new(dataset.clone(), points, offer.clone()).in_graph(dataset.clone()));
    quads
}
