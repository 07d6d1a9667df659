//! The terms that the catalogue reads and writes; terms of policies stand in `policy`.
//!
//! Labels of our own terms, in three scripts, are in `connector-config/vocabulary/fairlead.ttl`.

/// Namespace of our own terms, `fl:`.
pub const FL: &str = "https://w3id.org/fairlead/ns#";
/// Literal on an offer: its canonical text, which agreements copy.
pub const FL_OFFER_TEXT: &str = "https://w3id.org/fairlead/ns#offerText";
/// Literal on an offer: the hash of [`FL_OFFER_TEXT`].
pub const FL_OFFER_HASH: &str = "https://w3id.org/fairlead/ns#offerHash";
/// Literal on a distribution: digest of the manifest of its objects.
pub const FL_MANIFEST_DIGEST: &str = "https://w3id.org/fairlead/ns#manifestDigest";
/// Literal on a distribution: the transform that its objects go through before they leave, `name@version digest`.
pub const FL_TRANSFORM: &str = "https://w3id.org/fairlead/ns#transform";
/// Integers on a publisher: the IDS policy classes that its connector enforces, by number.
pub const FL_ENFORCES: &str = "https://w3id.org/fairlead/ns#enforces";

/// Every `fl:` term of this crate, so that a test can compare code and vocabulary file.
pub const OWN_TERMS: &[&str] = &[FL_OFFER_TEXT, FL_OFFER_HASH, FL_MANIFEST_DIGEST, FL_TRANSFORM, FL_ENFORCES];

pub(crate) const RDF_TYPE: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type";
pub(crate) const XSD: &str = "http://www.w3.org/2001/XMLSchema#";

pub(crate) const DCAT_DATASET: &str = "http://www.w3.org/ns/dcat#Dataset";
pub(crate) const DCAT_DISTRIBUTION: &str = "http://www.w3.org/ns/dcat#distribution";
pub(crate) const DCAT_DISTRIBUTION_CLASS: &str = "http://www.w3.org/ns/dcat#Distribution";
pub(crate) const DCAT_KEYWORD: &str = "http://www.w3.org/ns/dcat#keyword";
pub(crate) const DCAT_THEME: &str = "http://www.w3.org/ns/dcat#theme";
pub(crate) const DCAT_CONTACT_POINT: &str = "http://www.w3.org/ns/dcat#contactPoint";
pub(crate) const DCAT_MEDIA_TYPE: &str = "http://www.w3.org/ns/dcat#mediaType";
pub(crate) const DCAT_BYTE_SIZE: &str = "http://www.w3.org/ns/dcat#byteSize";

pub(crate) const DCT_IDENTIFIER: &str = "http://purl.org/dc/terms/identifier";
pub(crate) const DCT_TITLE: &str = "http://purl.org/dc/terms/title";
pub(crate) const DCT_DESCRIPTION: &str = "http://purl.org/dc/terms/description";
pub(crate) const DCT_PUBLISHER: &str = "http://purl.org/dc/terms/publisher";
pub(crate) const DCT_ACCESS_RIGHTS: &str = "http://purl.org/dc/terms/accessRights";
pub(crate) const DCT_MODIFIED: &str = "http://purl.org/dc/terms/modified";
pub(crate) const DCT_LICENSE: &str = "http://purl.org/dc/terms/license";
pub(crate) const DCT_RIGHTS: &str = "http://purl.org/dc/terms/rights";

/// What a dataset was made from: here the dataset that its publisher holds under an agreement and passes on.
pub(crate) const PROV_WAS_DERIVED_FROM: &str = "http://www.w3.org/ns/prov#wasDerivedFrom";

pub(crate) const ODRL_HAS_POLICY: &str = "http://www.w3.org/ns/odrl/2/hasPolicy";
pub(crate) const ODRL_OFFER: &str = "http://www.w3.org/ns/odrl/2/Offer";
pub(crate) const ODRL_ASSIGNER: &str = "http://www.w3.org/ns/odrl/2/assigner";
pub(crate) const ODRL_TARGET: &str = "http://www.w3.org/ns/odrl/2/target";

/// Properties of a policy whose values are names, never parts of the policy.
pub(crate) const ODRL_NAMES: &[&str] = &[
    RDF_TYPE,
    ODRL_ASSIGNER,
    "http://www.w3.org/ns/odrl/2/assignee",
    "http://www.w3.org/ns/odrl/2/profile",
    "http://www.w3.org/ns/odrl/2/rightOperand",
];

pub(crate) const SPDX_CHECKSUM: &str = "http://spdx.org/rdf/terms#checksum";
pub(crate) const SPDX_CHECKSUM_CLASS: &str = "http://spdx.org/rdf/terms#Checksum";
pub(crate) const SPDX_ALGORITHM: &str = "http://spdx.org/rdf/terms#algorithm";
pub(crate) const SPDX_CHECKSUM_VALUE: &str = "http://spdx.org/rdf/terms#checksumValue";
pub(crate) const SPDX_SHA256: &str = "http://spdx.org/rdf/terms#checksumAlgorithm_sha256";

pub(crate) const MEDIA_TYPES: &str = "https://www.iana.org/assignments/media-types/";
pub(crate) const ACCESS_RIGHTS: &str = "http://publications.europa.eu/resource/authority/access-right/";

/// A well-known namespace written short for people, e.g. `dct:title`; other IRIs stay as they are.
pub fn shorten(iri: &str) -> String {
    const PREFIXES: &[(&str, &str)] = &[
        ("http://purl.org/dc/terms/", "dct:"),
        ("http://www.w3.org/ns/dcat#", "dcat:"),
        ("http://www.w3.org/ns/odrl/2/", "odrl:"),
        ("http://spdx.org/rdf/terms#", "spdx:"),
        ("http://www.w3.org/1999/02/22-rdf-syntax-ns#", "rdf:"),
        ("http://www.w3.org/2001/XMLSchema#", "xsd:"),
        (FL, "fl:"),
    ];
    PREFIXES
        .iter()
        .find_map(|(namespace, prefix)| iri.strip_prefix(namespace).map(|name| format!("{prefix}{name}")))
        .unwrap_or_else(|| iri.to_owned())
}
