//! The Dataspace Protocol over HTTP on real sockets: with a peer that knows nothing else, and between two of ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use control_plane::UnixMillis;
use control_plane::ids::ParticipantId;
use federation_tests::command::exit;
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, bytes};
use federation_tests::outsider::{
    BOMB, OUTSIDER, Outsider, US, get, message, offered, post, post_with, publish, with_test_listener,
};
use federation_tests::space::Space;
use federation_tests::stranger::{Credentials, get_over_https};
use federation_tests::wait::until;
use identity::minting::{Mint, MintingAuthority};
use identity::{Digest, Signer, bearer};
use serde_json::{Value, json};

/// The catalogue as those get it who take gzip.
fn packed_catalog(base: &str) -> Value {
    let asked = message("CatalogRequestMessage", json!({}));
    let packed = post_with(&format!("{base}/catalog/request"), "accept-encoding: br, gzip\r\n", &asked);
    assert_eq!((packed.status, packed.is_gzip()), (200, true), "{:?}", packed.headers);
    assert!(packed.headers.contains(&"vary: accept-encoding".to_owned()), "{:?}", packed.headers);
    let declined = post_with(&format!("{base}/catalog/request"), "accept-encoding: gzip;q=0\r\n", &asked);
    assert!(!declined.is_gzip(), "{:?}", declined.headers);
    packed.json()
}

