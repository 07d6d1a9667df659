//! Every kind of message as data: written, held against the protocol's schemas, read back; and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use control_plane::agreement::Agreement;
use control_plane::cause::Cause;
use control_plane::ids::*;
use control_plane::negotiation::{self as cn, EventKind, OfferOpening, RequestOpening};
use control_plane::pids::Role;
use control_plane::terms::{COPY_DIFFERS, Offer};
use control_plane::transfer as tp;
use control_plane::{Code, Refusal};
use dsp::names::Names;
use dsp::negotiation::Kind;
use dsp::policy::{CANONICAL_TEXT, NOT_CARRIED, SIGNATURE, UNKNOWN_PARTY};
use dsp::{Canonical, MALFORMED, Speaking, catalogue, conform};
use serde_json::{Value, json};

struct Sorted;

impl Canonical for Sorted {
    fn canonical(&self, policy: &str) -> Result<String, Refusal> {
        let value: Value = serde_json::from_str(policy).unwrap();
        Ok(serde_jcs::to_string(&value).unwrap())
    }
}

const US: &str = "https://us.example/id";
const KIT: &str = "https://kit.example/id";

fn names(profile: bool) -> Names {
    Names {
        us: ParticipantId::parse(US).unwrap(),
        peer: ParticipantId::parse(KIT).unwrap(),
        peer_name: (!profile).then(|| "KIT".to_owned()),
        our_base: Some(format!("{US}/")),
        profile,
    }
}

/// The same conversation as the peer sees it.
fn theirs(names: &Names) -> Names {
    Names {
        us: names.peer.clone(),
        peer: names.us.clone(),
        peer_name: None,
        our_base: Some(format!("{KIT}/")),
        profile: names.profile,
    }
}

fn text(value: &Value) -> String {
    serde_jcs::to_string(value).unwrap()
}

/// An offer or agreement of `provider` in its canonical form.
fn policy(provider: &str, kind: &str, rule: &Value) -> Value {
    let mut policy = json!({
        "@id": format!("{provider}/CD:1"), "@type": kind, "target": format!("{provider}/D1"),
        "assigner": provider, "permission": [rule],
    });
    if kind == "Agreement" {
        policy["assignee"] = json!(if provider == US { KIT } else { US });
        policy["timestamp"] = json!("2026-11-28T07:00:00.000Z");
    }
    policy
}

fn plain() -> Value {
    json!({"action": "use", "constraint": [
        {"leftOperand": "dateTime", "operator": "lt",
         "rightOperand": {"@type": "http://www.w3.org/2001/XMLSchema#dateTime", "@value": "2027-01-01T00:00:00Z"}},
        {"or": [{"leftOperand": "purpose", "operator": "eq", "rightOperand": "research"}]},
    ]})
}

fn with_duty() -> Value {
    let mut rule = plain();
    rule["duty"] = json!([{"action": "delete"}]);
    rule
}

fn offer(provider: &str, rule: &Value) -> Offer {
    Offer::parse(&text(&policy(provider, "Offer", rule))).unwrap()
}

fn agreement(provider: &str, rule: &Value) -> Agreement {
    Agreement::parse(&text(&policy(provider, "Agreement", rule))).unwrap()
}

fn id() -> MessageId {
    MessageId::parse("urn:uuid:m").unwrap()
}

fn provider_pid() -> ProviderPid {
    ProviderPid::parse("urn:uuid:p").unwrap()
}

fn consumer_pid() -> ConsumerPid {
    ConsumerPid::parse("c/1").unwrap()
}

fn callback() -> CallbackAddress {
    CallbackAddress::parse("https://us.example/dsp/2025-1").unwrap()
}

fn cause() -> Cause {
    Cause::new("negotiation/terminated", ["not today"])
}

