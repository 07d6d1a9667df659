//! What the transfer tests share: both sides of a transfer in any state.
#![allow(dead_code, reason = "each test binary uses its part")]

use control_plane::ids::ParticipantId;
use control_plane::pids::Role;
use control_plane::status::HeldAgreement;
use control_plane::transfer::{
    Command, DataAddress, Effect, GRPC_PULL, Message, Opening, Received, StateName, Step, TransferProcess,
    TransferRequest,
};
use control_plane::{Refusal, UnixMillis};

use crate::support::*;

pub const FORMAT: &str = GRPC_PULL;
const AT: UnixMillis = NOW;

pub type Pair = (TransferProcess, TransferProcess);

pub fn address() -> DataAddress {
    DataAddress::new(GRPC_PULL, "", []).unwrap()
}

pub fn opened() -> Step {
    let opening = Opening {
        us: consumer(),
        format: FORMAT.to_owned(),
        callback: callback(),
        address: None,
        message_id: id("open"),
    };
    TransferProcess::open_as_consumer(opening, c_pid(), &held(), AT).unwrap()
}

/// A request to send the data to an address.
pub fn pushed() -> Message {
    let Message::Request(request) = sent_by(&opened()) else { unreachable!("an opening step asks") };
    let properties = [("authorization".to_owned(), "secret".to_owned())];
    let address = DataAddress::new("https://w3id.org/idsa/v4.1/HTTP", "https://in.example/1", properties);
    Message::Request(TransferRequest { data_address: Some(address.unwrap()), ..request })
}

/// The provider's side of what `request` opened.
pub fn opened_by(request: &Message) -> TransferProcess {
    let received = Received { sender: &consumer(), message: request };
    TransferProcess::opened_by_peer(&received, p_pid(), &provider(), Some(&held()), &[FORMAT], AT)
        .unwrap()
        .next
}

pub fn sent_by(step: &Step) -> Message {
    step.effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Send(message) => Some((**message).clone()),
            _ => None,
        })
        .expect("the step sends")
}

pub fn take(
    process: &TransferProcess,
    sender: &ParticipantId,
    message: &Message,
    agreement: &HeldAgreement,
) -> Result<Step, Refusal> {
    process.receive(&Received { sender, message }, agreement, AT)
}

pub fn side(role: Role, pair: Pair) -> TransferProcess {
    match role {
        Role::Consumer => pair.0,
        Role::Provider => pair.1,
    }
}

/// Both sides in `state`, brought about by `by`, with nothing under way.
pub fn both(state: StateName, by: Role) -> Pair {
    let step = opened();
    let message = sent_by(&step);
    let received = Received { sender: &consumer(), message: &message };
    let provider_side =
        TransferProcess::opened_by_peer(&received, p_pid(), &provider(), Some(&held()), &[FORMAT], AT)
            .unwrap()
            .next;
    let mut pair = (step.next.acknowledged(&id("open"), &p_pid(), &c_pid()).unwrap().next, provider_side);
    if state != StateName::Requested {
        pair = step_by(pair, Role::Provider, Command::Start(Some(address())), "start");
    }
    match last_command(state) {
        Some(command) => step_by(pair, by, command, "last"),
        None => pair,
    }
}

/// `role`'s side in `state`, which it brought about, before the peer has acknowledged.
pub fn unacknowledged(state: StateName, role: Role) -> TransferProcess {
    let before = match state {
        StateName::Requested => return opened().next,
        StateName::Started => {
            let requested = side(role, both(StateName::Requested, Role::Consumer));
            return requested
                .command(Command::Start(Some(address())), id("start"), &held(), AT)
                .unwrap()
                .next;
        }
        StateName::Suspended | StateName::Completed | StateName::Terminated => StateName::Started,
    };
    let process = side(role, both(before, Role::Provider));
    process.command(last_command(state).unwrap(), id("last"), &held(), AT).unwrap().next
}

fn last_command(state: StateName) -> Option<Command> {
    match state {
        StateName::Requested | StateName::Started => None,
        StateName::Suspended => Some(Command::Suspend(cause())),
        StateName::Completed => Some(Command::Complete),
        StateName::Terminated => Some(Command::Terminate(cause())),
    }
}

/// One side commands, the other receives, the first hears the acknowledgement.
pub fn step_by(pair: Pair, role: Role, next: Command, name: &str) -> Pair {
    let (actor, other) = match role {
        Role::Consumer => (&pair.0, &pair.1),
        Role::Provider => (&pair.1, &pair.0),
    };
    let step = actor.command(next, id(name), &held(), AT).unwrap();
    let other = take(other, &party(role), &sent_by(&step), &held()).unwrap().next;
    let actor = step.next.acknowledged(&id(name), &p_pid(), &c_pid()).unwrap().next;
    match role {
        Role::Consumer => (actor, other),
        Role::Provider => (other, actor),
    }
}
