//! The canonical text: RFC 8785 of the compact DSP JSON form, equal for equal policies however they were written.
//!
//! What the DSP context knows is written with its terms; other members of ODRL get the `odrl:` prefix, which that
//! context declares; everything else is a full IRI. So the text stays valid JSON-LD under the DSP context.

use base64::Engine as _;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use crate::model::{Atom, Constraint, Kind, Model, Note, Rule, RuleKind, Thing};
use crate::profile::Source;
use crate::value::Right;
use crate::vocab::{DSPACE, FL, ODRL, RDF, XSD, compact};

/// ODRL terms that the DSP 2025-1 context does not define.
fn outside_dsp(term: &str) -> String {
    format!("odrl:{term}")
}

/// Sorts rules by kind, identifier and content, and drops doubles, so that numbering follows the canonical text.
pub(crate) fn arrange(model: &mut Model) {
    for rule in &mut model.rules {
        arrange_duties(rule);
    }
    sort_rules(&mut model.rules);
}

fn arrange_duties(rule: &mut Rule) {
    rule.duties.iter_mut().for_each(arrange_duties);
    sort_rules(&mut rule.duties);
}

fn sort_rules(rules: &mut Vec<Rule>) {
    let mut keyed: Vec<_> = rules
        .drain(..)
        .map(|rule| {
            let content = text(&rule_json(&rule, &Lifted::default()));
            ((rule.kind, rule.uid.is_none(), rule.uid.clone(), content), rule)
        })
        .collect();
    keyed.sort_by(|left, right| left.0.cmp(&right.0));
    keyed.dedup_by(|left, right| left.0 == right.0);
    rules.extend(keyed.into_iter().map(|(_, rule)| rule));
}

/// RFC 8785 bytes as text; JSON values made here have no floats, so this cannot fail.
pub(crate) fn text(json: &Json) -> String {
    serde_jcs::to_string(json).unwrap_or_default()
}

/// `sha-256:<base64url>` of the canonical text.
pub(crate) fn hash(model: &Model) -> String {
    hash_text(&text(&policy_json(model)))
}

