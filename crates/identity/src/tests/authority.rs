//! The authority's life: tokens, enrolment, renewal, revocation, demotion, crashes.

use std::path::Path;

use control_plane::Code;

use super::*;
use crate::authority::{
    Authority, CERTIFICATE_MILLIS, CERTIFICATE_UNKNOWN, Enrolled, LIST_INTERVAL_MILLIS, MALFORMED_NAME,
    MALFORMED_REQUEST, MEMBER_UNKNOWN, RESERVED_PARTICIPANT, ROOT_LIST_MILLIS, Revocation, STATEMENT_MILLIS,
    SUBJECT_BASE_TAKEN, TOKEN_EXPIRED, TOKEN_SPENT, TOKEN_UNKNOWN, TokenRequest,
};
use crate::minting::{mint_under_authority, signer_of_authority};
use crate::participant::STATEMENT_SUPERSEDED;
use crate::trust::{CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED, OTHER_AUTHORITY};
use crate::{
    ConnectorKey, EnrolmentToken, IdentityError, KnownSequences, ParticipantCertificate, StoredIdentity,
    VerifiedParticipant, verify_participant,
};

struct Founded {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Founded {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::init(&dir.path().join("authority"), AUTHORITY, &names(), NOW).unwrap();
        Self { dir, authority }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("authority")
    }

    fn token(&self, uri: &str) -> EnrolmentToken {
        self.authority.create_token(request(uri), NOW).unwrap()
    }

    fn member(&self, uri: &str) -> (ConnectorKey, Enrolled) {
        let key = ConnectorKey::generate().unwrap();
        let enrolled =
            self.authority.enrol(&key.csr().unwrap(), self.token(uri).secret().expose(), NOW).unwrap();
        (key, enrolled)
    }

    fn trust(&self, now: UnixMillis) -> TrustState {
        let lists = self.authority.lists(now).unwrap();
        TrustState::new(self.authority.trust_bundle().unwrap(), &[])
            .updated(&lists.revocation_lists, Some(&lists.minimum_sequences), now)
            .unwrap()
    }

    fn verify(&self, enrolled: &Enrolled, now: UnixMillis) -> Result<VerifiedParticipant, &'static Code> {
        verify_participant(&enrolled.chain, &enrolled.statement, &self.trust(now), now)
            .map_err(|refusal| refusal.code)
    }
}

fn names() -> Vec<String> {
    vec!["localhost".to_owned(), "::1".to_owned()]
}

fn request(uri: &str) -> TokenRequest {
    TokenRequest {
        participant: uri.to_owned(),
        names: names(),
        membership: membership(uri),
        address: membership::PeerAddress::parse("[::1]:7400").unwrap(),
        expires: NOW.plus_millis(DAY),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, IdentityError>) -> &'static Code {
    result.unwrap_err().refusal().expect("a refusal").code
}

#[test]
fn a_token_enrols_once_under_its_own_names() {
    let founded = Founded::new();
    let authority = &founded.authority;
    let text = founded.token(HKU).encode().unwrap();
    let token = EnrolmentToken::decode(text.expose()).unwrap();
    assert_eq!((token.participant().as_str(), token.names()), (HKU, &names()[..]));
    assert!(!format!("{token:?}").contains(token.secret().expose()));

    // The request asks for another name; only its key is taken.
    let key = ConnectorKey::generate().unwrap();
    let mut wish = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    wish.subject_alt_names.push(rcgen::SanType::URI(SZU.try_into().unwrap()));
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = wish.serialize_request(&key.issuing_pair().unwrap()).unwrap();
    let enrolled = authority.enrol(csr.der(), token.secret().expose(), NOW).unwrap();
    let leaf = ParticipantCertificate::read(&enrolled.chain[0]).unwrap();
    assert_eq!(leaf.participant().as_str(), HKU);
    assert_eq!(leaf.public_key(), key.public_key());
    assert_eq!(leaf.not_after(), NOW.plus_millis(CERTIFICATE_MILLIS));
    let der = String::from_utf8_lossy(&enrolled.chain[0]).into_owned();
    assert!(der.contains("localhost") && !der.contains("evil"));
    token.accept_roots(&enrolled.roots).unwrap();

    // The answer was lost: the same key gets the same certificate, another key gets nothing.
    let again = authority.enrol(csr.der(), token.secret().expose(), NOW).unwrap();
    assert_eq!(again, enrolled);
    let thief = ConnectorKey::generate().unwrap().csr().unwrap();
    assert_eq!(refused(authority.enrol(&thief, token.secret().expose(), NOW)), &TOKEN_SPENT);

    let peer = founded.verify(&enrolled, NOW).unwrap();
    assert_eq!(peer.statement().membership, membership(HKU));
    assert_eq!(peer.statement().expires, NOW.plus_millis(STATEMENT_MILLIS));
    // In the book stands no secret.
    let book = std::fs::read_to_string(founded.path().join("authority.json")).unwrap();
    assert!(!book.contains(token.secret().expose()));
}

