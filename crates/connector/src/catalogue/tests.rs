//! The catalogue over a real store, with the keys and certificates of a real authority.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::catalogue::description::{Publication, read_turtle};
use ::catalogue::envelope::{CONTENT_DIFFERS, Envelope};
use ::catalogue::index::Query;
use ::catalogue::log::{self, CheckedEnvelope, GAP, PUBLISHER_FROZEN};
use ::catalogue::memory::MemoryLog;
use ::catalogue::offers::PolicyOffers;
use ::catalogue::scope::{PublisherScope, SubjectBase};
use control_plane::ids::{DatasetId, ParticipantId};
use control_plane::{Refusal, UnixMillis};
use identity::authority::TokenRequest;
use identity::membership::{self, LegalName, Membership, SecurityProfile};
use identity::{Authority, ConnectorKey, Revocation, Statement, TlsIdentity, TrustState};
use policy::Profiles;
use store::{Options, Store};

use super::admission::{Run, append};
use super::keys::{Members, OwnSigner, signers};
use super::log_store::log_error;
use super::publication::LIFETIME_MILLIS;
use super::replication::queue;
use super::{envelope_hash, rebuild};
use crate::error::Error;

const TIDE: &str = include_str!("../../../catalogue/tests/fixtures/harbour-tide.ttl");
const HARBOUR: &str = "https://harbour.example/id/connector";
const HARBOUR_BASE: &str = "https://harbour.example/id/";
const ESTUARY: &str = "https://estuary.example/connector";
const DATASET: &str = "https://harbour.example/id/tide";

/// 2026-11-25T08:00:00Z.
const NOW: UnixMillis = UnixMillis(1_795_593_600_000);
const DAY: i64 = 24 * 60 * 60 * 1000;

/// A data space with its authority.
struct Space {
    _dir: tempfile::TempDir,
    authority: Authority,
}

/// One enrolled participant.
struct Participant {
    id: ParticipantId,
    identity: TlsIdentity,
    statement: Statement,
}

impl Space {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned()];
        let authority =
            Authority::init(&dir.path().join("a"), "https://space.example/authority", &names, NOW).unwrap();
        Self { _dir: dir, authority }
    }

    fn enrol(&self, id: &str, base: &str) -> Participant {
        let request = TokenRequest {
            participant: id.to_owned(),
            names: vec!["localhost".to_owned()],
            membership: Membership {
                legal_name: LegalName { en: "Harbour University".into(), zh_hant: None, zh_hans: None },
                jurisdiction: membership::Jurisdiction::parse("HK").unwrap(),
                city: "Hong Kong".into(),
                prefixes: Vec::new(),
                addresses: Vec::new(),
                roles: Vec::new(),
                security_profile: SecurityProfile::Base,
                subject_base: membership::SubjectBase::parse(base).unwrap(),
            },
            address: membership::PeerAddress::parse("[::1]:7400").unwrap(),
            expires: NOW.plus_millis(DAY),
        };
        let token = self.authority.create_token(request, NOW).unwrap();
        let key = ConnectorKey::generate().unwrap();
        let enrolled = self.authority.enrol(&key.csr().unwrap(), token.secret().expose(), NOW).unwrap();
        let trust = (*self.trust(NOW)).clone();
        Participant {
            id: ParticipantId::parse(id).unwrap(),
            identity: TlsIdentity::new(key, enrolled.chain, trust, Arc::new(|| NOW)).unwrap(),
            statement: read(&enrolled.statement),
        }
    }

    fn trust(&self, now: UnixMillis) -> Arc<TrustState> {
        let lists = self.authority.lists(now).unwrap();
        let issuing = self.authority.tls_identity(Arc::new(move || now), now).unwrap().chain();
        let trust = TrustState::new(self.authority.trust_bundle().unwrap(), &issuing);
        Arc::new(trust.updated(&lists.revocation_lists, Some(&lists.minimum_sequences), now).unwrap())
    }

    /// What one participant knows of others.
    fn members(&self, known: &[&Participant], now: UnixMillis) -> Members {
        let statements = known.iter().map(|one| (one.id.clone(), Some(one.statement.clone())));
        Members::of(self.trust(now), statements.collect::<Vec<_>>(), now)
    }
}

