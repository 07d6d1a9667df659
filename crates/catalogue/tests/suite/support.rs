//! A data space in values: publishers with keys, descriptions on order, a reader of plain offers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catalogue::description::{OfferProblem, OfferReader, Publication, read_turtle};
use catalogue::envelope::{EnvelopeSigner, EnvelopeVerifier, JWS_TYPE, VerifiedSignature, WRONG_SIGNER};
use catalogue::hash::Digest;
use catalogue::log::{self, Admission, Admitted, LogError};
use catalogue::memory::MemoryLog;
use catalogue::scope::{PublisherScope, SubjectBase};
use catalogue::{Refusal, UnixMillis};
use control_plane::ids::{DatasetId, ParticipantId};
use oxrdf::{NamedNode, Term, Triple};
use serde_json::{Value, json};

pub const TIDE: &str = include_str!("../fixtures/harbour-tide.ttl");
pub const WATER: &str = include_str!("../fixtures/estuary-water.ttl");
pub const MANY_PROBLEMS: &str = include_str!("../fixtures/many-problems.ttl");

pub const DAY: i64 = 24 * 60 * 60 * 1000;

/// 2026-11-25T08:00:00Z.
pub const NOW: UnixMillis = UnixMillis(1_795_593_600_000);

pub fn scope(participant: &str, base: &str) -> PublisherScope {
    PublisherScope {
        participant: ParticipantId::parse(participant).unwrap(),
        subject_base: SubjectBase::parse(base).unwrap(),
    }
}

pub fn harbour() -> PublisherScope {
    scope("https://harbour.example/id/connector", "https://harbour.example/id/")
}

pub fn estuary() -> PublisherScope {
    scope("https://estuary.example/connector", "https://estuary.example/data/")
}

/// A publisher whose "signature" is a keyed hash: the catalogue sees keys through two traits only.
#[derive(Clone, Debug)]
pub struct Publisher {
    pub scope: PublisherScope,
    pub key: &'static str,
    pub certificate_not_before: UnixMillis,
}

impl Publisher {
    pub fn new(scope: PublisherScope) -> Self {
        Self { scope, key: "first key", certificate_not_before: NOW.plus_millis(-DAY) }
    }

    pub fn renewed(self) -> Self {
        Self { key: "second key", certificate_not_before: NOW.plus_millis(-DAY / 2), ..self }
    }

    fn mac(&self, signed: &str) -> String {
        Digest::of(format!("{} {} {signed}", self.key, self.scope.participant).as_bytes()).to_string()
    }
}

impl EnvelopeSigner for Publisher {
    fn sign(
        &self,
        typ: &str,
        payload: &[u8],
        _issued: UnixMillis,
    ) -> Result<(String, Vec<Vec<u8>>), Refusal> {
        let protected = URL_SAFE_NO_PAD.encode(json!({ "typ": typ, "alg": "ES256" }).to_string());
        let signed = format!("{protected}.{}", URL_SAFE_NO_PAD.encode(payload));
        let mac = self.mac(&signed);
        Ok((format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac)), vec![self.key.as_bytes().to_vec()]))
    }
}

/// Knows the publishers of a data space.
pub struct Members(pub Vec<Publisher>);

impl EnvelopeVerifier for Members {
    fn verify(&self, jws: &str, certificates: &[Vec<u8>]) -> Result<VerifiedSignature, Refusal> {
        let refuse = |what: &str| Refusal::new(&WRONG_SIGNER, what);
        let (signed, signature) = jws.rsplit_once('.').ok_or_else(|| refuse("form"))?;
        let (protected, payload) = signed.split_once('.').ok_or_else(|| refuse("form"))?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse("form"));
        let protected: Value = serde_json::from_slice(&decode(protected)?).map_err(|_| refuse("form"))?;
        if protected["typ"] != JWS_TYPE {
            return Err(refuse("typ"));
        }
        let key = certificates.first().ok_or_else(|| refuse("certificate"))?;
        let signature = decode(signature)?;
        let fits =
            |member: &&Publisher| member.key.as_bytes() == key && member.mac(signed).as_bytes() == signature;
        let member = self.0.iter().find(fits).ok_or_else(|| refuse("signature"))?;
        Ok(VerifiedSignature {
            payload: decode(payload)?,
            signer: member.scope.participant.clone(),
            subject_base: member.scope.subject_base.clone(),
            certificate_not_before: member.certificate_not_before,
            certificate_not_after: member.certificate_not_before.plus_millis(90 * DAY),
        })
    }
}

/// Reads the offers of these tests: permissions with one action and atomic constraints.
pub struct PlainOffers;

