//! Consumers that cheat under a leased agreement: with their own program, with old copies of their state, with clocks and
//! counters of their choice. What the provider's connector refuses them, and what nobody can.
//!
//! What cannot be held, in every case: plaintext that a cheat had before, from the pull itself or from a use that was
//! granted, and a share that it was given, which opens the copy of that epoch for good.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use data_plane::LeaseShare;
use federation_tests::cheat::{Cheat, copy, nonce, opens, request};
use federation_tests::command::exit;
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, RESEARCH, bytes};
use federation_tests::space::Space;
use federation_tests::stranger::frame;
use federation_tests::web::Web;
use policy::time::UnixMillis;
use prost::Message as _;
use proto::data::{ManifestRequest, ManifestResponse, PullOpen, PullRequest, pull_request};
use proto::lease::acquire_request::Reason;
use proto::lease::{LeaseResponse, LeasedObject};
use proto::status::from_status;
use serde_json::Value;

const MIB: usize = 1024 * 1024;

/// Two connectors, and an agreement under which the second one's file lies sealed at the first.
fn held(dataset: Dataset, content: &[u8]) -> (Space, String) {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), content).unwrap();
    let dataset = hong_kong.publish(&dataset, &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    guangzhou.pull(&agreement);
    (space, agreement)
}

async fn cheat(space: &mut Space, name: &str) -> Cheat {
    let address = space.get("hong-kong").address().to_owned();
    Cheat::of(space, name, &address).await
}

/// Records of this kind in a ledger, oldest first.
fn records(connector: &Connector, kind: &str) -> Vec<Value> {
    connector.ledger().into_iter().filter(|record| record["kind"] == kind).collect()
}

/// Uses that the provider has counted.
fn counted(hong_kong: &Connector) -> String {
    let granted = records(hong_kong, "lease-granted");
    field(granted.last().expect("a lease was granted"), "uses")
}

fn field(record: &Value, name: &str) -> String {
    let value = record["subject"].get(name);
    value.and_then(Value::as_str).unwrap_or_else(|| panic!("{name} of {record}")).to_owned()
}

fn code(answer: Result<LeaseResponse, String>) -> String {
    answer.err().unwrap_or_else(|| "granted".to_owned())
}

/// Held: no use beyond the agreed number brings a share. Not held: how often a program reads what one share opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ignores_the_counter_meets_the_providers() {
    let (mut space, agreement) = held(Dataset::research("counted").counted(2).leased("PT1H"), &bytes(100, 1));
    let mut cheat = cheat(&mut space, "guangzhou").await;
    for (session, expected) in [
        ("one", "granted"),
        // However often a session is named, it counts once.
        ("one", "granted"),
        ("two", "granted"),
        ("three", "policy/count-spent"),
        ("one", "granted"),
        ("four", "policy/count-spent"),
    ] {
        assert_eq!(code(cheat.acquire(&request(&agreement, session, 0, 1)).await), expected, "{session}");
    }
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    assert_eq!(counted(hong_kong), "2");
    assert_eq!(records(hong_kong, "lease-refused").len(), 2);

    // The connector whose identity was used did not count these uses, and is refused all the same.
    assert_eq!(guangzhou.show("holdings", &agreement)["uses"], 0);
    let refused = guangzhou.read(&agreement, RESEARCH).refused(exit::REFUSED_BY_POLICY, "use/lease-refused");
    assert!(refused["detail"].as_str().unwrap().contains("policy/count-spent"), "{refused}");
    assert_eq!(guangzhou.show("holdings", &agreement)["uses"], 0, "what is refused is not counted");
}

