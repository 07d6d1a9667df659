//! The common shape of policy texts before they are understood: nodes with members, each with its position.
//!
//! JSON-LD in the spellings that occur in the wild comes in here; `rdf` makes the same shape from triples.

use crate::json::{Json, JsonValue};
use crate::problem::{BAD_VALUE, Position, Problem, Problems, SYNTAX, TOO_LARGE, UNKNOWN_MEMBER};
use crate::vocab::{self, Declared, ODRL};

/// The longest policy text read: a policy of a thousand rules fits several times.
pub const MAX_TEXT_BYTES: usize = 512 * 1024;

#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub at: Position,
    pub id: Option<String>,
    pub types: Vec<String>,
    pub members: Vec<Member>,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub iri: String,
    pub at: Position,
    pub values: Vec<Item>,
}

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub at: Position,
    pub kind: ItemKind,
}

#[derive(Clone, Debug)]
pub(crate) enum ItemKind {
    Node(Node),
    Iri(String),
    Literal { text: String, datatype: Option<String>, language: Option<String> },
    List(Vec<Item>),
}

impl Node {
    /// The members with this IRI; several only when a document spells one name in two ways.
    pub(crate) fn values<'a>(&'a self, iri: &'a str) -> impl Iterator<Item = &'a Item> {
        self.members.iter().filter(move |member| member.iri == iri).flat_map(|member| &member.values)
    }

    pub(crate) fn has(&self, iri: &str) -> bool {
        self.values(iri).next().is_some()
    }
}

impl Item {
    /// The text as written, for messages.
    pub(crate) fn shown(&self) -> String {
        match &self.kind {
            ItemKind::Node(node) => node.id.clone().unwrap_or_else(|| "{…}".to_owned()),
            ItemKind::Iri(iri) => iri.clone(),
            ItemKind::Literal { text, .. } => text.clone(),
            ItemKind::List(_) => "[…]".to_owned(),
        }
    }
}

/// How the bare string values of a member are to be read (the `@type` of the JSON-LD contexts).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coercion {
    /// A term or IRI (`@vocab`).
    Vocab,
    /// An IRI or an opaque identifier (`@id`).
    Id,
    /// A literal.
    None,
}

const VOCAB_TERMS: &[&str] =
    &["action", "operator", "leftOperand", "conflict", "includedIn", "implies", "dataType", "unit"];
const ID_TERMS: &[&str] = &[
    "profile",
    "inheritFrom",
    "target",
    "output",
    "relation",
    "assigner",
    "assignee",
    "function",
    "permission",
    "prohibition",
    "obligation",
    "duty",
    "remedy",
    "consequence",
    "constraint",
    "refinement",
    "partOf",
    "source",
    "hasPolicy",
    "assignerOf",
    "assigneeOf",
    "rightOperandReference",
    "attributedParty",
    "attributingParty",
    "compensatedParty",
    "compensatingParty",
    "consentedParty",
    "consentingParty",
    "contractedParty",
    "contractingParty",
    "informedParty",
    "informingParty",
    "trackedParty",
    "trackingParty",
    "failure",
];

/// What the context of ODRL says of its terms, in so far as this engine knows them.
pub(crate) fn odrl_context() -> serde_json::Value {
    use serde_json::{Map, Value, json};
    let mut terms: Map<String, Value> = Map::new();
    for (prefix, namespace) in vocab::PREFIXES {
        terms.insert((*prefix).to_owned(), json!(namespace));
    }
    terms.insert("@vocab".to_owned(), json!(ODRL));
    terms.insert("uid".to_owned(), json!("@id"));
    terms.insert("type".to_owned(), json!("@type"));
    for (list, kind) in [(VOCAB_TERMS, "@vocab"), (ID_TERMS, "@id")] {
        for term in list {
            terms.insert((*term).to_owned(), json!({"@id": format!("{ODRL}{term}"), "@type": kind}));
        }
    }
    Value::Object(terms)
}

fn coercion(iri: &str) -> Coercion {
    if iri == format!("{}minimumSource", vocab::FL) {
        return Coercion::Vocab;
    }
    match iri.strip_prefix(ODRL) {
        Some(term) if VOCAB_TERMS.contains(&term) => Coercion::Vocab,
        Some(term) if ID_TERMS.contains(&term) => Coercion::Id,
        _ if iri.starts_with(vocab::DCT)
            && matches!(&iri[vocab::DCT.len()..], "replaces" | "isReplacedBy") =>
        {
            Coercion::Id
        }
        _ => Coercion::None,
    }
}

