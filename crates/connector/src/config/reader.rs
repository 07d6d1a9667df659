//! Reads a table of settings key by key, collects every problem, and refuses the keys that nobody asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use control_plane::ids::printable;
use policy::refusal::{Code, Refusal};

use super::problem::{BAD_VALUE, ConfigProblem, MISSING, UNKNOWN_KEY};
use super::tree::{Node, SettingPath, Value};

/// The most entries of a list: a thousand peers and rules are far more than one institution has.
const MAX_ENTRIES: usize = 1024;

/// What a parser of one value says.
pub(super) type Parsed<T> = Result<T, Refusal>;

/// A value that does not fit.
pub(super) fn bad(detail: impl Into<String>) -> Refusal {
    Refusal::new(&BAD_VALUE, detail)
}

/// One table being read. `None` from any method means: refused, and the problem is noted.
pub(super) struct Reader<'a> {
    tree: &'a Node,
    table: Option<&'a BTreeMap<String, Node>>,
    path: SettingPath,
    asked: RefCell<BTreeSet<&'static str>>,
    problems: &'a RefCell<Vec<ConfigProblem>>,
}

impl<'a> Reader<'a> {
    /// Reads the whole file with `read`.
    pub fn read_file<T>(
        tree: &'a Node,
        problems: &'a RefCell<Vec<ConfigProblem>>,
        read: impl FnOnce(&Self) -> Option<T>,
    ) -> Option<T> {
        let top =
            Self { tree, table: None, path: SettingPath::default(), asked: RefCell::default(), problems };
        top.table(tree, &top.path, read)
    }

    /// A setting that must be there.
    pub fn required<T>(&self, key: &'static str, parse: impl FnOnce(&Value) -> Parsed<T>) -> Option<T> {
        match self.get(key) {
            Some(node) => self.parsed(key, node, parse),
            None => {
                self.refuse(key, &MISSING, "");
                None
            }
        }
    }

    /// A setting that has a default.
    pub fn or<T>(&self, key: &'static str, default: T, parse: impl FnOnce(&Value) -> Parsed<T>) -> Option<T> {
        match self.get(key) {
            Some(node) => self.parsed(key, node, parse),
            None => Some(default),
        }
    }

