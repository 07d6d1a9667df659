//! `fairlead policy …`: write, check, read, decide, compare and test policies; needs no running connector.

mod author;
mod check;
mod compare;
mod evaluate;
mod scenarios;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use policy::{Lang, Policy, Problems, Profiles};

use super::datasets::read_text;
use super::output::{Failure, Output, exit};

/// Largest policy, request, world, profile or taxonomy file read.
const MAX_POLICY_BYTES: u64 = 4 * 1024 * 1024;
/// Largest table of scenarios or log of requests read.
const MAX_SCENARIO_BYTES: u64 = 64 * 1024 * 1024;

/// `fairlead policy …` with what every subcommand may be given.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// More taxonomy terms (Turtle: SKOS, RDFS or odrl:partOf); repeatable
    #[arg(long, global = true, value_name = "FILE")]
    taxonomy: Vec<PathBuf>,
    /// One more profile: operands and actions of another vocabulary (JSON, as the shipped profiles); repeatable
    #[arg(long, global = true, value_name = "FILE")]
    profile: Vec<PathBuf>,
    /// A policy that others name in inheritFrom; repeatable, a parent's own parents first. Nothing is fetched
    #[arg(long, global = true, value_name = "FILE")]
    parent: Vec<PathBuf>,
    #[command(subcommand)]
    command: PolicyCommand,
}

/// Files are ODRL in JSON or Turtle.
#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Write an offer from one or several templates; on a terminal, asks for what is not given
    #[command(
        after_help = "Example: fairlead policy new --template purpose --template count --set purpose=ScientificResearch \
        --set count=100 --assigner https://hku.example/id --target https://hku.example/data/weather --out offer.json"
    )]
    New(author::NewArgs),
    /// List the templates: the 25 IDS policy classes and the common research cases
    #[command(after_help = "Example: fairlead policy templates --language zh-Hans")]
    Templates,
    /// Report every problem by place with a suggestion, what is doubtful, and whether this connector can hold it
    #[command(after_help = "Example: fairlead policy check offer.json")]
    Check(check::CheckArgs),
    /// Show a policy as numbered clauses in --language
    #[command(after_help = "Example: fairlead policy render offer.ttl --language zh-Hant")]
    Render {
        /// The policy
        file: PathBuf,
    },
    /// Decide a request against a policy and say why
    #[command(
        after_help = "Example: fairlead policy explain agreement.json --action read --purpose dpv:AcademicResearch \
        --jurisdiction HK --uses 2"
    )]
    Explain(evaluate::ExplainArgs),
    /// Report in the FORCE vocabulary how a request stands to a policy in a state of the world
    #[command(
        after_help = "Example: fairlead policy evaluate --policy p.ttl --request r.ttl --world w.ttl --report turtle"
    )]
    Evaluate(evaluate::EvaluateArgs),
    /// Can both be kept; is A at least as strict as B; if not, a request that shows it
    #[command(after_help = "Example: fairlead policy compare counter-offer.json offer.json --json")]
    Compare {
        /// The policy that may be the stricter one
        a: PathBuf,
        /// The policy it is held against
        b: PathBuf,
    },
    /// What a new version permits, no longer permits, and which clauses changed
    #[command(after_help = "Example: fairlead policy diff offer-1.json offer-2.json")]
    Diff {
        /// The version before
        old: PathBuf,
        /// The version after
        new: PathBuf,
    },
    /// Run a table of scenarios kept beside a policy: who, what, why, when, where, and the answer expected
    #[command(
        after_help = "Example: fairlead policy test offer.scenarios.json   (for offer.json or offer.ttl)"
    )]
    Test(scenarios::TestArgs),
    /// Replay a log of past requests against a changed policy; lists what would come out differently
    #[command(
        after_help = "Example: fairlead policy simulate offer-1.json offer-2.json --log requests.jsonl"
    )]
    Simulate(scenarios::SimulateArgs),
}

/// Runs a policy command.
pub fn run(output: Output, args: PolicyArgs) -> Result<(), Failure> {
    let profiles = profiles(&args)?;
    let mut shelf = Shelf { profiles, output, parents: Vec::new() };
    for file in &args.parent {
        let parent = shelf.load(file)?;
        shelf.parents.push(parent);
    }
    match args.command {
        PolicyCommand::New(args) => author::new(&shelf, &args),
        PolicyCommand::Templates => author::templates(&shelf),
        PolicyCommand::Check(args) => check::run(&shelf, &args),
        PolicyCommand::Render { file } => {
            let clauses = crate::admin::agreements::clauses(&shelf.load(&file)?, shelf.lang());
            output.show(&clauses, |clauses| super::datasets::clause_lines(clauses))
        }
        PolicyCommand::Explain(args) => evaluate::explain(&shelf, &args),
        PolicyCommand::Evaluate(args) => evaluate::run(&shelf, &args),
        PolicyCommand::Compare { a, b } => compare::compare(&shelf, &a, &b),
        PolicyCommand::Diff { old, new } => compare::diff(&shelf, &old, &new),
        PolicyCommand::Test(args) => scenarios::test(&shelf, &args),
        PolicyCommand::Simulate(args) => scenarios::simulate(&shelf, &args),
    }
}

fn profiles(args: &PolicyArgs) -> Result<Profiles, Failure> {
    let named = |file: &Path, refusal: policy::refusal::Refusal| {
        let mut failure = Failure::from(refusal);
        failure.detail = format!("{}: {}", file.display(), failure.detail);
        failure
    };
    let mut profiles = Profiles::shipped();
    for file in &args.profile {
        let text = read_text(file, MAX_POLICY_BYTES)?;
        profiles = profiles.with_file(&text).map_err(|refusal| named(file, refusal))?;
    }
    for file in &args.taxonomy {
        let text = read_text(file, MAX_POLICY_BYTES)?;
        profiles = profiles.with_taxonomy(&text, "").map_err(|refusal| named(file, refusal))?;
    }
    Ok(profiles)
}

/// What every subcommand works with.
struct Shelf {
    profiles: Profiles,
    output: Output,
    /// The policies that others may inherit from.
    parents: Vec<Policy>,
}

impl Shelf {
    fn lang(&self) -> Lang {
        Lang::of_tag(self.output.language.tag())
    }

    /// Reads a policy: Turtle by its ending, else JSON if it begins like JSON.
    fn read(&self, file: &Path) -> Result<Result<Policy, Problems>, Failure> {
        let text = read_text(file, MAX_POLICY_BYTES)?;
        let turtle = file.extension().is_some_and(|ending| ending == "ttl");
        Ok(if turtle || !text.trim_start().starts_with(['{', '[']) {
            Policy::from_turtle_with_parents(&text, "", &self.profiles, &self.parents)
        } else {
            Policy::from_json_with_parents(&text, &self.profiles, &self.parents)
        })
    }

    fn load(&self, file: &Path) -> Result<Policy, Failure> {
        self.read(file)?.map_err(|problems| not_understood(&file.display().to_string(), &problems))
    }
}

fn not_understood(what: &str, problems: &Problems) -> Failure {
    Failure {
        code: problems.first().code.code.into(),
        text: format!("{what} is not understood"),
        detail: problems.to_string(),
        next: "correct every place named".into(),
        exit: exit::REFUSED_BY_POLICY,
    }
}
