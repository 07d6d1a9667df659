//! Three connectors, one of which dies at named points and at any moment: after each restart everything goes on to its
//! end, both sides hold the same, counters are exact, and no message has a second effect.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

use std::collections::{BTreeMap, BTreeSet};

use federation_tests::chance;
use federation_tests::connector::{Connector, is_empty_folder};
use federation_tests::data::{Dataset, RESEARCH, bytes};
use federation_tests::space::Space;
use federation_tests::wait::until;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::Value;

const PROVIDER: &str = "hong-kong";
const CONSUMERS: [&str; 2] = ["guangzhou", "macao"];
const ALL: [&str; 3] = ["hong-kong", "guangzhou", "macao"];

/// Deaths at named points in one run.
const NAMED: usize = 20;
/// Deaths at any moment in one run.
const ANY_MOMENT: usize = 4;
/// Tasks that a connector may finish before it reaches its point: none needs more than two.
const MAX_TASKS: u32 = 5;

/// Who passes a point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PassedBy {
    All,
    Consumers,
    Provider,
}

/// Every named point, who passes it, and how often at least in one task, the start included.
const POINTS: &[(&str, PassedBy, u32)] = &[
    ("store.before-commit", PassedBy::All, 9),
    ("store.after-commit", PassedBy::All, 9),
    ("outbox-before-send", PassedBy::All, 2),
    ("outbox-after-send", PassedBy::All, 2),
    ("outbox-delivered", PassedBy::All, 2),
    ("message-received", PassedBy::All, 2),
    ("chunk-released", PassedBy::Provider, 3),
    ("pull-object-durable", PassedBy::Consumers, 2),
    ("pull-before-complete", PassedBy::Consumers, 1),
    ("use-counted", PassedBy::Consumers, 1),
];

/// One death.
#[derive(Debug)]
enum Death {
    At {
        victim: &'static str,
        point: &'static str,
        pass: u32,
    },
    /// `kill -9` after so many looks at what goes on.
    AnyMoment {
        victim: &'static str,
        after: u32,
    },
}

impl Death {
    const fn victim(&self) -> &'static str {
        match self {
            Self::At { victim, .. } | Self::AnyMoment { victim, .. } => victim,
        }
    }

    /// Tasks within which it must come: each takes a look at least.
    const fn max_tasks(&self) -> u32 {
        match self {
            Self::At { .. } => MAX_TASKS,
            Self::AnyMoment { after, .. } => *after + 1,
        }
    }
}

/// Every named point at least once, the rest by chance, in any order.
fn deaths(chance: &mut StdRng) -> Vec<Death> {
    let mut deaths = Vec::new();
    while deaths.len() < NAMED {
        let (point, passed, most) = POINTS
            [if deaths.len() < POINTS.len() { deaths.len() } else { chance.random_range(0..POINTS.len()) }];
        let victims: &[&'static str] = match passed {
            PassedBy::All => &ALL,
            PassedBy::Consumers => &CONSUMERS,
            PassedBy::Provider => &[PROVIDER],
        };
        let victim = victims[chance.random_range(0..victims.len())];
        deaths.push(Death::At { victim, point, pass: chance.random_range(1..=most) });
    }
    for _ in 0..ANY_MOMENT {
        deaths.push(Death::AnyMoment {
            victim: ALL[chance.random_range(0..ALL.len())],
            after: chance.random_range(0..40),
        });
    }
    deaths.shuffle(chance);
    deaths
}

/// What one consumer sets out to do: negotiate, pull, use.
struct Task {
    consumer: &'static str,
    /// Negotiations that were there before, once the consumer told.
    before: Option<BTreeSet<String>>,
    agreement: Option<String>,
    /// Uses asked for, answered or not.
    attempts: u64,
    done: bool,
}

/// What became of an agreement's uses.
#[derive(Default)]
struct Uses {
    asked: u64,
    answered: u64,
}

struct Run {
    space: Space,
    dataset: String,
    content: BTreeMap<&'static str, Vec<u8>>,
    uses: BTreeMap<String, Uses>,
    tasks: BTreeMap<&'static str, usize>,
}

#[test]
fn whoever_dies_goes_on() {
    let mut chance = chance::generator("crashes");
    let mut run = Run::begin();
    for (number, death) in deaths(&mut chance).into_iter().enumerate() {
        eprintln!("death {number}: {death:?}");
        run.survive(&death);
    }
    run.check();
}