/// What `@vocab` may be: ODRL's namespace, and that of the EDC, whose documents set it and write ODRL's names all the same.
const VOCABULARIES: &[&str] = &[ODRL, "odrl:", "https://w3id.org/edc/v0.0.1/ns/"];

/// Reads one policy from JSON: an object, or an object whose `@graph` holds exactly one.
pub(crate) fn from_json(text: &str) -> Result<Node, Problems> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Problems::one(Problem {
            code: &TOO_LARGE,
            at: Position::default(),
            term: format!("{} bytes", text.len()),
            expected: format!("at most {MAX_TEXT_BYTES} bytes"),
            suggestion: None,
        }));
    }
    let json = crate::json::parse(text).map_err(|error| {
        Problems::one(Problem {
            code: if error.too_deep { &TOO_LARGE } else { &SYNTAX },
            at: Position { path: String::new(), line: error.line, column: error.column },
            term: error.what.to_owned(),
            expected: String::new(),
            suggestion: None,
        })
    })?;
    let mut reader = JsonReader { declared: Declared::new(), problems: Vec::new() };
    let at = place(&json, "");
    let node = match &json.value {
        JsonValue::Object(members) => reader.top(members, at),
        // Expanded JSON-LD is an array of nodes.
        JsonValue::Array(items) => match items.as_slice() {
            [Json { value: JsonValue::Object(members), .. }] => reader.top(members, place(&json, "/0")),
            _ => {
                reader.complain(&SYNTAX, &at, "the array", "exactly one policy");
                Node::default()
            }
        },
        _ => {
            reader.complain(&SYNTAX, &at, "the text", "a JSON object");
            Node::default()
        }
    };
    match Problems::of(reader.problems) {
        Some(problems) => Err(problems),
        None => Ok(node),
    }
}

fn place(json: &Json, path: &str) -> Position {
    Position { path: path.to_owned(), line: json.line, column: json.column }
}

struct JsonReader {
    declared: Declared,
    problems: Vec<Problem>,
}

impl JsonReader {
    fn complain(
        &mut self,
        code: &'static crate::refusal::Code,
        at: &Position,
        term: &str,
        expected: impl Into<String>,
    ) {
        if self.problems.len() < Problems::MAX_LISTED {
            self.problems.push(Problem {
                code,
                at: at.clone(),
                term: term.to_owned(),
                expected: expected.into(),
                suggestion: None,
            });
        }
    }

    fn top(&mut self, members: &[(String, Json)], at: Position) -> Node {
        if let Some((_, context)) = members.iter().find(|(name, _)| name == "@context") {
            self.context(context);
        }
        if let Some((_, graph)) = members.iter().find(|(name, _)| name == "@graph") {
            if let JsonValue::Array(items) = &graph.value
                && let [one] = items.as_slice()
                && let JsonValue::Object(inner) = &one.value
            {
                return self.node(inner, place(one, "/@graph/0"));
            }
            self.complain(&SYNTAX, &place(graph, "/@graph"), "@graph", "exactly one policy");
            return Node::default();
        }
        self.node(members, at)
    }

