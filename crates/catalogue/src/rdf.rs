//! Statements of one graph: bounded parsing, the canonical form, and look-up by subject and predicate.

use std::collections::{BTreeMap, BTreeSet};

use control_plane::ids::printable;
use oxrdf::{GraphName, Literal, NamedNode, NamedOrBlankNode, Quad, Term, Triple};
use oxttl::{NQuadsParser, TurtleParser};

use crate::description::{MAX_BYTES, MAX_STATEMENTS};
use crate::report::{BLANK_NODE, NOT_CANONICAL, Report, SYNTAX, TOO_LARGE};

/// Syntax errors beyond these are consequences of the first ones.
const MAX_SYNTAX_ERRORS: usize = 20;

/// A statement whose subject has an IRI and whose object is no blank node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Statement {
    pub subject: NamedNode,
    pub predicate: NamedNode,
    pub object: Term,
}

/// The statements of a description, distinct and in canonical order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statements {
    by_line: BTreeMap<String, Statement>,
}

impl Statements {
    pub fn insert(&mut self, statement: Statement) {
        let Statement { subject, predicate, object } = &statement;
        self.by_line.insert(format!("{subject} {predicate} {object}"), statement);
    }

    pub fn add(&mut self, subject: &NamedNode, predicate: &str, object: impl Into<Term>) {
        let predicate = NamedNode::new_unchecked(predicate);
        self.insert(Statement { subject: subject.clone(), predicate, object: object.into() });
    }

    pub fn retain(&mut self, keep: impl Fn(&Statement) -> bool) {
        self.by_line.retain(|_, statement| keep(statement));
    }

