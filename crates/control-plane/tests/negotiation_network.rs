//! Two negotiation machines joined by a network that drops, repeats, reorders and forges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::VecDeque;

use control_plane::agreement::{SignedAgreement, Signing};
use control_plane::cause::Cause;
use control_plane::durable::{
    decode_negotiation, decode_negotiation_message, encode_negotiation, encode_negotiation_message,
};
use control_plane::ids::{ConsumerPid, MessageId, ProviderPid};
use control_plane::negotiation::{
    Command, Consent, Decision, Effect, Message, Negotiation, Received, Step, Undelivered, WaitsFor,
};
use control_plane::pids::Role;
use proptest::prelude::*;
use support::*;

#[derive(Clone, Debug)]
enum Op {
    /// A side puts one of its waiting messages on the wire; the first unless order is not kept.
    Transmit(Role, usize),
    /// A packet arrives; `keep` leaves a copy on the wire.
    Deliver(usize, bool),
    Drop(usize),
    /// A side takes a step; what it is, is drawn from what it might try.
    Act(Role, u8),
    /// A packet arrives as a stranger's, or with another process id, terms or signature.
    Forge(usize, u8),
    GiveUp(Role),
    /// A side stops and goes on from what it had written.
    Crash(Role),
}

#[derive(Clone, Debug)]
enum Packet {
    Message(Role, Message),
    /// To the sender of the message of this id: taken with these pids, or refused.
    Answer(Role, MessageId, Result<(ProviderPid, ConsumerPid), Cause>),
}

#[derive(Default)]
struct Side {
    process: Option<Negotiation>,
    outbox: VecDeque<Message>,
    finals: Vec<SignedAgreement>,
    divergences: usize,
    disputes: usize,
}

struct World {
    consumer: Side,
    provider: Side,
    wire: Vec<Packet>,
    fresh: u32,
    in_order: bool,
}

