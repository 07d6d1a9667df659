//! What was once written to disk must be readable for ever, and what was changed there must be noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;
mod transfer_support;

use std::path::PathBuf;
use std::sync::LazyLock;

use control_plane::durable::*;
use control_plane::negotiation::{Negotiation, StateName};
use control_plane::pids::Role;
use control_plane::status::{Act, StatusChange};
use control_plane::transfer;
use proptest::prelude::*;
use support::*;

static FORMATS: LazyLock<Vec<Format>> = LazyLock::new(formats);

/// A format that is read and written again byte for byte.
struct Format {
    name: String,
    written: Vec<u8>,
    rewrite: fn(&[u8]) -> Result<Vec<u8>, DurableError>,
}

#[test]
fn fixtures_are_read_and_written_unchanged() {
    for format in &*FORMATS {
        let path = fixture(&format.name);
        // Only for a new format: a fixture that exists is never rewritten.
        if std::env::var_os("WRITE_MISSING_FIXTURES").is_some() && !path.exists() {
            std::fs::write(&path, &format.written).unwrap();
        }
        let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", format.name));
        let rewritten =
            (format.rewrite)(&stored).unwrap_or_else(|error| panic!("{}: {error:?}", format.name));
        assert_eq!(String::from_utf8(rewritten), String::from_utf8(stored.clone()), "{}", format.name);
        assert_eq!(stored, format.written, "{} is still what this program writes", format.name);
    }
}

