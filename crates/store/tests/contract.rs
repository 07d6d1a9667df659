//! What every store must do, over the public interface alone: a second engine is fed to the same suite.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::mpsc;

use control_plane::UnixMillis;
use ledger::{Evidence, TreeHead, verify_consistency};
use proptest::prelude::*;
use store::{
    Added, Collection, DutyState, Expect, MAX_GROUP, MAX_KEY_BYTES, MAX_OUTBOX, MAX_PAGE, MAX_VALUE_BYTES,
    NewDuty, Options, OutboxItem, Row, Seen, Signal, Snapshot, Store, StoreError,
};
use support::{T0, at, fresh, item, open, record, salt, write};

const C: Collection = Collection::Negotiations;

// ---- rows ----

#[derive(Clone, Debug)]
enum Op {
    Put { key: String, value: u8, expect: u8 },
    Delete { key: String, stale: bool },
    Tag { key: String, value: String },
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{1,2}", "[ab]/[ab政]"]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (keys(), any::<u8>(), 0u8..4).prop_map(|(key, value, expect)| Op::Put { key, value, expect }),
        2 => (keys(), any::<bool>()).prop_map(|(key, stale)| Op::Delete { key, stale }),
        2 => (keys(), "[xy]").prop_map(|(key, value)| Op::Tag { key, value }),
    ];
    prop::collection::vec(op, 1..40)
}

type Model = BTreeMap<String, (u64, Vec<u8>, Option<String>)>;

fn apply(store: &Store, model: &mut Model, op: &Op) {
    let found = model.get(key_of(op)).map(|row| row.0);
    let op = op.clone();
    match op {
        Op::Put { key, value, expect } => {
            let expect = match (expect, found) {
                (0, _) => Expect::Any,
                (1, _) => Expect::Absent,
                (2, Some(version)) => Expect::Version(version),
                (_, found) => Expect::Version(found.unwrap_or(0) + 1_000_000),
            };
            let allowed = match expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Version(version) => found == Some(version),
            };
            let written = write(store, {
                let key = key.clone();
                move |tx| tx.put(C, &key, &[value], expect)
            });
            match written {
                Ok(version) => {
                    assert!(allowed && model.values().all(|row| row.0 < version), "versions only grow");
                    let tag = model.get(&key).and_then(|row| row.2.clone());
                    model.insert(key, (version, vec![value], tag));
                }
                Err(StoreError::VersionConflict { found: seen, .. }) => assert!(!allowed && seen == found),
                Err(other) => panic!("{other}"),
            }
        }
        Op::Delete { key, stale } => {
            let expect = if stale { Expect::Version(0) } else { Expect::Any };
            let deleted = write(store, {
                let key = key.clone();
                move |tx| tx.delete(C, &key, expect)
            });
            match deleted {
                Ok(deleted) => assert_eq!((deleted, stale), (model.remove(&key).is_some(), false)),
                Err(error) => assert!(stale && matches!(error, StoreError::VersionConflict { .. })),
            }
        }
        Op::Tag { key, value } => {
            let tagged = write(store, {
                let (key, value) = (key.clone(), value.clone());
                move |tx| tx.tag(C, &key, &[("state", &value)])
            });
            match model.get_mut(&key) {
                Some(row) => {
                    tagged.unwrap();
                    row.2 = Some(value);
                }
                None => assert!(matches!(tagged, Err(StoreError::Missing { .. }))),
            }
        }
    }
}

fn key_of(op: &Op) -> &str {
    match op {
        Op::Put { key, .. } | Op::Delete { key, .. } | Op::Tag { key, .. } => key,
    }
}