/// Held: a request says no time, so that the consumer's clock decides nothing at the provider; no grant outlives what
/// was agreed. Not held: a clock that was turned back goes on with a share that is in memory already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_turns_the_clock_back_is_told_the_providers_time() {
    let ends = in_seconds(10);
    let (mut space, agreement) = held(Dataset::research("brief").until(&ends).leased("PT1H"), &bytes(100, 1));
    let mut cheat = cheat(&mut space, "guangzhou").await;
    let granted = cheat.acquire(&request(&agreement, "one", 0, 1)).await.unwrap();
    let grant = payload(&granted.grant);
    let (until_instant, end) =
        (grant["validUntil"].as_str().unwrap(), UnixMillis::parse_rfc3339(&ends).unwrap());
    assert!(UnixMillis::parse_rfc3339(until_instant).unwrap() <= end, "{grant}");
    loop {
        match cheat.acquire(&request(&agreement, "one", 0, 1)).await {
            Ok(_) => assert!(UnixMillis(now()) <= end.plus_millis(1000), "the provider's clock decides"),
            Err(code) => {
                assert_eq!(code, "policy/outside-time");
                break;
            }
        }
    }
}

/// Held: counts stand at the provider, and shares of epochs before the last presented one are gone. Not held: a copy put
/// back from before the very last lease opens once more, which counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_of_the_state_gives_nothing_back() {
    let content = bytes(3 * MIB, 2);
    let (mut space, agreement) = held(Dataset::research("counted").counted(3).leased("PT1H"), &content);
    let guangzhou = space.get("guangzhou");
    assert!(guangzhou.stop().success());
    let (data, old) = (guangzhou.data(), guangzhou.path("old"));
    copy(&data, &old);
    guangzhou.start();
    for _ in 0..2 {
        assert!(guangzhou.read(&agreement, RESEARCH).done().output == content);
    }
    assert!(guangzhou.stop().success());
    std::fs::remove_dir_all(&data).unwrap();
    copy(&old, &data);
    guangzhou.start();
    assert_eq!(guangzhou.show("holdings", &agreement)["uses"], 0, "its own counter believes the copy");
    let refused = guangzhou.read(&agreement, RESEARCH).refused(exit::REFUSED_BY_POLICY, "use/lease-refused");
    assert!(refused["detail"].as_str().unwrap().contains("use/lease-epoch-spent"), "{refused}");

    // With a program of its own it presents an epoch that is kept: that counts, and opens nothing that is old.
    let mut cheat = cheat(&mut space, "guangzhou").await;
    let granted = cheat.acquire(&request(&agreement, "third", 0, 2)).await.unwrap();
    let share = &granted.shares[0];
    for (epoch, bytes) in [(2, &share.held), (1, &share.held), (3, &share.next), (1, &share.next)] {
        let share = LeaseShare::from_bytes(epoch, bytes).unwrap();
        assert!(!opens(&old, &agreement, Some(&share)), "epoch {epoch}");
    }
    assert_eq!(code(cheat.acquire(&request(&agreement, "fourth", 0, 2)).await), "policy/count-spent");
    assert_eq!(counted(space.get("hong-kong")), "3");
}

/// Held: a request is answered once, and an epoch that was left behind never again. Not held: an answer that was
/// recorded has the shares in it, for whoever ends the TLS connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_before_is_not_answered_again() {
    let (mut space, agreement) = held(Dataset::research("weather").leased("PT1H"), &bytes(100, 1));
    let mut first = cheat(&mut space, "guangzhou").await;
    let asked = request(&agreement, "one", 0, 1);
    let granted = first.acquire(&asked).await.unwrap();
    let mut second = cheat(&mut space, "guangzhou").await;
    for cheat in [&mut first, &mut second] {
        assert_eq!(code(cheat.acquire(&asked).await), "use/lease-nonce-reused");
    }
    // The grant names the connection that it was asked on, so that no other connection takes it for an answer.
    let again = second.acquire(&request(&agreement, "one", 0, 1)).await.unwrap();
    assert_ne!(payload(&granted.grant)["channel"], payload(&again.grant)["channel"]);
    assert_ne!(payload(&granted.grant)["nonce"], payload(&again.grant)["nonce"]);
    assert!(granted.shares == again.shares, "an answer that was lost is given again to who asks anew");

    let mut short = request(&agreement, "one", 0, 1);
    short.nonce = short.nonce.slice(..31);
    assert_eq!(code(first.acquire(&short).await), "use/lease-malformed");
    for (epoch, expected) in [
        (2, "granted"),
        (1, "use/lease-epoch-spent"),
        (4, "use/lease-epoch-unknown"),
        (3, "granted"),
        (2, "use/lease-epoch-spent"),
        (0, "use/lease-epoch-unknown"),
    ] {
        assert_eq!(code(first.acquire(&request(&agreement, "one", 0, epoch)).await), expected, "{epoch}");
    }
}

