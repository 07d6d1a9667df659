//! Two connectors in one process: what one publishes is found at the other, pushed at once or pulled after an absence.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use catalogue::index::Query;
use catalogue::log::UNKNOWN_DATASET;
use connector::catalogue::publication::Draft;
use connector::catalogue::{datasets, publication, replication};
use connector::clock::Clock;
use connector::config::Config;
use connector::error::Error;
use connector::run::{IDENTITY_FILE, Running, start};
use control_plane::ids::{DatasetId, ParticipantId};
use identity::authority::TokenRequest;
use identity::membership::{self, LegalName, Membership, SecurityProfile};
use identity::{Authority, ConnectorKey, StoredIdentity};
use store::{Collection, Signal};

const TIDE: &str = include_str!("../../catalogue/tests/fixtures/harbour-tide.ttl");
const HARBOUR: &str = "https://harbour.example/id/connector";
const ESTUARY: &str = "https://estuary.example/connector";
const DATASET: &str = "https://harbour.example/id/tide";
const LEVELS: &str = "time,level\n2026-11-25T08:00Z,1.42\n";

/// Far longer than any step takes; only a failure waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A data space and the folders of its members.
struct Space {
    dir: tempfile::TempDir,
    authority: Authority,
    clock: Clock,
}

impl Space {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::start(None);
        let names = ["localhost".to_owned()];
        let authority = Authority::init(
            &dir.path().join("authority"),
            "https://space.example/authority",
            &names,
            clock.now(),
        )
        .unwrap();
        std::fs::create_dir(dir.path().join("sources")).unwrap();
        std::fs::write(dir.path().join("sources/tide.csv"), LEVELS).unwrap();
        Self { dir, authority, clock }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn enrol(&self, name: &str, id: &str, base: &str) {
        let now = self.clock.now();
        let request = TokenRequest {
            participant: id.to_owned(),
            names: vec!["localhost".to_owned()],
            membership: Membership {
                legal_name: LegalName { en: name.to_owned(), zh_hant: None, zh_hans: None },
                jurisdiction: membership::Jurisdiction::parse("HK").unwrap(),
                city: "Hong Kong".into(),
                prefixes: Vec::new(),
                addresses: Vec::new(),
                roles: Vec::new(),
                security_profile: SecurityProfile::Base,
                subject_base: membership::SubjectBase::parse(base).unwrap(),
            },
            address: membership::PeerAddress::parse("[::1]:7400").unwrap(),
            expires: now.plus_millis(60_000),
        };
        let token = self.authority.create_token(request, now).unwrap();
        let key = ConnectorKey::generate().unwrap();
        let enrolled = self.authority.enrol(&key.csr().unwrap(), token.secret().expose(), now).unwrap();
        let lists = self.authority.lists(now).unwrap();
        std::fs::create_dir_all(self.data(name).join("keys")).unwrap();
        StoredIdentity {
            key,
            chain: enrolled.chain,
            bundle: self.authority.trust_bundle().unwrap(),
            statement: enrolled.statement,
            lists: lists.revocation_lists,
            minimum_sequences: Some(lists.minimum_sequences),
        }
        .save(&self.data(name).join(IDENTITY_FILE))
        .unwrap();
    }

    /// Settings in which pulls are so rare that only the one at the start happens.
    fn config(&self, name: &str, id: &str, base: &str, peer: Option<(&str, SocketAddr, bool)>) -> Config {
        let peer = peer.map_or_else(String::new, |(id, address, replicate)| {
            format!(
                "[[peers]]\nparticipant = \"{id}\"\naddresses = [\"{address}\"]\nreplicate = {replicate}\n"
            )
        });
        let text = format!(
            "participant = \"{id}\"\ndata = \"{name}\"\nauthority.address = \"[::1]:1\"\n\
             listeners.peers = \"[::1]:0\"\nlisteners.health = \"[::1]:0\"\nlisteners.use = \"off\"\nlisteners.flight = \"off\"\n\
             catalogue.subject_base = \"{base}\"\ncatalogue.pull_interval_seconds = 86400\n\
             sources.roots.open = \"sources\"\n{peer}"
        );
        let file = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        load(&file)
    }
}

fn load(file: &Path) -> Config {
    Config::load_with(file, []).unwrap()
}

fn dataset() -> DatasetId {
    DatasetId::parse(DATASET).unwrap()
}

fn shown(of: &Running) -> bool {
    let found = of.node.catalogue.get(&dataset(), of.node.now());
    match found {
        Ok(_) => true,
        Err(Error::Refused(refusal)) if refusal.code == &UNKNOWN_DATASET => false,
        Err(error) => panic!("{error}"),
    }
}

