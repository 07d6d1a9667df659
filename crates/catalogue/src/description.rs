//! A dataset's self-description (DCAT 3 with an ODRL offer): read from a steward's Turtle or from signed content.
//!
//! The typed parse is the validation: what comes out is complete, what does not is a [`Report`] of every problem.

use std::collections::{BTreeMap, BTreeSet};

use control_plane::ids::{DatasetId, OfferId, ParticipantId};
use control_plane::{Refusal, UnixMillis};
use oxrdf::{Literal, NamedNode, Quad, Triple};

use crate::hash::Digest;
use crate::rdf::Statements;
use crate::report::{OBJECT_DIFFERS, Problem, Report, Severity};
use crate::scope::PublisherScope;
use crate::text::Texts;
use crate::vocabulary as v;

mod read;

/// The largest description, in bytes: four times the largest record of the national portals looked at.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The most statements of a description: more than twice the largest record looked at (1,924).
pub const MAX_STATEMENTS: usize = 5_000;
/// The longest title or keyword, in characters.
pub const MAX_TITLE_CHARS: usize = 500;
/// The longest description text, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 20_000;
/// The longest mark of a transform, in bytes: two names of 64 and a digest.
pub const MAX_TRANSFORM_BYTES: usize = 192;
/// The most keywords, themes, distributions or offers of one dataset.
pub const MAX_REPEATED: usize = 256;

/// Who may get the data at all (EU authority table of access rights).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessRights {
    /// `PUBLIC`: anyone.
    Public,
    /// `RESTRICTED`: under conditions.
    Restricted,
    /// `NON_PUBLIC`: on a legal or ethical basis only.
    NonPublic,
}

impl AccessRights {
    /// The name in the authority table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "PUBLIC",
            Self::Restricted => "RESTRICTED",
            Self::NonPublic => "NON_PUBLIC",
        }
    }
}

/// One form in which the dataset can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Its IRI, under the subject base.
    pub iri: String,
    /// Its titles; may be empty.
    pub titles: Texts,
    /// IANA media type such as `text/csv`.
    pub media_type: Option<String>,
    /// Size in bytes.
    pub byte_size: Option<u64>,
    /// SHA-256 of the bytes.
    pub sha256: Option<Digest>,
    /// Digest of the manifest of its objects.
    pub manifest_digest: Option<Digest>,
    /// What is done to its objects before they leave: `name@version` and the declaration's digest.
    pub transform: Option<String>,
    /// Licence IRI.
    pub licence: Option<String>,
}

/// An offer and the text that its agreements will copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The offer's uid.
    pub id: OfferId,
    /// RFC 8785 text of the offer, derived once by the publisher.
    pub text: String,
    /// SHA-256 of `text`.
    pub hash: Digest,
    /// Purposes that its permissions name, in the words of the text.
    pub purposes: BTreeSet<String>,
    /// Whether some permission holds for any purpose.
    pub any_purpose: bool,
}

/// A complete, valid description of one dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfDescription {
    /// The dataset; also the name of its graph.
    pub dataset: DatasetId,
    /// The publisher's own identifier for it.
    pub identifier: String,
    /// Titles; never empty.
    pub titles: Texts,
    /// Descriptions; never empty.
    pub descriptions: Texts,
    /// Keywords with their language tag.
    pub keywords: Vec<(crate::text::Language, String)>,
    /// Theme IRIs; never empty.
    pub themes: BTreeSet<String>,
    /// Who publishes it.
    pub publisher: ParticipantId,
    /// Who may get the data at all.
    pub access_rights: AccessRights,
    /// When it was last changed.
    pub modified: UnixMillis,
    /// Its forms; never empty, ordered by IRI.
    pub distributions: Vec<Distribution>,
    /// Its offers; never empty, ordered by id.
    pub offers: Vec<Offer>,
    /// The datasets that it was made from; may be empty.
    pub derived_from: BTreeSet<String>,
    /// The IDS policy classes that the publisher's connector enforces, as it says: also numbers that this version does
    /// not know. Empty where it says nothing.
    pub enforces: BTreeSet<u16>,
}

/// Derives the canonical text of an offer from its statements; `policy` behind a small port.
pub trait OfferReader {
    /// The RFC 8785 text of `offer`, an `odrl:Offer` about `dataset` among `triples`; or every problem of the policy.
    fn canonical_text(
        &self,
        offer: &NamedNode,
        dataset: &NamedNode,
        triples: &[Triple],
    ) -> Result<String, Vec<OfferProblem>>;
}

/// One problem of an offer: where in the policy, and the refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferProblem {
    /// Place in the policy, e.g. the IRI of a constraint; may be empty.
    pub path: String,
    /// What is wrong.
    pub refusal: Refusal,
}

