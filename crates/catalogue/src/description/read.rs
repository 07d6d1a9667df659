//! From statements to a typed description, collecting every problem on the way.

use std::collections::BTreeSet;

use control_plane::UnixMillis;
use control_plane::ids::{DatasetId, OfferId};
use oxrdf::Term;
use serde_json::Value;

use super::{
    AccessRights, Distribution, MAX_DESCRIPTION_CHARS, MAX_REPEATED, MAX_TITLE_CHARS, MAX_TRANSFORM_BYTES,
    Offer, SelfDescription,
};
use crate::hash::Digest;
use crate::rdf::{Graph, Statements, iri, literal};
use crate::report::{
    ALIEN_SUBJECT, BAD_VALUE, MISSING_SCRIPT, MISSING_VALUE, NO_CONTACT, NO_KEYWORD, NO_LANGUAGE_TAG,
    NO_LICENCE, OFFER_TEXT_DIFFERS, ONE_DATASET, REPEATED_LANGUAGE, Report, TEXT_TOO_LONG, TOO_MANY_VALUES,
    WRONG_PUBLISHER, WRONG_TARGET,
};
use crate::scope::PublisherScope;
use crate::text::{Language, Texts, clean};
use crate::vocabulary as v;

/// Whether recommendations are made: to a steward yes, about somebody else's signed content no.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    Give,
    Withhold,
}

/// What a distribution says about its bytes.
#[derive(Default)]
pub(super) struct Stated {
    pub byte_size: Option<u64>,
    pub sha256: Option<Digest>,
}

impl Stated {
    pub fn of(graph: &Graph<'_>, distribution: &str) -> Self {
        let mut unreported = Report::default();
        let mut reader = Reader { graph, report: &mut unreported };
        Self { byte_size: reader.byte_size(distribution), sha256: reader.sha256(distribution) }
    }
}

