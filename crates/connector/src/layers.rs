//! In which layer each clause of a policy is held at the copy of a consumer: the layers of docs/security-model.md.

use policy::vocab::{operand, short};
use policy::{Duty, Enforcement, Policy, Term, TermKind};

use crate::data::transforms;
use crate::enforceable::{Executor, executor};

/// How a part of a clause is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Every use goes through the connector, which decides it.
    Mediated,
    /// The copy is encrypted; what ends it is the destruction of its key.
    Sealed,
    /// The provider decides and counts too, and gives no key share for what it does not permit.
    Leased,
    /// A signed record of each use, or a signed notice of it.
    Evidenced,
    /// Programs run beside the data. No clause is held so yet.
    Contained,
    /// A person declares or enters it; what is entered is recorded and can be checked.
    Procedural,
    /// The contract alone.
    Legal,
}

impl Layer {
    /// Its name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mediated => "mediated",
            Self::Sealed => "sealed",
            Self::Leased => "leased",
            Self::Evidenced => "evidenced",
            Self::Contained => "contained",
            Self::Procedural => "procedural",
            Self::Legal => "legal",
        }
    }
}

/// A part of a clause with its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The number of the clause, e.g. `1` or, of a duty below it, `1.1`.
    pub clause: String,
    /// The action or operand, prefixed.
    pub term: String,
    /// What it does there: permitted, forbidden, condition or duty.
    pub part: &'static str,
    /// How it is held.
    pub layer: Layer,
}

/// Who knows the fact that an operand is decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    /// Either connector, of itself: clock, counter, statement, certificate. Under a lease the provider decides again.
    Both,
    /// The consumer's connector alone: first use, users, events, what its user declares.
    Consumer,
    /// Both, by the lease itself.
    Lease,
    /// The consumer's connector, by how it stores copies.
    Store,
}

/// Operands by the fact that decides; an IDS name that stands for a fact of ours is told as ours.
const FACTS: &[(&str, Knows)] = &[
    (operand::DATE_TIME, Knows::Both),
    (operand::COUNT, Knows::Both),
    (operand::UNIT_OF_COUNT, Knows::Both),
    (operand::SPATIAL, Knows::Both),
    (operand::JURISDICTION, Knows::Both),
    (operand::PARTICIPANT, Knows::Both),
    (operand::SINCE_SIGNING, Knows::Both),
    (operand::SECURITY_PROFILE, Knows::Both),
    (operand::CONNECTOR, Knows::Both),
    ("https://w3id.org/idsa/code/DATE_TIME", Knows::Both),
    ("https://w3id.org/idsa/code/POLICY_EVALUATION_TIME", Knows::Both),
    (operand::ELAPSED_TIME, Knows::Consumer),
    (operand::SINCE_FIRST_USE, Knows::Consumer),
    (operand::PURPOSE, Knows::Consumer),
    (operand::RECIPIENT, Knows::Consumer),
    (operand::ROLE, Knows::Consumer),
    (operand::PROJECT, Knows::Consumer),
    (operand::EVENT, Knows::Consumer),
    (operand::IDS_EVENT, Knows::Consumer),
    (operand::KEY_LEASE, Knows::Lease),
    (operand::ARTIFACT_STATE, Knows::Store),
];

/// Every part of every clause with its layer, in the order of the clauses.
pub fn of(policy: &Policy) -> Vec<Held> {
    let leased = policy.lease_millis().is_some();
    let terms = policy.terms();
    let clauses = terms.iter().map(|term| term.clause).chain(policy.duties().iter().filter_map(number)).max();
    let mut all = Vec::new();
    for clause in 1..=clauses.unwrap_or(0) {
        all.extend(terms.iter().filter(|term| term.clause == clause).map(|term| Held {
            clause: clause.to_string(),
            term: short(&term.iri),
            part: match term.kind {
                TermKind::Permitted => "permitted",
                TermKind::Forbidden => "forbidden",
                TermKind::Condition => "condition",
            },
            layer: of_term(term, leased),
        }));
        for duty in policy.duties().iter().filter(|duty| number(duty) == Some(clause)) {
            add_duty(policy, duty, &mut all);
        }
    }
    all
}

/// The clause that a duty is or lies below.
fn number(duty: &Duty) -> Option<usize> {
    duty.clause.split('.').next()?.parse().ok()
}

fn add_duty(policy: &Policy, duty: &Duty, all: &mut Vec<Held>) {
    all.push(Held {
        clause: duty.clause.clone(),
        term: short(&duty.action),
        part: "duty",
        layer: of_duty(policy, duty),
    });
    duty.consequences.iter().for_each(|consequence| add_duty(policy, consequence, all));
}

/// The profile's class first: what it leaves to people or to law no fact makes technical.
fn of_term(term: &Term, leased: bool) -> Layer {
    let knows = match term.kind {
        // An action is stated by whoever asks, to both.
        TermKind::Permitted | TermKind::Forbidden => Some(Knows::Both),
        TermKind::Condition => FACTS.iter().find(|(fact, _)| *fact == term.fact).map(|(_, knows)| *knows),
    };
    match (term.enforcement, knows) {
        // No connector accepts a condition without facts; one that was accepted before is never met.
        (Enforcement::Legal, _) | (_, None) => Layer::Legal,
        (Enforcement::Procedural, Some(_)) => Layer::Procedural,
        (Enforcement::Technical, Some(Knows::Both)) if leased => Layer::Leased,
        (Enforcement::Technical, Some(Knows::Both | Knows::Consumer)) => Layer::Mediated,
        (Enforcement::Technical, Some(Knows::Lease)) => Layer::Leased,
        (Enforcement::Technical, Some(Knows::Store)) => Layer::Sealed,
    }
}

