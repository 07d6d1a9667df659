//! Backups that another machine restores: what it may read again, and what no backup gives back.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use federation_tests::command::{Outcome, exit, fairlead};
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, RESEARCH, bytes};
use federation_tests::space::Space;
use federation_tests::wait::until;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Publishes, negotiates and pulls; gives the agreement.
fn holds(guangzhou: &Connector, hong_kong: &Connector, dataset: &Dataset, content: &[u8]) -> String {
    let file = format!("{}.csv", dataset.name);
    std::fs::write(hong_kong.sources().join(&file), content).unwrap();
    let published = hong_kong.publish(dataset, &shared_file(&file));
    guangzhou.finds(&published);
    let agreement = guangzhou.negotiate(&published);
    guangzhou.pull(&agreement);
    agreement
}

/// Makes the recovery key; gives the file of its private part.
fn recovery_key(connector: &Connector, name: &str) -> PathBuf {
    let file = connector.path(name);
    connector.run(&["recovery", "init", text(&file)]).done();
    file
}

fn backup(connector: &Connector, name: &str) -> PathBuf {
    let file = connector.path(name);
    connector.run(&["backup", text(&file)]).done();
    file
}

/// The machine is lost with its whole data directory.
fn lose(connector: &mut Connector) {
    assert!(connector.ended_or_stopped());
    std::fs::remove_dir_all(connector.data()).unwrap();
}

fn restore(connector: &Connector, file: &Path, key: &Path) -> Outcome {
    connector.run(&["restore", text(file), "--recovery-key", text(key)])
}

/// A new machine: restored, enrolled anew with a fresh key, not started yet.
fn reborn(space: &mut Space, name: &str, file: &Path, key: &Path) {
    restore(space.get(name), file, key).done();
    enrol(space, name);
}

fn enrol(space: &mut Space, name: &str) {
    let participant = space.get(name).participant.clone();
    let settings = space.get(name).settings_file();
    let here = space.connectors().iter().find(|connector| connector.name == name).unwrap();
    let token = space.token(here, &participant);
    fairlead(&["enrol", "--config", text(&settings), "--token-file", text(&token)]).done();
}

/// Waits until a use is granted; gives its bytes.
fn reads(connector: &Connector, agreement: &str) -> Vec<u8> {
    until("what was restored is read", || {
        let read = connector.read(agreement, RESEARCH);
        (read.exit == exit::DONE).then_some(read.output)
    })
}

#[test]
fn another_machine_opens_what_was_held() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(700_000, 1);
    let agreement = holds(guangzhou, hong_kong, &Dataset::research("weather"), &content);
    let refused = guangzhou.run(&["backup", text(&guangzhou.path("none"))]);
    refused.refused(exit::REFUSED_BY_POLICY, "backup/no-recovery-key");
    let key = recovery_key(guangzhou, "recovery.key");
    let file = guangzhou.path("guangzhou.backup");
    let report = guangzhou.run(&["backup", text(&file)]).object();
    assert_eq!((report["keys"].as_u64(), report["copies"].as_u64()), (Some(1), Some(1)), "{report}");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), report["bytes"].as_u64().unwrap());
    let left = std::fs::read_dir(guangzhou.data()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("partial")));

    lose(guangzhou);
    reborn(&mut space, "guangzhou", &file, &key);
    let guangzhou = space.get("guangzhou");
    guangzhou.start();
    assert!(reads(guangzhou, &agreement) == content, "the bytes that were pulled");
    // The next backup goes to the same recovery key.
    let shown = guangzhou.run(&["recovery", "show"]).object();
    assert_eq!(shown["recoveryKey"], report["recovery_key"]);
    backup(guangzhou, "second.backup");
}

