//! Profiles as data: operands, actions and taxonomies with their versions, read from files, never from code.
//!
//! The format (version 1) is the one of the files in `profiles/`. Terms are prefixed names or full IRIs.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use crate::refusal::Refusal;
use crate::tables::{MAX_ACTIONS, Tables, Taxonomy, Term};
use crate::vocab::{self, expand_prefixed, short};

crate::refusal_codes! {
    BAD_PROFILE = "policy/bad-profile", Input,
        "the profile file is not usable", "設定檔檔案無法使用", "配置文件文件无法使用",
        clause "policy: profiles", next "correct the profile file at the place named";
}

/// The version of the profile file format.
const FORMAT: u32 = 1;
/// The largest profile or taxonomy file read.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// The languages policies are shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lang {
    /// English.
    En,
    /// Traditional Chinese.
    ZhHant,
    /// Simplified Chinese.
    ZhHans,
}

impl Lang {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::En, Self::ZhHant, Self::ZhHans];

    /// The BCP 47 tag.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::ZhHant => "zh-Hant",
            Self::ZhHans => "zh-Hans",
        }
    }

    /// The nearest language we have for a BCP 47 tag; English otherwise.
    pub fn of_tag(tag: &str) -> Self {
        let tag = tag.to_ascii_lowercase();
        if !tag.starts_with("zh") {
            Self::En
        } else if ["hant", "-hk", "-mo", "-tw"].iter().any(|part| tag.contains(part)) {
            Self::ZhHant
        } else {
            Self::ZhHans
        }
    }
}

/// The point in the life of an agreement at which is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// May the participant see the offer?
    Catalogue,
    /// May the participant sign?
    Negotiation,
    /// May bytes move?
    Transfer,
    /// May the data be used: everything must decide.
    Use,
}

/// Where a fact comes from, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The peer or user says so.
    Asserted,
    /// The data space's authority registered it.
    Registered,
    /// Proved by an attestation or verified credential.
    Attested,
    /// Our own durable counter.
    #[serde(skip)]
    LocalCounter,
    /// Our own clock.
    #[serde(rename = "local")]
    LocalClock,
}

impl Source {
    /// Whether a fact from here satisfies a demand for `minimum`; the two local sources rank alike.
    pub const fn satisfies(self, minimum: Self) -> bool {
        self.rank() >= minimum.rank()
    }

    pub(crate) const fn rank(self) -> u8 {
        match self {
            Self::Asserted => 0,
            Self::Registered => 1,
            Self::Attested => 2,
            Self::LocalCounter | Self::LocalClock => 3,
        }
    }
}

/// How far a clause is held by the connector itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// Held by contract only.
    Legal,
    /// Declared, recorded and checkable, not prevented.
    Procedural,
    /// Prevented by the connector.
    Technical,
}

/// When a duty is to be done, relative to the use that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A pre-condition.
    Before,
    /// Together with each use.
    With,
    /// Afterwards, usually until a deadline.
    After,
}

/// What an operand's values are, and how facts meet them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OperandType {
    /// Compared with the current instant.
    Instant,
    /// A duration counted from an instant.
    Since,
    /// A measured duration.
    Duration,
    /// A number.
    Number,
    /// Uses; the one being decided is counted in.
    Count,
    /// IRIs or codes, perhaps of a taxonomy.
    Symbol,
    /// Symbols in the order of their taxonomy.
    Ordered,
    /// Plain text.
    Text,
    /// Understood as a statement, never decided by this engine.
    Opaque,
}

/// Which refusal a failing constraint of an operand leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    Time,
    Count,
    Purpose,
    Place,
    Party,
    #[default]
    Other,
}

/// The twelve operators of ODRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Operator {
    Eq,
    Neq,
    Lt,
    Lteq,
    Gt,
    Gteq,
    IsA,
    HasPart,
    IsPartOf,
    IsAllOf,
    IsAnyOf,
    IsNoneOf,
}

impl Operator {
    pub(crate) const ALL: [(Self, &'static str); 12] = [
        (Self::Eq, "eq"),
        (Self::Neq, "neq"),
        (Self::Lt, "lt"),
        (Self::Lteq, "lteq"),
        (Self::Gt, "gt"),
        (Self::Gteq, "gteq"),
        (Self::IsA, "isA"),
        (Self::HasPart, "hasPart"),
        (Self::IsPartOf, "isPartOf"),
        (Self::IsAllOf, "isAllOf"),
        (Self::IsAnyOf, "isAnyOf"),
        (Self::IsNoneOf, "isNoneOf"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(operator, _)| *operator == self).map_or("", |(_, name)| name)
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        // `term-lteq` stands in the DSP 2025-1 schema beside the ODRL operators: a slip of its context generator.
        let name = if name == "term-lteq" { "lteq" } else { name };
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(operator, _)| *operator)
    }

