//! Which bearer tokens say who calls, and on which connections.

use control_plane::Code;

use super::*;
use crate::bearer::{
    BEARER_EXPIRED, BEARER_FOR_ANOTHER, BEARER_MALFORMED, BEARER_OF_ANOTHER_CONNECTION, BEARER_SPENT,
    BEARER_TOO_LONG, Claims, MAX_LIFETIME_MILLIS, MAX_SPENT_PER_MEMBER, MAX_TOKEN_BYTES, Receiver,
    SpentTokens, TOO_MANY_BEARERS, issue, verify,
};
use crate::jws::{MALFORMED_JWS, SIGNATURE_INVALID, SIGNED_IN_FUTURE, WRONG_TYP};
use crate::participant::{STATEMENT_FORGED, STATEMENT_OF_SOMEBODY_ELSE};
use crate::trust::{CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED, OTHER_AUTHORITY};
use crate::{Signer, Typ, digest};

const ID: &str = "urn:uuid:0193f7a0-0000-7000-8000-000000000001";

/// A member that makes tokens.
struct Member {
    signer: Signer,
    leaf: crate::CertificateDer<'static>,
    statement: String,
}

impl Member {
    fn of(world: &World, authority: &MintingAuthority, mint: &Mint) -> Self {
        let minted = authority.mint(mint).unwrap();
        let statement = world.statement(&mint.uris[0], &minted).sign(authority.signer()).unwrap();
        let leaf = minted.chain[0].clone();
        Self { signer: Signer::new(Arc::new(minted.key), minted.chain).unwrap(), leaf, statement }
    }

    fn good(world: &World, uri: &str) -> Self {
        Self::of(world, &world.authority, &Mint::good(uri, NOW))
    }

    fn thumbprint(&self) -> Digest {
        self.signer.thumbprint()
    }

    fn token(&self, audience: &str, bound_to: Option<Digest>, now: UnixMillis) -> String {
        let audience = id(audience);
        let claims = Claims { statement: &self.statement, audience: &audience, bound_to, id: ID };
        issue(&self.signer, claims, now).unwrap()
    }

    /// Its good token with another payload, signed anew.
    fn altered(&self, from: &str, to: &str) -> String {
        let token = self.token(SZU, Some(self.thumbprint()), NOW);
        let payload = digest::decode_base64url(token.split('.').nth(1).unwrap()).unwrap();
        let altered = String::from_utf8(payload).unwrap().replacen(from, to, 1);
        assert!(altered.contains(to), "{to}");
        self.signer.sign(Typ::Bearer, altered.as_bytes(), NOW, None).unwrap()
    }
}

