//! Which statements make a peer a participant, and until when.

use control_plane::Code;

use super::*;
use crate::jws::Typ;
use crate::participant::{
    KnownSequences, STATEMENT_EXPIRED, STATEMENT_FORGED, STATEMENT_MISSING, STATEMENT_NOT_YET_VALID,
    STATEMENT_OF_SOMEBODY_ELSE, STATEMENT_SUPERSEDED, STATEMENT_THUMBPRINT_MISMATCH,
};
use crate::statement::STATEMENT_MALFORMED;
use crate::trust::{CERTIFICATE_REVOKED, REVOCATION_GRACE_MILLIS};
use crate::{RememberedCertificates, Signer, verify_participant};

#[test]
fn each_departure_has_its_own_refusal() {
    let world = World::new();
    let hku = world.member(HKU);
    let good = world.statement(HKU, &hku);
    let signed = |change: &dyn Fn(&mut Statement)| {
        let mut statement = good.clone();
        change(&mut statement);
        statement.sign(world.authority.signer()).unwrap()
    };
    let by = |signer: &Signer| good.sign(signer).unwrap();
    let foreign = MintingAuthority::new(AUTHORITY, NOW).unwrap();
    let member = world.member(SZU);
    let member_signer = Signer::new(Arc::new(member.key), member.chain).unwrap();
    let impostor = world.authority.mint(&Mint::good(AUTHORITY, NOW)).unwrap();
    let impostor_signer = Signer::new(Arc::new(impostor.key), impostor.chain).unwrap();
    let mut expired_own = Mint::good(AUTHORITY, NOW);
    expired_own.not_after = NOW.plus_millis(-MINUTE);
    let expired_own = world.authority.mint(&expired_own).unwrap();
    let expired_signer = Signer::new(Arc::new(expired_own.key), expired_own.chain).unwrap();
    let payload = good.to_payload().unwrap();
    let text = String::from_utf8(payload.clone()).unwrap();
    let raw =
        |payload: &str| world.authority.signer().sign(Typ::Statement, payload.as_bytes(), NOW, None).unwrap();
    let extended = text.replacen("{\"addresses\"", "{\"aUnknown\":1,\"addresses\"", 1);

    let cases: &[(&str, String, Option<&'static Code>)] = &[
        ("good", signed(&|_| ()), None),
        ("renewed certificate of the authority", by(&impostor_signer), None),
        ("missing", String::new(), Some(&STATEMENT_MISSING)),
        ("rubbish", "a.b.c".to_owned(), Some(&STATEMENT_FORGED)),
        ("foreign authority", by(foreign.signer()), Some(&STATEMENT_FORGED)),
        ("signed by a member", by(&member_signer), Some(&STATEMENT_FORGED)),
        ("signed with an expired certificate", by(&expired_signer), Some(&STATEMENT_FORGED)),
        (
            "signed as something else",
            world.authority.signer().sign(Typ::Sequences, &payload, NOW, None).unwrap(),
            Some(&STATEMENT_FORGED),
        ),
        ("of somebody else", signed(&|s| s.participant = id(SZU)), Some(&STATEMENT_OF_SOMEBODY_ELSE)),
        ("expired", signed(&|s| s.expires = NOW), Some(&STATEMENT_EXPIRED)),
        ("from the future", signed(&|s| s.issued = NOW.plus_millis(HOUR)), Some(&STATEMENT_FORGED)),
        (
            "thumbprint",
            signed(&|s| s.certificates = vec![Digest::of(b"x")]),
            Some(&STATEMENT_THUMBPRINT_MISMATCH),
        ),
        ("unknown member", raw(&extended), Some(&STATEMENT_MALFORMED)),
        ("other version", raw(&text.replace("\"version\":1", "\"version\":2")), Some(&STATEMENT_MALFORMED)),
        ("no thumbprint", signed(&|s| s.certificates.clear()), Some(&STATEMENT_MALFORMED)),
    ];
    for (case, statement, expected) in cases {
        let found = verify_participant(&hku.chain, statement, &trust(&world.authority, 1, &[]), NOW);
        assert_eq!(found.as_ref().err().map(|refusal| refusal.code), *expected, "{case}: {found:?}");
    }

    // Issued in the future by its own word, though signed now.
    let mut future = good.clone();
    future.issued = NOW.plus_millis(HOUR);
    let future = raw(&String::from_utf8(future.to_payload().unwrap()).unwrap());
    let refusal = verify_participant(&hku.chain, &future, &world.trust, NOW).unwrap_err();
    assert_eq!(refusal.code, &STATEMENT_NOT_YET_VALID);
}

#[test]
fn sequences_only_grow() {
    let world = World::new();
    let hku = world.member(HKU);
    let jws = |sequence| {
        let mut statement = world.statement(HKU, &hku);
        statement.sequence = sequence;
        statement.sign(world.authority.signer()).unwrap()
    };
    let check = |trust: &TrustState, sequence, expected: Option<&'static Code>| {
        let found = verify_participant(&hku.chain, &jws(sequence), trust, NOW);
        assert_eq!(found.err().map(|refusal| refusal.code), expected, "sequence {sequence}");
    };
    check(&world.trust, 7, None);
    check(&world.trust, 9, None);
    check(&world.trust, 8, Some(&STATEMENT_SUPERSEDED));
    check(&world.trust, 9, None);

    // Kept over a restart.
    let known = Arc::new(KnownSequences::load(world.trust.known_sequences().snapshot()));
    let restarted = trust(&world.authority, 1, &[]).with_known_sequences(known);
    check(&restarted, 8, Some(&STATEMENT_SUPERSEDED));

    // The authority demotes at once; an older list of minimums does not undo it.
    let demoted = world.trust.updated(&[], Some(&minimums(&world.authority, 2, &[(HKU, 10)])), NOW).unwrap();
    check(&demoted, 9, Some(&STATEMENT_SUPERSEDED));
    let replayed = demoted.updated(&[], Some(&minimums(&world.authority, 1, &[])), NOW).unwrap();
    check(&replayed, 9, Some(&STATEMENT_SUPERSEDED));
    assert_eq!(replayed.minimum_sequences(), demoted.minimum_sequences());

    let foreign = MintingAuthority::new(AUTHORITY, NOW).unwrap();
    assert!(demoted.updated(&[], Some(&minimums(&foreign, 3, &[])), NOW).is_err(), "forged minimums");
}