    pub fn len(&self) -> usize {
        self.by_line.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Statement> {
        self.by_line.values()
    }

    pub fn subjects(&self) -> BTreeSet<&str> {
        self.iter().map(|statement| statement.subject.as_str()).collect()
    }

    pub fn triples(&self) -> Vec<Triple> {
        self.iter()
            .map(|statement| {
                Triple::new(statement.subject.clone(), statement.predicate.clone(), statement.object.clone())
            })
            .collect()
    }

    pub fn quads(&self, graph: &NamedNode) -> Vec<Quad> {
        self.triples().into_iter().map(|triple| triple.in_graph(graph.clone())).collect()
    }

    /// The canonical form: distinct N-Quads lines of `graph`, sorted by bytes, each ended by a line feed.
    pub fn canonical(&self, graph: &NamedNode) -> Vec<u8> {
        let lines: BTreeSet<String> = self.by_line.keys().map(|line| format!("{line} {graph} .\n")).collect();
        lines.into_iter().collect::<String>().into_bytes()
    }

    /// Reads Turtle; relative IRIs are taken relative to `base`.
    pub fn from_turtle(text: &str, base: &str, report: &mut Report) -> Option<Self> {
        if text.len() > MAX_BYTES {
            report.violation(&TOO_LARGE, "", "", format!("{} bytes", text.len()));
            return None;
        }
        let parser = match TurtleParser::new().with_base_iri(base) {
            Ok(parser) => parser,
            Err(error) => {
                report.violation(&SYNTAX, "", base, error.to_string());
                return None;
            }
        };
        let mut statements = Self::default();
        let mut blank = BTreeSet::new();
        let mut errors = 0;
        for item in parser.for_slice(text.as_bytes()) {
            match item {
                Ok(triple) => {
                    statements.take(triple.subject, triple.predicate, triple.object, &mut blank, report)
                }
                Err(error) => {
                    let start = error.location().start;
                    let place = format!("line {}, column {}", start.line + 1, start.column + 1);
                    report.violation(&SYNTAX, "", &place, error.message());
                    errors += 1;
                }
            }
            if statements.len() > MAX_STATEMENTS || errors >= MAX_SYNTAX_ERRORS {
                break;
            }
        }
        statements.checked(errors, report)
    }

    /// Reads content that must be canonical already: any other writing of the same statements is refused.
    pub fn from_canonical(content: &[u8], graph: &NamedNode, report: &mut Report) -> Option<Self> {
        if content.len() > MAX_BYTES {
            report.violation(&TOO_LARGE, "", "", format!("{} bytes", content.len()));
            return None;
        }
        let mut statements = Self::default();
        let mut blank = BTreeSet::new();
        let mut errors = 0;
        for item in NQuadsParser::new().for_slice(content) {
            match item {
                Ok(quad) => {
                    if quad.graph_name != GraphName::NamedNode(graph.clone()) {
                        report.violation(&NOT_CANONICAL, "", "", "a statement of another graph");
                        return None;
                    }
                    statements.take(quad.subject, quad.predicate, quad.object, &mut blank, report);
                }
                Err(error) => {
                    let place = format!("line {}", error.location().start.line + 1);
                    report.violation(&SYNTAX, "", &place, error.message());
                    errors += 1;
                }
            }
            if statements.len() > MAX_STATEMENTS || errors >= MAX_SYNTAX_ERRORS {
                break;
            }
        }
        let statements = statements.checked(errors, report)?;
        if statements.canonical(graph) != content {
            report.violation(&NOT_CANONICAL, graph.as_str(), "", "");
            return None;
        }
        Some(statements)
    }

    fn take(
        &mut self,
        subject: NamedOrBlankNode,
        predicate: NamedNode,
        object: Term,
        blank: &mut BTreeSet<String>,
        report: &mut Report,
    ) {
        let mut named = |label: &str, path: &str| {
            if blank.len() < MAX_STATEMENTS && blank.insert(label.to_owned()) {
                report.violation(&BLANK_NODE, "", path, printable(label));
            }
        };
        match (subject, object) {
            (NamedOrBlankNode::BlankNode(node), _) => named(node.as_str(), predicate.as_str()),
            (NamedOrBlankNode::NamedNode(_), Term::BlankNode(node)) => {
                named(node.as_str(), predicate.as_str())
            }
            (NamedOrBlankNode::NamedNode(subject), object) => {
                self.insert(Statement { subject, predicate, object })
            }
        }
    }

    fn checked(self, errors: usize, report: &mut Report) -> Option<Self> {
        if self.len() > MAX_STATEMENTS {
            report.violation(&TOO_LARGE, "", "", format!("more than {MAX_STATEMENTS} statements"));
            return None;
        }
        // After a syntax error the rest would be reported as missing, which only hides the cause.
        (errors == 0).then_some(self)
    }
}

/// Look-up by subject and predicate.
pub(crate) struct Graph<'a>(BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Term>>>);

impl<'a> Graph<'a> {
    pub fn new(statements: &'a Statements) -> Self {
        let mut map: BTreeMap<&str, BTreeMap<&str, Vec<&Term>>> = BTreeMap::new();
        for Statement { subject, predicate, object } in statements.iter() {
            map.entry(subject.as_str()).or_default().entry(predicate.as_str()).or_default().push(object);
        }
        Self(map)
    }

    pub fn values(&self, subject: &str, predicate: &str) -> &[&'a Term] {
        self.0.get(subject).and_then(|values| values.get(predicate)).map_or(&[], Vec::as_slice)
    }

    pub fn has(&self, subject: &str, predicate: &str, value: &str) -> bool {
        self.values(subject, predicate).iter().any(|term| iri(term) == Some(value))
    }

    /// The subjects that have this IRI as value of the predicate.
    pub fn subjects_with(&self, predicate: &str, value: &str) -> Vec<&'a str> {
        self.0.keys().copied().filter(|subject| self.has(subject, predicate, value)).collect()
    }
}

pub(crate) fn iri(term: &Term) -> Option<&str> {
    match term {
        Term::NamedNode(node) => Some(node.as_str()),
        Term::BlankNode(_) | Term::Literal(_) => None,
    }
}

pub(crate) fn literal(term: &Term) -> Option<&Literal> {
    match term {
        Term::Literal(literal) => Some(literal),
        Term::BlankNode(_) | Term::NamedNode(_) => None,
    }
}
