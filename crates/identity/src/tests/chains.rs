//! Which chains count: dates, authorities, names, purposes, revocation and the freshness of lists.

use control_plane::{Code, UnixMillis};

use super::*;
use crate::certificate::{
    MALFORMED_CERTIFICATE, MALFORMED_PARTICIPANT_URI, NO_PARTICIPANT_URI, TWO_PARTICIPANT_URIS,
    WRONG_KEY_USAGE,
};
use crate::trust::{
    CERTIFICATE_EXPIRED, CERTIFICATE_NOT_YET_VALID, CERTIFICATE_REVOKED, FOREIGN_REVOCATION_LIST,
    MALFORMED_REVOCATION_LIST, MALFORMED_TRUST_BUNDLE, NO_CERTIFICATE, OTHER_AUTHORITY,
    REVOCATION_GRACE_MILLIS, REVOCATION_LIST_MISSING, REVOCATION_LIST_STALE,
};
use crate::{CertificateDer, RevocationList, TrustBundle};

fn check(
    case: &str,
    trust: &TrustState,
    chain: &[CertificateDer<'_>],
    now: UnixMillis,
    expected: Result<&str, &'static Code>,
) {
    let found = trust.verify_chain(chain, now);
    let found = found.as_ref().map(|leaf| leaf.participant().as_str()).map_err(|refusal| refusal.code);
    assert_eq!(found, expected, "{case}");
}

#[test]
fn each_departure_has_its_own_refusal() {
    let world = World::new();
    let mint = |change: &dyn Fn(&mut Mint)| {
        let mut mint = Mint::good(HKU, NOW);
        change(&mut mint);
        world.authority.mint(&mint).unwrap().chain
    };
    let long = format!("https://campus.example/{}", "x".repeat(250));
    let cases: &[(&str, Vec<CertificateDer<'static>>, Result<&str, &'static Code>)] = &[
        ("good", mint(&|_| ()), Ok(HKU)),
        ("did", mint(&|m| m.uris = vec!["did:web:campus.example".to_owned()]), Ok("did:web:campus.example")),
        ("expired", mint(&|m| m.not_after = NOW.plus_millis(-HOUR)), Err(&CERTIFICATE_EXPIRED)),
        ("not yet", mint(&|m| m.not_before = NOW.plus_millis(HOUR)), Err(&CERTIFICATE_NOT_YET_VALID)),
        ("no URI", mint(&|m| m.uris.clear()), Err(&NO_PARTICIPANT_URI)),
        (
            "no names at all",
            mint(&|m| {
                m.uris.clear();
                m.names.clear();
            }),
            Err(&NO_PARTICIPANT_URI),
        ),
        ("two URIs", mint(&|m| m.uris.push(SZU.to_owned())), Err(&TWO_PARTICIPANT_URIS)),
        ("one URI twice", mint(&|m| m.uris.push(HKU.to_owned())), Err(&TWO_PARTICIPANT_URIS)),
        (
            "http",
            mint(&|m| m.uris = vec!["http://campus.example/".to_owned()]),
            Err(&MALFORMED_PARTICIPANT_URI),
        ),
        ("empty URI", mint(&|m| m.uris = vec![String::new()]), Err(&MALFORMED_PARTICIPANT_URI)),
        ("fragment", mint(&|m| m.uris = vec![format!("{HKU}#key")]), Err(&MALFORMED_PARTICIPANT_URI)),
        ("long", mint(&|m| m.uris = vec![long.clone()]), Err(&MALFORMED_PARTICIPANT_URI)),
        ("only server", mint(&|m| m.client = false), Err(&WRONG_KEY_USAGE)),
        ("only client", mint(&|m| m.server = false), Err(&WRONG_KEY_USAGE)),
        ("nothing", Vec::new(), Err(&NO_CERTIFICATE)),
        ("rubbish", vec![CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])], Err(&MALFORMED_CERTIFICATE)),
        ("leaf alone", mint(&|_| ())[..1].to_vec(), Err(&OTHER_AUTHORITY)),
        ("wrong order", mint(&|_| ()).into_iter().rev().collect(), Err(&OTHER_AUTHORITY)),
        ("an authority as leaf", vec![world.authority.issuing().clone()], Err(&OTHER_AUTHORITY)),
        ("too long", std::iter::repeat_n(mint(&|_| ())[0].clone(), 5).collect(), Err(&OTHER_AUTHORITY)),
    ];
    for (case, chain, expected) in cases {
        check(case, &world.trust, chain, NOW, *expected);
    }
}