#[test]
fn a_deletion_is_finished_at_the_next_start() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100_000, 1)).unwrap();
    let dataset = hong_kong.publish(&Dataset::research("weather"), "file:shared/x.csv");
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    guangzhou.pull(&agreement);
    let (sealed, key) = (guangzhou.data().join("sealed"), guangzhou.data().join("keys/kek.json"));
    let key_before = std::fs::read(&key).unwrap();
    assert!(guangzhou.stop().success());
    guangzhou.spawn(&[("FAIRLEAD_CRASH", "keys-deleted:1")]);
    until("the deletion has begun", || {
        let asked = guangzhou.run(&["holdings", "delete", &agreement]);
        assert_ne!(asked.exit, 0, "it dies before it answers");
        guangzhou.ended()
    });
    assert!(!is_empty_folder(&sealed), "the files of the copy are still there");
    assert_eq!(std::fs::read(&key).unwrap(), key_before);
    guangzhou.start();
    assert!(is_empty_folder(&sealed));
    assert_ne!(std::fs::read(&key).unwrap(), key_before);
    assert_eq!(guangzhou.show("holdings", &agreement)["state"], "destroyed");
    until("the provider has the proof", || {
        let told = |record: &Value| record.to_string().contains("agreement/deleted");
        hong_kong.ledger().iter().any(told).then_some(())
    });
}

impl Run {
    fn begin() -> Self {
        let mut space = Space::of(&ALL);
        let content = BTreeMap::from([("a.csv", bytes(2_500_000, 1)), ("b.csv", bytes(300_001, 2))]);
        let provider = space.get(PROVIDER);
        std::fs::create_dir(provider.sources().join("series")).unwrap();
        for (name, bytes) in &content {
            std::fs::write(provider.sources().join("series").join(name), bytes).unwrap();
        }
        let dataset = provider.publish(&Dataset::research("series").counted(3), "directory:shared/series");
        for consumer in CONSUMERS {
            space.get(consumer).finds(&dataset);
        }
        Self { space, dataset, content, uses: BTreeMap::new(), tasks: BTreeMap::new() }
    }

    /// Both consumers work until the victim has died and everything that was begun has come to its end.
    fn survive(&mut self, death: &Death) {
        let victim = death.victim();
        if let Death::At { point, pass, .. } = death {
            assert!(self.space.get(victim).stop().success());
            self.space.get(victim).spawn(&[("FAIRLEAD_CRASH", &format!("{point}:{pass}"))]);
        }
        let (mut died, mut looks) = (false, 0);
        for _ in 0..death.max_tasks() {
            let mut tasks = CONSUMERS.map(|consumer| self.task(consumer));
            let what = format!("everything has ended after {death:?}");
            until(&what, || {
                looks += 1;
                if let Death::AnyMoment { after, .. } = death
                    && !died
                    && looks > *after
                {
                    self.space.get(victim).kill();
                    self.space.get(victim).spawn(&[]);
                    died = true;
                }
                if let Some(status) = self.space.get(victim).ended() {
                    assert!(!died, "{victim} died twice: {status}");
                    assert!(!status.success(), "{victim}: {status}");
                    self.space.get(victim).spawn(&[]);
                    died = true;
                }
                for task in tasks.iter_mut().filter(|task| !task.done) {
                    self.step(task);
                }
                tasks.iter().all(|task| task.done).then_some(())
            });
            if died {
                return;
            }
        }
        panic!("{death:?} was not reached in {} tasks of each consumer", death.max_tasks());
    }

    fn task(&mut self, consumer: &'static str) -> Task {
        *self.tasks.entry(consumer).or_default() += 1;
        Task { consumer, before: None, agreement: None, attempts: 0, done: false }
    }

    /// One look at how far it is, and what a person would do next.
    fn step(&mut self, task: &mut Task) {
        let consumer = self.space.get(task.consumer);
        let Some(agreement) = &task.agreement else {
            let Some(rows) = rows(consumer, "negotiation") else { return };
            let before = task.before.get_or_insert_with(|| rows.iter().map(|row| text(row, "id")).collect());
            let opened: Vec<&Value> = rows.iter().filter(|row| !before.contains(&text(row, "id"))).collect();
            match opened.as_slice() {
                // What was not answered is asked again only if it is not there.
                [] => drop(consumer.run(&["negotiate", &self.dataset, "--wait", "0"])),
                [one] if one["state"] == "FINALIZED" => task.agreement = Some(text(one, "agreement")),
                [one] => assert_ne!(one["state"], "TERMINATED", "{one}"),
                several => panic!("one negotiation was asked for: {several:?}"),
            }
            return;
        };
        let Some(rows) = rows(consumer, "transfer") else { return };
        let begun: Vec<&Value> = rows.iter().filter(|row| row["agreement"] == **agreement).collect();
        match begun.as_slice() {
            [] => drop(consumer.run(&["transfer", "start", agreement, "--no-wait"])),
            [one] if one["state"] == "COMPLETED" => {
                let read = consumer.run(&["use", agreement, "--purpose", RESEARCH, "--object", "b.csv"]);
                if read.exit == 6 && read.failure()["code"] == "admin/not-running" {
                    return;
                }
                let uses = self.uses.entry(agreement.clone()).or_default();
                uses.asked += 1;
                task.attempts += 1;
                if read.exit == 0 {
                    assert!(read.output == self.content["b.csv"], "what is read is what was published");
                    uses.answered += 1;
                    task.done = true;
                }
                assert!(task.attempts <= 2, "only a death takes the answer of a use: {read}");
            }
            [one] => assert_ne!(one["state"], "TERMINATED", "{one}"),
            several => panic!("one transfer was asked for: {several:?}"),
        }
    }