    /// Takes prefixes and terms from an inline context; named contexts are never fetched, their terms are built in.
    fn context(&mut self, context: &Json) {
        match &context.value {
            JsonValue::Array(items) => items.iter().for_each(|item| self.context(item)),
            JsonValue::Object(members) => {
                for (name, value) in members {
                    let iri = match &value.value {
                        JsonValue::Text(iri) => Some(iri),
                        JsonValue::Object(inner) => {
                            inner.iter().find_map(|(key, value)| match (key.as_str(), &value.value) {
                                ("@id", JsonValue::Text(iri)) => Some(iri),
                                _ => None,
                            })
                        }
                        _ => None,
                    };
                    let at = place(value, &format!("/@context/{name}"));
                    match iri {
                        // Bare names are read as ODRL's: a context that gives them to another vocabulary says otherwise.
                        Some(iri) if name == "@vocab" && !VOCABULARIES.contains(&iri.as_str()) => {
                            self.complain(
                                &BAD_VALUE,
                                &at,
                                iri,
                                format!("`{ODRL}`, or names with their prefixes"),
                            );
                        }
                        // `@base`, `@version` and the like do not change the built-in terms.
                        _ if name.starts_with('@') => {}
                        Some(iri) => {
                            let full =
                                vocab::expand_prefixed(iri, &self.declared).unwrap_or_else(|| iri.clone());
                            if vocab::PREFIXES
                                .iter()
                                .any(|(known, namespace)| known == name && *namespace != full)
                            {
                                self.complain(&BAD_VALUE, &at, name, "a prefix that keeps its usual meaning");
                            }
                            self.declared.push((name.clone(), full));
                        }
                        None => self.complain(&BAD_VALUE, &at, name, "an IRI"),
                    }
                }
            }
            JsonValue::Text(_) | JsonValue::Null => {}
            _ => self.complain(&SYNTAX, &place(context, "/@context"), "@context", "an object, text or array"),
        }
    }

    /// The IRI of a member name, `None` for JSON-LD keywords.
    fn member_iri(&mut self, name: &str, at: &Position) -> Option<String> {
        let name = name.trim();
        if name.starts_with('@') {
            self.complain(&UNKNOWN_MEMBER, at, name, "@context, @id, @type or a policy member");
            return None;
        }
        // The one DSP member whose IRI lies outside ODRL although it stands among ODRL terms.
        if name == "timestamp" {
            return Some(format!("{}timestamp", vocab::DSPACE));
        }
        Some(vocab::expand_vocab(name, &self.declared))
    }

    fn node(&mut self, members: &[(String, Json)], at: Position) -> Node {
        let mut node = Node { at: at.clone(), ..Node::default() };
        for (name, value) in members {
            let here = place(value, &format!("{}/{}", at.path, name.replace('~', "~0").replace('/', "~1")));
            match name.as_str() {
                "@context" => {}
                "@id" | "uid" | "odrl:uid" | "http://www.w3.org/ns/odrl/2/uid" => {
                    match self.identifier(value, &here) {
                        Some(id) if node.id.as_ref().is_some_and(|known| *known != id) => {
                            self.complain(&crate::problem::AMBIGUOUS_MEMBER, &here, &id, "one identifier");
                        }
                        found => node.id = found,
                    }
                }
                "@type" | "type" | "rdf:type" => self.types(value, &here, &mut node),
                _ => {
                    let Some(iri) = self.member_iri(name, &here) else { continue };
                    let coercion = coercion(&iri);
                    let mut values = Vec::new();
                    self.items(value, &here, coercion, &mut values);
                    if !values.is_empty() {
                        node.members.push(Member { iri, at: here, values });
                    }
                }
            }
        }
        node
    }

