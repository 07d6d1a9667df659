//! Use sessions that stay open: what a program reads at the use endpoint, who may not, and what ends them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use federation_tests::command::exit;
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, MARKETING, RESEARCH, bytes};
use federation_tests::process::command;
use federation_tests::reader::Opened;
use federation_tests::space::Space;
use federation_tests::wait::until;
use policy::time::UnixMillis;
use serde_json::Value;

const PROVIDER: &str = "hong-kong";
const CONSUMER: &str = "guangzhou";
const MIB: usize = 1024 * 1024;

/// Publishes, negotiates and pulls; gives the agreement.
fn held(space: &mut Space, dataset: &Dataset, content: &[u8]) -> String {
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    let file = format!("{}.csv", dataset.name);
    std::fs::write(provider.sources().join(&file), content).unwrap();
    let dataset = provider.publish(dataset, &shared_file(&file));
    consumer.finds(&dataset);
    let agreement = consumer.negotiate(&dataset);
    consumer.pull(&agreement);
    agreement
}

fn open(connector: &Connector, agreement: &str) -> Opened {
    Opened::of(connector.run(&["session", "open", agreement, "--purpose", RESEARCH]).object())
}

/// The ledger's last word on a session.
fn closed(connector: &Connector, session: &str) -> Option<Value> {
    let ours = |record: &Value| record["kind"] == "use-closed" && record["subject"]["session"] == *session;
    connector.ledger().into_iter().rev().find(ours).map(|record| record["subject"].clone())
}

fn ends(connector: &Connector, session: &str, end: &str) -> Value {
    let closed = until(&format!("{session} has ended"), || closed(connector, session));
    assert_eq!(closed["end"], end, "{closed}");
    closed
}

#[test]
fn programs_read_at_any_offset() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let content = bytes(3 * MIB + 17, 1);
    let agreement = held(&mut space, &Dataset::research("weather").counted(2), &content);
    let [consumer] = space.all([CONSUMER]);
    let refused = ["session", "open", &agreement, "--purpose", MARKETING];
    consumer.run(&refused).refused(exit::REFUSED_BY_POLICY, "policy/purpose-not-permitted");

    let session = open(consumer, &agreement);
    assert_eq!(session.shown["uses_left"], 1);
    let answer = session.get(&[]);
    let tag = answer.header("etag").unwrap().to_owned();
    assert_eq!((answer.status, answer.header("accept-ranges")), (200, Some("bytes")));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.body() == content);
    // Ranges, as programs ask for them, several at once.
    let cases = [
        ("bytes=0-9", 0..10),
        ("bytes=1048570-1048589", 1_048_570..1_048_590),
        ("bytes=-17", 3 * MIB..3 * MIB + 17),
    ];
    let answers: Vec<_> = cases.iter().map(|(range, _)| session.get(&[&format!("Range: {range}")])).collect();
    for (answer, (range, expected)) in answers.into_iter().zip(cases) {
        assert_eq!(answer.status, 206, "{range}");
        let told = format!("bytes {}-{}/{}", expected.start, expected.end - 1, content.len());
        assert_eq!(answer.header("content-range"), Some(told.as_str()));
        assert!(answer.body() == content[expected], "{range}");
    }
    let head = session.ask("HEAD", session.path(), &[&session.bearer()]);
    assert_eq!(head.header("content-length"), Some(content.len().to_string().as_str()));
    assert!(head.rest().0.is_empty());
    assert_eq!(session.get(&[&format!("If-None-Match: {tag}")]).status, 304);
    assert_eq!(session.get(&["Range: bytes=0-9", "If-Range: \"other\""]).status, 200);
    assert_eq!(session.get(&["Range: bytes=0-9", &format!("If-Range: {tag}")]).status, 206);
    session.get(&["Range: bytes=99999999-"]).refused(416, "dsp/bad-range");

    let about = session.ask("GET", &format!("/sessions/{}", session.id), &[&session.bearer()]);
    let about: Value = serde_json::from_slice(&about.body()).unwrap();
    assert_eq!(about["objects"][0]["url"], *session.url);
    assert!(!about.to_string().contains(&session.token), "the token is told once");
    assert!(
        !consumer
            .run(&["session", "list"])
            .done()
            .output
            .windows(43)
            .any(|part| part == session.token.as_bytes())
    );

    // One session is one use, however much of it is read, and also when it is renewed.
    consumer.run(&["session", "renew", &session.id]).done();
    assert_eq!(consumer.show("holdings", &agreement)["uses"], 1);
    let receipt = consumer.run(&["session", "close", &session.id]).object();
    assert_eq!(
        (&receipt["session"], receipt["receipt"].as_str().unwrap().split('.').count()),
        (&session.id.as_str().into(), 3)
    );
    assert_eq!(closed(consumer, &session.id).unwrap()["bytes"], receipt["bytes"].to_string());
    session.get(&[]).refused(410, "use/session-closed");
    consumer.run(&["session", "show", &session.id]).refused(exit::REFUSED_BY_POLICY, "use/session-closed");
    consumer.run(&["session", "show", "urn:uuid:0"]).refused(exit::NOT_FOUND, "use/no-such-session");

    let last = open(consumer, &agreement);
    consumer
        .run(&["session", "open", &agreement, "--purpose", RESEARCH])
        .refused(exit::REFUSED_BY_POLICY, "policy/count-spent");
    assert!(last.get(&[]).body() == content, "a spent count ends no session that it paid for");
}

