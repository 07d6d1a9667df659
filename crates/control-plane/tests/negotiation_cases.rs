//! What the tables do not show: contents of messages that are refused, and what becomes of messages under way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use control_plane::agreement::{
    ANNEX_DIFFERS, Annex, PartySignature, SIGNATURE_MALFORMED, SIGNATURE_TYPE, SIGNATURE_WRONG_PARTY,
    SignedPart, Signing,
};
use control_plane::dedupe::MESSAGE_ID_REUSED;
use control_plane::ids::{ConsumerPid, ParticipantId, ProviderPid};
use control_plane::negotiation::*;
use control_plane::pids::{PID_MISMATCH, Role};
use control_plane::terms::Offer;
use control_plane::{CODES, Code, UnixMillis};
use support::*;

fn request(made: Offer, message_id: &str) -> Message {
    Message::Request(ContractRequest {
        message_id: id(message_id),
        consumer_pid: c_pid(),
        offer: made,
        opening: RequestOpening::Opens(callback()),
    })
}

fn open(made: Offer) -> Result<Step, control_plane::Refusal> {
    let message = request(made, "open");
    let received =
        Received { sender: &consumer(), message: &message, signature: None, signing: Signing::Required };
    Negotiation::opened_by_peer(&received, p_pid().as_str(), &provider(), &Published, NOW)
}

#[test]
fn a_request_with_other_terms_is_a_counter_offer() {
    let published = open(offer(3)).unwrap();
    assert_eq!(published.decision(), Some(Decision::Request { terms_altered: false }));
    let altered = open(offer(4)).unwrap();
    assert_eq!(altered.decision(), Some(Decision::Request { terms_altered: true }));
    let by_rule = command(&altered.next, agree(&offer(4)), "m").unwrap_err();
    assert_eq!(by_rule.code, &TERMS_ALTERED);
    let by_hand = Command::Agree { part: part(&offer(4)), consent: Consent::ByHand };
    assert_eq!(command(&altered.next, by_hand, "m").unwrap().next.state_name(), StateName::Agreed);
    let other = "https://campus.example/id/hku/dataset/other";
    assert_eq!(open(offer_of("urn:offer:1", other, 3)).unwrap_err().code, &UNKNOWN_OFFER);
    assert_eq!(open(offer_of("urn:offer:2", DATASET, 3)).unwrap_err().code, &UNKNOWN_OFFER);
}

#[test]
fn a_step_and_its_automatic_answer_compose() {
    let step = open(offer(3)).unwrap().then(|next| command(next, agree(&offer(3)), "auto")).unwrap();
    assert_eq!(step.next.state_name(), StateName::Agreed);
    assert_eq!(step.decision(), None);
    assert_eq!(sent(&step).kind(), MessageKind::Agreement);
    let records = step.effects.iter().filter(|effect| matches!(effect, Effect::Record(_))).count();
    assert_eq!(records, 2, "every_transition_is_in_the_ledger");
}

#[test]
fn agreements_that_the_consumer_refuses() {
    let terms = offer(3);
    let with = |agreement, signer: &control_plane::ids::ParticipantId, annex: &Annex| {
        let signature = sign(&agreement, signer, annex);
        (agreement, signature)
    };
    let good = annex(&terms);
    let later = UnixMillis(NOW.0 + MAX_CLOCK_AHEAD_MS + 1);
    let other_pid = Annex::of(&terms, &ProviderPid::parse("urn:uuid:q").unwrap(), &c_pid());
    let cases: Vec<(_, &'static Code)> = vec![
        (with(agreement(&offer(4)), &provider(), &good), &AGREEMENT_DIFFERS),
        (with(agreement(&offer_of("urn:offer:1", "urn:other", 3)), &provider(), &good), &OTHER_DATASET),
        (with(agreement_between(&terms, &stranger(), &consumer(), NOW), &stranger(), &good), &WRONG_PARTIES),
        (with(agreement_between(&terms, &provider(), &stranger(), NOW), &provider(), &good), &WRONG_PARTIES),
        (
            with(agreement_between(&terms, &provider(), &consumer(), later), &provider(), &good),
            &FROM_THE_FUTURE,
        ),
        (with(agreement(&terms), &consumer(), &good), &SIGNATURE_WRONG_PARTY),
        (with(agreement(&terms), &provider(), &annex(&offer(4))), &ANNEX_DIFFERS),
        (with(agreement(&terms), &provider(), &other_pid), &ANNEX_DIFFERS),
    ];
    let (process, _) = pair(StateName::Requested);
    let check = |agreement, signature: &PartySignature, given: Option<&PartySignature>| {
        let message = Message::Agreement(AgreementMessage {
            message_id: id("agree"),
            provider_pid: p_pid(),
            consumer_pid: c_pid(),
            agreement,
            assigner_signature: Some(signature.jws().to_owned()),
        });
        let received =
            Received { sender: &provider(), message: &message, signature: given, signing: Signing::Required };
        process.receive(&received, &Published, NOW)
    };
    for ((agreement, signature), code) in cases {
        assert_eq!(check(agreement, &signature, Some(&signature)).unwrap_err().code, code, "{}", code.code);
    }
    let (right, signature) = with(agreement(&terms), &provider(), &good);
    let (_, another) = with(agreement(&terms), &consumer(), &good);
    assert_eq!(check(right.clone(), &signature, None).unwrap_err().code, &SIGNATURE_MISSING);
    assert_eq!(check(right.clone(), &signature, Some(&another)).unwrap_err().code, &SIGNATURE_MISSING);
    let step = check(right, &signature, Some(&signature)).unwrap();
    assert_eq!(step.decision(), Some(Decision::Agreement));
    assert_eq!(
        step.next.annex().unwrap(),
        good,
        "what the consumer signs with is what the provider signed with"
    );
}