fn compare(store: &Store, model: &Model) {
    let rows = |wanted: &dyn Fn(&str, &Option<String>) -> bool| -> Vec<Row> {
        model
            .iter()
            .filter(|(key, row)| wanted(key, &row.2))
            .map(|(key, (version, value, _))| Row {
                key: key.clone(),
                version: *version,
                value: value.clone(),
            })
            .collect()
    };
    for prefix in ["", "a", "a/", "b", "c"] {
        let found: Vec<Row> = paged(store, move |r, after| r.scan(C, prefix, after, 2));
        assert_eq!(found, rows(&|key, _| key.starts_with(prefix)), "prefix `{prefix}`");
    }
    for value in ["x", "y", "z"] {
        let found = paged(store, move |r, after| r.find(C, "state", value, after, 2));
        assert_eq!(found, rows(&|_, tag| tag.as_deref() == Some(value)), "tag {value}");
    }
    let other: Vec<Row> = paged(store, |r, after| r.scan(Collection::Agreements, "", after, 2));
    assert_eq!(other, [], "collections do not mix");
}

fn paged(
    store: &Store,
    page: impl Fn(&Snapshot<'_>, Option<&str>) -> Result<Vec<Row>, StoreError> + Send + 'static,
) -> Vec<Row> {
    store
        .read_blocking(move |r| {
            let mut all: Vec<Row> = Vec::new();
            loop {
                let next = page(r, all.last().map(|row| row.key.as_str()))?;
                if next.is_empty() {
                    return Ok::<_, StoreError>(all);
                }
                all.extend(next);
            }
        })
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    /// Rows, versions, pages and tags behave as a map does, and a restart changes nothing.
    #[test]
    fn rows_follow_a_map(ops in ops()) {
        let (dir, store) = fresh();
        let mut model = Model::new();
        for op in &ops {
            apply(&store, &mut model, op);
        }
        compare(&store, &model);
        drop(store);
        compare(&open(&dir), &model);
    }
}

#[test]
fn keys_and_values_are_bounded() {
    let (_dir, store) = fresh();
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    for key in ["", "a\nb", "a\u{10ffff}", &long] {
        let key = key.to_owned();
        let refused = write(&store, move |tx| tx.put(C, &key, b"", Expect::Any));
        assert!(matches!(refused, Err(StoreError::Limit { .. })));
    }
    let put = |len: usize| write(&store, move |tx| tx.put(C, "k", &vec![1; len], Expect::Any));
    assert!(put(MAX_VALUE_BYTES).is_ok());
    assert!(matches!(put(MAX_VALUE_BYTES + 1), Err(StoreError::Limit { .. })));
    let page = store.read_blocking(|r| r.scan(C, "", None, MAX_PAGE + 1));
    assert!(matches!(page, Err(StoreError::Limit { .. })));
}

// ---- transactions ----

#[test]
fn a_failed_closure_undoes_itself_alone() {
    let (_dir, store) = fresh();
    let gate = hold_writer(&store);
    let mut callers = Vec::new();
    for n in 0..30 {
        let store = store.clone();
        callers.push(std::thread::spawn(move || {
            write(&store, move |tx| {
                tx.put(C, &format!("k{n:02}"), b"", Expect::Absent)?;
                tx.outbox_push(&item(&format!("m{n}"), "lane", T0))?;
                match n % 3 {
                    0 => Ok(()),
                    1 => Err(StoreError::Missing { what: "test", id: n.to_string() }),
                    _ => panic!("a panic inside a transaction"),
                }
            })
        }));
    }
    gate.send(()).unwrap();
    for (n, caller) in callers.into_iter().enumerate() {
        let outcome = caller.join().unwrap();
        match n % 3 {
            0 => assert!(outcome.is_ok()),
            1 => assert!(matches!(outcome, Err(StoreError::Missing { .. }))),
            _ => assert!(matches!(outcome, Err(StoreError::Panicked))),
        }
    }
    let kept = paged(&store, |r, after| r.scan(C, "", after, 100));
    assert_eq!(kept.len(), 10);
    assert_eq!(store.read_blocking(|r| r.outbox_len()).unwrap(), 10);
}

/// Keeps the writer inside a transaction until told to go on.
fn hold_writer(store: &Store) -> mpsc::Sender<()> {
    let (entered, is_in) = mpsc::channel();
    let (gate, go_on) = mpsc::channel();
    let store = store.clone();
    std::thread::spawn(move || {
        let _ = write(&store, move |_| {
            entered.send(()).unwrap();
            let _ = go_on.recv();
            Ok(())
        });
    });
    is_in.recv().unwrap();
    gate
}

#[test]
fn many_callers_share_commits() {
    const CALLERS: u64 = 1000;
    let (_dir, store) = fresh();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let before = store.stats();
        let gate = hold_writer(&store);
        let mut callers = tokio::task::JoinSet::new();
        for n in 0..CALLERS {
            let store = store.clone();
            callers.spawn(async move {
                store
                    .write(move |tx| tx.put(C, &format!("{n}"), b"", Expect::Absent))
                    .await
                    .map_err(|e: StoreError| e.to_string())
            });
        }
        // One poll queues a task's closure, and each yield lets at least one task be polled; then the writer may begin.
        for _ in 0..CALLERS {
            tokio::task::yield_now().await;
        }
        gate.send(()).unwrap();
        let outcomes = callers.join_all().await;
        assert!(outcomes.iter().all(Result::is_ok));
        let after = store.stats();
        assert_eq!(after.writes - before.writes, CALLERS + 1);
        let commits = after.commits - before.commits;
        assert!(commits <= CALLERS.div_ceil(MAX_GROUP as u64) + 1, "{commits} commits");
    });
}

