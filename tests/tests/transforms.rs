//! What is changed before it leaves, with real processes: duties that a transform performs, declared or defined by the
//! duty itself; without one nothing is published.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use federation_tests::command::{Outcome, exit};
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, RESEARCH};
use federation_tests::space::Space;
use federation_tests::wait::until;
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;

/// Publishes, with a declaration if there is one, whether it is accepted or not.
fn publish(connector: &Connector, dataset: &Dataset, file: &str, declared: Option<&Value>) -> Outcome {
    let description =
        connector.write(&format!("{}.ttl", dataset.name), dataset.turtle(&connector.participant));
    let source = shared_file(file);
    let mut arguments = vec!["dataset", "publish", description.to_str().unwrap(), "--source", &source];
    let transform = declared
        .map(|declared| connector.write(&format!("{}-transform.json", dataset.name), declared.to_string()));
    if let Some(transform) = &transform {
        arguments.extend(["--transform", transform.to_str().unwrap()]);
    }
    connector.run(&arguments)
}

fn declared(performs: &[&str], steps: &Value) -> Value {
    json!({"format": "fairlead-transform/1", "name": "clinic-visits", "version": "3", "performs": performs, "steps": steps})
}

/// The records of a kind that name this transform.
fn told(connector: &Connector, kind: &str, transform: &str) -> usize {
    let records = connector.ledger();
    records.iter().filter(|record| record["kind"] == kind && record.to_string().contains(transform)).count()
}

#[test]
fn only_what_the_transform_left_arrives_also_after_a_crash() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let mut visits = String::from("name,born,ward,score\n");
    for index in 0..90_000 {
        let (year, month, ward) = (1950 + index % 50, 1 + index % 12, index % 9);
        visits.push_str(&format!("Patient {index},{year}-{month:02}-17,W{ward},{}\n", index % 100));
    }
    visits.push_str("Patient Rare,1901-01-01,W77,1\n");
    std::fs::write(hong_kong.sources().join("visits.csv"), &visits).unwrap();
    let dataset = Dataset::research("visits").owing("odrl:anonymize", &[]);

    // Nobody does what the duty demands, or something else is done: nothing is published.
    let unbound = publish(hong_kong, &dataset, "visits.csv", None);
    let refused = unbound.refused(exit::REFUSED_BY_POLICY, "policy/no-transform-bound");
    assert!(refused["detail"].as_str().unwrap().contains("anonymize"), "{refused}");
    let steps = json!([
        {"step": "hash", "columns": ["name"]},
        {"step": "generalise-date", "column": "born", "to": "year"},
        {"step": "generalise-number", "column": "score", "width": 50, "min": 0, "max": 100},
        {"step": "suppress", "columns": ["ward"], "k": 5}
    ]);
    let other = publish(hong_kong, &dataset, "visits.csv", Some(&declared(&["fl:redact"], &steps)));
    other.refused(exit::REFUSED_BY_POLICY, "policy/no-transform-bound");
    let unknown = declared(&["odrl:anonymize"], &json!([{"step": "drop", "columns": ["surname"]}]));
    publish(hong_kong, &dataset, "visits.csv", Some(&unknown))
        .refused(exit::USAGE, "transform/unknown-column");
    assert!(hong_kong.list("dataset").is_empty());

    let done = declared(&["odrl:anonymize"], &steps);
    let published = publish(hong_kong, &dataset, "visits.csv", Some(&done)).object();
    let transform = published["transform"].as_str().unwrap().to_owned();
    assert!(transform.starts_with("clinic-visits@3 sha-256:"), "{transform}");
    let dataset = published["dataset"].as_str().unwrap();
    assert_eq!(guangzhou.finds(dataset)["transforms"], json!([transform]));
    let agreement = guangzhou.negotiate(dataset);

    // The provider dies in the middle; the pull goes on from what is held.
    assert!(published["bytes"].as_u64().unwrap() > 4 * MIB as u64, "{published}");
    assert!(hong_kong.stop().success());
    hong_kong.spawn(&[("FAIRLEAD_CRASH", "chunk-released:3")]);
    let started = until("the transfer is started", || {
        let started = guangzhou.run(&["transfer", "start", &agreement, "--no-wait"]);
        (started.exit == exit::DONE).then(|| started.object())
    });
    until("the provider has died", || hong_kong.ended());
    hong_kong.start();
    let id = started["id"].as_str().unwrap();
    guangzhou.awaits(&["transfer", "show", id], "COMPLETED", |shown| shown["state"] == "COMPLETED");

    let read = guangzhou.read(&agreement, RESEARCH).done().output.clone();
    let text = String::from_utf8(read).unwrap();
    assert_eq!(text.len() as u64, published["bytes"].as_u64().unwrap());
    assert_eq!(text.lines().count(), 90_001, "the ward of one patient is left out");
    for hidden in ["Patient ", "-17,", ",1901", ",W77"] {
        assert!(!text.contains(hidden), "{hidden}");
    }
    assert!(text.lines().nth(1).unwrap().ends_with(",1950,W0,\"[0,50)\""), "{:?}", text.lines().nth(1));
    assert_eq!(guangzhou.show("holdings", &agreement)["transform"], transform);
    assert_eq!(told(hong_kong, "dataset-published", &transform), 1);
    assert_eq!(told(guangzhou, "holding-begun", &transform), 1);

    // What the agreement demands is not undone by publishing anew.
    let plain = Dataset::research("visits");
    publish(hong_kong, &plain, "visits.csv", None).done();
    let again = guangzhou.run(&["transfer", "start", &agreement]);
    assert_ne!(again.exit, exit::DONE, "{again}");
}

#[test]
fn a_duty_to_replace_defines_its_transform_itself() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let people = json!([{"name": "Chan Tai Man", "home": {"street": "1 Pok Fu Lam Road", "city": "Hong Kong"}}, {"name": "Lee", "home": null}]);
    std::fs::write(hong_kong.sources().join("people.json"), people.to_string()).unwrap();
    let replace = |path| [("idsc:JSON_PATH", path), ("idsc:REPLACE_WITH", "XXX")];
    let dataset = Dataset::research("people")
        .owing("idsc:REPLACE", &replace("$.name"))
        .owing("idsc:REPLACE", &replace("$[*].home.street"));
    // The description says CSV, the file is JSON: what is declared about the data decides.
    let declared = json!({"format": "fairlead-transform/1", "name": "as-json", "version": "1", "performs": [], "data": "json", "steps": [{"step": "limit", "rows": 1000}]});
    let published = publish(hong_kong, &dataset, "people.json", Some(&declared)).object();
    let dataset = published["dataset"].as_str().unwrap();
    guangzhou.finds(dataset);
    let agreement = guangzhou.negotiate(dataset);
    guangzhou.pull(&agreement);
    let read: Value = serde_json::from_slice(&guangzhou.read(&agreement, RESEARCH).done().output).unwrap();
    let expected = json!([{"name": "XXX", "home": {"street": "XXX", "city": "Hong Kong"}}, {"name": "XXX", "home": null}]);
    assert_eq!(read, expected);

    let unknown = Dataset::research("nobody").owing("idsc:REPLACE", &replace("$..name"));
    publish(hong_kong, &unknown, "people.json", Some(&declared))
        .refused(exit::USAGE, "transform/malformed-declaration");
}