#[test]
fn signatures_in_form() {
    let agreement = agreement(&offer(3));
    let digest = annex(&offer(3)).digest().to_string();
    let text = agreement.text();
    let signed = |payload: &str, typ: &str, kid: &str, annex: Option<&str>| {
        PartySignature::verified(&jws(payload, typ, kid, annex), &agreement).map_err(|refusal| refusal.code)
    };
    let (us, annex) = (provider(), Some(digest.as_str()));
    assert!(signed(text, SIGNATURE_TYPE, us.as_str(), annex).is_ok());
    assert_eq!(signed("{}", SIGNATURE_TYPE, us.as_str(), annex), Err(&SIGNATURE_MALFORMED));
    assert_eq!(signed(text, "fairlead-receipt+jws", us.as_str(), annex), Err(&SIGNATURE_MALFORMED));
    assert_eq!(signed(text, SIGNATURE_TYPE, us.as_str(), None), Err(&SIGNATURE_MALFORMED));
    assert_eq!(signed(text, SIGNATURE_TYPE, us.as_str(), Some("sha-256:x")), Err(&SIGNATURE_MALFORMED));
    assert_eq!(signed(text, SIGNATURE_TYPE, stranger().as_str(), annex), Err(&SIGNATURE_WRONG_PARTY));
    for jws in ["", "a.b", "a.b.c.d", "!.!.!"] {
        assert_eq!(
            PartySignature::verified(jws, &agreement).unwrap_err().code,
            &SIGNATURE_MALFORMED,
            "{jws}"
        );
    }
}

#[test]
fn both_signatures_of_the_right_parties_over_one_annex() {
    let terms = offer(3);
    let agreement = agreement(&terms);
    let by = |party, annex: &Annex| sign(&agreement, &party, annex);
    let wrong = SignedPart::new(agreement.clone(), by(consumer(), &annex(&terms)));
    assert_eq!(wrong.unwrap_err().code, &SIGNATURE_WRONG_PARTY);
    let twice = part(&terms).countersigned(by(provider(), &annex(&terms)));
    assert_eq!(twice.unwrap_err().code, &SIGNATURE_WRONG_PARTY);
    let apart = part(&terms).countersigned(by(consumer(), &annex(&offer(4))));
    assert_eq!(apart.unwrap_err().code, &ANNEX_DIFFERS);
    let other_text = signed(&offer(4)).assignee_signature().unwrap().clone();
    assert_eq!(part(&terms).countersigned(other_text).unwrap_err().code, &SIGNATURE_MALFORMED);
    let document: serde_json::Value = serde_json::from_str(&signed(&terms).document().unwrap()).unwrap();
    assert_eq!(document["signatures"].as_array().unwrap().len(), 2);
    let payload = part(&terms).assigner_signature().unwrap().jws().split('.').nth(1).unwrap().to_owned();
    assert_eq!(document["payload"], payload.as_str());
}