/// The description, or `None` where `report` has a violation that leaves something out.
pub(super) fn describe(
    statements: &Statements,
    scope: &PublisherScope,
    advice: Advice,
    report: &mut Report,
) -> Option<SelfDescription> {
    for subject in statements.subjects() {
        if !scope.may_describe(subject) {
            report.violation(&ALIEN_SUBJECT, subject, "", format!("subject base {}", scope.subject_base));
        }
    }
    let graph = Graph::new(statements);
    let datasets = graph.subjects_with(v::RDF_TYPE, v::DCAT_DATASET);
    let &[dataset] = datasets.as_slice() else {
        report.violation(&ONE_DATASET, "", "rdf:type", format!("{} found", datasets.len()));
        return None;
    };
    let mut reader = Reader { graph: &graph, report };
    let id = reader.id(dataset);
    let identifier = reader.identifier(dataset);
    let titles = reader.texts(dataset, v::DCT_TITLE, MAX_TITLE_CHARS, Required::Yes);
    let descriptions = reader.texts(dataset, v::DCT_DESCRIPTION, MAX_DESCRIPTION_CHARS, Required::Yes);
    let keywords = reader.keywords(dataset);
    let themes = reader.iris(dataset, v::DCAT_THEME, Required::Yes);
    reader.publisher(dataset, v::DCT_PUBLISHER, scope);
    let access_rights = reader.access_rights(dataset);
    let modified = reader.instant(dataset, v::DCT_MODIFIED);
    let distribution_iris = reader.iris(dataset, v::DCAT_DISTRIBUTION, Required::Yes);
    let distributions = distribution_iris.iter().map(|iri| reader.distribution(iri, advice)).collect();
    let offer_iris = reader.iris(dataset, v::ODRL_HAS_POLICY, Required::Yes);
    let offers: Vec<Offer> = offer_iris.iter().filter_map(|iri| reader.offer(iri, dataset, scope)).collect();
    let derived_from = reader.derived_from(dataset);
    let enforces = reader.classes(scope.participant.as_str());
    if advice == Advice::Give {
        reader.advise(dataset, &titles, keywords.is_empty());
    }
    Some(SelfDescription {
        dataset: id?,
        identifier: identifier?,
        titles,
        descriptions,
        keywords,
        themes,
        publisher: scope.participant.clone(),
        access_rights: access_rights?,
        modified: modified?,
        distributions,
        offers,
        derived_from,
        enforces,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Required {
    Yes,
    No,
}

struct Reader<'g, 'r> {
    graph: &'g Graph<'g>,
    report: &'r mut Report,
}

impl<'g> Reader<'g, '_> {
    fn violation(
        &mut self,
        code: &'static control_plane::Code,
        focus: &str,
        path: &str,
        detail: impl Into<String>,
    ) {
        self.report.violation(code, focus, &v::shorten(path), detail);
    }

    /// The one value, if there is one; more than one is reported.
    fn one(&mut self, subject: &str, predicate: &str, required: Required) -> Option<&'g Term> {
        match self.graph.values(subject, predicate) {
            [] => {
                if required == Required::Yes {
                    self.violation(&MISSING_VALUE, subject, predicate, "");
                }
                None
            }
            [value] => Some(value),
            values => {
                self.violation(&TOO_MANY_VALUES, subject, predicate, format!("{} values", values.len()));
                None
            }
        }
    }

    fn bad<T>(&mut self, subject: &str, predicate: &str, term: &Term, expected: &str) -> Option<T> {
        self.violation(&BAD_VALUE, subject, predicate, format!("{term}, expected {expected}"));
        None
    }

    fn id(&mut self, dataset: &str) -> Option<DatasetId> {
        DatasetId::parse(dataset)
            .map_err(|refusal| self.violation(&BAD_VALUE, dataset, "", refusal.to_string()))
            .ok()
    }

    fn identifier(&mut self, dataset: &str) -> Option<String> {
        let term = self.one(dataset, v::DCT_IDENTIFIER, Required::Yes)?;
        match literal(term).map(|literal| clean(literal.value())) {
            Some(text) if text.chars().count() > MAX_TITLE_CHARS => {
                self.violation(
                    &TEXT_TOO_LONG,
                    dataset,
                    v::DCT_IDENTIFIER,
                    format!("at most {MAX_TITLE_CHARS} characters"),
                );
                None
            }
            Some(text) if !text.trim().is_empty() => Some(text),
            _ => self.bad(dataset, v::DCT_IDENTIFIER, term, "a text"),
        }
    }

    /// Language and text of a term that is a text for people.
    fn text(
        &mut self,
        subject: &str,
        predicate: &str,
        term: &'g Term,
        max_chars: usize,
    ) -> Option<(Language, &'g str)> {
        let Some(literal) = literal(term) else {
            return self.bad(subject, predicate, term, "a text with a language tag");
        };
        let Some(tag) = literal.language() else {
            self.violation(&NO_LANGUAGE_TAG, subject, predicate, literal.value());
            return None;
        };
        if literal.value().chars().count() > max_chars {
            self.violation(&TEXT_TOO_LONG, subject, predicate, format!("at most {max_chars} characters"));
            return None;
        }
        if clean(literal.value()).trim().is_empty() {
            return self.bad(subject, predicate, term, "a text that is not empty");
        }
        Some((Language::of_tag(tag), literal.value()))
    }

    fn texts(&mut self, subject: &str, predicate: &str, max_chars: usize, required: Required) -> Texts {
        let mut texts = Texts::default();
        let values = self.bounded(subject, predicate, required);
        for term in values {
            if let Some((language, text)) = self.text(subject, predicate, term, max_chars) {
                let tag = language.to_string();
                if !texts.insert(language, text) {
                    self.violation(&REPEATED_LANGUAGE, subject, predicate, tag);
                }
            }
        }
        texts
    }

    fn keywords(&mut self, dataset: &str) -> Vec<(Language, String)> {
        let values = self.bounded(dataset, v::DCAT_KEYWORD, Required::No);
        let texts =
            values.iter().filter_map(|term| self.text(dataset, v::DCAT_KEYWORD, term, MAX_TITLE_CHARS));
        texts.map(|(language, text)| (language, clean(text))).collect()
    }

    fn bounded(&mut self, subject: &str, predicate: &str, required: Required) -> &'g [&'g Term] {
        let values = self.graph.values(subject, predicate);
        if values.is_empty() && required == Required::Yes {
            self.violation(&MISSING_VALUE, subject, predicate, "");
        }
        if values.len() > MAX_REPEATED {
            self.violation(&TOO_MANY_VALUES, subject, predicate, format!("at most {MAX_REPEATED}"));
        }
        values.get(..MAX_REPEATED).unwrap_or(values)
    }

    fn iris(&mut self, subject: &str, predicate: &str, required: Required) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for term in self.bounded(subject, predicate, required) {
            match iri(term) {
                Some(iri) => {
                    found.insert(iri.to_owned());
                }
                None => {
                    let _: Option<()> = self.bad(subject, predicate, term, "an IRI");
                }
            }
        }
        found
    }

    /// Whether the value is the publisher, as it must be.
    fn publisher(&mut self, subject: &str, predicate: &str, scope: &PublisherScope) -> bool {
        match self.one(subject, predicate, Required::Yes) {
            Some(term) if iri(term) == Some(scope.participant.as_str()) => true,
            Some(term) => {
                self.violation(
                    &WRONG_PUBLISHER,
                    subject,
                    predicate,
                    format!("{term}, expected <{}>", scope.participant),
                );
                false
            }
            None => false,
        }
    }

    /// What was published before this was read may say anything here: what is no IRI is passed over.
    fn derived_from(&self, dataset: &str) -> BTreeSet<String> {
        let origins = self.graph.values(dataset, v::PROV_WAS_DERIVED_FROM).iter();
        origins.filter_map(|term| iri(term)).take(MAX_REPEATED).map(str::to_owned).collect()
    }

    fn access_rights(&mut self, dataset: &str) -> Option<AccessRights> {
        let term = self.one(dataset, v::DCT_ACCESS_RIGHTS, Required::Yes)?;
        match iri(term).and_then(|iri| iri.strip_prefix(v::ACCESS_RIGHTS)) {
            Some("PUBLIC") => Some(AccessRights::Public),
            Some("RESTRICTED") => Some(AccessRights::Restricted),
            Some("NON_PUBLIC") => Some(AccessRights::NonPublic),
            _ => self.bad(
                dataset,
                v::DCT_ACCESS_RIGHTS,
                term,
                "PUBLIC, RESTRICTED or NON_PUBLIC of the EU authority table",
            ),
        }
    }

    fn instant(&mut self, subject: &str, predicate: &str) -> Option<UnixMillis> {
        let term = self.one(subject, predicate, Required::Yes)?;
        let is_instant =
            |literal: &&oxrdf::Literal| literal.datatype().as_str().strip_prefix(v::XSD) == Some("dateTime");
        literal(term)
            .filter(is_instant)
            .and_then(|literal| UnixMillis::parse_rfc3339(literal.value()))
            .or_else(|| self.bad(subject, predicate, term, "xsd:dateTime with a zone"))
    }

    fn distribution(&mut self, subject: &str, advice: Advice) -> Distribution {
        if !self.graph.has(subject, v::RDF_TYPE, v::DCAT_DISTRIBUTION_CLASS) {
            self.violation(&MISSING_VALUE, subject, v::RDF_TYPE, "dcat:Distribution");
        }
        let licence = match self.one(subject, v::DCT_LICENSE, Required::No) {
            Some(term) => match iri(term) {
                Some(iri) => Some(iri.to_owned()),
                None => self.bad(subject, v::DCT_LICENSE, term, "an IRI"),
            },
            None => None,
        };
        if advice == Advice::Give && licence.is_none() && self.graph.values(subject, v::DCT_RIGHTS).is_empty()
        {
            self.report.warning(&NO_LICENCE, subject, "dct:license", "");
        }
        Distribution {
            iri: subject.to_owned(),
            titles: self.texts(subject, v::DCT_TITLE, MAX_TITLE_CHARS, Required::No),
            media_type: self.media_type(subject),
            byte_size: self.byte_size(subject),
            sha256: self.sha256(subject),
            manifest_digest: self.digest(subject, v::FL_MANIFEST_DIGEST),
            transform: self.transform(subject),
            licence,
        }
    }

    fn media_type(&mut self, subject: &str) -> Option<String> {
        let term = self.one(subject, v::DCAT_MEDIA_TYPE, Required::No)?;
        let name = iri(term).and_then(|iri| iri.strip_prefix(v::MEDIA_TYPES));
        let sound = |name: &&str| {
            let part = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
            };
            name.split_once('/').is_some_and(|(kind, sub)| part(kind) && part(sub))
        };
        match name.filter(sound) {
            Some(name) => Some(name.to_owned()),
            None => self.bad(
                subject,
                v::DCAT_MEDIA_TYPE,
                term,
                "an IRI such as https://www.iana.org/assignments/media-types/text/csv",
            ),
        }
    }

    fn byte_size(&mut self, subject: &str) -> Option<u64> {
        let term = self.one(subject, v::DCAT_BYTE_SIZE, Required::No)?;
        let whole = |literal: &&oxrdf::Literal| {
            let kind = literal.datatype().as_str().strip_prefix(v::XSD);
            matches!(kind, Some("nonNegativeInteger" | "integer"))
                && literal.value().bytes().all(|byte| byte.is_ascii_digit())
        };
        literal(term)
            .filter(whole)
            .and_then(|literal| literal.value().parse().ok())
            .or_else(|| self.bad(subject, v::DCAT_BYTE_SIZE, term, "xsd:nonNegativeInteger"))
    }

    /// The SHA-256 among the checksums; other algorithms are somebody else's.
    fn sha256(&mut self, subject: &str) -> Option<Digest> {
        let mut found = None;
        for term in self.bounded(subject, v::SPDX_CHECKSUM, Required::No) {
            let Some(node) = iri(term) else {
                let _: Option<()> = self.bad(subject, v::SPDX_CHECKSUM, term, "an spdx:Checksum");
                continue;
            };
            if !self.graph.has(node, v::SPDX_ALGORITHM, v::SPDX_SHA256) {
                continue;
            }
            if found.is_some() {
                self.violation(&TOO_MANY_VALUES, subject, v::SPDX_CHECKSUM, "two SHA-256 checksums");
            }
            let value = self.one(node, v::SPDX_CHECKSUM_VALUE, Required::Yes)?;
            found = literal(value)
                .and_then(|literal| Digest::from_hex(literal.value()))
                .or_else(|| self.bad(node, v::SPDX_CHECKSUM_VALUE, value, "64 hexadecimal digits"));
        }
        found
    }

    fn digest(&mut self, subject: &str, predicate: &str) -> Option<Digest> {
        let term = self.one(subject, predicate, Required::No)?;
        let read = literal(term).and_then(|literal| Digest::parse(literal.value()).ok());
        read.or_else(|| self.bad(subject, predicate, term, "sha-256:<base64url>"))
    }

    fn transform(&mut self, subject: &str) -> Option<String> {
        let term = self.one(subject, v::FL_TRANSFORM, Required::No)?;
        let plain = |text: &&str| {
            text.len() <= MAX_TRANSFORM_BYTES
                && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        };
        let read = literal(term).map(|literal| literal.value()).filter(plain).map(str::to_owned);
        read.or_else(|| self.bad(subject, v::FL_TRANSFORM, term, "name@version sha-256:<base64url>"))
    }

    fn classes(&mut self, publisher: &str) -> BTreeSet<u16> {
        let mut found = BTreeSet::new();
        for term in self.bounded(publisher, v::FL_ENFORCES, Required::No) {
            let number = literal(term)
                .filter(|literal| literal.datatype().as_str().strip_prefix(v::XSD) == Some("integer"))
                .and_then(|literal| literal.value().parse::<u16>().ok())
                .or_else(|| self.bad(publisher, v::FL_ENFORCES, term, "the number of a policy class"));
            found.extend(number);
        }
        found
    }

    fn offer(&mut self, subject: &str, dataset: &str, scope: &PublisherScope) -> Option<Offer> {
        if !self.graph.has(subject, v::RDF_TYPE, v::ODRL_OFFER) {
            self.violation(&MISSING_VALUE, subject, v::RDF_TYPE, "odrl:Offer");
        }
        let mut ours = self.publisher(subject, v::ODRL_ASSIGNER, scope);
        if let Some(target) = self.one(subject, v::ODRL_TARGET, Required::No)
            && iri(target) != Some(dataset)
        {
            self.violation(&WRONG_TARGET, subject, v::ODRL_TARGET, format!("{target}, expected <{dataset}>"));
            ours = false;
        }
        if !ours {
            // The text repeats assigner and target: reporting it as well would only hide the cause.
            return None;
        }
        let id = match OfferId::parse(subject) {
            Ok(id) => id,
            Err(refusal) => {
                self.violation(&BAD_VALUE, subject, "", refusal.to_string());
                return None;
            }
        };
        // Without its text an offer's own problems were reported by the policy reader already.
        let required = if self.report.has_violation() { Required::No } else { Required::Yes };
        let text = self.one(subject, v::FL_OFFER_TEXT, required)?;
        let stated = self.one(subject, v::FL_OFFER_HASH, required)?;
        let text = literal(text).map(|literal| literal.value().to_owned()).unwrap_or_default();
        let stated = literal(stated).map(oxrdf::Literal::value).unwrap_or_default();
        let hash = Digest::of(text.as_bytes());
        let checked = if hash.to_string() == stated {
            OfferText::check(&text, subject, dataset, scope.participant.as_str())
        } else {
            Err("the hash is of another text")
        };
        match checked {
            Ok(OfferText { purposes, any_purpose }) => Some(Offer { id, text, hash, purposes, any_purpose }),
            Err(reason) => {
                self.violation(&OFFER_TEXT_DIFFERS, subject, v::FL_OFFER_TEXT, reason);
                None
            }
        }
    }

    fn advise(&mut self, dataset: &str, titles: &Texts, no_keywords: bool) {
        if no_keywords {
            self.report.warning(&NO_KEYWORD, dataset, "dcat:keyword", "");
        }
        if self.graph.values(dataset, v::DCAT_CONTACT_POINT).is_empty() {
            self.report.warning(&NO_CONTACT, dataset, "dcat:contactPoint", "");
        }
        for language in [Language::En, Language::ZhHant, Language::ZhHans] {
            if titles.get(&language).is_none() {
                self.report.warning(&MISSING_SCRIPT, dataset, "dct:title", language.tag());
            }
        }
    }
}

