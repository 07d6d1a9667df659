//! The IRIs of the policy language, each written once, and how they are shortened and expanded.

/// The ODRL 2.2 namespace.
pub const ODRL: &str = "http://www.w3.org/ns/odrl/2/";
/// Fairlead's own namespace.
pub const FL: &str = "https://w3id.org/fairlead/ns#";
/// The identifier of the Fairlead policy profile.
pub const FAIRLEAD_PROFILE: &str = "https://w3id.org/fairlead/profile/1";
/// The identifier of the ODRL core profile.
pub const CORE_PROFILE: &str = "http://www.w3.org/ns/odrl/2/core";
/// XML Schema datatypes.
pub const XSD: &str = "http://www.w3.org/2001/XMLSchema#";
/// RDF.
pub const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
/// RDF Schema.
pub const RDFS: &str = "http://www.w3.org/2000/01/rdf-schema#";
/// Dublin Core terms.
pub const DCT: &str = "http://purl.org/dc/terms/";
/// The Data Privacy Vocabulary.
pub const DPV: &str = "https://w3id.org/dpv#";
/// SKOS.
pub const SKOS: &str = "http://www.w3.org/2004/02/skos/core#";
/// Creative Commons.
pub const CC: &str = "http://creativecommons.org/ns#";
/// The codes of the IDS information model.
pub const IDSC: &str = "https://w3id.org/idsa/code/";
/// The Catena-X policy vocabulary of 2025-9.
pub const CX: &str = "https://w3id.org/catenax/2025/9/policy/";
/// The Dataspace Protocol 2025-1.
pub const DSPACE: &str = "https://w3id.org/dspace/2025/1/";

/// Prefixes understood without a declaration: those of the contexts in use, and ours.
pub const PREFIXES: &[(&str, &str)] = &[
    ("odrl", ODRL),
    ("fl", FL),
    ("xsd", XSD),
    ("rdf", RDF),
    ("rdfs", RDFS),
    ("dct", DCT),
    ("dcterms", DCT),
    ("dpv", DPV),
    ("skos", SKOS),
    ("cc", CC),
    ("idsc", IDSC),
    ("cx-policy", CX),
    ("dspace", DSPACE),
    ("edc", "https://w3id.org/edc/v0.0.1/ns/"),
    ("eurocountry", "http://publications.europa.eu/resource/authority/country/"),
];

/// Left operands that the connector itself provides facts for.
pub mod operand {
    /// The instant of the action.
    pub const DATE_TIME: &str = "http://www.w3.org/ns/odrl/2/dateTime";
    /// Uses so far; the fact is the number already spent.
    pub const COUNT: &str = "http://www.w3.org/ns/odrl/2/count";
    /// What one count is.
    pub const UNIT_OF_COUNT: &str = "http://www.w3.org/ns/odrl/2/unitOfCount";
    /// Time since first use; the fact is the instant of first use (or a duration).
    pub const ELAPSED_TIME: &str = "http://www.w3.org/ns/odrl/2/elapsedTime";
    /// Why the action is done.
    pub const PURPOSE: &str = "http://www.w3.org/ns/odrl/2/purpose";
    /// Where the action is done.
    pub const SPATIAL: &str = "http://www.w3.org/ns/odrl/2/spatial";
    /// Who gets the result.
    pub const RECIPIENT: &str = "http://www.w3.org/ns/odrl/2/recipient";
    /// Who asks; taken from the request when no fact is given.
    pub const PARTICIPANT: &str = "https://w3id.org/fairlead/ns#participant";
    /// Time since the agreement was signed; the fact is the instant of signing.
    pub const SINCE_SIGNING: &str = "https://w3id.org/fairlead/ns#elapsedSinceSigning";
    /// Time since first use, as a deadline for duties.
    pub const SINCE_FIRST_USE: &str = "https://w3id.org/fairlead/ns#elapsedSinceFirstUse";
    /// Time since the permission ended; the fact is that instant.
    pub const SINCE_END: &str = "https://w3id.org/fairlead/ns#elapsedSinceEnd";
    /// Time since the last key lease; the fact is that instant.
    pub const KEY_LEASE: &str = "https://w3id.org/fairlead/ns#keyLease";
    /// IDS: the policy that a duty to pass the next policy on names.
    pub const TARGET_POLICY: &str = "https://w3id.org/idsa/code/TARGET_POLICY";
    /// IDS: the place whose value a duty replaces.
    pub const JSON_PATH: &str = "https://w3id.org/idsa/code/JSON_PATH";
    /// IDS: what it puts there.
    pub const REPLACE_WITH: &str = "https://w3id.org/idsa/code/REPLACE_WITH";
    /// The jurisdiction whose law the participant is under: `CN`, `HK`, `MO`.
    pub const JURISDICTION: &str = "https://w3id.org/fairlead/ns#jurisdiction";
    /// The participant's security profile: base, trust, trustplus.
    pub const SECURITY_PROFILE: &str = "https://w3id.org/fairlead/ns#securityProfile";
    /// What the user is within its participant.
    pub const ROLE: &str = "https://w3id.org/fairlead/ns#role";
    /// What the user works on.
    pub const PROJECT: &str = "https://w3id.org/fairlead/ns#project";
    /// A named event that is under way.
    pub const EVENT: &str = "http://www.w3.org/ns/odrl/2/event";
    /// The same in the IDS vocabulary.
    pub const IDS_EVENT: &str = "https://w3id.org/idsa/code/EVENT";
    /// The connector that asks.
    pub const CONNECTOR: &str = "https://w3id.org/idsa/code/CONNECTOR";
    /// What state the data is in.
    pub const ARTIFACT_STATE: &str = "https://w3id.org/idsa/code/ARTIFACT_STATE";
}