/// Held: with the revocation streams end, sessions of an honest connector stop, and no share is given any more. Not held:
/// what a stream had delivered, and what a session had released.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_ends_with_the_agreement() {
    let content = bytes(8 * MIB, 3);
    let web = Web::serve(content.clone());
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    hong_kong.settings.more = web.settings();
    hong_kong.restart();
    let dataset = hong_kong.publish(&Dataset::research("slow").leased("PT1H"), &web.url());
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    web.hold_at(5 * MIB);
    let transfer = guangzhou.run(&["transfer", "start", &agreement, "--no-wait"]).object();
    web.sent(5 * MIB);
    let shown = guangzhou.run(&["transfer", "show", transfer["id"].as_str().unwrap()]).object();
    let provider_pid = shown["peer_pid"].as_str().unwrap().to_owned();

    let mut streaming = cheat(&mut space, "guangzhou").await;
    let mut asking = cheat(&mut space, "guangzhou").await;
    let path = "/fairlead.data.v1.DataService/GetManifest";
    let wanted = ManifestRequest { provider_pid: provider_pid.clone() };
    let manifest: ManifestResponse = asking.caller.call(path, &wanted).await.unwrap();
    let digest = data_plane::Manifest::parse(&manifest.manifest).unwrap().digest().to_string();
    let open = PullOpen { provider_pid: provider_pid.clone(), manifest_digest: digest, object: 0, offset: 0 };
    let open = PullRequest { step: Some(pull_request::Step::Open(open)) }.encode_to_vec();
    let stream = tokio::spawn(async move {
        streaming.caller.send("/fairlead.data.v1.DataService/Pull", frame(&open)).await
    });
    let mut sealing = request(&agreement, "", 0, 0);
    sealing.reason = Some(Reason::Transfer(provider_pid));
    let sealed = asking.acquire(&sealing).await.unwrap();
    assert_eq!(sealed.shares[0].next_epoch, 1);

    let hong_kong = space.get("hong-kong");
    hong_kong.run(&["agreement", "revoke", &agreement, "--reason", "withdrawn"]).done();
    let ended = stream.await.unwrap().unwrap();
    let told = from_status(&ended.status);
    assert!(["transfer/stopped", "transfer/agreement-revoked"].contains(&told.code.as_str()), "{told:?}");
    sealing.nonce = nonce();
    assert_eq!(code(asking.acquire(&sealing).await), "transfer/agreement-revoked");
    assert_eq!(code(asking.acquire(&request(&agreement, "s", 0, 1)).await), "transfer/agreement-revoked");
    assert_eq!(records(hong_kong, "lease-shares-destroyed").len(), 1);
}

