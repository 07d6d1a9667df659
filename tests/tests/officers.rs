//! What officers, auditors and users meet on their host: exports, copies, four eyes, requests for access, two sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::path::Path;

use connector::cli::client;
use federation_tests::command::{exit, fairlead};
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, RESEARCH, bytes};
use federation_tests::space::Space;
use proto::admin;
use serde_json::Value;

const PROVIDER: &str = "hong-kong";
const CONSUMER: &str = "guangzhou";

/// A dataset of the provider, agreed, pulled and used once by the consumer; gives the agreement.
fn used_once(space: &mut Space) -> String {
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    std::fs::write(provider.sources().join("weather.csv"), bytes(4096, 1)).unwrap();
    let dataset = provider.publish(&Dataset::research("weather"), &shared_file("weather.csv"));
    consumer.finds(&dataset);
    let agreement = consumer.negotiate(&dataset);
    consumer.pull(&agreement);
    consumer.read(&agreement, RESEARCH).done();
    agreement
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Exports with these further arguments; gives where the file lies.
fn export(connector: &Connector, name: &str, more: &[&str]) -> std::path::PathBuf {
    let file = connector.path(name);
    connector.run(&[&["audit", "export", "--output", text(&file)][..], more].concat()).done();
    file
}

#[test]
fn an_auditor_checks_what_was_exported() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let agreement = used_once(&mut space);
    let roots = space.authority_folder().join("root.pem");
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    let verify = |file: &Path| fairlead(&["audit", "verify", text(file), "--roots", text(&roots)]);

    let whole = export(consumer, "whole.json", &[]);
    let verdict = verify(&whole).object();
    assert_eq!(
        (&verdict["complete"], &verdict["records"]),
        (&true.into(), &verdict["ledger_size"]),
        "{verdict}"
    );
    assert_eq!(verdict["participant"], *consumer.participant);
    let lines = std::fs::read_to_string(&whole).unwrap();
    assert!(lines.contains("use-opened") && lines.contains("FINALIZED"), "{lines}");
    // The connector's own roots do as well.
    consumer.run(&["audit", "verify", text(&whole)]).done();
    consumer.run(&["audit", "export", "--output", text(&whole)]).refused(exit::USAGE, "usage");

    for format in ["json", "csv"] {
        let name = format!("part.{format}");
        let part = export(provider, &name, &["--agreement", &agreement, "--format", format]);
        let verdict = verify(&part).object();
        assert_eq!(
            (&verdict["complete"], &verdict["agreement"]),
            (&false.into(), &agreement.as_str().into())
        );
        assert!(verdict["records"].as_u64().unwrap() >= 2, "{verdict}");

        // Whatever is changed shows: a byte, a missing line, another file's statement.
        let signed = std::fs::read_to_string(part.with_extension(format!("{format}.jws"))).unwrap();
        let original = std::fs::read_to_string(&part).unwrap();
        let shorter: String = original.split_inclusive('\n').skip(1).collect();
        for (forged, content) in [("byte", original.replacen("sha-256", "sha-257", 1)), ("line", shorter)] {
            let file = provider.write(&format!("{forged}.{format}"), content);
            std::fs::write(file.with_extension(format!("{format}.jws")), &signed).unwrap();
            verify(&file).refused(exit::REFUSED_BY_POLICY, "audit/file-altered");
        }
        let other = consumer.write(&format!("other.{format}"), &original);
        std::fs::copy(consumer.path("whole.json.jws"), other.with_extension(format!("{format}.jws")))
            .unwrap();
        verify(&other).refused(exit::REFUSED_BY_POLICY, "audit/file-altered");
    }

    let of_peer = export(provider, "peer.json", &["--peer", &consumer.participant]);
    let found = verify(&of_peer).object()["records"].as_u64().unwrap();
    let nobody = export(provider, "nobody.json", &["--peer", "https://nobody.example/id"]);
    assert!(found > 0);
    assert_eq!(verify(&nobody).object()["records"], 0);
    let before = export(provider, "before.json", &["--period", "2001"]);
    assert_eq!(verify(&before).object()["records"], 0);
    let never = provider.path("never.json");
    provider
        .run(&["audit", "export", "--period", "yesterday", "--output", text(&never)])
        .refused(exit::USAGE, "audit/bad-period");

    // Two histories of one size are told apart by whoever remembers the first.
    let size = verify(&of_peer).object()["ledger_size"].as_u64().unwrap();
    let remembered = format!("{size}:sha-256:{}", "A".repeat(43));
    let known = ["audit", "verify", text(&of_peer), "--roots", text(&roots), "--head", &remembered];
    fairlead(&known).refused(exit::REFUSED_BY_POLICY, "audit/other-ledger");
    let mut elsewhere = Space::empty();
    elsewhere.enrol("macao");
    let foreign = elsewhere.authority_folder().join("root.pem");
    let judged = fairlead(&["audit", "verify", text(&of_peer), "--roots", text(&foreign)]);
    assert_eq!(judged.exit, exit::REFUSED_BY_PEER, "{}", judged.errors);
    let exported = |record: &Value| record["kind"] == "audit-exported";
    assert_eq!(provider.ledger().iter().filter(|record| exported(record)).count(), 5);
}