#[test]
fn each_departure_has_its_own_refusal() {
    let world = World::new();
    let hku = Member::good(&world, HKU);
    let renewed = Member::good(&world, HKU);
    let foreign = MintingAuthority::new(AUTHORITY, NOW).unwrap();
    let stranger = Member::of(&world, &foreign, &Mint::good(HKU, NOW));
    let mut past = Mint::good(HKU, NOW);
    past.not_after = NOW.plus_millis(-MINUTE);
    let expired = Member::of(&world, &world.authority, &past);
    let other = Member::good(&world, "https://campus.example/id/um");
    let revoked = trust(&world.authority, 2, &[&hku.leaf]);

    let (ours, theirs) = (Some(hku.thumbprint()), Some(other.thumbprint()));
    let good = hku.token(SZU, ours, NOW);
    let at = |millis: i64| hku.token(SZU, ours, NOW.plus_millis(millis));
    let borrowed = Member { statement: other.statement.clone(), ..Member::good(&world, HKU) };
    let unattested = Member { statement: "a.b.c".to_owned(), ..Member::good(&world, HKU) };
    let by = |member: &Member| member.token(SZU, ours, NOW);
    let mut parts: Vec<&str> = good.split('.').collect();
    let later = at(-1000);
    parts[1] = later.split('.').nth(1).unwrap();
    let mixed = parts.join(".");
    let exp = NOW.0 / 1000 + MAX_LIFETIME_MILLIS / 1000;
    let lives = |until: i64| hku.altered(&format!("\"exp\":{exp}"), &format!("\"exp\":{until}"));

    type Case<'a> = (&'a str, String, Option<Digest>, &'a TrustState, Option<&'static Code>);
    let cases: &[Case<'_>] = &[
        ("good", good.clone(), ours, &world.trust, None),
        ("without certificates", hku.token(SZU, None, NOW), None, &world.trust, None),
        ("another certificate of the signer's", by(&renewed), ours, &world.trust, None),
        ("just before its end", at(1000 - MAX_LIFETIME_MILLIS), ours, &world.trust, None),
        ("at its end", at(-MAX_LIFETIME_MILLIS), ours, &world.trust, Some(&BEARER_EXPIRED)),
        ("a clock ahead", at(4 * MINUTE), ours, &world.trust, None),
        ("from the future", at(6 * MINUTE), ours, &world.trust, Some(&SIGNED_IN_FUTURE)),
        ("for another", hku.token(HKU, ours, NOW), ours, &world.trust, Some(&BEARER_FOR_ANOTHER)),
        ("on another's connection", good.clone(), theirs, &world.trust, Some(&BEARER_OF_ANOTHER_CONNECTION)),
        ("without its certificate", good.clone(), None, &world.trust, Some(&BEARER_OF_ANOTHER_CONNECTION)),
        (
            "unbound beside a certificate",
            hku.token(SZU, None, NOW),
            ours,
            &world.trust,
            Some(&BEARER_OF_ANOTHER_CONNECTION),
        ),
        ("of a stranger", by(&stranger), ours, &world.trust, Some(&OTHER_AUTHORITY)),
        ("of an expired certificate", by(&expired), ours, &world.trust, Some(&CERTIFICATE_EXPIRED)),
        ("of a revoked certificate", good.clone(), ours, &revoked, Some(&CERTIFICATE_REVOKED)),
        ("another's statement", by(&borrowed), ours, &world.trust, Some(&STATEMENT_OF_SOMEBODY_ELSE)),
        ("no statement of the authority", by(&unattested), ours, &world.trust, Some(&STATEMENT_FORGED)),
        ("another payload", mixed, ours, &world.trust, Some(&SIGNATURE_INVALID)),
        ("a statement", hku.statement.clone(), ours, &world.trust, Some(&WRONG_TYP)),
        ("nothing", String::new(), ours, &world.trust, Some(&MALFORMED_JWS)),
        ("huge", "a".repeat(MAX_TOKEN_BYTES + 1), ours, &world.trust, Some(&BEARER_MALFORMED)),
        ("long-lived", lives(exp + 1), ours, &world.trust, Some(&BEARER_TOO_LONG)),
        ("dead from the start", lives(exp - 300), ours, &world.trust, Some(&BEARER_TOO_LONG)),
        ("in another's name", hku.altered(HKU, SZU), ours, &world.trust, Some(&BEARER_MALFORMED)),
        ("no id", hku.altered(ID, ""), ours, &world.trust, Some(&BEARER_MALFORMED)),
        (
            "unknown claim",
            hku.altered("\"iss\"", "\"ios\":1,\"iss\""),
            ours,
            &world.trust,
            Some(&BEARER_MALFORMED),
        ),
        (
            "no thumbprint",
            hku.altered("S256\":\"", "S256\":\"-"),
            ours,
            &world.trust,
            Some(&BEARER_MALFORMED),
        ),
    ];
    assert!(good.len() < 8 * 1024, "fits into one header of a proxy: {} bytes", good.len());
    let us = id(SZU);
    for (case, token, certificate, trust, expected) in cases {
        let found = verify(token, Receiver { us: &us, certificate: *certificate }, trust, NOW);
        assert_eq!(found.as_ref().err().map(|refusal| refusal.code), *expected, "{case}: {found:?}");
        if let Ok(found) = found {
            assert_eq!(found.participant().id(), &id(HKU), "{case}");
        }
    }
}

#[test]
fn an_unbound_token_is_taken_once() {
    let world = World::new();
    let hku = Member::good(&world, HKU);
    let (us, spent) = (id(SZU), SpentTokens::default());
    let shown = |name: &str, bound_to: Option<Digest>, at: UnixMillis| {
        let claims = Claims { statement: &hku.statement, audience: &us, bound_to, id: name };
        let token = issue(&hku.signer, claims, at).unwrap();
        let token = verify(&token, Receiver { us: &us, certificate: bound_to }, &world.trust, at).unwrap();
        spent.spend(&token, at).err().map(|refusal| refusal.code)
    };
    let bound = Some(hku.thumbprint());
    let later = NOW.plus_millis(2 * MAX_LIFETIME_MILLIS);
    assert_eq!(shown("first", None, NOW), None);
    assert_eq!(shown("first", None, NOW), Some(&BEARER_SPENT));
    assert_eq!(shown("second", None, NOW), None);
    for _ in 0..2 {
        assert_eq!(shown("first", bound, NOW), None, "the certificate keeps others from showing it");
    }

    // The table is full, until what is in it has expired.
    let claims = Claims { statement: &hku.statement, audience: &us, bound_to: None, id: ID };
    let token = issue(&hku.signer, claims, NOW).unwrap();
    let token = verify(&token, Receiver { us: &us, certificate: None }, &world.trust, NOW).unwrap();
    for number in 2..MAX_SPENT_PER_MEMBER {
        spent.spend(&token.renamed(&number.to_string()), NOW).unwrap();
    }
    assert_eq!(spent.spend(&token, NOW).unwrap_err().code, &TOO_MANY_BEARERS);
    assert_eq!(shown("third", None, later), None);
}
