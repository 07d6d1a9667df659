//! Bad input on every call and in every file: a typed error, bounded memory, nothing changed. And what is revoked stops
//! while it runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

use std::io::Read;
use std::path::Path;

use federation_tests::chance;
use federation_tests::command::{Outcome, exit, fairlead};
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, RESEARCH, bytes};
use federation_tests::process::Process;
use federation_tests::rpc::{Bad, Contract, Method, bad_bodies};
use federation_tests::space::Space;
use federation_tests::stranger::{Answer, Caller, Credentials, frame, framed};
use federation_tests::wait::until;
use federation_tests::web::Web;
use rand::rngs::StdRng;
use serde_json::Value;
use tonic::Code;

const MIB: usize = 1024 * 1024;
/// What a process may need beyond its memory at rest: a few of the largest messages, in a build for development.
const MEMORY_MIB: u64 = 160;
/// `limits.message_bytes` of the connector under test.
const PEER_LIMIT: usize = 4 * MIB;
/// The administration socket's largest message.
const ADMIN_LIMIT: usize = 16 * MIB;
/// The authority's largest request.
const AUTHORITY_LIMIT: usize = 64 * 1024;

/// Calls of the administration that end or copy something: good messages of nonsense are for them, too, but one that
/// says nothing is a complete request.
const TAKES_NOTHING: &[&str] = &[
    "GetStatus",
    "Reload",
    "DoctorPeer",
    "GetVersions",
    "Heads",
    "GetLists",
    "GetStatement",
    "TellUses",
    "Standing",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_messages_from_a_peer_change_nothing() {
    let mut chance = chance::generator("messages from a peer");
    let contract = Contract::read();
    let mut space = Space::empty();
    space.enrol("hong-kong").start();
    space.enrol("mallory");
    let mallory = space.identity_of("mallory");
    let statement = mallory.statement.clone();
    let credentials = Credentials::from(mallory);
    let hong_kong = space.get("hong-kong");
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    hong_kong.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    let address = hong_kong.address().to_owned();
    let join = async || {
        let mut caller = Caller::connect(&address, Some(&credentials)).await.unwrap();
        caller.exchange(&statement).await.unwrap();
        caller
    };
    drop(join().await);
    hong_kong.quiet();
    let (before, at_rest) = (hong_kong.state(), hong_kong.process().peak_memory_mib());

    let packages = [
        "fairlead.catalogue.v1",
        "fairlead.data.v1",
        "fairlead.dsp.v1",
        "fairlead.identity.v1",
        "fairlead.notice.v1",
        "fairlead.use.v1",
    ];
    let mut calls = 0;
    for package in packages {
        let methods: Vec<&Method> = contract.of(package).collect();
        assert!(!methods.is_empty(), "{package}");
        for method in methods {
            let mut caller = join().await;
            for bad in bad_bodies(&contract, method, PEER_LIMIT, &mut chance) {
                calls += 1;
                match caller.send(&method.path(), body(&bad)).await {
                    Ok(answer) => refused(method, &bad, &answer),
                    // Closing the connection is an answer, too; the next call needs another one.
                    Err(_) => caller = join().await,
                }
            }
            drop(caller.send_as(&method.path(), frame(b""), "application/json").await);
        }
    }
    let mut caller = join().await;
    let unknown = caller.send("/fairlead.dsp.v1.CatalogService/DropEverything", frame(b"")).await.unwrap();
    assert_eq!(unknown.status.code(), Code::Unimplemented);
    assert!(calls > 30 * 15, "{calls} calls: every way on every call");
    healthy(hong_kong.process(), at_rest);
    assert_eq!(hong_kong.state(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_messages_to_administration_and_authority_change_nothing() {
    let mut chance = chance::generator("messages to administration and authority");
    let contract = Contract::read();
    let mut space = Space::empty();
    space.enrol("hong-kong").start();
    let hong_kong = space.get("hong-kong");
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    hong_kong.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    hong_kong.quiet();
    let (before, at_rest) = (hong_kong.state(), hong_kong.process().peak_memory_mib());
    let socket = hong_kong.data().join("admin.sock");
    for method in contract.of("fairlead.admin.v1") {
        let mut caller = Caller::local(&socket).await.unwrap();
        for bad in bad_bodies(&contract, method, ADMIN_LIMIT, &mut chance) {
            // An operator may name an event as it likes: what is well-formed begins one.
            if method.name == "BeginEvent" && !bad.malformed {
                continue;
            }
            match caller.send(&method.path(), body(&bad)).await {
                Ok(answer) => refused(method, &bad, &answer),
                Err(_) => caller = Caller::local(&socket).await.unwrap(),
            }
        }
    }
    healthy(hong_kong.process(), at_rest);
    assert_eq!(hong_kong.state(), before);

    let identity = space.identity_of("hong-kong");
    let credentials = Credentials::from(identity);
    let address = space.authority_address().to_owned();
    let book = || std::fs::read(space.authority_folder().join("authority.json")).unwrap();
    let before = book();
    for method in contract.of("fairlead.authority.v1") {
        let mut caller = Caller::connect(&address, Some(&credentials)).await.unwrap();
        for bad in bad_bodies(&contract, method, AUTHORITY_LIMIT, &mut chance) {
            match caller.send(&method.path(), body(&bad)).await {
                Ok(answer) => refused(method, &bad, &answer),
                Err(_) => caller = Caller::connect(&address, Some(&credentials)).await.unwrap(),
            }
        }
    }
    assert_eq!(book(), before);
    let at_rest = 0;
    healthy(space.authority(), at_rest);
}

fn body(bad: &Bad) -> bytes::Bytes {
    let length = bad.told.unwrap_or_else(|| u32::try_from(bad.message.len()).unwrap());
    framed(bad.flag, length, &bad.message)
}

/// A malformed message is refused with a status that says whose fault it is; a well-formed one that says nonsense is
/// refused, or answered where nothing was asked for that could be refused.
fn refused(method: &Method, bad: &Bad, answer: &Answer) {
    let what = format!("{}: {}: {answer:?}", method.path(), bad.what);
    let status = &answer.status;
    if status.code() == Code::Ok {
        let may = !bad.malformed && (reads_only(method) || TAKES_NOTHING.contains(&method.name.as_str()));
        assert!(may, "{what}");
        return;
    }
    let told = answer.refusal();
    // What the codec refuses has no code of ours: it names what is wrong with the bytes.
    let by_codec = told.code.is_empty() && !status.message().is_empty();
    assert!(by_codec || told.code.contains('/'), "{what}");
    assert!(!matches!(status.code(), Code::Unknown | Code::DataLoss), "{what}");
    assert!(!matches!(told.code.as_str(), "connector/internal" | "store/damaged"), "{what}");
}

fn reads_only(method: &Method) -> bool {
    ["Get", "List", "Show", "Search", "Heads", "Fetch", "Request", "Doctor", "Push", "Explain"]
        .iter()
        .any(|verb| method.name.starts_with(verb))
}

fn healthy(process: &mut Process, at_rest: u64) {
    assert!(process.ended().is_none());
    let peak = process.peak_memory_mib();
    assert!(peak <= at_rest + MEMORY_MIB, "{peak} MiB at most, {at_rest} MiB before");
    let broken = process.log().into_iter().find(|line| line.to_string().contains("panicked"));
    assert_eq!(broken, None);
}

#[test]
fn bad_files_are_refused_by_name() {
    let mut chance = chance::generator("files");
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(3 * MIB, 1);
    std::fs::write(hong_kong.sources().join("x.csv"), &content).unwrap();
    let dataset = hong_kong.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    guangzhou.pull(&agreement);
    guangzhou.quiet();
    hong_kong.quiet();
    let before = (guangzhou.state(), hong_kong.state());

    let turtle = Dataset::research("other").turtle(&hong_kong.participant);
    for (name, bad) in bad_files(turtle.as_bytes(), &mut chance) {
        let file = hong_kong.write("bad.ttl", bad);
        let published = ["dataset", "publish", file.to_str().unwrap(), "--source", "file:shared/x.csv"];
        typed(&name, &hong_kong.run(&published));
    }
    for source in [
        "",
        "file",
        "file:",
        "file:nowhere/x",
        "file:shared/../secret",
        "file:shared//x.csv",
        "file:shared/none.csv",
        "directory:shared/x.csv",
        "http://[::1]:1/x",
        "http://169.254.169.254/x",
        "https://user@host/x",
        "gopher://x/",
    ] {
        let file = hong_kong.write("good.ttl", &turtle);
        typed(source, &hong_kong.run(&["dataset", "publish", file.to_str().unwrap(), "--source", source]));
    }
    let offer = hong_kong.run(&["catalogue", "show", &dataset]).object()["offers"][0]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    for (name, bad) in bad_files(offer.as_bytes(), &mut chance) {
        let file = guangzhou.write("bad.json", bad);
        let outcome =
            guangzhou.run(&["negotiate", &dataset, "--terms", file.to_str().unwrap(), "--wait", "0"]);
        typed(&name, &outcome);
        typed(&name, &fairlead(&["policy", "check", file.to_str().unwrap()]));
    }
    let settings = std::fs::read(guangzhou.settings_file()).unwrap();
    for (name, bad) in bad_files(&settings, &mut chance) {
        let file = guangzhou.write("bad.toml", bad);
        let checked = fairlead(&["config", "check", file.to_str().unwrap()]);
        // Settings that end early may be complete.
        if checked.exit != exit::DONE || !name.starts_with("cut") {
            typed(&name, &checked);
        }
    }
    for (name, bad) in bad_files(&bytes(100_000, 9), &mut chance) {
        let file = guangzhou.write("bad.db", bad);
        let empty = guangzhou.path("restored");
        let restored = fairlead(&["restore", file.to_str().unwrap(), "--data", empty.to_str().unwrap()]);
        typed(&name, &restored);
        assert!(!empty.join("state.db").exists(), "{name}: nothing was restored");
    }
    assert_eq!((guangzhou.state(), hong_kong.state()), before);

    // A source that changes after publication, behind the connector's back.
    let other = guangzhou.negotiate(&dataset);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(3 * MIB, 2)).unwrap();
    let pulled = guangzhou.run(&["transfer", "start", &other]);
    pulled.refused(exit::REFUSED_BY_PEER, "transfer/refused-by-provider");
    hong_kong.logged_code("transfer/source-changed");

    // A sealed copy that somebody altered, at any place.
    let sealed = files_below(&guangzhou.data().join("sealed"));
    let largest = sealed.iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap().clone();
    let good = std::fs::read(&largest).unwrap();
    for at in [0, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&largest, &bad).unwrap();
        let read = guangzhou.read(&agreement, RESEARCH);
        assert_ne!(read.exit, exit::DONE, "byte {at}");
        assert_eq!(read.failure()["code"], "use/copy-altered", "byte {at}: {read}");
        assert!(content.starts_with(&read.output), "byte {at}: what was let out before is as published");
    }
    std::fs::write(&largest, &good[..good.len() - 1]).unwrap();
    assert_ne!(guangzhou.read(&agreement, RESEARCH).exit, exit::DONE);
    std::fs::write(&largest, &good).unwrap();
    assert!(guangzhou.read(&agreement, RESEARCH).done().output == content, "and the copy itself is whole");

    // State and identity that do not read: the connector says so and does not start.
    for file in ["state.db", "keys/identity.json"] {
        let path = guangzhou.data().join(file);
        if guangzhou.ended_or_stopped() {
            let good = std::fs::read(&path).unwrap();
            for (name, bad) in bad_files(&good, &mut chance) {
                std::fs::write(&path, bad).unwrap();
                let settings = guangzhou.settings_file();
                eprintln!("{file}: {name}");
                let outcome = fairlead(&["run", "--config", settings.to_str().unwrap()]);
                typed(&format!("{file}, {name}"), &outcome);
            }
            std::fs::write(&path, good).unwrap();
        }
    }
    guangzhou.start();
    assert!(guangzhou.read(&agreement, RESEARCH).done().output == content);
}

/// Ways in which a good file goes bad.
fn bad_files(good: &[u8], chance: &mut StdRng) -> Vec<(String, Vec<u8>)> {
    use rand::Rng;
    let mut bad: Vec<(String, Vec<u8>)> = vec![
        ("not UTF-8".to_owned(), [b"\xCC\xEC\xC6\xF8\xFF\xFE\n", good].concat()),
        (
            "UTF-16".to_owned(),
            String::from_utf8_lossy(good).encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        ("zeros".to_owned(), vec![0; 4096]),
        ("deep brackets".to_owned(), vec![b'['; 100_000]),
        ("deep braces".to_owned(), b"{\"a\":".repeat(20_000)),
        ("deep blank nodes".to_owned(), b"<a:b> <a:c> [ ".repeat(10_000)),
        ("deep tables".to_owned(), ["a", &".a".repeat(50_000), " = 1"].concat().into_bytes()),
        ("oversized".to_owned(), vec![b'#'; 20 * MIB]),
        ("a sentence".to_owned(), b"once upon a time".to_vec()),
    ];
    for _ in 0..4 {
        // Not in the last lines: a comment or an empty line less is no mistake.
        let at = chance.random_range(1..good.len() / 2);
        bad.push((format!("cut at {at}"), good[..at].to_vec()));
    }
    bad
}

/// The command failed for a stated reason, and did not fall over.
#[track_caller]
fn typed(name: &str, outcome: &Outcome) {
    assert!((1..=6).contains(&outcome.exit), "{name}: {outcome}");
    assert!(!outcome.errors.contains("panicked"), "{name}: {outcome}");
    let failure = outcome.failure();
    assert!(failure["code"].as_str().is_some_and(|code| !code.is_empty()), "{name}: {outcome}");
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn what_is_revoked_stops_while_it_runs() {
    let content = bytes(24 * MIB, 1);
    let web = Web::serve(content.clone());
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    hong_kong.settings.more = web.settings();
    hong_kong.restart();
    let slow = hong_kong.publish(&Dataset::research("slow"), &web.url());
    guangzhou.finds(&slow);

    // Streams: by either side, each while the source holds back the rest.
    for (name, by_provider, change, code) in [
        ("revoked by the provider", true, "revoke", "transfer/agreement-revoked"),
        ("suspended by the provider", true, "suspend", "transfer/agreement-suspended"),
        ("revoked by the consumer", false, "revoke", "transfer/agreement-revoked"),
    ] {
        let agreement = guangzhou.negotiate(&slow);
        web.hold_at(3 * MIB);
        let pulling = guangzhou.begin(&["transfer", "start", &agreement]);
        web.sent(3 * MIB);
        let by: &Connector = if by_provider { hong_kong } else { guangzhou };
        by.run(&["agreement", change, &agreement, "--reason", name]).done();
        // The source still holds back: what ended the stream is the change.
        let ended = pulling.outcome();
        assert_eq!(ended.exit, exit::REFUSED_BY_PEER, "{name}: {ended}");
        let transfer =
            guangzhou.list("transfer").into_iter().find(|row| row["agreement"] == *agreement).unwrap();
        assert_eq!(transfer["state"], "TERMINATED", "{name}");
        assert!(transfer["bytes_done"].as_u64().unwrap() < content.len() as u64, "{name}: {transfer}");
        until("the provider's side has ended", || {
            let rows = hong_kong.list("transfer");
            let row = rows.into_iter().find(|row| row["agreement"] == *agreement).unwrap();
            (row["state"] == "TERMINATED").then_some(())
        });
        assert_eq!(transfer["code"], code, "{name}: {transfer}");
        assert_eq!(guangzhou.read(&agreement, RESEARCH).exit, exit::REFUSED_BY_POLICY, "{name}");
    }
    web.open_to(usize::MAX);

    // Use sessions: a reader that has begun gets no more than what was released before.
    for (name, by_provider, change) in [
        ("revoked by the provider", true, "revoke"),
        ("revoked by the consumer", false, "revoke"),
        ("suspended by the provider", true, "suspend"),
        ("destroyed by the holder", false, "delete"),
    ] {
        let agreement = guangzhou.negotiate(&slow);
        guangzhou.pull(&agreement);
        let mut reading = guangzhou.begin(&["use", &agreement, "--purpose", RESEARCH]);
        let mut output = reading.output.take().unwrap();
        let mut first = vec![0; 4096];
        output.read_exact(&mut first).unwrap();
        assert_eq!(first, content[..4096]);
        let by: &Connector = if by_provider { hong_kong } else { guangzhou };
        match change {
            "delete" => by.run(&["holdings", "delete", &agreement]).done(),
            change => by.run(&["agreement", change, &agreement]).done(),
        };
        // The session is over before anything more is read.
        until(&format!("{name}: the session is closed"), || {
            let closed = |record: &Value| {
                record["kind"] == "use-closed" && record["subject"]["agreement"] == *agreement
            };
            guangzhou.ledger().iter().any(closed).then_some(())
        });
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).unwrap();
        let ended = reading.outcome();
        assert_ne!(ended.exit, exit::DONE, "{name}: {ended}");
        let released = first.len() + rest.len();
        assert!(released < content.len(), "{name}: {released} bytes");
        assert!(rest == content[4096..released], "{name}: what was let out is as published");
    }
}