#[test]
fn tokens_that_are_refused() {
    let founded = Founded::new();
    let authority = &founded.authority;
    let csr = ConnectorKey::generate().unwrap().csr().unwrap();
    let token = founded.token(HKU);
    let secret = token.secret().expose();
    assert_eq!(refused(authority.enrol(&csr, "guess", NOW)), &TOKEN_UNKNOWN);
    assert_eq!(refused(authority.enrol(&csr, secret, NOW.plus_millis(DAY))), &TOKEN_EXPIRED);
    assert_eq!(refused(authority.enrol(b"rubbish", secret, NOW)), &MALFORMED_REQUEST);
    let mut unproven = csr.clone();
    *unproven.last_mut().unwrap() ^= 1;
    assert_eq!(refused(authority.enrol(&unproven, secret, NOW)), &MALFORMED_REQUEST);
    let other_curve = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other_curve = rcgen::CertificateParams::default().serialize_request(&other_curve).unwrap();
    assert_eq!(refused(authority.enrol(other_curve.der(), secret, NOW)), &MALFORMED_REQUEST);

    let with = |change: &dyn Fn(&mut TokenRequest)| {
        let mut request = request(SZU);
        change(&mut request);
        refused(authority.create_token(request, NOW))
    };
    assert_eq!(with(&|r| r.participant = AUTHORITY.to_owned()), &RESERVED_PARTICIPANT);
    assert_eq!(
        with(&|r| r.participant = "https://DATASPACE.example:443/id/authority".to_owned()),
        &RESERVED_PARTICIPANT
    );
    assert_eq!(with(&|r| r.names = vec!["https://a".to_owned()]), &MALFORMED_NAME);
    assert_eq!(with(&|r| r.expires = NOW), &TOKEN_EXPIRED);
    let inside = membership::SubjectBase::parse("https://data.example/hku/tide/").unwrap();
    assert_eq!(with(&|r| r.membership.subject_base = inside.clone()), &SUBJECT_BASE_TAKEN);
    let around = membership::SubjectBase::parse("https://data.example/").unwrap();
    assert_eq!(with(&|r| r.membership.subject_base = around.clone()), &SUBJECT_BASE_TAKEN);
}

#[test]
fn renewal_needs_the_live_certificate_and_overlaps() {
    let founded = Founded::new();
    let authority = &founded.authority;
    let (_, first) = founded.member(HKU);
    let leaf = ParticipantCertificate::read(&first.chain[0]).unwrap();
    let due = leaf.renewal_due();
    assert!(due > NOW.plus_millis(59 * DAY) && due < NOW.plus_millis(61 * DAY));

    let successor = ConnectorKey::generate().unwrap();
    let csr = successor.csr().unwrap();
    let second = authority.renew(&first.chain[0], &csr, due).unwrap();
    let old_with_new_statement = Enrolled { chain: first.chain.clone(), ..second.clone() };
    assert!(founded.verify(&second, due).is_ok());
    assert!(founded.verify(&old_with_new_statement, due).is_ok(), "two certificates during rotation");
    let third =
        authority.renew(&second.chain[0], &ConnectorKey::generate().unwrap().csr().unwrap(), due).unwrap();
    assert!(founded.verify(&third, due).is_ok());

    let late = NOW.plus_millis(CERTIFICATE_MILLIS + 1000);
    assert_eq!(refused(authority.renew(&first.chain[0], &csr, late)), &CERTIFICATE_EXPIRED);
    let minted = mint_under_authority(authority, &Mint::good(HKU, NOW)).unwrap();
    assert_eq!(refused(authority.renew(&minted.chain[0], &csr, NOW)), &CERTIFICATE_UNKNOWN);
    authority.revoke(&Revocation::Certificate(leaf.serial().to_owned()), due).unwrap();
    assert_eq!(refused(authority.renew(&first.chain[0], &csr, due)), &CERTIFICATE_REVOKED);
    assert!(founded.verify(&third, due).is_ok(), "the other certificates stay");
}

