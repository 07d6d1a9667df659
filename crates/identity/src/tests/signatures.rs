//! Signed objects: who, what for, when, and that no byte may change.

use control_plane::Code;
use proptest::prelude::*;

use super::*;
use crate::jws::{
    self, KnownCertificate, MALFORMED_JWS, NOT_CANONICAL, OBJECT_TOO_LARGE, SIGNATURE_INVALID,
    SIGNED_IN_FUTURE, SIGNER_NOT_VALID_THEN, SIGNER_OTHER, SIGNER_REVOKED, SIGNER_UNKNOWN,
    TOO_MANY_SIGNATURES, WRONG_ALGORITHM, WRONG_TYP,
};
use crate::{
    CertificateResolver, ParticipantCertificate, RememberedCertificates, Signer, Typ, digest,
    verify_participant,
};

const PAYLOAD: &[u8] =
    br#"{"@type":"Agreement","permission":[{"action":"use"}],"target":"https://data.example/hku/tide"}"#;

struct Parties {
    world: World,
    hku: Signer,
    szu: Signer,
    known: RememberedCertificates,
}

impl Parties {
    fn new() -> Self {
        let world = World::new();
        let known = RememberedCertificates::default();
        let signer = |uri| {
            let minted = world.member(uri);
            let statement = world.statement(uri, &minted).sign(world.authority.signer()).unwrap();
            known.remember(&verify_participant(&minted.chain, &statement, &world.trust, NOW).unwrap());
            Signer::new(Arc::new(minted.key), minted.chain).unwrap()
        };
        let (hku, szu) = (signer(HKU), signer(SZU));
        Self { hku, szu, known, world }
    }
}

fn refusal(result: Result<jws::Verified, control_plane::Refusal>) -> Option<&'static Code> {
    result.err().map(|refusal| refusal.code)
}

#[test]
fn signed_and_verified() {
    let parties = Parties::new();
    let annex = Digest::of(b"verdict");
    for typ in [Typ::Agreement, Typ::Envelope, Typ::Grant, Typ::Receipt, Typ::Notice] {
        let compact = parties.hku.sign(typ, PAYLOAD, NOW, Some(annex)).unwrap();
        let verified = jws::verify(&compact, typ, &parties.known, NOW).unwrap();
        assert_eq!(verified.payload(), PAYLOAD);
        assert_eq!((verified.signer(), verified.annex()), (&id(HKU), Some(annex)));
        assert_eq!((verified.thumbprint(), verified.iat()), (parties.hku.thumbprint(), NOW));
        for other in Typ::ALL.into_iter().filter(|other| *other != typ) {
            assert_eq!(
                refusal(jws::verify(&compact, other, &parties.known, NOW)),
                Some(&WRONG_TYP),
                "{typ:?} {other:?}"
            );
        }
    }
}

#[test]
fn the_certificate_must_have_counted_when_the_object_was_recorded() {
    let parties = Parties::new();
    let compact = parties.hku.sign(Typ::Notice, PAYLOAD, NOW, None).unwrap();
    let check = |at, expected| {
        assert_eq!(refusal(jws::verify(&compact, Typ::Notice, &parties.known, at)), expected, "at {at}");
    };
    check(NOW, None);
    check(NOW.plus_millis(29 * DAY), None);
    check(NOW.plus_millis(31 * DAY), Some(&SIGNER_NOT_VALID_THEN));
    check(NOW.plus_millis(-4 * MINUTE), None);
    check(NOW.plus_millis(-6 * MINUTE), Some(&SIGNED_IN_FUTURE));
    check(NOW.plus_millis(-2 * DAY), Some(&SIGNER_NOT_VALID_THEN));

    // What our log had before the revocation still counts; what arrives after does not.
    parties.known.revoke(&id(HKU), parties.hku.thumbprint(), NOW.plus_millis(HOUR));
    check(NOW, None);
    check(NOW.plus_millis(HOUR), Some(&SIGNER_REVOKED));
}

#[test]
fn lists_reach_the_remembered_certificates() {
    let parties = Parties::new();
    let compact = parties.szu.sign(Typ::Receipt, PAYLOAD, NOW, None).unwrap();
    let leaf = parties.known.certificate(&id(SZU), parties.szu.thumbprint()).unwrap().unwrap().certificate;
    parties.known.apply(&trust(&parties.world.authority, 2, &[leaf.der()]));
    assert_eq!(refusal(jws::verify(&compact, Typ::Receipt, &parties.known, NOW)), Some(&SIGNER_REVOKED));
}