    /// What must hold however often they died.
    fn check(&mut self) {
        let [provider, guangzhou, macao] = self.space.all(ALL);
        for connector in [&*provider, &*guangzhou, &*macao] {
            connector.quiet();
        }
        let offered = provider.list("dataset")[0].clone();
        let (negotiations, transfers) = (provider.list("negotiation"), provider.list("transfer"));
        let begun: usize = self.tasks.values().sum();
        assert_eq!((negotiations.len(), transfers.len()), (begun, begun), "each task once at the provider");
        for consumer in [&*guangzhou, &*macao] {
            assert_eq!(consumer.list("negotiation").len(), self.tasks[consumer.name.as_str()]);
            both_sides(consumer, &negotiations, &consumer.list("negotiation"), "FINALIZED", "agreement");
            both_sides(consumer, &transfers, &consumer.list("transfer"), "COMPLETED", "manifest_digest");
            let records = consumer.ledger();
            for agreement in consumer.list("agreement") {
                let id = text(&agreement, "id");
                let (ours, theirs) = (consumer.show("agreement", &id), provider.show("agreement", &id));
                assert_eq!(
                    (&ours["hash"], &ours["document"]),
                    (&theirs["hash"], &theirs["document"]),
                    "{id}"
                );
                let held = consumer.show("holdings", &id);
                assert_eq!(held["state"], "sealed", "{held}");
                let opened = records
                    .iter()
                    .filter(|record| record["kind"] == "use-opened" && field(record, "agreement") == id);
                let (opened, counted) = (opened.count() as u64, held["uses"].as_u64().unwrap());
                let Uses { asked, answered } = self.uses[&id];
                assert_eq!(counted, opened, "{id}: the counter is what the ledger says");
                assert!(
                    answered <= counted && counted <= asked,
                    "{id}: {answered} answered, {counted} counted, {asked} asked"
                );
            }
            for transfer in consumer.list("transfer") {
                assert_eq!(transfer["manifest_digest"], offered["manifest_digest"]);
            }
        }
        for connector in [provider, guangzhou, macao] {
            no_second_effect(&connector.name, &connector.ledger());
            let broken = connector.log().into_iter().find(|line| line.to_string().contains("panicked"));
            assert_eq!(broken, None, "{}", connector.name);
        }
    }
}

/// Each process has ended at both sides under the same names, and `same` is equal.
fn both_sides(consumer: &Connector, theirs: &[Value], ours: &[Value], state: &str, same: &str) {
    for row in ours {
        let other: Vec<&Value> = theirs.iter().filter(|other| other["peer_pid"] == row["id"]).collect();
        let [other] = other.as_slice() else {
            panic!("{}: {row} has {} counterparts", consumer.name, other.len())
        };
        assert_eq!(row["peer_pid"], other["id"]);
        assert_eq!((&row["state"], &other["state"]), (&state.into(), &state.into()), "{row} {other}");
        assert_eq!(row[same], other[same], "{row} {other}");
        assert_eq!(other["counterparty"], *consumer.participant);
    }
}

/// No process entered a state twice: nothing here goes back.
fn no_second_effect(name: &str, records: &[Value]) {
    let mut entered = BTreeSet::new();
    for record in records {
        let kind = text(record, "kind");
        if kind.ends_with("-state") {
            let process = if field(record, "role") == "provider" { "providerPid" } else { "consumerPid" };
            let entry = (kind, field(record, process), field(record, "state"));
            assert!(entered.insert(entry.clone()), "{name}: {entry:?} twice");
        }
        assert!(!text(record, "kind").ends_with("-divergence"), "{name}: {record}");
    }
    assert!(!entered.is_empty(), "{name} recorded its steps");
}

/// The rows of a list, if the connector answers.
fn rows(connector: &Connector, what: &str) -> Option<Vec<Value>> {
    let listed = connector.run(&[what, "list", "--page-size", "500"]);
    (listed.exit == 0).then(|| listed.lines())
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

/// A field of a ledger record.
fn field(record: &Value, name: &str) -> String {
    text(&record["subject"], name)
}