fn read(statement: &str) -> Statement {
    use base64::Engine as _;
    let payload = statement.split('.').nth(1).unwrap();
    Statement::read(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn description() -> Publication {
    let scope = PublisherScope {
        participant: ParticipantId::parse(HARBOUR).unwrap(),
        subject_base: SubjectBase::parse(HARBOUR_BASE).unwrap(),
    };
    read_turtle(TIDE, &scope, &PolicyOffers::new(Profiles::shipped()), &BTreeMap::new()).unwrap()
}

/// A log as its publisher writes it: the first publication, then one renewal for each instant, then a withdrawal.
fn history(harbour: &Participant, members: &Members, renewals: &[i64]) -> Vec<Envelope> {
    let signer = OwnSigner::of(&harbour.identity).unwrap();
    let mut own = MemoryLog::default();
    let mut envelopes = Vec::new();
    let mut take = |own: &mut MemoryLog, envelope: Envelope| {
        log::admit(own, envelope.clone(), members, NOW).unwrap();
        envelopes.push(envelope);
    };
    let first = log::publish(&own, &description(), NOW, LIFETIME_MILLIS, &signer).unwrap();
    take(&mut own, first);
    for after in renewals {
        let renewal =
            log::renew(&own, &harbour.id, NOW.plus_millis(*after), LIFETIME_MILLIS, &signer).unwrap();
        take(&mut own, renewal);
    }
    let dataset = DatasetId::parse(DATASET).unwrap();
    let last = log::withdraw(&own, &harbour.id, &dataset, NOW, LIFETIME_MILLIS, &signer).unwrap();
    take(&mut own, last);
    envelopes
}

fn checked(envelopes: &[Envelope], members: &Members) -> Vec<CheckedEnvelope> {
    envelopes.iter().map(|envelope| log::check(envelope.clone(), members, NOW).unwrap()).collect()
}

/// A replica's store, and what it records.
struct Replica {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Replica {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Self { _dir: dir, store }
    }

    fn take(&self, envelopes: Vec<CheckedEnvelope>) -> Run {
        let from = ParticipantId::parse(ESTUARY).unwrap();
        self.store.write_blocking(move |tx| append(tx, envelopes, None, &from, NOW)).unwrap()
    }

    fn found(&self, now: UnixMillis) -> usize {
        let index = self.store.read_blocking(rebuild).unwrap();
        index.search(&Query { text: "潮汐".into(), ..Query::default() }, now).unwrap().total
    }

    fn recorded(&self, kind: &'static str) -> Vec<(String, String)> {
        let entries = self.store.read_blocking(move |store| store.ledger_of_kind(kind, 0, 100)).unwrap();
        let field =
            |subject: &BTreeMap<String, String>, name: &str| subject.get(name).cloned().unwrap_or_default();
        let names = if kind == "catalogue-fork" { ["seq", "from"] } else { ["firstSeq", "lastSeq"] };
        let records = entries.into_iter().map(|entry| entry.content.unwrap().0);
        records.map(|record| (field(record.subject(), names[0]), field(record.subject(), names[1]))).collect()
    }
}

fn span(first: &str, last: &str) -> (String, String) {
    (first.to_owned(), last.to_owned())
}

#[test]
fn a_run_is_taken_up_to_the_first_gap_and_recorded_once() {
    let space = Space::new();
    let harbour = space.enrol(HARBOUR, HARBOUR_BASE);
    let members = space.members(&[&harbour], NOW);
    let run = checked(&history(&harbour, &members, &[1, 2]), &members);
    let replica = Replica::new();

    let refused = |run: &Run| run.refused.as_ref().map(|refusal: &Refusal| refusal.code);
    let late = replica.take(run[1..].to_vec());
    assert_eq!((late.admitted.len(), refused(&late)), (0, Some(&GAP)));
    assert_eq!((replica.found(NOW), replica.recorded("catalogue-received")), (0, vec![]));

    let broken = replica.take(vec![run[0].clone(), run[2].clone()]);
    assert_eq!((broken.admitted.len(), refused(&broken)), (1, Some(&GAP)));
    assert_eq!(replica.found(NOW), 1, "what came before the gap stays");
    assert_eq!(replica.recorded("catalogue-received"), [span("1", "1")]);

    let rest = replica.take(run[..3].to_vec());
    assert_eq!((rest.repeats, rest.admitted.len(), refused(&rest)), (1, 2, None));
    let again = replica.take(run[..3].to_vec());
    assert_eq!((again.repeats, again.admitted.len(), refused(&again)), (3, 0, None));
    assert_eq!(replica.recorded("catalogue-received"), [span("1", "1"), span("2", "3")]);
    let renewed_until = NOW.plus_millis(2 + LIFETIME_MILLIS);
    assert_eq!((replica.found(renewed_until.plus_millis(-1)), replica.found(renewed_until)), (1, 0));

    assert_eq!(replica.take(run[3..].to_vec()).admitted.len(), 1);
    assert_eq!(replica.found(NOW), 0, "withdrawn");
}

#[test]
fn two_histories_freeze_the_publisher_and_take_nothing_away() {
    let space = Space::new();
    let harbour = space.enrol(HARBOUR, HARBOUR_BASE);
    let members = space.members(&[&harbour], NOW);
    let one = checked(&history(&harbour, &members, &[1, 2]), &members);
    let other = checked(&history(&harbour, &members, &[3, 4]), &members);
    let replica = Replica::new();
    assert_eq!(replica.take(one[..2].to_vec()).admitted.len(), 2);

    let forked = replica.take(other[..3].to_vec());
    let fork = forked.fork.unwrap();
    assert_eq!((forked.repeats, forked.admitted.len(), fork.seq), (1, 0, 2));
    assert_eq!(replica.recorded("catalogue-fork"), [span("2", ESTUARY)]);
    let frozen = replica.take(one[2..].to_vec());
    assert_eq!(
        (frozen.admitted.len(), frozen.refused.map(|refusal| refusal.code)),
        (0, Some(&PUBLISHER_FROZEN))
    );
    assert_eq!(replica.found(NOW), 1);
}

#[test]
fn only_a_current_member_with_its_own_certificate_is_believed() {
    let space = Space::new();
    let harbour = space.enrol(HARBOUR, HARBOUR_BASE);
    let estuary = space.enrol(ESTUARY, "https://estuary.example/data/");
    let stranger = Space::new().enrol(HARBOUR, HARBOUR_BASE);
    let members = space.members(&[&harbour, &estuary], NOW);
    let envelope = history(&harbour, &members, &[]).remove(0);
    assert_eq!(signers(std::slice::from_ref(&envelope)), std::slice::from_ref(&harbour.id));

    let check =
        |what: &str, envelope: Envelope, members: &Members, now: UnixMillis, expected: Option<&str>| {
            let got = log::check(envelope, members, now).err().map(|refusal| refusal.code.code);
            assert_eq!(got, expected, "{what}");
        };
    check("as it is", envelope.clone(), &members, NOW, None);
    let none = Envelope { certificates: Vec::new(), ..envelope.clone() };
    check("no certificate", none, &members, NOW, Some("catalogue/no-certificate"));
    let chain = |of: &Participant| of.identity.chain().iter().map(|der| der.to_vec()).collect::<Vec<_>>();
    let others = Envelope { certificates: chain(&estuary), ..envelope.clone() };
    check("another member's certificate", others, &members, NOW, Some("identity/signer-unknown"));
    let foreign = Envelope { certificates: chain(&stranger), ..envelope.clone() };
    check("another authority's certificate", foreign, &members, NOW, Some("identity/other-authority"));
    let mut content = envelope.content.clone();
    content[20] ^= 1;
    let altered = Envelope { content, ..envelope.clone() };
    check("other content", altered, &members, NOW, Some(CONTENT_DIFFERS.code));
    let header = envelope.header.replacen(|c: char| c.is_ascii_digit(), "x", 1);
    let forged = log::check(Envelope { header, ..envelope.clone() }, &members, NOW);
    assert!(forged.is_err(), "another header");
    let unknown = space.members(&[&estuary], NOW);
    check("unknown publisher", envelope.clone(), &unknown, NOW, Some("catalogue/publisher-unknown"));

    let serial = harbour.identity.certificate().serial().to_owned();
    space.authority.revoke(&Revocation::Certificate(serial), NOW.plus_millis(1)).unwrap();
    let revoked = space.members(&[&harbour], NOW.plus_millis(2));
    check("revoked", envelope, &revoked, NOW.plus_millis(2), Some("identity/certificate-revoked"));
}

#[test]
fn a_publisher_without_a_current_statement_is_not_taken_from() {
    let space = Space::new();
    let harbour = space.enrol(HARBOUR, HARBOUR_BASE);
    let envelope = history(&harbour, &space.members(&[&harbour], NOW), &[]).remove(0);
    let ended = harbour.statement.expires;
    let code = |now: UnixMillis| {
        log::check(envelope.clone(), &space.members(&[&harbour], now), now)
            .err()
            .map(|refusal| refusal.code.code)
    };
    assert_eq!(code(ended.plus_millis(-1)), None);
    assert_eq!(code(ended), Some("catalogue/publisher-not-current"));
}

#[test]
fn an_envelope_outlives_its_certificate() {
    let space = Space::new();
    let mut harbour = space.enrol(HARBOUR, HARBOUR_BASE);
    let envelope = history(&harbour, &space.members(&[&harbour], NOW), &[]).remove(0);
    let later = NOW.plus_millis(100 * DAY);
    assert!(harbour.identity.certificate().not_after() < later);
    harbour.statement.expires = later.plus_millis(DAY);
    assert!(log::check(envelope, &space.members(&[&harbour], later), later).is_ok());
}

#[test]
fn deliveries_go_to_each_replica_in_order() {
    let space = Space::new();
    let harbour = space.enrol(HARBOUR, HARBOUR_BASE);
    let members = space.members(&[&harbour], NOW);
    let headers: Vec<_> = checked(&history(&harbour, &members, &[1]), &members)
        .iter()
        .map(|envelope| envelope.header().clone())
        .collect();
    let replicas = [ESTUARY, "https://delta.example/connector"].map(|id| ParticipantId::parse(id).unwrap());
    let store = Replica::new();
    let due = store
        .store
        .write_blocking(move |tx| {
            for header in &headers {
                queue(tx, &replicas, header, NOW)?;
                queue(tx, &replicas, header, NOW)?;
            }
            assert_eq!(tx.outbox_len()?, 6, "the same delivery is queued once");
            Ok::<_, Error>(tx.outbox_due(NOW, 100)?)
        })
        .unwrap();
    let heads: Vec<_> = due.iter().map(|entry| (entry.id.clone(), entry.destination.clone())).collect();
    let expected = [ESTUARY, "https://delta.example/connector"]
        .map(|peer| (format!("envelope 1 1 {peer}"), peer.to_owned()));
    assert_eq!(heads, expected);
}

#[test]
fn the_hash_of_an_envelope_is_the_one_that_the_chain_names() {
    let space = Space::new();
    let harbour = space.enrol(HARBOUR, HARBOUR_BASE);
    let members = space.members(&[&harbour], NOW);
    let envelopes = history(&harbour, &members, &[1]);
    let second = log::check(envelopes[1].clone(), &members, NOW).unwrap();
    assert_eq!(envelope_hash(&envelopes[0]), second.header().prev);
}

#[test]
fn storage_failures_stay_failures() {
    let refused = log_error(log::LogError::Refused(Refusal::new(&GAP, "")));
    assert!(matches!(refused, Error::Refused(refusal) if refusal.code == &GAP));
    assert!(matches!(log_error(log::LogError::Store(store::StoreError::Closed)), Error::Store(_)));
}
