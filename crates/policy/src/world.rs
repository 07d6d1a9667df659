//! Requests and states of the world for reports, as the public test material writes them in Turtle, the same as JSON-LD,
//! or as plain JSON.

use std::collections::{BTreeMap, BTreeSet};

use oxrdf::Term;
use serde::Deserialize;

use crate::facts::{DutyState, Facts};
use crate::problem::Problems;
use crate::profile::{OperandType, Profiles, Source};
use crate::rdf::Graph;
use crate::report::{bad, instant, odrl};
use crate::time::UnixMillis;
use crate::value::{Decimal, Right, Symbol, Value, parse_duration};
use crate::vocab::{DCT, RDF, expand_vocab};

const REPORT: &str = "https://w3id.org/force/compliance-report#";
const SOTW: &str = "https://w3id.org/force/sotw#";
const INCLUDES: &str = "http://example.org/includes";
const CURRENT_TIME: &str = "http://example.com/request/currentTime";

enum Form {
    Plain,
    Linked,
    Turtle,
}

/// Only JSON-LD has members that begin with `@`.
fn form(text: &str) -> Form {
    let text = text.trim_start();
    if text.starts_with('[') {
        return Form::Linked;
    }
    if !text.starts_with('{') {
        return Form::Turtle;
    }
    let members =
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).unwrap_or_default();
    if members.keys().any(|member| member.starts_with('@')) { Form::Linked } else { Form::Plain }
}

/// The state of the world.
#[derive(Debug)]
pub(crate) struct Known {
    pub now: Option<UnixMillis>,
    pub facts: Facts,
    /// The earlier report of each duty.
    pub reports: BTreeMap<String, String>,
    /// The performance state of each rule with an earlier report.
    pub performed: BTreeMap<String, String>,
}

/// The request.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub id: String,
    /// The rule of the request, or the request itself.
    pub rule: String,
    pub action: String,
    pub target: String,
    pub assignee: String,
}

/// What one text says of each operand, before it becomes facts: several values of one operand are held together, whatever
/// their order.
#[derive(Default)]
struct Gathered(BTreeMap<String, Value>);

impl Gathered {
    /// Adds a value: symbols become a set, anything else may be said again but not otherwise.
    fn say(&mut self, operand: &str, value: Value) -> Result<(), Problems> {
        let held = match (self.0.remove(operand), value) {
            (None, value) => value,
            (Some(held), value) if held == value => held,
            (Some(held), value) => match (symbols_of(&held), symbols_of(&value)) {
                (Some(mut all), Some(more)) => {
                    all.extend(more);
                    all.sort();
                    all.dedup();
                    Value::Symbols(all)
                }
                _ => {
                    let both = format!("{}: {held} and {value}", crate::vocab::short(operand));
                    return Err(bad(both, "one value of an operand that is measured"));
                }
            },
        };
        self.0.insert(operand.to_owned(), held);
        Ok(())
    }

    /// What this text says replaces what was known. The world is what is true: its facts satisfy any demand for a source.
    fn enter(self, facts: Facts) -> Facts {
        let now = facts.now();
        self.0
            .into_iter()
            .fold(facts, |facts, (operand, value)| facts.with(&operand, value, Source::LocalCounter, now))
    }
}

