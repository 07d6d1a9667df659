//! Data that is passed on: three connectors in a chain, of which the middle one offers what it holds of the first to the
//! third. What is refused, what arrives, and that an end above reaches the end of the chain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use federation_tests::command::{Outcome, exit};
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{RESEARCH, bytes, described};
use federation_tests::reader::Opened;
use federation_tests::space::Space;
use federation_tests::wait::until;
use policy::time::UnixMillis;
use policy::{Policy, Profiles};
use serde_json::Value;

/// Whose data it is, who passes it on, and who gets it then.
const CHAIN: [&str; 3] = ["hong-kong", "guangzhou", "macao"];
const MIB: usize = 1024 * 1024;
/// Passes on what reading permits.
const DISTRIBUTE: &str = r#"{"action":"distribute"}"#;

/// A permission to read under these constraints.
fn read(constraints: &str) -> String {
    format!(r#"{{"action":"read","constraint":[{constraints}]}}"#)
}

fn count(most: u32) -> String {
    format!(r#"{{"leftOperand":"count","operator":"lteq","rightOperand":{most}}}"#)
}

fn for_research() -> String {
    r#"{"leftOperand":"purpose","operator":"isA","rightOperand":"dpv:ResearchAndDevelopment"}"#.to_owned()
}

fn before(instant: &str) -> String {
    format!(
        r#"{{"leftOperand":"dateTime","operator":"lt","rightOperand":{{"@value":"{instant}","@type":"xsd:dateTime"}}}}"#
    )
}

fn permitting(permissions: &[&str]) -> String {
    format!(r#""permission":[{}]"#, permissions.join(","))
}

fn in_seconds(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    UnixMillis(i64::try_from(now).unwrap() + i64::try_from(seconds * 1000).unwrap()).to_string()
}

/// The offer `NAME-SUFFIX` of these rules, in Turtle.
fn offer(publisher: &str, name: &str, suffix: &str, rules: &str) -> String {
    let text = format!(
        r#"{{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Offer","uid":"{publisher}/{name}-{suffix}",
            "profile":["https://w3id.org/fairlead/profile/1","https://w3id.org/idsa/code/"],
            "assigner":"{publisher}","target":"{publisher}/{name}",{rules}}}"#
    );
    let offer =
        Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"));
    offer.to_turtle().unwrap()
}

/// Publishes these rules with the bytes of `source`.
fn publish(connector: &Connector, name: &str, rules: &str, source: &str, more: &[&str]) -> Outcome {
    let us = &connector.participant;
    publish_text(connector, name, &described(name, us, &offer(us, name, "offer", rules)), source, more)
}

fn publish_text(connector: &Connector, name: &str, turtle: &str, source: &str, more: &[&str]) -> Outcome {
    let file = connector.write(&format!("{name}.ttl"), turtle);
    let arguments = ["dataset", "publish", file.to_str().unwrap(), "--source", source];
    connector.run(&[&arguments[..], more].concat())
}

fn dataset_of(published: &Outcome) -> String {
    published.object()["dataset"].as_str().unwrap().to_owned()
}

fn holding(agreement: &str) -> String {
    format!("holding:{agreement}")
}

/// Negotiates and pulls; gives the agreement.
fn get(consumer: &Connector, dataset: &str) -> String {
    consumer.finds(dataset);
    let agreement = consumer.negotiate(dataset);
    consumer.pull(&agreement);
    agreement
}

/// A dataset of the first that the second holds, offered on to the third, which holds it, too.
struct Passed {
    /// The first's dataset.
    above: String,
    /// The agreement of the first and the second.
    source: String,
    /// The second's dataset.
    onward: String,
    /// The agreement of the second and the third.
    below: String,
}

fn passed(space: &mut Space, name: &str, rules: &str, further: &str, content: &[u8]) -> Passed {
    let [first, second, third] = space.all(CHAIN);
    std::fs::write(first.sources().join(format!("{name}.csv")), content).unwrap();
    let above = dataset_of(&publish(first, name, rules, &shared_file(&format!("{name}.csv")), &[]));
    let source = get(second, &above);
    let onward = dataset_of(&publish(second, name, further, &holding(&source), &[]));
    let below = get(third, &onward);
    Passed { above, source, onward, below }
}

fn open(connector: &Connector, agreement: &str) -> Opened {
    Opened::of(connector.run(&["session", "open", agreement, "--purpose", RESEARCH]).object())
}

/// Waits until a session has ended, and compares how.
fn ends(connector: &Connector, session: &str, end: &str) {
    let of_it = |record: &Value| record["kind"] == "use-closed" && record["subject"]["session"] == *session;
    let closed = until(&format!("{session} has ended"), || connector.ledger().into_iter().find(of_it));
    assert_eq!(closed["subject"]["end"], end, "{closed}");
}

fn has_status(connector: &Connector, agreement: &str, status: &str) -> Value {
    connector.awaits(&["agreement", "show", agreement], status, |shown| shown["status"] == *status)
}

fn row(connector: &Connector, dataset: &str) -> Value {
    connector.list("dataset").into_iter().find(|row| row["dataset"] == *dataset).unwrap()
}

fn records(connector: &Connector, kind: &str) -> Vec<Value> {
    let subject = |record: Value| (record["kind"] == *kind).then(|| record["subject"].clone());
    connector.ledger().into_iter().filter_map(subject).collect()
}

/// Everything below an agreement that has ended is gone, for good.
fn ended(space: &mut Space, passed: &Passed, why: &str) {
    let [_, second, third] = space.all(CHAIN);
    for connector in [&*third, &*second] {
        has_status(connector, &passed.below, "revoked");
    }
    let withdrawn = until("the onward dataset is withdrawn", || {
        Some(row(second, &passed.onward)).filter(|row| row["state"] == "withdrawn")
    });
    assert_eq!(withdrawn["source"], *holding(&passed.source));
    let record = records(second, "dataset-withdrawn").pop().unwrap();
    assert_eq!((&record["dataset"], &record["code"]), (&passed.onward.as_str().into(), &why.into()));
    until("the withdrawal has reached the third", || {
        (third.run(&["catalogue", "show", &passed.onward]).exit != 0).then_some(())
    });
    let refused =
        third.read(&passed.below, RESEARCH).refused(exit::REFUSED_BY_POLICY, "transfer/agreement-revoked");
    assert!(refused["text"].is_string());
    let again = publish(second, "again", &permitting(&[&read("")]), &holding(&passed.source), &[]);
    assert_ne!(again.exit, exit::DONE, "{again}");
}

#[test]
fn what_is_not_permitted_is_not_passed_on() {
    let mut space = Space::of(&CHAIN[..2]);
    let [first, second] = space.all(["hong-kong", "guangzhou"]);
    for connector in [&*first, &*second] {
        std::fs::write(connector.sources().join("x.csv"), bytes(1_000, 1)).unwrap();
    }
    let strict = permitting(&[&read(&[count(3), for_research()].join(",")), DISTRIBUTE]);
    let of_first = |name: &str, rules: &str| {
        let published = publish(first, name, rules, &shared_file("x.csv"), &[]);
        get(second, &dataset_of(&published))
    };
    let limited = of_first("limited", &strict);
    let unnamed = of_first("unnamed", &permitting(&[r#"{"action":"use"}"#]));
    let purpose = of_first(
        "purpose",
        &permitting(&[&format!(r#"{{"action":"distribute","constraint":[{}]}}"#, for_research()), &read("")]),
    );
    let leased = of_first(
        "leased",
        &permitting(&[
            DISTRIBUTE,
            &read(
                r#"{"leftOperand":"fl:keyLease","operator":"lteq","rightOperand":{"@value":"PT1M","@type":"xsd:duration"}}"#,
            ),
        ]),
    );
    let unpulled = {
        let published = publish(first, "unpulled", &strict, &shared_file("x.csv"), &[]);
        second.finds(&dataset_of(&published));
        second.negotiate(&dataset_of(&published))
    };
    let own = {
        let published = publish(second, "own", &strict, &shared_file("x.csv"), &[]);
        get(first, &dataset_of(&published))
    };
    let file = second.write("transform.json", "{}");
    let transform = ["--transform", file.to_str().unwrap()];
    let reading = permitting(&[&read("")]);
    let as_strict = permitting(&[&read(&[count(2), for_research()].join(","))]);
    let wider = permitting(&[&read(&[count(4), for_research()].join(","))]);
    let (state, policy, usage) = (exit::REFUSED_BY_POLICY, exit::REFUSED_BY_POLICY, exit::USAGE);
    let check = |name: &str, rules: &str, agreement: &str, more: &[&str], exit: i32, code: &str| {
        publish(second, name, rules, &holding(agreement), more).refused(exit, code)
    };
    check("a", &reading, "urn:uuid:0", &[], exit::NOT_FOUND, "agreement/not-found");
    check("a", &reading, &own, &[], usage, "onward/not-consumer");
    check("a", &reading, &unpulled, &[], exit::NOT_FOUND, "use/no-holding");
    let unnamed = check("a", &reading, &unnamed, &[], policy, "onward/not-distributable");
    assert!(unnamed["detail"].as_str().unwrap().contains("policy/action-not-permitted"), "{unnamed}");
    let laxer = check("a", &reading, &limited, &[], policy, "onward/laxer-offer");
    assert!(laxer["detail"].as_str().unwrap().contains("read https://guangzhou.example/id/a by"), "{laxer}");
    let laxer = check("a", &wider, &limited, &[], policy, "onward/laxer-offer");
    assert!(laxer["detail"].as_str().unwrap().contains("count = 3"), "{laxer}");
    check("a", &reading, &purpose, &[], policy, "onward/not-distributable");
    let other = ["--purpose", "dpv:Marketing"];
    check("a", &reading, &purpose, &other, policy, "onward/not-distributable");
    check("a", &reading, &leased, &[], policy, "onward/leased-source");
    check("a", &as_strict, &limited, &transform, usage, "onward/changed-copy");
    check("own", &as_strict, &limited, &[], state, "onward/other-source");
    let purposeless = publish(second, "b", &reading, &shared_file("x.csv"), &["--purpose", RESEARCH]);
    purposeless.refused(usage, "onward/purpose");
    let datasets = second.list("dataset").len();
    assert_eq!(datasets, 1, "nothing but its own was published");

    let research = ["--purpose", RESEARCH];
    publish(second, "a", &reading, &holding(&purpose), &[&research[..], &["--dry-run"]].concat()).done();
    publish(second, "a", &as_strict, &holding(&limited), &[]).done();
    publish(second, "a", &as_strict, &shared_file("x.csv"), &[]).refused(state, "onward/other-source");
    second.run(&["holdings", "delete", &purpose]).done();
    check("c", &reading, &purpose, &research, policy, "use/destroyed");
    first.run(&["agreement", "revoke", &unpulled, "--reason", "over"]).done();
    has_status(second, &unpulled, "revoked");
    check("c", &reading, &unpulled, &[], policy, "transfer/agreement-revoked");
}

#[test]
fn the_next_policy_is_passed_on() {
    let mut space = Space::of(&CHAIN);
    let [first, second, third] = space.all(CHAIN);
    let content = bytes(1_000, 1);
    std::fs::write(first.sources().join("x.csv"), &content).unwrap();
    let us = first.participant.clone();
    let next = |policy: &str| {
        format!(
            r#"{{"action":"distribute","duty":[{{"action":{{"rdf:value":{{"@id":"odrl:nextPolicy"}},
                "odrl:refinement":[{{"leftOperand":"https://w3id.org/idsa/code/TARGET_POLICY","operator":"eq",
                "rightOperand":{{"@id":"{policy}"}}}}]}}}}]}}"#
        )
    };
    let with_next = |name: &str, named: &str| {
        let rules = permitting(&[&read(&count(5)), &next(named)]);
        let turtle = format!(
            "{}{}\n<{us}/{name}> <http://www.w3.org/ns/odrl/2/hasPolicy> <{us}/{name}-next> .\n",
            described(name, &us, &offer(&us, name, "offer", &rules)),
            offer(&us, name, "next", &permitting(&[&read(&count(1))])),
        );
        let dataset = dataset_of(&publish_text(first, name, &turtle, &shared_file("x.csv"), &[]));
        second.finds(&dataset);
        let chosen = format!("{us}/{name}-offer");
        let negotiated = second.run(&["negotiate", &dataset, "--offer", &chosen, "--wait", "50"]).object();
        let agreement = negotiated["agreement"].as_str().unwrap().to_owned();
        second.pull(&agreement);
        agreement
    };
    let agreement = with_next("chained", &format!("{us}/chained-next"));
    let unknown = with_next("unknown", "urn:policy:next");
    let offered =
        |rules: String, agreement: &str| publish(second, "chained", &rules, &holding(agreement), &[]);
    let reads = |most: u32| permitting(&[&read(&count(most))]);
    offered(reads(1), &unknown).refused(exit::REFUSED_BY_POLICY, "onward/next-policy-unknown");
    offered(reads(2), &agreement).refused(exit::REFUSED_BY_POLICY, "onward/laxer-than-next-policy");
    // Forward without next policy.
    let bare = permitting(&[&read(&count(1)), DISTRIBUTE]);
    let bare = offered(bare, &agreement).refused(exit::REFUSED_BY_POLICY, "onward/laxer-offer");
    assert!(bare["detail"].as_str().unwrap().contains("nextPolicy"), "{bare}");
    let by_hand = second.run(&["use", &agreement, "--action", "distribute"]);
    by_hand.refused(exit::REFUSED_BY_POLICY, "onward/without-next-policy");

    let onward = dataset_of(&offered(reads(1), &agreement));
    let below = get(third, &onward);
    assert_eq!(third.read(&below, RESEARCH).done().output, content);
    third.read(&below, RESEARCH).refused(exit::REFUSED_BY_POLICY, "policy/count-spent");
}