#[test]
fn changes_are_noticed() {
    let agreed =
        String::from_utf8(encode_negotiation(&negotiation(Role::Consumer, StateName::Agreed)).unwrap())
            .unwrap();
    let agreement = String::from_utf8(encode_agreement(&held()).unwrap()).unwrap();
    let started = String::from_utf8(encode_transfer(&started()).unwrap()).unwrap();
    let negotiation = |text: &str| decode_negotiation(text.as_bytes()).map(drop);
    let held = |text: &str| decode_agreement(text.as_bytes()).map(drop);
    let transfer = |text: &str| decode_transfer(text.as_bytes()).map(drop);
    type Reader<'a> = &'a dyn Fn(&str) -> Result<(), DurableError>;
    let cases: &[(Reader<'_>, &str, &str, &str)] = &[
        (&negotiation, &agreed, r#""version":1"#, r#""version":2"#),
        (&negotiation, &agreed, "fairlead-negotiation", "fairlead-transfer"),
        (&negotiation, &agreed, r#""callback":null"#, r#""callback":null,"more":1"#),
        (&negotiation, &agreed, r#""name":"AGREED""#, r#""name":"SETTLED""#),
        (&negotiation, &agreed, r#""role":"consumer""#, r#""role":"provider""#),
        (
            &negotiation,
            &agreed,
            "https://campus.example/id/sysu\"},\"state",
            "https://campus.example/id/x\"},\"state",
        ),
        (&negotiation, &agreed, r#""theirPid":"urn:uuid:p""#, r#""theirPid":"urn:uuid:q""#),
        (&negotiation, &agreed, r#""to":"AGREED""#, r#""to":"OFFERED""#),
        (&negotiation, &agreed, DATASET, "https://campus.example/id/hku/dataset/other"),
        (&negotiation, &agreed, r#"\"3\""#, r#"\"4\""#),
        (&held, &agreement, r#"\"3\""#, r#"\"4\""#),
        (&held, &agreement, "\"name\":\"active\"", "\"name\":\"lively\""),
        (&held, &agreement, r#""version":1"#, r#""version":0"#),
        (&transfer, &started, r#""name":"STARTED""#, r#""name":"SUSPENDED""#),
        (&transfer, &started, r#""to":"STARTED""#, r#""to":"COMPLETED""#),
        (&transfer, &started, r#""format":"fairlead-grpc-pull""#, r#""format":"""#),
        (&transfer, &started, "fairlead-transfer", "fairlead-negotiation"),
    ];
    for (read, text, from, to) in cases {
        assert!(read(text).is_ok());
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, *text, "{from} is in the text");
        assert!(read(&changed).is_err(), "{from} -> {to}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever lies on the disk, reading it gives a value that writes the same bytes, or an error.
    #[test]
    fn no_bytes_are_guessed_at(which: usize, at: usize, byte: u8, cut: bool) {
        let format = &FORMATS[which % FORMATS.len()];
        let mut bytes = format.written.clone();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(rewritten) = (format.rewrite)(&bytes) {
            prop_assert_eq!(rewritten, bytes, "{}", format.name);
        }
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.v1.json"))
}

fn negotiation(role: Role, state: StateName) -> Negotiation {
    let (consumer, provider) = pair(state);
    match role {
        Role::Consumer => consumer,
        Role::Provider => provider,
    }
}

fn started() -> transfer::TransferProcess {
    transfer_support::both(transfer::StateName::Started, Role::Provider).1
}

fn formats() -> Vec<Format> {
    let mut formats = Vec::new();
    for state in StateName::ALL {
        for role in [Role::Consumer, Role::Provider] {
            formats.push(Format {
                name: format!("negotiation-{}-{role}", state.as_str().to_lowercase()),
                written: encode_negotiation(&negotiation(role, state)).unwrap(),
                rewrite: |bytes| encode_negotiation(&decode_negotiation(bytes)?),
            });
        }
    }
    for state in transfer::StateName::ALL {
        for role in [Role::Consumer, Role::Provider] {
            let by = if state == transfer::StateName::Requested { Role::Consumer } else { Role::Provider };
            let process = transfer_support::side(role, transfer_support::both(state, by));
            formats.push(Format {
                name: format!("transfer-{}-{role}", state.as_str().to_lowercase()),
                written: encode_transfer(&process).unwrap(),
                rewrite: |bytes| encode_transfer(&decode_transfer(bytes)?),
            });
        }
    }
    let pushed = transfer_support::pushed();
    formats.push(Format {
        name: "transfer-pushed-provider".to_owned(),
        written: encode_transfer(&transfer_support::opened_by(&pushed)).unwrap(),
        rewrite: |bytes| encode_transfer(&decode_transfer(bytes)?),
    });
    formats.push(Format {
        name: "transfer-message-push-request".to_owned(),
        written: encode_transfer_message(&pushed).unwrap(),
        rewrite: |bytes| encode_transfer_message(&decode_transfer_message(bytes)?),
    });
    let act = || Act { cause: cause(), at: NOW };
    let suspended = held().after(StatusChange::Suspend(Role::Provider, act())).unwrap();
    for (name, held) in [
        ("active", held()),
        ("suspended", suspended.clone()),
        ("suspended-by-both", suspended.after(StatusChange::Suspend(Role::Consumer, act())).unwrap()),
        ("revoked", held().after(StatusChange::Revoke(Role::Provider, act())).unwrap()),
        ("expired", held().after(StatusChange::Expire(NOW)).unwrap()),
    ] {
        formats.push(Format {
            name: format!("agreement-{name}"),
            written: encode_agreement(&held).unwrap(),
            rewrite: |bytes| encode_agreement(&decode_agreement(bytes)?),
        });
    }
    for (name, message) in messages() {
        formats.push(Format {
            name: format!("negotiation-message-{name}"),
            written: encode_negotiation_message(&message).unwrap(),
            rewrite: |bytes| encode_negotiation_message(&decode_negotiation_message(bytes)?),
        });
    }
    for message in transfer_messages() {
        formats.push(Format {
            name: format!("transfer-message-{}", message.kind().as_str()),
            written: encode_transfer_message(&message).unwrap(),
            rewrite: |bytes| encode_transfer_message(&decode_transfer_message(bytes)?),
        });
    }
    formats
}

fn messages() -> Vec<(&'static str, control_plane::negotiation::Message)> {
    use control_plane::negotiation::{Command, Decision, EventKind};
    let terms = offer(3);
    let say = |role, state, next| sent(&command(&negotiation(role, state), next, "m").unwrap());
    let opened =
        Negotiation::open_as_consumer(opening(Role::Consumer, offer(3)), c_pid(), &Published, NOW).unwrap();
    let offered =
        Negotiation::open_as_provider(opening(Role::Provider, offer(3)), p_pid(), &Published, NOW).unwrap();
    assert_eq!(offered.decision(), None::<Decision>, "the opener waits for the other");
    vec![
        ("opening-request", sent(&opened)),
        ("opening-offer", sent(&offered)),
        ("request", say(Role::Consumer, StateName::Offered, Command::Counter(terms.clone()))),
        ("offer", say(Role::Provider, StateName::Requested, Command::Counter(terms.clone()))),
        ("agreement", say(Role::Provider, StateName::Requested, agree(&terms))),
        (
            "verification",
            say(
                Role::Consumer,
                StateName::Agreed,
                Command::Verify(signed(&terms).assignee_signature().unwrap().clone()),
            ),
        ),
        ("accepted", event(EventKind::Accepted, "m")),
        ("finalized", event(EventKind::Finalized, "m")),
        ("termination", say(Role::Provider, StateName::Requested, Command::Terminate(cause()))),
    ]
}

fn transfer_messages() -> Vec<transfer::Message> {
    use transfer::{Command, StateName};
    let say = |state, next| {
        let process = transfer_support::both(state, Role::Provider).1;
        transfer_support::sent_by(&process.command(next, id("m"), &held(), NOW).unwrap())
    };
    vec![
        transfer_support::sent_by(&transfer_support::opened()),
        say(StateName::Requested, Command::Start(Some(transfer_support::address()))),
        say(StateName::Started, Command::Suspend(cause())),
        say(StateName::Started, Command::Complete),
        say(StateName::Started, Command::Terminate(cause())),
    ]
}
