//! Two negotiation machines that only know each other through the protocol's JSON, over a network that drops, repeats,
//! reorders and strips messages of their ids.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../../control-plane/tests/support/mod.rs"]
mod support;

use std::cell::Cell;
use std::collections::VecDeque;

use control_plane::Refusal;
use control_plane::agreement::{PartySignature, SignedAgreement, Signing};
use control_plane::cause::Cause;
use control_plane::ids::{ConsumerPid, MessageId, ProviderPid};
use control_plane::negotiation::{
    Command, Consent, Decision, Effect, Message, Negotiation, Received, State, StateName, Step, Undelivered,
    WaitsFor,
};
use control_plane::pids::Role;
use dsp::names::Names;
use dsp::negotiation::{Kind, Post};
use dsp::{Canonical, Speaking, conform};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use support::*;

struct Sorted;

impl Canonical for Sorted {
    fn canonical(&self, policy: &str) -> Result<String, Refusal> {
        let value: Value = serde_json::from_str(policy).unwrap();
        Ok(serde_jcs::to_string(&value).unwrap())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Transmit(Role, usize),
    Deliver(usize),
    /// What was sent once arrives once more, however old it is.
    Again(usize),
    Drop(usize),
    Act(Role, u8),
}

#[derive(Clone, Debug)]
enum Packet {
    Post(Role, MessageId, Post),
    Answer(Role, MessageId, Result<(ProviderPid, ConsumerPid), Cause>),
}

#[derive(Default)]
struct Side {
    process: Option<Negotiation>,
    outbox: VecDeque<Message>,
    finals: Vec<SignedAgreement>,
    divergences: usize,
}

/// How the two speak.
#[derive(Clone, Copy, Debug)]
struct Manner {
    profile: bool,
    ids: bool,
    in_order: bool,
}

struct World {
    sides: [Side; 2],
    wire: Vec<Packet>,
    sent: Vec<Packet>,
    fresh: u32,
    manner: Manner,
    arrived: usize,
}

impl World {
    fn new(manner: Manner, terms: u32) -> Self {
        let mut world = Self {
            sides: Default::default(),
            wire: Vec::new(),
            sent: Vec::new(),
            fresh: 0,
            manner,
            arrived: 0,
        };
        let step =
            Negotiation::open_as_consumer(opening(Role::Consumer, offer(terms)), c_pid(), &Published, NOW);
        world.store(Role::Consumer, step.unwrap());
        world
    }

    fn side(&mut self, role: Role) -> &mut Side {
        &mut self.sides[usize::from(role == Role::Provider)]
    }

