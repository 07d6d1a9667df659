//! HttpData-PUSH on real sockets: what a receiver gets, and what stops, repeats or refuses it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use control_plane::UnixMillis;
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::bytes;
use federation_tests::outsider::{
    Answer, OUTSIDER, Outsider, free, get, message, offered, post, publish, with_test_listener,
};
use federation_tests::receiver::{Arrived, Receiver};
use federation_tests::schemas;
use federation_tests::space::Space;
use federation_tests::stranger::{Credentials, send_over_https};
use federation_tests::wait::until;
use identity::minting::{Mint, MintingAuthority};
use serde_json::{Value, json};

/// Many times what the buffers of a connection hold.
const LARGE: usize = 24 * 1024 * 1024;
/// What a slow receiver has read when it pauses.
const SLOW: usize = 1024 * 1024;
const SECRET: &str = "s3cret-of-the-receiver";

/// An outsider with an agreement about each dataset, and a receiver.
struct Pushing {
    space: Space,
    base: String,
    outsider: Outsider,
    receiver: Receiver,
}

impl Pushing {
    fn new() -> Self {
        let mut space = Space::empty();
        let base = with_test_listener(&mut space, "automatic");
        Self { space, base, outsider: Outsider::listen(), receiver: Receiver::listen() }
    }

    fn connector(&mut self) -> &mut Connector {
        self.space.get("hong-kong")
    }

    /// Publishes these objects as one dataset, and agrees about it.
    fn agreed(&mut self, name: &str, objects: &[&[u8]]) -> String {
        match objects {
            [one] => publish(self.connector(), name, one),
            several => {
                let folder = self.connector().sources().join(name);
                std::fs::create_dir_all(&folder).unwrap();
                for (index, object) in several.iter().enumerate() {
                    std::fs::write(folder.join(format!("{index}.bin")), object).unwrap();
                }
                self.connector().publish(&free(name), &format!("directory:shared/{name}"));
            }
        }
        self.outsider.agrees(&self.base, name)
    }

    fn request(&self, agreement: &str, members: Value) -> Answer {
        let mut body = json!({"consumerPid": format!("t-{}", agreement.rsplit('/').next().unwrap()),
            "agreementId": agreement, "format": "HttpData-PUSH", "callbackAddress": self.outsider.url()});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        post(&format!("{}/transfers/request", self.base), &message("TransferRequestMessage", body))
    }

