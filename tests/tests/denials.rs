//! What a connector must not do, whatever the policy or the peer says; docs/security-model.md names each case.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::{SystemTime, UNIX_EPOCH};

use federation_tests::command::exit;
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, RESEARCH, bytes, described};
use federation_tests::space::Space;
use federation_tests::stranger::Caller;
use federation_tests::wait::until;
use policy::time::UnixMillis;
use policy::{Policy, Profiles};
use proto::dsp;
use serde_json::Value;

const PROVIDER: &str = "https://hong-kong.example/id";
const READ: &[&str] = &["--action", "read", "--purpose", RESEARCH];

/// Publishes these rules; gives how that ended.
fn publish(provider: &Connector, name: &str, rules: &str) -> federation_tests::command::Outcome {
    let text = format!(
        r#"{{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Offer","uid":"{PROVIDER}/{name}-offer",
            "profile":["https://w3id.org/fairlead/profile/1","https://w3id.org/idsa/code/"],"assigner":"{PROVIDER}","target":"{PROVIDER}/{name}",{rules}}}"#
    );
    let offer =
        Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"));
    let turtle = described(name, PROVIDER, &offer.to_turtle().unwrap());
    let file = provider.write(&format!("{name}.ttl"), turtle);
    provider.run(&["dataset", "publish", file.to_str().unwrap(), "--source", &shared_file("x.csv")])
}

fn pulled(provider: &Connector, consumer: &Connector, name: &str, rules: &str) -> String {
    let dataset = publish(provider, name, rules).object()["dataset"].as_str().unwrap().to_owned();
    consumer.finds(&dataset);
    let agreement = consumer.negotiate(&dataset);
    consumer.pull(&agreement);
    agreement
}

fn used(consumer: &Connector, agreement: &str, more: &[&str]) -> federation_tests::command::Outcome {
    consumer.run(&[&["use", agreement][..], READ, more].concat())
}

fn in_seconds(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    UnixMillis(i64::try_from(now).unwrap() + i64::try_from(seconds * 1000).unwrap()).to_string()
}