/// What the connector knows about a distribution's bytes when it publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Size of all objects together, in bytes.
    pub byte_size: Option<u64>,
    /// SHA-256 of the bytes, if the distribution is one object.
    pub sha256: Option<Digest>,
    /// Digest of the manifest of its objects.
    pub manifest_digest: Option<Digest>,
    /// What is done to the objects before they leave: `name@version` and the declaration's digest.
    pub transform: Option<String>,
}

/// A description ready to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// What it says.
    pub description: SelfDescription,
    /// Its canonical N-Quads, as the envelope carries them.
    pub content: Vec<u8>,
    /// What could be better; never a violation.
    pub warnings: Vec<Problem>,
}

/// Reads a steward's Turtle, adds offer texts, hashes and what is known about the objects, and checks the whole.
///
/// Relative IRIs are taken relative to the subject base. `facts` is keyed by distribution IRI.
pub fn read_turtle(
    text: &str,
    scope: &PublisherScope,
    offers: &dyn OfferReader,
    facts: &BTreeMap<String, ObjectFacts>,
) -> Result<Publication, Report> {
    read_turtle_derived(text, scope, offers, facts, &BTreeSet::new())
}

/// As [`read_turtle`]; the description also says that the dataset was made from these others.
pub fn read_turtle_derived(
    text: &str,
    scope: &PublisherScope,
    offers: &dyn OfferReader,
    facts: &BTreeMap<String, ObjectFacts>,
    derived_from: &BTreeSet<String>,
) -> Result<Publication, Report> {
    let mut report = Report::default();
    let Some(mut statements) = Statements::from_turtle(text, scope.subject_base.as_str(), &mut report) else {
        return Err(report);
    };
    add_lineage(&mut statements, derived_from);
    add_object_facts(&mut statements, facts, &mut report);
    add_offer_texts(&mut statements, offers, &mut report);
    let description = read::describe(&statements, scope, read::Advice::Give, &mut report);
    match description {
        Some(description) if !report.has_violation() => {
            let graph = NamedNode::new_unchecked(description.dataset.as_str());
            let content = statements.canonical(&graph);
            if content.len() > MAX_BYTES || statements.len() > MAX_STATEMENTS {
                report.violation(
                    &crate::report::TOO_LARGE,
                    graph.as_str(),
                    "",
                    format!("{} bytes canonical", content.len()),
                );
                return Err(report);
            }
            let is_warning = |problem: &&Problem| problem.severity == Severity::Warning;
            let warnings = report.problems().iter().filter(is_warning).cloned().collect();
            Ok(Publication { description, content, warnings })
        }
        _ => Err(report),
    }
}

/// Reads signed content of the graph `dataset`; demands the canonical form, offer texts and their hashes.
///
/// The offer's statements are not interpreted again: the text is what binds (canonical offer text), and a replica of
/// another version must not see a different offer.
pub fn read_canonical(
    content: &[u8],
    dataset: &DatasetId,
    scope: &PublisherScope,
) -> Result<SelfDescription, Report> {
    let mut report = Report::default();
    let Ok(graph) = NamedNode::new(dataset.as_str()) else {
        report.violation(&crate::report::NOT_CANONICAL, dataset.as_str(), "", "the graph is not an IRI");
        return Err(report);
    };
    let Some(statements) = Statements::from_canonical(content, &graph, &mut report) else {
        return Err(report);
    };
    match read::describe(&statements, scope, read::Advice::Withhold, &mut report) {
        Some(description) if description.dataset != *dataset => {
            report.violation(
                &crate::report::ONE_DATASET,
                dataset.as_str(),
                "",
                "the dataset is not named as its graph",
            );
            Err(report)
        }
        Some(description) if !report.has_violation() => Ok(description),
        _ => Err(report),
    }
}

/// The statements of canonical content, for the index.
pub(crate) fn quads_of(content: &[u8], dataset: &DatasetId) -> Result<Vec<Quad>, Report> {
    let mut report = Report::default();
    let graph = NamedNode::new_unchecked(dataset.as_str());
    Statements::from_canonical(content, &graph, &mut report)
        .map(|statements| statements.quads(&graph))
        .ok_or(report)
}

fn add_lineage(statements: &mut Statements, derived_from: &BTreeSet<String>) {
    let is_dataset = |statement: &&crate::rdf::Statement| {
        statement.predicate.as_str() == v::RDF_TYPE
            && crate::rdf::iri(&statement.object) == Some(v::DCAT_DATASET)
    };
    // Several are refused later.
    let subject = statements.iter().find(is_dataset).map(|statement| statement.subject.clone());
    let Some(dataset) = subject else { return };
    for origin in derived_from {
        statements.add(&dataset, v::PROV_WAS_DERIVED_FROM, NamedNode::new_unchecked(origin.as_str()));
    }
}