    pub(crate) const fn is_order(self) -> bool {
        matches!(self, Self::Eq | Self::Neq | Self::Lt | Self::Lteq | Self::Gt | Self::Gteq)
    }

    /// Whether several right operands make sense.
    pub(crate) const fn takes_many(self) -> bool {
        matches!(
            self,
            Self::IsA | Self::HasPart | Self::IsPartOf | Self::IsAllOf | Self::IsAnyOf | Self::IsNoneOf
        )
    }
}

pub(crate) type Label = [String; 3];

pub(crate) fn label_in(label: &Label, lang: Lang) -> &str {
    let [en, hant, hans] = label;
    match lang {
        Lang::En => en,
        Lang::ZhHant => hant,
        Lang::ZhHans => hans,
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperandInfo {
    pub iri: String,
    #[serde(rename = "type")]
    pub kind: OperandType,
    pub operators: Vec<Operator>,
    /// The first stage at which a missing fact counts; before it the operand is deferred.
    #[serde(default = "at_use")]
    pub decided: Stage,
    #[serde(default = "asserted")]
    pub source: Source,
    #[serde(default = "legal")]
    pub enforcement: Enforcement,
    #[serde(default)]
    pub taxonomy: Option<String>,
    #[serde(default)]
    pub family: Family,
    /// The operand whose fact this one reads, where two profiles name one thing.
    #[serde(default)]
    pub fact: Option<String>,
    /// Several values hold at once because somebody has them (roles, events under way): any that fits is enough. Without
    /// it they are declared together (purposes), and all must fit.
    #[serde(default)]
    pub held: bool,
    /// The only right operands that the profile defines; empty for any that the type admits.
    #[serde(default)]
    pub values: Vec<String>,
    /// What a right operand must look like, where the type alone does not tell.
    #[serde(default)]
    pub form: Option<ValueForm>,
    #[serde(default)]
    pub label: Label,
    #[serde(skip)]
    pub profile: String,
}

/// The shape of a value that is kept as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ValueForm {
    /// An xsd:dateTime or xsd:date.
    Time,
    /// A whole number above zero.
    Positive,
}

impl ValueForm {
    pub(crate) fn fits(self, text: &str) -> bool {
        match self {
            Self::Time => crate::value::parse_instant(text).is_some(),
            Self::Positive => crate::value::Decimal::parse(text)
                .is_some_and(|number| number.is_whole() && number > crate::value::Decimal::whole(0)),
        }
    }

    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Time => "an xsd:dateTime or xsd:date, e.g. 2026-12-31T23:59:59+08:00",
            Self::Positive => "a whole number above 0",
        }
    }
}

/// What a profile demands of the constraints of one rule together; it counts for rules that use its operands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Combinations {
    /// The logical operands that the profile admits; empty for all.
    #[serde(default)]
    pub logic: Vec<String>,
    /// Operands of which one rule may use only one.
    #[serde(default)]
    pub exclusive: Vec<Vec<String>>,
    /// Operands that a permission for an action must use.
    #[serde(default)]
    pub required: Vec<RequiredOperands>,
}

/// Operands that belong to every permission for an action.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequiredOperands {
    pub action: String,
    pub operands: Vec<String>,
}

const fn at_use() -> Stage {
    Stage::Use
}
const fn asserted() -> Source {
    Source::Asserted
}
const fn legal() -> Enforcement {
    Enforcement::Legal
}
const fn before() -> Phase {
    Phase::Before
}

