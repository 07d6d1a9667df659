//! Policies from templates: the 25 IDS policy classes and the common research cases, each a question or two long.
//!
//! A template is data (`templates/templates-1.json`): rules with `{name}` where a parameter's value goes. Several
//! templates compose into one policy: their constraints and duties meet in one permission, other rules stand beside it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::lint::NEVER_HOLDS;
use crate::policy::Policy;
use crate::problem::{BAD_VALUE, nearest};
use crate::profile::{Lang, Profiles};
use crate::refusal::Refusal;
use crate::value::{Decimal, parse_duration, parse_instant};
use crate::vocab::{FAIRLEAD_PROFILE, IDSC};

crate::refusal_codes! {
    UNKNOWN_TEMPLATE = "policy/unknown-template", NotFound,
        "there is no such template", "沒有此範本", "没有该模板",
        clause "policy: templates", next "list the templates and choose one";
    MISSING_PARAMETER = "policy/missing-parameter", Input,
        "the template needs a parameter that was not given", "範本所需的參數未提供", "模板所需的参数未提供",
        clause "policy: templates", next "give the parameter";
    UNKNOWN_PARAMETER = "policy/unknown-parameter", Input,
        "the template has no such parameter", "範本沒有此參數", "模板没有该参数",
        clause "policy: templates", next "leave it out";
}

const FILE: &str = include_str!("../templates/templates-1.json");

/// What a parameter's value must be; the reader checks the value where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// An IRI.
    Iri,
    /// A term of a taxonomy, or an IRI.
    Symbol,
    /// Several terms or IRIs, separated by commas.
    List,
    /// An action.
    Action,
    /// An xsd:dateTime or xsd:date.
    Time,
    /// An xsd:duration.
    Duration,
    /// A number.
    Number,
    /// A text.
    Text,
}

/// One question of a template.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What its value must be.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    label: [String; 3],
    /// A value that would do.
    pub example: String,
}

impl Parameter {
    /// The question.
    pub fn label(&self, lang: Lang) -> &str {
        pick(&self.label, lang)
    }

    /// Whether a value can stand in this blank, as far as its type tells.
    ///
    /// # Errors
    /// `policy/bad-value`, with what is expected.
    pub fn check(&self, value: &str) -> Result<(), Refusal> {
        let (good, expected) = match self.kind {
            ParameterType::Number => (
                Decimal::parse(value).is_some_and(|number| number >= Decimal::whole(0)),
                "a number that is not negative",
            ),
            ParameterType::Time => {
                (parse_instant(value).is_some(), "a date or time, e.g. 2026-12-31T23:59:59+08:00")
            }
            ParameterType::Duration => (parse_duration(value).is_some(), "a duration, e.g. P30D"),
            ParameterType::Iri => {
                (value.contains(':') && !value.contains(char::is_whitespace), "an IRI without spaces")
            }
            ParameterType::Symbol | ParameterType::List | ParameterType::Action | ParameterType::Text => {
                (!value.is_empty(), "a value")
            }
        };
        if good {
            return Ok(());
        }
        Err(Refusal::new(&BAD_VALUE, format!("`{value}` for `{}`; expected {expected}", self.name)))
    }
}

/// A policy with blanks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// The number of the IDS policy class, 0 for plain allow and prohibit, `None` for research cases.
    pub class: Option<u8>,
    label: [String; 3],
    /// Its questions, in order.
    pub parameters: Vec<Parameter>,
    rules: Map<String, Json>,
}

impl Template {
    /// What it is for.
    pub fn label(&self, lang: Lang) -> &str {
        pick(&self.label, lang)
    }

    /// The values of its own examples: a policy that works, to start from.
    pub fn examples(&self) -> BTreeMap<String, String> {
        self.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.example.clone())).collect()
    }

    fn fill(&self, values: &BTreeMap<String, String>) -> Result<Map<String, Json>, Refusal> {
        for name in values.keys() {
            if !self.parameters.iter().any(|parameter| parameter.name == *name) {
                return Err(Refusal::new(
                    &UNKNOWN_PARAMETER,
                    format!("`{name}` of template `{}`", self.name),
                ));
            }
        }
        let mut filled = Json::Object(self.rules.clone());
        for parameter in &self.parameters {
            let value = values
                .get(&parameter.name)
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
                .ok_or_else(|| {
                    Refusal::new(
                        &MISSING_PARAMETER,
                        format!("`{}` of template `{}`", parameter.name, self.name),
                    )
                })?;
            parameter.check(value)?;
            let value = if parameter.kind == ParameterType::List {
                json!(value.split(',').map(str::trim).collect::<Vec<_>>())
            } else {
                json!(value)
            };
            replace(&mut filled, &format!("{{{}}}", parameter.name), &value);
        }
        match filled {
            Json::Object(rules) => Ok(rules),
            _ => Ok(Map::new()),
        }
    }
}

