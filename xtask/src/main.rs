//! The project's tasks: `cargo xtask bench | certs | codegen | conformance | tidy`. One language for scripts, one command for each need.

mod bench;
mod bench_policy;
mod certs;
mod codegen;
mod conformance;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Tasks of the Fairlead workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure what was built with --release; docs/benchmarks.md tells what the figures mean
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Make an authority and three enrolled campuses for development; run again, it renews them
    Certs {
        /// Where everything is written, readable by its owner alone
        dir: PathBuf,
    },
    /// Write crates/proto/src/gen from proto/ (pure Rust: needs neither protoc nor rustfmt)
    Codegen {
        /// Change nothing; fail if the checked-in code is not what proto/ gives
        #[arg(long)]
        check: bool,
    },
    /// Run the public conformance kit of the Dataspace Protocol against the connector (needs Java 17 and Maven)
    Conformance(conformance::Conformance),
    /// Hold the house rules: the picture of the crates, the walls of the pure ones, file sizes, tests without sleep
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        // The measurement prints its figures itself.
        Task::Bench(bench) => {
            workspace_root().and_then(|root| bench::run(&root, &bench)).map(|()| String::new())
        }
        Task::Certs { dir } => certs::run(&dir),
        Task::Codegen { check } => workspace_root().and_then(|root| codegen::run(&root, check)),
        Task::Conformance(arguments) => workspace_root().and_then(|root| conformance::run(&root, &arguments)),
        Task::Tidy => workspace_root().and_then(|root| tidy::run(&root)),
    };
    match outcome {
        Ok(report) => {
            if !report.is_empty() {
                say(&report);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn workspace_root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask lies in the workspace")?.to_owned())
}

#[expect(clippy::print_stdout, reason = "a task's report goes to the person who ran it")]
fn say(report: &str) {
    println!("{report}");
}

#[expect(clippy::print_stderr, reason = "a task's failure goes to the person who ran it")]
fn complain(failure: &str) {
    eprintln!("{failure}");
}
