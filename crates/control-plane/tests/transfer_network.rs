//! Two transfer machines joined by a network that drops, repeats, delays and forges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;
mod transfer_support;

use std::collections::VecDeque;

use control_plane::cause::Cause;
use control_plane::durable::{
    decode_transfer, decode_transfer_message, encode_transfer, encode_transfer_message,
};
use control_plane::ids::{ConsumerPid, MessageId, ProviderPid};
use control_plane::negotiation::Undelivered;
use control_plane::pids::Role;
use control_plane::status::{Act, AgreementStatus, HeldAgreement, StatusChange};
use control_plane::transfer::{Command, Effect, Message, Received, State, StateName, Step, TransferProcess};
use proptest::prelude::*;
use support::*;
use transfer_support::*;

#[derive(Clone, Debug)]
enum Op {
    Transmit(Role),
    Deliver(usize, bool),
    Drop(usize),
    Act(Role, u8),
    /// The provider suspends, resumes or revokes the agreement; it may be that only one side knows yet.
    Agreement(Role, u8),
    /// A packet arrives from a stranger.
    Forge(usize),
    GiveUp(Role),
    Crash(Role),
}

#[derive(Clone, Debug)]
enum Packet {
    Message(Role, Message),
    Answer(Role, MessageId, Result<(ProviderPid, ConsumerPid), Cause>),
}

struct Side {
    process: Option<TransferProcess>,
    outbox: VecDeque<Message>,
    agreement: HeldAgreement,
    /// Naive model of the data plane: it runs between `DataMayFlow` and `DataMustStop`.
    flowing: bool,
    /// Naive model of our own hold: set by our suspension or end, lifted only by our start.
    stopped_by_us: bool,
    divergences: usize,
}

impl Side {
    fn new() -> Self {
        Self {
            process: None,
            outbox: VecDeque::new(),
            agreement: held(),
            flowing: false,
            stopped_by_us: false,
            divergences: 0,
        }
    }
}

struct World {
    consumer: Side,
    provider: Side,
    wire: Vec<Packet>,
    fresh: u32,
}

impl World {
    fn new() -> Self {
        let mut world = Self { consumer: Side::new(), provider: Side::new(), wire: Vec::new(), fresh: 0 };
        world.store(Role::Consumer, opened());
        world
    }

    fn side(&mut self, role: Role) -> &mut Side {
        match role {
            Role::Consumer => &mut self.consumer,
            Role::Provider => &mut self.provider,
        }
    }

    fn fresh(&mut self) -> MessageId {
        self.fresh += 1;
        id(format!("m{}", self.fresh))
    }

    fn store(&mut self, role: Role, step: Step) {
        let side = self.side(role);
        if let Some(before) = &side.process
            && before.state_name().is_terminal()
        {
            assert_eq!(before.state(), step.next.state(), "terminal_states_never_change");
        }
        if step.repeat {
            assert_eq!(side.process.as_ref(), Some(&step.next), "a_repeat_changes_nothing");
            assert!(step.effects.is_empty(), "a_repeat_has_no_effect");
        }
        side.process = Some(step.next);
        for effect in step.effects {
            match effect {
                Effect::Send(message) => side.outbox.push_back(*message),
                Effect::DataMayFlow(_) => {
                    assert_eq!(
                        side.agreement.status,
                        AgreementStatus::Active,
                        "no_data_without_an_active_agreement"
                    );
                    side.flowing = true;
                }
                Effect::DataMustStop => side.flowing = false,
                Effect::Record(record) if record.kind == "transfer-divergence" => side.divergences += 1,
                Effect::Record(_) | Effect::DecideStart => {}
            }
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Transmit(role) => {
                if let Some(message) = self.side(role).outbox.front().cloned() {
                    self.wire.push(Packet::Message(role, message));
                }
            }
            Op::Deliver(which, keep) => {
                if let Some(packet) = self.pick(which, keep) {
                    self.arrive(packet);
                }
            }
            Op::Drop(which) => {
                self.pick(which, false);
            }
            Op::Act(role, choice) => self.act(role, choice),
            Op::Agreement(role, choice) => {
                let act = Act { cause: cause(), at: NOW };
                let change = match choice % 8 {
                    0..3 => StatusChange::Suspend(Role::Provider, act),
                    3..7 => StatusChange::Resume(Role::Provider),
                    _ => StatusChange::Revoke(Role::Provider, act),
                };
                let side = self.side(role);
                if let Ok(changed) = side.agreement.after(change) {
                    side.agreement = changed;
                }
            }
            Op::Forge(which) => {
                if let Some(Packet::Message(from, message)) = self.pick(which, true) {
                    let side = self.side(from.other());
                    if let Some(process) = &side.process {
                        assert!(
                            take(process, &stranger(), &message, &side.agreement).is_err(),
                            "strangers_are_refused"
                        );
                    }
                    let received = Received { sender: &stranger(), message: &message };
                    let got = TransferProcess::opened_by_peer(
                        &received,
                        p_pid(),
                        &provider(),
                        Some(&held()),
                        &[FORMAT],
                        NOW,
                    );
                    assert!(got.is_err(), "no_transfer_under_somebody_elses_agreement");
                }
            }
            Op::GiveUp(role) => {
                let fresh = self.fresh();
                let side = self.side(role);
                if let (Some(message), Some(process)) = (side.outbox.pop_front(), side.process.clone()) {
                    let step = process.undelivered(message.id(), &Undelivered::GaveUp, fresh, NOW);
                    self.store(role, step);
                }
            }
            Op::Crash(role) => {
                let side = self.side(role);
                if let Some(process) = &side.process {
                    let restored = decode_transfer(&encode_transfer(process).unwrap()).unwrap();
                    assert_eq!(*process, restored, "what_was_written_is_what_is_read");
                    side.process = Some(restored);
                }
                for message in &mut side.outbox {
                    let restored =
                        decode_transfer_message(&encode_transfer_message(message).unwrap()).unwrap();
                    assert_eq!(restored, *message);
                    assert_eq!(restored.body_digest(), message.body_digest());
                    *message = restored;
                }
            }
        }
    }

