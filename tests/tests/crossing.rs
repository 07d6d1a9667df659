//! Messages in any order, again and across each other, to a running connector on kept connections: after each of them
//! its answer and the state that it shows are those of a naive model.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use federation_tests::chance;
use federation_tests::connector::Connector;
use federation_tests::outsider::{Answer, Kept, Outsider, message, offered, publish, with_test_listener};
use federation_tests::space::Space;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// Messages of one run: some fifteen seconds on a quiet machine.
const MESSAGES: usize = 4_000;
/// Processes that are open at once: enough that messages cross, few enough that long ways are walked.
const OPEN: usize = 12;
/// Rounds of terms in one negotiation, far below where the connector ends it.
const MAX_COUNTERS: u32 = 8;
/// Messages to one process: what it remembers reaches further back.
const MAX_SENT: usize = 40;
/// Messages to one that has ended.
const MAX_SENT_TO_ENDED: usize = 8;

/// What a message must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Taken, and known when it comes again.
    Taken,
    /// Refused with an error object.
    Refused,
    /// Either: it crosses a termination of theirs, of which they may or may not know that we have it.
    Either,
}

/// What a process is, as the protocol's tables say; the connector takes its own steps by rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Model {
    Negotiation { state: &'static str, counters: u32 },
    Transfer { state: &'static str, held_by_us: bool, held_by_them: bool, ended_by_them: bool },
}

impl Model {
    fn state(&self) -> &'static str {
        match self {
            Self::Negotiation { state, .. } | Self::Transfer { state, .. } => state,
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state(), "FINALIZED" | "COMPLETED" | "TERMINATED")
    }

    const fn area(&self) -> &'static str {
        match self {
            Self::Negotiation { .. } => "negotiations",
            Self::Transfer { .. } => "transfers",
        }
    }

    /// What a message of ours does; a refused one does nothing.
    fn take(&mut self, said: Said) -> Expected {
        let next = match self {
            Self::Negotiation { state, counters } => match (said, *state) {
                (Said::Request { altered: false } | Said::Accepted, "OFFERED") => "AGREED",
                (Said::Request { altered: true }, "OFFERED") => {
                    *counters += 1;
                    "OFFERED"
                }
                (Said::Verification, "AGREED") => "FINALIZED",
                (Said::Termination, "OFFERED" | "AGREED") => "TERMINATED",
                _ => return Expected::Refused,
            },
            Self::Transfer { state, held_by_us, held_by_them, ended_by_them } => match (said, *state) {
                (Said::Suspension, "STARTED" | "SUSPENDED") if !*held_by_us => {
                    *held_by_us = true;
                    "SUSPENDED"
                }
                (Said::Start, "SUSPENDED") if *held_by_us => {
                    *held_by_us = false;
                    if *held_by_them { "SUSPENDED" } else { "STARTED" }
                }
                (Said::Completion, "STARTED" | "SUSPENDED") if !*held_by_us => "COMPLETED",
                (Said::Termination, "STARTED" | "SUSPENDED") => "TERMINATED",
                (Said::Termination, "TERMINATED") if *ended_by_them => {
                    *ended_by_them = false;
                    return Expected::Either;
                }
                _ => return Expected::Refused,
            },
        };
        match self {
            Self::Negotiation { state, .. } | Self::Transfer { state, .. } => *state = next,
        }
        Expected::Taken
    }
}

/// What the outsider, always the consumer, may say about an open process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Request { altered: bool },
    Accepted,
    Finalized,
    Verification,
    Start,
    Suspension,
    Completion,
    Termination,
}

const IN_NEGOTIATIONS: [Said; 6] = [
    Said::Request { altered: false },
    Said::Request { altered: true },
    Said::Accepted,
    Said::Finalized,
    Said::Verification,
    Said::Termination,
];
/// What ends a transfer is said seldom, so that long ways are walked.
const IN_TRANSFERS: [Said; 10] = [
    Said::Start,
    Said::Start,
    Said::Start,
    Said::Start,
    Said::Suspension,
    Said::Suspension,
    Said::Suspension,
    Said::Suspension,
    Said::Completion,
    Said::Termination,
];

/// A process as the outsider knows it.
struct Process {
    model: Model,
    provider_pid: String,
    consumer_pid: String,
    opening: Value,
    /// Paths and messages that were taken.
    taken: Vec<(String, Value)>,
    sent: usize,
    sent_to_ended: usize,
}