#[test]
fn policies_that_cannot_be_held_are_not_published() {
    let mut space = Space::of(&["hong-kong"]);
    let [provider] = space.all(["hong-kong"]);
    std::fs::write(provider.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let before = provider.list("dataset").len();
    for (name, rules, code) in [
        (
            "operand",
            r#""permission":[{"action":"use","constraint":[{"leftOperand":"idsc:STATE","operator":"eq","rightOperand":{"@id":"urn:s"}}]}]"#,
            "policy/unsupported-operand",
        ),
        (
            "state",
            r#""permission":[{"action":"use","constraint":[{"leftOperand":"idsc:ARTIFACT_STATE","operator":"eq","rightOperand":{"@id":"urn:s"}}]}]"#,
            "policy/unsupported-operand",
        ),
        (
            "no-deadline",
            r#""permission":[{"action":"use","duty":[{"action":"delete"}]}]"#,
            "policy/duty-without-deadline",
        ),
        (
            "cited-when",
            r#""permission":[{"action":"use"}],"obligation":[{"action":"compensate"}]"#,
            "policy/duty-without-deadline",
        ),
        (
            "forwarded",
            r#""permission":[{"action":"use"},{"action":"distribute","duty":[{"action":"nextPolicy"}]}]"#,
            "policy/unsupported-duty",
        ),
        (
            "informed",
            r#""permission":[{"action":"use"}],"obligation":[{"action":"inform","odrl:informedParty":{"@id":"https://macao.example/id"}}]"#,
            "policy/unsupported-party",
        ),
        (
            "consequence",
            r#""permission":[{"action":"use","duty":[{"action":"compensate","consequence":[{"action":"anonymize"}]}]}]"#,
            "policy/unsupported-duty",
        ),
        (
            "refined",
            r#""permission":[{"action":"use","duty":[{"action":{"rdf:value":{"@id":"odrl:obtainConsent"},"odrl:refinement":[{"leftOperand":"count","operator":"lteq","rightOperand":{"@value":"3","@type":"xsd:integer"}}]}}]}]"#,
            "policy/unsupported-duty",
        ),
    ] {
        let text = publish(provider, name, &rules.replace("idsc:", "https://w3id.org/idsa/code/"));
        text.refused(exit::REFUSED_BY_POLICY, code);
    }
    assert_eq!(provider.list("dataset").len(), before);
    for event in ["trial", "urn:event:\u{202e}1", "urn:event:1 2"] {
        provider.run(&["event", "begin", event]).refused(exit::USAGE, "event/name");
    }
    provider.run(&["event", "end", "urn:event:1"]).refused(exit::NOT_FOUND, "event/not-running");
    assert!(provider.run(&["event", "list"]).done().lines().is_empty());
}

#[test]
fn a_prohibition_or_duties_alone_permit_nobody_anything() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [consumer, provider] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(provider.sources().join("x.csv"), bytes(100, 1)).unwrap();
    for (name, rules, code) in [
        ("forbids", r#""prohibition":[{"action":"distribute"}]"#, "policy/prohibited"),
        ("demands", r#""obligation":[{"action":"inform"}]"#, "policy/no-permission"),
    ] {
        let dataset = publish(provider, name, rules).object()["dataset"].as_str().unwrap().to_owned();
        consumer.finds(&dataset);
        let ended = consumer.run(&["negotiate", &dataset, "--wait", "50"]);
        ended.refused(exit::REFUSED_BY_PEER, code);
    }
    assert!(provider.list("agreement").is_empty());
}

/// Twelve at once on one permitted use: one is served.
#[test]
fn many_at_once_spend_no_use_twice() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [consumer, provider] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(10_000, 1);
    std::fs::write(provider.sources().join("x.csv"), &content).unwrap();
    let dataset = provider.publish(&Dataset::research("weather").counted(1), &shared_file("x.csv"));
    consumer.finds(&dataset);
    let agreement = consumer.negotiate(&dataset);
    consumer.pull(&agreement);
    let begun: Vec<_> =
        (0..12).map(|_| consumer.begin(&[&["use", agreement.as_str()][..], READ].concat())).collect();
    let ended: Vec<_> = begun.into_iter().map(federation_tests::command::Running::outcome).collect();
    let (served, refused): (Vec<_>, Vec<_>) = ended.iter().partition(|one| one.exit == exit::DONE);
    assert_eq!(served.len(), 1);
    assert_eq!(served[0].output, content);
    for one in refused {
        one.refused(exit::REFUSED_BY_POLICY, "policy/count-spent");
        assert!(one.output.is_empty());
    }
    let of_kind = |kind: &str| consumer.ledger().iter().filter(|record| record["kind"] == kind).count();
    assert_eq!((of_kind("use-opened"), of_kind("use-refused")), (1, 11));
}

/// A use whose record the ledger does not take is refused, and costs nothing.
#[test]
fn no_record_no_use() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [consumer, provider] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(provider.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let agreement = pulled(
        provider,
        consumer,
        "logged",
        r#""permission":[{"action":"use"}],"obligation":[{"action":"fl:log"},{"action":"inform"}]"#,
    );
    let size = |connector: &Connector| connector.run(&["status"]).object()["ledger_size"].clone();
    consumer.quiet();
    let before = size(consumer);
    // Longer than a member of a record may be.
    let endless = format!("urn:{}", "x".repeat(5_000));
    let refused = used(consumer, &agreement, &["--recipient", &endless]);
    assert_ne!(refused.exit, exit::DONE);
    assert!(refused.output.is_empty(), "{refused}");
    assert_eq!(size(consumer), before);
    assert_eq!(consumer.show("holdings", &agreement)["uses"], 0);
    used(consumer, &agreement, &[]).done();
    assert_eq!(consumer.show("holdings", &agreement)["uses"], 1);
    // Nor is the provider told of what did not happen.
    consumer.quiet();
    let told = |record: &&Value| record["subject"]["what"] == "agreement/used";
    assert_eq!(provider.ledger().iter().filter(told).count(), 1);
}

/// A duty that a person let pass closes the permission, is told, and brings its consequence; both must then be done.
#[test]
fn an_overdue_duty_brings_its_consequence() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [consumer, provider] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(provider.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let by = format!(
        r#"{{"leftOperand":"dateTime","operator":"lteq","rightOperand":{{"@value":"{}","@type":"xsd:dateTime"}}}}"#,
        in_seconds(12)
    );
    let rules = format!(
        r#""permission":[{{"action":"use"}}],"obligation":[{{"action":"reviewPolicy","constraint":[{by}],
            "consequence":[{{"action":"compensate"}}]}}]"#
    );
    let agreement = pulled(provider, consumer, "reviewed", &rules);
    used(consumer, &agreement, &[]).done();
    let closed = until("the duty is overdue", || {
        Some(used(consumer, &agreement, &[])).filter(|read| read.exit != exit::DONE)
    });
    closed.refused(exit::REFUSED_BY_POLICY, "use/duty-overdue");
    let duties = || consumer.run(&["duty", "list", "--agreement", &agreement]).lines();
    let consequence = until("the consequence is owed", || {
        duties().into_iter().find(|duty| duty["action"] == "compensate").filter(|duty| duty["state"] == "due")
    });
    let overdue = duties().into_iter().find(|duty| duty["action"] == "reviewPolicy").unwrap();
    assert_eq!(overdue["state"], "overdue");
    let fulfil = |duty: &Value, evidence: &str| {
        consumer.run(&["duty", "fulfil", duty["id"].as_str().unwrap(), "--evidence", evidence])
    };
    fulfil(&overdue, "").refused(exit::USAGE, "duty/evidence");
    fulfil(&overdue, "reviewed late").done();
    used(consumer, &agreement, &[]).refused(exit::REFUSED_BY_POLICY, "use/duty-overdue");
    let invoice = consumer.write("invoice.txt", "paid");
    let id = consequence["id"].as_str().unwrap();
    let done = consumer.run(&["duty", "fulfil", id, "--evidence-file", invoice.to_str().unwrap()]).object();
    assert!(done["evidence"].as_str().unwrap().starts_with("invoice.txt sha-256:"), "{done}");
    used(consumer, &agreement, &[]).done();
    for what in ["agreement/duty-overdue", "agreement/duty-done"] {
        until(what, || {
            provider.ledger().iter().any(|record| record["subject"]["what"] == what).then_some(())
        });
    }
}

