//! The facts that only this side knows at a use: who the user is here, what is under way, how the copy lies.

use std::collections::BTreeSet;

use policy::vocab::{FL, action, operand};
use policy::{Facts, Policy, Source, Value};

use crate::admin::holdings::expand;
use crate::config::User;

/// Stands for «none at all».
const NONE: &str = "https://w3id.org/fairlead/ns#none";
/// The state of a sealed copy.
const ENCRYPTED: &str = "encrypted";

/// What is asked about.
pub struct Situation<'a> {
    /// The operating system's user, as the settings know it.
    pub user: Option<&'a User>,
    /// Events under way.
    pub events: &'a [(String, String)],
    /// The action's IRI.
    pub action: &'a str,
    /// Whether a permitted export has left a copy out of our reach.
    pub unsealed: bool,
}

/// Adds the facts of the situation; what is not known is left out, and decides against the use.
pub fn add(facts: Facts, situation: &Situation<'_>) -> Facts {
    let now = facts.now();
    // All that is held, as everywhere else: which of it fits is the policy's to say.
    let all = |held: &[String]| {
        let held: BTreeSet<String> = held.iter().map(|one| expand(one)).collect();
        if held.is_empty() { Value::symbol(NONE) } else { Value::symbols(held.iter().map(String::as_str)) }
    };
    let local = |facts: Facts, operand: &str, held: &[String]| {
        facts.with(operand, all(held), Source::LocalClock, now)
    };
    let mut facts = facts;
    // Who is not in the settings has unknown roles, which is not the same as none.
    if let Some(user) = situation.user {
        facts = local(facts, operand::ROLE, &user.roles);
        facts = local(facts, operand::PROJECT, &user.projects);
    }
    let events: Vec<String> = situation.events.iter().map(|(event, _)| event.clone()).collect();
    facts = local(facts, operand::EVENT, &events);
    facts = local(facts, operand::IDS_EVENT, &events);
    // Sealed copies are encrypted at rest by construction; whatever was exported, or is about to be, is not.
    if !situation.unsealed && situation.action != action::EXPORT {
        let state = Value::symbol(&format!("{FL}{ENCRYPTED}"));
        facts = facts.with(operand::ARTIFACT_STATE, state, Source::LocalClock, now);
    }
    facts
}

/// States of the data that can be known: any other one is refused by name before there is an agreement.
pub fn unknown_state(policy: &Policy) -> Option<&str> {
    let known = format!("{FL}{ENCRYPTED}");
    policy.mentioned(operand::ARTIFACT_STATE).into_iter().find(|state| *state != known)
}

#[cfg(test)]
mod tests {
    use policy::{Outcome, Profiles, Request, Stage};

    use super::*;

    fn policy(constraint: &str) -> Policy {
        let text = format!(
            r#"{{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Set","uid":"https://p.example/o",
                "profile":["https://w3id.org/fairlead/profile/1","https://w3id.org/idsa/code/"],
                "permission":[{{"target":"https://p.example/d","action":"use","constraint":[{constraint}]}}]}}"#
        );
        Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn constraint(operand: &str, operator: &str, right: &str) -> String {
        format!(r#"{{"leftOperand":"{operand}","operator":"{operator}","rightOperand":{right}}}"#)
    }

    #[test]
    fn roles_events_and_states_decide_as_far_as_they_are_known() {
        let user = |roles: &[&str]| User {
            uid: 1,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            projects: vec!["urn:project:42".into()],
        };
        let (researcher, both, nobody) = (user(&["urn:r"]), user(&["urn:r", "urn:s"]), user(&[]));
        let trial = [("urn:e:1".to_owned(), String::new()), ("urn:e:2".to_owned(), String::new())];
        let either = r#"[{"@id":"urn:r"},{"@id":"urn:t"}]"#;
        let (any_of, all_of) =
            (constraint("fl:role", "isAnyOf", either), constraint("fl:role", "isAllOf", either));
        let any_r = constraint("fl:role", "isAnyOf", r#"[{"@id":"urn:r"}]"#);
        let no_s = constraint("idsc:ROLE", "isNoneOf", r#"[{"@id":"urn:s"}]"#);
        let during = constraint("event", "eq", r#"{"@id":"urn:e:1"}"#);
        let during_ids = constraint("idsc:EVENT", "eq", r#"{"@id":"urn:e:1"}"#);
        let project = constraint("fl:project", "eq", r#"{"@id":"urn:project:42"}"#);
        let encrypted =
            constraint("idsc:ARTIFACT_STATE", "eq", r#"{"@id":"https://w3id.org/fairlead/ns#encrypted"}"#);
        type Events = [(String, String)];
        let check = |constraint: &str, user: Option<&User>, events: &Events, unsealed, expected| {
            let policy = policy(constraint);
            let use_it = "http://www.w3.org/ns/odrl/2/use";
            let situation = Situation { user, events, action: use_it, unsealed };
            let facts = add(Facts::at(control_plane::UnixMillis(1)), &situation);
            let request = Request {
                action: use_it,
                target: "https://p.example/d",
                assignee: "urn:b",
                stage: Stage::Use,
            };
            assert_eq!(policy.decide(&request, &facts).outcome, expected, "{constraint} {user:?} {events:?}");
        };
        let (yes, no, unknown) = (Outcome::Permit, Outcome::Deny, Outcome::Unknown);
        for (constraint, user, expected) in [
            (&any_r, Some(&researcher), yes),
            (&any_r, Some(&both), yes),
            (&any_r, Some(&nobody), no),
            (&any_of, Some(&both), yes),
            (&any_of, Some(&nobody), no),
            (&all_of, Some(&both), no),
            (&any_r, None, unknown),
            (&no_s, Some(&researcher), yes),
            (&no_s, Some(&both), no),
            (&no_s, None, unknown),
            (&project, Some(&nobody), yes),
            (&project, None, unknown),
        ] {
            check(constraint, user, &[], false, expected);
        }
        for constraint in [&during, &during_ids] {
            check(constraint, None, &trial, false, yes);
            check(constraint, None, trial.get(1..).unwrap(), false, no);
            check(constraint, None, &[], false, no);
        }
        check(&encrypted, None, &[], false, yes);
        check(&encrypted, None, &[], true, unknown);
    }
}
