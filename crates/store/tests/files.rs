//! The files: what stays in them, who may read them, copies and putting copies back, and files that must not open.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use store::{Added, Collection, Expect, Options, Seen, Store, StoreError, check_backup, restore};
use support::{at, fresh, item, open, record, salt, write};
use tempfile::TempDir;

const C: Collection = Collection::WrappedKeys;

fn contains(dir: &Path, marker: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let content = fs::read(entry.unwrap().path()).unwrap();
        content.windows(marker.len()).any(|window| window == marker)
    })
}

#[test]
fn a_destroyed_key_is_in_no_file() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (dir, store) = fresh();
    // A short value inside a page, and one that fills overflow pages.
    for (name, length) in [("short", 48), ("long", 100_000)] {
        let marker = format!("wrapped-{name}-key-bytes-{}", "k".repeat(20)).into_bytes();
        let mut value = marker.clone();
        value.resize(length, b'.');
        value.extend_from_slice(&marker);
        write(&store, move |tx| tx.put(C, "urn:agreement:1", &value, Expect::Any)).unwrap();
        runtime.block_on(store.wal_truncate()).unwrap();
        assert!(contains(dir.path(), &marker), "{name}: the test finds a key that is there");
        match name {
            "short" => write(&store, |tx| tx.put(C, "urn:agreement:1", b"", Expect::Any).map(drop)).unwrap(),
            _ => write(&store, |tx| tx.delete(C, "urn:agreement:1", Expect::Any).map(drop)).unwrap(),
        }
        runtime.block_on(store.wal_truncate()).unwrap();
        assert!(!contains(dir.path(), &marker), "{name}");
        assert_eq!(fs::metadata(dir.path().join("state.db-wal")).unwrap().len(), 0);
    }
}

#[test]
fn an_erased_record_is_in_no_file() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (dir, store) = fresh();
    let secret = ledger::Record::new("consent", 1, [("patient", "marker-of-a-person-in-a-record")]).unwrap();
    write(&store, move |tx| tx.ledger_append(&secret, &salt(1))).unwrap();
    assert!(contains(dir.path(), b"marker-of-a-person-in-a-record"));
    write(&store, |tx| tx.ledger_erase(0)).unwrap();
    runtime.block_on(store.wal_truncate()).unwrap();
    assert!(!contains(dir.path(), b"marker-of-a-person-in-a-record"));
}

#[test]
fn only_the_owner_can_read() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let store = Store::open(&dir, Options::default()).unwrap();
    write(&store, |tx| tx.put(C, "k", b"v", Expect::Any)).unwrap();
    store.backup(&parent.path().join("copy.db")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&parent.path().join("copy.db")), 0o600);
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.len() >= 2);
    for name in names {
        assert_eq!(mode(&name), 0o600, "{}", name.display());
    }
}

fn filled(store: &Store, from: i64, to: i64) {
    for n in from..to {
        write(store, move |tx| {
            tx.put(Collection::Agreements, &format!("a{n:03}"), b"agreement", Expect::Absent)?;
            tx.outbox_push(&item(&format!("m{n}"), "lane", at(n)))?;
            tx.ledger_append(&record(n), &salt(n)).map(drop)
        })
        .unwrap();
    }
}

#[test]
fn a_copy_of_a_running_store_can_be_put_back() {
    let (dir, store) = fresh();
    filled(&store, 0, 10);
    let copy = dir.path().join("copy.db");
    let writer = {
        let store = store.clone();
        std::thread::spawn(move || filled(&store, 10, 60))
    };
    let report = store.backup(&copy).unwrap();
    writer.join().unwrap();
    assert!(report.ledger.size >= 10 && report.bytes > 0);
    assert_eq!(check_backup(&copy).unwrap(), report);
    assert!(matches!(store.backup(&copy), Err(StoreError::Io { .. })), "a copy is never overwritten");
    let head = store.read_blocking(move |r| r.ledger_head_at(report.ledger.size)).unwrap();
    assert_eq!(head, report.ledger, "the copy is a former state of the store");

    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(restore(&copy, elsewhere.path(), at(99)).unwrap().ledger, report.ledger);
    assert!(
        matches!(restore(&copy, elsewhere.path(), at(99)), Err(StoreError::Io { .. })),
        "never over a store"
    );
    assert!(matches!(restore(&copy, dir.path(), at(99)), Err(StoreError::Locked(_))));
    let restored = open(&elsewhere);
    let size = report.ledger.size;
    let rows = restored.read_blocking(|r| r.scan(Collection::Agreements, "", None, 100)).unwrap();
    assert_eq!(rows.len() as u64, size);
    assert_eq!(restored.read_blocking(|r| r.outbox_len()).unwrap(), size);
    assert_eq!(restored.read_blocking(|r| r.restored_at()).unwrap(), Some(at(99)));
    write(&restored, |tx| tx.restore_settled()).unwrap();
    assert_eq!(restored.read_blocking(|r| r.restored_at()).unwrap(), None);
    filled(&restored, size as i64, size as i64 + 3);
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("partial")));
}