fn symbols_of(value: &Value) -> Option<Vec<Symbol>> {
    match value {
        Value::Symbol(one) => Some(vec![one.clone()]),
        Value::Symbols(list) => Some(list.clone()),
        Value::Instant(_) | Value::Duration(_) | Value::Number(..) => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorldJson {
    #[serde(default)]
    now: Option<String>,
    #[serde(default)]
    facts: BTreeMap<String, serde_json::Value>,
    /// Pairs of member and collection.
    #[serde(default)]
    members: Vec<(String, String)>,
    /// Duty to `pending`, `fulfilled` or `violated`.
    #[serde(default)]
    duties: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestJson {
    #[serde(default)]
    id: Option<String>,
    action: String,
    #[serde(default)]
    target: String,
    #[serde(default)]
    assignee: String,
    #[serde(default)]
    facts: BTreeMap<String, serde_json::Value>,
}

impl Known {
    pub(crate) fn read(text: &str, profiles: &Profiles) -> Result<Self, Problems> {
        match form(text) {
            Form::Plain => Self::from_json(text, profiles),
            Form::Linked => Self::from_graph(&Graph::from_json_ld(text)?, profiles),
            Form::Turtle => Self::from_graph(&Graph::from_turtle(text, "")?, profiles),
        }
    }

    fn from_json(text: &str, profiles: &Profiles) -> Result<Self, Problems> {
        let world: WorldJson =
            serde_json::from_str(text).map_err(|error| bad(error.to_string(), "a world as JSON"))?;
        let now = match &world.now {
            Some(text) => Some(instant(text).ok_or_else(|| bad(text.clone(), "an RFC 3339 time with zone"))?),
            None => None,
        };
        let mut facts = Facts::at(now.unwrap_or(UnixMillis(0)));
        for (operand, value) in &world.facts {
            facts = add_json(facts, operand, value, profiles, Source::LocalCounter)?;
        }
        for (member, collection) in &world.members {
            facts = facts.member(member, collection);
        }
        for (duty, state) in &world.duties {
            let known = DutyState::of_name(state);
            let state = known.ok_or_else(|| bad(state.clone(), "pending, fulfilled or violated"))?;
            facts = facts.duty(duty, state);
        }
        Ok(Self { now, facts, reports: BTreeMap::new(), performed: BTreeMap::new() })
    }

    fn from_graph(graph: &Graph, profiles: &Profiles) -> Result<Self, Problems> {
        let mut included: BTreeSet<String> = BTreeSet::new();
        let mut lists = false;
        let mut clock: Option<String> = None;
        for subject in graph.subjects() {
            for (predicate, objects) in graph.members(subject) {
                let in_world = predicate == INCLUDES || predicate.starts_with(SOTW);
                lists |= in_world;
                for object in objects.iter().filter(|_| in_world) {
                    if let Some(name) = node_name(object) {
                        if predicate == format!("{SOTW}currentTime") {
                            clock = Some(name.clone());
                        }
                        included.insert(name);
                    }
                }
            }
        }
        let counts = |name: &str| !lists || included.contains(name);
        let clock = clock.or_else(|| counts(CURRENT_TIME).then(|| CURRENT_TIME.to_owned()));
        let issued = format!("{DCT}issued");
        let now =
            clock.as_deref().and_then(|clock| graph.objects(clock, &issued).first()).and_then(literal_text);
        let now = match now {
            Some(text) => Some(instant(text).ok_or_else(|| bad(text, "an xsd:dateTime with zone"))?),
            None => None,
        };
        let mut facts = Facts::at(now.unwrap_or(UnixMillis(0)));
        let mut gathered = Gathered::default();
        let (mut reports, mut performed) = (BTreeMap::new(), BTreeMap::new());
        for subject in graph.subjects() {
            for object in graph.objects(subject, &odrl("partOf")) {
                if let Some(collection) = node_name(object)
                    && (counts(subject) || included.contains(&collection))
                {
                    facts = facts.member(subject, &collection);
                }
            }
            if counts(subject) {
                stated(graph, subject, &mut gathered, profiles)?;
            }
            let rule_reports = graph.objects(subject, &format!("{REPORT}ruleReport"));
            for object in rule_reports.iter().filter(|_| counts(subject)) {
                if let Some(report) = node_name(object) {
                    facts = duty_report(graph, &report, facts, &mut reports, &mut performed);
                }
            }
            if counts(subject) {
                facts = duty_report(graph, subject, facts, &mut reports, &mut performed);
            }
        }
        Ok(Self { now, facts: gathered.enter(facts), reports, performed })
    }
}

/// An earlier duty report: which duty, and how it stands.
fn duty_report(
    graph: &Graph,
    report: &str,
    facts: Facts,
    reports: &mut BTreeMap<String, String>,
    performed: &mut BTreeMap<String, String>,
) -> Facts {
    let rule = graph.objects(report, &format!("{REPORT}rule")).first().and_then(node_name);
    let performance = graph.objects(report, &format!("{REPORT}performanceState")).first().and_then(node_name);
    let performance = performance.as_deref().and_then(|state| state.strip_prefix(REPORT));
    if let (Some(rule), Some(performance)) = (&rule, performance) {
        performed.insert(rule.clone(), performance.to_owned());
    }
    let state = graph.objects(report, &format!("{REPORT}deonticState")).first().and_then(node_name);
    let (Some(rule), Some(state)) = (rule, state) else { return facts };
    let state = match state.strip_prefix(REPORT) {
        Some("Fulfilled") => DutyState::Fulfilled,
        Some("Violated") => DutyState::Violated,
        _ => DutyState::Pending,
    };
    reports.insert(rule.clone(), report.to_owned());
    facts.duty(&rule, state)
}

impl Asked {
    /// Reads the request; values stated in it are entered into the world.
    pub(crate) fn read(text: &str, profiles: &Profiles, known: &mut Known) -> Result<Self, Problems> {
        if text.trim_start().starts_with('{') {
            let plain = serde_json::from_str::<RequestJson>(text);
            if let Ok(request) = plain {
                return Self::from_json(request, profiles, known);
            }
            if text.contains(SOTW) {
                return Self::from_graph(&Graph::from_json_ld(text)?, profiles, known);
            }
            let node = crate::node::from_json(text)?;
            let request = crate::read::read(&node, &profiles.tables, false, &[], true)?;
            let rule = request.rules.first().ok_or_else(|| bad("request", "one permission"))?;
            let name = |thing: &Option<crate::model::Thing>| {
                thing.as_ref().map(|thing| thing.iri.clone()).unwrap_or_default()
            };
            let mut gathered = Gathered::default();
            for constraint in rule.constraints.iter().chain(&rule.refinements) {
                if let crate::model::Constraint::Atom(atom) = constraint {
                    for right in &atom.rights {
                        gathered.say(&atom.operand.iri, value_of(right, atom.unit.as_deref()))?;
                    }
                }
            }
            let facts = std::mem::replace(&mut known.facts, Facts::at(UnixMillis(0)));
            known.facts = gathered.enter(facts);
            return Ok(Self {
                rule: rule.uid.clone().unwrap_or_else(|| request.uid.clone()),
                action: rule.action.clone(),
                target: name(&rule.target),
                assignee: name(&rule.assignee),
                id: request.uid,
            });
        }
        Self::from_graph(&Graph::from_turtle(text, "")?, profiles, known)
    }

    fn from_json(request: RequestJson, profiles: &Profiles, known: &mut Known) -> Result<Self, Problems> {
        for (operand, value) in &request.facts {
            let facts = std::mem::replace(&mut known.facts, Facts::at(UnixMillis(0)));
            known.facts = add_json(facts, operand, value, profiles, Source::LocalCounter)?;
        }
        let id = request.id.unwrap_or_else(|| "urn:fairlead:request".to_owned());
        Ok(Self {
            rule: id.clone(),
            id,
            action: profiles.current_action(&expand_vocab(&request.action, &Vec::new())),
            target: request.target,
            assignee: request.assignee,
        })
    }

    fn from_graph(graph: &Graph, profiles: &Profiles, known: &mut Known) -> Result<Self, Problems> {
        let one =
            |subject: &str, predicate: &str| graph.objects(subject, predicate).first().and_then(node_name);
        let rdf_type = format!("{RDF}type");
        let request = graph
            .subjects()
            .find(|subject| {
                let kinds: Vec<String> =
                    graph.objects(subject, &rdf_type).iter().filter_map(node_name).collect();
                kinds
                    .iter()
                    .any(|kind| *kind == odrl("Request") || *kind == format!("{SOTW}EvaluationRequest"))
            })
            .or_else(|| {
                graph.subjects().find(|subject| !graph.objects(subject, &odrl("permission")).is_empty())
            })
            .ok_or_else(|| bad("request", "an odrl:Request or an evaluation request"))?;
        let rule = one(request, &odrl("permission"));
        let (rule, [action, target, assignee]) = match &rule {
            Some(rule) => (rule.clone(), [odrl("action"), odrl("target"), odrl("assignee")]),
            None => (
                request.to_owned(),
                ["requestedAction", "requestedTarget", "requestingParty"].map(|name| format!("{SOTW}{name}")),
            ),
        };
        let mut action_node = one(&rule, &action).unwrap_or_default();
        let mut gathered = Gathered::default();
        for object in graph.objects(&rule, &odrl("constraint")) {
            if let Some(constraint) = node_name(object) {
                stated(graph, &constraint, &mut gathered, profiles)?;
            }
        }
        if let Some(value) = one(&action_node, &format!("{RDF}value")) {
            for object in graph.objects(&action_node, &odrl("refinement")) {
                if let Some(constraint) = node_name(object) {
                    stated(graph, &constraint, &mut gathered, profiles)?;
                }
            }
            action_node = value;
        }
        for object in graph.objects(request, &format!("{SOTW}requestParameter")) {
            if let Some(parameter) = node_name(object) {
                request_parameter(graph, &parameter, &mut gathered, profiles)?;
            }
        }
        let facts = std::mem::replace(&mut known.facts, Facts::at(UnixMillis(0)));
        known.facts = gathered.enter(facts);
        Ok(Self {
            id: request.to_owned(),
            action: profiles.current_action(&action_node),
            target: one(&rule, &target).unwrap_or_default(),
            assignee: one(&rule, &assignee).unwrap_or_default(),
            rule,
        })
    }
}

/// `sotw:value` with `sotw:describesFeature sotw:DeliveryChannel`: the feature is the operand's name in capitals.
fn request_parameter(
    graph: &Graph,
    parameter: &str,
    gathered: &mut Gathered,
    profiles: &Profiles,
) -> Result<(), Problems> {
    let feature = graph.objects(parameter, &format!("{SOTW}describesFeature")).first().and_then(node_name);
    let Some(feature) = feature else { return Ok(()) };
    let name = feature.strip_prefix(SOTW).unwrap_or(&feature);
    let mut letters = name.chars();
    let first: String = letters.next().map(|c| c.to_lowercase().collect()).unwrap_or_default();
    let operand = odrl(&format!("{first}{}", letters.as_str()));
    let unit = unit_of(graph, parameter);
    for value in graph.objects(parameter, &format!("{SOTW}value")) {
        term_fact(gathered, &operand, value, unit.as_deref(), profiles)?;
    }
    Ok(())
}

/// A node that says «operand is value» in the terms of a constraint.
fn stated(graph: &Graph, node: &str, gathered: &mut Gathered, profiles: &Profiles) -> Result<(), Problems> {
    let operand = graph.objects(node, &odrl("leftOperand")).first().and_then(node_name);
    let operator = graph.objects(node, &odrl("operator")).first().and_then(node_name);
    let Some(operand) = operand.filter(|_| operator.is_none_or(|operator| operator == odrl("eq"))) else {
        return Ok(());
    };
    let unit = unit_of(graph, node);
    for value in graph.objects(node, &odrl("rightOperand")) {
        term_fact(gathered, &operand, value, unit.as_deref(), profiles)?;
    }
    Ok(())
}

fn unit_of(graph: &Graph, node: &str) -> Option<String> {
    let unit = graph.objects(node, &odrl("unit")).first()?;
    node_name(unit).or_else(|| literal_text(unit).map(str::to_owned))
}

fn term_fact(
    gathered: &mut Gathered,
    operand: &str,
    value: &Term,
    unit: Option<&str>,
    profiles: &Profiles,
) -> Result<(), Problems> {
    let text = match value {
        Term::NamedNode(node) => node.as_str(),
        Term::Literal(literal) => literal.value(),
        Term::BlankNode(_) => return Ok(()),
    };
    let known = profiles.tables.operands.get(operand);
    // What no profile knows cannot be asked for by a policy either.
    let Some(info) = known else { return Ok(()) };
    let value =
        value_from(text, unit, info.kind).ok_or_else(|| bad(text, "a value of the operand's type"))?;
    gathered.say(operand, value)
}

pub(crate) fn add_json(
    facts: Facts,
    operand: &str,
    value: &serde_json::Value,
    profiles: &Profiles,
    source: Source,
) -> Result<Facts, Problems> {
    let iri = expand_vocab(operand, &Vec::new());
    let info =
        profiles.tables.operands.get(&iri).ok_or_else(|| bad(operand, "an operand of a known profile"))?;
    let plain = |value: &serde_json::Value, unit: Option<&str>| match value {
        serde_json::Value::String(text) => value_from(text, unit, info.kind),
        serde_json::Value::Number(number) => value_from(&number.to_string(), unit, info.kind),
        _ => None,
    };
    // `{"value": 5, "unit": "ex:EUR"}` is a number with its unit.
    let one = |value: &serde_json::Value| match value {
        serde_json::Value::Object(members) if members.len() == 2 => {
            let unit = members.get("unit")?.as_str()?;
            let unit = crate::vocab::expand_prefixed(unit, &Vec::new()).unwrap_or_else(|| unit.to_owned());
            plain(members.get("value")?, Some(&unit))
        }
        other => plain(other, None),
    };
    let read = match value {
        serde_json::Value::Array(list) => {
            let symbols = list.iter().map(|item| match one(item) {
                Some(Value::Symbol(symbol)) => Some(symbol),
                _ => None,
            });
            symbols.collect::<Option<Vec<Symbol>>>().map(Value::Symbols)
        }
        other => one(other),
    };
    let value = read.ok_or_else(|| bad(value.to_string(), "a value of the operand's type"))?;
    let now = facts.now();
    Ok(facts.with(&iri, value, source, now))
}

fn value_from(text: &str, unit: Option<&str>, kind: OperandType) -> Option<Value> {
    match kind {
        OperandType::Instant => instant(text).map(Value::Instant),
        OperandType::Since | OperandType::Duration => match parse_duration(text) {
            Some(Right::Duration { lo, hi, .. }) if lo == hi => Some(Value::Duration(lo)),
            // Months have no one length: the fact is kept as it stands, and compares with nothing.
            Some(right) => Some(Value::symbol(&right.text())),
            None => instant(text).map(Value::Instant),
        },
        OperandType::Number | OperandType::Count => {
            Decimal::parse(text).map(|number| Value::Number(number, unit.map(Symbol::new)))
        }
        OperandType::Symbol | OperandType::Ordered | OperandType::Text | OperandType::Opaque => {
            Some(Value::symbol(text))
        }
    }
}

fn value_of(right: &Right, unit: Option<&str>) -> Value {
    match right {
        Right::Instant { lo, .. } => Value::Instant(UnixMillis(*lo)),
        Right::Day { start_lo, .. } => Value::Instant(UnixMillis(*start_lo)),
        Right::Duration { lo, hi, .. } if lo == hi => Value::Duration(*lo),
        Right::Duration { text, .. } => Value::symbol(text),
        Right::Number(number) => Value::Number(*number, unit.map(Symbol::new)),
        Right::Symbol(text) | Right::Text(text) => Value::symbol(text),
    }
}

fn node_name(term: &Term) -> Option<String> {
    match term {
        Term::NamedNode(node) => Some(node.as_str().to_owned()),
        Term::BlankNode(node) => Some(format!("_:{}", node.as_str())),
        Term::Literal(_) => None,
    }
}

fn literal_text(term: &Term) -> Option<&str> {
    match term {
        Term::Literal(literal) => Some(literal.value()),
        _ => None,
    }
}