#[test]
fn readers_see_one_state_and_only_committed_ones() {
    let (_dir, store) = fresh();
    write(&store, |tx| tx.put(C, "a", b"1", Expect::Any)).unwrap();
    let (entered, is_in) = mpsc::channel();
    let (gate, go_on) = mpsc::channel::<()>();
    let reader = {
        let store = store.clone();
        std::thread::spawn(move || {
            store.read_blocking(move |r| {
                let first = r.get(C, "a")?;
                entered.send(()).unwrap();
                go_on.recv().unwrap();
                Ok::<_, StoreError>((first, r.get(C, "a")?))
            })
        })
    };
    is_in.recv().unwrap();
    write(&store, |tx| tx.put(C, "a", b"2", Expect::Any)).unwrap();
    gate.send(()).unwrap();
    let (first, second) = reader.join().unwrap().unwrap();
    assert_eq!(first, second);
    let now = store.read_blocking(|r| r.get(C, "a")).unwrap().unwrap();
    assert_eq!(now.value, b"2");
}

#[test]
fn calls_that_would_wait_for_themselves_refuse() {
    let (_dir, store) = fresh();
    let inner = store.clone();
    let nested = write(&store, move |_| inner.read_blocking(|r| r.get(C, "a")));
    assert!(matches!(nested, Err(StoreError::Nested)));
    let inner = store.clone();
    let nested = store.read_blocking(move |_| write(&inner, |_| Ok(())));
    assert!(matches!(nested, Err(StoreError::Nested)));
    let inner = store.clone();
    assert!(matches!(store.read_blocking(move |_| inner.close()), Err(StoreError::Nested)));
}

#[test]
fn a_closed_store_says_so_and_frees_its_folder() {
    let (dir, store) = fresh();
    assert!(matches!(Store::open(dir.path(), Options::default()), Err(StoreError::Locked(_))));
    write(&store, |tx| tx.put(C, "a", b"1", Expect::Any)).unwrap();
    store.close().unwrap();
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["state.db"], "the write-ahead log is folded into the one file that is left");
    assert!(matches!(write(&store, |_| Ok(())), Err(StoreError::Closed)));
    assert!(matches!(store.read_blocking(|r| r.get(C, "a")), Err(StoreError::Closed)));
    let again = open(&dir);
    assert!(again.read_blocking(|r| r.get(C, "a")).unwrap().is_some());
}

