//! The whole transfer machine as one table: state x role x message or command, with the next state or refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;
mod transfer_support;

use std::fmt::Write as _;

use control_plane::Refusal;
use control_plane::ids::MessageId;
use control_plane::pids::Role;
use control_plane::status::Holds;
use control_plane::transfer::{
    Command, Message, MessageKind, Received, State, StateName, Step, TransferCompletion, TransferProcess,
    TransferRequest, TransferStart, TransferSuspension, TransferTermination,
};
use support::*;
use transfer_support::*;

#[test]
fn table_is_as_printed() {
    let table = table();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transfer.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        table,
        "run with UPDATE_GOLDEN=1 and review the change"
    );
}

fn table() -> String {
    let mut out = String::from(
        "# role state (who brought it about; * our message is still unacknowledged) <- message: next state or refusal\n",
    );
    for kind in MessageKind::ALL {
        let message = message(kind);
        let received = Received { sender: &consumer(), message: &message };
        let got =
            TransferProcess::opened_by_peer(&received, p_pid(), &provider(), Some(&held()), &[FORMAT], NOW);
        line(&mut out, Role::Provider, "-", "<-", kind.as_str(), got);
    }
    for role in [Role::Consumer, Role::Provider] {
        for (name, process) in states(role) {
            for kind in MessageKind::ALL {
                let got = take(&process, &party(role.other()), &message(kind), &held());
                line(&mut out, role, &name, "<-", kind.as_str(), got);
            }
        }
    }
    out.push_str("\n# role state -> command of our side: next state or refusal\n");
    for role in [Role::Consumer, Role::Provider] {
        for (name, process) in states(role) {
            for (command_name, next) in commands() {
                let got = process.command(next, id("new"), &held(), NOW);
                line(&mut out, role, &name, "->", command_name, got);
            }
        }
    }
    out
}

/// Each state of a role, by who brought it about, and where it was us also before the peer's acknowledgement.
fn states(role: Role) -> Vec<(String, TransferProcess)> {
    let crossed = {
        let ours = unacknowledged(StateName::Suspended, role);
        let suspension = Message::Suspension(TransferSuspension {
            message_id: id("last"),
            provider_pid: p_pid(),
            consumer_pid: c_pid(),
            cause: cause(),
        });
        take(&ours, &party(role.other()), &suspension, &held()).unwrap().next
    };
    let mut states = vec![("SUSPENDED (both)".to_owned(), crossed)];
    for state in StateName::ALL {
        for by in [Role::Consumer, Role::Provider] {
            let possible = match state {
                StateName::Requested => by == Role::Consumer,
                StateName::Started => by == Role::Provider,
                StateName::Suspended | StateName::Completed | StateName::Terminated => true,
            };
            if !possible {
                continue;
            }
            let process = side(role, both(state, by));
            states.push((format!("{state} ({by})"), process));
            if by == role {
                states.push((format!("{state} ({by})*"), unacknowledged(state, role)));
            }
        }
    }
    states
}

fn line(out: &mut String, role: Role, state: &str, arrow: &str, name: &str, got: Result<Step, Refusal>) {
    let got = match got {
        Ok(step) => match step.next.state() {
            State::Suspended { holds, .. } => format!("SUSPENDED ({})", holders(holds)),
            State::Completed { by } | State::Terminated { by, .. } => {
                format!("{} ({by})", step.next.state_name())
            }
            State::Requested | State::Started { .. } => step.next.state_name().to_string(),
        },
        Err(refusal) => refusal.code.code.to_owned(),
    };
    writeln!(out, "{:<9}{state:<23}{arrow} {name:<12} {got}", role.as_str()).unwrap();
}

fn holders(holds: &Holds) -> String {
    let held = [Role::Consumer, Role::Provider].into_iter().filter(|role| holds.held_by(*role));
    held.map(Role::as_str).collect::<Vec<_>>().join(", ")
}

fn message(kind: MessageKind) -> Message {
    let (provider_pid, consumer_pid) = (p_pid(), c_pid());
    let message_id: MessageId = id(format!("peer-{}", kind.as_str()));
    match kind {
        MessageKind::Request => Message::Request(TransferRequest {
            message_id,
            consumer_pid,
            agreement_id: held().signed.agreement().id().clone(),
            format: FORMAT.to_owned(),
            // Not the callback of the request that opened the process, which would be its repetition.
            callback: control_plane::ids::CallbackAddress::parse("grpcs://elsewhere.example:7443").unwrap(),
            data_address: None,
        }),
        MessageKind::Start => Message::Start(TransferStart {
            message_id,
            provider_pid,
            consumer_pid,
            data_address: Some(address()),
        }),
        MessageKind::Completion => {
            Message::Completion(TransferCompletion { message_id, provider_pid, consumer_pid })
        }
        MessageKind::Suspension => {
            Message::Suspension(TransferSuspension { message_id, provider_pid, consumer_pid, cause: cause() })
        }
        MessageKind::Termination => Message::Termination(TransferTermination {
            message_id,
            provider_pid,
            consumer_pid,
            cause: cause(),
        }),
    }
}

fn commands() -> Vec<(&'static str, Command)> {
    vec![
        ("start", Command::Start(Some(address()))),
        ("suspend", Command::Suspend(cause())),
        ("complete", Command::Complete),
        ("terminate", Command::Terminate(cause())),
    ]
}