#[test]
fn repeats_and_reused_ids() {
    let provider_side = open(offer(3)).unwrap().next;
    for (message, expected) in [
        (request(offer(3), "open"), Ok(true)),
        (request(offer(3), "open-again"), Ok(true)),
        (request(offer(4), "open"), Err(&MESSAGE_ID_REUSED)),
        (request(offer(4), "open-again"), Err(&ILLEGAL_TRANSITION)),
    ] {
        let got = receive(&provider_side, &consumer(), &message);
        assert_eq!(got.map(|step| step.repeat).map_err(|refusal| refusal.code), expected, "{message:?}");
    }
    let foreign = receive(&provider_side, &stranger(), &request(offer(3), "open")).unwrap_err();
    assert_eq!(foreign.code, &UNKNOWN_PROCESS, "a stranger does not even learn that it exists");
}

#[test]
fn the_answer_may_come_before_the_acknowledgement() {
    let opened =
        Negotiation::open_as_consumer(opening(Role::Consumer, offer(3)), c_pid(), &Published, NOW).unwrap();
    let provider_side = open(offer(3)).unwrap().then(|next| command(next, agree(&offer(3)), "auto")).unwrap();
    let agreed = receive(&opened.next, &provider(), &sent(&provider_side)).unwrap().next;
    assert_eq!(agreed.state_name(), StateName::Agreed);
    assert_eq!(agreed.pids().theirs(), Some(p_pid().as_str()), "the peer's pid comes with its message");
    let late = agreed.acknowledged(&id("open"), &p_pid(), &c_pid()).unwrap();
    assert_eq!(late.next, agreed);
    let lost = agreed.undelivered(&id("open"), &Undelivered::GaveUp, id("fresh"), NOW);
    assert_eq!(lost.next, agreed, "what was answered did arrive");
    let wrong = ConsumerPid::parse("urn:uuid:other").unwrap();
    let mismatch = opened.next.acknowledged(&id("open"), &p_pid(), &wrong).unwrap_err();
    assert_eq!(mismatch.code, &PID_MISMATCH);
}

#[test]
fn ended_before_the_peer_has_named_the_process() {
    let opened =
        Negotiation::open_as_consumer(opening(Role::Consumer, offer(3)), c_pid(), &Published, NOW).unwrap();
    let ended = command(&opened.next, Command::Terminate(cause()), "end").unwrap();
    assert!(!ended.effects.iter().any(|effect| matches!(effect, Effect::Send(_))), "nobody could take it");
    let told = ended.next.acknowledged(&id("open"), &p_pid(), &c_pid()).unwrap();
    assert_eq!(sent(&told).kind(), MessageKind::Termination);
    assert_eq!(sent(&told).id(), &id("end"));
    let again = told.next.acknowledged(&id("open"), &p_pid(), &c_pid()).unwrap();
    assert!(again.effects.is_empty());
}

#[test]
fn what_does_not_arrive() {
    let refused = Undelivered::Refused(cause());
    let (_, provider_side) = pair(StateName::Requested);
    let offered = command(&provider_side, Command::Counter(offer(3)), "m").unwrap().next;
    let step = offered.undelivered(&id("m"), &refused, id("fresh"), NOW);
    assert_eq!(step.next.state_name(), StateName::Terminated);
    assert_eq!(sent(&step).kind(), MessageKind::Termination);
    assert!(matches!(&step.effects[0], Effect::Record(record) if record.kind == "negotiation-divergence"));
    assert_eq!(offered.undelivered(&id("older"), &refused, id("fresh"), NOW).next, offered);

    let opened =
        Negotiation::open_as_consumer(opening(Role::Consumer, offer(3)), c_pid(), &Published, NOW).unwrap();
    let step = opened.next.undelivered(&id("open"), &refused, id("fresh"), NOW);
    assert_eq!(step.next.state_name(), StateName::Terminated);
    assert!(
        !step.effects.iter().any(|effect| matches!(effect, Effect::Send(_))),
        "the peer has no such process"
    );

    let (_, verified) = pair(StateName::Verified);
    let finalized = command(&verified, Command::Finalize, "m").unwrap().next;
    let disputed = finalized.undelivered(&id("m"), &refused, id("fresh"), NOW);
    assert!(disputed.effects.iter().any(|effect| matches!(effect, Effect::AgreementDisputed { .. })));
    let silent = finalized.undelivered(&id("m"), &Undelivered::GaveUp, id("fresh"), NOW);
    assert!(!silent.effects.iter().any(|effect| matches!(effect, Effect::AgreementDisputed { .. })));
    assert_eq!(silent.next.state_name(), StateName::Finalized);
}