#[test]
fn what_is_passed_on_arrives_with_its_lineage_and_ends_with_its_source() {
    let mut space = Space::of(&CHAIN);
    let content = bytes(3 * MIB + 17, 1);
    let informs = |whom: &str| {
        format!(
            r#","obligation":[{{"action":"inform","odrl:informedParty":{{"@id":"https://{whom}.example/id"}}}}]"#
        )
    };
    let rules = permitting(&[
        &read(&for_research()),
        r#"{"action":"distribute","constraint":[{"leftOperand":"count","operator":"lteq","rightOperand":1}]}"#,
    ]);
    let further = permitting(&[&read(&for_research())]);
    let passed = passed(
        &mut space,
        "weather",
        &format!("{rules}{}", informs("hong-kong")),
        &format!("{further}{}", informs("guangzhou")),
        &content,
    );
    let [first, second, third] = space.all(CHAIN);
    let [above, below] = [second.show("holdings", &passed.source), third.show("holdings", &passed.below)];
    assert_eq!(above["objects"][0]["digest"], below["objects"][0]["digest"]);
    assert!(third.read(&passed.below, RESEARCH).done().output == content);
    let origin = Value::from(vec![passed.above.clone()]);
    assert_eq!(third.finds(&passed.onward)["derived_from"], origin);
    assert_eq!(
        (&below["derived_from"], &above["derived_from"]),
        (&origin, &Value::from(Vec::<Value>::new()))
    );
    // The use through which it was passed on is one of the second's, counted, recorded and told to the first.
    assert_eq!(above["uses"], 1);
    let used = records(second, "use-opened");
    assert_eq!(used.len(), 1, "{used:?}");
    assert_eq!(used[0]["action"], "http://www.w3.org/ns/odrl/2/distribute");
    assert_eq!(used[0]["actor"], format!("onward under {}", passed.below));
    let released = records(second, "use-closed").pop().unwrap();
    assert_eq!(released["bytes"], content.len().to_string());
    until("the first has heard of it", || {
        let of_it =
            |notice: &Value| notice["what"] == "agreement/used" && notice["agreement"] == *passed.source;
        records(first, "notice-received").into_iter().find(of_it)
    });
    // The one that was counted is spent: nobody else gets it, and what was passed on stays.
    let spent = third.negotiate(&passed.onward);
    let transfer = third.run(&["transfer", "start", &spent]);
    assert_ne!(transfer.exit, exit::DONE, "{transfer}");
    has_status(third, &passed.below, "active");
    assert_eq!(row(second, &passed.onward)["state"], "published");

    let session = open(third, &passed.below);
    first.run(&["agreement", "revoke", &passed.source, "--reason", "the data are wrong"]).done();
    ends(third, &session.id, "transfer/agreement-revoked");
    session.get(&[]).refused(410, "transfer/agreement-revoked");
    ended(&mut space, &passed, "transfer/agreement-revoked");
    let [_, _, third] = space.all(CHAIN);
    has_status(third, &spent, "revoked");
}