#[test]
fn copies_that_a_backup_left_out_are_pulled_again() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(1000, 1);
    let agreement = holds(guangzhou, hong_kong, &Dataset::research("weather"), &content);
    let key = recovery_key(guangzhou, "recovery.key");
    let file = guangzhou.path("small.backup");
    guangzhou.run(&["backup", text(&file), "--without-copies"]).done();
    lose(guangzhou);
    reborn(&mut space, "guangzhou", &file, &key);
    let guangzhou = space.get("guangzhou");
    guangzhou.start();
    until("the copy is pulled again", || {
        (guangzhou.run(&["transfer", "start", &agreement]).exit == 0).then_some(())
    });
    assert!(reads(guangzhou, &agreement) == content);
}

#[test]
fn what_is_no_backup_for_this_place_changes_nothing() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    holds(guangzhou, hong_kong, &Dataset::research("weather"), &bytes(1000, 1));
    let key = recovery_key(guangzhou, "recovery.key");
    guangzhou
        .run(&["recovery", "init", text(&guangzhou.path("again.key"))])
        .refused(exit::REFUSED_BY_POLICY, "backup/recovery-key-exists");
    let file = backup(guangzhou, "whole.backup");
    let plain = guangzhou.path("plain.db");
    guangzhou.run(&["backup", "--state-only", text(&plain)]).done();
    guangzhou.run(&["backup", text(&file)]).refused(exit::USAGE, "backup/target-exists");
    for option in [&["--state-only"][..], &[]] {
        let nowhere = guangzhou.path("no/folder/x");
        let refused = guangzhou.run(&[&["backup", text(&nowhere)][..], option].concat());
        refused.refused(exit::USAGE, "backup/no-such-folder");
    }
    guangzhou.run(&["recovery", "init", "--replace", text(&guangzhou.path("other.key"))]).done();

    let whole = std::fs::read(&file).unwrap();
    let cut = guangzhou.write("cut.backup", &whole[..whole.len() - 20]);
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let altered = guangzhou.write("altered.backup", &changed);
    let other = guangzhou.path("other.key");
    let broken = guangzhou.write("broken.key", "{}");
    let unknown = guangzhou.write("unknown.backup", "not a backup");
    let target = guangzhou.path("new");
    let cases: [(&Path, Option<&Path>, &str); 8] = [
        (&file, None, "backup/recovery-key-needed"),
        (&file, Some(&other), "backup/wrong-recovery-key"),
        (&file, Some(&broken), "backup/malformed-recovery-key"),
        (&cut, Some(&key), "backup/truncated"),
        (&altered, Some(&key), "backup/altered"),
        (&plain, Some(&key), "backup/no-keys-inside"),
        (&unknown, None, "store/not-restored"),
        (&guangzhou.path("missing"), Some(&key), "store/not-restored"),
    ];
    for (file, key, code) in cases {
        let mut arguments = vec!["restore", text(file), "--data", text(&target)];
        if let Some(key) = key {
            arguments.extend(["--recovery-key", text(key)]);
        }
        fairlead(&arguments).refused(exit::USAGE, code);
        assert!(!target.join("state.db").exists(), "{code}: nothing was restored");
        assert!(!target.join("restore.partial").exists(), "{code}: nothing is left");
    }
    let there = guangzhou.run(&["restore", text(&file), "--recovery-key", text(&key)]);
    there.refused(exit::USAGE, "backup/target-exists");
}

#[test]
fn no_backup_gives_uses_back() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let content = bytes(1000, 1);
    let agreement = holds(guangzhou, hong_kong, &Dataset::research("weather").counted(3), &content);
    let key = recovery_key(guangzhou, "recovery.key");
    guangzhou.read(&agreement, RESEARCH).done();
    let file = backup(guangzhou, "guangzhou.backup");
    guangzhou.read(&agreement, RESEARCH).done();
    until("the provider was told of both uses", || {
        hong_kong
            .ledger()
            .into_iter()
            .find(|record| record["kind"] == "uses-told" && record.to_string().contains("\"uses\":\"2\""))
    });
    assert!(hong_kong.stop().success());

    lose(guangzhou);
    reborn(&mut space, "guangzhou", &file, &key);
    space.get("guangzhou").start();
    // Without its provider nothing tells what was spent after the backup.
    space.get("guangzhou").read(&agreement, RESEARCH).refused(exit::UNAVAILABLE, "use/restored-backup");
    space.get("hong-kong").start();
    let guangzhou = space.get("guangzhou");
    assert!(reads(guangzhou, &agreement) == content, "the third use");
    guangzhou.read(&agreement, RESEARCH).refused(exit::REFUSED_BY_POLICY, "policy/count-spent");
}

