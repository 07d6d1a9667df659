//! The whole path with real processes: publish, find, negotiate, pull, use, refuse; and what operators do on the way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use federation_tests::command::{exit, fairlead};
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, MARKETING, RESEARCH, bytes};
use federation_tests::space::Space;
use federation_tests::wait::until;
use federation_tests::web::Web;
use policy::time::UnixMillis;
use rustix::process::Signal;
use serde_json::Value;

const MIB: usize = 1024 * 1024;

#[test]
fn from_publication_to_the_last_use() {
    let mut space = Space::of(&["guangzhou", "hong-kong", "macao"]);
    let [guangzhou, hong_kong, macao] = space.all(["guangzhou", "hong-kong", "macao"]);
    let content = bytes(3 * MIB + 17, 1);
    std::fs::write(hong_kong.sources().join("weather.csv"), &content).unwrap();

    let dry = hong_kong.write("dry.ttl", Dataset::research("dry").turtle(&hong_kong.participant));
    let checked =
        ["dataset", "publish", dry.to_str().unwrap(), "--source", "file:shared/weather.csv", "--dry-run"];
    assert_eq!(hong_kong.run(&checked).object()["state"], "checked");
    assert!(hong_kong.list("dataset").is_empty(), "a dry run publishes nothing");

    let dataset = hong_kong.publish(&Dataset::research("weather").counted(2), &shared_file("weather.csv"));
    for connector in [&*guangzhou, &*macao, &*hong_kong] {
        let entry = connector.finds(&dataset);
        assert_eq!(entry["byte_size"], content.len());
        for question in [
            vec!["weather"],
            vec!["WEATHER"],
            vec!["天氣"],
            vec!["天气"],
            vec!["--keyword", "天氣"],
            vec!["--theme", "http://publications.europa.eu/resource/authority/data-theme/ENVI"],
            vec!["--publisher", &hong_kong.participant],
            vec!["--purpose", RESEARCH],
        ] {
            let found = connector.run(&[&["catalogue", "search"][..], &question].concat());
            let found: Vec<Value> = found.done().lines();
            assert!(
                found.iter().any(|hit| hit["dataset"] == *dataset),
                "{} {question:?}: {found:?}",
                connector.name
            );
        }
        for question in
            [vec!["earthquake"], vec!["--purpose", MARKETING], vec!["--publisher", &macao.participant]]
        {
            let found = connector.run(&[&["catalogue", "search"][..], &question].concat());
            assert!(found.done().lines().is_empty(), "{} {question:?}", connector.name);
        }
    }

    let agreement = guangzhou.negotiate(&dataset);
    let (ours, theirs) = (guangzhou.show("agreement", &agreement), hong_kong.show("agreement", &agreement));
    for member in ["hash", "document", "dataset", "assigner", "assignee", "signed_at"] {
        assert_eq!(ours[member], theirs[member], "{member}");
    }
    assert_eq!((&ours["role"], &theirs["role"]), (&"consumer".into(), &"provider".into()));
    guangzhou.read(&agreement, RESEARCH).refused(exit::NOT_FOUND, "use/no-holding");

    let transfer = guangzhou.pull(&agreement);
    assert_eq!(transfer["bytes_done"], content.len());
    let (offered, held) = (&hong_kong.list("dataset")[0], guangzhou.show("holdings", &agreement));
    assert_eq!(offered["manifest_digest"], transfer["manifest_digest"]);
    assert_eq!((&held["state"], &held["uses_left"]), (&"sealed".into(), &2.into()), "{held}");
    assert!(!holds(&guangzhou.data(), &content[MIB..MIB + 64]), "the copy at rest is not readable");

    // Refusals spend nothing.
    guangzhou.read(&agreement, MARKETING).refused(exit::REFUSED_BY_POLICY, "policy/purpose-not-permitted");
    guangzhou.read(&agreement, "").refused(exit::REFUSED_BY_POLICY, "policy/fact-missing");
    let print = ["use", &agreement, "--action", "print", "--purpose", RESEARCH];
    guangzhou.run(&print).refused(exit::REFUSED_BY_POLICY, "policy/action-not-permitted");
    let export = guangzhou.path("copy.csv");
    let exported = ["use", &agreement, "--purpose", RESEARCH, "--output", export.to_str().unwrap()];
    guangzhou.run(&exported).refused(exit::REFUSED_BY_POLICY, "policy/action-not-permitted");
    assert!(!export.exists(), "a refused use leaves nothing behind");
    let explained = guangzhou.run(&["use", &agreement, "--purpose", MARKETING, "--explain"]).object();
    assert_eq!(explained["outcome"], "deny");
    assert_eq!(guangzhou.show("holdings", &agreement)["uses"], 0);

    assert!(guangzhou.read(&agreement, RESEARCH).done().output == content, "the bytes are those published");
    let part = ["use", &agreement, "--purpose", RESEARCH, "--offset", "1048570", "--length", "20"];
    assert!(guangzhou.run(&part).done().output == content[1_048_570..1_048_590]);
    guangzhou.read(&agreement, RESEARCH).refused(exit::REFUSED_BY_POLICY, "policy/count-spent");
    let held = guangzhou.show("holdings", &agreement);
    assert_eq!((&held["uses"], &held["uses_left"]), (&2.into(), &0.into()));

    // Somebody else's agreement opens nothing.
    macao.read(&agreement, RESEARCH).refused(exit::NOT_FOUND, "agreement/not-found");
    macao.run(&["transfer", "start", &agreement]).refused(exit::NOT_FOUND, "transfer/unknown-agreement");

    assert_eq!(counted(guangzhou, "use-opened"), 2);
    assert_eq!(counted(guangzhou, "use-closed"), 2);
    assert_eq!(counted(guangzhou, "use-refused"), 5);
    assert_eq!(counted(hong_kong, "transfer-receipt"), 1);
    let mode = std::fs::metadata(guangzhou.data().join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_directory_arrives_as_its_files() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("a.csv", bytes(10, 1)),
        ("empty.csv", Vec::new()),
        ("exact.csv", bytes(MIB, 2)),
        ("more.csv", bytes(2 * MIB + 1, 3)),
        ("years/2025/氣溫.csv", bytes(70_000, 4)),
    ];
    for (name, content) in &files {
        let path = hong_kong.sources().join("series").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    // A link that leads out of the root is not followed.
    std::os::unix::fs::symlink("/etc/passwd", hong_kong.sources().join("out.csv")).unwrap();
    let linked = hong_kong.write("linked.ttl", Dataset::research("linked").turtle(&hong_kong.participant));
    let publish = ["dataset", "publish", linked.to_str().unwrap(), "--source", "file:shared/out.csv"];
    assert_ne!(hong_kong.run(&publish).exit, exit::DONE);

    let dataset = hong_kong.publish(&Dataset::research("series"), "directory:shared/series");
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    let transfer = guangzhou.pull(&agreement);
    assert_eq!((&transfer["objects_done"], &transfer["objects_total"]), (&5.into(), &5.into()));
    let held = guangzhou.show("holdings", &agreement);
    let mut names: Vec<&str> =
        held["objects"].as_array().unwrap().iter().map(|o| o["path"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a.csv", "empty.csv", "exact.csv", "more.csv", "years/2025/氣溫.csv"]);
    for (name, content) in &files {
        let read = guangzhou.run(&["use", &agreement, "--purpose", RESEARCH, "--object", name]);
        assert!(read.done().output == *content, "{name}");
    }
    guangzhou.read(&agreement, RESEARCH).refused(exit::USAGE, "use/several-objects");
    let none = guangzhou.run(&["use", &agreement, "--purpose", RESEARCH, "--object", "b.csv"]);
    none.refused(exit::NOT_FOUND, "use/no-such-object");
}

#[test]
fn people_decide_and_rules_do() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let rule = |name: &str, answers: &str| {
        format!("[[negotiation.rules]]\ndataset = \"https://hong-kong.example/id/{name}\"\n{answers}\n")
    };
    hong_kong.settings.rules = [
        rule("manual", "accept = \"manual\"\naltered = \"manual\""),
        rule("counter", "accept = \"automatic\"\naltered = \"counter\""),
        rule("strict", "accept = \"automatic\"\naltered = \"terminate\""),
    ]
    .concat();
    hong_kong.reload();
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let [manual, counter, strict] = ["manual", "counter", "strict"].map(|name| {
        let dataset = hong_kong.publish(&Dataset::research(name).counted(2), &shared_file("x.csv"));
        guangzhou.finds(&dataset);
        dataset
    });
    let uses = |connector: &Connector, negotiation: &Value| {
        let agreement = connector.show("agreement", negotiation["agreement"].as_str().unwrap());
        let clauses =
            agreement["clauses"].as_array().unwrap().iter().map(|clause| clause["text"].as_str().unwrap());
        let mut numbers =
            clauses.flat_map(|text| text.split(|c: char| !c.is_ascii_digit())).filter(|n| !n.is_empty());
        numbers.next().unwrap_or_else(|| panic!("a number of uses: {agreement}")).to_owned()
    };

    // Accepted by hand.
    let opened = guangzhou.run(&["negotiate", &manual, "--wait", "0"]).object();
    let theirs = waits_for_us(hong_kong, &opened);
    assert_eq!((&theirs["state"], &theirs["terms_altered"]), (&"REQUESTED".into(), &false.into()));
    hong_kong.run(&["negotiation", "accept", theirs["id"].as_str().unwrap()]).done();
    let ended = ends(guangzhou, &opened);
    assert_eq!(ended["state"], "FINALIZED");
    assert_eq!(uses(guangzhou, &ended), "2");
    let again = hong_kong.run(&["negotiation", "accept", theirs["id"].as_str().unwrap()]);
    again.refused(exit::REFUSED_BY_POLICY, "negotiation/not-our-step");

    // Ended by hand.
    let opened = guangzhou.run(&["negotiate", &manual, "--wait", "0"]).object();
    let theirs = waits_for_us(hong_kong, &opened);
    let id = theirs["id"].as_str().unwrap();
    hong_kong.run(&["negotiation", "terminate", id, "--reason", "not this year"]).done();
    let shown = guangzhou.run(&["negotiation", "show", opened["id"].as_str().unwrap(), "--wait", "50"]);
    let failure = shown.refused(exit::REFUSED_BY_PEER, "negotiation/terminated");
    assert!(failure["detail"].as_str().unwrap().contains("not this year"), "{failure}");

    // The provider counters, the consumer accepts by hand.
    let opened = guangzhou.run(&["negotiate", &manual, "--wait", "0"]).object();
    let theirs = waits_for_us(hong_kong, &opened);
    let five = altered(hong_kong, &manual, "5");
    hong_kong
        .run(&["negotiation", "counter", theirs["id"].as_str().unwrap(), "--terms", five.to_str().unwrap()])
        .done();
    let offered = waits_for_us(guangzhou, &theirs);
    assert_eq!((&offered["state"], &offered["terms_altered"]), (&"OFFERED".into(), &true.into()));
    guangzhou.run(&["negotiation", "accept", opened["id"].as_str().unwrap()]).done();
    let ended = ends(guangzhou, &opened);
    assert_eq!((&ended["state"], uses(guangzhou, &ended)), (&"FINALIZED".into(), "5".to_owned()));

    // The consumer counters the counter-offer, the provider accepts by hand.
    let opened = guangzhou.run(&["negotiate", &manual, "--wait", "0"]).object();
    let theirs = waits_for_us(hong_kong, &opened);
    hong_kong
        .run(&["negotiation", "counter", theirs["id"].as_str().unwrap(), "--terms", five.to_str().unwrap()])
        .done();
    waits_for_us(guangzhou, &theirs);
    let nine = altered(guangzhou, &manual, "9");
    guangzhou
        .run(&["negotiation", "counter", opened["id"].as_str().unwrap(), "--terms", nine.to_str().unwrap()])
        .done();
    let theirs = waits_for_us(hong_kong, &opened);
    assert_eq!((&theirs["state"], &theirs["terms_altered"]), (&"REQUESTED".into(), &true.into()));
    hong_kong.run(&["negotiation", "accept", theirs["id"].as_str().unwrap()]).done();
    let ended = ends(guangzhou, &opened);
    assert_eq!((&ended["state"], uses(guangzhou, &ended)), (&"FINALIZED".into(), "9".to_owned()));
    assert_eq!(uses(hong_kong, &ended), "9");

    // These rules never accept altered terms: they answer with what was published, or end.
    let nine = altered(guangzhou, &counter, "9");
    let negotiated =
        guangzhou.run(&["negotiate", &counter, "--terms", nine.to_str().unwrap(), "--wait", "50"]).object();
    assert_eq!((&negotiated["state"], uses(guangzhou, &negotiated)), (&"FINALIZED".into(), "2".to_owned()));
    let nine = altered(guangzhou, &strict, "9");
    let ended = guangzhou.run(&["negotiate", &strict, "--terms", nine.to_str().unwrap(), "--wait", "50"]);
    ended.refused(exit::REFUSED_BY_PEER, "negotiation/terms-altered");

    for connector in [&*guangzhou, &*hong_kong] {
        assert_eq!(connector.list("agreement").len(), 4, "{}", connector.name);
    }
}

#[test]
fn rules_accept_what_is_proven_to_be_no_worse() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    hong_kong.settings.rules =
        "[[negotiation.rules]]\naccept = \"automatic\"\naltered = \"accept-if-stricter\"\n".to_owned();
    hong_kong.reload();
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let dataset = hong_kong.publish(&Dataset::research("compared").counted(2), &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    let [one, five, nine] = ["1", "5", "9"].map(|uses| altered(guangzhou, &dataset, uses));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let needs = |uses: u32| {
        let ceiling = format!(
            r#"{{"@type":"Set","@id":"urn:ceiling","permission":[{{"action":"read","constraint":[
                {{"leftOperand":"purpose","operator":"isA","rightOperand":"dpv:AcademicResearch"}},
                {{"leftOperand":"count","operator":"lteq","rightOperand":{uses}}}]}}]}}"#
        );
        guangzhou.write(&format!("needs-{uses}.json"), ceiling)
    };
    let (two, three) = (text(&needs(2)), needs(3));

    // The provider: at least as strict is agreed to at once, anything else waits for a person, with the reason.
    let stricter = guangzhou.run(&["negotiate", &dataset, "--terms", &text(&one), "--wait", "50"]).object();
    assert_eq!(stricter["state"], "FINALIZED", "{stricter}");
    let wider = guangzhou.run(&["negotiate", &dataset, "--terms", &text(&nine), "--wait", "0"]).object();
    let theirs = waits_for_us(hong_kong, &wider);
    let shown = hong_kong.run(&["negotiation", "show", theirs["id"].as_str().unwrap()]).object();
    let reason = shown["reason"].as_str().unwrap();
    assert!(reason.starts_with("not accepted by rule: ") && reason.contains("count"), "{reason}");

    // The consumer: counter-offers within its ceiling are accepted at once, others wait for a person.
    for (counter, ends_with) in [(&five, Some("FINALIZED")), (&one, None)] {
        let asked = ["negotiate", &dataset, "--terms", &text(&nine), "--ceiling", &two, "--wait", "0"];
        let opened = guangzhou.run(&asked).object();
        let theirs = waits_for_us(hong_kong, &opened);
        let id = theirs["id"].as_str().unwrap();
        hong_kong.run(&["negotiation", "counter", id, "--terms", &text(counter)]).done();
        match ends_with {
            Some(_) => drop(ends(guangzhou, &opened)),
            None => {
                let ours = waits_for_us(guangzhou, &theirs);
                let shown = guangzhou.run(&["negotiation", "show", ours["id"].as_str().unwrap()]).object();
                let reason = shown["reason"].as_str().unwrap();
                assert!(reason.starts_with("not accepted by rule: ") && reason.contains("count"), "{reason}");
            }
        }
    }

    // What does not reach the ceiling is not even asked for; the settings may name it once for all.
    let refused = guangzhou.run(&["negotiate", &dataset, "--ceiling", &text(&three)]);
    refused.refused(exit::REFUSED_BY_POLICY, "negotiation/beyond-ceiling");
    guangzhou.settings.rules.insert_str(0, "[negotiation]\nceiling = \"needs-3.json\"\n");
    guangzhou.reload();
    let refused = guangzhou.run(&["negotiate", &dataset]);
    refused.refused(exit::REFUSED_BY_POLICY, "negotiation/beyond-ceiling");
    std::fs::write(&three, "{}").unwrap();
    let refused = guangzhou.run(&["negotiate", &dataset]);
    refused.refused(exit::UNAVAILABLE, "negotiation/ceiling-unusable");
}