pub(crate) fn hash_text(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    format!("sha-256:{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest))
}

/// The members that stand on the policy because all its rules share them.
#[derive(Default)]
struct Lifted {
    target: bool,
    assigner: bool,
    assignee: bool,
}

pub(crate) fn policy_json(model: &Model) -> Json {
    let mut out = Map::new();
    out.insert("@id".into(), json!(model.uid));
    out.insert("@type".into(), json!(model.kind.name()));
    if !model.profiles.is_empty() {
        let list: Vec<Json> = model.profiles.iter().map(|profile| json!(profile)).collect();
        out.insert("profile".into(), one_or_many(list));
    }
    if let Some(conflict) = model.conflict {
        out.insert(outside_dsp("conflict"), json!({"@id": format!("{ODRL}{}", conflict.name())}));
    }
    if let Some(at) = model.timestamp {
        let member =
            if model.kind == Kind::Agreement { "timestamp".to_owned() } else { format!("{DSPACE}timestamp") };
        out.insert(member, json!(at.to_string()));
    }
    if !model.replaced_by.is_empty() {
        let list = model.replaced_by.iter().map(|policy| json!({"@id": policy})).collect();
        out.insert(format!("{}isReplacedBy", crate::vocab::DCT), one_or_many(list));
    }
    let lifted = Lifted {
        target: lift(&mut out, "target", model.target()),
        assigner: lift(&mut out, "assigner", model.assigner()),
        assignee: lift(&mut out, "assignee", model.assignee()),
    };
    add_notes(&mut out, &model.notes);
    for (member, kind) in [
        ("permission", RuleKind::Permission),
        ("prohibition", RuleKind::Prohibition),
        ("obligation", RuleKind::Duty),
    ] {
        let rules: Vec<Json> = model
            .rules
            .iter()
            .filter(|rule| rule.kind == kind)
            .map(|rule| rule_json(rule, &lifted))
            .collect();
        if !rules.is_empty() {
            out.insert(member.into(), Json::Array(rules));
        }
    }
    Json::Object(out)
}

fn lift(out: &mut Map<String, Json>, member: &str, thing: Option<&Thing>) -> bool {
    if let Some(thing) = thing {
        out.insert(member.into(), thing_json(thing));
    }
    thing.is_some()
}

fn one_or_many(mut list: Vec<Json>) -> Json {
    if list.len() == 1 { list.swap_remove(0) } else { Json::Array(list) }
}

fn add_notes(out: &mut Map<String, Json>, notes: &[Note]) {
    let mut members: Vec<&str> = notes.iter().map(|note| note.member.as_str()).collect();
    members.dedup();
    for member in members {
        let values = notes
            .iter()
            .filter(|note| note.member == member)
            .map(|note| match (note.is_iri, &note.language, &note.datatype) {
                (true, _, _) => json!({"@id": note.text}),
                (false, Some(language), _) => json!({"@value": note.text, "@language": language}),
                (false, None, Some(datatype)) => json!({"@value": note.text, "@type": datatype}),
                (false, None, None) => json!({"@value": note.text}),
            })
            .collect();
        out.insert(member.to_owned(), one_or_many(values));
    }
}

fn rule_json(rule: &Rule, lifted: &Lifted) -> Json {
    let mut out = Map::new();
    if let Some(uid) = &rule.uid {
        out.insert("@id".into(), json!(uid));
    }
    let action = if rule.refinements.is_empty() {
        json!(compact(&rule.action))
    } else {
        json!({
            format!("{RDF}value"): {"@id": rule.action},
            outside_dsp("refinement"): constraints_json(&rule.refinements),
        })
    };
    out.insert("action".into(), action);
    for (member, thing, is_lifted) in [
        ("target", &rule.target, lifted.target),
        ("assigner", &rule.assigner, lifted.assigner),
        ("assignee", &rule.assignee, lifted.assignee),
    ] {
        if let (Some(thing), false) = (thing, is_lifted) {
            out.insert(member.into(), thing_json(thing));
        }
    }
    if let Some(output) = &rule.output {
        out.insert(outside_dsp("output"), thing_value(output));
    }
    let mut functions: Vec<&str> = rule.parties.iter().map(|(function, _)| function.as_str()).collect();
    functions.dedup();
    for function in functions {
        let parties = rule
            .parties
            .iter()
            .filter(|(known, _)| known == function)
            .map(|(_, party)| thing_value(party))
            .collect();
        out.insert(outside_dsp(compact(function)), one_or_many(parties));
    }
    if !rule.constraints.is_empty() {
        out.insert("constraint".into(), constraints_json(&rule.constraints));
    }
    if !rule.duties.is_empty() {
        let duties = rule.duties.iter().map(|duty| rule_json(duty, &Lifted::default())).collect();
        let member = match rule.kind {
            RuleKind::Permission => "duty".to_owned(),
            RuleKind::Prohibition => outside_dsp("remedy"),
            RuleKind::Duty => outside_dsp("consequence"),
        };
        out.insert(member, Json::Array(duties));
    }
    add_notes(&mut out, &rule.notes);
    Json::Object(out)
}

fn thing_json(thing: &Thing) -> Json {
    if !thing.collection && thing.refinements.is_empty() && thing.part_of.is_empty() {
        return json!(thing.iri);
    }
    thing_value(thing)
}

/// The form for members that the DSP context does not type as `@id`.
fn thing_value(thing: &Thing) -> Json {
    let mut out = Map::new();
    if thing.collection {
        out.insert("@type".into(), json!("odrl:AssetCollection"));
        out.insert(outside_dsp("source"), json!({"@id": thing.iri}));
    } else {
        out.insert("@id".into(), json!(thing.iri));
    }
    if !thing.part_of.is_empty() {
        let list = thing.part_of.iter().map(|whole| json!({"@id": whole})).collect();
        out.insert(outside_dsp("partOf"), one_or_many(list));
    }
    if !thing.refinements.is_empty() {
        out.insert(outside_dsp("refinement"), constraints_json(&thing.refinements));
    }
    Json::Object(out)
}

fn constraints_json(constraints: &[Constraint]) -> Json {
    Json::Array(constraints.iter().map(constraint_json).collect())
}

fn constraint_json(constraint: &Constraint) -> Json {
    match constraint {
        Constraint::Atom(atom) => atom_json(atom),
        Constraint::Logic { logic, uid, parts } => {
            let mut out = Map::new();
            if let Some(uid) = uid {
                out.insert("@id".into(), json!(uid));
            }
            let parts: Vec<Json> = parts.iter().map(constraint_json).collect();
            out.insert(logic.name().into(), Json::Array(parts));
            Json::Object(out)
        }
    }
}

fn atom_json(atom: &Atom) -> Json {
    let mut out = Map::new();
    if let Some(uid) = &atom.uid {
        out.insert("@id".into(), json!(uid));
    }
    out.insert("leftOperand".into(), json!(compact(&atom.operand.iri)));
    out.insert("operator".into(), json!(atom.operator.name()));
    out.insert("rightOperand".into(), one_or_many(atom.rights.iter().map(right_json).collect()));
    if let Some(unit) = &atom.unit {
        out.insert(outside_dsp("unit"), json!({"@id": unit}));
    }
    if let Some(status) = &atom.status {
        out.insert(outside_dsp("status"), right_json(status));
    }
    if let Some(source) = atom.minimum_source {
        let name = match source {
            Source::Asserted => "asserted",
            Source::Registered => "registered",
            Source::Attested => "attested",
            Source::LocalCounter | Source::LocalClock => "local",
        };
        out.insert(format!("{FL}minimumSource"), json!({"@id": format!("{FL}{name}")}));
    }
    Json::Object(out)
}

fn right_json(right: &Right) -> Json {
    match right {
        Right::Symbol(iri) if iri.contains(':') => json!({"@id": iri}),
        Right::Symbol(text) | Right::Text(text) => json!(text),
        typed => match typed.datatype() {
            Some(datatype) => json!({"@type": format!("{XSD}{datatype}"), "@value": typed.text()}),
            None => json!(typed.text()),
        },
    }
}

/// The policy as an Agreement: the same rules, other shell.
pub(crate) fn agreement(model: &Model, uid: &str, assignee: &str, at: crate::time::UnixMillis) -> Model {
    let mut agreement = model.clone();
    agreement.kind = Kind::Agreement;
    uid.clone_into(&mut agreement.uid);
    agreement.timestamp = Some(at);
    for rule in &mut agreement.rules {
        if rule.assignee.is_none() {
            rule.assignee = Some(Thing {
                iri: assignee.to_owned(),
                collection: false,
                part_of: Vec::new(),
                refinements: Vec::new(),
            });
        }
    }
    arrange(&mut agreement);
    agreement
}