#[test]
fn signals_follow_commits() {
    let (_dir, store) = fresh();
    let mut signals: Vec<_> =
        [Signal::Outbox, Signal::Duties, Signal::Ledger, Signal::Rows(C), Signal::Rows(Collection::Local)]
            .into_iter()
            .map(|signal| store.subscribe(signal))
            .collect();
    let mut raised = move || -> Vec<bool> {
        signals
            .iter_mut()
            .map(|signal| {
                let changed = signal.has_changed().unwrap();
                signal.mark_unchanged();
                changed
            })
            .collect()
    };
    assert_eq!(raised(), [false; 5]);
    write(&store, |tx| tx.outbox_push(&item("m", "l", T0))).unwrap();
    write(&store, |_| Ok(())).unwrap();
    assert_eq!(raised(), [true, false, false, false, false]);
    write(&store, |tx| {
        tx.put(C, "a", b"", Expect::Any)?;
        tx.ledger_append(&record(1), &salt(1))
    })
    .unwrap();
    write(&store, |_| Ok(())).unwrap();
    assert_eq!(raised(), [false, false, true, true, false]);
    let failed = write(&store, |tx| {
        tx.put(C, "b", b"", Expect::Any)?;
        Err::<(), _>(StoreError::Busy)
    });
    write(&store, |_| Ok(())).unwrap();
    assert!(failed.is_err());
    assert_eq!(raised(), [false; 5], "an undone change is no change");
}

// ---- outbox ----

#[test]
fn outbox_keeps_lanes_in_order() {
    let (dir, store) = fresh();
    write(&store, |tx| {
        for (id, lane, due) in
            [("a1", "a", 0), ("a2", "a", 0), ("b1", "b", 50), ("b2", "b", 0), ("c1", "c", 20)]
        {
            assert!(tx.outbox_push(&item(id, lane, at(due)))?);
        }
        assert!(!tx.outbox_push(&item("a1", "a", at(7)))?, "the same item again changes nothing");
        let other = OutboxItem { body: b"other", ..item("a1", "a", at(0)) };
        assert!(matches!(tx.outbox_push(&other), Err(StoreError::IdReused { .. })));
        Ok(())
    })
    .unwrap();
    drop(store);
    let store = open(&dir);
    let due = |now: i64| -> Vec<String> {
        let entries = store.read_blocking(move |r| r.outbox_due(at(now), 10)).unwrap();
        entries.into_iter().map(|entry| entry.id).collect()
    };
    let next = || store.read_blocking(|r| r.outbox_next_due()).unwrap();
    assert_eq!(due(-1), [""; 0]);
    assert_eq!(next(), Some(at(0)));
    assert_eq!(due(0), ["a1"]);
    assert_eq!(due(60), ["a1", "c1", "b1"]);
    write(&store, |tx| tx.outbox_retry("a1", at(100), 1)).unwrap();
    assert_eq!(due(60), ["c1", "b1"], "a2 waits for a1");
    assert_eq!(next(), Some(at(20)));
    write(&store, |tx| Ok((tx.outbox_done("c1")?, tx.outbox_done("b1")?))).unwrap();
    assert_eq!(due(60), ["b2"]);
    let again = write(&store, |tx| tx.outbox_done("b1")).unwrap();
    assert!(!again);
    let entry = store.read_blocking(|r| r.outbox_get("a1")).unwrap().unwrap();
    assert_eq!((entry.attempts, entry.due, entry.body.as_slice()), (1, at(100), b"{}".as_slice()));
    assert_eq!(store.read_blocking(|r| r.outbox_len()).unwrap(), 3);
    assert!(matches!(write(&store, |tx| tx.outbox_retry("zz", T0, 1)), Err(StoreError::Missing { .. })));
}

#[test]
fn the_outbox_is_bounded() {
    let (_dir, store) = fresh();
    write(&store, |tx| {
        for n in 0..MAX_OUTBOX {
            tx.outbox_push(&item(&n.to_string(), &n.to_string(), T0))?;
        }
        Ok(())
    })
    .unwrap();
    let push = || write(&store, |tx| tx.outbox_push(&item("one more", "lane", T0)));
    assert!(matches!(push(), Err(StoreError::Limit { .. })));
    assert!(matches!(push(), Err(StoreError::Limit { .. })), "a refused push does not count");
    assert!(write(&store, |tx| tx.outbox_done("7")).unwrap());
    assert!(push().unwrap());
}