#[test]
fn rounds_are_bounded_and_leave_room_to_end() {
    let mut both = pair(StateName::Offered);
    let mut refused = None;
    for round in 0..=MAX_ROUNDS {
        let role = if both.0.state_name() == StateName::Offered { Role::Consumer } else { Role::Provider };
        let side = if role == Role::Consumer { &both.0 } else { &both.1 };
        let name = format!("round-{round}");
        match command(side, Command::Counter(offer(3)), &name) {
            Ok(_) => both = exchange(both, role, Command::Counter(offer(3)), &name),
            Err(refusal) => {
                refused = Some(refusal.code);
                break;
            }
        }
    }
    assert_eq!(refused, Some(&TOO_MANY_ROUNDS));
    assert!(both.0.history().len() <= MAX_ROUNDS);
    assert_eq!(both.0.state_name(), StateName::Offered);
    both = exchange(both, Role::Consumer, accept(), "accept");
    both = exchange(both, Role::Provider, agree(&offer(3)), "agree");
    both = exchange(
        both,
        Role::Consumer,
        Command::Verify(signed(&offer(3)).assignee_signature().unwrap().clone()),
        "verify",
    );
    both = exchange(both, Role::Provider, Command::Finalize, "finalize");
    assert_eq!(both.0.final_agreement(), both.1.final_agreement());
    assert!(both.0.history().len() <= MAX_TRANSITIONS);
}

#[test]
fn nobody_negotiates_with_itself() {
    let mut alone = opening(Role::Consumer, offer(3));
    alone.counterparty = alone.us.clone();
    let got = Negotiation::open_as_consumer(alone, c_pid(), &Published, NOW);
    assert_eq!(got.unwrap_err().code, &WITH_ITSELF);
}

#[test]
fn codes_are_distinct_and_well_formed() {
    let mut codes: Vec<&str> = CODES.iter().flat_map(|list| list.iter().map(|code| code.code)).collect();
    for code in &codes {
        let (area, name) = code.split_once('/').unwrap();
        assert!(
            !area.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
            "{code}"
        );
    }
    let all = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), all);
}

/// What a peer that does not sign may and may not do, by whether our configuration lets it.
#[test]
fn unsigned_agreements() {
    let terms = offer(3);
    let agreed = Message::Agreement(AgreementMessage {
        message_id: id("agree"),
        provider_pid: p_pid(),
        consumer_pid: c_pid(),
        agreement: agreement(&terms),
        assigner_signature: None,
    });
    let verified = Message::Verification(Verification {
        message_id: id("verify"),
        provider_pid: p_pid(),
        consumer_pid: c_pid(),
        assignee_signature: None,
    });
    let take = |process: &Negotiation, sender: ParticipantId, message: &Message, signing: Signing| {
        process.receive(&Received { sender: &sender, message, signature: None, signing }, &Published, NOW)
    };
    let (consumer_side, _) = pair(StateName::Requested);
    let refused = take(&consumer_side, provider(), &agreed, Signing::Required).unwrap_err();
    assert_eq!(refused.code, &SIGNATURE_MISSING);
    let step = take(&consumer_side, provider(), &agreed, Signing::IfOffered).unwrap();
    let ours = signed(&terms).assignee_signature().unwrap().clone();
    let step = command(&step.next, Command::Verify(ours), "v").unwrap();
    let State::Verified { signed: held } = step.next.state() else { panic!("{:?}", step.next.state()) };
    assert_eq!((held.unsigned_by(), held.assigner_signature()), (Some(Role::Provider), None));

    let (_, provider_side) = pair(StateName::Agreed);
    let refused = take(&provider_side, consumer(), &verified, Signing::Required).unwrap_err();
    assert_eq!(refused.code, &SIGNATURE_MISSING);
    let step = take(&provider_side, consumer(), &verified, Signing::IfOffered).unwrap();
    let State::Verified { signed: held } = step.next.state() else { panic!("{:?}", step.next.state()) };
    assert_eq!((held.unsigned_by(), held.assignee_signature()), (Some(Role::Consumer), None));
    let told = |effect: &Effect| matches!(effect, Effect::Record(record) if record.fields.iter().any(|(name, value)| *name == "unsignedBy" && value == "consumer"));
    assert!(step.effects.iter().any(told), "the ledger says who did not sign");

    for process in [&step.next, &take(&consumer_side, provider(), &agreed, Signing::IfOffered).unwrap().next]
    {
        let stored = control_plane::durable::encode_negotiation(process).unwrap();
        assert_eq!(&control_plane::durable::decode_negotiation(&stored).unwrap(), process);
    }
    let nobody = SignedPart::unsigned(agreement(&terms)).uncountersigned();
    assert_eq!(nobody.unwrap_err().code, &SIGNATURE_WRONG_PARTY);
}