#[test]
fn strangers_and_web_pages_read_nothing() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let first = held(&mut space, &Dataset::research("weather"), b"one");
    let second = held(&mut space, &Dataset::research("tides"), b"two");
    let [consumer] = space.all([CONSUMER]);
    let (session, other) = (open(consumer, &first), open(consumer, &second));
    let own = session.bearer();
    let ask = |method: &str, path: &str, headers: &[&str]| session.ask(method, path, headers);
    ask("GET", session.path(), &[]).refused(401, "use/bad-session-token");
    ask("GET", session.path(), &[&other.bearer()]).refused(401, "use/bad-session-token");
    ask("GET", "/sessions/urn:uuid:0", &[&own]).refused(401, "use/bad-session-token");
    ask("GET", session.path(), &[&own, "Host: evil.example"]).refused(421, "use/other-host");
    ask("GET", session.path(), &[&own, "Host: localhost:1"]).refused(421, "use/other-host");
    ask("GET", session.path(), &[&own, "Origin: http://localhost"]).refused(403, "use/from-a-web-page");
    ask("POST", session.path(), &[&own, "Content-Length: 0"]).refused(405, "use/read-only");
    for nothing in [
        "/",
        "/sessions",
        &format!("/sessions/{}/objects/tides.csv", session.id),
        &format!("/sessions/{}/x", session.id),
    ] {
        let answer = ask("GET", nothing, &[&own]);
        assert_eq!(answer.status, 404, "{nothing}");
    }
    // Another user of this host shows the token in vain: the kernel tells who asks.
    if rustix::process::geteuid().is_root() {
        let stolen = session.clone();
        let asked = std::thread::spawn(move || {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(54_321)).unwrap();
            stolen.get(&[]).refused(403, "use/other-user");
        });
        asked.join().unwrap();
    }
    assert!(session.get(&[]).body() == b"one");
}

#[test]
fn what_changes_ends_sessions_and_running_downloads() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let content = bytes(64 * MIB, 7);
    let agreement = held(&mut space, &Dataset::research("weather"), &content);
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    let (idle, reading) = (open(consumer, &agreement), open(consumer, &agreement));
    let mut download = reading.get(&[]);
    assert!(download.take(MIB) == content[..MIB]);
    provider.run(&["agreement", "suspend", &agreement, "--reason", "checking"]).done();
    for session in [&idle, &reading] {
        ends(consumer, &session.id, "transfer/agreement-suspended");
    }
    let (rest, whole) = download.rest();
    assert!(!whole && rest.len() < content.len() - MIB, "{} bytes came after the stop", rest.len());
    reading.get(&[]).refused(410, "transfer/agreement-suspended");
    assert!(consumer.list("session").is_empty());

    provider.run(&["agreement", "resume", &agreement]).done();
    let session = until("the agreement is active again", || {
        let opened = consumer.run(&["session", "open", &agreement, "--purpose", RESEARCH]);
        (opened.exit == 0).then(|| Opened::of(opened.object()))
    });
    let mut download = session.get(&[]);
    download.take(MIB);
    consumer.run(&["holdings", "delete", &agreement]).done();
    ends(consumer, &session.id, "use/destroyed");
    assert!(!download.rest().1);
    let open = ["session", "open", &agreement, "--purpose", RESEARCH];
    consumer.run(&open).refused(exit::REFUSED_BY_POLICY, "use/destroyed");
}

