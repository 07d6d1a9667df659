//! What one use is: by session, by object, by day. Counted before its first byte, once, whatever dies or runs beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::io::Read as _;
use std::time::{SystemTime, UNIX_EPOCH};

use federation_tests::command::exit;
use federation_tests::connector::Connector;
use federation_tests::data::{Dataset, RESEARCH, bytes};
use federation_tests::reader::{Opened, Reading};
use federation_tests::space::Space;
use federation_tests::wait::until;
use policy::time::UnixMillis;
use serde_json::Value;

const PROVIDER: &str = "hong-kong";
const CONSUMER: &str = "guangzhou";
const MIB: usize = 1024 * 1024;
/// Larger than what pipes and windows hold: its reader decides how long a session lasts.
const SLOW: usize = 24 * MIB;
const DAY: i64 = 24 * 60 * 60 * 1000;
/// From a start just before midnight to midnight: a connector starts, and a session opens, in a fraction of it.
const BEFORE_MIDNIGHT: i64 = 25_000;

fn space() -> Space {
    Space::of(&[PROVIDER, CONSUMER])
}

fn counted(name: &str, uses: u32, unit: &str) -> Dataset {
    Dataset::research(name).counted(uses).with("odrl:unitOfCount", "odrl:eq", unit)
}

/// Publishes a folder of objects, negotiates and pulls; gives the agreement.
fn held(space: &mut Space, dataset: &Dataset, objects: &[(&str, Vec<u8>)]) -> String {
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    let folder = provider.sources().join(&dataset.name);
    std::fs::create_dir(&folder).unwrap();
    for (name, content) in objects {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let dataset = provider.publish(dataset, &format!("directory:shared/{}", dataset.name));
    consumer.finds(&dataset);
    let agreement = consumer.negotiate(&dataset);
    consumer.pull(&agreement);
    agreement
}

fn small() -> Vec<(&'static str, Vec<u8>)> {
    [("a.csv", 1), ("b.csv", 2), ("c.csv", 3)].map(|(name, salt)| (name, bytes(5_000, salt))).to_vec()
}

fn open(consumer: &Connector, agreement: &str) -> Opened {
    Opened::of(consumer.run(&["session", "open", agreement, "--purpose", RESEARCH]).object())
}

fn get(session: &Opened, object: &str) -> Reading {
    let path = format!("/sessions/{}/objects/{object}", session.id);
    session.ask("GET", &path, &[&session.bearer()])
}

/// What `holdings show` tells: uses, uses left, unit.
fn told(consumer: &Connector, agreement: &str) -> (u64, i64, String) {
    let shown = consumer.show("holdings", agreement);
    let unit = shown["unit_of_count"].as_str().unwrap().to_owned();
    (shown["uses"].as_u64().unwrap(), shown["uses_left"].as_i64().unwrap(), unit)
}

fn records(consumer: &Connector, kind: &str, agreement: &str) -> Vec<Value> {
    let ours = |record: &Value| record["kind"] == kind && record["subject"]["agreement"] == *agreement;
    consumer.ledger().into_iter().filter(ours).map(|record| record["subject"].clone()).collect()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// How far a clock must go ahead to stand at this time of the day, today or tomorrow, `days` later.
fn ahead(time_of_day: i64, days: i64) -> String {
    ((time_of_day - now().rem_euclid(DAY)).rem_euclid(DAY) + days * DAY).to_string()
}

fn start_ahead(connector: &mut Connector, ahead: &str) {
    assert!(connector.stop().success());
    connector.start_with(&[("FAIRLEAD_CLOCK_AHEAD_MS", ahead)]);
}

enum Step {
    /// One read of an object.
    Reads(&'static str),
    /// One that is refused because everything is spent.
    Refused(&'static str),
    /// Another session, over all objects.
    Opens,
    /// One that is refused because everything is spent.
    NotOpened,
    /// The session of this number reads an object.
    Gets(usize, &'static str),
    /// It may not read this one, and stays open.
    Spent(usize, &'static str),
    /// Uses so far, and left.
    Told(u64, i64),
}

use Step::{Gets, NotOpened, Opens, Reads, Refused, Spent, Told};

/// Unit, limit, and what happens.
const CASES: &[(&str, u32, &[Step])] = &[
    (
        "fl:perSession",
        2,
        &[
            Opens,
            Told(1, 1),
            Gets(0, "a.csv"),
            Gets(0, "b.csv"),
            Told(1, 1),
            Reads("a.csv"),
            Told(2, 0),
            Refused("a.csv"),
            NotOpened,
            Gets(0, "c.csv"),
            Told(2, 0),
        ],
    ),
    (
        "fl:perObject",
        4,
        &[
            Opens,
            Told(0, 4),
            Gets(0, "a.csv"),
            Gets(0, "a.csv"),
            Told(1, 3),
            Gets(0, "b.csv"),
            Told(2, 2),
            Opens,
            Gets(1, "a.csv"),
            Told(3, 1),
            Reads("c.csv"),
            Told(4, 0),
            Spent(1, "b.csv"),
            Spent(0, "c.csv"),
            Gets(0, "b.csv"),
            Gets(1, "a.csv"),
            Refused("a.csv"),
            NotOpened,
            Told(4, 0),
        ],
    ),
    (
        "fl:perDay",
        1,
        &[
            Told(0, 1),
            Reads("a.csv"),
            Told(1, 0),
            Reads("b.csv"),
            Opens,
            Gets(0, "a.csv"),
            Gets(0, "c.csv"),
            Opens,
            Gets(1, "b.csv"),
            Told(1, 0),
        ],
    ),
];

#[test]
fn each_unit_counts_what_it_says() {
    let mut space = space();
    let content = small();
    let agreements: Vec<String> = CASES
        .iter()
        .map(|(unit, uses, _)| held(&mut space, &counted(&unit[3..], *uses, unit), &content))
        .collect();
    let [consumer] = space.all([CONSUMER]);
    // Noon: no midnight comes between.
    start_ahead(consumer, &ahead(DAY / 2, 0));
    for ((unit, _, steps), agreement) in CASES.iter().zip(&agreements) {
        let mut sessions = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            take(consumer, agreement, &content, &mut sessions, step, &format!("{unit}, step {number}"));
        }
        assert_eq!(told(consumer, agreement).2, unit[6..].to_lowercase(), "{unit}");
        let session = &sessions[0];
        let until = session.shown["valid_until"].as_str().unwrap();
        assert_eq!(UnixMillis::parse_rfc3339(until).is_some_and(|at| at.0 % DAY == 0), *unit == "fl:perDay");
    }
}

fn take(
    consumer: &Connector,
    agreement: &str,
    content: &[(&str, Vec<u8>)],
    sessions: &mut Vec<Opened>,
    step: &Step,
    what: &str,
) {
    let of = |name: &str| &content.iter().find(|(known, _)| *known == name).unwrap().1;
    let read = |object| consumer.run(&["use", agreement, "--purpose", RESEARCH, "--object", object]);
    match step {
        Reads(object) => assert!(read(object).done().output == *of(object), "{what}"),
        Refused(object) => {
            read(object).refused(exit::REFUSED_BY_POLICY, "policy/count-spent");
        }
        Opens => sessions.push(open(consumer, agreement)),
        NotOpened => {
            let refused = consumer.run(&["session", "open", agreement, "--purpose", RESEARCH]);
            refused.refused(exit::REFUSED_BY_POLICY, "policy/count-spent");
        }
        Gets(session, object) => assert!(get(&sessions[*session], object).body() == *of(object), "{what}"),
        Spent(session, object) => get(&sessions[*session], object).refused(403, "policy/count-spent"),
        Told(uses, left) => {
            let (told_uses, told_left, _) = told(consumer, agreement);
            assert_eq!((told_uses, told_left), (*uses, *left), "{what}");
        }
    }
}

/// Readers side by side: of several objects exactly as many as are left, of one object once.
#[test]
fn readers_side_by_side_pay_once_and_never_too_little() {
    let names: Vec<String> = (0..6).map(|number| format!("{number}.csv")).collect();
    let content: Vec<(&str, Vec<u8>)> =
        names.iter().zip(1..).map(|(name, salt)| (name.as_str(), bytes(5_000, salt))).collect();
    let mut space = space();
    let agreement = held(&mut space, &counted("parallel", 3, "fl:perObject"), &content);
    let [consumer] = space.all([CONSUMER]);
    let sessions = [open(consumer, &agreement), open(consumer, &agreement)];
    let at_once = |asked: &[(usize, &str)]| -> Vec<u16> {
        std::thread::scope(|scope| {
            let readers: Vec<_> = asked
                .iter()
                .map(|(session, object)| scope.spawn(|| get(&sessions[*session], object).status))
                .collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        })
    };
    assert_eq!(at_once(&[(0, "0.csv"); 4]), [200; 4]);
    assert_eq!(told(consumer, &agreement), (1, 2, "object".to_owned()));
    let asked: Vec<(usize, &str)> =
        names.iter().enumerate().skip(1).map(|(number, name)| (number % 2, name.as_str())).collect();
    let mut statuses = at_once(&asked);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 403, 403, 403]);
    assert_eq!(told(consumer, &agreement), (3, 0, "object".to_owned()));
    let paid = records(consumer, "use-counted", &agreement);
    let uses: Vec<_> = paid.iter().map(|record| record["use"].as_str().unwrap()).collect();
    assert_eq!(uses, ["1", "2", "3"], "{paid:?}");
}

/// A death between the count and the first byte wastes one unit and gains none.
#[test]
fn a_crash_after_the_count_releases_nothing() {
    let mut space = space();
    let agreement = held(&mut space, &counted("crash", 2, "fl:perObject"), &small());
    let [consumer] = space.all([CONSUMER]);
    assert!(consumer.stop().success());
    consumer.start_with(&[("FAIRLEAD_CRASH", "unit-counted")]);
    let session = open(consumer, &agreement);
    let path = format!("/sessions/{}/objects/a.csv", session.id);
    let mut socket = std::net::TcpStream::connect(session.address()).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{}\r\n\r\n", session.address(), session.bearer());
    std::io::Write::write_all(&mut socket, head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer));
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    until("the consumer has died", || consumer.ended());
    consumer.start();
    assert_eq!(told(consumer, &agreement), (1, 1, "object".to_owned()));
    assert_eq!(records(consumer, "use-counted", &agreement).len(), 1);
    assert!(get(&open(consumer, &agreement), "a.csv").body() == small()[0].1);
    assert_eq!(told(consumer, &agreement), (2, 0, "object".to_owned()));
}

/// At midnight, UTC, an idle session ends, and one that is being read counts another day before it goes on.
#[test]
fn midnight_ends_a_session_or_counts_another_day() {
    let mut space = space();
    let content = bytes(SLOW, 7);
    let agreement = held(&mut space, &counted("daily", 2, "fl:perDay"), &[("a.csv", content.clone())]);
    let [consumer] = space.all([CONSUMER]);
    start_ahead(consumer, &ahead(DAY - BEFORE_MIDNIGHT, 0));
    let idle = open(consumer, &agreement);
    let mut slow = consumer.begin(&["use", &agreement, "--action", "read", "--purpose", RESEARCH]);
    let mut output = slow.output.take().unwrap();
    let mut begun = vec![0; 1000];
    output.read_exact(&mut begun).unwrap();
    assert_eq!(told(consumer, &agreement), (1, 1, "day".to_owned()));

    let ended = until("midnight has come", || {
        records(consumer, "use-closed", &agreement).into_iter().find(|closed| closed["session"] == *idle.id)
    });
    assert_eq!(ended["end"], "use/decision-expired");
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    slow.outcome().done();
    assert!([begun, rest].concat() == content);
    assert_eq!(told(consumer, &agreement), (2, 0, "day".to_owned()));
    let paid = records(consumer, "use-counted", &agreement);
    assert_eq!((paid.len(), &paid[0]["unit"], &paid[0]["use"]), (1, &"day".into(), &"2".into()), "{paid:?}");

    // The day that was paid for by going on serves other sessions too; the next one is one too many.
    assert!(consumer.read(&agreement, RESEARCH).done().output == content);
    start_ahead(consumer, &ahead(DAY / 2, 2));
    consumer.read(&agreement, RESEARCH).refused(exit::REFUSED_BY_POLICY, "policy/count-spent");
    assert_eq!(told(consumer, &agreement), (2, 0, "day".to_owned()));
}

/// What cannot be counted is not published.
#[test]
fn units_that_cannot_be_held_are_refused_by_name() {
    let mut space = Space::of(&[PROVIDER]);
    let [provider] = space.all([PROVIDER]);
    std::fs::write(provider.sources().join("x.csv"), b"x").unwrap();
    let cases = [
        (counted("user", 3, "odrl:perUser"), "policy/unknown-unit-of-count", "`perUser` in clause 1"),
        (
            Dataset::research("alone").with("odrl:unitOfCount", "odrl:eq", "fl:perDay"),
            "policy/unit-without-count",
            "clause 1",
        ),
        (
            counted("two", 3, "fl:perDay").with("odrl:unitOfCount", "odrl:eq", "fl:perObject"),
            "policy/units-of-count-differ",
            "fl:perDay in clause 1, fl:perObject in clause 1",
        ),
        (counted("leased", 3, "fl:perDay").leased("PT1H"), "policy/unit-of-count-under-lease", "fl:perDay"),
        (
            counted("lent", 3, "fl:perObject").leased("PT1H"),
            "policy/unit-of-count-under-lease",
            "fl:perObject",
        ),
    ];
    for (dataset, code, named) in cases {
        let file = provider.write(&format!("{}.ttl", dataset.name), dataset.turtle(&provider.participant));
        let published =
            provider.run(&["dataset", "publish", file.to_str().unwrap(), "--source", "file:shared/x.csv"]);
        let refusal = published.refused(exit::REFUSED_BY_POLICY, code);
        assert!(refusal["detail"].as_str().unwrap().contains(named), "{refusal}");
    }
    provider.publish(&counted("leased-sessions", 3, "fl:perSession").leased("PT1H"), "file:shared/x.csv");
}