fn state(base: &str, what: &str, pid: &str) -> Value {
    let answer = get(&format!("{base}/{what}/{pid}"), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["state"].clone()
}

/// An outsider reads the catalogue, negotiates, pulls with ranges, and is refused what it may not.
#[test]
fn an_outsider_negotiates_and_pulls() {
    let mut space = Space::empty();
    let base = with_test_listener(&mut space, "automatic");
    let connector = space.get("hong-kong");
    let content = bytes(2_500_000, 7);
    publish(connector, "weather", &content);
    let root = base.trim_end_matches("/dsp/2025-1");

    let version = get(&format!("{root}/.well-known/dspace-version"), "").json();
    assert_eq!(version["protocolVersions"][0]["path"], "/dsp/2025-1");
    let asked = message("CatalogRequestMessage", json!({}));
    let catalog = post(&format!("{base}/catalog/request"), &asked).json();
    assert_eq!((&catalog["@type"], &catalog["dataset"][0]["@id"]), (&json!("Catalog"), &json!("weather")));
    assert_eq!(
        catalog["dataset"],
        packed_catalog(&base)["dataset"],
        "compression changes nothing that is said"
    );
    let filtered = message("CatalogRequestMessage", json!({"filter": [{"x": 1}]}));
    let filtered = post(&format!("{base}/catalog/request"), &filtered);
    assert_eq!((filtered.status, &filtered.json()["@type"]), (400, &json!("CatalogError")));
    let unknown = get(&format!("{base}/catalog/datasets/other"), "");
    assert_eq!((unknown.status, &unknown.json()["@type"]), (404, &json!("CatalogError")));

    let outsider = Outsider::listen();
    let opening = message(
        "ContractRequestMessage",
        json!({"@id": "urn:uuid:m1", "consumerPid": "c1", "offer": offered(&base, "weather"),
               "callbackAddress": outsider.url()}),
    );
    let opened = post(&format!("{base}/negotiations/request"), &opening);
    assert_eq!(opened.status, 201, "{opened:?}");
    let provider_pid = opened.json()["providerPid"].as_str().unwrap().to_owned();
    let again = post(&format!("{base}/negotiations/request"), &opening).json();
    assert_eq!(again["providerPid"], provider_pid, "a repeated opening is the same process");

    let (path, agreed) = outsider.hears("/agreement");
    assert_eq!(path, "/negotiations/c1/agreement");
    assert_eq!(
        (&agreed["agreement"]["assigner"], &agreed["agreement"]["assignee"], &agreed["agreement"]["target"]),
        (&json!(US), &json!("OUTSIDER"), &json!("weather"))
    );
    let pids = |more: Value| {
        let mut members = json!({"providerPid": provider_pid, "consumerPid": "c1"});
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        members
    };
    // Out of order: an acceptance is not what AGREED waits for, and changes nothing.
    let early = message("ContractNegotiationEventMessage", pids(json!({"eventType": "ACCEPTED"})));
    let early = post(&format!("{base}/negotiations/{provider_pid}/events"), &early);
    assert_eq!((early.status, &early.json()["@type"]), (400, &json!("ContractNegotiationError")));
    assert_eq!(state(&base, "negotiations", &provider_pid), "AGREED");
    let verified = message("ContractAgreementVerificationMessage", pids(json!({})));
    let other = format!("{base}/negotiations/urn:uuid:other/agreement/verification");
    assert_eq!(post(&other, &verified).status, 404);
    let verified = post(&format!("{base}/negotiations/{provider_pid}/agreement/verification"), &verified);
    assert_eq!(verified.status, 200, "{verified:?}");
    let (_, finalized) = outsider.hears("/events");
    assert_eq!(finalized["eventType"], "FINALIZED");
    assert_eq!(state(&base, "negotiations", &provider_pid), "FINALIZED");
    let records = connector.ledger();
    let honest = |record: &Value| record.to_string().contains(r#""unsignedBy":"consumer""#);
    assert!(records.iter().any(honest), "{records:#?}");

    let agreement = agreed["agreement"]["@id"].as_str().unwrap();
    let request = message(
        "TransferRequestMessage",
        json!({"consumerPid": "t1", "agreementId": agreement, "format": "HttpData-PULL",
               "callbackAddress": format!("{}/", outsider.url())}),
    );
    let requested = post(&format!("{base}/transfers/request"), &request);
    assert_eq!(requested.status, 201, "{requested:?}");
    let transfer = requested.json()["providerPid"].as_str().unwrap().to_owned();
    let (path, started) = outsider.hears("/start");
    assert_eq!(path, "/transfers/t1/start");
    let properties = started["dataAddress"]["endpointProperties"].as_array().unwrap();
    let property = |name: &str| {
        properties.iter().find(|property| property["name"] == name).unwrap()["value"].as_str().unwrap()
    };
    let endpoint = started["dataAddress"]["endpoint"].as_str().unwrap();
    let bearer = format!("authorization: Bearer {}\r\n", property("authorization"));
    for (headers, status, from, until) in [
        (bearer.clone(), 200, 0, content.len()),
        (format!("{bearer}range: bytes=1048570-1048585\r\n"), 206, 1_048_570, 1_048_586),
        (format!("{bearer}range: bytes=-5\r\n"), 206, content.len() - 5, content.len()),
    ] {
        let pulled = get(endpoint, &headers);
        assert_eq!((pulled.status, pulled.body == content[from..until]), (status, true), "{headers}");
    }
    for (headers, status) in [
        (String::new(), 401),
        ("authorization: Bearer guess\r\n".to_owned(), 401),
        (format!("{bearer}range: bytes=9999999-\r\n"), 416),
    ] {
        assert_eq!(get(endpoint, &headers).status, status, "{headers}");
    }
    let ended = message("TransferCompletionMessage", json!({"providerPid": transfer, "consumerPid": "t1"}));
    assert_eq!(post(&format!("{base}/transfers/{transfer}/completion"), &ended).status, 200);
    assert_eq!(state(&base, "transfers", &transfer), "COMPLETED");
    assert_eq!(get(endpoint, &bearer).status, 400, "nothing flows after the end");
    let late = message("TransferStartMessage", json!({"providerPid": transfer, "consumerPid": "t1"}));
    let late = post(&format!("{base}/transfers/{transfer}/start"), &late);
    assert_eq!((late.status, &late.json()["@type"]), (400, &json!("TransferError")));
}

/// With manual steps both roles wait for a person at every step.
#[test]
fn every_step_waits_for_a_person() {
    let mut space = Space::empty();
    let base = with_test_listener(&mut space, "manual");
    let connector = space.get("hong-kong");
    publish(connector, "weather", b"sun");
    let outsider = Outsider::listen();
    let step = |command: &[&str]| connector.run(command).object();

    // As provider.
    let opening = message(
        "ContractRequestMessage",
        json!({"consumerPid": "c1", "offer": offered(&base, "weather"), "callbackAddress": outsider.url()}),
    );
    let opened = post(&format!("{base}/negotiations/request"), &opening);
    let pid = opened.json()["providerPid"].as_str().unwrap().to_owned();
    assert_eq!(state(&base, "negotiations", &pid), "REQUESTED");
    assert_eq!(step(&["negotiation", "accept", &pid])["state"], "AGREED");
    let (_, agreed) = outsider.hears("/agreement");
    let members = json!({"providerPid": pid, "consumerPid": "c1"});
    let verified = message("ContractAgreementVerificationMessage", members);
    assert_eq!(post(&format!("{base}/negotiations/{pid}/agreement/verification"), &verified).status, 200);
    assert_eq!(state(&base, "negotiations", &pid), "VERIFIED");
    assert_eq!(step(&["negotiation", "accept", &pid])["state"], "FINALIZED");
    outsider.hears("/events");

    let request = message(
        "TransferRequestMessage",
        json!({"consumerPid": "t1", "agreementId": agreed["agreement"]["@id"], "format": "HttpData-PULL",
               "callbackAddress": outsider.url()}),
    );
    let transfer = post(&format!("{base}/transfers/request"), &request);
    let transfer = transfer.json()["providerPid"].as_str().unwrap().to_owned();
    assert_eq!(state(&base, "transfers", &transfer), "REQUESTED");
    for (command, expected, path) in [
        ("resume", "STARTED", "/start"),
        ("suspend", "SUSPENDED", "/suspension"),
        ("resume", "STARTED", "/start"),
        ("complete", "COMPLETED", "/completion"),
    ] {
        outsider.forget();
        let reason: &[&str] =
            if command == "complete" || command == "resume" { &[] } else { &["--reason", "why"] };
        let moved = step(&[&["transfer", command, &transfer], reason].concat());
        assert_eq!(moved["state"], expected, "{command}");
        outsider.hears(path);
    }

    // As consumer of the outsider's dataset, which is in no catalogue of ours.
    outsider.forget();
    let dataset = format!("{OUTSIDER}/D1");
    let terms = json!({"@id": format!("{OUTSIDER}/offerD1"), "@type": "Offer", "target": dataset,
        "assigner": OUTSIDER, "permission": [{"action": "use"}]});
    let terms = connector.write("terms.json", terms.to_string());
    let url = outsider.url();
    let asked = step(&[
        "negotiate",
        &dataset,
        "--terms",
        terms.to_str().unwrap(),
        "--peer",
        OUTSIDER,
        "--peer-url",
        &url,
        "--wait",
        "0",
    ]);
    let consumer_pid = asked["id"].as_str().unwrap().to_owned();
    let (path, requested) = outsider.hears("/negotiations/request");
    assert_eq!(path, "/negotiations/request");
    assert_eq!(
        (&requested["offer"]["@id"], &requested["offer"]["target"], &requested["callbackAddress"]),
        (&json!("offerD1"), &json!("D1"), &json!(base))
    );
    let agreement = json!({"@id": "A1", "@type": "Agreement", "target": "D1", "assigner": "OUTSIDER",
        "assignee": US, "timestamp": "2026-01-01T00:00:00.123456789Z", "permission": [{"action": "use"}]});
    let pids = |more: Value| {
        let mut members = json!({"providerPid": "urn:uuid:outsider", "consumerPid": consumer_pid});
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        members
    };
    let agreed = message("ContractAgreementMessage", pids(json!({"agreement": agreement})));
    let answered = post(&format!("{base}/negotiations/{consumer_pid}/agreement"), &agreed);
    assert_eq!(answered.status, 200, "{answered:?}");
    assert_eq!(state(&base, "negotiations", &consumer_pid), "AGREED");
    assert_eq!(step(&["negotiation", "accept", &consumer_pid])["state"], "VERIFIED");
    outsider.hears("/agreement/verification");
    let finalized = message("ContractNegotiationEventMessage", pids(json!({"eventType": "FINALIZED"})));
    assert_eq!(post(&format!("{base}/negotiations/{consumer_pid}/events"), &finalized).status, 200);
    let held = connector.show("agreement", &format!("{OUTSIDER}/A1"));
    assert_eq!((&held["status"], &held["unsigned_by"]), (&json!("active"), &json!("provider")), "{held}");

    let started = step(&[
        "transfer",
        "start",
        &format!("{OUTSIDER}/A1"),
        "--format",
        "HttpData-PULL",
        "--peer-url",
        &url,
        "--no-wait",
    ]);
    let pid = started["id"].as_str().unwrap();
    let (_, requested) = outsider.hears("/transfers/request");
    assert_eq!(requested["agreementId"], "A1");
    let address = json!({"@type": "DataAddress", "endpointType": "https://w3id.org/idsa/v4.1/HTTP",
        "endpoint": "http://example.com", "endpointProperties": [
            {"@type": "EndpointProperty", "name": "authorization", "value": "secret"}]});
    let started = message(
        "TransferStartMessage",
        json!({"providerPid": "urn:uuid:outsider", "consumerPid": pid, "dataAddress": address}),
    );
    assert_eq!(post(&format!("{base}/transfers/{pid}/start"), &started).status, 200);
    let shown = connector.show("transfer", pid);
    assert_eq!((&shown["state"], &shown["endpoint"]), (&json!("STARTED"), &json!("http://example.com")));
    assert_eq!(shown["endpoint_properties"], json!({"authorization": "secret"}));
    assert!(connector.list("transfer").iter().all(|row| row["endpoint_properties"] == json!({})));
    assert_eq!(step(&["transfer", "complete", pid])["state"], "COMPLETED");
    outsider.hears("/completion");
}

/// The catalogue of an outsider, page by page; what is not understood is told, and the rest can be negotiated.
#[test]
fn the_catalogue_of_an_outsider_is_read() {
    let mut space = Space::empty();
    with_test_listener(&mut space, "manual");
    let connector = space.get("hong-kong");
    let outsider = Outsider::listen();
    let mut page = String::new();
    let mut pages = Vec::new();
    loop {
        let url = outsider.url();
        let read = connector.run(&["catalogue", "peer", OUTSIDER, "--peer-url", &url, "--page", &page]);
        let mut lines = read.done().lines();
        let next = lines.last().and_then(|line| line["next_page_token"].as_str()).map(str::to_owned);
        if next.is_some() {
            lines.pop();
        }
        pages.push(lines);
        match next {
            Some(next) => page = next,
            None => break,
        }
    }
    let named = |page: &[Value]| {
        page.iter().map(|row| (row["dataset"].clone(), row["offers"][0]["id"].clone())).collect::<Vec<_>>()
    };
    let expected =
        |name: &str| vec![(json!(format!("{OUTSIDER}/{name}")), json!(format!("{OUTSIDER}/offer{name}")))];
    assert_eq!(named(&pages[0]), expected("D1"));
    assert_eq!(pages[1][0]["offers"], json!([]), "an offer that is not understood is not shown");
    assert_eq!(named(&pages[2]), expected("D3"), "the page that came compressed");
    let bomb = format!("{}{BOMB}", outsider.url());
    let refused = connector.run(&["catalogue", "peer", OUTSIDER, "--peer-url", &bomb]);
    refused.refused(exit::UNAVAILABLE, "dsp/bad-answer");

    let terms = pages[0][0]["offers"][0]["text"].as_str().unwrap();
    let terms = connector.write("terms.json", terms);
    let dataset = format!("{OUTSIDER}/D1");
    let terms = terms.to_str().unwrap();
    let url = outsider.url();
    connector
        .run(&[
            "negotiate",
            &dataset,
            "--terms",
            terms,
            "--peer",
            OUTSIDER,
            "--peer-url",
            &url,
            "--wait",
            "0",
        ])
        .object();
    let (_, requested) = outsider.hears("/negotiations/request");
    assert_eq!(requested["offer"]["@id"], "offerD1");
}

/// Requests that no peer of good will sends.
#[test]
fn hostile_requests_are_refused_and_change_nothing() {
    let mut space = Space::empty();
    let base = with_test_listener(&mut space, "automatic");
    let connector = space.get("hong-kong");
    publish(connector, "weather", b"sun");
    let offer = offered(&base, "weather");
    let request = |callback: &str, offer: &Value| {
        message(
            "ContractRequestMessage",
            json!({"consumerPid": "c1", "offer": offer, "callbackAddress": callback}),
        )
    };
    let mut unknown = offer.clone();
    unknown["@id"] = json!("nothing");
    let mut strange = offer.clone();
    strange["permission"][0]["secretly"] = json!("resell");
    let here = "http://127.0.0.1:9";
    for (what, body) in [
        ("a callback elsewhere", request("http://192.0.2.1/", &offer)),
        ("a callback by another scheme", request("ftp://127.0.0.1/", &offer)),
        ("a callback with a user", request("http://u@127.0.0.1/", &offer)),
        ("an unknown offer", request(here, &unknown)),
        ("terms that nobody understands", request(here, &strange)),
        ("no context", json!({"@type": "ContractRequestMessage"})),
        ("another message", message("ContractOfferMessage", json!({}))),
        ("a counter without process", {
            let mut counter = request(here, &offer);
            counter.as_object_mut().unwrap().remove("callbackAddress");
            counter["providerPid"] = json!("urn:uuid:1");
            counter
        }),
    ] {
        let refused = post(&format!("{base}/negotiations/request"), &body);
        assert_eq!(refused.status, 400, "{what}: {refused:?}");
        assert_eq!(refused.json()["@type"], "ContractNegotiationError", "{what}");
    }
    let large = message("ContractRequestMessage", json!({"more": "x".repeat(5_000_000)}));
    assert_eq!(post(&format!("{base}/negotiations/request"), &large).status, 413);
    for path in ["negotiations/urn:uuid:1", "transfers/urn:uuid:1", "other"] {
        assert_eq!(get(&format!("{base}/{path}"), "").status, 404, "{path}");
    }
    assert_eq!(connector.list("negotiation"), Vec::<Value>::new());
}

/// What the records of the one negotiation since the `first` say, once it is over: names, instants and digests, which
/// differ each time, by the place at which each was met first.
fn told(connector: &Connector, first: usize, agreement: &str) -> Vec<Value> {
    let records = until("the negotiation is recorded to its end", || {
        let records = connector.ledger().split_off(first);
        let ended = |record: &Value| {
            record["kind"] == "negotiation-state" && record["subject"]["state"] == "FINALIZED"
        };
        records.iter().any(ended).then_some(records)
    });
    let mut met = Vec::new();
    let mut place = |name: &str, text: &str| {
        let of_once = text == agreement || text.starts_with("urn:uuid:") || text.starts_with("sha-256:");
        // The offer is the same each time, and so is its digest.
        if name == "offerHash" || !of_once && UnixMillis::parse_rfc3339(text).is_none() {
            return json!(text);
        }
        let known = met.iter().position(|known| known == text);
        json!(known.unwrap_or_else(|| {
            met.push(text.to_owned());
            met.len() - 1
        }))
    };
    let ours = records.iter().filter(|record| record["kind"].as_str().unwrap().starts_with("negotiation-"));
    let told: Vec<Value> = ours
        .map(|record| {
            let subject = record["subject"].as_object().unwrap().iter();
            let subject = subject.map(|(name, value)| (name.clone(), place(name, value.as_str().unwrap())));
            json!({"kind": record["kind"], "subject": subject.collect::<serde_json::Map<_, _>>()})
        })
        .collect();
    assert!(told.len() > 3, "every state is recorded: {told:#?}");
    told
}

/// Two of ours over HTTPS: the same agreement, signed by both, on both sides. Gives the provider's address, and the path
/// of the negotiation, which is macao's.
fn agreed_over_https(space: &mut Space, mode: &str) -> (String, String) {
    for name in ["hong-kong", "macao"] {
        let port = std::net::TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap().port();
        let connector = space.enrol(name);
        connector.settings.more = format!(
            "[dsp_http]\nlisten = \"[::1]:{port}\"\nbase_url = \"https://[::1]:{port}\"\n\
             identity = {{ mode = \"{mode}\" }}\nprivate_addresses = true\n"
        );
        connector.start();
    }
    space.introduce();
    let [provider, consumer] = space.all(["hong-kong", "macao"]);
    std::fs::write(provider.sources().join("weather"), bytes(100_000, 3)).unwrap();
    // A duty within a permission: what the protocol alone cannot carry.
    let dataset = Dataset::research("weather").deleted_by("2090-01-01T00:00:00Z");
    let dataset = provider.publish(&dataset, &shared_file("weather"));
    let listed = consumer.finds(&dataset);
    let offer = listed["offers"][0]["text"].as_str().expect("the offer's text");
    let terms = consumer.write("terms.json", offer);
    let listening = provider.process().logged("serving the Dataspace Protocol over HTTP");
    let url = format!("{}/dsp/2025-1", listening["base_url"].as_str().unwrap());
    let before = [provider.ledger().len(), consumer.ledger().len()];
    let participant = provider.participant.clone();
    let shown = consumer.run(&["catalogue", "peer", &participant, "--peer-url", &url]);
    assert_eq!(shown.done().lines()[0]["offers"][0]["text"], offer, "the catalogue says the same over HTTP");
    let negotiation = consumer
        .run(&[
            "negotiate",
            &dataset,
            "--terms",
            terms.to_str().unwrap(),
            "--peer",
            &participant,
            "--peer-url",
            &url,
            "--wait",
            "50",
        ])
        .object();
    assert_eq!(negotiation["state"], "FINALIZED", "{negotiation}");
    let agreement = negotiation["agreement"].as_str().unwrap();
    let ours = consumer.show("agreement", agreement);
    let theirs = until("the provider holds the agreement", || {
        let shown = provider.run(&["agreement", "show", agreement]);
        (shown.exit == 0).then(|| shown.object())
    });
    assert_eq!((&ours["hash"], &ours["document"]), (&theirs["hash"], &theirs["document"]));
    let over_http = [told(provider, before[0], agreement), told(consumer, before[1], agreement)];
    let before = [provider.ledger().len(), consumer.ledger().len()];
    let other = consumer.negotiate(&dataset);
    let over_grpc = [told(provider, before[0], &other), told(consumer, before[1], &other)];
    assert_eq!(over_http, over_grpc, "the binding leaves no trace in the ledgers");
    let document: Value = serde_json::from_str(ours["document"].as_str().unwrap()).unwrap();
    assert_eq!(document["signatures"].as_array().unwrap().len(), 2);
    assert!(consumer.ledger().iter().all(|record| !record.to_string().contains("unsignedBy")));
    let started = consumer
        .run(&["transfer", "start", agreement, "--format", "HttpData-PULL", "--peer-url", &url])
        .object();
    assert_eq!(started["state"], "STARTED", "{started}");
    let shown = consumer.show("transfer", started["id"].as_str().unwrap());
    assert_eq!(shown["endpoint_properties"]["authType"], "bearer");
    // What was agreed over HTTP is pulled as what was agreed over gRPC.
    consumer.pull(agreement);
    let process = format!("/dsp/2025-1/negotiations/{}", negotiation["peer_pid"].as_str().unwrap());
    let address = url.trim_start_matches("https://").trim_end_matches("/dsp/2025-1").to_owned();
    (address, process)
}

/// With certificate and statement nobody but its party reaches a negotiation, whatever is shown.
#[test]
fn two_of_ours_agree_by_certificate_and_statement() {
    let mut space = Space::empty();
    let (address, process) = agreed_over_https(&mut space, "mutual-tls");
    space.enrol("guangzhou");
    let (member, other) = (space.identity_of("macao"), space.identity_of("guangzhou"));
    let (theirs, others) = (member.statement.clone(), other.statement.clone());
    let (member, other) = (Credentials::from(member), Credentials::from(other));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (what, certificate, statement, expected) in [
        ("no certificate", None, Some(&theirs), None),
        ("no statement", Some(&member), None, Some(401)),
        ("another's statement", Some(&member), Some(&others), Some(401)),
        ("another member", Some(&other), Some(&others), Some(404)),
        ("its own party", Some(&member), Some(&theirs), Some(200)),
    ] {
        let shown = statement.map(|statement| format!("Bearer {statement}"));
        let got = runtime.block_on(get_over_https(&address, certificate, shown.as_deref(), &process));
        assert_eq!(got.ok(), expected, "{what}");
    }
}

/// With tokens, too; and each that is refused leaves its own code in the log, and the same answer outside.
#[test]
fn two_of_ours_agree_by_bearer_tokens() {
    let mut space = Space::empty();
    let (address, process) = agreed_over_https(&mut space, "bearer");
    space.enrol("guangzhou");
    let [macao, guangzhou] = ["macao", "guangzhou"].map(|name| Holder::of(&space, name));
    let foreign = Holder::of_a_stranger(US);
    let now = now();
    let earlier = now.plus_millis(-bearer::MAX_LIFETIME_MILLIS - 1_000);
    let later = now.plus_millis(bearer::MAX_LIFETIME_MILLIS + 60_000);
    let (its, others) = (Some(macao.thumbprint()), Some(guangzhou.thumbprint()));
    let own = Some(&macao.credentials);
    let other = Some(&guangzhou.credentials);
    let unbound = macao.token(US, None, now);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (what, certificate, token, expected, code) in [
        ("its party's", own, macao.token(US, its, now), 200, None),
        ("unbound, without certificate", None, unbound.clone(), 200, None),
        ("the same again", None, unbound, 401, Some("identity/bearer-spent")),
        ("another member's", other, guangzhou.token(US, others, now), 404, None),
        ("for another", own, macao.token(OUTSIDER, its, now), 401, Some("identity/bearer-for-another")),
        ("expired", own, macao.token(US, its, earlier), 401, Some("identity/bearer-expired")),
        ("from the future", own, macao.token(US, its, later), 401, Some("identity/signed-in-future")),
        (
            "on another's connection",
            other,
            macao.token(US, its, now),
            401,
            Some("identity/bearer-of-another-connection"),
        ),
        ("without its certificate", None, macao.token(US, its, now), 401, None),
        ("of a stranger", None, foreign.token(US, None, now), 401, Some("identity/other-authority")),
        ("the statement alone", own, macao.statement.clone(), 401, Some("identity/wrong-signature-type")),
        ("nothing", own, String::new(), 401, Some("identity/malformed-signature")),
    ] {
        let shown = format!("Bearer {token}");
        let got = runtime.block_on(get_over_https(&address, certificate, Some(&shown), &process));
        assert_eq!(got.ok(), Some(expected), "{what}");
        if let Some(code) = code {
            space.get("hong-kong").logged_code(code);
        }
    }

    // A token proves nothing where the settings ask this peer for certificate and statement.
    let provider = space.get("hong-kong");
    let peer = "[[peers]]\nparticipant = \"https://guangzhou.example/id\"\naddresses = [\"[::1]:1\"]\nreplicate = false\n\
                http_identity = \"mutual-tls\"\n";
    provider.settings.more.push_str(peer);
    provider.reload();
    let shown = format!("Bearer {}", guangzhou.token(US, None, now));
    let got = runtime.block_on(get_over_https(&address, None, Some(&shown), &process));
    assert_eq!(got.ok(), Some(401));
    provider.logged_code("dsp/other-proof-expected");
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(i64::try_from(since.as_millis()).unwrap())
}

/// Who makes tokens of its own.
struct Holder {
    signer: Signer,
    statement: String,
    credentials: Credentials,
}

impl Holder {
    fn of(space: &Space, name: &str) -> Self {
        let stored = space.identity_of(name);
        let credentials = Credentials::from(space.identity_of(name));
        let signer = Signer::new(Arc::new(stored.key), stored.chain).unwrap();
        Self { signer, statement: stored.statement, credentials }
    }

    /// Who has that name in another data space.
    fn of_a_stranger(uri: &str) -> Self {
        let now = now();
        let authority = MintingAuthority::new("https://elsewhere.example/authority", now).unwrap();
        let mint = || authority.mint(&Mint::good(uri, now)).unwrap();
        let (minted, credentials) = (mint(), Credentials::from(mint()));
        let signer = Signer::new(Arc::new(minted.key), minted.chain).unwrap();
        Self { signer, statement: String::new(), credentials }
    }

    fn thumbprint(&self) -> Digest {
        self.signer.thumbprint()
    }

    fn token(&self, audience: &str, bound_to: Option<Digest>, now: UnixMillis) -> String {
        let audience = ParticipantId::parse(audience).unwrap();
        let id = format!("{:x}", rand::random::<u128>());
        let claims = bearer::Claims { statement: &self.statement, audience: &audience, bound_to, id: &id };
        bearer::issue(&self.signer, claims, now).unwrap()
    }
}
