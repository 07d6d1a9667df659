//! The person at the connector: looks at what waits, and takes the next step of the script after a moment.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use federation_tests::command::exit;
use federation_tests::connector::Connector;
use serde_json::Value;

use crate::script::{self, Step};
use crate::seed::{self, Agreement};

/// How long a state is left alone: the kit waits for the next message only after it saw this state.
const MOMENT: Duration = Duration::from_millis(350);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// One process of a test.
struct Played {
    steps: &'static [(&'static str, Step)],
    /// Steps already taken.
    taken: usize,
    /// When the state that the next step is for was first seen.
    seen: Option<Instant>,
}

/// Plays until the other end of `stopped` is gone; gives the steps of the script that the connector refused.
pub fn play(connector: &Connector, agreements: &[Agreement], stopped: &Receiver<()>) -> Vec<String> {
    let mut refused = Vec::new();
    let mut played: BTreeMap<String, Played> = BTreeMap::new();
    while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        for what in ["negotiation", "transfer"] {
            for row in connector.list(what) {
                let id = text(&row, "id");
                let process = played.entry(id.clone()).or_insert_with(|| begin(&row, agreements));
                refused.extend(process.look(connector, what, &id, &row));
            }
        }
    }
    refused
}

fn begin(row: &Value, agreements: &[Agreement]) -> Played {
    let of_agreement = agreements.iter().find(|agreement| agreement.here == row["agreement"]);
    let test = match of_agreement {
        // What was negotiated to have an agreement is over.
        Some(_) if row["state"] == "FINALIZED" => None,
        Some(agreement) => Some((agreement.area, agreement.test)),
        None => row["dataset"].as_str().and_then(|dataset| script::of_dataset(seed::bare(dataset))),
    };
    Played { steps: test.map_or(&[], |(area, test)| script::steps(area, test)), taken: 0, seen: None }
}

impl Played {
    /// Takes the step that is due; gives it back if it was refused.
    fn look(&mut self, connector: &Connector, what: &str, id: &str, row: &Value) -> Option<String> {
        let (state, step) = self.steps.get(self.taken)?;
        if row["state"] != *state {
            self.seen = None;
            return None;
        }
        if self.seen.get_or_insert_with(Instant::now).elapsed() < MOMENT {
            return None;
        }
        self.taken += 1;
        self.seen = None;
        take(connector, what, id, *step, row)
    }
}

fn take(connector: &Connector, what: &str, id: &str, step: Step, row: &Value) -> Option<String> {
    let terms;
    let (command, more): (&str, Vec<&str>) = match step {
        Step::Offer => {
            terms = connector.write("terms.json", terms_of(connector, row));
            ("counter", vec!["--terms", terms.to_str().expect("the paths of tests are UTF-8")])
        }
        Step::Accept => ("accept", Vec::new()),
        Step::Terminate => ("terminate", vec!["--reason", "the script says so"]),
        Step::Start => ("resume", Vec::new()),
        Step::Suspend => ("suspend", vec!["--reason", "the script says so"]),
        Step::Complete => ("complete", Vec::new()),
    };
    let taken = connector.run(&[&[what, command, id], more.as_slice()].concat());
    (taken.exit != exit::DONE).then(|| format!("{what} {id}: {step:?} was not taken: {taken}"))
}

/// The terms on the table, as they are.
fn terms_of(connector: &Connector, row: &Value) -> String {
    text(&connector.show("negotiation", &text(row, "id")), "offer_text")
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}