/// Every negotiation message that we send in `role`, with the kind of path that takes it.
fn negotiation_messages(role: Role, rule: &Value, jws: Option<&str>) -> Vec<(Kind, cn::Message)> {
    let (message_id, provider_pid, consumer_pid) = (id(), provider_pid(), consumer_pid());
    let provider = if role == Role::Provider { US } else { KIT };
    let jws = jws.map(str::to_owned);
    let event = |kind| {
        let (message_id, provider_pid, consumer_pid) = (id(), self::provider_pid(), self::consumer_pid());
        (Kind::Event, cn::Message::Event(cn::Event { message_id, provider_pid, consumer_pid, kind }))
    };
    let ended = cn::Termination {
        message_id: message_id.clone(),
        provider_pid: provider_pid.clone(),
        consumer_pid: consumer_pid.clone(),
        cause: cause(),
    };
    let mut messages = vec![(Kind::Termination, cn::Message::Termination(ended))];
    match role {
        Role::Consumer => {
            for opening in [RequestOpening::Opens(callback()), RequestOpening::Counters(provider_pid.clone())]
            {
                let request = cn::ContractRequest {
                    message_id: message_id.clone(),
                    consumer_pid: consumer_pid.clone(),
                    offer: offer(provider, rule),
                    opening,
                };
                messages.push((Kind::Request, cn::Message::Request(request)));
            }
            messages.push(event(EventKind::Accepted));
            let verification =
                cn::Verification { message_id, provider_pid, consumer_pid, assignee_signature: jws };
            messages.push((Kind::Verification, cn::Message::Verification(verification)));
        }
        Role::Provider => {
            for opening in [OfferOpening::Opens(callback()), OfferOpening::Counters(consumer_pid.clone())] {
                let offered = cn::ContractOffer {
                    message_id: message_id.clone(),
                    provider_pid: provider_pid.clone(),
                    offer: offer(provider, rule),
                    opening,
                };
                messages.push((Kind::Offer, cn::Message::Offer(offered)));
            }
            let agreed = cn::AgreementMessage {
                message_id,
                provider_pid,
                consumer_pid,
                agreement: agreement(provider, rule),
                assigner_signature: jws,
            };
            messages.push((Kind::Agreement, cn::Message::Agreement(agreed)));
            messages.push(event(EventKind::Finalized));
        }
    }
    messages
}

#[test]
fn negotiation_messages_come_back() {
    for (profile, rule, jws) in
        [(false, plain(), None), (true, plain(), Some("e30.e30.e30")), (true, with_duty(), Some("a.b.c"))]
    {
        let ours = names(profile);
        let theirs = theirs(&ours);
        for role in [Role::Consumer, Role::Provider] {
            for (kind, message) in negotiation_messages(role, &rule, jws) {
                let post = dsp::negotiation::write(&message, Speaking { names: &ours, role }).unwrap();
                conform::check(&post.body).unwrap_or_else(|why| panic!("{kind:?}: {why}: {}", post.body));
                assert!(post.path.ends_with(kind.path()), "{}", post.path);
                let heard = Speaking { names: &theirs, role: role.other() };
                // What the peer calls itself is only known to us.
                let body: Value =
                    serde_json::from_str(&post.body.to_string().replace("\"KIT\"", &format!("\"{KIT}\"")))
                        .unwrap();
                // Bare names of ours are its counterparty's names to the peer.
                let read = dsp::negotiation::read(kind, &body, heard, &Sorted).unwrap();
                assert_eq!(read, message, "{kind:?} profile {profile}");
            }
        }
    }
}