/// The outsider in talk with the connector.
struct Talk {
    connection: Kept,
    base: String,
    callback: String,
    agreement: String,
    /// The published offer, and one with other terms.
    offers: [Value; 2],
    chance: StdRng,
    names: u64,
    sent: usize,
    seen: std::collections::BTreeMap<String, usize>,
}

impl Talk {
    fn fresh(&mut self) -> String {
        self.names += 1;
        format!("urn:uuid:{}", self.names)
    }

    fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.sent += 1;
        self.connection.post(&format!("{}/{path}", self.base), body)
    }

    fn one_of<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.chance.random_range(0..several.len())]
    }

    /// Opens a process; the connector answers at once by rule.
    fn open(&mut self) -> Process {
        let (consumer_pid, id) = (self.fresh(), self.fresh());
        let transfer = self.chance.random_bool(0.5);
        let altered = self.chance.random_bool(0.5);
        let (path, opening, model) = if transfer {
            let body = json!({"@id": id, "consumerPid": consumer_pid, "agreementId": self.agreement,
                "format": "HttpData-PULL", "callbackAddress": self.callback});
            let model = Model::Transfer {
                state: "STARTED",
                held_by_us: false,
                held_by_them: false,
                ended_by_them: false,
            };
            ("transfers/request", message("TransferRequestMessage", body), model)
        } else {
            let body = json!({"@id": id, "consumerPid": consumer_pid, "offer": self.offers[usize::from(altered)],
                "callbackAddress": self.callback});
            let state = if altered { "OFFERED" } else { "AGREED" };
            let model = Model::Negotiation { state, counters: 0 };
            ("negotiations/request", message("ContractRequestMessage", body), model)
        };
        let answer = self.post(path, &opening);
        assert_eq!(answer.status, 201, "{opening}: {answer:?}");
        let provider_pid = answer.json()["providerPid"].as_str().unwrap().to_owned();
        let process = Process {
            model,
            provider_pid,
            consumer_pid,
            opening,
            taken: Vec::new(),
            sent: 0,
            sent_to_ended: 0,
        };
        self.compare(&process, &answer.json(), "opening");
        process
    }

    /// The answer to what was taken, and what a look shows, say what the model says.
    #[track_caller]
    fn compare(&mut self, process: &Process, answered: &Value, what: &str) {
        let url = format!("{}/{}/{}", self.base, process.model.area(), process.provider_pid);
        let shown = self.connection.get(&url);
        assert_eq!(shown.status, 200, "{shown:?}");
        for told in [answered, &shown.json()] {
            let told = (told["state"].as_str(), &told["providerPid"], &told["consumerPid"]);
            let expected =
                (Some(process.model.state()), &json!(process.provider_pid), &json!(process.consumer_pid));
            assert_eq!(told, expected, "{what}: {:?}", process.model);
        }
    }

    /// One message to a process, of whatever kind.
    fn step(&mut self, process: &mut Process, connector: &Connector) {
        process.sent += 1;
        let before = process.model.clone();
        match self.chance.random_range(0..100) {
            0..60 => self.say(process),
            60..75 => self.again(process),
            75..82 => self.open_again(process),
            82..87 => self.reuse(process),
            87..92 => self.nonsense(process),
            _ => self.operator(process, connector),
        }
        *self.seen.entry(format!("{before:?} -> {}", process.model.state())).or_default() += 1;
    }

    /// A message of the protocol, allowed or not.
    fn say(&mut self, process: &mut Process) {
        let said = match &process.model {
            Model::Negotiation { counters, .. } => loop {
                let said = self.one_of(&IN_NEGOTIATIONS);
                if said != (Said::Request { altered: true }) || *counters < MAX_COUNTERS {
                    break said;
                }
            },
            Model::Transfer { .. } => self.one_of(&IN_TRANSFERS),
        };
        let (path, kind, members) = match said {
            Said::Request { altered } => {
                ("request", "ContractRequestMessage", json!({"offer": self.offers[usize::from(altered)]}))
            }
            Said::Accepted => ("events", "ContractNegotiationEventMessage", json!({"eventType": "ACCEPTED"})),
            Said::Finalized => {
                ("events", "ContractNegotiationEventMessage", json!({"eventType": "FINALIZED"}))
            }
            Said::Verification => {
                ("agreement/verification", "ContractAgreementVerificationMessage", json!({}))
            }
            Said::Start => ("start", "TransferStartMessage", json!({})),
            Said::Suspension => ("suspension", "TransferSuspensionMessage", json!({"reason": ["why"]})),
            Said::Completion => ("completion", "TransferCompletionMessage", json!({})),
            Said::Termination if process.model.area() == "transfers" => {
                ("termination", "TransferTerminationMessage", json!({"code": "enough"}))
            }
            Said::Termination => {
                ("termination", "ContractNegotiationTerminationMessage", json!({"code": "enough"}))
            }
        };
        let body = self.about(process, kind, members);
        let path = format!("{}/{}/{path}", process.model.area(), process.provider_pid);
        let expected = process.model.take(said);
        let answer = self.post(&path, &body);
        let what = format!("{said:?} expected {expected:?}: {answer:?}");
        let taken = (200..300).contains(&answer.status);
        match expected {
            Expected::Taken => assert!(taken, "{what}"),
            Expected::Refused => assert!(!taken, "{what}"),
            Expected::Either => {}
        }
        if taken {
            self.compare(process, &answer.json(), &what);
            process.taken.push((path, body));
        } else {
            self.refused(process, &answer, &what);
        }
    }

    fn about(&mut self, process: &Process, kind: &str, mut members: Value) -> Value {
        members["@id"] = json!(self.fresh());
        members["providerPid"] = json!(process.provider_pid);
        members["consumerPid"] = json!(process.consumer_pid);
        message(kind, members)
    }

    /// Something that was taken before: answered as a look is, without any effect.
    fn again(&mut self, process: &Process) {
        let taken = process.taken.len();
        if taken == 0 {
            return self.open_again(process);
        }
        let (path, body) = process.taken[self.chance.random_range(0..taken)].clone();
        let answer = self.post(&path, &body);
        assert_eq!(answer.status, 200, "again {body}: {answer:?}");
        self.compare(process, &answer.json(), "again");
    }

    /// The opening once more, under its own or a fresh id: the same process. With something else in it: refused.
    fn open_again(&mut self, process: &Process) {
        let mut opening = process.opening.clone();
        let other = self.one_of(&["same", "fresh id", "other body"]);
        match other {
            "fresh id" => opening["@id"] = json!(self.fresh()),
            "other body" => opening["callbackAddress"] = json!(format!("{}/other", self.callback)),
            _ => {}
        }
        let answer = self.post(&format!("{}/request", process.model.area()), &opening);
        if other == "other body" {
            self.refused(process, &answer, other);
        } else {
            assert!((200..300).contains(&answer.status), "{other}: {answer:?}");
            self.compare(process, &answer.json(), other);
        }
    }

    /// An id that was taken, with another message.
    fn reuse(&mut self, process: &Process) {
        let id = process.taken.last().map_or(&process.opening, |(_, body)| body)["@id"].clone();
        let kind = match process.model {
            Model::Negotiation { .. } => "ContractNegotiationTerminationMessage",
            Model::Transfer { .. } => "TransferTerminationMessage",
        };
        let mut body = self.about(process, kind, json!({"code": "reused", "reason": ["another body"]}));
        body["@id"] = id;
        let path = format!("{}/{}/termination", process.model.area(), process.provider_pid);
        let answer = self.post(&path, &body);
        self.refused(process, &answer, "a reused id");
    }

    /// What is no message for this process at all.
    fn nonsense(&mut self, process: &Process) {
        let (area, pid) = (process.model.area(), &process.provider_pid);
        let kind = match process.model {
            Model::Negotiation { .. } => "ContractNegotiationTerminationMessage",
            Model::Transfer { .. } => "TransferTerminationMessage",
        };
        let mut body = self.about(process, kind, json!({}));
        let (path, status) = match self.chance.random_range(0..5) {
            0 => {
                body["consumerPid"] = json!("urn:uuid:another");
                (format!("{area}/{pid}/termination"), 400)
            }
            1 => (format!("{area}/urn:uuid:unknown/termination"), 404),
            2 => {
                body.as_object_mut().unwrap().remove("providerPid");
                (format!("{area}/{pid}/termination"), 400)
            }
            3 => {
                body["@type"] = json!("Nonsense");
                (format!("{area}/{pid}/termination"), 400)
            }
            // A message of the other machine.
            _ => {
                body["@type"] = json!("CatalogRequestMessage");
                let path = if area == "transfers" { "agreement/verification" } else { "completion" };
                let answer = self.post(&format!("{area}/{pid}/{path}"), &body);
                assert_eq!(answer.status, 404, "{answer:?}");
                return;
            }
        };
        let answer = self.post(&path, &body);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        self.refused(process, &answer, "nonsense");
    }

    /// The connector's own operator acts, and what it says crosses what we say next.
    fn operator(&mut self, process: &mut Process, connector: &Connector) {
        let Model::Transfer { state, held_by_us, held_by_them, ended_by_them } = &mut process.model else {
            return;
        };
        let act = match *state {
            "STARTED" => ["suspend", "terminate"][usize::from(self.chance.random_bool(0.2))],
            "SUSPENDED" if *held_by_them => "resume",
            _ => return,
        };
        match act {
            "suspend" => (*state, *held_by_them) = ("SUSPENDED", true),
            "terminate" => (*state, *ended_by_them) = ("TERMINATED", true),
            _ => {
                *held_by_them = false;
                *state = if *held_by_us { "SUSPENDED" } else { "STARTED" };
            }
        }
        let reason: &[&str] = if act == "resume" { &[] } else { &["--reason", "why"] };
        let done = connector.run(&[&["transfer", act, &process.provider_pid], reason].concat()).object();
        assert_eq!(done["state"], *state, "{act}: {done}");
    }

    /// A refusal names its reason in the error object, and changes nothing.
    #[track_caller]
    fn refused(&mut self, process: &Process, answer: &Answer, what: &str) {
        let expected = match process.model {
            Model::Negotiation { .. } => "ContractNegotiationError",
            Model::Transfer { .. } => "TransferError",
        };
        let told = answer.json();
        assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
        assert_eq!(told["@type"], expected, "{what}");
        let code = told["code"].as_str().unwrap_or_default();
        assert!(!code.is_empty(), "{what}: {told}");
        let unchanged = json!({"state": process.model.state(), "providerPid": process.provider_pid,
            "consumerPid": process.consumer_pid});
        self.compare(process, &unchanged, what);
    }
}