#[test]
fn officers_see_who_holds_which_copies() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let agreement = used_once(&mut space);
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    let copies = |more: &[&str]| provider.run(&[&["audit", "copies"][..], more].concat()).done().lines();
    let held = copies(&["--consumer", &consumer.participant]);
    assert_eq!(
        (held.len(), &held[0]["state"], &held[0]["agreement"]),
        (1, &"held".into(), &agreement.as_str().into())
    );
    assert!(copies(&["--consumer", "https://nobody.example/id"]).is_empty());
    let manifest = consumer.list("transfer")[0]["manifest_digest"].clone();

    consumer.run(&["holdings", "delete", &agreement]).done();
    consumer.quiet();
    assert!(copies(&[]).is_empty());
    let all = copies(&["--all"]);
    assert_eq!((&all[0]["state"], &all[0]["deletion_proof"]), (&"deleted".into(), &manifest));
}

#[test]
fn a_request_for_access_has_a_reference_and_a_status() {
    let mut space = Space::of(&[PROVIDER, CONSUMER]);
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    std::fs::write(provider.sources().join("weather.csv"), bytes(64, 1)).unwrap();
    let dataset = provider.publish(&Dataset::research("weather"), &shared_file("weather.csv"));
    consumer.finds(&dataset);
    let ask = |note: &str| {
        let asked =
            consumer.run(&["access", "request", &dataset, "--purpose", RESEARCH, "--note", note]).object();
        asked["reference"].as_str().unwrap().to_owned()
    };
    let unknown = ["access", "request", "https://nobody.example/id/d", "--purpose", RESEARCH];
    assert_eq!(consumer.run(&unknown).exit, exit::NOT_FOUND);

    let granted = ask("thesis");
    assert_eq!(consumer.show("access", &granted)["state"], "submitted");
    assert!(consumer.list("negotiation").is_empty());
    consumer.run(&["access", "approve", &granted]).done();
    let shown = consumer.awaits(&["access", "show", &granted], "an agreement", |shown| {
        shown["negotiation_state"] == "FINALIZED"
    });
    assert_eq!((&shown["state"], &shown["copy"]), (&"approved".into(), &"".into()));
    consumer.pull(shown["agreement"].as_str().unwrap());
    assert_eq!(consumer.show("access", &granted)["copy"], "sealed");
    consumer.run(&["access", "approve", &granted]).refused(exit::REFUSED_BY_POLICY, "access/already-decided");

    let refused = ask("curiosity");
    let rejected = consumer.run(&["access", "reject", &refused, "--reason", "no ethics approval"]).object();
    assert_eq!((&rejected["state"], &rejected["reason"]), (&"rejected".into(), &"no ethics approval".into()));
    let back = ask("second thoughts");
    assert_eq!(consumer.run(&["access", "withdraw", &back]).object()["state"], "withdrawn");
    assert_eq!(consumer.list("access").len(), 3);
    assert_eq!(consumer.list("negotiation").len(), 1, "only what was granted is negotiated");
    consumer.run(&["access", "show", "AR-1999-00001"]).refused(exit::NOT_FOUND, "access/unknown-request");
}