#[test]
fn another_authority_does_not_count_even_under_our_authoritys_name() {
    let world = World::new();
    let foreign = MintingAuthority::new(AUTHORITY, NOW).unwrap();
    let minted = foreign.mint(&Mint::good(HKU, NOW)).unwrap();
    check("foreign", &world.trust, &minted.chain, NOW, Err(&OTHER_AUTHORITY));

    // The foreign leaf with our intermediate behind it: the names do not join.
    let mixed = [minted.chain[0].clone(), world.authority.issuing().clone()];
    check("mixed", &world.trust, &mixed, NOW, Err(&OTHER_AUTHORITY));

    // A good leaf with one signature bit changed: names join, the signature does not.
    let mut chain = world.member(HKU).chain;
    let mut der = chain[0].to_vec();
    *der.last_mut().unwrap() ^= 1;
    chain[0] = CertificateDer::from(der);
    check("changed bit", &world.trust, &chain, NOW, Err(&OTHER_AUTHORITY));
}

#[test]
fn revoked_certificates_and_intermediates() {
    let world = World::new();
    let (bad, good) = (world.member(HKU), world.member(SZU));
    let lists = world.authority.lists(2, NOW, NOW.plus_millis(DAY), &[&bad.chain[0]]).unwrap();
    let newer = world.trust.updated(&lists, None, NOW).unwrap();
    check("before", &world.trust, &bad.chain, NOW, Ok(HKU));
    check("after", &newer, &bad.chain, NOW, Err(&CERTIFICATE_REVOKED));
    check("another leaf", &newer, &good.chain, NOW, Ok(SZU));
    let leaf = crate::ParticipantCertificate::read(&bad.chain[0]).unwrap();
    assert_eq!(newer.revoked_at(&leaf), Some(NOW));
    assert_eq!(world.trust.revoked_at(&leaf), None);

    let root_list = world.authority.root_list_revoking_issuing(3, NOW, NOW.plus_millis(DAY)).unwrap();
    let without_intermediate = newer.updated(&[root_list], None, NOW).unwrap();
    check("intermediate", &without_intermediate, &good.chain, NOW, Err(&CERTIFICATE_REVOKED));
}

#[test]
fn a_list_for_every_issuer_fresh_within_the_grace() {
    let world = World::new();
    let chain = world.member(HKU).chain;
    let empty =
        TrustState::new(world.authority.bundle().unwrap(), std::slice::from_ref(world.authority.issuing()));
    check("no list at all", &empty, &chain, NOW, Err(&REVOCATION_LIST_MISSING));
    let lists = world.authority.lists(1, NOW.plus_millis(-HOUR), NOW.plus_millis(DAY), &[]).unwrap();
    for (case, list) in [("only the root's", &lists[0]), ("only the intermediate's", &lists[1])] {
        let half = empty.updated(std::slice::from_ref(list), None, NOW).unwrap();
        check(case, &half, &chain, NOW, Err(&REVOCATION_LIST_MISSING));
    }

    let next_update = NOW.plus_millis(DAY);
    let last = next_update.plus_millis(REVOCATION_GRACE_MILLIS);
    check("at next update", &world.trust, &chain, next_update, Ok(HKU));
    check("in the grace", &world.trust, &chain, last, Ok(HKU));
    check("after the grace", &world.trust, &chain, last.plus_millis(1), Err(&REVOCATION_LIST_STALE));
    let strict = world.trust.clone().with_grace(0);
    check("without grace", &strict, &chain, next_update.plus_millis(1), Err(&REVOCATION_LIST_STALE));
}