/// A connector that did not say that it enforces what a policy needs gets no agreement on it.
#[tokio::test(flavor = "multi_thread")]
async fn who_did_not_say_that_it_enforces_gets_no_agreement() {
    let mut space = Space::of(&["hong-kong"]);
    space.enrol("macao");
    let macao = space.identity_of("macao");
    let statement = macao.statement.clone();
    let provider = space.get("hong-kong");
    std::fs::write(provider.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let dataset = provider.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    let offer = provider.run(&["catalogue", "show", &dataset]).object()["offers"][0].clone();
    let member = |name: &str| offer[name].as_str().unwrap().to_owned();
    let mut caller = Caller::connect(provider.address(), Some(&macao.into())).await.unwrap();
    let told = connector::enforceable::told();
    let purpose = "http://www.w3.org/ns/odrl/2/purpose";
    let all_but_purpose = told.into_iter().filter(|iri| iri != purpose).collect();
    caller.exchange_telling(&statement, all_but_purpose).await.unwrap();
    let request = dsp::ContractRequestMessage {
        message_id: "urn:uuid:01a221f7-0000-7000-8000-000000000001".to_owned(),
        consumer_pid: "urn:uuid:01a221f7-0000-7000-8000-000000000002".to_owned(),
        offer: Some(dsp::Offer { text: member("text"), id: member("id"), target: dataset.clone() }),
        opening: Some(dsp::contract_request_message::Opening::CallbackAddress(
            "grpcs:https://macao.example/id".to_owned(),
        )),
    };
    let path = "/fairlead.dsp.v1.NegotiationProviderService/RequestContract";
    let refused = caller.call::<dsp::ContractNegotiation>(path, &request).await.unwrap_err();
    let told = proto::status::from_status(&refused);
    assert_eq!(told.code, "negotiation/not-enforceable-there", "{refused}");
    assert!(provider.list("negotiation").is_empty() && provider.list("agreement").is_empty());
}
