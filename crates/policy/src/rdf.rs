//! Policies from Turtle and from quads, brought into the same nodes that JSON gives.

use std::collections::BTreeMap;

use oxjsonld::JsonLdParser;
use oxrdf::{NamedOrBlankNode, Quad, Term};
use oxttl::TurtleParser;

use crate::node::{Item, ItemKind, MAX_TEXT_BYTES, Member, Node};
use crate::problem::{Position, Problem, Problems, SYNTAX, TOO_LARGE};
use crate::refusal::Code;
use crate::tables::Term as TaxonomyTerm;
use crate::vocab::{DCT, FL, ODRL, RDF, RDFS, SKOS, short};

/// The most triples of one policy document.
const MAX_TRIPLES: usize = 50_000;
/// The most nodes one policy unfolds to: shared nodes are unfolded at each place, so this stops a billion laughs.
const MAX_UNFOLDED: usize = 20_000;
/// The deepest chain of nodes: as in JSON.
const MAX_DEPTH: usize = crate::json::MAX_DEPTH;

/// Triples by subject, in the order of subject and predicate.
pub(crate) struct Graph {
    triples: BTreeMap<String, BTreeMap<String, Vec<Term>>>,
}

fn key(subject: &NamedOrBlankNode) -> String {
    match subject {
        NamedOrBlankNode::NamedNode(node) => node.as_str().to_owned(),
        NamedOrBlankNode::BlankNode(node) => format!("_:{}", node.as_str()),
    }
}

fn problem(code: &'static Code, at: Position, term: impl Into<String>, expected: &str) -> Problems {
    Problems::one(Problem { code, at, term: term.into(), expected: expected.to_owned(), suggestion: None })
}