#[test]
fn a_suspension_above_reaches_below_and_is_lifted_again() {
    let mut space = Space::of(&CHAIN);
    let rules = permitting(&[&read(""), DISTRIBUTE]);
    let reading = permitting(&[&read("")]);
    let passed = passed(&mut space, "weather", &rules, &reading, b"data");
    let [first, second, third] = space.all(CHAIN);
    let by_hand = third.negotiate(&passed.onward);
    second.run(&["agreement", "suspend", &by_hand, "--reason", "checking"]).done();
    let session = open(third, &passed.below);

    // The one in the middle hears of it when it is there again.
    second.kill();
    first.run(&["agreement", "suspend", &passed.source, "--reason", "checking"]).done();
    second.start();
    ends(third, &session.id, "transfer/agreement-suspended");
    has_status(second, &passed.below, "suspended");
    third.read(&passed.below, RESEARCH).refused(exit::REFUSED_BY_POLICY, "transfer/agreement-suspended");
    let refused = third.run(&["negotiate", &passed.onward, "--wait", "50"]);
    refused.refused(exit::REFUSED_BY_PEER, "onward/source-suspended");
    assert_eq!(row(second, &passed.onward)["state"], "published");

    first.run(&["agreement", "resume", &passed.source]).done();
    has_status(third, &passed.below, "active");
    assert_eq!(third.read(&passed.below, RESEARCH).done().output, b"data");
    has_status(second, &by_hand, "suspended");
    get(third, &passed.onward);
}