    fn types(&mut self, value: &Json, at: &Position, node: &mut Node) {
        match &value.value {
            JsonValue::Text(text) => node.types.push(vocab::expand_vocab(text, &self.declared)),
            JsonValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.types(item, &at.below(index), node);
                }
            }
            JsonValue::Object(members) => match members.as_slice() {
                [(key, inner)] if key == "@id" => self.types(inner, at, node),
                _ => self.complain(&BAD_VALUE, at, "@type", "a type name"),
            },
            _ => self.complain(&BAD_VALUE, at, "@type", "a type name"),
        }
    }

    fn identifier(&mut self, value: &Json, at: &Position) -> Option<String> {
        match &value.value {
            JsonValue::Text(text) => Some(self.expand_id(text)),
            JsonValue::Object(members) => match members.as_slice() {
                [(key, inner)] if key == "@id" || key == "@value" => self.identifier(inner, at),
                _ => {
                    self.complain(&BAD_VALUE, at, "@id", "an identifier");
                    None
                }
            },
            JsonValue::Array(items) => match items.as_slice() {
                [one] => self.identifier(one, at),
                _ => {
                    self.complain(&BAD_VALUE, at, "@id", "one identifier");
                    None
                }
            },
            _ => {
                self.complain(&BAD_VALUE, at, "@id", "an identifier");
                None
            }
        }
    }

    fn expand_id(&self, text: &str) -> String {
        vocab::expand_prefixed(text, &self.declared).unwrap_or_else(|| text.to_owned())
    }

    fn items(&mut self, value: &Json, at: &Position, coercion: Coercion, out: &mut Vec<Item>) {
        let literal = |text: &str, datatype: Option<String>| ItemKind::Literal {
            text: text.to_owned(),
            datatype,
            language: None,
        };
        let kind = match &value.value {
            JsonValue::Null => return,
            JsonValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let here = place(item, &at.below(index).path);
                    self.items(item, &here, coercion, out);
                }
                return;
            }
            JsonValue::Bool(value) => {
                literal(if *value { "true" } else { "false" }, Some(format!("{}boolean", vocab::XSD)))
            }
            JsonValue::Number(text) => literal(text, Some(format!("{}decimal", vocab::XSD))),
            JsonValue::Text(text) => match coercion {
                Coercion::Vocab => ItemKind::Iri(vocab::expand_vocab(text, &self.declared)),
                Coercion::Id => ItemKind::Iri(self.expand_id(text)),
                // Only a prefix that the document itself declares turns a bare literal into an IRI.
                Coercion::None => match text.split_once(':') {
                    Some((prefix, _)) if self.declared.iter().any(|(known, _)| known == prefix) => {
                        ItemKind::Iri(self.expand_id(text))
                    }
                    _ => literal(text, None),
                },
            },
            JsonValue::Object(members) => match self.object(members, at, coercion) {
                Some(kind) => kind,
                None => return,
            },
        };
        out.push(Item { at: at.clone(), kind });
    }

    fn object(&mut self, members: &[(String, Json)], at: &Position, coercion: Coercion) -> Option<ItemKind> {
        let get = |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        if let Some(value) = get("@value") {
            return self.value_object(members, value, at, coercion);
        }
        if let Some(list) = get("@list").or_else(|| get("@set")) {
            let ordered = get("@list").is_some();
            if members.len() > 1 {
                self.complain(&UNKNOWN_MEMBER, at, "@list", "no member beside @list");
                return None;
            }
            let mut items = Vec::new();
            self.items(list, at, coercion, &mut items);
            return if ordered || items.len() != 1 {
                Some(ItemKind::List(items))
            } else {
                items.pop().map(|item| item.kind)
            };
        }
        if let [(key, JsonValue::Text(id))] = &[(
            members.first().map_or("", |(name, _)| name.as_str()),
            members.first().map_or(JsonValue::Null, |(_, value)| value.value.clone()),
        )] && members.len() == 1
            && *key == "@id"
        {
            // An IRI in a position of terms may be written as a bare term by sloppy exporters.
            return Some(ItemKind::Iri(match coercion {
                Coercion::Vocab => vocab::expand_vocab(id, &self.declared),
                Coercion::Id | Coercion::None => self.expand_id(id),
            }));
        }
        Some(ItemKind::Node(self.node(members, at.clone())))
    }

    fn value_object(
        &mut self,
        members: &[(String, Json)],
        value: &Json,
        at: &Position,
        coercion: Coercion,
    ) -> Option<ItemKind> {
        let mut datatype = None;
        let mut language = None;
        for (name, member) in members {
            match (name.as_str(), &member.value) {
                ("@value", _) => {}
                ("@type", JsonValue::Text(text)) => {
                    datatype = Some(vocab::expand_vocab(text, &self.declared));
                }
                ("@language", JsonValue::Text(text)) => language = Some(text.clone()),
                _ => {
                    self.complain(&UNKNOWN_MEMBER, at, name, "@value, @type or @language");
                    return None;
                }
            }
        }
        let text = match &value.value {
            JsonValue::Text(text) => text.clone(),
            JsonValue::Number(text) => text.clone(),
            JsonValue::Bool(value) => value.to_string(),
            _ => {
                self.complain(&BAD_VALUE, at, "@value", "a text, number or boolean");
                return None;
            }
        };
        let id_type = datatype.as_deref().is_some_and(|iri| iri == format!("{}anyURI", vocab::XSD));
        Some(match coercion {
            Coercion::Vocab => ItemKind::Iri(vocab::expand_vocab(&text, &self.declared)),
            Coercion::Id => ItemKind::Iri(self.expand_id(&text)),
            Coercion::None if id_type => ItemKind::Iri(self.expand_id(&text)),
            Coercion::None => ItemKind::Literal { text, datatype, language },
        })
    }
}