#[test]
fn no_backup_gives_ended_rights_or_deleted_copies_back() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let [revoked, suspended, deleted] = ["revoked", "suspended", "deleted"]
        .map(|name| holds(guangzhou, hong_kong, &Dataset::research(name), &bytes(1000, 1)));
    let key = recovery_key(guangzhou, "recovery.key");
    let file = backup(guangzhou, "guangzhou.backup");
    hong_kong.run(&["agreement", "revoke", &revoked, "--reason", "ethics"]).done();
    hong_kong.run(&["agreement", "suspend", &suspended, "--reason", "question"]).done();
    guangzhou.run(&["holdings", "delete", &deleted]).done();
    // Told and taken: nothing of it is sent again.
    for connector in [&*guangzhou, &*hong_kong] {
        connector.quiet();
    }
    assert!(hong_kong.stop().success());

    lose(guangzhou);
    reborn(&mut space, "guangzhou", &file, &key);
    space.get("guangzhou").start();
    for agreement in [&revoked, &suspended, &deleted] {
        let refused = space.get("guangzhou").read(agreement, RESEARCH);
        refused.refused(exit::UNAVAILABLE, "use/restored-backup");
    }
    space.get("hong-kong").start();
    let guangzhou = space.get("guangzhou");
    for (agreement, code) in [
        (&revoked, "transfer/agreement-revoked"),
        (&suspended, "transfer/agreement-suspended"),
        (&deleted, "use/destroyed"),
    ] {
        let asked = until("the provider has told how it stands", || {
            Some(guangzhou.read(agreement, RESEARCH))
                .filter(|read| read.failure()["code"] != "use/restored-backup")
        });
        asked.refused(exit::REFUSED_BY_POLICY, code);
    }
    space.get("hong-kong").run(&["agreement", "resume", &suspended]).done();
    reads(space.get("guangzhou"), &suspended);
}

#[test]
fn a_provider_learns_what_it_ended_itself() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let agreement = holds(guangzhou, hong_kong, &Dataset::research("weather"), &bytes(1000, 1));
    let key = recovery_key(hong_kong, "recovery.key");
    let file = backup(hong_kong, "hong-kong.backup");
    hong_kong.run(&["agreement", "revoke", &agreement, "--reason", "ethics"]).done();
    hong_kong.quiet();
    lose(hong_kong);
    reborn(&mut space, "hong-kong", &file, &key);
    let hong_kong = space.get("hong-kong");
    hong_kong.start();
    hong_kong
        .awaits(&["agreement", "show", &agreement], "the revocation", |shown| shown["status"] == "revoked");
}

#[test]
fn a_backup_holds_no_key_that_is_due_to_go() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    let soon = connector::clock::Clock::start(None).now().plus_millis(5 * 24 * 60 * 60 * 1000).to_string();
    let agreement =
        holds(guangzhou, hong_kong, &Dataset::research("brief").deleted_by(&soon), &bytes(1000, 1));
    recovery_key(guangzhou, "recovery.key");
    for (days, left_out) in [("4", 0), ("6", 1)] {
        let file = guangzhou.path(&format!("{days}.backup"));
        let report = guangzhou.run(&["backup", text(&file), "--keep-days", days]).object();
        let names = report["keys_left_out"].as_array().unwrap();
        assert_eq!(
            (names.len(), report["keys"].as_u64().unwrap()),
            (left_out, 1 - left_out as u64),
            "{report}"
        );
        assert!(names.iter().all(|name| *name == *agreement));
    }
    // What the running connector holds is untouched.
    guangzhou.read(&agreement, RESEARCH).done();
}