impl World {
    fn new(in_order: bool, terms: u32) -> Self {
        let mut world = Self {
            consumer: Side::default(),
            provider: Side::default(),
            wire: Vec::new(),
            fresh: 0,
            in_order,
        };
        let step =
            Negotiation::open_as_consumer(opening(Role::Consumer, offer(terms)), c_pid(), &Published, NOW)
                .unwrap();
        world.store(Role::Consumer, step);
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
                Effect::AgreementFinal(signed) => side.finals.push(*signed),
                Effect::AgreementDisputed { .. } => side.disputes += 1,
                Effect::Record(record) if record.kind == "negotiation-divergence" => side.divergences += 1,
                Effect::Record(_) | Effect::Decide(_) => {}
            }
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Transmit(role, which) => {
                let in_order = self.in_order;
                let outbox = &self.side(role).outbox;
                let which = if in_order || outbox.is_empty() { 0 } else { which % outbox.len() };
                if let Some(message) = outbox.get(which).cloned() {
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
            Op::Forge(which, how) => {
                if let Some(Packet::Message(from, message)) = self.pick(which, true) {
                    self.forge(from, message, how);
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
                    let restored = decode_negotiation(&encode_negotiation(process).unwrap()).unwrap();
                    assert_eq!(*process, restored, "what_was_written_is_what_is_read");
                    side.process = Some(restored);
                }
                for message in &mut side.outbox {
                    let restored =
                        decode_negotiation_message(&encode_negotiation_message(message).unwrap()).unwrap();
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
                let got = match self.side(to).process.clone() {
                    Some(process) => receive(&process, &party(from), &message),
                    None => {
                        let received = Received {
                            sender: &party(from),
                            message: &message,
                            signature: None,
                            signing: Signing::Required,
                        };
                        Negotiation::opened_by_peer(&received, p_pid().as_str(), &party(to), &Published, NOW)
                    }
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
                // A row of the outbox is gone once it was answered; a second answer finds nothing.
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
        let Some(process) = self.side(role).process.clone() else { return };
        let table = process.table().map(|table| table.offer.clone()).unwrap_or_else(|| offer(3));
        let explicit = choice & 0x80 != 0;
        let consent = if explicit { Consent::ByHand } else { Consent::AsPublished };
        let attempt = match choice & 0x07 {
            0 | 1 => Command::Accept { consent: consent.clone() },
            2 => Command::Counter(offer(u32::from(choice >> 4))),
            3 => Command::Agree { part: part(&table), consent: consent.clone() },
            4 => Command::Verify(signed(&table).assignee_signature().unwrap().clone()),
            5 => Command::Finalize,
            6 => Command::Terminate(cause()),
            // The step that the machine waits for, so that long ways are walked often.
            _ => match process.waits_for() {
                WaitsFor::Us(Decision::Request { .. } | Decision::Acceptance) => {
                    Command::Agree { part: part(&table), consent: consent.clone() }
                }
                WaitsFor::Us(Decision::Offer { .. }) => Command::Accept { consent: consent.clone() },
                WaitsFor::Us(Decision::Agreement) => {
                    Command::Verify(signed(&table).assignee_signature().unwrap().clone())
                }
                WaitsFor::Us(Decision::Verification) => Command::Finalize,
                WaitsFor::Peer | WaitsFor::Nobody => return,
            },
        };
        let agrees = matches!(attempt, Command::Accept { .. } | Command::Agree { .. });
        let fresh = self.fresh();
        if let Ok(step) = process.command(attempt, fresh, &Published, NOW) {
            let made_by_peer = process.table().is_some_and(|table| table.by != role && table.terms_altered);
            assert!(!(agrees && made_by_peer && !explicit), "altered_terms_need_an_explicit_decision");
            self.store(role, step);
        }
    }

    /// Arrives with a lie in it; nothing may change.
    fn forge(&mut self, from: Role, message: Message, how: u8) {
        let to = from.other();
        let Some(process) = self.side(to).process.clone() else { return };
        let repeat = receive(&process, &party(from), &message).is_ok_and(|step| step.repeat);
        let other_terms = offer(99);
        let lie = agreement(&other_terms);
        let (sender, message) = match (how % 4, message) {
            (1, Message::Agreement(m)) => {
                let assigner_signature =
                    part(&other_terms).assigner_signature().map(|signature| signature.jws().to_owned());
                let forged =
                    control_plane::negotiation::AgreementMessage { agreement: lie, assigner_signature, ..m };
                (party(from), Message::Agreement(forged))
            }
            (1, Message::Verification(m)) => {
                let assignee_signature =
                    signed(&other_terms).assignee_signature().map(|signature| signature.jws().to_owned());
                let forged = control_plane::negotiation::Verification { assignee_signature, ..m };
                (party(from), Message::Verification(forged))
            }
            (2, Message::Event(m)) => {
                let provider_pid = ProviderPid::parse("urn:uuid:another").unwrap();
                (party(from), Message::Event(control_plane::negotiation::Event { provider_pid, ..m }))
            }
            (3, message) => (party(to), message),
            (_, message) => (stranger(), message),
        };
        let got = receive(&process, &sender, &message);
        if repeat && sender == party(from) {
            assert!(got.is_err() || got.is_ok_and(|step| step.repeat), "a_forged_copy_has_no_effect");
        } else {
            assert!(got.is_err(), "a_forged_message_is_refused: {message:?}");
        }
    }

    fn check(&self) {
        let (consumer_finals, provider_finals) = (&self.consumer.finals, &self.provider.finals);
        assert!(consumer_finals.len() <= 1 && provider_finals.len() <= 1, "one_process_makes_one_agreement");
        if let Some(theirs) = consumer_finals.first() {
            assert_eq!(provider_finals.first(), Some(theirs), "both_sides_hold_the_same_agreement");
        }
        for signed in consumer_finals.iter().chain(provider_finals) {
            assert_eq!(signed.assigner_signature().unwrap().party(), &provider(), "both_parties_signed");
            assert_eq!(signed.assignee_signature().unwrap().party(), &consumer(), "both_parties_signed");
            let count = rules(signed.agreement().text());
            let named = (0..=15).map(offer).find(|offer| rules(offer.text()) == count).unwrap();
            assert_eq!(signed.annex(), annex(&named).digest(), "the_annex_names_the_offer_last_on_the_table");
        }
        for side in [&self.consumer, &self.provider] {
            if let Some(process) = &side.process {
                assert!(
                    process.final_agreement().is_some() != side.finals.is_empty(),
                    "final_state_and_final_effect_go_together"
                );
            }
        }
    }

    /// From here the network is good: everything waiting is delivered in order until nothing is left.
    fn drain(&mut self) {
        self.in_order = true;
        for _ in 0..1_000 {
            if let Some(packet) = self.pick(0, false) {
                self.arrive(packet);
            } else if let Some(role) =
                [Role::Consumer, Role::Provider].into_iter().find(|role| !self.side(*role).outbox.is_empty())
            {
                self.run(Op::Transmit(role, 0));
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

fn op(gives_up: bool) -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (role(), any::<usize>()).prop_map(|(role, which)| Op::Transmit(role, which)),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(which, keep)| Op::Deliver(which, keep)),
        1 => any::<usize>().prop_map(Op::Drop),
        5 => (role(), any::<u8>()).prop_map(|(role, choice)| Op::Act(role, choice)),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(which, how)| Op::Forge(which, how)),
        1 => role().prop_map(Op::Crash),
        u32::from(gives_up) => role().prop_map(Op::GiveUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the network and the sides do, safety holds.
    #[test]
    fn never_different_agreements(ops in prop::collection::vec(op(true), 1..120), terms in 0u32..6, in_order: bool) {
        let mut world = World::new(in_order, terms);
        for op in ops {
            world.run(op);
            world.check();
        }
        world.drain();
        let (consumer, provider) = (&world.consumer, &world.provider);
        if let (Some(ours), Some(theirs)) = (&consumer.process, &provider.process)
            && ours.state_name() != theirs.state_name()
        {
            let told = consumer.divergences + provider.divergences + consumer.disputes + provider.disputes;
            prop_assert!(told > 0, "both_sides_never_disagree_silently: {} and {}", ours.state_name(), theirs.state_name());
        }
    }

    /// With each side's messages delivered in order, and nobody giving up, both sides end in the same state.
    #[test]
    fn both_sides_meet(ops in prop::collection::vec(op(false), 1..120), terms in 0u32..6) {
        let mut world = World::new(true, terms);
        for op in ops {
            world.run(op);
            world.check();
        }
        world.drain();
        let ours = world.consumer.process.as_ref().map(Negotiation::state_name);
        match &world.provider.process {
            Some(theirs) => prop_assert_eq!(ours, Some(theirs.state_name()), "both_sides_end_in_the_same_state"),
            // The provider refused the opening request, or the consumer ended it before it was sent.
            None => prop_assert_eq!(ours, Some(control_plane::negotiation::StateName::Terminated)),
        }
        prop_assert_eq!(world.consumer.disputes + world.provider.disputes, 0);
    }
}