#[test]
fn only_known_certificates_of_the_signer() {
    let parties = Parties::new();
    let stranger = parties.world.member("https://campus.example/id/um");
    let stranger = Signer::new(Arc::new(stranger.key), stranger.chain).unwrap();
    let compact = stranger.sign(Typ::Notice, PAYLOAD, NOW, None).unwrap();
    assert_eq!(refusal(jws::verify(&compact, Typ::Notice, &parties.known, NOW)), Some(&SIGNER_UNKNOWN));

    /// Hands out one certificate whatever is asked for.
    struct Careless(ParticipantCertificate);
    impl CertificateResolver for Careless {
        fn certificate(
            &self,
            _participant: &ParticipantId,
            _thumbprint: Digest,
        ) -> Result<Option<KnownCertificate>, control_plane::Refusal> {
            Ok(Some(KnownCertificate { certificate: self.0.clone(), revoked_at: None }))
        }
    }
    let other = parties.known.certificate(&id(SZU), parties.szu.thumbprint()).unwrap().unwrap().certificate;
    assert_eq!(refusal(jws::verify(&compact, Typ::Notice, &Careless(other), NOW)), Some(&SIGNER_OTHER));
}

#[test]
fn headers_are_strict() {
    let parties = Parties::new();
    let compact = parties.hku.sign(Typ::Notice, PAYLOAD, NOW, None).unwrap();
    let parts: Vec<&str> = compact.split('.').collect();
    let header = String::from_utf8(digest::decode_base64url(parts[0]).unwrap()).unwrap();
    let with =
        |header: &str| format!("{}.{}.{}", digest::encode_base64url(header.as_bytes()), parts[1], parts[2]);
    let cases: &[(&str, String, &'static Code)] = &[
        ("none", with(&header.replace("ES256", "none")), &WRONG_ALGORITHM),
        ("other algorithm", with(&header.replace("ES256", "HS256")), &WRONG_ALGORITHM),
        ("unknown member", with(&header.replace("\"alg\"", "\"aaa\":1,\"alg\"")), &MALFORMED_JWS),
        ("critical", with(&header.replace("\"iat\"", "\"crit\":[\"b64\"],\"iat\"")), &MALFORMED_JWS),
        ("member twice", with(&header.replace("{\"alg\"", "{\"alg\":\"ES256\",\"alg\"")), &MALFORMED_JWS),
        ("spaces", with(&header.replace("{\"alg\"", "{ \"alg\"")), &NOT_CANONICAL),
        ("x5c from a member", with(&header.replace("\"x5t#", "\"x5c\":[],\"x5t#")), &MALFORMED_JWS),
        ("other time", with(&header.replace("\"iat\":1795564800", "\"iat\":1795564801")), &SIGNATURE_INVALID),
        ("negative time", with(&header.replace("\"iat\":1795564800", "\"iat\":-1")), &MALFORMED_JWS),
        ("two parts", format!("{}.{}", parts[0], parts[1]), &MALFORMED_JWS),
        ("four parts", format!("{compact}.x"), &MALFORMED_JWS),
        ("empty", String::new(), &MALFORMED_JWS),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), &SIGNATURE_INVALID),
        ("huge", "a".repeat(jws::MAX_JWS_BYTES + 1), &OBJECT_TOO_LARGE),
        (
            "payload not canonical",
            format!("{}.{}.{}", parts[0], digest::encode_base64url(b"{ }"), parts[2]),
            &NOT_CANONICAL,
        ),
    ];
    for (case, jws, expected) in cases {
        assert_eq!(refusal(jws::verify(jws, Typ::Notice, &parties.known, NOW)), Some(*expected), "{case}");
    }
    for uncanonical in
        [&b"{\"b\":1,\"a\":2}"[..], b"{\"a\":1} ", b"{\"a\":1,\"a\":2}", b"not json", b"{\"a\":1.0}"]
    {
        assert!(parties.hku.sign(Typ::Notice, uncanonical, NOW, None).is_err());
    }
}

