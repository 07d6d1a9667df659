//! What a publisher declares: name, version, what the transform performs, and its steps; a closed JSON form.

use std::collections::BTreeSet;
use std::fmt;

use control_plane::ids::printable;
use policy::refusal::Refusal;
use policy::vocab::{expand, short};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::path::Path;
use super::{MALFORMED_DECLARATION, format::Format};
use crate::digest::Digest;

const FORMAT: &str = "fairlead-transform/1";
/// A declaration as text: hundreds of columns by name.
pub const MAX_DECLARATION_BYTES: usize = 64 * 1024;
/// Steps of one transform; each is a pass over every row.
const MAX_STEPS: usize = 64;
/// Names in one list of columns.
pub(super) const MAX_COLUMNS: usize = 1024;
/// A name or version, for catalogues and ledgers.
const MAX_NAME_BYTES: usize = 64;
/// A constant that replaces values.
const MAX_CONSTANT_BYTES: usize = 1024;
/// The largest group that may be demanded: beyond it nothing would be left of any table.
const MAX_K: u64 = 1_000_000;
/// Values that an aggregate computes for each group.
const MAX_AGGREGATES: usize = 64;

/// Duties that a transform can perform.
pub const PERFORMABLE: &[&str] = &[
    policy::vocab::action::ANONYMIZE,
    policy::vocab::action::AGGREGATE,
    policy::vocab::action::REDACT,
    policy::vocab::action::IDS_REPLACE,
];

/// A named, versioned list of steps; valid, and with the digest of its canonical text.
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    form: Form,
    text: String,
    digest: Digest,
}

/// A duty that a transform performs, as the manifest tells it: an action, or one replacement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Performed {
    /// The action's IRI.
    pub action: String,
    /// The place that a duty to replace names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_path: Option<String>,
    /// What it puts there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_with: Option<String>,
}

/// The transform that a manifest's objects went through: what a consumer may know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformMark {
    /// Digest of the declaration, which stays with the provider: it names columns that do not leave.
    pub digest: Digest,
    /// Its name.
    pub name: String,
    /// The duties that it performs, sorted.
    pub performs: Vec<Performed>,
    /// Its version.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: String,
    name: String,
    version: String,
    performs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Format>,
    steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "step")]
pub(super) enum Step {
    Drop { columns: Vec<String> },
    Keep { columns: Vec<String> },
    Hash { columns: Vec<String> },
    Replace { path: String, with: Value },
    GeneraliseDate { column: String, to: Period },
    GeneraliseNumber { column: String, width: u32, min: i64, max: i64 },
    Suppress { columns: Vec<String>, k: u64 },
    Limit { rows: u64 },
    Aggregate { by: Vec<String>, k: u64, values: Vec<Aggregate> },
}

/// What a date becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Period {
    Day,
    Month,
    Quarter,
    Year,
}

/// One value computed of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Aggregate {
    #[serde(rename = "as")]
    pub name: String,
    pub function: Function,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Function {
    Count,
    Sum,
    Mean,
    Min,
    Max,
}