// ---- seen messages ----

#[test]
fn messages_are_answered_once() {
    let (dir, store) = fresh();
    write(&store, |tx| {
        assert_eq!(tx.seen("p", "m", "h")?, Seen::New);
        tx.remember("p", "m", "h", b"answer", T0)?;
        tx.remember("q", "m", "i", b"", at(5))
    })
    .unwrap();
    drop(store);
    let store = open(&dir);
    let cases = [
        ("p", "m", "h", Seen::Repeat(b"answer".to_vec())),
        ("p", "m", "other", Seen::Conflict),
        ("q", "m", "i", Seen::Repeat(Vec::new())),
        ("p", "n", "h", Seen::New),
        ("r", "m", "h", Seen::New),
    ];
    for (peer, id, hash, expected) in cases {
        assert_eq!(
            store.read_blocking(move |r| r.seen(peer, id, hash)).unwrap(),
            expected,
            "{peer} {id} {hash}"
        );
    }
    for hash in ["h", "other"] {
        let twice = write(&store, move |tx| tx.remember("p", "m", hash, b"", T0));
        assert!(matches!(twice, Err(StoreError::IdReused { .. })));
    }
    assert_eq!(write(&store, |tx| tx.seen_prune(at(5), 10)).unwrap(), 1);
    assert_eq!(store.read_blocking(|r| r.seen("p", "m", "h")).unwrap(), Seen::New);
    assert_ne!(store.read_blocking(|r| r.seen("q", "m", "i")).unwrap(), Seen::New);
}

// ---- counters ----

#[test]
fn counters_stop_at_their_ceiling() {
    let (_dir, store) = fresh();
    let max = i64::MAX as u64;
    let cases = [
        (1, Some(3), Added::Now(1)),
        (2, Some(3), Added::Now(3)),
        (1, Some(3), Added::CeilingReached { value: 3, ceiling: 3 }),
        (0, Some(2), Added::CeilingReached { value: 3, ceiling: 2 }),
        (1, None, Added::Now(4)),
        (u64::MAX, None, Added::CeilingReached { value: 4, ceiling: max }),
        (max - 4, None, Added::Now(max)),
        (1, None, Added::CeilingReached { value: max, ceiling: max }),
    ];
    for (by, ceiling, expected) in cases {
        assert_eq!(
            write(&store, move |tx| tx.counter_add("a/uses", by, ceiling)).unwrap(),
            expected,
            "{by} {ceiling:?}"
        );
    }
    assert_eq!(store.read_blocking(|r| r.counter("b")).unwrap(), 0);
    assert_eq!(write(&store, |tx| tx.counter_add("b", 2, None)).unwrap(), Added::Now(2));
    assert_eq!(store.read_blocking(|r| r.counters("a/", None, 10)).unwrap(), [("a/uses".to_owned(), max)]);
    assert_eq!(store.read_blocking(|r| r.counters("", Some("a/uses"), 10)).unwrap(), [("b".to_owned(), 2)]);
}

#[test]
fn competing_callers_never_pass_a_ceiling() {
    let (_dir, store) = fresh();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || {
                (0..20)
                    .filter(|_| {
                        matches!(write(&store, |tx| tx.counter_add("uses", 1, Some(50))), Ok(Added::Now(_)))
                    })
                    .count()
            })
        })
        .collect();
    let granted: usize = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    assert_eq!((granted, store.read_blocking(|r| r.counter("uses")).unwrap()), (50, 50));
}

// ---- duties ----

fn duty(id: &str) -> NewDuty<'_> {
    NewDuty { id, subject: "urn:agreement:1", kind: "delete", body: b"{}", start: at(10), deadline: at(20) }
}