#[test]
fn no_byte_may_change() {
    let parties = Parties::new();
    let statement = {
        let minted = parties.world.member(HKU);
        parties.world.statement(HKU, &minted).sign(parties.world.authority.signer()).unwrap()
    };
    let notice = parties.hku.sign(Typ::Notice, PAYLOAD, NOW, Some(Digest::of(b"annex"))).unwrap();
    for at in 0..notice.len() {
        for with in [b'A', b'_', b'.', b'='] {
            let Some(changed) = changed(&notice, at, with) else { continue };
            assert!(jws::verify(&changed, Typ::Notice, &parties.known, NOW).is_err(), "byte {at} as {with}");
        }
        let mut cut = notice.clone();
        cut.remove(at);
        assert!(jws::verify(&cut, Typ::Notice, &parties.known, NOW).is_err(), "byte {at} cut out");
    }
    // The statement carries certificates, so it is longer: every seventh byte meets every part of it.
    for at in (0..statement.len()).step_by(7) {
        let Some(changed) = changed(&statement, at, b'Q') else { continue };
        assert!(parties.world.trust.verify_authority(&changed, Typ::Statement, NOW).is_err(), "byte {at}");
    }
}

fn changed(text: &str, at: usize, with: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    if bytes[at] == with {
        return None;
    }
    bytes[at] = with;
    String::from_utf8(bytes).ok()
}

#[test]
fn an_agreement_carries_the_signature_of_each_party() {
    let parties = Parties::new();
    let annex = Some(Digest::of(b"annex"));
    let by_hku = parties.hku.sign(Typ::Agreement, PAYLOAD, NOW, annex).unwrap();
    let by_szu = parties.szu.sign(Typ::Agreement, PAYLOAD, NOW, annex).unwrap();
    let document = jws::join(&[by_hku.clone(), by_szu.clone()]).unwrap();
    let verified = jws::verify_all(&document, Typ::Agreement, &parties.known, NOW).unwrap();
    let signers: Vec<_> = verified.iter().map(|one| one.signer().as_str()).collect();
    assert_eq!(signers, [HKU, SZU]);
    assert_eq!(jws::split(&document).unwrap(), [by_hku.clone(), by_szu.clone()]);

    let other = parties.szu.sign(Typ::Agreement, b"{}", NOW, annex).unwrap();
    assert_eq!(jws::join(&[by_hku.clone(), other]).unwrap_err().code, &SIGNATURE_INVALID);
    assert_eq!(jws::join(&[]).unwrap_err().code, &TOO_MANY_SIGNATURES);
    assert_eq!(jws::join(&vec![by_hku.clone(); 9]).unwrap_err().code, &TOO_MANY_SIGNATURES);
    let twice = jws::join(&[by_hku.clone(), by_hku]).unwrap();
    let refusal = jws::verify_all(&twice, Typ::Agreement, &parties.known, NOW).unwrap_err();
    assert_eq!(refusal.code, &TOO_MANY_SIGNATURES);
    let forged = document.replacen(":\"ey", ":\"eY", 1);
    assert!(jws::verify_all(&forged, Typ::Agreement, &parties.known, NOW).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_refused_without_panic(text in "[ -~]{0,200}(\\.[A-Za-z0-9_-]{0,80}){0,4}") {
        let known = RememberedCertificates::default();
        prop_assert!(jws::verify(&text, Typ::Notice, &known, NOW).is_err());
        prop_assert!(jws::verify_all(&text, Typ::Notice, &known, NOW).is_err());
        prop_assert!(crate::EnrolmentToken::decode(&text).is_err());
    }

    #[test]
    fn any_bytes_are_no_certificate_and_no_list(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(ParticipantCertificate::read(&bytes).is_err());
        prop_assert!(crate::RevocationList::read(&bytes).is_err());
    }
}

#[test]
fn a_stranger_with_the_roots_checks_an_export() {
    let parties = Parties::new();
    let compact = parties.hku.sign(Typ::Audit, PAYLOAD, NOW, None).unwrap();
    let bundle = parties.world.trust.bundle();
    let verified = bundle.verify_offline(&compact, Typ::Audit).unwrap();
    assert_eq!((verified.signer(), verified.payload()), (&id(HKU), PAYLOAD));
    assert_eq!(refusal(bundle.verify_offline(&compact, Typ::Bearer)), Some(&WRONG_TYP));
    let elsewhere = World::new();
    let foreign = refusal(elsewhere.trust.bundle().verify_offline(&compact, Typ::Audit)).unwrap();
    assert!(foreign.code.starts_with("identity/"), "{}", foreign.code);
    let mut parts: Vec<String> = compact.split('.').map(str::to_owned).collect();
    parts[1] = digest::encode_base64url(
        &String::from_utf8(PAYLOAD.to_vec()).unwrap().replace("tide", "wind").into_bytes(),
    );
    assert_eq!(refusal(bundle.verify_offline(&parts.join("."), Typ::Audit)), Some(&SIGNATURE_INVALID));
}