#[test]
fn transfer_messages_come_back() {
    let ours = names(false);
    let theirs = theirs(&ours);
    let (message_id, provider_pid, consumer_pid) = (id(), provider_pid(), consumer_pid());
    let properties =
        [("authorization".to_owned(), "t".to_owned()), ("authType".to_owned(), "bearer".to_owned())];
    let address =
        tp::DataAddress::new(dsp::transfer::HTTP_ENDPOINT, "https://us.example/data/1", properties).unwrap();
    let request = tp::TransferRequest {
        message_id: message_id.clone(),
        consumer_pid: consumer_pid.clone(),
        agreement_id: AgreementId::parse(&format!("{KIT}/A1")).unwrap(),
        format: dsp::HTTP_PULL.to_owned(),
        callback: callback(),
        data_address: None,
    };
    let pushed = tp::TransferRequest {
        format: dsp::HTTP_PUSH.to_owned(),
        data_address: Some(address.clone()),
        ..request.clone()
    };
    let start = |data_address| {
        tp::Message::Start(tp::TransferStart {
            message_id: id(),
            provider_pid: self::provider_pid(),
            consumer_pid: self::consumer_pid(),
            data_address,
        })
    };
    let suspension = tp::TransferSuspension {
        message_id: message_id.clone(),
        provider_pid: provider_pid.clone(),
        consumer_pid: consumer_pid.clone(),
        cause: cause(),
    };
    let termination = tp::TransferTermination {
        message_id: message_id.clone(),
        provider_pid: provider_pid.clone(),
        consumer_pid: consumer_pid.clone(),
        cause: cause(),
    };
    let completion = tp::TransferCompletion { message_id, provider_pid, consumer_pid };
    for (role, kind, message) in [
        (Role::Consumer, dsp::transfer::Kind::Request, tp::Message::Request(request)),
        (Role::Consumer, dsp::transfer::Kind::Request, tp::Message::Request(pushed)),
        (Role::Provider, dsp::transfer::Kind::Start, start(Some(address))),
        (Role::Consumer, dsp::transfer::Kind::Start, start(None)),
        (Role::Consumer, dsp::transfer::Kind::Completion, tp::Message::Completion(completion)),
        (Role::Provider, dsp::transfer::Kind::Suspension, tp::Message::Suspension(suspension)),
        (Role::Provider, dsp::transfer::Kind::Termination, tp::Message::Termination(termination)),
    ] {
        let post = dsp::transfer::write(&message, Speaking { names: &ours, role });
        conform::check(&post.body).unwrap_or_else(|why| panic!("{kind:?}: {why}: {}", post.body));
        let read = dsp::transfer::read(kind, &post.body, Speaking { names: &theirs, role: role.other() });
        assert_eq!(read.unwrap(), message, "{kind:?}");
    }
}

#[test]
fn paths_name_the_receivers_pid() {
    let ours = names(false);
    for (role, path) in [
        (Role::Consumer, "negotiations/urn:uuid:p/termination"),
        (Role::Provider, "negotiations/c%2F1/termination"),
    ] {
        let (_, message) = negotiation_messages(role, &plain(), None).swap_remove(0);
        let post = dsp::negotiation::write(&message, Speaking { names: &ours, role }).unwrap();
        assert_eq!(post.path, path);
    }
}

#[test]
fn answers_and_errors_conform() {
    let told = dsp::error::Told { provider_pid: None, consumer_pid: Some("c".to_owned()) };
    let refusal = Refusal::new(&MALFORMED, "a fact of ours");
    for document in [
        dsp::negotiation::write_process("p", "c", cn::StateName::Agreed),
        dsp::transfer::write_process("p", "c", tp::StateName::Suspended),
        dsp::error::write(dsp::error::Area::Catalog, &refusal, &told),
        dsp::error::write(dsp::error::Area::Negotiation, &refusal, &told),
        dsp::error::write(dsp::error::Area::Transfer, &refusal, &told),
    ] {
        conform::check(&document).unwrap_or_else(|why| panic!("{why}: {document}"));
        assert!(!document.to_string().contains("a fact of ours"));
    }
    let (code, reason) = dsp::error::read(&dsp::error::write(dsp::error::Area::Transfer, &refusal, &told));
    assert_eq!((code.as_str(), reason.as_str()), ("dsp/malformed-message", MALFORMED.en));
    let version = dsp::version::write(US);
    assert_eq!(dsp::version::read_path(&version), Some(dsp::BASE_PATH));
}