fn add_object_facts(statements: &mut Statements, facts: &BTreeMap<String, ObjectFacts>, report: &mut Report) {
    let mut known = BTreeMap::new();
    for statement in statements.iter() {
        if statement.predicate.as_str() == v::DCAT_DISTRIBUTION
            && let Some(iri) = crate::rdf::iri(&statement.object)
            && let Some(facts) = facts.get(iri)
        {
            known.insert(NamedNode::new_unchecked(iri), facts);
        }
    }
    for (distribution, facts) in known {
        let graph = crate::rdf::Graph::new(statements);
        let stated = read::Stated::of(&graph, distribution.as_str());
        let mut differs = |path: &str, stated: String, real: String| {
            let detail = format!("written {stated}, published {real}");
            report.violation(&OBJECT_DIFFERS, distribution.as_str(), &v::shorten(path), detail);
        };
        let mut size = None;
        match (stated.byte_size, facts.byte_size) {
            (Some(stated), Some(real)) if stated != real => {
                differs(v::DCAT_BYTE_SIZE, stated.to_string(), real.to_string())
            }
            (None, Some(real)) if graph.values(distribution.as_str(), v::DCAT_BYTE_SIZE).is_empty() => {
                size = Some(real)
            }
            _ => {}
        }
        let mut checksum = None;
        match (stated.sha256, facts.sha256) {
            (Some(stated), Some(real)) if stated != real => {
                differs(v::SPDX_CHECKSUM, stated.to_hex(), real.to_hex())
            }
            (None, Some(real)) => checksum = Some(real),
            _ => {}
        }
        if let Some(real) = size {
            statements.add(&distribution, v::DCAT_BYTE_SIZE, typed(&real.to_string(), "nonNegativeInteger"));
        }
        if let Some(real) = checksum {
            let node = NamedNode::new_unchecked(format!("{}.sha256", distribution.as_str()));
            statements.add(&distribution, v::SPDX_CHECKSUM, node.clone());
            statements.add(&node, v::RDF_TYPE, NamedNode::new_unchecked(v::SPDX_CHECKSUM_CLASS));
            statements.add(&node, v::SPDX_ALGORITHM, NamedNode::new_unchecked(v::SPDX_SHA256));
            statements.add(&node, v::SPDX_CHECKSUM_VALUE, typed(&real.to_hex(), "hexBinary"));
        }
        let held = distribution.clone();
        statements.retain(|statement| {
            statement.subject != held
                || ![v::FL_MANIFEST_DIGEST, v::FL_TRANSFORM].contains(&statement.predicate.as_str())
        });
        if let Some(transform) = &facts.transform {
            statements.add(&distribution, v::FL_TRANSFORM, Literal::new_simple_literal(transform.as_str()));
        }
        if let Some(manifest) = facts.manifest_digest {
            statements.add(
                &distribution,
                v::FL_MANIFEST_DIGEST,
                Literal::new_simple_literal(manifest.to_string()),
            );
        }
    }
}

fn add_offer_texts(statements: &mut Statements, offers: &dyn OfferReader, report: &mut Report) {
    // Texts of an earlier publication may be stale: they are always derived afresh.
    statements
        .retain(|statement| ![v::FL_OFFER_TEXT, v::FL_OFFER_HASH].contains(&statement.predicate.as_str()));
    let triples = statements.triples();
    let mut texts = Vec::new();
    for statement in statements.iter().filter(|statement| statement.predicate.as_str() == v::ODRL_HAS_POLICY)
    {
        let Some(offer) = crate::rdf::iri(&statement.object).map(NamedNode::new_unchecked) else { continue };
        match offers.canonical_text(&offer, &statement.subject, &triples) {
            Ok(text) => texts.push((offer, text)),
            Err(problems) => {
                for OfferProblem { path, refusal } in problems {
                    report.violation(refusal.code, offer.as_str(), &path, refusal.detail);
                }
            }
        }
    }
    for (offer, text) in texts {
        let hash = Digest::of(text.as_bytes());
        statements.add(&offer, v::FL_OFFER_TEXT, Literal::new_simple_literal(text));
        statements.add(&offer, v::FL_OFFER_HASH, Literal::new_simple_literal(hash.to_string()));
    }
}

fn typed(value: &str, datatype: &str) -> Literal {
    Literal::new_typed_literal(value, NamedNode::new_unchecked(format!("{}{datatype}", v::XSD)))
}