    fn names(&self, role: Role) -> Names {
        Names {
            us: party(role),
            peer: party(role.other()),
            peer_name: None,
            our_base: None,
            profile: self.manner.profile,
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
        side.process = Some(step.next);
        for effect in step.effects {
            match effect {
                Effect::Send(message) => side.outbox.push_back(*message),
                Effect::AgreementFinal(signed) => side.finals.push(*signed),
                Effect::AgreementDisputed { .. } => side.divergences += 1,
                Effect::Record(record) if record.kind == "negotiation-divergence" => side.divergences += 1,
                Effect::Record(_) | Effect::Decide(_) => {}
            }
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Transmit(role, which) => {
                let in_order = self.manner.in_order;
                let outbox = &self.side(role).outbox;
                let which = if in_order || outbox.is_empty() { 0 } else { which % outbox.len() };
                if let Some(message) = outbox.get(which).cloned() {
                    let names = self.names(role);
                    let mut post =
                        dsp::negotiation::write(&message, Speaking { names: &names, role }).unwrap();
                    conform::check(&post.body).unwrap();
                    if !self.manner.ids {
                        post.body.as_object_mut().unwrap().remove("@id");
                    }
                    let packet = Packet::Post(role, message.id().clone(), post);
                    self.sent.push(packet.clone());
                    self.wire.push(packet);
                }
            }
            Op::Deliver(which) => {
                if let Some(packet) = self.pick(which) {
                    self.arrive(packet);
                }
            }
            Op::Again(which) => {
                if let Some(which) = which.checked_rem(self.sent.len()) {
                    self.arrive(self.sent[which].clone());
                }
            }
            Op::Drop(which) => drop(self.pick(which)),
            Op::Act(role, choice) => self.act(role, choice),
        }
    }

    fn pick(&mut self, which: usize) -> Option<Packet> {
        let which = which.checked_rem(self.wire.len())?;
        Some(self.wire.remove(which))
    }

    fn arrive(&mut self, packet: Packet) {
        match packet {
            Packet::Post(from, id, post) => {
                self.arrived += 1;
                let answer = self.take(from, &post).map_err(|refusal| Cause::of_refusal(&refusal));
                self.wire.push(Packet::Answer(from, id, answer));
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

    /// What the HTTP edge does with a post.
    fn take(&mut self, from: Role, post: &Post) -> Result<(ProviderPid, ConsumerPid), Refusal> {
        let to = from.other();
        let parts: Vec<&str> = post.path.splitn(3, '/').collect();
        let last = parts[parts.len() - 1];
        let kind = Kind::ALL.into_iter().find(|kind| kind.path() == last).unwrap();
        let names = self.names(to);
        let message =
            dsp::negotiation::read(kind, &post.body, Speaking { names: &names, role: to }, &Sorted)?;
        let signing = if self.manner.profile { Signing::Required } else { Signing::IfOffered };
        let signature = self.side(to).process.as_ref().and_then(|process| checked(process, &message));
        let sender = party(from);
        let received =
            Received { sender: &sender, message: &message, signature: signature.as_ref(), signing };
        let step = match self.side(to).process.clone() {
            Some(process) => process.receive(&received, &Published, NOW)?,
            None => Negotiation::opened_by_peer(&received, p_pid().as_str(), &party(to), &Published, NOW)?,
        };
        let (provider, consumer) = step.next.pids().both().unwrap();
        let pids = (provider.clone(), consumer.clone());
        self.store(to, step);
        Ok(pids)
    }

    fn act(&mut self, role: Role, choice: u8) {
        let Some(process) = self.side(role).process.clone() else { return };
        let table = || process.table().map(|table| table.offer.clone()).unwrap_or_else(|| offer(3));
        let verify = || match process.state() {
            State::Agreed { part, table } => {
                Some(Command::Verify(sign(part.agreement(), &consumer(), &annex(&table.offer))))
            }
            _ => None,
        };
        let attempt = match choice % 8 {
            0 => Some(Command::Counter(offer(u32::from(choice >> 4)))),
            1 => Some(Command::Terminate(cause())),
            2 => verify(),
            // The step that the machine waits for, so that long ways are walked often.
            _ => match process.waits_for() {
                WaitsFor::Us(Decision::Request { .. } | Decision::Acceptance) => {
                    Some(Command::Agree { part: part(&table()), consent: Consent::ByHand })
                }
                WaitsFor::Us(Decision::Offer { .. }) => Some(Command::Accept { consent: Consent::ByHand }),
                WaitsFor::Us(Decision::Agreement) => verify(),
                WaitsFor::Us(Decision::Verification) => Some(Command::Finalize),
                WaitsFor::Peer | WaitsFor::Nobody => None,
            },
        };
        let fresh = self.fresh();
        if let Some(Ok(step)) = attempt.map(|attempt| process.command(attempt, fresh, &Published, NOW)) {
            self.store(role, step);
        }
    }

    fn check(&self) {
        let [consumer_side, provider_side] = &self.sides;
        let (ours, theirs) = (&consumer_side.finals, &provider_side.finals);
        assert!(ours.len() <= 1 && theirs.len() <= 1, "one_process_makes_one_agreement");
        if let Some(ours) = ours.first() {
            let theirs = theirs.first().expect("the provider finalizes first");
            assert_eq!(ours.agreement(), theirs.agreement(), "both_sides_hold_the_same_agreement");
            let unsigned = (ours.unsigned_by(), theirs.unsigned_by());
            let expected =
                if self.manner.profile { (None, None) } else { (Some(Role::Provider), Some(Role::Consumer)) };
            assert_eq!(unsigned, expected, "each_side_knows_who_signed");
        }
        // A side that is behind is still being told; who will not be told any more knows of the difference.
        let under_way = self.sides.iter().any(|side| !side.outbox.is_empty());
        assert!(self.same_agreement() || under_way || self.told() > 0, "a difference is known or on its way");
    }

    /// Whether both sides hold the same agreement, or neither one.
    fn same_agreement(&self) -> bool {
        let [ours, theirs] =
            self.sides.each_ref().map(|side| side.finals.first().map(SignedAgreement::agreement));
        ours == theirs
    }

    /// How often a side noted that the other has something else.
    fn told(&self) -> usize {
        self.sides.iter().map(|side| side.divergences).sum()
    }

    /// From here the network is good: everything waiting is delivered in order until nothing is left.
    fn drain(&mut self) {
        self.manner.in_order = true;
        for _ in 0..1_000 {
            let waiting = [Role::Consumer, Role::Provider];
            let waiting = waiting.into_iter().find(|role| !self.side(*role).outbox.is_empty());
            if let Some(packet) = self.pick(0) {
                self.arrive(packet);
            } else if let Some(role) = waiting {
                self.run(Op::Transmit(role, 0));
            } else {
                return;
            }
            self.check();
        }
        panic!("the_network_comes_to_rest");
    }

    fn state(&self, role: Role) -> Option<StateName> {
        self.sides[usize::from(role == Role::Provider)].process.as_ref().map(Negotiation::state_name)
    }
}

/// The signature that a message carries, as the connector checks it.
fn checked(process: &Negotiation, message: &Message) -> Option<PartySignature> {
    match message {
        Message::Agreement(message) => {
            PartySignature::verified(message.assigner_signature.as_deref()?, &message.agreement).ok()
        }
        Message::Verification(message) => match process.state() {
            State::Agreed { part, .. } => {
                PartySignature::verified(message.assignee_signature.as_deref()?, part.agreement()).ok()
            }
            _ => None,
        },
        _ => None,
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Consumer), Just(Role::Provider)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (role(), any::<usize>()).prop_map(|(role, which)| Op::Transmit(role, which)),
        6 => any::<usize>().prop_map(Op::Deliver),
        12 => any::<usize>().prop_map(Op::Again),
        1 => any::<usize>().prop_map(Op::Drop),
        3 => (role(), any::<u8>()).prop_map(|(role, choice)| Op::Act(role, choice)),
    ]
}

/// The promise is about messages, not runs: as many as this arrive in one test.
const MESSAGES: usize = 100_000;
/// Runs of one batch; a run brings some seventy messages.
const BATCH: u32 = 256;
/// Batches until the messages must have arrived: three times what is needed.
const MAX_BATCHES: usize = 18;

/// Whatever the network and the sides do, they never disagree silently.
#[test]
fn never_a_silent_difference() {
    let arrived = Cell::new(0);
    let runs = (prop::collection::vec(op(), 1..300), 0u32..6, any::<(bool, bool, bool)>());
    let config = ProptestConfig { cases: BATCH, failure_persistence: None, ..ProptestConfig::default() };
    for _ in 0..MAX_BATCHES {
        if arrived.get() >= MESSAGES {
            break;
        }
        let tested = TestRunner::new(config.clone()).run(&runs, |(ops, terms, (profile, ids, in_order))| {
            let mut world = World::new(Manner { profile, ids, in_order }, terms);
            for op in ops {
                world.run(op);
                world.check();
            }
            world.drain();
            let (ours, theirs) = (world.state(Role::Consumer), world.state(Role::Provider));
            let same = ours == theirs || (theirs.is_none() && ours == Some(StateName::Terminated));
            prop_assert!(
                same || world.told() > 0,
                "{ours:?} and {theirs:?} after {} messages",
                world.arrived
            );
            prop_assert!(world.same_agreement() || world.told() > 0, "one side alone holds an agreement");
            if in_order && ids {
                prop_assert!(same, "in order both sides meet: {ours:?} and {theirs:?}");
            }
            arrived.set(arrived.get() + world.arrived);
            Ok(())
        });
        tested.unwrap_or_else(|failed| panic!("{failed}"));
    }
    assert!(arrived.get() >= MESSAGES, "only {} messages arrived", arrived.get());
}