#[test]
fn place_decides_at_both_ends() {
    let mut space = Space::of(&["guangzhou", "hong-kong", "macao"]);
    let [guangzhou, hong_kong, macao] = space.all(["guangzhou", "hong-kong", "macao"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let dataset = Dataset::research("islands").with("odrl:spatial", "odrl:isAnyOf", "\"HK\", \"MO\"");
    let dataset = hong_kong.publish(&dataset, &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    macao.finds(&dataset);
    let refused = guangzhou.run(&["negotiate", &dataset, "--wait", "50"]);
    refused.refused(exit::REFUSED_BY_PEER, "policy/place-not-permitted");
    let agreement = macao.negotiate(&dataset);
    macao.pull(&agreement);
    assert_eq!(macao.read(&agreement, RESEARCH).done().output, bytes(100, 1));

    // What no connector can enforce is not published, and the operand is named.
    let wrong = Dataset::research("wrong").with("odrl:deliveryChannel", "odrl:eq", "\"fax\"");
    let file = hong_kong.write("wrong.ttl", wrong.turtle(&hong_kong.participant));
    let publish = ["dataset", "publish", file.to_str().unwrap(), "--source", "file:shared/x.csv"];
    let failure = hong_kong.run(&publish).refused(exit::REFUSED_BY_POLICY, "policy/unsupported-operand");
    assert!(failure["detail"].as_str().unwrap().contains("deliveryChannel"), "{failure}");
    let foreign = hong_kong.write("foreign.ttl", Dataset::research("foreign").turtle(&macao.participant));
    let publish = ["dataset", "publish", foreign.to_str().unwrap(), "--source", "file:shared/x.csv"];
    assert_eq!(hong_kong.run(&publish).exit, exit::USAGE, "nobody describes what is another's");
}

#[test]
fn agreements_and_peers_are_suspended_resumed_and_ended() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let dataset = hong_kong.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    guangzhou.pull(&agreement);
    let status = |connector: &Connector, expected: &str| {
        connector.awaits(&["agreement", "show", &agreement], expected, |shown| shown["status"] == expected)
    };
    let refused = |code: &str| {
        guangzhou.read(&agreement, RESEARCH).refused(exit::REFUSED_BY_POLICY, code);
        guangzhou.run(&["transfer", "start", &agreement]).refused(exit::REFUSED_BY_POLICY, code);
    };

    hong_kong.run(&["agreement", "suspend", &agreement, "--reason", "audit"]).done();
    let told = status(guangzhou, "suspended");
    assert_eq!((&told["changed_by"], &told["reason"]), (&"provider".into(), &"audit".into()));
    refused("transfer/agreement-suspended");
    let lifted = guangzhou.run(&["agreement", "resume", &agreement]);
    lifted.refused(exit::REFUSED_BY_POLICY, "agreement/not-suspended-by-you");
    hong_kong.run(&["agreement", "resume", &agreement]).done();
    status(guangzhou, "active");
    guangzhou.read(&agreement, RESEARCH).done();

    guangzhou.run(&["agreement", "suspend", &agreement]).done();
    status(hong_kong, "suspended");
    refused("transfer/agreement-suspended");
    guangzhou.run(&["agreement", "resume", &agreement]).done();
    status(hong_kong, "active");

    let other = guangzhou.negotiate(&dataset);
    hong_kong.run(&["peer", "suspend", &guangzhou.participant, "--reason", "incident 12"]).done();
    for refused in [&["negotiate", &dataset, "--wait", "50"][..], &["transfer", "start", &other]] {
        let failure = guangzhou.run(refused).refused(exit::REFUSED_BY_PEER, "peer/refused-us");
        assert!(failure["detail"].as_str().unwrap().contains("suspended"), "{failure}");
    }
    hong_kong.run(&["peer", "resume", &guangzhou.participant]).done();
    guangzhou.negotiate(&dataset);
    guangzhou.pull(&other);

    hong_kong.run(&["agreement", "revoke", &agreement, "--reason", "withdrawn consent"]).done();
    status(guangzhou, "revoked");
    refused("transfer/agreement-revoked");
    let back = hong_kong.run(&["agreement", "resume", &agreement]);
    back.refused(exit::REFUSED_BY_POLICY, "agreement/ended");
    guangzhou.read(&other, RESEARCH).done();
}

#[test]
fn a_transfer_pauses_breaks_and_goes_on() {
    let content = bytes(12 * MIB, 1);
    let web = Web::serve(content.clone());
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    hong_kong.settings.more = web.settings();
    hong_kong.settings.limits.push_str("drain_seconds = 1\n");
    hong_kong.restart();
    let dataset = hong_kong.publish(&Dataset::research("slow"), &web.url());
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);

    web.hold_at(5 * MIB);
    let transfer = guangzhou.run(&["transfer", "start", &agreement, "--no-wait"]).object();
    let id = transfer["id"].as_str().unwrap();
    web.sent(5 * MIB);
    let at = |connector: &Connector, id: &str, state: &str| {
        connector.awaits(&["transfer", "show", id], state, |shown| shown["state"] == state)
    };

    // By either side, until that side resumes.
    let started = at(guangzhou, id, "STARTED");
    let theirs = started["peer_pid"].as_str().unwrap();
    guangzhou.run(&["transfer", "suspend", id, "--reason", "night"]).done();
    assert_eq!(at(hong_kong, theirs, "SUSPENDED")["suspended_by"], "consumer");
    guangzhou.run(&["transfer", "resume", id]).done();
    at(hong_kong, theirs, "STARTED");
    hong_kong.run(&["transfer", "suspend", theirs, "--reason", "maintenance"]).done();
    assert_eq!(at(guangzhou, id, "SUSPENDED")["suspended_by"], "provider");
    let resumed = guangzhou.run(&["transfer", "resume", id]);
    resumed.refused(exit::REFUSED_BY_POLICY, "transfer/suspended-by-other");
    hong_kong.run(&["transfer", "resume", theirs]).done();
    at(guangzhou, id, "STARTED");

    // A killed consumer, a killed provider, a provider that ends as asked.
    web.open_to(6 * MIB);
    web.sent(6 * MIB);
    guangzhou.kill();
    guangzhou.start();
    web.open_to(7 * MIB);
    web.sent(7 * MIB);
    hong_kong.kill();
    hong_kong.start();
    web.open_to(8 * MIB);
    web.sent(8 * MIB);
    assert!(hong_kong.stop().success(), "it ends as asked, although a stream is open");
    hong_kong.start();

    web.open_to(usize::MAX);
    let done = at(guangzhou, id, "COMPLETED");
    assert_eq!(done["bytes_done"], content.len());
    at(hong_kong, theirs, "COMPLETED");
    assert!(guangzhou.read(&agreement, RESEARCH).done().output == content);
    let began = web.began_at();
    assert!(
        began.len() >= 4 && began.iter().skip(1).any(|from| *from > 0),
        "what is held is not sent again: {began:?}"
    );
    assert_eq!(guangzhou.list("transfer").len(), 1);
    assert_eq!(hong_kong.list("transfer").len(), 1);

    // Ended for good by the provider: the consumer holds an incomplete copy that opens nothing.
    let other = guangzhou.negotiate(&dataset);
    web.hold_at(2 * MIB);
    let ended = guangzhou.begin(&["transfer", "start", &other]);
    web.sent(2 * MIB);
    let open = until("the provider's transfer", || {
        hong_kong
            .list("transfer")
            .into_iter()
            .find(|row| row["agreement"] == *other && row["state"] == "STARTED")
    });
    hong_kong.run(&["transfer", "terminate", open["id"].as_str().unwrap(), "--reason", "enough"]).done();
    ended.outcome().refused(exit::REFUSED_BY_PEER, "transfer/terminated");
    guangzhou.read(&other, RESEARCH).refused(exit::REFUSED_BY_POLICY, "use/incomplete");
}

#[test]
fn a_connector_that_was_down_catches_up() {
    let mut space = Space::of(&["hong-kong", "macao"]);
    let [hong_kong, macao] = space.all(["hong-kong", "macao"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let publish = |name: &str| hong_kong.publish(&Dataset::research(name), &shared_file("x.csv"));
    let early = publish("early");
    macao.finds(&early);
    assert!(macao.stop().success());
    let [withdrawn, kept] = [publish("withdrawn"), publish("kept")];
    for dataset in [&early, &withdrawn] {
        assert_eq!(hong_kong.run(&["dataset", "withdraw", dataset]).object()["state"], "withdrawn");
    }
    macao.start();
    macao.finds(&kept);
    for dataset in [&early, &withdrawn] {
        until("the withdrawal arrives", || {
            (macao.run(&["catalogue", "show", dataset]).exit == exit::NOT_FOUND).then_some(())
        });
    }
    assert_eq!(macao.run(&["status"]).object()["datasets_in_catalogue"], 1);
    hong_kong.quiet();

    // What was learnt is there again after a restart, without asking anybody.
    assert!(hong_kong.stop().success());
    macao.restart();
    macao.finds(&kept);
}

#[test]
fn doctor_and_health_tell_what_is_wrong() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    for target in [hong_kong.address(), &hong_kong.participant] {
        let report = guangzhou.run(&["doctor", "peer", target]);
        let checks = report.done().lines();
        for name in ["tcp", "tls", "exchange", "statement", "clock", "version"] {
            let check = checks.iter().find(|check| check["name"] == name);
            let check = check.unwrap_or_else(|| panic!("no check `{name}` in {checks:?}"));
            assert_eq!(check["verdict"], "ok", "{check}");
        }
    }
    let own = guangzhou.run(&["doctor", "self"]);
    assert!(own.done().lines().iter().all(|check| check["verdict"] != "failed"));

    let get = |address: &str, path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(get(guangzhou.health(), "/livez").starts_with("HTTP/1.1 200"));
    assert!(get(guangzhou.health(), "/readyz").starts_with("HTTP/1.1 200"));
    let metrics = get(guangzhou.health(), "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("fairlead_"), "{metrics}");

    let address = hong_kong.address().to_owned();
    assert!(hong_kong.stop().success());
    let report = guangzhou.run(&["doctor", "peer", &address]);
    report.refused(exit::UNAVAILABLE, "doctor/no-connection");
    let nobody = guangzhou.run(&["doctor", "peer", "nowhere.invalid:7443"]);
    nobody.refused(exit::UNAVAILABLE, "doctor/name-not-resolved");
    hong_kong.run(&["status"]).refused(exit::UNAVAILABLE, "admin/not-running");
}

#[test]
fn settings_are_read_again_at_sighup() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let dataset = hong_kong.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    guangzhou.negotiate(&dataset);

    let automatic = std::mem::take(&mut hong_kong.settings.rules);
    hong_kong.reload();
    let opened = guangzhou.run(&["negotiate", &dataset, "--wait", "0"]).object();
    waits_for_us(hong_kong, &opened);

    // Settings that cannot be used change nothing, and every mistake is named.
    hong_kong.settings.rules = format!("{automatic}\nunknown = 1\n[limits]\ndrain_seconds = \"long\"\n");
    hong_kong.write_settings();
    hong_kong.process().signal(Signal::HUP);
    let refused = hong_kong.process().logged("settings not reloaded: the old ones stay");
    assert!(refused["problems"].as_str().is_some_and(|problems| problems.contains("unknown")), "{refused}");
    let check = fairlead(&["config", "check", hong_kong.settings_file().to_str().unwrap()]);
    check.refused(exit::USAGE, "config/invalid");
    let opened = guangzhou.run(&["negotiate", &dataset, "--wait", "0"]).object();
    waits_for_us(hong_kong, &opened);

    hong_kong.settings.rules = automatic;
    hong_kong.reload();
    guangzhou.negotiate(&dataset);
}

#[test]
fn time_ends_permissions_and_fulfils_duties() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(200_000, 1);
    std::fs::write(hong_kong.sources().join("x.csv"), &content).unwrap();
    let soon = in_seconds(8);
    let brief = hong_kong.publish(&Dataset::research("brief").until(&soon), &shared_file("x.csv"));
    let owed = hong_kong.publish(&Dataset::research("owed").deleted_by(&soon), &shared_file("x.csv"));
    let elapsed =
        Dataset::research("elapsed").with("odrl:elapsedTime", "odrl:lteq", "\"PT3S\"^^xsd:duration");
    let elapsed = hong_kong.publish(&elapsed, &shared_file("x.csv"));
    let [brief, owed, elapsed] = [brief, owed, elapsed].map(|dataset| {
        guangzhou.finds(&dataset);
        let agreement = guangzhou.negotiate(&dataset);
        guangzhou.pull(&agreement);
        assert!(guangzhou.read(&agreement, RESEARCH).done().output == content);
        agreement
    });

    let refused = |agreement: &str, code: &str| {
        until(&format!("a use is refused with {code}"), || {
            let read = guangzhou.read(agreement, RESEARCH);
            // A session that was granted just before may end while it runs.
            let granted = read.exit == exit::DONE || read.failure()["code"] == "use/decision-expired";
            (!granted).then(|| read.refused(exit::REFUSED_BY_POLICY, code))
        })
    };
    refused(&elapsed, "policy/outside-time");
    refused(&brief, "policy/outside-time");
    refused(&owed, "use/destroyed");
    let held = guangzhou.show("holdings", &owed);
    assert_eq!(held["state"], "destroyed");
    assert_eq!(held["duties"][0]["state"], "done", "{held}");
    until("the provider has the proof", || {
        hong_kong.ledger().into_iter().find(|record| {
            record["kind"] == "notice-received"
                && record.to_string().contains("agreement/deleted")
                && record.to_string().contains(&owed)
        })
    });
    let again = guangzhou.run(&["transfer", "start", &owed]);
    assert_ne!(again.exit, exit::DONE, "what was destroyed does not come back under the same agreement");

    // By hand, before any deadline.
    let destroyed = guangzhou.run(&["holdings", "delete", &brief]).object();
    assert_eq!(destroyed["state"], "destroyed");
}

#[test]
fn a_restored_backup_gives_no_use_back() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let dataset = hong_kong.publish(&Dataset::research("weather").counted(3), &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    guangzhou.pull(&agreement);
    guangzhou.read(&agreement, RESEARCH).done();
    let backup = guangzhou.path("backup.db");
    let report = guangzhou.run(&["backup", "--state-only", backup.to_str().unwrap()]).object();
    assert_eq!(std::fs::metadata(&backup).unwrap().len(), report["bytes"].as_u64().unwrap());
    let again = guangzhou.run(&["backup", "--state-only", backup.to_str().unwrap()]);
    again.refused(exit::USAGE, "backup/target-exists");
    guangzhou.read(&agreement, RESEARCH).done();
    guangzhou.read(&agreement, RESEARCH).done();
    guangzhou.read(&agreement, RESEARCH).refused(exit::REFUSED_BY_POLICY, "policy/count-spent");

    let restore = |guangzhou: &Connector| guangzhou.run(&["restore", backup.to_str().unwrap()]);
    assert_eq!(restore(guangzhou).exit, exit::USAGE, "not below a running connector");
    assert!(guangzhou.stop().success());
    // Without its provider nothing tells what was spent after the backup.
    assert!(hong_kong.stop().success());
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let path = guangzhou.data().join(file);
        if path.exists() {
            std::fs::rename(&path, guangzhou.path(&format!("old-{file}"))).unwrap();
        }
    }
    restore(guangzhou).done();
    guangzhou.start();
    let refused = guangzhou.read(&agreement, RESEARCH);
    refused.refused(exit::UNAVAILABLE, "use/restored-backup");
}