#[test]
fn a_date_that_passes_ends_an_idle_session() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let end = UnixMillis(i64::try_from(now).unwrap() + 15_000).to_string();
    let agreement = held(&mut space, &Dataset::research("weather").until(&end), b"soon gone");
    let [consumer] = space.all([CONSUMER]);
    let session = open(consumer, &agreement);
    assert_eq!(session.shown["valid_until"], *end);
    assert!(session.get(&[]).body() == b"soon gone");
    ends(consumer, &session.id, "use/decision-expired");
    session.get(&[]).refused(410, "use/decision-expired");
}

#[test]
fn sessions_that_nobody_reads_or_renews_end() {
    let mut space = Space::empty();
    for (name, limits) in
        [(PROVIDER, ""), (CONSUMER, "use_session_idle_seconds = 1\nuse_session_seconds = 60\n")]
    {
        let connector = space.enrol(name);
        connector.settings.limits.push_str(limits);
        connector.start();
    }
    space.introduce();
    let agreement = held(&mut space, &Dataset::research("weather"), b"data");
    let [consumer] = space.all([CONSUMER]);
    let session = open(consumer, &agreement);
    ends(consumer, &session.id, "use/session-idle");
    session.get(&[]).refused(410, "use/session-idle");
    consumer.settings.limits = "use_session_idle_seconds = 60\nuse_session_seconds = 1\n".into();
    consumer.reload();
    let session = open(consumer, &agreement);
    ends(consumer, &session.id, "use/session-over");
}

#[test]
fn no_session_outlives_its_connector() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let agreement = held(&mut space, &Dataset::research("weather").counted(3), b"data");
    let [consumer] = space.all([CONSUMER]);
    let stopped = open(consumer, &agreement);
    consumer.restart();
    assert_eq!(ends(consumer, &stopped.id, "use/connector-stopped")["bytes"], "0");
    let killed = open(consumer, &agreement);
    assert!(killed.get(&[]).body() == b"data");
    consumer.kill();
    consumer.start();
    assert_eq!(ends(consumer, &killed.id, "use/connector-stopped")["bytes"], "unknown");
    let held = consumer.show("holdings", &agreement);
    assert_eq!(
        (&held["uses"], &held["uses_left"]),
        (&2.into(), &1.into()),
        "a crash wastes a use and gains none"
    );
}

#[test]
fn a_connector_leaves_no_core_dump() {
    let mut space = Space::of(&[CONSUMER]);
    let [consumer] = space.all([CONSUMER]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", consumer.process().id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

/// What `holdings show` tells of a copy before it is used: actions with what they wait for, and how each part is held.
struct Told {
    dataset: Dataset,
    /// Of reading: outcome, code, and what a use has to state or to have done.
    reading: (&'static str, &'static str, &'static [&'static str]),
    /// What time changes first; empty for nothing.
    changes: &'static str,
    left: i64,
    /// Clause, term and layer.
    layers: &'static [(&'static str, &'static str, &'static str)],
}

const LATE: &str = "2099-01-01T00:00:00Z";