#[test]
fn the_verdict_ends_with_the_shortest() {
    let world = World::new();
    let lists_end = NOW.plus_millis(DAY + REVOCATION_GRACE_MILLIS);
    let check = |certificate_hours: i64, statement_hours: i64, expected: UnixMillis| {
        let mut mint = Mint::good(HKU, NOW);
        mint.not_after = NOW.plus_millis(certificate_hours * HOUR);
        let minted = world.authority.mint(&mint).unwrap();
        let mut statement = world.statement(HKU, &minted);
        statement.expires = NOW.plus_millis(statement_hours * HOUR);
        let jws = statement.sign(world.authority.signer()).unwrap();
        let peer = verify_participant(&minted.chain, &jws, &world.trust, NOW).unwrap();
        assert_eq!(peer.valid_until(), expected);
        assert_eq!((peer.id().as_str(), peer.statement()), (HKU, &statement));
        assert_eq!(peer.thumbprint(), Digest::of(&minted.chain[0]));
    };
    check(1, 2, NOW.plus_millis(HOUR));
    check(2, 1, NOW.plus_millis(HOUR));
    check(100, 100, lists_end);
}

#[test]
fn an_open_connection_is_judged_anew() {
    let world = World::new();
    let hku = world.member(HKU);
    let jws = world.statement(HKU, &hku).sign(world.authority.signer()).unwrap();
    let peer = verify_participant(&hku.chain, &jws, &world.trust, NOW).unwrap();
    assert_eq!(peer.recheck(&world.trust, NOW).unwrap(), peer);

    let remembered = RememberedCertificates::default();
    remembered.remember(&peer);
    let revoking = trust(&world.authority, 2, &[&hku.chain[0]]);
    assert_eq!(peer.recheck(&revoking, NOW).unwrap_err().code, &CERTIFICATE_REVOKED);
    let late = NOW.plus_millis(8 * DAY);
    let fresh = world.authority.lists(3, late, late.plus_millis(DAY), &[]).unwrap();
    let later = world.trust.updated(&fresh, None, late).unwrap();
    assert_eq!(peer.recheck(&later, late).unwrap_err().code, &STATEMENT_EXPIRED);
}
