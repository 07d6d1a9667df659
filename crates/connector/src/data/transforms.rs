//! Duties that a transform performs at the provider's egress: which they are, whether a publication binds them, and
//! that they are done in what a consumer holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use control_plane::Refusal;
use data_plane::{PERFORMABLE, Performed, Transform, TransformMark};
use policy::vocab::{action, operand, short};
use policy::{Duty, DutyRole, DutyState, Facts, Phase, Policy, Refinement};

control_plane::refusal_codes! {
    NO_TRANSFORM_BOUND = "policy/no-transform-bound", Policy,
        "a duty demands that the data be changed before it leaves, and no transform of the dataset is declared for it",
        "某項義務要求資料在釋出前先行變更，而資料集並未為此宣告轉換", "某项义务要求数据在释出前先行变更，而数据集并未为此声明转换",
        clause "usage control: refuse if no transform is bound", next "publish with `--transform FILE` whose `performs` names the action, or leave the duty out";
}

/// What a transform must have performed to fulfil this duty; `None` for duties of other kinds.
///
/// Only a duty of a permission that comes before use, on the dataset itself. A refinement that is not understood
/// makes it a duty of another kind, since a transform could not be held against it.
pub fn needed(policy: &Policy, duty: &Duty) -> Option<Vec<Performed>> {
    let ours = PERFORMABLE.contains(&duty.action.as_str())
        && duty.phase == Phase::Before
        && matches!(duty.role, DutyRole::OfPermission(_))
        && duty.parties.is_empty()
        && duty.target.as_deref() == policy.target();
    if !ours {
        return None;
    }
    let performed = |path: Option<&String>, with: Option<&String>| Performed {
        action: duty.action.clone(),
        json_path: path.cloned(),
        replace_with: with.cloned(),
    };
    if duty.refinements.is_empty() {
        return Some(vec![performed(None, None)]);
    }
    if duty.action != action::IDS_REPLACE {
        return None;
    }
    let of = |iri: &str| duty.refinements.iter().find(|refinement| refinement.operand == iri);
    match (of(operand::JSON_PATH), of(operand::REPLACE_WITH), duty.refinements.len()) {
        (Some(Refinement { values: paths, operator: "eq" | "isAnyOf", .. }), Some(with), 2)
            if with.operator == "eq" =>
        {
            let with = with.values.first()?;
            Some(paths.iter().map(|path| performed(Some(path), Some(with))).collect())
        }
        _ => None,
    }
}

/// Everything that transforms must have performed under this policy, with the clause and action that demand it.
fn all_needed(policy: &Policy) -> impl Iterator<Item = (&Duty, Performed)> {
    let each = |duty| needed(policy, duty).into_iter().flatten().map(move |needed| (duty, needed));
    policy.duties().iter().flat_map(each)
}

/// Whether a transform has anything to do under this policy.
pub fn demands(policy: &Policy) -> bool {
    all_needed(policy).next().is_some()
}

/// The transform of a dataset: what is declared, and what the duties of its offers define themselves.
pub fn of_offers(declared: Option<Transform>, offers: &[Arc<Policy>]) -> Result<Option<Transform>, Refusal> {
    let replacements: BTreeSet<(String, String)> = offers
        .iter()
        .flat_map(|offer| all_needed(offer))
        .filter_map(|(_, needed)| needed.json_path.zip(needed.replace_with))
        .collect();
    Transform::with_replacements(declared, &replacements)
}

/// Refuses a policy of which a duty is not performed by the dataset's transform.
pub fn require_bound(policy: &Policy, transform: Option<&TransformMark>) -> Result<(), Refusal> {
    let bound = |needed: &Performed| transform.is_some_and(|transform| transform.performs(needed));
    require(policy, bound)
}

/// Refuses a policy with such a duty that none of the published offers has: publication has bound those, and no other.
pub fn require_published(policy: &Policy, published: &[Arc<Policy>]) -> Result<(), Refusal> {
    let known: Vec<Performed> =
        published.iter().flat_map(|offer| all_needed(offer)).map(|(_, needed)| needed).collect();
    require(policy, |needed| known.contains(needed))
}

fn require(policy: &Policy, bound: impl Fn(&Performed) -> bool) -> Result<(), Refusal> {
    match all_needed(policy).find(|(_, needed)| !bound(needed)) {
        None => Ok(()),
        Some((duty, needed)) => {
            let place = needed.json_path.map(|path| format!(" `{path}`")).unwrap_or_default();
            let detail = format!("`{}`{place} in clause {}", short(&duty.action), duty.clause);
            Err(Refusal::new(&NO_TRANSFORM_BOUND, detail))
        }
    }
}

/// Tells of each such duty whether it is done in what is held: the provider did it before the data left, as the
/// manifest says that both sides have.
pub fn fulfilled(policy: &Policy, transform: Option<&TransformMark>, facts: Facts) -> Facts {
    policy.duties().iter().fold(facts, |facts, duty| match needed(policy, duty) {
        None => facts,
        Some(needed) => {
            let done = |needed| transform.is_some_and(|transform| transform.performs(needed));
            let state = if needed.iter().all(done) { DutyState::Fulfilled } else { DutyState::Pending };
            facts.duty(&duty.key, state)
        }
    })
}

