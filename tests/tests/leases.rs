//! Key leases between honest connectors: asked for, renewed, bridged while the provider is away, ended by either side,
//! and no copy lost by whoever dies in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::io::Read as _;
use std::process::ChildStdout;

use federation_tests::command::{Running, exit};
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, RESEARCH, bytes};
use federation_tests::space::Space;
use federation_tests::wait::until;
use serde_json::Value;

const MIB: usize = 1024 * 1024;
/// Larger than what pipes and windows hold: its reader decides how long a session lasts.
const SLOW: usize = 24 * MIB;

fn space() -> Space {
    Space::of(&["guangzhou", "hong-kong"])
}

/// Publishes a file under these terms, and gives an agreement on it that was pulled.
fn held(guangzhou: &Connector, hong_kong: &Connector, dataset: &Dataset, content: &[u8]) -> String {
    std::fs::write(hong_kong.sources().join("x.csv"), content).unwrap();
    let dataset = hong_kong.publish(dataset, &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    guangzhou.pull(&agreement);
    agreement
}

fn records(connector: &Connector, kind: &str) -> Vec<Value> {
    connector.ledger().into_iter().filter(|record| record["kind"] == kind).collect()
}

/// The reader gets what was on its way, and then the reason instead of the end.
fn stopped_early(session: Running, mut output: ChildStdout, code: &str) {
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    let outcome = session.outcome();
    assert_ne!(outcome.exit, exit::DONE, "{outcome}");
    assert_eq!(outcome.failure()["code"], code, "{outcome}");
    assert!(rest.len() < SLOW - MIB, "{} bytes were let out", rest.len());
}

fn lease(guangzhou: &Connector, agreement: &str) -> String {
    guangzhou.show("holdings", agreement)["lease"].as_str().unwrap().to_owned()
}

#[test]
fn a_lease_lasts_in_memory_and_is_asked_for_again() {
    let mut space = space();
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(2 * MIB + 5, 1);
    let free = held(guangzhou, hong_kong, &Dataset::research("free").leased("PT1H"), &content);
    let counted =
        held(guangzhou, hong_kong, &Dataset::research("counted").counted(2).leased("PT1H"), &content);
    let shown = guangzhou.show("holdings", &free);
    assert_eq!(shown["lease"], "live", "{shown}");
    assert!(shown["leased_at"].as_str() < shown["lease_until"].as_str(), "{shown}");
    assert!(guangzhou.read(&free, RESEARCH).done().output == content);
    assert!(guangzhou.read(&counted, RESEARCH).done().output == content);

    // While the provider is away: what it must count waits for it, everything else goes on for the agreed time.
    assert!(hong_kong.stop().success());
    assert!(guangzhou.read(&free, RESEARCH).done().output == content);
    guangzhou.read(&counted, RESEARCH).refused(exit::UNAVAILABLE, "use/lease-needed");
    // After a restart nothing is left in memory.
    guangzhou.restart();
    assert_eq!((lease(guangzhou, &free), lease(guangzhou, &counted)), ("needed".into(), "needed".into()));
    guangzhou.read(&free, RESEARCH).refused(exit::UNAVAILABLE, "use/lease-needed");
    let uses = |agreement: &str| guangzhou.show("holdings", agreement)["uses"].clone();
    assert_eq!((uses(&free), uses(&counted)), (2.into(), 1.into()), "what is refused is not counted");

    hong_kong.start();
    until("the provider answers again", || {
        (guangzhou.read(&free, RESEARCH).exit == exit::DONE).then_some(())
    });
    assert_eq!(lease(guangzhou, &free), "live");
    assert!(guangzhou.read(&counted, RESEARCH).done().output == content);
    guangzhou.read(&counted, RESEARCH).refused(exit::REFUSED_BY_POLICY, "policy/count-spent");

    // Gone here, gone there.
    guangzhou.run(&["holdings", "delete", &free]).done();
    until("the provider has destroyed its shares", || records(hong_kong, "lease-shares-destroyed").pop());
}

#[test]
fn sessions_live_on_renewed_leases_and_end_with_a_refused_one() {
    let mut space = space();
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(SLOW, 2);
    let agreement = held(guangzhou, hong_kong, &Dataset::research("slow").leased("PT3S"), &content);
    let read = ["use", &agreement, "--action", "read", "--purpose", RESEARCH];

    // A reader that takes its time: the lease ends several times, and is renewed each time.
    let mut slow = guangzhou.begin(&read);
    let mut output = slow.output.take().unwrap();
    let mut begun = vec![0; 1000];
    output.read_exact(&mut begun).unwrap();
    let renewed = |connector: &Connector| records(connector, "lease-granted").len();
    let before = renewed(hong_kong);
    until("the lease was renewed four times", || (renewed(hong_kong) >= before + 4).then_some(()));
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    slow.outcome().done();
    assert!([begun, rest].concat() == content);
    assert_eq!(records(guangzhou, "use-opened").len(), 1);

    // The notice cannot reach the consumer; its next renewal is refused, and its session stops.
    hong_kong.settings.peers[0].1 = "[::1]:1".to_owned();
    hong_kong.restart();
    let mut slow = guangzhou.begin(&read);
    let mut output = slow.output.take().unwrap();
    output.read_exact(&mut [0; 1000]).unwrap();
    hong_kong.run(&["agreement", "revoke", &agreement, "--reason", "withdrawn"]).done();
    let refused = guangzhou.logged_code("use/lease-refused");
    assert!(refused["detail"].as_str().unwrap().contains("transfer/agreement-revoked"), "{refused}");
    let stopped =
        || records(guangzhou, "use-closed").into_iter().find(|r| r.to_string().contains("use/lease-refused"));
    until("the session has stopped", stopped);
    assert_eq!(guangzhou.show("agreement", &agreement)["status"], "active", "nothing else told the consumer");
    stopped_early(slow, output, "use/lease-refused");
    assert_eq!(lease(guangzhou, &agreement), "needed");
    guangzhou.read(&agreement, RESEARCH).refused(exit::REFUSED_BY_POLICY, "use/lease-refused");
}

#[test]
fn without_an_answer_a_session_ends_with_its_lease_and_with_the_push_at_once() {
    let mut space = space();
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(SLOW, 3);
    let short = held(guangzhou, hong_kong, &Dataset::research("short").leased("PT3S"), &content);
    let long = held(guangzhou, hong_kong, &Dataset::research("long").leased("P7D"), &content);
    let begin = |guangzhou: &Connector, agreement: &str| {
        let mut slow = guangzhou.begin(&["use", agreement, "--action", "read", "--purpose", RESEARCH]);
        let mut output = slow.output.take().unwrap();
        output.read_exact(&mut [0; 1000]).unwrap();
        (slow, output)
    };
    let closed_with = |guangzhou: &Connector, code: &str| {
        until(&format!("a session is closed with {code}"), || {
            records(guangzhou, "use-closed").into_iter().find(|record| record.to_string().contains(code))
        })
    };
    let (pushed, output) = begin(guangzhou, &long);
    hong_kong.run(&["agreement", "revoke", &long, "--reason", "withdrawn"]).done();
    closed_with(guangzhou, "transfer/agreement-revoked");
    stopped_early(pushed, output, "transfer/agreement-revoked");
    assert_eq!(lease(guangzhou, &long), "needed", "the shares went with the agreement");

    let (silent, output) = begin(guangzhou, &short);
    hong_kong.kill();
    closed_with(guangzhou, "use/decision-expired");
    stopped_early(silent, output, "use/decision-expired");
    guangzhou.read(&short, RESEARCH).refused(exit::UNAVAILABLE, "use/lease-needed");
}

#[test]
fn no_copy_is_lost_by_who_dies_between_two_epochs() {
    let mut space = space();
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(3 * MIB + 1, 4);
    let agreement =
        held(guangzhou, hong_kong, &Dataset::research("counted").counted(9).leased("PT1H"), &content);
    let counted = |hong_kong: &Connector| {
        let last = records(hong_kong, "lease-granted").pop().unwrap().to_string();
        last.split_once("\"uses\":\"").unwrap().1.split('"').next().unwrap().to_owned()
    };
    for (turn, (provider_dies, point)) in
        [(true, "lease-given"), (false, "lease-taken"), (true, "lease-given"), (false, "lease-taken")]
            .into_iter()
            .enumerate()
    {
        let victim = if provider_dies { &mut *hong_kong } else { &mut *guangzhou };
        assert!(victim.stop().success());
        victim.start_with(&[("FAIRLEAD_CRASH", &format!("{point}:1"))]);
        let read = guangzhou.read(&agreement, RESEARCH);
        assert_ne!(read.exit, exit::DONE, "{point}: {read}");
        let victim = if provider_dies { &mut *hong_kong } else { &mut *guangzhou };
        until(&format!("{} has died at {point}", victim.name), || victim.ended());
        victim.start();
        until("the copy opens again", || {
            let read = guangzhou.read(&agreement, RESEARCH);
            (read.exit == exit::DONE).then(|| assert!(read.output == content))
        });
        // What died after it was counted is spent.
        assert_eq!(counted(hong_kong), (2 * (turn + 1)).to_string(), "{point}");
    }
}

#[test]
fn a_pull_that_breaks_goes_on_under_the_next_share() {
    let mut space = space();
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let folder = hong_kong.sources().join("series");
    std::fs::create_dir(&folder).unwrap();
    // More objects than one request names, one of them larger than what is made durable at once.
    let content = |name: usize| if name == 0 { bytes(6 * MIB + 3, 5) } else { bytes(100 + name, 6) };
    let names = 0..70;
    for name in names.clone() {
        std::fs::write(folder.join(format!("{name:02}.csv")), content(name)).unwrap();
    }
    let dataset = hong_kong.publish(&Dataset::research("series").leased("PT1H"), "directory:shared/series");
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    assert!(hong_kong.stop().success());
    hong_kong.start_with(&[("FAIRLEAD_CRASH", "chunk-released:5")]);
    let transfer = guangzhou.run(&["transfer", "start", &agreement, "--no-wait"]).object();
    until("the provider has died in the middle of the large object", || hong_kong.ended());
    hong_kong.start();
    let id = transfer["id"].as_str().unwrap();
    guangzhou.awaits(&["transfer", "show", id], "its end", |shown| shown["state"] == "COMPLETED");
    for name in [0, 1, 63, 64, 69] {
        let object = format!("{name:02}.csv");
        let read = guangzhou.run(&["use", &agreement, "--purpose", RESEARCH, "--object", &object]);
        assert!(read.done().output == content(name), "{object}");
    }
}