    fn pick(&mut self, which: usize, keep: bool) -> Option<Packet> {
        if self.wire.is_empty() {
            return None;
        }
        let which = which % self.wire.len();
        if keep { Some(self.wire[which].clone()) } else { Some(self.wire.remove(which)) }
    }

    fn arrive(&mut self, packet: Packet) {
        match packet {
            Packet::Message(from, message) => {
                let to = from.other();
                let side = self.side(to);
                let got = match &side.process {
                    Some(process) => take(process, &party(from), &message, &side.agreement),
                    None => TransferProcess::opened_by_peer(
                        &Received { sender: &party(from), message: &message },
                        p_pid(),
                        &party(to),
                        Some(&side.agreement),
                        &[FORMAT],
                        NOW,
                    ),
                };
                let answer = got.map(|step| {
                    let (provider, consumer) = step.next.pids().both().unwrap();
                    let pids = (provider.clone(), consumer.clone());
                    self.store(to, step);
                    pids
                });
                let answer = answer.map_err(|refusal| Cause::of_refusal(&refusal));
                self.wire.push(Packet::Answer(from, message.id().clone(), answer));
            }
            Packet::Answer(to, id, answer) => {
                let fresh = self.fresh();
                let side = self.side(to);
                let Some(row) = side.outbox.iter().position(|message| *message.id() == id) else { return };
                side.outbox.remove(row);
                let Some(process) = side.process.clone() else { return };
                let step = match answer {
                    Ok((provider, consumer)) => process.acknowledged(&id, &provider, &consumer).unwrap(),
                    Err(cause) => process.undelivered(&id, &Undelivered::Refused(cause), fresh, NOW),
                };
                self.store(to, step);
            }
        }
    }

    fn act(&mut self, role: Role, choice: u8) {
        let fresh = self.fresh();
        let side = self.side(role);
        let Some(process) = side.process.clone() else { return };
        let attempt = match choice % 8 {
            0..4 => Command::Start(Some(address())),
            4..6 => Command::Suspend(cause()),
            6 => Command::Complete,
            _ => Command::Terminate(cause()),
        };
        let starts = matches!(attempt, Command::Start(_));
        if let Ok(step) = process.command(attempt, fresh, &side.agreement, NOW) {
            side.stopped_by_us = !starts;
            self.store(role, step);
        }
    }

    fn check(&self) {
        for side in [&self.consumer, &self.provider] {
            let Some(process) = &side.process else {
                assert!(!side.flowing, "no_data_without_a_transfer");
                continue;
            };
            let started = process.state_name() == StateName::Started;
            assert_eq!(side.flowing, started, "data_flows_exactly_while_started");
            let may_flow = started && side.agreement.status == AgreementStatus::Active;
            assert_eq!(
                process.require_flow(&side.agreement).is_ok(),
                may_flow,
                "flow_needs_start_and_agreement"
            );
        }
        assert!(
            !(self.provider.flowing && self.provider.stopped_by_us),
            "the_consumer_never_lifts_the_providers_stop"
        );
    }

    fn drain(&mut self) {
        for _ in 0..2_000 {
            if let Some(packet) = self.pick(0, false) {
                self.arrive(packet);
            } else if let Some(role) =
                [Role::Consumer, Role::Provider].into_iter().find(|role| !self.side(*role).outbox.is_empty())
            {
                self.run(Op::Transmit(role));
            } else {
                return;
            }
            self.check();
        }
        panic!("the_network_comes_to_rest");
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Consumer), Just(Role::Provider)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => role().prop_map(Op::Transmit),
        7 => (any::<usize>(), any::<bool>()).prop_map(|(which, keep)| Op::Deliver(which, keep)),
        1 => any::<usize>().prop_map(Op::Drop),
        6 => (role(), any::<u8>()).prop_map(|(role, choice)| Op::Act(role, choice)),
        1 => (role(), any::<u8>()).prop_map(|(role, choice)| Op::Agreement(role, choice)),
        1 => any::<usize>().prop_map(Op::Forge),
        1 => role().prop_map(Op::Crash),
        1 => role().prop_map(Op::GiveUp),
    ]
}

fn summary(process: &TransferProcess) -> (StateName, Vec<Role>) {
    let holders = match process.state() {
        State::Suspended { holds, .. } => {
            [Role::Consumer, Role::Provider].into_iter().filter(|role| holds.held_by(*role)).collect()
        }
        State::Requested | State::Started { .. } | State::Completed { .. } | State::Terminated { .. } => {
            Vec::new()
        }
    };
    (process.state_name(), holders)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the network and the sides do, data stops and stays stopped, and a disagreement is on record.
    #[test]
    fn data_flows_only_by_both_sides_will(ops in prop::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.check();
        }
        world.drain();
        if let (Some(ours), Some(theirs)) = (&world.consumer.process, &world.provider.process) {
            let told = world.consumer.divergences + world.provider.divergences;
            prop_assert!(
                summary(ours) == summary(theirs) || told > 0,
                "both_sides_never_disagree_silently: {:?} and {:?}", summary(ours), summary(theirs)
            );
        }
    }
}
