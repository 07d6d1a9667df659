//! What must hold of the parsers for any bytes at all: they end, they do not fall over, and what they accept they
//! accept again in the form that they themselves write. The fuzz targets and a test on mutated seeds call these.

use std::collections::BTreeMap;

use catalogue::description::{read_canonical, read_turtle};
use catalogue::envelope::{Envelope, EnvelopeVerifier, Header, VerifiedSignature};
use catalogue::offers::PolicyOffers;
use catalogue::scope::{PublisherScope, SubjectBase};
use control_plane::ids::ParticipantId;
use control_plane::pids::Role;
use control_plane::{Refusal, UnixMillis};
use dsp::names::Names;
use dsp::{Canonical, Speaking};
use policy::{Facts, Lang, Policy, Profiles, Request, Stage};

/// The publisher of every seed.
pub const PUBLISHER: &str = "https://harbour.example/id/connector";
/// An instant at which the seeds are valid: 2026-11-25T00:00:00Z.
pub const NOW: UnixMillis = UnixMillis(1_795_564_800_000);

/// Reads the bytes as a policy, in JSON and in Turtle.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let profiles = Profiles::shipped();
    for read in [
        Policy::from_json(text, &profiles),
        Policy::from_turtle(text, "https://harbour.example/id/", &profiles),
    ] {
        let policy = match read {
            Ok(policy) => policy,
            Err(problems) => {
                assert!(!problems.list().is_empty(), "a policy is refused for a reason");
                continue;
            }
        };
        let again = Policy::from_json(policy.canonical_text(), &profiles).expect("the canonical text reads");
        assert_eq!(again.canonical_text(), policy.canonical_text(), "the canonical text is canonical");
        assert_eq!(again.hash(), policy.hash());
        assert!(again.terms_equal(&policy) && policy.terms_equal(&again));
        for language in [Lang::En, Lang::ZhHant, Lang::ZhHans] {
            assert!(policy.render(language).iter().all(|clause| !clause.text.is_empty()));
        }
        for stage in [Stage::Catalogue, Stage::Negotiation, Stage::Transfer, Stage::Use] {
            let request = Request {
                action: "http://www.w3.org/ns/odrl/2/read",
                target: policy.target().unwrap_or("https://harbour.example/id/tide"),
                assignee: "https://reader.example/id",
                stage,
            };
            let decision = policy.decide(&request, &Facts::at(NOW));
            assert_eq!(
                decision.is_permit(),
                decision.refusal().is_none(),
                "a no has a reason, a yes has none"
            );
        }
    }
}