#[test]
fn a_crash_halfway_down_loses_no_end() {
    let mut space = Space::of(&CHAIN);
    let rules = permitting(&[&read(""), DISTRIBUTE]);
    let passed = passed(&mut space, "weather", &rules, &permitting(&[&read("")]), b"data");
    let [first, second, third] = space.all(CHAIN);
    let other = get(third, &passed.onward);
    assert!(second.stop().success());
    first.run(&["agreement", "revoke", &passed.source, "--reason", "over"]).done();
    // It dies once the first of two agreements has followed.
    second.spawn(&[("FAIRLEAD_CRASH", "onward-agreement-followed:1")]);
    until("the middle one has died", || second.ended());
    second.start();
    has_status(third, &other, "revoked");
    ended(&mut space, &passed, "transfer/agreement-revoked");
}

#[test]
fn a_copy_that_is_deleted_and_a_date_that_passes_end_what_was_passed_on() {
    let mut space = Space::of(&CHAIN);
    let reading = permitting(&[&read("")]);
    let deleted = passed(&mut space, "deleted", &permitting(&[&read(""), DISTRIBUTE]), &reading, b"data");
    let [_, second, _] = space.all(CHAIN);
    second.run(&["holdings", "delete", &deleted.source]).done();
    ended(&mut space, &deleted, "use/destroyed");

    let until_then = before(&in_seconds(40));
    let dated = format!(r#"{{"action":"distribute","constraint":[{until_then}]}}"#);
    let dated = passed(&mut space, "dated", &permitting(&[&read(""), &dated]), &reading, b"data");
    let [_, _, third] = space.all(CHAIN);
    assert_eq!(third.read(&dated.below, RESEARCH).done().output, b"data");
    ended(&mut space, &dated, "policy/outside-time");
}