impl OperandInfo {
    pub(crate) fn label(&self, lang: Lang) -> &str {
        label_in(&self.label, lang)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActionInfo {
    pub iri: String,
    #[serde(default, rename = "in")]
    pub included_in: Vec<String>,
    #[serde(default)]
    pub implies: Vec<String>,
    #[serde(default = "before")]
    pub phase: Phase,
    #[serde(default = "legal")]
    pub enforcement: Enforcement,
    #[serde(default)]
    pub label: Label,
    #[serde(skip)]
    pub profile: String,
}

impl ActionInfo {
    pub(crate) fn label(&self, lang: Lang) -> &str {
        label_in(&self.label, lang)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TermFile {
    iri: String,
    #[serde(default, rename = "in")]
    broader: Vec<String>,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    label: Label,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaxonomyFile {
    name: String,
    version: String,
    #[serde(default)]
    ordered: bool,
    terms: Vec<TermFile>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    format: u32,
    profile: String,
    #[serde(default)]
    names: Vec<String>,
    version: String,
    #[serde(default)]
    operands: Vec<OperandInfo>,
    #[serde(default)]
    actions: Vec<ActionInfo>,
    #[serde(default)]
    deprecated: BTreeMap<String, String>,
    /// Other names of the ODRL operators.
    #[serde(default, rename = "operatorNames")]
    operator_names: BTreeMap<String, Operator>,
    #[serde(default)]
    taxonomies: Vec<TaxonomyFile>,
    #[serde(default)]
    combinations: Combinations,
}

/// The profiles that policies may use; cheap to clone.
#[derive(Clone, Debug)]
pub struct Profiles {
    pub(crate) tables: Arc<Tables>,
}

impl Profiles {
    const FILES: [&'static str; 5] = [
        include_str!("../profiles/odrl-core.json"),
        include_str!("../profiles/taxonomies-1.json"),
        include_str!("../profiles/fairlead-1.json"),
        include_str!("../profiles/ids-1.json"),
        include_str!("../profiles/catena-x-2025-9.json"),
    ];

    /// The first stage at which a missing fact for this operand counts; `None` for an operand of no known profile.
    pub fn decided(&self, operand: &str) -> Option<Stage> {
        self.tables.operands.get(operand).map(|operand| operand.decided)
    }

    /// The action that a deprecated one stands for, as in policies; any other is itself.
    pub fn current_action(&self, iri: &str) -> String {
        self.tables.deprecated.get(iri).cloned().unwrap_or_else(|| iri.to_owned())
    }

    /// Demands that some profile defines this action.
    ///
    /// # Errors
    /// `policy/unknown-action`, with the nearest name.
    pub fn require_action(&self, iri: &str) -> Result<(), Refusal> {
        if self.tables.action(iri).is_some() {
            return Ok(());
        }
        let near = self.tables.nearest_action(iri);
        let hint = near.map(|near| format!("; did you mean `{}`?", short(&near))).unwrap_or_default();
        Err(Refusal::new(&crate::problem::UNKNOWN_ACTION, format!("`{}`{hint}", short(iri))))
    }

    /// The profiles that come with Fairlead; read once, then shared.
    pub fn shipped() -> Self {
        static SHIPPED: OnceLock<Profiles> = OnceLock::new();
        SHIPPED
            .get_or_init(|| {
                let none = Self { tables: Arc::default() };
                // The files are constants of this crate and a test loads each; a broken one would leave its terms
                // unknown, so policies that use them are refused.
                Self::FILES
                    .iter()
                    .fold(none, |profiles, file| profiles.with_shipped_file(file).unwrap_or(profiles))
            })
            .clone()
    }

    /// These profiles and one more, from a profile file; a later file may not change a term of an earlier one. Policies
    /// may use the terms of a profile loaded so without naming it.
    ///
    /// # Errors
    /// `policy/bad-profile`: not the format, a term without namespace, a term defined twice, too many actions.
    pub fn with_file(&self, json: &str) -> Result<Self, Refusal> {
        let mut loaded = self.with_shipped_file(json)?;
        let tables = Arc::make_mut(&mut loaded.tables);
        let known: Vec<String> = tables
            .versions
            .keys()
            .filter(|name| !self.tables.versions.contains_key(*name))
            .cloned()
            .collect();
        tables.unnamed.extend(known);
        Ok(loaded)
    }

    /// These profiles with more terms from a Turtle text: `skos:broader`, `rdfs:subClassOf`, `odrl:partOf` and
    /// `dcterms:isPartOf` order them, `skos:prefLabel` and `rdfs:label` name them. They extend every unordered taxonomy
    /// and serve the operands that have none.
    ///
    /// # Errors
    /// `policy/bad-profile`: not Turtle, or too large.
    pub fn with_taxonomy(&self, turtle: &str, base: &str) -> Result<Self, Refusal> {
        let graph = crate::rdf::Graph::from_turtle(turtle, base)
            .map_err(|problems| Refusal::new(&BAD_PROFILE, problems.first().detail))?;
        let terms = crate::rdf::terms(&graph);
        let mut tables = (*self.tables).clone();
        tables.extend_taxonomies(&terms);
        Ok(Self { tables: Arc::new(tables) })
    }

    fn with_shipped_file(&self, json: &str) -> Result<Self, Refusal> {
        let bad = |detail: String| Refusal::new(&BAD_PROFILE, detail);
        if json.len() > MAX_FILE_BYTES {
            return Err(bad(format!("{} bytes, at most {MAX_FILE_BYTES}", json.len())));
        }
        let file: ProfileFile = serde_json::from_str(json).map_err(|error| bad(error.to_string()))?;
        if file.format != FORMAT {
            return Err(bad(format!("format {}, this engine reads {FORMAT}", file.format)));
        }
        let mut tables = (*self.tables).clone();
        tables.add(file).map_err(bad)?;
        Ok(Self { tables: Arc::new(tables) })
    }

    /// The identifiers of the profiles with their versions.
    pub fn versions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tables.versions.iter().map(|(profile, version)| (profile.as_str(), version.as_str()))
    }

    /// `term` and everything broader in the taxonomy of `operand`: what a constraint with `isA` may name so that
    /// `term` satisfies it. A term or operand without taxonomy gives `term` alone.
    pub fn broader<'a>(&'a self, operand: &str, term: &'a str) -> Vec<&'a str> {
        let operand = self.tables.operands.get(operand);
        match operand.and_then(|operand| self.tables.taxonomy(operand)) {
            Some(taxonomy) => taxonomy.broader(taxonomy.find(term).map_or(term, |known| known.iri.as_str())),
            None => vec![term],
        }
    }

    /// The versions of the taxonomies, by name: what an explanation rests on.
    pub fn taxonomy_versions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tables.taxonomies.iter().map(|(name, taxonomy)| (name.as_str(), taxonomy.version.as_str()))
    }
}

/// The taxonomy of operands that have no other, once terms were loaded.
const LOADED: &str = "loaded";

impl Tables {
    fn extend_taxonomies(&mut self, terms: &[Term]) {
        self.taxonomies.entry(LOADED.to_owned()).or_insert_with(|| Taxonomy {
            version: LOADED.to_owned(),
            ordered: false,
            terms: Vec::new(),
        });
        for taxonomy in self.taxonomies.values_mut().filter(|taxonomy| !taxonomy.ordered) {
            for term in terms {
                match taxonomy.terms.iter_mut().find(|known| known.iri == term.iri) {
                    Some(known) => {
                        known.broader.extend(term.broader.iter().cloned());
                        known.broader.sort();
                        known.broader.dedup();
                    }
                    None => taxonomy.terms.push(term.clone()),
                }
            }
        }
        for operand in self.operands.values_mut() {
            if operand.kind == OperandType::Symbol && operand.taxonomy.is_none() {
                Arc::make_mut(operand).taxonomy = Some(LOADED.to_owned());
            }
        }
    }

    fn add(&mut self, file: ProfileFile) -> Result<(), String> {
        let declared = vocab::Declared::new();
        let full = |term: &str| {
            expand_prefixed(term, &declared)
                .or_else(|| term.contains(':').then(|| term.to_owned()))
                .ok_or_else(|| format!("`{term}` is neither a prefixed name nor an IRI"))
        };
        let all = |terms: &[String]| terms.iter().map(|term| full(term)).collect::<Result<Vec<_>, _>>();
        if !file.profile.is_empty() {
            self.versions.insert(file.profile.clone(), file.version.clone());
            for name in file.names.iter().chain([&file.profile]) {
                let name = expand_prefixed(name, &declared).unwrap_or_else(|| name.clone());
                if self.names.insert(name.clone(), file.profile.clone()).is_some() {
                    return Err(format!("the profile name `{name}` is taken"));
                }
            }
        }
        for taxonomy in file.taxonomies {
            let mut terms = Vec::new();
            for term in taxonomy.terms {
                terms.push(Term {
                    iri: full(&term.iri)?,
                    broader: all(&term.broader)?,
                    also: term
                        .also
                        .iter()
                        .map(|alias| expand_prefixed(alias, &declared).unwrap_or_else(|| alias.clone()))
                        .collect(),
                    label: term.label,
                });
            }
            let taken = self.taxonomies.insert(
                taxonomy.name.clone(),
                Taxonomy { version: taxonomy.version, ordered: taxonomy.ordered, terms },
            );
            if taken.is_some() {
                return Err(format!("the taxonomy `{}` is defined twice", taxonomy.name));
            }
        }
        for mut operand in file.operands {
            operand.iri = full(&operand.iri)?;
            operand.profile.clone_from(&file.profile);
            operand.fact = operand.fact.as_deref().map(full).transpose()?;
            if let Some(name) = operand.taxonomy.as_ref().filter(|_| operand.kind == OperandType::Ordered) {
                let ordered = self.taxonomies.get(name).is_some_and(|taxonomy| taxonomy.ordered);
                if !ordered {
                    return Err(format!("`{}` needs the ordered taxonomy `{name}`", operand.iri));
                }
            }
            if self.operands.contains_key(&operand.iri) {
                return Err(format!("the operand `{}` is defined twice", operand.iri));
            }
            self.operands.insert(operand.iri.clone(), Arc::new(operand));
        }
        for mut action in file.actions {
            action.iri = full(&action.iri)?;
            action.included_in = all(&action.included_in)?;
            action.implies = all(&action.implies)?;
            action.profile.clone_from(&file.profile);
            if self.actions.iter().any(|known| known.iri == action.iri) {
                return Err(format!("the action `{}` is defined twice", action.iri));
            }
            self.actions.push(action);
        }
        if self.actions.len() > MAX_ACTIONS {
            return Err(format!("{} actions, at most {MAX_ACTIONS}", self.actions.len()));
        }
        for (name, operator) in &file.operator_names {
            self.operators.insert(full(name)?, *operator);
        }
        for (old, new) in &file.deprecated {
            self.deprecated.insert(full(old)?, full(new)?);
        }
        let mut combinations = file.combinations;
        for list in &mut combinations.exclusive {
            *list = all(list)?;
        }
        for required in &mut combinations.required {
            required.action = full(&required.action)?;
            required.operands = all(&required.operands)?;
        }
        self.combinations.insert(file.profile.clone(), combinations);
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_files_load_whole() {
        let mut profiles = Profiles { tables: Arc::default() };
        for file in Profiles::FILES {
            profiles = profiles.with_file(file).unwrap();
        }
        let tables = &profiles.tables;
        for action in &tables.actions {
            assert!(action.label.iter().all(|text| !text.is_empty()), "{}", action.iri);
            for parent in &action.included_in {
                assert!(tables.action(parent).is_some(), "{parent}");
            }
        }
        for operand in tables.operands.values() {
            assert!(operand.label.iter().all(|text| !text.is_empty()), "{}", operand.iri);
            assert!(!operand.operators.is_empty());
            if let Some(name) = &operand.taxonomy {
                assert!(tables.taxonomies.contains_key(name), "{name}");
            }
        }
        for taxonomy in tables.taxonomies.values() {
            for term in &taxonomy.terms {
                for broader in &term.broader {
                    assert!(taxonomy.position(broader).is_some(), "{broader}");
                }
            }
        }
        for target in tables.deprecated.values() {
            assert!(tables.action(target).is_some() || tables.operands.contains_key(target), "{target}");
        }
    }

    #[test]
    fn coverage_follows_included_in() {
        let tables = Profiles::shipped().tables;
        let covers = |upper: &str, lower: &str| {
            let index = |name: &str| tables.action(&vocab::expand_vocab(name, &Vec::new())).unwrap();
            tables.covered(index(upper)).contains(index(lower))
        };
        assert!(covers("use", "read") && covers("use", "display") && covers("play", "display"));
        assert!(!covers("read", "use") && !covers("use", "sell") && covers("transfer", "sell"));
        assert!(
            covers("use", "fl:export") && covers("derive", "fl:trainModel") && !covers("read", "fl:export")
        );
    }

    #[test]
    fn places_are_apart() {
        let tables = Profiles::shipped().tables;
        let places = tables.taxonomies.get("jurisdictions").unwrap();
        let mainland = places.find("CN").unwrap();
        assert_eq!(places.narrower(&mainland.iri), vec![mainland.iri.as_str()]);
        assert_eq!(places.narrower(&format!("{}EU", vocab::FL)).len(), 9);
    }

    #[test]
    fn bad_files() {
        let profiles = Profiles::shipped();
        for bad in [
            "{}",
            r#"{"format":2,"profile":"https://a.example/p","version":"1"}"#,
            r#"{"format":1,"profile":"https://a.example/p","version":"1","operands":[{"iri":"x","type":"text","operators":[]}]}"#,
            r#"{"format":1,"profile":"https://w3id.org/fairlead/profile/1","version":"1"}"#,
            r#"{"format":1,"profile":"https://a.example/p","version":"1","actions":[{"iri":"odrl:use"}]}"#,
            r#"{"format":1,"profile":"https://a.example/p","version":"1","extra":1}"#,
        ] {
            assert_eq!(profiles.with_file(bad).unwrap_err().code, &BAD_PROFILE, "{bad}");
        }
    }
}