#[test]
fn the_catalogue_comes_back_without_what_a_plain_peer_cannot_be_shown() {
    let service =
        catalogue::Service { id: format!("{US}/dsp"), endpoint: "https://us.example/dsp/2025-1".into() };
    let entry = |rule: &Value| catalogue::Entry {
        dataset: DatasetId::parse(&format!("{US}/D1")).unwrap(),
        titles: vec![("Weather".into(), "en".into()), ("天氣".into(), "zh-Hant".into())],
        descriptions: vec![("Hourly".into(), String::new())],
        offers: vec![offer(US, rule)],
        formats: vec![dsp::HTTP_PULL.into(), "fairlead-grpc-pull".into()],
    };
    let entries = [entry(&plain()), entry(&with_duty())];
    for (profile, shown) in [(false, 1), (true, 2)] {
        let ours = names(profile);
        let speaking = Speaking { names: &ours, role: Role::Provider };
        let (document, left_out) = catalogue::write_catalog("urn:uuid:c", &entries, &service, speaking);
        conform::check(&document).unwrap_or_else(|why| panic!("{why}: {document}"));
        assert_eq!(left_out, entries.len() - shown);
        let theirs = theirs(&ours);
        let heard = Speaking { names: &theirs, role: Role::Consumer };
        let (read, problems) = catalogue::read_catalog(&document, heard, &Sorted).unwrap();
        assert_eq!((read.as_slice(), problems.len()), (&entries[..shown], 0));
        let mut outer = document.clone();
        outer["catalog"] = json!([{"@id": "urn:inner", "@type": "Catalog"}]);
        let (same, problems) = catalogue::read_catalog(&outer, heard, &Sorted).unwrap();
        assert_eq!((same.len(), problems[0].code), (shown, &catalogue::NESTED), "told, not dropped");
        let alone = catalogue::write_dataset(&entries[0], &service, speaking).unwrap();
        conform::check(&alone).unwrap();
        assert_eq!(catalogue::read_dataset(&alone, heard, &Sorted).unwrap(), entries[0]);
    }
    let (empty, _) = catalogue::write_catalog(
        "urn:uuid:c",
        &[],
        &service,
        Speaking { names: &names(false), role: Role::Provider },
    );
    conform::check(&empty).unwrap();
    assert!(empty.get("dataset").is_none());
}

/// What the protocol cannot carry is refused towards a plain peer, never dropped.
#[test]
fn what_is_not_carried() {
    let refinement = json!({"action": {"http://www.w3.org/1999/02/22-rdf-syntax-ns#value": {"@id": "use"}}});
    let unit = json!({"action": "use", "constraint": [{"leftOperand": "count", "operator": "lt",
        "rightOperand": "5", "http://www.w3.org/ns/odrl/2/unit": {"@id": "urn:unit"}}]});
    let nested = json!({"action": "use", "constraint": [{"and": [unit["constraint"][0].clone()]}]});
    let operator = json!({"action": "use", "constraint": [{"leftOperand": "count", "operator": "near",
        "rightOperand": "5"}]});
    for rule in [with_duty(), refinement, unit, nested, operator] {
        let plain = names(false);
        let refused =
            dsp::policy::write_offer(&offer(US, &rule), Speaking { names: &plain, role: Role::Provider });
        assert_eq!(refused.unwrap_err().code, &NOT_CARRIED, "{rule}");
    }
    let only_duties =
        json!({"@id": "o", "@type": "Offer", "target": "d", "obligation": [{"action": "delete"}]});
    for profile in [false, true] {
        let offer = Offer::parse(&text(&only_duties)).unwrap();
        let names = names(profile);
        let refused = dsp::policy::write_offer(&offer, Speaking { names: &names, role: Role::Provider });
        assert_eq!(refused.unwrap_err().code, &NOT_CARRIED);
    }
}