    /// Asks for a push to the receiver; gives the provider's pid.
    #[track_caller]
    fn asks(&self, agreement: &str) -> String {
        let requested = self.request(agreement, json!({"dataAddress": address(&self.receiver.url(), &[])}));
        assert_eq!(requested.status, 201, "{requested:?}");
        requested.json()["providerPid"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn awaits(&mut self, pid: &str, state: &str) -> Value {
        let connector = self.connector();
        until(&format!("the transfer is {state}"), || {
            connector.list("transfer").into_iter().find(|row| row["id"] == pid && row["state"] == state)
        })
    }

    /// The records of what was pushed under `pid`: objects that begun and objects that were taken.
    fn recorded(&mut self, pid: &str) -> (Vec<Value>, Vec<Value>) {
        let records = self.connector().ledger();
        let of = |kind: &str| {
            let ours = records.iter().filter(|record| record["kind"] == kind);
            let ours = ours.map(|record| record["subject"].clone());
            ours.filter(|subject| subject["transfer"] == pid).collect()
        };
        (of("transfer-http-push-begun"), of("transfer-http-push"))
    }
}

fn address(endpoint: &str, more: &[(&str, &str)]) -> Value {
    let named = [("authorization", SECRET), ("authType", "bearer")];
    let property =
        |(name, value): (&str, &str)| json!({"@type": "EndpointProperty", "name": name, "value": value});
    let properties: Vec<Value> = named.into_iter().chain(more.iter().copied()).map(property).collect();
    json!({"@type": "DataAddress", "endpointType": "https://w3id.org/idsa/v4.1/HTTP", "endpoint": endpoint,
        "endpointProperties": properties})
}

fn whole(arrived: &[Arrived]) -> usize {
    arrived.iter().filter(|one| one.ended && one.is_whole()).count()
}

#[test]
fn an_object_arrives_whole_and_the_transfer_completes() {
    let mut pushing = Pushing::new();
    let content = bytes(2_500_000, 9);
    let agreement = pushing.agreed("weather", &[&content]);
    let dataset = get(&format!("{}/catalog/datasets/weather", pushing.base), "").json();
    let formats = dataset["distribution"].as_array().unwrap().iter().map(|one| one["format"].clone());
    assert!(formats.collect::<Vec<_>>().contains(&json!("HttpData-PUSH")), "{dataset}");
    // What may pass is tried again.
    pushing.receiver.refuses(&[503, 429]);
    let put = json!({"dataAddress": address(&pushing.receiver.url(), &[("method", "PUT")])});
    let requested = pushing.request(&agreement, put);
    assert_eq!(requested.status, 201, "{requested:?}");
    let pid = requested.json()["providerPid"].as_str().unwrap().to_owned();
    let (_, started) = pushing.outsider.hears("/start");
    assert_eq!(started["dataAddress"], Value::Null);
    let (_, completed) = pushing.outsider.hears("/completion");
    assert_eq!(completed["providerPid"], pid.as_str());
    let shown = pushing.awaits(&pid, "COMPLETED");
    assert_eq!(
        (&shown["objects_done"], &shown["bytes_done"]),
        (&shown["objects_total"], &shown["bytes_total"])
    );

    let arrived = pushing.receiver.arrived();
    assert_eq!(arrived.len(), 3);
    let last = &arrived[2];
    assert_eq!(last.request, "PUT /in");
    assert_eq!(last.header("authorization"), Some(format!("bearer {SECRET}").as_str()));
    assert!(last.body == content, "{} of {} bytes", last.body.len(), content.len());
    assert!(last.header("content-digest").unwrap().starts_with("sha-256=:"));
    let (begun, taken) = pushing.recorded(&pid);
    assert_eq!((begun.len(), taken.len()), (1, 1));
    assert_eq!((&taken[0]["bytes"], &taken[0]["agreement"]), (&json!("2500000"), &shown["agreement"]));

    // The secret of the receiver is for the receiver.
    let connector = pushing.connector();
    let log = connector.process().log();
    for told in [shown.to_string(), json!(connector.ledger()).to_string(), json!(log).to_string()] {
        assert!(!told.contains(SECRET), "{told}");
    }
}

/// With manual steps a person starts, and completes once everything is pushed.
#[test]
fn a_person_starts_and_completes() {
    let mut pushing = Pushing::new();
    let agreement = pushing.agreed("weather", &[b"sun", b"rain"]);
    let connector = pushing.connector();
    connector.settings.more = connector.settings.more.replace("\"automatic\"", "\"manual\"");
    connector.reload();
    let pid = pushing.asks(&agreement);
    pushing.awaits(&pid, "REQUESTED");
    assert!(pushing.receiver.arrived().is_empty());
    pushing.connector().run(&["transfer", "resume", &pid]).object();
    pushing.connector().process().logged("everything is pushed; a person completes the transfer");
    assert_eq!(whole(&pushing.receiver.arrived()), 2);
    let shown = pushing.connector().show("transfer", &pid);
    assert_eq!((&shown["state"], &shown["objects_done"]), (&json!("STARTED"), &json!(2)), "{shown}");
    assert_eq!(shown["endpoint"], pushing.receiver.url(), "the operator sees where it goes");
    let completed = pushing.connector().run(&["transfer", "complete", &pid]).object();
    assert_eq!(completed["state"], "COMPLETED");
}

#[test]
fn a_receiver_that_refuses_ends_the_transfer() {
    let mut pushing = Pushing::new();
    let agreement = pushing.agreed("weather", &[b"sun"]);
    pushing.receiver.refuses(&[403]);
    let pid = pushing.asks(&agreement);
    let (_, told) = pushing.outsider.hears("/termination");
    assert_eq!((&told["providerPid"], &told["code"]), (&json!(pid), &json!("dsp/push-refused")));
    pushing.awaits(&pid, "TERMINATED");
    assert_eq!(pushing.receiver.arrived().len(), 1);
    assert_eq!(pushing.recorded(&pid).1, Vec::<Value>::new());
}

/// Stops a slow push by `command`; gives what had arrived.
fn stopped_by(pushing: &mut Pushing, pid: &str, command: &[&str]) -> Arrived {
    pushing.receiver.awaits("a part of it", |arrived| arrived.iter().any(|one| one.body.len() >= SLOW));
    pushing.connector().run(command).object();
    pushing.receiver.open_to(None);
    let arrived = pushing.receiver.awaits("heard the end", |arrived| arrived.iter().all(|one| one.ended));
    let last = arrived.last().unwrap().clone();
    assert!(!last.is_whole(), "{command:?}: {} of {} bytes", last.body.len(), last.length);
    assert_eq!(pushing.recorded(pid).1, Vec::<Value>::new(), "{command:?}");
    last
}

#[test]
fn suspension_stops_a_slow_push_and_resuming_sends_anew() {
    let mut pushing = Pushing::new();
    let content = bytes(LARGE, 1);
    let agreement = pushing.agreed("weather", &[&content]);
    pushing.receiver.open_to(Some(SLOW));
    let pid = pushing.asks(&agreement);
    let part = stopped_by(&mut pushing, &pid, &["transfer", "suspend", &pid, "--reason", "why"]);
    assert!(content.starts_with(&part.body));
    pushing.awaits(&pid, "SUSPENDED");
    pushing.connector().run(&["transfer", "resume", &pid]).object();
    let arrived = pushing.receiver.awaits("all of it", |arrived| whole(arrived) == 1);
    assert!(arrived.last().unwrap().body == content);
    pushing.awaits(&pid, "COMPLETED");
}

#[test]
fn revocation_and_the_suspension_of_the_peer_end_a_slow_push() {
    for command in
        [&["agreement", "revoke", "A", "--reason", "why"][..], &["peer", "suspend", "P", "--reason", "why"]]
    {
        let mut pushing = Pushing::new();
        let peer = format!("[[peers]]\nparticipant = \"{OUTSIDER}\"\nsignatures = \"if-offered\"\n");
        pushing.connector().settings.more.push_str(&peer);
        pushing.connector().reload();
        let content = bytes(LARGE, 2);
        let agreement = pushing.agreed("weather", &[&content]);
        pushing.receiver.open_to(Some(SLOW));
        let pid = pushing.asks(&agreement);
        let held = pushing.connector().show("transfer", &pid);
        let named = |word: &&str| match *word {
            "A" => held["agreement"].as_str().unwrap().to_owned(),
            "P" => held["counterparty"].as_str().unwrap().to_owned(),
            word => word.to_owned(),
        };
        let command: Vec<String> = command.iter().map(named).collect();
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        stopped_by(&mut pushing, &pid, &command);
        pushing.awaits(&pid, "TERMINATED");
        assert_eq!(pushing.receiver.arrived().len(), 1, "nothing is sent again");
    }
}

#[test]
fn a_restart_goes_on_behind_what_was_taken() {
    let mut pushing = Pushing::new();
    let objects = [bytes(300_000, 3), bytes(LARGE, 4), Vec::new(), bytes(10, 5)];
    let agreement = pushing.agreed("weather", &objects.each_ref().map(Vec::as_slice));
    pushing.receiver.open_to(Some(SLOW));
    let pid = pushing.asks(&agreement);
    pushing.receiver.awaits("a part of the second object", |arrived| {
        whole(arrived) == 1 && arrived.get(1).is_some_and(|one| one.body.len() >= SLOW)
    });
    let shown = pushing.connector().show("transfer", &pid);
    assert_eq!((&shown["objects_done"], &shown["bytes_done"]), (&json!(1), &json!(300_000)), "{shown}");
    pushing.connector().kill();
    pushing.receiver.open_to(None);
    pushing.connector().start();
    pushing.awaits(&pid, "COMPLETED");
    let arrived = pushing.receiver.awaits("everything", |arrived| whole(arrived) == 4);
    let requests: Vec<&str> = arrived.iter().map(|one| one.request.as_str()).collect();
    assert_eq!(requests, ["POST /in/0", "POST /in/1", "POST /in/1", "POST /in/2", "POST /in/3"]);
    for (index, object) in objects.iter().enumerate() {
        let path = format!("POST /in/{index}");
        let last = arrived.iter().rfind(|one| one.request == path).unwrap();
        assert!(last.body == *object, "{path}");
    }
    let (begun, taken) = pushing.recorded(&pid);
    assert_eq!((begun.len(), taken.len()), (4, 4));
}

/// Between the receiver's yes and our commit nobody can know: the object is sent again.
#[test]
fn a_crash_behind_the_receivers_answer_sends_once_more() {
    let mut pushing = Pushing::new();
    let agreement = pushing.agreed("weather", &[b"sun"]);
    assert!(pushing.connector().ended_or_stopped());
    pushing.connector().start_with(&[("FAIRLEAD_CRASH", "push-object-taken")]);
    pushing.base = federation_tests::outsider::base(pushing.connector());
    let pid = pushing.asks(&agreement);
    until("the connector crashes", || pushing.connector().ended());
    assert_eq!(whole(&pushing.receiver.arrived()), 1);
    pushing.connector().start();
    pushing.awaits(&pid, "COMPLETED");
    assert_eq!(whole(&pushing.receiver.arrived()), 2);
    assert_eq!(pushing.recorded(&pid).1.len(), 1);
}

#[test]
fn requests_that_cannot_be_served_are_refused_at_once() {
    let mut pushing = Pushing::new();
    let agreement = pushing.agreed("weather", &[b"sun"]);
    offered(&pushing.base, "weather");
    let url = pushing.receiver.url();
    let to = |endpoint: &str| json!({"dataAddress": address(endpoint, &[])});
    let mut other = address(&url, &[]);
    other["endpointType"] = json!("https://w3id.org/idsa/v4.1/S3");
    for (members, code) in [
        (json!({}), "dsp/push-address-missing"),
        (json!({"dataAddress": address(&url, &[]), "format": "HttpData-PULL"}), "dsp/address-without-push"),
        (json!({"dataAddress": other}), "dsp/push-address-not-understood"),
        (json!({"dataAddress": address(&url, &[("method", "DELETE")])}), "dsp/push-address-not-understood"),
        (to("http://192.0.2.1/in"), "dsp/address-not-usable"),
        (to("http://10.0.0.1/in"), "dsp/address-not-usable"),
        (to("http://169.254.169.254/latest"), "dsp/address-not-usable"),
        (to("http://[::ffff:10.0.0.1]/in"), "dsp/address-not-usable"),
        (to("http://u:p@127.0.0.1/in"), "dsp/address-not-usable"),
        (to("ftp://127.0.0.1/in"), "dsp/address-not-usable"),
        (to("https://127.0.0.1/in"), "dsp/address-not-usable"),
        (to("in"), "dsp/address-not-usable"),
        (to(&"x".repeat(5_000)), "message/malformed-data-address"),
    ] {
        let refused = pushing.request(&agreement, members.clone());
        let told = refused.json();
        let got = (refused.status, &told["@type"], &told["code"]);
        assert_eq!(got, (400, &json!("TransferError"), &json!(code)), "{members}");
    }
    assert_eq!(pushing.connector().list("transfer"), Vec::<Value>::new());
    assert!(pushing.receiver.arrived().is_empty());
}

/// Over TLS a receiver is the consumer by its certificate, or a host under the roots that the settings name for it.
#[test]
fn a_receiver_must_prove_who_it_is() {
    let mut space = Space::empty();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let members = format!(
        "[dsp_http]\nlisten = \"127.0.0.1:{port}\"\nbase_url = \"https://127.0.0.1:{port}\"\n\
         identity = {{ mode = \"mutual-tls\" }}\nprivate_addresses = true\n"
    );
    space.enrol("hong-kong").settings.more.clone_from(&members);
    space.enrol("macao");
    for name in ["hong-kong", "macao"] {
        space.get(name).start();
    }
    space.introduce();
    space.enrol("guangzhou");
    let [macao, guangzhou] = ["macao", "guangzhou"].map(|name| Credentials::from(space.identity_of(name)));
    let statement = format!("Bearer {}", space.identity_of("macao").statement);
    let [provider, consumer] = space.all(["hong-kong", "macao"]);
    let content = bytes(100_000, 8);
    std::fs::write(provider.sources().join("weather"), &content).unwrap();
    let dataset = provider.publish(&free("weather"), &shared_file("weather"));
    consumer.finds(&dataset);
    let agreement = consumer.negotiate(&dataset);
    let outsider = Outsider::listen_over_tls(&macao);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let asks = |consumer_pid: &str, endpoint: &str| {
        let body = json!({"consumerPid": consumer_pid, "agreementId": agreement, "format": "HttpData-PUSH",
            "callbackAddress": outsider.url(), "dataAddress": address(endpoint, &[])});
        let body = message("TransferRequestMessage", body);
        let (address, path) = (format!("127.0.0.1:{port}"), "/dsp/2025-1/transfers/request");
        let sent = send_over_https(&address, Some(&macao), Some(&statement), "POST", path, Some(&body));
        let (status, answer) = runtime.block_on(sent).unwrap();
        assert_eq!(status, 201, "{answer:?}");
        let answer = serde_json::from_slice::<Value>(&answer).unwrap();
        schemas::check(&answer).unwrap();
        answer["providerPid"].as_str().unwrap().to_owned()
    };
    let ends = |provider: &mut Connector, pid: &str, state: &str| {
        provider.awaits(&["transfer", "show", pid], state, |shown| shown["state"] == state)
    };
    let interrupted = |provider: &mut Connector, pid: &str| {
        let told = until("a push is interrupted", || {
            let told = |line: &Value| line["message"] == "push interrupted" && line["transfer"] == pid;
            provider.process().log().into_iter().find(told)
        });
        assert_eq!(told["again"], json!(true), "the receiver may be set up better: {told}");
        provider.run(&["transfer", "terminate", pid, "--reason", "why"]).object();
        told["code"].as_str().unwrap().to_owned()
    };

    let [itself, another] = [&macao, &guangzhou].map(Receiver::listen_over_tls);
    let pid = asks("itself", &itself.url());
    ends(provider, &pid, "COMPLETED");
    assert!(itself.arrived()[0].body == content);
    let pid = asks("another", &another.url());
    assert!(interrupted(provider, &pid).starts_with("identity/"));
    assert!(another.arrived().is_empty(), "another member learns nothing");

    // A host outside the data space, by its name and the roots for this peer; and then nobody else.
    let now =
        UnixMillis(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap());
    let elsewhere = MintingAuthority::new("https://elsewhere.example/authority", now).unwrap();
    let minted = elsewhere.mint(&Mint::good("https://store.example/id", now)).unwrap();
    let store = Receiver::listen_over_tls(&Credentials::from(minted));
    let pid = asks("unknown", &store.url_by_name());
    interrupted(provider, &pid);
    provider.write("store.pem", elsewhere.bundle().unwrap().to_pem());
    let participant = consumer.participant.clone();
    let (_, dialled) =
        provider.settings.peers.iter().find(|(known, _)| *known == participant).unwrap().clone();
    provider.settings.peers.retain(|(known, _)| *known != participant);
    provider.settings.more = format!(
        "{members}[[peers]]\nparticipant = \"{participant}\"\naddresses = [\"{dialled}\"]\npush_roots = \"store.pem\"\n"
    );
    provider.reload();
    let pid = asks("known", &store.url_by_name());
    ends(provider, &pid, "COMPLETED");
    assert!(store.arrived()[0].body == content);
    let pid = asks("other-name", &store.url());
    interrupted(provider, &pid);
    let pid = asks("other-roots", &itself.url());
    interrupted(provider, &pid);
    assert_eq!((store.arrived().len(), itself.arrived().len()), (1, 1));
}