#[test]
fn revocation_and_demotion_take_effect_at_once() {
    let founded = Founded::new();
    let authority = &founded.authority;
    let (_, hku) = founded.member(HKU);
    let (_, szu) = founded.member(SZU);
    let before = founded.trust(NOW).newest_list_number();

    let mut demoted = membership(HKU);
    demoted.security_profile = SecurityProfile::Base;
    let statement = authority.update_member(&id(HKU), demoted.clone(), NOW).unwrap();
    assert_eq!(founded.verify(&hku, NOW).unwrap_err(), &STATEMENT_SUPERSEDED);
    let renewed = Enrolled { statement, ..hku.clone() };
    assert_eq!(founded.verify(&renewed, NOW).unwrap().statement().membership, demoted);

    let leaf = ParticipantCertificate::read(&hku.chain[0]).unwrap();
    let revoked = authority.revoke(&Revocation::Participant(id(HKU)), NOW).unwrap();
    assert_eq!(revoked, [leaf.serial()]);
    assert_eq!(
        authority.revoke(&Revocation::Participant(id(HKU)), NOW).unwrap(),
        [""; 0],
        "twice changes nothing"
    );
    assert!(founded.trust(NOW).newest_list_number() > before);
    assert_eq!(founded.verify(&renewed, NOW).unwrap_err(), &CERTIFICATE_REVOKED);
    assert_eq!(refused(authority.statement(&id(HKU), NOW)), &MEMBER_UNKNOWN);
    assert!(founded.verify(&szu, NOW).is_ok());

    // Enrolled again, its statements go on above the old ones.
    let (_, again) = founded.member(HKU);
    assert!(founded.verify(&again, NOW).is_ok());
    let states: Vec<_> = authority.members().unwrap().into_iter().map(|member| member.active).collect();
    assert_eq!(states, [true, true]);
    assert_eq!(
        refused(authority.revoke(&Revocation::Certificate("00".to_owned()), NOW)),
        &CERTIFICATE_UNKNOWN
    );
    assert_eq!(refused(authority.revoke(&Revocation::Participant(id("did:web:x")), NOW)), &MEMBER_UNKNOWN);
}

#[test]
fn statements_and_lists_are_made_anew_when_due_and_not_before() {
    let founded = Founded::new();
    let authority = &founded.authority;
    let (_, enrolled) = founded.member(HKU);
    let statement = |now| authority.statement(&id(HKU), now).unwrap();
    assert_eq!(statement(NOW.plus_millis(3 * DAY)), enrolled.statement);
    let second = statement(NOW.plus_millis(4 * DAY));
    assert_ne!(second, enrolled.statement);
    let renewed = Enrolled { statement: second, ..enrolled.clone() };
    assert_eq!(founded.verify(&renewed, NOW.plus_millis(4 * DAY)).unwrap().statement().sequence, 2);

    let first = authority.lists(NOW.plus_millis(5 * DAY)).unwrap();
    let soon = authority.lists(NOW.plus_millis(5 * DAY + LIST_INTERVAL_MILLIS - 1)).unwrap();
    let later = authority.lists(NOW.plus_millis(5 * DAY + LIST_INTERVAL_MILLIS)).unwrap();
    assert_eq!(first, soon);
    assert_ne!(first.revocation_lists[1], later.revocation_lists[1]);
    // The authority's own certificate is renewed on the way.
    let late = NOW.plus_millis(80 * DAY);
    let own = authority.tls_identity(clock_at(late), late).unwrap();
    assert!(own.certificate().not_after() > NOW.plus_millis(CERTIFICATE_MILLIS));
    assert_eq!(own.certificate().participant().as_str(), AUTHORITY);
}

#[test]
fn the_root_key_may_lie_in_a_safe() {
    let founded = Founded::new();
    std::fs::remove_file(founded.path().join("root.key")).unwrap();
    let authority = Authority::open(&founded.path()).unwrap();
    assert!(authority.lists(NOW.plus_millis(30 * DAY)).is_ok());
    let end = NOW.plus_millis(ROOT_LIST_MILLIS);
    assert!(matches!(authority.lists(end), Err(IdentityError::RootOffline(_))));
}

#[test]
fn init_never_replaces_an_authority() {
    let founded = Founded::new();
    let again = Authority::init(&founded.path(), AUTHORITY, &names(), NOW);
    assert!(matches!(again, Err(IdentityError::AuthorityExists(_))));
    assert_eq!(Authority::open(&founded.path()).unwrap().id().as_str(), AUTHORITY);

    // Crashed before its book was written: it is no authority yet, and init may run again.
    let half = founded.dir.path().join("half");
    std::fs::create_dir(&half).unwrap();
    std::fs::copy(founded.path().join("root.key"), half.join("root.key")).unwrap();
    assert!(Authority::open(&half).is_err());
    let authority = Authority::init(&half, AUTHORITY, &names(), NOW).unwrap();
    let ours = founded.authority.trust_bundle().unwrap();
    assert_ne!(authority.trust_bundle().unwrap(), ours);
}