fn pick(label: &[String; 3], lang: Lang) -> &str {
    let [en, hant, hans] = label;
    match lang {
        Lang::En => en,
        Lang::ZhHant => hant,
        Lang::ZhHans => hans,
    }
}

/// Replaces texts that are exactly the placeholder; a value is never part of another text.
fn replace(json: &mut Json, placeholder: &str, value: &Json) {
    match json {
        Json::String(text) if text == placeholder => *json = value.clone(),
        Json::Array(items) => items.iter_mut().for_each(|item| replace(item, placeholder, value)),
        Json::Object(members) => members.values_mut().for_each(|member| replace(member, placeholder, value)),
        _ => {}
    }
}

/// All templates: the IDS classes in their order, then the research cases.
pub fn all() -> &'static [Template] {
    static TEMPLATES: OnceLock<Vec<Template>> = OnceLock::new();
    // The file is a constant of this crate and a test reads it whole.
    TEMPLATES.get_or_init(|| serde_json::from_str(FILE).unwrap_or_default())
}

/// The template with this name.
///
/// # Errors
/// `policy/unknown-template`, with the nearest name.
pub fn named(name: &str) -> Result<&'static Template, Refusal> {
    all().iter().find(|template| template.name == name).ok_or_else(|| {
        let near = nearest(name, all().iter().map(|template| template.name.as_str()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Refusal::new(&UNKNOWN_TEMPLATE, format!("`{name}`{hint}"))
    })
}

/// An offer made of one or several templates with their values.
///
/// # Errors
/// A missing or unknown parameter, or the first problem of the policy that would result.
pub fn offer(
    uid: &str,
    assigner: &str,
    target: &str,
    parts: &[(&Template, BTreeMap<String, String>)],
    profiles: &Profiles,
) -> Result<Policy, Refusal> {
    let mut rules: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for (template, values) in parts {
        for (member, list) in template.fill(values)? {
            let list = match list {
                Json::Array(list) => list,
                other => vec![other],
            };
            rules.entry(member).or_default().extend(list);
        }
    }
    if let Some(permissions) = rules.get_mut("permission") {
        *permissions = merge(std::mem::take(permissions));
    }
    let mut policy = Map::new();
    policy.insert("@type".into(), json!("Offer"));
    policy.insert("@id".into(), json!(uid));
    policy.insert("assigner".into(), json!(assigner));
    policy.insert("target".into(), json!(target));
    // Named are only the profiles whose terms are used: a peer must know each of them.
    let text = json!(rules).to_string();
    let mut named = Vec::new();
    for (mark, profile) in [("\"fl:", FAIRLEAD_PROFILE), ("\"idsc:", IDSC)] {
        if text.contains(mark) {
            named.push(json!(profile));
        }
    }
    if !named.is_empty() {
        policy.insert("profile".into(), Json::Array(named));
    }
    if rules.contains_key("prohibition") {
        policy.insert("odrl:conflict".into(), json!({"@id": "odrl:prohibit"}));
    }
    policy.extend(rules.into_iter().map(|(member, list)| (member, Json::Array(list))));
    let policy = Policy::from_json(&Json::Object(policy).to_string(), profiles)
        .map_err(|problems| problems.first())?;
    // Each value may be right by itself: a beginning after the end leaves nothing that could be permitted.
    match policy.lint().into_iter().find(|problem| problem.code.code == NEVER_HOLDS.code) {
        Some(problem) => Err(Refusal::new(&NEVER_HOLDS, format!("`{}`", problem.term))),
        None => Ok(policy),
    }
}

/// Permissions for the same action and party become one: all their constraints and duties hold together.
fn merge(permissions: Vec<Json>) -> Vec<Json> {
    let mut merged: Vec<Json> = Vec::new();
    for permission in permissions {
        let same = merged.iter_mut().find(|known| {
            known.get("action") == permission.get("action")
                && (known.get("assignee") == permission.get("assignee")
                    || known.get("assignee").is_none()
                    || permission.get("assignee").is_none())
        });
        let Some(Json::Object(known)) = same else {
            merged.push(permission);
            continue;
        };
        let Json::Object(added) = permission else { continue };
        for (member, value) in added {
            match (known.get_mut(&member), value) {
                (Some(Json::Array(list)), Json::Array(more)) => list.extend(more),
                (None, value) => {
                    known.insert(member, value);
                }
                _ => {}
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Enforcement, Outcome};

    fn make(parts: &[(&str, BTreeMap<String, String>)]) -> Result<Policy, Refusal> {
        let parts: Vec<_> =
            parts.iter().map(|(name, values)| (named(name).unwrap(), values.clone())).collect();
        offer("urn:offer", "https://a.example/id", "https://a.example/data/1", &parts, &Profiles::shipped())
    }

    #[test]
    fn every_class_has_a_template_that_works() {
        let mut classes: Vec<u8> = all().iter().filter_map(|template| template.class).collect();
        classes.dedup();
        assert_eq!(classes, (0..=25).collect::<Vec<_>>());
        assert_eq!(all().iter().filter(|template| template.class.is_none()).count(), 8);
        let mut page = String::new();
        for template in all() {
            let policy = make(&[(&template.name, template.examples())])
                .unwrap_or_else(|refusal| panic!("{}: {refusal}", template.name));
            page.push_str(&format!("## {} {}\n", template.name, template.label(Lang::ZhHant)));
            for lang in Lang::ALL {
                for clause in policy.render(lang) {
                    let held = match clause.enforcement {
                        Enforcement::Technical => "technical",
                        Enforcement::Procedural => "procedural",
                        Enforcement::Legal => "legal",
                    };
                    page.push_str(&format!("{} {} ({held})\n", clause.number, clause.text));
                    assert!(!clause.text.contains("{"), "{}", clause.text);
                    for parameter in &template.parameters {
                        assert!(parameter.label.iter().all(|label| !label.is_empty()));
                    }
                }
            }
        }
        insta::assert_snapshot!(page);
    }

    #[test]
    fn templates_compose_into_one_permission() {
        let value = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let policy = make(&[
            ("purpose", value("purpose", "AcademicResearch")),
            ("count", value("count", "3")),
            ("delete", value("within", "P10D")),
            ("prohibit", value("action", "distribute")),
        ])
        .unwrap();
        let numbered = policy.render(Lang::En).into_iter().filter(|clause| !clause.number.is_empty()).count();
        assert_eq!(numbered, 3, "one permission, one prohibition, one obligation");
        let request = crate::Request {
            action: crate::vocab::action::USE,
            target: "https://a.example/data/1",
            assignee: "https://b.example/id",
            stage: crate::Stage::Catalogue,
        };
        let facts = crate::Facts::at(crate::time::UnixMillis(0)).purpose("AcademicResearch");
        assert_eq!(policy.decide(&request, &facts.clone().uses_spent(2)).outcome, Outcome::Permit);
        assert_eq!(policy.decide(&request, &facts.uses_spent(3)).outcome, Outcome::Deny);
    }

    #[test]
    fn wrong_values_are_refused() {
        let value = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let code = |template: &str, values| make(&[(template, values)]).unwrap_err().code.code;
        assert_eq!(code("count", BTreeMap::new()), "policy/missing-parameter");
        assert_eq!(code("count", value("count", "many")), "policy/bad-value");
        assert_eq!(code("allow", value("count", "1")), "policy/unknown-parameter");
        assert_eq!(code("count", value("count", "-3")), "policy/bad-value");
        let interval = BTreeMap::from([
            ("from".to_owned(), "2027-01-01".to_owned()),
            ("until".to_owned(), "2026-01-01".to_owned()),
        ]);
        assert_eq!(code("interval", interval), "policy/never-holds");
        assert_eq!(code("duration", value("duration", "30 days")), "policy/bad-value");
        assert_eq!(named("cuont").unwrap_err().detail, "`cuont`; did you mean `count`?");
    }
}
