//! The public conformance kit of the Dataspace Protocol against a real connector, judged test by test.
//!
//! `cargo xtask conformance` builds the connector, fetches the kit and calls this program. Here the connector is made
//! what the kit expects: datasets ([`seed`]), agreements with the kit's participant ([`seed`]), a person who decides by a
//! script ([`script`], [`player`]), and the two addresses at which the kit asks it to begin something ([`triggers`]).
//! All of it goes through the command line and the protocol: the product knows nothing of the kit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a harness fails by panicking, and tells the person who ran it what came out"
)]

mod player;
mod script;
mod seed;
mod triggers;
mod verdict;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use federation_tests::space::Space;

/// The kit's participant as our settings name it; on the wire it calls itself `TCK_PARTICIPANT`.
pub const KIT: &str = "https://tck.example/id";
/// The connector under test.
pub const CONNECTOR: &str = "cut";

/// What the program is given: `conformance LIBRARIES RUNNER PAGE [--check] [--only PREFIX]`.
struct Arguments {
    libraries: PathBuf,
    runner: PathBuf,
    page: PathBuf,
    check: bool,
    only: Option<String>,
}

impl Arguments {
    fn read() -> Self {
        let mut arguments = std::env::args().skip(1);
        let mut next = || PathBuf::from(arguments.next().expect("LIBRARIES RUNNER PAGE are given"));
        let (libraries, runner, page) = (next(), next(), next());
        let rest: Vec<String> = arguments.collect();
        let only = rest.iter().position(|word| word == "--only").map(|at| rest[at + 1].clone());
        Self { libraries, runner, page, check: rest.iter().any(|word| word == "--check"), only }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::read();
    let mut space = Space::empty();
    let seeds = seed::sow(&mut space);
    let connector = &*space.get(CONNECTOR);
    let (printed, refused) = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel();
        let triggers = triggers::serve(connector);
        let address = triggers.address.clone();
        scope.spawn(move || triggers.answer());
        let agreements = &seeds.agreements;
        let player = scope.spawn(move || player::play(connector, agreements, &stopped));
        // Ends the triggers also where the kit cannot be started: the scope waits for both threads.
        let _ending = triggers::Ending(address.clone());
        let file = connector.write("kit.properties", settings(&seeds, &address));
        let printed = run(&arguments, &file);
        drop(stop);
        (printed, player.join().expect("the player plays to the end"))
    });
    let verdict = verdict::Verdict::of(&printed);
    println!("{verdict}");
    // A test may pass for another reason than its script.
    if !refused.is_empty() {
        println!("steps of the script were refused:\n{}", refused.join("\n"));
        return ExitCode::FAILURE;
    }
    if arguments.only.is_none() {
        verdict.write(&arguments.page, arguments.check)
    } else {
        ExitCode::from(u8::from(!verdict.some_and_only_passed()))
    }
}

/// The kit's settings: where the connector is, and what it was seeded with.
fn settings(seeds: &seed::Seeds, triggers: &str) -> String {
    // Freed again at once; the kit binds it a second later.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free").port();
    let mut lines = vec![
        format!("dataspacetck.port={port}"),
        format!("dataspacetck.callback.address=http://127.0.0.1:{port}"),
        format!("dataspacetck.dsp.connector.agent.id={}", seeds.participant),
        format!("dataspacetck.dsp.connector.http.url={}/dsp/2025-1", seeds.root),
        format!("dataspacetck.dsp.connector.http.base.url={}", seeds.root),
        format!("dataspacetck.dsp.connector.negotiation.initiate.url=http://{triggers}/negotiations"),
        format!("dataspacetck.dsp.connector.transfer.initiate.url=http://{triggers}/transfers"),
        "dataspacetck.dsp.default.wait=15".to_owned(),
        "CAT_01_01_DATASETID=CAT0101".to_owned(),
        "CAT_01_02_DATASETID=CAT0102".to_owned(),
    ];
    for test in script::tests("CN") {
        let (key, dataset) = (script::key("CN", test), script::dataset("CN", test));
        lines.push(format!("{key}_DATASETID={dataset}"));
        lines.push(format!("{key}_OFFERID={}", seed::offer(&dataset)));
    }
    for test in script::tests("CN_C") {
        lines.push(format!("{}_DATASETID={}", script::key("CN_C", test), script::dataset("CN_C", test)));
    }
    for agreement in &seeds.agreements {
        let key = script::key(agreement.area, agreement.test);
        lines.push(format!("{key}_AGREEMENTID={}", agreement.on_the_wire));
        lines.push(format!("{key}_FORMAT=HttpData-PULL"));
    }
    lines.join("\n")
}

/// A run takes a minute or two.
const LONGEST_RUN: Duration = Duration::from_secs(600);

/// Runs the kit to its end, or ends it; gives the lines that it printed, and shows those that tell something.
fn run(arguments: &Arguments, settings: &Path) -> Vec<String> {
    let classes = arguments.libraries.join("*");
    let mut command = Command::new("java");
    command.arg("-cp").arg(classes).arg(&arguments.runner).arg(settings).args(&arguments.only);
    let mut kit = command.stdout(Stdio::piped()).spawn().expect("java is installed");
    let output = BufReader::new(kit.stdout.take().expect("standard output is piped"));
    let kit = Arc::new(Mutex::new(kit));
    let (ended, over) = std::sync::mpsc::channel::<()>();
    let watched = kit.clone();
    let watch = std::thread::spawn(move || {
        if over.recv_timeout(LONGEST_RUN) == Err(RecvTimeoutError::Timeout) {
            println!("the kit did not end within {LONGEST_RUN:?}");
            drop(watched.lock().expect("nobody panics with it").kill());
        }
    });
    let mut lines = Vec::new();
    for line in output.lines().map_while(Result::ok) {
        if line.contains("FAILED") || line.starts_with("kit:") {
            println!("{line}");
        }
        lines.push(line);
    }
    drop(ended);
    watch.join().expect("the watch ends");
    let status = kit.lock().expect("nobody panics with it").wait().expect("the kit ends");
    if !status.success() {
        println!("the kit ended with {status}");
        lines.clear();
    }
    lines
}
