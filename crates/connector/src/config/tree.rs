//! A settings file as a tree whose every value knows its line, with the environment laid over it.

use std::collections::BTreeMap;
use std::fmt;

use control_plane::ids::printable;
use policy::refusal::Refusal;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{BAD_VALUE, ConfigProblem, Place, SYNTAX, UNKNOWN_VARIABLE};

/// Variables that start like this must name a setting of [`FROM_ENVIRONMENT`]; others are not ours.
const VARIABLE_PREFIX: &str = "FAIRLEAD__";

/// The settings that differ between two places running the same file, hence may come from the environment.
const FROM_ENVIRONMENT: &[(&str, &[&str])] = &[
    ("FAIRLEAD__DATA", &["data"]),
    ("FAIRLEAD__LISTENERS__PEERS", &["listeners", "peers"]),
    ("FAIRLEAD__LISTENERS__HEALTH", &["listeners", "health"]),
    ("FAIRLEAD__AUTHORITY__ADDRESS", &["authority", "address"]),
    ("FAIRLEAD__AUTHORITY__ROOTS", &["authority", "roots"]),
    ("FAIRLEAD__LOGGING__FORMAT", &["logging", "format"]),
    ("FAIRLEAD__LOGGING__LEVEL", &["logging", "level"]),
];

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub value: Value,
    pub place: Place,
}

/// What TOML can say, as far as settings use it.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    /// A kind of value that no setting takes, by its name.
    Other(&'static str),
}

impl Value {
    /// What it is, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

impl Node {
    /// The tree of `text`, and everything in it that is not TOML.
    pub fn parse(text: &str) -> (Self, Vec<ConfigProblem>) {
        let lines = Lines::of(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let problems = errors
            .iter()
            .map(|error| ConfigProblem {
                path: String::new(),
                place: error.span().map_or(Place::Absent, |span| Place::Line(lines.at(span.start))),
                refusal: Refusal::new(&SYNTAX, one_line(error.message())),
            })
            .collect();
        (Self { value: table_of(table.get_ref(), &lines), place: Place::Line(1) }, problems)
    }

    /// Lays the environment over the file.
    pub fn overlay(&mut self, variables: impl IntoIterator<Item = (String, String)>) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        for (name, text) in variables.into_iter().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)) {
            match FROM_ENVIRONMENT.iter().find(|(known, _)| *known == name) {
                Some((known, path)) => {
                    let node = Self { value: Value::Text(text), place: Place::Variable(known) };
                    if !self.insert(path, node) {
                        let refusal = Refusal::new(
                            &BAD_VALUE,
                            format!("`{known}` lies below a value that is no table"),
                        );
                        problems.push(ConfigProblem {
                            path: path.join("."),
                            place: Place::Variable(known),
                            refusal,
                        });
                    }
                }
                None => {
                    let known: Vec<_> = FROM_ENVIRONMENT.iter().map(|(known, _)| *known).collect();
                    let detail = format!("`{}`; known are {}", printable(&name), known.join(", "));
                    let refusal = Refusal::new(&UNKNOWN_VARIABLE, detail);
                    problems.push(ConfigProblem { path: String::new(), place: Place::Absent, refusal });
                }
            }
        }
        problems
    }

    fn insert(&mut self, path: &[&str], node: Self) -> bool {
        let Value::Table(table) = &mut self.value else { return false };
        match path {
            [] => false,
            [key] => {
                table.insert((*key).to_owned(), node);
                true
            }
            [section, rest @ ..] => table
                .entry((*section).to_owned())
                .or_insert_with(|| Self { value: Value::Table(BTreeMap::new()), place: node.place })
                .insert(rest, node),
        }
    }

    /// Where the setting at `path` stands, or the nearest table around it.
    pub fn place_of(&self, path: &SettingPath) -> Place {
        let mut node = self;
        for segment in &path.0 {
            let below = match (segment, &node.value) {
                (Segment::Key(key), Value::Table(table)) => table.get(key),
                (Segment::Index(index), Value::List(list)) => list.get(*index),
                _ => None,
            };
            match below {
                Some(below) => node = below,
                // The file as a whole is no place to point at.
                None if std::ptr::eq(node, self) => return Place::Absent,
                None => return node.place,
            }
        }
        node.place
    }
}

/// The way from the top of the file to a setting; shown as `peers[2].addresses[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SettingPath(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Key(String),
    Index(usize),
}

impl SettingPath {
    /// One table deeper.
    pub fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    /// One list deeper.
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for SettingPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(out, "[{index}]")?,
                Segment::Key(key) if position == 0 => out.write_str(key)?,
                Segment::Key(key) => write!(out, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// Byte offsets to line numbers.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset).saturating_add(1)
    }
}

fn table_of(table: &DeTable<'_>, lines: &Lines) -> Value {
    let entries = table.iter().map(|(key, value)| {
        // A section written as `[name]` points at its name, everything else at its value.
        let place = if matches!(value.get_ref(), DeValue::Table(_)) { key.span() } else { value.span() };
        (
            key.get_ref().to_string(),
            Node { value: value_of(value, lines), place: Place::Line(lines.at(place.start)) },
        )
    });
    Value::Table(entries.collect())
}

fn value_of(value: &Spanned<DeValue<'_>>, lines: &Lines) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("an oversized number"), Value::Integer),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => Value::List(
            list.iter()
                .map(|entry| Node {
                    value: value_of(entry, lines),
                    place: Place::Line(lines.at(entry.span().start)),
                })
                .collect(),
        ),
        DeValue::Table(table) => table_of(table, lines),
    }
}

fn one_line(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}