impl OfferReader for PlainOffers {
    fn canonical_text(
        &self,
        offer: &NamedNode,
        dataset: &NamedNode,
        triples: &[Triple],
    ) -> Result<String, Vec<OfferProblem>> {
        const ODRL: &str = "http://www.w3.org/ns/odrl/2/";
        let values = |subject: &str, name: &str| -> Vec<Term> {
            let wanted = format!("{ODRL}{name}");
            let of = |triple: &&Triple| {
                triple.subject.to_string() == format!("<{subject}>") && triple.predicate.as_str() == wanted
            };
            triples.iter().filter(of).map(|triple| triple.object.clone()).collect()
        };
        let iris = |subject: &str, name: &str| -> Vec<String> {
            let iri = |term| match term {
                Term::NamedNode(node) => Some(node.into_string()),
                _ => None,
            };
            values(subject, name).into_iter().filter_map(iri).collect()
        };
        let local = |iri: &str| iri.trim_start_matches(ODRL).to_owned();
        let one = |subject: &str, name: &str| iris(subject, name).into_iter().next().map(|iri| local(&iri));
        let constraint = |node: &String| -> Option<Value> {
            let right = match values(node, "rightOperand").into_iter().next()? {
                Term::Literal(literal) => {
                    json!({ "@value": literal.value(), "@type": literal.datatype().as_str() })
                }
                term => json!(term.to_string().trim_matches(['<', '>'])),
            };
            Some(json!({
                "leftOperand": one(node, "leftOperand")?, "operator": one(node, "operator")?, "rightOperand": right,
            }))
        };
        let permission = |node: &String| -> Option<Value> {
            let constraints: Option<Vec<Value>> = iris(node, "constraint").iter().map(constraint).collect();
            Some(json!({ "action": one(node, "action")?, "constraint": constraints? }))
        };
        let permissions: Option<Vec<Value>> =
            iris(offer.as_str(), "permission").iter().map(permission).collect();
        let Some(permissions) = permissions else {
            let refusal = Refusal::new(&catalogue::report::BAD_VALUE, "a rule that these tests do not read");
            return Err(vec![OfferProblem { path: String::new(), refusal }]);
        };
        let assigner = iris(offer.as_str(), "assigner");
        let text = json!({
            "@id": offer.as_str(), "@type": "Offer", "assigner": assigner.first(), "target": dataset.as_str(),
            "permission": permissions,
        });
        Ok(serde_jcs::to_string(&text).unwrap())
    }
}

pub fn published(turtle: &str, scope: &PublisherScope) -> Publication {
    read_turtle(turtle, scope, &PlainOffers, &BTreeMap::new()).unwrap_or_else(|report| panic!("{report}"))
}

/// A small description of the harbour's.
pub fn small(name: &str, title: &str, purpose: &str, modified: &str) -> String {
    format!(
        r#"@prefix dcat: <http://www.w3.org/ns/dcat#> . @prefix dct: <http://purl.org/dc/terms/> .
@prefix odrl: <http://www.w3.org/ns/odrl/2/> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
<{name}> a dcat:Dataset ; dct:identifier "{name}" ; dct:title {title} ; dct:description "About it."@en ;
  dcat:theme <http://publications.europa.eu/resource/authority/data-theme/ENVI> ; dct:publisher <connector> ;
  dct:accessRights <http://publications.europa.eu/resource/authority/access-right/PUBLIC> ;
  dct:modified "{modified}"^^xsd:dateTime ; dcat:distribution <{name}/csv> ; odrl:hasPolicy <{name}/offer> .
<{name}/csv> a dcat:Distribution .
<{name}/offer> a odrl:Offer ; odrl:assigner <connector> ; odrl:permission <{name}/offer/p> .
<{name}/offer/p> odrl:action odrl:use ; odrl:constraint <{name}/offer/c> .
<{name}/offer/c> odrl:leftOperand odrl:purpose ; odrl:operator odrl:isA ; odrl:rightOperand <{purpose}> ."#
    )
}

pub fn dataset(name: &str) -> DatasetId {
    DatasetId::parse(&format!("https://harbour.example/id/{name}")).unwrap()
}

/// Publishes and admits; the log must take it as new.
pub fn add(log: &mut MemoryLog, publisher: &Publisher, turtle: &str, issued: UnixMillis) -> Admitted {
    let publication = published(turtle, &publisher.scope);
    let envelope = log::publish(log, &publication, issued, 7 * DAY, publisher).unwrap();
    taken(log::admit(log, envelope, &Members(vec![publisher.clone()]), issued))
}

pub fn taken<E: std::error::Error>(admission: Result<Admission, LogError<E>>) -> Admitted {
    match admission {
        Ok(Admission::New(admitted)) => *admitted,
        other => panic!("not taken: {other:?}"),
    }
}

pub fn refused<T: std::fmt::Debug, E: std::error::Error>(result: Result<T, LogError<E>>) -> &'static str {
    match result {
        Err(LogError::Refused(refusal)) => refusal.code.code,
        other => panic!("not refused: {other:?}"),
    }
}