#[test]
fn a_restored_publisher_signs_no_second_history() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let publish = |hong_kong: &Connector, name: &str| {
        let file = hong_kong.write("dataset.ttl", Dataset::research(name).turtle(&hong_kong.participant));
        hong_kong.run(&["dataset", "publish", file.to_str().unwrap(), "--source", &shared_file("x.csv")])
    };
    publish(hong_kong, "before").done();
    let backup = hong_kong.path("backup.db");
    hong_kong.run(&["backup", "--state-only", backup.to_str().unwrap()]).done();
    let lost = publish(hong_kong, "lost").object()["dataset"].as_str().unwrap().to_owned();
    guangzhou.finds(&lost);

    assert!(hong_kong.stop().success());
    assert!(guangzhou.stop().success());
    std::fs::rename(hong_kong.data().join("state.db"), hong_kong.path("old-state.db")).unwrap();
    hong_kong.run(&["restore", backup.to_str().unwrap()]).done();
    hong_kong.start();
    publish(hong_kong, "after").refused(exit::UNAVAILABLE, "catalogue/restored-unconfirmed");

    // The replica gives back what the backup lacks; then the log goes on behind it.
    guangzhou.start();
    let after = until("the publisher has asked its replica", || {
        let published = publish(hong_kong, "after");
        (published.exit == exit::DONE).then(|| published.object()["dataset"].as_str().unwrap().to_owned())
    });
    guangzhou.finds(&after);
    assert_eq!(hong_kong.run(&["catalogue", "show", &lost]).exit, exit::DONE);
    assert_eq!(counted(guangzhou, "catalogue-fork"), 0);
}