#[test]
fn a_crash_while_writing_leaves_the_old_book() {
    let founded = Founded::new();
    let (_, enrolled) = founded.member(HKU);
    std::fs::write(founded.path().join("authority.json.new"), b"{\"version\":1,\"cut of").unwrap();
    let reopened = Authority::open(&founded.path()).unwrap();
    assert_eq!(reopened.statement(&id(HKU), NOW).unwrap(), enrolled.statement);
    // The leftover is overwritten by the next change, and never read.
    reopened.create_token(request(SZU), NOW).unwrap();
    assert!(!founded.path().join("authority.json.new").exists());

    std::fs::write(founded.path().join("authority.json"), b"{}").unwrap();
    assert!(matches!(Authority::open(&founded.path()), Err(IdentityError::Format { .. })));
}

#[test]
fn command_line_and_service_share_the_directory() {
    let founded = Founded::new();
    let path = founded.path();
    let enrol = |path: &Path, worker: usize| {
        let authority = Authority::open(path).unwrap();
        for round in 0..5 {
            let uri = format!("https://campus.example/id/m{worker}-{round}");
            let token = authority.create_token(request(&uri), NOW).unwrap();
            let csr = ConnectorKey::generate().unwrap().csr().unwrap();
            authority.enrol(&csr, token.secret().expose(), NOW).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (path, enrol) = (&path, &enrol);
            scope.spawn(move || enrol(path, worker));
        }
    });
    assert_eq!(founded.authority.members().unwrap().len(), 20);
}

#[test]
fn a_members_identity_survives_a_restart() {
    let founded = Founded::new();
    let (key, enrolled) = founded.member(HKU);
    let (_, peer) = founded.member(SZU);
    let path = founded.dir.path().join("identity.json");
    assert!(StoredIdentity::load(&path).unwrap().is_none());
    let lists = founded.authority.lists(NOW).unwrap();
    let stored = StoredIdentity {
        key,
        chain: enrolled.chain.clone(),
        bundle: founded.authority.trust_bundle().unwrap(),
        statement: enrolled.statement.clone(),
        lists: lists.revocation_lists,
        minimum_sequences: Some(lists.minimum_sequences),
    };
    stored.save(&path).unwrap();
    let open = |now| {
        let known = Arc::new(KnownSequences::default());
        StoredIdentity::load(&path).unwrap().unwrap().open(known, clock_at(now), now).unwrap()
    };
    let identity = open(NOW);
    assert_eq!(identity.chain(), enrolled.chain);
    assert!(identity.trust().minimum_sequences().is_some());
    assert!(identity.verify_participant(&peer.chain, &peer.statement, NOW).is_ok());

    // Down for a month: it opens, refuses everybody, and recovers with fresh lists.
    let late = NOW.plus_millis(30 * DAY);
    let identity = open(late);
    assert!(identity.verify_participant(&peer.chain, &peer.statement, late).is_err());
    let lists = founded.authority.lists(late).unwrap();
    identity.reload_lists(&lists.revocation_lists, Some(&lists.minimum_sequences), late).unwrap();
    let statement = founded.authority.statement(&id(SZU), late).unwrap();
    assert!(identity.verify_participant(&peer.chain, &statement, late).is_ok());
}

#[test]
fn odd_certificates_of_a_real_authority_can_be_minted() {
    let founded = Founded::new();
    let odd = mint_under_authority(&founded.authority, &Mint::good(HKU, NOW)).unwrap();
    let statement = Statement {
        participant: id(HKU),
        membership: membership(HKU),
        certificates: vec![Digest::of(&odd.chain[0])],
        sequence: 1,
        issued: NOW,
        expires: NOW.plus_millis(DAY),
    };
    let jws = statement.sign(&signer_of_authority(&founded.authority, NOW).unwrap()).unwrap();
    assert!(verify_participant(&odd.chain, &jws, &founded.trust(NOW), NOW).is_ok());
    let foreign = Founded::new();
    let refusal = verify_participant(&odd.chain, &jws, &foreign.trust(NOW), NOW).unwrap_err();
    assert_eq!(refusal.code, &OTHER_AUTHORITY);
}
