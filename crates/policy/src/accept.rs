//! Which terms a rule may accept without a person: those that the comparison proves to be no worse for our side.
//!
//! [`Acceptable`] is the proof. Only this module makes one, and only from a yes; a no and an unknown are reasons in
//! words, for the person who then decides.

use std::collections::BTreeSet;

use crate::compare::{Answer, Refinement, refines, satisfiable};
use crate::model::{Model, Note, Rule, Thing};
use crate::policy::Policy;
use crate::vocab::{DCT, ODRL, short};

/// Dublin Core terms about the text itself, which bind nobody.
const METADATA: [&str; 8] =
    ["created", "creator", "identifier", "issued", "language", "modified", "publisher", "title"];

/// Proof that a comparison answered yes about one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptable {
    hash: String,
}

impl Acceptable {
    /// [`Policy::hash`] of the policy that may be accepted.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// May a provider that published `published` agree to `counter`: is it at least as strict, and does it give nobody a
/// part that the published offer does not?
///
/// # Errors
/// The reason, if the answer is not yes.
pub fn counter_offer(counter: &Policy, published: &Policy) -> Result<Acceptable, String> {
    let (asked, ours) = (counter.model(), published.model());
    if counter.assigner().is_some() && counter.assigner() != published.assigner() {
        return Err("the counter-offer names another assigner".to_owned());
    }
    no_new_parts(asked, ours)?;
    // What a counter-offer does not say again is as it was published.
    let mut model = asked.clone();
    for rule in &mut model.rules {
        rule.target = rule.target.take().or_else(|| ours.target().cloned());
        rule.assigner = rule.assigner.take().or_else(|| ours.assigner().cloned());
    }
    proven(counter, refines(&rebuilt(model, counter)?, published))
}

/// May a consumer accept `offer` whose ceiling is `ceiling`: does it permit all that the ceiling permits, and demand
/// nothing that the ceiling does not?
///
/// A ceiling is written once and held against many offers: what it leaves out of target, assigner and assignee is the
/// offer's.
///
/// # Errors
/// The reason, if the answer is not yes.
pub fn within_ceiling(offer: &Policy, ceiling: &Policy) -> Result<Acceptable, String> {
    let ceiling = about(ceiling, offer)?;
    // Nothing lies below a ceiling that permits nothing: every offer would pass.
    if satisfiable(&ceiling) != Answer::Yes {
        return Err("the ceiling itself does not clearly permit anything".to_owned());
    }
    no_new_parts(offer.model(), ceiling.model())?;
    proven(offer, refines(&ceiling, offer))
}

/// May a consumer that was granted `source` offer what it holds on under `offer`: is that at least as strict, once the
/// parties and the dataset of `source` are taken for those of `offer`?
///
/// More duties and payments than `source` has are no objection: they fall on whoever accepts the offer. A duty to inform
/// the assigner becomes one to inform the new assigner; whoever is paid stays who it is.
///
/// # Errors
/// The reason, if the answer is not yes.
pub fn passed_on(offer: &Policy, source: &Policy) -> Result<Acceptable, String> {
    let source = in_place_of(source, offer)?;
    proven(offer, refines(offer, &source))
}

/// The parties that are told: whoever passes data on is told by those below, and tells those above.
const TOLD: [&str; 2] = ["informedParty", "recipient"];

fn in_place_of(source: &Policy, offer: &Policy) -> Result<Policy, String> {
    fn rename(rule: &mut Rule, from: &Model, to: &Model) {
        let put = |thing: &mut Option<Thing>, from: Option<&Thing>, to: Option<&Thing>| {
            if thing.is_some() && thing.as_ref() == from {
                *thing = to.cloned();
            }
        };
        put(&mut rule.target, from.target(), to.target());
        put(&mut rule.assigner, from.assigner(), to.assigner());
        // Whom the source permits is whoever passes on; the offer says whom it permits.
        put(&mut rule.assignee, from.assignee(), None);
        for (function, party) in &mut rule.parties {
            let told = function.strip_prefix(ODRL).is_some_and(|name| TOLD.contains(&name));
            if told
                && let (Some(ours), Some(theirs)) = (from.assigner(), to.assigner())
                && party.iri == ours.iri
            {
                *party = theirs.clone();
            }
        }
        rule.duties.iter_mut().for_each(|duty| rename(duty, from, to));
    }
    if source.target().is_none() || offer.target().is_none() {
        return Err("one of the policies is not about exactly one dataset".to_owned());
    }
    let (from, to) = (source.model().clone(), offer.model());
    let mut model = from.clone();
    model.rules.iter_mut().for_each(|rule| rename(rule, &from, to));
    Policy::from_model(model, source.profile_set()).map_err(|problems| problems.first().to_string())
}

fn proven(policy: &Policy, answer: Refinement) -> Result<Acceptable, String> {
    match answer.answer {
        Answer::Yes => Ok(Acceptable { hash: policy.hash() }),
        Answer::No | Answer::Unknown => Err(answer.reason),
    }
}

fn about(ceiling: &Policy, offer: &Policy) -> Result<Policy, String> {
    let mut model: Model = ceiling.model().clone();
    let theirs = offer.model();
    for rule in &mut model.rules {
        rule.target = rule.target.take().or_else(|| theirs.target().cloned());
        rule.assigner = rule.assigner.take().or_else(|| theirs.assigner().cloned());
        rule.assignee = rule.assignee.take().or_else(|| theirs.assignee().cloned());
    }
    rebuilt(model, ceiling)
}

fn rebuilt(model: Model, like: &Policy) -> Result<Policy, String> {
    Policy::from_model(model, like.profile_set()).map_err(|problems| problems.first().to_string())
}

/// A payer or a receiver of consent that only one side knows is a burden that strictness does not measure; so is a text
/// that is no rule.
fn no_new_parts(asked: &Model, known: &Model) -> Result<(), String> {
    fn parts(rules: &[Rule]) -> BTreeSet<(&str, &str)> {
        let own = rules.iter().flat_map(|rule| &rule.parties);
        let mut found: BTreeSet<_> =
            own.map(|(function, party)| (function.as_str(), party.iri.as_str())).collect();
        found.extend(rules.iter().flat_map(|rule| parts(&rule.duties)));
        found
    }
    fn notes(model: &Model) -> Vec<&Note> {
        fn of_rules<'m>(rules: &'m [Rule], found: &mut Vec<&'m Note>) {
            for rule in rules {
                found.extend(&rule.notes);
                of_rules(&rule.duties, found);
            }
        }
        let mut found: Vec<&Note> = model.notes.iter().collect();
        of_rules(&model.rules, &mut found);
        found.retain(|note| !METADATA.contains(&note.member.strip_prefix(DCT).unwrap_or_default()));
        found
    }
    let known_parts = parts(&known.rules);
    if let Some((function, party)) = parts(&asked.rules).into_iter().find(|part| !known_parts.contains(part))
    {
        return Err(format!("it makes `{party}` the {}", short(function)));
    }
    let known_notes = notes(known);
    match notes(asked).into_iter().find(|note| !known_notes.contains(note)) {
        Some(note) => Err(format!("it adds {}, which is no rule", short(&note.member))),
        None => Ok(()),
    }
}