#[test]
fn lists_are_admitted_by_signature_and_number() {
    let world = World::new();
    let revoked = world.member(HKU);
    let newer = world.authority.lists(5, NOW, NOW.plus_millis(DAY), &[&revoked.chain[0]]).unwrap();
    let state = world.trust.updated(&newer, None, NOW).unwrap();
    assert_eq!(state.newest_list_number(), 5);

    // An older list never brings a revoked certificate back.
    let older = world.authority.lists(4, NOW, NOW.plus_millis(DAY), &[]).unwrap();
    let state = state.updated(&older, None, NOW).unwrap();
    assert_eq!(state.newest_list_number(), 5);
    check("older list", &state, &revoked.chain, NOW, Err(&CERTIFICATE_REVOKED));

    let refusal = |lists: &[Vec<u8>]| state.updated(lists, None, NOW).unwrap_err().code;
    let foreign = MintingAuthority::new(AUTHORITY, NOW).unwrap();
    assert_eq!(refusal(&foreign.lists(9, NOW, NOW.plus_millis(DAY), &[]).unwrap()), &FOREIGN_REVOCATION_LIST);
    let mut forged = world.authority.lists(9, NOW, NOW.plus_millis(DAY), &[]).unwrap().remove(1);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refusal(&[forged]), &FOREIGN_REVOCATION_LIST);
    assert_eq!(refusal(&[b"rubbish".to_vec()]), &MALFORMED_REVOCATION_LIST);
    let future = world.authority.lists(9, NOW.plus_millis(HOUR), NOW.plus_millis(DAY), &[]).unwrap();
    assert_eq!(refusal(&future), &MALFORMED_REVOCATION_LIST);

    let read = RevocationList::read(&newer[1]).unwrap();
    assert_eq!((read.number(), read.this_update(), read.next_update()), (5, NOW, NOW.plus_millis(DAY)));
}

#[test]
fn roots_of_one_data_space() {
    let one = MintingAuthority::new(AUTHORITY, NOW).unwrap();
    let successor = MintingAuthority::new(AUTHORITY, NOW).unwrap();
    let foreign = MintingAuthority::new("https://other.example/id/authority", NOW).unwrap();
    let root = |authority: &MintingAuthority| authority.bundle().unwrap().roots().next().unwrap().clone();

    let both = TrustBundle::from_der(&[root(&one), root(&successor)]).unwrap();
    assert_eq!(both.authority().as_str(), AUTHORITY);
    assert_eq!(TrustBundle::from_pem(&both.to_pem()).unwrap(), both);

    let refused: &[(&str, Vec<CertificateDer<'static>>)] = &[
        ("two data spaces", vec![root(&one), root(&foreign)]),
        ("none", Vec::new()),
        ("an intermediate", vec![one.issuing().clone()]),
        ("a leaf", vec![one.mint(&Mint::good(HKU, NOW)).unwrap().chain[0].clone()]),
    ];
    for (case, roots) in refused {
        assert_eq!(TrustBundle::from_der(roots).unwrap_err().code, &MALFORMED_TRUST_BUNDLE, "{case}");
    }
    assert_eq!(TrustBundle::from_pem("no PEM here").unwrap_err().code, &MALFORMED_TRUST_BUNDLE);

    let end = NOW.plus_millis(3650 * DAY + HOUR);
    let mut mint = Mint::good(HKU, NOW);
    mint.not_after = end.plus_millis(DAY);
    let chain = one.mint(&mint).unwrap().chain;
    check("after the root's end", &trust(&one, 1, &[]), &chain, end, Err(&CERTIFICATE_EXPIRED));
}