/// Each change to a good copy, made with plain SQL or on its bytes, must be refused.
#[test]
fn damaged_copies_are_refused() {
    let (dir, store) = fresh();
    filled(&store, 0, 5);
    let good = dir.path().join("good.db");
    store.backup(&good).unwrap();
    let changes = [
        "UPDATE ledger SET record = (SELECT record FROM ledger WHERE seq = 1) WHERE seq = 2",
        "UPDATE ledger SET salt = zeroblob(32) WHERE seq = 2",
        "UPDATE ledger SET root = zeroblob(32) WHERE seq = 2",
        "UPDATE ledger SET leaf = zeroblob(32), record = NULL, salt = NULL WHERE seq = 4",
        "UPDATE ledger_node SET hash = zeroblob(32) WHERE level = 1 AND place = 0",
        "DELETE FROM ledger_node WHERE level = 2",
        "DELETE FROM ledger WHERE seq = 4",
        "DELETE FROM ledger_tree",
        "PRAGMA user_version = 2",
        "PRAGMA user_version = 0",
        "PRAGMA application_id = 0",
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let bad = dir.path().join(format!("bad-{n}.db"));
        fs::copy(&good, &bad).unwrap();
        Connection::open(&bad).unwrap().execute_batch(change).unwrap();
        assert!(check_backup(&bad).is_err(), "{change}");
        let target = tempfile::tempdir().unwrap();
        assert!(restore(&bad, target.path(), at(0)).is_err(), "{change}");
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "{change}: nothing is left behind");
    }
    let bytes = fs::read(&good).unwrap();
    for (what, broken) in
        [("cut", bytes[..bytes.len() / 2].to_vec()), ("empty", Vec::new()), ("text", b"hello".repeat(1000))]
    {
        let bad = dir.path().join(what);
        fs::write(&bad, broken).unwrap();
        assert!(check_backup(&bad).is_err(), "{what}");
    }
    assert!(check_backup(&dir.path().join("absent")).is_err());
    assert!(check_backup(&good).is_ok());
}

#[test]
fn files_that_must_not_open() {
    type Check = fn(&StoreError) -> bool;
    let cases: [(&str, Check); 4] = [
        ("PRAGMA user_version = 99", |e| matches!(e, StoreError::NewerSchema { found: 99, .. })),
        ("PRAGMA application_id = 7", |e| matches!(e, StoreError::NotOurs(_))),
        ("DELETE FROM ledger WHERE seq = 4", |e| matches!(e, StoreError::Damaged(_))),
        (
            "UPDATE ledger_tree SET state = (SELECT replace(state, '\"v\":1', '\"v\":2') FROM ledger_tree)",
            |e| matches!(e, StoreError::Ledger(_)),
        ),
    ];
    for (change, expected) in cases {
        let (dir, store) = fresh();
        filled(&store, 0, 5);
        store.close().unwrap();
        Connection::open(dir.path().join("state.db")).unwrap().execute_batch(change).unwrap();
        match Store::open(dir.path(), Options::default()) {
            Ok(_) => panic!("opened after {change}"),
            Err(error) => assert!(expected(&error), "{change}: {error}"),
        }
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("state.db"),
        b"not a database at all, by far too long to be taken for an empty one".repeat(40),
    )
    .unwrap();
    assert!(matches!(Store::open(dir.path(), Options::default()), Err(StoreError::Engine(_))));
    assert!(Store::open(Path::new("/proc/nowhere"), Options::default()).is_err());
}

/// A database written by the first release opens in this one with all it holds.
#[test]
fn schema_1_opens() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    Connection::open(dir.path().join("state.db"))
        .unwrap()
        .execute_batch(include_str!("fixtures/state-v1.sql"))
        .unwrap();
    check_backup(&dir.path().join("state.db")).unwrap();
    let store = open(&dir);
    store
        .read_blocking(|r| {
            assert_eq!(r.get(Collection::Agreements, "a001")?.unwrap().value, b"agreement");
            assert_eq!(r.tags(Collection::Agreements, "a001")?, [("state".to_owned(), "active".to_owned())]);
            assert_eq!(r.find(Collection::Agreements, "state", "active", None, 9)?.len(), 1);
            assert_eq!(r.outbox_due(at(9), 9)?.len(), 1);
            assert_eq!(r.outbox_len()?, 2);
            assert_eq!(r.seen("peer", "message", "hash")?, Seen::Repeat(b"answer".to_vec()));
            assert_eq!(r.counter("uses")?, 2);
            assert_eq!(r.duty("d")?.unwrap().evidence.unwrap(), b"proof");
            assert_eq!(r.duties_ready(at(20), 9)?.len(), 1);
            let head = r.ledger_head()?;
            assert_eq!(head.size, 2);
            assert_eq!(r.ledger_evidence(0, 2)?.unwrap().verify(&head), Ok(()));
            Ok::<_, StoreError>(())
        })
        .unwrap();
    assert_eq!(write(&store, |tx| tx.counter_add("uses", 1, Some(3))).unwrap(), Added::Now(3));
    filled(&store, 2, 4);
}
