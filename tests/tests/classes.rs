//! The 25 IDS policy classes, one row each, between two connectors: what the shipped template permits, what it
//! refuses and by which code, and what the ledgers hold afterwards. docs/policy-classes.md says the same.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;

use federation_tests::command::{Outcome, exit};
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, bytes, described};
use federation_tests::space::Space;
use federation_tests::wait::until;
use policy::{Enforcement, Lang, Profiles, template};
use serde_json::Value;

const CONSUMER: &str = "https://guangzhou.example/id";
const PROVIDER: &str = "https://hong-kong.example/id";
const PURPOSE: &str = "dpv:ScientificResearch";
/// Long enough to do something in, short enough to wait for its end.
const MOMENT: &str = "PT12S";

/// Values for a template's blanks that differ from its examples.
type Set = &'static [(&'static str, &'static str)];

/// One class.
struct Row {
    class: u8,
    /// How the page and `policy render` say that it is held.
    enforced: &'static str,
    set: Set,
    story: Story,
}

enum Story {
    /// Neither published nor negotiated.
    Refused(&'static str),
    /// Permitted with `set`; with these values instead there is no agreement.
    Parties(Set, &'static str),
    /// Decided at use: the steps in their order, then what the ledgers hold of this agreement.
    Uses(&'static [Step], &'static [Held]),
    /// The bytes change on their way out; what the transform cannot be applied to is not published.
    Transformed,
}

/// What the class whose data is changed publishes, and what arrives of it.
const PEOPLE: &str = r#"[{"name":"Chan"},{"name":"Lee"}]"#;
const CHANGED: &str = r#"[{"name":"XXX"},{"name":"XXX"}]"#;

enum Step {
    /// A use that is permitted.
    Reads,
    /// One that is not: the arguments after the agreement, and the code.
    Refuses(&'static [&'static str], &'static str),
    /// Permitted now, refused after a while.
    Ends(&'static str),
    /// Another agreement of the same class, with these values, does not permit it.
    Elsewhere(Set, &'static str),
    /// An event begins.
    Begins(&'static str),
    /// An event ends.
    Over(&'static str),
    /// A person enters evidence for the duty that is owed.
    Fulfils(&'static str),
    /// The consumer ends the agreement and its copy is gone.
    DeletesAfterRevocation,
}

use Step::{Begins, DeletesAfterRevocation, Elsewhere, Ends, Fulfils, Over, Reads, Refuses};

/// A record: whose ledger, its kind, and members it must have with these values; `*` is any.
type Held = (Side, &'static str, &'static [(&'static str, &'static str)]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Provider,
    Consumer,
}

use Side::{Consumer, Provider};

const READ: &[&str] = &["--action", "read", "--purpose", PURPOSE];
const SELL: &[&str] = &["--action", "odrl:sell", "--purpose", PURPOSE];
const DISTRIBUTE: &[&str] = &["--action", "distribute", "--purpose", PURPOSE];
const OPENED: Held = (
    Consumer,
    "use-opened",
    &[("actor", "*"), ("action", "http://www.w3.org/ns/odrl/2/read"), ("session", "*"), ("use", "1")],
);

const fn refused(members: &'static [(&'static str, &'static str)]) -> Held {
    (Consumer, "use-refused", members)
}

const UNSPENT: &str = "policy/unsupported-operand";
const NO_EXECUTOR: &str = "policy/unsupported-duty";
const OWED: &str = "policy/duty-unfulfilled";
const UNMET: &str = "policy/constraint-unmet";

const ROWS: &[Row] = &[
    Row {
        class: 1,
        enforced: "technically",
        set: &[("participant", CONSUMER)],
        story: Story::Parties(&[("participant", "https://macao.example/id")], "policy/party-not-permitted"),
    },
    Row {
        class: 2,
        enforced: "technically",
        set: &[("connectors", CONSUMER)],
        story: Story::Parties(&[("connectors", "https://macao.example/id")], "policy/party-not-permitted"),
    },
    Row { class: 3, enforced: "only legally", set: &[], story: Story::Refused(UNSPENT) },
    Row {
        class: 4,
        enforced: "technically",
        set: &[("roles", "urn:role:researcher")],
        story: Story::Uses(&[Reads, Elsewhere(&[("roles", "urn:role:physician")], UNMET)], &[OPENED]),
    },
    Row {
        class: 5,
        enforced: "technically",
        set: &[("places", "CN,HK")],
        story: Story::Parties(&[("places", "MO")], "policy/place-not-permitted"),
    },
    Row {
        class: 6,
        enforced: "procedurally",
        set: &[("purpose", "ScientificResearch")],
        story: Story::Uses(
            &[
                Reads,
                Refuses(&["--action", "read", "--purpose", "dpv:Marketing"], "policy/purpose-not-permitted"),
                Refuses(&["--action", "read"], "policy/fact-missing"),
            ],
            &[
                (Consumer, "use-opened", &[("purpose", "https://w3id.org/dpv#ScientificResearch")]),
                refused(&[
                    ("purpose", "https://w3id.org/dpv#Marketing"),
                    ("code", "policy/purpose-not-permitted"),
                ]),
            ],
        ),
    },
    Row {
        class: 7,
        enforced: "procedurally",
        set: &[("event", "urn:event:trial-1")],
        story: Story::Uses(
            &[
                Refuses(READ, UNMET),
                Begins("urn:event:other"),
                Begins("urn:event:trial-1"),
                Reads,
                Over("urn:event:trial-1"),
                Refuses(READ, UNMET),
            ],
            &[OPENED, refused(&[("code", UNMET)])],
        ),
    },
    Row {
        class: 8,
        enforced: "technically",
        set: &[("level", "base")],
        story: Story::Parties(&[("level", "trust")], UNMET),
    },
    Row {
        class: 9,
        enforced: "technically",
        set: &[("from", "2020-01-01T00:00:00Z"), ("until", "2099-12-31T00:00:00Z")],
        story: Story::Uses(
            &[
                Reads,
                Elsewhere(
                    &[("from", "2098-01-01T00:00:00Z"), ("until", "2099-12-31T00:00:00Z")],
                    "policy/outside-time",
                ),
            ],
            &[OPENED],
        ),
    },
    Row {
        class: 10,
        enforced: "technically",
        set: &[("duration", MOMENT)],
        story: Story::Uses(
            &[Reads, Ends("policy/outside-time")],
            &[
                (Consumer, "use-opened", &[("use", "1"), ("validUntil", "*")]),
                refused(&[("code", "policy/outside-time")]),
            ],
        ),
    },
    Row {
        class: 11,
        enforced: "technically",
        set: &[("count", "1")],
        story: Story::Uses(
            &[Reads, Refuses(READ, "policy/count-spent")],
            &[OPENED, refused(&[("code", "policy/count-spent")])],
        ),
    },
    Row {
        class: 12,
        enforced: "technically",
        set: &[("within", "PT1S")],
        story: Story::Uses(
            &[Reads, DeletesAfterRevocation, Refuses(READ, "use/destroyed")],
            &[
                OPENED,
                (Consumer, "duty-planned", &[("duty", "*"), ("deadline", "*")]),
                (
                    Consumer,
                    "holding-destroyed",
                    &[("manifest", "*"), ("objects", "1"), ("reason", "duty to delete")],
                ),
                (Consumer, "duty-done", &[("evidence", "*")]),
                (Provider, "notice-received", &[("what", "agreement/deleted"), ("digest", "*")]),
            ],
        ),
    },
    Row { class: 13, enforced: "technically", set: &[("field", "$[*].name")], story: Story::Transformed },
    Row { class: 14, enforced: "only legally", set: &[], story: Story::Refused(NO_EXECUTOR) },
    Row {
        class: 15,
        enforced: "technically",
        set: &[],
        story: Story::Uses(
            &[Reads, Refuses(SELL, "policy/action-not-permitted")],
            &[OPENED, refused(&[("actor", "*"), ("code", "policy/action-not-permitted")])],
        ),
    },
    Row {
        class: 16,
        enforced: "technically",
        set: &[("party", PROVIDER)],
        story: Story::Uses(
            &[Reads, Refuses(SELL, "policy/action-not-permitted")],
            &[
                OPENED,
                (
                    Provider,
                    "notice-received",
                    &[
                        ("from", CONSUMER),
                        ("what", "agreement/used"),
                        ("at", "*"),
                        ("session", "*"),
                        ("action", "http://www.w3.org/ns/odrl/2/read"),
                        ("purpose", "https://w3id.org/dpv#ScientificResearch"),
                        ("noticeHash", "*"),
                    ],
                ),
            ],
        ),
    },
    Row {
        class: 17,
        enforced: "technically",
        set: &[],
        story: Story::Uses(
            // Offering it on is `onward.rs`'s part.
            &[Reads, Refuses(DISTRIBUTE, "onward/without-next-policy")],
            &[OPENED, refused(&[("code", "onward/without-next-policy")])],
        ),
    },
    Row {
        class: 18,
        enforced: "technically",
        set: &[],
        story: Story::Uses(
            // What is exported is not sealed any more.
            &[Reads, Refuses(&["--output", "/nonexistent/never-written.csv"], "policy/fact-missing")],
            &[OPENED, refused(&[("action", "https://w3id.org/fairlead/ns#export")])],
        ),
    },
    Row {
        class: 19,
        enforced: "procedurally",
        set: &[("party", PROVIDER)],
        story: Story::Uses(
            &[Refuses(READ, OWED), Fulfils("invoice 2026-17"), Reads],
            &[
                refused(&[("code", OWED)]),
                (Consumer, "duty-done", &[("duty", "*"), ("evidence", "invoice 2026-17")]),
                OPENED,
                (
                    Provider,
                    "notice-received",
                    &[("what", "agreement/duty-done"), ("duty", "*"), ("evidence", "invoice 2026-17")],
                ),
            ],
        ),
    },
    Row {
        class: 20,
        enforced: "procedurally",
        set: &[("party", PROVIDER), ("period", MOMENT)],
        story: Story::Uses(
            &[
                Refuses(READ, OWED),
                Fulfils("first period"),
                Reads,
                Ends(OWED),
                Fulfils("second period"),
                Reads,
            ],
            &[
                (Consumer, "use-opened", &[("use", "1"), ("validUntil", "*")]),
                (Consumer, "duty-done", &[("evidence", "first period")]),
                (Consumer, "duty-done", &[("evidence", "second period")]),
                (Provider, "notice-received", &[("evidence", "second period")]),
            ],
        ),
    },
    Row { class: 21, enforced: "only legally", set: &[], story: Story::Refused(UNSPENT) },
    Row {
        class: 22,
        enforced: "technically",
        set: &[("places", "CN")],
        story: Story::Parties(&[("places", "MO")], "policy/place-not-permitted"),
    },
    Row {
        class: 23,
        enforced: "procedurally",
        set: &[("party", PROVIDER)],
        story: Story::Uses(
            &[Refuses(READ, OWED), Fulfils("consent form 7 of 2026-11-02"), Reads],
            &[
                (Consumer, "duty-done", &[("evidence", "consent form 7 of 2026-11-02")]),
                OPENED,
                (Provider, "notice-received", &[("what", "agreement/duty-done"), ("action", "*")]),
            ],
        ),
    },
    Row { class: 24, enforced: "only legally", set: &[], story: Story::Refused(UNSPENT) },
    Row { class: 25, enforced: "only legally", set: &[], story: Story::Refused(NO_EXECUTOR) },
];

#[test]
fn each_class_permits_and_refuses_as_its_page_says() {
    assert_eq!(ROWS.iter().map(|row| row.class).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>());
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(1_000, 1)).unwrap();
    let uid = rustix::process::getuid().as_raw();
    guangzhou.settings.more =
        format!("[[users]]\nuid = {uid}\nroles = [\"urn:role:researcher\", \"urn:role:teacher\"]\n");
    guangzhou.reload();
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy-classes.md")).unwrap();
    for row in ROWS {
        Case { provider: hong_kong, consumer: guangzhou, row }.check(&page);
    }
    let held: Vec<u64> = ROWS
        .iter()
        .filter(|row| !matches!(row.story, Story::Refused(_)))
        .map(|row| u64::from(row.class))
        .collect();
    for connector in [&*guangzhou, &*hong_kong] {
        assert_eq!(connector.run(&["status"]).object()["policy_classes"], Value::from(held.clone()));
    }
}

struct Case<'a> {
    provider: &'a Connector,
    consumer: &'a Connector,
    row: &'a Row,
}

impl Case<'_> {
    fn check(&self, page: &str) {
        let Row { class, enforced, set, story } = self.row;
        let line = page.lines().find(|line| line.starts_with(&format!("| {class} |"))).unwrap();
        assert!(
            line.contains(&format!("| {enforced} |")),
            "the page says otherwise of class {class}: {line}"
        );
        let (published, rendered) = self.publish("a", set);
        let said = match rendered {
            Enforcement::Technical => "technically",
            Enforcement::Procedural => "procedurally",
            Enforcement::Legal => "only legally",
        };
        match story {
            Story::Refused(code) => {
                published.refused(exit::REFUSED_BY_POLICY, code);
                assert!(line.contains(code), "{line}");
            }
            Story::Parties(other, code) => {
                assert_eq!(said, *enforced, "class {class}");
                let agreement = self.agreed(&published);
                self.use_it(&agreement, READ).done();
                self.holds(&agreement, &OPENED);
                self.not_agreed(other, code);
            }
            Story::Transformed => {
                published.refused(exit::USAGE, "transform/malformed-data");
                std::fs::write(self.provider.sources().join("people.json"), PEOPLE).unwrap();
                let (published, _) = self.publish_from("b", set, "people.json");
                let agreement = self.agreed(&published);
                let read: Value =
                    serde_json::from_slice(&self.use_it(&agreement, READ).done().output).unwrap();
                assert_eq!(read, serde_json::from_str::<Value>(CHANGED).unwrap());
                self.holds(&agreement, &OPENED);
            }
            Story::Uses(steps, records) => {
                assert_eq!(said, *enforced, "class {class}");
                let agreement = self.agreed(&published);
                for step in *steps {
                    self.take(&agreement, step);
                }
                for record in *records {
                    self.holds(&agreement, record);
                }
            }
        }
    }

    /// Publishes the class's template with these values; tells also the weakest word that `policy render` has for it.
    fn publish(&self, variant: &str, set: Set) -> (Outcome, Enforcement) {
        self.publish_from(variant, set, "x.csv")
    }

    fn publish_from(&self, variant: &str, set: Set, file: &str) -> (Outcome, Enforcement) {
        let source = shared_file(file);
        let class = self.row.class;
        let template = template::all().iter().find(|template| template.class == Some(class)).unwrap();
        let mut values: BTreeMap<String, String> = template.examples();
        values.extend(set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let name = format!("class-{class}-{variant}");
        let (uid, target) = (format!("{PROVIDER}/{name}-offer"), format!("{PROVIDER}/{name}"));
        let offer =
            template::offer(&uid, PROVIDER, &target, &[(template, values)], &Profiles::shipped()).unwrap();
        let weakest = offer.render(Lang::En).iter().map(|clause| clause.enforcement).min().unwrap();
        let turtle = described(&name, PROVIDER, &offer.to_turtle().unwrap());
        // The one class whose data is changed needs to know its form; for the others it does not matter.
        let turtle = if source.ends_with(".json") {
            turtle.replace("text\\/csv", "application\\/json")
        } else {
            turtle
        };
        let file = self.provider.write(&format!("{name}.ttl"), turtle);
        (self.provider.run(&["dataset", "publish", file.to_str().unwrap(), "--source", &source]), weakest)
    }

    fn agreed(&self, published: &Outcome) -> String {
        let dataset = published.object()["dataset"].as_str().unwrap().to_owned();
        self.consumer.finds(&dataset);
        let agreement = self.consumer.negotiate(&dataset);
        self.consumer.pull(&agreement);
        agreement
    }

    fn not_agreed(&self, set: Set, code: &str) {
        let dataset = self.publish("b", set).0.object()["dataset"].as_str().unwrap().to_owned();
        self.consumer.finds(&dataset);
        let before = self.provider.list("agreement").len();
        self.consumer.run(&["negotiate", &dataset, "--wait", "50"]).refused(exit::REFUSED_BY_PEER, code);
        assert_eq!(self.provider.list("agreement").len(), before);
    }

    fn use_it(&self, agreement: &str, arguments: &[&str]) -> Outcome {
        self.consumer.run(&[&["use", agreement][..], arguments].concat())
    }

    fn take(&self, agreement: &str, step: &Step) {
        match step {
            Reads => {
                let read = self.use_it(agreement, READ);
                assert_eq!(read.done().output, bytes(1_000, 1));
            }
            Refuses(arguments, code) => {
                self.use_it(agreement, arguments).refused(exit::REFUSED_BY_POLICY, code);
            }
            Ends(code) => {
                let what = format!("class {} ends with {code}", self.row.class);
                // A session that is open at that moment is stopped by its own code.
                let over =
                    |read: &Outcome| read.exit != 0 && read.failure()["code"] != "use/decision-expired";
                let ended = until(&what, || Some(self.use_it(agreement, READ)).filter(&over));
                ended.refused(exit::REFUSED_BY_POLICY, code);
            }
            Elsewhere(set, code) => {
                let dataset = self.publish("b", set).0.object()["dataset"].as_str().unwrap().to_owned();
                self.consumer.finds(&dataset);
                let other = self.consumer.negotiate(&dataset);
                // A date decides when bytes are to move, a role only when they are used.
                let pulled = self.consumer.run(&["transfer", "start", &other]);
                if pulled.exit == 0 {
                    self.use_it(&other, READ).refused(exit::REFUSED_BY_POLICY, code);
                } else {
                    pulled.refused(exit::REFUSED_BY_PEER, code);
                }
            }
            Begins(event) => {
                self.consumer.run(&["event", "begin", event]).done();
            }
            Over(event) => {
                self.consumer.run(&["event", "end", event]).done();
            }
            Fulfils(evidence) => {
                let owed = self.consumer.run(&["duty", "list", "--agreement", agreement, "--state", "due"]);
                let owed = owed.object();
                assert_eq!((&owed["performed_by"], &owed["before_use"]), (&"person".into(), &true.into()));
                let id = owed["id"].as_str().unwrap();
                let done = self.consumer.run(&["duty", "fulfil", id, "--evidence", evidence]).object();
                assert_eq!((&done["state"], &done["evidence"]), (&"done".into(), &Value::from(*evidence)));
                let again = self.consumer.run(&["duty", "fulfil", id, "--evidence", "another"]);
                again.refused(exit::REFUSED_BY_POLICY, "duty/already-done");
            }
            DeletesAfterRevocation => {
                self.consumer.run(&["agreement", "revoke", agreement, "--reason", "done with it"]).done();
                let gone = |holding: &Value| holding["state"] == "destroyed";
                self.consumer.awaits(&["holdings", "show", agreement], "destroyed", gone);
            }
        }
    }

    fn holds(&self, agreement: &str, (side, kind, members): &Held) {
        let connector = if *side == Provider { self.provider } else { self.consumer };
        let fits = |record: &Value| {
            let subject = &record["subject"];
            record["kind"] == **kind
                && subject["agreement"] == *agreement
                && members.iter().all(|(member, value)| {
                    let told = subject[*member].as_str();
                    told.is_some_and(|told| !told.is_empty() && (*value == "*" || told == *value))
                })
        };
        let what = format!("the ledger of {} holds `{kind}` with {members:?}", connector.name);
        until(&what, || connector.ledger().iter().any(fits).then_some(()));
    }
}

#[test]
fn a_catalogue_and_peers_tell_which_classes_are_enforced() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let weather = Dataset::research("weather");
    let dataset = hong_kong.publish(&weather, &shared_file("x.csv"));
    let held = hong_kong.run(&["status"]).object()["policy_classes"].clone();
    assert!(held.as_array().unwrap().contains(&Value::from(11)), "{held}");
    assert_eq!(guangzhou.finds(&dataset)["publisher_enforces"], held);
    let peers = guangzhou.list("peer");
    let told = peers.iter().find(|peer| peer["participant"] == *hong_kong.participant).unwrap();
    assert_eq!(told["policy_classes"], held);

    // Nobody writes it by hand.
    let us = &hong_kong.participant;
    let written = format!("{}\n<{us}> <https://w3id.org/fairlead/ns#enforces> 99 .\n", weather.turtle(us));
    let file = hong_kong.write("written.ttl", written);
    let file = file.to_str().unwrap();
    hong_kong
        .run(&["dataset", "publish", file, "--source", &shared_file("x.csv")])
        .refused(exit::USAGE, "catalogue/enforces-written");
}