/// What the catalogue takes from an offer's canonical text: that it is this offer's, and its purposes.
struct OfferText {
    purposes: BTreeSet<String>,
    any_purpose: bool,
}

impl OfferText {
    fn check(text: &str, offer: &str, dataset: &str, publisher: &str) -> Result<Self, &'static str> {
        let value: Value = serde_json::from_str(text).map_err(|_| "not JSON")?;
        let canonical = serde_jcs::to_string(&value).map_err(|_| "not JSON")?;
        if canonical != text {
            return Err("not in RFC 8785 form");
        }
        if value.get("@id").and_then(Value::as_str) != Some(offer) {
            return Err("@id is not this offer");
        }
        let is = |member: &str, expected: &str| {
            value.get(member).is_none_or(|held| held.as_str() == Some(expected))
        };
        if !is("@type", "Offer") || !is("target", dataset) || !is("assigner", publisher) {
            return Err("type, target or assigner differ from the statements");
        }
        let mut purposes = BTreeSet::new();
        let permissions = members(&value, "permission");
        let mut any_purpose = false;
        for permission in &permissions {
            let before = purposes.len();
            let mut named = false;
            for constraint in members(permission, "constraint") {
                named |= collect_purposes(constraint, &mut purposes, 0);
            }
            any_purpose |= !named && purposes.len() == before;
        }
        Ok(Self { purposes, any_purpose })
    }
}