fn told() -> [Told; 5] {
    const ACTION: (&str, &str, &str) = ("1", "read", "mediated");
    const PURPOSE: (&str, &str, &str) = ("1", "purpose", "procedural");
    [
        Told {
            dataset: Dataset::research("free"),
            reading: ("permit", "", &["purpose"]),
            changes: "",
            left: -1,
            layers: &[ACTION, PURPOSE],
        },
        Told {
            dataset: Dataset::research("counted").counted(2).until(LATE),
            reading: ("permit", "", &["purpose"]),
            changes: "permission",
            left: 2,
            layers: &[ACTION, ("1", "count", "mediated"), ("1", "dateTime", "mediated"), PURPOSE],
        },
        Told {
            dataset: Dataset::research("leased").counted(1).leased("PT1H"),
            reading: ("permit", "", &["purpose"]),
            changes: "lease",
            left: 1,
            layers: &[
                ("1", "read", "leased"),
                ("1", "count", "leased"),
                PURPOSE,
                ("1", "fl:keyLease", "leased"),
            ],
        },
        Told {
            dataset: Dataset::research("owed").owing("odrl:compensate", &[]).deleted_by(LATE),
            reading: ("permit", "", &["purpose", "duty"]),
            changes: "delete",
            left: -1,
            layers: &[ACTION, PURPOSE, ("1.1", "delete", "sealed"), ("1.2", "compensate", "procedural")],
        },
        Told {
            dataset: Dataset::research("spent").counted(1),
            reading: ("deny", "policy/count-spent", &[]),
            changes: "",
            left: 0,
            layers: &[ACTION, ("1", "count", "mediated"), PURPOSE],
        },
    ]
}

#[test]
fn a_holding_tells_what_may_be_done_and_how_each_clause_is_held() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    for Told { dataset, reading: (outcome, code, needs), changes, left, layers } in told() {
        let agreement = held(&mut space, &dataset, b"data");
        let [consumer] = space.all([CONSUMER]);
        if code == "policy/count-spent" {
            assert_eq!(consumer.read(&agreement, RESEARCH).exit, exit::DONE);
        }
        let shown = consumer.show("holdings", &agreement);
        let may = &shown["may"][0];
        let told_needs: Vec<&str> =
            may["needs"].as_array().unwrap().iter().map(|need| need.as_str().unwrap()).collect();
        assert_eq!(
            (may["action"].as_str(), may["outcome"].as_str(), may["code"].as_str(), told_needs.as_slice()),
            (Some("read"), Some(outcome), Some(code), needs),
            "{shown}"
        );
        assert_eq!((&shown["changes"], &shown["uses_left"]), (&changes.into(), &left.into()), "{shown}");
        assert_eq!(shown["changes_at"].as_str().unwrap().is_empty(), changes.is_empty(), "{shown}");
        let told_layers: Vec<_> = shown["layers"].as_array().unwrap().iter().collect();
        let told_layers: Vec<[&str; 3]> = told_layers
            .iter()
            .map(|held| ["clause", "term", "layer"].map(|member| held[member].as_str().unwrap()))
            .collect();
        let expected: Vec<[&str; 3]> =
            layers.iter().map(|(clause, term, layer)| [*clause, *term, *layer]).collect();
        assert_eq!(told_layers, expected, "{}", dataset.name);
        // People get the same as tables.
        let mut people = command();
        people.arg("--data").arg(consumer.data()).args(["holdings", "show", &agreement]);
        let table = String::from_utf8(people.output().unwrap().stdout).unwrap();
        for (clause, term, layer) in layers {
            let said = |line: &str| [*clause, *term, *layer].iter().all(|cell| line.contains(cell));
            assert!(table.lines().any(said), "{clause} {term} {layer}: {table}");
        }
    }
}

#[test]
fn a_holding_tells_who_uses_it() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let agreement = held(&mut space, &Dataset::research("weather").until(LATE), b"data");
    let [consumer] = space.all([CONSUMER]);
    let shown = |consumer: &Connector| consumer.show("holdings", &agreement)["sessions"].clone();
    assert_eq!(shown(consumer), Value::Array(Vec::new()));
    let session = open(consumer, &agreement);
    let told = &shown(consumer)[0];
    let user = format!("uid {}", rustix::process::geteuid().as_raw());
    let until = UnixMillis::parse_rfc3339(LATE).unwrap().to_string();
    assert_eq!(
        ["session", "actor", "action", "purpose", "valid_until"].map(|member| told[member].as_str().unwrap()),
        [session.id.as_str(), &user, "read", RESEARCH, &until],
        "{told}"
    );
    consumer.run(&["session", "close", &session.id]).done();
    assert_eq!(shown(consumer), Value::Array(Vec::new()));
}