impl Graph {
    pub(crate) fn from_turtle(text: &str, base: &str) -> Result<Self, Problems> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(problem(
                &TOO_LARGE,
                Position::default(),
                format!("{} bytes", text.len()),
                "a shorter text",
            ));
        }
        let mut parser = TurtleParser::new();
        if !base.is_empty() {
            parser = parser
                .with_base_iri(base)
                .map_err(|error| problem(&SYNTAX, Position::default(), base, &error.to_string()))?;
        }
        let mut graph = Self { triples: BTreeMap::new() };
        let mut count = 0_usize;
        for triple in parser.for_slice(text.as_bytes()) {
            let triple = triple.map_err(|error| {
                let start = error.location().start;
                let at = Position {
                    path: String::new(),
                    line: u32::try_from(start.line + 1).unwrap_or(u32::MAX),
                    column: u32::try_from(start.column + 1).unwrap_or(u32::MAX),
                };
                problem(&SYNTAX, at, error.message(), "Turtle")
            })?;
            count += 1;
            if count > MAX_TRIPLES {
                return Err(problem(&TOO_LARGE, Position::default(), "triples", "fewer triples"));
            }
            graph.add(&triple.subject, triple.predicate.as_str(), triple.object);
        }
        Ok(graph)
    }

    /// Reads JSON-LD with its context in the text; a context that would have to be fetched is refused.
    pub(crate) fn from_json_ld(text: &str) -> Result<Self, Problems> {
        let here = Position::default;
        if text.len() > MAX_TEXT_BYTES {
            return Err(problem(&TOO_LARGE, here(), format!("{} bytes", text.len()), "a shorter text"));
        }
        // Looked at first because it bounds the depth.
        let mut json = serde_json::from_str::<serde_json::Value>(text)
            .map_err(|error| problem(&SYNTAX, here(), error.to_string(), "JSON"))?;
        built_in_contexts(&mut json);
        let mut graph = Self { triples: BTreeMap::new() };
        for (count, quad) in JsonLdParser::new().for_slice(&json.to_string()).enumerate() {
            let quad = quad.map_err(|error| {
                problem(&SYNTAX, here(), error.to_string(), "JSON-LD with its context in the text")
            })?;
            if count >= MAX_TRIPLES {
                return Err(problem(&TOO_LARGE, here(), "triples", "fewer triples"));
            }
            graph.add(&quad.subject, quad.predicate.as_str(), quad.object);
        }
        Ok(graph)
    }

    pub(crate) fn from_quads<'a>(quads: impl IntoIterator<Item = &'a Quad>) -> Result<Self, Problems> {
        let mut graph = Self { triples: BTreeMap::new() };
        for (count, quad) in quads.into_iter().enumerate() {
            if count >= MAX_TRIPLES {
                return Err(problem(&TOO_LARGE, Position::default(), "quads", "fewer quads"));
            }
            graph.add(&quad.subject, quad.predicate.as_str(), quad.object.clone());
        }
        Ok(graph)
    }

    fn add(&mut self, subject: &NamedOrBlankNode, predicate: &str, object: Term) {
        let objects = self.triples.entry(key(subject)).or_default().entry(predicate.to_owned()).or_default();
        if !objects.contains(&object) {
            objects.push(object);
        }
    }

    pub(crate) fn objects(&self, subject: &str, predicate: &str) -> &[Term] {
        self.triples.get(subject).and_then(|members| members.get(predicate)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn subjects(&self) -> impl Iterator<Item = &str> {
        self.triples.keys().map(String::as_str)
    }

    pub(crate) fn members(&self, subject: &str) -> impl Iterator<Item = (&str, &[Term])> {
        self.triples
            .get(subject)
            .into_iter()
            .flatten()
            .map(|(predicate, objects)| (predicate.as_str(), objects.as_slice()))
    }

    /// The names of the policies in the graph: what is typed as one, or has rules.
    pub(crate) fn policies(&self) -> Vec<&str> {
        const KINDS: &[&str] =
            &["Policy", "Set", "Offer", "Agreement", "Assertion", "Privacy", "Request", "Ticket"];
        let rdf_type = format!("{RDF}type");
        self.subjects()
            .filter(|subject| {
                self.objects(subject, &rdf_type).iter().any(|term| match term {
                    Term::NamedNode(node) => {
                        node.as_str().strip_prefix(ODRL).is_some_and(|kind| KINDS.contains(&kind))
                    }
                    _ => false,
                }) || ["permission", "prohibition", "obligation"]
                    .iter()
                    .any(|rule| !self.objects(subject, &format!("{ODRL}{rule}")).is_empty())
            })
            .collect()
    }

    /// The one policy in the graph, or the one named.
    pub(crate) fn policy(&self, uid: Option<&str>) -> Result<Node, Problems> {
        let name = match uid {
            Some(uid) if self.triples.contains_key(uid) => uid,
            Some(uid) => {
                return Err(problem(&SYNTAX, Position::default(), uid, "a policy with this identifier"));
            }
            None => match self.policies().as_slice() {
                [one] => one,
                [] => return Err(problem(&SYNTAX, Position::default(), "no policy", "one ODRL policy")),
                [_, second, ..] => {
                    return Err(problem(
                        &SYNTAX,
                        Position::default(),
                        *second,
                        "exactly one policy in the text",
                    ));
                }
            },
        };
        let mut node = self.unfold(name)?;
        // An asset or party may point at its policy instead (ODRL 2.2 Information Model, 2.2.3 and 2.3.3).
        for (pointer, function) in
            [("hasPolicy", "target"), ("assignerOf", "assigner"), ("assigneeOf", "assignee")]
        {
            let function = format!("{ODRL}{function}");
            let pointer = format!("{ODRL}{pointer}");
            let at = node.at.below(short(&pointer));
            let values: Vec<Item> = self
                .subjects()
                .filter(|subject| !subject.starts_with("_:"))
                .filter(|subject| {
                    self.objects(subject, &pointer)
                        .iter()
                        .any(|term| matches!(term, Term::NamedNode(policy) if policy.as_str() == name))
                })
                .map(|subject| Item { at: at.clone(), kind: ItemKind::Iri(subject.to_owned()) })
                .collect();
            if !values.is_empty() && !node.has(&function) {
                node.members.push(Member { iri: function, at, values });
            }
        }
        Ok(node)
    }

    /// The node of this subject with everything below it.
    pub(crate) fn unfold(&self, name: &str) -> Result<Node, Problems> {
        let mut budget = MAX_UNFOLDED;
        let mut path = Vec::new();
        self.node(name, &Position::default(), &mut path, &mut budget)
    }

    /// `from` is the way to the node: what has no name of its own is found by it.
    fn node(
        &self,
        name: &str,
        from: &Position,
        path: &mut Vec<String>,
        budget: &mut usize,
    ) -> Result<Node, Problems> {
        let nameless = name.starts_with("_:") && !from.path.is_empty();
        let at = if nameless { from.clone() } else { Position { path: shown(name), line: 0, column: 0 } };
        *budget = budget.saturating_sub(1);
        if *budget == 0 || path.len() >= MAX_DEPTH {
            return Err(problem(&TOO_LARGE, at, name, "fewer and flatter nodes"));
        }
        path.push(name.to_owned());
        let mut node = Node {
            at: at.clone(),
            id: (!name.starts_with("_:")).then(|| name.to_owned()),
            ..Node::default()
        };
        for (predicate, objects) in self.triples.get(name).into_iter().flatten() {
            if *predicate == format!("{RDF}type") {
                for object in objects {
                    if let Term::NamedNode(kind) = object {
                        node.types.push(kind.as_str().to_owned());
                    }
                }
                continue;
            }
            if *predicate == format!("{ODRL}uid") {
                // Redundant beside the subject; a different one would make the rule's name ambiguous.
                for object in objects {
                    let text = match object {
                        Term::NamedNode(uid) => uid.as_str(),
                        Term::Literal(uid) => uid.value(),
                        Term::BlankNode(_) => "",
                    };
                    match &node.id {
                        None if !text.is_empty() => node.id = Some(text.to_owned()),
                        Some(id) if id == text => {}
                        _ => {
                            return Err(problem(
                                &crate::problem::AMBIGUOUS_MEMBER,
                                at.below("uid"),
                                text,
                                "the node's own name",
                            ));
                        }
                    }
                }
                continue;
            }
            let here = at.below(short(predicate));
            // Only the policy language is followed: what else the graph says about an asset is not the policy.
            let ours = [ODRL, FL, RDF].iter().any(|namespace| predicate.starts_with(namespace));
            let mut values = Vec::new();
            for (index, object) in objects.iter().enumerate() {
                // Of several, the number tells which.
                let here = if objects.len() > 1 { here.below(index) } else { here.clone() };
                values.push(match object {
                    Term::NamedNode(node) if !ours => {
                        Item { at: here, kind: ItemKind::Iri(node.as_str().to_owned()) }
                    }
                    Term::BlankNode(_) if !ours => continue,
                    _ => self.item(object, &here, path, budget)?,
                });
            }
            if values.is_empty() {
                continue;
            }
            node.members.push(Member { iri: predicate.clone(), at: here, values });
        }
        path.pop();
        Ok(node)
    }

    fn item(
        &self,
        object: &Term,
        at: &Position,
        path: &mut Vec<String>,
        budget: &mut usize,
    ) -> Result<Item, Problems> {
        let kind = match object {
            Term::Literal(literal) => ItemKind::Literal {
                text: literal.value().to_owned(),
                datatype: Some(literal.datatype().as_str().to_owned()),
                language: literal.language().map(str::to_owned),
            },
            Term::NamedNode(node) => {
                let name = node.as_str();
                if name == format!("{RDF}nil") {
                    ItemKind::List(Vec::new())
                } else if self.triples.contains_key(name) && !path.iter().any(|above| above == name) {
                    ItemKind::Node(self.node(name, at, path, budget)?)
                } else {
                    ItemKind::Iri(name.to_owned())
                }
            }
            Term::BlankNode(node) => {
                let name = format!("_:{}", node.as_str());
                if path.contains(&name) {
                    return Err(problem(&SYNTAX, at.clone(), name, "no node within itself"));
                }
                if self.objects(&name, &format!("{RDF}first")).is_empty() {
                    ItemKind::Node(self.node(&name, at, path, budget)?)
                } else {
                    ItemKind::List(self.list(&name, at, path, budget)?)
                }
            }
        };
        Ok(Item { at: at.clone(), kind })
    }

    fn list(
        &self,
        head: &str,
        at: &Position,
        path: &mut Vec<String>,
        budget: &mut usize,
    ) -> Result<Vec<Item>, Problems> {
        let mut items = Vec::new();
        let mut current = head.to_owned();
        loop {
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                return Err(problem(&TOO_LARGE, at.clone(), "list", "a shorter list"));
            }
            let ([first], [rest]) = (
                self.objects(&current, &format!("{RDF}first")),
                self.objects(&current, &format!("{RDF}rest")),
            ) else {
                return Err(problem(&SYNTAX, at.clone(), current, "a well-formed list"));
            };
            items.push(self.item(first, &at.below(items.len()), path, budget)?);
            current = match rest {
                Term::NamedNode(end) if end.as_str() == format!("{RDF}nil") => return Ok(items),
                Term::BlankNode(next) => format!("_:{}", next.as_str()),
                _ => return Err(problem(&SYNTAX, at.clone(), current, "a well-formed list")),
            };
        }
    }
}