/// Held: nobody is given a share of what they have no agreement on, or never pulled. Not held: nothing is lost here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_share_of_what_is_not_theirs() {
    let (mut space, agreement) = held(Dataset::research("weather").leased("PT1H"), &bytes(100, 1));
    let plain = {
        let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
        let dataset = hong_kong.publish(&Dataset::research("plain"), &shared_file("x.csv"));
        guangzhou.finds(&dataset);
        guangzhou.negotiate(&dataset)
    };
    space.enrol("mallory");
    let mut thief = cheat(&mut space, "mallory").await;
    let mut cheat = cheat(&mut space, "guangzhou").await;
    let before = records(space.get("hong-kong"), "lease-refused").len();
    assert_eq!(code(thief.acquire(&request(&agreement, "s", 0, 1)).await), "transfer/unknown-agreement");
    assert_eq!(code(thief.acquire(&request("urn:none", "s", 0, 1)).await), "transfer/unknown-agreement");
    let after = records(space.get("hong-kong"), "lease-refused").len();
    assert_eq!(before, after, "a stranger to the agreement writes nothing into the log");

    let transfer = |pid: &str, object| {
        let mut asked = request(&agreement, "s", object, 0);
        asked.reason = Some(Reason::Transfer(pid.to_owned()));
        asked
    };
    let mut nothing = request(&agreement, "s", 0, 1);
    nothing.reason = None;
    let mut twice = request(&agreement, "s", 0, 1);
    twice.objects.push(LeasedObject { object: 0, epoch: 1 });
    let mut many = request(&agreement, "s", 0, 1);
    many.objects = (0..65).map(|object| LeasedObject { object, epoch: 1 }).collect();
    for (what, asked, expected) in [
        ("an object that was never pulled", request(&agreement, "s", 1, 1), "use/lease-epoch-unknown"),
        ("an object of no manifest", request(&agreement, "s", u32::MAX, 1), "use/lease-epoch-unknown"),
        ("a transfer that is unknown", transfer("urn:none", 0), "transfer/unknown-process"),
        ("an agreement without leases", request(&plain, "s", 0, 1), "use/lease-not-agreed"),
        ("no reason", nothing, "use/lease-malformed"),
        ("an object twice", twice, "limit/lease-objects"),
        ("too many objects", many, "limit/lease-objects"),
    ] {
        assert_eq!(code(cheat.acquire(&asked).await), expected, "{what}");
    }
    // What was pulled is not sealed anew once its transfer has ended.
    let ended = space.get("hong-kong").list("transfer")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(code(cheat.acquire(&transfer(&ended, 0)).await), "transfer/unknown-process");
    assert_eq!(code(cheat.acquire(&request(&agreement, "s", 0, 1)).await), "granted");
}

/// Held: after the revocation no directory of the consumer opens the copy, nor does one of the provider from after it.
/// Not held: a share that was given before and written down opens the copy of its epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_shares_destroyed_nobody_opens_a_copy() {
    let (mut space, agreement) = held(Dataset::research("weather").leased("PT1H"), &bytes(3 * MIB, 4));
    let guangzhou = space.get("guangzhou");
    assert!(guangzhou.stop().success());
    let old = guangzhou.path("old");
    copy(&guangzhou.data(), &old);
    guangzhou.start();
    assert!(!opens(&old, &agreement, None), "the whole directory is not enough");
    let mut cheat = cheat(&mut space, "guangzhou").await;
    let granted = cheat.acquire(&request(&agreement, "s", 0, 1)).await.unwrap();
    let kept = LeaseShare::from_bytes(1, &granted.shares[0].held).unwrap();

    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let key = hong_kong.data().join("keys/kek.json");
    let key_before = std::fs::read(&key).unwrap();
    hong_kong.run(&["agreement", "revoke", &agreement, "--reason", "withdrawn"]).done();
    assert_ne!(std::fs::read(&key).unwrap(), key_before, "the shares' key is replaced");
    assert_eq!(records(hong_kong, "lease-shares-destroyed").len(), 1);
    guangzhou.awaits(&["agreement", "show", &agreement], "revoked", |shown| shown["status"] == "revoked");
    guangzhou.read(&agreement, RESEARCH).refused(exit::REFUSED_BY_POLICY, "transfer/agreement-revoked");
    assert_eq!(code(cheat.acquire(&request(&agreement, "s", 0, 1)).await), "transfer/agreement-revoked");
    assert!(guangzhou.stop().success() && hong_kong.stop().success());
    let shares = store::Store::open(&hong_kong.data(), store::Options::default())
        .unwrap()
        .read_blocking(|store| store.scan(store::Collection::WrappedKeys, "share ", None, 10))
        .unwrap();
    assert!(shares.is_empty(), "{} shares are left", shares.len());
    for directory in [guangzhou.data(), old.clone()] {
        assert!(!opens(&directory, &agreement, None), "{}", directory.display());
    }
    assert!(opens(&old, &agreement, Some(&kept)), "what was given cannot be taken back");
}

fn payload(jws: &str) -> Value {
    use base64::Engine as _;
    let payload = jws.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn in_seconds(seconds: i64) -> String {
    UnixMillis(now() + seconds * 1000).to_string()
}
