//! What the transfer's table does not show: agreements, formats, addresses and crossing messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;
mod transfer_support;

use control_plane::dedupe::MESSAGE_ID_REUSED;
use control_plane::pids::Role;
use control_plane::status::{
    AGREEMENT_EXPIRED, AGREEMENT_REVOKED, AGREEMENT_SUSPENDED, Act, HeldAgreement, StatusChange,
};
use control_plane::transfer::*;
use control_plane::{Code, Refusal};
use support::{NOW, callback, cause, consumer, held, id, p_pid, party, provider, stranger};
use transfer_support::*;

fn changed(change: StatusChange) -> HeldAgreement {
    held().after(change).unwrap()
}

fn inactive() -> [(HeldAgreement, &'static Code); 3] {
    let act = || Act { cause: cause(), at: NOW };
    [
        (changed(StatusChange::Suspend(Role::Provider, act())), &AGREEMENT_SUSPENDED),
        (changed(StatusChange::Revoke(Role::Provider, act())), &AGREEMENT_REVOKED),
        (changed(StatusChange::Expire(NOW)), &AGREEMENT_EXPIRED),
    ]
}

fn ask(held: Option<&HeldAgreement>, formats: &[&str]) -> Result<Step, Refusal> {
    let message = sent_by(&opened());
    let received = Received { sender: &consumer(), message: &message };
    TransferProcess::opened_by_peer(&received, p_pid(), &provider(), held, formats, NOW)
}

#[test]
fn nothing_begins_without_an_active_agreement() {
    for (agreement, code) in inactive() {
        assert_eq!(ask(Some(&agreement), &[FORMAT]).unwrap_err().code, code);
        let requested = both(StateName::Requested, Role::Consumer).1;
        let start = Command::Start(Some(address()));
        assert_eq!(requested.command(start.clone(), id("m"), &agreement, NOW).unwrap_err().code, code);
        let suspended = both(StateName::Suspended, Role::Provider);
        let resumed = suspended.1.command(start, id("m"), &held(), NOW).unwrap();
        assert_eq!(take(&suspended.0, &provider(), &sent_by(&resumed), &agreement).unwrap_err().code, code);
        let started = both(StateName::Started, Role::Provider).1;
        assert_eq!(started.require_flow(&agreement).unwrap_err().code, code);
        let ended = started.command(Command::Terminate(cause()), id("m"), &agreement, NOW).unwrap();
        assert!(ended.effects.contains(&Effect::DataMustStop), "stopping needs no active agreement");
        let opening = Opening {
            us: consumer(),
            format: FORMAT.into(),
            callback: callback(),
            address: None,
            message_id: id("open"),
        };
        let got = TransferProcess::open_as_consumer(opening, support::c_pid(), &agreement, NOW);
        assert_eq!(got.unwrap_err().code, code);
    }
    assert_eq!(ask(None, &[FORMAT]).unwrap_err().code, &UNKNOWN_AGREEMENT);
    assert_eq!(ask(Some(&held()), &["HttpData-PULL"]).unwrap_err().code, &UNSUPPORTED_FORMAT);
    assert_eq!(ask(Some(&held()), &[FORMAT]).unwrap().next.state_name(), StateName::Requested);
    for not_assignee in [provider(), stranger()] {
        let opening = Opening {
            us: not_assignee,
            format: FORMAT.into(),
            callback: callback(),
            address: None,
            message_id: id("open"),
        };
        let got = TransferProcess::open_as_consumer(opening, support::c_pid(), &held(), NOW);
        assert_eq!(got.unwrap_err().code, &UNKNOWN_AGREEMENT);
    }
}

#[test]
fn our_pull_needs_an_address() {
    let (consumer_side, provider_side) = both(StateName::Requested, Role::Consumer);
    let got = provider_side.command(Command::Start(None), id("m"), &held(), NOW);
    assert_eq!(got.unwrap_err().code, &DATA_ADDRESS_MISSING);
    let step = provider_side.command(Command::Start(Some(address())), id("m"), &held(), NOW).unwrap();
    let Message::Start(start) = sent_by(&step) else { panic!("a start is sent") };
    let bare = Message::Start(TransferStart { data_address: None, ..start });
    assert_eq!(take(&consumer_side, &provider(), &bare, &held()).unwrap_err().code, &DATA_ADDRESS_MISSING);
}

#[test]
fn resuming_keeps_the_address_and_crossing_suspensions_both_hold() {
    let started = both(StateName::Started, Role::Provider);
    let ours = started.0.command(Command::Suspend(cause()), id("c"), &held(), NOW).unwrap();
    let theirs = started.1.command(Command::Suspend(cause()), id("p"), &held(), NOW).unwrap();
    let consumer_side = take(&ours.next, &provider(), &sent_by(&theirs), &held()).unwrap().next;
    let provider_side = take(&theirs.next, &consumer(), &sent_by(&ours), &held()).unwrap().next;
    assert_eq!(consumer_side.state(), provider_side.state());
    let lifted = provider_side.command(Command::Start(None), id("p2"), &held(), NOW).unwrap();
    assert_eq!(lifted.next.state_name(), StateName::Suspended, "the consumer's hold is left");
    assert!(!lifted.effects.iter().any(|effect| matches!(effect, Effect::DataMayFlow(_))));
    let consumer_side =
        take(&consumer_side, &party(Role::Provider), &sent_by(&lifted), &held()).unwrap().next;
    let resumed = consumer_side.command(Command::Start(None), id("c2"), &held(), NOW).unwrap();
    assert!(resumed.effects.contains(&Effect::DataMayFlow(Some(address()))), "the address is kept");
    let back = take(&lifted.next, &consumer(), &sent_by(&resumed), &held()).unwrap().next;
    assert_eq!(back.state_name(), StateName::Started);
}

#[test]
fn a_repeated_request_finds_the_same_transfer() {
    let process = ask(Some(&held()), &[FORMAT]).unwrap().next;
    let Message::Request(request) = sent_by(&opened()) else { panic!("a request is sent") };
    let again = Message::Request(TransferRequest { message_id: id("other"), ..request });
    assert!(take(&process, &consumer(), &again, &held()).unwrap().repeat);
    assert_eq!(take(&process, &stranger(), &again, &held()).unwrap_err().code, &UNKNOWN_PROCESS);
}

#[test]
fn a_request_with_another_address_is_another_request() {
    let request = pushed();
    let process = opened_by(&request);
    assert_eq!(process.destination().unwrap().endpoint(), "https://in.example/1");
    assert!(!format!("{process:?}").contains("secret"));
    let Message::Request(pushed) = request else { panic!("a request is sent") };
    let again = |message_id, data_address| {
        Message::Request(TransferRequest { message_id, data_address, ..pushed.clone() })
    };
    let repeated = again(id("other"), pushed.data_address.clone());
    assert!(take(&process, &consumer(), &repeated, &held()).unwrap().repeat);
    for changed in [again(id("other"), Some(address())), again(id("other"), None)] {
        assert_eq!(take(&process, &consumer(), &changed, &held()).unwrap_err().code, &ILLEGAL_TRANSITION);
    }
    let reused = again(pushed.message_id.clone(), None);
    assert_eq!(take(&process, &consumer(), &reused, &held()).unwrap_err().code, &MESSAGE_ID_REUSED);
}

#[test]
fn memory_stays_bounded() {
    let mut pair = both(StateName::Started, Role::Provider);
    for round in 0..MAX_REMEMBERED {
        pair = step_by(pair, Role::Provider, Command::Suspend(cause()), &format!("s{round}"));
        pair = step_by(pair, Role::Provider, Command::Start(None), &format!("r{round}"));
    }
    assert_eq!(pair.0.history().len(), MAX_REMEMBERED + 1);
    assert_eq!(pair.0.history()[0].message, MessageKind::Request, "the opening is kept");
    assert!(take(&pair.1, &consumer(), &sent_by(&opened()), &held()).unwrap().repeat);
}
