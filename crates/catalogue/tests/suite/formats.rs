//! Durable formats: rows and headers written by earlier versions must stay readable, byte for byte.

use catalogue::envelope::{Header, LIFETIME, MALFORMED_ENVELOPE};
use catalogue::log::{self, LogReader as _, LogStore as _, LogTable};
use catalogue::memory::MemoryLog;

use crate::support::{DAY, Members, NOW, Publisher, TIDE, add, harbour, taken};

/// As first written, without `begun` in the head.
const FIRST_ROWS: &str = include_str!("../fixtures/log-rows-v1.txt");
/// As written today.
const ROWS: &str = include_str!("../fixtures/log-rows-v1-begun.txt");

/// A log with every kind of row: published, withdrawn, renewed, forked.
fn example() -> MemoryLog {
    let publisher = Publisher::new(harbour());
    let members = Members(vec![publisher.clone()]);
    let mut log = MemoryLog::default();
    let first = add(&mut log, &publisher, TIDE, NOW);
    let mut fork = log.clone();
    let id = publisher.scope.participant.clone();
    let renewal = log::renew(&log, &id, NOW, DAY, &publisher).unwrap();
    taken(log::admit(&mut log, renewal, &members, NOW));
    let withdrawal =
        log::withdraw(&log, &id, &first.header.kind.dataset().unwrap().clone(), NOW, DAY, &publisher)
            .unwrap();
    taken(log::admit(&mut log, withdrawal, &members, NOW));
    let other = add(&mut fork, &publisher, TIDE, NOW);
    assert!(matches!(log::admit(&mut log, other.envelope, &members, NOW), Ok(log::Admission::Fork(_))));
    log
}

fn rows(log: &MemoryLog) -> String {
    let tables = [LogTable::Envelopes, LogTable::Heads, LogTable::Entries, LogTable::Evidence];
    let mut text = String::new();
    for table in tables {
        for (key, value) in log.scan(table, "", "", 100).unwrap() {
            text.push_str(&format!("{table:?}\t{key}\t{}\n", String::from_utf8(value).unwrap()));
        }
    }
    text
}

#[test]
fn rows_are_written_as_in_the_fixture_and_read_back() {
    let log = example();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/log-rows-v1-begun.txt"),
            rows(&log),
        )
        .unwrap();
    }
    assert_eq!(rows(&log), ROWS);
    assert!(read_back(ROWS).begun.is_some());
    assert!(read_back(FIRST_ROWS).begun.is_none());
}

fn read_back(rows: &str) -> log::Head {
    let mut read = MemoryLog::default();
    for line in rows.lines() {
        let [table, key, value] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let table = match table {
            "Envelopes" => LogTable::Envelopes,
            "Heads" => LogTable::Heads,
            "Entries" => LogTable::Entries,
            "Evidence" => LogTable::Evidence,
            other => panic!("{other}"),
        };
        read.put(table, key, value.as_bytes()).unwrap();
    }
    let id = harbour().participant;
    let head = log::head(&read, &id).unwrap().unwrap();
    assert_eq!((head.epoch, head.seq, head.live, head.frozen), (1, 3, 0, true));
    assert_eq!(head.renewal.as_ref().unwrap().seq, 2);
    let members = Members(vec![Publisher::new(harbour())]);
    for seq in 1..=3 {
        let envelope = log::envelope_at(&read, &id, 1, seq).unwrap().unwrap();
        assert_eq!(log::check(envelope, &members, NOW).unwrap().header().seq, seq);
    }
    head
}

#[test]
fn damaged_rows_are_said_to_be_damaged() {
    let id = harbour().participant;
    for value in ["", "{}", r#"{"version":2}"#, r#"{"version":1}"#, "[1]"] {
        let mut log = MemoryLog::default();
        log.put(LogTable::Heads, id.as_str(), value.as_bytes()).unwrap();
        assert!(log::head(&log, &id).is_err(), "{value}");
    }
}

#[test]
fn headers_have_one_form() {
    let good = concat!(
        r#"{"content":"sha-256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0","epoch":1,"expires":"2026-11-26T08:00:00.000Z","#,
        r#""graph":"https://harbour.example/id/tide","issued":"2026-11-25T08:00:00.000Z","kind":"PUBLISH","#,
        r#""prev":"sha-256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0","publisher":"https://harbour.example/id/connector","#,
        r#""seq":"18446744073709551615","version":1}"#
    );
    let header = Header::from_json(good.as_bytes()).unwrap();
    assert_eq!(header.to_json(), good);
    assert_eq!((header.seq, header.issued), (u64::MAX, NOW));
    for (from, to) in [
        (r#""version":1"#, r#""version":2"#),
        (r#""version":1"#, r#""version":1,"x":1"#),
        (r#"{"content""#, r#"{ "content""#),
        (r#""epoch":1"#, r#""epoch":0"#),
        (r#""epoch":1"#, r#""epoch":4294967296"#),
        (r#""epoch":1"#, r#""epoch":1.0"#),
        (r#""18446744073709551615""#, r#""0""#),
        (r#""18446744073709551615""#, r#""01""#),
        (r#""18446744073709551615""#, "7"),
        (r#""18446744073709551615""#, r#""1""#),
        ("PUBLISH", "publish"),
        ("PUBLISH", "WITHDRAW"),
        ("PUBLISH", "RENEW"),
        ("25T08:00:00.000Z", "25T08:00:00Z"),
        ("25T08:00:00.000Z", "25T16:00:00.000+08:00"),
        (r#""graph""#, r#""grap""#),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        let refusal = Header::from_json(changed.as_bytes()).unwrap_err();
        assert_eq!(refusal.code, &MALFORMED_ENVELOPE, "{to}: {refusal}");
    }
    for expires in ["2026-11-25T08:00:00.000Z", "2026-12-25T08:00:00.001Z"] {
        let changed = good.replacen("2026-11-26T08:00:00.000Z", expires, 1);
        assert_eq!(Header::from_json(changed.as_bytes()).unwrap_err().code, &LIFETIME);
    }
    let longest = good.replacen("2026-11-26T08:00:00.000Z", "2026-12-25T08:00:00.000Z", 1);
    assert!(Header::from_json(longest.as_bytes()).is_ok());
}
