//! `fairlead policy evaluate` and `explain`: one request against one policy.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use control_plane::UnixMillis;
use policy::report::{self, Input, Semantics};
use policy::{Facts, Request, Source, Stage, Value};

use super::{MAX_POLICY_BYTES, Shelf, not_understood};
use crate::admin::holdings::expand;
use crate::cli::datasets::read_text;
use crate::cli::output::{Failure, exit};
use crate::clock::Clock;

/// Policy, request and state of the world.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// ODRL policy in Turtle or JSON-LD
    #[arg(long)]
    policy: PathBuf,
    /// The request: ODRL in Turtle or JSON-LD, or JSON with action, target, assignee and facts
    #[arg(long)]
    request: PathBuf,
    /// The state of the world: Turtle or JSON-LD, or JSON with now, facts, members and duties
    #[arg(long)]
    world: PathBuf,
    /// draft: a duty not yet done blocks its permission. force: only a violated one does, and a missing part matches any
    #[arg(long, value_enum, default_value_t = Reading::Draft)]
    semantics: Reading,
    /// The report's form
    #[arg(long, value_enum, default_value_t = Form::Turtle)]
    report: Form,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reading {
    Draft,
    Force,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Turtle,
    Json,
}

pub(super) fn run(shelf: &Shelf, args: &EvaluateArgs) -> Result<(), Failure> {
    let [policy, request, world] =
        [&args.policy, &args.request, &args.world].map(|file| read_text(file, MAX_POLICY_BYTES));
    let semantics = match args.semantics {
        Reading::Draft => Semantics::Draft,
        Reading::Force => Semantics::Force,
    };
    let report =
        report::evaluate(&policy?, &request?, &world?, semantics, &shelf.profiles).map_err(|refused| {
            let file = match refused.input {
                Input::Policy => &args.policy,
                Input::Request => &args.request,
                Input::World => &args.world,
            };
            not_understood(&file.display().to_string(), &refused.problems)
        })?;
    shelf.output.line(
        match args.report {
            Form::Json => report.to_json(),
            Form::Turtle => report.to_turtle(),
        }
        .trim_end(),
    )
}

/// The request and what is known.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The policy; an offer is read as the agreement that it would become
    file: PathBuf,
    /// What is to be done
    #[arg(long, default_value = "read")]
    action: String,
    /// Who asks; the policy's assignee if left out
    #[arg(long)]
    assignee: Option<String>,
    /// The state of the world: JSON with now, facts, members and duties, or Turtle; the flags below add to it
    #[arg(long)]
    world: Option<PathBuf>,
    /// Why
    #[arg(long)]
    purpose: Option<String>,
    /// Who gets the result
    #[arg(long)]
    recipient: Option<String>,
    /// Where it is registered: CN, HK, MO, …
    #[arg(long)]
    jurisdiction: Option<String>,
    /// Uses already spent; 0 if neither this nor --world tells
    #[arg(long)]
    uses: Option<u64>,
    /// When (RFC 3339); now if neither this nor --world tells
    #[arg(long, conflicts_with = "world")]
    at: Option<String>,
    /// When the data was first used (RFC 3339); at the time of the request if neither this nor --world tells
    #[arg(long)]
    first_use: Option<String>,
}

fn facts(shelf: &Shelf, args: &ExplainArgs) -> Result<Facts, Failure> {
    let first_use = args.first_use.as_deref().map(|text| instant("--first-use", text)).transpose()?;
    let mut facts = if let Some(file) = &args.world {
        let (now, mut facts) = report::world(&read_text(file, MAX_POLICY_BYTES)?, &shelf.profiles)
            .map_err(|problems| not_understood(&file.display().to_string(), &problems))?;
        if now.is_none() {
            return Err(Failure::usage(
                format!("`{}` does not tell the time", file.display()),
                "add `now`, RFC 3339 with zone",
            ));
        }
        if let Some(uses) = args.uses {
            facts = facts.uses_spent(uses);
        }
        match first_use {
            Some(at) => facts.first_use(at),
            None => facts,
        }
    } else {
        let now = match &args.at {
            Some(text) => instant("--at", text)?,
            None => Clock::start(None).now(),
        };
        Facts::at(now).uses_spent(args.uses.unwrap_or(0)).first_use(first_use.unwrap_or(now))
    };
    if let Some(code) = &args.jurisdiction {
        facts = facts.jurisdiction(code);
    }
    if let Some(purpose) = &args.purpose {
        facts = facts.purpose(&expand(purpose));
    }
    if let Some(recipient) = &args.recipient {
        let (recipient, now) = (Value::symbol(&expand(recipient)), facts.now());
        facts = facts.with(policy::vocab::operand::RECIPIENT, recipient, Source::Asserted, now);
    }
    Ok(facts)
}

pub(super) fn explain(shelf: &Shelf, args: &ExplainArgs) -> Result<(), Failure> {
    let policy = shelf.load(&args.file)?.as_if_agreed();
    let mut facts = facts(shelf, args)?;
    // Uses on the command line are told in the policy's own unit.
    if (args.world.is_none() || args.uses.is_some())
        && let Ok(Some(unit)) = policy.count_unit()
    {
        facts = facts.unit_of_count(unit);
    }
    let action = crate::admin::holdings::expand_action(&args.action)
        .map_err(|error| Failure::from(error.into_refusal()))?;
    let action = shelf.profiles.current_action(&action);
    shelf.profiles.require_action(&action)?;
    let assignee = args.assignee.as_deref().or(policy.assignee()).unwrap_or_default();
    let target = policy.target().unwrap_or_default();
    let request = Request { action: &action, target, assignee, stage: Stage::Use };
    let explanation = policy.explain(&request, &facts, shelf.lang());
    shelf.output.show(&explanation, |explanation| explanation.lines().join("\n"))?;
    match explanation.code {
        None => Ok(()),
        Some(code) => Err(Failure {
            code: code.into(),
            text: "the policy does not permit this request".into(),
            detail: String::new(),
            next: "the lines above tell what would satisfy it".into(),
            exit: exit::REFUSED_BY_POLICY,
        }),
    }
}

fn instant(flag: &str, text: &str) -> Result<UnixMillis, Failure> {
    UnixMillis::parse_rfc3339(text).ok_or_else(|| {
        Failure::usage(format!("{flag} `{text}` is no instant"), "write e.g. 2026-11-24T08:00:00Z")
    })
}
