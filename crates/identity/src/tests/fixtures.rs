//! Files of earlier versions, which every later version must read.

use super::*;
use crate::{Authority, EnrolmentToken, KnownSequences, StoredIdentity};

fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn statement_payload_version_1() {
    let text = fixture("statement-v1.json");
    let statement = Statement::read(text.as_bytes()).unwrap();
    assert_eq!(statement.participant.as_str(), HKU);
    assert_eq!(statement.membership.legal_name.zh_hant.as_deref(), Some("香港大學"));
    assert_eq!(statement.sequence, 7);
    assert_eq!(String::from_utf8(statement.to_payload().unwrap()).unwrap(), text);
}

#[test]
fn enrolment_token_version_1() {
    let text = fixture("enrolment-token-v1.txt");
    let token = EnrolmentToken::decode(&text).unwrap();
    assert_eq!(token.address().as_str(), "[2001:db8::7400]:7400");
    assert_eq!(token.participant().as_str(), HKU);
    assert_eq!(token.names(), ["connector.hku.example"]);
    assert_eq!(token.secret().expose(), "c2VjcmV0LW9mLWEtZml4dHVyZS0wMTIzNDU2Nzg5YWI");
    assert_eq!(token.expires(), NOW.plus_millis(DAY));
    assert_eq!(token.encode().unwrap().expose().as_str(), text);
    let whole = text.len();
    for cut in [0, 10, 30, whole - 1] {
        assert!(EnrolmentToken::decode(&text[..cut]).is_err(), "cut at {cut}");
    }
}

/// A member's file (with a key made for it and used nowhere else): chain, statement, lists and minimums still verify.
#[test]
fn identity_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.json");
    crate::files::replace(&path, fixture("identity-v1.json").as_bytes()).unwrap();
    let stored = StoredIdentity::load(&path).unwrap().unwrap();
    let statement = stored.statement.clone();
    let identity = stored.open(Arc::new(KnownSequences::default()), clock_at(NOW), NOW).unwrap();
    let ourselves = identity.verify_participant(&identity.chain(), &statement, NOW).unwrap();
    assert_eq!(ourselves.id().as_str(), HKU);
    assert!(identity.trust().minimum_sequences().is_some());
}

/// An authority's whole directory.
#[test]
fn authority_version_1() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "authority.json",
        "authority.key",
        "authority.pem",
        "issuing.key",
        "issuing.pem",
        "root.key",
        "root.pem",
    ] {
        crate::files::replace(&dir.path().join(name), fixture(&format!("authority-v1/{name}")).as_bytes())
            .unwrap();
    }
    let authority = Authority::open(dir.path()).unwrap();
    let members = authority.members().unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!((members[0].participant.as_str(), members[0].certificates.len()), (HKU, 1));
    assert!(authority.statement(&id(HKU), NOW).is_ok());
    assert_eq!(authority.lists(NOW).unwrap().revocation_lists.len(), 2);
}