/// Actions that the connector itself asks about.
pub mod action {
    /// Any use; the action to ask with at the stages before use.
    pub const USE: &str = "http://www.w3.org/ns/odrl/2/use";
    /// Read through a use session.
    pub const READ: &str = "http://www.w3.org/ns/odrl/2/read";
    /// Delete all copies.
    pub const DELETE: &str = "http://www.w3.org/ns/odrl/2/delete";
    /// Write an unsealed copy to a file.
    pub const EXPORT: &str = "https://w3id.org/fairlead/ns#export";
    /// Supply the data to third parties.
    pub const DISTRIBUTE: &str = "http://www.w3.org/ns/odrl/2/distribute";
    /// As a duty of whoever passes the data on: third parties get it under the policy that is named.
    pub const NEXT_POLICY: &str = "http://www.w3.org/ns/odrl/2/nextPolicy";
    /// As a duty: nobody is recognised in what leaves.
    pub const ANONYMIZE: &str = "http://www.w3.org/ns/odrl/2/anonymize";
    /// As a duty: only what was computed of groups leaves.
    pub const AGGREGATE: &str = "http://www.w3.org/ns/odrl/2/aggregate";
    /// As a duty: parts are removed or blackened before the data leaves.
    pub const REDACT: &str = "https://w3id.org/fairlead/ns#redact";
    /// As a duty of IDS policies: a place gets a constant.
    pub const IDS_REPLACE: &str = "https://w3id.org/idsa/code/REPLACE";
}

/// Where a name that is not a core term was found: the declared prefixes of one document.
pub(crate) type Declared = Vec<(String, String)>;

/// Expands `prefix:name` with the document's prefixes first, then with [`PREFIXES`]; `None` without a known prefix.
pub(crate) fn expand_prefixed(text: &str, declared: &Declared) -> Option<String> {
    let (prefix, name) = text.split_once(':')?;
    if name.starts_with("//") {
        return None;
    }
    let from_document = declared.iter().find(|(known, _)| known == prefix).map(|(_, iri)| iri.as_str());
    let namespace =
        from_document.or_else(|| PREFIXES.iter().find(|(known, _)| *known == prefix).map(|(_, iri)| *iri))?;
    Some(format!("{namespace}{name}"))
}

/// An IRI from a position typed `@vocab`: a bare term belongs to ODRL.
pub(crate) fn expand_vocab(text: &str, declared: &Declared) -> String {
    if let Some(iri) = expand_prefixed(text, declared) {
        return iri;
    }
    if text.contains(':') {
        return text.to_owned();
    }
    declared
        .iter()
        .find(|(known, _)| known == text)
        .map_or_else(|| format!("{ODRL}{text}"), |(_, iri)| iri.clone())
}

/// The IRI that `prefix:name` stands for with one of [`PREFIXES`]; anything else as it is.
pub fn expand(text: &str) -> String {
    expand_prefixed(text, &Declared::new()).unwrap_or_else(|| text.to_owned())
}

/// The compact DSP spelling: a bare term for ODRL, the full IRI for everything else.
pub(crate) fn compact(iri: &str) -> &str {
    iri.strip_prefix(ODRL).unwrap_or(iri)
}

/// The shortest readable spelling, for people: `odrl:` terms bare, known namespaces prefixed.
pub fn short(iri: &str) -> String {
    if let Some(term) = iri.strip_prefix(ODRL) {
        return term.to_owned();
    }
    for (prefix, namespace) in PREFIXES {
        if let Some(name) = iri.strip_prefix(namespace) {
            return format!("{prefix}:{name}");
        }
    }
    iri.to_owned()
}
