//! Profiles as data: operands, actions and taxonomies with their versions, read from files, never from code.
//!
//! The format (version 1) is the one of the files in `profiles/`. Terms are prefixed names or full IRIs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use crate::problem::nearest;
use crate::refusal::Refusal;
use crate::value::hash;
use crate::vocab::{self, expand_prefixed, short};

crate::refusal_codes! {
    BAD_PROFILE = "policy/bad-profile", Input,
        "the profile file is not usable", "設定檔檔案無法使用", "配置文件文件无法使用",
        clause "policy: profiles", next "correct the profile file at the place named";
}

/// The version of the profile file format.
const FORMAT: u32 = 1;
/// The most actions known at once: their sets are four machine words.
pub(crate) const MAX_ACTIONS: usize = 256;
/// Places in the table of actions: twice as many as there can be actions.
const ACTION_PLACES: usize = 2 * MAX_ACTIONS;
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

type Label = [String; 3];

fn label_in(label: &Label, lang: Lang) -> &str {
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
    #[serde(default)]
    pub label: Label,
    #[serde(skip)]
    pub profile: String,
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
}

/// A set of actions: one bit for each known action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ActionSet([u64; 4]);

impl ActionSet {
    pub(crate) fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn zip(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([join(a, e), join(b, f), join(c, g), join(d, h)])
    }

    pub(crate) fn and(self, other: Self) -> Self {
        self.zip(other, |left, right| left & right)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        self.zip(other, |left, right| left | right)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        self.zip(other, |left, right| left & !right)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }
}

const fn slot_of(hash: u64) -> usize {
    hash as usize % ACTION_PLACES
}

#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub iri: String,
    pub broader: Vec<String>,
    pub also: Vec<String>,
    pub label: Label,
}

impl Term {
    pub(crate) fn label(&self, lang: Lang) -> &str {
        label_in(&self.label, lang)
    }
}

/// A closed list of terms with `broader` edges; its version goes into nothing signed, but into explanations.
#[derive(Clone, Debug)]
pub(crate) struct Taxonomy {
    pub version: String,
    pub ordered: bool,
    pub terms: Vec<Term>,
}

impl Taxonomy {
    /// The term with this IRI or alias.
    pub(crate) fn find(&self, name: &str) -> Option<&Term> {
        self.terms.iter().find(|term| term.iri == name || term.also.iter().any(|alias| alias == name))
    }

    pub(crate) fn position(&self, iri: &str) -> Option<usize> {
        self.terms.iter().position(|term| term.iri == iri)
    }

    /// The term and everything narrower; only itself if it is not in the taxonomy.
    pub(crate) fn narrower<'a>(&'a self, iri: &'a str) -> Vec<&'a str> {
        let mut found = vec![iri];
        let mut next = 0;
        while let Some(current) = found.get(next).copied() {
            for term in &self.terms {
                if term.broader.iter().any(|broader| broader == current)
                    && !found.contains(&term.iri.as_str())
                {
                    found.push(&term.iri);
                }
            }
            next += 1;
        }
        found
    }

    /// The term and everything broader.
    pub(crate) fn broader<'a>(&'a self, iri: &'a str) -> Vec<&'a str> {
        let mut found = vec![iri];
        let mut next = 0;
        while let Some(current) = found.get(next).copied() {
            for broader in self.find(current).into_iter().flat_map(|term| &term.broader) {
                if !found.contains(&broader.as_str()) {
                    found.push(broader);
                }
            }
            next += 1;
        }
        found
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    /// Every identifier of every profile, with the profile it means.
    pub names: BTreeMap<String, String>,
    /// Profiles whose terms may be used without naming them: those that the operator loaded on purpose.
    pub unnamed: BTreeSet<String>,
    pub versions: BTreeMap<String, String>,
    pub operands: BTreeMap<String, Arc<OperandInfo>>,
    pub actions: Vec<ActionInfo>,
    /// For each action its set: itself and all included in it.
    pub covered: Vec<ActionSet>,
    /// For each action what it implies, with all included in that: not prohibited where the action is permitted.
    pub implied: Vec<ActionSet>,
    /// Hash and index of each action, at the place its hash says or the next free one.
    pub by_hash: Vec<Option<(u64, usize)>>,
    pub deprecated: BTreeMap<String, String>,
    /// Names of operators that are not ODRL's.
    pub operators: BTreeMap<String, Operator>,
    pub taxonomies: BTreeMap<String, Taxonomy>,
}

impl Tables {
    pub(crate) fn action(&self, iri: &str) -> Option<usize> {
        let wanted = hash(iri);
        let mut place = slot_of(wanted);
        // The table is at most half full, so an empty place ends every search.
        while let Some(Some((known, index))) = self.by_hash.get(place) {
            if *known == wanted && self.actions.get(*index).is_some_and(|action| action.iri == iri) {
                return Some(*index);
            }
            place = (place + 1) % ACTION_PLACES;
        }
        None
    }

    pub(crate) fn covered(&self, index: usize) -> ActionSet {
        self.covered.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn implied(&self, index: usize) -> ActionSet {
        self.implied.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn taxonomy(&self, operand: &OperandInfo) -> Option<&Taxonomy> {
        operand.taxonomy.as_ref().and_then(|name| self.taxonomies.get(name))
    }

    /// The label of any term of any taxonomy.
    pub(crate) fn term_label(&self, operand: &OperandInfo, iri: &str, lang: Lang) -> Option<&str> {
        let label = self.taxonomy(operand)?.find(iri)?.label(lang);
        (!label.is_empty()).then_some(label)
    }

    pub(crate) fn nearest_operand(&self, iri: &str) -> Option<String> {
        let names: Vec<String> = self.operands.keys().map(|known| short(known)).collect();
        nearest(&short(iri), names.iter().map(String::as_str))
    }

    pub(crate) fn nearest_action(&self, iri: &str) -> Option<String> {
        let names: Vec<String> = self.actions.iter().map(|known| short(&known.iri)).collect();
        nearest(&short(iri), names.iter().map(String::as_str))
    }

    fn close(&mut self) {
        self.by_hash = vec![None; ACTION_PLACES];
        for (index, action) in self.actions.iter().enumerate() {
            let hash = hash(&action.iri);
            let mut place = slot_of(hash);
            while self.by_hash.get(place).is_some_and(Option::is_some) {
                place = (place + 1) % ACTION_PLACES;
            }
            if let Some(free) = self.by_hash.get_mut(place) {
                *free = Some((hash, index));
            }
        }
        self.covered = (0..self.actions.len())
            .map(|top| {
                let mut set = ActionSet::default();
                set.insert(top);
                // Each round reaches at least one more action, so this ends.
                loop {
                    let before = set;
                    for (index, action) in self.actions.iter().enumerate() {
                        let below = action.included_in.iter().any(|parent| {
                            self.actions
                                .iter()
                                .position(|known| known.iri == *parent)
                                .is_some_and(|parent| set.contains(parent))
                        });
                        if below {
                            set.insert(index);
                        }
                    }
                    if set == before {
                        return set;
                    }
                }
            })
            .collect();
        self.implied = self
            .actions
            .iter()
            .map(|action| {
                let implied = action.implies.iter().filter_map(|iri| self.action(iri));
                implied.fold(ActionSet::default(), |set, index| set.or(self.covered(index)))
            })
            .collect();
    }
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