    /// A setting that may be absent.
    pub fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&Value) -> Parsed<T>,
    ) -> Option<Option<T>> {
        self.or(key, None, |value| parse(value).map(Some))
    }

    /// A table below this one; where it is absent it is read as an empty one, so that each default stands once.
    pub fn section<T>(&self, key: &'static str, read: impl FnOnce(&Self) -> Option<T>) -> Option<T> {
        static EMPTY: Node =
            Node { value: Value::Table(BTreeMap::new()), place: super::problem::Place::Absent };
        self.table(self.get(key).unwrap_or(&EMPTY), &self.path.key(key), read)
    }

    /// A table that may be absent; its own required settings count only where it is there.
    pub fn optional_section<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(key) {
            Some(node) => self.table(node, &self.path.key(key), read).map(Some),
            None => Some(None),
        }
    }

    /// A table that must be there.
    pub fn required_section<T>(&self, key: &'static str, read: impl FnOnce(&Self) -> Option<T>) -> Option<T> {
        let found = self.optional_section(key, read)?;
        if found.is_none() {
            self.refuse(key, &MISSING, "");
        }
        found
    }

    /// A list of tables, `[[key]]`; absent means empty.
    pub fn tables<T>(&self, key: &'static str, read: impl Fn(&Self) -> Option<T>) -> Option<Vec<T>> {
        self.entries(key, |node, path| self.table(node, path, &read))
    }

    /// A list of values; absent means empty.
    pub fn list<T>(&self, key: &'static str, parse: impl Fn(&Value) -> Parsed<T>) -> Option<Vec<T>> {
        self.entries(key, |node, path| match parse(&node.value) {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.note(path, refusal);
                None
            }
        })
    }

    /// A table whose keys are names that the operator chose; absent means empty.
    pub fn names<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str, &Value) -> Parsed<T>,
    ) -> Option<BTreeMap<String, T>> {
        let path = self.path.key(key);
        let Some(node) = self.get(key) else { return Some(BTreeMap::new()) };
        let Value::Table(table) = &node.value else {
            self.note(&path, bad(format!("must be a table, is {}", node.value.kind())));
            return None;
        };
        let read: Vec<_> = table
            .iter()
            .map(|(name, node)| match parse(name, &node.value) {
                Ok(value) => Some((name.clone(), value)),
                Err(refusal) => {
                    self.note(&path.key(name), refusal);
                    None
                }
            })
            .collect();
        read.into_iter().collect()
    }

    /// Notes a problem with the setting `key` of this table.
    pub fn refuse(&self, key: &str, code: &'static Code, detail: impl Into<String>) {
        self.note(&self.path.key(key), Refusal::new(code, detail));
    }

    /// Notes a problem with the setting at `path`.
    pub fn refuse_at(&self, path: &SettingPath, code: &'static Code, detail: impl Into<String>) {
        self.note(path, Refusal::new(code, detail));
    }

    /// The way to this table.
    pub const fn path(&self) -> &SettingPath {
        &self.path
    }

    fn get(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().insert(key);
        self.table?.get(key)
    }

    fn parsed<T>(&self, key: &str, node: &Node, parse: impl FnOnce(&Value) -> Parsed<T>) -> Option<T> {
        match parse(&node.value) {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.note(&self.path.key(key), refusal);
                None
            }
        }
    }

    fn entries<T>(
        &self,
        key: &'static str,
        read: impl Fn(&'a Node, &SettingPath) -> Option<T>,
    ) -> Option<Vec<T>> {
        let path = self.path.key(key);
        let Some(node) = self.get(key) else { return Some(Vec::new()) };
        let Value::List(list) = &node.value else {
            self.note(&path, bad(format!("must be a list, is {}", node.value.kind())));
            return None;
        };
        if list.len() > MAX_ENTRIES {
            self.note(&path, bad(format!("has {} entries, at most {MAX_ENTRIES} are taken", list.len())));
            return None;
        }
        // All entries are read before any failure counts, so that each reports its problems.
        let read: Vec<_> =
            list.iter().enumerate().map(|(index, node)| read(node, &path.index(index))).collect();
        read.into_iter().collect()
    }

    fn table<T>(
        &self,
        node: &'a Node,
        path: &SettingPath,
        read: impl FnOnce(&Self) -> Option<T>,
    ) -> Option<T> {
        let Value::Table(table) = &node.value else {
            self.note(path, bad(format!("must be a table, is {}", node.value.kind())));
            return None;
        };
        let reader = Self {
            tree: self.tree,
            table: Some(table),
            path: path.clone(),
            asked: RefCell::default(),
            problems: self.problems,
        };
        let outcome = read(&reader);
        let asked = reader.asked.borrow();
        for name in table.keys().filter(|name| !asked.contains(name.as_str())) {
            reader.refuse(name, &UNKNOWN_KEY, hint(name, &asked));
        }
        outcome
    }

    fn note(&self, path: &SettingPath, refusal: Refusal) {
        let place = self.tree.place_of(path);
        self.problems.borrow_mut().push(ConfigProblem { path: path.to_string(), place, refusal });
    }
}

/// What the writer of an unknown key may have meant.
fn hint(name: &str, known: &BTreeSet<&'static str>) -> String {
    const SECRETS: &[&str] = &["password", "passphrase", "secret", "token", "private_key"];
    if SECRETS.iter().any(|word| name.contains(word)) {
        return format!("`{}`; secrets never stand in this file", printable(name));
    }
    /// More changes than this make another word, not a typing error.
    const CLOSE: usize = 2;
    let nearest = known.iter().map(|key| (distance(name, key), *key)).min();
    match nearest {
        Some((changes, key)) if changes <= CLOSE => format!("`{}`; did you mean `{key}`?", printable(name)),
        _ => {
            let known: Vec<_> = known.iter().copied().collect();
            format!("`{}`; known here are {}", printable(name), known.join(", "))
        }
    }
}

/// The number of characters to insert, drop or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, character) in one.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        let mut next = vec![left];
        for (candidate, above) in other.iter().zip(row.iter().skip(1)) {
            let replaced = diagonal.saturating_add(usize::from(*candidate != character));
            left = replaced.min(left.saturating_add(1)).min(above.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