#[test]
fn an_act_under_four_eyes_needs_two_people() {
    let sockets = tempfile::tempdir().unwrap();
    // Others of this host may enter, as they may a runtime folder.
    std::fs::set_permissions(sockets.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (socket, use_socket) = (sockets.path().join("admin.sock"), sockets.path().join("use.sock"));
    let mut space = Space::empty();
    for name in [PROVIDER, CONSUMER] {
        let connector = space.enrol(name);
        if name == PROVIDER {
            let group = rustix::process::getegid().as_raw();
            connector.settings.more = format!(
                "[administration]\nsocket = \"{}\"\ngroup = \"{group}\"\nuse_socket = \"{}\"\nfour_eyes = [\"agreement-revoke\"]\n",
                text(&socket),
                text(&use_socket),
            );
        }
        connector.start();
    }
    space.introduce();
    let [provider, consumer] = space.all([PROVIDER, CONSUMER]);
    let at =
        |socket: &Path, arguments: &[&str]| fairlead(&[&["--socket", text(socket)][..], arguments].concat());
    let mode = |path: &Path| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
    };
    assert_eq!((mode(&socket), mode(&use_socket)), (0o660, 0o600));

    std::fs::write(provider.sources().join("weather.csv"), bytes(64, 1)).unwrap();
    let file = provider.write("weather.ttl", Dataset::research("weather").turtle(&provider.participant));
    let publish = ["dataset", "publish", text(&file), "--source", "file:shared/weather.csv"];
    let dataset = at(&socket, &publish).object()["dataset"].as_str().unwrap().to_owned();
    consumer.finds(&dataset);
    let agreement = consumer.negotiate(&dataset);

    let revoke = ["agreement", "revoke", &agreement, "--reason", "mistake"];
    at(&socket, &revoke).refused(exit::REFUSED_BY_POLICY, "approval/second-person-needed");
    at(&socket, &revoke).refused(exit::REFUSED_BY_POLICY, "approval/second-person-needed");
    let waiting = at(&socket, &["approval", "list"]).done().lines();
    assert_eq!(waiting.len(), 1, "asking again is not another act: {waiting:?}");
    let reference = waiting[0]["reference"].as_str().unwrap().to_owned();
    at(&socket, &["approval", "approve", &reference])
        .refused(exit::REFUSED_BY_POLICY, "approval/same-person");
    let status = || at(&socket, &["agreement", "show", &agreement]).object()["status"].clone();
    assert_eq!(status(), "active");

    // Another person is another user of this host, whom only root can become.
    if rustix::process::geteuid().is_root() {
        let approving = reference.clone();
        let approved = as_another_user(&socket, move |mut other| async move {
            let request = admin::DecideApprovalRequest { reference: approving, reason: String::new() };
            other.approve(request).await.unwrap().into_inner()
        });
        assert_eq!(approved.state, "done", "{approved:?}");
        assert_eq!(status(), "revoked");
        at(&socket, &["approval", "approve", &reference])
            .refused(exit::REFUSED_BY_POLICY, "approval/not-waiting");
        only_ones_own_requests_show(&socket, &use_socket, &dataset);
    } else {
        assert_eq!(at(&socket, &["approval", "withdraw", &reference]).object()["state"], "withdrawn");
        assert_eq!(status(), "active");
    }

    // The users' socket serves users, and nothing of the operator's.
    at(&use_socket, &["holdings", "list"]).done();
    at(&use_socket, &["catalogue", "search", "weather"]).done();
    for operators in
        [&["agreement", "list"][..], &["ledger"], &["approval", "list"], &["access", "approve", "AR-1"]]
    {
        at(&use_socket, operators).refused(exit::REFUSED_BY_POLICY, "admin/not-on-this-socket");
    }
    assert_eq!(provider.stop().code(), Some(0));
    assert!(!socket.exists() && !use_socket.exists());
}

/// On the users' socket another person's request for access is not there; officers see it.
fn only_ones_own_requests_show(socket: &Path, use_socket: &Path, dataset: &str) {
    let request = admin::RequestAccessRequest {
        dataset: dataset.to_owned(),
        purpose: RESEARCH.to_owned(),
        ..Default::default()
    };
    let asked = as_another_user(socket, move |mut other| async move {
        other.request_access(request).await.unwrap().into_inner()
    });
    let at = |socket: &Path, arguments: &[&str]| {
        fairlead(&[&["--socket", text(socket), "access"][..], arguments].concat())
    };
    let own = at(use_socket, &["request", dataset, "--purpose", RESEARCH]).object()["reference"].clone();
    let listed = |socket: &Path| -> Vec<Value> {
        let rows = at(socket, &["list"]).done().lines();
        rows.into_iter().filter_map(|row| row.get("reference").cloned()).collect()
    };
    assert_eq!(listed(socket), [Value::from(asked.reference.as_str()), own.clone()]);
    assert_eq!(listed(use_socket), [own]);
    at(socket, &["show", &asked.reference]).done();
    at(use_socket, &["show", &asked.reference]).refused(exit::NOT_FOUND, "access/unknown-request");
}

#[test]
fn a_dry_run_under_four_eyes_needs_nobody_else() {
    let mut space = Space::empty();
    let provider = space.enrol(PROVIDER);
    provider.settings.more = "[administration]\nfour_eyes = [\"dataset-publish\"]\n".to_owned();
    provider.start();
    std::fs::write(provider.sources().join("weather.csv"), bytes(64, 1)).unwrap();
    let file = provider.write("weather.ttl", Dataset::research("weather").turtle(&provider.participant));
    let publish = ["dataset", "publish", text(&file), "--source", "file:shared/weather.csv"];
    let checked = provider.run(&[&publish[..], &["--dry-run"]].concat()).object();
    assert_eq!(checked["state"], "checked", "{checked}");
    assert!(provider.list("approval").is_empty());
    provider.run(&publish).refused(exit::REFUSED_BY_POLICY, "approval/second-person-needed");
}

/// Calls as a user of another number, on a thread that has become that user.
fn as_another_user<T: Send + 'static, F: Future<Output = T>>(
    socket: &Path,
    call: impl FnOnce(client::Admin) -> F + Send + 'static,
) -> T {
    const OTHER_USER: u32 = 54_321;
    let socket = socket.to_owned();
    let calling = std::thread::spawn(move || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(OTHER_USER)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let other = client::connect(&socket).await.unwrap_or_else(|failure| panic!("{failure:?}"));
            call(other).await
        })
    });
    calling.join().unwrap()
}
