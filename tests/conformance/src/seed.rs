//! What the connector has before the kit begins: its datasets, and agreements negotiated with the kit's participant.

use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::Dataset;
use federation_tests::outsider::{Outsider, get, message, post};
use federation_tests::space::Space;
use serde_json::{Value, json};

use crate::script;
use crate::{CONNECTOR, KIT};

/// The dataset that transfers of ours are about.
const TRANSFERRED: &str = "ATP0101";
/// Datasets that the kit only looks at.
const LOOKED_AT: [&str; 2] = ["CAT0101", "CAT0102"];

/// A finalized agreement for one test.
pub struct Agreement {
    /// The area of the test.
    pub area: &'static str,
    /// Its numbers.
    pub test: (u8, u8),
    /// How the kit names it.
    pub on_the_wire: String,
    /// How the connector names it.
    pub here: String,
}

/// What was seeded.
pub struct Seeds {
    /// The connector's participant.
    pub participant: String,
    /// Where the version document lies below.
    pub root: String,
    /// One for each test of a transfer.
    pub agreements: Vec<Agreement>,
}

/// The offer of a dataset as the kit names it.
pub fn offer(dataset: &str) -> String {
    format!("CD123:{dataset}:456")
}

/// An IRI of the connector or of the kit by its last part.
pub fn bare(iri: &str) -> &str {
    iri.rsplit('/').next().unwrap_or(iri)
}

/// Starts the connector, publishes, negotiates; from then on every step waits for a person.
pub fn sow(space: &mut Space) -> Seeds {
    let connector = space.enrol(CONNECTOR);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|free| free.local_addr())
        .expect("a port is free")
        .port();
    let root = format!("http://127.0.0.1:{port}");
    let participant = connector.participant.clone();
    let listener = |steps: &str| {
        format!(
            "[negotiation]\nsteps = \"{steps}\"\n[dsp_http]\nlisten = \"127.0.0.1:{port}\"\nbase_url = \"{root}\"\n\
             name_base = \"{participant}/\"\n\
             identity = {{ mode = \"test\", participant = \"{KIT}\", name = \"TCK_PARTICIPANT\" }}\n"
        )
    };
    connector.settings.more = listener("automatic");
    connector.start();
    std::fs::write(connector.sources().join("data.csv"), "hour,degrees\n1,20\n")
        .expect("the source is written");
    for test in script::tests("CN") {
        publish(connector, &script::dataset("CN", test));
    }
    for name in LOOKED_AT.into_iter().chain([TRANSFERRED]) {
        publish(connector, name);
    }
    let base = format!("{root}/dsp/2025-1");
    let outsider = Outsider::listen();
    let mut agreements = Vec::new();
    for test in script::tests("TP") {
        let id = as_provider(&base, &outsider, &script::key("TP", test));
        agreements.push(Agreement { area: "TP", test, on_the_wire: id.clone(), here: id });
    }
    for test in script::tests("TP_C") {
        let name = script::dataset("TP_C", test);
        as_consumer(connector, &base, &outsider, &name);
        agreements.push(Agreement { area: "TP_C", test, here: format!("{KIT}/{name}"), on_the_wire: name });
    }
    connector.quiet();
    connector.settings.more = listener("manual");
    connector.restart();
    Seeds { participant: connector.participant.clone(), root, agreements }
}

fn publish(connector: &Connector, name: &str) {
    let dataset = Dataset { action: "odrl:use", constraints: Vec::new(), ..Dataset::research(name) };
    let turtle = dataset.turtle(&connector.participant);
    let turtle =
        turtle.replace(&format!(":{name}-offer"), &format!("<{}/{}>", connector.participant, offer(name)));
    let file = connector.write(&format!("{name}.ttl"), turtle);
    let file = file.to_str().expect("the paths of tests are UTF-8");
    connector.run(&["dataset", "publish", file, "--source", &shared_file("data.csv")]).done();
}

/// The kit's participant negotiates with us; gives the agreement's name.
fn as_provider(base: &str, outsider: &Outsider, consumer_pid: &str) -> String {
    outsider.forget();
    let dataset = get(&format!("{base}/catalog/datasets/{TRANSFERRED}"), "").json();
    let mut offer = dataset["hasPolicy"][0].clone();
    offer["target"] = json!(TRANSFERRED);
    let opening = message(
        "ContractRequestMessage",
        json!({"consumerPid": consumer_pid, "offer": offer, "callbackAddress": outsider.url()}),
    );
    let opened = post(&format!("{base}/negotiations/request"), &opening).json();
    let (_, agreed) = outsider.hears("/agreement");
    let pids = json!({"providerPid": opened["providerPid"], "consumerPid": consumer_pid});
    let verified = message("ContractAgreementVerificationMessage", pids);
    let pid = text(&opened, "providerPid");
    let answer = post(&format!("{base}/negotiations/{pid}/agreement/verification"), &verified);
    assert_eq!(answer.status, 200, "{answer:?}");
    outsider.hears("/events");
    text(&agreed["agreement"], "@id")
}

/// We negotiate with the kit's participant, which concludes an agreement of this name.
fn as_consumer(connector: &Connector, base: &str, outsider: &Outsider, name: &str) {
    outsider.forget();
    let terms = terms(&format!("{KIT}/offer{name}"), &format!("{KIT}/{name}"));
    let consumer_pid = negotiate(connector, &format!("{KIT}/{name}"), &terms, &outsider.url());
    outsider.hears("/negotiations/request");
    let agreement = json!({"@id": name, "@type": "Agreement", "target": name, "assigner": "TCK_PARTICIPANT",
        "assignee": connector.participant, "timestamp": "2026-01-01T00:00:00Z", "permission": [{"action": "use"}]});
    let pids = |more: (&str, Value)| {
        let mut members = json!({"providerPid": "urn:uuid:outsider", "consumerPid": consumer_pid});
        members[more.0] = more.1;
        members
    };
    let agreed = message("ContractAgreementMessage", pids(("agreement", agreement)));
    let answer = post(&format!("{base}/negotiations/{consumer_pid}/agreement"), &agreed);
    assert_eq!(answer.status, 200, "{answer:?}");
    outsider.hears("/agreement/verification");
    let finalized = message("ContractNegotiationEventMessage", pids(("eventType", json!("FINALIZED"))));
    let answer = post(&format!("{base}/negotiations/{consumer_pid}/events"), &finalized);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The terms that we ask for, as the command line takes them.
pub fn terms(offer: &str, dataset: &str) -> String {
    json!({"@id": offer, "@type": "Offer", "target": dataset, "assigner": KIT, "permission": [{"action": "use"}]})
        .to_string()
}

/// Opens a negotiation with the kit's participant at `url`; gives our name of it.
pub fn negotiate(connector: &Connector, dataset: &str, terms: &str, url: &str) -> String {
    let file = connector.write("asked.json", terms);
    let file = file.to_str().expect("the paths of tests are UTF-8");
    let asked = connector
        .run(&["negotiate", dataset, "--terms", file, "--peer", KIT, "--peer-url", url, "--wait", "0"])
        .object();
    text(&asked, "id")
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{value} has no `{member}`")).to_owned()
}