/// Waits until the catalogue shows the tide dataset, or shows it no more.
async fn until_shown(of: &Running, expected: bool) {
    let mut changed = of.node.store.subscribe(Signal::Rows(Collection::CatalogueHeads));
    let wait = async {
        while shown(of) != expected {
            // The index follows the commit, so a look may come too early: look again at short notice.
            let _ = tokio::time::timeout(Duration::from_millis(20), changed.changed()).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap();
}

fn refused(error: Error) -> &'static str {
    error.into_refusal().code.code
}

const HARBOUR_BASE: &str = "https://harbour.example/id/";
const ESTUARY_BASE: &str = "https://estuary.example/data/";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_publishes_the_other_finds() {
    let space = Space::new();
    space.enrol("harbour", HARBOUR, HARBOUR_BASE);
    space.enrol("estuary", ESTUARY, ESTUARY_BASE);
    let mut estuary = start(space.config("estuary", ESTUARY, ESTUARY_BASE, None), None, None).await.unwrap();
    let to_estuary = Some((ESTUARY, estuary.peers, true));
    let mut harbour =
        start(space.config("harbour", HARBOUR, HARBOUR_BASE, to_estuary), None, None).await.unwrap();
    let (us, them) = (ParticipantId::parse(HARBOUR).unwrap(), ParticipantId::parse(ESTUARY).unwrap());

    // Nobody who is not configured for it may take part in replication.
    let stranger = replication::pull(&harbour.node, &them).await.unwrap_err();
    assert_eq!(refused(stranger), "catalogue/pull-refused");
    let to_harbour = Some((HARBOUR, harbour.peers, true));
    let with_peer = space.config("estuary", ESTUARY, ESTUARY_BASE, to_harbour);
    estuary.node.config.store(Arc::new(with_peer.clone()));
    assert_eq!(replication::pull(&harbour.node, &them).await.unwrap(), 0);

    // A dry run finds out everything and changes nothing.
    let dry =
        publication::publish(&harbour.node, Draft::new(TIDE, "file:open/tide.csv"), true).await.unwrap();
    assert_eq!((dry.row.seq, dry.row.objects, dry.row.bytes), (0, 1, LEVELS.len() as u64));
    assert!(!shown(&harbour));
    for (source, code) in [
        ("file:open/none.csv", "source/unreadable"),
        ("file:other/tide.csv", "source/unknown-root"),
        ("tide.csv", "source/malformed-source"),
    ] {
        let error = publication::publish(&harbour.node, Draft::new(TIDE, source), false).await.unwrap_err();
        assert_eq!(refused(error), code, "{source}");
    }
    for (from, to, code) in [
        ("odrl:isA", "odrl:isLike", "policy/unknown-operator"),
        ("odrl:purpose", "odrl:industry", "policy/unsupported-operand"),
        ("dct:modified", "dct:created", "catalogue/missing-value"),
    ] {
        let turtle = TIDE.replace(from, to);
        let error = publication::publish(&harbour.node, Draft::new(&turtle, "file:open/tide.csv"), false)
            .await
            .unwrap_err();
        assert_eq!(refused(error), code, "{to}");
    }
    let rows = harbour.node.store.read(|store| datasets(store, None, 10)).await.unwrap();
    assert_eq!(rows.len(), 0);

    let published =
        publication::publish(&harbour.node, Draft::new(TIDE, "file:open/tide.csv"), false).await.unwrap();
    assert_eq!((published.row.seq, &published.row.manifest_digest), (1, &dry.row.manifest_digest));
    until_shown(&estuary, true).await;
    let now = estuary.node.now();
    assert_eq!(estuary.node.catalogue.publisher(&dataset(), now).unwrap(), us);
    let offers = estuary.node.catalogue.offers(&dataset(), now).unwrap();
    assert_eq!(offers, harbour.node.catalogue.offers(&dataset(), now).unwrap());
    assert_eq!(offers.first().unwrap().0, published.row.offer);
    let purpose = |iri: &str| {
        let query = Query { purposes: vec![format!("https://w3id.org/dpv#{iri}")], ..Query::default() };
        estuary.node.catalogue.search(query, now).unwrap().total
    };
    assert_eq!(["ScientificResearch", "Marketing", "ResearchAndDevelopment"].map(purpose), [1, 0, 0]);
    let data =
        harbour.node.store.read(|store| connector::catalogue::published(store, &dataset())).await.unwrap();
    assert_eq!(data.unwrap().manifest().digest().to_string(), published.row.manifest_digest);

    // The other is away, then comes back: its first pull brings what it missed.
    estuary.drain().await.unwrap();
    drop(estuary);
    publication::withdraw(&harbour.node, &dataset()).await.unwrap();
    assert!(!shown(&harbour));
    assert_eq!(
        refused(publication::withdraw(&harbour.node, &dataset()).await.unwrap_err()),
        UNKNOWN_DATASET.code
    );
    let mut estuary = start(with_peer, None, None).await.unwrap();
    until_shown(&estuary, false).await;
    assert_eq!(replication::pull(&estuary.node, &us).await.unwrap(), 0);

    // What was delivered late anyway is told to be there already.
    let to_estuary = Some((ESTUARY, estuary.peers, true));
    harbour.node.config.store(Arc::new(space.config("harbour", HARBOUR, HARBOUR_BASE, to_estuary)));
    let mut outbox = harbour.node.store.subscribe(Signal::Outbox);
    let emptied = async {
        while harbour.node.store.read(|store| store.outbox_len().map_err(Error::from)).await.unwrap() > 0 {
            let _ = tokio::time::timeout(Duration::from_millis(50), outbox.changed()).await;
        }
    };
    tokio::time::timeout(DEADLINE, emptied).await.unwrap();
    harbour.drain().await.unwrap();
    estuary.drain().await.unwrap();
}