/// Reads the bytes as a self-description in Turtle, and as the canonical content of an envelope.
pub fn self_description(bytes: &[u8]) {
    let scope = scope();
    let dataset = control_plane::ids::DatasetId::parse("https://harbour.example/id/tide").expect("a dataset");
    if let Ok(described) = read_canonical(bytes, &dataset, &scope) {
        assert_eq!(described.dataset, dataset);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let offers = PolicyOffers::new(Profiles::shipped());
    match read_turtle(text, &scope, &offers, &BTreeMap::new()) {
        Ok(publication) => {
            let dataset = &publication.description.dataset;
            let again =
                read_canonical(&publication.content, dataset, &scope).expect("what is published reads");
            assert_eq!(again, publication.description);
            assert!(scope.may_describe(dataset.as_str()));
        }
        Err(report) => assert!(report.has_violation(), "a description is refused for a reason"),
    }
}

/// Reads the bytes up to the first empty line as the header of an envelope, the rest as its content.
pub fn envelope(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (header, content) = (&bytes[..end], bytes.get(end + 2..).unwrap_or_default());
    if let Ok(read) = Header::from_json(header) {
        assert_eq!(read.to_json().as_bytes(), header, "one header has one text");
    }
    let envelope = Envelope { header: String::new(), content: content.to_vec(), certificates: Vec::new() };
    if let Ok(checked) = catalogue::log::check(envelope, &Trusting(header), NOW) {
        assert_eq!(checked.header().publisher.as_str(), PUBLISHER);
    }
}

/// Reads the bytes as every document of the Dataspace Protocol, in both roles, with peers that speak our profile and
/// that do not; what is understood is written by the other side, keeps to the schemas and is understood alike. Gives how
/// often something was understood.
pub fn protocol(bytes: &[u8]) -> usize {
    let Ok(value) = dsp::parse(bytes) else { return 0 };
    assert!(value.is_object());
    dsp::parse(value.to_string().as_bytes()).expect("what was read reads again");
    let engine = Engine(Profiles::shipped());
    let mut understood = 0;
    for (role, profile) in [Role::Provider, Role::Consumer].into_iter().flat_map(|r| [(r, false), (r, true)])
    {
        let (ours, theirs) = (names("harbour", "reader", profile), names("reader", "harbour", profile));
        let (heard, told) =
            (Speaking { names: &ours, role }, Speaking { names: &theirs, role: role.other() });
        for kind in dsp::transfer::Kind::ALL {
            let Ok(message) = dsp::transfer::read(kind, &value, heard) else { continue };
            let body = dsp::transfer::write(&message, told).body;
            dsp::conform::check(&body).expect("what is written keeps to the schemas");
            let again = dsp::transfer::read(kind, &body, heard).expect("what is written reads");
            assert_eq!((again.id(), again.kind()), (message.id(), message.kind()));
            understood += 1;
        }
        for kind in dsp::negotiation::Kind::ALL {
            let Ok(message) = dsp::negotiation::read(kind, &value, heard, &engine) else { continue };
            understood += 1;
            // A peer without our profile may say more in a policy than it can be told.
            let Ok(post) = dsp::negotiation::write(&message, told) else { continue };
            dsp::conform::check(&post.body).expect("what is written keeps to the schemas");
            let again = dsp::negotiation::read(kind, &post.body, heard, &engine);
            assert_eq!(again.expect("what is written reads"), message);
        }
        let Ok((entries, _)) = dsp::catalogue::read_catalog(&value, heard, &engine) else { continue };
        let endpoint = "https://harbour.example/dsp/2025-1".to_owned();
        let service = dsp::catalogue::Service { id: endpoint.clone(), endpoint };
        for entry in entries {
            let Ok(dataset) = dsp::catalogue::write_dataset(&entry, &service, told) else { continue };
            let again = dsp::catalogue::read_dataset(&dataset, heard, &engine);
            assert_eq!(again.expect("what is written reads").dataset, entry.dataset);
            understood += 1;
        }
    }
    understood
}

/// What `us` and `peer` call things.
fn names(us: &str, peer: &str, profile: bool) -> Names {
    let id = |name: &str| ParticipantId::parse(&format!("https://{name}.example/id")).expect("a participant");
    Names {
        us: id(us),
        peer: id(peer),
        peer_name: None,
        our_base: Some(format!("https://{us}.example/id/")),
        profile,
    }
}

/// The policy engine as the protocol asks it.
struct Engine(Profiles);

impl Canonical for Engine {
    fn canonical(&self, policy: &str) -> Result<String, Refusal> {
        let policy = Policy::from_json(policy, &self.0).map_err(|problems| problems.first())?;
        Ok(policy.canonical_text().to_owned())
    }
}

/// Who published, and what they may describe.
fn scope() -> PublisherScope {
    PublisherScope {
        participant: ParticipantId::parse(PUBLISHER).expect("a participant"),
        subject_base: SubjectBase::parse("https://harbour.example/id/").expect("a subject base"),
    }
}

/// Says that the publisher signed these bytes: signatures are not what is tried here.
struct Trusting<'a>(&'a [u8]);

impl EnvelopeVerifier for Trusting<'_> {
    fn verify(&self, _: &str, _: &[Vec<u8>]) -> Result<VerifiedSignature, Refusal> {
        let PublisherScope { participant, subject_base } = scope();
        Ok(VerifiedSignature {
            payload: self.0.to_vec(),
            signer: participant,
            subject_base,
            certificate_not_before: UnixMillis(0),
            certificate_not_after: UnixMillis(i64::MAX),
        })
    }
}