impl Transform {
    /// Reads a declaration; unknown members, steps and actions refuse.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_DECLARATION_BYTES {
            return Err(malformed(format!("{} bytes, at most {MAX_DECLARATION_BYTES}", text.len())));
        }
        let form: Form = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        Self::of(form)
    }

    /// This transform, after whose replacements come those of duties: path and constant.
    ///
    /// Duties that contradict one another, or the declaration, refuse.
    pub fn with_replacements(
        declared: Option<Self>,
        duties: &BTreeSet<(String, String)>,
    ) -> Result<Option<Self>, Refusal> {
        if duties.is_empty() {
            return Ok(declared);
        }
        let mut form = declared.map_or_else(
            || Form {
                format: FORMAT.to_owned(),
                name: "duties".to_owned(),
                version: "1".to_owned(),
                performs: Vec::new(),
                data: None,
                steps: Vec::new(),
            },
            |declared| declared.form,
        );
        let mut steps = Vec::new();
        for (path, with) in duties {
            let step = Step::Replace { path: path.clone(), with: Value::String(with.clone()) };
            if !form.steps.contains(&step) {
                steps.push(step);
            }
        }
        steps.append(&mut form.steps);
        form.steps = steps;
        Self::of(form).map(Some)
    }

    /// Its name and version, `name@version`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.form.name, self.form.version)
    }

    /// RFC 8785 text of the declaration.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What the consumer learns.
    pub fn mark(&self) -> TransformMark {
        let whole =
            |action: &String| Performed { action: expand(action), json_path: None, replace_with: None };
        let mut performs: BTreeSet<Performed> = self.form.performs.iter().map(whole).collect();
        for step in &self.form.steps {
            if let Step::Replace { path, with: Value::String(with) } = step {
                performs.insert(Performed {
                    action: policy::vocab::action::IDS_REPLACE.to_owned(),
                    json_path: Some(path.clone()),
                    replace_with: Some(with.clone()),
                });
            }
        }
        TransformMark {
            digest: self.digest,
            name: self.form.name.clone(),
            performs: performs.into_iter().collect(),
            version: self.form.version.clone(),
        }
    }

    /// The format of the data, if the declaration says it.
    pub(crate) const fn data(&self) -> Option<Format> {
        self.form.data
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.form.steps
    }

    fn of(form: Form) -> Result<Self, Refusal> {
        form.check()?;
        let text = serde_jcs::to_string(&form).map_err(|error| malformed(error.to_string()))?;
        let digest = Digest::of(text.as_bytes());
        Ok(Self { form, text, digest })
    }
}

impl TransformMark {
    /// Checks a peer's mark, of which every part is shown to people.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let sorted = self.performs.windows(2).all(|pair| pair.first() < pair.last());
        if !is_label(&self.name) || !is_label(&self.version) || !sorted || self.performs.len() > 2 * MAX_STEPS
        {
            return Err(malformed("the mark of a transform"));
        }
        Ok(())
    }

    /// Whether what `needed` demands was done.
    pub fn performs(&self, needed: &Performed) -> bool {
        self.performs.contains(needed)
    }
}

impl fmt::Display for TransformMark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{} {}", self.name, self.version, self.digest)
    }
}

impl Form {
    fn check(&self) -> Result<(), Refusal> {
        if self.format != FORMAT {
            return Err(malformed(format!("format `{}`, known is `{FORMAT}`", printable(&self.format))));
        }
        if !is_label(&self.name) || !is_label(&self.version) {
            return Err(malformed("name and version are up to 64 letters, digits, `.`, `-` and `_`"));
        }
        if self.steps.is_empty() || self.steps.len() > MAX_STEPS {
            return Err(malformed(format!("{} steps, 1 to {MAX_STEPS} are taken", self.steps.len())));
        }
        for (index, step) in self.steps.iter().enumerate() {
            step.check().map_err(|why| malformed(format!("step {}: {why}", index + 1)))?;
        }
        self.check_order()?;
        self.check_performed()
    }

    fn check_order(&self) -> Result<(), Refusal> {
        let place = |which: fn(&Step) -> bool| {
            let mut found = self.steps.iter().enumerate().filter(|(_, step)| which(step));
            (found.next().map(|(index, _)| index), found.next().is_some())
        };
        let (suppress, twice) = place(|step| matches!(step, Step::Suppress { .. }));
        let (_, aggregated_twice) = place(|step| matches!(step, Step::Aggregate { .. }));
        if twice || aggregated_twice {
            return Err(malformed("a second `suppress` or `aggregate` would undo what the first promises"));
        }
        let cut = |(index, step): (usize, &Step)| {
            matches!(step, Step::Limit { .. }) && suppress.is_some_and(|suppress| suppress < index)
        };
        if self.steps.iter().enumerate().any(cut) {
            return Err(malformed("`limit` after `suppress` could cut a group below k; put it before"));
        }
        let mut replaced: Vec<(Path, &Value)> = Vec::new();
        for step in &self.steps {
            if let Step::Replace { path, with } = step {
                // `$.name` and `$[*].name` are one place.
                let place = Path::parse(path)?;
                if replaced.iter().any(|(known, other)| *known == place && *other != with) {
                    return Err(malformed(format!("two constants for `{}`", printable(path))));
                }
                replaced.push((place, with));
            }
        }
        Ok(())
    }