#[cfg(test)]
mod tests {
    use policy::Profiles;

    use super::*;
    use crate::enforceable;

    const DECLARED: &str = r#"{"format":"fairlead-transform/1","name":"t","version":"1","performs":["odrl:anonymize","fl:redact"],
        "steps":[{"step":"drop","columns":["name"]}]}"#;

    fn policy(duty: &str, more: &str) -> Arc<Policy> {
        let text = format!(
            r#"{{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Offer","uid":"https://p.example/o",
                "profile":["https://w3id.org/fairlead/profile/1","https://w3id.org/idsa/code/"],
                "assigner":"https://p.example/id","target":"https://p.example/d",
                "permission":[{{"action":"read","duty":[{duty}]}}]{more}}}"#
        );
        let policy = Policy::from_json(&text, &Profiles::shipped());
        Arc::new(policy.unwrap_or_else(|problems| panic!("{problems}")))
    }

    fn replace(path: &str, with: &str) -> String {
        format!(
            r#"{{"action":{{"rdf:value":{{"@id":"idsc:REPLACE"}},"odrl:refinement":[
                {{"leftOperand":"idsc:JSON_PATH","operator":"eq","rightOperand":"{path}"}},
                {{"leftOperand":"idsc:REPLACE_WITH","operator":"eq","rightOperand":"{with}"}}]}}}}"#
        )
    }

    /// Accepted by whom: `supported` by any connector, and `bound` by the declaration above.
    fn check(duty: &str, supported: bool, bound: bool) {
        let policy = policy(duty, "");
        assert_eq!(enforceable::require(&policy).is_ok(), supported, "{duty}");
        let declared = Transform::parse(DECLARED).unwrap();
        let transform = of_offers(Some(declared), std::slice::from_ref(&policy)).unwrap().unwrap();
        let refused = require_bound(&policy, Some(&transform.mark())).err();
        assert_eq!(refused.is_none(), bound, "{duty}: {refused:?}");
        if let Some(refused) = refused {
            assert_eq!(refused.code, &NO_TRANSFORM_BOUND);
            assert!(refused.detail.contains("clause 1.1"), "{refused}");
        }
    }

    #[test]
    fn which_duties_are_bound() {
        check(r#"{"action":"anonymize"}"#, true, true);
        check(r#"{"action":"https://w3id.org/fairlead/ns#redact"}"#, true, true);
        check(r#"{"action":"aggregate"}"#, true, false);
        check(r#"{"action":"https://w3id.org/idsa/code/ANONYMIZE"}"#, true, true);
        check(r#"{"action":"https://w3id.org/idsa/code/REPLACE"}"#, true, false);
        // What the duty itself defines is performed without a declaration.
        check(&replace("$.name", "hidden"), true, true);
        // A demand that no transform can be held against is a duty of another kind, and refused as such.
        let k = r#"{"action":{"rdf:value":{"@id":"odrl:anonymize"},"odrl:refinement":[{"leftOperand":"count","operator":"gteq","rightOperand":{"@value":"5","@type":"xsd:integer"}}]}}"#;
        check(k, false, true);
        check(r#"{"action":"anonymize","target":"https://p.example/other"}"#, false, true);
    }

    #[test]
    fn obligations_are_not_done_by_the_provider() {
        let obliged = policy(r#"{"action":"anonymize"}"#, r#","obligation":[{"action":"anonymize"}]"#);
        assert_eq!(enforceable::require(&obliged).unwrap_err().code.code, "policy/unsupported-duty");
    }

    #[test]
    fn a_counter_offer_cannot_add_what_was_not_bound() {
        let published = [policy(&replace("$.name", "hidden"), "")];
        assert!(require_published(&published[0], &published).is_ok());
        for duty in
            [replace("$.name", "YYY"), replace("$.age", "hidden"), r#"{"action":"anonymize"}"#.to_owned()]
        {
            let refused = require_published(&policy(&duty, ""), &published).unwrap_err();
            assert_eq!(refused.code, &NO_TRANSFORM_BOUND, "{duty}");
        }
    }

    #[test]
    fn what_is_held_decides_whether_the_duty_is_done() {
        let now = control_plane::UnixMillis(1_795_564_800_000);
        let asked = policy(&replace("$.name", "hidden"), "");
        let agreed = asked.as_if_agreed();
        let permitted = |transform: Option<&TransformMark>| {
            let facts = fulfilled(&agreed, transform, Facts::at(now));
            let request = policy::Request {
                action: policy::vocab::action::READ,
                target: "https://p.example/d",
                assignee: "https://c.example/id",
                stage: policy::Stage::Use,
            };
            agreed.decide(&request, &facts).refusal().is_none()
        };
        let mark = of_offers(None, std::slice::from_ref(&asked)).unwrap().unwrap().mark();
        assert!(permitted(Some(&mark)));
        assert!(!permitted(None), "data that nobody transformed is not used");
        let other = of_offers(None, &[policy(&replace("$.name", "X"), "")]).unwrap().unwrap().mark();
        assert!(!permitted(Some(&other)));
    }
}