#[test]
fn duties_move_along_their_table() {
    use DutyState::{Done, Due, Failed, Overdue, Running};
    let moves = [("start", Running), ("finish", Done), ("fail", Failed)];
    let allowed = [(Due, Running), (Failed, Running), (Overdue, Running), (Running, Done), (Running, Failed)];
    for from in [Due, Running, Done, Failed, Overdue] {
        for (name, to) in moves {
            let (_dir, store) = fresh();
            let outcome = write(&store, move |tx| {
                tx.duty_add(&duty("d"))?;
                match from {
                    Due => {}
                    Running => drop(tx.duty_start("d")?),
                    Done => {
                        tx.duty_start("d")?;
                        tx.duty_finish("d", b"proof", at(1))?;
                    }
                    Failed => {
                        tx.duty_start("d")?;
                        tx.duty_fail("d", "disk busy", at(12))?;
                    }
                    Overdue => drop(tx.duties_mark_overdue(at(21), 10)?),
                }
                assert_eq!(tx.duty("d")?.unwrap().state, from);
                match name {
                    "start" => tx.duty_start("d"),
                    "finish" => tx.duty_finish("d", b"proof", at(2)),
                    _ => tx.duty_fail("d", "again", at(13)),
                }
            });
            match outcome {
                Ok(duty) => {
                    assert!(allowed.contains(&(from, to)), "{from} {name}");
                    assert_eq!(duty.state, to);
                }
                Err(StoreError::DutyState { .. }) => assert!(!allowed.contains(&(from, to)), "{from} {name}"),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn duties_come_up_in_time_and_keep_their_evidence() {
    let (dir, store) = fresh();
    write(&store, |tx| {
        assert!(tx.duty_add(&duty("d"))?);
        assert!(!tx.duty_add(&duty("d"))?);
        assert!(matches!(
            tx.duty_add(&NewDuty { body: b"x", ..duty("d") }),
            Err(StoreError::IdReused { .. })
        ));
        tx.duty_add(&NewDuty { start: at(30), deadline: at(40), ..duty("e") })
    })
    .unwrap();
    let ready = |store: &Store, now: i64| -> Vec<String> {
        store
            .read_blocking(move |r| r.duties_ready(at(now), 10))
            .unwrap()
            .into_iter()
            .map(|duty| duty.id)
            .collect()
    };
    let next = |store: &Store| store.read_blocking(|r| r.duties_next()).unwrap();
    assert_eq!(ready(&store, 9), [""; 0]);
    assert_eq!(next(&store), Some(at(10)));
    assert_eq!(ready(&store, 10), ["d"]);
    write(&store, |tx| tx.duty_start("d")).unwrap();
    assert_eq!(ready(&store, 10), [""; 0]);
    assert_eq!(next(&store), Some(at(20)), "a running duty still has a deadline");

    // The process dies while the duty runs, and its deadline passes.
    drop(store);
    let store = open(&dir);
    assert_eq!(write(&store, |tx| tx.duties_interrupted(at(15))).unwrap(), 1);
    assert_eq!(ready(&store, 15), ["d"]);
    assert!(
        write(&store, |tx| tx.duties_mark_overdue(at(20), 10)).unwrap().is_empty(),
        "the deadline itself is in time"
    );
    let marked = write(&store, |tx| tx.duties_mark_overdue(at(21), 10)).unwrap();
    assert_eq!(marked.iter().map(|duty| duty.id.as_str()).collect::<Vec<_>>(), ["d"]);
    assert!(
        write(&store, |tx| tx.duties_mark_overdue(at(21), 10)).unwrap().is_empty(),
        "each is reported once"
    );
    let done = write(&store, |tx| {
        tx.duty_start("d")?;
        tx.duty_finish("d", b"proof", at(25))
    })
    .unwrap();
    assert_eq!(
        (done.attempts, done.overdue_since, done.done_at, done.evidence.as_deref(), done.note),
        (2, Some(at(21)), Some(at(25)), Some(b"proof".as_slice()), None)
    );
    write(&store, |tx| tx.duty_reschedule("e", at(5), at(6))).unwrap();
    assert_eq!(next(&store), Some(at(5)));
    assert!(matches!(write(&store, |tx| tx.duty_reschedule("d", T0, T0)), Err(StoreError::DutyState { .. })));
    let of = store.read_blocking(|r| r.duties_of("urn:agreement:1", Some("d"), 10)).unwrap();
    assert_eq!(of.iter().map(|duty| duty.id.as_str()).collect::<Vec<_>>(), ["e"]);
}

// ---- ledger ----

#[test]
fn the_ledger_proves_what_it_holds() {
    let (dir, store) = fresh();
    let mut heads: Vec<TreeHead> = vec![store.read_blocking(|r| r.ledger_head()).unwrap()];
    for n in 0..20 {
        let appended = write(&store, move |tx| tx.ledger_append(&record(n), &salt(n))).unwrap();
        assert_eq!(appended.seq, n as u64);
        heads.push(TreeHead { size: appended.seq + 1, root: appended.root });
    }
    assert_eq!(store.read_blocking(|r| r.ledger_head()).unwrap(), heads[20]);
    drop(store);
    let store = open(&dir);
    let evidence = |seq: u64, size: u64| store.read_blocking(move |r| r.ledger_evidence(seq, size)).unwrap();
    for size in [1, 7, 20] {
        assert_eq!(store.read_blocking(move |r| r.ledger_head_at(size)).unwrap(), heads[size as usize]);
        for seq in 0..size {
            let evidence = evidence(seq, size).unwrap();
            let evidence = Evidence::from_json(&evidence.to_json().unwrap()).unwrap();
            assert_eq!(evidence.record, record(seq as i64));
            assert_eq!(evidence.verify(&heads[size as usize]), Ok(()));
        }
        let proof = store.read_blocking(move |r| r.ledger_consistency(size, 20)).unwrap();
        assert_eq!(verify_consistency(size, &heads[size as usize].root, 20, &heads[20].root, &proof), Ok(()));
    }
    let seqs = |field: &'static str, value: &'static str, from: u64| -> Vec<u64> {
        let found = store.read_blocking(move |r| r.ledger_find(field, value, from, 3)).unwrap();
        found.into_iter().map(|entry| entry.seq).collect()
    };
    assert_eq!(seqs("agreement", "urn:agreement:1", 5), [7, 10, 13]);
    assert_eq!(seqs("agreement", "urn:agreement:9", 0), [0; 0]);
    assert_eq!(store.read_blocking(|r| r.ledger_of_kind("use-opened", 18, 10)).unwrap().len(), 2);

    assert!(write(&store, |tx| tx.ledger_erase(7)).unwrap());
    assert!(!write(&store, |tx| tx.ledger_erase(7)).unwrap());
    assert_eq!(evidence(7, 20), None);
    assert_eq!(seqs("agreement", "urn:agreement:1", 5), [10, 13, 16]);
    assert_eq!(evidence(8, 20).unwrap().verify(&heads[20]), Ok(()), "the others stay provable");
    let page = store.read_blocking(|r| r.ledger_page(6, 3)).unwrap();
    assert_eq!(
        page.iter().map(|entry| (entry.seq, entry.content.is_some())).collect::<Vec<_>>(),
        [(6, true), (7, false), (8, true)]
    );
    assert_eq!(store.read_blocking(|r| r.ledger_head()).unwrap(), heads[20]);
}

#[test]
fn an_undone_append_leaves_no_trace() {
    let (_dir, store) = fresh();
    let undone = write(&store, |tx| {
        tx.ledger_append(&record(0), &salt(0))?;
        Err::<(), _>(StoreError::Busy)
    });
    assert!(undone.is_err());
    let appended = write(&store, |tx| tx.ledger_append(&record(1), &salt(1))).unwrap();
    assert_eq!(appended.seq, 0);
    assert_eq!(store.read_blocking(|r| r.ledger_head()).unwrap(), TreeHead { size: 1, root: appended.leaf });
    assert_eq!(store.read_blocking(|r| r.restored_at()).unwrap(), None::<UnixMillis>);
}