    fn check_performed(&self) -> Result<(), Refusal> {
        for name in &self.performs {
            let action = expand(name);
            if !PERFORMABLE.contains(&action.as_str()) {
                let known: Vec<String> = PERFORMABLE.iter().map(|action| short(action)).collect();
                let detail = format!(
                    "`performs` has `{}`; a transform performs {}",
                    printable(name),
                    known.join(", ")
                );
                return Err(malformed(detail));
            }
            let does = |which: fn(&Step) -> bool| self.steps.iter().any(which);
            let honest = match action.as_str() {
                policy::vocab::action::AGGREGATE => does(|step| matches!(step, Step::Aggregate { .. })),
                policy::vocab::action::IDS_REPLACE => does(|step| matches!(step, Step::Replace { .. })),
                _ => does(|step| !matches!(step, Step::Limit { .. })),
            };
            if !honest {
                return Err(malformed(format!("no step performs `{}`", printable(name))));
            }
        }
        Ok(())
    }
}

impl Step {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Drop { columns } | Self::Keep { columns } | Self::Hash { columns } => {
                check_columns(columns)
            }
            Self::Replace { path, with } => {
                Path::parse(path).map_err(|refusal| refusal.detail)?;
                match with {
                    Value::Array(_) | Value::Object(_) => {
                        Err("`with` is a text, number, boolean or null".into())
                    }
                    Value::String(text) if text.len() > MAX_CONSTANT_BYTES => {
                        Err(format!("`with` has more than {MAX_CONSTANT_BYTES} bytes"))
                    }
                    _ => Ok(()),
                }
            }
            Self::GeneraliseDate { column, .. } => check_columns(std::slice::from_ref(column)),
            Self::GeneraliseNumber { column, width, min, max } => {
                check_columns(std::slice::from_ref(column))?;
                if *width == 0 || min >= max {
                    return Err("`width` is at least 1, and `min` below `max`".into());
                }
                Ok(())
            }
            Self::Suppress { columns, k } => {
                check_columns(columns)?;
                check_k(*k)
            }
            Self::Limit { rows } if *rows == 0 => Err("`rows` is at least 1".into()),
            Self::Limit { .. } => Ok(()),
            Self::Aggregate { by, k, values } => {
                if !by.is_empty() {
                    check_columns(by)?;
                }
                check_k(*k)?;
                if values.is_empty() || values.len() > MAX_AGGREGATES {
                    return Err(format!("1 to {MAX_AGGREGATES} values are computed"));
                }
                let names: BTreeSet<&str> = by
                    .iter()
                    .map(String::as_str)
                    .chain(values.iter().map(|value| value.name.as_str()))
                    .collect();
                if names.len() != by.len() + values.len() {
                    return Err("two columns of the result have one name".into());
                }
                match values.iter().find(|value| value.column.is_none() && value.function != Function::Count)
                {
                    Some(value) => Err(format!("`{}` names no column", printable(&value.name))),
                    None => Ok(()),
                }
            }
        }
    }
}

fn check_columns(columns: &[String]) -> Result<(), String> {
    if columns.is_empty() || columns.len() > MAX_COLUMNS {
        return Err(format!("1 to {MAX_COLUMNS} columns are named"));
    }
    match columns.iter().collect::<BTreeSet<_>>().len() == columns.len() {
        true => Ok(()),
        false => Err("a column is named twice".to_owned()),
    }
}

fn check_k(k: u64) -> Result<(), String> {
    if (2..=MAX_K).contains(&k) { Ok(()) } else { Err(format!("`k` is 2 to {MAX_K}")) }
}

fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(plain)
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(&MALFORMED_DECLARATION, detail)
}
