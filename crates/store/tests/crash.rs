//! Death at any moment: what was answered is there, nothing is half there, nothing is there twice.
//!
//! The test binary starts itself again as the writing process. With the feature `crash-points` it also dies at
//! each named point of the store.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use store::{Added, Collection, Expect, Options, Store, StoreError, check_backup};
use support::{T0, at, item, record, salt, write};

const FOLDER: &str = "STORE_TEST_FOLDER";
const WRITERS: &str = "STORE_TEST_WRITERS";
const C: Collection = Collection::Transfers;

/// One step of writer `w`: all five tables in one transaction. Refuses to do any step twice.
fn step(store: &Store, w: u32, n: u64) {
    write(store, move |tx| {
        let key = format!("{w}/{n:08}");
        tx.put(C, &key, key.as_bytes(), Expect::Absent)?;
        assert_eq!(tx.counter_add(&format!("{w}"), 1, None)?, Added::Now(n + 1));
        tx.outbox_push(&item(&key, &w.to_string(), at(n as i64)))?;
        tx.remember("peer", &key, "hash", b"", T0)?;
        tx.ledger_append(&record(n as i64), &salt(n as i64)).map(drop)
    })
    .unwrap();
}

fn run_writer(store: &Store, w: u32, steps: u64, acknowledge: bool) {
    let first = store.read_blocking(move |r| r.counter(&w.to_string())).unwrap();
    for n in first..first.saturating_add(steps) {
        step(store, w, n);
        if acknowledge {
            // One call, so that lines of several writers do not mix.
            std::io::stdout().write_all(format!("\nack {w} {n}\n").as_bytes()).unwrap();
        }
    }
}

/// The writing process; run by hand it writes a little and checks that all is there.
#[test]
fn writing_process() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let store = Store::open(Path::new(&folder), Options::default()).unwrap();
        let writers: u32 = std::env::var(WRITERS).unwrap().parse().unwrap();
        std::thread::scope(|scope| {
            for w in 0..writers {
                let store = &store;
                scope.spawn(move || run_writer(store, w, u64::MAX, true));
            }
        });
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    for _ in 0..2 {
        run_writer(&store, 0, 10, false);
    }
    drop(store);
    assert_eq!(stored(dir.path(), 1), BTreeMap::from([(0, 20)]));
}

fn start(folder: &Path, writers: u32, crash: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "writing_process", "--nocapture"])
        .env(FOLDER, folder)
        .env(WRITERS, writers.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(crash) = crash {
        command.env("FAIRLEAD_CRASH", crash);
    }
    command.spawn().unwrap()
}

/// Reads acknowledgements until the process ends, killing it after `kill_after` of them. Gives, for each writer,
/// how many steps it saw answered in all.
fn acknowledged(mut child: Child, kill_after: Option<usize>) -> BTreeMap<u32, u64> {
    let mut answered = BTreeMap::new();
    let mut count = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The kill can cut the last line: only a whole one is an acknowledgement.
        let mut words = line.split(' ');
        let (Some("ack"), Some(w), Some(n)) = (words.next(), words.next(), words.next()) else { continue };
        let (w, n): (u32, u64) = (w.parse().unwrap(), n.parse().unwrap());
        answered.insert(w, n + 1);
        count += 1;
        if Some(count) == kill_after {
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    answered
}

/// What is in the store, after checking that its tables tell the same story. Gives each writer's steps.
fn stored(folder: &Path, writers: u32) -> BTreeMap<u32, u64> {
    let store = Store::open(folder, Options::default()).unwrap();
    let mut steps = BTreeMap::new();
    for w in 0..writers {
        let n = store
            .read_blocking(move |r| {
                let n = r.counter(&w.to_string())?;
                let mut after = None;
                for expected in 0..n {
                    if expected % 100 == 0 {
                        let page = r.scan(C, &format!("{w}/"), after.as_deref(), 100)?;
                        for (place, row) in page.iter().enumerate() {
                            assert_eq!(row.key, format!("{w}/{:08}", expected + place as u64));
                            assert!(r.outbox_get(&row.key)?.is_some());
                            assert_eq!(r.seen("peer", &row.key, "hash")?, store::Seen::Repeat(Vec::new()));
                        }
                        after = page.last().map(|row| row.key.clone());
                    }
                }
                assert_eq!(
                    r.scan(C, &format!("{w}/"), after.as_deref(), 1)?,
                    [],
                    "no row beyond the counter"
                );
                Ok::<_, StoreError>(n)
            })
            .unwrap();
        steps.insert(w, n);
    }
    let total: u64 = steps.values().sum();
    assert_eq!(store.read_blocking(|r| r.outbox_len()).unwrap(), total);
    assert_eq!(store.read_blocking(|r| r.ledger_head()).unwrap().size, total);
    store.close().unwrap();
    assert_eq!(check_backup(&folder.join("state.db")).unwrap().ledger.size, total);
    steps
}

#[test]
fn killed_at_any_moment() {
    const WRITING: u32 = 4;
    let dir = tempfile::tempdir().unwrap();
    let mut before = BTreeMap::new();
    for kill_after in [1, 2, 5, 9, 20, 41, 77, 130, 211, 300] {
        let answered = acknowledged(start(dir.path(), WRITING, None), Some(kill_after));
        let found = stored(dir.path(), WRITING);
        for (w, steps) in &answered {
            // A writer waits for each answer, so at most one step can be stored without one.
            assert!(
                (*steps..=steps + 1).contains(&found[w]),
                "writer {w}: {steps} answered, {} stored",
                found[w]
            );
        }
        for (w, steps) in &before {
            assert!(found[w] >= *steps, "writer {w} lost steps of an earlier life");
        }
        before = found;
    }
}

#[cfg(feature = "crash-points")]
#[test]
fn dies_at_each_named_point() {
    let cases = [
        ("store.before-commit", 1, 0),
        ("store.before-commit", 5, 4),
        ("store.after-commit", 1, 1),
        ("store.after-commit", 5, 5),
    ];
    for (point, pass, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let answered = acknowledged(start(dir.path(), 1, Some(&format!("{point}:{pass}"))), None);
        assert_eq!(answered.get(&0).copied().unwrap_or(0), pass - 1, "{point}:{pass}");
        assert_eq!(stored(dir.path(), 1)[&0], expected, "{point}:{pass}");
        // The next life goes on where this one ended.
        let store = Store::open(dir.path(), Options::default()).unwrap();
        run_writer(&store, 0, 3, false);
        drop(store);
        assert_eq!(stored(dir.path(), 1)[&0], expected + 3);
    }
}