fn of_duty(policy: &Policy, duty: &Duty) -> Layer {
    // Done before the data left, as the manifest says; without it no use is opened.
    if transforms::needed(policy, duty).is_some() {
        return Layer::Mediated;
    }
    match executor(duty) {
        Some(Executor::Delete) => Layer::Sealed,
        // The way on leads through a session that asks for it.
        Some(Executor::Onward) => Layer::Mediated,
        Some(Executor::Record | Executor::Inform) => Layer::Evidenced,
        Some(Executor::Person) => Layer::Procedural,
        None => Layer::Legal,
    }
}

#[cfg(test)]
mod tests {
    use policy::Profiles;

    use super::*;
    use crate::enforceable::SUPPORTED;

    fn check(rules: &str, expected: &[(&str, &str, &str, Layer)]) {
        let text = format!(
            r#"{{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Offer","uid":"https://p.example/o",
                "profile":["https://w3id.org/fairlead/profile/1","https://w3id.org/idsa/code/"],
                "assigner":"https://p.example/id","target":"https://p.example/d",{rules}}}"#
        );
        let policy =
            Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"));
        let told = of(&policy);
        let told: Vec<_> = told
            .iter()
            .map(|held| (held.clause.as_str(), held.term.as_str(), held.part, held.layer))
            .collect();
        assert_eq!(told, expected, "{rules}");
    }

    #[test]
    fn each_part_has_the_layer_of_what_holds_it() {
        let atom = |operand: &str, operator: &str, value: &str, datatype: &str| {
            format!(
                r#"{{"leftOperand":"{operand}","operator":"{operator}","rightOperand":{{"@value":"{value}","@type":"xsd:{datatype}"}}}}"#
            )
        };
        let count = atom("count", "lteq", "3", "integer");
        let lease = atom("fl:keyLease", "lteq", "P1D", "duration");
        let since = atom("elapsedTime", "lteq", "P1D", "duration");
        let by = atom("dateTime", "lteq", "2030-01-01T00:00:00Z", "dateTime");
        let purpose =
            r#"{"leftOperand":"purpose","operator":"isA","rightOperand":"dpv:ResearchAndDevelopment"}"#;
        let state = r#"{"leftOperand":"idsc:ARTIFACT_STATE","operator":"eq","rightOperand":"fl:encrypted"}"#;
        let ids = r#"{"leftOperand":"idsc:COUNT","operator":"lteq","rightOperand":{"@value":"3","@type":"xsd:integer"}}"#;
        check(
            &format!(
                r#""permission":[{{"action":"read","constraint":[{count},{purpose},{since},{state}]}}]"#
            ),
            &[
                ("1", "read", "permitted", Layer::Mediated),
                ("1", "count", "condition", Layer::Mediated),
                ("1", "elapsedTime", "condition", Layer::Mediated),
                ("1", "purpose", "condition", Layer::Procedural),
                ("1", "idsc:ARTIFACT_STATE", "condition", Layer::Sealed),
            ],
        );
        // The provider counts and decides under a lease, under whatever name the fact goes.
        check(
            &format!(r#""permission":[{{"action":"read","constraint":[{ids},{lease},{since}]}}]"#),
            &[
                ("1", "read", "permitted", Layer::Leased),
                ("1", "elapsedTime", "condition", Layer::Mediated),
                ("1", "fl:keyLease", "condition", Layer::Leased),
                ("1", "idsc:COUNT", "condition", Layer::Leased),
            ],
        );
        let before = r#"{"action":"compensate"}"#;
        check(
            &format!(
                r#""permission":[{{"action":"read","duty":[{before},{{"action":"inform"}},{{"action":"fl:log"}},{{"action":"anonymize"}}]}}],
                "prohibition":[{{"action":"sell"}},{{"action":"fl:export"}}],
                "obligation":[{{"action":"delete","constraint":[{by}]}}]"#
            ),
            &[
                ("1", "read", "permitted", Layer::Mediated),
                ("1.1", "anonymize", "duty", Layer::Mediated),
                ("1.2", "compensate", "duty", Layer::Procedural),
                ("1.3", "fl:log", "duty", Layer::Evidenced),
                ("1.4", "inform", "duty", Layer::Evidenced),
                ("2", "fl:export", "forbidden", Layer::Mediated),
                ("3", "sell", "forbidden", Layer::Legal),
                ("4", "delete", "duty", Layer::Sealed),
            ],
        );
    }

    /// What the connector says it enforces is decided by facts that are known here.
    #[test]
    fn every_supported_operand_has_a_layer() {
        let known = |fact: &str| FACTS.iter().any(|(known, _)| *known == fact);
        for (fact, _) in FACTS {
            assert!(SUPPORTED.contains(fact), "{fact}");
        }
        // IDS names mostly stand for a fact of ours; those with one of their own are in the templates.
        for operand in SUPPORTED.iter().filter(|operand| !operand.starts_with("https://w3id.org/idsa/")) {
            assert!(known(operand), "{operand}");
        }
        let profiles = Profiles::shipped();
        let (assigner, target) = ("https://a.example/id", "https://a.example/data");
        for template in policy::template::all() {
            let parts = [(template, template.examples())];
            let offer = policy::template::offer("urn:offer", assigner, target, &parts, &profiles).unwrap();
            let held = offer.terms().into_iter().filter(|term| SUPPORTED.contains(&term.iri.as_str()));
            for term in held {
                assert!(known(&term.fact), "{} of class {:?}", term.iri, template.class);
            }
        }
    }
}
