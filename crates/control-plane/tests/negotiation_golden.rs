//! The whole negotiation machine as one table: state x role x message or command, with the next state or refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fmt::Write as _;

use control_plane::Refusal;
use control_plane::agreement::Signing;
use control_plane::negotiation::{
    AgreementMessage, Command, ContractOffer, ContractRequest, EventKind, Message, MessageKind, Negotiation,
    OfferOpening, Received, RequestOpening, StateName, Step, Termination, Verification,
};
use control_plane::pids::Role;
use support::*;

#[test]
fn table_is_as_printed() {
    check_golden("tests/golden/negotiation.txt", &table());
}

fn check_golden(path: &str, table: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, table).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        table,
        "run with UPDATE_GOLDEN=1 and review the change"
    );
}

fn table() -> String {
    let mut out = String::from("# role state <- message from the peer: next state or refusal\n");
    for kind in MessageKind::ALL {
        let message = message(kind, true);
        // Whoever may open makes us the other role.
        let role = message.sender().map_or(Role::Consumer, Role::other);
        let peer = party(role.other());
        let received =
            Received { sender: &peer, message: &message, signature: None, signing: Signing::Required };
        let got = Negotiation::opened_by_peer(&received, "urn:uuid:new", &party(role), &Published, NOW);
        line(&mut out, role, "-", "<-", kind.as_str(), got);
    }
    for role in [Role::Consumer, Role::Provider] {
        for state in StateName::ALL {
            for kind in MessageKind::ALL {
                let process = side(role, state);
                let got = receive(&process, &party(role.other()), &message(kind, false));
                line(&mut out, role, state.as_str(), "<-", kind.as_str(), got);
            }
        }
    }
    out.push_str("\n# role state -> command of our side: next state or refusal\n");
    for role in [Role::Consumer, Role::Provider] {
        for state in StateName::ALL {
            for (name, next) in commands() {
                let got = command(&side(role, state), next, "new");
                line(&mut out, role, state.as_str(), "->", name, got);
            }
        }
    }
    out
}

fn side(role: Role, state: StateName) -> Negotiation {
    let (consumer, provider) = pair(state);
    match role {
        Role::Consumer => consumer,
        Role::Provider => provider,
    }
}

fn line(out: &mut String, role: Role, state: &str, arrow: &str, name: &str, got: Result<Step, Refusal>) {
    let got = match got {
        Ok(step) => step.next.state_name().to_string(),
        Err(refusal) => refusal.code.code.to_owned(),
    };
    writeln!(out, "{:<9}{state:<11}{arrow} {name:<13} {got}", role.as_str()).unwrap();
}

fn message(kind: MessageKind, opens: bool) -> Message {
    let terms = offer(3);
    let (provider_pid, consumer_pid, message_id) = (p_pid(), c_pid(), id(format!("peer-{}", kind.as_str())));
    match kind {
        MessageKind::Request => Message::Request(ContractRequest {
            message_id,
            consumer_pid,
            offer: terms,
            opening: if opens {
                RequestOpening::Opens(callback())
            } else {
                RequestOpening::Counters(provider_pid)
            },
        }),
        MessageKind::Offer => Message::Offer(ContractOffer {
            message_id,
            provider_pid,
            offer: terms,
            opening: if opens {
                OfferOpening::Opens(callback())
            } else {
                OfferOpening::Counters(consumer_pid)
            },
        }),
        MessageKind::Agreement => Message::Agreement(AgreementMessage {
            message_id,
            provider_pid,
            consumer_pid,
            agreement: agreement(&terms),
            assigner_signature: part(&terms).assigner_signature().map(|signature| signature.jws().to_owned()),
        }),
        MessageKind::Verification => Message::Verification(Verification {
            message_id,
            provider_pid,
            consumer_pid,
            assignee_signature: signed(&terms)
                .assignee_signature()
                .map(|signature| signature.jws().to_owned()),
        }),
        MessageKind::Accepted => event(EventKind::Accepted, "peer-accepted"),
        MessageKind::Finalized => event(EventKind::Finalized, "peer-finalized"),
        MessageKind::Termination => {
            Message::Termination(Termination { message_id, provider_pid, consumer_pid, cause: cause() })
        }
    }
}

fn commands() -> Vec<(&'static str, Command)> {
    let terms = offer(3);
    vec![
        ("accept", accept()),
        ("counter", Command::Counter(terms.clone())),
        ("agree", agree(&terms)),
        ("verify", Command::Verify(signed(&terms).assignee_signature().unwrap().clone())),
        ("finalize", Command::Finalize),
        ("terminate", Command::Terminate(cause())),
    ]
}