/// Whatever is sent, connector and model never differ, and so neither do the two sides.
#[test]
fn connector_and_model_agree_after_every_message() {
    let mut space = Space::empty();
    let base = with_test_listener(&mut space, "automatic");
    let connector = space.get("hong-kong");
    let rules = "[[negotiation.rules]]\naccept = \"automatic\"\naltered = \"counter\"\n";
    rules.clone_into(&mut connector.settings.rules);
    connector.reload();
    publish(connector, "weather", b"sun");
    let outsider = Outsider::listen();
    let agreement = outsider.agrees(&base, "weather");
    let published = offered(&base, "weather");
    let mut altered = published.clone();
    altered["permission"][0]["constraint"] = json!([{"leftOperand": "dateTime", "operator": "lt",
        "rightOperand": {"@type": "http://www.w3.org/2001/XMLSchema#dateTime", "@value": "2090-01-01T00:00:00Z"}}]);
    let mut talk = Talk {
        connection: Kept::to(&base),
        base,
        callback: outsider.url(),
        agreement,
        offers: [published, altered],
        chance: chance::generator("crossing"),
        names: 0,
        sent: 0,
        seen: Default::default(),
    };
    let mut open: Vec<Process> = Vec::new();
    while talk.sent < MESSAGES {
        while open.len() < OPEN {
            open.push(talk.open());
        }
        let which = talk.chance.random_range(0..open.len());
        talk.step(&mut open[which], connector);
        open[which].sent_to_ended += usize::from(open[which].model.has_ended());
        if open[which].sent == MAX_SENT || open[which].sent_to_ended == MAX_SENT_TO_ENDED {
            drop(open.swap_remove(which));
        }
    }
    let reached = |state: &str| talk.seen.keys().any(|step| step.ends_with(state));
    for state in ["OFFERED", "AGREED", "FINALIZED", "STARTED", "SUSPENDED", "COMPLETED", "TERMINATED"] {
        assert!(reached(state), "{state} is never reached: {:#?}", talk.seen);
    }
    let both = |step: &String| step.contains("held_by_us: true, held_by_them: true");
    assert!(talk.seen.keys().any(both), "suspensions cross: {:#?}", talk.seen);
}