/// Where ODRL publishes its JSON-LD context (ODRL 2.2 Vocabulary, appendix A).
const ODRL_CONTEXTS: &[&str] = &["http://www.w3.org/ns/odrl.jsonld", "https://www.w3.org/ns/odrl.jsonld"];

/// Puts the terms of ODRL in the place of its context's address, which is never fetched.
fn built_in_contexts(json: &mut serde_json::Value) {
    use serde_json::Value;
    fn resolve(context: &mut Value) {
        match context {
            Value::String(address) if ODRL_CONTEXTS.contains(&address.as_str()) => {
                *context = crate::node::odrl_context();
            }
            Value::Array(items) => items.iter_mut().for_each(resolve),
            _ => {}
        }
    }
    match json {
        Value::Object(members) => {
            for (name, value) in members {
                if name == "@context" {
                    resolve(value);
                } else {
                    built_in_contexts(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(built_in_contexts),
        _ => {}
    }
}

/// The terms of a taxonomy graph: everything that is ordered or labelled.
pub(crate) fn terms(graph: &Graph) -> Vec<TaxonomyTerm> {
    let broader_by = [
        format!("{SKOS}broader"),
        format!("{RDFS}subClassOf"),
        format!("{ODRL}partOf"),
        format!("{DCT}isPartOf"),
    ];
    let labels_by = [format!("{SKOS}prefLabel"), format!("{RDFS}label")];
    let mut found: BTreeMap<String, TaxonomyTerm> = BTreeMap::new();
    let blank = |iri: &str| TaxonomyTerm {
        iri: iri.to_owned(),
        broader: Vec::new(),
        also: Vec::new(),
        label: std::array::from_fn(|_| String::new()),
    };
    for subject in graph.subjects().filter(|subject| !subject.starts_with("_:")) {
        for predicate in &broader_by {
            for object in graph.objects(subject, predicate) {
                if let Term::NamedNode(upper) = object {
                    found.entry(upper.as_str().to_owned()).or_insert_with(|| blank(upper.as_str()));
                    let term = found.entry(subject.to_owned()).or_insert_with(|| blank(subject));
                    term.broader.push(upper.as_str().to_owned());
                }
            }
        }
        for object in labels_by.iter().flat_map(|predicate| graph.objects(subject, predicate)) {
            if let Term::Literal(literal) = object {
                let lang = crate::profile::Lang::of_tag(literal.language().unwrap_or("en"));
                let term = found.entry(subject.to_owned()).or_insert_with(|| blank(subject));
                if let Some(place) = term.label.get_mut(lang as usize)
                    && place.is_empty()
                {
                    literal.value().clone_into(place);
                }
            }
        }
    }
    found.into_values().collect()
}

fn shown(name: &str) -> String {
    if name.starts_with("_:") { "[]".to_owned() } else { format!("<{name}>") }
}