#[test]
fn changes_that_cross_keep_nothing_back() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let dataset = hong_kong.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    guangzhou.pull(&agreement);
    hong_kong.quiet();

    // Neither knows of the other's change when it makes its own.
    assert!(hong_kong.stop().success());
    guangzhou.run(&["agreement", "suspend", &agreement]).done();
    assert!(guangzhou.stop().success());
    hong_kong.start();
    hong_kong.run(&["agreement", "revoke", &agreement]).done();
    guangzhou.start();
    guangzhou.run(&["holdings", "delete", &agreement]).done();
    guangzhou.quiet();
    hong_kong.quiet();
    for connector in [&*guangzhou, &*hong_kong] {
        assert_eq!(connector.show("agreement", &agreement)["status"], "revoked", "{}", connector.name);
    }
    let proof = |record: &Value| record.to_string().contains("agreement/deleted");
    assert!(hong_kong.ledger().iter().any(proof), "the proof of deletion has arrived");

    // A refusal in the reader's language.
    let data = guangzhou.data();
    let refused = std::process::Command::new(federation_tests::process::program())
        .args(["--data", data.to_str().unwrap(), "--language", "zh-Hant", "use", &agreement])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("協議") || told.contains("副本"), "{told}");
}

/// Waits until the connector's own row of this negotiation waits for a person here.
fn waits_for_us(connector: &Connector, of_peer: &Value) -> Value {
    until(&format!("{} has to decide", connector.name), || {
        connector.list("negotiation").into_iter().find(|row| {
            row["peer_pid"] == of_peer["id"]
                && row["waits_for"].as_str().is_some_and(|waits| waits.starts_with("us"))
        })
    })
}

fn ends(connector: &Connector, negotiation: &Value) -> Value {
    let id = negotiation["id"].as_str().unwrap();
    connector
        .awaits(&["negotiation", "show", id, "--wait", "50"], "an end", |shown| shown["state"] == "FINALIZED")
}

/// The published offer with another number of uses.
fn altered(connector: &Connector, dataset: &str, uses: &str) -> PathBuf {
    let entry = connector.run(&["catalogue", "show", dataset]).object();
    let text = entry["offers"][0]["text"].as_str().unwrap();
    let changed = text.replace("\"@value\":\"2\"", &format!("\"@value\":\"{uses}\""));
    assert_ne!(changed, text, "{text}");
    connector.write(&format!("offer-{uses}.json"), changed)
}

fn counted(connector: &Connector, kind: &str) -> usize {
    connector.ledger().iter().filter(|record| record["kind"] == kind).count()
}

fn in_seconds(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    UnixMillis(i64::try_from(now).unwrap() + i64::try_from(seconds * 1000).unwrap()).to_string()
}

/// Whether any file below `folder` contains `needle`.
fn holds(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, needle);
        }
        let is_file = std::fs::symlink_metadata(&path).unwrap().is_file();
        is_file && std::fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle)
    })
}