fn members<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    match value.get(name) {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(other) => vec![other],
        None => Vec::new(),
    }
}

/// Adds the purposes that a constraint lets pass; `true` if it limits the purpose at all.
fn collect_purposes(constraint: &Value, purposes: &mut BTreeSet<String>, depth: usize) -> bool {
    const MAX_DEPTH: usize = 16;
    if depth > MAX_DEPTH {
        return true;
    }
    let mut limits = false;
    for logical in ["and", "or", "xone", "andSequence"] {
        for inner in members(constraint, logical) {
            limits |= collect_purposes(inner, purposes, depth + 1);
        }
    }
    let word =
        |name: &str| constraint.get(name).and_then(Value::as_str).map(|text| local_name(text).to_owned());
    if word("leftOperand").as_deref() == Some("purpose") {
        limits = true;
        if matches!(word("operator").as_deref(), Some("eq" | "isA" | "isAnyOf" | "isPartOf")) {
            for right in members(constraint, "rightOperand") {
                let named = right.as_str().or_else(|| right.get("@value").and_then(Value::as_str));
                if let Some(iri) = named.or_else(|| right.get("@id").and_then(Value::as_str)) {
                    purposes.insert(iri.to_owned());
                }
            }
        }
    }
    limits
}

fn local_name(term: &str) -> &str {
    term.rsplit(['/', '#', ':']).next().unwrap_or(term)
}