/// A valid message, changed in one place.
#[test]
fn what_is_refused() {
    let ours = names(true);
    let theirs = theirs(&ours);
    let (kind, message) = negotiation_messages(Role::Provider, &plain(), Some("a.b.c")).swap_remove(3);
    let post = dsp::negotiation::write(&message, Speaking { names: &ours, role: Role::Provider }).unwrap();
    let check = |change: &dyn Fn(&mut Value), expected: Result<(), &'static Code>| {
        let mut body = post.body.clone();
        change(&mut body);
        let heard = Speaking { names: &theirs, role: Role::Consumer };
        let read = dsp::negotiation::read(kind, &body, heard, &Sorted);
        assert_eq!(read.map(drop).map_err(|refusal| refusal.code), expected, "{body}");
    };
    let remove = |path: &'static str, member: &'static str| {
        move |body: &mut Value| drop(body.pointer_mut(path).unwrap().as_object_mut().unwrap().remove(member))
    };
    check(&|_| {}, Ok(()));
    check(&|body| body["more"] = json!(1), Ok(()));
    check(&|body| body["@context"] = json!(dsp::CONTEXT), Ok(()));
    check(&|body| body["@context"] = json!(["https://other.example", dsp::CONTEXT]), Ok(()));
    check(&|body| body["providerPid"] = json!({"@id": "urn:uuid:p"}), Ok(()));
    check(&|body| body["@context"] = json!(["https://other.example"]), Err(&MALFORMED));
    check(&remove("", "@context"), Err(&MALFORMED));
    check(&remove("", "@type"), Err(&MALFORMED));
    check(&|body| body["@type"] = json!("ContractOfferMessage"), Err(&MALFORMED));
    check(&remove("", "providerPid"), Err(&MALFORMED));
    check(&|body| body["consumerPid"] = json!(7), Err(&MALFORMED));
    check(&remove("", "agreement"), Err(&MALFORMED));
    check(&|body| body["agreement"] = json!([]), Err(&MALFORMED));
    check(&|body| body["agreement"]["@type"] = json!("Offer"), Err(&MALFORMED));
    check(&|body| body["agreement"]["permission"] = json!([{"action": "sell"}]), Err(&COPY_DIFFERS));
    check(&|body| body["agreement"]["target"] = json!("D2"), Err(&COPY_DIFFERS));
    check(&|body| drop(body["agreement"].as_object_mut().unwrap().remove(CANONICAL_TEXT)), Ok(()));
    let stranger = |body: &mut Value| {
        body["agreement"].as_object_mut().unwrap().remove(CANONICAL_TEXT);
        body["agreement"]["assignee"] = json!("https://third.example/id");
    };
    check(&stranger, Err(&UNKNOWN_PARTY));
    assert!(post.body.get(SIGNATURE).is_some());

    for (bytes, good) in [("{}", true), ("[]", false), ("", false), ("{", false)] {
        assert_eq!(dsp::parse(bytes.as_bytes()).is_ok(), good, "{bytes}");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    assert_eq!(dsp::parse(deep.as_bytes()).unwrap_err().code, &MALFORMED);
}

/// A plain peer that slips our profile's members in is not believed.
#[test]
fn profile_members_of_a_plain_peer_do_not_count() {
    let ours = names(true);
    let (kind, message) = negotiation_messages(Role::Provider, &plain(), Some("a.b.c")).swap_remove(3);
    let post = dsp::negotiation::write(&message, Speaking { names: &ours, role: Role::Provider }).unwrap();
    let plain = Names { profile: false, ..theirs(&ours) };
    let read =
        dsp::negotiation::read(kind, &post.body, Speaking { names: &plain, role: Role::Consumer }, &Sorted);
    let Ok(cn::Message::Agreement(read)) = read else { panic!("{read:?}") };
    assert_eq!(read.assigner_signature, None);
}

/// Messages without `@id` get one made of what they say.
#[test]
fn derived_ids() {
    let ours = names(false);
    let (kind, message) = negotiation_messages(Role::Consumer, &plain(), None).swap_remove(0);
    let post = dsp::negotiation::write(&message, Speaking { names: &ours, role: Role::Consumer }).unwrap();
    let theirs = theirs(&ours);
    let heard = Speaking { names: &theirs, role: Role::Provider };
    let read = |change: &dyn Fn(&mut Value)| {
        let mut body = post.body.clone();
        body.as_object_mut().unwrap().remove("@id");
        change(&mut body);
        dsp::negotiation::read(kind, &body, heard, &Sorted).unwrap().id().clone()
    };
    let once = read(&|_| {});
    assert!(once.is_derived());
    assert_eq!(once, read(&|_| {}));
    assert_ne!(once, read(&|body| body["code"] = json!("other")));
}
